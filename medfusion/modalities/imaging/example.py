"""A film that nobody was exposed for: real DICOM, drawn."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray


def example_dicom(seed: int) -> bytes:
    """Return a DICOM file (digital X-ray, 12 bits, MONOCHROME2) with a drawn chest: two lungs, ribs, a heart, noise.

    Parameters
    ----------
    seed : int
        Chooses proportions, haze over a lung, and noise.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: PLC0415 - slow to import
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid  # noqa: PLC0415 - slow to import

    uids = [generate_uid(entropy_srcs=["medfusion example", str(seed), kind]) for kind in ("study", "series", "film")]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uids[2]
    film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, uids[2]
    film.StudyInstanceUID, film.SeriesInstanceUID = uids[0], uids[1]
    film.Modality, film.BodyPartExamined, film.ViewPosition = "DX", "CHEST", "PA"
    film.PatientID = f"example-{seed}"
    film.AcquisitionDateTime = "20200131090000"
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.WindowCenter, film.WindowWidth = "2048", "4096"
    pixels = _chest(np.random.default_rng(seed))
    film.Rows, film.Columns = pixels.shape
    film.PixelData = pixels.tobytes()
    stream = BytesIO()
    film.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _chest(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Draw a chest, array (rows, columns), 12 bits."""
    rows, columns = int(rng.integers(420, 520)), int(rng.integers(380, 480))
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]

    def ellipse(row: float, column: float, height: float, width: float) -> NDArray[np.float64]:
        distance = ((y - row) / height) ** 2 + ((x - column) / width) ** 2
        return np.asarray(1.0 / (1.0 + np.exp(12.0 * (distance - 1.0))))

    width, height = rng.uniform(0.28, 0.36), rng.uniform(0.55, 0.7)
    lungs = ellipse(-0.1, -0.45, height, width) + ellipse(-0.1, 0.45, height, width)
    haze = rng.uniform(0.0, 0.6) * ellipse(rng.uniform(0.0, 0.4), rng.choice([-0.45, 0.45]), 0.3, 0.25)
    ribs = 0.05 * np.sin(22.0 * (y + 0.25 * x * x)) * np.clip(lungs, 0, 1)
    picture = 0.75 * ellipse(0.1, 0.0, 1.4, 0.95) - 0.5 * np.clip(lungs, 0, 1) * (1 - haze) + ribs
    picture += 0.2 * ellipse(0.3, 0.12, 0.35, 0.3) + rng.normal(0.0, 0.02, picture.shape)
    return np.asarray(np.clip(picture * 4095.0, 0, 4095).astype("<u2"))
