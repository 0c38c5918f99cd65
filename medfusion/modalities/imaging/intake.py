"""What a file is to the imaging modality, told from its header: an image, a slice of a volume, neither, or unusable.

Of a film with several frames (ultrasound, angiography, fluoroscopy) one is shown: the one that
RepresentativeFrameNumber names, else the middle one, the earlier of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.modalities.imaging.headers import KEYWORDS, Format, open_header, rejected, sop_class, text_of
from medfusion.modalities.imaging.layout import Layout
from medfusion.modalities.imaging.syntaxes import check_syntax, transfer_syntax
from medfusion.modalities.imaging.volumes.header import SOP_CLASSES as SLICES

Kind = Literal["image", "slice", "not-an-image", "rejected"]
MAX_PIXELS = 100_000_000
"""The largest declared rows x columns that is decoded."""
_UID = "1.2.840.10008.5.1.4.1.1."
_LEAVE = "keep only films and volumes in imaging/"
_NO_PICTURES: Mapping[str, tuple[str, str]] = {
    _UID + end: (name, remedy)
    for end, name, remedy in (
        ("66.4", "a segmentation", "leave it out; list the images that it was drawn on"),
        ("66.7", "a label map", "leave it out; list the images that it was drawn on"),
        ("481.2", "a dose grid", "leave it out; list the images that the plan was made on"),
        ("30", "a parametric map", "leave it out; list the images that it was computed from"),
        ("77.1.6", "tiles of a whole slide", "leave it out; slides are not read"),
    )
}
"""Files with pixels that are labels, quantities or tiles: no picture that a reader looks at."""
_OTHER_VOLUMES: Mapping[str, str] = {
    _UID + end: name
    for end, name in (
        ("13.1.1", "an X-ray 3D volume"),
        ("13.1.2", "an X-ray 3D volume"),
        ("13.1.3", "breast tomosynthesis"),
        ("6.2", "an ultrasound volume"),
        ("77.1.5.4", "ophthalmic tomography"),
    )
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file is, and why.

    Attributes
    ----------
    kind : {"image", "slice", "not-an-image", "rejected"}
        A ``"slice"`` is a file whose frames belong to a CT, MR or PET volume.
    format : {"dicom", "picture", "directory", "other"}
    problem : Problem or None
        What is wrong with it, without a file name; None for images and slices.
    header : dict from DICOM keyword to str
        What an index needs; empty where the header says nothing, and for other formats.
    frame : int
        Which one is shown of an image with several, counted from 0.
    reason : str
        Why that frame; empty where there is one.
    """

    kind: Kind
    format: Format
    problem: Problem | None = None
    header: Mapping[str, str] = field(default_factory=dict)
    frame: int = 0
    reason: str = ""

    @property
    def code(self) -> str:
        """The code of the problem; empty for images and slices."""
        return self.problem.code if self.problem else ""

    @property
    def remedy(self) -> str:
        """What to do about it; empty for images and slices."""
        return self.problem.remedy if self.problem else ""


def examine(path: Path) -> Verdict:
    """Tell what a file is, from its header; never raises.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Verdict
        Pixels are not decoded: an image may still turn out to be damaged when it is.
    """
    form: Format = "other"
    header: Mapping[str, str] = {}
    try:
        form, dataset, has_pixels = open_header(path)
        if form == "picture":
            return Verdict("image", form)
        if dataset is None:
            got = "a DICOMDIR" if form == "directory" else "another format"
            raise rejected("not-dicom", "file", got, "DICOM, PNG or JPEG", "nothing has to be done; it is left out")
        header = {keyword: text_of(dataset.get(keyword)) for keyword in KEYWORDS} | {"SOPClassUID": sop_class(dataset)}
        return _verdict(dataset, header, has_pixels)
    except PayloadRejected as error:
        outside = error.problem.code in {"not-dicom", "not-an-image"}
        return Verdict("not-an-image" if outside else "rejected", form, error.problem, header)


def _verdict(dataset: Any, header: Mapping[str, str], has_pixels: bool) -> Verdict:
    frames = check_image(dataset, has_pixels)
    if header["SOPClassUID"] in SLICES:
        return Verdict("slice", "dicom", None, header)
    frame, reason = shown_frame(frames, header["RepresentativeFrameNumber"])
    return Verdict("image", "dicom", None, header, frame, reason)


def check_image(dataset: Any, has_pixels: bool) -> int:
    """Refuse what holds no picture, or one that cannot be decoded.

    Parameters
    ----------
    dataset : pydicom Dataset
        The pixels may be missing from it.
    has_pixels : bool
        Whether the file has them.

    Returns
    -------
    int
        How many frames there are.

    Raises
    ------
    PayloadRejected
        ``not-an-image``, ``not-2d``, ``undecodable-pixels``, ``too-large`` or ``unsupported-transfer-syntax``,
        without a file name.
    """
    sop = sop_class(dataset)
    if sop in _NO_PICTURES:
        name, remedy = _NO_PICTURES[sop]
        raise rejected("not-an-image", "SOPClassUID", name, "an image", remedy)
    if not has_pixels:
        from pydicom.uid import UID  # noqa: PLC0415 - slow to import

        got = f"{UID(sop).name or 'unknown'}, without pixel data"
        raise rejected("not-an-image", "SOPClassUID", got, "an image", _LEAVE)
    if sop in _OTHER_VOLUMES:
        remedy = "export single images; volumes are read of CT, MR and PET"
        raise rejected("not-2d", "SOPClassUID", _OTHER_VOLUMES[sop], "an image, or CT, MR or PET", remedy)
    layout = Layout.of(dataset)
    check_size(layout.rows, layout.columns)
    check_syntax(transfer_syntax(dataset))
    return layout.frames


def check_size(rows: int, columns: int) -> None:
    """Refuse more pixels than are decoded.

    Raises
    ------
    PayloadRejected
        ``too-large``, without a file name.
    """
    if rows * columns > MAX_PIXELS:
        got, expected = f"{rows} x {columns}", f"at most {MAX_PIXELS // 1_000_000} million pixels"
        raise rejected("too-large", "Rows, Columns", got, expected, "export it at a lower resolution")


def shown_frame(frames: int, representative: str) -> tuple[int, str]:
    """Choose the frame that stands for a film.

    Parameters
    ----------
    frames : int
        How many there are.
    representative : str
        RepresentativeFrameNumber, counted from 1; empty where the header has none.

    Returns
    -------
    frame : int
        Counted from 0.
    reason : str
        Empty where there is no choice.

    Examples
    --------
    >>> shown_frame(10, "3")
    (2, 'frame 3 of 10: RepresentativeFrameNumber')
    >>> shown_frame(10, "")
    (4, 'frame 5 of 10: the middle one')
    """
    if frames == 1:
        return 0, ""
    if representative.isdecimal() and 1 <= int(representative) <= frames:
        return int(representative) - 1, f"frame {int(representative)} of {frames}: RepresentativeFrameNumber"
    middle = (frames - 1) // 2
    return middle, f"frame {middle + 1} of {frames}: the middle one"
