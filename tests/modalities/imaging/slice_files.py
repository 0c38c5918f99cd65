"""CT, MR and PT slices as DICOM files, and what becomes of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from imaging_files import as_bytes, make_film
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items

from medfusion.modalities.imaging.volumes import Plan, Stack, plan_series, read_slice_headers

CT, MR, PT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "128"))
ENHANCED_CT, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2.1", "4.1"))
AXIAL = [1, 0, 0, 0, 1, 0]


def make_slice(
    position: Sequence[float], uid: int | str, pixels: np.ndarray | None = None, sop: str = CT, **header: Any
) -> FileDataset:
    """Make one slice; header values of None are left out.

    Its 4 x 6 pixels are ten times the last coordinate unless others are given.
    """
    if pixels is None:
        pixels = np.full((4, 6), 10 * position[2], dtype=np.int16)
    said: dict[str, Any] = {
        "SOPClassUID": sop,
        "SOPInstanceUID": f"1.2.3.4.{uid}",
        "Modality": {CT: "CT", MR: "MR", PT: "PT"}.get(sop, "CT"),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "FrameOfReferenceUID": "1.2.3.9",
        "ImagePositionPatient": [float(value) for value in position],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [2.0, 0.5],
        "SliceThickness": 3,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
    }
    said.update(header)
    made = make_film(pixels, **{keyword: value for keyword, value in said.items() if value is not None})
    for keyword in (keyword for keyword, value in said.items() if value is None and keyword in made):
        delattr(made, keyword)
    made.file_meta.MediaStorageSOPClassUID = sop
    return made


def make_enhanced(
    frames: Iterable[Dataset], shared: Dataset, pixels: np.ndarray, sop: str = ENHANCED_MR
) -> FileDataset:
    """Make a multi-frame file; pixels are (frames, rows, columns)."""
    made = make_film(pixels[0], SOPClassUID=sop, SOPInstanceUID="1.2.3.4.1", FrameOfReferenceUID="1.2.3.9")
    made.file_meta.MediaStorageSOPClassUID = sop
    made.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.tobytes()
    made.PerFrameFunctionalGroupsSequence = Items(frames)
    made.SharedFunctionalGroupsSequence = Items([shared])
    return made


def group(**sequences: dict[str, Any]) -> Dataset:
    """Make the functional groups of a frame: sequences of one item each."""
    made = Dataset()
    for keyword, values in sequences.items():
        item = Dataset()
        for inner, value in values.items():
            setattr(item, inner, value)
        setattr(made, keyword, Items([item]))
    return made


def write(folder: Path, slices: Iterable[FileDataset | bytes]) -> list[Path]:
    """Write the files, named in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, each in enumerate(slices):
        paths.append(folder / f"{number:03}.dcm")
        paths[-1].write_bytes(each if isinstance(each, bytes) else as_bytes(each))
    return paths


def plan(paths: Iterable[Path]) -> Plan:
    return plan_series([header for path in paths for header in read_slice_headers(path)])


def only_stack(folder: Path, slices: Iterable[FileDataset]) -> Stack:
    """Write slices that are expected to make one volume, and return it."""
    planned = plan(write(folder, slices))
    assert (len(planned.stacks), planned.images, planned.problems) == (1, (), ())
    return planned.stacks[0]


def codes(stack: Stack) -> list[str]:
    return [finding.code for finding in stack.findings]
