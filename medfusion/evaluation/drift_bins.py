"""Histograms of many features, in bins that the training decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.state import State
from medfusion.core.types import FloatArray

BINS = 10
MOST_TERMS = 2000
FEWEST_USES = 10
_RAREST = 0.01
_ROWS_AT_ONCE = 1000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bins:
    """Which columns of a matrix are described one by one, and in which bins.

    A column of measurements has a bin per tenth of the training; a value that a tenth or more of it share has one to
    itself, and so has every value where there are 10 at most. A column of term weights, which a sparse matrix is taken
    to hold, has two: not used and used, which is above 0.

    Attributes
    ----------
    columns : array (F,), int
    edges : array (F, E)
        Upper ends (inclusive) of all bins but the last, filled up with infinity. As thresholds of a tree, they are
        values of the training, and nobody's in particular.
    are_terms : bool

    Examples
    --------
    >>> bins = Bins.of(np.arange(100.0)[:, None], np.ones(100))
    >>> counts, missing = bins.count(np.array([[3.0], [95.0], [np.nan]]), np.ones(3))
    >>> counts.tolist(), missing.tolist()
    ([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]], [1.0])
    """

    columns: NDArray[np.int64]
    edges: FloatArray
    are_terms: bool = False

    @classmethod
    def of(cls, values: Any, weights: FloatArray) -> Bins:
        """Choose bins on training rows.

        Parameters
        ----------
        values : array or CSR (n, d)
            Of term weights (CSR), only columns which at least 10 patients and 1 % use, and not all but 1 %, are taken,
            the 2,000 of them that divide the patients most evenly at most: too few uses tell nothing, and a term is a
            feature because the training used it.
        weights : array (n,)
            They sum to 1 for each patient.
        """
        if sparse.issparse(values):
            columns = _dividing(np.asarray(_used(values).T @ weights), float(weights.sum()))
            return cls(columns, np.zeros((len(columns), 1)), are_terms=True)
        cuts = [_cuts(column[~np.isnan(column)].astype(np.float64)) for column in np.asarray(values).T]
        edges = np.full((len(cuts), max(map(len, cuts), default=0)), np.inf)
        for row, each in zip(edges, cuts, strict=True):
            row[: len(each)] = each
        return cls(np.arange(len(cuts)), edges)

    @classmethod
    def none(cls) -> Bins:
        """Return bins for no column."""
        return cls(np.empty(0, dtype=np.int64), np.empty((0, 0)))

    def codes(self, values: Any) -> NDArray[np.int16]:
        """Return the bin of each value (n, F); -1 where it is missing."""
        chosen = values[:, self.columns]
        if sparse.issparse(chosen):
            return np.asarray(chosen.toarray() > 0, dtype=np.int16)
        codes = np.empty(chosen.shape, dtype=np.int16)
        for column, edges in enumerate(self.edges):
            codes[:, column] = np.searchsorted(edges, chosen[:, column], side="left")
        codes[np.isnan(chosen)] = -1
        return codes

    def count(self, values: Any, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Count patients per bin (F, E + 1), and those without the feature (F,)."""
        features, width = self.edges.shape[0], self.edges.shape[1] + 2
        counts = np.zeros(features * width)
        for start in range(0, len(weights), _ROWS_AT_ONCE):
            codes = self.codes(values[start : start + _ROWS_AT_ONCE])
            places = codes + (1 + width * np.arange(features))
            repeated = np.repeat(weights[start : start + _ROWS_AT_ONCE], features)
            counts += np.bincount(places.ravel(), repeated, minlength=len(counts))
        table = counts.reshape(features, width)
        return table[:, 1:], table[:, 0]

    def state(self) -> State:
        """Return what `restore` needs."""
        return {"columns": self.columns, "edges": self.edges, "are_terms": self.are_terms}

    @classmethod
    def restore(cls, state: State) -> Bins:
        """Return the bins that `state` described."""
        return cls(state["columns"], state["edges"], bool(state["are_terms"]))


def _used(values: Any) -> Any:
    used = values.copy()
    used.data = (used.data > 0).astype(np.float64)
    return used


def _dividing(uses: FloatArray, patients: float) -> NDArray[np.int64]:
    """Return columns that enough patients use, and not nearly all."""
    rarer = np.minimum(uses, patients - uses)
    kept = np.flatnonzero((uses >= max(FEWEST_USES, _RAREST * patients)) & (rarer >= _RAREST * patients))
    return np.sort(kept[np.argsort(-rarer[kept], kind="stable")[:MOST_TERMS]])


def _cuts(known: FloatArray) -> FloatArray:
    """Return the upper ends of the bins of one column, but for the last."""
    values, counts = np.unique(known, return_counts=True)
    if len(values) <= BINS:
        return np.asarray(values[:-1])
    reached = np.cumsum(counts) / counts.sum()
    tenths = values[np.searchsorted(reached, np.arange(1, BINS) / BINS - _ROUNDING)]
    shared = np.flatnonzero(counts * BINS >= counts.sum())
    cuts = np.union1d(tenths, values[shared[shared > 0] - 1])
    return np.asarray(cuts[cuts < values[-1]])
