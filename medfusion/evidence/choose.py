"""Choosing encoders and heads by cross-validation inside the training rows, by patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

from medfusion.core.folds import patient_folds
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import FloatArray
from medfusion.evidence.calibration import Platt
from medfusion.evidence.heads import Head, HeadShares, Rows

INNER_FOLDS = 5
_MANY, _FEWER_FOLDS = 1000, 3
"""From so many rows on, the training parts of three folds are large enough to choose by."""


@dataclass(frozen=True, slots=True)
class Part:
    """A head with its calibration, and the columns of the embedding that it reads.

    Attributes
    ----------
    head : Head
    platt : Platt
    columns : (int, int) or None
        First column and the one after the last; None for all.
    """

    head: Head
    platt: Platt
    columns: tuple[int, int] | None = None

    def read(self, values: Any) -> Any:
        """Return the columns that the head reads."""
        mine = values if self.columns is None else values[:, slice(*self.columns)]
        # Beside words, a dense embedding is stored sparse; what it does not know is still missing, and not zero.
        return mine.toarray() if sparse.issparse(mine) and np.isnan(mine.data).any() else mine


class MeanHead:
    """The mean of calibrated heads; a single head is the mean of one.

    Averaging in log-odds keeps the shares exact: the share of a feature is the mean of its shares.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    def raw(self, values: Any) -> FloatArray:
        """Return log-odds (n,)."""
        return np.asarray(np.mean([part.platt.apply(part.head.raw(part.read(values))) for part in self.parts], axis=0))

    def shares(self, values: Any) -> HeadShares:
        """Return the shares (n, d) of the mean.

        Where no part that is linear reads a column alone, its slope is NaN and its reference 0; if that is so of all
        columns, there is no slope.
        """
        n, d = values.shape
        shares, slope, reference = np.zeros((n, d)), np.full(d, np.nan), np.zeros(d)
        readers, constant = np.zeros(d, dtype=int), 0.0
        for part in self.parts:
            mine = slice(*(part.columns or (0, d)))
            opened, scale = part.head.shares(part.read(values)), part.platt.slope / len(self.parts)
            shares[:, mine] += scale * opened.shares
            constant += float(part.platt.apply(opened.constant)) / len(self.parts)
            readers[mine] += 1
            if opened.slope is not None and opened.reference is not None:
                slope[mine], reference[mine] = scale * opened.slope, opened.reference
        slope[readers > 1], reference[readers > 1] = np.nan, 0.0
        if np.isnan(slope).all():
            return HeadShares(shares, constant)
        return HeadShares(shares, constant, slope, reference)

    def state(self) -> State:
        """Return the states of the parts."""
        return [
            {"head": part.head.state(), "platt": part.platt.state(), "columns": part.columns} for part in self.parts
        ]

    @classmethod
    def restore(cls, state: State) -> MeanHead:
        """Return the head that `state` described."""
        return cls([_restored(part) for part in state])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of head on the rows of one embedding."""

    kind: HeadKind
    rows: Rows


def fit_heads(candidates: Sequence[Candidate], seed: int) -> dict[int, Part]:
    """Fit the candidate, or the mean of some of them, that predicts left-out patients best by log loss.

    Parameters
    ----------
    candidates : sequence of Candidate
        All about the same training rows, in the same order. One alone is fitted and not tried. As every set of them
        is a possible mean, there should be few.
    seed : int
        Decides the inner folds.

    Returns
    -------
    dict from int to Part
        By the place of the candidate; fitted on all rows.
    """
    if len(candidates) == 1:
        return {0: Part(_fitted(candidates[0]), Platt())}
    rows = candidates[0].rows
    folds = patient_folds(rows.subject_ids.tolist(), rows.events, inner_folds(rows), seed)
    tried = [_left_out(candidate, folds) for candidate in candidates]
    best = min(_sets(len(tried)), key=lambda chosen: _loss(np.mean([tried[each][1] for each in chosen], axis=0), rows))
    return {place: Part(_fitted(candidates[place]), tried[place][0]) for place in best}


def inner_folds(rows: Rows) -> int:
    """Return how many folds the patients of the rarer class allow, 5 at most, or 3 where there are many rows."""
    patients = [len(np.unique(rows.subject_ids[rows.events == outcome])) for outcome in (False, True)]
    return min(_FEWER_FOLDS if len(rows.events) >= _MANY else INNER_FOLDS, *patients)


def _sets(n: int) -> Iterator[tuple[int, ...]]:
    """Yield every set of some of n candidates, small ones first: of two that are equally good, the simpler is taken."""
    for size in range(1, n + 1):
        yield from combinations(range(n), size)


def _left_out(candidate: Candidate, folds: np.ndarray) -> tuple[Platt, FloatArray]:
    """Return the calibration of a candidate, and its calibrated log-odds for left-out patients."""
    rows = candidate.rows
    raw = np.empty(len(rows.events))
    for fold in range(folds.max() + 1):
        fitted = _fitted(Candidate(candidate.kind, rows.take(folds != fold)))
        raw[folds == fold] = fitted.raw(rows.values[folds == fold])
    platt = Platt.fit(raw, rows.events, rows.weights)
    return platt, platt.apply(raw)


def _loss(logits: FloatArray, rows: Rows) -> float:
    return float(np.average(np.logaddexp(0.0, np.where(rows.events, -logits, logits)), weights=rows.weights))


def _fitted(candidate: Candidate) -> Head:
    head: Head = _head_class(candidate.kind)().fit(candidate.rows)
    return head


def _restored(state: State) -> Part:
    columns = state["columns"]
    head = _head_class(state["head"]["kind"]).restore(state["head"])
    return Part(head, Platt(**state["platt"]), None if columns is None else (int(columns[0]), int(columns[1])))


def _head_class(kind: str) -> Any:
    if kind == "trees":
        from medfusion.evidence.trees import TreeHead  # noqa: PLC0415 - loads XGBoost only where trees are wanted

        return TreeHead
    if kind != "linear":
        raise ValueError(f"no head of kind {kind!r}")
    from medfusion.evidence.linear import LinearHead  # noqa: PLC0415

    return LinearHead
