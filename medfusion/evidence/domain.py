"""Does a payload look like what the model was trained on? Distances from training embeddings, and what is too far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import ndtri

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

RATE = 0.01
"""The share of images like those of the training that is nominally flagged."""
FEWEST = 30
"""With fewer training rows there is no telling what is far."""
_COMPONENTS = 128
_ROWS_PER_COMPONENT = 3
_NOISE_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Subspace:
    """A Gaussian with few directions of its own variance and one variance in all others: probabilistic PCA [1]_.

    The Mahalanobis distance under it sums the distance within the subspace and the distance from it, each in units
    of its own spread [2]_.

    Attributes
    ----------
    mean : array (d,), float32
    components : array (r, d), float32
        Orthonormal; up to 128, and at most one for three training rows.
    variances : array (r,)
        Along the components.
    noise : float
        The variance in every other direction.

    References
    ----------
    .. [1] Tipping ME, Bishop CM (1999). Probabilistic principal component analysis. JRSS B 61(3).
    .. [2] Moghaddam B, Pentland A (1997). Probabilistic visual learning for object representation. IEEE TPAMI 19(7).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> subspace = Subspace.fit(rng.normal(size=(5000, 3)) * [9.0, 1.0, 1.0])
    >>> subspace.distance(np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])).round(0)
    array([1., 9.])
    """

    mean: FloatArray
    components: FloatArray
    variances: FloatArray
    noise: float

    @classmethod
    def fit(cls, values: FloatArray) -> Subspace:
        """Fit by maximum likelihood on values (n, d), without NaN."""
        n, d = values.shape
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = np.asarray(values, dtype=np.float32) - mean
        wide = n < d
        products = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64) / n
        kept = min(_COMPONENTS, n // _ROWS_PER_COMPONENT, d - 1)
        size = len(products)
        variances, vectors = linalg.eigh(products, subset_by_index=[size - max(kept, 1), size - 1])
        directions = (centred.T @ vectors if wide else vectors).T
        variances, directions = variances[::-1][:kept], directions[::-1][:kept]
        real = variances > max(_NOISE_FLOOR, float(products.trace()) * _NOISE_FLOOR)
        variances, directions = variances[real], directions[real]
        rest = max(float(products.trace() - variances.sum()), 0.0) / (d - len(variances))
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        return cls(mean, (directions / norms).astype(np.float32), variances, max(rest, _NOISE_FLOOR))

    def distance(self, values: FloatArray) -> FloatArray:
        """Return the Mahalanobis distance (n,) of values (n, d); NaN for a row with NaN."""
        centred = values.astype(np.float64) - self.mean
        along = centred @ self.components.T.astype(np.float64)
        beside = np.maximum(np.einsum("ij,ij->i", centred, centred) - (along**2).sum(axis=1), 0.0)
        return np.asarray(np.sqrt((along**2 / self.variances).sum(axis=1) + beside / self.noise))

    def state(self) -> State:
        """Return arrays and a number."""
        return {
            "mean": self.mean,
            "components": self.components,
            "variances": self.variances,
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, state: State) -> Subspace:
        """Return the subspace that `state` described."""
        return cls(state["mean"], state["components"], state["variances"], float(state["noise"]))


@dataclass(frozen=True, slots=True)
class Domain:
    """What the training looked like, and how far from it is too far.

    A subspace is fitted per fold, without that fold. The distances of the rows left out say what is usual: those of
    the rows that a subspace was fitted on would be too short. A distance is told in units of their median, so that 1
    is a typical training image.

    What is flagged lies beyond `limit`, where a log-normal distribution through the median and the 90th percentile of
    the left-out distances leaves 1 in 100. A quantile of the distances themselves would need hundreds of patients, and
    a few odd training images, which most archives have, would decide it. What makes up some per cent of the training is
    no stranger, though, wanted or not: clean the training if it holds wrong images.

    Attributes
    ----------
    members : tuple of Subspace, length k
        Member i has not seen the patients of fold i.
    typical : float
        The median of the left-out distances, as the members give them.
    left_out : array (n,), float32
        Left-out distances of the training rows in units of ``typical``, ascending.

    References
    ----------
    Lee K et al. (2018). A simple unified framework for detecting out-of-distribution samples and adversarial attacks.
    NeurIPS. Mahalanobis distances of a network's features, on which this builds.

    Bates S et al. (2023). Testing for outliers with conformal p-values. Annals of Statistics 51(1). Why distances are
    compared with those of rows left out.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> domain = Domain.fit(rng.normal(size=(500, 20)), folds=np.arange(500) % 5)
    >>> distances = domain.distance(np.array([np.full(20, 1.0), np.full(20, 5.0)]))
    >>> domain.is_outside(distances)
    array([False,  True])
    >>> domain.percentile(distances)[1]
    np.float64(100.0)
    """

    members: tuple[Subspace, ...]
    typical: float
    left_out: FloatArray

    @classmethod
    def fit(cls, values: FloatArray, folds: NDArray[np.int64]) -> Domain | None:
        """Fit on training embeddings.

        Parameters
        ----------
        values : array (n, d)
            Features measured in one unit, so that their spreads compare. One row per image where a payload has
            several: their mean would hide a wrong one.
        folds : array (n,), int from 0 to k - 1
            Equal for all rows of a patient.

        Returns
        -------
        Domain or None
            None if there are fewer than 30 rows, a fold holds all of them, or the rows hardly differ.

        Raises
        ------
        ValueError
            If a value is NaN or infinite.
        """
        if not np.isfinite(values).all():
            raise ValueError("a domain is fitted on finite embeddings; these hold NaN or infinite values")
        parts = [folds == fold for fold in range(int(folds.max(initial=-1)) + 1)]
        if len(values) < FEWEST or any(part.all() for part in parts):
            return None
        members = tuple(Subspace.fit(values[~part]) for part in parts)
        distances = np.empty(len(values))
        for member, part in zip(members, parts, strict=True):
            distances[part] = member.distance(values[part])
        typical = float(np.median(distances))
        if typical <= 0.0:
            return None
        return cls(members, typical, np.sort(distances / typical).astype(np.float32))

    @property
    def limit(self) -> float:
        """The distance beyond which a row is flagged, in units of a typical training image."""
        return float(np.quantile(self.left_out, 0.9) ** (ndtri(1.0 - RATE) / ndtri(0.9)))

    def distance(self, values: Any, mixture: FloatArray | None = None) -> FloatArray:
        """Return how far rows are from the training, in units of a typical training image.

        Parameters
        ----------
        values : array (n, d)
        mixture : array (n, k), optional
            How much each member counts, rows sum to 1: for a patient of the training cohort only the member that has
            not seen them. All alike unless given.

        Returns
        -------
        array (n,)
            NaN for a row with NaN.
        """
        by_member = np.column_stack([member.distance(values) for member in self.members])
        weights = 1.0 / len(self.members) if mixture is None else mixture
        return np.asarray((by_member * weights).sum(axis=1) / self.typical)

    def percentile(self, distances: FloatArray) -> FloatArray:
        """Return which part of the training rows is nearer (n,), in percent; NaN for NaN."""
        nearer = np.searchsorted(self.left_out, distances.astype(np.float32), side="left")
        return np.where(np.isnan(distances), np.nan, 100.0 * nearer / len(self.left_out))

    def is_outside(self, distances: FloatArray) -> BoolArray:
        """Return which distances (n,) are beyond `limit`; never so for NaN."""
        return np.asarray(distances > self.limit)

    def state(self) -> State:
        """Return everything needed to restore the domain; no embedding of a patient is in it."""
        members = [member.state() for member in self.members]
        return {"members": members, "typical": self.typical, "left_out": self.left_out}

    @classmethod
    def restore(cls, state: State) -> Domain:
        """Return the domain that `state` described."""
        members = tuple(Subspace.restore(member) for member in state["members"])
        return cls(members, float(state["typical"]), state["left_out"])
