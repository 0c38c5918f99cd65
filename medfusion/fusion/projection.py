"""A few coordinates for an embedding: what a network for few patients can take in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from medfusion.core.state import State
from medfusion.core.types import Embedding, FloatArray

DIMENSIONS = 8
"""Coordinates per modality, at most."""
_ROWS_PER_DIMENSION = 150


@dataclass(frozen=True, slots=True)
class Projection:
    """Principal components of an embedding: linear, so that what is said of a coordinate can be said of the features.

    A missing feature counts as average, and so has no part in any coordinate. Features of one unit keep their spreads;
    others are standardised first.

    Attributes
    ----------
    centre : array (d,)
        The average training row.
    directions : array (d, r)
        ``coordinates = (row - centre) @ directions``; the first has a spread of 1 in training, the others less.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(200, 1)) @ np.ones((1, 3))
    >>> embedding = Embedding(values, np.ones(200, dtype=bool), ["a", "b", "c"])
    >>> coordinates = Projection.fit(embedding).apply(embedding)
    >>> coordinates.shape, float(coordinates[:, 0].std().round(2))
    ((200, 1), 1.0)
    """

    centre: FloatArray
    directions: FloatArray

    @classmethod
    def fit(cls, embedding: Embedding) -> Projection:
        """Fit on the rows that are present."""
        rows: Any = embedding.values[np.flatnonzero(embedding.present)]
        values: FloatArray = rows.toarray() if sparse.issparse(rows) else rows
        if values.size == 0:
            return cls(np.zeros(values.shape[1]), np.zeros((values.shape[1], 0)))
        centre = _mean(values)
        filled = np.nan_to_num(values - centre)
        spread = filled.std(axis=0)
        scale = np.ones(len(centre)) if embedding.same_unit or sparse.issparse(embedding.values) else spread
        scale = np.where(spread > 1e-9, scale, np.inf)
        kept = min(DIMENSIONS, len(values) // _ROWS_PER_DIMENSION)
        _, singular, directions = np.linalg.svd(filled / scale, full_matrices=False)
        spreads = singular / np.sqrt(len(values))
        kept = min(kept, int((spreads > 1e-6 * max(spreads[0], 1e-12)).sum())) if spreads[0] > 1e-9 else 0
        return cls(centre, directions[:kept].T / scale[:, None] / (spreads[0] if kept else 1.0))

    def apply(self, embedding: Embedding) -> FloatArray:
        """Return coordinates (n, r), float64; 0 where the modality is absent."""
        values: Any = embedding.values
        if sparse.issparse(values):
            coordinates = self._filled(values) @ self.directions - self.centre @ self.directions
            coordinates[~embedding.present] = 0.0
            return np.asarray(coordinates)
        return np.asarray(np.nan_to_num(values - self.centre) @ self.directions)

    def _filled(self, values: Any) -> Any:
        """Put the average in place of what is stored as missing, as where a dense embedding stands beside words."""
        missing = np.isnan(values.data)
        if not missing.any():
            return values
        filled = values.astype(float)
        filled.data[missing] = self.centre[filled.indices[missing]]
        return filled

    def state(self) -> State:
        """Return the arrays, in single precision."""
        return {"centre": self.centre.astype(np.float32), "directions": self.directions.astype(np.float32)}

    @classmethod
    def restore(cls, state: State) -> Projection:
        """Return the projection that `state` described."""
        # Products round otherwise where the same numbers lie in memory in another order.
        return cls(state["centre"].astype(float), state["directions"].astype(float, order="C"))


def _mean(values: FloatArray) -> FloatArray:
    """Return the mean of what is known of each feature; 0 where nothing is."""
    known = ~np.isnan(values)
    return np.asarray(np.nansum(values, axis=0, dtype=float) / np.maximum(known.sum(axis=0), 1))
