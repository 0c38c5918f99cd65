"""From the base rate to the risk: modality by modality, each of which opens into its features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
import streamlit as st
from scipy.special import expit, logit

from dashboards.language import _, percent, term
from dashboards.reasons import feature_text
from dashboards.renderers.tables import table
from dashboards.scores import Reason
from medfusion.core.types import FeatureShare
from medfusion.outputs.ledger import TOP, RiskReport, signed
from medfusion.outputs.steps import Step, limits, steps_of, ticks
from medfusion.outputs.tables import value_text
from medfusion.outputs.waterfall import LOWERS, RAISES

_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
_MOST_TICKS = 7
_LABEL_PERCENT = 15.0
"""Room for a probability, as part of the width of the bars."""
_STYLE = """<style>
.mf-fall { --line: color-mix(in srgb, currentColor 22%, transparent); font-variant-numeric: tabular-nums; }
.mf-fall .row { display: grid; grid-template-columns: minmax(8rem, 40%) minmax(0, 1fr) 4.4rem; gap: 0 0.8rem; }
.mf-fall .row { align-items: center; min-height: 1.7rem; font-size: 0.92rem; }
.mf-fall .label { overflow-wrap: anywhere; }
.mf-fall .number { text-align: right; }
.mf-fall .end, .mf-fall summary { font-weight: 650; min-height: 2.3rem; }
.mf-fall summary { cursor: pointer; background-color: color-mix(in srgb, currentColor 5%, transparent); }
.mf-fall summary { border-radius: 4px; list-style: none; }
.mf-fall summary::-webkit-details-marker { display: none; }
.mf-fall summary .label::before { content: "▸ "; }
.mf-fall details[open] > summary .label::before { content: "▾ "; }
.mf-fall summary:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.mf-fall .feature .label { padding-left: 1.2rem; }
.mf-fall .axis { opacity: 0.85; font-size: 0.8rem; }
.mf-fall .absent { font-style: italic; }
.mf-fall .track { position: relative; height: 100%; min-height: 1.6rem; }
.mf-fall .track > * { position: absolute; }
.mf-fall .bar { top: 18%; height: 64%; border-radius: 2px; min-width: 2px; }
.mf-fall .feature .bar { top: 33%; height: 34%; opacity: 0.75; }
.mf-fall .mark { top: 50%; width: 0.75rem; height: 0.75rem; background: currentColor; }
.mf-fall .mark { rotate: 45deg; translate: -50% -50%; }
.mf-fall .band { top: 30%; height: 40%; background: color-mix(in srgb, currentColor 25%, transparent); }
.mf-fall .tick { font-style: normal; translate: -50% 0; font-size: 0.8rem; white-space: nowrap; font-weight: 400; }
.mf-fall .key i { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.35em 0 1em; border-radius: 2px; }
.mf-fall .key { font-size: 0.85rem; margin: 0.3rem 0 0.5rem -1em; }
</style>"""


def waterfall(report: RiskReport, key: str, units: Mapping[str, str], top: int = TOP, *, opened: bool = False) -> None:
    """Draw a ledger, and its lines as a table behind it.

    Parameters
    ----------
    report : RiskReport
    key : str
        Unique on the page.
    units : mapping from code to UCUM unit
        In which values are told.
    top : int
        Features per modality; the others are folded into one row with their sum.
    opened : bool
        Whether the modality that moved the risk most shows its features at once.
    """
    with st.container(key=key):
        st.html(_STYLE + waterfall_html(report, units, top, opened=opened))
        with st.expander(_("As a table")):
            table(lines(report, units))


def waterfall_html(report: RiskReport, units: Mapping[str, str], top: int = TOP, *, opened: bool = False) -> str:
    """Return the picture as HTML: a modality opens into its features, on one scale of log-odds with its probabilities.

    Parameters
    ----------
    report : RiskReport
    units, top, opened
        As of `waterfall`.

    Returns
    -------
    str
        In which everything that came from the data is escaped.
    """
    steps = steps_of(report, top)
    scale = _Scale(*limits(steps, report))
    rows = [_row("end", _("Base rate"), scale.mark(steps[0].end), percent(float(expit(steps[0].end))))]
    names = report.ordered()
    for name, (step, features) in zip(names, _modalities(steps), strict=True):
        if step.kind == "absent":
            rows.append(_row("absent", _("{name}: not there").format(name=term(name)), "", signed(0.0)))
        else:
            head = _row("modality", term(name), scale.bar(step), signed(step.end - step.start), "summary")
            inner = "".join(
                _row("feature", _said(name, each.line, units), scale.bar(each), signed(each.end - each.start))
                for each in features
            )
            shown = " open" if opened and name == names[0] else ""
            rows.append(f"<details{shown}>{head}{inner}</details>")
    interval = scale.band(report.risk_low, report.risk_high)
    rows.append(_row("end", _("Risk"), interval + scale.mark(steps[-1].end), percent(report.explanation.risk)))
    above = scale.apart([(float(logit(risk)), percent(float(risk))) for risk in ticks(scale.low, scale.high)])
    below = [(place, signed(place, 1)) for place in scale.round_places()]
    axes = _row("axis", _("Probability"), scale.labels(above), ""), _row("axis", _("Log-odds"), scale.labels(below), "")
    raises, lowers = escape(_("raises the risk")), escape(_("lowers the risk"))
    key = (
        f'<div class="key"><i style="background: {RAISES}"></i>{raises}'
        f'<i style="background: {LOWERS}"></i>{lowers}</div>'
    )
    return f'<div class="mf-fall">{key}{axes[0]}{"".join(rows)}{axes[1]}</div>'


def lines(report: RiskReport, units: Mapping[str, str]) -> list[dict[str, str]]:
    """Return every line of the ledger, and the risk after each modality."""
    ledger = report.explanation
    risk = _("Risk so far")
    rows = [
        {_("What"): _("Base rate"), _("Log-odds"): signed(ledger.base, 3), risk: percent(float(expit(ledger.base)))}
    ]
    at = ledger.base
    for name in report.ordered():
        at += ledger.by_modality[name]
        share = signed(ledger.by_modality[name], 3)
        rows.append({_("What"): term(name), _("Log-odds"): share, risk: percent(float(expit(at)))})
        features = sorted(ledger.by_feature.get(name, ()), key=lambda line: -abs(line.share))
        for line in features:
            said = f"\N{EM SPACE}{_said(name, line, units)}"
            rows.append({_("What"): said, _("Log-odds"): signed(line.share, 3), risk: ""})
    end = {_("What"): _("Risk"), _("Log-odds"): signed(ledger.logit, 3), risk: percent(ledger.risk)}
    return [*rows, end]


def _said(modality: str, line: FeatureShare | None, units: Mapping[str, str]) -> str:
    """Tell a line below its modality."""
    assert line is not None  # of a feature
    return feature_text(Reason(modality, line.feature, value_text(line.value), line.share), units, alone=False)


def _modalities(steps: Sequence[Step]) -> Iterator[tuple[Step, list[Step]]]:
    """Yield each modality's row with those of its features."""
    between = steps[1:-1]
    heads = [place for place, step in enumerate(between) if step.kind != "feature"]
    for start, stop in zip(heads, [*heads[1:], len(between)], strict=True):
        yield between[start], list(between[start + 1 : stop])


def _row(kind: str, label: str, track: str, number: str, tag: str = "div") -> str:
    cells = f'<span class="label">{escape(label)}</span><span class="track">{track}</span>'
    return f'<{tag} class="row {kind}">{cells}<span class="number">{escape(number)}</span></{tag}>'


class _Scale:
    """Log-odds as percent of a row's width."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def _x(self, place: float) -> float:
        return round(100 * (float(np.clip(place, self.low, self.high)) - self.low) / (self.high - self.low), 2)

    def bar(self, step: Step) -> str:
        left, right = sorted((self._x(step.start), self._x(step.end)))
        colour = RAISES if step.end > step.start else LOWERS
        return f'<i class="bar" style="left: {left}%; width: {right - left:.2f}%; background: {colour}"></i>'

    def mark(self, place: float) -> str:
        return f'<i class="mark" style="left: {self._x(place)}%"></i>'

    def band(self, low: float | None, high: float | None) -> str:
        """Return the interval of a risk; nothing where there is none."""
        if low is None or high is None:
            return ""
        left, right = (self._x(float(logit(np.clip(risk, 1e-6, 1 - 1e-6)))) for risk in (low, high))
        return f'<i class="band" style="left: {left}%; width: {right - left:.2f}%"></i>'

    def apart(self, places: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
        """Leave out labels that would run into the one before, on a row as narrow as beside the decision."""
        kept: list[tuple[float, str]] = []
        for at, said in places:
            if not kept or self._x(at) - self._x(kept[-1][0]) >= _LABEL_PERCENT:
                kept.append((at, said))
        return kept

    def labels(self, places: Sequence[tuple[float, str]]) -> str:
        return "".join(f'<i class="tick" style="left: {self._x(at)}%">{escape(said)}</i>' for at, said in places)

    def round_places(self) -> list[float]:
        """Return a few even places on the scale."""
        step = next(step for step in _STEPS if (self.high - self.low) / step <= _MOST_TICKS or step == _STEPS[-1])
        return [float(n * step) for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
