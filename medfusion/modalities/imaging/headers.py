"""What a file says about itself before its pixels are touched."""

from __future__ import annotations

from collections.abc import Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO, Literal

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.guards import check_structure, open_checked
from medfusion.modalities.imaging.clock import TIME_KEYWORDS

Format = Literal["dicom", "picture", "directory", "other"]
KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("NumberOfFrames", "RepresentativeFrameNumber", "Rows", "Columns"),
    *TIME_KEYWORDS,
)
"""What an index needs of a file."""
_LAYOUT = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "DirectoryRecordSequence"),
)
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Their tags, which are (7FE0,0010), (7FE0,0008) and (7FE0,0009), in both byte orders.
_PIXEL_TAGS = frozenset(
    tag for end in (b"\x10", b"\x08", b"\x09") for tag in (b"\xe0\x7f" + end + b"\x00", b"\x7f\xe0\x00" + end)
)
_DIRECTORY = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"


def kind_of(head: bytes) -> Format:
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


def open_header(path: Path) -> tuple[Format, Any, bool]:
    """Read a file up to its pixels.

    Returns
    -------
    format : {"dicom", "picture", "directory", "other"}
    dataset : pydicom Dataset or None
        For DICOM: what an index and the layout of pixels need.
    has_pixels : bool

    Raises
    ------
    PayloadRejected
        Without a file name: ``unreadable-file``, ``unreadable-dicom``, or what `guards` refuses.
    """
    try:
        with open_checked(path) as file:
            form = kind_of(file.read(132))
            if form != "dicom":
                return form, None, False
            dataset, has_pixels = parse(file, (*KEYWORDS, *_LAYOUT))
    except PayloadRejected:
        raise
    except Exception as error:  # damaged files make the parser fail in every way there is
        if isinstance(error, OSError) and error.strerror:
            raise rejected("unreadable-file", "file", error.strerror, "a readable file", "check the file") from None
        got, remedy = type(error).__name__, "export the file again"
        raise rejected("unreadable-dicom", "file", got, "a DICOM file", remedy) from None
    if "DirectoryRecordSequence" in dataset or sop_class(dataset) == _DIRECTORY:
        return "directory", None, False
    return "dicom", dataset, has_pixels


def parse(file: BinaryIO, keywords: Sequence[str], optional: Sequence[str] = ()) -> tuple[Any, bool]:
    """Parse a DICOM file up to its pixels, and leave it there.

    Parameters
    ----------
    file : binary file
    keywords : sequence of str
        The elements to keep.
    optional : sequence of str
        More of them, which are left out where they are damaged.

    Returns
    -------
    dataset : pydicom Dataset
        Without pixels, unless the whole file is deflated.
    has_pixels : bool

    Raises
    ------
    PayloadRejected
        Without a file name, if the structure of the file would cost too much; see `guards.check_structure`.
    """
    from pydicom import dcmread  # noqa: PLC0415 - slow to import

    check_structure(file)
    file.seek(0)
    wanted = [*keywords, *optional]
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=wanted, force=True)
    if str(dataset.file_meta.get("TransferSyntaxUID", "")) == _DEFLATED:
        file.seek(0)
        dataset = dcmread(file, specific_tags=[*wanted, *PIXEL_KEYWORDS], force=True)
    for keyword in optional:
        try:
            _ = dataset.get(keyword)
        except Exception:  # as damaged as values can be
            del dataset[keyword]
    # Values are parsed when they are first looked at: what is damaged should show here.
    for element in (*dataset.file_meta, *dataset):
        _ = element.value
    tag = file.read(4)
    file.seek(-len(tag), SEEK_CUR)
    return dataset, pixels_keyword(dataset) != "" or tag in _PIXEL_TAGS


def pixels_keyword(dataset: Any) -> str:
    """Return under which keyword a dataset holds its pixels; empty where it has none."""
    return next((keyword for keyword in PIXEL_KEYWORDS if keyword in dataset), "")


def sop_class(dataset: Any) -> str:
    """Return the UID of what kind of file it is; empty where neither header nor preamble says."""
    return text_of(dataset.get("SOPClassUID")) or text_of(dataset.file_meta.get("MediaStorageSOPClassUID"))


def text_of(value: Any) -> str:
    """Return a header value as text; empty where there is none."""
    return "" if value is None else str(value).strip(" \0")


def rejected(code: str, field: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    """Return an error to raise; whoever knows the file and the subject adds them."""
    return PayloadRejected(Problem(code, "", "", field, got, expected, remedy))
