import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from imaging_files import LATER, as_bytes, make_film, read_all, records_of, speckles

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.modalities.imaging import ImagingModality
from medfusion.modalities.imaging.filters import filter_maps
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.pixels import decode, load
from medfusion.modalities.imaging.pool import decoders
from medfusion.modalities.imaging.reader import MAX_FILMS, newest_study

Folder = Callable[..., CohortFolder]


def test_a_film_becomes_the_mean_of_its_feature_map(filters: ImagingModality, folder: Folder) -> None:
    film = make_film(speckles())
    (payload,), problems = read_all(filters, folder({"film.dcm": film}))
    assert problems == []
    assert payload is not None
    maps = filter_maps(letterbox(decode(load(as_bytes(film))), 128))
    np.testing.assert_allclose(payload.films[0].embedding, maps.mean(axis=(1, 2), dtype=np.float64), rtol=1e-6)
    assert payload.films[0].size == (40, 50)
    assert payload.films[0].path == "imaging/film.dcm"


def test_only_the_newest_study_is_read(filters: ImagingModality, folder: Folder) -> None:
    def film(seed: int, study: str, time: str) -> object:
        return make_film(speckles(seed), StudyInstanceUID=study, AcquisitionDateTime=time)

    films = {
        "old.dcm": film(1, "1.1", "20200101090000"),
        "lateral.dcm": film(2, "1.2", "20200201090300"),
        "frontal.dcm": film(3, "1.2", "20200201090000"),
        "yesterday.dcm": film(4, "1.2", "20200131180000"),
    }
    (payload,), problems = read_all(filters, folder(films))
    assert payload is not None
    assert [part.path for part in payload.films] == ["imaging/frontal.dcm", "imaging/lateral.dcm"]
    assert problems == []


def test_at_most_eight_films_are_used_the_newest(filters: ImagingModality, folder: Folder) -> None:
    films = {f"{n:02}.dcm": make_film(speckles(n), AcquisitionDateTime=f"2020010109{n:02}00") for n in range(12)}
    (payload,), _ = read_all(filters, folder(films))
    assert payload is not None
    assert [film.path for film in payload.films] == [f"imaging/{n:02}.dcm" for n in range(12 - MAX_FILMS, 12)]


def test_films_without_a_study_belong_together_if_they_have_one_time() -> None:
    times = [datetime(2020, 1, 1, 9), datetime(2020, 1, 1, 10), datetime(2020, 1, 1, 10)]
    table = pa.table({"time": times, "study": [time.isoformat() for time in times]})
    assert len(newest_study(table)) == 2
    assert newest_study(table.slice(0, 0)) == []


def test_a_picture_that_a_study_holds_twice_counts_once(filters: ImagingModality, folder: Folder) -> None:
    (payload,), _ = read_all(filters, folder({"a.dcm": make_film(speckles()), "b.dcm": make_film(speckles())}))
    assert payload is not None
    assert len(payload.films) == 1


def test_what_cannot_be_decoded_is_left_out_and_named(filters: ImagingModality, folder: Folder) -> None:
    films = {
        "bad.dcm": make_film(speckles(1), Rows=400),
        "blank.dcm": make_film(speckles(1) * 0, PatientID="P2"),
        "good.dcm": make_film(speckles(2)),
    }
    payloads, problems = read_all(filters, folder(films))
    assert payloads[0] is not None
    assert [film.path for film in payloads[0].films] == ["imaging/good.dcm"]
    assert payloads[1] is None
    found = sorted((problem.file, problem.code, problem.subject_id, problem.where) for problem in problems)
    assert found == [
        ("imaging/bad.dcm", "undecodable-pixels", "P1", "subject P1"),
        ("imaging/blank.dcm", "empty-image", "P2", "subject P2"),
    ]


def test_a_film_of_several_samples_is_decoded_and_complained_about_once(
    filters: ImagingModality, folder: Folder
) -> None:
    opened = folder({"a.dcm": make_film(speckles()), "b.dcm": make_film(speckles(1), Rows=999)})
    records = records_of(filters.index(opened)) * 3
    problems: list[Problem] = []
    steps: list[int] = []
    payloads = filters.read(
        [*records, *records_of(filters.index(opened), datetime(2000, 1, 1))], problems, steps.append
    )
    assert len({id(payload.films[0].embedding) for payload in payloads if payload is not None}) == 1
    assert [problem.code for problem in problems] == ["undecodable-pixels"]
    assert sum(steps) == len(payloads)


def test_progress_counts_every_record_once(filters: ImagingModality, folder: Folder) -> None:
    films = {f"{n}.dcm": make_film(speckles(n), PatientID=f"P{n:03}") for n in range(150)}
    table = filters.index(folder(films))
    records = records_of(table)
    steps: list[int] = []
    filters.read(records, [], steps.append)
    assert sum(steps) == len(records) == 150
    assert max(steps) < 10


@pytest.mark.skipif(sys.platform != "linux", reason="kills by process id")
def test_workers_killed_while_a_folder_is_read_cost_no_film(filters: ImagingModality, folder: Folder) -> None:
    films = {f"{n:02}.dcm": make_film(speckles(n, (600, 500)), PatientID=f"P{n:02}") for n in range(40)}
    opened = folder(films)
    expected, _ = read_all(filters, opened)
    killed: list[int] = []

    def kill_one(_done: int) -> None:
        # A film is tried on three workers: more kills could by chance all meet the same one.
        for worker in list(decoders()._running)[:1] if len(killed) < 2 else ():
            killed.append(worker._process.pid)
            os.kill(worker._process.pid, signal.SIGKILL)

    problems: list[Problem] = []
    payloads = filters.read(records_of(filters.index(opened)), problems, kill_one)
    assert (len(killed), problems) == (2, [])
    for payload, other in zip(payloads, expected, strict=True):
        assert payload is not None
        assert other is not None
        np.testing.assert_array_equal(payload.embedding(), other.embedding())


def test_what_is_in_the_cache_is_not_decoded_again(folder: Folder, tmp_path: Path) -> None:
    options = ModalityOptions({"backbone": "filters", "size": "128"}, tmp_path / "cache")
    opened = folder({f"{n}.dcm": make_film(speckles(n), PatientID=f"P{n}") for n in range(4)})
    first, _ = read_all(ImagingModality(options), opened)
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path\n"
        "from imaging_files import read_all\n"
        "from medfusion.core.folder import CohortFolder\n"
        "from medfusion.core.protocols import ModalityOptions\n"
        "from medfusion.modalities.imaging import ImagingModality\n"
        "options = ModalityOptions({'backbone': 'filters', 'size': '128'}, Path(sys.argv[2]))\n"
        "films, problems = read_all(ImagingModality(options), CohortFolder.open(sys.argv[1]))\n"
        "print(sorted({'torch', 'monai', 'cv2'} & set(sys.modules)), problems)\n"
        "print(b''.join(film.films[0].embedding.tobytes() for film in films).hex())\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache"), here],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, values = done.stdout.split("\n")[:2]
    assert loaded == "[] []"
    assert values == b"".join(film.films[0].embedding.tobytes() for film in first if film is not None).hex()


def test_the_same_picture_has_the_same_fingerprint_in_two_patients(filters: ImagingModality, folder: Folder) -> None:
    films = {
        "a.dcm": make_film(speckles(), PatientID="A", WindowCenter="100", WindowWidth="50"),
        "b.dcm": make_film(speckles(), PatientID="B", StudyDate="20190101"),
        "c.dcm": make_film(speckles(1), PatientID="C"),
    }
    payloads, _ = read_all(filters, folder(films))
    prints = [filters.fingerprints(payload) for payload in payloads if payload is not None]
    assert prints[0] == prints[1] != prints[2]


def test_a_film_that_was_replaced_or_removed_is_not_explained(
    filters: ImagingModality, folder: Folder, tmp_path: Path
) -> None:
    opened = folder({"film.dcm": make_film(speckles(77))})
    (payload,), _ = read_all(ImagingModality(ModalityOptions({"backbone": "filters"})), opened)
    assert payload is not None
    other = ImagingModality(ModalityOptions({"backbone": "filters"}))
    folder({"film.dcm": make_film(speckles(78))})
    with pytest.raises(PayloadRejected, match="changed-film"):
        other.encoder().maps(payload.films[0])
    (tmp_path / "imaging" / "film.dcm").unlink()
    with pytest.raises(PayloadRejected, match="unreadable-file"):
        other.encoder().maps(payload.films[0])


def test_records_keep_to_their_moment(filters: ImagingModality, folder: Folder) -> None:
    films = {
        "first.dcm": make_film(speckles(1), StudyDate="20200101"),
        "second.dcm": make_film(speckles(2), StudyDate="20200301"),
    }
    table = filters.index(folder(films))
    early = filters.read(records_of(table, datetime(2020, 2, 1)), [], lambda done: None)
    late = filters.read(records_of(table, LATER), [], lambda done: None)
    assert early[0] is not None
    assert late[0] is not None
    assert [early[0].films[0].path, late[0].films[0].path] == ["imaging/first.dcm", "imaging/second.dcm"]
