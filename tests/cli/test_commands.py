"""What the commands print and write, and what they return."""

import json
import math
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from scipy.special import expit

from medfusion import __version__

SCHEMAS = Path(__file__).resolve().parents[2] / "data_schemas"
COMMANDS = [
    "demo",
    "validate",
    "compare",
    "train",
    "deidentify",
    "evaluate",
    "recalibrate",
    "drift",
    "reproduce",
    "score",
    "explain",
]
MODALITIES = ["ehr", "imaging", "notes"]


def rows(path):
    """Return the rows of a Parquet file as JSON values."""
    for row in pq.read_table(path).to_pylist():
        yield {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def write_notes(folder, at="2024-01-02T09:00:00"):
    """Write 30 patients of whom there are notes alone."""
    folder.mkdir()
    (folder / "cohort.toml").write_text('[tasks.died]\nlabels = "labels.csv"\n', encoding="utf-8")
    asked = [f"P{number},{at},{number % 3 == 0}" for number in range(30)]
    said = [
        f"P{number},2024-01-01T09:00:00,admission,{'Confused.' if number % 3 == 0 else 'Well.'} Bed {number % 5}."
        for number in range(30)
    ]
    for name, header, lines in (
        ("labels.csv", "subject_id,prediction_time,boolean_value", asked),
        ("notes.csv", "subject_id,time,note_type,text", said),
    ):
        (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_notes(tmp_path_factory.mktemp("notes") / "cohort")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example(medfusion, command):
    done = medfusion(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: medfusion {command}" in " ".join(done.out.split())


def test_the_help_lists_all_commands_and_says_what_this_is_not(medfusion):
    done = medfusion("--help")
    assert done.code == 0
    assert all(f" {command} " in done.out for command in COMMANDS)
    assert "Not a medical device" in done.out


def test_the_version_is_told(medfusion):
    assert medfusion("--version").out.strip() == f"medfusion {__version__}"


def test_it_runs_as_a_module_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "medfusion.cli", "validate", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cohort.toml: file is 'No such file or directory'" in done.stdout
    assert "Traceback" not in done.stderr


def test_training_prints_a_line_per_contender_and_writes_a_model(medfusion, cohort, tmp_path):
    done = medfusion("train", cohort, "--out", tmp_path / "model", "--only", "notes", "--no-cache")
    assert (done.code, done.err) == (0, "")
    assert "notes" in done.out
    assert "Out of fold, by patient" in done.out
    assert (tmp_path / "model" / "card.json").is_file()


def test_training_tells_a_program_the_same_figures_that_it_writes(medfusion, cohort, tmp_path):
    done = medfusion("train", cohort, "--out", tmp_path / "model", "--only", "notes", "--json", "--no-cache")
    card = json.loads((tmp_path / "model" / "card.json").read_text(encoding="utf-8"))
    assert json.loads(done.out) == card["cross_validated"]


def test_a_cohort_without_a_fault_is_valid(medfusion, tmp_path):
    (tmp_path / "cohort.toml").write_text('[tasks.died]\nlabels = "labels.csv"\n', encoding="utf-8")
    labels = [f"P{number},2024-01-02T09:00:00,{number % 2 == 0}" for number in range(10)]
    values = [f"P{number},2024-01-01T09:00:00,heart_rate,{70 + 7 * number % 30},/min" for number in range(10)]
    for name, header, lines in (
        ("labels.csv", "subject_id,prediction_time,boolean_value", labels),
        ("ehr.csv", "subject_id,time,code,numeric_value,unit", values),
    ):
        (tmp_path / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    done = medfusion("validate", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("0 errors, 0 warnings in ")
    assert medfusion("validate", tmp_path, "--json").out == "[]\n"


def test_a_synthetic_cohort_has_no_errors_and_nothing_that_looks_like_a_leak_by_name(medfusion, synthetic, cache):
    done = medfusion("validate", synthetic.folder, "--json", "--cache", cache)
    problems = json.loads(done.out)
    assert done.code == 1
    assert {problem["severity"] for problem in problems} == {"warning"}
    assert {"late-records", "no-data"} <= {problem["code"] for problem in problems}
    assert "leak-label-word" not in {problem["code"] for problem in problems}


def test_an_evaluation_prints_figures_and_writes_a_page(medfusion, trained, new_patients, cache, tmp_path):
    done = medfusion("evaluate", trained.folder, new_patients.folder, "--out", tmp_path, "--json", "--cache", cache)
    assert (done.code, done.err) == (0, "")
    figures = json.loads(done.out)
    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert written["seen_in_training"] == 0
    assert {key: written[key] for key in figures} == figures
    assert (tmp_path / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


@pytest.fixture(scope="module")
def scores(medfusion, trained, new_patients, cache, tmp_path_factory):
    """Return what scoring the new patients printed and wrote."""
    out = tmp_path_factory.mktemp("scores")
    return medfusion("score", trained.folder, new_patients.folder, "--out", out, "--cache", cache), out


def test_scoring_counts_what_it_did_and_writes_three_tables(scores, new_patients):
    done, out = scores
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{len(new_patients.truth.table)} samples scored, 0 quarantined: ")
    assert sorted(path.name for path in out.iterdir()) == [
        ".state",
        "ledger.parquet",
        "log.jsonl",
        "predictions.parquet",
        "quarantine.parquet",
        "run.json",
    ]


@pytest.mark.parametrize("name", ["predictions", "ledger", "quarantine"])
def test_every_row_that_scoring_writes_matches_its_published_schema(scores, name):
    validator = Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")))
    for row in rows(scores[1] / f"{name}.parquet"):
        validator.validate(row)


def test_predictions_have_the_columns_that_were_agreed(scores):
    names = pq.read_table(scores[1] / "predictions.parquet").schema.names
    shares = [f"{kind}_{name}" for name in MODALITIES for kind in ("share", "present")]
    assert names[:7] == [
        "subject_id",
        "prediction_time",
        "risk",
        "risk_low",
        "risk_high",
        "logit",
        "base_logit",
    ]
    assert {*shares, "findings", "model_id"} <= set(names)
    assert pq.read_table(scores[1] / "ledger.parquet").schema.names[:6] == [
        "subject_id",
        "prediction_time",
        "modality",
        "feature",
        "value",
        "share",
    ]
    assert pq.read_table(scores[1] / "quarantine.parquet").schema.names[:5] == [
        "subject_id",
        "path",
        "code",
        "detail",
        "remedy",
    ]


def test_every_prediction_is_a_sum_and_every_share_a_sum_of_lines(scores):
    lines = {}
    for row in rows(scores[1] / "ledger.parquet"):
        lines.setdefault((row["subject_id"], row["prediction_time"], row["modality"]), []).append(row["share"])
    for row in rows(scores[1] / "predictions.parquet"):
        total = row["base_logit"] + math.fsum(row[f"share_{name}"] for name in MODALITIES)
        assert total == pytest.approx(row["logit"], abs=1e-6)
        assert row["risk"] == pytest.approx(expit(row["logit"]), abs=1e-12)
        assert row["risk_low"] < row["risk"] < row["risk_high"]
        for name in MODALITIES:
            mine = lines.pop((row["subject_id"], row["prediction_time"], name), [])
            assert bool(mine) == row[f"present_{name}"]
            assert math.fsum(mine) == pytest.approx(row[f"share_{name}"], abs=1e-6)
            if not mine:
                assert row[f"share_{name}"] == 0.0
                assert f"no-{name}" in row["findings"] or row["findings"] == "no-data"
    assert lines == {}


def test_every_sample_of_the_cohort_is_scored_once(scores, new_patients):
    found = [(row["subject_id"], row["prediction_time"]) for row in rows(scores[1] / "predictions.parquet")]
    asked = new_patients.truth.table
    assert sorted(found) == sorted(
        (who, when.isoformat()) for who, when in zip(asked["subject_id"], asked["prediction_time"], strict=True)
    )


def test_the_ledger_may_be_left_out_and_a_program_gets_the_counts(medfusion, trained, new_patients, cache, tmp_path):
    words = ["score", trained.folder, new_patients.folder, "--out", tmp_path, "--no-ledger", "--json", "--cache", cache]
    done = medfusion(*words)
    said = json.loads(done.out)
    assert said.pop("seconds") > 0
    counts = {"scored": len(new_patients.truth.table), "unchanged": 0, "failed": 0, "quarantined": 0}
    assert said == {**counts, "codes": {}, "out": str(tmp_path)}
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["predictions.parquet", "quarantine.parquet"]


def test_an_explanation_adds_up_and_is_that_of_the_score(medfusion, scores, trained, new_patients, cache):
    row = next(row for row in rows(scores[1] / "predictions.parquet") if all(row[f"present_{m}"] for m in MODALITIES))
    words = ["explain", trained.folder, new_patients.folder, "--subject", row["subject_id"], "--cache", cache]
    done = medfusion(*words, "--at", row["prediction_time"], "--json")
    ledger = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert ledger["risk"] == pytest.approx(row["risk"], abs=1e-6)
    total = ledger["base_logit"] + math.fsum(part["share"] for part in ledger["modalities"])
    assert total == pytest.approx(ledger["logit"], abs=1e-6)
    for part in ledger["modalities"]:
        assert math.fsum(line["share"] for line in part["features"]) == pytest.approx(part["share"], abs=1e-6)
    assert not ledger["seen_in_training"]


def test_an_explanation_is_printed_and_written_as_a_page(medfusion, trained, new_patients, cache, tmp_path):
    subject = new_patients.truth.table["subject_id"].iloc[0]
    words = ["explain", trained.folder, new_patients.folder, "--subject", subject, "--cache", cache]
    done = medfusion(*words, "--html", tmp_path / "page.html", "--figure", tmp_path / "sum.svg")
    assert (done.code, done.err) == (0, "")
    assert f"subject {subject}" in done.out
    assert "add up" in done.out
    assert "Research use only" in done.out
    assert subject in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "sum.svg").read_text(encoding="utf-8")


def test_the_prediction_time_that_a_date_stands_for_can_be_asked_for(medfusion, tmp_path):
    folder, model = write_notes(tmp_path / "dated", at="2024-01-02"), tmp_path / "model"
    assert medfusion("train", folder, "--out", model).code == 0
    latest = "2024-01-02T23:59:59.999999"
    done = medfusion("explain", model, folder, "--subject", "P1", "--at", latest, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["prediction_time"] == latest
    done = medfusion("explain", model, folder, "--subject", "P1", "--at", "2024-01-02")
    assert done.code == 2
    assert f"there are: {latest}" in done.err


def test_scoring_twice_gives_the_same_predictions(medfusion, scores, trained, new_patients, cache, tmp_path):
    medfusion("score", trained.folder, new_patients.folder, "--out", tmp_path, "--no-ledger", "--cache", cache)
    first, second = (pq.read_table(folder / "predictions.parquet") for folder in (scores[1], tmp_path))
    np.testing.assert_array_equal(first["logit"], second["logit"])


def test_a_cohort_is_deidentified_with_a_key_that_is_made_once(medfusion, cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    first = medfusion("deidentify", cohort, "--out", tmp_path / "first", "--json")
    assert first.code == 0
    assert "a new key was written to" in first.err
    assert json.loads(first.out)["tables"]["notes"]["cells"]["subject"] == 30
    second = medfusion("deidentify", cohort, "--out", tmp_path / "second")
    assert (second.code, second.err) == (0, "")
    assert "subject cells changed" in second.out
    texts = [(tmp_path / name / "notes.csv").read_text(encoding="utf-8") for name in ("first", "second")]
    assert texts[0] == texts[1]
    assert "P17" not in texts[0]
    (key,) = (tmp_path / "config" / "medfusion").iterdir()
    assert key.stat().st_mode & 0o077 == 0
    other = medfusion("deidentify", cohort, "--out", tmp_path / "other", "--key", tmp_path / "other.key")
    assert other.code == 0
    assert (tmp_path / "other" / "notes.csv").read_text(encoding="utf-8") != texts[0]


def test_what_deidentification_holds_back_is_named_and_is_exit_code_1(medfusion, cohort, tmp_path):
    copy = shutil.copytree(cohort, tmp_path / "cohort")
    (copy / "imaging").mkdir()
    (copy / "imaging" / "photo.dcm").write_bytes(b"no image")
    done = medfusion("deidentify", copy, "--out", tmp_path / "out", "--key", tmp_path / "key")
    assert done.code == 1
    assert "imaging/photo.dcm" in done.err
    assert not list((tmp_path / "out").glob("imaging/*"))


def test_deidentification_into_a_folder_that_is_not_empty_is_wrong_usage(medfusion, cohort, tmp_path):
    (tmp_path / "there").write_text("mine", encoding="utf-8")
    done = medfusion("deidentify", cohort, "--out", tmp_path, "--key", tmp_path / "key")
    assert done.code == 2
    assert "not an empty folder" in done.err
