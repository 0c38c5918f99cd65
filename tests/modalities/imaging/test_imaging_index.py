import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest
from imaging_files import as_bytes, make_film, speckles
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SegmentationStorage,
)

from medfusion.core.folder import CohortFolder
from medfusion.modalities.imaging import ImagingModality

Folder = Callable[..., CohortFolder]


def png() -> bytes:
    return cv2.imencode(".png", speckles(top=256))[1].tobytes()


def codes(folder: CohortFolder) -> list[tuple[str, str]]:
    return [(problem.file, problem.code) for problem in folder.problems]


def test_films_are_found_at_any_depth_and_with_any_ending(filters: ImagingModality, folder: Folder) -> None:
    film = make_film(speckles())
    opened = folder({"a/b/c/film": film, "IM0001": film, "x.txt": film, ".hidden": b"not read"})
    table = filters.index(opened)
    assert table is not None
    assert table["path"].to_pylist() == ["imaging/IM0001", "imaging/x.txt", "imaging/a/b/c/film"]
    assert set(table["subject_id"].to_pylist()) == {"P1"}
    assert set(table["time"].to_pylist()) == {datetime(2020, 1, 31, 9)}
    assert [Path(path).is_absolute() for path in table["location"].to_pylist()] == [True] * 3
    assert opened.zoned == {"imaging/": False}
    assert opened.problems == []


def test_nothing_there_is_nothing_and_no_problem(filters: ImagingModality, folder: Folder) -> None:
    opened = folder({})
    assert filters.index(opened) is None
    assert (opened.problems, opened.zoned) == ([], {})


def test_linked_folders_are_followed_once(filters: ImagingModality, folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "archive"
    outside.mkdir()
    (outside / "film.dcm").write_bytes(as_bytes(make_film(speckles())))
    opened = folder({"own.dcm": make_film(speckles())})
    (tmp_path / "imaging" / "linked").symlink_to(outside)
    (tmp_path / "imaging" / "again").symlink_to(outside)
    (tmp_path / "imaging" / "loop").symlink_to(tmp_path / "imaging")
    table = filters.index(opened)
    assert table is not None
    assert table["path"].to_pylist() == ["imaging/own.dcm", "imaging/again/film.dcm"]


def test_what_is_no_film_is_left_out_with_a_reason(filters: ImagingModality, folder: Folder) -> None:
    pixels = speckles()
    report = make_film(pixels, SOPClassUID=BasicTextSRStorage, PixelData=None, Rows=None)
    tiles = make_film(pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")
    opened = folder(
        {
            "dose.dcm": make_film(pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"),
            "empty": b"",
            "header-only.dcm": make_film(pixels, PixelData=None),
            "labels.dcm": make_film(pixels, SOPClassUID=SegmentationStorage),
            "noise.dcm": bytes(128) + b"DICM" + bytes(range(256)) * 4,
            "packed.dcm": as_bytes(make_film(pixels, syntax=DeflatedExplicitVRLittleEndian))[:-900],
            "notes.txt": b"see the report",
            "photo.png": png(),
            "report.dcm": report,
            "tiles.dcm": tiles,
        }
    )
    assert filters.index(opened) is None
    assert codes(opened) == [
        ("imaging/dose.dcm", "not-an-image"),
        ("imaging/empty", "not-dicom"),
        ("imaging/header-only.dcm", "not-an-image"),
        ("imaging/labels.dcm", "not-an-image"),
        ("imaging/noise.dcm", "truncated-file"),
        ("imaging/notes.txt", "not-dicom"),
        ("imaging/packed.dcm", "unreadable-dicom"),
        ("imaging/photo.png", "not-dicom"),
        ("imaging/report.dcm", "not-an-image"),
        ("imaging/tiles.dcm", "not-an-image"),
    ]
    warned = {problem.file for problem in opened.problems if problem.severity == "warning"}
    assert warned == {"imaging/empty", "imaging/notes.txt", "imaging/photo.png"}
    assert all(problem.remedy for problem in opened.problems)


def test_a_dicomdir_is_only_remarked_on(filters: ImagingModality, folder: Folder) -> None:
    directory = make_film(speckles(), SOPClassUID=MediaStorageDirectoryStorage, PixelData=None)
    directory.DirectoryRecordSequence = [Dataset()]
    opened = folder({"DICOMDIR": directory, "film.dcm": make_film(speckles())})
    table = filters.index(opened)
    assert table is not None
    assert table.num_rows == 1
    assert [(problem.code, problem.severity) for problem in opened.problems] == [("not-dicom", "warning")]


@pytest.mark.parametrize(
    ("header", "code", "field"),
    [
        ({"PatientID": ""}, "missing-patient-id", "PatientID"),
        ({"StudyDate": ""}, "missing-time", "time"),
        ({"AcquisitionDate": "00000000"}, "bad-time", "AcquisitionDate"),
    ],
)
def test_a_film_of_nobody_or_of_no_time_is_left_out(
    filters: ImagingModality, folder: Folder, header: dict[str, str], code: str, field: str
) -> None:
    opened = folder({"film.dcm": make_film(speckles(), **header)})
    assert filters.index(opened) is None
    (problem,) = opened.problems
    assert (problem.code, problem.field, problem.severity) == (code, field, "error")
    assert "imaging.csv" in problem.remedy


def test_films_without_a_time_of_day_are_counted_in_one_warning(filters: ImagingModality, folder: Folder) -> None:
    opened = folder({f"{n}.dcm": make_film(speckles(n), StudyTime="") for n in range(3)})
    table = filters.index(opened)
    assert table is not None
    assert set(table["time"].to_pylist()) == {datetime(2020, 1, 31, 23, 59, 59, 999999)}
    (problem,) = opened.problems
    assert (problem.code, problem.severity) == ("date-without-time", "warning")
    assert problem.got == "3 films without a time of day"


def test_slices_of_one_series_have_the_time_of_the_last_and_one_slice_is_a_film(
    filters: ImagingModality, folder: Folder
) -> None:
    slices = {
        f"ct/{n}.dcm": make_film(speckles(n), SOPClassUID=CTImageStorage, AcquisitionDateTime=f"2020010109000{n}")
        for n in range(3)
    }
    alone = make_film(speckles(), SOPClassUID=CTImageStorage, SeriesInstanceUID="9.9", PatientID="P2")
    opened = folder({**slices, "alone.dcm": alone})
    table = filters.index(opened)
    assert table is not None
    assert table["path"].to_pylist() == ["imaging/alone.dcm", *(f"imaging/ct/{n}.dcm" for n in range(3))]
    assert table["series"].to_pylist() == ["", *["1.2.3.1"] * 3]
    assert table["time"].to_pylist()[1:] == [datetime(2020, 1, 1, 9, 0, 2)] * 3
    assert opened.problems == []


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_headers_are_read_in_every_encoding(filters: ImagingModality, folder: Folder, syntax: object) -> None:
    opened = folder({"film.dcm": make_film(speckles(), syntax=syntax)})
    table = filters.index(opened)
    assert table is not None
    assert table["study"].to_pylist() == ["1.2.3"]


def test_a_file_without_a_preamble_is_read(filters: ImagingModality, folder: Folder) -> None:
    with_preamble = as_bytes(make_film(speckles(), syntax=ImplicitVRLittleEndian))
    dataset_alone = with_preamble[with_preamble.index(b"\x08\x00\x16\x00") :]
    opened = folder({"old.dcm": dataset_alone})
    table = filters.index(opened)
    assert table is not None
    assert table.num_rows == 1


def test_films_with_a_time_zone_are_indexed_in_utc(filters: ImagingModality, folder: Folder) -> None:
    opened = folder({"film.dcm": make_film(speckles(), TimezoneOffsetFromUTC="+0200")})
    table = filters.index(opened)
    assert table is not None
    assert table["time"].to_pylist() == [datetime(2020, 1, 31, 7, tzinfo=UTC)]
    assert opened.zoned == {"imaging/": True}


def test_the_few_films_of_another_clock_are_left_out(filters: ImagingModality, folder: Folder) -> None:
    films = {f"{n}.dcm": make_film(speckles(n)) for n in range(3)}
    opened = folder({**films, "zoned.dcm": make_film(speckles(), TimezoneOffsetFromUTC="+0200")})
    table = filters.index(opened)
    assert table is not None
    assert table.num_rows == 3
    assert codes(opened) == [("imaging/zoned.dcm", "mixed-time-zones")]
    assert opened.zoned == {"imaging/": False}


def test_a_table_decides_whose_the_films_are_and_when_they_were_taken(filters: ImagingModality, folder: Folder) -> None:
    table = (
        "subject_id,path,time\n"
        "A,imaging/photo.png,2021-05-01T10:00:00\n"
        "B,imaging/film.dcm,\n"
        "C,imaging/other.dcm,2021-05-02T11:30:00\n"
    )
    opened = folder(
        {"photo.png": png(), "film.dcm": make_film(speckles()), "other.dcm": make_film(speckles()), "extra": b"?"},
        table,
    )
    index = filters.index(opened)
    assert index is not None
    rows = dict(zip(index["subject_id"].to_pylist(), index["time"].to_pylist(), strict=True))
    assert rows == {
        "A": datetime(2021, 5, 1, 10),
        "B": datetime(2020, 1, 31, 9),
        "C": datetime(2021, 5, 2, 11, 30),
    }
    assert opened.problems == []
    assert opened.zoned == {"imaging/": False}


def test_a_table_cannot_lead_out_of_the_folder_or_to_nothing(filters: ImagingModality, folder: Folder) -> None:
    table = (
        "subject_id,path,time\n"
        "A,../secret.png,2021-05-01T10:00:00\n"
        "B,imaging/gone.png,2021-05-01T10:00:00\n"
        "C,imaging/notes.txt,2021-05-01T10:00:00\n"
        "D,imaging/photo.png,\n"
    )
    opened = folder({"photo.png": png(), "notes.txt": b"no image"}, table)
    assert filters.index(opened) is None
    found = [(problem.code, problem.where, problem.subject_id) for problem in opened.problems]
    assert found == [
        ("path-outside", "row 1", "A"),
        ("missing-file", "row 2", "B"),
        ("not-dicom", "subject C", "C"),
        ("missing-time", "subject D", "D"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_a_problem(filters: ImagingModality, folder: Folder, tmp_path: Path) -> None:
    opened = folder({"film.dcm": make_film(speckles())})
    (tmp_path / "imaging" / "film.dcm").chmod(0)
    assert filters.index(opened) is None
    assert codes(opened) == [("imaging/film.dcm", "unreadable-file")]


def test_importing_the_modality_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'monai', 'cv2', 'pydicom', 'PIL'}"
    code = f"import sys, medfusion.modalities.imaging; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
