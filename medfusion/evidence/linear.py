"""An L2-regularised logistic head: exact shares, fast on few rows with many features."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray
from medfusion.evidence.heads import HeadShares, Rows

STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Inverse penalties whose solutions are averaged, for features scaled so that an average row has norm 1."""
_ROTATE_UP_TO = 3000
"""Up to this many rows, wide matrices are rotated into the space that the rows span (the solution is the same)."""
_NEWTON_UP_TO = 400
"""Beyond this many columns, the matrices of Newton's method cost more than the steps that it saves."""


class LinearHead:
    """Logistic regression on standardised features; a missing feature is imputed by its mean and flagged.

    The rows are scaled to an average norm of 1, so that the same penalties suit 5 features and 50,000. The coefficients
    are the mean over a range of penalties: on cohorts of a few hundred patients, choosing one by cross-validation
    costs more than it gains. With fewer rows than features the fit runs in the row space, which gives the same
    coefficients [1]_.

    Attributes
    ----------
    slope, reference : array (d,)
        Log-odds per unit of a feature, and the feature's mean.
    flag_slope, missing_rate : array (d,)
        Log-odds of the feature's being missing, and how often it is.
    constant : float
        Log-odds of the average training row.

    References
    ----------
    .. [1] Hastie T, Tibshirani R (2004). Efficient quadratic regularization for expression arrays. Biostatistics 5(3).

    Examples
    --------
    >>> values = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> events, patients = np.array([False, False, True, True]), np.arange(4)
    >>> head = LinearHead().fit(Rows(values, events, np.ones(4), patients, same_unit=False))
    >>> bool(head.raw(np.array([[3.0]]))[0] > head.raw(np.array([[0.0]]))[0])
    True
    """

    kind: ClassVar[HeadKind] = "linear"

    def __init__(self) -> None:
        self.slope: FloatArray = np.empty(0)
        self.flag_slope: FloatArray = np.empty(0)
        self.reference: FloatArray = np.empty(0)
        self.missing_rate: FloatArray = np.empty(0)
        self.constant = 0.0

    def fit(self, rows: Rows) -> LinearHead:
        """Fit on dense or sparse rows."""
        design = _Design(rows.values, rows.same_unit)
        rotated, back = _rotate(design.matrix)
        fits = [_logistic(rotated, rows.events, rows.weights, strength) for strength in STRENGTHS]
        coefficients = back(np.mean([each for each, _ in fits], axis=0)) / design.scale
        intercept = float(np.mean([each for _, each in fits]))
        self.slope = coefficients[: design.features] / design.spread
        self.flag_slope = np.zeros(design.features)
        self.flag_slope[design.flagged] = coefficients[design.features :]
        self.reference, self.missing_rate = design.centre, design.missing_rate
        self.constant = intercept + (float(self.slope @ design.centre) if design.sparse else 0.0)
        return self

    def raw(self, values: Any) -> FloatArray:
        """Return uncalibrated log-odds (n,)."""
        offset = self.constant - float(self.slope @ self.reference)
        if sparse.issparse(values):
            return np.asarray(values @ self.slope, dtype=float) + offset
        missing = np.isnan(values)
        if not missing.any() and not self.flag_slope.any():
            return np.asarray(values @ self.slope, dtype=float) + offset
        return np.asarray(self._dense_shares(values, missing).sum(axis=1) + self.constant)

    def shares(self, values: Any) -> HeadShares:
        """Return the interventional SHAP values of a linear model: slope * (value - mean)."""
        if sparse.issparse(values):
            values = values.toarray()
        missing = np.isnan(values)
        exact = not missing.any() and not self.flag_slope.any()
        slope, reference = (self.slope, self.reference) if exact else (None, None)
        return HeadShares(self._dense_shares(values, missing), self.constant, slope, reference)

    def _dense_shares(self, values: FloatArray, missing: BoolArray) -> FloatArray:
        centred = np.where(missing, 0.0, values - self.reference)
        return np.asarray(centred * self.slope + (missing - self.missing_rate) * self.flag_slope)

    def state(self) -> State:
        """Return the coefficients."""
        return {
            "kind": self.kind,
            "slope": self.slope,
            "flag_slope": self.flag_slope,
            "reference": self.reference,
            "missing_rate": self.missing_rate,
            "constant": self.constant,
        }

    @classmethod
    def restore(cls, state: State) -> LinearHead:
        """Return the head that `state` described."""
        head = cls()
        head.slope, head.flag_slope = state["slope"], state["flag_slope"]
        head.reference, head.missing_rate = state["reference"], state["missing_rate"]
        head.constant = float(state["constant"])
        return head


class _Design:
    """The matrix that is fitted, and the way back to the units of the features."""

    def __init__(self, values: Any, same_unit: bool) -> None:
        self.features = values.shape[1]
        self.sparse = sparse.issparse(values)
        self.missing_rate = np.zeros(self.features)
        self.flagged = np.zeros(0, dtype=int)
        if self.sparse:
            self.centre = np.asarray(values.mean(axis=0)).ravel()
            self.spread = np.ones(self.features)
            matrix = values.astype(float)
        else:
            matrix = self._standardise(values.astype(float), same_unit)
        norm = sparse.linalg.norm(matrix) if self.sparse else np.linalg.norm(matrix)
        self.scale = float(norm / np.sqrt(max(matrix.shape[0], 1))) or 1.0
        self.matrix = matrix / self.scale

    def _standardise(self, values: FloatArray, same_unit: bool) -> FloatArray:
        missing = np.isnan(values)
        seen = ~missing.all(axis=0)
        self.centre = np.zeros(self.features)
        self.centre[seen] = np.nanmean(values[:, seen], axis=0)
        filled = np.where(missing, 0.0, values - self.centre)
        self.spread = filled.std(axis=0)
        if same_unit:
            # A channel that hardly ever fires would otherwise be blown up, and one odd image with it.
            self.spread = np.hypot(self.spread, np.median(self.spread))
        self.spread[self.spread < 1e-9] = np.inf
        self.missing_rate = missing.mean(axis=0)
        self.flagged = np.flatnonzero((self.missing_rate > 0) & (self.missing_rate < 1))
        flags = missing[:, self.flagged] - self.missing_rate[self.flagged]
        return np.hstack([filled / self.spread, flags])


def _rotate(matrix: Any) -> tuple[Any, Any]:
    """Express wide rows by their own span: same inner products, far fewer columns."""
    n, d = matrix.shape
    if d <= n or n > _ROTATE_UP_TO:
        return matrix, lambda coefficients: coefficients
    gram = matrix @ matrix.T
    values, vectors = np.linalg.eigh(gram.toarray() if sparse.issparse(gram) else gram)
    keep = values > max(values[-1] * 1e-10, 0.0)
    if not keep.any():
        # No feature varies: there is no span, and nothing but an intercept to fit.
        return matrix, lambda coefficients: coefficients
    root = np.sqrt(values[keep])
    basis = vectors[:, keep]
    return basis * root, lambda coefficients: matrix.T @ (basis @ (coefficients / root))


def _logistic(
    matrix: Any, events: BoolArray, weights: FloatArray, strength: float
) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    narrow = not sparse.issparse(matrix) and matrix.shape[1] <= _NEWTON_UP_TO
    solver, tolerance = ("newton-cholesky", 1e-6) if narrow else ("lbfgs", 1e-7)
    model = LogisticRegression(C=strength, solver=solver, max_iter=1000, tol=tolerance)
    model.fit(matrix, events, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])
