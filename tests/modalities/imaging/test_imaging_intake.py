"""What a file is, told from its header."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging_files import as_bytes, make_film, speckles
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    ParametricMapStorage,
    RTDoseStorage,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from medfusion.core.errors import PayloadRejected
from medfusion.modalities.imaging.intake import Verdict, examine, shown_frame
from medfusion.modalities.imaging.pixels import decode, load


@pytest.fixture
def verdict(tmp_path: Path) -> Any:
    def _verdict(film: FileDataset | bytes) -> Verdict:
        path = tmp_path / "file"
        path.write_bytes(film if isinstance(film, bytes) else as_bytes(film))
        return examine(path)

    return _verdict


def of_class(sop: str, **header: Any) -> FileDataset:
    return make_film(speckles(), SOPClassUID=sop, **header)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_film_is_an_image(verdict: Any, syntax: Any) -> None:
    film = make_film(speckles(), syntax) if syntax else make_film(speckles())
    found = verdict(film)
    assert (found.kind, found.code, found.remedy, found.frame, found.reason) == ("image", "", "", 0, "")
    assert found.header["PatientID"] == "P1"


@pytest.mark.parametrize("sop", [CTImageStorage, EnhancedMRImageStorage])
def test_frames_of_ct_mr_and_pet_are_slices(verdict: Any, sop: str) -> None:
    assert verdict(of_class(sop)).kind == "slice"


@pytest.mark.parametrize(
    ("sop", "got"),
    [
        (SegmentationStorage, "a segmentation"),
        (RTDoseStorage, "a dose grid"),
        (ParametricMapStorage, "a parametric map"),
        (VLWholeSlideMicroscopyImageStorage, "tiles of a whole slide"),
    ],
)
def test_pixels_that_are_no_picture_are_named(verdict: Any, sop: str, got: str) -> None:
    found = verdict(of_class(sop))
    assert (found.kind, found.code, found.problem.got) == ("not-an-image", "not-an-image", got)
    assert "leave it out" in found.remedy


@pytest.mark.parametrize("syntax", [None, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("sop", [BasicTextSRStorage, "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.9.1.1"])
def test_reports_documents_and_waveforms_are_no_images(verdict: Any, sop: str, syntax: Any) -> None:
    film = make_film(speckles(), *([syntax] if syntax else []), SOPClassUID=sop, PixelData=None, Rows=None)
    found = verdict(film)
    assert (found.kind, found.code) == ("not-an-image", "not-an-image")
    assert "without pixel data" in found.problem.got


def test_other_files_and_directories_are_no_images(verdict: Any) -> None:
    directory = of_class(MediaStorageDirectoryStorage, PixelData=None)
    directory.DirectoryRecordSequence = Sequence([Dataset()])
    for file, form in ((b"subject_id,path", "other"), (b"", "other"), (directory, "directory")):
        found = verdict(file)
        assert (found.kind, found.code, found.format) == ("not-an-image", "not-dicom", form)


def test_a_png_is_an_image(verdict: Any) -> None:
    found = verdict(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert (found.kind, found.format) == ("image", "picture")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"Rows": 65535, "Columns": 65535}, "too-large", "Rows, Columns"),
        ({"Rows": None}, "undecodable-pixels", "Rows"),
        ({"BitsAllocated": 12}, "undecodable-pixels", "BitsAllocated"),
        ({"PhotometricInterpretation": "HSV"}, "undecodable-pixels", "PhotometricInterpretation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"}, "not-2d", "SOPClassUID"),
    ],
)
def test_what_cannot_be_decoded_is_rejected_before_it_is_tried(
    verdict: Any, change: dict[str, Any], code: str, field: str
) -> None:
    found = verdict(make_film(speckles(), **change))
    assert (found.kind, found.code, found.problem.field) == ("rejected", code, field)
    assert found.remedy


def test_a_video_is_rejected_with_what_to_do(verdict: Any) -> None:
    film = make_film(speckles())
    film.PixelData = encapsulate([bytes(100)])
    film["PixelData"].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = MPEG4HP41
    found = verdict(film)
    assert (found.kind, found.code) == ("rejected", "unsupported-transfer-syntax")
    assert "one frame of it" in found.remedy


def test_files_that_cannot_be_opened_or_parsed_are_rejected(verdict: Any, tmp_path: Path) -> None:
    assert examine(tmp_path / "none").code == "unreadable-file"
    cut = as_bytes(make_film(speckles(), DeflatedExplicitVRLittleEndian))[:-900]
    assert (verdict(cut).kind, verdict(cut).code) == ("rejected", "unreadable-dicom")
    # The type of (0002,0002), which no one asks for until the end.
    damaged = as_bytes(make_film(speckles())).replace(b"\x02\x00\x02\x00UI", b"\x02\x00\x02\x00U\x00")
    assert verdict(damaged).code == "unreadable-dicom"


@pytest.mark.parametrize(("frames", "representative"), [(1, ""), (5, ""), (6, ""), (6, "6"), (6, "7"), (6, "0")])
def test_the_shown_frame_follows_the_rule(frames: int, representative: str) -> None:
    named = representative.isdecimal() and 1 <= int(representative) <= frames
    number = int(representative) if named else math.ceil(frames / 2)
    frame, reason = shown_frame(frames, representative)
    assert frame == number - 1
    assert reason.startswith(f"frame {number} of {frames}: ") == (frames > 1)


@pytest.mark.parametrize(("header", "frame"), [({}, 1), ({"RepresentativeFrameNumber": 4}, 3)])
def test_of_a_cine_the_frame_that_was_chosen_is_decoded(verdict: Any, header: dict[str, Any], frame: int) -> None:
    pixels = speckles(1, shape=(4, 20, 30), top=256)
    film = make_film(pixels[0], SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=4, **header)
    film.PixelData = pixels.tobytes()
    assert verdict(film).frame == frame
    encoded = load(as_bytes(film))
    np.testing.assert_allclose(decode(encoded), pixels[frame] / 255, atol=1e-6)
    np.testing.assert_allclose(decode(encoded, frame=0), pixels[0] / 255, atol=1e-6)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_real_file_has_one_verdict_and_usable_ones_decode(shared: Path) -> None:
    broken = []
    for path in sorted((shared / "dicom" / "corpus").iterdir()):
        found = examine(path)
        assert (found.kind in {"image", "slice"}) == (found.code == "")
        assert bool(found.remedy) == bool(found.code)
        if (found.kind, found.format) == ("image", "dicom"):
            try:
                decode(load(path), longest=320)
            except PayloadRejected as error:
                broken.append((path.name.split("_")[-1], error.problem.code))
    assert broken == [
        ("FreezePattern.dcm", "empty-image"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "undecodable-pixels"),
    ]
