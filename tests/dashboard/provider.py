"""An OpenID provider on loopback: discovery, a page to choose who one is, codes, signed identity tokens, sign-out."""

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "medfusion", "a-secret-of-the-tests"
ROLES = """
[medfusion]
roles_claim = "groups"

[medfusion.roles]
reviewer = ["icu-readers"]
admin = ["icu-leads"]
"""
"""Which of people's groups have which role, as `Provider.secrets_file` takes it."""


@dataclass
class Provider:
    """A running provider; whoever signs in chooses one of its people.

    Attributes
    ----------
    people : dict from name to claims
    age_seconds : int
        How long ago identities were vouched for; not 0 in tests of old cookies.
    """

    people: dict
    age_seconds: int = 0
    codes: dict = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"}))

    def __enter__(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.get(self)

            def do_POST(self):
                provider.post(self)

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self.server.shutdown()
        self.server.server_close()

    def get(self, request):
        address = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            answer(request, self.configuration())
        elif address.path == "/keys":
            answer(request, {"keys": [self.key.as_dict(private=False)]})
        elif address.path == "/authorize" and "who" not in asked:
            links = [
                f'<p><a href="/authorize?{urlencode({**asked, "who": name})}">{name}</a></p>' for name in self.people
            ]
            answer(request, f"<html lang=en><title>Sign in</title>{''.join(links)}</html>")
        elif address.path == "/authorize":
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            redirect(request, f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        elif address.path == "/end":
            redirect(request, asked["post_logout_redirect_uri"])

    def post(self, request):
        sent = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        asked = self.codes.pop(sent["code"][0])
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        digest = hashlib.sha256(sent["code_verifier"][0].encode()).digest()
        assert request.headers["Authorization"] == f"Basic {basic}"
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now - self.age_seconds,
            "exp": now + 3600,
            "nonce": asked["nonce"],
            **self.people[asked["who"]],
        }
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        answer(request, {"access_token": "none", "token_type": "Bearer", "expires_in": 3600, "id_token": token})

    def configuration(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/end",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def secrets_file(self, path, port, roles=""):
        """Write what ``--auth`` takes."""
        path.write_text(
            f"""[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "{secrets.token_hex(32)}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "{self.url}/.well-known/openid-configuration"
{roles}""",
            encoding="utf-8",
        )
        return path


def answer(request, said):
    page = isinstance(said, str)
    body = (said if page else json.dumps(said)).encode()
    request.send_response(200)
    request.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def redirect(request, address):
    request.send_response(302)
    request.send_header("Location", address)
    request.send_header("Content-Length", "0")
    request.end_headers()
