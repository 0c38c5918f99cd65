"""Figures of merit of a risk: how well it ranks (discrimination) and how well it means what it says (calibration)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from medfusion.core.types import BoolArray, FloatArray

BINS = 10
"""Bins of equal mass in every calibration figure."""
_EDGE = 1e-12
_MAX_STEPS = 50
_CONVERGED = 1e-6


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value : float or None
        None where the data cannot tell, with the reason in ``note``.
    low, high : float or None
        Ends of the 95 % interval; None where there is none.
    note : str

    Examples
    --------
    >>> Estimate(0.8124, 0.7701, 0.8532).text()
    '0.812 (0.770 to 0.853)'
    >>> Estimate(None, note="too few: no event").text()
    'too few: no event'
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def text(self, digits: int = 3) -> str:
        """Return the figure as a person writes it."""
        if self.value is None:
            return self.note
        ends = [] if self.low is None or self.high is None else [self.low, self.high]
        # Adding 0 keeps a rounded -0.0001 from being written as -0.000.
        value, *interval = (f"{round(number, digits) + 0.0:.{digits}f}" for number in [self.value, *ends])
        return f"{value} ({' to '.join(interval)})" if interval else value


def check_risks(events: BoolArray, risks: FloatArray, subject_ids: Sequence[str]) -> None:
    """Refuse what no figure can be computed from.

    Raises
    ------
    ValueError
        If lengths differ or are 0, or a risk is not within [0, 1].
    """
    if not len(events) == len(risks) == len(subject_ids):
        raise ValueError(
            f"{len(events)} events, {len(risks)} risks and {len(subject_ids)} subjects do not belong together"
        )
    if len(events) == 0:
        raise ValueError("there is nothing to evaluate: no sample has a known outcome")
    bad = np.flatnonzero(~((risks >= 0) & (risks <= 1)))
    if len(bad):
        raise ValueError(f"{len(bad)} risks are not within [0, 1]; the first is {risks[bad[0]]} at position {bad[0]}")


def ranking(events: BoolArray, risks: FloatArray) -> dict[str, float | None]:
    """Compute AUROC, AUPRC (average precision) and Brier score, and the skill that the Brier score means.

    Brier skill is ``1 - Brier / (prevalence * (1 - prevalence))``: 0 for a model that tells everybody the prevalence,
    1 for a perfect one.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities

    Returns
    -------
    dict
        ``auroc``, ``auprc``, ``brier``, ``brier_skill``; None for those that need both classes where there is one.

    Examples
    --------
    >>> ranking(np.array([True, False, True, False]), np.array([0.9, 0.2, 0.4, 0.6]))["auroc"]
    0.75
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score  # noqa: PLC0415 - slow to import

    brier = float(brier_score_loss(events, risks, pos_label=True))
    if events.all() or not events.any():
        return {"auroc": None, "auprc": None, "brier": brier, "brier_skill": None}
    prevalence = events.mean()
    return {
        "auroc": float(roc_auc_score(events, risks)),
        "auprc": float(average_precision_score(events, risks)),
        "brier": brier,
        "brier_skill": float(1.0 - brier / (prevalence * (1.0 - prevalence))),
    }


def equal_mass_bins(risks: FloatArray, bins: int = BINS) -> list[NDArray[np.intp]]:
    """Split the samples, sorted by risk, into bins of as equal size as can be; bins without a sample are left out."""
    return [rows for rows in np.array_split(np.argsort(risks, kind="stable"), bins) if len(rows)]


def calibration_error(events: BoolArray, risks: FloatArray, bins: int = BINS) -> float:
    """Compute the expected calibration error (ECE): how far risks are from what happened, on average over bins.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    bins : int
        Number of equal-mass bins.

    Returns
    -------
    float
        ``sum_b n_b / n * |mean(events in b) - mean(risks in b)|``. It is above 0 even for a perfectly calibrated
        model, by chance; see `chance_calibration_error`.

    Examples
    --------
    >>> round(calibration_error(np.array([False, True]), np.array([0.25, 0.5]), bins=1), 3)
    0.125
    """
    order = np.argsort(risks, kind="stable")
    return float(np.abs(_bin_sums(events[order] - risks[order], bins)).sum() / len(risks))


def debiased_calibration_error(events: BoolArray, risks: FloatArray, bins: int = BINS) -> float:
    r"""Compute the ECE less the part of it that the noise within bins explains.

    The gap of a bin is seen with noise of standard deviation :math:`\sigma_b`, so that its absolute value is too large
    on average. The excess is estimated as in [1]_, by a normal distribution around the gap seen, here in closed form
    (mean of a folded normal) and with the noise that the risks themselves imply,
    :math:`\sigma_b^2 = \sum p (1 - p) / n_b^2`, so that a bin without events is not taken as free of noise.
    The correction is cautious: under perfect calibration some two fifths of the ECE are taken away.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    bins : int

    Returns
    -------
    float
        Never below 0.

    References
    ----------
    .. [1] Kumar, Liang, Ma. Verified Uncertainty Calibration. NeurIPS 2019.
    """
    order = np.argsort(risks, kind="stable")
    risks, events = risks[order], events[order]
    gaps = np.abs(_bin_sums(events - risks, bins))
    return max(0.0, float(debiased(gaps, _bin_sums(risks * (1.0 - risks), bins))) / len(risks))


def debiased(gaps: FloatArray, variances: FloatArray) -> FloatArray:
    """Return the sum of gaps over bins, less what noise adds to it; see `debiased_calibration_error`.

    Parameters
    ----------
    gaps : array (..., bins)
        Absolute differences between events and risks, summed per bin.
    variances : array (..., bins)
        Of those sums.

    Returns
    -------
    array (...)
        Below 0 where there is less of a gap than noise would make.
    """
    noisy = variances > _EDGE
    noise = np.sqrt(np.where(noisy, variances, 0.0))
    ratio = np.divide(gaps, noise, out=np.zeros_like(noise), where=noisy)
    seen_on_average = noise * (np.sqrt(2.0 / np.pi) * np.exp(-(ratio**2) / 2.0) + ratio * (1.0 - 2.0 * ndtr(-ratio)))
    return np.asarray(np.where(noisy, 2.0 * gaps - seen_on_average, gaps).sum(axis=-1))


def chance_calibration_error(risks: FloatArray, seed: int, bins: int = BINS, draws: int = 1000) -> Estimate:
    """Simulate the ECE that a perfectly calibrated model with these risks would show.

    Parameters
    ----------
    risks : array (n,), probabilities
    seed : int
    bins, draws : int

    Returns
    -------
    Estimate
        The mean of the simulated ECEs, and the range in which 95 % of them lie. An ECE above ``high`` is not chance.
    """
    rng = np.random.default_rng(seed)
    ordered = np.sort(risks)
    errors = np.empty(draws)
    for draw in range(draws):
        gaps = (rng.random(len(ordered)) < ordered) - ordered
        errors[draw] = np.abs(_bin_sums(gaps, bins)).sum() / len(ordered)
    low, high = np.percentile(errors, [2.5, 97.5])
    return Estimate(float(errors.mean()), float(low), float(high))


def _bin_sums(ordered: FloatArray, bins: int) -> FloatArray:
    """Sum per bin of `equal_mass_bins`, of values that are already sorted by risk."""
    n = len(ordered)
    sizes = np.full(min(bins, n), n // bins)
    sizes[: n % bins] += 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.asarray(np.add.reduceat(ordered, starts))


def recalibration(events: BoolArray, risks: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit calibration slope and intercept, for many weightings of the samples at once.

    The slope is that of a logistic regression of the events on the logits of the risks: below 1, risks are too extreme.
    The intercept is that of a logistic regression with the slope held at 1 (calibration in the large): below 0, risks
    are too high on the whole [1]_.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    weights : array (b, n)

    Returns
    -------
    slope, intercept : arrays (b,)
        NaN where there is no finite solution: a single class, equal risks, or classes that a threshold separates.

    References
    ----------
    .. [1] Van Calster, McLernon, van Smeden, Wynants, Steyerberg. Calibration: the Achilles heel of predictive
       analytics. BMC Medicine 17, 230 (2019).
    """
    logits = logit(np.clip(risks, _EDGE, 1.0 - _EDGE))
    intercept = _fit_logistics(events, np.ones((len(logits), 1)), logits, weights)[:, 0]
    spread = logits.std()
    if spread < _EDGE:
        return np.full(len(weights), np.nan), intercept
    # In units of their spread, the slope is of the order of 1 however narrow the risks are.
    scaled = np.column_stack([np.ones_like(logits), (logits - logits.mean()) / spread])
    return _fit_logistics(events, scaled, np.zeros_like(logits), weights)[:, 1] / spread, intercept


def _fit_logistics(events: BoolArray, design: FloatArray, offset: FloatArray, weights: FloatArray) -> FloatArray:
    """Fit b logistic regressions to the same rows, weighted differently, starting from the unweighted one."""
    b, k = len(weights), design.shape[1]
    start = _newton(events, design, offset, np.ones((1, len(design))), np.zeros((1, k)))
    if np.isnan(start).any():
        return np.full((b, k), np.nan)
    return _newton(events, design, offset, weights, np.repeat(start, b, axis=0))


def _newton(
    events: BoolArray, design: FloatArray, offset: FloatArray, weights: FloatArray, coefficients: FloatArray
) -> FloatArray:
    """Run Newton's method from coefficients (b, k); NaN where it does not end."""
    fitted = np.full_like(coefficients, np.nan)
    products = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    positives = weights @ events
    active = np.flatnonzero((positives > 0) & (positives < weights.sum(axis=1)))
    for _ in range(_MAX_STEPS):
        if not len(active):
            break
        chosen = weights[active]
        means = expit(coefficients[active] @ design.T + offset)
        gradient = (chosen * (events - means)) @ design
        curvature = ((chosen * means * (1.0 - means)) @ products).reshape(len(active), design.shape[1], -1)
        solvable = np.linalg.cond(curvature) < 1.0 / _EDGE
        active, gradient, curvature = active[solvable], gradient[solvable], curvature[solvable]
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        # A long step overshoots where the curve is flat; a bounded one gets there all the same.
        step /= np.maximum(1.0, np.abs(step).max(axis=1, initial=0.0))[:, None]
        coefficients[active] += step
        done = np.abs(step).max(axis=1, initial=0.0) < _CONVERGED
        fitted[active[done]] = coefficients[active[done]]
        active = active[~done]
    return fitted
