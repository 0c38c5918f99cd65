"""Three mistakes that have been published, made again by hand, and shown to be impossible here.

Each test first does what the published code did, and shows that it goes wrong on the data of the test.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from medfusion.cohort import open_cohort
from medfusion.core.errors import FirewallBreach
from medfusion.core.folds import patient_folds
from medfusion.core.types import Sample


def test_a_list_of_images_by_patient_does_not_let_a_later_film_in(toys, tmp_path):
    files = {
        "labels/died.csv": toys.labels + "P1,2020-03-02T08:00:00,True\nP1,2020-03-06T08:00:00,True\n",
        "imaging.csv": "subject_id,time,path\n"
        "P1,2020-03-05T12:00:00,ventilated.dcm\n"
        "P1,2020-03-01T12:00:00,admission.dcm\n",
    }
    toys.write(tmp_path, files)
    labels, films = (pd.read_csv(tmp_path / name) for name in files)
    by_patient = labels.merge(films, on="subject_id")
    assert "ventilated.dcm" in by_patient[by_patient.prediction_time.str.startswith("2020-03-02")].path.to_list()

    cohort = open_cohort(tmp_path, [toys.films])
    early, late = cohort.records("imaging", cohort.samples)
    assert early.table["path"].to_pylist() == ["admission.dcm"]
    assert late.table["path"].to_pylist() == ["admission.dcm", "ventilated.dcm"]
    with pytest.raises(FirewallBreach):
        cohort.records("imaging", [Sample("P1", pd.Timestamp("2020-03-05T12:00:00").to_pydatetime(), True)])


def test_splitting_by_stay_cannot_put_one_patient_on_both_sides(toys, tmp_path):
    generator = np.random.default_rng(0)
    stays = [
        (f"P{patient}", f"2020-01-{day + 1:02d}T00:00:00", bool(generator.random() < 0.3))
        for patient in range(40)
        for day in range(3)
    ]
    rows = "".join(f"{who},{when},{died}\n" for who, when, died in stays)
    cohort = open_cohort(toys.write(tmp_path, {"labels/died.csv": toys.labels + rows}), [])

    by_stay = train_test_split([who for who, _, _ in stays], test_size=0.25, random_state=0)
    assert set(by_stay[0]) & set(by_stay[1])

    patients = [sample.subject_id for sample in cohort.samples]
    events = np.array([sample.event for sample in cohort.samples])
    for seed in range(25):
        train, test = cohort.split(seed)
        assert not set(train.subjects) & set(test.subjects)
        assert len(train) + len(test) == len(cohort)
        folds = patient_folds(patients, events, 5, seed)
        assert len(set(zip(patients, folds, strict=True))) == 40


def test_events_after_the_observation_window_do_not_enter(toys, tmp_path):
    files = {
        "labels/died.csv": toys.labels + "P1,2020-01-03T00:00:00,True\n",
        "ehr.csv": toys.events
        + "P1,2020-01-01T06:00:00,lactate,2.0\n"
        + "P1,2020-01-03T00:00:00,lactate,4.0\n"
        + "P1,2020-01-03T00:00:01,lactate,9.0\n"
        + "P1,2020-01-03,palliative_care,1\n"
        + "P1,2020-01-09T06:00:00,comfort_measures,1\n",
    }
    toys.write(tmp_path, files)
    whole_stay = pd.read_csv(tmp_path / "ehr.csv").groupby("subject_id").numeric_value.max()
    assert whole_stay["P1"] == 9.0

    cohort = open_cohort(tmp_path, [toys.ehr])
    (records,) = cohort.records("ehr", cohort.samples)
    # The day without a clock may be the evening of the third: it is not known at its midnight.
    assert records.table["code"].to_pylist() == ["lactate", "lactate"]
    assert records.table["numeric_value"].to_pylist() == [2.0, 4.0]
    late = next(problem for problem in cohort.problems if problem.code == "late-records")
    assert late.got.startswith("3 ")
    assert late.severity == "warning"
