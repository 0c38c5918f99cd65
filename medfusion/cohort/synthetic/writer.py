"""Writes drawn patients as a cohort folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medfusion.cohort.synthetic.dicom import write_film
from medfusion.cohort.synthetic.events import QUANTITIES
from medfusion.cohort.synthetic.patients import Patient, draw_patients, truth_of
from medfusion.cohort.synthetic.truth import TRUTHS, Truth, TruthKind
from medfusion.core.errors import UsageError
from medfusion.core.protocols import Advance

_CONFIG = """\
name = "synthetic"
description = "Invented patients with chest films, measured values and notes in English and Korean. Nobody's data."

[tasks.deterioration]
labels = "labels/deterioration.csv"
positive = "needed organ support or died within 24 hours of the prediction"

[ehr.units]
"""


def write_synthetic_cohort(
    out: Path,
    subjects: int = 400,
    seed: int = 0,
    advance: Advance = lambda done: None,
    truth: TruthKind = "additive",
) -> Truth:
    """Write a cohort of invented patients whose risk is known.

    Unless another is asked for, the outcome is drawn from a model that is additive in log-odds, so that a learnt
    ledger can be held against the truth. Records go on for a day after the last prediction time and follow the
    outcome then: whoever lets them in is better than is possible, and noticed.

    Parameters
    ----------
    out : Path
        A folder that does not exist or is empty.
    subjects : int
        How many patients; some have two prediction times.
    seed : int
        Equal seeds write equal bytes. A patient does not depend on how many there are.
    advance : callable
        Called with the number of patients written since the last call.
    truth : {"additive", "interaction", "useless", "single"}
        What drives the risk; see `truth`, the module, for what each is for.

    Returns
    -------
    Truth
        What each driver adds to each risk. It is not written: a cohort folder does not hold the answer.

    Raises
    ------
    UsageError
        If the folder holds something already, ``subjects`` or ``seed`` is out of range, or there is no such truth.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     truth = write_synthetic_cohort(Path(folder), subjects=2)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['cohort.toml', 'ehr.csv', 'imaging', 'labels', 'notes.csv', 'subjects.csv']
    """
    if subjects < 1 or seed < 0:
        raise UsageError(f"subjects={subjects}, seed={seed}: at least 1 subject and a seed from 0 on are expected")
    if truth not in TRUTHS:
        raise UsageError(f"truth is {truth!r}; there are: {', '.join(TRUTHS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; name another one, or remove it")
    patients = draw_patients(subjects, seed, truth)
    (out / "labels").mkdir(parents=True)
    (out / "imaging").mkdir()
    units = "".join(f'{code} = "{quantity.unit}"\n' for code, quantity in QUANTITIES.items())
    (out / "cohort.toml").write_text(_CONFIG + units, encoding="utf-8", newline="\n")
    for name, table in _tables(patients).items():
        table.to_csv(out / f"{name}.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S", lineterminator="\n")
    for patient in patients:
        _write_films(out, patient, seed)
        advance(1)
    return truth_of(patients)


def _tables(patients: Sequence[Patient]) -> dict[str, pd.DataFrame]:
    """Return the tables of the folder, by their path without an ending."""
    subjects = [(p.subject_id, p.sex, p.age_years, p.site) for p in patients]
    labels = [(s.subject_id, s.prediction_time, s.event) for p in patients for s in p.samples]
    events = [(p.subject_id, e.time, e.code, e.value, e.unit) for p in patients for e in p.events]
    notes = [(p.subject_id, n.time, n.note_type, n.text) for p in patients for n in p.notes]
    return {
        "subjects": pd.DataFrame(subjects, columns=["subject_id", "sex", "age_years", "site"]),
        "labels/deterioration": pd.DataFrame(labels, columns=["subject_id", "prediction_time", "boolean_value"]),
        "ehr": pd.DataFrame(events, columns=["subject_id", "time", "code", "numeric_value", "unit"]),
        "notes": pd.DataFrame(notes, columns=["subject_id", "time", "note_type", "text"]),
    }


def _write_films(out: Path, patient: Patient, seed: int) -> None:
    for number, film in enumerate(patient.films, start=1):
        folder = out / "imaging" / patient.site / patient.subject_id
        folder.mkdir(parents=True, exist_ok=True)
        entropy = f"medfusion synthetic {seed} {patient.subject_id} {number}"
        write_film(film, patient.subject_id, patient.sex, entropy, folder / f"{number}.dcm")
