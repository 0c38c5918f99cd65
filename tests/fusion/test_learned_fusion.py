"""Networks that learn what the sum of the evidence misses: what they find, what they leave, and how they are opened."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medfusion.core.folds import Patients, patient_folds
from medfusion.core.state import load_state, save_state
from medfusion.core.types import Block, Embedding
from medfusion.fusion import new_fusion, restore_fusion

MEMBERS, ROWS, FRESH = 2, 2_000, 6_000
NAMES = ("ehr", "imaging", "notes")
LEARNED = ("gated", "early", "joint")
FREE = ("early", "joint")
"""Those that see modalities together; a gate only weighs them."""


class World:
    """Outcomes that depend on three signals, and evidence that says of each what it says alone."""

    def __init__(self, rows, seed, interaction, absent=0.15):
        rng = np.random.default_rng(seed)
        signals = rng.normal(size=(rows, len(NAMES)))
        self.logits = -0.5 + signals @ [0.9, 0.7, 0.5] + interaction * signals[:, 0] * signals[:, 1]
        self.events = rng.random(rows) < expit(self.logits)
        subjects = np.arange(rows).astype(str)
        self.patients = Patients(subjects, self.events, patient_folds(subjects.tolist(), self.events, MEMBERS, seed))
        self.blocks = {}
        for place, (name, weight) in enumerate(zip(NAMES, (0.9, 0.7, 0.5), strict=True)):
            here = rng.random(rows) >= absent
            said = weight * signals[:, place] + rng.normal(scale=0.05, size=(MEMBERS, rows))
            values = np.where(here[:, None], np.column_stack([signals[:, place], rng.normal(size=rows)]), np.nan)
            embedding = Embedding(values, here, [f"{name} signal", f"{name} noise"])
            self.blocks[name] = Block(np.where(here, said, np.nan), (embedding,) * MEMBERS)


@pytest.fixture(scope="module")
def interplay():
    """Return training samples and fresh ones of a world in which two modalities mean together what neither says."""
    return World(ROWS, 0, interaction=1.5), World(FRESH, 1, interaction=1.5)


@pytest.fixture(scope="module")
def sums():
    """Return training samples and fresh ones of a world in which evidence adds up.

    Everything is there: of a part of the modalities, log-odds are no longer quite the sum, and a gate would see that.
    """
    return World(ROWS, 2, interaction=0.0, absent=0.0), World(FRESH, 3, interaction=0.0, absent=0.0)


@pytest.fixture(scope="module")
def of_interplay(interplay):
    return {kind: new_fusion(kind).fit(interplay[0].blocks, interplay[0].patients, 0) for kind in ("late", *FREE)}


@pytest.fixture(scope="module")
def of_sums(sums):
    return {kind: new_fusion(kind).fit(sums[0].blocks, sums[0].patients, 0) for kind in ("late", *LEARNED)}


def auroc(fusion, world):
    return roc_auc_score(world.events, fusion.logits(world.blocks).mean(axis=0))


@pytest.mark.parametrize("kind", FREE)
def test_where_modalities_mean_more_together_a_network_tells_fresh_patients_apart_better(interplay, of_interplay, kind):
    _, fresh = interplay
    possible = roc_auc_score(fresh.events, fresh.logits)
    late, learned = auroc(of_interplay["late"], fresh), auroc(of_interplay[kind], fresh)
    # Of 6,000 patients, the standard error of the difference is about 0.005.
    assert late + 0.02 < learned < possible


@pytest.mark.parametrize("kind", FREE)
def test_a_few_hundred_patients_are_enough_for_a_product_of_two_modalities(interplay, kind):
    few, (_, fresh) = World(500, 5, interaction=1.5), interplay
    late, learned = (auroc(new_fusion(each).fit(few.blocks, few.patients, 0), fresh) for each in ("late", kind))
    # What a logistic regression on evidence and its products, another library's, makes of the same patients.
    evidence, told = (
        np.nan_to_num(np.stack([each.evidence[0] for each in one.blocks.values()], axis=1)) for one in (few, fresh)
    )
    products = [np.column_stack([each, each[:, 0] * each[:, 1]]) for each in (evidence, told)]
    known = LogisticRegression().fit(products[0], few.events).decision_function(products[1])
    # The co-attention of the joint network has to learn on the same patients not to get in the way.
    assert learned - late > {"early": 0.7, "joint": 0.3}[kind] * (roc_auc_score(fresh.events, known) - late) > 0.01


@pytest.mark.parametrize("kind", LEARNED)
def test_where_evidence_adds_up_a_network_loses_next_to_nothing(sums, of_sums, kind):
    _, fresh = sums
    assert auroc(of_sums[kind], fresh) > auroc(of_sums["late"], fresh) - 0.005


@pytest.mark.parametrize("kind", LEARNED)
def test_a_network_that_finds_nothing_is_switched_off_and_the_sum_of_the_evidence_is_left(sums, of_sums, kind):
    fusion, (_, fresh) = of_sums[kind], sums
    total, network = fusion.fitted.weights
    standard_error = np.sqrt(fusion.fitted.covariance[2, 2])
    assert total == pytest.approx(1.0, abs=0.1)
    assert network <= 2 * standard_error
    late, learned = (of_sums[each].logits(fresh.blocks) for each in ("late", kind))
    assert (learned - late).std() < 0.1 * late.std()


@pytest.mark.parametrize("kind", FREE)
def test_a_network_that_finds_something_counts(of_interplay, kind):
    assert of_interplay[kind].fitted.weights[1] > 0.5
    assert set(of_interplay[kind].summary(NAMES)) == {
        f"weight of the sum of {', '.join(NAMES)}",
        "weight of the network",
    }


@pytest.mark.parametrize("kind", FREE)
def test_what_is_left_out_is_judged_as_fresh_patients_are(interplay, of_interplay, kind):
    train, fresh = interplay
    left_out = roc_auc_score(train.events, of_interplay[kind].left_out(train.blocks, train.patients))
    assert left_out == pytest.approx(auroc(of_interplay[kind], fresh), abs=0.04)


def moved(blocks, name, evidence, values):
    """Return one sample with other values of one modality, the same for all members."""
    block = blocks[name]
    here = np.ones(len(evidence), dtype=bool)
    rows = tuple(Embedding(np.asarray(values, float), here, each.feature_names) for each in block.embeddings)
    return {
        **{other: each.take(np.zeros(len(evidence), dtype=int)) for other, each in blocks.items()},
        name: Block(np.tile(evidence, (MEMBERS, 1)), rows),
    }


def with_only(blocks, kept):
    gone = np.ones(next(iter(blocks.values())).evidence.shape[1], dtype=bool)
    return {name: block if name in kept else block.without(gone) for name, block in blocks.items()}


def slopes_by_hand(fusion, blocks, name, member, points=400, step=1e-4):
    """Return the mean slope in evidence and in each feature, along the path and over all orders of arrival.

    Slopes are differences of predictions; the integral is the midpoint rule.
    """
    reference = fusion.pulls(blocks)[name].reference
    average = reference[member] if reference else np.zeros(2)
    evidence, values = blocks[name].evidence[member, 0], blocks[name].embeddings[member].values[0]
    along = (np.arange(points) + 0.5) / points
    total = np.zeros(1 + len(values))
    orders = list(permutations(blocks))
    for order in orders:
        kept = {name, *order[: order.index(name)]}
        for place in range(len(total)):
            said = []
            for sign in (1, -1):
                shift = np.eye(len(total))[place] * sign * step
                path = average + along[:, None] * (values - average) + shift[1:]
                given = with_only(moved(blocks, name, along * evidence + shift[0], path), kept)
                said.append(fusion.logits(given)[member])
            total[place] += np.mean(said[0] - said[1]) / (2 * step)
    return total / len(orders)


@pytest.mark.parametrize("kind", LEARNED)
def test_pulls_are_the_slopes_that_differences_of_predictions_show(interplay, of_interplay, of_sums, kind):
    fusion, (_, fresh) = {**of_sums, **of_interplay}[kind], interplay
    everything = np.flatnonzero(np.all([block.present[0] for block in fresh.blocks.values()], axis=0))
    for row, name, member in ((everything[0], "ehr", 0), (everything[1], "imaging", 1)):
        blocks = {each: block.take(np.array([row])) for each, block in fresh.blocks.items()}
        pull = fusion.pulls(blocks)[name]
        expected = slopes_by_hand(fusion, blocks, name, member)
        assert pull.evidence[0, member] == pytest.approx(expected[0], abs=1e-3)
        if fusion.uses_embeddings:
            np.testing.assert_allclose(pull.embedding[member][0], expected[1:], atol=1e-3)
        else:
            assert pull.embedding == ()


def test_fusions_with_another_seed_have_other_networks(interplay):
    train, _ = interplay
    one, other = (new_fusion("gated").fit(train.blocks, train.patients, seed) for seed in (0, 1))
    assert (one.logits(train.blocks) != other.logits(train.blocks)).any()


@pytest.mark.parametrize("kind", LEARNED)
def test_a_network_whose_parameters_do_not_fit_is_refused(of_sums, kind, tmp_path):
    save_state(tmp_path, "fusion", of_sums[kind].state())
    state = load_state(tmp_path, "fusion")
    name = next(iter(state["learners"][0]["network"]))
    state["learners"][0]["network"][name] = np.zeros((7, 7))
    with pytest.raises(ValueError, match="parameters do not fit a network of sizes"):
        restore_fusion(state)


def test_predictions_do_not_depend_on_how_many_threads_there_are(interplay, of_interplay):
    _, fresh = interplay
    threads, said = torch.get_num_threads(), []
    try:
        for several in (1, 2):
            torch.set_num_threads(several)
            said.append(of_interplay["joint"].logits(fresh.blocks))
            assert torch.get_num_threads() == several
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*said)
