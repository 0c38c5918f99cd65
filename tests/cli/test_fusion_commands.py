"""Comparing, recalibrating, watching and reproducing from the command line, and what each refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from medfusion.core.types import Block
from medfusion.pipeline.compare import compare as compare_cohort
from medfusion.pipeline.compare import taken_away


def assert_told(done, code, said):
    assert done.code == code, done.err
    assert said in " ".join((done.err + done.out).split())
    assert "Traceback" not in done.err


@pytest.fixture(scope="module")
def compared(medfusion, synthetic, cache, tmp_path_factory):
    """Compare on two modalities and two outer folds."""
    out = tmp_path_factory.mktemp("compared")
    words = ["--only", "ehr", "--only", "notes", "--folds", "2", "--threshold", "0.2", "--cache", cache]
    return medfusion("compare", synthetic.folder, "--out", out, *words), out


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return two cohorts of 300 patients with one lab value, which means less in the second."""
    rng = np.random.default_rng(0)
    folders = []
    for name, scale in (("before", 1.0), ("after", 0.4)):
        folder = tmp_path_factory.mktemp(name) / "cohort"
        folder.mkdir()
        (folder / "cohort.toml").write_text('[tasks.died]\nlabels = "labels.csv"\n', encoding="utf-8")
        ids = [f"{name}{number}" for number in range(300)]
        lactate = rng.lognormal(0.7, 0.5, 300)
        site = rng.choice(["north", "south"], 300)
        events = rng.random(300) < expit(scale * 3.0 * (lactate - 2.2))
        frames = {
            "labels": {"subject_id": ids, "prediction_time": "2024-01-02T09:00:00", "boolean_value": events},
            "ehr": {"subject_id": ids, "time": "2024-01-02T08:00:00", "code": "lactate", "numeric_value": lactate},
            "subjects": {"subject_id": ids, "site": site, "bed": [f"bed {number}" for number in range(300)]},
        }
        for table, columns in frames.items():
            pd.DataFrame(columns).to_csv(folder / f"{table}.csv", index=False)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def model(medfusion, many, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "model"
    done = medfusion("train", many[0], "--out", folder, "--no-cache", "--sets-by", "site", "--coverage", "0.8")
    assert done.code == 0, done.err
    return folder


def test_a_comparison_names_every_contender_and_recommends_one_by_a_command(compared):
    done, out = compared
    assert done.code == 0, done.err
    for name in ("ehr", "notes", "late", "gated", "early", "joint"):
        assert f"│ {name} " in done.out
    assert "Recommended: " in " ".join(done.out.split())
    assert "medfusion train" in done.out
    told = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert told["task"] == "deterioration"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index("Fusion ") < page.index("Headline figures")


def test_contenders_answer_for_patients_that_they_were_not_trained_on(synthetic, cache):
    result, run = compare_cohort(synthetic.folder, None, only=["notes"], folds=2, cache=cache)
    assert not np.isnan(run.risks["notes"]).any()
    assert result.estimates["notes"]["auroc"].value == pytest.approx(
        roc_auc_score(run.patients.events, run.risks["notes"]), abs=1e-12
    )
    risks = pd.Series(run.risks["notes"]).groupby(run.patients.folds).mean()
    assert (risks - run.patients.events.mean()).abs().max() < 0.15


def test_contenders_are_judged_with_as_much_missing_as_is_expected(medfusion, synthetic, cache, tmp_path):
    words = ["--only", "notes", "--folds", "2", "--expect-missing", "0.4", "--cache", cache]
    done = medfusion("compare", synthetic.folder, "--out", tmp_path, *words)
    assert done.code == 0, done.err
    assert "patients, 40 % of each modality missing" in " ".join(done.out.split())
    told = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert told["expect_missing"] == 0.4
    everywhere = {row["rate"]: row["auroc"] for row in told["withheld"] if row["modality"] == "each"}
    assert set(everywhere) == {0.0, 0.1, 0.3, 0.4, 0.5, 0.7}
    assert told["contenders"]["notes"]["auroc"]["value"] == pytest.approx(everywhere[0.4], abs=1e-12)
    assert everywhere[0.4] < everywhere[0.0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "40 % of each modality taken away at random, as expected in use" in page


def test_modalities_are_taken_away_at_the_rates_asked_for_each_by_itself_and_what_is_gone_stays_gone():
    blocks = {name: Block(np.zeros((2, 4000))) for name in ("ehr", "notes")}
    taken = taken_away(blocks, ("ehr", "mri", "notes"), 4000, 3, rates=(0.2, 0.5))
    assert set(taken) == {(name, rate) for name in ("ehr", "mri", "notes", "each") for rate in (0.2, 0.5)}
    gone = {key: {name: ~block.present[0] for name, block in found.items()} for key, found in taken.items()}
    assert gone["each", 0.5]["ehr"].mean() == pytest.approx(0.5, abs=0.03)
    assert (gone["each", 0.5]["ehr"] & gone["each", 0.5]["notes"]).mean() == pytest.approx(0.25, abs=0.03)
    assert gone["each", 0.5]["ehr"][gone["each", 0.2]["ehr"]].all()
    assert not gone["ehr", 0.5]["notes"].any()
    assert not gone["mri", 0.5]["ehr"].any()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--threshold", "1.5"], 2, "1.5"),
        (
            ["--expect-missing", "50"],
            2,
            "--expect-missing is 50; it has to be 0 or more and below 1; write 50 %",
        ),
        (["--expect-missing", "1"], 2, "it has to be 0 or more and below 1; name another, such as 0.3"),
        (["--threshold", "0"], 2, "expected a risk above 0 and below 1"),
        (["--folds", "60"], 1, "use fewer folds, or label more patients"),
        (["--folds", "1"], 2, "Invalid value for '--folds'"),
        (["--only", "mri"], 2, "no modality 'mri'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_comparison_that_cannot_be_is_told(medfusion, synthetic, cache, tmp_path, words, code, said):
    assert_told(medfusion("compare", synthetic.folder, "--out", tmp_path, "--cache", cache, *words), code, said)
    assert not (tmp_path / "metrics.json").exists()


def test_a_comparison_of_one_outcome_is_told(medfusion, many, tmp_path):
    cohort = shutil.copytree(many[0], tmp_path / "cohort")
    labels = pd.read_csv(cohort / "labels.csv").assign(boolean_value=True)
    labels.to_csv(cohort / "labels.csv", index=False)
    assert_told(medfusion("compare", cohort, "--out", tmp_path / "out", "--no-cache"), 1, "one-class")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fusion", "magic"], "no fusion 'magic'; there are: late, gated, early, joint"),
        (["--fusion", "joint"], "--fusion joint puts modalities together, and there is only ehr; leave it out"),
        (["--coverage", "1"], "--coverage is 1.0; it has to be between 0.5 and 1"),
        (["--sets-by", "ward"], "subjects.csv has no column 'ward'; it has: bed, site"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_training_that_cannot_be_is_told(medfusion, many, tmp_path, words, said):
    assert_told(medfusion("train", many[0], "--out", tmp_path / "model", "--no-cache", *words), 2, said)
    assert not (tmp_path / "model").exists()


def test_recalibration_mends_a_model_that_is_too_certain_and_its_ledgers_still_add_up(medfusion, many, model, tmp_path):
    done = medfusion("recalibrate", model, many[1], "--out", tmp_path / "model", "--by", "site", "--json", "--no-cache")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["before"]["calibration_slope"]["value"] < 0.7
    assert told["after"]["calibration_slope"]["value"] == pytest.approx(1.0, abs=0.2)
    assert told["after"]["brier"]["value"] < told["before"]["brier"]["value"]
    assert told["model_id"] != json.loads((model / "card.json").read_text(encoding="utf-8"))["model_id"]
    scored = medfusion("score", tmp_path / "model", many[1], "--out", tmp_path / "scores", "--no-cache")
    assert scored.code == 0, scored.err
    table = pd.read_parquet(tmp_path / "scores" / "predictions.parquet")
    lines = pd.read_parquet(tmp_path / "scores" / "ledger.parquet").groupby("subject_id")["share"].sum()
    np.testing.assert_allclose(
        table["base_logit"] + lines.loc[table["subject_id"]].to_numpy(), table["logit"], atol=1e-6
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--by", "ward"], 2, "subjects.csv has no column 'ward'; it has: bed, site"),
        (["--map", "isotonic"], 2, "there is no recalibration isotonic"),
        (["--by", "bed"], 1, "300"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_recalibration_that_cannot_be_is_told(medfusion, many, model, tmp_path, words, code, said):
    done = medfusion("recalibrate", model, many[1], "--out", tmp_path / "model", "--no-cache", *words)
    assert_told(done, code, said)


def test_too_few_outcomes_for_a_recalibration_are_told_with_the_number_needed(medfusion, many, model, tmp_path):
    cohort = shutil.copytree(many[1], tmp_path / "cohort")
    pd.read_csv(cohort / "labels.csv").iloc[:30].to_csv(cohort / "labels.csv", index=False)
    done = medfusion("recalibrate", model, cohort, "--out", tmp_path / "model", "--no-cache")
    assert_told(done, 1, "expected at least 20 of each")


def test_a_model_is_not_recalibrated_over_itself(medfusion, many, model):
    done = medfusion("recalibrate", model, many[1], "--out", model, "--no-cache")
    assert_told(done, 2, "is the model's own folder")


def test_risk_sets_hold_what_they_promise_and_undecided_risks_ask_for_a_person(medfusion, many, model, tmp_path):
    assert medfusion("score", model, many[0], "--out", tmp_path, "--no-cache").code == 0
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    truth = pd.read_csv(many[0] / "labels.csv").set_index("subject_id")["boolean_value"][table["subject_id"]]
    wanted = np.where(truth, "event", "no event")
    held = (table["risk_set"] == wanted) | (table["risk_set"] == "both")
    # 300 patients, each judged by a member and compared with patients that it has not seen: 80 % within chance.
    assert held.mean() == pytest.approx(0.8, abs=0.07)
    undecided = table["findings"].fillna("").str.contains("abstain-undecided")
    assert (undecided == (table["risk_set"] == "both")).all()


def test_the_training_cohort_shows_no_drift_and_another_lab_does(medfusion, many, model, tmp_path):
    assert_told(medfusion("drift", model, many[0], "--no-cache"), 0, "no sign of drift")
    cohort = shutil.copytree(many[0], tmp_path / "cohort")
    values = pd.read_csv(cohort / "ehr.csv")
    values.assign(numeric_value=9.0 * values["numeric_value"]).to_csv(cohort / "ehr.csv", index=False)
    done = medfusion("drift", model, cohort, "--out", tmp_path / "drift", "--no-cache")
    assert_told(done, 1, "performance probably hurt")
    assert (tmp_path / "drift" / "report.html").is_file()


def test_a_cohort_with_other_features_than_the_model_is_told_with_counts(medfusion, many, model, tmp_path):
    cohort = shutil.copytree(many[0], tmp_path / "cohort")
    pd.read_csv(cohort / "ehr.csv").assign(code="potassium").to_csv(cohort / "ehr.csv", index=False)
    done = medfusion("drift", model, cohort, "--no-cache")
    said = " ".join((done.err + done.out).split())
    assert done.code == 1
    assert "lactate" in said
    assert "potassium" in said


def test_the_same_data_give_the_same_model_and_other_data_are_named(medfusion, many, model, tmp_path):
    assert_told(
        medfusion("reproduce", model, many[0], "--no-cache"), 0, "reproduced: the risks of 300 samples differ by"
    )
    done = medfusion("reproduce", model, many[1], "--no-cache")
    assert_told(done, 1, "data-differ")
    assert "labels.csv" in done.err


def test_an_evaluation_tells_thresholds_costs_and_columns_that_are_too_fine(medfusion, many, model, tmp_path):
    words = ["--threshold", "0.25", "--cost-false-alarm", "1", "--cost-missed", "4", "--json", "--no-cache"]
    done = medfusion("evaluate", model, many[0], "--out", tmp_path, *words)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["thresholds"][0]["threshold"] == 0.25
    assert told["costs"]["from_costs"] == pytest.approx(0.2)
    assert set(told["subgroups"]["columns"]) == {"site"}
    assert "300" in " ".join(told["subgroups"]["problems"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threshold", "1"], "expected a risk above 0 and below 1"),
        (["--cost-missed", "4"], "give both --cost-false-alarm and --cost-missed, or neither"),
        (["--cost-missed", "4", "--cost-false-alarm", "-1"], "-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_evaluation_that_cannot_be_is_told(medfusion, many, model, tmp_path, words, said):
    done = medfusion("evaluate", model, many[0], "--out", tmp_path / "out", "--no-cache", *words)
    assert_told(done, 2, said)
