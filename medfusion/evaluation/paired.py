"""Contenders on the same patients: differences of their AUROCs (DeLong) and of all other figures (paired bootstrap)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import (
    RESAMPLES,
    Draws,
    difference_interval,
    estimate,
    fewest_patients,
    subject_weights,
    weighted_calibration,
    weighted_ranking,
)
from medfusion.evaluation.decision import check_thresholds, net_benefit
from medfusion.evaluation.metrics import Estimate, calibration_error, debiased_calibration_error, ranking

_ZERO = 1e-12
"""A standard error below this is rounding: the two rank all patients alike, or always differ by the same."""
Points = dict[str, float]


@dataclass(frozen=True, slots=True)
class AurocDifference:
    """The AUROC of a first contender less that of a second, on the same samples.

    Attributes
    ----------
    value : float
    standard_error, z, p : float
        Of DeLong's test; NaN where fewer than two patients have the event, or lack it. Without any variation between
        patients (a standard error of 0), p is 1 for equal AUROCs, and for others z and p are NaN: nothing can be said.
    low, high : float or None
        Ends of the 95 % interval from the paired bootstrap; None where there is none.
    bootstrap_error : float or None
        Standard error from the paired bootstrap.
    """

    value: float
    standard_error: float
    z: float
    p: float
    low: float | None = None
    high: float | None = None
    bootstrap_error: float | None = None


@dataclass(frozen=True, slots=True)
class AurocParts:
    """What each patient adds to the error of c AUROCs, so that patients may have several samples.

    Attributes
    ----------
    areas : array (c,)
        The AUROCs.
    having, lacking : arrays (c, patients)
        Sums over a patient's samples with, and without, the event: how far their placements are from the AUROC,
        divided by the number of all such samples.
    scale : (float, float, float)
        Corrections for having estimated the AUROC: of `having`, of `lacking`, and of their product; NaN where fewer
        than two patients are of a kind.
    """

    areas: FloatArray
    having: FloatArray
    lacking: FloatArray
    scale: tuple[float, float, float]

    def covariance(self) -> FloatArray:
        """Return the covariance matrix (c, c) of the AUROCs."""
        having, lacking, both = self.scale
        cross = self.having @ self.lacking.T
        return np.asarray(
            having * self.having @ self.having.T + lacking * self.lacking @ self.lacking.T + both * (cross + cross.T)
        )

    def difference(self, first: int, second: int) -> AurocDifference:
        """Test whether two of the AUROCs differ."""
        having, lacking = self.having[first] - self.having[second], self.lacking[first] - self.lacking[second]
        parts = AurocParts(self.areas[[first]] - self.areas[[second]], having[None], lacking[None], self.scale)
        value, variance = float(parts.areas[0]), float(parts.covariance()[0, 0])
        if math.isnan(variance):
            return AurocDifference(value, math.nan, math.nan, math.nan)
        error = math.sqrt(max(0.0, variance))
        if error < _ZERO:
            alike = abs(value) < _ZERO
            return AurocDifference(value, 0.0, 0.0 if alike else math.nan, 1.0 if alike else math.nan)
        z = value / error
        return AurocDifference(value, error, z, math.erfc(abs(z) / math.sqrt(2.0)))


def auroc_parts(events: BoolArray, scores: FloatArray, subject_ids: Sequence[str]) -> AurocParts:
    """Take c AUROCs apart into what each patient adds to their error.

    Parameters
    ----------
    events : array (n,), bool; both classes
    scores : array (c, n)
    subject_ids : sequence of str, length n

    Raises
    ------
    ValueError
        If there are not samples of both classes.
    """
    if events.all() or not events.any():
        raise ValueError("an AUROC needs samples with and without the event")
    subjects, position = np.unique(np.asarray(subject_ids, dtype=object).astype(str), return_inverse=True)
    placed = np.vstack([_placements(events, row) for row in scores])
    areas = placed[:, events].mean(axis=1)
    off = placed - areas[:, None]
    having, lacking = (
        np.vstack([np.bincount(position[kind], row[kind], len(subjects)) for row in off]) / kind.sum()
        for kind in (events, ~events)
    )
    counts = [len(np.unique(position[kind])) for kind in (events, ~events)] + [len(subjects)]
    known = min(counts) > 1
    scale = tuple(count / (count - 1) if known else math.nan for count in counts)
    return AurocParts(areas, having, lacking, (scale[0], scale[1], scale[2]))


def _placements(events: BoolArray, scores: FloatArray) -> FloatArray:
    """Return, for every sample, the share of the other class on the right side of it; an equal score is half right."""
    placed = np.empty(len(scores))
    for kind in (events, ~events):
        others = np.sort(scores[~kind])
        below = np.searchsorted(others, scores[kind], "left") + np.searchsorted(others, scores[kind], "right")
        placed[kind] = below / (2.0 * len(others))
    placed[~events] = 1.0 - placed[~events]
    return placed


def auroc_covariance(
    events: BoolArray, scores: FloatArray, subject_ids: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    r"""Compute c correlated AUROCs and their covariance, when a patient may have several samples.

    The estimate of DeLong et al. [1]_, in the form of Obuchowski [2]_: placements are summed over the samples of a
    patient before they are squared, and a patient with samples of both kinds adds the product of both sums. Where every
    patient has one sample, both are the same. Takes :math:`O(c n \log n)`.

    Parameters
    ----------
    events : array (n,), bool; both classes
    scores : array (c, n)
    subject_ids : sequence of str, length n

    Returns
    -------
    areas : array (c,)
    covariance : array (c, c)
        NaN where fewer than two patients have the event, or lack it.

    Raises
    ------
    ValueError
        If there are not samples of both classes.

    References
    ----------
    .. [1] DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
       characteristic curves: a nonparametric approach. Biometrics 44, 837-845 (1988).
    .. [2] Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 53, 567-578 (1997).

    Examples
    --------
    >>> events, scores = np.array([True, True, False, False]), np.array([[3.0, 1.0, 2.0, 0.0]])
    >>> areas, covariance = auroc_covariance(events, scores, ["a", "b", "c", "d"])
    >>> areas.tolist(), covariance.tolist()
    ([0.75], [[0.125]])
    """
    parts = auroc_parts(events, scores, subject_ids)
    return parts.areas, parts.covariance()


def delong(events: BoolArray, first: FloatArray, second: FloatArray, subject_ids: Sequence[str]) -> AurocDifference:
    """Test whether two AUROCs on the same samples differ; see `auroc_covariance`.

    Parameters
    ----------
    events : array (n,), bool; both classes
    first, second : arrays (n,)
        Scores; only their order counts.
    subject_ids : sequence of str, length n

    Returns
    -------
    AurocDifference
        First less second; without an interval from resamples.

    Examples
    --------
    >>> events = np.array([True, True, True, False, False, False])
    >>> first, second = np.array([6.0, 5, 3, 4, 2, 1]), np.array([6.0, 2, 3, 4, 5, 1])
    >>> tested = delong(events, first, second, list("abcdef"))
    >>> round(tested.value, 3), round(tested.standard_error, 3), round(tested.p, 3)
    (0.333, 0.272, 0.221)
    """
    return auroc_parts(events, np.vstack([first, second]), subject_ids).difference(0, 1)


def benefit_name(threshold: float) -> str:
    """Return the name of the net benefit at a threshold.

    Examples
    --------
    >>> benefit_name(0.15)
    'net_benefit_at_0.15'
    """
    return f"net_benefit_at_{threshold:.6g}"


@dataclass(frozen=True, slots=True)
class PairedFigures:
    """Figures of all contenders on the same samples and the same resamples of patients.

    Attributes
    ----------
    points : mapping from contender to (mapping from figure to float)
        auroc, auprc, brier, brier_skill, ece, ece_debiased, and net_benefit_at_* for each threshold.
    draws : mapping from contender to (mapping from figure to array (resamples,))
        In the same order of resamples for all.
    parts : AurocParts
        In the order of the contenders.
    n_subjects, fewest : int
        Patients, and those that the rarer outcome rests on.
    """

    points: Mapping[str, Points]
    draws: Mapping[str, Draws]
    parts: AurocParts
    n_subjects: int
    fewest: int

    def estimate(self, name: str, figure: str) -> Estimate:
        """Return a figure of a contender, with its interval."""
        return estimate(figure, self.points[name][figure], self.draws[name][figure], self.n_subjects, self.fewest)

    def difference(self, first: str, second: str, figure: str) -> Estimate:
        """Return a figure of one contender less that of another, with the interval of the paired bootstrap."""
        value = self.points[first][figure] - self.points[second][figure]
        interval = self._interval(first, second, figure, value)
        return Estimate(value, *interval) if interval else Estimate(value, note="no interval: too few patients")

    def auroc_difference(self, first: str, second: str) -> AurocDifference:
        """Return the AUROC of one contender less that of another: DeLong's test and the paired bootstrap."""
        names = list(self.points)
        tested = self.parts.difference(names.index(first), names.index(second))
        interval = self._interval(first, second, "auroc", tested.value)
        if interval is None:
            return tested
        draws = self.draws[first]["auroc"] - self.draws[second]["auroc"]
        return replace(tested, low=interval[0], high=interval[1], bootstrap_error=float(np.nanstd(draws, ddof=1)))

    def _interval(self, first: str, second: str, figure: str, value: float) -> tuple[float, float] | None:
        if min(self.n_subjects, self.fewest) < 2:
            return None
        return difference_interval(self.draws[first][figure] - self.draws[second][figure], value)


def pair(
    events: BoolArray,
    risks: Mapping[str, FloatArray],
    subject_ids: Sequence[str],
    thresholds: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
) -> PairedFigures:
    """Compute the figures of all contenders, on all samples and on the same resamples of patients.

    Parameters
    ----------
    events : array (n,), bool; both classes
    risks : mapping from contender to array (n,), probabilities
    subject_ids : sequence of str, length n
    thresholds : sequence of float
        At which the net benefit is computed; may be empty.
    seed, resamples : int

    Raises
    ------
    UsageError
        If a threshold is not within (0, 1).
    ValueError
        If there are not samples of both classes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.uniform(size=300)
    >>> events, patients = rng.uniform(size=300) < risk, [str(i // 2) for i in range(300)]
    >>> paired = pair(events, {"good": risk, "flat": np.full(300, 0.5)}, patients, [0.3], seed=0, resamples=100)
    >>> paired.difference("good", "flat", "auroc").low > 0.2
    True
    """
    cuts = check_thresholds(thresholds) if len(thresholds) else np.empty(0)
    names = [benefit_name(cut) for cut in cuts]
    orders = {name: np.argsort(risk, kind="stable") for name, risk in risks.items()}
    sorted_by = {name: (events[order], risks[name][order]) for name, order in orders.items()}
    drawn: dict[str, list[Draws]] = {name: [] for name in risks}
    for counts in subject_weights(subject_ids, seed, resamples):
        for name, order in orders.items():
            repeated = np.take(counts, order, axis=1)
            drawn[name].append(_figures(*sorted_by[name], repeated, cuts, names))
    return PairedFigures(
        points={name: _points(events, risk, cuts, names) for name, risk in risks.items()},
        draws={
            name: {figure: np.concatenate([part[figure] for part in parts]) for figure in parts[0]}
            for name, parts in drawn.items()
        },
        parts=auroc_parts(events, np.vstack(list(risks.values())), subject_ids),
        n_subjects=len(set(subject_ids)),
        fewest=fewest_patients(events, subject_ids),
    )


def _figures(
    events: BoolArray, risks: FloatArray, counts: NDArray[np.integer], cuts: FloatArray, names: list[str]
) -> Draws:
    weights = counts.astype(float)
    figures = {**weighted_ranking(events, risks, weights), **weighted_calibration(events, risks, counts)}
    if len(cuts):
        figures.update(zip(names, net_benefit(events, risks, cuts, weights).T, strict=True))
    return figures


def _points(events: BoolArray, risks: FloatArray, cuts: FloatArray, names: list[str]) -> Points:
    benefits: list[float] = net_benefit(events, risks, cuts).tolist() if len(cuts) else []
    return {
        **{name: float("nan" if value is None else value) for name, value in ranking(events, risks).items()},
        "ece": calibration_error(events, risks),
        "ece_debiased": debiased_calibration_error(events, risks),
        **dict(zip(names, benefits, strict=True)),
    }
