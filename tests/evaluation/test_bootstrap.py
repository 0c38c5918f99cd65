import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from medfusion.evaluation.bootstrap import (
    difference_interval,
    draw_auroc,
    draw_figures,
    estimate,
    fewest_patients,
    logit_interval,
    percentile_interval,
    shifted_interval,
    subject_weights,
    weighted_calibration,
    weighted_ranking,
)
from medfusion.evaluation.metrics import calibration_error, debiased_calibration_error, ranking, recalibration

weighted_samples = st.lists(
    st.tuples(st.booleans(), st.integers(0, 8).map(lambda step: step / 8), st.integers(0, 3)), min_size=2, max_size=40
)


@given(weighted_samples)
@settings(deadline=None, max_examples=150)
def test_weighted_figures_are_those_of_scikit_learn(samples):
    samples = sorted(samples, key=lambda sample: sample[1])
    events, risks, weights = (np.array(column) for column in zip(*samples, strict=True))
    if weights.sum() == 0:
        return
    figures = weighted_ranking(events, risks, weights[None].astype(float))
    assert figures["brier"][0] == pytest.approx(brier_score_loss(events, risks, sample_weight=weights, pos_label=True))
    if 0 < weights[events].sum() < weights.sum():
        assert figures["auroc"][0] == pytest.approx(roc_auc_score(events, risks, sample_weight=weights))
        assert figures["auprc"][0] == pytest.approx(average_precision_score(events, risks, sample_weight=weights))
    else:
        assert np.isnan(figures["auroc"][0])
        assert np.isnan(figures["auprc"][0])
        assert np.isnan(figures["brier_skill"][0])


def test_a_resample_has_all_samples_of_a_subject_equally_often():
    ids = ["a", "b", "a", "c", "a", "b"]
    weights = np.vstack(list(subject_weights(ids, seed=0, resamples=50)))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, 1] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_each_draw_is_the_figure_of_the_resampled_rows():
    rng = np.random.default_rng(0)
    ids = [f"s{number}" for number in rng.integers(0, 40, 120)]
    risks = rng.random(120).round(2)
    events = rng.random(120) < risks
    draws = draw_figures(events, risks, ids, seed=4, resamples=20)
    for draw, weights in enumerate(np.vstack(list(subject_weights(ids, seed=4, resamples=20)))):
        rows = np.repeat(np.arange(120), weights)
        expected = ranking(events[rows], risks[rows])
        assert {name: draws[name][draw] for name in expected} == pytest.approx(expected)
        slope, intercept = recalibration(events[rows], risks[rows], np.ones((1, len(rows))))
        assert draws["calibration_slope"][draw] == pytest.approx(slope[0], rel=1e-5)
        assert draws["calibration_intercept"][draw] == pytest.approx(intercept[0], abs=1e-6)


@given(weighted_samples)
@settings(deadline=None, max_examples=150)
def test_weighted_calibration_errors_are_those_of_the_repeated_rows(samples):
    samples = sorted(samples, key=lambda sample: sample[1])
    events, risks, counts = (np.array(column) for column in zip(*samples, strict=True))
    if not counts.any():
        return
    rows = np.repeat(np.arange(len(events)), counts)
    found = weighted_calibration(events, risks, np.vstack([counts, counts[::-1]]))
    assert found["ece"][0] == pytest.approx(calibration_error(events[rows], risks[rows]))
    assert found["ece_debiased"][0] == pytest.approx(debiased_calibration_error(events[rows], risks[rows]), abs=1e-6)


def test_draws_are_the_same_for_the_same_seed_only():
    rng = np.random.default_rng(0)
    risks = rng.random(50)
    events, ids = rng.random(50) < risks, [str(number) for number in range(50)]
    first, again, other = (draw_auroc(events, risks, ids, seed=seed, resamples=30) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_intervals_of_repeated_samples_are_as_wide_as_those_of_the_patients():
    # Four copies of each patient are no more information than one.
    rng = np.random.default_rng(0)
    risks = rng.random(80)
    events, ids = rng.random(80) < risks, [str(number) for number in range(80)]
    once = percentile_interval(draw_auroc(events, risks, ids, seed=0))
    copies = percentile_interval(draw_auroc(np.tile(events, 4), np.tile(risks, 4), ids * 4, seed=0))
    assert copies == pytest.approx(once)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    n, seeds = 150, 100
    logits = np.random.default_rng(99).normal(-0.5, 1.2, 200_000)
    many = np.random.default_rng(98).random(200_000) < expit(logits)
    truth = {"auroc": roc_auc_score(many, logits), "brier": brier_score_loss(many, expit(logits))}
    truth["calibration_slope"] = 1.0
    covered = dict.fromkeys(truth, 0)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        risks = expit(rng.normal(-0.5, 1.2, n))
        events, ids = rng.random(n) < risks, [str(number) for number in range(n)]
        draws = draw_figures(events, risks, ids, seed, resamples=200)
        points = {**ranking(events, risks), "calibration_slope": recalibration(events, risks, np.ones((1, n)))[0][0]}
        for name, value in truth.items():
            found = estimate(name, points[name], draws[name], n, fewest_patients(events, ids))
            covered[name] += found.low <= value <= found.high
    assert all(86 <= count <= 100 for count in covered.values()), covered


def test_where_events_are_few_the_interval_of_the_auroc_still_holds():
    # Ten patients with the event: percentiles cover in about 90 of 100, see benchmarks/intervals.py.
    truth, covered = 0.85, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        events = np.arange(100) < 10
        risks = expit(rng.normal(size=100) + events * np.sqrt(2.0) * norm.ppf(truth))
        draws = draw_auroc(events, risks, [str(number) for number in range(100)], seed, resamples=200)
        low, high = logit_interval(draws, ranking(events, risks)["auroc"], 10)
        covered += low <= truth <= high
    assert 0.92 < covered / 200 < 0.99


def test_the_interval_on_the_scale_of_log_odds_is_that_of_its_formula():
    draws = np.random.default_rng(0).normal(0.9, 0.03, 500)
    low, high = logit_interval(draws, 0.9, fewest=12)
    reach = student.ppf(0.975, 11) * draws.std(ddof=1) / 0.09
    assert [low, high] == pytest.approx([1 / (1 + np.exp(sign * reach) / 9) for sign in (1, -1)])


@pytest.mark.parametrize(("value", "fewest"), [(1.0, 30), (0.0, 30), (0.9, 1)])
def test_separated_outcomes_and_a_single_patient_have_no_interval(value, fewest):
    draws = np.linspace(value - 0.01, value, 100)
    assert logit_interval(draws, value, fewest) is None
    why = "the risks separate the outcomes" if fewest > 1 else "too few patients with or without the event"
    found = estimate("auroc", value, draws, 60, fewest)
    assert (found.value, found.low, found.note) == (value, None, f"no interval: {why}")


def test_a_ranking_that_no_resample_changes_has_an_interval_without_width():
    assert logit_interval(np.full(100, 0.5), 0.5, fewest=30) == (0.5, 0.5)


def test_a_difference_has_the_normal_interval_of_its_resamples():
    draws = np.random.default_rng(0).normal(0.07, 0.02, 400)
    low, high = difference_interval(draws, 0.05)
    assert [low, high] == pytest.approx(norm.interval(0.95, 0.05, draws.std(ddof=1)))
    assert difference_interval(np.full(10, np.nan), 0.05) is None


def test_the_rarer_outcome_is_counted_in_patients():
    events = np.array([True, True, True, False, False])
    assert fewest_patients(events, ["a", "a", "b", "a", "c"]) == 2
    assert fewest_patients(np.ones(3, bool), ["a", "b", "c"]) == 0


def test_too_many_undefined_resamples_leave_no_interval():
    assert percentile_interval(np.array([np.nan] * 6 + [0.5] * 94)) is None
    assert percentile_interval(np.array([np.nan] * 5 + [0.5] * 95)) == (0.5, 0.5)
    assert shifted_interval(np.full(10, np.nan), 0.1) is None


def test_a_shifted_interval_surrounds_its_figure_and_ends_at_zero():
    draws = np.linspace(0.04, 0.10, 1001)
    low, high = shifted_interval(draws, 0.02)
    assert low == 0.0
    assert high == pytest.approx(0.02 + 0.03 * 0.95)
