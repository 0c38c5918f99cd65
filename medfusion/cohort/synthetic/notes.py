"""Draws clinical notes: sections, negations, a relative's illness, and text that is carried forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist

import numpy as np

from medfusion.cohort.synthetic.phrases import LANGUAGES, Phrases

PREVALENCE: Mapping[str, float] = {"confusion": 0.28, "cyanosis": 0.25, "mottling": 0.18, "ambulating": 0.38}
"""Part of the patients in whom a finding that drives the risk is present on admission."""
SEVERITY: Mapping[str, float] = {"confusion": 0.3, "cyanosis": 0.3, "mottling": 0.3, "ambulating": -0.3}
"""Correlation of each finding's underlying normal with how ill the patient is."""
NEGATED_WHEN_ABSENT = 0.6
"""How often a finding that is absent is written down as absent; else it is not mentioned."""
RELATIVE_MENTIONED = 0.12
"""How often the family history mentions a driver word, of a relative."""
COPIED_UNCHANGED = 0.25
"""How often a progress note is the previous text word for word."""


@dataclass(frozen=True, slots=True)
class Note:
    """A note, and the drivers that it says are present.

    Attributes
    ----------
    time : datetime
    note_type : {"admission", "progress"}
    text : str
    findings : frozenset of str
        Keys of `PREVALENCE`, whatever the language.
    """

    time: datetime
    note_type: str
    text: str
    findings: frozenset[str]


def draw_findings(rng: np.random.Generator, severity: float) -> frozenset[str]:
    """Draw which of the drivers in notes are present in a patient."""
    found = set()
    for name, prevalence in PREVALENCE.items():
        own = SEVERITY[name] * severity + np.sqrt(1.0 - SEVERITY[name] ** 2) * rng.standard_normal()
        if own > NormalDist().inv_cdf(1.0 - prevalence):
            found.add(name)
    return frozenset(found)


def admission_note(rng: np.random.Generator, language: str, time: datetime, findings: frozenset[str]) -> Note:
    """Write the note of the admission."""
    say = LANGUAGES[language]
    history = [_one(rng, say.complaints).format(days=int(rng.integers(1, 15))), *_symptoms(rng, say)]
    past = [str(line) for line in rng.choice(say.past, size=rng.integers(1, 4), replace=False)]
    exam = [str(line) for line in rng.choice(say.general, size=rng.integers(1, 4), replace=False)]
    for name in PREVALENCE:
        if name in findings:
            exam.append(_one(rng, say.present[name]))
        elif rng.random() < NEGATED_WHEN_ABSENT:
            exam.append(_one(rng, say.negated[name]))
    parts = (history, past, _family(rng, say), exam, [_one(rng, say.impressions)])
    lines = [f"{head}: {' '.join(part)}" for head, part in zip(say.sections, parts, strict=True)]
    return Note(time, "admission", "\n".join(lines), findings)


def progress_note(
    rng: np.random.Generator, language: str, time: datetime, previous: Note, findings: frozenset[str]
) -> Note:
    """Write a note that carries the previous text forward and adds what is new, if it adds anything."""
    say = LANGUAGES[language]
    new = [_one(rng, say.present[name]) for name in PREVALENCE if name in findings - previous.findings]
    if not new and rng.random() < COPIED_UNCHANGED:
        return Note(time, "progress", previous.text, previous.findings)
    added = " ".join([_one(rng, say.unchanged), *new])
    return Note(time, "progress", f"{previous.text}\n{say.update}: {added}", previous.findings | findings)


def _symptoms(rng: np.random.Generator, say: Phrases) -> list[str]:
    lines = []
    for present, negated in say.symptoms.values():
        chance = rng.random()
        if chance < 0.3:
            lines.append(present)
        elif chance < 0.75:
            lines.append(negated)
    return lines


def _family(rng: np.random.Generator, say: Phrases) -> list[str]:
    if rng.random() < RELATIVE_MENTIONED:
        return [_one(rng, say.relative[_one(rng, tuple(say.relative))])]
    return [_one(rng, say.family)]


def _one(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
