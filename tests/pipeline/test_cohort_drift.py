"""Drift of a cohort folder against a model folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medfusion.core.errors import DataError, ModelFolderError
from medfusion.fusion.maps import LogitMap
from medfusion.fusion.recalibration import Recalibration
from medfusion.pipeline import open_for_use
from medfusion.pipeline.data import silent
from medfusion.pipeline.drift import drift, load_fingerprint
from medfusion.pipeline.model_folder import save_model


@pytest.fixture(scope="module")
def told(trained, new_patients, cache, tmp_path_factory):
    """Return the report of new patients like those of the training, and its folder."""
    out = tmp_path_factory.mktemp("drift")
    return drift(trained.folder, new_patients.folder, out, cache=cache), out


def changed(cohort, folder, change):
    """Copy a cohort with other events."""
    shutil.copytree(cohort.folder, folder)
    events = pd.read_csv(folder / "ehr.csv", dtype={"numeric_value": str})
    change(events).to_csv(folder / "ehr.csv", index=False)
    return folder


def test_new_patients_of_the_same_kind_show_no_drift(told):
    assert told[0].verdict == "no sign of drift"
    assert told[0].problems == ()
    assert told[0].n_subjects == 25
    assert told[0].n == told[0].outlook.outcomes


def test_the_report_is_written_as_figures_and_as_a_page(told, trained):
    report, out = told
    numbers = json.loads((out / "drift.json").read_text(encoding="utf-8"))
    assert numbers["verdict"] == report.verdict
    assert numbers["model_id"] == trained.training.model.model_id
    assert numbers["seen_in_training"] == 0
    assert len(numbers["changes"]) == len(report.changes)
    assert set(numbers["mmd"]) == {"ehr", "imaging", "notes"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"{report.verdict.capitalize()}." in page
    assert all(reason in page for reason in report.reasons)
    assert page.count("<svg") == len(report.panels)
    assert "http:" not in page
    assert "https:" not in page


def test_how_much_a_model_leans_on_a_modality_is_its_mean_share_of_patients_left_out(opened, trained):
    predictions, _ = opened.predict(opened.cohort.samples, silent)
    known = load_fingerprint(trained.folder)
    for place, name in enumerate(opened.model.evidence):
        expected = np.abs(predictions.shares[:, place]).mean()
        assert known.modalities[name].reliance == pytest.approx(expected, rel=1e-5)
    assert sum(part for part, _ in known.leaning().values()) == pytest.approx(1)


def test_what_a_head_does_not_use_has_no_importance(opened, trained):
    known = load_fingerprint(trained.folder).modalities["ehr"]
    payloads = opened.predict(opened.cohort.samples, silent)[1]["ehr"]
    member = opened.model.evidence["ehr"].members[0]
    embedding = member.embed(payloads)
    values = np.asarray(embedding.values[embedding.present])
    before = member.head.raw(values)
    for column in np.flatnonzero(known.importance == 0).tolist():
        other = values.copy()
        other[:, column] = np.nan
        np.testing.assert_allclose(member.head.raw(other), before, atol=1e-6)
    assert known.importance.max() > 0


def test_codes_under_other_names_are_listed_with_counts(trained, new_patients, cache, tmp_path):
    def renamed(events):
        return events.assign(code=events["code"].replace({"lactate": "LAC", "heart_rate": "HR"}))

    folder = changed(new_patients, tmp_path / "cohort", renamed)
    report = drift(trained.folder, folder, cache=cache)
    having = renamed(pd.read_csv(new_patients.folder / "ehr.csv")).groupby("code")["subject_id"].nunique()
    lost, unknown = (problem.line() for problem in report.problems)
    assert "of the model's in no patient" in lost
    assert "check how they are coded" in lost
    assert "heart_rate" in lost
    assert lost.endswith("[features-never-seen]")
    assert "codes is '2 of 12 frequent ones unknown to the model'" in unknown
    for code in ("HR", "LAC"):
        assert f"{code} ({having[code]} patients)" in unknown
    assert unknown.endswith("[codes-not-used]")


def test_values_in_another_unit_are_found(trained, new_patients, cache, tmp_path):
    def in_mg_per_dl(events):
        lactate = events["code"] == "lactate"
        values = events["numeric_value"].astype(float)
        return events.assign(numeric_value=values.where(~lactate, values * 9.0))

    report = drift(trained.folder, changed(new_patients, tmp_path / "cohort", in_mg_per_dl), cache=cache)
    moved = report.changes[report.changes["reading"] == "moved much"]
    assert any(feature.startswith("lactate ") for feature in moved["feature"])
    assert not any(feature.startswith("sodium ") for feature in moved["feature"])
    assert report.verdict != "no sign of drift"


def test_patients_of_the_training_are_counted_and_do_not_drift(trained, synthetic, cache, tmp_path):
    report = drift(trained.folder, synthetic.folder, tmp_path, cache=cache)
    assert report.verdict == "no sign of drift"
    # Risks are those of the final weights of the fusion, which in the fingerprint are out of fold, too.
    data = report.changes[report.changes["what"] != "risks"]
    assert data["size"].max() == pytest.approx(0, abs=1e-6)
    assert json.loads((tmp_path / "drift.json").read_text())["seen_in_training"] == report.n
    assert "leave them out to see what new patients are like" in (tmp_path / "report.html").read_text()


def test_samples_without_an_outcome_are_compared_by_what_the_risks_promise(trained, new_patients, cache, tmp_path):
    folder = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    labels = folder / "labels" / "deterioration.csv"
    pd.read_csv(labels).assign(boolean_value=None).to_csv(labels, index=False)
    report = drift(trained.folder, folder, cache=cache)
    assert report.n_subjects == 25
    assert report.outlook.outcomes == 0
    assert report.outlook.estimates["auroc"].note == "no outcome is known"
    assert report.outlook.estimates["expected_auroc"].value is not None


def test_a_recalibrated_model_is_not_taken_for_a_drifted_one(trained, told, new_patients, cache, tmp_path):
    opened = open_for_use(trained.folder, new_patients.folder, cache)
    halved = Recalibration(map=LogitMap("platt", -2.0, 0.5, 0.5))
    model = replace(opened.model, recalibration=halved, risk_sets=None)
    save_model(model, tmp_path)
    for suffix in (".json", ".safetensors"):
        shutil.copy(trained.folder / f"fingerprint{suffix}", tmp_path)
    report, plain = drift(tmp_path, new_patients.folder, tmp_path / "drift", cache=cache), told[0]
    pd.testing.assert_frame_equal(report.changes, plain.changes)
    estimates, before = report.outlook.estimates, plain.outlook.estimates
    assert estimates["expected_change"] == before["expected_change"]
    assert estimates["mean_risk"].value < before["mean_risk"].value / 1.5
    assert estimates["observed_expected"].value > 1.5 * before["observed_expected"].value
    assert "The model was recalibrated" in (tmp_path / "drift" / "report.html").read_text()


def test_a_model_without_a_fingerprint_is_to_be_trained_again(trained, new_patients, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "older")
    (folder / "fingerprint.json").unlink()
    with pytest.raises(
        ModelFolderError, match=r"older: has no fingerprint of its training data.*train the model again"
    ):
        drift(folder, new_patients.folder)


def test_a_damaged_fingerprint_is_refused(trained, new_patients, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "damaged")
    (folder / "fingerprint.json").write_text('{"format": 1}')
    with pytest.raises(ModelFolderError, match="fingerprint: not one of this version"):
        drift(folder, new_patients.folder)


def test_a_cohort_with_nothing_that_the_model_knows_is_refused(trained, new_patients, cache, tmp_path):
    folder = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    shutil.rmtree(folder / "imaging")
    for name in ("ehr.csv", "notes.csv", "subjects.csv"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"no row has any.*compare the names of files, codes and columns"):
        drift(trained.folder, folder, cache=cache)
