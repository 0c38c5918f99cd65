"""The lines of many ledgers as columns, so that a cohort is explained without an object per line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.types import FeatureShare, FloatArray

Places = NDArray[np.int64]
NO_TEXT: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True)
class Attributions:
    """The shares of n samples' embedding features in a head's log-odds; `medfusion.core.types.Attribution`, n times.

    Attributes
    ----------
    shares : array (n, d), or sparse CSR (n, d) with sorted indices
        Of a sparse embedding, the shares of what is stored.
    constant : array (n,)
        What the average record contributes.
    floor : array (d,)
        What a feature adds that is not stored, per unit of ``scale``; all 0 for dense shares.
    scale : array (n,)

    Examples
    --------
    >>> stored = sparse.csr_array(np.array([[0.5, 0.0, 0.0]]))
    >>> about = Attributions(stored, np.array([-1.0]), np.array([0.1, 0.2, 0.3]), np.array([2.0]))
    >>> about.unstored(), about.total()
    (array([1.]), array([0.5]))
    """

    shares: FloatArray | sparse.csr_array
    constant: FloatArray
    floor: FloatArray
    scale: FloatArray

    def columns(self, first: int, end: int, constant: bool) -> Attributions:
        """Return the shares of some columns, with the constant or without it."""
        kept = self.constant if constant else np.zeros_like(self.constant)
        return Attributions(self.shares[:, first:end], kept, self.floor[first:end], self.scale)

    def unstored(self) -> FloatArray:
        """Return what all features add that are not stored (n,)."""
        if isinstance(self.shares, np.ndarray):
            return np.zeros(len(self.constant))
        counts = np.diff(self.shares.indptr)
        row = np.repeat(np.arange(len(counts)), counts)
        stored = np.bincount(row, self.floor[self.shares.indices], minlength=len(counts))
        return np.asarray(self.scale * (self.floor.sum() - stored))

    def total(self) -> FloatArray:
        """Return the share of each sample (n,)."""
        return np.asarray(self.shares.sum(axis=1)).ravel() + self.unstored() + self.constant

    def at(self, rows: Places, columns: Places) -> FloatArray:
        """Return the shares (m,) of single features; 0 for one that is not stored, or whose column is -1."""
        if isinstance(self.shares, np.ndarray):
            return np.where(columns < 0, 0.0, self.shares[rows, columns])
        n, d = self.shares.shape
        stored = np.repeat(np.arange(n) * d, np.diff(self.shares.indptr)) + self.shares.indices
        wanted = rows * d + columns
        place = np.minimum(np.searchsorted(stored, wanted), max(len(stored) - 1, 0))
        if not len(stored):
            return np.zeros(len(rows))
        return np.where((stored[place] == wanted) & (columns >= 0), self.shares.data[place], 0.0)


@dataclass(frozen=True)
class Entries:
    """Lines of n ledgers, one entry each, where every sample has lines of its own.

    Attributes
    ----------
    n : int
        How many samples there are.
    names : sequence of str
    rows, lines : arrays (m,), int
        Sample and name of each entry; no pair comes twice.
    shares : array (m,)
        Log-odds.
    numbers : array (m,)
        What was observed, where it is a number; NaN elsewhere.
    texts : mapping from place to str
        What was observed, where it is no number.
    """

    n: int
    names: Sequence[str]
    rows: Places
    lines: Places
    shares: FloatArray
    numbers: FloatArray
    texts: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, ledgers: Sequence[Sequence[FeatureShare]]) -> Entries:
        """Return the lines of n ledgers.

        Examples
        --------
        >>> Entries.of([[FeatureShare("sex", "F", 0.5)], []]).ledgers()
        [[FeatureShare(feature='sex', value='F', share=0.5)], []]
        """
        places: dict[str, int] = {}
        every = [line for lines in ledgers for line in lines]
        found = np.array([places.setdefault(line.feature, len(places)) for line in every], dtype=np.int64)
        rows = np.repeat(np.arange(len(ledgers)), [len(lines) for lines in ledgers])
        numbers = [np.nan if line.value is None or isinstance(line.value, str) else line.value for line in every]
        texts = {place: line.value for place, line in enumerate(every) if isinstance(line.value, str)}
        shares = np.array([line.share for line in every], dtype=float)
        return cls(len(ledgers), list(places), rows, found, shares, np.array(numbers, dtype=float), texts)

    def ledgers(self) -> list[list[FeatureShare]]:
        """Return the lines of each sample, in the order of the entries."""
        found: list[list[FeatureShare]] = [[] for _ in range(self.n)]
        known = zip(self.rows.tolist(), self.lines.tolist(), self.shares.tolist(), self.numbers.tolist(), strict=True)
        for place, (row, line, share, number) in enumerate(known):
            value = self.texts.get(place, None if np.isnan(number) else number)
            found[row].append(FeatureShare(self.names[line], value, share))
        return found

    def take(self, places: Places) -> Entries:
        """Return some of the entries, in another order."""
        texts = {}
        if self.texts:
            texts = {new: self.texts[old] for new, old in enumerate(places.tolist()) if old in self.texts}
        rows, lines, shares, numbers = self.rows[places], self.lines[places], self.shares[places], self.numbers[places]
        return Entries(self.n, self.names, rows, lines, shares, numbers, texts)

    def placed(self, n: int, rows: Places) -> Entries:
        """Return the lines as those of some samples of n."""
        return replace(self, n=n, rows=rows[self.rows])

    def also(self, name: str, shares: FloatArray) -> Entries:
        """Add a line without a value to the samples whose share (n,) is not NaN."""
        rows = np.flatnonzero(~np.isnan(shares))
        extra = Entries(self.n, [name], rows, np.zeros_like(rows), shares[rows], np.full(len(rows), np.nan))
        return chained([self, extra])

    def without(self, gone: Places) -> Entries:
        """Leave out all lines of some samples."""
        return self.take(np.flatnonzero(~np.isin(self.rows, gone))) if len(gone) else self

    @property
    def counts(self) -> Places:
        """How many lines each sample has (n,)."""
        return np.bincount(self.rows, minlength=self.n)

    @property
    def totals(self) -> FloatArray:
        """What the lines of each sample sum to (n,)."""
        return np.asarray(np.bincount(self.rows, self.shares, minlength=self.n), dtype=float)

    @property
    def ranks(self) -> Places:
        """The place of each entry among those of its sample, which lie side by side (m,)."""
        counts = self.counts
        return np.arange(len(self.rows)) - np.repeat(np.cumsum(counts) - counts, counts)

    def closed(self, missing: FloatArray) -> Entries:
        """Add what is missing (n,) to the largest line of each sample."""
        ordered = self.largest(None)
        first = ordered.ranks == 0
        shares = ordered.shares.copy()
        shares[first] += missing[ordered.rows[first]]
        return replace(ordered, shares=shares)

    def largest(self, top: int | None) -> Entries:
        """Return the lines with the largest absolute shares of each sample, these first; None for all."""
        alphabetical = np.empty(len(self.names), dtype=np.int64)
        alphabetical[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(self.names))
        ordered = self.take(np.lexsort((alphabetical[self.lines], -np.abs(self.shares), self.rows)))
        return ordered if top is None else ordered.take(np.flatnonzero(ordered.ranks < top))


Look = Callable[[Places, Places], tuple[FloatArray, Mapping[int, str]]]
"""From samples (m,) and lines (m,) to what was observed: numbers (m,), NaN where there is none, and texts by place."""


@dataclass(frozen=True)
class Grid:
    """Lines of n ledgers as a matrix, where all samples have the same ones, or nearly so.

    Attributes
    ----------
    names : sequence of str, length l
    shares : array (n, l)
        Log-odds; NaN where a sample lacks the line.
    look : callable
        Looks values up, which is done for the lines that are shown.

    Examples
    --------
    >>> grid = Grid(["age", "pH"], np.array([[0.5, -0.7]]), lambda rows, lines: (np.array([70.0, 7.4])[lines], {}))
    >>> grid.largest(1).ledgers()
    [[FeatureShare(feature='pH', value=7.4, share=-0.7)]]
    """

    names: Sequence[str]
    shares: FloatArray
    look: Look = field(repr=False)

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(self.shares)

    @cached_property
    def _sizes(self) -> FloatArray:
        """Absolute shares (n, l); -1 where there is no line."""
        sizes: FloatArray = np.abs(self.shares)
        if np.isnan(sizes).any():
            sizes[np.isnan(sizes)] = -1.0
        return sizes

    def without(self, gone: Places) -> Grid:
        """Leave out all lines of some samples."""
        if not len(gone):
            return self
        shares = self.shares.copy()
        shares[gone] = np.nan
        return replace(self, shares=shares)

    @property
    def counts(self) -> Places:
        """How many lines each sample has (n,)."""
        return np.asarray((self._sizes >= 0).sum(axis=1))

    @cached_property
    def totals(self) -> FloatArray:
        """What the lines of each sample sum to (n,)."""
        totals = np.asarray(self.shares.sum(axis=1))
        partly = np.flatnonzero(np.isnan(totals))
        totals[partly] = np.nansum(self.shares[partly], axis=1)
        return totals

    def also(self, name: str, shares: FloatArray) -> Grid:
        """Add a line without a value to the samples whose share (n,) is not NaN."""
        if np.isnan(shares).all():
            return self
        extra = Grid([name], shares[:, None], lambda rows, lines: (np.full(len(rows), np.nan), NO_TEXT))
        everyone = np.arange(self.n)
        return _side_by_side([(everyone, self), (everyone, extra)], self.n)

    def closed(self, missing: FloatArray) -> Grid:
        """Add what is missing (n,) to the largest line of each sample."""
        shares, everyone = self.shares.copy(), np.arange(self.n)
        shares[everyone, self._sizes.argmax(axis=1)] += missing
        return replace(self, shares=shares)

    def largest(self, top: int | None) -> Entries:
        """Return the lines with the largest absolute shares of each sample, these first; None for all."""
        sizes = self._sizes
        kept = sizes >= 0
        if top is not None and top < sizes.shape[1]:
            kept &= sizes >= np.partition(sizes, -top, axis=1)[:, [-top]]
        rows, lines = np.nonzero(kept)
        order = np.lexsort((lines, -sizes[rows, lines], rows))
        rows, lines = rows[order], lines[order]
        if top is not None:
            counts = kept.sum(axis=1)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) < top
            rows, lines = rows[within], lines[within]
        numbers, texts = self.look(rows, lines)
        return Entries(self.n, self.names, rows, lines, self.shares[rows, lines], numbers, texts)


Lines = Grid | Entries
"""Both know `n`, `names`, `counts` and `totals`, and have `also`, `closed` and `largest`."""


def together(parts: Sequence[tuple[Places, Lines]], n: int) -> Lines:
    """Return the lines of several parts of an explanation; those of one name become one, with the later value.

    Parameters
    ----------
    parts : sequence of (rows, Lines)
        Lines of some of n samples, and which samples these are.
    n : int

    Examples
    --------
    >>> once, again = Entries.of([[FeatureShare("a", 7.0, 1.0)]]), Entries.of([[FeatureShare("a", 7.0, 2.0)]])
    >>> together([(np.array([0]), once), (np.array([0]), again)], 1).ledgers()
    [[FeatureShare(feature='a', value=7.0, share=3.0)]]
    """
    grids = [(rows, each) for rows, each in parts if isinstance(each, Grid)]
    if grids and len(grids) == len(parts):
        return _side_by_side(grids, n)
    entries = [(each.largest(None) if isinstance(each, Grid) else each).placed(n, rows) for rows, each in parts]
    every = chained(entries) if entries else Entries.of([[]] * n)
    pairs = every.rows * max(len(every.names), 1) + every.lines
    _, last, which = np.unique(pairs[::-1], return_index=True, return_inverse=True)
    shares: FloatArray = np.asarray(np.bincount(which[::-1], every.shares, minlength=len(last)), dtype=float)
    return replace(every.take(len(pairs) - 1 - last), shares=shares)


def chained(parts: Sequence[Entries]) -> Entries:
    """Return entries one after another, with one list of names."""
    places: dict[str, int] = {}
    lines, texts, start = [], {}, 0
    for each in parts:
        where = np.array([places.setdefault(name, len(places)) for name in each.names], dtype=np.int64)
        lines.append(where[each.lines])
        texts.update({start + place: text for place, text in each.texts.items()})
        start += len(each.rows)
    columns: list[Any] = [
        np.concatenate([getattr(each, name) for each in parts]) for name in ("rows", "shares", "numbers")
    ]
    return Entries(parts[0].n, list(places), columns[0], np.concatenate(lines), columns[1], columns[2], texts)


def _side_by_side(parts: Sequence[tuple[Places, Grid]], n: int) -> Grid:
    names, wheres = _united(tuple(tuple(each.names) for _, each in parts))
    shares = np.zeros((n, len(names)))
    whole = [len(rows) == n and not np.isnan(each.shares).any() for rows, each in parts]
    there = None if all(whole) else np.zeros(shares.shape, dtype=bool)
    for (rows, each), where in zip(parts, wheres, strict=True):
        if there is None:
            shares += _spread(each.shares, where, len(names))
        else:
            known = ~np.isnan(each.shares)
            shares[np.ix_(rows, where)] += np.where(known, each.shares, 0.0)
            there[np.ix_(rows, where)] |= known
    if there is not None:
        shares[~there] = np.nan
    back = [np.full(n, -1) for _ in parts]
    for place, (rows, _) in zip(back, parts, strict=True):
        place[rows] = np.arange(len(rows))
    return Grid(names, shares, _looks([each.look for _, each in parts], wheres, back, len(names)))


@lru_cache(maxsize=64)
def _united(parts: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Places]]:
    """Return all names once, and where those of each part are; a model's encoders have the same ones every time."""
    places: dict[str, int] = {}
    wheres = [np.array([places.setdefault(name, len(places)) for name in names], dtype=np.int64) for names in parts]
    return tuple(places), wheres


def _spread(shares: FloatArray, where: Places, size: int) -> FloatArray:
    """Return shares (n, l) as columns of a wider matrix (n, size), 0 elsewhere."""
    if len(where) == size and (where == np.arange(size)).all():
        return shares
    # Taking columns is much faster than adding to some; the last one stands for those that are not there.
    source = np.full(size, shares.shape[1])
    source[where] = np.arange(len(where))
    padded = np.hstack([shares, np.zeros((len(shares), 1))])
    return np.take(padded, source, axis=1)


def _looks(looks: Sequence[Look], wheres: Sequence[Places], back: Sequence[Places], size: int) -> Look:
    """Return what looks a value up in the last part that has the line, of that sample."""
    own = np.full((len(looks), size), -1)
    for number, where in enumerate(wheres):
        own[number, where] = np.arange(len(where))

    def look(rows: Places, lines: Places) -> tuple[FloatArray, Mapping[int, str]]:
        numbers, texts = np.full(len(rows), np.nan), {}
        todo = np.ones(len(rows), dtype=bool)
        for number in reversed(range(len(looks))):
            mine = np.flatnonzero(todo & (own[number, lines] >= 0) & (back[number][rows] >= 0))
            if len(mine):
                todo[mine] = False
                found, said = looks[number](back[number][rows[mine]], own[number, lines[mine]])
                numbers[mine] = found
                texts.update({int(mine[place]): text for place, text in said.items()})
        return numbers, texts

    return look
