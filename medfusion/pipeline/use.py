"""Using a trained model on a cohort: open both, explain a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medfusion.cohort import Cohort, open_cohort
from medfusion.core.errors import DataError, PayloadRejected, Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.types import FeatureShare, Sample
from medfusion.core.views import View
from medfusion.outputs.ledger import RiskReport
from medfusion.pipeline.data import Track, read_payloads, silent
from medfusion.pipeline.model import Payloads, Predictions, RiskModel
from medfusion.pipeline.model_folder import load_for


@dataclass(frozen=True, slots=True)
class Opened:
    """A model beside the cohort it is used on."""

    model: RiskModel
    cohort: Cohort

    def predict(self, samples: Sequence[Sample], track: Track) -> tuple[Predictions, Payloads]:
        """Predict samples of the cohort."""
        payloads = read_payloads(self.cohort, self.model.modalities, samples, self.cohort.problems, track)
        facts = [self.cohort.facts(sample) for sample in samples] if self.model.columns else ()
        return self.model.predict([sample.subject_id for sample in samples], payloads, facts), payloads


def open_for_use(model_folder: Path, cohort_folder: Path, cache: Path | None = None, task: str | None = None) -> Opened:
    """Load a model and open a cohort for it.

    Unless named, the task is the model's where the cohort has it, else the cohort's only one.
    """
    model = load_for(model_folder, cache)
    task = task or model_task(CohortFolder.open(cohort_folder), model)
    return Opened(model, open_cohort(cohort_folder, list(model.modalities.values()), task))


def model_task(folder: CohortFolder, model: RiskModel) -> str | None:
    """Return the model's task where a cohort has it; else None, for the cohort's only one."""
    tasks = folder.config.get("tasks")
    return model.task if isinstance(tasks, dict) and model.task in tasks else None


def labelled(cohort: Cohort) -> list[Sample]:
    """Return the samples of which the outcome is known.

    Raises
    ------
    DataError
        If there is none.
    """
    samples = [sample for sample in cohort.samples if sample.event is not None]
    if not samples:
        expected, remedy = "labelled samples", "fill in boolean_value, or use medfusion score"
        raise DataError([Problem("no-labels", cohort.task.labels, "", "boolean_value", "empty", expected, remedy)])
    return samples


def explain(opened: Opened, subject_id: str, at: datetime | None = None, track: Track = silent) -> RiskReport:
    """Explain the risk of one patient at one of the cohort's prediction times, the latest by default.

    Raises
    ------
    UsageError
        If the cohort has no such sample.
    """
    sample = sample_of(opened.cohort, subject_id, at)
    predictions, payloads = opened.predict([sample], track)
    return report_of(opened.model, sample, predictions, payloads, opened.cohort.problems)


def sample_of(cohort: Cohort, subject_id: str, at: datetime | None = None) -> Sample:
    """Return one patient's sample at one of the cohort's prediction times, the latest by default.

    Raises
    ------
    UsageError
        If the cohort has no such sample.
    """
    mine = cohort.samples_of(subject_id)
    chosen = [sample for sample in mine if at is None or _is_at(sample.prediction_time, at)]
    if not chosen:
        times = ", ".join(sample.prediction_time.isoformat() for sample in mine)
        raise UsageError(
            f"subject {subject_id} has no prediction time {at.isoformat()}; there are: {times}"
            if at and mine
            else f"the cohort has no sample of subject {subject_id}"
        )
    return chosen[-1]


def report_of(
    model: RiskModel, sample: Sample, predictions: Predictions, payloads: Payloads, problems: list[Problem]
) -> RiskReport:
    """Open up the prediction of one sample; what can no longer be read goes to ``problems``.

    Parameters
    ----------
    model : RiskModel
    sample : Sample
    predictions : Predictions
        Of this sample alone.
    payloads : mapping from modality to sequence of length 1
    problems : list of Problem
    """
    explanation = model.explain(predictions, 0, payloads, problems)
    return RiskReport(
        subject_id=sample.subject_id,
        prediction_time=sample.prediction_time,
        explanation=explanation,
        risk_low=float(predictions.interval[0, 0]),
        risk_high=float(predictions.interval[0, 1]),
        present=dict(zip(model.evidence, predictions.present[0].tolist(), strict=True)),
        views=views_of(model, payloads, explanation.by_feature, problems),
        findings=model.findings(predictions, 0),
        distances={name: each[0] for name, each in predictions.distances.items() if each[0] is not None},
        model_id=model.model_id,
        seen_in_training=bool(predictions.seen[0]),
        certainty="" if predictions.sets is None else predictions.sets.text(0),
    )


def _is_at(moment: datetime, at: datetime) -> bool:
    """Compare two times; one without a zone is taken as UTC where the cohort has zones."""
    return moment == at if at.tzinfo else moment.replace(tzinfo=None) == at


def views_of(
    model: RiskModel, payloads: Payloads, lines: Mapping[str, Sequence[FeatureShare]], problems: list[Problem]
) -> dict[str, list[View]]:
    """Return what a screen shows of one sample, by modality; what can no longer be read goes to ``problems``."""
    views = {}
    for name, (payload,) in payloads.items():
        if payload is None or name not in lines:
            continue
        try:
            views[name] = model.modalities[name].view(payload, lines[name])
        except PayloadRejected as error:
            problems.append(error.problem)
    return views
