"""How well each of many columns tells an outcome, and whether that is more than chance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

from medfusion.core.types import BoolArray, FloatArray

_COLUMNS_AT_ONCE = 512


class Association(NamedTuple):
    """Of each column: the AUROC of its values (higher means the event) and a two-sided p value, not corrected."""

    auroc: FloatArray
    p: FloatArray


def rank_association(values: Any, events: BoolArray) -> Association:
    """Compare the values of patients with and without the event by rank, for every column.

    Parameters
    ----------
    values : array (n, d) or sparse (n, d)
        NaN is left out, column by column; what a sparse array does not store is zero.
    events : array (n,), bool

    Returns
    -------
    Association
        Arrays (d,). AUROC 0.5 and p 1 where one of the groups has no value, or all values are equal.

    Notes
    -----
    The p value is that of the Mann-Whitney test [1]_ by the normal approximation, with corrections for ties and
    continuity.

    References
    ----------
    .. [1] Mann HB, Whitney DR. On a test of whether one of two random variables is stochastically larger than the
       other. Ann Math Stat 1947;18:50-60.

    Examples
    --------
    >>> rank_association(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([False, False, True, True])).auroc
    array([1.])
    """
    parts = []
    for start in range(0, values.shape[1], _COLUMNS_AT_ONCE):
        part = values[:, start : start + _COLUMNS_AT_ONCE]
        parts.append(_ranked(part.toarray() if sparse.issparse(part) else part, events))
    if not parts:
        return Association(np.empty(0), np.empty(0))
    return Association(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _ranked(values: FloatArray, events: BoolArray) -> Association:
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    there = ~np.isnan(values)
    # Infinity ranks last, so missing values do not move the ranks of the others.
    ranks = rankdata(np.where(there, values, np.inf), axis=0)
    n, n_with = there.sum(axis=0), there[events].sum(axis=0)
    n_without = n - n_with
    rank_sum = np.where(there, ranks, 0.0)[events].sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = (rank_sum - n_with * (n_with + 1) / 2) / (n_with * n_without)
        spread = np.where(there, (ranks - (n + 1) / 2) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(n_with * n_without * spread / (n * (n - 1.0)))
        z = (np.abs(rank_sum - n_with * (n + 1) / 2) - 0.5) / deviation
    known = (n_with > 0) & (n_without > 0) & (spread > 0)
    p = np.where(known, np.minimum(2 * ndtr(-np.where(known, z, 0.0)), 1.0), 1.0)
    return Association(np.where(known, auroc, 0.5), p)


def count_association(with_event: NDArray[np.int64], marked: NDArray[np.int64], n_with: int, n: int) -> Association:
    """Compare how often patients with and without the event are marked (have a word, lack a value).

    Parameters
    ----------
    with_event : array (d,), int
        Number of marked patients with the event.
    marked : array (d,), int
        Number of marked patients.
    n_with, n : int
        Number of patients with the event, and of all.

    Returns
    -------
    Association
        AUROC of being marked; p is twice the smaller tail of Fisher's exact test.

    Examples
    --------
    >>> count_association(np.array([4]), np.array([4]), n_with=5, n=10).auroc
    array([0.9])
    """
    if n_with in {0, n}:
        return Association(np.full(len(marked), 0.5), np.ones(len(marked)))
    from scipy.stats import hypergeom  # noqa: PLC0415 - slow to import

    auroc = 0.5 + 0.5 * (with_event / n_with - (marked - with_event) / (n - n_with))
    more = hypergeom.sf(with_event - 1, n, n_with, marked)
    fewer = hypergeom.cdf(with_event, n, n_with, marked)
    return Association(auroc, np.minimum(2 * np.minimum(more, fewer), 1.0))
