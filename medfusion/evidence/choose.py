"""Choosing a head by cross-validation inside the training rows, by patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medfusion.core.folds import patient_folds
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import FloatArray
from medfusion.evidence.calibration import Platt
from medfusion.evidence.heads import Head, HeadShares, Rows

INNER_FOLDS = 5


class MeanHead:
    """The mean of calibrated heads; a single head is the mean of one.

    Averaging in log-odds keeps the shares exact: the share of a feature is the mean of its shares.
    """

    def __init__(self, parts: Sequence[tuple[Head, Platt]]) -> None:
        self.parts = tuple(parts)

    def raw(self, values: Any) -> FloatArray:
        """Return log-odds (n,)."""
        return np.asarray(np.mean([platt.apply(head.raw(values)) for head, platt in self.parts], axis=0))

    def shares(self, values: Any) -> HeadShares:
        """Return the shares (n, d) of the mean."""
        opened = [(head.shares(values), platt) for head, platt in self.parts]
        shares = np.mean([platt.slope * each.shares for each, platt in opened], axis=0)
        constant = float(np.mean([platt.apply(each.constant) for each, platt in opened]))
        first, platt = opened[0]
        if len(opened) > 1 or first.slope is None:
            return HeadShares(shares, constant)
        return HeadShares(shares, constant, platt.slope * first.slope, first.reference)

    def state(self) -> State:
        """Return the states of the parts."""
        return [{"head": head.state(), "platt": platt.state()} for head, platt in self.parts]

    @classmethod
    def restore(cls, state: State) -> MeanHead:
        """Return the head that `state` described."""
        return cls(
            [(_head_class(part["head"]["kind"]).restore(part["head"]), Platt(**part["platt"])) for part in state]
        )


def fit_head(kinds: Sequence[HeadKind], rows: Rows, seed: int) -> MeanHead:
    """Fit the kind of head, or the mean of all kinds, that predicts left-out patients best by log loss.

    Parameters
    ----------
    kinds : sequence of {"linear", "trees"}
        What suits the embedding.
    rows : Rows
    seed : int
        Decides the inner folds.

    Returns
    -------
    MeanHead
        Fitted on all rows.
    """
    if len(kinds) == 1:
        return MeanHead([(_head_class(kinds[0])().fit(rows), Platt())])
    folds = patient_folds(rows.subject_ids.tolist(), rows.events, inner_folds(rows), seed)
    tried = [_left_out(_head_class(kind), rows, folds) for kind in kinds]
    options = [[index] for index in range(len(kinds))] + [list(range(len(kinds)))]
    best = min(options, key=lambda option: _loss(np.mean([tried[index][1] for index in option], axis=0), rows))
    return MeanHead([(_head_class(kinds[index])().fit(rows), tried[index][0]) for index in best])


def inner_folds(rows: Rows) -> int:
    """Return how many folds the patients of the rarer class allow, 5 at most."""
    patients = [len(np.unique(rows.subject_ids[rows.events == outcome])) for outcome in (False, True)]
    return min(INNER_FOLDS, *patients)


def _left_out(head: Any, rows: Rows, folds: np.ndarray) -> tuple[Platt, FloatArray]:
    """Return the calibration of one kind of head, and its calibrated log-odds for left-out patients."""
    raw = np.empty(len(rows.events))
    for fold in range(folds.max() + 1):
        fitted = head().fit(rows.take(folds != fold))
        raw[folds == fold] = fitted.raw(rows.values[folds == fold])
    platt = Platt.fit(raw, rows.events, rows.weights)
    return platt, platt.apply(raw)


def _loss(logits: FloatArray, rows: Rows) -> float:
    return float(np.average(np.logaddexp(0.0, np.where(rows.events, -logits, logits)), weights=rows.weights))


def _head_class(kind: str) -> Any:
    if kind == "trees":
        from medfusion.evidence.trees import TreeHead  # noqa: PLC0415 - loads XGBoost only where trees are wanted

        return TreeHead
    if kind != "linear":
        raise ValueError(f"no head of kind {kind!r}")
    from medfusion.evidence.linear import LinearHead  # noqa: PLC0415

    return LinearHead
