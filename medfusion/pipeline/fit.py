"""Fitting on payloads in memory: modalities, fusion, and figures of patients left out; for training and comparing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from medfusion.cohort import Cohort
from medfusion.core.errors import DataError, MedfusionWarning, Problem, UsageError
from medfusion.core.folds import Patients, patient_folds
from medfusion.core.protocols import FusionModel, Modality
from medfusion.core.types import Block, FloatArray
from medfusion.evaluation.evaluate import Evaluation, evaluate
from medfusion.evidence import EvidenceModel, crossfit
from medfusion.fusion import LateFusion
from medfusion.pipeline.data import Track, silent
from medfusion.pipeline.model import Payloads

FOLDS = 5
_RESAMPLES = 200
# The members of a cross-fit run side by side and share the processor.
_ONE_EACH = {"limits": max(1, (os.cpu_count() or 1) // FOLDS), "user_api": "blas"}


def patients_of(cohort: Cohort, seed: int) -> Patients:
    """Divide the patients of a labelled cohort into folds: 5, or as many as the rarer outcome allows."""
    subject_ids = np.array([sample.subject_id for sample in cohort.samples])
    events = np.array([bool(sample.event) for sample in cohort.samples])
    return divided(subject_ids, events, seed)


def divided(subject_ids: np.ndarray, events: np.ndarray, seed: int) -> Patients:
    """Divide patients into folds: 5, or as many as the rarer outcome allows."""
    rarer = min(len(np.unique(subject_ids[events == outcome])) for outcome in (False, True))
    folds = patient_folds(subject_ids.tolist(), events, max(2, min(FOLDS, rarer)), seed)
    return Patients(subject_ids, events, folds)


def fit_modalities(
    modalities: Mapping[str, Modality], payloads: Payloads, patients: Patients, seed: int, track: Track = silent
) -> dict[str, EvidenceModel]:
    """Cross-fit every modality that enough patients have.

    Raises
    ------
    DataError
        If there is none.

    Warns
    -----
    MedfusionWarning
        For each that is left out.
    """
    fitted = {
        name: found
        for name, modality in modalities.items()
        if (found := fit_modality(modality, payloads[name], patients, seed, track)) is not None
    }
    if not fitted:
        expected, remedy = "a modality that enough patients have", "add data, or label more patients"
        raise DataError([Problem("nothing-to-learn-from", "", "", "modalities", "none", expected, remedy)])
    return fitted


def fit_modality(
    modality: Modality, payloads: Sequence[Any | None], patients: Patients, seed: int, track: Track = silent
) -> EvidenceModel | None:
    """Cross-fit one modality.

    Returns
    -------
    EvidenceModel or None
        None if nobody has it, or, with a warning, if too few patients have it.
    """
    if all(payload is None for payload in payloads):
        return None
    rate = float(np.average(patients.events, weights=patients.weights))
    base = float(np.log(rate / (1 - rate)))
    with threadpool_limits(**_ONE_EACH):
        advance = track(f"fit {modality.name}", patients.n_folds)
        found = crossfit(modality, payloads, patients, base, seed, advance)
    if found is None:
        said = f"{modality.name} is left out: too few patients with and without the event have it"
        warnings.warn(MedfusionWarning(said), stacklevel=2)
    return found


def fit_fusion(
    fusion: FusionModel, blocks: Mapping[str, Block], patients: Patients, seed: int, track: Track = silent
) -> None:
    """Fit a fusion on what its modalities say of training samples."""
    advance = track(f"fit {fusion.kind} fusion", 1)
    with threadpool_limits(**_ONE_EACH):
        fusion.fit(blocks, patients, seed)
    advance(1)


def cross_validated(
    blocks: Mapping[str, Block], patients: Patients, fusion: FusionModel, seed: int, track: Track = silent
) -> dict[str, Evaluation]:
    """Evaluate each modality alone, and all together, on patients that the heads had not seen.

    What judges a fold is weighed and calibrated on the other folds. A patient without a modality gets the base rate
    from it, so that all contenders answer for the same samples.
    """
    contenders: dict[str, tuple[FusionModel, Mapping[str, Block]]] = {
        name: (LateFusion(), {name: block}) for name, block in blocks.items()
    }
    if len(blocks) > 1:
        contenders["fused"] = (fusion, blocks)
    advance = track("cross-validate", len(contenders))
    present = np.column_stack([~np.isnan(block.left_out(patients.folds)) for block in blocks.values()])
    results = {}
    with threadpool_limits(**_ONE_EACH):
        for name, (model, given) in contenders.items():
            risks: FloatArray = expit(model.left_out(given, patients))
            subjects = patients.subject_ids.tolist()
            results[name] = evaluate(patients.events, risks, subjects, present, list(blocks), seed, _RESAMPLES)
            advance(1)
    return results


def check_fusion(kind: str, names: Sequence[str]) -> None:
    """Refuse a fusion of one modality.

    Raises
    ------
    UsageError
        If the kind is not ``late`` and there are fewer than two modalities.
    """
    if kind != "late" and len(names) < 2:
        raise UsageError(
            f"--fusion {kind} puts modalities together, and there is only {', '.join(names)}; leave it out"
        )
