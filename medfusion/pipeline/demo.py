"""The whole job on a synthetic cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.evaluation.evaluate import Evaluation
from medfusion.outputs.ledger import RiskReport
from medfusion.outputs.patient import write_patient_page
from medfusion.pipeline.assess import evaluate_model
from medfusion.pipeline.data import Track, silent
from medfusion.pipeline.score import Scoring, score
from medfusion.pipeline.train import Training, train
from medfusion.pipeline.use import explain, open_for_use
from medfusion.scoring import Tracked


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demonstration made, all of it below one folder.

    Attributes
    ----------
    training : Training
    evaluation : Evaluation
        Of new patients.
    scoring : Scoring
    report : RiskReport
        Of the new patient with the highest risk who has all modalities.
    """

    training: Training
    evaluation: Evaluation
    scoring: Scoring
    report: RiskReport


def run_demo(
    out: Path, subjects: int = 400, seed: int = 0, *, cache: Path | None = None, track: Track = silent
) -> Demo:
    """Write two synthetic cohorts; train on one; evaluate, score and explain on the other.

    Parameters
    ----------
    out : Path
        Gets the folders cohort, new-patients, model, evaluation and scores, and patient.html.
    subjects : int
        In the training cohort; the new patients are a quarter as many.
    seed : int
    cache : Path, optional
    track : callable
    """
    cohort, fresh, model, scores = (out / name for name in ("cohort", "new-patients", "model", "scores"))
    write_synthetic_cohort(cohort, subjects, seed, track("write cohort", subjects))
    new = max(subjects // 4, 1)
    write_synthetic_cohort(fresh, new, seed + 1, track("write new patients", new))
    training = train(cohort, model, cache=cache, seed=seed, track=track)
    evaluation = evaluate_model(model, fresh, out / "evaluation", cache=cache, track=track).evaluation
    scoring = score(model, fresh, scores, cache=cache, monitors=[Tracked(track)])
    report = explain(open_for_use(model, fresh, cache), _most_at_risk(scores))
    write_patient_page(out / "patient.html", report)
    return Demo(training, evaluation, scoring, report)


def _most_at_risk(scores: Path) -> str:
    import pandas as pd  # noqa: PLC0415 - slow to import

    table = pd.read_parquet(scores / "predictions.parquet")
    present = table[[name for name in table.columns if name.startswith("present_")]].sum(axis=1)
    return str(table.assign(present=present).sort_values(["present", "risk"]).subject_id.iloc[-1])
