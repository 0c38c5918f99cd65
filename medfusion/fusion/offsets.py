"""Small corrections of log-odds for what a sample has and for the group of a patient, pooled so that few say little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medfusion.core.types import BoolArray, FloatArray
from medfusion.fusion.maps import LogitMap, fit_logistic

OFFSET_NEEDED = 10
"""How many patients with the event, and as many without, a pattern or group needs for an offset of its own."""
NOTHING = "none"
"""The pattern of a sample without any modality."""


def pattern_names(present: BoolArray, names: Sequence[str]) -> list[str]:
    """Name which modalities each of n samples has.

    Examples
    --------
    >>> pattern_names(np.array([[True, True], [False, True], [False, False]]), ["ehr", "notes"])
    ['ehr + notes', 'notes', 'none']
    """
    return [" + ".join(name for name, here in zip(names, row, strict=True) if here) or NOTHING for row in present]


def as_names(values: Sequence[Any] | None, n: int) -> NDArray[np.str_]:
    """Return what a column says as text (n,); empty where it says nothing (None, NaN, no column at all)."""
    given = [None] * n if values is None else values
    return np.array(["" if value is None or value != value else str(value) for value in given], dtype=str)  # noqa: PLR0124


def look_up(offsets: Mapping[str, float], values: Sequence[Any] | None, n: int) -> FloatArray:
    """Return the offset of each of n values; 0 for those that have none."""
    return np.array([offsets.get(name, 0.0) for name in as_names(values, n).tolist()], dtype=float)


def patients_of_each(events: BoolArray, subjects: NDArray[np.str_]) -> tuple[int, int]:
    """Count the patients with an event, and those with a row without it; rows of a patient are not independent."""
    return len(np.unique(subjects[events])), len(np.unique(subjects[~events]))


def fit_offsets(
    before: LogitMap,
    families: Sequence[NDArray[np.str_]],
    logits: FloatArray,
    events: BoolArray,
    weights: FloatArray,
    subjects: NDArray[np.str_],
) -> tuple[LogitMap, list[dict[str, float]]]:
    """Fit the offsets of all families (patterns, groups) and the intercept of the map together, its slopes held.

    Parameters
    ----------
    before : LogitMap
        Its intercept is fitted again, unless its kind is "none".
    families : sequence of arrays (n,) of str
        What each row is in each family; empty where it is nothing that may have an offset.
    logits : array (n,)
        Before the map.
    events : array (n,), bool
    weights : array (n,)
    subjects : array (n,) of str

    Returns
    -------
    (LogitMap, list of mapping from name to float)
        The map, and the offsets of each family.
    """
    mapped = before.apply(logits)
    pulls = [_pulls(names, mapped, events, weights, subjects) for names in families]
    if not any(pulls):
        return before, [{} for _ in families]
    free = [0.0] * (before.kind != "none")
    columns = [names == name for names, family in zip(families, pulls, strict=True) for name in family]
    design = np.column_stack([np.ones((len(logits), len(free))), *columns])
    ridge = np.array(free + [pull for family in pulls for pull in family.values()])
    found = fit_logistic(design, mapped, events, weights, np.zeros(len(ridge)), ridge=ridge)
    after = replace(before, shift=before.shift + float(found[: len(free)].sum()))
    offsets = iter(found[len(free) :].tolist())
    return after, [{name: next(offsets) for name in family} for family in pulls]


def _pulls(
    names: NDArray[np.str_], mapped: FloatArray, events: BoolArray, weights: FloatArray, subjects: NDArray[np.str_]
) -> dict[str, float]:
    r"""Return which names get an offset, and how strongly each is pulled to 0: partial pooling by empirical Bayes.

    Offsets are taken as drawn from a normal distribution around 0. With :math:`u_j` the unpooled offset of a name and
    :math:`v_j` its variance, the variance of that distribution is estimated by the method of moments,
    :math:`\tau^2 = (\sum u_j^2 / v_j - k) / \sum 1 / v_j` [1]_; where it is not above 0, no name gets an offset.
    With :math:`i_j` the information of the name's rows, a ridge of :math:`i_j v_j / \tau^2` then shrinks an offset to
    about :math:`\tau^2 / (\tau^2 + v_j)` of itself. In :math:`v_j` all rows of a patient count as saying the same, so
    that many rows of few patients prove little.

    References
    ----------
    .. [1] DerSimonian R, Laird N (1986). Meta-analysis in clinical trials. Controlled Clinical Trials 7(3). Here the
       mean is known to be 0, hence k instead of k - 1.
    """
    seen: dict[str, tuple[float, float, float]] = {}
    for name in np.unique(names[names != ""]).tolist():
        rows = names == name
        if min(patients_of_each(events[rows], subjects[rows])) >= OFFSET_NEEDED:
            seen[name] = _unpooled(mapped[rows], events[rows], weights[rows], subjects[rows])
    excess = sum(offset**2 / variance for offset, variance, _ in seen.values()) - len(seen)
    if excess <= 0:
        return {}
    prior = excess / sum(1 / variance for _, variance, _ in seen.values())
    return {name: information * variance / prior for name, (_, variance, information) in seen.items()}


def _unpooled(
    mapped: FloatArray, events: BoolArray, weights: FloatArray, subjects: NDArray[np.str_]
) -> tuple[float, float, float]:
    """Return the offset that suits these rows alone, its variance and its information."""
    offset = LogitMap.fit("intercept", mapped, events, weights).shift
    risk = expit(mapped + offset)
    deviation = np.sqrt(risk * (1 - risk))
    information = float(weights @ deviation**2)
    _, patient = np.unique(subjects, return_inverse=True)
    of_score = float(np.sum(np.bincount(patient, weights * deviation) ** 2))
    return offset, of_score / information**2, information
