"""Figures of one group with their intervals, or the reason why there are too few patients for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import difference_interval, estimate, fewest_patients
from medfusion.evaluation.metrics import Estimate
from medfusion.evaluation.rates import Counted, rate_estimate

MIN_PATIENTS = 20
"""A group of fewer patients has no figures."""
MIN_EVENTS = 5
"""A figure that rests on those with the event, or without it, needs as many patients of the kind."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of samples, and how good the risks are in it.

    Attributes
    ----------
    column, name : str
    n, n_patients, n_events : int
    estimates : mapping from figure to Estimate
        auroc, observed_expected, intercept, ece, and fnr_at_* for each threshold; where there are too few patients
        the value is None and the note says so, with counts.
    ece_chance : float or None
        The ECE that perfectly calibrated risks would show in a group of this size.
    """

    column: str
    name: str
    n: int
    n_patients: int
    n_events: int
    estimates: Mapping[str, Estimate]
    ece_chance: float | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """The samples of a group.

    Attributes
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    patients : array (n,), str
    """

    events: BoolArray
    risks: FloatArray
    patients: NDArray[np.object_]

    def too_few(self) -> dict[str, str]:
        """Return, for each kind of figure that the group is too small for, the reason with counts.

        Examples
        --------
        >>> patients = np.array([str(i) for i in range(30)], dtype=object)
        >>> Members(np.arange(30) < 3, np.full(30, 0.1), patients).too_few()["auroc"]
        'too few: 3 of 5 patients with the event'
        """
        n = len(set(self.patients))
        having, lacking = len(set(self.patients[self.events])), len(set(self.patients[~self.events]))
        expected = float(self.risks.sum())
        reasons = {}
        if n < MIN_PATIENTS:
            reasons["all"] = f"too few: {n} of {MIN_PATIENTS} patients"
        if having < MIN_EVENTS:
            reasons["auroc"] = reasons["fnr"] = f"too few: {having} of {MIN_EVENTS} patients with the event"
        elif lacking < MIN_EVENTS:
            reasons["auroc"] = f"too few: {lacking} of {MIN_EVENTS} patients without the event"
        # Many expected and none observed is a finding, so that either number will do.
        if max(having, expected) < MIN_EVENTS:
            reasons["observed_expected"] = f"too few: {having} patients with the event and {expected:.1f} expected"
        return reasons

    def estimates(self, points: Mapping[str, float], draws: Mapping[str, FloatArray]) -> dict[str, Estimate]:
        """Return figures with their 95 % intervals.

        Parameters
        ----------
        points : mapping from figure to float
        draws : mapping from figure to array (b,)
            On resamples of patients.
        """
        few = self.too_few()
        found = {}
        for name, value in points.items():
            reason = few.get("all") or few.get(_kind(name)) or ("cannot be told" if np.isnan(value) else "")
            found[name] = Estimate(None, note=reason) if reason else self._estimate(name, value, draws[name])
        return found

    def _estimate(self, name: str, value: float, draws: FloatArray) -> Estimate:
        patients = self.patients.tolist()
        if _kind(name) == "fnr":
            return rate_estimate(round(value * int(self.events.sum())), draws, self.patients[self.events].tolist())
        if name == "observed_expected":
            return self._observed_expected(value, draws)
        return estimate(name, value, draws, len(set(patients)), fewest_patients(self.events, patients))

    def _observed_expected(self, value: float, draws: FloatArray) -> Counted:
        """Return the ratio, with an interval on the scale of its square root, where its spread is about the same.

        Where nearly none or nearly all have the event, resamples tell too little of the spread: there the interval is
        that of the rate of events.
        """
        n_events, mean_risk = int(self.events.sum()), float(self.risks.mean())
        rate = rate_estimate(n_events, draws * mean_risk, self.patients.tolist())
        low, high = (None if end is None else end / mean_risk for end in (rate.low, rate.high))
        if MIN_EVENTS <= n_events <= len(self.events) - MIN_EVENTS:
            low, high = difference_interval(np.sqrt(draws), math.sqrt(value)) or (None, None)
            low, high = (None if end is None else max(0.0, end) ** 2 for end in (low, high))
        return Counted(value, low, high, hits=rate.hits, of=rate.of * mean_risk)


def _kind(name: str) -> str:
    """Say which rule of `Members.too_few` holds for a figure."""
    if name.startswith("fnr"):
        return "fnr"
    return "auroc" if name == "intercept" else name
