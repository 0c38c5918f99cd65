"""Late fusion against its formula written anew, scikit-learn, and the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from medfusion.core.folds import Patients
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Block
from medfusion.explain import modality_shares
from medfusion.fusion import LateFusion
from medfusion.fusion import weights as module


def drawn(n=600, seed=0, weights=(1.2, 0.4, 0.9), base=-0.8, absent=0.25):
    """Evidence whose true weights are known; patients have one to three rows."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(n, len(weights)))
    events = rng.random(n) < expit(base + evidence @ np.array(weights))
    evidence[rng.random(evidence.shape) < absent] = np.nan
    subject_ids = np.sort(rng.integers(0, n // 2, n)).astype(str)
    _, inverse, counts = np.unique(subject_ids, return_inverse=True, return_counts=True)
    return evidence, events, 1 / np.sqrt(counts[inverse]), subject_ids


def blocks(evidence):
    """Return the evidence as of one member."""
    return {f"m{place}": Block(column[None]) for place, column in enumerate(evidence.T)}


def people(events, subject_ids):
    return Patients(subject_ids, events, np.zeros(len(events), dtype=int))


def fitted(evidence, events, _weights, subject_ids):
    return LateFusion().fit(blocks(evidence), people(events, subject_ids))


def logit(model, evidence):
    return model.logits(blocks(evidence))[0]


def shares(model, evidence):
    return modality_shares(model.logits, blocks(evidence))[0]


def variance(model, evidence):
    return model.variance(blocks(evidence), np.ones((len(evidence), 1)))


def objective(evidence, events, weights):
    """Weighted log loss with weights drawn to 0 by a ridge of 1, as the docstring states it."""

    def value(parameters):
        total = parameters[0] + np.where(np.isnan(evidence), 0, evidence) @ parameters[1:]
        probability = expit(total)
        loss = -(weights * np.where(events, np.log(probability), np.log1p(-probability))).sum()
        return loss + 0.5 * (parameters[1:] ** 2).sum()

    return value


@pytest.mark.parametrize("seed", [0, 1])
def test_base_and_weights_minimise_the_penalised_log_loss(seed):
    evidence, events, weights, subject_ids = drawn(200, seed)
    model = fitted(evidence, events, weights, subject_ids)
    bounds = [(None, None), *[(0, None)] * 3]
    found = optimize.minimize(
        objective(evidence, events, weights), np.zeros(4), method="SLSQP", bounds=bounds, options={"ftol": 1e-14}
    )
    np.testing.assert_allclose([model.base, *model.weights], found.x, atol=2e-3)


def test_without_the_ridge_it_is_logistic_regression(monkeypatch):
    monkeypatch.setattr(module, "RIDGE", 0.0)
    evidence, events, weights, subject_ids = drawn(1_000, absent=0.0)
    model = fitted(evidence, events, weights, subject_ids)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(evidence, events, sample_weight=weights)
    np.testing.assert_allclose(model.weights, reference.coef_[0], atol=2e-3)
    assert model.base == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_with_many_rows_the_true_weights_are_found():
    model = fitted(*drawn(40_000, absent=0.0))
    np.testing.assert_allclose([model.base, *model.weights], [-0.8, 1.2, 0.4, 0.9], atol=0.06)


def test_evidence_that_points_the_wrong_way_gets_no_weight_and_no_variance():
    evidence, events, weights, subject_ids = drawn(weights=(1.0, -1.5))
    model = fitted(evidence, events, weights, subject_ids)
    assert model.weights[1] == 0.0
    assert (model.fitted.covariance[2] == 0.0).all()
    assert model.fitted.covariance[1, 1] > 0


def test_an_absent_modality_adds_exactly_nothing():
    model = fitted(*drawn())
    evidence = np.array([[0.7, np.nan, -0.3], [np.nan, np.nan, np.nan]])
    assert shares(model, evidence)[0, 1] == 0.0
    assert logit(model, evidence)[1] == model.base
    expected = model.base + model.weights[0] * 0.7 + model.weights[2] * -0.3
    assert logit(model, evidence)[0] == pytest.approx(expected, abs=1e-15)


def test_a_modality_that_nobody_has_changes_nothing():
    evidence, events, weights, subject_ids = drawn()
    model = fitted(evidence, events, weights, subject_ids)
    wider = np.column_stack([evidence, np.full(len(evidence), np.nan)])
    other = fitted(wider, events, weights, subject_ids)
    np.testing.assert_allclose(logit(other, wider), logit(model, evidence), atol=1e-6)
    np.testing.assert_allclose(variance(other, wider), variance(model, evidence), atol=1e-6)
    assert (shares(other, wider)[:, 3] == 0).all()


def test_the_order_of_rows_changes_nothing():
    evidence, events, weights, subject_ids = drawn()
    order = np.random.default_rng(1).permutation(len(events))
    model = fitted(evidence, events, weights, subject_ids)
    other = fitted(evidence[order], events[order], weights[order], subject_ids[order])
    np.testing.assert_allclose(logit(other, evidence), logit(model, evidence), atol=1e-5)
    np.testing.assert_allclose(other.fitted.covariance, model.fitted.covariance, atol=1e-5)


def test_the_order_of_modalities_changes_nothing():
    evidence, events, weights, subject_ids = drawn()
    model = fitted(evidence, events, weights, subject_ids)
    other = fitted(evidence[:, ::-1], events, weights, subject_ids)
    np.testing.assert_allclose(other.weights[::-1], model.weights, atol=1e-4)


def test_the_covariance_is_the_sandwich_over_patients():
    evidence, events, weights, subject_ids = drawn()
    model = fitted(evidence, events, weights, subject_ids)
    design = np.column_stack([np.ones(len(events)), np.nan_to_num(evidence)])
    risk = expit(design @ np.array([model.base, *model.weights]))
    curvature = np.diag([0.0, 1.0, 1.0, 1.0])
    meat = np.zeros((4, 4))
    for who in np.unique(subject_ids):
        mine = subject_ids == who
        score = (weights[mine] * (events[mine] - risk[mine])) @ design[mine]
        meat += np.outer(score, score)
        for row, chance, weight in zip(design[mine], risk[mine], weights[mine], strict=True):
            curvature += weight * chance * (1 - chance) * np.outer(row, row)
    bread = np.linalg.inv(curvature)
    np.testing.assert_allclose(model.fitted.covariance, bread @ meat @ bread, rtol=1e-8)


def test_the_standard_errors_are_those_of_a_bootstrap_of_patients():
    evidence, events, weights, subject_ids = drawn()
    model = fitted(evidence, events, weights, subject_ids)
    rng, rows = np.random.default_rng(0), {who: np.flatnonzero(subject_ids == who) for who in np.unique(subject_ids)}
    names, draws = list(rows), []
    for _ in range(250):
        chosen = np.concatenate([rows[names[place]] for place in rng.integers(0, len(names), len(names))])
        fit = fitted(evidence[chosen], events[chosen], weights[chosen], np.arange(len(chosen)).astype(str))
        draws.append([fit.base, *fit.weights])
    np.testing.assert_allclose(np.sqrt(np.diag(model.fitted.covariance)), np.std(draws, axis=0), rtol=0.25)


def test_rows_of_a_patient_that_say_the_same_do_not_count_as_several_patients(monkeypatch):
    monkeypatch.setattr(module, "RIDGE", 0.0)
    evidence, events, _, _ = drawn(300)
    alone = fitted(evidence, events, None, np.arange(300).astype(str))
    copies = [np.repeat(part, 4, axis=0) for part in (evidence, events)]
    together = fitted(*copies, None, np.repeat(np.arange(300), 4).astype(str))
    np.testing.assert_allclose(together.fitted.covariance, alone.fitted.covariance, rtol=1e-3)


def test_the_variance_of_a_logit_is_that_of_base_and_weights():
    model = fitted(*drawn())
    row = np.array([[0.5, np.nan, -1.0]])
    design = np.array([1.0, 0.5, 0.0, -1.0])
    assert variance(model, row)[0] == pytest.approx(design @ model.fitted.covariance @ design)


def test_a_model_that_is_read_back_says_exactly_the_same(tmp_path):
    evidence, *others = drawn()
    model = fitted(evidence, *others)
    save_state(tmp_path, "fusion", model.state())
    again = LateFusion.restore(load_state(tmp_path, "fusion"))
    np.testing.assert_array_equal(logit(again, evidence), logit(model, evidence))
    np.testing.assert_array_equal(variance(again, evidence), variance(model, evidence))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 60), st.integers(1, 4), st.floats(0.0, 1.0))
def test_whatever_the_evidence_weights_are_not_negative_and_shares_sum_to_the_logit(seed, n, modalities, absent):
    rng = np.random.default_rng(seed)
    evidence = 3 * rng.normal(size=(n, modalities))
    evidence[rng.random(evidence.shape) < absent] = np.nan
    events = np.arange(n) % 3 == 0
    model = fitted(evidence, events, np.ones(n), np.arange(n).astype(str))
    assert (model.weights >= 0).all()
    assert np.isfinite(model.fitted.covariance).all()
    assert (variance(model, evidence) >= 0).all()
    parts = shares(model, evidence)
    assert (parts[np.isnan(evidence)] == 0).all()
    np.testing.assert_allclose(model.base + parts.sum(axis=1), logit(model, evidence), atol=1e-9)
