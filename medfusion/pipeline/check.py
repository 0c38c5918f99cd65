"""Validation: everything that is wrong with a cohort folder, and what looks like a leak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfusion.cohort import Cohort, audit_leakage, open_cohort
from medfusion.core.errors import DataError, Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Modality
from medfusion.core.types import Embedding
from medfusion.pipeline.data import Settings, Track, build_modalities, read_payloads, silent
from medfusion.pipeline.model import Payloads

_COMMON = {"and", "any", "for", "from", "into", "not", "the", "this", "true", "false", "with", "was", "were"}


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
        names = [task] if task else sorted(CohortFolder.open(cohort_folder).config.get("tasks", {})) or [None]
        problems: list[Problem] = []
        for name in names:
            problems += _check_task(cohort_folder, list(modalities.values()), name, track)
    except DataError as error:
        return list(error.problems)
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
        leaks = audit_leakage(cohort.samples, blocks, hashes, words)
        cohort.problems.extend(leak.problem() for leak in leaks)
    return cohort.problems


def _embed(modality: Modality, payloads: Sequence[object], cohort: Cohort) -> Embedding:
    """Embed all samples with an encoder fitted on the labelled ones; for looking, not for predicting."""
    encoder = modality.encoder()
    labelled = [row for row, sample in enumerate(cohort.samples) if sample.event is not None]
    here = [row for row in labelled if payloads[row] is not None]
    encoder.fit([payloads[row] for row in here], np.array([bool(cohort.samples[row].event) for row in here]))
    return encoder.encode(payloads)


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
