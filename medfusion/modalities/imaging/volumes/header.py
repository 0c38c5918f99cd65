"""What a CT, MR or PET file says about each of its slices, read without its pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.volumes.elements import Elements, number, numbers, parse, text
from medfusion.modalities.imaging.volumes.suv import Activity, read_activity

Modality = Literal["CT", "MR", "PT"]
_UID = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES: Mapping[str, Modality] = {
    **{_UID + end: "CT" for end in ("2", "2.1", "2.2")},
    **{_UID + end: "MR" for end in ("4", "4.1", "4.4")},
    **{_UID + end: "PT" for end in ("128", "130", "128.1")},
}
"""Files whose frames are slices: classic, enhanced and legacy converted enhanced CT, MR and PET."""
APART = ("StackID", "EchoNumbers", "TemporalPositionIdentifier", "TemporalPositionIndex")
"""Slices with different values of these never belong to one volume."""
MAYBE_APART = (
    *("FrameType", "ImageType", "DiffusionBValue", "DiffusionGradientOrientation", "EffectiveEchoTime", "EchoTime"),
    *("InversionTime", "FlipAngle", "NominalCardiacTriggerDelayTime", "TriggerTime", "FrameReferenceTime"),
    *("ConvolutionKernel", "FrameAcquisitionNumber", "AcquisitionNumber", "FrameAcquisitionDateTime"),
    *("AcquisitionDateTime", "AcquisitionTime", "SeriesDescription"),
)
"""What tells volumes of one series apart where slices share a position; tried in this order."""
_NAMES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_WANTED = frozenset(
    (
        *("SpecificCharacterSet", "SOPClassUID", "ImageType", "FrameType", "Rows", "Columns", "NumberOfFrames"),
        *_NAMES,
        *("SamplesPerPixel", "BitsAllocated", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt"),
        *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "SeriesDescription"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
        *("PatientWeight", "Units", "SUVType", "DecayCorrection", "RadiopharmaceuticalInformationSequence"),
        *("SeriesDate", "SeriesTime", "AcquisitionDate", "DecayCorrectionDateTime", "TimezoneOffsetFromUTC"),
        *APART,
        *MAYBE_APART,
    )
)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice: a file, or a frame of one.

    Attributes
    ----------
    path : Path
    frame : int
        Counted from 0; 0 in a file of one image.
    modality : {"CT", "MR", "PT"}
    patient_id, study_uid, series_uid, sop_uid, frame_of_reference_uid : str
        Empty where the header does not say.
    image_type : tuple of str
        In capitals; of the frame, where it has its own.
    shape : (rows, columns)
    spacing_mm : (between rows, between columns), or None
    position_lps : (x, y, z) in mm, or None
        Of the centre of the first pixel: ImagePositionPatient.
    orientation : six direction cosines, or None
        Along a row, then along a column: ImageOrientationPatient.
    thickness_mm, tilt_degrees : float or None
    slope, intercept : float or None
        None where the header does not say.
    rescale_type, description : str
    signed : bool
        Whether pixels are stored with a sign.
    padding : (lowest, highest) stored value that marks no image, or None
    apart, maybe_apart : tuple of str
        The values of `APART` and `MAYBE_APART`, in their order; empty where the header does not say.
    activity : Activity or None
        What turns PET values into SUV; None for other modalities.
    """

    path: Path
    frame: int
    modality: Modality
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    frame_of_reference_uid: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    spacing_mm: tuple[float, ...] | None
    position_lps: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    thickness_mm: float | None
    tilt_degrees: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    description: str
    signed: bool
    padding: tuple[int, int] | None
    apart: tuple[str, ...]
    maybe_apart: tuple[str, ...]
    activity: Activity | None

    @property
    def placed(self) -> bool:
        """Whether the header says where the slice lies."""
        return None not in (self.position_lps, self.orientation, self.spacing_mm)


def read_slice_headers(path: Path) -> tuple[SliceHeader, ...]:
    """Read the headers of the slices in a file; its pixels are not touched.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple of SliceHeader
        One per frame, in the file's order.

    Raises
    ------
    PayloadRejected
        Naming the file: ``unreadable-file``, ``not-dicom``, ``unreadable-dicom``, a limit of `guards`, ``not-a-slice``
        (no CT, MR or PET image), ``bad-header`` (a value that is damaged or cannot be) or ``missing-geometry`` (frames
        without a place each).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(_read(path))
    except PayloadRejected as error:
        problem = error.problem
    except Exception as error:  # values are parsed when they are looked at, and fail in every way there is
        got, remedy = type(error).__name__, "export the file again"
        problem = rejected("unreadable-dicom", "file", got, "a DICOM file", remedy).problem
    raise PayloadRejected(replace(problem, file=str(path)))


def _read(path: Path) -> Iterator[SliceHeader]:
    dataset = parse(path, _WANTED, pixels=False)
    top = {element.keyword: element for element in dataset}
    sop = text(top, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if sop not in SOP_CLASSES or not {"Rows", "Columns"} <= set(top):
        got = "no image" if sop in SOP_CLASSES else "no CT, MR or PET image"
        raise rejected("not-a-slice", "SOPClassUID", got, "a CT, MR or PET image", "keep it out of volumes")
    frames = int(number(top, "NumberOfFrames") or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames != max(len(groups), 1):
        got, expected = f"{frames} frames, {len(groups)} with a place", "a place for every frame"
        raise rejected("missing-geometry", "NumberOfFrames", got, expected, "export it as single slices")
    shared = _shared(dataset) if groups else {}
    for frame in range(frames):
        own = dict(_flat(groups[frame])) if groups else {}
        yield _slice(path, frame, SOP_CLASSES[sop], {**top, **shared, **own})


def _shared(dataset: Any) -> dict[str, Any]:
    items = dataset.get("SharedFunctionalGroupsSequence") or []
    return dict(_flat(items[0])) if len(items) else {}


def _flat(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the functional groups of one item say, out of their sequences."""
    for element in item:
        if element.VR == "SQ" and element.keyword != "RadiopharmaceuticalInformationSequence":
            for inner in list(element.value)[:1]:
                yield from _flat(inner)
        elif element.keyword in _WANTED:
            yield element.keyword, element


def _slice(path: Path, frame: int, modality: Modality, said: Elements) -> SliceHeader:
    if "ModalityLUTSequence" in said:
        remedy = "export it with RescaleSlope and RescaleIntercept"
        raise rejected("bad-header", "ModalityLUTSequence", "a lookup table", "a linear rescale", remedy)
    if number(said, "SamplesPerPixel") not in {None, 1.0}:
        raise rejected("not-a-slice", "SamplesPerPixel", text(said, "SamplesPerPixel"), "1", "keep it out of volumes")
    patient, study, series, sop, reference = (text(said, keyword) for keyword in _NAMES)
    slope = number(said, "RescaleSlope")
    if slope == 0:
        raise rejected("bad-header", "RescaleSlope", "0", "another number", "export the file again")
    return SliceHeader(
        path=path,
        frame=frame,
        modality=modality,
        patient_id=patient,
        study_uid=study,
        series_uid=series,
        sop_uid=sop,
        frame_of_reference_uid=reference,
        image_type=_image_type(said),
        shape=(_count(said, "Rows"), _count(said, "Columns")),
        spacing_mm=_spacing(said),
        position_lps=numbers(said, "ImagePositionPatient", 3),
        orientation=_orientation(said),
        thickness_mm=number(said, "SliceThickness"),
        tilt_degrees=number(said, "GantryDetectorTilt"),
        slope=slope,
        intercept=number(said, "RescaleIntercept"),
        rescale_type=text(said, "RescaleType").upper(),
        description=text(said, "SeriesDescription"),
        signed=number(said, "PixelRepresentation") == 1,
        padding=_padding(said),
        apart=tuple(text(said, keyword) for keyword in APART),
        maybe_apart=tuple(text(said, keyword) for keyword in MAYBE_APART),
        activity=read_activity(said) if modality == "PT" else None,
    )


def _image_type(said: Elements) -> tuple[str, ...]:
    said_type = text(said, "FrameType") or text(said, "ImageType")
    return tuple(part.strip().upper() for part in said_type.split("\\"))


def _count(said: Elements, keyword: str) -> int:
    value = number(said, keyword)
    if value is None or not 1 <= value <= 65535:
        raise rejected("bad-header", keyword, text(said, keyword), "a number of pixels", "export the file again")
    return int(value)


def _spacing(said: Elements) -> tuple[float, ...] | None:
    spacing = numbers(said, "PixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        got = text(said, "PixelSpacing")
        raise rejected("bad-header", "PixelSpacing", got, "two lengths above 0 mm", "export the file again")
    return spacing


def _orientation(said: Elements) -> tuple[float, ...] | None:
    """Return the direction cosines; they have to be of length 1 and at right angles, up to rounding."""
    cosines = numbers(said, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    along_row, along_column = cosines[:3], cosines[3:]
    lengths = math.hypot(*along_row), math.hypot(*along_column)
    between = sum(a * b for a, b in zip(along_row, along_column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(between)) > 0.01:
        got, expected = text(said, "ImageOrientationPatient"), "two directions at right angles"
        raise rejected("bad-header", "ImageOrientationPatient", got, expected, "export the file again")
    return cosines


def _padding(said: Elements) -> tuple[int, int] | None:
    value, limit = number(said, "PixelPaddingValue"), number(said, "PixelPaddingRangeLimit")
    if value is None:
        return None
    # Some writers give the value of signed pixels without its sign.
    bits = min(number(said, "BitsAllocated") or 16, 64)
    wrap = 2 ** int(bits) if number(said, "PixelRepresentation") == 1 else 0
    ends = [int(end - wrap if wrap and end >= wrap / 2 else end) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)
