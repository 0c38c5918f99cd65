"""The mean of heads, and the choice between them."""

import numpy as np
import pytest
from scipy.special import expit

from medfusion.core.state import load_state, save_state
from medfusion.evidence import Platt
from medfusion.evidence.choose import Candidate, MeanHead, Part, fit_heads, inner_folds
from medfusion.evidence.heads import Rows
from medfusion.evidence.linear import LinearHead
from medfusion.evidence.trees import TreeHead


def rows(logit, n=200, seed=0, per_patient=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3)).astype(np.float32)
    events = rng.random(n) < expit(logit(values))
    return Rows(values, events, np.ones(n), (np.arange(n) // per_patient).astype(str), same_unit=False)


def steep(values):
    return 2.5 * values[:, 0]


def extreme(values):
    """Both low and high values raise the risk, so that no line says anything."""
    return 5.0 * (np.abs(values[:, 0]) - 0.7)


def chosen(data):
    """Return the kinds of head that win on some rows."""
    parts = fit_heads([Candidate("linear", data), Candidate("trees", data)], seed=0)
    return [part.head.kind for part in parts.values()]


@pytest.fixture(scope="module")
def both():
    data = rows(steep)
    parts = [Part(LinearHead().fit(data), Platt(0.8, 0.1)), Part(TreeHead().fit(data), Platt(1.5, -0.2))]
    return data, parts, MeanHead(parts)


def test_the_mean_is_that_of_the_calibrated_log_odds(both):
    data, (linear, trees), head = both
    expected = ((0.1 + 0.8 * linear.head.raw(data.values)) + (-0.2 + 1.5 * trees.head.raw(data.values))) / 2
    np.testing.assert_allclose(head.raw(data.values), expected, atol=1e-12)


def test_the_shares_of_the_mean_are_the_means_of_the_shares_and_sum_to_it(both):
    data, (linear, trees), head = both
    opened = head.shares(data.values)
    expected = (0.8 * linear.head.shares(data.values).shares + 1.5 * trees.head.shares(data.values).shares) / 2
    np.testing.assert_allclose(opened.shares, expected, atol=1e-12)
    np.testing.assert_allclose(opened.shares.sum(axis=1) + opened.constant, head.raw(data.values), atol=1e-4)
    assert opened.slope is None


def test_a_mean_of_one_linear_head_keeps_its_slope_on_the_calibrated_scale():
    data = rows(steep)
    linear = LinearHead().fit(data)
    opened = MeanHead([Part(linear, Platt(0.5, 1.0))]).shares(data.values)
    np.testing.assert_allclose(opened.slope, 0.5 * linear.slope)
    np.testing.assert_allclose(opened.shares, opened.slope * (data.values - opened.reference), atol=1e-12)
    assert opened.constant == pytest.approx(1.0 + 0.5 * linear.constant)


def test_a_mean_that_is_read_back_says_exactly_the_same(both, tmp_path):
    data, _, head = both
    save_state(tmp_path, "head", head.state())
    again = MeanHead.restore(load_state(tmp_path, "head"))
    np.testing.assert_array_equal(again.raw(data.values), head.raw(data.values))
    np.testing.assert_array_equal(again.shares(data.values).shares, head.shares(data.values).shares)


def test_one_kind_of_head_is_fitted_and_not_tried():
    data = rows(steep)
    (part,) = fit_heads([Candidate("linear", data)], seed=0).values()
    assert (part.head.kind, part.platt) == ("linear", Platt())
    np.testing.assert_array_equal(part.head.slope, LinearHead().fit(data).slope)


def test_a_linear_relation_gets_a_linear_head():
    assert "linear" in chosen(rows(steep))


def test_a_relation_that_no_line_describes_gets_trees_alone():
    assert chosen(rows(extreme)) == ["trees"]


def test_the_inner_folds_are_as_many_as_the_patients_of_the_rarer_outcome_and_five_at_most():
    events = np.array([True, True, False, False, False, False, False, False])
    data = Rows(np.zeros((8, 1)), events, np.ones(8), np.array(list("aabcdefg")), same_unit=False)
    assert inner_folds(data) == 1
    assert inner_folds(rows(steep)) == 5


def test_of_many_rows_three_inner_folds_are_enough():
    assert (inner_folds(rows(steep, 999)), inner_folds(rows(steep, 1000))) == (5, 3)
