"""How much a distribution moved, and how much of that is chance: the population stability index of binned counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from medfusion.core.types import FloatArray

MOVED, MUCH = 0.1, 0.25
"""The usual reading of a PSI: below the first stable, above the second much moved."""
LEVEL = 0.05
"""How often something is said to have moved where nothing has: at most in one comparison of cohorts out of 20."""
_HALF = 0.5
_FEWEST_EXPECTED = 2.0
READINGS = ("within chance", "slight", "moved", "moved much")


def psi(before: FloatArray, after: FloatArray) -> FloatArray:
    r"""Compute the population stability index of histograms with the same bins.

    :math:`\sum_b (q_b - p_b) \ln(q_b / p_b)`, the symmetric Kullback-Leibler divergence of the shares before, p, and
    after, q. An empty bin counts as half a patient, so that the logarithm exists; bins that are empty in both do not
    count. For a normal distribution that moves by d standard deviations, it is about :math:`d^2`.

    Parameters
    ----------
    before, after : arrays (..., bins)
        Counts; they need not be whole.

    Returns
    -------
    array (...)
        NaN where a histogram is empty.

    Examples
    --------
    >>> psi(np.array([50.0, 30.0, 20.0]), np.array([40.0, 30.0, 30.0])).round(4)
    np.float64(0.0629)
    """
    used = (before > 0) | (after > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(before > 0, before, _HALF) / before.sum(axis=-1, keepdims=True)
        q = np.where(after > 0, after, _HALF) / after.sum(axis=-1, keepdims=True)
        index = np.where(used, (q - p) * np.log(q / p), 0.0).sum(axis=-1)
    return np.where((before.sum(axis=-1) > 0) & (after.sum(axis=-1) > 0), index, np.nan)


def psi_by_chance(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return the PSI to be expected of two samples of one distribution, ``(bins - 1) (1 / n + 1 / m)`` [1]_.

    Parameters
    ----------
    before, after : arrays (..., bins)
        Counts, n and m in all; bins that are empty in both do not count.

    Returns
    -------
    array (...)

    References
    ----------
    .. [1] Yurdakul B, Naranjo J (2020). Statistical properties of the population stability index. Journal of Risk
       Model Validation 14(4).

    Examples
    --------
    >>> psi_by_chance(np.full(10, 400.0), np.full(10, 5.0)).round(3)
    np.float64(0.182)
    """
    bins = np.maximum(np.count_nonzero(before + after, axis=-1), 1)
    with np.errstate(divide="ignore"):
        return np.asarray((bins - 1) * (1.0 / before.sum(axis=-1) + 1.0 / after.sum(axis=-1)))


def homogeneity_p(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return how often two samples of one distribution differ as much as these.

    Two bins are compared by Fisher's exact test, more by Pearson's chi-square, to which a PSI divided by
    ``1 / n + 1 / m`` tends in large samples and which keeps its level in small ones, where a PSI does not.
    Neighbouring bins are merged until each has at least 2 expected in both samples.

    Parameters
    ----------
    before, after : arrays (features, bins)
        Counts of patients, bins ordered by value; they need not be whole.

    Returns
    -------
    array (features,)
        NaN where there is nothing to compare: less than a patient, or a single bin.

    Examples
    --------
    >>> homogeneity_p(np.array([[30.0, 10.0], [9.0, 0.0]]), np.array([[10.0, 30.0], [9.0, 0.0]])).round(6).tolist()
    [1.5e-05, nan]
    """
    p = np.full(len(before), np.nan)
    pairs = np.zeros((len(before), 4))
    for row, (n, m) in enumerate(zip(before.sum(axis=1).tolist(), after.sum(axis=1).tolist(), strict=True)):
        used = before[row] + after[row] > 0
        first, second = before[row, used], after[row, used]
        if len(first) < 2 or min(n, m) < 1:
            continue
        if len(first) > 2:
            starts = _merged(first + second, _FEWEST_EXPECTED * (n + m) / min(n, m))
            first, second = np.add.reduceat(first, starts), np.add.reduceat(second, starts)
        if len(first) == 2:
            pairs[row] = *first, *second
        pooled = (first + second) / (n + m)
        statistic = ((second / m - first / n) ** 2 / pooled).sum() / (1.0 / n + 1.0 / m)
        p[row] = chdtrc(len(first) - 1, statistic) if len(first) > 1 else 1.0
    exact = pairs.any(axis=1)
    if exact.any():
        p[exact] = _fisher(*np.rint(pairs[exact]).T)
    return p


def _merged(total: FloatArray, least: float) -> NDArray[np.intp]:
    """Return where merged bins start, so that each holds at least ``least``; the last takes what is left over."""
    starts, held = [0], 0.0
    for place, count in enumerate(total.tolist()):
        if held >= least:
            starts.append(place)
            held = 0.0
        held += count
    if held < least and len(starts) > 1:
        starts.pop()
    return np.array(starts)


def _fisher(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    """Return twice the smaller tail of the hypergeometric distribution: a, b of one sample and c, d of the other."""
    from scipy.stats import hypergeom  # noqa: PLC0415 - slow to import

    null = hypergeom(a + b + c + d, a + c, c + d)
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(null.cdf(c), null.sf(c - 1))))


def adjusted(p: FloatArray, families: Sequence[str]) -> FloatArray:
    """Adjust p-values for their number, in families.

    Within a family they are adjusted by Benjamini and Hochberg, which many features of one measurement need not spoil.
    The smallest of a family is then its own p-value (Simes), and those are adjusted by Holm over the families. A
    comparison counts only where both do, so that a comparison of two cohorts without any drift names something in at
    most 5 % of cases, however many features there are.

    Parameters
    ----------
    p : array (n,)
        NaN where there was nothing to compare.
    families : sequence of str, length n

    Returns
    -------
    array (n,)
        NaN where ``p`` is.

    References
    ----------
    Benjamini Y, Bogomolov M (2014). Selective inference on multiple families of hypotheses. JRSS B 76(1).

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, np.nan, 0.5]), ["ehr", "ehr", "ehr", "risks"]).round(3).tolist()
    [0.04, 0.04, nan, 0.5]
    """
    from scipy.stats import false_discovery_control  # noqa: PLC0415 - slow to import

    names = np.asarray(families, dtype=object)
    within = np.full(len(p), np.nan)
    told = ~np.isnan(p)
    for name in dict.fromkeys(families):
        rows = told & (names == name)
        if rows.any():
            within[rows] = false_discovery_control(p[rows], method="bh")
    simes = {name: float(np.min(within[told & (names == name)])) for name in dict.fromkeys(names[told])}
    largest, result = 0.0, within.copy()
    for place, name in enumerate(sorted(simes, key=lambda name: simes[name])):
        largest = max(largest, min(1.0, (len(simes) - place) * simes[name]))
        rows = told & (names == name)
        result[rows] = np.maximum(within[rows], largest)
    return result


def reading(size: float, p_adjusted: float, moved: float = MOVED, much: float = MUCH) -> str:
    """Put a size into words; what chance explains is not called moved, however large.

    Examples
    --------
    >>> reading(0.3, 0.2), reading(0.05, 0.001), reading(0.3, 0.001)
    ('within chance', 'slight', 'moved much')
    """
    if not p_adjusted <= LEVEL:
        return READINGS[0]
    return READINGS[1 + int(size >= moved) + int(size >= much)]
