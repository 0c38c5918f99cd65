"""Non-negative weights on terms in log-odds, and how well they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import expit

from medfusion.core.folds import Patients
from medfusion.core.state import State
from medfusion.core.types import FloatArray

RIDGE = 1.0
"""Strength of the pull of the weights to 0: what says little counts little."""

_EXACT = {"ftol": 1e-14, "gtol": 1e-9}


@dataclass(frozen=True, slots=True)
class Weights:
    """``logit = base + terms @ weights``, fitted by ridge logistic regression with weights that are never negative.

    Attributes
    ----------
    base : float
    weights : array (t,)
    covariance : array (1 + t, 1 + t)
        Of base and weights, robust to rows of the same patient (sandwich over patients) [1]_; a weight held at 0 does
        not vary.

    References
    ----------
    .. [1] Liang KY, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73(1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> terms = rng.normal(size=(4000, 2))
    >>> events = rng.random(4000) < expit(-1.0 + 0.8 * terms[:, 0])
    >>> patients = Patients(np.arange(4000).astype(str), events, np.zeros(4000, dtype=int))
    >>> Weights.fit(terms, patients).weights.round(1).tolist()
    [0.8, 0.0]
    """

    base: float
    weights: FloatArray
    covariance: FloatArray

    @classmethod
    def fit(cls, terms: FloatArray, patients: Patients, towards: Sequence[float] = ()) -> Weights:
        """Fit on terms (n, t) that the outcomes of their rows had no part in; rows count as `Patients.weights` says.

        The ridge pulls the weights to 0, or ``towards`` other values.
        """
        goal = np.array(towards) if towards else np.zeros(terms.shape[1])
        design, events, counts = _design(terms), patients.events, patients.weights

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            logits = design @ parameters
            pull = parameters[1:] - goal
            total = counts @ (np.logaddexp(0.0, logits) - events * logits) + 0.5 * RIDGE * pull @ pull
            gradient = design.T @ (counts * (expit(logits) - events))
            gradient[1:] += RIDGE * pull
            return float(total), gradient

        rate = float(np.average(events, weights=counts))
        start = np.concatenate([[np.log(rate / (1 - rate))], np.ones(terms.shape[1])])
        bounds = [(None, None), *[(0.0, None)] * terms.shape[1]]
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_EXACT)
        return cls(float(found.x[0]), found.x[1:], _sandwich(design, found.x, patients))

    def __post_init__(self) -> None:
        t = len(self.weights)
        if self.weights.shape != (t,) or self.covariance.shape != (t + 1, t + 1):
            raise ValueError(f"{t} weights do not go with a covariance of shape {self.covariance.shape}")
        numbers = [self.base, *self.weights, *self.covariance.ravel()]
        if not np.isfinite(numbers).all() or (self.weights < 0).any():
            raise ValueError("base, weights and covariance have to be finite, and no weight negative")

    def logit(self, terms: FloatArray) -> FloatArray:
        """Return log-odds (n,)."""
        return np.asarray(self.base + terms @ self.weights)

    def state(self) -> State:
        """Return the numbers."""
        return {"base": self.base, "weights": self.weights, "covariance": self.covariance}

    @classmethod
    def restore(cls, state: State) -> Weights:
        """Return the weights that `state` described.

        Raises
        ------
        ValueError
            If the numbers do not go together.
        """
        return cls(float(state["base"]), state["weights"], state["covariance"])

    def variance(self, terms: FloatArray) -> FloatArray:
        """Return how uncertain the log-odds (n,) are because base and weights were estimated."""
        design = _design(terms)
        return np.asarray(np.einsum("ij,jk,ik->i", design, self.covariance, design))


def _design(terms: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(terms)), terms])


def _sandwich(design: FloatArray, parameters: FloatArray, patients: Patients) -> FloatArray:
    risk, counts = expit(design @ parameters), patients.weights
    free = np.concatenate([[True], parameters[1:] > 0])
    penalty = np.diag([0.0, *[RIDGE] * (len(parameters) - 1)])
    curvature = design.T @ (design * (counts * risk * (1 - risk))[:, None]) + penalty
    _, patient = np.unique(patients.subject_ids, return_inverse=True)
    scores = np.zeros((patient.max() + 1, len(parameters)))
    np.add.at(scores, patient, design * (counts * (patients.events - risk))[:, None])
    bread = np.linalg.inv(curvature[np.ix_(free, free)])
    covariance: FloatArray = np.zeros(curvature.shape)
    covariance[np.ix_(free, free)] = bread @ scores[:, free].T @ scores[:, free] @ bread
    return covariance
