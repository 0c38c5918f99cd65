"""From the base rate to the risk, step by step: what a picture of a ledger shows, however it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logit

from medfusion.core.types import FeatureShare, FloatArray
from medfusion.outputs.fold import fold
from medfusion.outputs.ledger import RiskReport, feature_text

_LOW = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
_NICE = np.array([*_LOW, 0.5, *(1.0 - risk for risk in reversed(_LOW))])
_MAX_LABEL = 44


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the picture: from one place on the scale of log-odds to another.

    Attributes
    ----------
    label : str
    kind : {"end", "modality", "feature", "absent"}
        Base rate and risk are ends; features follow their modality, and lead from where it begins to where it ends.
    start, end : float
    line : FeatureShare or None
        The line of the ledger that a feature is.
    """

    label: str
    kind: Literal["end", "modality", "feature", "absent"]
    start: float
    end: float
    line: FeatureShare | None = None


def steps_of(report: RiskReport, top: int) -> list[Step]:
    """Return the rows from the base rate to the risk.

    Parameters
    ----------
    report : RiskReport
    top : int
        Features per modality; the others are folded into one row with their sum.
    """
    ledger = report.explanation
    steps = [Step("Base rate", "end", ledger.base, ledger.base)]
    at = ledger.base
    for name in report.ordered():
        if not report.present[name]:
            steps.append(Step(f"{name}: not there", "absent", at, at))
            continue
        share = ledger.by_modality[name]
        steps.append(Step(name, "modality", at, at + share))
        inner = at
        for line in fold(ledger.by_feature.get(name, ()), top):
            steps.append(Step(_label(line), "feature", inner, inner + line.share, line))
            inner += line.share
        at += share
    return [*steps, Step("Risk", "end", ledger.logit, ledger.logit)]


def _label(line: FeatureShare) -> str:
    """Name a feature and what was observed, each cut where it would leave no room for the other."""
    value = shortened(line.value, _MAX_LABEL // 2) if isinstance(line.value, str) else line.value
    return feature_text(shortened(line.feature, _MAX_LABEL - len(feature_text("", value))), value)


def shortened(text: str, room: int = _MAX_LABEL) -> str:
    """Cut a text that is longer than so many characters.

    Examples
    --------
    >>> shortened("haemoglobin", 5)
    'haem…'
    """
    return text if len(text) <= room else text[: room - 1] + "…"


def limits(steps: Sequence[Step], report: RiskReport) -> tuple[float, float]:
    """Return the ends of the scale, with room for the numbers beside the bars."""
    places = [place for step in steps for place in (step.start, step.end)]
    for risk in (report.risk_low, report.risk_high):
        if risk is not None and 0.0 < risk < 1.0:
            places.append(float(logit(risk)))
    low, high = min(places), max(places)
    margin = max(0.14 * (high - low), 0.25)
    return low - margin, high + margin


def ticks(low: float, high: float) -> FloatArray:
    """Return the probabilities to be marked on a scale of log-odds, so few that they do not touch.

    Examples
    --------
    >>> ticks(-2.5, 0.5).tolist()
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    """
    kept: list[float] = []
    for risk in _NICE[(logit(_NICE) > low) & (logit(_NICE) < high)]:
        if not kept or logit(risk) - logit(kept[-1]) > 0.07 * (high - low):
            kept.append(float(risk))
    return np.array(kept)
