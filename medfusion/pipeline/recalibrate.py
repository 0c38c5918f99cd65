"""Calibration that travels: a model is fitted anew to a cohort's outcomes, without touching what it has learnt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medfusion.core.errors import DataError, Problem, UsageError
from medfusion.core.folds import Patients
from medfusion.core.types import FloatArray
from medfusion.evaluation.evaluate import Evaluation, evaluate
from medfusion.evaluation.subgroups_mitigation import Mitigation, mitigation_table
from medfusion.fusion.conformal import RiskSets
from medfusion.fusion.maps import KINDS
from medfusion.fusion.offsets import pattern_names
from medfusion.fusion.recalibration import Recalibration
from medfusion.outputs.papers import write_papers
from medfusion.outputs.report import write_report
from medfusion.pipeline.data import Track, column_of, silent
from medfusion.pipeline.drift import FINGERPRINT
from medfusion.pipeline.fit import divided
from medfusion.pipeline.model_folder import save_model
from medfusion.pipeline.use import Opened, labelled, open_for_use

REPORT = "recalibration.html"


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What a recalibration found.

    Attributes
    ----------
    recalibration : Recalibration
    before, after : Evaluation
        Of the same samples; ``after`` by recalibrations that were fitted without their patients.
    mitigation : Mitigation or None
        The same by group, where it was asked for; and what it costs the others.
    model_id : str
        Of the recalibrated model.
    """

    recalibration: Recalibration
    before: Evaluation
    after: Evaluation
    mitigation: Mitigation | None
    model_id: str


@dataclass(frozen=True, slots=True)
class _Rows:
    """What recalibration is fitted on: log-odds (n,) before it, patterns, groups, and whose they are."""

    logits: FloatArray
    patterns: NDArray[np.str_]
    groups: NDArray[np.object_] | None
    column: str
    patients: Patients
    seed: int

    def fit(self, kinds: Sequence[str], chosen: NDArray[np.bool_] | None = None) -> Recalibration:
        """Fit on all rows, or on some."""
        here = np.ones(len(self.logits), dtype=bool) if chosen is None else chosen
        known = self.patients.take(here)
        return Recalibration.fit(
            self.logits[here],
            known.events,
            known.weights,
            known.subject_ids.tolist(),
            self.patterns[here].tolist(),
            None if self.groups is None else self.groups[here].tolist(),
            column=self.column,
            kinds=kinds,
            seed=self.seed,
        )

    def apply(self, recalibration: Recalibration, chosen: NDArray[np.bool_]) -> FloatArray:
        """Return risks of some rows."""
        groups = None if self.groups is None else self.groups[chosen].tolist()
        said = recalibration.apply(self.logits[chosen], self.patterns[chosen].tolist(), groups)
        return np.asarray(expit(said))

    def left_out(self, kinds: Sequence[str]) -> FloatArray:
        """Return risks of all rows, each by a recalibration that has not seen the patient."""
        risks = np.empty(len(self.logits))
        for fold in range(self.patients.n_folds):
            here = self.patients.folds == fold
            risks[here] = self.apply(self.fit(kinds, ~here), here)
        return risks


def recalibrate(
    model_folder: Path,
    cohort_folder: Path,
    out: Path,
    *,
    by: str = "",
    kinds: Sequence[str] = KINDS,
    threshold: float | None = None,
    task: str | None = None,
    cache: Path | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Recalibrated:
    """Fit a model's calibration to a labelled cohort; write the recalibrated model and what it brought.

    A map of the log-odds is chosen by cross-validation among none, an intercept, Platt scaling and beta calibration;
    presence patterns, and groups where asked for, get offsets of their own as far as the data prove them. Whatever was
    recalibrated before is replaced. Risk sets are calibrated anew.

    Parameters
    ----------
    model_folder, cohort_folder : Path
    out : Path
        A folder for the recalibrated model, other than the model's own.
    by : str
        A column of subjects.csv whose groups get offsets.
    kinds : sequence of {"none", "intercept", "platt", "beta"}
        Which maps compete.
    threshold : float, optional
        At which missed events are counted by group; the prevalence unless given.
    task, cache, seed, track
        As in `open_for_use`.

    Raises
    ------
    DataError
        If too few patients have, or lack, the event; the message says how many are needed.
    UsageError
        If ``out`` is the model's own folder, or subjects.csv has no such column.
    """
    if out.resolve() == model_folder.resolve():
        raise UsageError(f"--out {out} is the model's own folder; name another one")
    opened = open_for_use(model_folder, cohort_folder, cache, task)
    opened = replace(opened, model=replace(opened.model, recalibration=Recalibration()))
    rows = _rows(opened, by, seed, track)
    found = rows.fit(kinds)
    before, after = np.asarray(expit(rows.logits)), rows.left_out(kinds)
    model = opened.model
    subjects, events = rows.patients.subject_ids.tolist(), rows.patients.events
    coverage = model.risk_sets.coverage if model.risk_sets else 0.9
    categories = column_of(opened.cohort, labelled(opened.cohort), model.sets_by) if model.sets_by else rows.patterns
    sets = RiskSets.fit(after, events, subjects, list(categories), coverage=coverage, seed=seed)
    present = np.array([[name in pattern.split(" + ") for name in model.evidence] for pattern in rows.patterns])
    sides = [evaluate(events, risks, subjects, present, list(model.evidence), seed) for risks in (before, after)]
    cut = float(events.mean()) if threshold is None else threshold
    mitigation = (
        mitigation_table(events, before, after, subjects, rows.groups.tolist(), cut, by, seed)
        if rows.groups is not None
        else None
    )
    said = {"cohort": opened.cohort.name, "samples": len(rows.logits), "events": int(events.sum()), "by": by}
    methods = {**model.card["methods"], "calibration": f"recalibrated on the cohort {said['cohort']}: {found.text()}"}
    card = {**model.card, "recalibrated": {**said, "map": found.text()}, "methods": methods}
    changed = replace(model, recalibration=found, risk_sets=sets, card=card)
    model_id = save_model(changed, out)
    for suffix in (".json", ".safetensors"):
        shutil.copyfile((model_folder / FINGERPRINT).with_suffix(suffix), (out / FINGERPRINT).with_suffix(suffix))
    write_papers(out, {**card, "model_id": model_id})
    result = Recalibrated(found, sides[0], sides[1], mitigation, model_id)
    _write(out, opened, result, said)
    return result


def _rows(opened: Opened, by: str, seed: int, track: Track) -> _Rows:
    samples = labelled(opened.cohort)
    groups = np.array(column_of(opened.cohort, samples, by), dtype=object) if by else None
    predictions, _ = opened.predict(samples, track)
    events = np.array([bool(sample.event) for sample in samples])
    if events.all() or not events.any():
        got, expected = f"{int(events.sum())} of {len(events)} with the event", "samples with and without the event"
        remedy = "use a cohort in which both occur"
        raise DataError([Problem("one-class", opened.cohort.task.labels, "", "boolean_value", got, expected, remedy)])
    return _Rows(
        predictions.logit,
        np.array(pattern_names(predictions.present, list(opened.model.evidence))),
        groups,
        by,
        divided(np.array([sample.subject_id for sample in samples]), events, seed),
        seed,
    )


def _write(out: Path, opened: Opened, result: Recalibrated, said: dict[str, Any]) -> None:
    basis = {
        "Model": opened.model.model_id,
        "Recalibrated model": result.model_id,
        "Cohort": said["cohort"],
        "Samples": said["samples"],
        "Events": said["events"],
        "Validation": "figures after recalibration are of patients that it was not fitted on",
    }
    panels: list[Any] = [result.before.panels[0], result.after.panels[0]]
    panels += [] if result.mitigation is None else [result.mitigation]
    notes = ["The first calibration figure is before recalibration, the second after it."]
    title = f"Recalibration of {opened.model.task}"
    write_report(out / REPORT, title, result.after.frame(), panels, basis, notes, [result.recalibration.text()])
