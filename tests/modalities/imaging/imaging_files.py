"""Films as DICOM, and cohort folders read to the end."""

from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from medfusion.core.errors import Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.types import Records
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.payload import Films

LATER = datetime(2030, 1, 1)


def make_film(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **header: Any) -> FileDataset:
    """Make a DICOM film, uncompressed; values of None take a header value away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    film = FileDataset("", {}, b"\0" * 128, meta, syntax.is_implicit_VR, syntax.is_little_endian)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    film.PatientID, film.StudyDate, film.StudyTime = "P1", "20200131", "090000"
    film.StudyInstanceUID, film.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    film.Rows, film.Columns = pixels.shape[:2]
    film.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    film.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        film.PlanarConfiguration = 0
    film.BitsAllocated = 8 * pixels.dtype.itemsize
    film.BitsStored, film.HighBit = film.BitsAllocated, film.BitsAllocated - 1
    film.PixelRepresentation = int(pixels.dtype.kind == "i")
    film.PixelData = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    film["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    with disable_value_validation():
        for keyword, value in header.items():
            if value is None:
                delattr(film, keyword)
            else:
                setattr(film, keyword, value)
    if "BitsStored" in header:
        film.HighBit = header["BitsStored"] - 1
    return film


def as_bytes(film: FileDataset) -> bytes:
    stream = BytesIO()
    with disable_value_validation():
        film.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def speckles(seed: int = 0, shape: tuple[int, ...] = (40, 50), top: int = 4096) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint16 if top > 256 else np.uint8)


def records_of(table: pa.Table | None, as_of: datetime = LATER) -> list[Records]:
    """Return one record per subject, in the order of subjects."""
    if table is None:
        return []
    table = table.sort_by("time").filter(pc.less_equal(table.sort_by("time")["time"], pa.scalar(as_of)))
    subjects = sorted(set(table["subject_id"].to_pylist()))
    return [Records(subject, as_of, table.filter(pc.equal(table["subject_id"], subject))) for subject in subjects]


def read_all(modality: ImagingModality, folder: CohortFolder) -> tuple[list[Films | None], list[Problem]]:
    """Index and read a folder, one record per subject."""
    problems: list[Problem] = []
    payloads = modality.read(records_of(modality.index(folder)), problems, lambda done: None)
    return payloads, [*folder.problems, *problems]
