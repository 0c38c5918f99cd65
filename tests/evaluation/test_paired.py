import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import chi2
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from medfusion.core.errors import UsageError
from medfusion.evaluation.bootstrap import subject_weights
from medfusion.evaluation.metrics import calibration_error
from medfusion.evaluation.paired import auroc_covariance, delong, pair

# Of DeLong et al. (1988), as given in the SAS/STAT User's Guide: albumin, total protein, K-G score, outcome.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.fixture
def ovarian():
    albumin, protein, score, outcome = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
    return outcome == 1, np.vstack([albumin, protein, 10 - score]), [str(number) for number in range(len(outcome))]


def naive(events, scores, ids):
    """Obuchowski (1997), written down pair by pair."""
    psi = (scores[:, events][:, :, None] > scores[:, ~events][:, None, :]).astype(float)
    psi += 0.5 * (scores[:, events][:, :, None] == scores[:, ~events][:, None, :])
    areas, m, n = psi.mean(axis=(1, 2)), events.sum(), (~events).sum()
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    ids, patients = np.array(ids), sorted(set(ids))
    x = np.array([[(v10[c] - areas[c])[ids[events] == p].sum() for p in patients] for c in range(len(scores))])
    y = np.array([[(v01[c] - areas[c])[ids[~events] == p].sum() for p in patients] for c in range(len(scores))])
    i10, i01, i = len(set(ids[events])), len(set(ids[~events])), len(patients)
    s10, s01 = x @ x.T * i10 / ((i10 - 1) * m), y @ y.T * i01 / ((i01 - 1) * n)
    s11 = x @ y.T * i / (i - 1)
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def test_the_published_example_of_delong_is_met(ovarian):
    areas, covariance = auroc_covariance(*ovarian)
    assert areas == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    gaps = contrast @ areas
    statistic = gaps @ np.linalg.solve(contrast @ covariance @ contrast.T, gaps)
    assert chi2.sf(statistic, 2) == pytest.approx(0.2817, abs=5e-5)


@pytest.mark.parametrize(("row", "expected"), [(0, (0.0108, 0.0953, 0.9102)), (1, (-0.0780, 0.1046, 0.4561))])
def test_each_difference_of_the_published_example_is_met(ovarian, row, expected):
    events, scores, ids = ovarian
    tested = delong(events, scores[row], scores[2], ids)
    assert (tested.value, tested.standard_error, tested.p) == pytest.approx(expected, abs=5e-5)


def test_a_hand_worked_example_with_two_samples_of_a_patient():
    # Patient a has 3 with and 0 without the event, b has 1 with it, c has 2 without it. Placements: 1 and 1/2; 0 -> 1,
    # 2 -> 1/2; AUROC 3/4. Sums over m = n = 2: a (1/8, 1/8), b (-1/8, 0), c (0, -1/8).
    # Variance: 2/1 * 2/64 + 2/1 * 2/64 + 2 * 3/2 * 1/64.
    areas, covariance = auroc_covariance(
        np.array([True, False, True, False]), np.array([[3.0, 0.0, 1.0, 2.0]]), ["a", "a", "b", "c"]
    )
    assert areas[0] == 0.75
    assert covariance[0, 0] == pytest.approx(4 / 64 + 4 / 64 + 3 / 64)


samples = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6), st.sampled_from("abcdefg")), min_size=4, max_size=40
)


@given(samples)
@settings(deadline=None, max_examples=150)
def test_the_covariance_is_that_of_all_pairs_written_down(samples):
    events, first, second, ids = (np.array(column) for column in zip(*samples, strict=True))
    if min(len(set(ids[events])), len(set(ids[~events]))) < 2:
        return
    scores = np.vstack([first, second]).astype(float)
    areas, covariance = auroc_covariance(events, scores, ids.tolist())
    expected_areas, expected = naive(events, scores, ids.tolist())
    assert areas == pytest.approx(expected_areas)
    assert covariance == pytest.approx(expected, abs=1e-12)
    tested = delong(events, *scores, ids.tolist())
    assert tested.standard_error**2 == pytest.approx(expected[0, 0] + expected[1, 1] - 2 * expected[0, 1], abs=1e-12)


def clustered(n=400, seed=0):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n // 2), 2)
    shared = rng.normal(size=n // 2)[patients]
    truth = 0.8 * shared + rng.normal(size=n)
    events = rng.random(n) < expit(truth - 0.7)
    good, poor = expit(truth + 0.8 * rng.normal(size=n)), expit(0.6 * truth + 1.5 * rng.normal(size=n))
    return events, {"good": good, "poor": poor}, [f"s{number}" for number in patients]


def test_copies_of_patients_tell_nothing_new():
    events, risks, ids = clustered()
    once = delong(events, risks["good"], risks["poor"], ids)
    copies = delong(np.tile(events, 3), np.tile(risks["good"], 3), np.tile(risks["poor"], 3), ids * 3)
    assert copies.standard_error == pytest.approx(once.standard_error)
    naive_copies = [f"{number}" for number in range(3 * len(ids))]
    apart = delong(np.tile(events, 3), np.tile(risks["good"], 3), np.tile(risks["poor"], 3), naive_copies)
    assert apart.standard_error < 0.65 * once.standard_error


def test_delong_and_the_paired_bootstrap_agree_on_the_standard_error():
    events, risks, ids = clustered(800)
    found = pair(events, risks, ids, [], seed=0, resamples=2000).auroc_difference("good", "poor")
    assert found.bootstrap_error == pytest.approx(found.standard_error, rel=0.06)
    assert found.low < found.value < found.high
    assert found.z == pytest.approx(found.value / found.standard_error)


def test_the_order_of_two_contenders_only_turns_the_sign():
    events, risks, ids = clustered()
    paired = pair(events, risks, ids, [0.2], seed=0, resamples=100)
    there, back = paired.auroc_difference("good", "poor"), paired.auroc_difference("poor", "good")
    assert (there.value, there.low, there.p) == pytest.approx((-back.value, -back.high, back.p))


def test_no_difference_between_equal_rankings_is_certain_and_nothing_is_said_of_a_constant_one():
    events = np.array([True] * 10 + [False] * 10)
    perfect, flat = np.arange(20)[::-1] / 20, np.full(20, 0.5)
    ids = [str(number) for number in range(20)]
    same = delong(events, perfect, perfect**2, ids)
    assert (same.value, same.standard_error, same.z, same.p) == (0.0, 0.0, 0.0, 1.0)
    other = delong(events, perfect, flat, ids)
    assert (other.value, other.standard_error) == (0.5, 0.0)
    assert np.isnan(other.p)


def test_a_single_patient_with_the_event_leaves_the_standard_error_open():
    events = np.array([True, True, False, False])
    tested = delong(events, np.array([4.0, 1, 2, 3]), np.array([1.0, 2, 3, 4]), ["a", "a", "b", "c"])
    assert tested.value == pytest.approx(0.5)
    assert np.isnan([tested.standard_error, tested.z, tested.p]).all()


def test_an_auroc_of_one_class_is_refused():
    with pytest.raises(ValueError, match="with and without the event"):
        auroc_covariance(np.ones(3, bool), np.ones((1, 3)), ["a", "b", "c"])


def test_differences_are_drawn_on_the_same_resamples():
    events, risks, ids = clustered(200)
    paired = pair(events, risks, ids, [0.25], seed=3, resamples=15)
    for draw, counts in enumerate(np.vstack(list(subject_weights(ids, 3, 15)))):
        rows = np.repeat(np.arange(200), counts)
        for figure, computed in {
            "auroc": roc_auc_score,
            "auprc": average_precision_score,
            "brier": lambda truth, risk: brier_score_loss(truth, risk, pos_label=True),
            "ece": calibration_error,
            "net_benefit_at_0.25": lambda truth, risk: (
                np.mean(truth & (risk >= 0.25)) - np.mean(~truth & (risk >= 0.25)) / 3
            ),
        }.items():
            expected = computed(events[rows], risks["good"][rows]) - computed(events[rows], risks["poor"][rows])
            assert paired.draws["good"][figure][draw] - paired.draws["poor"][figure][draw] == pytest.approx(expected)


def test_a_difference_of_every_figure_has_an_interval_around_it():
    events, risks, ids = clustered(400)
    paired = pair(events, risks, ids, [0.1, 0.3], seed=0, resamples=200)
    for figure in ["auroc", "auprc", "brier", "ece", "ece_debiased", "net_benefit_at_0.1", "net_benefit_at_0.3"]:
        found = paired.difference("good", "poor", figure)
        assert found.low < found.value < found.high, figure
        assert found.value == pytest.approx(paired.points["good"][figure] - paired.points["poor"][figure])


def test_one_patient_gives_a_difference_without_an_interval():
    events, risks, _ = clustered(40)
    paired = pair(events, risks, ["only"] * 40, [], seed=0, resamples=20)
    found = paired.difference("good", "poor", "brier")
    assert found.low is None
    assert found.note == "no interval: too few patients"
    assert paired.auroc_difference("good", "poor").low is None


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.2, 15])
def test_a_threshold_that_is_no_risk_is_refused(bad):
    events, risks, ids = clustered(40)
    with pytest.raises(UsageError, match=rf"threshold is {bad:g}, expected a risk above 0 and below 1"):
        pair(events, risks, ids, [0.2, bad], seed=0, resamples=10)


def test_ten_contenders_of_four_thousand_patients_take_seconds():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    events = rng.random(4000) < expit(truth - 2)
    risks = {str(number): expit(truth + rng.normal(size=4000) - 2) for number in range(10)}
    start = time.process_time()
    pair(events, risks, [str(number) for number in range(4000)], [0.1, 0.2], seed=0, resamples=100)
    assert time.process_time() - start < 6  # a thousand resamples then take less than a minute
