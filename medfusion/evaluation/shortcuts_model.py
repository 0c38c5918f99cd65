"""How well outcomes can be told from columns that are no medicine, by a small model that has not seen the patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from medfusion.core.types import BoolArray, FloatArray

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
_FEWEST_ROWS = 5
"""Levels of fewer rows are counted together."""
_FEW_NUMBERS = 6
_GROUPS = 5
_PENALTY = 0.1
_TREES = {"max_iter": 60, "learning_rate": 0.06, "max_leaf_nodes": 6, "min_samples_leaf": 15, "l2_regularization": 5.0}


def known(value: Any) -> bool:
    """Tell whether a value is one: None, NaN and empty text are not.

    Examples
    --------
    >>> [known(value) for value in (None, float("nan"), "", 0.0, "AP")]
    [False, False, False, True, True]
    """
    return value is not None and value != "" and value == value  # noqa: PLR0124 - NaN is not equal to itself


def design(columns: Columns) -> FloatArray:
    """Turn columns into numbers, without looking at the outcome.

    Parameters
    ----------
    columns : mapping from name to n values
        Text, numbers or truth values; None, NaN and empty text are not known.

    Returns
    -------
    array (n, d)
        An indicator per level of text and per fifth of numbers (per value, where there are up to six), and the rank of
        numbers. Where a value is not known all of them are 0; columns that say nothing are left out.

    Examples
    --------
    >>> design({"view": ["AP", "PA"] * 5, "rows": [None] * 10}).shape
    (10, 2)
    """
    parts = [part for values in columns.values() for part in _parts(list(values))]
    n = len(next(iter(columns.values())))
    return np.column_stack(parts) if parts else np.empty((n, 0))


def _parts(values: list[Any]) -> list[FloatArray]:
    told = np.array([known(value) for value in values], dtype=bool)
    said = [value for value, is_told in zip(values, told, strict=True) if is_told]
    numeric = all(isinstance(value, int | float | np.number) for value in said)
    if not numeric or len(set(said)) <= _FEW_NUMBERS:
        return _indicators([str(value) if is_told else None for value, is_told in zip(values, told, strict=True)])
    numbers = pd.Series(np.array([float(value) if known(value) else np.nan for value in values]))
    fifths = pd.qcut(numbers, _GROUPS, duplicates="drop").cat.codes
    rank = np.nan_to_num(numbers.rank(pct=True).to_numpy() - 0.5)
    return [*_indicators([None if code < 0 else str(code) for code in fifths]), rank / rank.std()]


def _indicators(levels: Sequence[str | None]) -> list[FloatArray]:
    counts = Counter(level for level in levels if level is not None)
    common = [level for level, count in counts.items() if count >= _FEWEST_ROWS]
    parts = [np.array([level == each for each in levels], dtype=float) for level in sorted(common)]
    if len(common) < len(counts):
        parts.append(np.array([level is not None and level not in common for level in levels], dtype=float))
    return [part for part in parts if part.any()]


def left_out_scores(columns: Columns, events: BoolArray, folds: NDArray[np.integer]) -> FloatArray:
    """Return what a small model says of each sample from these columns, fitted to the other folds.

    A logistic regression; of several columns, the mean with boosted trees, because only together they may tell where a
    picture comes from. Scores of different folds do not compare: each has the base rate of its own training part.

    Parameters
    ----------
    columns : mapping from name to n values
    events : array (n,), bool
    folds : array (n,), int

    Returns
    -------
    array (n,)
        Log-odds; 0 where the other folds have one class only, or the columns say nothing.
    """
    values, scores = design(columns), np.zeros(len(events))
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        if values.shape[1] and 0 < events[train].sum() < train.sum():
            scores[test] = _scores(values[train], events[train], values[test], trees=len(columns) > 1)
    return scores


def _scores(values: FloatArray, events: BoolArray, new: FloatArray, *, trees: bool) -> FloatArray:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    linear = LogisticRegression(C=_PENALTY, max_iter=1000).fit(values, events).decision_function(new)
    if not trees:
        return np.asarray(linear)
    boosted = HistGradientBoostingClassifier(random_state=0, **_TREES).fit(values, events)
    return np.asarray((linear + logit(boosted.predict_proba(new)[:, 1])) / 2.0)


def pairs_within(
    events: BoolArray, scores: FloatArray, strata: NDArray[np.integer], weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Count, within strata, the pairs of a sample with the event and one without, and those in the right order.

    ``right / pairs`` is the AUROC within each stratum; ``right.sum(1) / pairs.sum(1)`` that of all pairs of one
    stratum: the AUROC adjusted for what divides them.

    Parameters
    ----------
    events : array (n,), bool
    scores : array (n,)
    strata : array (n,), int
        From 0 to s - 1, each with a sample.
    weights : array (b, n)
        How often each sample counts, for b weightings.

    Returns
    -------
    right, pairs : arrays (b, s)
        Equal scores are half right.

    Examples
    --------
    >>> events = np.array([True, False, True, False])
    >>> right, pairs = pairs_within(events, np.array([0.9, 0.8, 0.2, 0.3]), np.array([0, 0, 1, 1]), np.ones((1, 4)))
    >>> right.tolist(), pairs.tolist()
    ([[1.0, 0.0]], [[1.0, 1.0]])
    """
    order = np.lexsort((scores, strata))
    scores, strata, weights = scores[order], strata[order], weights[:, order]
    positives = weights * events[order]
    first = np.concatenate([[True], (np.diff(scores) > 0) | (np.diff(strata) > 0)])
    starts = np.flatnonzero(first)
    with_event = np.add.reduceat(positives, starts, axis=1)
    without = np.add.reduceat(weights - positives, starts, axis=1)
    # The first distinct score of each stratum.
    begins = np.flatnonzero(np.concatenate([[True], np.diff(strata[starts]) > 0]))
    before = np.cumsum(without, axis=1) - without
    own = before - np.repeat(before[:, begins], np.diff([*begins, len(starts)]), axis=1)
    right = np.add.reduceat(with_event * (own + without / 2.0), begins, axis=1)
    pairs = np.add.reduceat(with_event, begins, axis=1) * np.add.reduceat(without, begins, axis=1)
    return right, pairs
