"""One patient's risk and what it is the sum of: as JSON values and as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medfusion.core.types import Distance, Explanation
from medfusion.core.views import View
from medfusion.outputs.fold import fold
from medfusion.outputs.tables import value_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

RESEARCH_USE = "Research use only. Not a medical device: not for diagnosis or treatment."
TOP = 6
"""Lines per modality in a picture; the others are folded into one."""
MINUS = "\N{MINUS SIGN}"
_BAR = 16
_RAISES, _LOWERS = "dark_orange", "dodger_blue2"


@dataclass(frozen=True, slots=True)
class RiskReport:
    """What there is to say about one sample.

    Attributes
    ----------
    subject_id : str
    prediction_time : datetime
    explanation : Explanation
        The ledger; its logit is that of the risk.
    risk_low, risk_high : float or None
        Interval of the risk; None where there is none.
    present : mapping from modality to bool
        Whether the modality had something to say; equal keys to ``explanation.by_modality``.
    views : mapping from modality to sequence of View
        What a screen shows of it.
    findings : sequence of str
        Codes of what was noticed.
    model_id : str
    seen_in_training : bool or None
        Whether the patient was in the training cohort; None if unknown.
    distances : mapping from modality to Distance
        How far from the training, for the modalities of which that can be told.
    certainty : str
        Which outcomes the risk leaves open at a stated coverage, in one sentence; empty where that is not known.
    hypothetical : sequence of str
        What was changed, in words, where this is not the patient's risk but an answer to "what if?".
    """

    subject_id: str
    prediction_time: datetime
    explanation: Explanation
    risk_low: float | None
    risk_high: float | None
    present: Mapping[str, bool]
    views: Mapping[str, Sequence[View]] = field(default_factory=dict)
    findings: Sequence[str] = ()
    model_id: str = ""
    seen_in_training: bool | None = None
    distances: Mapping[str, Distance] = field(default_factory=dict)
    certainty: str = ""
    hypothetical: Sequence[str] = ()

    def risk_text(self) -> str:
        """Return the risk with its interval, as a person writes it."""
        if self.risk_low is None or self.risk_high is None:
            return percent(self.explanation.risk)
        return f"{percent(self.explanation.risk)} (interval {percent(self.risk_low)} to {percent(self.risk_high)})"

    def ordered(self) -> list[str]:
        """Return the modalities: those that are there by the size of their share, then those that are not."""
        shares = self.explanation.by_modality
        return sorted(shares, key=lambda name: (not self.present[name], -abs(shares[name])))


def percent(risk: float) -> str:
    """Write a probability in percent, with a decimal where it is below 10 % or above 90 %.

    Examples
    --------
    >>> percent(0.0312), percent(0.378), percent(0.9993), percent(1e-7)
    ('3.1 %', '38 %', '99.9 %', '<0.1 %')
    """
    if 0.095 <= risk < 0.905:
        return f"{100 * risk:.0f} %"
    if risk < 0.0005:
        return "<0.1 %"
    return f"{100 * risk:.1f} %" if risk < 0.9995 else ">99.9 %"


def signed(share: float, digits: int = 2) -> str:
    """Write a share with its sign; one that rounds to nothing has none.

    Examples
    --------
    >>> signed(0.826), signed(-1.5) == MINUS + "1.50", signed(-0.0004)
    ('+0.83', True, '0.00')
    """
    text = f"{abs(share):.{digits}f}"
    if float(text) == 0.0:
        return text
    return ("+" if share > 0 else MINUS) + text


def feature_text(feature: str, value: float | str | None) -> str:
    """Write a feature with what was observed."""
    said = value_text(value)
    return feature if said is None else f"{feature} = {said}"


def ledger_json(report: RiskReport) -> dict[str, Any]:
    """Return the risk and its ledger as JSON values: every line, nothing folded.

    ``base_logit`` and the ``share`` of each modality sum to ``logit``; the features of a modality sum to its share.
    """
    ledger = report.explanation
    return {
        "subject_id": report.subject_id,
        "prediction_time": report.prediction_time.isoformat(),
        "risk": ledger.risk,
        "risk_low": report.risk_low,
        "risk_high": report.risk_high,
        "logit": ledger.logit,
        "base_logit": ledger.base,
        "modalities": [
            {
                "modality": name,
                "present": report.present[name],
                "share": ledger.by_modality[name],
                "features": [
                    {"feature": line.feature, "value": line.value, "share": line.share}
                    for line in ledger.by_feature.get(name, ())
                ],
            }
            for name in report.ordered()
        ],
        "findings": list(report.findings),
        "certainty": report.certainty,
        "hypothetical": list(report.hypothetical),
        "distances": {name: asdict(distance) for name, distance in report.distances.items()},
        "model_id": report.model_id,
        "seen_in_training": report.seen_in_training,
    }


def ledger_text(report: RiskReport, top: int = TOP) -> RenderableType:
    """Return the risk and its ledger for a terminal.

    Parameters
    ----------
    report : RiskReport
    top : int
        Lines per modality; the others are folded into one with their sum.
    """
    from rich.console import Group  # noqa: PLC0415 - only a terminal needs it
    from rich.text import Text  # noqa: PLC0415

    when = report.prediction_time.isoformat(sep=" ", timespec="minutes")
    head = Text.assemble((f"Risk {report.risk_text()}", "bold"), f"   subject {report.subject_id}, seen from {when}")
    foot = [Text(line, style="dim") for line in footnotes(report)]
    return Group(head, Text(), _ledger_table(report, top), Text(), *foot)


def footnotes(report: RiskReport) -> list[str]:
    """Return what has to be said beneath every ledger."""
    lines = [f"Hypothetical, not this patient's risk: {'; '.join(report.hypothetical)}."] if report.hypothetical else []
    lines.append(f"Log-odds: + raises the risk, {MINUS} lowers it; base and shares add up to the risk's log-odds.")
    if report.seen_in_training:
        lines.append("A patient of the training cohort: the part of the model that has not seen them answers.")
    if report.findings:
        lines.append("Findings: " + ", ".join(report.findings))
    lines += [
        f"Do not trust the share of {name}: it is {distance.text()}."
        for name, distance in report.distances.items()
        if distance.outside
    ]
    if report.certainty:
        lines.append(report.certainty[0].upper() + report.certainty[1:] + ".")
    return [*lines, RESEARCH_USE]


def _ledger_table(report: RiskReport, top: int) -> Table:
    from rich.table import Table  # noqa: PLC0415 - only a terminal needs it
    from rich.text import Text  # noqa: PLC0415

    ledger = report.explanation
    folded = {name: fold(ledger.by_feature.get(name, ()), top) for name in report.ordered()}
    shares = [*ledger.by_modality.values(), *(line.share for lines in folded.values() for line in lines)]
    largest = max((abs(share) for share in shares), default=0.0)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold", max_width=48)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(Text("base", style="bold"), signed(ledger.base), Text(f"risk {percent(_logistic(ledger.base))}"))
    for name, lines in folded.items():
        if not report.present[name]:
            table.add_row(Text(f"{name}: not there", style="dim"), Text("0.00", style="dim"), "")
            continue
        share = ledger.by_modality[name]
        table.add_row(Text(name, style="bold"), Text(signed(share), style="bold"), _bar(share, largest))
        for line in lines:
            said = Text("  " + feature_text(line.feature, line.value))
            table.add_row(said, signed(line.share), _bar(line.share, largest))
    end = Text(f"risk {percent(ledger.risk)}", style="bold")
    table.add_row(Text("sum", style="bold"), Text(signed(ledger.logit), style="bold"), end)
    return table


def _bar(share: float, largest: float) -> Text:
    """Draw a share to the left or the right of a line, in halves of a character."""
    from rich.text import Text  # noqa: PLC0415 - only a terminal needs it

    halves = round(2 * _BAR * abs(share) / largest) if largest else 0
    full, half = divmod(halves, 2)
    if share < 0:
        return Text.assemble((("╺" * half + "━" * full).rjust(_BAR), _LOWERS), "│")
    return Text.assemble(" " * _BAR, "│", ("━" * full + "╸" * half, _RAISES))


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))
