"""Patients of the training cohort who are like one patient, by what the model's encoders make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.errors import Problem
from medfusion.core.types import BoolArray, Embedding, FloatArray, Sample
from medfusion.evidence.crossfit import AT_ONCE
from medfusion.pipeline.data import Track, read_payloads, silent
from medfusion.pipeline.drift import embedded
from medfusion.pipeline.patient import Patient
from medfusion.pipeline.use import Opened, labelled

_PAIRS = 2000
"""Pairs of patients from which it is learnt what distance is typical."""


@dataclass(frozen=True, slots=True)
class Similar:
    """A patient of the training cohort.

    Attributes
    ----------
    subject_id : str
    prediction_time : datetime
    distance : float
        0 is the same; 1 is the distance between two patients who have nothing to do with each other.
    compared : tuple of str
        The modalities that both have.
    event : bool
        The outcome.
    risk : float
        What the part of the model that has not seen them said of them.
    """

    subject_id: str
    prediction_time: datetime
    distance: float
    compared: tuple[str, ...]
    event: bool
    risk: float


@dataclass(frozen=True, eq=False)
class TrainingCohort:
    """The cohort that a model was trained on, embedded once; payloads are not kept.

    Attributes
    ----------
    samples : sequence of Sample, length n
        With their outcomes.
    risks : array (n,)
        By the members that have not seen the patients.
    spaces : mapping from modality to Space
    """

    samples: Sequence[Sample]
    risks: FloatArray
    spaces: Mapping[str, Space]

    @classmethod
    def of(cls, opened: Opened, track: Track = silent) -> TrainingCohort:
        """Embed the labelled samples of a cohort.

        Raises
        ------
        DataError
            If there are none.
        """
        samples, problems = labelled(opened.cohort), list[Problem]()
        risks: list[FloatArray] = []
        embeddings: dict[str, list[Embedding]] = {name: [] for name in opened.model.evidence}
        for start in range(0, len(samples), AT_ONCE):
            some = samples[start : start + AT_ONCE]
            payloads = read_payloads(opened.cohort, opened.model.modalities, some, problems, track)
            facts = [opened.cohort.facts(sample) for sample in some] if opened.model.columns else ()
            risks.append(opened.model.predict([sample.subject_id for sample in some], payloads, facts).risk)
            for name, embedding in embedded(opened.model, payloads).items():
                embeddings[name].append(embedding)
        return cls(samples, np.concatenate(risks), {name: Space.of(each) for name, each in embeddings.items()})

    def similar(self, patient: Patient, k: int = 5) -> list[Similar]:
        """Return the k patients who are nearest to one, who is never among them; of each, the nearest sample.

        The distance is the root mean square of the distances in each modality that the patient has. Somebody who lacks
        one of these is at the typical distance in it, 1: nothing is known of how like they are.

        Parameters
        ----------
        patient : Patient
            Opened with the model of this cohort.
        k : int

        Returns
        -------
        list of Similar
            The nearest first; fewer than k where there are no more, none of a patient of whom nothing is known.
        """
        here = embedded(patient.model, patient.payloads)
        mine = {name: each for name, each in here.items() if each.present[0]}
        if not mine:
            return []
        shared = np.column_stack([self.spaces[name].present for name in mine])
        apart = np.column_stack([self.spaces[name].distances(each) for name, each in mine.items()])
        total = np.sqrt(np.mean(np.where(shared, apart, 1.0) ** 2, axis=1))
        # With nothing in common there is nothing to say.
        total[~shared.any(axis=1)] = np.inf
        found: dict[str, Similar] = {}
        for row in np.argsort(total, kind="stable").tolist():
            sample = self.samples[row]
            if len(found) == k or np.isinf(total[row]):
                break
            if sample.subject_id == patient.sample.subject_id or sample.subject_id in found:
                continue
            both = tuple(name for name, has in zip(mine, shared[row], strict=True) if has)
            found[sample.subject_id] = Similar(
                sample.subject_id,
                sample.prediction_time,
                float(total[row]),
                both,
                bool(sample.event),
                float(self.risks[row]),
            )
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Space:
    """The embeddings of one modality, in coordinates in which distances mean something.

    Dense features count in standard deviations, and a missing one as the mean; sparse ones, such as the weights of
    words, are of one scale already.

    Attributes
    ----------
    values : array (n, d) or sparse (n, d)
        0 where absent.
    present : array (n,), bool
    centre, spread : array (d,) or None
        None where features are sparse.
    typical : float
        The median distance between two samples.
    """

    values: Any
    present: BoolArray
    centre: FloatArray | None
    spread: FloatArray | None
    typical: float

    @classmethod
    def of(cls, embeddings: Sequence[Embedding], seed: int = 0) -> Space:
        """Make a space of the embeddings of n samples, in lots."""
        present = np.concatenate([each.present for each in embeddings])
        parts = [each.values for each in embeddings]
        if not all(isinstance(each, np.ndarray) for each in parts):
            return cls(sparse.vstack(parts, format="csr"), present, None, None, 1.0)._scaled(seed)
        dense = np.concatenate(parts)
        if not present.any():
            return cls(np.nan_to_num(dense), present, np.zeros(dense.shape[1]), np.ones(dense.shape[1]), 1.0)
        known = np.ma.masked_invalid(dense[present].astype(np.float64))
        centre, spread = known.mean(axis=0).filled(0.0), known.std(axis=0).filled(0.0)
        # What never differs tells nothing.
        spread = np.where(spread > 0, spread, np.inf)
        values = np.nan_to_num((dense - centre) / spread).astype(np.float32)
        return cls(values, present, centre, spread, 1.0)._scaled(seed)

    def distances(self, embedding: Embedding) -> FloatArray:
        """Return the distance (n,) of every sample to that of an embedding; it means nothing where absent."""
        row: Any = embedding.values
        if self.centre is not None and self.spread is not None:
            row = np.nan_to_num((row - self.centre) / self.spread)
            return np.asarray(np.sqrt(((self.values - row) ** 2).sum(axis=1)) / self.typical)
        squares = _squares(self.values) + _squares(row) - 2 * (self.values @ row.T).toarray()[:, 0]
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)) / self.typical)

    def _scaled(self, seed: int) -> Space:
        """Measure what distance is typical."""
        rows = np.flatnonzero(self.present)
        if len(rows) < 2:
            return self
        generator = np.random.default_rng(seed)
        one, other = generator.choice(rows, _PAIRS), generator.choice(rows, _PAIRS)
        typical = float(np.median(self._apart(one[one != other], other[one != other])))
        return Space(self.values, self.present, self.centre, self.spread, typical if typical > 0 else 1.0)

    def _apart(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> FloatArray:
        between = self.values[one] - self.values[other]
        return np.asarray(np.sqrt(_squares(between) if sparse.issparse(between) else (between**2).sum(axis=1)))


def _squares(rows: Any) -> FloatArray:
    """Return the squared length (n,) of sparse rows."""
    return np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
