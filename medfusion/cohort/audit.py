"""Looking for leaks: signs that the data tell the outcome in a way that a real patient's data will not.

Every finding is a suspicion for a person to judge, never a proof. Patients are counted, not samples: each patient
takes part once, with the first labelled sample. A number is reported only where it is beyond chance (p < 0.01 after
Bonferroni's correction for the number of columns looked at).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medfusion.cohort import looks
from medfusion.cohort.leaks import Leak, Patients, PatientTable
from medfusion.core.types import Embedding, FloatArray, Sample

MOST_PER_KIND = 10
"""How many leaks of one kind in one modality are listed; the last one counts the others."""


def audit_leakage(
    samples: Sequence[Sample],
    blocks: Mapping[str, Embedding],
    fingerprints: Mapping[str, Sequence[Sequence[str]]],
    label_words: Sequence[str],
    coefficients: Mapping[str, FloatArray] | None = None,
) -> list[Leak]:
    """Look for signs that the outcome leaks into the data.

    Parameters
    ----------
    samples : sequence of Sample, length n
        Those without an outcome are left out.
    blocks : mapping from modality to Embedding of n rows
        Of a sparse block, features named ``char:...`` (parts of words) are not looked at.
    fingerprints : mapping from modality to sequence of n sequences of str
        Hashes of each sample's items (images, notes), as by `Modality.fingerprints`.
    label_words : sequence of str
        Words that name the outcome.
    coefficients : mapping from modality to array (d,), optional
        Slopes of a linear head on the modality's block.

    Returns
    -------
    list of Leak
        By kind, the strongest first:

        - *single-feature*: one column alone has an AUROC of 0.95 or more, in either direction.
        - *pure-word*: a word of at least 5 patients of whom at least 95 % have the same outcome.
        - *label-word*: a feature whose name has one of ``label_words`` in it.
        - *identical-content*: the same image or note in different patients.
        - *missingness*: whether a modality or a value is there has an AUROC of 0.7 or more.
        - *dominant-coefficient*: a column that makes up at least 15 % of what a linear head does (and three times an
          even share), measured as ``|slope| * standard deviation``; or the five heaviest words, where these alone
          reach an AUROC of 0.8.
    """
    labelled = [place for place, sample in enumerate(samples) if sample.event is not None]
    labelled.sort(key=lambda place: samples[place])
    first: dict[str, int] = {}
    for place in labelled:
        first.setdefault(samples[place].subject_id, place)
    rows = np.fromiter(first.values(), dtype=np.int64)
    patients = Patients(np.array(list(first)), np.array([bool(samples[row].event) for row in rows], dtype=bool))
    tables = [PatientTable.of(name, block, rows, patients) for name, block in blocks.items()]
    found = [looks.single_features(table) for table in tables]
    found += [looks.pure_words(table) for table in tables]
    found += [looks.label_words(table, label_words) for table in tables]
    found += [looks.identical(name, samples, labelled, hashes) for name, hashes in fingerprints.items()]
    found += [looks.missingness(table, blocks[table.modality].present[rows], patients) for table in tables]
    slopes = coefficients or {}
    found += [looks.dominant(table, slopes[table.modality]) for table in tables if table.modality in slopes]
    return [leak for leaks in found for leak in _capped(leaks)]


def _capped(leaks: list[Leak]) -> list[Leak]:
    if len(leaks) <= MOST_PER_KIND:
        return leaks
    last = leaks[MOST_PER_KIND - 1]
    detail = f"{last.detail}; {len(leaks) - MOST_PER_KIND} more like it"
    return [*leaks[: MOST_PER_KIND - 1], replace(last, detail=detail)]
