"""Files that may show whose they are stay where they are, unless a person forces them."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage

from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.deidentify import deidentify_cohort
from medfusion.deidentify.pseudonyms import Pseudonyms

KEY = bytes(range(32))


@pytest.fixture
def cohort(tmp_path):
    """Return a cohort with one film."""
    folder = tmp_path / "in"
    write_synthetic_cohort(folder, subjects=3, seed=0)
    for file in sorted((folder / "imaging").rglob("*.dcm"))[1:]:
        file.unlink()
    return folder


def only_film(folder):
    return next((folder / "imaging").rglob("*.dcm"))


def change(folder, **header):
    film = pydicom.dcmread(only_film(folder))
    for keyword, value in header.items():
        setattr(film, keyword, value)
    film.save_as(only_film(folder))


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in-annotation"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable-features"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "risky-sop-class"),
        ({"SOPClassUID": UltrasoundImageStorage}, "risky-sop-class"),
        ({"SOPClassUID": "1.2.840.113619.4.26"}, "risky-sop-class"),
        ({"ConversionType": "SD"}, "captured"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "captured"),
    ],
)
def test_a_risky_file_is_held_back_and_named_to_the_user_alone(cohort, tmp_path, header, code):
    change(cohort, **header)
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    path = only_film(cohort).relative_to(cohort).as_posix()
    assert report.files == {code: 1}
    assert [(problem.code, problem.file) for problem in report.problems] == [(code, path)]
    assert list((tmp_path / "out").rglob("*.dcm")) == []
    assert path not in (tmp_path / "out" / "deidentification.json").read_text()


def test_force_copies_it_without_its_header_data_and_says_so(cohort, tmp_path):
    change(cohort, BurnedInAnnotation="YES", PatientComments="Gildong")
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY, force=True)
    assert report.files == {"forced": 1}
    assert [problem.code for problem in report.problems] == ["burned-in-annotation"]
    assert "PatientComments" not in pydicom.dcmread(only_film(tmp_path / "out"))


def test_an_overlay_within_the_pixels_is_held_back(cohort, tmp_path):
    film = pydicom.dcmread(only_film(cohort))
    film.add_new(0x60000102, "US", 12)
    film.save_as(only_film(cohort))
    assert deidentify_cohort(cohort, tmp_path / "out", key=KEY).files == {"embedded-overlay": 1}


def test_what_cannot_be_read_or_is_nobodys_never_leaves(cohort, tmp_path):
    film, content = pydicom.dcmread(only_film(cohort)), only_film(cohort).read_bytes()
    folder = cohort / "imaging"
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4 Gildong")
    (folder / "cut.dcm").write_bytes(content[:700])
    nested = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (folder / "deep.dcm").write_bytes(content + nested * 2000)
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    film.PatientID = ""
    film.save_as(folder / "nobody.dcm")
    film.PatientID, film.DirectoryRecordSequence = "a", Sequence([Dataset()])
    film.save_as(folder / "DICOMDIR")
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY, force=True)
    # Of the cut file, what names the patient is missing; the picture is in no table.
    assert report.files == {"written": 1, "not-dicom": 1, "missing-subject": 3, "dicomdir": 1, "too-complex": 1}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_held_back_and_forced_without_its_metadata(cohort, tmp_path, kind):
    grey = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    path = cohort / "imaging" / f"gildong.{kind.lower()}"
    notes = PngInfo()
    notes.add_text("Patient", "Gildong")
    exif = Image.Exif()
    # 0x010E is the description, 0x0112 the orientation: 6 means a quarter turn.
    exif[0x010E], exif[0x0112] = "Gildong", 6
    extra = {"pnginfo": notes} if kind == "PNG" else {"comment": b"Gildong"}
    Image.fromarray(grey).save(path, kind, exif=exif, **extra)
    (cohort / "imaging.csv").write_text(f"subject_id,path,time\nP000001,imaging/{path.name},2023-01-05T10:00:00\n")
    assert deidentify_cohort(cohort, tmp_path / "held", key=KEY).files == {"picture": 1, "not-listed": 1}
    assert pd.read_csv(tmp_path / "held" / "imaging.csv").empty

    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY, force=True)
    assert report.files == {"forced": 1, "not-listed": 1}
    row = pd.read_csv(tmp_path / "out" / "imaging.csv").iloc[0]
    assert row["path"] == f"imaging/{Pseudonyms(KEY).subject('P000001')}/00001.png"
    with Image.open(path) as before, Image.open(tmp_path / "out" / row["path"]) as new:
        np.testing.assert_array_equal(np.asarray(new), np.rot90(np.asarray(before), k=-1))
        assert new.info == {}
    assert b"gildong" not in (tmp_path / "out" / row["path"]).read_bytes().lower()


def test_the_table_of_images_decides_whose_a_file_is(cohort, tmp_path):
    path = only_film(cohort).relative_to(cohort).as_posix()
    (cohort / "imaging.csv").write_text(f"subject_id,path\nP000002,{path}\nP000003,imaging/none.dcm\n")
    change(cohort, PatientID="HEADER-77")
    report = deidentify_cohort(cohort, tmp_path / "out", key=KEY)
    assert report.files == {"written": 1, "missing-file": 1}
    assert pydicom.dcmread(only_film(tmp_path / "out")).PatientID == Pseudonyms(KEY).subject("P000002")
    assert len(pd.read_csv(tmp_path / "out" / "imaging.csv")) == 1
