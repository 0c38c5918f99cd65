"""What every fusion has to do, tried on each kind that there is."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import expit

from medfusion.core.folds import Patients, patient_folds
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Block, Embedding
from medfusion.explain import modality_shares
from medfusion.fusion import KINDS, new_fusion, projection, restore_fusion, training
from medfusion.fusion.weights import Weights

ROWS, MEMBERS, SEED = 200, 5, 3
NAMES = ("ehr", "imaging", "notes")
SUBSETS = list(product([False, True], repeat=len(NAMES)))
ADDITIVE = ("late",)


def dense(signal, columns, rng):
    """Return features that go with a signal, as an encoder in single precision makes them."""
    return (np.outer(signal, rng.normal(size=columns)) + rng.normal(size=(len(signal), columns))).astype(np.float32)


def words(signal, columns, rng):
    """Return what is stored of few words per note, some more often where the signal is high."""
    often = expit(np.outer(signal, rng.normal(size=columns)) - 1.5)
    return sparse.csr_array(np.where(rng.random(often.shape) < often, rng.random(often.shape), 0).astype(np.float32))


def embedding(name, signal, here, member, rng):
    """Return what a member's encoder makes of a modality; no two have the same columns."""
    columns = {"ehr": 6, "imaging": 12, "notes": 30}[name] + member
    if name == "notes":
        rows = words(signal, columns, rng)
        values = sparse.csr_array(rows.multiply(here[:, None]).astype(np.float32))
        values.eliminate_zeros()
    else:
        values = dense(signal, columns, rng)
        values[rng.random(values.shape) < 0.1 * (name == "ehr")] = np.nan
        values[~here] = np.nan
    return Embedding(values, here, [f"{name} {column}" for column in range(columns)], same_unit=name == "imaging")


class Simulated:
    """Three modalities of which some are absent, as five members see them, and an outcome that is not their sum."""

    def __init__(self, seed=SEED):
        rng = np.random.default_rng(seed)
        signals = dict(zip(NAMES, rng.normal(size=(len(NAMES), ROWS)), strict=True))
        logits = -0.4 + sum(signals.values()) + 2.0 * signals["ehr"] * signals["imaging"]
        events = rng.random(ROWS) < expit(logits)
        subjects = np.sort(rng.integers(0, ROWS * 3 // 4, ROWS)).astype(str)
        self.patients = Patients(subjects, events, patient_folds(subjects.tolist(), events, MEMBERS, seed))
        self.blocks = {}
        for name, signal in signals.items():
            here = rng.random(ROWS) > 0.2
            evidence = np.where(here, 0.8 * signal + rng.normal(scale=0.1, size=(MEMBERS, ROWS)), np.nan)
            embeddings = tuple(embedding(name, signal, here, member, rng) for member in range(MEMBERS))
            self.blocks[name] = Block(evidence, embeddings)

    def only(self, chosen):
        """Return the blocks as if nobody had the other modalities."""
        gone = np.ones(ROWS, dtype=bool)
        return {
            name: block if kept else block.without(gone)
            for (name, block), kept in zip(self.blocks.items(), chosen, strict=True)
        }

    def flipped(self, fold):
        """Return the patients with the opposite outcome in one fold."""
        known = self.patients
        return Patients(known.subject_ids, known.events ^ (known.folds == fold), known.folds)


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Give few patients more coordinates than they get otherwise, and train briefly: no promise depends on either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_ROWS_PER_DIMENSION", 40)
        patch.setattr(training, "STEPS", 30)
        yield


@pytest.fixture(scope="module")
def simulated():
    return Simulated()


@pytest.fixture(scope="module", params=KINDS)
def fusion(request, simulated):
    """Return a fusion whose network, if it has one, counts: trained so briefly on so few, it would be switched off."""
    model = new_fusion(request.param).fit(simulated.blocks, simulated.patients, 0)
    if request.param not in ADDITIVE:
        model.fitted = Weights(model.base, np.array([0.9, 1.5]), model.fitted.covariance)
    return model


def taken(blocks, chosen):
    return {name: block.take(chosen) for name, block in blocks.items()}


def assert_same(found, expected):
    """Compare two states, array by array and bit by bit."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, each in expected.items():
            assert_same(found[key], each)
    elif isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


def test_the_contract_is_about_networks_that_have_something_to_say_of_several_coordinates(fusion, simulated):
    if fusion.kind in ADDITIVE:
        pytest.skip("this kind has no network")
    sums = [
        sum(
            weight * np.nan_to_num(block.evidence[place])
            for weight, block in zip(learner.weights, simulated.blocks.values(), strict=True)
        )
        for place, learner in enumerate(fusion.learners)
    ]
    added = fusion.logits(simulated.blocks) - fusion.base - 0.9 * np.stack(sums)
    assert added.std() > 0.01
    if fusion.uses_embeddings:
        assert all(size > 1 for learner in fusion.learners for size in learner.network.sizes)


@pytest.mark.parametrize("chosen", SUBSETS)
def test_any_subset_of_the_modalities_has_finite_log_odds(fusion, simulated, chosen):
    blocks = simulated.only(chosen)
    logits = fusion.logits(blocks)
    spread = fusion.variance(blocks, np.full((ROWS, MEMBERS), 1 / MEMBERS))
    assert logits.shape == (MEMBERS, ROWS)
    assert spread.shape == (ROWS,)
    assert np.isfinite(logits).all()
    assert np.isfinite(spread).all()
    assert (spread >= 0).all()


def test_without_any_modality_every_member_says_exactly_the_base(fusion, simulated):
    logits = fusion.logits(simulated.only([False] * 3))
    np.testing.assert_array_equal(logits, np.full((MEMBERS, ROWS), fusion.base))


def test_the_order_of_samples_changes_nothing(fusion, simulated):
    order = np.random.default_rng(0).permutation(ROWS)
    after = fusion.logits(taken(simulated.blocks, order))
    np.testing.assert_allclose(after, fusion.logits(simulated.blocks)[:, order], atol=1e-9, rtol=0)


def test_who_else_is_asked_about_changes_nothing(fusion, simulated):
    together = fusion.logits(simulated.blocks)
    for row in range(0, ROWS, 20):
        alone = fusion.logits(taken(simulated.blocks, np.array([row])))
        np.testing.assert_allclose(alone[:, 0], together[:, row], atol=1e-9, rtol=0)


def test_nobody_asked_about_is_no_error(fusion, simulated):
    assert fusion.logits(taken(simulated.blocks, np.array([], dtype=int))).shape == (MEMBERS, 0)


def test_shares_sum_to_the_log_odds_of_every_member_and_those_of_the_absent_are_exactly_nothing(fusion, simulated):
    shares = modality_shares(fusion.logits, simulated.blocks)
    np.testing.assert_allclose(fusion.base + shares.sum(axis=2), fusion.logits(simulated.blocks), atol=1e-9, rtol=0)
    for place, block in enumerate(simulated.blocks.values()):
        assert (shares[:, :, place][~block.present] == 0.0).all()
        assert (shares[:, :, place][block.present] != 0.0).any()


def average(block, pull, row):
    """Return one sample's block with values that pull nowhere in place of its own."""
    embeddings = tuple(
        Embedding(reference[None], np.ones(1, dtype=bool), each.feature_names, each.same_unit)
        for reference, each in zip(pull.reference, block.embeddings, strict=False)
    )
    return Block(np.where(np.isnan(block.evidence[:, [row]]), np.nan, 0.0), embeddings)


def test_what_values_do_not_pull_is_what_a_modality_would_add_if_they_were_average(fusion, simulated):
    for row in range(0, ROWS, 25):
        blocks = taken(simulated.blocks, np.array([row]))
        shares, pulls = modality_shares(fusion.logits, blocks)[:, 0], fusion.pulls(blocks)
        assert list(pulls) == list(NAMES)
        for place, (name, pull) in enumerate(pulls.items()):
            instead = {**blocks, name: average(simulated.blocks[name], pull, row)}
            rest = modality_shares(fusion.logits, instead)[:, 0, place]
            own = [pull.own(blocks[name], member)[0] for member in np.eye(MEMBERS)]
            # The path is integrated at 12 points; what that misses stays in the line of the rest.
            np.testing.assert_allclose(rest + own, shares[:, place], atol=1e-4, rtol=0)
            mixed = np.full(MEMBERS, 1 / MEMBERS)
            assert pull.own(blocks[name], mixed) == pytest.approx(np.mean(own), abs=1e-12)


def test_an_absent_modality_pulls_nowhere(fusion, simulated):
    if fusion.kind in ADDITIVE:
        pytest.skip("the pull of this kind is a weight, whoever is there")
    absent = int(np.flatnonzero(~simulated.blocks["imaging"].present[0])[0])
    pull = fusion.pulls(taken(simulated.blocks, np.array([absent])))["imaging"]
    assert not pull.evidence.any()
    assert not any(each.any() for each in pull.embedding)


def test_pulls_of_a_sum_are_its_weights_and_leave_nothing(fusion, simulated):
    if fusion.kind not in ADDITIVE:
        pytest.skip("this kind is more than a sum")
    shares = modality_shares(fusion.logits, simulated.blocks)
    for place, (block, weight) in enumerate(zip(simulated.blocks.values(), fusion.weights, strict=True)):
        np.testing.assert_allclose(shares[:, :, place], weight * np.nan_to_num(block.evidence), atol=1e-12, rtol=0)
    for row in range(0, ROWS, 10):
        blocks = taken(simulated.blocks, np.array([row]))
        for place, (name, pull) in enumerate(fusion.pulls(blocks).items()):
            np.testing.assert_array_equal(pull.evidence, np.full(MEMBERS, fusion.weights[place]))
            own = [pull.own(blocks[name], member)[0] for member in np.eye(MEMBERS)]
            np.testing.assert_allclose(own, shares[:, row, place], atol=1e-12, rtol=0)


def test_a_fusion_that_is_read_back_says_bit_by_bit_the_same(fusion, simulated, tmp_path):
    save_state(tmp_path, "fusion", fusion.state())
    again = restore_fusion(load_state(tmp_path, "fusion"))
    assert (again.kind, again.base) == (fusion.kind, fusion.base)
    assert again.summary(NAMES) == fusion.summary(NAMES)
    mixture = np.eye(MEMBERS)[simulated.patients.folds]
    for chosen in SUBSETS:
        blocks = simulated.only(chosen)
        np.testing.assert_array_equal(again.logits(blocks), fusion.logits(blocks))
        np.testing.assert_array_equal(again.variance(blocks, mixture), fusion.variance(blocks, mixture))
    one = taken(simulated.blocks, np.array([0]))
    for name, pull in fusion.pulls(one).items():
        np.testing.assert_array_equal(again.pulls(one)[name].evidence, pull.evidence)


def test_the_same_seed_fits_the_same_model_and_touches_nobody_elses_random_numbers_or_threads(fusion, simulated):
    threads = torch.get_num_threads()
    torch.manual_seed(17)
    np.random.seed(17)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    again = new_fusion(fusion.kind).fit(simulated.blocks, simulated.patients, 0)
    again.logits(taken(simulated.blocks, np.array([0])))
    restore_fusion(again.state())
    np.testing.assert_array_equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert torch.get_num_threads() == threads
    known = fusion.state() if fusion.kind in ADDITIVE else fusion.state()["learners"]
    assert_same(again.state() if fusion.kind in ADDITIVE else again.state()["learners"], known)


def test_what_is_said_of_a_fold_does_not_depend_on_its_own_outcomes(fusion, simulated):
    mine = simulated.patients.folds == 2
    before = fusion.left_out(simulated.blocks, simulated.patients)
    after = fusion.left_out(simulated.blocks, simulated.flipped(2))
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).all()


def test_what_is_fitted_for_a_fold_does_not_depend_on_its_own_outcomes(fusion, simulated):
    """Fit again with the other outcomes in one fold.

    Of a sum, what is left out does not move at all. Of networks, the one that judges the fold does not; the weight that
    it gets is fitted on the outcomes of the other folds, but on what their networks say, which have seen the fold.
    """
    mine = simulated.patients.folds == 2
    again = new_fusion(fusion.kind).fit(simulated.blocks, simulated.flipped(2), 0)
    if fusion.kind in ADDITIVE:
        before = fusion.left_out(simulated.blocks, simulated.patients)
        after = again.left_out(simulated.blocks, simulated.flipped(2))
        np.testing.assert_array_equal(after[mine], before[mine])
        return
    assert_same(again.state()["learners"][2], fusion.state()["learners"][2])
    for other in (0, 1, 3, 4):
        changed = again.state()["learners"][other]["network"], fusion.state()["learners"][other]["network"]
        assert any((one != changed[1][name]).any() for name, one in changed[0].items())


def test_left_out_log_odds_are_of_the_member_that_has_not_seen_the_sample(fusion, simulated):
    """What other members make of a sample may be anything: it is not looked at."""
    rng, folds = np.random.default_rng(0), simulated.patients.folds
    mine = np.arange(MEMBERS)[:, None] == folds
    moved = {
        name: Block(np.where(mine, block.evidence, block.evidence + rng.normal(size=mine.shape)), block.embeddings)
        for name, block in simulated.blocks.items()
    }
    before = fusion.left_out(simulated.blocks, simulated.patients)
    np.testing.assert_allclose(fusion.left_out(moved, simulated.patients), before, atol=1e-9, rtol=0)


def test_a_modality_that_nobody_has_is_no_error_and_changes_nothing_in_a_sum(fusion, simulated):
    nobody = np.zeros(ROWS, dtype=bool)
    letters = tuple(Embedding(np.full((ROWS, 4), np.nan), nobody, list("abcd")) for _ in range(MEMBERS))
    wider = {**simulated.blocks, "letters": Block(np.full((MEMBERS, ROWS), np.nan), letters)}
    again = new_fusion(fusion.kind).fit(wider, simulated.patients, 0)
    assert np.isfinite(again.logits(wider)).all()
    assert (modality_shares(again.logits, wider)[:, :, 3] == 0.0).all()
    if fusion.kind in ADDITIVE:
        np.testing.assert_allclose(again.logits(wider), fusion.logits(simulated.blocks), atol=1e-6, rtol=0)


def test_what_was_fitted_is_told_in_a_few_finite_numbers(fusion):
    told = fusion.summary(NAMES)
    assert 0 < len(told) <= len(NAMES)
    assert all(type(value) is float and np.isfinite(value) for value in told.values())
