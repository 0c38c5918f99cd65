"""Figures of many groups, and of everybody outside each, on many resamples at once.

Almost every figure is a ratio of sums over samples, and the sums of the others are those of all less those of the
group. Even the AUROC counts pairs: those within the others are all pairs less those that touch the group. So a resample
costs a few sums, however many groups there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import subject_weights
from medfusion.evaluation.metrics import BINS

Figures = dict[str, FloatArray]
"""A figure's name, and its values (b, g): of b weightings and g groups. NaN where it is not defined."""
_EDGE = 1e-12
_SHIFTS = np.linspace(-4.0, 4.0, 81)


def missed_name(threshold: float) -> str:
    """Return the name of the false-negative rate at a threshold."""
    return f"fnr_at_{threshold:g}"


def benefit_name(threshold: float) -> str:
    """Return the name of the net benefit at a threshold."""
    return f"net_benefit_at_{threshold:g}"


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Computes the figures of groups, and of everybody outside each.

    Attributes
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    members : array (n, g), bool
        Who is in each group; groups may overlap.
    thresholds : sequence of float

    Examples
    --------
    >>> events, risks = np.array([True, False, True, False]), np.array([0.8, 0.2, 0.4, 0.5])
    >>> members = np.array([[True], [True], [False], [False]])
    >>> inside, outside = GroupFigures(events, risks, members, [0.5]).of(np.ones((1, 4)))
    >>> inside["auroc"].tolist(), outside["auroc"].tolist(), outside["fnr_at_0.5"].tolist()
    ([[1.0]], [[0.0]], [[1.0]])
    """

    events: BoolArray
    risks: FloatArray
    members: BoolArray
    thresholds: Sequence[float]

    def draws(self, subject_ids: Sequence[str], seed: int, resamples: int) -> tuple[Figures, Figures]:
        """Return the figures inside and outside of each group on resamples of patients."""
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - slow to import

        ordered = self._sorted()
        # Threads for products as small as these wait for each other longer than they work.
        with threadpool_limits(1, user_api="blas"):
            parts = [ordered(weights.astype(float)) for weights in subject_weights(subject_ids, seed, resamples)]
        inside, outside = ([part[side] for part in parts] for side in (0, 1))
        return _joined(inside), _joined(outside)

    def of(self, weights: FloatArray) -> tuple[Figures, Figures]:
        """Return the figures inside and outside of each group, for weightings (b, n) of the samples.

        They are auroc, observed_expected, intercept (calibration in the large), ece, brier, and for each threshold the
        false-negative rate and the net benefit. The ECE is of the inside only. The intercept is interpolated between
        steps of 0.1 and is right to about 1e-4.
        """
        return self._sorted()(weights)

    def _sorted(self) -> Callable[[FloatArray], tuple[Figures, Figures]]:
        """Prepare what does not depend on the weights, and return what computes the figures from them."""
        order = np.argsort(self.risks, kind="stable")
        events, risks, members = self.events[order], self.risks[order], self.members[order]
        terms, gaps = self._terms(events, risks), events - risks

        def figures(weights: FloatArray) -> tuple[Figures, Figures]:
            weights = weights[:, order]
            sums = np.stack([weights[:, rows] @ terms[rows] for rows in members.T], axis=1)
            inside, outside = self._ratios(sums), self._ratios((weights @ terms)[:, None] - sums)
            inside["auroc"], outside["auroc"] = _aurocs(events, risks, members, weights)
            errors = [_calibration_errors(gaps[rows], weights[:, rows]) for rows in members.T]
            inside["ece"] = np.stack(errors, axis=1)
            return inside, outside

        return figures

    def _terms(self, events: BoolArray, risks: FloatArray) -> FloatArray:
        """Return what is summed over samples: array (n, f)."""
        flagged = risks[:, None] >= np.asarray(self.thresholds, dtype=float)
        happened = events[:, None]
        logits = logit(np.clip(risks, _EDGE, 1.0 - _EDGE))[:, None]
        plain = np.column_stack([np.ones_like(risks), events, risks, (events - risks) ** 2])
        return np.hstack([plain, flagged & happened, flagged & ~happened, expit(logits + _SHIFTS)])

    def _ratios(self, sums: FloatArray) -> Figures:
        """Turn sums (b, g, f) of the terms into figures."""
        t = len(self.thresholds)
        n, observed, expected, squares = np.moveaxis(sums[..., :4], -1, 0)
        hits, false_alarms, shifted = np.split(sums[..., 4:], [t, 2 * t], axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            figures = {
                "observed_expected": observed / expected,
                "brier": squares / n,
                "intercept": _solve(logit(shifted / n[..., None]), logit(observed / n)),
            }
            for place, threshold in enumerate(self.thresholds):
                odds = threshold / (1.0 - threshold)
                figures[missed_name(threshold)] = 1.0 - hits[..., place] / observed
                figures[benefit_name(threshold)] = (hits[..., place] - false_alarms[..., place] * odds) / n
        return {name: np.where(n > 0.5, values, np.nan) for name, values in figures.items()}


def _joined(parts: Sequence[Figures]) -> Figures:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _solve(rising: FloatArray, wanted: FloatArray) -> FloatArray:
    """Return the shift at which a mean risk (log-odds at each shift, (..., s)) is what was observed; NaN outside."""
    last = len(_SHIFTS) - 2
    left = np.clip((rising < wanted[..., None]).sum(axis=-1) - 1, 0, last)[..., None]
    low, high = (np.take_along_axis(rising, place, axis=-1)[..., 0] for place in (left, left + 1))
    part = (wanted - low) / (high - low)
    return np.where((part >= 0) & (part <= 1), _SHIFTS[left[..., 0]] + part * (_SHIFTS[1] - _SHIFTS[0]), np.nan)


def _aurocs(
    events: BoolArray, risks: FloatArray, members: BoolArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute the AUROC inside and outside of each group; rows are sorted by risk."""
    positives, negatives = weights * events, weights * ~events
    below, above = _ranked_below(risks, negatives), _ranked_below(-risks[::-1], positives[:, ::-1])[:, ::-1]
    pairs_all = (positives * below).sum(axis=1, keepdims=True)
    touching = (positives * below) @ members + (negatives * above) @ members
    within = np.stack(
        [(positives[:, rows] * _ranked_below(risks[rows], negatives[:, rows])).sum(axis=1) for rows in members.T],
        axis=1,
    )
    n_positive, n_negative = positives @ members, negatives @ members
    others = positives.sum(axis=1, keepdims=True) - n_positive, negatives.sum(axis=1, keepdims=True) - n_negative
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = within / (n_positive * n_negative)
        outside = (pairs_all - touching + within) / (others[0] * others[1])
    return inside, outside


def _ranked_below(ordered: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum, for each sample, the weights of those with a lower risk, and half of those with the same: (b, n)."""
    if not len(ordered):
        return np.zeros_like(weights)
    first = np.concatenate([[True], np.diff(ordered) > 0])
    of_level = np.add.reduceat(weights, np.flatnonzero(first), axis=1)
    return np.asarray((np.cumsum(of_level, axis=1) - of_level / 2.0)[:, np.cumsum(first) - 1])


def _calibration_errors(gaps: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the ECE of equal-mass bins of repeated samples: array (b,).

    The sum of the gaps of the first k samples is linear in k within the copies of a sample, and so it is interpolated
    where a bin ends.
    """
    start = np.zeros((len(weights), 1))
    counts = np.concatenate([start, np.cumsum(weights, axis=1)], axis=1)
    sums = np.concatenate([start, np.cumsum(weights * gaps, axis=1)], axis=1)
    n = counts[:, -1:]
    # The first n % BINS bins have one more, and bins beyond n have none.
    ends = np.arange(BINS + 1) * (n // BINS) + np.minimum(np.arange(BINS + 1), n % BINS)
    reached = np.array([np.interp(*row) for row in zip(ends, counts, sums, strict=True)])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(np.diff(reached, axis=1)).sum(axis=1) / n[:, 0])
