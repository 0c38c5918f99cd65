"""Monotone maps from log-odds to log-odds: how a calibration is corrected without changing who is at higher risk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import optimize
from scipy.special import expit

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

MapKind = Literal["none", "intercept", "platt", "beta"]
KINDS: tuple[MapKind, ...] = get_args(MapKind)
"""From the simplest to the most flexible."""
MAX_SLOPE = 20.0
"""Keeps a fit finite where log-odds separate the outcomes; no calibration needs a slope near it."""
_EXACT = {"ftol": 1e-15, "gtol": 1e-9}


@dataclass(frozen=True, slots=True)
class LogitMap:
    r"""A monotone map of log-odds :math:`l` of a risk :math:`p`.

    .. math:: h(l) = c + a \ln p - b \ln(1 - p), \quad a, b \ge 0

    This is beta calibration [1]_; its slope goes from a at low risks to b at high ones. With a = b it is Platt scaling
    [2]_, ``c + a * l``; with a = b = 1 the intercept alone is corrected, and with c = 0 nothing is.

    Attributes
    ----------
    kind : {"none", "intercept", "platt", "beta"}
    shift : float
        c, in log-odds.
    low, high : float
        The slopes a and b.

    Raises
    ------
    ValueError
        If the kind is unknown, a number is not finite, or a slope is negative.

    References
    ----------
    .. [1] Kull M, Silva Filho T, Flach P (2017). Beta calibration: a well-founded and easily implemented improvement
       on logistic calibration for binary classifiers. AISTATS.
    .. [2] Platt J (1999). Probabilistic outputs for support vector machines. Advances in Large Margin Classifiers.

    Examples
    --------
    >>> LogitMap("platt", shift=-0.5, low=0.8, high=0.8).apply(np.array([-1.0, 0.0, 2.0])).tolist()
    [-1.3, -0.5, 1.1]
    """

    kind: MapKind = "none"
    shift: float = 0.0
    low: float = 1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not np.isfinite([self.shift, self.low, self.high]).all():
            raise ValueError(f"not a map of log-odds: {self}")
        if min(self.low, self.high) < 0:
            raise ValueError(f"slopes of {self.low} and {self.high} would turn risks around")

    def apply(self, logits: Any) -> FloatArray:
        """Return the log-odds after the map, of the shape of ``logits``."""
        return np.asarray(self.shift + self.low * logits + (self.high - self.low) * np.logaddexp(0.0, logits))

    def secant(self, start: Any, end: Any) -> FloatArray:
        """Return ``(map(end) - map(start)) / (end - start)``; where both are equal, its limit, the derivative.

        Computed without cancellation, however close they are.
        """
        start, step = np.asarray(start, dtype=float), np.asarray(end, dtype=float) - start
        close = np.abs(step) < 1.0
        small, large = np.where(close & (step != 0), step, 1.0), np.where(close, 1.0, step)
        near = np.log1p(expit(start) * np.expm1(small)) / small
        far = (np.logaddexp(0.0, end) - np.logaddexp(0.0, start)) / large
        mean_risk = np.where(step == 0, expit(start), np.where(close, near, far))
        return np.asarray(self.low + (self.high - self.low) * mean_risk)

    @classmethod
    def fit(cls, kind: MapKind, logits: FloatArray, events: BoolArray, weights: FloatArray) -> LogitMap:
        """Fit by maximum likelihood to rows (n,) of both outcomes, counted by weights (n,)."""
        if kind == "none":
            return cls()
        columns = _columns(kind, logits)
        centre, spread = columns.mean(axis=0), columns.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        # In units of their spread, slopes are of the order of 1, and around the centre the intercept stands alone.
        design = np.column_stack([np.ones(len(logits)), (columns - centre) / spread])
        offset = logits if kind == "intercept" else np.zeros(len(logits))
        bounds = [(None, None), *((0.0, MAX_SLOPE * each) for each in spread)]
        found = fit_logistic(design, offset, events, weights, np.concatenate([[0.0], spread]), bounds=bounds)
        slopes = found[1:] / spread
        shift = float(found[0] - slopes @ centre)
        return cls(kind, shift) if kind == "intercept" else cls(kind, shift, float(slopes[0]), float(slopes[-1]))

    def state(self) -> State:
        """Return the kind and its three numbers."""
        return asdict(self)


def _columns(kind: MapKind, logits: FloatArray) -> FloatArray:
    """Return what the slopes of a map multiply (n, number of slopes to be fitted)."""
    if kind == "intercept":
        return np.empty((len(logits), 0))
    if kind == "platt":
        return logits[:, None]
    return np.column_stack([-np.logaddexp(0.0, -logits), np.logaddexp(0.0, logits)])


def fit_logistic(
    design: FloatArray,
    offset: FloatArray,
    events: BoolArray,
    weights: FloatArray,
    start: FloatArray,
    *,
    ridge: FloatArray | float = 0.0,
    bounds: list[tuple[float | None, float | None]] | None = None,
) -> FloatArray:
    """Fit a logistic regression whose log-odds are ``offset + design @ parameters``.

    Parameters
    ----------
    design : array (n, k)
    offset : array (n,), log-odds
    events : array (n,), bool
    weights : array (n,)
        How much each row counts.
    start : array (k,)
    ridge : array (k,) or float
        Inverse prior variances of the parameters, around 0.
    bounds : list of (low, high), length k, optional

    Returns
    -------
    array (k,)
        The parameters of the least weighted log loss plus ``ridge / 2 * parameters**2``.
    """
    total = weights.sum()

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        logits = offset + design @ parameters
        misfit = weights @ (np.logaddexp(0.0, logits) - events * logits) + 0.5 * np.sum(ridge * parameters**2)
        gradient = design.T @ (weights * (expit(logits) - events)) + ridge * parameters
        return float(misfit / total), gradient / total

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_EXACT)
    return np.asarray(found.x)
