import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from medfusion.evaluation.metrics import (
    Estimate,
    calibration_error,
    chance_calibration_error,
    check_risks,
    debiased_calibration_error,
    equal_mass_bins,
    ranking,
    recalibration,
)


def definition(y: np.ndarray, p: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error, written down as it is defined."""
    order = np.argsort(p, kind="stable")
    return sum(len(i) / len(y) * abs(y[i].mean() - p[i].mean()) for i in np.array_split(order, bins) if len(i))


def simulated(n: int, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.2, 1.3, n)
    return rng.random(n) < expit(slope * logits), expit(logits)


risks_with_ties = st.lists(
    st.tuples(st.booleans(), st.integers(0, 20).map(lambda step: step / 20)), min_size=1, max_size=60
)


@given(risks_with_ties, st.integers(1, 15))
@settings(deadline=None, max_examples=200)
def test_the_calibration_error_is_that_of_its_definition(pairs, bins):
    events, risks = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    assert calibration_error(events, risks, bins) == pytest.approx(definition(events, risks, bins), abs=1e-12)


def test_the_calibration_error_of_a_hand_worked_example():
    # Two bins: risks .1 .2 with one event (gap .35), risks .6 .9 with two (gap .25).
    events, risks = np.array([True, True, False, True]), np.array([0.9, 0.2, 0.1, 0.6])
    assert calibration_error(events, risks, bins=2) == pytest.approx((0.35 + 0.25) / 2)


def test_the_calibration_error_is_that_of_scikit_learns_quantile_bins():
    rng = np.random.default_rng(0)
    risks = rng.beta(1, 4, 500)
    events = rng.random(500) < risks
    observed, predicted = calibration_curve(events, risks, n_bins=10, strategy="quantile")
    assert calibration_error(events, risks) == pytest.approx(np.abs(observed - predicted).mean())


def test_bins_are_as_equal_as_can_be_and_hold_every_sample_once():
    bins = equal_mass_bins(np.linspace(1, 0, 23), 10)
    assert [len(rows) for rows in bins] == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert sorted(np.concatenate(bins).tolist()) == list(range(23))


def test_the_debiased_error_is_the_plug_in_less_its_bias_by_normal_draws():
    events, risks = simulated(300, slope=0.5, seed=3)
    gaps, noise, sizes = [], [], []
    for rows in np.array_split(np.argsort(risks, kind="stable"), 10):
        gaps.append(events[rows].mean() - risks[rows].mean())
        noise.append(np.sqrt((risks[rows] * (1 - risks[rows])).sum()) / len(rows))
        sizes.append(len(rows) / 300)
    plug_in = np.abs(gaps) @ sizes
    drawn = np.abs(np.random.default_rng(0).normal(gaps, noise, size=(200_000, 10))) @ np.array(sizes)
    assert debiased_calibration_error(events, risks) == pytest.approx(2 * plug_in - drawn.mean(), abs=2e-4)


def test_debiasing_brings_a_miscalibrated_model_close_to_its_true_error():
    logits = np.random.default_rng(0).normal(-1.2, 1.3, 200_000)
    gaps = expit(0.6 * logits) - expit(logits)
    true = np.mean([abs(gaps[rows].mean()) for rows in equal_mass_bins(expit(logits))])
    seen = [simulated(300, slope=0.6, seed=seed) for seed in range(150)]
    plain = np.mean([calibration_error(*pair) for pair in seen])
    debiased = np.mean([debiased_calibration_error(*pair) for pair in seen])
    assert abs(debiased - true) < 0.004 < plain - true


def test_the_chance_level_of_equal_risks_follows_from_the_binomial_distribution():
    # All risks .5 in ten bins of 40: the mean of |X / 40 - .5|, X binomial, is the chance level.
    from scipy.stats import binom

    counts = np.arange(41)
    expected = (np.abs(counts / 40 - 0.5) * binom.pmf(counts, 40, 0.5)).sum()
    chance = chance_calibration_error(np.full(400, 0.5), seed=0)
    assert chance.value == pytest.approx(expected, rel=0.02)
    assert chance.low < chance.value < chance.high


def test_a_calibrated_model_lies_within_the_range_of_chance_as_often_as_said():
    inside = 0
    for seed in range(100):
        events, risks = simulated(200, seed=seed)
        chance = chance_calibration_error(risks, seed=1, draws=200)
        inside += chance.low <= calibration_error(events, risks) <= chance.high
    assert 88 <= inside <= 100


def test_the_brier_skill_is_against_the_prevalence():
    events = np.array([True, False, False, False])
    assert ranking(events, np.full(4, 0.25))["brier_skill"] == pytest.approx(0.0)
    assert ranking(events, events.astype(float))["brier_skill"] == pytest.approx(1.0)
    assert ranking(events, np.array([0.5, 0.5, 0.0, 0.0]))["brier"] == pytest.approx(0.125)


def test_one_class_has_a_brier_score_and_no_ranking():
    figures = ranking(np.array([False, False]), np.array([0.5, 0.0]))
    assert figures == {"auroc": None, "auprc": None, "brier": 0.125, "brier_skill": None}


def test_the_slope_is_that_of_a_logistic_regression():
    events, risks = simulated(500, slope=0.7, seed=5)
    weights = np.random.default_rng(0).integers(0, 4, size=(3, 500)).astype(float)
    slope, _ = recalibration(events, risks, weights)
    for row in range(3):
        model = LogisticRegression(C=1e12, tol=1e-10).fit(logit(risks)[:, None], events, sample_weight=weights[row])
        assert slope[row] == pytest.approx(model.coef_[0, 0], rel=1e-4)


def test_the_intercept_makes_the_risks_right_on_the_whole():
    events, risks = simulated(500, slope=0.7, seed=5)
    _, intercept = recalibration(events, risks, np.ones((1, 500)))
    assert expit(logit(risks) + intercept[0]).mean() == pytest.approx(events.mean(), abs=1e-9)


def test_a_model_that_is_overconfident_by_a_known_factor_has_its_inverse_as_slope():
    events, risks = simulated(200_000, seed=1)
    slope, intercept = recalibration(events, expit(2.0 * logit(risks) + 0.0), np.ones((1, 200_000)))
    assert slope[0] == pytest.approx(0.5, abs=0.01)
    assert recalibration(events, risks, np.ones((1, 200_000)))[1][0] == pytest.approx(0.0, abs=0.02)
    assert intercept[0] > 0.1


@pytest.mark.parametrize(
    ("events", "risks"),
    [
        ([True, True, True], [0.2, 0.4, 0.6]),
        ([False, False, True, True], [0.1, 0.2, 0.8, 0.9]),
        ([False, True, True], [0.3, 0.3, 0.3]),
    ],
    ids=["one class", "separated", "equal risks"],
)
def test_a_slope_that_does_not_exist_is_not_a_number(events, risks):
    slope, _ = recalibration(np.array(events), np.array(risks), np.ones((1, len(events))))
    assert np.isnan(slope[0])


def test_risks_that_are_certain_do_not_break_the_calibration_line():
    events = np.array([False, True, False, True, True, False])
    slope, intercept = recalibration(events, np.array([0.0, 1.0, 1.0, 0.0, 0.7, 0.2]), np.ones((1, 6)))
    assert np.isfinite(slope[0])
    assert np.isfinite(intercept[0])


@pytest.mark.parametrize("bad", [1.01, -0.1, np.nan])
def test_a_risk_that_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match=r"1 risks are not within \[0, 1\]; the first is .* at position 1"):
        check_risks(np.array([True, False]), np.array([0.5, bad]), ["a", "b"])


def test_nothing_to_evaluate_is_said_so():
    with pytest.raises(ValueError, match="nothing to evaluate"):
        check_risks(np.array([], bool), np.array([]), [])
    with pytest.raises(ValueError, match="do not belong together"):
        check_risks(np.array([True]), np.array([0.5]), ["a", "b"])


def test_an_estimate_without_an_interval_has_none_in_its_text():
    assert Estimate(0.5).text() == "0.500"
    assert Estimate(0.5, 0.4, 0.6).text(digits=1) == "0.5 (0.4 to 0.6)"
