"""Opening a cohort: tasks, samples, facts about subjects, and splits."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.cohort import open_cohort, require_two_classes
from medfusion.cohort.subjects import Subjects
from medfusion.core.errors import DataError, UsageError
from medfusion.core.types import Sample

TWO_TASKS = """
name = "two"
description = "Two tasks."
[tasks.icu]
labels = "labels/icu.csv"
positive = "admitted to intensive care"
[tasks.covid]
labels = "labels/covid.csv"
[ehr.units]
lactate = "mmol/L"
"""
ROWS = "B,2020-01-02T00:00:00,True\nA,2020-01-03T00:00:00,\nA,2020-01-01T00:00:00,False\n"


def test_samples_are_sorted_by_subject_and_time_and_an_empty_outcome_is_to_be_scored(toys, tmp_path):
    cohort = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + ROWS}), [])
    assert [(sample.subject_id, sample.prediction_time.day, sample.event) for sample in cohort.samples] == [
        ("A", 1, False),
        ("A", 3, None),
        ("B", 2, True),
    ]
    assert [sample.event for sample in cohort.labelled().samples] == [False, True]
    assert len(cohort) == 3
    assert (cohort.name, cohort.task.name, cohort.task.positive) == ("small", "died", "died in hospital")


def test_of_two_tasks_one_has_to_be_named(toys, tmp_path):
    files = {"cohort.toml": TWO_TASKS, "labels/icu.csv": toys.labels + ROWS, "labels/covid.csv": toys.labels + ROWS}
    toys.write(tmp_path, files)
    with pytest.raises(UsageError, match=r"several tasks.*covid, icu"):
        open_cohort(tmp_path, [])
    with pytest.raises(UsageError, match=r"no task 'death'.*covid, icu"):
        open_cohort(tmp_path, [], "death")
    cohort = open_cohort(tmp_path, [], "icu")
    assert cohort.task.positive == "admitted to intensive care"
    assert cohort.units == {"lactate": "mmol/L"}


def test_labels_may_be_parquet_instead(toys, tmp_path):
    toys.write(tmp_path, {"labels/died.csv": toys.labels + ROWS})
    before = open_cohort(tmp_path, [])
    frame = pd.read_csv(tmp_path / "labels" / "died.csv", parse_dates=["prediction_time"])
    frame.to_parquet(tmp_path / "labels" / "died.parquet")
    (tmp_path / "labels" / "died.csv").unlink()
    after = open_cohort(tmp_path, [])
    assert after.samples == before.samples
    assert [sample.event for sample in after.samples] == [sample.event for sample in before.samples]


def test_the_file_that_is_named_is_the_one_that_is_read(toys, tmp_path):
    toys.write(tmp_path, {"labels/died.csv": toys.labels + ROWS, "labels/died.parquet": "not this one"})
    assert len(open_cohort(tmp_path, [])) == 3


def test_linked_entries_are_followed(toys, tmp_path_factory):
    real, linked = tmp_path_factory.mktemp("real"), tmp_path_factory.mktemp("linked")
    toys.write(real, {"labels/died.csv": toys.labels + ROWS, "ehr.csv": toys.events + "A,2020-01-01T00:00,HR,1\n"})
    for entry in real.iterdir():
        (linked / entry.name).symlink_to(entry)
    cohort = open_cohort(linked, [toys.ehr])
    assert cohort.records("ehr", cohort.samples)[0].table.num_rows == 1


def test_zoned_times_become_utc_everywhere(toys, tmp_path):
    files = {
        "labels/died.csv": toys.labels + "A,2020-01-01T12:00:00+02:00,\n",
        "ehr.csv": toys.events + "A,2020-01-01T10:00:00Z,HR,1\nA,2020-01-01T10:00:01Z,HR,2\n",
    }
    cohort = open_cohort(toys.write(tmp_path, files), [toys.ehr])
    assert cohort.samples[0].prediction_time == datetime(2020, 1, 1, 10, tzinfo=UTC)
    assert cohort.records("ehr", cohort.samples)[0].table["numeric_value"].to_pylist() == [1.0]


def test_facts_about_subjects_travel_with_the_records(toys, tmp_path):
    subjects = "subject_id,sex,age_years,site,height_cm,code\nA,F,64,north,,007\nC,M,50,south,180,x1\n"
    files = {"labels/died.csv": toys.labels + ROWS, "subjects.csv": subjects}
    cohort = open_cohort(toys.write(tmp_path, files), [toys.ehr])
    expected = {"sex": "F", "age_years": 64.0, "site": "north", "height_cm": None, "code": "007"}
    assert cohort.subjects["A"] == expected
    assert cohort.records("ehr", cohort.samples)[0].subject == expected
    assert cohort.subjects["B"] == dict.fromkeys(expected)
    assert set(cohort.subjects) == {"A", "B"}
    (unknown,) = [problem for problem in cohort.problems if problem.code == "unknown-subjects"]
    assert unknown.got.startswith("1 ")


def test_a_birth_date_becomes_the_age_at_the_prediction(toys, tmp_path):
    subjects = "subject_id,sex,birth_date\nA,F,1950-01-01\nB,M,2021-05-05\n"
    files = {"labels/died.csv": toys.labels + ROWS, "subjects.csv": subjects}
    cohort = open_cohort(toys.write(tmp_path, files), [])
    first, second, unborn = (cohort.facts(sample) for sample in cohort.samples)
    assert "birth_date" not in first
    assert first["age_years"] == pytest.approx((date(2020, 1, 1) - date(1950, 1, 1)).days / 365.25)
    assert (second["age_years"] - first["age_years"]) * 365.25 == pytest.approx(2)
    assert unborn["age_years"] is None
    assert [(problem.code, problem.subject_id) for problem in cohort.problems if problem.field == "birth_date"] == [
        ("bad-birth-date", "B")
    ]


@given(
    birth=st.dates(date(1900, 1, 1), date(2019, 1, 1)), moment=st.datetimes(datetime(2019, 1, 2), datetime(2029, 1, 1))
)
def test_an_age_is_within_a_day_of_the_calendar_age(birth, moment):
    age = Subjects({"A": {}}, {"A": birth}).as_of("A", moment)["age_years"]
    years = moment.year - birth.year - ((moment.month, moment.day) < (birth.month, birth.day))
    assert years - 2 / 365.25 <= age < years + 1 + 2 / 365.25


@settings(max_examples=40, deadline=None)
@given(
    outcomes=st.lists(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=3), min_size=4, max_size=30),
    seed=st.integers(0, 99),
    fraction=st.floats(0.1, 0.9),
)
def test_a_split_keeps_patients_together_and_both_kinds_of_patients_on_both_sides(
    toys, tmp_path_factory, outcomes, seed, fraction
):
    rows = "".join(
        f"P{patient},2020-01-0{day + 1}T00:00:00,{'' if event is None else event}\n"
        for patient, days in enumerate(outcomes)
        for day, event in enumerate(days)
    )
    cohort = open_cohort(toys.write(tmp_path_factory.mktemp("c"), {"labels/died.csv": toys.labels + rows}), [])
    try:
        train, test = cohort.split(seed, fraction)
    except DataError:
        kinds = [True if True in days else (False if False in days else None) for days in outcomes]
        assert max(kinds.count(kind) for kind in (True, False, None)) < 2
        return
    assert sorted(train.samples + test.samples) == list(cohort.samples)
    assert not set(train.subjects) & set(test.subjects)
    ever = {f"P{patient}" for patient, days in enumerate(outcomes) if True in days}
    if len(ever) > 1:
        assert ever & set(train.subjects)
        assert ever & set(test.subjects)
    assert train.samples == cohort.split(seed, fraction)[0].samples


def test_a_split_has_the_fraction_that_was_asked_for(toys, tmp_path):
    rows = "".join(f"P{patient},2020-01-01T00:00:00,{patient < 20}\n" for patient in range(100))
    train, test = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + rows}), []).split(1)
    assert (len(train), len(test)) == (75, 25)
    assert sum(bool(sample.event) for sample in test.samples) == 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        train.split(1, 1.5)


def test_one_class_is_no_problem_until_something_is_to_be_learnt(toys, tmp_path):
    cohort = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + ROWS}), [])
    require_two_classes(cohort)
    rows = "A,2020-01-01T00:00:00,\nB,2020-01-01T00:00:00,False\n"
    blind = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + rows}), [])
    assert blind.problems == []
    with pytest.raises(DataError, match="0 with the event, 1 without, 1 empty"):
        require_two_classes(blind)


def test_a_sample_is_the_same_with_and_without_its_outcome(toys, tmp_path):
    cohort = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + ROWS}), [toys.ehr])
    blind = [Sample(sample.subject_id, sample.prediction_time) for sample in cohort.samples]
    assert len(cohort.records("ehr", blind)) == 3
