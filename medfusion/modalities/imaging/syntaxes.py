"""Transfer syntaxes: which encodings of pixels there are, and which can be decoded (PS3.5 annex A)."""

from __future__ import annotations

from typing import Any

from medfusion.modalities.imaging.headers import rejected

_UID = "1.2.840.10008.1.2"
BIG_ENDIAN = _UID + ".2"
NATIVE = frozenset((_UID, _UID + ".1", _UID + ".1.99", BIG_ENDIAN))
JPEG_BASELINE = _UID + ".4.50"
JPEG = frozenset(f"{_UID}.4.{end}" for end in (50, 51, 53, 55, 57, 70))
JPEG_LS = frozenset(f"{_UID}.4.{end}" for end in (80, 81))
JPEG_2000 = frozenset(f"{_UID}.4.{end}" for end in (90, 91))
HTJ2K = frozenset(f"{_UID}.4.{end}" for end in (201, 202, 203))
JPEG_XL = frozenset(f"{_UID}.4.{end}" for end in (110, 111, 112))
RLE = _UID + ".5"
DEFLATED_FRAMES = _UID + ".8.1"
DECODABLE = frozenset((*NATIVE, *JPEG, *JPEG_LS, *JPEG_2000, *HTJ2K, *JPEG_XL, RLE, DEFLATED_FRAMES))
"""UIDs of the transfer syntaxes whose pixels can be decoded."""
_VIDEO = frozenset(f"{_UID}.4.{end}" for end in range(100, 109)) | {f"{_UID}.4.{end}.1" for end in range(100, 107)}
_REFERENCES = frozenset(f"{_UID}.4.{end}" for end in (94, 95, 204, 205))


def transfer_syntax(dataset: Any) -> str:
    """Return the UID of the transfer syntax, from the encoding itself in old files that do not name it."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return str(named).strip(" \0")
    implicit, little = dataset.original_encoding
    return _UID if implicit else _UID + ".1" if little else BIG_ENDIAN


def check_syntax(syntax: str) -> None:
    """Refuse a transfer syntax that nothing here decodes.

    Raises
    ------
    PayloadRejected
        ``unsupported-transfer-syntax``, without a file name.
    """
    if syntax in DECODABLE:
        return
    from pydicom.uid import UID  # noqa: PLC0415 - slow to import

    if syntax in _VIDEO:
        remedy = "this is a video; export one frame of it as an image"
    elif syntax in _REFERENCES:
        remedy = "the pixels are on a server and not in the file; export it with its pixels"
    else:
        remedy = "no decoder is known for it; convert the file to JPEG 2000, RLE or uncompressed"
    raise rejected("unsupported-transfer-syntax", "TransferSyntaxUID", UID(syntax).name, "another", remedy)
