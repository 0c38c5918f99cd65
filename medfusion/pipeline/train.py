"""Training: from a cohort folder to a model folder, with honest figures on the way."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from medfusion import __version__
from medfusion.cohort import Cohort, open_cohort, require_two_classes
from medfusion.core.errors import Problem
from medfusion.core.folds import Patients
from medfusion.core.protocols import FusionModel
from medfusion.evaluation.evaluate import Evaluation
from medfusion.fusion import new_fusion
from medfusion.pipeline.data import Settings, Track, build_modalities, read_payloads, silent
from medfusion.pipeline.fit import check_fusion, cross_validated, fit_fusion, fit_modalities, patients_of
from medfusion.pipeline.model import RiskModel, Roster, blocks_of

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
    fusion: str = "late",
    cache: Path | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Training:
    """Train a risk model by cross-fitting, and write its folder.

    Parameters
    ----------
    cohort_folder, out : Path
    task : str, optional
        May be left out where the cohort has one.
    settings : mapping from modality to mapping, optional
    only : sequence of str
        Modalities to use; empty for all.
    fusion : {"late", "gated", "early", "joint"}
        How the modalities are put together.
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
    settings, adding = settings or {}, new_fusion(fusion)
    modalities = build_modalities(settings, cache, only)
    cohort = open_cohort(cohort_folder, list(modalities.values()), task)
    require_two_classes(cohort)
    cohort = cohort.labelled()
    payloads = read_payloads(cohort, modalities, cohort.samples, cohort.problems, track)
    patients = patients_of(cohort, seed)
    evidence = fit_modalities(modalities, payloads, patients, seed, track)
    check_fusion(fusion, list(evidence))
    blocks = blocks_of(evidence, payloads, embed=adding.uses_embeddings)
    fit_fusion(adding, blocks, patients, seed, track)
    results = cross_validated(blocks, patients, adding, seed, track)
    card = _card(cohort, patients, settings, seed, results, adding)
    roster = Roster.of(list(patients.subject_ids), patients.folds)
    model = RiskModel(cohort.task.name, cohort.task.positive, evidence, adding, roster, card)
    model = replace(model, model_id=model.save(out))
    return Training(model, results, cohort.problems)


def _card(
    cohort: Cohort,
    patients: Patients,
    settings: Settings,
    seed: int,
    results: Mapping[str, Evaluation],
    fusion: FusionModel,
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
        "fusion": fusion.kind,
        "cross_validated": {name: result.as_dict() for name, result in results.items()},
        "left_out": sum(problem.severity == "error" for problem in cohort.problems),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
