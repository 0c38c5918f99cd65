"""All figures of one set of predictions, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation import bootstrap
from medfusion.evaluation.figures import PrecisionRecallCurve, ReliabilityDiagram, RocCurve
from medfusion.evaluation.metrics import (
    Estimate,
    calibration_error,
    chance_calibration_error,
    check_risks,
    debiased_calibration_error,
    ranking,
    recalibration,
)
from medfusion.evaluation.patterns import PatternFigure, by_pattern

Panel = ReliabilityDiagram | RocCurve | PrecisionRecallCurve | PatternFigure
"""A figure: ``title``, ``caption``, ``frame()`` for its table and ``plot()`` for its picture."""
_LABELS = {
    "auroc": ("AUROC", "How often somebody with the event has the higher risk; 0.5 is chance, 1 perfect"),
    "auprc": ("AUPRC", "Precision, averaged over sensitivities; chance is the prevalence, 1 perfect"),
    "brier": ("Brier score", "Mean squared error of the risks; 0 is perfect"),
    "ece": ("ECE", "Mean gap between predicted and observed, in ten groups of equal size; 0 is perfect"),
    "ece_debiased": ("ECE, debiased", "ECE less what the noise within groups explains"),
    "ece_chance": ("ECE by chance", "What a perfectly calibrated model with these risks would show"),
    "calibration_slope": ("Calibration slope", "1 is perfect; below 1, risks are too extreme"),
    "calibration_intercept": ("Calibration intercept", "0 is perfect; below 0, risks are too high on the whole"),
    "brier_skill": ("Brier skill", "Brier score against telling everybody the prevalence; 0 is no better, 1 perfect"),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known about the quality of a set of predictions.

    Attributes
    ----------
    n, n_events, n_subjects : int
    estimates : dict from name to Estimate
        auroc, auprc, brier, ece, ece_debiased, ece_chance, calibration_slope, calibration_intercept, brier_skill.
    panels : tuple of Panel
        Reliability diagram, ROC and precision-recall curves (where both classes occur), table of patterns.
    intervals : str
        How the intervals were made.
    """

    n: int
    n_events: int
    n_subjects: int
    estimates: dict[str, Estimate]
    panels: tuple[Panel, ...]
    intervals: str

    def frame(self) -> pd.DataFrame:
        """Return one row per figure: label, value, low, high, meaning, note (value NaN where the data cannot tell)."""
        rows = [
            (_LABELS[name][0], estimate.value, estimate.low, estimate.high, _LABELS[name][1], estimate.note)
            for name, estimate in self.estimates.items()
        ]
        table = pd.DataFrame(rows, columns=["label", "value", "low", "high", "meaning", "note"])
        return table.astype({"value": float, "low": float, "high": float})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; None stands where the data cannot tell."""
        figures = {
            name: {"value": estimate.value, "low": estimate.low, "high": estimate.high, "note": estimate.note}
            for name, estimate in self.estimates.items()
        }
        tables = {type(panel).__name__: panel.frame() for panel in self.panels}
        return {
            "n": self.n,
            "n_events": self.n_events,
            "n_subjects": self.n_subjects,
            "intervals": self.intervals,
            **figures,
            "reliability": _records(tables["ReliabilityDiagram"]),
            "patterns": _records(tables["PatternFigure"]),
        }


def evaluate(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    present: BoolArray,
    names: Sequence[str],
    seed: int,
    resamples: int = bootstrap.RESAMPLES,
) -> Evaluation:
    """Compute all figures, with 95 % intervals by resampling patients.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
    present : array (n, M), bool
        Which modalities each prediction rests on.
    names : sequence of str, length M
    seed : int
        Of the resampling and of the simulated chance level.
    resamples : int

    Raises
    ------
    ValueError
        If there is no sample, lengths differ, or a risk is not within [0, 1].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> risks = rng.uniform(size=200)
    >>> events, patients = rng.uniform(size=200) < risks, [str(i) for i in range(200)]
    >>> evaluation = evaluate(events, risks, patients, np.ones((200, 1), bool), ["ehr"], seed=0, resamples=100)
    >>> evaluation.estimates["auroc"].low > 0.7
    True
    """
    events, risks = np.asarray(events, dtype=bool), np.asarray(risks, dtype=float)
    check_risks(events, risks, subject_ids)
    values = _points(events, risks)
    draws = bootstrap.draw_figures(events, risks, subject_ids, seed, resamples)
    n_subjects, fewest = len(set(subject_ids)), bootstrap.fewest_patients(events, subject_ids)
    estimates = {
        name: Estimate(None, note=_reason(events))
        if value is None
        else bootstrap.estimate(name, value, draws[name], n_subjects, fewest)
        for name, value in values.items()
    }
    estimates["ece_chance"] = chance_calibration_error(risks, seed)
    panels: list[Panel] = [ReliabilityDiagram(events, risks, estimates["ece"])]
    if 0 < events.sum() < len(events):
        panels.append(RocCurve(events, risks, estimates["auroc"]))
        panels.append(PrecisionRecallCurve(events, risks, estimates["auprc"]))
    panels.append(PatternFigure(by_pattern(events, risks, subject_ids, present, names, seed, resamples)))
    return Evaluation(
        n=len(events),
        n_events=int(events.sum()),
        n_subjects=n_subjects,
        estimates={name: estimates[name] for name in _LABELS},
        panels=tuple(panels),
        intervals=f"95 %, by {resamples:,} resamples of the patients (seed {seed})",
    )


def _reason(events: BoolArray) -> str:
    """Say why a figure cannot be told, if one cannot."""
    if events.all() or not events.any():
        return "too few: " + ("all samples have the event" if events.all() else "no sample has the event")
    return "cannot be told: the risks are all equal, or they separate those with the event from the others"


def _points(events: BoolArray, risks: FloatArray) -> dict[str, float | None]:
    slope, intercept = (float(fitted[0]) for fitted in recalibration(events, risks, np.ones((1, len(risks)))))
    return {
        **ranking(events, risks),
        "ece": calibration_error(events, risks),
        "ece_debiased": debiased_calibration_error(events, risks),
        "calibration_slope": None if np.isnan(slope) else slope,
        "calibration_intercept": None if np.isnan(intercept) else intercept,
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values; NaN becomes None."""
    return [
        {str(key): None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
