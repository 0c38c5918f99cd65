"""The choice of a threshold by what a false alarm and a missed event cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import UsageError
from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES, percentile_interval, subject_weights
from medfusion.evaluation.decision import alert_counts
from medfusion.evaluation.metrics import check_risks

_EQUAL = 1e-12
_FOLDS, _REPETITIONS = 10, 10


def cost_threshold(cost_false_alarm: float, cost_missed: float) -> float:
    """Return the risk from which on acting costs less than waiting, for calibrated risks [1]_.

    Acting on a risk p costs ``(1 - p) * cost_false_alarm`` on average, waiting ``p * cost_missed``; they are equal at
    ``cost_false_alarm / (cost_false_alarm + cost_missed)``. Any unit will do: only the ratio counts.

    Raises
    ------
    UsageError
        If a cost is not a positive number.

    References
    ----------
    .. [1] Elkan. The foundations of cost-sensitive learning. IJCAI 2001.

    Examples
    --------
    >>> cost_threshold(1, 9)
    0.1
    """
    for name, cost in (("cost of a false alarm", cost_false_alarm), ("cost of a missed event", cost_missed)):
        if not (math.isfinite(cost) and cost > 0):
            raise UsageError(f"the {name} is {cost:g}, expected a number above 0; give both costs in the same unit")
    return cost_false_alarm / (cost_false_alarm + cost_missed)


@dataclass(frozen=True, slots=True)
class CostChoice:
    """Two thresholds for the same costs: from the costs alone, and the cheapest in hindsight.

    Attributes
    ----------
    from_costs : float
        `cost_threshold`; right where the risks are calibrated.
    observed : float
        The threshold at which these samples would have cost the least.
    observed_low, observed_high : float or None
        95 % interval of ``observed``, by resampling patients.
    cost_from_costs, cost_observed, cost_nobody, cost_everybody : float
        Cost per 100 samples at either threshold, and of flagging nobody and everybody.
    cost_for_new : float
        Cost per 100 samples of a threshold found in hindsight on other patients, by cross-validation.
    """

    from_costs: float
    observed: float
    observed_low: float | None
    observed_high: float | None
    cost_from_costs: float
    cost_observed: float
    cost_nobody: float
    cost_everybody: float
    cost_for_new: float

    @property
    def apart(self) -> float:
        """How far the threshold found in hindsight is above that from the costs."""
        return self.observed - self.from_costs

    @property
    def optimism(self) -> float:
        """By how much the cost in hindsight is too low: the threshold was chosen on the samples that judge it."""
        return self.cost_for_new - self.cost_observed

    def text(self) -> str:
        """Return both thresholds in words."""
        return (
            f"The costs ask for a threshold of {self.from_costs:.3f} where risks are calibrated; on these samples that "
            f"costs {self.cost_from_costs:.1f} per 100. In hindsight {self.observed:.3f} would have been the cheapest "
            f"({self.apart:+.3f}), at {self.cost_observed:.1f} per 100; a threshold found like this costs new patients "
            f"{self.cost_for_new:.1f}. Flagging nobody costs {self.cost_nobody:.1f}, everybody "
            f"{self.cost_everybody:.1f}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "apart": self.apart, "optimism": self.optimism, "text": self.text()}


def best_threshold(
    events: BoolArray,
    risks: FloatArray,
    cost_false_alarm: float,
    cost_missed: float,
    subject_ids: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> CostChoice:
    """Find the threshold that would have cost the least, beside that which the costs ask for.

    All thresholds between two neighbouring risks cost the same; of these, the nearest to `cost_threshold` is taken.
    What such a choice costs new patients comes from choosing on nine tenths of the patients and counting on the tenth,
    ten times over. (The optimism by resampling, as for regression models, was a third too small on 60 samples.)

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    cost_false_alarm, cost_missed : float
        In one unit, above 0.
    subject_ids : sequence of str, length n, optional
        If left out, every sample is of another patient.
    seed, resamples : int

    Raises
    ------
    UsageError
        If a cost is not a positive number.
    ValueError
        If there is no sample, lengths differ, or a risk is not within [0, 1].

    Examples
    --------
    >>> events, risks = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.4, 0.6])
    >>> choice = best_threshold(events, risks, 1, 1, resamples=50)
    >>> choice.from_costs, choice.observed, choice.cost_observed
    (0.5, 0.4, 0.0)
    """
    events, risks = np.asarray(events, dtype=bool), np.asarray(risks, dtype=float)
    subject_ids = [str(row) for row in range(len(risks))] if subject_ids is None else subject_ids
    check_risks(events, risks, subject_ids)
    wanted = cost_threshold(cost_false_alarm, cost_missed)
    cuts = _cuts(risks, wanted)

    def costs(weights: FloatArray) -> FloatArray:
        """Return the cost at each cut, and at the threshold wanted: (b, c + 1)."""
        counts = alert_counts(events, risks, np.append(cuts, wanted), weights)
        return np.asarray(cost_false_alarm * counts.false_alarms + cost_missed * (counts.events - counts.hits))

    here = costs(np.ones((1, len(risks))))[0] / len(risks)
    best = _cheapest(here[None, :-1], cuts, wanted)[0]
    chosen = [
        cuts[_cheapest(costs(weights.astype(float))[:, :-1], cuts, wanted)]
        for weights in subject_weights(subject_ids, seed, resamples)
    ]
    interval = percentile_interval(np.concatenate(chosen)) if len(set(subject_ids)) > 1 else None
    low, high = interval or (None, None)
    for_new, counted = 0.0, 0
    for held_out in _held_out(subject_ids, seed):
        places = _cheapest(costs(1.0 - held_out)[:, :-1], cuts, wanted)
        for_new += float(costs(held_out)[np.arange(len(places)), places].sum())
        counted += int(held_out.sum())
    prevalence = float(events.mean())
    return CostChoice(
        from_costs=wanted,
        observed=float(cuts[best]),
        observed_low=low,
        observed_high=high,
        cost_from_costs=100.0 * float(here[-1]),
        cost_observed=100.0 * float(here[best]),
        cost_nobody=100.0 * prevalence * cost_missed,
        cost_everybody=100.0 * (1.0 - prevalence) * cost_false_alarm,
        cost_for_new=100.0 * for_new / counted,
    )


def _held_out(subject_ids: Sequence[str], seed: int) -> Iterator[FloatArray]:
    """Yield, for every repetition, which samples each fold of patients leaves out: arrays (k, n) of 0 and 1."""
    subjects, position = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    folds = min(_FOLDS, len(subjects))
    for _ in range(_REPETITIONS):
        fold = rng.permutation(len(subjects)) % folds
        yield (fold[position] == np.arange(folds)[:, None]).astype(float)


def _cuts(risks: FloatArray, wanted: float) -> FloatArray:
    """Return a threshold within (0, 1) for every way to cut the risks.

    Between two neighbouring risks, the threshold wanted is taken if it is there; else the upper one if they are below
    it, and the middle if they are above (the lower one itself would be flagged).
    """
    levels = np.unique(risks)
    below, above = np.append(0.0, levels), np.append(levels, 1.0)
    inside = (below < wanted) & (wanted <= above)
    cuts = np.where(inside, wanted, np.where(above < wanted, above, (below + above) / 2.0))
    return np.asarray(cuts[above > below])


def _cheapest(costs: FloatArray, cuts: FloatArray, wanted: float) -> NDArray[np.intp]:
    """Return the place of the smallest cost of each row; of equal ones, that nearest to what is wanted."""
    tied = costs <= costs.min(axis=1, keepdims=True) + _EQUAL * costs.max()
    return np.asarray(np.where(tied, np.abs(cuts - wanted), np.inf).argmin(axis=1))
