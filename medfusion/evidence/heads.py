"""What every head can do, and what its shares look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class HeadShares:
    """Additive shares of features in log-odds.

    Attributes
    ----------
    shares : array (n, d)
        SHAP values; ``shares.sum(axis=1) + constant`` are the log-odds.
    constant : float
        The log-odds of the average training row.
    slope, reference : array (d,) or None
        Where ``shares = slope * (values - reference)`` holds.
    """

    shares: FloatArray
    constant: float
    slope: FloatArray | None = None
    reference: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows of one modality, where it is present.

    Attributes
    ----------
    values : array (n, d) or sparse CSR
    events : array (n,), bool
    weights : array (n,)
        How much a row counts.
    subject_ids : array (n,)
    same_unit : bool
        Whether the features are measured in one unit, see `medfusion.core.types.Embedding`.
    """

    values: Any
    events: BoolArray
    weights: FloatArray
    subject_ids: np.ndarray
    same_unit: bool

    def take(self, chosen: np.ndarray) -> Rows:
        """Return some of the rows."""
        return Rows(
            self.values[chosen], self.events[chosen], self.weights[chosen], self.subject_ids[chosen], self.same_unit
        )


class Head(Protocol):
    """Turns rows of an embedding into log-odds, and opens them up again."""

    def raw(self, values: Any) -> FloatArray:
        """Return uncalibrated log-odds (n,)."""

    def shares(self, values: Any) -> HeadShares:
        """Return what each feature adds to them."""

    def state(self) -> State:
        """Return everything needed to restore the head."""
