"""Collecting what a shortcut audit needs: how the data of each modality came about, and who the patients are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medfusion.cohort import Cohort
from medfusion.core.folds import Patients
from medfusion.core.protocols import Modality
from medfusion.core.types import BoolArray, FloatArray, Sample
from medfusion.evaluation.shortcuts import ShortcutAudit, acquisition_columns, shortcut_audit
from medfusion.evaluation.subgroups_columns import columns_of
from medfusion.pipeline.model import Payloads


def audit_shortcuts(
    cohort: Cohort,
    samples: Sequence[Sample],
    modalities: Mapping[str, Modality],
    payloads: Payloads,
    patients: Patients,
    risks: FloatArray,
    present: BoolArray,
    seed: int,
) -> ShortcutAudit:
    """Hold risks of n samples, of patients that the model had not seen, against what needs no medicine.

    Parameters
    ----------
    cohort : Cohort
    samples : sequence of Sample, length n
    modalities : mapping from name to Modality, M of them
    payloads : mapping from modality to sequence of length n
    patients : Patients
        Of the n samples; in their folds, what can be told from a column is cross-validated.
    risks : array (n,)
    present : array (n, M), bool
    seed : int
    """
    told = {
        name: [None if payload is None else modality.acquisition(payload) for payload in payloads[name]]
        for name, modality in modalities.items()
    }
    return shortcut_audit(
        patients.events,
        np.asarray(risks),
        patients.subject_ids.tolist(),
        patients.folds,
        acquisition_columns(told),
        present,
        list(modalities),
        seed,
        subjects=columns_of([cohort.facts(sample) for sample in samples]),
    )
