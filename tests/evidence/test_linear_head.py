"""The linear head against scikit-learn on features standardised by hand, and against shap."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from medfusion.core.state import load_state, save_state
from medfusion.evidence.heads import Rows
from medfusion.evidence.linear import STRENGTHS, LinearHead


def rows(n, d, *, missing=0.0, density=1.0, same_unit=False, seed=0):
    """Features of different scale, of which some are missing or, with a density, most are zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)) * rng.uniform(0.1, 30.0, d) + rng.normal(size=d)
    events = rng.random(n) < expit((values[:, :3] - values[:, :3].mean(0)) @ (1 / values[:, :3].std(0)))
    if missing:
        values[rng.random((n, d)) < missing] = np.nan
    weights, patients = rng.choice([1.0, 0.7], n), np.arange(n).astype(str)
    if density < 1:
        values = sparse.csr_array(np.where(rng.random((n, d)) < density, values / 30, 0.0))
    return Rows(values, events, weights, patients, same_unit)


def standardised(train, values, same_unit=False):
    """Standardise by the training rows, with the mean for a missing value and a centred flag for its being missing."""
    gone = np.isnan(train)
    filled = np.where(gone, 0.0, train - np.nanmean(train, axis=0))
    spread = filled.std(axis=0)
    if same_unit:
        spread = np.sqrt(spread**2 + np.median(spread) ** 2)
    rate = gone.mean(axis=0)
    flagged = (rate > 0) & (rate < 1)

    def design(table):
        here = np.where(np.isnan(table), 0.0, table - np.nanmean(train, axis=0)) / spread
        return np.hstack([here, (np.isnan(table) - rate)[:, flagged]])

    return design(train), design(values)


def mean_of_fits(train, events, weights, values):
    """Average the log-odds of scikit-learn's fits, on rows scaled to a mean square norm of 1."""
    scale = np.sqrt((train**2).sum() / len(train))
    fits = [
        LogisticRegression(C=strength, solver="newton-cg", tol=1e-12, max_iter=2_000).fit(
            train / scale, events, sample_weight=weights
        )
        for strength in STRENGTHS
    ]
    return np.mean([fit.decision_function(values / scale) for fit in fits], axis=0)


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "with gaps"])
@pytest.mark.parametrize(("n", "d"), [(200, 12), (40, 90)], ids=["narrow", "wide"])
@pytest.mark.parametrize("same_unit", [False, True], ids=["own units", "same unit"])
def test_dense_rows_get_the_mean_of_logistic_regressions_on_standardised_features(n, d, missing, same_unit):
    data, new = rows(n, d, missing=missing, same_unit=same_unit), rows(30, d, missing=missing, seed=1).values
    head = LinearHead().fit(data)
    train, test = standardised(data.values, np.vstack([data.values, new]), same_unit)
    expected = mean_of_fits(train, data.events, data.weights, test)
    np.testing.assert_allclose(head.raw(np.vstack([data.values, new])), expected, atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(200, 30), (40, 300)], ids=["narrow", "wide"])
def test_sparse_rows_get_the_same_as_dense_rows_that_are_not_standardised(n, d):
    data, new = rows(n, d, density=0.1), rows(30, d, density=0.1, seed=1).values
    head = LinearHead().fit(data)
    expected = mean_of_fits(data.values.toarray(), data.events, data.weights, new.toarray())
    np.testing.assert_allclose(head.raw(new), expected, atol=1e-3)


def test_a_missing_value_counts_as_the_mean_and_a_flag():
    data = rows(300, 4, missing=0.3)
    head = LinearHead().fit(data)
    at_mean = head.reference.copy()
    gone = at_mean.copy()
    gone[1] = np.nan
    before, after = head.raw(np.stack([at_mean, gone]))
    assert after - before == pytest.approx(head.flag_slope[1], abs=1e-12)
    assert head.flag_slope[1] != 0


def test_that_a_value_is_missing_can_raise_the_risk():
    rng = np.random.default_rng(0)
    values, events = rng.normal(size=(400, 2)), rng.random(400) < 0.4
    values[events & (rng.random(400) < 0.6), 0] = np.nan
    head = LinearHead().fit(Rows(values, events, np.ones(400), np.arange(400).astype(str), same_unit=False))
    opened = head.shares(np.array([[np.nan, 0.0]]))
    assert opened.shares[0, 0] > 0.5
    assert opened.slope is None
    assert opened.shares.sum() + opened.constant == pytest.approx(head.raw(np.array([[np.nan, 0.0]]))[0], abs=1e-12)


@pytest.mark.parametrize("density", [1.0, 0.2], ids=["dense", "sparse"])
def test_shares_are_the_interventional_shap_values_and_sum_to_the_log_odds(shap, density):
    data = rows(80, 9, density=density)
    head = LinearHead().fit(data)
    dense = data.values if density == 1 else data.values.toarray()
    intercept = head.raw(np.zeros((1, 9)))[0]
    masker = shap.maskers.Independent(dense, max_samples=len(dense))
    explainer = shap.LinearExplainer((head.slope, intercept), masker)
    opened = head.shares(data.values)
    np.testing.assert_allclose(opened.shares, explainer.shap_values(dense), atol=1e-9)
    assert opened.constant == pytest.approx(explainer.expected_value, abs=1e-9)
    np.testing.assert_allclose(opened.shares.sum(axis=1) + opened.constant, head.raw(data.values), atol=1e-9)


def test_without_gaps_shares_are_a_slope_times_the_distance_from_the_reference():
    data = rows(80, 9)
    opened = LinearHead().fit(data).shares(data.values)
    np.testing.assert_allclose(opened.shares, opened.slope * (data.values - opened.reference), atol=1e-12)


def test_the_constant_is_the_log_odds_of_the_average_training_row():
    data = rows(80, 9)
    head = LinearHead().fit(data)
    assert head.raw(data.values).mean() == pytest.approx(head.constant, abs=1e-9)
    assert head.raw(data.values.mean(axis=0, keepdims=True))[0] == pytest.approx(head.constant, abs=1e-9)


@pytest.mark.parametrize("shape", [(30, 4), (30, 60)], ids=["narrow", "wide"])
def test_features_that_never_vary_give_everybody_the_base_rate(shape):
    events = np.arange(30) % 3 == 0
    data = Rows(np.ones(shape), events, np.ones(30), np.arange(30).astype(str), same_unit=True)
    raw = LinearHead().fit(data).raw(np.full((2, shape[1]), [[5.0], [-5.0]]))
    np.testing.assert_allclose(raw, np.log(0.5), atol=1e-3)


def test_a_feature_that_is_missing_everywhere_has_no_say():
    data = rows(60, 5)
    data.values[:, 2] = np.nan
    head = LinearHead().fit(data)
    assert (head.slope[2], head.flag_slope[2]) == (0.0, 0.0)
    changed = data.values.copy()
    changed[:, 2] = 9.0
    np.testing.assert_allclose(head.raw(changed), head.raw(data.values), rtol=1e-12)


@pytest.mark.parametrize("kind", [{"missing": 0.2}, {"density": 0.2}, {}], ids=["with gaps", "sparse", "complete"])
def test_a_head_that_is_read_back_says_exactly_the_same(tmp_path, kind):
    data = rows(60, 9, **kind)
    head = LinearHead().fit(data)
    save_state(tmp_path, "head", head.state())
    again = LinearHead.restore(load_state(tmp_path, "head"))
    np.testing.assert_array_equal(again.raw(data.values), head.raw(data.values))
    np.testing.assert_array_equal(again.shares(data.values).shares, head.shares(data.values).shares)
