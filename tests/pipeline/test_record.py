"""The record of a run: what it was made of, told without telling of whom."""

import json
import platform
import shutil
import subprocess
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.cohort import open_cohort
from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.core.errors import Problem, shortened
from medfusion.core.folds import Patients, patient_folds
from medfusion.evaluation.evaluate import evaluate
from medfusion.pipeline.data import build_modalities
from medfusion.pipeline.record import SMALLEST_GROUP, data_hashes, environment, fold_digest, run_record

RUN = {"settings": {"notes": {}}, "fusion": "late", "folds": 3, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a cohort of 24 patients with films, events and notes."""
    folder = tmp_path_factory.mktemp("record") / "cohort"
    write_synthetic_cohort(folder, subjects=24, seed=3)
    return folder


@pytest.fixture(scope="module")
def modalities():
    return build_modalities({"imaging": {"backbone": "filters"}}, None)


def opened(folder, modalities):
    return open_cohort(folder, list(modalities.values())).labelled()


def patients_of(cohort):
    ids = np.array([sample.subject_id for sample in cohort.samples])
    events = np.array([bool(sample.event) for sample in cohort.samples])
    return Patients(ids, events, patient_folds(ids.tolist(), events, 3, 0))


def recorded(folder, modalities, **changes):
    cohort = opened(folder, modalities)
    cohort.problems.extend(changes.pop("problems", []))
    patients = patients_of(cohort)
    present = {"ehr": np.ones(len(cohort), bool), "notes": np.arange(len(cohort)) > 0}
    matrix = np.column_stack(list(present.values()))
    risks = np.linspace(0.1, 0.9, len(cohort))
    results = {"fused": evaluate(patients.events, risks, patients.subject_ids.tolist(), matrix, list(present), 0, 20)}
    arguments = {
        "parameters": {**RUN, "task": None, "only": ("ehr", "notes")},
        "results": results,
        "chosen": {"weights": {"ehr": 0.5, "notes": 0.25}},
    }
    return run_record(cohort, folder, modalities, patients, present, **{**arguments, **changes})


@pytest.fixture(scope="module")
def record(folder, modalities):
    return recorded(folder, modalities)


@pytest.fixture
def copied(folder, tmp_path):
    """Return a copy of the cohort, to be changed."""
    return shutil.copytree(folder, tmp_path / "cohort")


def films(folder):
    """Return the films of the cohort that a sample may see, in the order of their names."""
    return sorted(folder.glob("imaging/*/*/*.dcm"))


def test_a_record_is_json_and_nothing_is_lost_in_it(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_record_names_no_patient_no_film_and_no_machine(record, folder):
    text = json.dumps(record)
    subjects = pd.read_csv(folder / "subjects.csv")["subject_id"]
    assert not [who for who in subjects if who in text]
    assert "imaging/" not in text
    assert str(folder) not in text
    assert platform.node() not in text


def test_counts_are_those_of_the_tables(record, folder):
    labels = pd.read_csv(folder / "labels/deterioration.csv")
    subjects = pd.read_csv(folder / "subjects.csv")
    events = labels["boolean_value"].astype(bool)
    assert record["samples"] == len(labels)
    assert record["patients"] == labels["subject_id"].nunique() == 24
    assert record["events"] == events.sum()
    assert record["patients_with_event"] == labels["subject_id"][events].nunique()
    days = labels["prediction_time"].str[:10]
    assert record["prediction_times"] == {"first": days.min(), "last": days.max()}
    assert record["modalities"]["ehr"]["samples"] == len(labels)
    assert record["modalities"]["notes"]["samples"] == len(labels) - 1
    age = record["subjects"]["age_years"]
    assert [age["q1"], age["median"], age["q3"]] == subjects["age_years"].quantile([0.25, 0.5, 0.75]).round(1).tolist()
    assert record["subjects"]["sex"] == Counter(subjects["sex"])
    assert record["subjects"]["sites"] == subjects["site"].nunique()


def test_every_sample_patient_and_event_is_in_one_fold(record):
    for what in ("samples", "patients", "events"):
        assert sum(fold[what] for fold in record["by_fold"]) == record[what]
    assert record["folds"] == len(record["by_fold"]) == 3


def test_groups_of_few_patients_are_not_told(copied, modalities):
    table = pd.read_csv(copied / "subjects.csv", dtype=str)
    table["sex"] = ["rare"] * (SMALLEST_GROUP - 1) + [None] * 2 + ["F"] * SMALLEST_GROUP + ["M"] * (13)
    table.to_csv(copied / "subjects.csv", index=False)
    assert recorded(copied, modalities)["subjects"]["sex"] == {"F": 5, "M": 13, "other or unknown": 6}
    (copied / "subjects.csv").unlink()
    assert recorded(copied, modalities)["subjects"] == {}


def test_what_was_left_out_is_counted_also_where_it_was_not_told_one_by_one(folder, modalities):
    bad = Problem("bad-time", "ehr.csv", "row 1", "time", "x", "ISO 8601", "correct it")
    remark = Problem("bad-age", "subjects.csv", "", "age_years", "200", "0 to 130", "correct it", "warning")
    record = recorded(folder, modalities, problems=[*shortened([bad] * 40), remark])
    before = recorded(folder, modalities)
    assert record["left_out"] == before["left_out"] + 40
    assert record["left_out_by_code"] == {**before["left_out_by_code"], "bad-time": 40}
    assert record["noticed_by_code"] == {**before["noticed_by_code"], "bad-age": 1}


def test_the_parameters_are_what_repeats_the_run(record):
    assert record["parameters"] == {**RUN, "task": "deterioration", "only": ["ehr", "notes"]}
    assert record["cross_validated"]["fused"]["n"] == record["samples"]
    assert record["chosen"] == {"weights": {"ehr": 0.5, "notes": 0.25}}


def test_tables_have_the_digests_that_sha256sum_gives(record, folder):
    names = ["cohort.toml", "labels/deterioration.csv", "subjects.csv", "ehr.csv", "notes.csv"]
    if (program := shutil.which("sha256sum")) is None:
        pytest.skip("needs sha256sum")
    done = subprocess.run([program, *names], cwd=folder, capture_output=True, text=True, check=True)
    assert record["data"]["tables"] == {
        name: digest for digest, name in (line.split(maxsplit=1) for line in done.stdout.splitlines())
    }


def test_films_are_counted_and_measured_by_what_samples_can_see(record, folder, copied, modalities):
    known = record["data"]["files"]
    assert set(known) == {"imaging"}
    sizes = sorted(film.stat().st_size for film in films(folder))
    assert 0 < known["imaging"]["count"] <= len(sizes)
    assert known["imaging"]["bytes"] <= sum(sizes)
    # A film of somebody without a label takes no part.
    labels = pd.read_csv(copied / "labels/deterioration.csv", dtype=str)
    labels[labels["subject_id"] != films(copied)[0].parent.name].to_csv(
        copied / "labels/deterioration.csv", index=False
    )
    assert (
        data_hashes(opened(copied, modalities), copied, modalities)["files"]["imaging"]["count"]
        < known["imaging"]["count"]
    )


@pytest.mark.parametrize("change", ["byte", "name"])
def test_a_changed_film_changes_its_digest_and_nothing_else(change, copied, modalities):
    before = data_hashes(opened(copied, modalities), copied, modalities)
    film = films(copied)[0]
    if change == "byte":
        content = bytearray(film.read_bytes())
        content[-1] ^= 1
        film.write_bytes(content)
    else:
        film.rename(film.with_name("renamed.dcm"))
    after = data_hashes(opened(copied, modalities), copied, modalities)
    assert after["tables"] == before["tables"]
    assert after["files"]["imaging"]["sha256"] != before["files"]["imaging"]["sha256"]
    assert after["files"]["imaging"]["count"] == before["files"]["imaging"]["count"]


def test_a_changed_table_changes_its_digest_and_nothing_else(copied, modalities):
    before = data_hashes(opened(copied, modalities), copied, modalities)
    with (copied / "notes.csv").open("a") as file:
        file.write("\n")
    (copied / "README.md").write_text("not read by any run")
    after = data_hashes(opened(copied, modalities), copied, modalities)
    assert {name for name in after["tables"] if after["tables"][name] != before["tables"].get(name)} == {"notes.csv"}
    assert after["files"] == before["files"]


def test_only_what_the_modalities_read_is_hashed(folder, modalities):
    notes = {"notes": modalities["notes"]}
    hashes = data_hashes(opened(folder, notes), folder, notes)
    assert set(hashes["tables"]) == {"cohort.toml", "labels/deterioration.csv", "subjects.csv", "notes.csv"}
    assert hashes["files"] == {}


def test_the_environment_names_what_is_installed():
    known = environment()
    assert known["versions"]["numpy"] == np.__version__
    assert known["versions"]["pandas"] == pd.__version__
    assert None not in known["versions"].values()
    assert known["system"]["processors"] >= 1


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 4), min_size=2), st.randoms())
def test_the_digest_of_folds_follows_the_patients_whatever_the_order_of_rows(folds, random):
    rows = [(who, fold) for who, fold in folds.items() for _ in range(random.randint(1, 3))]

    def digest(rows):
        ids, numbers = zip(*rows, strict=True)
        return fold_digest(Patients(np.array(ids, object), np.zeros(len(ids), bool), np.array(numbers)))

    shuffled = random.sample(rows, len(rows))
    assert digest(shuffled) == digest(rows)
    who = rows[0][0]
    assert digest([(name, (fold + 1) % 5 if name == who else fold) for name, fold in rows]) != digest(rows)
