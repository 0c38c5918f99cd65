"""PSI, MMD and the AUROC that risks promise: against worked examples, other libraries and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, fisher_exact, multinomial
from sklearn.metrics import roc_auc_score

from medfusion.evaluation.drift_bins import Bins
from medfusion.evaluation.drift_kernel import BAG, KernelPrint
from medfusion.evaluation.drift_outcomes import expected_auroc
from medfusion.evaluation.drift_psi import adjusted, homogeneity_p, psi, psi_by_chance, reading

COUNTS = arrays.arrays(float, (2, 5), elements=st.integers(1, 500).map(float))
DIMENSIONS = 128
_LOADINGS = np.random.default_rng(1).normal(size=(8, DIMENSIONS)) / 3


def activations(n, seed):
    """Return correlated embeddings (n, 128) and the names of their patients."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 8)) @ _LOADINGS + rng.normal(size=(n, DIMENSIONS))
    return values, np.array([f"P{row}" for row in range(n)])


def test_the_psi_is_that_of_a_worked_example():
    # (0.40 - 0.50) ln(0.40 / 0.50) + (0.30 - 0.30) ln(1) + (0.30 - 0.20) ln(0.30 / 0.20) = 0.02231 + 0 + 0.04055
    assert psi(np.array([500.0, 300.0, 200.0]), np.array([40.0, 30.0, 30.0])) == pytest.approx(0.06286, abs=1e-5)
    # An empty bin is half a patient: (0.0 is 0.5 of 10) (0.05 - 0.5) ln(0.05 / 0.5) + (1 - 0.5) ln(1 / 0.5)
    assert psi(np.array([10.0, 10.0]), np.array([0.0, 10.0])) == pytest.approx(1.03616 + 0.34657, abs=1e-4)


@given(COUNTS)
def test_a_psi_is_never_negative_symmetric_and_0_for_equal_shares(counts):
    before, after = counts
    assert psi(before, after) >= 0
    assert psi(before, after) == pytest.approx(psi(after, before))
    assert psi(before, 3 * before) == pytest.approx(0, abs=1e-12)


def test_the_psi_of_a_normal_that_moves_by_d_deviations_is_about_d_squared():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200_000)
    bins, weights = Bins.of(values[:, None], np.ones(len(values))), np.ones(len(values))
    counts = [bins.count((values + d)[:, None], weights)[0][0] for d in (0.0, 0.32, 0.5)]
    assert psi(counts[0], counts[1]) == pytest.approx(0.1, abs=0.01)
    assert psi(counts[0], counts[2]) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("n", "m"), [(400, 100), (4000, 80)])
def test_without_drift_a_psi_is_on_average_what_chance_explains(n, m):
    shares = np.full(10, 0.1)
    before = multinomial(n, shares).rvs(2000, random_state=0).astype(float)
    after = multinomial(m, shares).rvs(2000, random_state=1).astype(float)
    assert psi(before, after).mean() == pytest.approx(float(psi_by_chance(before[0], after[0])), rel=0.1)


@pytest.mark.parametrize(("bins", "n", "m"), [(10, 400, 100), (10, 4000, 20), (3, 300, 40), (2, 500, 200)])
def test_without_drift_a_feature_is_called_other_in_5_of_100_cases_at_most(bins, n, m):
    shares = np.random.default_rng(2).dirichlet(np.full(bins, 3.0))
    before = multinomial(n, shares).rvs(2000, random_state=0).astype(float)
    after = multinomial(m, shares).rvs(2000, random_state=1).astype(float)
    assert 0.02 < (homogeneity_p(before, after) < 0.05).mean() < 0.063


def test_p_values_are_those_of_scipy():
    two = np.array([[30.0, 12.0], [9.0, 11.0]])
    assert homogeneity_p(two[:1], two[1:])[0] == pytest.approx(2 * fisher_exact(two, alternative="greater").pvalue)
    three = np.array([[300.0, 120.0, 80.0], [60.0, 40.0, 35.0]])
    expected = chi2_contingency(three, correction=False).pvalue
    assert homogeneity_p(three[:1], three[1:])[0] == pytest.approx(expected)


def test_nothing_to_compare_has_no_p_value_and_is_no_comparison():
    before, after = np.array([[5.0, 0.0], [0.0, 0.0], [5.0, 5.0]]), np.array([[7.0, 0.0], [3.0, 3.0], [0.2, 0.3]])
    assert np.isnan(homogeneity_p(before, after)).all()
    assert np.isnan(adjusted(np.array([np.nan, 0.01]), ["a", "a"])[0])
    assert reading(5.0, float("nan")) == "within chance"


def test_families_are_adjusted_within_and_over():
    # Within: 0.001 * 2 and 0.02. Over: the smallest of each family, 0.002 * 2 families, and 0.03 as it is.
    assert adjusted(np.array([0.001, 0.02, 0.03]), ["a", "a", "b"]).tolist() == pytest.approx([0.004, 0.02, 0.03])


def test_bins_are_tenths_and_values_that_many_share_have_their_own():
    bins = Bins.of(np.column_stack([np.arange(1000.0), [0.0] * 600 + list(range(1, 401))]), np.ones(1000))
    counts, missing = bins.count(np.column_stack([np.arange(1000.0), [0.0] * 600 + list(range(1, 401))]), np.ones(1000))
    assert counts[0].tolist() == [100.0] * 10
    assert counts[1][0] == 600
    assert missing.tolist() == [0, 0]


@given(arrays.arrays(np.float32, (40, 2), elements=st.sampled_from([0.0, 1.0, 1.5, 2.0, 7.0, np.nan])))
def test_every_patient_is_in_one_bin_or_missing(values):
    bins = Bins.of(values, np.ones(40))
    counts, missing = bins.count(values, np.ones(40))
    assert (counts.sum(axis=1) + missing).tolist() == [40, 40]
    for column in range(2):
        known = values[~np.isnan(values[:, column]), column]
        assert sorted(np.unique(known, return_counts=True)[1]) == sorted(counts[column][counts[column] > 0])


def _mmd2_by_pairs(x, y, bandwidth):
    """Compute the unbiased estimate of the squared MMD, lemma 6 of Gretton et al. (2012), pair by pair."""
    kernel = [np.exp(-cdist(a, b, "sqeuclidean") / (2 * bandwidth**2)) for a, b in ((x, x), (y, y), (x, y))]
    n, m = len(x), len(y)
    return (
        (kernel[0].sum() - np.trace(kernel[0])) / (n * (n - 1))
        + (kernel[1].sum() - np.trace(kernel[1])) / (m * (m - 1))
        - 2 * kernel[2].mean()
    )


@pytest.mark.parametrize("moved", [0.0, 0.3, 0.8])
def test_the_mmd_is_that_of_all_pairs_within_the_error_of_fourier_features(moved):
    (x, old), (y, new) = activations(400, 3), activations(150, 4)
    y = y + moved
    errors = []
    for seed in range(5):
        known = KernelPrint.of(x, old, seed)
        wide = np.hypot(known.spread, np.median(known.spread))
        expected = _mmd2_by_pairs((x - known.centre) / wide, (y - known.centre) / wide, known.bandwidth)
        errors.append(known.shift(y, new, 0, 9).mmd2 - expected)
    # D / 2 frequencies: a product of features is off by at most 1 / sqrt(D / 2) in standard deviation.
    assert known.bags.shape[1] == 512
    assert np.abs(errors).max() < 3 * max(expected, 0.01) / np.sqrt(256)


def test_without_drift_the_permutation_test_rejects_in_5_of_100_cases_and_with_drift_nearly_always():
    rejected, found = [], []
    for seed in range(100):
        (x, old), (y, new) = activations(150, 1000 + seed), activations(40, 2000 + seed)
        known = KernelPrint.of(x, old, seed)
        rejected.append(known.shift(y, new, seed, 199).p <= 0.05)
        found.append(known.shift(y + 0.4 * known.spread, new, seed, 199).p <= 0.05)
    assert np.mean(rejected) <= 0.10  # 95 % of binomial(100, 0.05) are within 1 to 10
    assert np.mean(found) >= 0.95


def test_no_embedding_is_kept_and_no_group_smaller_than_ten():
    values, ids = activations(300, 5)
    known = KernelPrint.of(values, ids, 0)
    assert known.bag_size == BAG == 10
    assert known.bags.shape == (30, 512)
    assert 2 * known.bags.shape[1] <= known.bag_size * DIMENSIONS
    single = known.features(values, ids)
    nearest = np.sqrt(((known.bags[:, None] - single[None]) ** 2).sum(axis=2)).min()
    # Nobody's features are a bag's: the nearest patient is farther than a bag from the mean of all.
    assert nearest > np.linalg.norm(known.bags - known.mean, axis=1).max()
    few = KernelPrint.of(values[:, :4], ids, 0)
    assert 2 * few.bags.shape[1] <= few.bag_size * 4


def test_too_few_patients_have_no_mmd():
    values, ids = activations(24, 6)
    assert KernelPrint.of(values, ids, 0) is None
    shift = KernelPrint.of(*activations(300, 5), 0).shift(values[:9], ids[:9], 0)
    assert np.isnan(shift.p)
    assert shift.bags == 0


def test_the_auroc_that_risks_promise_is_the_mean_of_those_that_come():
    rng = np.random.default_rng(0)
    risks = np.sort(rng.beta(1, 3, size=300))
    came = [roc_auc_score(rng.random(300) < risks, risks) for _ in range(200)]
    assert float(expected_auroc(risks, np.ones((1, 300)))[0]) == pytest.approx(np.mean(came), abs=0.006)


def test_the_auroc_that_risks_promise_is_that_of_all_pairs():
    risks, weights = np.array([0.1, 0.3, 0.3, 0.8]), np.array([1.0, 2.0, 1.0, 3.0])
    right = pairs = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                weight = weights[i] * risks[i] * weights[j] * (1 - risks[j])
                pairs += weight
                right += weight * (1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0)
    assert expected_auroc(risks, weights[None])[0] == pytest.approx(right / pairs)
