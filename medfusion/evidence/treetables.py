"""TreeSHAP of many rows by tables: what a tree says of a row depends on nothing but the outcomes of its comparisons.

Trees are cut into *twigs*: subtrees of height 2, each with the comparisons on the way to it. The outcomes of a twig's
comparisons are the bits of a small number, its *pattern*. What its leaves add to the log-odds, and to the SHAP value of
each feature, is worked out once per pattern; a row then only compares, and looks up. The idea is that of WOODELF [1]_.

References
----------
.. [1] Nadel A, Wettenstein R (2026). From decision trees to Boolean logic: a fast and unified SHAP algorithm. AAAI.
   arXiv:2511.09376.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evidence import treekernels
from medfusion.evidence.treecheck import MAX_DEPTH

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

_TWIG = 2
"""The height of twigs: higher ones would be fewer, with tables that no cache holds."""
_BLOCK = 128
"""Rows that are looked at together; they and their shares stay in the processor's cache."""
_AT_ONCE = 64
"""Twigs whose tables are worked out together, in the processor's cache, too."""
_QUADRATURE = np.polynomial.legendre.leggauss(MAX_DEPTH // 2)
"""Points between -1 and 1, and weights, that integrate polynomials of a degree below `MAX_DEPTH`."""
_NOBODY = 2**31 - 1
"""What XGBoost writes for the parent of a root."""


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The nodes of all trees, one tree after another; -1 where there is no such node."""

    left: Ints
    right: Ints
    parent: Ints
    feature: Ints
    number: Singles  # what is compared with; of a leaf, what it adds
    default_left: BoolArray
    cover: FloatArray

    @classmethod
    def of(cls, trees: list[Mapping[str, Any]]) -> _Nodes:
        sizes = np.array([len(tree["parents"]) for tree in trees])
        start = np.repeat(np.cumsum(sizes) - sizes, sizes)

        def every(name: str, kind: Any) -> Any:
            return np.concatenate([np.array(tree[name], dtype=kind) for tree in trees])

        left, right = every("left_children", np.int64), every("right_children", np.int64)
        parent = every("parents", np.int64)
        return cls(
            np.where(left < 0, -1, left + start),
            np.where(right < 0, -1, right + start),
            np.where(parent == _NOBODY, -1, parent + start),
            every("split_indices", np.int64),
            every("split_conditions", np.float32),
            every("default_left", bool),
            every("sum_hessian", float),
        )

    def heights(self) -> Ints:
        inner = np.flatnonzero(self.left >= 0)
        height = np.zeros(len(self.left), dtype=np.int64)
        for _ in range(MAX_DEPTH):
            height[inner] = 1 + np.maximum(height[self.left[inner]], height[self.right[inner]])
        return height


@dataclass(frozen=True, slots=True)
class _Twigs:
    """Twigs and the leaves in them.

    Attributes
    ----------
    slots : array (twigs, slots), int
        The nodes whose comparisons a twig depends on; -1 beyond the last.
    twig : array (leaves,), int
    used : array (leaves, slots), bool
        Which of its twig's comparisons are on the way to a leaf.
    left : array (leaves, slots), bool
        Whether that way goes to the left.
    cover : array (leaves, slots)
        The part of the training rows that goes that way; 1 where the comparison is not used.
    adds : array (leaves,)
        Log-odds.
    """

    slots: Ints
    twig: Ints
    used: BoolArray
    left: BoolArray
    cover: FloatArray
    adds: FloatArray

    @classmethod
    def of(cls, nodes: _Nodes) -> _Twigs:
        height, parent = nodes.heights(), nodes.parent
        heads = np.flatnonzero((height <= _TWIG) & ((parent < 0) | (height[parent] > _TWIG)))
        slots = _slots(nodes, heads)
        twig = np.full(len(parent), -1)
        twig[heads] = np.arange(len(heads))
        for _ in range(_TWIG):
            twig = np.where((twig < 0) & (parent >= 0), twig[parent], twig)
        leaves = np.flatnonzero(nodes.left < 0)
        leaves = leaves[np.argsort(twig[leaves], kind="stable")]
        shape = len(leaves), slots.shape[1]
        used, left, cover = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool), np.ones(shape)
        rows, below = np.arange(len(leaves)), leaves
        while len(rows := rows[parent[below] >= 0]):
            below = below[parent[below] >= 0]
            above = parent[below]
            slot = (slots[twig[leaves[rows]]] == above[:, None]).argmax(axis=1)
            used[rows, slot], left[rows, slot] = True, nodes.left[above] == below
            cover[rows, slot] = nodes.cover[below] / nodes.cover[above]
            below = above
        return cls(slots, twig[leaves], used, left, cover, nodes.number[leaves].astype(float))


def _slots(nodes: _Nodes, heads: Ints) -> Ints:
    """Return the inner nodes above each head, itself and its children, -1 at the end where there are fewer."""
    found = [heads, nodes.left[heads], nodes.right[heads]]
    above = heads
    for _ in range(MAX_DEPTH - _TWIG):
        above = np.where(above < 0, -1, nodes.parent[above])
        found.append(above)
    slots = np.stack(found, axis=1)
    slots[(slots < 0) | (nodes.left[slots] < 0)] = -1
    return np.take_along_axis(slots, np.argsort(slots < 0, axis=1, kind="stable"), axis=1)


@dataclass(frozen=True, slots=True)
class _Tables:
    """What the patterns of some twigs with equally many comparisons add.

    Attributes
    ----------
    twigs : array (twigs,), int
    margins : array (twigs, patterns)
        Log-odds of the leaf that is reached; 0 where it is in another twig.
    shares : array (twigs, comparisons, patterns)
        SHAP values of the feature that each comparison looks at; 0 if an earlier comparison looks at it, too.
    """

    twigs: Ints
    margins: FloatArray
    shares: FloatArray


def _tables(twigs: _Twigs, first_slot: Ints, chosen: Ints, size: int) -> _Tables:
    """Work out the tables of some twigs that depend on ``size`` comparisons each."""
    wanted = np.zeros(len(twigs.slots), dtype=bool)
    wanted[chosen] = True
    leaves = np.flatnonzero(wanted[twigs.twig])
    bits = (np.arange(2**size) >> np.arange(size)[:, None]) & 1 == 1
    used, left = twigs.used[leaves, :size].T[:, :, None], twigs.left[leaves, :size].T[:, :, None]
    met = ~used | (bits[:, None, :] == left)
    cover = twigs.cover[leaves, :size].T.copy()
    # Conditions on one feature are one condition: that of the first.
    for slot in range(size):
        first = first_slot[twigs.twig[leaves], slot]
        again = np.flatnonzero(first < slot)
        met[first[again], again] &= met[slot, again]
        cover[first[again], again] *= cover[slot, again]
        met[slot, again], cover[slot, again] = True, 1.0
    adds = twigs.adds[leaves][:, None]
    starts = np.flatnonzero(np.append(True, np.diff(twigs.twig[leaves]) > 0))
    margins = np.add.reduceat(adds * met.all(axis=0), starts, axis=0)
    shares = np.add.reduceat(adds * _shapley(met.astype(float), cover[:, :, None]), starts, axis=1)
    return _Tables(chosen, margins, shares.transpose(1, 0, 2))


def _shapley(met: FloatArray, cover: FloatArray) -> FloatArray:
    """Return the Shapley value of each condition (conditions, ...) on the way to a leaf that adds 1.

    With a set of features known, the leaf counts as the product of ``met`` over these and of ``cover`` over the others.
    The weights of Shapley values are integrals of polynomials [1]_, and these are summed exactly at a few points.

    .. [1] Owen G (1972). Multilinear extensions of games. Management Science 18(5).
    """
    gain = met - cover
    total = np.zeros(met.shape)
    for point, weight in zip(*_QUADRATURE, strict=True):
        factors = cover + (1 + point) / 2 * gain  # never 0: points are within the interval, and so are covers
        total += weight / 2 * factors.prod(axis=0) / factors
    return np.asarray(total * gain)


@dataclass(frozen=True, slots=True)
class _Lookups:
    """What is to be looked up: of each entry the twig, where its table begins, and what its numbers are added to."""

    twig: Ints
    target: Ints
    start: Ints
    numbers: Singles

    @classmethod
    def of(cls, parts: Sequence[tuple[Ints, Ints, FloatArray]]) -> _Lookups:
        """Put tables (entries, patterns) one after another, in the order of twigs."""
        twig, target = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        sizes = np.concatenate([np.full(len(table), table.shape[1]) for _, _, table in parts])
        numbers = np.concatenate([table.ravel() for _, _, table in parts]).astype(np.float32)
        order = np.argsort(twig, kind="stable")
        return cls(twig[order], target[order], (np.cumsum(sizes) - sizes)[order], numbers)

    def add(self, totals: Singles, patterns: NDArray[np.uint8]) -> Singles:
        """Add to totals (targets, rows), one number after the other."""
        treekernels.look_up(totals, patterns, self.twig, self.target, self.start, self.numbers)
        return totals


class TreeTables:
    """The tables of one booster of plain trees, none deeper than `MAX_DEPTH`.

    Parameters
    ----------
    model : mapping
        What XGBoost writes as JSON, found sound by `treecheck.checked`.
    base : float
        The log-odds that trees are added to.

    Attributes
    ----------
    constant : float
        The log-odds of the average training row.
    """

    def __init__(self, model: Mapping[str, Any], base: float) -> None:
        nodes = _Nodes.of(model["learner"]["gradient_booster"]["model"]["trees"])
        twigs = _Twigs.of(nodes)
        there = twigs.slots >= 0
        twig, place = np.nonzero(there)
        node = twigs.slots[there]
        self._twigs = len(there)
        self._comparisons = twig, nodes.feature[node], nodes.number[node], place, nodes.default_left[node]
        feature = np.where(there, nodes.feature[twigs.slots], -1)
        first = (feature[:, :, None] == feature[:, None, :]).argmax(axis=2)
        sizes = there.sum(axis=1)
        tables = [
            _tables(twigs, first, alike[start : start + _AT_ONCE], size)
            for size in np.unique(sizes).tolist()
            for alike in [np.flatnonzero(sizes == size)]
            for start in range(0, len(alike), _AT_ONCE)
        ]
        self._margins = _Lookups.of([(each.twigs, np.zeros_like(each.twigs), each.margins) for each in tables])
        self._shares = _Lookups.of([_by_feature(each, feature, first) for each in tables])
        self._base = np.float32(base)
        self.constant = float(base + twigs.adds @ twigs.cover.prod(axis=1))

    def margins(self, values: FloatArray) -> FloatArray:
        """Return the log-odds (n,) of rows (n, d): XGBoost's to the last bit, for they are summed in its order."""
        found = np.empty((len(values), 1))

        def work(rows: slice) -> None:
            base = np.full((1, rows.stop - rows.start), self._base)
            found[rows] = self._margins.add(base, self._patterns(values[rows].T)).T

        _in_blocks(work, len(values))
        return found[:, 0]

    def shares(self, values: FloatArray) -> FloatArray:
        """Return the SHAP values (n, d) of rows (n, d); NaN is a missing value."""
        found = np.empty(values.shape)

        def work(rows: slice) -> None:
            columns = values[rows].T
            found[rows] = self._shares.add(np.zeros(columns.shape, dtype=np.float32), self._patterns(columns)).T

        _in_blocks(work, len(values))
        return found

    def _patterns(self, columns: FloatArray) -> NDArray[np.uint8]:
        """Return the pattern of each twig (twigs, rows)."""
        patterns = np.zeros((self._twigs, columns.shape[1]), dtype=np.uint8)
        # As XGBoost does, in single precision: a value that is just below a number may not be so in double.
        treekernels.compare(np.ascontiguousarray(columns, dtype=np.float32), patterns, *self._comparisons)
        return patterns


def _by_feature(tables: _Tables, feature: Ints, first: Ints) -> tuple[Ints, Ints, FloatArray]:
    """Return twigs, features and tables (entries, patterns), leaving out comparisons that repeat a feature."""
    size = tables.shares.shape[1]
    new = first[tables.twigs, :size] == np.arange(size)
    return tables.twigs[np.nonzero(new)[0]], feature[tables.twigs, :size][new], tables.shares[new]


def _in_blocks(work: Callable[[slice], None], n: int) -> None:
    """Have rows worked on by all cores, block by block."""
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, blocks))
