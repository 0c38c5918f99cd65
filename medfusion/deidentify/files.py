"""The image files of a cohort, and which of them may leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.guards import check_structure, open_checked
from medfusion.deidentify.gather import Gathered, values_of

_UID = "1.2.840.10008.5.1.4.1.1."
_DIRECTORY = "1.2.840.10008.1.3.10"
IMAGE_CLASSES = frozenset(
    _UID + end
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, mammography, intra-oral
        *("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4"),  # CT, MR and their enhanced forms
        *("128", "128.1", "130", "20"),  # PET, NM
        *("12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2", "13.1.3"),  # XA, RF, 3D X-ray, tomosynthesis
    )
)
"""SOP classes whose pixels come from a detector. Of all others (ultrasound, secondary capture, photographs, documents,
reports, presentation states, raw data) it is usual that they show or hold the patient's name."""
_CAPTURED = {"DF", "DV", "SD", "SI"}
_SCREENS = {"SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "SCREEN CAPTURE"}
_FORCED = "look at it; it is copied only with force"
_HEAD_BYTES = 132


@dataclass(slots=True)
class ImageFile:
    """One file on its way out.

    Attributes
    ----------
    path : str
        Relative to the cohort folder.
    file : Path
    subject_id : str
        As in the tables.
    suffix : {".dcm", ".png"}
        Of what is written; a picture of any kind becomes PNG.
    held : Problem or None
        Why it does not leave unless forced.
    """

    path: str
    file: Path
    subject_id: str
    suffix: str
    held: Problem | None = None


def find_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file below ``imaging/`` as its path relative to ``root`` and its place, in the order of names."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(root / "imaging", followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            yield file.relative_to(root).as_posix(), file


def examine(path: str, file: Path, subject_id: str, gathered: Gathered) -> ImageFile:
    """Look at a file, decide whether it may leave, and gather what its header says about people.

    Parameters
    ----------
    path : str
        Relative to the cohort folder.
    file : Path
    subject_id : str
        As the table of images says; empty where the header decides.
    gathered : Gathered
        Added to.

    Returns
    -------
    ImageFile

    Raises
    ------
    PayloadRejected
        If it cannot leave, forced or not: it is no image, cannot be read, or is nobody's.
    """
    kind = _kind_of(file)
    if kind == "picture":
        if not subject_id:
            raise rejected("missing-subject", "subject_id", "none", "who it is of", "list it in imaging.csv")
        held = _problem("picture", "file", "PNG or JPEG, in which names may be burnt in", "DICOM", _FORCED)
        return ImageFile(path, file, subject_id, ".png", held)
    if kind == "other":
        raise rejected("not-dicom", "file", "another format", "a DICOM image", "it is not copied")
    dataset = read_dataset(file, pixels=False)
    subject = subject_id or str(dataset.get("PatientID") or "").strip(" \0")
    _check(dataset, subject)
    try:
        gathered.add(dataset, subject)
    except Exception as error:  # an element that cannot be parsed cannot be cleaned, either
        raise unreadable(error) from None
    return ImageFile(path, file, subject, ".dcm", _why_held(dataset))


def read_dataset(file: Path, pixels: bool) -> Any:
    """Read a DICOM file.

    Raises
    ------
    PayloadRejected
        If it cannot be parsed, or its structure would cost too much.
    """
    from pydicom import dcmread  # noqa: PLC0415 - slow to import

    try:
        with open_checked(file) as stream:
            check_structure(stream)
            stream.seek(0)
            return dcmread(stream, stop_before_pixels=not pixels, force=True)
    except PayloadRejected:
        raise
    except Exception as error:  # damaged files make the parser fail in every way there is
        raise unreadable(error) from None


def rejected(code: str, field: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    """Return an error to raise; whoever knows the file and the subject adds them."""
    return PayloadRejected(_problem(code, field, got, expected, remedy))


def unreadable(error: Exception) -> PayloadRejected:
    """Return the error for a file that cannot be read or written; its own words could quote a value."""
    got = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    return rejected("unreadable-file", "file", got, "a readable image", "it is not copied; export it again")


def _kind_of(file: Path) -> str:
    with open_checked(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    # Old files begin with group 0002 or 0008 at once, without a preamble.
    bare = (head[:2] in {b"\x02\x00", b"\x08\x00"} and head[3:4] == b"\x00") or head[:3] == b"\x00\x08\x00"
    return "dicom" if head[128:] == b"DICM" or bare else "other"


def _check(dataset: Any, subject: str) -> None:
    """Refuse what is no image of a known patient."""
    if dataset.get("SOPClassUID") == _DIRECTORY or "DirectoryRecordSequence" in dataset:
        remedy = "it is not copied: file names are identifiers"
        raise rejected("dicomdir", "SOPClassUID", "a DICOMDIR", "an image", remedy)
    if not subject:
        raise rejected("missing-subject", "PatientID", "", "who it is of", "fill it in, or list it in imaging.csv")
    if not dataset.get("SOPInstanceUID"):
        raise rejected("missing-uid", "SOPInstanceUID", "", "a UID", "give the file one; it is not copied")


def _why_held(dataset: Any) -> Problem | None:
    """Return why a file may show who it is of, or None."""
    for keyword, code in (
        ("BurnedInAnnotation", "burned-in-annotation"),
        ("RecognizableVisualFeatures", "recognizable-features"),
    ):
        if _text(dataset, keyword) == "YES":
            return _problem(code, keyword, "YES", "NO", _FORCED)
    if str(dataset.get("SOPClassUID") or "") not in IMAGE_CLASSES:
        return _problem("risky-sop-class", "SOPClassUID", _class_name(dataset), "an image from a detector", _FORCED)
    image_type = {str(value).strip().upper() for value in values_of(dataset.get("ImageType"))}
    if image_type & _SCREENS or _text(dataset, "ConversionType") in _CAPTURED:
        return _problem("captured", "ImageType", "a capture or a scan", "an image from a detector", _FORCED)
    planes = [(group, 0x0102) for group in range(0x6000, 0x6020, 2) if (group, 0x3000) not in dataset]
    if any(tag in dataset and dataset[tag].value for tag in planes):
        return _problem("embedded-overlay", "OverlayBitPosition", "an overlay in the pixels", "none", _FORCED)
    return None


def _text(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()


def _class_name(dataset: Any) -> str:
    from pydicom.uid import UID  # noqa: PLC0415 - slow to import

    uid = UID(str(dataset.get("SOPClassUID") or ""))
    # One that is not of the standard may be anything.
    return uid.name if uid.name != uid else "unknown"


def _problem(code: str, field: str, got: str, expected: str, remedy: str) -> Problem:
    return Problem(code, "", "", field, got, expected, remedy, "warning")
