"""Intervals by resampling patients: two samples of one patient are not two independent observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.metrics import BINS, Estimate, debiased, recalibration

RESAMPLES = 1000
_MAX_CELLS = 200_000
_MIN_DEFINED = 0.95
_NORMAL = 1.959963984540054
_SHIFTED = frozenset({"ece", "ece_debiased"})
_RANKED = frozenset({"auroc", "auprc"})
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
    at_once = max(1, _MAX_CELLS // len(position))
    for start in range(0, resamples, at_once):
        part = min(at_once, resamples - start)
        # Counting draws takes a tenth of the time of drawing multinomial counts.
        drawn = rng.integers(len(subjects), size=(part, len(subjects))) + len(subjects) * np.arange(part)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=part * len(subjects)).reshape(part, len(subjects))
        yield np.take(counts, position, axis=1)


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
        counts = np.take(unordered, order, axis=1)
        weights = counts.astype(float)
        slope, intercept = recalibration(events, risks, weights)
        parts.append(
            {
                **weighted_ranking(events, risks, weights),
                **weighted_calibration(events, risks, counts),
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
    events, risks = events[order], risks[order]
    parts = [
        _auroc(*_class_weights(events, risks, np.take(weights, order, axis=1).astype(float)))
        for weights in subject_weights(subject_ids, seed, resamples)
    ]
    return np.concatenate(parts)


def fewest_patients(events: BoolArray, subject_ids: Sequence[str]) -> int:
    """Return how many patients the rarer outcome rests on: those with an event, or those with a sample without.

    Examples
    --------
    >>> fewest_patients(np.array([True, True, False, False, False]), ["a", "a", "b", "c", "c"])
    1
    """
    ids = np.asarray(subject_ids, dtype=object)
    return min(len(set(ids[events])), len(set(ids[~events])))


def estimate(name: str, value: float, draws: FloatArray, n_subjects: int, fewest: int) -> Estimate:
    """Return a figure with its 95 % interval, by the method that covers the truth as often as it says.

    AUROC and AUPRC have that of `logit_interval`, calibration errors that of `shifted_interval`, others percentiles.

    Parameters
    ----------
    name : str
        As in `draw_figures`, or another.
    value : float
        The figure of all samples.
    draws : array (resamples,)
    n_subjects : int
    fewest : int
        See `fewest_patients`.

    Returns
    -------
    Estimate
        Without an interval, and with a note, where it cannot be told how far the figure varies.

    Examples
    --------
    >>> estimate("brier", 0.1, np.linspace(0.05, 0.15, 1001), n_subjects=50, fewest=20).text()
    '0.100 (0.053 to 0.147)'
    """
    if n_subjects < 2:
        return Estimate(value, note="no interval: one patient")
    if name in _RANKED:
        interval = logit_interval(draws, value, fewest)
    else:
        interval = shifted_interval(draws, value) if name in _SHIFTED else percentile_interval(draws)
    if interval is not None:
        return Estimate(value, *interval)
    separated = name in _RANKED and value in {0.0, 1.0}
    why = "the risks separate the outcomes" if separated else "too few patients with or without the event"
    return Estimate(value, note=f"no interval: {why}")


def logit_interval(draws: FloatArray, value: float, fewest: int) -> tuple[float, float] | None:
    r"""Return ``value`` give or take its bootstrap standard error, on the scale of log-odds.

    An AUROC near 1 varies more to below than to above, and its standard error is itself a guess where events are few.
    Percentiles allow for neither: with 20 patients with the event they cover an AUROC of 0.9 in 90 % of cohorts
    (``benchmarks/intervals.py``). So the standard error s of the resamples becomes :math:`s / (A (1 - A))` in log-odds
    [1]_ [2]_, and is taken times the quantile of Student's t with as many degrees of freedom as the rarer outcome has
    patients, less one.

    Parameters
    ----------
    draws : array (resamples,)
    value : float, within [0, 1]
    fewest : int
        See `fewest_patients`.

    Returns
    -------
    (low, high) or None
        None where the outcomes are separated (0 or 1: resamples do not vary, but other patients would), where fewer
        than two patients have the rarer outcome, and where more than 5 % of the resamples are undefined.

    References
    ----------
    .. [1] Pepe. The Statistical Evaluation of Medical Tests for Classification and Prediction, chapter 5.
       Oxford University Press (2003).
    .. [2] Boyd, Eng, Page. Area under the precision-recall curve: point estimates and confidence intervals.
       ECML PKDD 2013.

    Examples
    --------
    >>> low, high = logit_interval(np.array([0.85, 0.9, 0.95]), 0.9, fewest=50)
    >>> round(low, 3), round(high, 3)
    (0.747, 0.965)
    """
    defined = _defined(draws)
    if defined is None or len(defined) < 2 or fewest < 2 or not 0 < value < 1:
        return None
    reach = float(stdtrit(fewest - 1, 0.975)) * float(defined.std(ddof=1)) / (value * (1.0 - value))
    centre = float(logit(value))
    return float(expit(centre - reach)), float(expit(centre + reach))


def difference_interval(draws: FloatArray, value: float) -> tuple[float, float] | None:
    """Return a difference give or take 1.96 bootstrap standard errors; None as for `percentile_interval`.

    A difference is about symmetric, so that this covers it better than percentiles do (``benchmarks/intervals.py``);
    and it surrounds the value, also where the resamples of both figures are biased, as those of calibration errors.

    Examples
    --------
    >>> difference_interval(np.array([-0.01, 0.0, 0.01]), 0.02)
    (0.0004..., 0.0395...)
    """
    defined = _defined(draws)
    if defined is None or len(defined) < 2:
        return None
    reach = _NORMAL * float(defined.std(ddof=1))
    return value - reach, value + reach


def _defined(draws: FloatArray) -> FloatArray | None:
    """Return the draws that are numbers; None if those are too few to stand for all."""
    defined = draws[~np.isnan(draws)]
    return None if len(defined) < max(1.0, _MIN_DEFINED * len(draws)) else defined


def percentile_interval(draws: FloatArray) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile; None if more than 5 % of the resamples are undefined.

    Examples
    --------
    >>> percentile_interval(np.arange(1001.0))
    (25.0, 975.0)
    """
    defined = _defined(draws)
    if defined is None:
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
    positives, negatives = _class_weights(events, risks, weights)
    n_positive, n_negative = positives.sum(axis=1), negatives.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = np.cumsum(positives[:, ::-1], axis=1)
        alarms = hits + np.cumsum(negatives[:, ::-1], axis=1)
        precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
        auprc = (precision * positives[:, ::-1]).sum(axis=1) / n_positive
        prevalence = n_positive / (n_positive + n_negative)
        brier = weights @ (events - risks) ** 2 / weights.sum(axis=1)
        skill = 1.0 - brier / (prevalence * (1.0 - prevalence))
    one_class = (n_positive == 0) | (n_negative == 0)
    draws = {"auprc": auprc, "brier_skill": skill}
    return {
        "brier": brier,
        "auroc": _auroc(positives, negatives),
        **{name: np.where(one_class, np.nan, values) for name, values in draws.items()},
    }


def _class_weights(events: BoolArray, risks: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weight of those with and without the event at each distinct risk, from low to high."""
    positives = weights * events
    negatives = weights - positives
    distinct = np.concatenate([[True], np.diff(risks) > 0])
    if distinct.all():
        return positives, negatives
    starts = np.flatnonzero(distinct)
    return np.add.reduceat(positives, starts, axis=1), np.add.reduceat(negatives, starts, axis=1)


def _auroc(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    below = np.cumsum(negatives, axis=1) - negatives / 2.0
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    wins = np.einsum("bi,bi->b", positives, below)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def weighted_calibration(events: BoolArray, risks: FloatArray, counts: NDArray[np.integer], bins: int = BINS) -> Draws:
    """Compute the expected calibration error, as it is and debiased, when samples count several times or not at all.

    Parameters
    ----------
    events, risks : arrays (n,), sorted by risk
    counts : array (b, n), int
    bins : int
        Bins of as equal size as can be; one may begin and end between two copies of a sample.

    Returns
    -------
    dict from name to array (b,)
        ``ece`` and ``ece_debiased``: those of `metrics.calibration_error` and `metrics.debiased_calibration_error` for
        the samples repeated as often as they count.
    """
    counted = np.cumsum(counts, axis=1)
    n = counted[:, -1:]
    ends = np.cumsum(n // bins + (np.arange(bins) < n % bins), axis=1)
    # All rows in one ascending sequence, so that a single search finds the sample at which each bin ends.
    row = np.arange(len(counts))[:, None] * (int(n.max()) + 1)
    last = np.searchsorted((counted + row).ravel(), (ends + row).ravel()).reshape(ends.shape)
    last -= np.arange(len(counts))[:, None] * counts.shape[1]
    beyond = np.take_along_axis(counted, last, axis=1) - ends

    def per_bin(values: FloatArray) -> FloatArray:
        summed = np.take_along_axis(np.cumsum(counts * values, axis=1), last, axis=1) - beyond * values[last]
        return np.diff(summed, axis=1, prepend=0.0)

    gaps = np.abs(per_bin(events - risks))
    excess = debiased(gaps, per_bin(risks * (1.0 - risks)))
    return {"ece": gaps.sum(axis=1) / n[:, 0], "ece_debiased": np.maximum(0.0, excess / n[:, 0])}
