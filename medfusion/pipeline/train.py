"""Training: from a cohort folder to a model folder, with honest figures on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import expit

from medfusion.cohort import open_cohort, require_two_classes
from medfusion.core.errors import Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.state import save_state
from medfusion.core.types import FloatArray
from medfusion.evaluation.evaluate import Evaluation
from medfusion.fusion import new_fusion
from medfusion.fusion.conformal import RiskSets
from medfusion.fusion.offsets import pattern_names
from medfusion.outputs.papers import write_papers
from medfusion.pipeline.backend import checks_of
from medfusion.pipeline.data import Settings, Track, build_modalities, column_of, read_payloads, silent
from medfusion.pipeline.drift import FINGERPRINT, fingerprint_of
from medfusion.pipeline.fit import check_fusion, cross_validated, fit_fusion, fit_modalities, patients_of
from medfusion.pipeline.inputs import inputs_of, kinds_of
from medfusion.pipeline.model import RiskModel, Roster, blocks_of
from medfusion.pipeline.model_folder import save_model
from medfusion.pipeline.record import run_record
from medfusion.pipeline.worth import SHARES, shares_in_training

COVERAGE = 0.9
"""How often the set of outcomes that a risk leaves open holds what happens."""


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
    coverage: float = COVERAGE,
    sets_by: str = "",
    check_batch: bool = True,
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
    coverage : float
        How often the set of outcomes that a risk leaves open is to hold what happens.
    sets_by : str
        A column of subjects.csv within whose groups it is to hold; within presence patterns unless given.
    check_batch : bool
        Whether the folder keeps a few training films, without which only backends in fp32 may score with the model.
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
        If a task, modality, setting or fusion does not exist, or a coverage is not between 0.5 and 1.
    """
    if not 0.5 < coverage < 1:
        raise UsageError(f"--coverage is {coverage}; it has to be between 0.5 and 1, such as 0.9")
    settings = {name: dict(each) for name, each in (settings or {}).items()}
    adding = new_fusion(fusion)
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
    risks: FloatArray = expit(adding.left_out(blocks, patients))
    present = {name: ~np.isnan(block.left_out(patients.folds)) for name, block in blocks.items()}
    parameters = {"settings": settings, "only": only, "fusion": fusion, "seed": seed, "folds": patients.n_folds}
    card = run_record(
        cohort,
        cohort_folder,
        modalities,
        patients,
        present,
        parameters={**parameters, "coverage": coverage, "sets_by": sets_by},
        results=results,
        chosen=adding.summary(list(evidence)),
    )
    inputs = {**inputs_of(CohortFolder.open(cohort_folder), modalities.values()), "kinds": kinds_of(cohort)}
    card = {**card, "inputs": inputs, SHARES: shares_in_training(adding, blocks, patients)}
    patterns = pattern_names(np.column_stack(list(present.values())), list(present))
    categories = column_of(cohort, cohort.samples, sets_by) if sets_by else patterns
    subjects = patients.subject_ids.tolist()
    sets = RiskSets.fit(risks, patients.events, subjects, categories, coverage=coverage, seed=seed)
    roster = Roster.of(list(patients.subject_ids), patients.folds)
    check = checks_of({name: each.modality for name, each in evidence.items()}, payloads) if check_batch else {}
    card["check_batch"] = {name: len(next(iter(each.values()))) for name, each in check.items()}
    model = RiskModel(cohort.task.name, cohort.task.positive, evidence, adding, roster, card)
    model = replace(model, risk_sets=sets, sets_by=sets_by, check=check)
    model = replace(model, model_id=save_model(model, out))
    save_state(out, FINGERPRINT, fingerprint_of(model, blocks, payloads, patients, risks).state())
    write_papers(out, {**card, "model_id": model.model_id})
    return Training(model, results, cohort.problems)
