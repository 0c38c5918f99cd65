"""Late fusion: the risk is a base rate plus weighted evidence, and an absent modality adds nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

RIDGE = 1.0
"""Strength of the pull of the weights to 0: evidence that says little counts little."""

_EXACT = {"ftol": 1e-14, "gtol": 1e-9}


class LateFusion:
    """Non-negative ridge weights on calibrated evidence.

    ``logit = base + sum over present modalities of weight * evidence``. Fitted on out-of-fold evidence only, so the
    base rate and the scale of the sum are calibrated on patients that no head has seen.

    Attributes
    ----------
    base : float
        Log-odds of a patient of whom nothing is known.
    weights : array (modalities,)
        How much each modality's evidence counts; never negative.
    covariance : array (1 + modalities, 1 + modalities)
        Of base and weights, robust to rows of the same patient (sandwich over patients) [1]_.

    References
    ----------
    .. [1] Liang KY, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73(1).
    """

    kind: ClassVar[str] = "late"

    def __init__(self) -> None:
        self.base = 0.0
        self.weights: FloatArray = np.empty(0)
        self.covariance: FloatArray = np.empty((0, 0))

    def fit(
        self, evidence: FloatArray, events: BoolArray, weights: FloatArray, subject_ids: NDArray[np.str_]
    ) -> LateFusion:
        """Fit on out-of-fold evidence.

        Parameters
        ----------
        evidence : array (n, modalities), log-odds relative to the base rate, NaN where absent
        events : array (n,), bool
        weights : array (n,)
            How much a row counts.
        subject_ids : array (n,)
            Whose row it is; rows of a patient are not independent.
        """
        design = _design(evidence)

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            logits = design @ parameters
            pull = parameters[1:]
            total = weights @ (np.logaddexp(0.0, logits) - events * logits) + 0.5 * RIDGE * pull @ pull
            gradient = design.T @ (weights * (expit(logits) - events))
            gradient[1:] += RIDGE * pull
            return float(total), gradient

        rate = float(np.average(events, weights=weights))
        start = np.concatenate([[np.log(rate / (1 - rate))], np.ones(evidence.shape[1])])
        bounds = [(None, None), *[(0.0, None)] * evidence.shape[1]]
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_EXACT)
        self.base, self.weights = float(found.x[0]), found.x[1:]
        self.covariance = _sandwich(design, found.x, events, weights, subject_ids)
        return self

    def logit(self, evidence: FloatArray) -> FloatArray:
        """Return calibrated log-odds (n,) for any subset of modalities."""
        return np.asarray(self.base + self.shares(evidence).sum(axis=1))

    def shares(self, evidence: FloatArray) -> FloatArray:
        """Return what each modality adds (n, modalities); exactly 0 where absent."""
        return np.where(np.isnan(evidence), 0.0, evidence) * self.weights

    def variance(self, evidence: FloatArray) -> FloatArray:
        """Return how uncertain the logits (n,) are because base and weights were estimated."""
        design = _design(evidence)
        return np.asarray(np.einsum("ij,jk,ik->i", design, self.covariance, design))

    def state(self) -> State:
        """Return base, weights and their covariance."""
        return {"kind": self.kind, "base": self.base, "weights": self.weights, "covariance": self.covariance}

    @classmethod
    def restore(cls, state: State) -> LateFusion:
        """Return the model that `state` described."""
        model = cls()
        model.base = float(state["base"])
        model.weights, model.covariance = state["weights"], state["covariance"]
        return model


def _design(evidence: FloatArray) -> FloatArray:
    """Put a one before what is there; what is absent adds nothing."""
    return np.column_stack([np.ones(len(evidence)), np.nan_to_num(evidence)])


def _sandwich(
    design: FloatArray, parameters: FloatArray, events: BoolArray, weights: FloatArray, subject_ids: NDArray[np.str_]
) -> FloatArray:
    """Covariance of the parameters with rows of a patient taken together; a weight held at 0 does not vary."""
    risk = expit(design @ parameters)
    free = np.concatenate([[True], parameters[1:] > 0])
    penalty = np.diag([0.0, *[RIDGE] * (len(parameters) - 1)])
    curvature = design.T @ (design * (weights * risk * (1 - risk))[:, None]) + penalty
    _, patient = np.unique(subject_ids, return_inverse=True)
    scores = np.zeros((patient.max() + 1, len(parameters)))
    np.add.at(scores, patient, design * (weights * (events - risk))[:, None])
    bread = np.linalg.inv(curvature[np.ix_(free, free)])
    covariance: FloatArray = np.zeros(curvature.shape)
    covariance[np.ix_(free, free)] = bread @ scores[:, free].T @ scores[:, free] @ bread
    return covariance
