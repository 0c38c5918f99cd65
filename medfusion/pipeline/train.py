"""Training: from a cohort folder to a model folder, with honest figures on the way."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from medfusion import __version__
from medfusion.cohort import Cohort, open_cohort, require_two_classes
from medfusion.core.errors import DataError, MedfusionWarning, Problem
from medfusion.core.folds import patient_folds
from medfusion.core.types import FloatArray
from medfusion.evaluation.evaluate import Evaluation, evaluate
from medfusion.evidence import EvidenceModel, Patients, crossfit
from medfusion.fusion import LateFusion
from medfusion.pipeline.data import Settings, Track, build_modalities, read_payloads, silent
from medfusion.pipeline.model import Payloads, RiskModel, Roster

FOLDS = 5
_RESAMPLES = 200
_RECORDED = ("numpy", "pandas", "pyarrow", "pydicom", "scikit-learn", "scipy", "torch", "monai", "xgboost-cpu")


@dataclass(frozen=True, slots=True)
class Training:
    """What a training run made.

    Attributes
    ----------
    model : RiskModel
    results : mapping from contender to Evaluation
        Out-of-fold figures of each modality alone and of ``"fused"``, all on the same samples.
    problems : list of Problem
        What was left out, and what to look at.
    """

    model: RiskModel
    results: Mapping[str, Evaluation]
    problems: list[Problem]


def train(
    cohort_folder: Path,
    out: Path,
    task: str | None = None,
    *,
    settings: Settings | None = None,
    only: Sequence[str] = (),
    cache: Path | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Training:
    """Train a late-fusion risk model by cross-fitting, and write its folder.

    Parameters
    ----------
    cohort_folder, out : Path
    task : str, optional
        May be left out where the cohort has one.
    settings : mapping from modality to mapping, optional
    only : sequence of str
        Modalities to use; empty for all.
    cache : Path, optional
        Where image embeddings are kept.
    seed : int
        Decides the folds.
    track : callable
        Shows progress.

    Raises
    ------
    DataError
        If the cohort cannot be read, or holds too few patients with and without the event.
    UsageError
        If a task, modality or setting does not exist.
    """
    settings = settings or {}
    modalities = build_modalities(settings, cache, only)
    cohort = open_cohort(cohort_folder, list(modalities.values()), task)
    require_two_classes(cohort)
    cohort = cohort.labelled()
    payloads = read_payloads(cohort, modalities, cohort.samples, cohort.problems, track)
    patients = _patients(cohort, seed)
    here = {name: modalities[name] for name, each in payloads.items() if any(payload is not None for payload in each)}
    # The members of a cross-fit run side by side and share the processor.
    with threadpool_limits(max(1, (os.cpu_count() or 1) // FOLDS), user_api="blas"):
        fitted = _fit_evidence(here, payloads, patients, seed, track)
        evidence = np.column_stack([out_of_fold for _, out_of_fold in fitted.values()])
        results = cross_validated(evidence, list(fitted), patients, seed, track)
        fusion = LateFusion().fit(evidence, patients.events, patients.weights, patients.subject_ids)
    card = _card(cohort, patients, settings, seed, results, fusion, list(fitted))
    roster = Roster.of(list(patients.subject_ids), patients.folds)
    models = {name: model for name, (model, _) in fitted.items()}
    model = RiskModel(cohort.task.name, cohort.task.positive, models, fusion, roster, card)
    model = replace(model, model_id=model.save(out))
    return Training(model, results, cohort.problems)


def _patients(cohort: Cohort, seed: int) -> Patients:
    subject_ids = np.array([sample.subject_id for sample in cohort.samples])
    events = np.array([bool(sample.event) for sample in cohort.samples])
    rarer = min(len(np.unique(subject_ids[events == outcome])) for outcome in (False, True))
    folds = patient_folds(subject_ids.tolist(), events, max(2, min(FOLDS, rarer)), seed)
    return Patients(subject_ids, events, folds)


def _fit_evidence(
    modalities: Mapping[str, Any], payloads: Payloads, patients: Patients, seed: int, track: Track
) -> dict[str, tuple[EvidenceModel, FloatArray]]:
    rate = float(np.average(patients.events, weights=patients.weights))
    base = float(np.log(rate / (1 - rate)))
    members = int(patients.folds.max()) + 1
    fitted = {}
    for name, modality in modalities.items():
        found = crossfit(modality, payloads[name], patients, base, seed, track(f"fit {name}", members))
        if found is None:
            warnings.warn(
                MedfusionWarning(f"{name} is left out: too few patients with and without the event have it"),
                stacklevel=2,
            )
        else:
            fitted[name] = found
    if not fitted:
        expected, remedy = "a modality that enough patients have", "add data, or label more patients"
        raise DataError([Problem("nothing-to-learn-from", "", "", "modalities", "none", expected, remedy)])
    return fitted


def cross_validated(
    evidence: FloatArray, names: Sequence[str], patients: Patients, seed: int, track: Track = silent
) -> dict[str, Evaluation]:
    """Evaluate each modality alone and their fusion on patients that the heads had not seen.

    The base rate and weights that judge a fold are fitted on the evidence of the other folds. A patient without a
    modality gets the base rate from it, so that all contenders answer for the same samples.

    Parameters
    ----------
    evidence : array (n, modalities)
        Out-of-fold evidence, NaN where absent.
    """
    contenders = {name: [index] for index, name in enumerate(names)}
    if len(names) > 1:
        contenders["fused"] = list(range(len(names)))
    advance = track("cross-validate", len(contenders))
    present, results = ~np.isnan(evidence), {}
    for name, columns in contenders.items():
        logit = np.empty(len(evidence))
        for fold in range(patients.folds.max() + 1):
            train, test = patients.folds != fold, patients.folds == fold
            fusion = LateFusion().fit(
                evidence[train][:, columns],
                patients.events[train],
                patients.weights[train],
                patients.subject_ids[train],
            )
            logit[test] = fusion.logit(evidence[test][:, columns])
        risk, subjects = 1 / (1 + np.exp(-logit)), patients.subject_ids.tolist()
        results[name] = evaluate(patients.events, risk, subjects, present, names, seed, _RESAMPLES)
        advance(1)
    return results


def _card(
    cohort: Cohort,
    patients: Patients,
    settings: Settings,
    seed: int,
    results: Mapping[str, Evaluation],
    fusion: LateFusion,
    names: Sequence[str],
) -> dict[str, Any]:
    versions = {name: _version(name) for name in _RECORDED}
    return {
        "medfusion": __version__,
        "python": platform.python_version(),
        "versions": versions,
        "cohort": cohort.name,
        "task": cohort.task.name,
        "positive": cohort.task.positive,
        "samples": len(cohort),
        "patients": len(np.unique(patients.subject_ids)),
        "events": int(patients.events.sum()),
        "folds": int(patients.folds.max()) + 1,
        "seed": seed,
        "settings": {name: dict(each) for name, each in settings.items()},
        "weights": dict(zip(names, fusion.weights.tolist(), strict=True)),
        "cross_validated": {name: result.as_dict() for name, result in results.items()},
        "left_out": sum(problem.severity == "error" for problem in cohort.problems),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
