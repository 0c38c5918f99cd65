"""What a leak is, and the table that leaks are looked for in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.errors import Problem
from medfusion.core.types import BoolArray, Embedding, FloatArray

EXAMPLES = 3
"""How many patients a leak names."""
_CHARACTERS = "char:"
_REMEDIES = {
    "single-feature": "check that it is known at the prediction time, and is no consequence of the outcome",
    "pure-word": "check whether the word was written because the outcome was known",
    "label-word": "mask it, or check that it is known at the prediction time",
    "identical-content": "check that the patients are different people, and the content their own",
    "missingness": "check that who gets this does not depend on the outcome being known",
    "dominant-coefficient": "check that it is a sign of illness, not of how the data came about",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """A suspicion that the outcome can be read off the data.

    Attributes
    ----------
    kind : str
        "single-feature", "pure-word", "label-word", "identical-content", "missingness" or "dominant-coefficient".
    modality : str
    feature : str
        Name in the embedding, beginning of a fingerprint, or empty for the modality as a whole.
    auroc : float or None
        How well it alone tells the outcome, at least 0.5 (``detail`` says in which direction); None where that is
        not known beyond chance.
    n_subjects : int
        Patients who have it.
    example_subjects : tuple of str
        Up to three of them.
    detail : str
    """

    kind: str
    modality: str
    feature: str
    auroc: float | None
    n_subjects: int
    example_subjects: tuple[str, ...]
    detail: str

    def problem(self) -> Problem:
        """Return the leak as a warning.

        Examples
        --------
        >>> print(Leak("pure-word", "notes", "word:vent", 0.7, 9, ("C2",), "9 of 9 with the event").problem().line())
        warning notes such as subject C2: word:vent is 'AUROC 0.70, 9 patients', expected nothing that gives the \
outcome away; 9 of 9 with the event; check whether the word was written because the outcome was known [leak-pure-word]
        """
        numbers = [] if self.auroc is None else [f"AUROC {self.auroc:.2f}"]
        got = ", ".join([*numbers, f"{self.n_subjects} patients"])
        where = "such as subject " + ", ".join(self.example_subjects) if self.example_subjects else ""
        field, expected = self.feature or "presence", "nothing that gives the outcome away"
        # A long value would be cut in a line of text; a remedy is not.
        remedy = f"{self.detail}; {_REMEDIES[self.kind]}"
        return Problem(f"leak-{self.kind}", self.modality, where, field, got, expected, remedy, "warning")


@dataclass(frozen=True, slots=True)
class Patients:
    """Names (n,) of patients and whether they have the event (n,), one row each."""

    names: NDArray[np.str_]
    events: BoolArray

    def where(self, mask: BoolArray) -> Patients:
        """Keep some of the patients."""
        return Patients(self.names[mask], self.events[mask])


@dataclass(frozen=True, slots=True)
class PatientTable:
    """What one modality has of the patients that have it, one row each.

    Attributes
    ----------
    modality : str
    names : list of str, length d
    columns : array (d,), int
        Places in the embedding.
    values : array (n, d) or sparse CSC (n, d)
        NaN is a missing value; zero in a sparse array is a word that is not in the text.
    patients : Patients, length n
    """

    modality: str
    names: list[str]
    columns: NDArray[np.int64]
    values: Any
    patients: Patients

    @classmethod
    def of(cls, modality: str, block: Embedding, rows: NDArray[np.int64], patients: Patients) -> PatientTable:
        """Take the rows of patients out of a block, and leave out parts of words."""
        present = block.present[rows]
        names = [str(name) for name in block.feature_names]
        values: Any = block.values[rows[present]]
        columns = np.arange(len(names))
        if sparse.issparse(values):
            columns = np.array([place for place in columns if not names[place].startswith(_CHARACTERS)], dtype=np.int64)
            values = values.tocsc()[:, columns]
        return cls(modality, [names[column] for column in columns], columns, values, patients.where(present))

    @property
    def words(self) -> bool:
        """Whether the columns are words: a sparse block, where zero means that a text lacks the word."""
        return bool(sparse.issparse(self.values))

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count the patients who have each column, and those of them with the event."""
        there = (self.values != 0) if self.words else ~np.isnan(self.values)
        there = there.astype(np.int64)
        return np.asarray(there.sum(axis=0)).ravel(), np.asarray(there[self.patients.events].sum(axis=0)).ravel()

    def column(self, place: int) -> FloatArray:
        """Return one column, dense."""
        part = self.values[:, [place]]
        column: FloatArray = (part.toarray() if self.words else part).ravel().astype(np.float64)
        return column

    def leak(self, kind: str, place: int, auroc: float, detail: str) -> Leak:
        """Describe one column; the examples are the patients with the most telling values."""
        column = self.column(place)
        there = np.flatnonzero(column != 0 if self.words else ~np.isnan(column))
        telling = there[np.argsort(-column[there] if auroc >= 0.5 else column[there], kind="stable")]
        examples = tuple(self.patients.names[telling[:EXAMPLES]].tolist())
        return Leak(kind, self.modality, self.names[place], max(auroc, 1 - auroc), len(there), examples, detail)
