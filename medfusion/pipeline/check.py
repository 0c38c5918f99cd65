"""Validation: everything that is wrong with a cohort folder, and what looks like a leak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfusion.cohort import Cohort, audit_leakage, open_cohort, require_two_classes
from medfusion.core.errors import DataError, Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.folds import Patients
from medfusion.core.protocols import Modality
from medfusion.core.types import Embedding, FloatArray
from medfusion.evidence import LinearHead, Rows
from medfusion.pipeline.data import Settings, Track, build_modalities, read_payloads, silent
from medfusion.pipeline.model import Payloads

_COMMON = {"after", "against", "and", "another", "any", "because", "before", "caused", "during", "for", "from", "into"}
_COMMON |= {"named", "not", "point", "the", "this", "true", "false", "with", "was", "were"}
# They tell when, and stand in the names of features, too.
_COMMON |= {"day", "days", "hour", "hours", "month", "months", "prediction", "time", "within", "year", "years"}


def validate(
    cohort_folder: Path,
    task: str | None = None,
    *,
    settings: Settings | None = None,
    cache: Path | None = None,
    track: Track = silent,
) -> list[Problem]:
    """Check a cohort folder: tables, times, files, and the leakage audit for each task.

    Parameters
    ----------
    cohort_folder : Path
    task : str, optional
        Only this one; otherwise all.

    Returns
    -------
    list of Problem
        Each once, errors first.
    """
    modalities = build_modalities(settings or {}, cache)
    try:
        tasks = CohortFolder.open(cohort_folder).config.get("tasks")
    except DataError as error:
        return list(error.problems)
    names = [task] if task else sorted(tasks) if isinstance(tasks, dict) and tasks else [None]
    problems: list[Problem] = []
    for name in names:
        try:
            problems += _check_task(cohort_folder, list(modalities.values()), name, track)
        except DataError as error:
            problems += error.problems
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.severity)


def _check_task(folder: Path, modalities: Sequence[Modality], task: str | None, track: Track) -> list[Problem]:
    cohort = open_cohort(folder, modalities, task)
    by_name = {modality.name: modality for modality in modalities if modality.name in cohort.modalities}
    payloads = read_payloads(cohort, by_name, cohort.samples, cohort.problems, track)
    events = [sample.event for sample in cohort.samples]
    if True in events and False in events:
        blocks = {name: _embed(by_name[name], payloads[name], cohort) for name in by_name}
        hashes = {name: _fingerprints(by_name[name], payloads, name) for name in by_name}
        words = label_words(cohort.task.name, cohort.task.positive)
        slopes = {name: _slopes(block, cohort) for name, block in blocks.items() if not block.same_unit}
        leaks = audit_leakage(cohort.samples, blocks, hashes, words, slopes)
        cohort.problems.extend(leak.problem() for leak in leaks)
    elif True in events or False in events:
        cohort.problems.extend(_one_class(cohort))
    return cohort.problems


def _one_class(cohort: Cohort) -> Sequence[Problem]:
    try:
        require_two_classes(cohort)
    except DataError as error:
        return error.problems
    return ()


def _embed(modality: Modality, payloads: Sequence[object], cohort: Cohort) -> Embedding:
    """Embed all samples with an encoder fitted on the labelled ones; for looking, not for predicting."""
    encoder = modality.encoder()
    labelled = [row for row, sample in enumerate(cohort.samples) if sample.event is not None]
    here = [row for row in labelled if payloads[row] is not None]
    encoder.fit([payloads[row] for row in here], np.array([bool(cohort.samples[row].event) for row in here]))
    return encoder.encode(payloads)


def _slopes(block: Embedding, cohort: Cohort) -> FloatArray:
    """Return what a linear head makes of named features: masked words leak through what stands around them."""
    events = [sample.event for sample in cohort.samples]
    here = np.flatnonzero(block.present & np.array([event is not None for event in events]))
    subjects = np.array([sample.subject_id for sample in cohort.samples])
    patients = Patients(subjects[here], np.array(events)[here].astype(bool), np.zeros(len(here), dtype=int))
    if len(np.unique(patients.events)) < 2:
        return np.zeros(len(block.feature_names))
    rows = Rows(block.values[here], patients.events, patients.weights, patients.subject_ids, block.same_unit)
    return LinearHead().fit(rows).slope


def _fingerprints(modality: Modality, payloads: Payloads, name: str) -> list[list[str]]:
    return [[] if payload is None else modality.fingerprints(payload) for payload in payloads[name]]


def label_words(name: str, positive: str) -> list[str]:
    """Return the words that name an outcome.

    Examples
    --------
    >>> label_words("icu", "admitted to intensive care")
    ['admitted', 'care', 'icu', 'intensive']
    """
    words = re.findall(r"\w+", f"{name} {positive}".lower())
    return sorted({word for word in words if len(word) > 2 and word not in _COMMON})
