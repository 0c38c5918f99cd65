import re
import tomllib
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_windowing
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medfusion.cohort import open_cohort
from medfusion.cohort.synthetic import Truth, draw_patients, truth_of, write_synthetic_cohort
from medfusion.cohort.synthetic.anatomy import Opacity, draw_anatomy, opaque_fraction
from medfusion.cohort.synthetic.events import QUANTITIES
from medfusion.cohort.synthetic.films import Film, render
from medfusion.cohort.synthetic.patients import FIRST_ADMISSION, Patient
from medfusion.cohort.synthetic.truth import TRUTHS
from medfusion.core.errors import UsageError

WRITTEN = 40
OUTCOME = re.compile(
    r"\bICU\b|intensive care|deteriorat|\bdied?\b|death|organ support|intubat|ventilat|vasopress|transfer"
    "|중환자|악화|사망|삽관|인공호흡|승압|전실",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return draw_patients(2000, 0)


@pytest.fixture(scope="module")
def truth(patients: list[Patient]) -> Truth:
    return truth_of(patients)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "cohort"
    write_synthetic_cohort(out, WRITTEN, seed=0)
    return out


@pytest.fixture(scope="module")
def headers(folder: Path) -> dict[Path, pydicom.Dataset]:
    return {path: pydicom.dcmread(path) for path in sorted((folder / "imaging").rglob("*.dcm"))}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(folder: Path, name: str) -> pd.DataFrame:
    times = {"ehr": ["time"], "notes": ["time"], "labels/deterioration": ["prediction_time"]}.get(name, False)
    return pd.read_csv(folder / f"{name}.csv", parse_dates=times)


def test_equal_seeds_write_equal_bytes_and_other_seeds_do_not(tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_synthetic_cohort(tmp_path / name, 5, seed=seed)
    one, other = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert one == contents(tmp_path / "two")
    assert any(name.endswith(".dcm") for name in one)
    same = {name for name in one.keys() & other.keys() if one[name] == other[name]}
    assert same == {"cohort.toml"}


def test_uids_differ_between_films_and_between_seeds(tmp_path, headers):
    write_synthetic_cohort(tmp_path / "other", 5, seed=1)
    others = [pydicom.dcmread(path) for path in (tmp_path / "other").rglob("*.dcm")]
    uids = [uid for d in [*headers.values(), *others] for uid in (d.SOPInstanceUID, d.StudyInstanceUID)]
    assert len(set(uids)) == len(uids)
    assert all(pydicom.uid.UID(uid).is_valid for uid in uids)


def test_the_cohort_opens_without_a_problem_and_its_config_names_what_is_in_it(folder):
    cohort = open_cohort(folder, {})
    assert not cohort.problems
    config = tomllib.loads((folder / "cohort.toml").read_text(encoding="utf-8"))
    units = read(folder, "ehr").groupby("code")["unit"].agg(["min", "max"])
    assert dict(units["min"]) == dict(units["max"]) == config["ehr"]["units"]


def test_every_film_declares_what_it_holds(folder, headers):
    subjects = read(folder, "subjects").set_index("subject_id")
    for path, header in headers.items():
        assert header.SOPClassUID == pydicom.uid.DigitalXRayImageStorageForPresentation
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert path.parent.name == header.PatientID
        assert subjects.loc[header.PatientID, "sex"] == header.PatientSex
        assert header.StudyDate + header.StudyTime == header.AcquisitionDateTime
        assert (header.Modality, header.BodyPartExamined) == ("DX", "CHEST")
        pixels = header.pixel_array
        assert pixels.shape == (header.Rows, header.Columns)
        assert pixels.itemsize * 8 == header.BitsAllocated
        assert header.HighBit + 1 == header.BitsStored
        assert 0.4 * 2**header.BitsStored < pixels.max() < 2**header.BitsStored


def test_films_come_in_the_kinds_that_detectors_send(headers):
    def kinds(keyword: str) -> set:
        return {getattr(header, keyword) for header in headers.values()}

    assert kinds("PhotometricInterpretation") == {"MONOCHROME1", "MONOCHROME2"}
    assert kinds("BitsStored") == {8, 12, 16}
    assert kinds("ViewPosition") == {"PA", "AP"}
    syntaxes = {header.file_meta.TransferSyntaxUID.name for header in headers.values()}
    assert syntaxes == {
        "Explicit VR Little Endian",
        "RLE Lossless",
        "JPEG 2000 Image Compression (Lossless Only)",
    }


def test_through_its_window_every_film_shows_the_drawn_picture(patients, headers):
    by_id = {patient.subject_id: patient for patient in patients}
    for path, header in headers.items():
        film = by_id[header.PatientID].films[int(path.stem) - 1]
        grey = apply_windowing(header.pixel_array, header) / (2**header.BitsStored - 1)
        shown = 1.0 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey
        np.testing.assert_allclose(shown, render(film, shown.shape), atol=0.003)


def test_a_film_of_an_opacity_is_brighter_there_and_nowhere_else():
    anatomy = draw_anatomy(np.random.default_rng(0), "M")
    patch = Opacity(x=0.3, y=0.5, radius=0.08, stretch=1.0, density=1.0)
    clear, opaque = (render(Film(FIRST_ADMISSION, 1, "PA", anatomy, found), (600, 500)) for found in ((), (patch,)))
    added = opaque - clear
    assert added[290:310, 140:160].mean() > 0.3
    assert np.abs(added[:, 250:]).max() < 0.01


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(
        st.builds(
            Opacity,
            x=st.floats(0.1, 0.9),
            y=st.floats(0.1, 0.9),
            radius=st.floats(0.02, 0.3),
            stretch=st.floats(0.5, 2.0),
            density=st.floats(0.0, 1.0),
        ),
        max_size=4,
    ),
)
def test_an_opacity_more_never_makes_the_lungs_clearer(seed, patches):
    anatomy = draw_anatomy(np.random.default_rng(seed), "F")
    fractions = [opaque_fraction(anatomy, tuple(patches[:count])) for count in range(len(patches) + 1)]
    assert fractions[0] == 0.0
    assert all(before <= after + 1e-6 for before, after in pairwise(fractions))
    assert fractions[-1] <= 1.0


def test_the_truth_adds_up(truth):
    names = [name for drivers in truth.drivers.values() for name in drivers]
    np.testing.assert_allclose(truth.table["logit"], truth.base + truth.table[names].sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(truth.table["risk"], expit(truth.table["logit"]), atol=1e-12)
    assert set(truth.drivers) == {"imaging", "ehr", "notes"}


def test_the_truth_is_about_the_last_value_written_before_the_prediction(folder, patients):
    expected = {"lactate": (0.75, 1.9, 0.4, 7.0), "spo2": (-0.2, 94.3, 80.0, 100.0)}
    labels = read(folder, "labels/deterioration").sort_values("prediction_time")
    events = read(folder, "ehr").sort_values("time")
    table = truth_of(patients[:WRITTEN]).table
    for code, (per_unit, reference, low, high) in expected.items():
        last = pd.merge_asof(
            labels, events[events["code"] == code], left_on="prediction_time", right_on="time", by="subject_id"
        )
        adds = (per_unit * (last["numeric_value"].clip(low, high) - reference)).fillna(0.0)
        merged = last.assign(adds=adds).merge(table, on=["subject_id", "prediction_time"])
        assert len(merged) == len(table)
        np.testing.assert_allclose(merged["adds"], merged[code], atol=1e-9)
        np.testing.assert_array_equal(merged["boolean_value"], merged["event"])


def test_the_words_of_the_truth_stand_in_the_notes_before_the_prediction(patients, truth):
    words = {"confusion": "confusion|혼돈", "cyanosis": "cyanosis|청색증", "mottling": "mottling|피부 얼룩"}
    by_id = {patient.subject_id: patient for patient in patients[:400]}
    rows = truth.table[truth.table["subject_id"].isin(by_id)]
    for row in rows.itertuples():
        text = " ".join(n.text for n in by_id[row.subject_id].notes if n.time <= row.prediction_time)
        for driver, word in words.items():
            assert getattr(row, driver) <= 0.0 or re.search(word, text, re.IGNORECASE)


def test_outcomes_come_as_often_as_the_truth_says(truth):
    table = truth.table
    fit = LogisticRegression(C=np.inf).fit(table[["logit"]], table["event"])
    assert fit.coef_[0, 0] == pytest.approx(1.0, abs=0.15)
    assert fit.intercept_[0] == pytest.approx(0.0, abs=0.2)
    for _, part in table.groupby(pd.qcut(table["risk"], 8)):
        error = np.sqrt((part["risk"] * (1.0 - part["risk"])).sum()) / len(part)
        assert part["event"].mean() == pytest.approx(part["risk"].mean(), abs=3.5 * error)


def test_the_known_risk_separates_well_and_each_modality_alone_moderately(patients, truth):
    assert 0.25 <= truth.table["event"].mean() <= 0.30
    of_400 = truth_of(patients[:400]).table
    assert 0.25 <= of_400["event"].mean() <= 0.30
    for table in (truth.table, of_400):
        assert 0.85 <= roc_auc_score(table["event"], table["logit"]) <= 0.90
    for drivers in truth.drivers.values():
        shares = truth.table[list(drivers)].sum(axis=1)
        assert 0.65 <= roc_auc_score(truth.table["event"], shares) <= 0.78


def test_modalities_are_absent_as_often_as_declared(patients):
    has = {"imaging": lambda p: p.films, "ehr": lambda p: p.events, "notes": lambda p: p.notes}
    absent = pd.DataFrame({name: [not of(patient) for patient in patients] for name, of in has.items()})
    recipe = TRUTHS["additive"]
    for name, declared in {**recipe.absent, "all three": recipe.only_static}.items():
        observed = absent.all(axis=1).mean() if name == "all three" else absent[name].mean()
        assert observed == pytest.approx(declared, abs=4 * np.sqrt(declared * (1 - declared) / len(patients)))


def test_an_absent_modality_adds_nothing(patients, truth):
    nothing = {p.subject_id for p in patients if not (p.films or p.events or p.notes)}
    rows = truth.table[truth.table["subject_id"].isin(nothing)]
    names = [name for drivers in truth.drivers.values() for name in drivers if name != "age_years"]
    assert len(rows) > 20
    assert (rows[names] == 0.0).all(axis=None)
    assert (rows["age_years"] != 0.0).mean() > 0.9


def test_tables_have_no_empty_cell_and_irregular_times(folder):
    for name in ("subjects", "labels/deterioration", "ehr", "notes"):
        assert not read(folder, name).isna().any(axis=None)
    gaps = read(folder, "ehr").groupby(["subject_id", "code"])["time"].diff().dropna()
    assert gaps.nunique() > 200
    assert gaps.min() > timedelta(0)


def test_values_stay_in_range_and_not_everything_is_measured_in_everybody(folder):
    events = read(folder, "ehr")
    for code, rows in events.groupby("code"):
        assert rows["numeric_value"].between(QUANTITIES[code].low, QUANTITIES[code].high).all()
    assert set(events["code"]) == set(QUANTITIES)
    assert events.groupby("subject_id")["code"].nunique().min() < len(QUANTITIES)


def test_some_patients_are_asked_about_twice_and_nobody_after_an_event(patients):
    counts = Counter(len(patient.samples) for patient in patients)
    assert set(counts) == {1, 2}
    assert 0.1 < counts[2] / len(patients) < 0.3
    for patient in patients:
        assert not any(sample.event for sample in patient.samples[:-1])


def test_records_after_the_last_prediction_follow_the_outcome_more_than_those_before(patients):
    def last(patient: Patient, code: str, late: bool) -> float:
        moment = patient.samples[-1].prediction_time
        values = [e.value for e in patient.events if e.code == code and (e.time > moment) == late]
        return values[-1] if values else np.nan

    table = pd.DataFrame(
        [(last(p, "lactate", False), last(p, "lactate", True), p.samples[-1].event) for p in patients],
        columns=["before", "after", "event"],
    ).dropna()
    before, after = (roc_auc_score(table["event"], table[name]) for name in ("before", "after"))
    assert after > before + 0.15
    late_films = sum(film.time > p.samples[-1].prediction_time for p in patients for film in p.films)
    late_notes = sum(note.time > p.samples[-1].prediction_time for p in patients for note in p.notes)
    assert late_films > 0.1 * len(patients)
    assert late_notes > 0.2 * len(patients)


def test_notes_are_in_two_languages_with_sections_negations_and_relatives(folder):
    text = read(folder, "notes")["text"]
    korean = text.str.contains("[가-힣]")
    assert 0.2 < korean.mean() < 0.6
    for part, patterns in (
        (text[~korean], ["HISTORY: ", "EXAM: ", "IMPRESSION: ", "FAMILY HISTORY: ", r"\bNo ", "[Dd]enies", "without"]),
        (text[korean], ["과거력: ", "소견: ", "가족력: ", "없음", "호소하지 않음", "관찰되지 않음"]),
    ):
        assert [pattern for pattern in patterns if not part.str.contains(pattern).any()] == []
    assert text.str.contains("FAMILY HISTORY: .*(?:confusion|cyanosis)|가족력: .*(?:혼돈|청색증)").any()


def test_text_is_carried_forward_within_a_patient_and_never_between_patients(patients):
    owners: dict[str, set[str]] = {}
    copies = 0
    for patient in patients:
        for earlier, later in pairwise(patient.notes):
            assert later.text.startswith(earlier.text)
            copies += later.text == earlier.text
        for note in patient.notes:
            owners.setdefault(note.text, set()).add(patient.subject_id)
    assert copies > 50
    assert max(len(subjects) for subjects in owners.values()) == 1


def test_no_note_tells_the_outcome(patients):
    assert [n.text for p in patients for n in p.notes if OUTCOME.search(n.text)] == []


def test_all_times_are_of_the_invented_calendar(folder, headers):
    first, last = pd.Timestamp(FIRST_ADMISSION), pd.Timestamp(FIRST_ADMISSION) + timedelta(days=506)
    times = pd.concat([read(folder, "ehr")["time"], read(folder, "notes")["time"]])
    assert times.between(first, last).all()
    for header in headers.values():
        for element in header:
            if element.VR in {"DA", "DT"} and element.value:
                assert f"{first:%Y%m%d}" <= str(element.value)[:8] <= f"{last:%Y%m%d}"


def test_progress_is_told_patient_by_patient(tmp_path):
    done: list[int] = []
    write_synthetic_cohort(tmp_path / "cohort", 3, advance=done.append)
    assert sum(done) == 3


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not an empty folder"):
        write_synthetic_cohort(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("subjects", "seed"), [(0, 0), (2, -1)])
def test_impossible_wishes_are_refused(tmp_path, subjects, seed):
    with pytest.raises(UsageError, match="at least 1 subject and a seed from 0 on"):
        write_synthetic_cohort(tmp_path / "cohort", subjects, seed=seed)
