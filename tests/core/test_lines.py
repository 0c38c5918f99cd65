"""Lines as columns: they are merged, closed and ordered as lines one by one are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfusion.core.lines import Entries, Grid, together
from medfusion.core.types import FeatureShare
from medfusion.outputs.fold import fold, fold_lines

SHARES = st.lists(st.floats(-2, 2).map(lambda share: round(share, 3)), min_size=0, max_size=8, unique_by=abs)


def ledgers_of(shares):
    return [[FeatureShare(f"value {place}", float(place), each) for place, each in enumerate(mine)] for mine in shares]


def grid_of(shares):
    width = max(map(len, shares), default=0)
    matrix = np.full((len(shares), width), np.nan)
    for row, mine in enumerate(shares):
        matrix[row, : len(mine)] = mine
    return Grid([f"value {place}" for place in range(width)], matrix, lambda rows, lines: (lines.astype(float), {}))


@given(st.lists(SHARES, min_size=1, max_size=5), st.integers(1, 6))
def test_many_ledgers_are_folded_as_each_by_itself(shares, top):
    expected = [fold(lines, top) for lines in ledgers_of(shares)]
    for lines in (Entries.of(ledgers_of(shares)), grid_of(shares)):
        found = fold_lines(lines, top).ledgers()
        for mine, others in zip(found, expected, strict=True):
            assert [(line.feature, line.value) for line in mine] == [(line.feature, line.value) for line in others]
            assert [line.share for line in mine] == pytest.approx([line.share for line in others], abs=1e-12)


@given(st.lists(SHARES, min_size=1, max_size=5))
def test_a_grid_and_its_entries_say_the_same(shares):
    grid, entries = grid_of(shares), Entries.of(ledgers_of(shares))
    assert grid.largest(None).ledgers() == entries.largest(None).ledgers()
    np.testing.assert_array_equal(grid.counts, entries.counts)
    np.testing.assert_allclose(grid.totals, [math.fsum(mine) for mine in shares], atol=1e-12)
    np.testing.assert_allclose(entries.totals, grid.totals, atol=1e-12)


@pytest.mark.parametrize("kinds", [(0, 0), (1, 1), (0, 1)], ids=["grids", "entries", "both"])
def test_lines_of_one_name_are_added_and_what_a_part_lacks_is_not_made_up(kinds):
    first, second = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0, 20.0]])
    both = [
        Grid(["a", "b"], first, lambda rows, lines: (lines + 1.0, {})),
        Grid(["b", "c"], second, lambda rows, lines: (np.full(len(rows), np.nan), {0: "seen"})),
    ]
    parts = [each.largest(None) if kind else each for kind, each in zip(kinds, both, strict=True)]
    merged = together([(np.array([0, 2]), parts[0]), (np.array([2]), parts[1])], 3)
    found = [{line.feature: line.share for line in lines} for lines in merged.largest(None).ledgers()]
    assert found == [{"a": 1.0, "b": 2.0}, {}, {"a": 3.0, "b": 14.0, "c": 20.0}]
    values = [{line.feature: line.value for line in lines} for lines in merged.largest(None).ledgers()]
    assert values[0] == {"a": 1.0, "b": 2.0}
    assert values[2]["a"] == 1.0
    assert merged.without(np.array([2])).counts.tolist() == [2, 0, 0]


def test_what_is_missing_goes_to_the_largest_line():
    for lines in (grid_of([[0.5, -2.0], [1.0]]), Entries.of(ledgers_of([[0.5, -2.0], [1.0]]))):
        closed = lines.closed(np.array([0.25, -0.5])).largest(None).ledgers()
        assert [[line.share for line in mine] for mine in closed] == [[-1.75, 0.5], [0.5]]
