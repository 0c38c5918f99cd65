"""Writes a drawn film as a DX DICOM file: what detectors of different makes would send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from medfusion.cohort.synthetic.films import Film, render


@dataclass(frozen=True, slots=True)
class Detector:
    """How a detector writes its films.

    Attributes
    ----------
    model : str
    shape : (rows, columns)
    spacing_mm : float
    bits : int
        Bits stored.
    inverted : bool
        MONOCHROME1 where True.
    syntax : UID
    share : float
        Part of the films.
    """

    model: str
    shape: tuple[int, int]
    spacing_mm: float
    bits: int
    inverted: bool
    syntax: UID
    share: float


DETECTORS = (
    Detector("D12", (576, 512), 0.68, 12, False, ExplicitVRLittleEndian, 0.2),
    Detector("D12i", (600, 528), 0.66, 12, True, ExplicitVRLittleEndian, 0.15),
    Detector("D8", (512, 480), 0.73, 8, False, ExplicitVRLittleEndian, 0.2),
    Detector("R8", (576, 512), 0.68, 8, True, RLELossless, 0.15),
    Detector("R12", (544, 512), 0.69, 12, False, RLELossless, 0.15),
    Detector("E16", (640, 560), 0.62, 16, False, ExplicitVRLittleEndian, 0.07),
    Detector("J12", (544, 480), 0.73, 12, False, JPEG2000Lossless, 0.08),
)
GREYS: Mapping[int, tuple[int, int]] = {8: (0, 255), 12: (300, 3200), 16: (4000, 52000)}
"""By bits stored: the value of black and the distance to white; the window that each file declares."""
_VIEWS = {"PA": ("272479007", "postero-anterior"), "AP": ("399348003", "antero-posterior")}


def write_film(film: Film, subject_id: str, sex: str, entropy: str, path: Path) -> None:
    """Write a film.

    Parameters
    ----------
    film : Film
    subject_id, sex : str
        The sex is ``"F"`` or ``"M"``.
    entropy : str
        What the UIDs are made from; equal text gives equal UIDs.
    path : Path
    """
    rng = np.random.default_rng([film.seed, 1])
    detector = DETECTORS[int(rng.choice(len(DETECTORS), p=[one.share for one in DETECTORS]))]
    dataset = _header(film, subject_id, sex, entropy, detector)
    pixels = _stored(render(film, detector.shape), detector)
    dataset.set_pixel_data(pixels, dataset.PhotometricInterpretation, detector.bits, generate_instance_uid=False)
    if detector.syntax.is_compressed:
        dataset.compress(detector.syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def _stored(picture: NDArray[np.float32], detector: Detector) -> NDArray[np.uint8] | NDArray[np.uint16]:
    black, range_ = GREYS[detector.bits]
    values = np.rint(black + range_ * picture)
    if detector.inverted:
        values = 2**detector.bits - 1 - values
    return values.astype(np.uint8) if detector.bits == 8 else values.astype(np.uint16)


def _header(film: Film, subject_id: str, sex: str, entropy: str, detector: Detector) -> Dataset:
    dataset = Dataset()
    _identify(dataset, film, subject_id, sex, entropy)
    _describe_view(dataset, film)
    _describe_pixels(dataset, detector)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _identify(dataset: Dataset, film: Film, subject_id: str, sex: str, entropy: str) -> None:
    day, clock = f"{film.time:%Y%m%d}", f"{film.time:%H%M%S}"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[entropy, "instance"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[entropy, "series"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[entropy, "study"])
    dataset.StudyDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.AcquisitionTime = dataset.ContentTime = clock
    dataset.AcquisitionDateTime = day + clock
    dataset.Modality = "DX"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientID, dataset.PatientName = subject_id, ""
    dataset.PatientSex, dataset.PatientBirthDate = sex, ""
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.StudyID = "", "", ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1


def _describe_view(dataset: Dataset, film: Film) -> None:
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = film.view
    dataset.ViewCodeSequence = DicomSequence([_code(*_VIEWS[film.view])])
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = DicomSequence()
    dataset.AnatomicRegionSequence = DicomSequence([_code("816094009", "Chest")])
    dataset.ImageLaterality = "U"
    dataset.PatientOrientation = ["L", "F"]
    dataset.AcquisitionContextSequence = DicomSequence()
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _describe_pixels(dataset: Dataset, detector: Detector) -> None:
    """Declare the grey scale; the pixels themselves are described where they are set."""
    black, range_ = GREYS[detector.bits]
    center = black + (range_ + 1) // 2
    dataset.Manufacturer, dataset.ManufacturerModelName = "SYNTHETIC", detector.model
    dataset.DetectorType = "DIRECT"
    dataset.PhotometricInterpretation = "MONOCHROME1" if detector.inverted else "MONOCHROME2"
    dataset.PresentationLUTShape = "INVERSE" if detector.inverted else "IDENTITY"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if detector.inverted else -1
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [detector.spacing_mm, detector.spacing_mm]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter = 2**detector.bits - center if detector.inverted else center
    dataset.WindowWidth = range_ + 1


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item
