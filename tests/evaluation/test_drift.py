import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, fisher_exact, multinomial
from sklearn.metrics import roc_auc_score

from medfusion.core.errors import DataError, ModelFolderError
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Embedding
from medfusion.evaluation.drift import Fingerprint, drift
from medfusion.evaluation.drift_bins import Bins
from medfusion.evaluation.drift_kernel import BAG, KernelPrint
from medfusion.evaluation.drift_outcomes import expected_auroc
from medfusion.evaluation.drift_psi import adjusted, homogeneity_p, psi, psi_by_chance, reading

LABS, DIMENSIONS, WORDS = 12, 128, 60
_LOADINGS = np.random.default_rng(1).normal(size=(8, LABS + DIMENSIONS)) / 3
_USES = np.random.default_rng(2).uniform(0.02, 0.6, WORDS)
COUNTS = arrays.arrays(float, (2, 5), elements=st.integers(1, 500).map(float))


class Patients:
    """A made-up cohort: labs with gaps, activations, words, and calibrated risks."""

    def __init__(self, n, seed, ids="P"):
        rng = np.random.default_rng(seed)
        hidden = rng.normal(size=(n, 8))
        values = (hidden @ _LOADINGS + rng.normal(size=(n, LABS + DIMENSIONS))).astype(np.float32)
        self.labs, self.image = values[:, :LABS], values[:, LABS:]
        self.labs[:, 0] = np.round(np.exp(self.labs[:, 0]))
        self.labs[:, 6:][rng.random((n, 6)) < 0.3] = np.nan
        self.words = (rng.random((n, WORDS)) < _USES).astype(np.float32)
        self.here = rng.random((3, n)) < [[0.95], [0.7], [0.8]]
        self.risks = 1 / (1 + np.exp(1.2 - 1.5 * hidden[:, 0]))
        self.events = rng.random(n) < self.risks
        self.ids = [f"{ids}{row}" for row in range(n)]

    @property
    def blocks(self):
        labs, image = (np.where(self.here[[i]].T, each, np.nan) for i, each in enumerate((self.labs, self.image)))
        words = sparse.csr_array(np.where(self.here[[2]].T, self.words, 0).astype(np.float32))
        return {
            "ehr": Embedding(labs, self.here[0], [f"lab{i} last" for i in range(LABS)]),
            "imaging": Embedding(image, self.here[1], [f"dim{i}" for i in range(DIMENSIONS)], same_unit=True),
            "notes": Embedding(words, self.here[2], [f"word:{i}" for i in range(WORDS)]),
        }

    def fingerprint(self, importance=None):
        return Fingerprint.of(self.blocks, self.events, self.risks, self.ids, importance)

    def against(self, fingerprint, outcomes=False, permutations=999):
        events = self.events.astype(float) if outcomes else None
        return drift(fingerprint, self.blocks, events, self.risks, self.ids, permutations=permutations)


@pytest.fixture(scope="module")
def fingerprint():
    even = {"ehr": np.ones(LABS), "imaging": np.ones(DIMENSIONS), "notes": np.ones(WORDS)}
    return Patients(600, 0).fingerprint({name: (1.0, each) for name, each in even.items()})


# --- PSI


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


# --- bins


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


def test_a_patient_with_many_rows_counts_once():
    values = np.array([[1.0]] * 50 + [[2.0]] * 2, dtype=np.float32)
    ids = ["often"] * 50 + ["once", "other"]
    block = {"ehr": Embedding(values, np.ones(52, dtype=bool), ["lab"])}
    events = np.array([True] * 50 + [False] * 2)
    known = Fingerprint.of(block, events, np.linspace(0.1, 0.9, 52), ids)
    assert known.modalities["ehr"].counts[0].tolist() == pytest.approx([1.0, 2.0])
    assert known.events == pytest.approx(1.0)
    assert known.patients == 3


# --- MMD


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
    x, y = Patients(400, 3).image, Patients(150, 4).image + moved
    ids = [np.array([f"{i}" for i in range(len(each))]) for each in (x, y)]
    errors = []
    for seed in range(5):
        known = KernelPrint.of(x, ids[0], seed)
        wide = np.hypot(known.spread, np.median(known.spread))
        expected = _mmd2_by_pairs((x - known.centre) / wide, (y - known.centre) / wide, known.bandwidth)
        errors.append(known.shift(y, ids[1], 0, 9).mmd2 - expected)
    # D / 2 frequencies: a product of features is off by at most 1 / sqrt(D / 2) in standard deviation.
    assert known.bags.shape[1] == 512
    assert np.abs(errors).max() < 3 * max(expected, 0.01) / np.sqrt(256)


def test_without_drift_the_permutation_test_rejects_in_5_of_100_cases_and_with_drift_nearly_always():
    rejected, found = [], []
    for seed in range(100):
        x, y = Patients(150, 1000 + seed).image, Patients(40, 2000 + seed).image
        old, new = (np.array([f"{i}" for i in range(len(each))]) for each in (x, y))
        known = KernelPrint.of(x, old, seed)
        rejected.append(known.shift(y, new, seed, 199).p <= 0.05)
        found.append(known.shift(y + 0.4 * known.spread, new, seed, 199).p <= 0.05)
    assert np.mean(rejected) <= 0.10  # 95 % of binomial(100, 0.05) are within 1 to 10
    assert np.mean(found) >= 0.95


def test_no_embedding_is_kept_and_no_group_smaller_than_ten():
    cohort = Patients(300, 5)
    known = KernelPrint.of(cohort.image, np.array(cohort.ids), 0)
    assert known.bag_size == BAG == 10
    assert known.bags.shape == (30, 512)
    assert 2 * known.bags.shape[1] <= known.bag_size * DIMENSIONS
    single = known.features(cohort.image, np.array(cohort.ids))
    nearest = np.sqrt(((known.bags[:, None] - single[None]) ** 2).sum(axis=2)).min()
    # Nobody's features are a bag's: the nearest patient is farther than a bag from the mean of all.
    assert nearest > np.linalg.norm(known.bags - known.mean, axis=1).max()
    few = KernelPrint.of(cohort.image[:, :4], np.array(cohort.ids), 0)
    assert 2 * few.bags.shape[1] <= few.bag_size * 4


def test_too_few_patients_have_no_mmd():
    cohort = Patients(24, 6)
    assert KernelPrint.of(cohort.image, np.array(cohort.ids), 0) is None
    known = KernelPrint.of(Patients(300, 5).image, np.array(Patients(300, 5).ids), 0)
    shift = known.shift(cohort.image[:9], np.array(cohort.ids[:9]), 0)
    assert np.isnan(shift.p)
    assert shift.bags == 0


# --- promises


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


# --- the report


def test_two_cohorts_of_one_kind_are_told_to_differ_in_one_case_of_20_at_most():
    beyond, hurt = [], []
    for seed in range(20):
        known = Patients(200, 300 + seed).fingerprint()
        report = Patients(60, 400 + seed).against(known, outcomes=True, permutations=499)
        beyond.append((report.changes["reading"] != "within chance").any())
        hurt.append(report.verdict == "performance probably hurt")
    assert sum(beyond) <= 3  # 98 % of binomial(20, 0.05) are 3 at most
    assert sum(hurt) <= 4


def test_a_small_cohort_without_drift_does_not_alarm(fingerprint):
    report = Patients(20, 8).against(fingerprint)
    assert report.changes["size"].max() > 0.25  # by chance, which a plain reading of the PSI would not say
    assert report.verdict == "no sign of drift"


def test_what_moved_is_named_most_first_and_its_direction_told(fingerprint):
    cohort = Patients(200, 9)
    cohort.labs[:, 3] += 1.0
    cohort.labs[:, 4] += 0.6
    report = cohort.against(fingerprint)
    first = report.changes.iloc[:2]
    assert first["feature"].tolist() == ["lab3 last", "lab4 last"]
    assert first["reading"].tolist() == ["moved much", "moved much"]
    assert (first["after"] > 0.6).all()
    assert (first["p_adjusted"] < 0.001).all()
    assert report.verdict == "moved, performance probably not hurt"
    assert "lab3 last, lab4 last" in " ".join(report.reasons)


def test_what_moved_hurts_only_if_the_model_leans_on_it():
    cohort = Patients(200, 9)
    cohort.labs[:, 3] += 1.0
    verdicts = {}
    for weight in (0.01, 9.0):
        shares = {"ehr": (1.0, np.where(np.arange(LABS) == 3, weight, 1.0)), "imaging": (0.5, np.zeros(DIMENSIONS))}
        report = cohort.against(Patients(600, 0).fingerprint({**shares, "notes": (0.1, np.ones(WORDS))}))
        assert report.changes.iloc[0]["feature"] == "lab3 last"
        assert bool(report.changes.iloc[0]["matters"]) == (weight > 1)
        verdicts[weight] = report.verdict
    assert verdicts == {0.01: "moved, performance probably not hurt", 9.0: "performance probably hurt"}


def test_gaps_words_presence_and_activations_each_are_found(fingerprint):
    cohort = Patients(200, 10)
    cohort.labs[::2, 2] = np.nan
    cohort.words[:, 5] = 1
    cohort.here[2] &= np.arange(200) % 2 == 0
    cohort.image += 0.6
    changes = cohort.against(fingerprint).changes
    moved = changes[changes["reading"].isin(["moved", "moved much"])]
    found = set(zip(moved["modality"], moved["feature"], moved["what"], strict=True))
    assert {
        ("ehr", "lab2 last", "missing"),
        ("notes", "word:5", "used"),
        ("notes", "", "presence"),
        ("imaging", "", "all"),
    } <= found
    gap = changes[(changes["feature"] == "lab2 last") & (changes["what"] == "missing")].iloc[0]
    assert (gap["before"], gap["after"]) == (0.0, pytest.approx(0.5, abs=0.05))


def test_outcomes_decide_where_there_are_enough(fingerprint):
    worse = Patients(400, 11)
    worse.events = np.random.default_rng(0).permutation(worse.events)
    report = worse.against(fingerprint, outcomes=True)
    assert report.verdict == "performance probably hurt"
    assert "AUROC changed by -0.3" in report.reasons[0]
    more = Patients(400, 12)
    more.events |= np.random.default_rng(1).random(400) < 0.4
    assert "times as many events as the risks promised" in more.against(fingerprint, outcomes=True).reasons[0]
    moved = Patients(3000, 13)
    moved.labs[:] += 1.0  # much of what the model leans on, and yet it is right
    report = moved.against(fingerprint, outcomes=True)
    assert report.verdict == "moved, performance probably not hurt"
    assert moved.against(fingerprint).verdict == "performance probably hurt"


def test_risks_that_grew_alike_promise_a_lower_auroc(fingerprint):
    cohort = Patients(400, 14)
    cohort.risks = np.clip(cohort.risks, 0.2, 0.3)
    report = cohort.against(fingerprint)
    assert report.outlook.estimates["expected_change"].high < -0.05
    assert report.verdict == "performance probably hurt"
    assert "if risks are still calibrated" in report.reasons[0]


def test_features_that_nobody_has_any_more_are_listed_with_their_number(fingerprint):
    cohort = Patients(100, 15)
    cohort.labs[:, [1, 2]] = np.nan
    (problem,) = cohort.against(fingerprint).problems
    assert problem.line() == (
        "warning ehr: features is '2 of the model\\'s in no patient', expected as in the training; "
        "the model takes them as missing; check how they are coded: lab1, lab2 [features-never-seen]"
    ).replace("'2 of the model\\'s in no patient'", repr("2 of the model's in no patient"))


def test_a_cohort_with_nothing_in_common_is_refused(fingerprint):
    cohort = Patients(50, 16)
    cohort.here[:] = False
    message = r"no row has any.*expected ehr, imaging, notes; compare the names of files, codes and columns"
    with pytest.raises(DataError, match=message):
        cohort.against(fingerprint)


def test_what_does_not_belong_together_is_refused(fingerprint):
    cohort = Patients(50, 17)
    with pytest.raises(ValueError, match=re.escape("have [49, 50] rows")):
        drift(fingerprint, cohort.blocks, None, cohort.risks[1:], cohort.ids)
    with pytest.raises(ValueError, match=r"1 risks are not within \[0, 1\]; the first is 2.0 at position 3"):
        drift(fingerprint, cohort.blocks, None, np.where(np.arange(50) == 3, 2.0, cohort.risks), cohort.ids)
    blocks = {name: block for name, block in cohort.blocks.items() if name != "notes"}
    with pytest.raises(ValueError, match="notes: none features, the fingerprint was taken with 60"):
        drift(fingerprint, blocks, None, cohort.risks, cohort.ids)


def test_a_fingerprint_says_the_same_after_it_was_written_and_read(fingerprint, tmp_path):
    save_state(tmp_path, "fingerprint", fingerprint.state())
    again = Fingerprint.restore(load_state(tmp_path, "fingerprint"))
    cohort = Patients(80, 18)
    one, other = (json.dumps(cohort.against(each, outcomes=True).as_dict()) for each in (fingerprint, again))
    assert one == other
    with pytest.raises(ModelFolderError, match="version 9, expected 1; train the model again"):
        Fingerprint.restore({**fingerprint.state(), "format": 9})
    with pytest.raises(ModelFolderError, match="train the model again"):
        Fingerprint.restore({"format": 1})


def test_no_subject_id_and_no_row_of_the_training_is_in_a_fingerprint(fingerprint, tmp_path):
    cohort = Patients(600, 0)
    save_state(tmp_path, "fingerprint", fingerprint.state())
    text = (tmp_path / "fingerprint.json").read_text()
    assert not re.search(r"\bP\d+\b", text)
    rows = (tmp_path / "fingerprint.safetensors").read_bytes()
    for kind in (np.float32, np.float64):
        assert not any(row.astype(kind)[:3].tobytes() in rows for row in cohort.image[:50])
        assert not any(row.astype(kind)[3:5].tobytes() in rows for row in cohort.labs[:50])


@pytest.mark.parametrize("outcomes", [True, False])
def test_every_panel_yields_its_table_and_its_picture(fingerprint, outcomes):
    cohort = Patients(60, 19)
    cohort.labs[:, 3] += 3
    report = cohort.against(fingerprint, outcomes=outcomes, permutations=19)
    for panel in report.panels:
        assert len(panel.frame())
        assert panel.caption.endswith(".")
        panel.plot().canvas.draw()
    risks = next(panel for panel in report.panels if panel.title == "Risks").frame()
    assert risks[["training", "now"]].sum().tolist() == pytest.approx([1, 1])
    assert risks["n_outcomes"].sum() == (60 if outcomes else 0)
    assert list(report.frame().columns) == ["label", "value", "low", "high", "meaning", "note"]
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_single_new_patient_is_compared_without_an_alarm(fingerprint):
    report = Patients(1, 20).against(fingerprint, outcomes=True)
    assert report.verdict == "no sign of drift"
    json.dumps(report.as_dict(), allow_nan=False)
