"""The command that starts the dashboard: checks what it is given, and hands over to Streamlit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from medfusion.cli.app import app
from medfusion.cli.options import CacheFolder, NoCache, cache_folder
from medfusion.cli.show import say
from medfusion.core.errors import MissingExtra, UsageError

_NEEDED = ("streamlit", "duckdb", "babel", "sqlalchemy", "authlib")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AUTH = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
"""What `[auth]` of the secrets has to hold for one provider."""
_SECRET_LENGTH = 32
_SETTINGS = "MEDFUSION_DASHBOARD"
"""The variable that `dashboards.settings` reads."""


@app.command()
def dashboard(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Folder written by `medfusion score`.")],
    cohort: Annotated[
        Path | None, typer.Option(metavar="COHORT", help="The cohort that was scored: films, values and notes.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="The model that scored it: what-if, similar patients.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(metavar="COHORT", help="The cohort that the model was trained on: similar patients.")
    ] = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            metavar="DIR",
            help="Folder written by `medfusion evaluate`, drift, compare or recalibrate. Repeatable.",
        ),
    ] = None,
    reviews: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="MEDFUSION_REVIEWS",
            help="Database of decisions and audit trail; reviews.db in SCORES unless given.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = 8501,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Other than loopback only with --auth.")] = "127.0.0.1",
    auth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file that says how readers sign in, and their roles.")
    ] = None,
    blinded: Annotated[
        bool, typer.Option("--blinded", help="Hide risks from readers until their first opinion of a patient.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, metavar="MINUTES", help="Sign out after so long a pause.")] = 15.0,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
) -> None:
    """Start the dashboard: worklist, patients, decisions; until it is interrupted.

    Example: medfusion dashboard scores --cohort tonight --model model --report evaluation

    For a ward: medfusion dashboard scores --cohort tonight --model model --host 0.0.0.0 --auth secrets.toml
    """
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(package, "dashboard")
    if auth is None and host not in _LOOPBACK:
        raise UsageError(f"--host {host}: without --auth, the dashboard is for this machine only; leave out --host")
    roles = {} if auth is None else _roles(auth)
    from medfusion.pipeline import open_scores  # noqa: PLC0415 - commands import what they need

    open_scores(scores)
    wanted = [(cohort, "cohort.toml"), (model, "state.json"), (training, "cohort.toml")]
    wanted += [(each, "report.json") for each in reports or ()]
    for folder, file in wanted:
        if folder is not None and not (folder / file).is_file():
            raise UsageError(f"{folder} holds no {file}; name another folder")
    settings = {
        "scores": str(scores.resolve()),
        "cohort": _absolute(cohort),
        "model": _absolute(model),
        "training": _absolute(training),
        "cache": _absolute(cache_folder(cache, no_cache)),
        "reports": [str(folder.resolve()) for folder in reports or ()],
        "reviews": reviews or f"sqlite:///{scores.resolve() / 'reviews.db'}",
        "sign_in": auth is not None,
        "blinded": blinded,
        "timeout_minutes": timeout,
        **roles,
    }
    say(f"dashboard: http://{host}:{port}")
    if auth is None:
        say("Without --auth: for this machine only, and for everybody who is logged in on it.")
    raise typer.Exit(_run(settings, host, port, auth))


def _absolute(folder: Path | None) -> str | None:
    return None if folder is None else str(folder.resolve())


def _roles(auth: Path) -> dict[str, Any]:
    """Check how readers sign in, and return how their roles are told.

    Raises
    ------
    UsageError
        If something is missing.
    """
    try:
        said = tomllib.loads(auth.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"--auth {auth}: {getattr(error, 'strerror', None) or 'no TOML'}; see docs/dashboard.md"
        ) from None
    sign_in = said.get("auth", {})
    if missing := [name for name in _AUTH if not sign_in.get(name)]:
        raise UsageError(f"--auth {auth}: [auth] has no {missing[0]}; see docs/dashboard.md")
    if len(sign_in["cookie_secret"]) < _SECRET_LENGTH:
        raise UsageError(
            f"--auth {auth}: cookie_secret is too short; write at least {_SECRET_LENGTH} random characters"
        )
    roles = said.get("medfusion", {})
    values = {role: [each] if isinstance(each, str) else list(each) for role, each in roles.get("roles", {}).items()}
    return {"roles_claim": str(roles.get("roles_claim", "roles")), "roles": values}


def _pages() -> Path:
    """Return the folder of the dashboard's own files.

    Raises
    ------
    UsageError
        If they are not installed.
    """
    found = find_spec("dashboards")
    if found is None or not found.submodule_search_locations:
        raise UsageError("the pages of the dashboard are not installed; run: pip install 'medfusion[dashboard]'")
    return Path(found.submodule_search_locations[0])


def _run(settings: Mapping[str, Any], host: str, port: int, auth: Path | None) -> int:
    """Run Streamlit until it ends, and return its exit code."""
    folder = _pages()
    options = [
        ("server.address", host),
        ("server.port", port),
        ("server.headless", "true"),
        ("server.enableXsrfProtection", "true"),
        ("server.enableCORS", "true"),
        ("server.fileWatcherType", "none"),
        ("browser.gatherUsageStats", "false"),
        ("client.toolbarMode", "minimal"),
        ("client.showErrorDetails", "none"),
        ("runner.magicEnabled", "false"),
        ("theme.base", folder / "theme.toml"),
    ]
    if auth is None:
        # A page of another site may not reach this machine's dashboard under a name of its own.
        options += [("server.allowedHosts", each) for each in _LOOPBACK]
    else:
        options.append(("secrets.files", auth.resolve()))
    words = [word for name, value in options for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "app.py"), *words]
    environment = {**os.environ, _SETTINGS: json.dumps(settings)}
    if os.name == "posix":
        # Whoever stops the command stops the server, too: they are one process.
        os.execve(sys.executable, command, environment)  # noqa: S606
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
