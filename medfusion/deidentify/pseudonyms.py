"""Stand-ins for what identifies a patient, derived from a secret key: one value always gets the same stand-in."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from medfusion.core.errors import UsageError

KEY_BYTES = 32
MAX_SHIFT_DAYS = 3650
_STANDARD_UIDS = "1.2.840.10008."
"""The root of what the DICOM standard itself names: SOP classes, transfer syntaxes, code lists."""


def new_key(path: Path) -> bytes:
    """Write a new random key that its owner alone may read.

    Whoever holds it can find out which pseudonym a known patient got, so it does not belong beside the output.

    Parameters
    ----------
    path : Path
        A file that does not exist yet.

    Returns
    -------
    bytes, length 32

    Raises
    ------
    UsageError
        If the file exists or cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a new file for the key") from None
    return key


def read_key(path: Path) -> bytes:
    """Read a key.

    Raises
    ------
    UsageError
        If the file cannot be read or holds fewer than 32 bytes.
    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a file that holds a key") from None
    if len(key) < KEY_BYTES:
        raise UsageError(f"{path} holds {len(key)} bytes; a key has at least {KEY_BYTES} random ones")
    return key


class Pseudonyms:
    """Stand-ins by HMAC-SHA256: without the key nobody can try out which value gave one.

    Parameters
    ----------
    key : bytes
        At least 32, random.

    Raises
    ------
    UsageError
        If the key is shorter.

    Examples
    --------
    >>> pseudonyms = Pseudonyms(bytes(32))
    >>> pseudonyms.subject("4711") == pseudonyms.subject("4711"), pseudonyms.subject("4711").startswith("p")
    (True, True)
    >>> pseudonyms.uid("1.2.840.10008.1.2.1")
    '1.2.840.10008.1.2.1'
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise UsageError(f"the key has {len(key)} bytes; at least {KEY_BYTES} random ones are expected")
        self._key = key

    def subject(self, subject_id: str) -> str:
        """Return the pseudonym of a patient: 80 bits, so that two of a million patients never share one."""
        return "p" + self._digest("subject", subject_id)[:10].hex()

    def site(self, name: str) -> str:
        """Return the pseudonym of a hospital."""
        return "site-" + self._digest("site", name)[:4].hex()

    def uid(self, uid: str) -> str:
        """Return a UID made from 128 bits (PS3.5 section B.2); UIDs of the DICOM standard stay."""
        if not uid or uid.startswith(_STANDARD_UIDS):
            return uid
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16])}"

    def shift_days(self, subject_id: str) -> int:
        """Return by how many days a patient's dates move back, 1 to 3650."""
        return 1 + int.from_bytes(self._digest("shift", subject_id)[:8]) % MAX_SHIFT_DAYS

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{value}".encode(errors="surrogatepass"), "sha256")
