import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from medfusion.evaluation.bootstrap import (
    draw_auroc,
    draw_figures,
    percentile_interval,
    shifted_interval,
    subject_weights,
    weighted_ranking,
)
from medfusion.evaluation.metrics import calibration_error, ranking, recalibration

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


def test_the_drawn_calibration_error_is_that_of_the_resampled_rows():
    rng = np.random.default_rng(0)
    risks = rng.random(60)
    events, ids = rng.random(60) < risks, [str(number) for number in range(60)]
    draws = draw_figures(events, risks, ids, seed=4, resamples=10)["ece"]
    for draw, weights in zip(draws, np.vstack(list(subject_weights(ids, seed=4, resamples=10))), strict=True):
        rows = np.repeat(np.arange(60), weights)
        assert draw == pytest.approx(calibration_error(events[rows], risks[rows]))


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
        events = rng.random(n) < risks
        draws = draw_figures(events, risks, [str(number) for number in range(n)], seed, resamples=200)
        for name, value in truth.items():
            low, high = percentile_interval(draws[name])
            covered[name] += low <= value <= high
    assert all(86 <= count <= 100 for count in covered.values()), covered


def test_too_many_undefined_resamples_leave_no_interval():
    assert percentile_interval(np.array([np.nan] * 6 + [0.5] * 94)) is None
    assert percentile_interval(np.array([np.nan] * 5 + [0.5] * 95)) == (0.5, 0.5)
    assert shifted_interval(np.full(10, np.nan), 0.1) is None


def test_a_shifted_interval_surrounds_its_figure_and_ends_at_zero():
    draws = np.linspace(0.04, 0.10, 1001)
    low, high = shifted_interval(draws, 0.02)
    assert low == 0.0
    assert high == pytest.approx(0.02 + 0.03 * 0.95)
