"""Draws patients: who they are, what is recorded of them and when, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import exp

import numpy as np
import pandas as pd

from medfusion.cohort.synthetic.anatomy import Anatomy, Opacity, draw_anatomy, draw_opacities
from medfusion.cohort.synthetic.events import Event, draw_events, draw_levels
from medfusion.cohort.synthetic.films import Film
from medfusion.cohort.synthetic.notes import PREVALENCE, Note, admission_note, draw_findings, progress_note
from medfusion.cohort.synthetic.truth import TRUTHS, Recipe, Truth, TruthKind, contributions, drivers_by_modality
from medfusion.core.types import Sample

SITES: Mapping[str, tuple[float, float]] = {"north": (0.4, 0.05), "river": (0.3, 0.35), "hill": (0.3, 0.85)}
"""Of each site: its part of the patients, and the part of its patients whose notes are in Korean."""
SHARED_ILLNESS = 0.3
"""Correlation of the opacities with how ill the patient is otherwise."""
PORTABLE = 0.3
"""Part of the films that are AP; it does not depend on the illness, so that the view is no shortcut."""
FIRST_ADMISSION = datetime(2023, 1, 2)
AFTERMATH = timedelta(hours=24)
"""How long records go on after the last prediction; they follow the outcome and must not reach a model."""
AFTERMATH_WORSE = 2.0
"""By how many standard deviations values get worse then, where there was an event."""

_IDS_PER_SEED = 100_000
"""Two cohorts of different seeds share no patient."""


@dataclass(slots=True)
class Patient:
    """A patient and all that was recorded, also after the last prediction time."""

    subject_id: str
    sex: str
    age_years: int
    site: str
    films: list[Film] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    contributions: list[dict[str, float]] = field(default_factory=list)
    truth: TruthKind = "additive"


def draw_patients(subjects: int, seed: int, truth: TruthKind = "additive") -> list[Patient]:
    """Draw patients, without pixels and without files.

    A patient depends on ``seed``, ``truth`` and the place in the list, not on how many others there are.

    Examples
    --------
    >>> draw_patients(2, 0) == draw_patients(5, 0)[:2]
    True
    """
    return [
        _draw_patient(np.random.default_rng([seed, index]), f"P{seed * _IDS_PER_SEED + index + 1:06d}", truth)
        for index in range(subjects)
    ]


def truth_of(patients: Sequence[Patient]) -> Truth:
    """Return the model that drew the outcomes of patients of one truth, with its contributions per sample."""
    recipe = TRUTHS[patients[0].truth]
    rows: list[dict[str, object]] = []
    for patient in patients:
        for sample, shares in zip(patient.samples, patient.contributions, strict=True):
            logit = recipe.base + sum(shares.values())
            asked = {"subject_id": sample.subject_id, "prediction_time": sample.prediction_time}
            answer = {"event": sample.event, "logit": logit, "risk": _probability(logit)}
            rows.append({**asked, **answer, **shares})
    products = {name: tuple(product.ramps) for name, product in recipe.products.items()}
    return Truth(recipe.base, pd.DataFrame(rows), drivers_by_modality(recipe), products)


def _draw_patient(rng: np.random.Generator, subject_id: str, truth: TruthKind) -> Patient:
    site = str(rng.choice(list(SITES), p=[part for part, _ in SITES.values()]))
    sex = str(rng.choice(["F", "M"]))
    age = int(np.clip(round(rng.normal(64.0, 16.0)), 18, 97))
    patient = Patient(subject_id, sex, age, site, truth=truth)
    stay = _Stay.drawn(rng, patient, TRUTHS[truth])
    admitted = FIRST_ADMISSION + timedelta(minutes=int(rng.integers(500 * 24 * 60)))
    until = admitted + timedelta(minutes=int(rng.integers(18 * 60, 36 * 60)))
    stay.record(admitted, until, film=1.0, note=1.0)
    event = stay.predict(until)
    if not event and rng.random() < stay.recipe.second_prediction:
        start, until = until, until + timedelta(minutes=int(rng.integers(20 * 60, 28 * 60)))
        stay.change()
        stay.record(start, until, film=0.5, note=0.7)
        event = stay.predict(until)
    stay.record(until, until + AFTERMATH, film=0.2, note=0.4, worse=AFTERMATH_WORSE * event)
    return patient


@dataclass(slots=True)
class _Stay:
    """The hidden course of a patient, which records are drawn from."""

    rng: np.random.Generator
    patient: Patient
    recipe: Recipe
    language: str
    absent: frozenset[str]
    anatomy: Anatomy
    opacities: tuple[Opacity, ...]
    levels: dict[str, float]
    findings: frozenset[str]

    @classmethod
    def drawn(cls, rng: np.random.Generator, patient: Patient, recipe: Recipe) -> _Stay:
        illness = rng.standard_normal()
        elsewhere = illness if recipe.shared_illness else 0.0
        in_lungs = SHARED_ILLNESS * elsewhere + np.sqrt(1.0 - SHARED_ILLNESS**2) * rng.standard_normal()
        return cls(
            rng=rng,
            patient=patient,
            recipe=recipe,
            language="ko" if rng.random() < SITES[patient.site][1] else "en",
            absent=_draw_absent(rng, recipe),
            anatomy=draw_anatomy(rng, patient.sex),
            opacities=draw_opacities(rng, in_lungs),
            levels=draw_levels(rng, illness, recipe.always_measured),
            findings=draw_findings(rng, elsewhere),
        )

    def predict(self, moment: datetime) -> bool:
        """Ask the question at a moment, and draw its answer from what was recorded up to then."""
        p = self.patient
        shares = contributions(self.recipe, moment, p.age_years, p.films, p.events, p.notes)
        event = bool(self.rng.random() < _probability(self.recipe.base + sum(shares.values())))
        p.samples.append(Sample(p.subject_id, moment, event))
        p.contributions.append(shares)
        return event

    def change(self) -> None:
        """Let a day pass: values drift, opacities grow or shrink, a finding may be new."""
        self.levels = {code: 0.85 * level + 0.5 * self.rng.standard_normal() for code, level in self.levels.items()}
        self._grow(float(self.rng.lognormal(0.0, 0.2)))
        self.findings |= {name for name in PREVALENCE if self.rng.random() < 0.08}

    def record(self, start: datetime, end: datetime, film: float, note: float, worse: float = 0.0) -> None:
        """Draw what is recorded after ``start`` and up to ``end``; ``film`` and ``note`` are probabilities."""
        rng = self.rng
        if worse:
            self._grow(1.0 + 0.3 * worse)
            self.findings |= {"confusion", "cyanosis"}
        if "ehr" not in self.absent:
            self.patient.events += draw_events(rng, self.levels, start, end, worse)
        if "imaging" not in self.absent and rng.random() < film:
            self._take_film(self._moment(start, end, 0.02, 0.4))
            if film == 1.0 and rng.random() < 0.1:
                self._take_film(self._moment(start, end, 0.5, 0.98))
        if "notes" not in self.absent and rng.random() < note:
            self._write_note(self._moment(start, end, 0.05, 0.3))
            if note == 1.0 and rng.random() < 0.5:
                self._write_note(self._moment(start, end, 0.5, 0.98))

    def _take_film(self, time: datetime) -> None:
        view = "AP" if self.rng.random() < PORTABLE else "PA"
        self.patient.films.append(Film(time, int(self.rng.integers(2**31)), view, self.anatomy, self.opacities))

    def _write_note(self, time: datetime) -> None:
        if not self.patient.notes:
            self.patient.notes.append(admission_note(self.rng, self.language, time, self.findings))
        else:
            previous = self.patient.notes[-1]
            self.patient.notes.append(progress_note(self.rng, self.language, time, previous, self.findings))

    def _moment(self, start: datetime, end: datetime, earliest: float, latest: float) -> datetime:
        minutes = (end - start).total_seconds() / 60.0 * self.rng.uniform(earliest, latest)
        return start + timedelta(minutes=int(minutes) + 1)

    def _grow(self, factor: float) -> None:
        self.opacities = tuple(replace(patch, radius=patch.radius * factor) for patch in self.opacities)


def _draw_absent(rng: np.random.Generator, recipe: Recipe) -> frozenset[str]:
    """Draw the modalities that have nothing, so that each is absent as often as the recipe says."""
    if rng.random() < recipe.only_static:
        return frozenset(recipe.absent)
    left = 1.0 - recipe.only_static
    parts = recipe.absent.items()
    return frozenset(name for name, part in parts if rng.random() < (part - recipe.only_static) / left)


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + exp(-logit))
