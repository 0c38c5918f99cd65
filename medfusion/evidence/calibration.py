"""Platt scaling: from a score to log-odds that mean what they say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy.special import expit

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Platt:
    """``log-odds = intercept + slope * score``, with a slope that is never negative [1]_.

    References
    ----------
    .. [1] Platt J (1999). Probabilistic outputs for support vector machines. Advances in Large Margin Classifiers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=20_000)
    >>> events = rng.random(20_000) < expit(truth)
    >>> platt = Platt.fit(3 * truth + 1, events, np.ones(20_000))
    >>> round(platt.slope, 1), round(platt.intercept, 1)
    (0.3, -0.3)
    """

    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, scores: FloatArray, events: BoolArray, weights: FloatArray) -> Platt:
        """Fit on scores (n,) of rows that the scorer has not seen, counted by weights (n,).

        Platt's smoothed targets keep the fit finite where a score separates the outcomes.
        """
        positive, negative = float(weights[events].sum()), float(weights[~events].sum())
        targets = np.where(events, (positive + 1) / (positive + 2), 1 / (negative + 2))
        centre, spread = float(scores.mean()), float(scores.std())
        # Of equal scores, the mean may be off by rounding; this is no spread that a slope could be fitted to.
        spread = spread if spread > _ROUNDING * float(np.abs(scores).max()) else 1.0
        scaled = (scores - centre) / spread

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            logits = parameters[0] + parameters[1] * scaled
            error = weights * (expit(logits) - targets)
            total = weights @ (np.logaddexp(0.0, logits) - targets * logits)
            return float(total), np.array([error.sum(), error @ scaled])

        start = np.array([np.log(positive / negative), 1.0])
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (0.0, None)])
        slope = float(found.x[1]) / spread
        return cls(slope, float(found.x[0]) - slope * centre)

    def apply(self, scores: Any) -> Any:
        """Return calibrated log-odds."""
        return self.intercept + self.slope * scores

    def state(self) -> State:
        """Return the two numbers."""
        return asdict(self)
