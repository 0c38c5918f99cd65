"""Both real cohorts are read whole, fast, and in agreement with pandas."""

import time

import numpy as np
import pandas as pd
import pytest

from medfusion.cohort import open_cohort, require_two_classes

pytestmark = pytest.mark.shared


def test_slicing_four_thousand_icu_stays_takes_well_under_a_second(toys, shared):
    cohort = open_cohort(shared / "cohorts" / "icu-mortality", [toys.ehr])
    assert len(cohort) == 3996
    require_two_classes(cohort)
    start = time.perf_counter()
    records = cohort.records("ehr", cohort.samples)
    assert time.perf_counter() - start < 0.8
    assert sum(one.table.num_rows for one in records) == 1_737_629
    assert {(problem.severity, problem.code) for problem in cohort.problems} == {("warning", "bad-age")}
    assert cohort.units["Lactate"] == "mmol/L"
    assert np.mean([sample.event for sample in cohort.samples]) == pytest.approx(0.139, abs=0.001)


@pytest.mark.parametrize(("task", "n", "patients"), [("icu", 194, 90), ("covid", 375, 223)])
def test_records_of_the_films_cohort_are_what_pandas_selects(toys, shared, task, n, patients):
    root = shared / "cohorts" / "covid-cxr"
    cohort = open_cohort(root, [toys.ehr, toys.notes], task)
    assert (len(cohort), len(cohort.subjects)) == (n, patients)
    assert all(problem.severity == "warning" for problem in cohort.problems)
    for name in ("ehr", "notes"):
        frame = pd.read_csv(root / f"{name}.csv", parse_dates=["time"])
        for sample, records in zip(cohort.samples, cohort.records(name, cohort.samples), strict=True):
            of_subject = frame[frame.subject_id == sample.subject_id]
            expected = of_subject.index[of_subject.time <= sample.prediction_time] + 1
            shown = records.table["row"].to_pylist() if records.table.num_rows else []
            assert sorted(shown) == sorted(expected)


def test_opening_a_cohort_by_its_parts_through_links_gives_the_same(toys, shared, tmp_path):
    root = shared / "cohorts" / "covid-cxr"
    for entry in root.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    direct, linked = (open_cohort(folder, [toys.ehr], "icu") for folder in (root, tmp_path))
    assert direct.samples == linked.samples
    assert direct.problems == linked.problems
