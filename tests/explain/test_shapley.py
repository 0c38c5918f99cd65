"""Shapley values of modalities: against a game worked by hand, the axioms, every order of arrival, and shap."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.types import Block
from medfusion.explain import modality_shares

GLOVES = {"left": 1.0, "right": 1.0, "other right": 1.0}


def blocks_of(values):
    """Return blocks of one member and one sample; None is absent."""
    return {name: Block(np.array([[np.nan if value is None else value]])) for name, value in values.items()}


def present(blocks):
    return {name for name, block in blocks.items() if block.present[0, 0]}


def game(worth):
    """Return log-odds that depend on who is there alone."""
    return lambda blocks: np.array([[worth(frozenset(present(blocks)))]])


def drawn_game(seed, players):
    """Return a worth for every coalition, nothing for nobody."""
    rng = np.random.default_rng(seed)
    known = {frozenset(): 0.0}
    for size in range(1, 2**players):
        known[frozenset(f"m{place}" for place in range(players) if size >> place & 1)] = float(rng.normal())
    return known


def everybody(players):
    return blocks_of({f"m{place}": 1.0 for place in range(players)})


def by_order_of_arrival(worth, players):
    """Return what each player adds to those who came before, on average over all orders."""
    total = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        for place, player in enumerate(order):
            total[player] += worth(frozenset(order[: place + 1])) - worth(frozenset(order[:place]))
    return [total[player] / len(orders) for player in players]


games = {"seed": st.integers(0, 10_000), "players": st.integers(1, 4)}


def test_the_game_of_gloves_has_the_shares_that_are_worked_out_by_hand():
    """A pair is worth 1.

    Of six orders of arrival, the left glove completes a pair in the four in which it does not come first; each right
    one completes it in the one in which it comes second, after the left.
    """

    def pairs(here):
        return float("left" in here and len(here) > 1)

    shares = modality_shares(game(pairs), blocks_of(GLOVES))
    np.testing.assert_allclose(shares, [[[4 / 6, 1 / 6, 1 / 6]]], atol=1e-15)


def test_members_and_samples_have_games_of_their_own():
    evidence = {"a": np.array([[1.0, np.nan], [3.0, 4.0]]), "b": np.array([[10.0, 20.0], [np.nan, 40.0]])}
    blocks = {name: Block(values) for name, values in evidence.items()}

    def both(given):
        a, b = (np.nan_to_num(given[name].evidence) for name in "ab")
        return a + b + a * b

    np.testing.assert_array_equal(
        modality_shares(both, blocks), [[[6.0, 15.0], [0.0, 20.0]], [[3.0, 0.0], [84.0, 120.0]]]
    )


@settings(deadline=None)
@given(**games)
def test_shares_sum_to_what_all_together_are_worth(seed, players):
    known = drawn_game(seed, players)
    shares = modality_shares(game(known.__getitem__), everybody(players))
    assert shares.sum() == pytest.approx(known[frozenset(everybody(players))], abs=1e-12)


@settings(deadline=None)
@given(**games)
def test_shares_are_what_each_adds_on_average_over_all_orders_of_arrival(seed, players):
    known = drawn_game(seed, players)
    shares = modality_shares(game(known.__getitem__), everybody(players))
    expected = by_order_of_arrival(known.__getitem__, list(everybody(players)))
    np.testing.assert_allclose(shares[0, 0], expected, atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), players=st.integers(2, 4))
def test_who_is_interchangeable_has_the_same_share(seed, players):
    known = drawn_game(seed, players)

    def worth(here):
        swapped = {"m0": "m1", "m1": "m0"}
        return known[here] + known[frozenset(swapped.get(name, name) for name in here)]

    shares = modality_shares(game(worth), everybody(players))[0, 0]
    assert shares[0] == pytest.approx(shares[1], abs=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), players=st.integers(2, 4), alone=st.floats(-5, 5))
def test_who_adds_the_same_to_everybody_has_just_that(seed, players, alone):
    known = drawn_game(seed, players)

    def worth(here):
        return known[here - {"m0"}] + alone * ("m0" in here)

    assert modality_shares(game(worth), everybody(players))[0, 0, 0] == pytest.approx(alone, abs=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), gone=st.integers(0, 3))
def test_who_is_absent_has_exactly_nothing_and_the_others_what_they_have_without(seed, gone):
    known = drawn_game(seed, 4)
    values = {f"m{place}": None if place == gone else 1.0 for place in range(4)}
    shares = modality_shares(game(known.__getitem__), blocks_of(values))[0, 0]
    there = [name for name, value in values.items() if value is not None]
    assert shares[gone] == 0.0
    np.testing.assert_allclose(np.delete(shares, gone), by_order_of_arrival(known.__getitem__, there), atol=1e-12)


def test_shap_finds_the_same(shap):
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(20, 3))

    def formula(given):
        return 0.5 * given[:, 0] + given[:, 1] * given[:, 2] - np.tanh(given.sum(axis=1)) * given[:, 0]

    def logits(blocks):
        columns = [np.nan_to_num(block.evidence[0]) for block in blocks.values()]
        return formula(np.column_stack(columns))[None]

    found = modality_shares(logits, {f"m{place}": Block(column[None]) for place, column in enumerate(evidence.T)})
    expected = shap.explainers.ExactExplainer(formula, np.zeros((1, 3)))(evidence)
    np.testing.assert_allclose(found[0], expected.values, atol=1e-9)
