"""Folds by patient: all rows of a patient are in one fold, whatever stay, image or visit they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import DataError, Problem
from medfusion.core.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Patients:
    """Whose rows they are, what happened, and in which fold each is left out.

    Attributes
    ----------
    subject_ids : array (n,)
    events : array (n,), bool
    folds : array (n,), int
        Equal for all rows of a patient.

    Examples
    --------
    >>> patients = Patients(np.array(["a", "b", "b"]), np.array([True, False, False]), np.array([0, 1, 1]))
    >>> patients.weights.round(2).tolist(), patients.n_folds
    ([1.0, 0.71, 0.71], 2)
    """

    subject_ids: NDArray[np.str_]
    events: BoolArray
    folds: NDArray[np.int64]

    @property
    def weights(self) -> FloatArray:
        """1/sqrt(rows of that patient): a patient seen often counts more, but not that much more."""
        _, inverse, counts = np.unique(self.subject_ids, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / np.sqrt(counts[inverse]))

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    def take(self, chosen: NDArray[np.generic]) -> Patients:
        """Return some of the rows, by a mask or by their places."""
        return Patients(self.subject_ids[chosen], self.events[chosen], self.folds[chosen])


def patient_folds(subject_ids: Sequence[str], events: BoolArray, k: int, seed: int) -> NDArray[np.int64]:
    """Assign every row to one of k folds, by patient and with similar rates of the event.

    Parameters
    ----------
    subject_ids : sequence of str, length n
    events : array (n,), bool
    k : int
        Number of folds, at least 2.
    seed : int

    Returns
    -------
    array (n,), int64
        Fold number of each row, from 0 to k - 1.

    Raises
    ------
    DataError
        If fewer than k patients have the event, fewer than k have a row without it, or so few have only one kind
        of row that some training part (all folds but one) would have one kind only.
    ValueError
        If k is less than 2.

    Examples
    --------
    >>> patients = ["a", "a", "b", "c", "d"]
    >>> folds = patient_folds(patients, np.array([False, True, False, True, False]), k=2, seed=0)
    >>> bool(folds[0] == folds[1]), sorted(set(folds.tolist()))
    (True, [0, 1])
    """
    if k < 2:
        raise ValueError(f"k is {k}; folds need at least 2")
    patients = np.asarray(subject_ids, dtype=str)
    events = np.asarray(events, dtype=bool)
    having, lacking = len(np.unique(patients[events])), len(np.unique(patients[~events]))
    if min(having, lacking) >= k:
        folds = _divide(patients, events, k, seed)
        if all(0 < events[folds != fold].mean() < 1 for fold in range(k)):
            return folds
    got = f"{having} patients with the event and {lacking} with a row without it"
    expected = f"at least {k} of each, and both in every training part"
    remedy = "label more patients" if min(having, lacking, k - 1) < 2 else "use fewer folds, or label more patients"
    raise DataError([Problem("too-few-patients", "labels", "", "boolean_value", got, expected, remedy)])


def _divide(patients: NDArray[np.str_], events: BoolArray, k: int, seed: int) -> NDArray[np.int64]:
    """Divide by patient; where every patient has one row, the division without groups takes a hundredth of the time."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # noqa: PLC0415 - slow to import

    if len(np.unique(patients)) == len(patients):
        parts = StratifiedKFold(k, shuffle=True, random_state=seed).split(patients, events)
    else:
        parts = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(patients, events, patients)
    folds = np.empty(len(patients), dtype=np.int64)
    for fold, (_, held_out) in enumerate(parts):
        folds[held_out] = fold
    return folds
