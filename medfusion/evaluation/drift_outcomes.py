"""What risks promise, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.special import logit, ndtr

from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation import bootstrap
from medfusion.evaluation.drift_psi import LEVEL
from medfusion.evaluation.metrics import Estimate, calibration_error, chance_calibration_error, ranking

FEWEST = 10
"""With fewer patients with the event, or without it, outcomes say too little about an AUROC."""
WORTH_A_MENTION = 0.02
A_LARGE_LOSS = 0.05
"""Of AUROC."""
RIGHT_ON_THE_WHOLE = (0.8, 1.25)
"""Events seen over events promised."""
_FACTOR = 1.5
_RESAMPLES = 200
_Z = 1.96
_EDGE = 1e-6


def expected_auroc(risks: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the AUROC that calibrated risks promise before any outcome is known.

    A pair of samples counts by how likely the first has the event and the second has not, so that this is the ratio of
    the expected number of pairs in right order to the expected number of pairs. It is what the AUROC is on average if,
    and only if, the risks are calibrated: it sees a population that is harder to tell apart, and not a changed relation
    between findings and outcome [1]_.

    Parameters
    ----------
    risks : array (n,), probabilities, ascending
    weights : array (b, n)

    Returns
    -------
    array (b,)

    References
    ----------
    .. [1] Guillory D et al. (2021). Predicting with confidence on unseen distributions. ICCV. How performance is told
       from confidence alone, and where that ends.

    Examples
    --------
    >>> expected_auroc(np.array([0.0, 0.5, 1.0]), np.ones((1, 3)))
    array([1.])
    """
    starts = np.flatnonzero(np.concatenate([[True], np.diff(risks) > 0]))
    having, lacking = weights * risks, weights * (1.0 - risks)
    tied_having, tied_lacking = (np.add.reduceat(each, starts, axis=1) for each in (having, lacking))
    below = np.cumsum(tied_lacking, axis=1) - tied_lacking / 2.0
    # Nobody is compared with themselves, and those drawn twice are not two patients.
    alone = (having * lacking).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ordered = (tied_having * below).sum(axis=1) - alone / 2.0
        return np.asarray(ordered / (having.sum(axis=1) * lacking.sum(axis=1) - alone))


@dataclass(frozen=True, slots=True)
class Performance:
    """How good the risks were in the training, on patients whom the members had not seen.

    Attributes
    ----------
    samples, events : int
    auroc, auroc_error : float
        With its standard error, by resampling patients.
    expected, expected_error : float
        The same of `expected_auroc`.
    mean_risk, ece : float
    """

    samples: int
    events: int
    auroc: float
    auroc_error: float
    expected: float
    expected_error: float
    mean_risk: float
    ece: float

    @classmethod
    def of(cls, events: BoolArray, risks: FloatArray, subject_ids: Sequence[str], seed: int) -> Performance:
        """Measure it; both outcomes occur."""
        auroc, expected = ranking(events, risks)["auroc"], _expected(risks, subject_ids, seed)
        error = float(np.nanstd(bootstrap.draw_auroc(events, risks, subject_ids, seed, _RESAMPLES)))
        ece = calibration_error(events, risks)
        told = float("nan") if auroc is None else auroc
        return cls(len(events), int(events.sum()), told, error, *expected, float(risks.mean()), ece)

    def state(self) -> State:
        """Return numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the risks of new patients promise, and what outcomes say where they are known.

    Attributes
    ----------
    estimates : dict from name to Estimate
        mean_risk, expected_auroc, expected_change; and auroc, auroc_change, observed_expected (events seen over events
        promised) and ece, of the samples with an outcome. Changes are relative to the training.
    outcomes : int
        How many samples have one.
    p_worse, p_ratio : float
        How often an AUROC that has not changed would fall as much, and events as promised differ as much; NaN where
        there are too few outcomes.
    """

    estimates: dict[str, Estimate]
    outcomes: int
    p_worse: float
    p_ratio: float

    @property
    def hurt(self) -> str:
        """What outcomes show to be worse, in words; empty where they show nothing.

        Two questions are asked, and their p-values adjusted for that (Holm). Besides, a change has to be worth a
        mention.
        """
        change, ratio = self.estimates["auroc_change"], self.estimates["observed_expected"]
        p_worse, p_ratio = (1.0 if np.isnan(p) else p for p in (self.p_worse, self.p_ratio))
        larger_too = LEVEL if min(p_worse, p_ratio) <= LEVEL / 2 else LEVEL / 2
        said = []
        if change.value is not None and change.value <= -WORTH_A_MENTION and p_worse <= larger_too:
            said.append(f"AUROC changed by {change.text()} against the training")
        low, high = RIGHT_ON_THE_WHOLE
        if ratio.value is not None and not low <= ratio.value <= high and p_ratio <= larger_too:
            said.append(f"{ratio.text(2)} times as many events as the risks promised")
        return "; ".join(said)

    @property
    def reassuring(self) -> bool:
        """Whether outcomes are many enough to rule out a large loss."""
        change, ratio = self.estimates["auroc_change"], self.estimates["observed_expected"]
        if change.low is None or ratio.low is None or ratio.high is None:
            return False
        return change.low > -A_LARGE_LOSS and ratio.low > 1.0 / _FACTOR and ratio.high < _FACTOR

    @property
    def fading(self) -> str:
        """What the risks alone show to be worse, in words; empty where they show nothing."""
        change = self.estimates["expected_change"]
        if change.value is None or change.high is None or change.value > -A_LARGE_LOSS / 2 or change.high >= 0:
            return ""
        return f"the AUROC to be expected, if risks are still calibrated, changed by {change.text()}"


def outlook(
    before: Performance,
    events: FloatArray | None,
    risks: FloatArray,
    as_trained: FloatArray,
    subject_ids: Sequence[str],
    seed: int,
) -> Outlook:
    """Hold new risks, and outcomes where there are any, against the training.

    Parameters
    ----------
    before : Performance
    events : array (n,), or None
        1, 0, or NaN where the outcome is not known.
    risks : array (n,), probabilities
    as_trained : array (n,), probabilities
        The same before a recalibration.
    subject_ids : sequence of str, length n
    seed : int
        Of the resampling of patients.
    """
    now, then = (_expected(each, subject_ids, seed) for each in (risks, as_trained))
    change = _with_error(then[0] - before.expected, float(np.hypot(then[1], before.expected_error)))
    estimates = {
        "mean_risk": _mean(risks, subject_ids, before.mean_risk),
        "expected_auroc": _with_error(*now),
        "expected_change": replace(change, note=f"{before.expected:.3f} in the training"),
    }
    known = np.zeros(len(risks), dtype=bool) if events is None else ~np.isnan(events)
    subjects = np.asarray(subject_ids)[known]
    seen = np.empty(0, dtype=bool) if events is None else events[known] > 0
    told, p_worse, p_ratio = _observed(before, seen, risks[known], subjects.tolist(), seed)
    return Outlook({**estimates, **told}, len(seen), p_worse, p_ratio)


def _observed(
    before: Performance, events: BoolArray, risks: FloatArray, subject_ids: Sequence[str], seed: int
) -> tuple[dict[str, Estimate], float, float]:
    count = f"{int(events.sum())} samples with the event and {int((~events).sum())} without have a known outcome"
    nothing = Estimate(None, note=f"too few: {count}" if len(events) else "no outcome is known")
    told = dict.fromkeys(("auroc", "auroc_change", "observed_expected", "ece"), nothing)
    p_worse = p_ratio = float("nan")
    if len(events) >= 2 * FEWEST:
        ratio, error = _ratio(events, risks, subject_ids)
        told["observed_expected"] = Estimate(ratio, max(0.0, ratio - _Z * error), ratio + _Z * error)
        p_ratio = float(2.0 * ndtr(-abs(ratio - 1.0) / error))
        chance = chance_calibration_error(risks, seed)
        told["ece"] = Estimate(calibration_error(events, risks), note=f"{chance.text()} by chance")
    if min(events.sum(), (~events).sum()) >= FEWEST:
        value = float(ranking(events, risks)["auroc"] or 0.0)
        draws = bootstrap.draw_auroc(events, risks, subject_ids, seed, _RESAMPLES)
        own, change = float(np.nanstd(draws)), value - before.auroc
        error = float(np.hypot(own, before.auroc_error))
        told["auroc"] = _with_error(value, own)
        told["auroc_change"] = replace(_with_error(change, error), note=f"{before.auroc:.3f} in the training")
        p_worse = _p_lower((value, own), (before.auroc, before.auroc_error))
    return told, p_worse, p_ratio


def _p_lower(now: tuple[float, float], before: tuple[float, float]) -> float:
    """Return how often an AUROC that has not changed is found as low; each has its standard error.

    Compared by their logits, which are spread more evenly in small samples.
    """
    values = np.clip([now[0], before[0]], _EDGE, 1.0 - _EDGE)
    errors = np.array([now[1], before[1]]) / (values * (1.0 - values))
    gap = float(logit(values[0]) - logit(values[1]))
    return float(ndtr(gap / max(float(np.hypot(*errors)), _EDGE)))


def _ratio(events: BoolArray, risks: FloatArray, subject_ids: Sequence[str]) -> tuple[float, float]:
    """Return events over expected events, and the standard error of that if the risks are right.

    Samples of one patient go together; where that makes the error smaller than for independent samples, it is chance.
    """
    _, patient = np.unique(np.asarray(subject_ids), return_inverse=True)
    clustered = (np.bincount(patient, events - risks) ** 2).sum()
    variance = max(float(clustered), float((risks * (1.0 - risks)).sum()))
    expected = max(float(risks.sum()), 1e-12)
    return float(events.sum()) / expected, float(np.sqrt(variance)) / expected


def _expected(risks: FloatArray, subject_ids: Sequence[str], seed: int) -> tuple[float, float]:
    """Return the AUROC to be expected, and its standard error by resampling patients; NaN for a single sample."""
    order = np.argsort(risks, kind="stable")
    drawn = bootstrap.subject_weights(subject_ids, seed, _RESAMPLES)
    draws = np.concatenate([expected_auroc(risks[order], weights[:, order].astype(float)) for weights in drawn])
    value = float(expected_auroc(risks[order], np.ones((1, len(risks))))[0])
    return value, float(np.nanstd(draws)) if np.isfinite(draws).any() else float("nan")


def _mean(risks: FloatArray, subject_ids: Sequence[str], before: float) -> Estimate:
    _, patient, counts = np.unique(np.asarray(subject_ids), return_inverse=True, return_counts=True)
    value = float(risks.mean())
    gaps = np.bincount(patient, risks - value)
    error = float(np.sqrt((gaps**2).sum()) / len(risks)) if len(counts) > 1 else float("nan")
    return replace(_with_error(value, error), note=f"{before:.3f} in the training")


def _with_error(value: float, error: float) -> Estimate:
    if np.isnan(value):
        return Estimate(None, note="cannot be told: too few samples")
    return Estimate(value) if np.isnan(error) else Estimate(value, value - _Z * error, value + _Z * error)
