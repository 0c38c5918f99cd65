"""Scoring a cohort: equal to predicting it whole, resumed, incremental, and nothing lost."""

import errno
import json
import shutil
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_use import small

from medfusion.core.errors import DataError, RunStopped, UsageError
from medfusion.pipeline import Options, open_for_use, plan, score, train, watch
from medfusion.pipeline.data import silent
from medfusion.scoring import Journal, JsonLog, Textfile

KEY = ["subject_id", "prediction_time"]
TABLES = ("predictions", "ledger", "quarantine")


def read(out, name="predictions"):
    """Return all rows of a table but when they were made, sorted."""
    table = pd.read_parquet(out / f"{name}.parquet").drop(columns=["scored_at"], errors="ignore")
    return table.sort_values(list(table.columns), ignore_index=True)


def assert_equal(first, second):
    for name in TABLES:
        pd.testing.assert_frame_equal(read(first, name), read(second, name), check_exact=True)


@pytest.fixture
def fresh(new_patients, tmp_path):
    """Return a copy of the new patients that may be changed."""
    return shutil.copytree(new_patients.folder, tmp_path / "cohort")


@pytest.fixture(scope="module")
def whole(trained, new_patients, cache, tmp_path_factory):
    """Return the scores of new patients in small parts."""
    out = tmp_path_factory.mktemp("whole") / "scores"
    score(trained.folder, new_patients.folder, out, cache=cache, part_size=4)
    return out


def test_the_parts_together_say_what_the_model_says_of_the_whole(whole, trained, new_patients, cache):
    opened = open_for_use(trained.folder, new_patients.folder, cache)
    predictions, _ = opened.predict(opened.cohort.samples, silent)
    table = pd.read_parquet(whole / "predictions.parquet").sort_values(KEY)
    assert len(list((whole / "predictions.parquet").iterdir())) > 5
    asked = [(sample.subject_id, sample.prediction_time) for sample in opened.cohort.samples]
    assert list(zip(table["subject_id"], table["prediction_time"], strict=True)) == asked
    np.testing.assert_allclose(table["logit"], predictions.logit, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(table["present_imaging"], predictions.present[:, 1])
    assert table["input_hash"].str.fullmatch("[0-9a-f]{32}").all()
    assert table["input_hash"].is_unique


@pytest.mark.parametrize("part_size", [1, 1000])
def test_the_size_of_the_parts_changes_no_value(whole, trained, new_patients, cache, tmp_path, part_size):
    score(trained.folder, new_patients.folder, tmp_path, cache=cache, part_size=part_size)
    pd.testing.assert_frame_equal(read(whole), read(tmp_path), rtol=0, atol=1e-9)


def test_the_summary_accounts_for_every_row_of_the_labels(whole, new_patients):
    said = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    labels = pd.read_csv(new_patients.folder / "labels" / "deterioration.csv")
    assert said["label_rows"] == said["samples"] == said["scored"] == len(labels)
    assert said["unchanged"] == said["failed"] == said["left_out_rows"] == said["quarantined"] == 0
    events = [json.loads(line) for line in (whole / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["begins", "ends"]
    assert sum(event["scored"] for event in events if event["event"] == "part") == len(labels)
    patients = set(labels["subject_id"])
    assert not any(patient in line for patient in patients for line in (whole / "log.jsonl").read_text().splitlines())


def test_what_has_not_changed_is_not_scored_again(whole, trained, new_patients, cache, tmp_path):
    out = shutil.copytree(whole, tmp_path / "scores")
    before = {file: file.read_bytes() for name in TABLES for file in (out / f"{name}.parquet").iterdir()}
    again = score(trained.folder, new_patients.folder, out, cache=cache)
    assert (again.counts.scored, again.counts.unchanged) == (0, len(read(whole)))
    assert {file: file.read_bytes() for file in before} == before


def test_only_who_changed_is_scored_again_and_as_if_from_the_start(trained, fresh, cache, tmp_path):
    out = tmp_path / "scores"
    score(trained.folder, fresh, out, cache=cache, part_size=4)
    old = read(out)
    ehr = pd.read_csv(fresh / "ehr.csv", dtype=str)
    patient = ehr["subject_id"].iloc[0]
    first = ehr.index[(ehr["subject_id"] == patient) & (ehr["code"] == "heart_rate")][0]
    ehr.loc[first, "numeric_value"] = "171"
    ehr.to_csv(fresh / "ehr.csv", index=False)
    again = score(trained.folder, fresh, out, cache=cache)
    mine = old["subject_id"] == patient
    assert again.counts.scored == mine.sum()
    changed = read(out).merge(old, on="input_hash", how="left", indicator=True)
    assert set(changed.loc[changed["_merge"] == "left_only", "subject_id_x"]) == {patient}
    score(trained.folder, fresh, tmp_path / "anew", cache=cache, part_size=4)
    # Sums of other lengths are rounded otherwise.
    pd.testing.assert_frame_equal(read(out), read(tmp_path / "anew"), rtol=0, atol=1e-12)


def test_a_film_with_other_pixels_is_noticed_by_its_content_and_a_touched_one_is_not(trained, fresh, cache, tmp_path):
    out = tmp_path / "scores"
    score(trained.folder, fresh, out, cache=cache)
    films = sorted((fresh / "imaging").rglob("*.dcm"))
    films[0].touch()
    assert score(trained.folder, fresh, out, cache=cache).counts.scored == 0
    films[0].write_bytes(films[0].read_bytes().replace(b"\x00" * 8, b"\x01" * 8, 3))
    again = score(trained.folder, fresh, out, cache=cache)
    assert 0 < again.counts.scored <= 2


def test_who_leaves_the_labels_leaves_the_predictions(trained, fresh, cache, tmp_path):
    score(trained.folder, fresh, tmp_path / "scores", cache=cache)
    path = fresh / "labels" / "deterioration.csv"
    labels = pd.read_csv(path, dtype=str)
    gone = labels["subject_id"].iloc[0]
    labels[labels["subject_id"] != gone].to_csv(path, index=False)
    score(trained.folder, fresh, tmp_path / "scores", cache=cache)
    for name in TABLES:
        assert gone not in set(read(tmp_path / "scores", name)["subject_id"])


def test_another_model_or_other_options_score_everything_again(trained, fresh, cache, tmp_path):
    out = tmp_path / "scores"
    score(trained.folder, fresh, out, cache=cache)
    again = score(trained.folder, fresh, out, cache=cache, options=Options(lines=3))
    assert again.counts.unchanged == 0
    lines = read(out, "ledger").groupby([*KEY, "modality"]).size()
    assert lines.max() == 4


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(trained, fresh, cache, tmp_path):
    out = tmp_path / "scores"
    n = len(pd.read_csv(fresh / "labels" / "deterioration.csv"))
    first = plan(trained.folder, fresh, out, cache=cache, part_size=10)
    assert first == {"label_rows": n, "samples": n, "to_score": n, "unchanged": 0, "parts": -(-n // 10)}
    assert not out.exists()
    score(trained.folder, fresh, out, cache=cache, part_size=10)
    second = plan(trained.folder, fresh, out, cache=cache, part_size=99)
    assert (second["to_score"], second["unchanged"], second["parts"]) == (0, n, first["parts"])


def test_films_of_which_a_third_are_broken_cost_no_sample_and_are_all_in_quarantine(trained, fresh, cache, tmp_path):
    films = sorted((fresh / "imaging").rglob("*.dcm"))
    broken = films[::3]
    for number, film in enumerate(broken):
        data = film.read_bytes()
        film.write_bytes([data[: len(data) // 2], b"", b"no film at all", data[:200]][number % 4])
    told = score(trained.folder, fresh, tmp_path / "scores", cache=cache, part_size=5)
    labels = pd.read_csv(fresh / "labels" / "deterioration.csv")
    assert (told.scored, told.counts.failed) == (len(labels), 0)
    quarantine = read(tmp_path / "scores", "quarantine")
    errors = {film.relative_to(fresh).as_posix() for film in broken}
    assert set(quarantine["path"]) <= errors
    # What is no image at all lies in the folder without being asked for; `validate` remarks on it.
    cut = {film.relative_to(fresh).as_posix() for film in broken[::4]}
    assert cut <= set(quarantine["path"])
    assert (quarantine["code"] != "").all()
    assert told.quarantined == len(quarantine) == sum(told.codes.values())


def test_a_sample_that_cannot_be_scored_costs_no_other(trained, fresh, cache, tmp_path, monkeypatch):
    from medfusion.pipeline.model import RiskModel

    unlucky = pd.read_csv(fresh / "labels" / "deterioration.csv")["subject_id"].iloc[3]
    predict = RiskModel.predict

    def stumble(self, subject_ids, *others):
        if unlucky in subject_ids:
            raise ZeroDivisionError("of a patient's value 17.3")
        return predict(self, subject_ids, *others)

    monkeypatch.setattr(RiskModel, "predict", stumble)
    told = score(trained.folder, fresh, tmp_path / "scores", cache=cache)
    labels = pd.read_csv(fresh / "labels" / "deterioration.csv")
    mine = (labels["subject_id"] == unlucky).sum()
    assert (told.scored, told.counts.failed) == (len(labels) - mine, mine)
    quarantine = read(tmp_path / "scores", "quarantine")
    assert quarantine["code"].tolist() == ["scoring-failed"] * mine
    assert set(quarantine["subject_id"]) == {unlucky}
    assert not quarantine["detail"].str.contains("17.3").any()
    monkeypatch.undo()
    assert score(trained.folder, fresh, tmp_path / "scores", cache=cache).counts.scored == mine


def test_a_full_disk_stops_the_run_with_advice_and_the_same_command_finishes_it(
    whole, trained, new_patients, cache, tmp_path, monkeypatch
):
    write, written = pq.write_table, []

    def full(table, where, **options):
        written.append(where)
        if len(written) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(RunStopped, match=r"No space left on device; make room .* run the same command again"):
        score(trained.folder, new_patients.folder, tmp_path / "scores", cache=cache, part_size=4)
    monkeypatch.undo()
    told = score(trained.folder, new_patients.folder, tmp_path / "scores", cache=cache)
    assert told.counts.unchanged > 0
    assert_equal(whole, tmp_path / "scores")


def test_a_second_run_into_the_folder_is_refused(trained, new_patients, cache, tmp_path):
    with Journal(tmp_path), pytest.raises(UsageError, match="is being written by process"):
        score(trained.folder, new_patients.folder, tmp_path, cache=cache)


def test_a_model_made_for_other_columns_stops_before_the_first_row(tmp_path):
    """Wide tables, where every quantity is a column."""
    cohort = wide(tmp_path / "cohort", "mmol/L")
    train(cohort, tmp_path / "model")
    table = pd.read_csv(cohort / "ehr.csv").rename(columns={"lactate": "Lactat", "sodium": "Natrium"})
    table.to_csv(cohort / "ehr.csv", index=False)
    with pytest.raises(DataError) as told:
        score(tmp_path / "model", cohort, tmp_path / "scores")
    assert [(problem.code, problem.field) for problem in told.value.problems] == [
        ("other-columns", "lactate"),
        ("other-columns", "sodium"),
    ]
    assert not (tmp_path / "scores").exists()
    other = wide(tmp_path / "other", "mg/dL")
    with pytest.raises(DataError, match=r"ehr\.units\.lactate is 'mg/dL', expected mmol/L, as the model was trained"):
        score(tmp_path / "model", other, tmp_path / "scores")


def test_a_column_of_facts_holds_what_it_held_in_training_whoever_is_in_a_part(tmp_path):
    cohort = wide(tmp_path / "cohort", "mmol/L")
    ward = [f"P{number},{number % 3 if number % 5 else 'ICU'}" for number in range(24)]
    (cohort / "subjects.csv").write_text("\n".join(["subject_id,ward", *ward]), encoding="utf-8")
    train(cohort, tmp_path / "model")
    score(tmp_path / "model", cohort, tmp_path / "one", part_size=1)
    score(tmp_path / "model", cohort, tmp_path / "all")
    pd.testing.assert_frame_equal(read(tmp_path / "one"), read(tmp_path / "all"), rtol=0, atol=1e-9)


def test_rows_of_one_sample_and_rows_without_one_are_counted(tmp_path):
    cohort = small(tmp_path / "cohort")
    train(cohort, tmp_path / "model")
    with (cohort / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("\nP0,2024-01-02T09:00:00,True\nP1,yesterday,True\n,2024-01-02T09:00:00,True\n")
    told = score(tmp_path / "model", cohort, tmp_path / "scores", part_size=3)
    assert (told.counts.rows, told.counts.samples, told.counts.left_out) == (27, 24, 3)
    assert sorted(read(tmp_path / "scores", "quarantine")["code"]) == ["bad-time", "empty-cell"]


def test_what_arrives_in_a_watched_folder_is_scored_once(tmp_path):
    cohort = small(tmp_path / "cohort")
    train(cohort, tmp_path / "model")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    shutil.copytree(cohort, incoming / "monday night")
    shutil.copytree(cohort, incoming / ".half")
    (incoming / "bad").mkdir()
    (incoming / "bad" / "cohort.toml").write_text("[tasks", encoding="utf-8")
    out = tmp_path / "scores"
    told = watch(tmp_path / "model", incoming, out, every_s=0.1, until_idle_s=0.3)
    assert (told.scored, told.codes) == (24, {"bad-toml": 1})
    names = {file.name for file in (out / "predictions.parquet").iterdir()}
    assert [name.startswith("monday-night-") for name in names] == [True]
    shutil.move(incoming / ".half", incoming / "tuesday")
    # Names that are alike once they are file names, or of which one begins as the other does.
    for name in ("monday-night", "tuesday-00001", "part"):
        shutil.copytree(cohort, incoming / name)
    told = watch(tmp_path / "model", incoming, out, every_s=0.1, until_idle_s=0.3)
    assert (told.counts.scored, told.quarantined) == (4 * 24, 0)
    assert len(read(out)) == 5 * 24


def test_figures_for_prometheus_and_the_log_say_what_came_out(tmp_path):
    cohort = small(tmp_path / "cohort")
    train(cohort, tmp_path / "model")
    monitors = [Textfile(tmp_path / "score.prom"), JsonLog(tmp_path / "mine.jsonl")]
    before = datetime.now(UTC).timestamp()
    score(tmp_path / "model", cohort, tmp_path / "scores", part_size=5, monitors=monitors)
    lines = (tmp_path / "score.prom").read_text().splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert figures['medfusion_score_samples{state="scored"}'] == "24.0"
    assert figures["medfusion_score_label_rows"] == "24.0"
    assert float(figures["medfusion_score_last_success_timestamp_seconds"]) >= before
    assert json.loads((tmp_path / "mine.jsonl").read_text().splitlines()[-1])["scored"] == 24


def test_the_backend_that_was_measured_as_the_fastest_stays_that_of_the_folder(
    whole, trained, new_patients, cache, tmp_path, monkeypatch
):
    out = tmp_path / "scores"
    told = score(trained.folder, new_patients.folder, out, cache=cache, part_size=4, backend="openvino-fp32")
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["backend"]["chosen"] == "openvino-fp32"
    assert told.backend["candidates"][0]["risk_change"] < 1e-4
    np.testing.assert_allclose(read(out)["risk"], read(whole)["risk"], rtol=0, atol=1e-5)
    remembered = json.loads((out / ".state" / "backend.json").read_text(encoding="utf-8"))
    (out / ".state" / "backend.json").write_text(json.dumps({**remembered, "wanted": "auto"}), encoding="utf-8")

    def measure(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(sys.modules["medfusion.pipeline.score"], "choose_backend", measure)
    again = score(trained.folder, new_patients.folder, out, cache=cache, backend="auto")
    assert again.counts.unchanged == len(read(whole))


def test_tables_of_parts_without_a_row_have_the_types_of_the_others(trained, new_patients, cache, tmp_path):
    score(trained.folder, new_patients.folder, tmp_path, cache=cache, part_size=1)
    rows = [pq.read_metadata(file).num_rows for file in (tmp_path / "predictions.parquet").iterdir()]
    assert 0 in rows
    assert max(rows) > 0
    for name in TABLES:
        schemas = {str(pq.read_schema(file).remove_metadata()) for file in (tmp_path / f"{name}.parquet").iterdir()}
        assert len(schemas) == 1


def wide(root, unit):
    """Write a cohort whose patients with the event have more lactate."""
    root.mkdir()
    lines = ['[tasks.death]\nlabels = "labels.csv"\npositive = "dead"', f'[ehr.units]\nlactate = "{unit}"']
    (root / "cohort.toml").write_text("\n".join(lines), encoding="utf-8")
    labels = [f"P{number},2024-01-02T09:00:00,{number % 2 == 0}" for number in range(24)]
    (root / "labels.csv").write_text("\n".join(["subject_id,prediction_time,boolean_value", *labels]), encoding="utf-8")
    values = [
        f"P{number},2024-01-01T09:00:00,{2 + (number % 2 == 0) + number % 7 / 5},{135 + number % 9}"
        for number in range(24)
    ]
    (root / "ehr.csv").write_text("\n".join(["subject_id,time,lactate,sodium", *values]), encoding="utf-8")
    return root
