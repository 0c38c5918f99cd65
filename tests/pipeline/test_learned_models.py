"""Models with a network or a recalibration: everything that is promised of a sum is kept, down to regions and words."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import expit

from medfusion.evidence.crossfit import TOGETHER
from medfusion.fusion import projection, restore_fusion, training
from medfusion.fusion.maps import LogitMap
from medfusion.fusion.offsets import pattern_names
from medfusion.fusion.recalibration import Recalibration
from medfusion.fusion.weights import Weights
from medfusion.pipeline import explain, open_for_use, score, train
from medfusion.pipeline.ledger import PATTERN

ONLY = {"joint": (), "early": ("imaging", "notes"), "gated": ("ehr", "notes")}
"""What each fusion is tried on; all three modalities for that with the most freedom."""
ROWS = range(0, 80, 16)
BETA = LogitMap("beta", shift=-0.3, low=1.4, high=0.6)


def silent(_stage, _total):
    return lambda done: None


def loud(model):
    """Return the model with a network that counts: of 80 patients it learns nothing, and would be switched off."""
    fusion = restore_fusion(model.fusion.state())
    fusion.fitted = Weights(fusion.base, np.array([0.9, 2.0]), fusion.fitted.covariance)
    return replace(model, fusion=fusion)


@pytest.fixture(scope="module", params=list(ONLY))
def learned(request, synthetic, cache, tmp_path_factory):
    """Return a folder of a model with a network, and the model; few patients get more coordinates than they should."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_ROWS_PER_DIMENSION", 16)
        patch.setattr(training, "STEPS", 40)
        found = train(synthetic.folder, folder, fusion=request.param, only=ONLY[request.param], cache=cache)
    model = loud(found.model)
    model.save(folder)
    return folder, model, found.results


@pytest.fixture(scope="module")
def used(learned, new_patients, cache):
    """Return the model, read back from its folder, beside patients whom it has not seen."""
    return open_for_use(learned[0], new_patients.folder, cache)


def assert_adds_up(ledger, logit):
    assert ledger.logit == pytest.approx(logit, abs=1e-12)
    assert ledger.base + math.fsum(ledger.by_modality.values()) == pytest.approx(logit, abs=1e-6)
    for name, lines in ledger.by_feature.items():
        assert math.fsum(line.share for line in lines) == pytest.approx(ledger.by_modality[name], abs=1e-6)


def ledgers(model, opened, rows):
    """Return the predictions of some samples, and their ledgers; nothing may go wrong on the way."""
    samples, problems = [opened.cohort.samples[row] for row in rows], []
    _, payloads = opened.predict(samples, silent)
    predictions = model.predict([sample.subject_id for sample in samples], payloads)
    found = [model.explain(predictions, row, payloads, problems) for row in range(len(samples))]
    assert not problems
    return predictions, found, payloads


def test_cross_validated_figures_are_of_every_modality_and_of_the_fusion(learned):
    assert set(learned[2]) == {*(ONLY[learned[1].fusion.kind] or ("ehr", "imaging", "notes")), "fused"}


def test_a_model_that_is_read_back_predicts_the_same(learned, used):
    samples = used.cohort.samples
    predictions, payloads = used.predict(samples, silent)
    before = learned[1].predict([sample.subject_id for sample in samples], payloads)
    np.testing.assert_array_equal(predictions.logit, before.logit)
    np.testing.assert_array_equal(predictions.interval, before.interval)
    np.testing.assert_array_equal(predictions.shares, before.shares)


@pytest.mark.parametrize("seen", [True, False])
def test_ledgers_of_a_network_add_up_down_to_values_words_and_regions(learned, used, opened, seen):
    cohort = opened if seen else used
    predictions, found, _ = ledgers(learned[1], cohort, ROWS if seen else range(5))
    for row, ledger in enumerate(found):
        assert_adds_up(ledger, predictions.logit[row])
        assert set(ledger.by_feature) == {
            name for name, here in zip(learned[1].evidence, predictions.present[row], strict=True) if here
        }
    lines = {
        name: [line for ledger in found for line in ledger.by_feature.get(name, ())] for name in learned[1].evidence
    }
    whole = {"imaging": ("film 1", 50), "ehr": ("lactate", 3), "notes": ("", 20)}
    for name, each in lines.items():
        start, least = whole[name]
        assert sum(line.feature.startswith(start) for line in each) >= least
    assert any(line.feature == TOGETHER and abs(line.share) > 1e-6 for each in lines.values() for line in each)


def test_a_network_moves_lines_of_single_values_and_regions_and_not_only_what_is_left(learned, opened):
    _, model, _ = learned
    if not model.fusion.uses_embeddings:
        pytest.skip("a gate looks at evidence alone")
    assert all(size for learner in model.fusion.learners for size in learner.network.sizes)
    payloads = {name: [each[0]] for name, each in ledgers(model, opened, [0])[2].items()}
    pulls = model.fusion.pulls(model.blocks(payloads))
    assert any(slope.any() for pull in pulls.values() for slope in pull.embedding)


def test_scoring_writes_ledgers_that_sum_to_the_shares(learned, used, new_patients, cache, tmp_path):
    told = score(learned[0], new_patients.folder, tmp_path, cache=cache)
    table = pq.read_table(tmp_path / "predictions.parquet").to_pandas()
    lines = pq.read_table(tmp_path / "ledger.parquet").to_pandas()
    names = list(learned[1].evidence)
    assert told.scored == len(table) == len(used.cohort.samples)
    total = table["base_logit"] + table[[f"share_{name}" for name in names]].sum(axis=1)
    np.testing.assert_allclose(total, table["logit"], atol=1e-6)
    key = ["subject_id", "prediction_time"]
    sums = lines.groupby([*key, "modality"])["share"].sum().unstack()
    for name in names:
        expected = table.set_index(key)[f"share_{name}"][lambda each: each != 0]
        np.testing.assert_allclose(sums[name].dropna().reindex(expected.index), expected, atol=1e-6)
        assert (table[f"share_{name}"][~table[f"present_{name}"]] == 0.0).all()


def test_one_patient_is_explained(used):
    subject = used.cohort.samples[0].subject_id
    report = explain(used, subject)
    assert_adds_up(report.explanation, report.explanation.logit)
    assert report.risk_low < report.explanation.risk < report.risk_high
    assert set(report.views) == set(report.explanation.by_feature)


def test_without_data_a_network_says_exactly_the_base(learned):
    model = learned[1]
    predictions = model.predict(["nobody"], {name: [None] for name in model.evidence})
    assert predictions.logit[0] == model.fusion.base
    assert not predictions.shares.any()


def recalibrated(model):
    patterns = {" + ".join(model.evidence): 0.25, "notes": -0.4, "ehr": 0.15}
    return replace(model, recalibration=Recalibration(BETA, patterns))


def assert_recalibrated(model, cohort, rows):
    """Compare logit, base and ledger with the formula of a beta map, and with the model before."""
    before, old, payloads = ledgers(model, cohort, rows)
    again = recalibrated(model)
    subjects = [cohort.cohort.samples[row].subject_id for row in rows]
    after = again.predict(subjects, payloads)
    offsets = [
        again.recalibration.patterns.get(each, 0.0) for each in pattern_names(before.present, list(model.evidence))
    ]
    expected = -0.3 + 1.4 * np.log(before.risk) - 0.6 * np.log1p(-before.risk) + offsets
    np.testing.assert_allclose(after.logit, expected, atol=1e-9)
    base = expit(model.fusion.base)
    for row, offset in enumerate(offsets):
        ledger = again.explain(after, row, payloads, [])
        assert_adds_up(ledger, after.logit[row])
        assert ledger.base == pytest.approx(-0.3 + 1.4 * math.log(base) - 0.6 * math.log1p(-base), abs=1e-9)
        here = [name for name in ledger.by_feature if ledger.by_modality[name]]
        parts = [[line.share for line in ledger.by_feature[name] if line.feature == PATTERN] for name in here]
        assert parts == [[pytest.approx(offset / len(here), abs=1e-6)] if offset else [] for _ in here]
        shares = [ledger.by_modality[name] - offset / len(here) for name in here]
        factor = (after.logit[row] - offset - ledger.base) / (before.logit[row] - model.fusion.base)
        np.testing.assert_allclose(shares, [factor * old[row].by_modality[name] for name in here], atol=1e-6)


def test_a_recalibrated_network_has_ledgers_that_add_up(learned, opened):
    assert_recalibrated(learned[1], opened, ROWS)


def test_a_recalibrated_sum_has_ledgers_that_add_up(trained, opened):
    assert_recalibrated(trained.training.model, opened, ROWS)


def test_a_recalibration_is_kept_in_the_model_folder(trained, synthetic, opened, cache, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "model")
    model = recalibrated(trained.training.model)
    model_id = model.save(folder)
    again = open_for_use(folder, synthetic.folder, cache).model
    assert again.model_id == model_id != trained.training.model.model_id
    assert again.recalibration.text() == model.recalibration.text()
    samples = opened.cohort.samples[:10]
    _, payloads = opened.predict(samples, silent)
    subjects = [sample.subject_id for sample in samples]
    np.testing.assert_array_equal(again.predict(subjects, payloads).logit, model.predict(subjects, payloads).logit)
