"""The firewall: whoever asks, whatever the data, nothing later than the prediction time gets out."""

from datetime import datetime, timedelta
from types import ModuleType

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.cohort import open_cohort
from medfusion.cohort.firewall import AsOfIndex
from medfusion.core.errors import FirewallBreach
from medfusion.core.types import Records, Sample

START = datetime(2020, 1, 1)
MOMENTS = st.integers(-3, 40).map(lambda hours: START + timedelta(hours=hours))
SUBJECTS = st.sampled_from(["A", "B", "C", "AA", "\u00e4"])
EVENTS = st.lists(st.tuples(SUBJECTS, MOMENTS), max_size=40)


def table_of(events):
    return pa.table(
        {
            "row": list(range(len(events))),
            "subject_id": pa.array([subject for subject, _ in events], pa.string()),
            "time": pa.array([time for _, time in events], pa.timestamp("us")),
        }
    )


@given(events=EVENTS, subject=SUBJECTS, moment=MOMENTS)
def test_a_slice_has_exactly_the_rows_of_the_subject_up_to_the_moment_in_order_of_time(events, subject, moment):
    slice_ = AsOfIndex(table_of(events)).as_of(subject, moment)
    rows = [(time, row) for row, (who, time) in enumerate(events) if who == subject and time <= moment]
    assert list(zip(slice_["time"].to_pylist(), slice_["row"].to_pylist(), strict=True)) == sorted(rows)


@settings(max_examples=40, deadline=None)
@given(
    events=EVENTS,
    questions=st.sets(st.tuples(SUBJECTS, MOMENTS), min_size=1, max_size=8),
    zone=st.sampled_from(["", "Z"]),
)
def test_records_of_a_cohort_on_disk_are_exactly_what_was_known(toys, tmp_path_factory, events, questions, zone):
    rows = "".join(f"{who},{time.isoformat()}{zone},HR,{row}\n" for row, (who, time) in enumerate(events))
    labels = "".join(f"{who},{time.isoformat()}{zone},\n" for who, time in questions)
    root = tmp_path_factory.mktemp("cohort")
    toys.write(root, {"labels/died.csv": toys.labels + labels, "ehr.csv": toys.events + rows})
    cohort = open_cohort(root, [toys.ehr])
    for records in cohort.records("ehr", cohort.samples):
        moment = records.as_of.replace(tzinfo=None)
        known = {row for row, (who, time) in enumerate(events) if who == records.subject_id and time <= moment}
        shown = records.table["numeric_value"].to_pylist() if records.table.num_rows else []
        assert set(shown) == known
        assert len(shown) == len(known)


@pytest.fixture
def cohort(toys, tmp_path):
    files = {
        "labels/died.csv": toys.labels + "A,2020-01-02T00:00:00,True\nB,2020-01-02T00:00:00,True\n",
        "ehr.csv": toys.events
        + "A,2020-01-01T10:00:00,HR,80\nA,2020-01-05T10:00:00,HR,0\nB,2020-01-01T00:00:00,HR,70\n",
    }
    return open_cohort(toys.write(tmp_path, files), [toys.ehr, toys.notes])


def test_a_sample_with_a_later_prediction_time_is_no_way_around(cohort):
    later = Sample("A", datetime(2030, 1, 1), True)
    with pytest.raises(FirewallBreach, match="A at 2030-01-01T00:00:00 is no sample of this cohort"):
        cohort.records("ehr", [later])


def test_records_that_are_too_late_cannot_be_made_by_hand():
    late = table_of([("A", START + timedelta(microseconds=1))])
    with pytest.raises(FirewallBreach, match="subject A"):
        Records("A", START, late)


def test_a_part_of_a_split_cannot_read_patients_of_the_other(cohort):
    train, test = cohort.split(seed=0, test_fraction=0.5)
    with pytest.raises(FirewallBreach, match="no sample of this cohort"):
        train.records("ehr", test.samples)


def test_no_public_attribute_leads_to_rows_that_are_later(cohort):
    seen, todo = set(), [cohort]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | str | int | float):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, pa.Table | pa.ChunkedArray | AsOfIndex)
        if isinstance(thing, dict | list | tuple):
            todo.extend(thing.values() if isinstance(thing, dict) else thing)
        elif type(thing).__module__.startswith("medfusion"):
            names = [name for name in dir(thing) if not name.startswith("_")]
            todo.extend(value for name in names if not callable(value := getattr(thing, name)))
    assert len(seen) > 5


def test_a_modality_that_the_folder_has_nothing_of_gives_empty_records(cohort):
    assert cohort.modalities == ("ehr",)
    (records, _) = cohort.records("notes", cohort.samples)
    assert records.table.num_rows == 0
    assert records.subject_id == "A"


def test_a_modality_that_was_not_opened_is_a_key_error(cohort):
    with pytest.raises(KeyError, match="imaging"):
        cohort.records("imaging", cohort.samples)


def test_slices_share_memory_with_the_index(cohort):
    first, second = (cohort.records("ehr", cohort.samples)[0].table["time"].chunk(0).buffers()[1] for _ in range(2))
    assert first.address == second.address


def test_rows_without_a_time_are_left_out_and_told(toys, tmp_path):
    class Careless:
        name = "careless"

        def index(self, folder):
            times = pa.array([None, START], pa.timestamp("us"))
            return pa.table({"subject_id": ["A", "A"], "time": times})

    files = {"labels/died.csv": toys.labels + "A,2020-01-02T00:00:00,\n"}
    cohort = open_cohort(toys.write(tmp_path, files), [Careless()])
    assert cohort.records("careless", cohort.samples)[0].table.num_rows == 1
    assert [problem.code for problem in cohort.problems] == ["no-time"]
