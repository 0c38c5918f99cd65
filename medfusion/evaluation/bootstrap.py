"""Intervals by resampling patients: two samples of one patient are not two independent observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.metrics import calibration_error, debiased_calibration_error, recalibration

RESAMPLES = 1000
_MAX_CELLS = 200_000
_MIN_DEFINED = 0.95
Draws = dict[str, FloatArray]


def subject_weights(subject_ids: Sequence[str], seed: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.integer]]:
    """Draw subjects with replacement, and count how often each sample is in each resample.

    Parameters
    ----------
    subject_ids : sequence of str, length n
    seed : int
    resamples : int

    Yields
    ------
    array (b, n), int
        A part of the resamples, small enough for the memory; the parts have ``resamples`` rows altogether.
    """
    subjects, position = np.unique(np.asarray(subject_ids, dtype=object).astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    even = np.full(len(subjects), 1.0 / len(subjects))
    at_once = max(1, _MAX_CELLS // len(position))
    for start in range(0, resamples, at_once):
        counts = rng.multinomial(len(subjects), even, size=min(at_once, resamples - start))
        yield counts[:, position]


def draw_figures(
    events: BoolArray, risks: FloatArray, subject_ids: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> Draws:
    """Compute every figure of `metrics` on each resample.

    Returns
    -------
    dict from name to array (resamples,)
        NaN where a resample does not define the figure.
    """
    order = np.argsort(risks, kind="stable")
    events, risks = events[order], risks[order]
    parts: list[Draws] = []
    for unordered in subject_weights(subject_ids, seed, resamples):
        weights = unordered[:, order].astype(float)
        slope, intercept = recalibration(events, risks, weights)
        parts.append(
            {
                **weighted_ranking(events, risks, weights),
                **_calibration_errors(events, risks, unordered[:, order]),
                "calibration_slope": slope,
                "calibration_intercept": intercept,
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draw_auroc(
    events: BoolArray, risks: FloatArray, subject_ids: Sequence[str], seed: int, resamples: int = RESAMPLES
) -> FloatArray:
    """Compute the AUROC on each resample: array (resamples,)."""
    order = np.argsort(risks, kind="stable")
    parts = [
        weighted_ranking(events[order], risks[order], weights[:, order].astype(float))["auroc"]
        for weights in subject_weights(subject_ids, seed, resamples)
    ]
    return np.concatenate(parts)


def percentile_interval(draws: FloatArray) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile; None if more than 5 % of the resamples are undefined.

    Examples
    --------
    >>> percentile_interval(np.arange(1001.0))
    (25.0, 975.0)
    """
    defined = draws[~np.isnan(draws)]
    if len(defined) < max(1.0, _MIN_DEFINED * len(draws)):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def shifted_interval(draws: FloatArray, value: float) -> tuple[float, float] | None:
    """Return the percentile interval moved back by the bias of the resamples, cut at 0.

    Resampling adds noise to that of the data, and a calibration error counts noise as error: its resamples lie above
    the figure that they are to surround.
    """
    interval = percentile_interval(draws)
    if interval is None:
        return None
    bias = float(np.nanmean(draws)) - value
    return max(0.0, interval[0] - bias), max(0.0, interval[1] - bias)


def weighted_ranking(events: BoolArray, risks: FloatArray, weights: FloatArray) -> Draws:
    """Compute AUROC, AUPRC, Brier score and Brier skill for many weightings of the samples.

    Parameters
    ----------
    events, risks : arrays (n,), sorted by risk
    weights : array (b, n)

    Returns
    -------
    dict from name to array (b,)
        NaN where a figure needs both classes and a weighting has one.
    """
    starts = np.flatnonzero(np.concatenate([[True], np.diff(risks) > 0]))
    positives = np.add.reduceat(weights * events, starts, axis=1)
    negatives = np.add.reduceat(weights * ~events, starts, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        n_positive, n_negative = positives.sum(axis=1), negatives.sum(axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2.0
        auroc = (positives * below).sum(axis=1) / (n_positive * n_negative)
        hits = np.cumsum(positives[:, ::-1], axis=1)
        alarms = hits + np.cumsum(negatives[:, ::-1], axis=1)
        precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
        auprc = (precision * positives[:, ::-1]).sum(axis=1) / n_positive
        prevalence = n_positive / (n_positive + n_negative)
        brier = weights @ (events - risks) ** 2 / weights.sum(axis=1)
        skill = 1.0 - brier / (prevalence * (1.0 - prevalence))
    one_class = (n_positive == 0) | (n_negative == 0)
    draws = {"auroc": auroc, "auprc": auprc, "brier_skill": skill}
    return {"brier": brier, **{name: np.where(one_class, np.nan, values) for name, values in draws.items()}}


def _calibration_errors(events: BoolArray, risks: FloatArray, counts: NDArray[np.integer]) -> Draws:
    rows = [np.repeat(np.arange(len(risks)), count) for count in counts]
    return {
        "ece": np.array([calibration_error(events[row], risks[row]) for row in rows]),
        "ece_debiased": np.array([debiased_calibration_error(events[row], risks[row]) for row in rows]),
    }
