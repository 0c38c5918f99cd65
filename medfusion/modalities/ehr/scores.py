"""Normal scores: what a value's rank among the training values would be, were they normally distributed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from medfusion.core.state import State
from medfusion.core.types import FloatArray

_LEVELS = np.linspace(0.0, 1.0, 65)
_EXTREME = 0.005
"""The least and the greatest value score like these percentiles: ranks of single records say little beyond."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalScores:
    """Van der Waerden's scores [1]_, linear between 64 equal parts of the training values; equal values score equally.

    Attributes
    ----------
    knots, scores : arrays (m,), float64
        Values and what they score, of all columns one after another.
    ends : array (d,), int64
        Where the knots of each column end.

    References
    ----------
    .. [1] van der Waerden BL (1952). Order tests for the two-sample problem. Indagationes Mathematicae 55.

    Examples
    --------
    >>> values = np.array([[1.0], [2.0], [400.0], [np.nan]])
    >>> NormalScores.fit(values).apply(values).astype(float).round(2).ravel().tolist()
    [-0.97, 0.0, 0.97, nan]
    """

    knots: FloatArray
    scores: FloatArray
    ends: NDArray[np.int64]

    @classmethod
    def none(cls) -> NormalScores:
        """Return the scores of no columns."""
        return cls(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))

    @classmethod
    def fit(cls, values: FloatArray) -> NormalScores:
        """Learn from training values (n, d); each column has at least one that is not NaN."""
        columns = [_knots(np.sort(column[~np.isnan(column)].astype(float))) for column in values.T]
        if not columns:
            return cls.none()
        knots, scores = (np.concatenate(each) for each in zip(*columns, strict=True))
        return cls(knots, scores, np.cumsum([len(each) for each, _ in columns]))

    def apply(self, values: FloatArray) -> FloatArray:
        """Return scores (n, d), float32; NaN stays NaN."""
        columns = np.ascontiguousarray(values.T)
        found = np.empty(columns.shape, dtype=np.float32)
        for column, (knots, scores) in enumerate(self._columns()):
            found[column] = np.interp(columns[column], knots, scores)
            if len(knots) == 1:  # numpy then takes NaN for any other number
                found[column][np.isnan(columns[column])] = np.nan
        return np.ascontiguousarray(found.T)

    def _columns(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        start = 0
        for end in self.ends.tolist():
            yield self.knots[start:end], self.scores[start:end]
            start = end

    def state(self) -> State:
        """Return the knots and their scores."""
        return {"knots": self.knots, "scores": self.scores, "ends": self.ends}

    @classmethod
    def restore(cls, state: State) -> NormalScores:
        """Return the scores that `state` described."""
        return cls(state["knots"], state["scores"], state["ends"])


def _knots(ordered: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the distinct values at 65 levels of a sorted column, and their scores."""
    knots = np.unique(np.quantile(ordered, _LEVELS, method="nearest"))
    rank = (np.searchsorted(ordered, knots, "left") + np.searchsorted(ordered, knots, "right")) / 2
    return knots, ndtri(np.clip(rank / len(ordered), _EXTREME, 1 - _EXTREME))
