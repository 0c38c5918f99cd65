"""What a file says about itself before its pixels are touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Literal

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.modalities.imaging.clock import TIME_KEYWORDS

Kind = Literal["dicom", "picture", "directory", "other"]
KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("NumberOfFrames", "Rows", "Columns"),
    *TIME_KEYWORDS,
)
_PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_DIRECTORY = "1.2.840.10008.1.3.10"
_UID = "1.2.840.10008.5.1.4.1.1."
# Their pixels are labels, doses or quantities: no picture that a reader looks at.
_NO_PICTURE = {_UID + end: name for end, name in (("66.4", "segmentation"), ("66.7", "label map"), ("481.2", "dose"))}
_NO_PICTURE[_UID + "30"] = "parametric map"
SLICES = {_UID + end: name for end, name in (("2", "CT"), ("4", "MR"), ("128", "PET"))}
"""SOP classes whose files are slices of a volume, if a series has more than one."""


def kind_of(head: bytes) -> Kind:
    """Tell what a file is from its first 132 bytes.

    Examples
    --------
    >>> kind_of(bytes(128) + b"DICM"), kind_of(b"subject_id,path")
    ('dicom', 'other')
    """
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    # Old files begin with group 0002 or 0008 at once, without a preamble.
    little = head[:2] in {b"\x02\x00", b"\x08\x00"} and head[3:4] == b"\x00"
    big = head[:3] == b"\x00\x08\x00"
    return "dicom" if little or big else "other"


def read_header(path: Path) -> tuple[Kind, dict[str, str]]:
    """Read what the index needs of a file, without its pixels.

    Returns
    -------
    kind : {"dicom", "picture", "directory", "other"}
    header : dict from DICOM keyword to str
        For DICOM; empty where the header says nothing.

    Raises
    ------
    PayloadRejected
        If the file cannot be opened, or is DICOM and cannot be parsed, or holds no single 2D picture.
    """
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(132))
            if kind != "dicom":
                return kind, {}
            file.seek(0)
            header, has_pixels = _dicom_header(file)
    except Exception as error:  # damaged files make the parser fail in every way there is
        if isinstance(error, OSError) and error.strerror:
            raise rejected("unreadable-file", "file", error.strerror, "a readable file", "check the file") from None
        got, remedy = type(error).__name__, "export the file again"
        raise rejected("unreadable-dicom", "file", got, "a DICOM file", remedy) from None
    if header["SOPClassUID"] == _DIRECTORY:
        return "directory", {}
    _check_picture(header, has_pixels)
    return kind, header


def _dicom_header(file: BinaryIO) -> tuple[dict[str, str], bool]:
    from pydicom import dcmread  # noqa: PLC0415 - slow to import

    dataset = dcmread(file, stop_before_pixels=True, specific_tags=[*KEYWORDS, "DirectoryRecordSequence"], force=True)
    header = {keyword: _text(dataset.get(keyword)) for keyword in KEYWORDS}
    meta = dataset.file_meta.get("MediaStorageSOPClassUID", "")
    header["SOPClassUID"] = header["SOPClassUID"] or _text(meta)
    if "DirectoryRecordSequence" in dataset:
        header["SOPClassUID"] = _DIRECTORY
    # Parsing stops at the pixels, so they are what comes next; a deflated file was read to its end.
    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    deflated = str(syntax) == "1.2.840.10008.1.2.1.99"
    return header, deflated or file.read(4) in _PIXEL_TAGS


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip(" \0")


def _check_picture(header: dict[str, str], has_pixels: bool) -> None:
    """Refuse what is no single 2D picture."""
    sop = header["SOPClassUID"]
    if sop in _NO_PICTURE or not (has_pixels and header["Rows"] and header["Columns"]):
        from pydicom.uid import UID  # noqa: PLC0415 - slow to import

        got = _NO_PICTURE.get(sop) or f"{UID(sop).name or 'unknown'}, without pixel data"
        raise rejected("not-an-image", "SOPClassUID", got, "an image", "keep only films in imaging/")
    frames = header["NumberOfFrames"] or "1"
    if frames != "1":
        remedy = "export single images; volumes and films with several frames are not read"
        raise rejected("not-2d", "NumberOfFrames", frames, "1", remedy)


def rejected(code: str, field: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    """Return an error to raise; whoever knows the file and the subject adds them."""
    return PayloadRejected(Problem(code, "", "", field, got, expected, remedy))
