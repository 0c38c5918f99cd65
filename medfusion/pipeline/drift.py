"""Is a cohort still like the one that a model was trained on, and does it matter?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core import files
from medfusion.core.errors import DataError, ModelFolderError, Problem
from medfusion.core.folds import Patients
from medfusion.core.state import load_state
from medfusion.core.types import Block, Embedding, FloatArray
from medfusion.evaluation.drift import DriftReport
from medfusion.evaluation.drift import drift as compare
from medfusion.evaluation.drift_fingerprint import Fingerprint
from medfusion.evidence import EvidenceModel
from medfusion.explain import modality_shares
from medfusion.fusion.recalibration import Recalibration
from medfusion.outputs.ledger import RESEARCH_USE
from medfusion.outputs.report import write_report
from medfusion.pipeline.data import Track, silent
from medfusion.pipeline.model import Payloads, RiskModel
from medfusion.pipeline.use import Opened, open_for_use

FINGERPRINT = "fingerprint"
"""Name of the two files of the model folder."""
OFTEN = 0.05
"""A code is worth a line if so many patients have it, and 5 at least."""
_FEWEST = 5
_ROWS, _AT_ONCE = 1000, 200
_NAMED = 10


def fingerprint_of(
    model: RiskModel, blocks: Mapping[str, Block], payloads: Payloads, patients: Patients, risks: FloatArray
) -> Fingerprint:
    """Describe the training data of a model, for its folder.

    How much the model leans on a modality is its mean absolute share, by the members that have not seen the patients;
    within a modality, features count by their mean absolute share in the first member's head.

    Parameters
    ----------
    model : RiskModel
    blocks : mapping from modality to Block
        Of the n training samples; embeddings are needed only where the fusion looks at them.
    payloads : mapping from modality to sequence of length n
    patients : Patients
    risks : array (n,)
        Out-of-fold, such as ``expit(fusion.left_out(blocks, patients))``.
    """
    shares = modality_shares(model.fusion.logits, blocks)[patients.folds, np.arange(len(risks))]
    reliance = dict(zip(blocks, np.abs(shares).mean(axis=0).tolist(), strict=True))
    embeddings = embedded(model, payloads)
    importance = {name: (reliance[name], _importance(model.evidence[name], each)) for name, each in embeddings.items()}
    return Fingerprint.of(embeddings, patients.events, risks, patients.subject_ids.tolist(), importance)


def embedded(model: RiskModel, payloads: Payloads) -> dict[str, Embedding]:
    """Embed payloads by the first member of each modality: the one that fingerprints are taken with."""
    return {name: each.members[0].embed(payloads[name]) for name, each in model.evidence.items()}


def load_fingerprint(model_folder: Path) -> Fingerprint:
    """Read the fingerprint of a model's training data.

    Raises
    ------
    ModelFolderError
        If there is none, or it cannot be read.
    """
    if not (model_folder / f"{FINGERPRINT}.json").is_file():
        said = "has no fingerprint of its training data, as models of earlier versions; train the model again"
        raise ModelFolderError(f"{model_folder.name}: {said}")
    return Fingerprint.restore(load_state(model_folder, FINGERPRINT))


def drift(
    model_folder: Path,
    cohort_folder: Path,
    out: Path | None = None,
    *,
    task: str | None = None,
    cache: Path | None = None,
    seed: int = 0,
    track: Track = silent,
) -> DriftReport:
    """Hold a cohort against the training of a model; write drift.json and report.html.

    All samples of the cohort take part, with an outcome or without.

    Parameters
    ----------
    model_folder, cohort_folder : Path
    out : Path, optional
        Nothing is written without.
    task : str, optional
        As in `open_for_use`.
    cache : Path, optional
    seed : int
        Of permutations and resamples.
    track : callable

    Raises
    ------
    ModelFolderError
        If the model has no fingerprint.
    DataError
        If the cohort has no sample, or nothing that the model knows.
    """
    fingerprint = load_fingerprint(model_folder)
    opened = open_for_use(model_folder, cohort_folder, cache, task)
    samples = opened.cohort.samples
    if not samples:
        remedy = "list whom to compare, with a prediction time each"
        raise DataError([Problem("no-samples", opened.cohort.task.labels, "", "rows", "none", "at least 1", remedy)])
    predictions, payloads = opened.predict(samples, track)
    events = np.array([np.nan if sample.event is None else float(sample.event) for sample in samples])
    subjects = [sample.subject_id for sample in samples]
    embeddings = embedded(opened.model, payloads)
    risks, raw = predictions.risk, _as_trained(opened.model, subjects, payloads, predictions.risk)
    report = compare(fingerprint, embeddings, events, risks, subjects, as_trained=raw, seed=seed)
    unused = [_unused(name, embeddings[name], payloads[name], subjects) for name in embeddings]
    report = replace(report, problems=(*report.problems, *(problem for problem in unused if problem)))
    if out is not None:
        _write(out, opened, fingerprint, report, int(predictions.seen.sum()))
    return report


def _as_trained(model: RiskModel, subjects: Sequence[str], payloads: Payloads, risks: FloatArray) -> FloatArray:
    """Return risks before recalibration."""
    plain = Recalibration()
    if model.recalibration == plain:
        return risks
    return replace(model, recalibration=plain, risk_sets=None).predict(subjects, payloads).risk


def _importance(evidence: EvidenceModel, embedding: Embedding) -> FloatArray:
    """Return the mean absolute share of each feature over (at most 1,000) rows that have the modality."""
    rows = np.flatnonzero(embedding.present)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(int)]
    total, head = np.zeros(embedding.values.shape[1]), evidence.members[0].head
    for start in range(0, len(rows), _AT_ONCE):
        total += np.abs(head.shares(embedding.values[rows[start : start + _AT_ONCE]]).shares).sum(axis=0)
    return np.asarray(evidence.platt.slope * total / max(len(rows), 1))


def _unused(name: str, embedding: Embedding, payloads: Sequence[Any], subjects: Sequence[str]) -> Problem | None:
    """Tell which codes many patients of the cohort have, and the model does not use; None if there are none.

    Only payloads that keep their codes in a vocabulary have any.
    """
    used = {feature.rsplit(" ", 1)[0] for feature in embedding.feature_names}
    having: Counter[str] = Counter()
    found = {
        (subject, payload.vocabulary.codes[place])
        for subject, payload in zip(subjects, payloads, strict=True)
        if getattr(payload, "vocabulary", None) is not None
        for place in payload.codes.tolist()
    }
    having.update(code for _, code in found)
    least = max(_FEWEST, OFTEN * len(set(subjects)))
    often = {code: count for code, count in having.most_common() if count >= least}
    unused = [f"{code} ({count:,} patients)" for code, count in often.items() if code not in used]
    if not unused:
        return None
    more = len(unused) - _NAMED
    listed = ", ".join(unused[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    got = f"{len(unused)} of {len(often)} frequent ones unknown to the model"
    remedy = f"map those that the training has under other names: {listed}"
    return Problem("codes-not-used", name, "", "codes", got, "those of the training", remedy, "warning")


def _write(out: Path, opened: Opened, fingerprint: Fingerprint, report: DriftReport, seen: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model = opened.model
    numbers = {"model_id": model.model_id, "task": model.task, "seen_in_training": seen, **report.as_dict()}
    files.write_text(out / "drift.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    basis = {
        "Model": model.model_id,
        "Task": f"{model.task}: {model.positive}",
        "Cohort": opened.cohort.name,
        "Samples": report.n,
        "Patients": report.n_subjects,
        "Patients of the training": fingerprint.patients,
        "Samples with an outcome": report.outlook.outcomes,
        "Comparisons": len(report.changes),
        "Samples of patients from training": seen,
    }
    notes = [RESEARCH_USE, *(problem.line() for problem in report.problems)]
    if seen:
        notes.append(
            "Patients of the training are like the training: leave them out to see what new patients are like."
        )
    if model.recalibration != Recalibration():
        notes.append(
            "The model was recalibrated: how its risks moved is told without that, events are compared with it."
        )
    lead, title = [f"{report.verdict.capitalize()}.", *report.reasons], f"Drift of {model.task}"
    write_report(out / "report.html", title, report.frame(), report.panels, basis, notes, lead)
