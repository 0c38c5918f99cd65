"""Evaluating a model: how good its risks are, what decisions on them are worth, for whom, and whether by shortcuts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core import files
from medfusion.core.errors import DataError
from medfusion.core.types import Sample
from medfusion.evaluation.decision import check_thresholds
from medfusion.evaluation.decision_costs import CostChoice, best_threshold
from medfusion.evaluation.decision_panels import DecisionCurve, ThresholdTable, decision_panels
from medfusion.evaluation.evaluate import Evaluation, evaluate
from medfusion.evaluation.shortcuts import ShortcutAudit
from medfusion.evaluation.subgroups import Subgroups, by_subgroup
from medfusion.evaluation.subgroups_columns import columns_of
from medfusion.outputs.ledger import RESEARCH_USE
from medfusion.outputs.report import write_report
from medfusion.pipeline.data import Track, silent
from medfusion.pipeline.fit import divided
from medfusion.pipeline.model import Payloads, Predictions
from medfusion.pipeline.shortcuts import audit_shortcuts
from medfusion.pipeline.use import Opened, labelled, open_for_use


@dataclass(frozen=True, slots=True)
class Assessment:
    """All that an evaluation found.

    Attributes
    ----------
    evaluation : Evaluation
        Discrimination, calibration, missing patterns.
    decisions : tuple of (DecisionCurve, ThresholdTable)
        What acting on the risks is worth; empty where all samples, or none, have the event.
    costs : CostChoice or None
        Where costs were given: the threshold that they ask for.
    subgroups : Subgroups or None
        By each column of subjects.csv; None where it says nothing.
    shortcuts : ShortcutAudit or None
        What can be told from how the data came about; None where too few patients have, or lack, the event.
    """

    evaluation: Evaluation
    decisions: tuple[DecisionCurve, ThresholdTable] | tuple[()]
    costs: CostChoice | None
    subgroups: Subgroups | None
    shortcuts: ShortcutAudit | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        numbers = self.evaluation.as_dict()
        if self.decisions:
            numbers["thresholds"] = json.loads(self.decisions[1].table.to_json(orient="records"))
        numbers["costs"] = None if self.costs is None else self.costs.as_dict()
        numbers["subgroups"] = None if self.subgroups is None else self.subgroups.as_dict()
        numbers["shortcuts"] = None if self.shortcuts is None else self.shortcuts.as_dict()
        return numbers


def evaluate_model(
    model_folder: Path,
    cohort_folder: Path,
    out: Path,
    *,
    thresholds: Sequence[float] | None = None,
    costs: tuple[float, float] | None = None,
    task: str | None = None,
    cache: Path | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Assessment:
    """Evaluate a model on the labelled samples of a cohort; write metrics.json and report.html.

    Patients of the training cohort are judged by the member that has not seen them.

    Parameters
    ----------
    model_folder, cohort_folder, out : Path
    thresholds : sequence of float, optional
        Risks from which on somebody would act; without them a range is shown, and none is preferred.
    costs : (float, float), optional
        Of a false alarm and of a missed event, in one unit.
    task, cache, seed, track
        As in `open_for_use`.

    Raises
    ------
    DataError
        If no sample has a label.
    UsageError
        If a threshold is not within (0, 1), or a cost not above 0.
    """
    if thresholds is not None:
        check_thresholds(thresholds)
    opened = open_for_use(model_folder, cohort_folder, cache, task)
    samples = labelled(opened.cohort)
    predictions, payloads = opened.predict(samples, track)
    result = _assessed(opened, samples, predictions, payloads, thresholds, costs, seed)
    _write(out, opened, result, predictions)
    return result


def _assessed(
    opened: Opened,
    samples: Sequence[Sample],
    predictions: Predictions,
    payloads: Payloads,
    thresholds: Sequence[float] | None,
    costs: tuple[float, float] | None,
    seed: int,
) -> Assessment:
    events, risks = np.array([bool(sample.event) for sample in samples]), predictions.risk
    subjects = [sample.subject_id for sample in samples]
    overall = evaluate(events, risks, subjects, predictions.present, list(opened.model.evidence), seed)
    if events.all() or not events.any():
        return Assessment(overall, (), None, None, None)
    columns = columns_of([opened.cohort.facts(sample) for sample in samples])
    return Assessment(
        overall,
        decision_panels(events, risks, subjects, thresholds, seed),
        None if costs is None else best_threshold(events, risks, *costs, subjects, seed),
        by_subgroup(events, risks, subjects, columns, thresholds, seed) if columns else None,
        _audit(opened, samples, predictions, payloads, seed),
    )


def _audit(
    opened: Opened, samples: Sequence[Sample], predictions: Predictions, payloads: Payloads, seed: int
) -> ShortcutAudit | None:
    events, subjects = (np.array(each) for each in zip(*((bool(s.event), s.subject_id) for s in samples), strict=True))
    try:
        patients = divided(subjects, events, seed)
    except DataError:
        return None
    model, risks, present = opened.model, predictions.risk, predictions.present
    return audit_shortcuts(opened.cohort, samples, model.modalities, payloads, patients, risks, present, seed)


def _write(out: Path, opened: Opened, result: Assessment, predictions: Predictions) -> None:
    out.mkdir(parents=True, exist_ok=True)
    seen, model, overall = int(predictions.seen.sum()), opened.model, result.evaluation
    numbers = {"model_id": model.model_id, "task": model.task, "seen_in_training": seen, **result.as_dict()}
    files.write_text(out / "metrics.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    basis = {
        "Model": model.model_id,
        "Task": f"{model.task}: {model.positive}",
        "Cohort": opened.cohort.name,
        "Samples": overall.n,
        "Patients": overall.n_subjects,
        "Events": overall.n_events,
        "Modalities": ", ".join(model.evidence),
        "Samples of patients from training": f"{seen}, each judged by the member that has not seen the patient",
        "Intervals": overall.intervals,
    }
    notes = [RESEARCH_USE]
    if seen:
        notes.append(
            "For patients from training the heads are out of fold, but the few weights of the fusion are not. "
            "New patients give the better estimate."
        )
    panels: list[Any] = [*overall.panels, *result.decisions]
    if result.costs is not None:
        notes.append(result.costs.text())
    if result.subgroups is not None:
        panels += result.subgroups.panels
        notes += [*result.subgroups.sentences, *(problem.line() for problem in result.subgroups.problems)]
    if result.shortcuts is not None:
        panels += result.shortcuts.panels
        notes += result.shortcuts.sentences
    write_report(out / "report.html", f"Evaluation of {model.task}", overall.frame(), panels, basis, notes)
