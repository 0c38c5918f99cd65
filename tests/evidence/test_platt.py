"""Platt scaling against scikit-learn, and at its limits."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from medfusion.core.state import load_state, save_state
from medfusion.evidence import Platt


def drawn(n, seed=0):
    """Scores whose true calibration is 0.4 * score - 0.7."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(1.0, 2.0, n)
    return scores, rng.random(n) < expit(0.4 * scores - 0.7), rng.uniform(0.5, 2.0, n)


def test_with_many_rows_it_is_weighted_logistic_regression_without_a_penalty():
    scores, events, weights = drawn(50_000)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(scores[:, None], events, sample_weight=weights)
    platt = Platt.fit(scores, events, weights)
    # Smoothed targets move the fit by about 1/n.
    assert platt.slope == pytest.approx(reference.coef_[0, 0], abs=1e-3)
    assert platt.intercept == pytest.approx(reference.intercept_[0], abs=1e-3)


def test_it_is_the_minimum_of_the_log_loss_of_platts_smoothed_targets():
    scores, events, weights = drawn(60)
    positive, negative = weights[events].sum(), weights[~events].sum()
    targets = np.where(events, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def gradient(platt):
        error = weights * (expit(platt.apply(scores)) - targets)
        return error.sum(), error @ scores

    assert gradient(Platt.fit(scores, events, weights)) == pytest.approx((0.0, 0.0), abs=1e-3)


def test_a_score_that_points_the_wrong_way_is_flattened_and_not_turned_around():
    scores, events, weights = drawn(2_000)
    platt = Platt.fit(-scores, events, weights)
    assert platt.slope == 0.0
    assert platt.intercept == pytest.approx(
        np.log(np.average(events, weights=weights) / np.average(~events, weights=weights)), abs=0.01
    )


def test_scores_that_separate_the_outcomes_are_calibrated_to_finite_log_odds():
    scores = np.array([-2.0, -1.0, 1.0, 2.0])
    platt = Platt.fit(scores, scores > 0, np.ones(4))
    assert 0.0 < platt.slope < np.inf
    # The targets of two rows each are 3/4 and 1/4.
    assert np.abs(expit(platt.apply(scores)) - 0.5).max() < 0.35


def test_scores_that_are_all_alike_give_the_base_rate():
    platt = Platt.fit(np.full(90, 3.0), np.arange(90) < 30, np.ones(90))
    assert expit(platt.apply(3.0)) == pytest.approx((30 * 31 / 32 + 60 * 1 / 62) / 90, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(-300, 300).map(lambda tenths: tenths / 10), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda events: 0 < sum(events) < len(events)),
        )
    ),
    st.floats(0.1, 20.0),
    st.floats(-50.0, 50.0),
)
@example(rows=([0.0] * 3, [False, False, True]), scale=1.0, shift=22.268679153764843)
def test_the_slope_is_never_negative_and_the_scale_of_the_score_does_not_matter(rows, scale, shift):
    scores, events = np.array(rows[0]), np.array(rows[1])
    weights = np.ones(len(events))
    platt, other = Platt.fit(scores, events, weights), Platt.fit(scale * scores + shift, events, weights)
    assert platt.slope >= 0
    assert np.isfinite([platt.slope, platt.intercept]).all()
    np.testing.assert_allclose(platt.apply(scores), other.apply(scale * scores + shift), atol=0.05)


def test_it_is_written_as_two_numbers_and_read_back_exactly(tmp_path):
    platt = Platt.fit(*drawn(100))
    save_state(tmp_path, "platt", platt.state())
    assert Platt(**load_state(tmp_path, "platt")) == platt
