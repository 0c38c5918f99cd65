"""The picture: from the base rate to the risk, step by step, each modality opened up into its features."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from medfusion.outputs.ledger import TOP, RiskReport, percent, signed
from medfusion.outputs.steps import Step, limits, shortened, steps_of, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

RAISES, LOWERS = "#D55E00", "#0072B2"
"""Vermilion and blue of the Okabe-Ito palette: told apart with every kind of colour vision."""
_INK, _GREY, _PALE = "#1f2933", "#7b8794", "#f3f5f7"
_HEAD = 0.62
_LABEL_STYLES: dict[str, dict[str, Any]] = {
    "end": {"fontsize": 11, "fontweight": "bold", "color": _INK},
    "modality": {"fontsize": 11, "fontweight": "bold", "color": _INK, "parse_math": False},
    "feature": {"fontsize": 9.5, "color": "#3e4c59", "parse_math": False},
    "absent": {"fontsize": 11, "color": _GREY, "style": "italic", "parse_math": False},
}


def waterfall(report: RiskReport, top: int = TOP) -> Figure:
    """Draw a ledger.

    Rows go from the base rate down to the risk. Each modality is a broad bar; the thin bars below it are its features,
    which lead from where it begins to where it ends, on the same scale: log-odds below, probability above.

    Parameters
    ----------
    report : RiskReport
    top : int
        Features per modality; the others are folded into one bar with their sum.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    steps = steps_of(report, top)
    heights = np.array([0.30 if step.kind == "feature" else 0.44 for step in steps])
    centres = np.cumsum(heights) - heights / 2
    body_height = float(heights.sum()) + 0.95
    figure = Figure(figsize=(9.6, _HEAD + body_height), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[_HEAD, body_height])
    head, body = parts
    _headline(head, report)
    axes = body.subplots()
    ends = limits(steps, report)
    axes.set(xlim=ends, ylim=(float(heights.sum()) + 0.05, -0.05))
    for step, centre, height in zip(steps, centres, heights, strict=True):
        _draw(axes, step, float(centre), float(height))
    _connect(axes, steps, centres)
    _end(axes, float(centres[0]), steps[0].end, None, None)
    _end(axes, float(centres[-1]), steps[-1].end, report.risk_low, report.risk_high)
    axes.set_yticks(centres, [step.label for step in steps])
    for label, step in zip(axes.get_yticklabels(), steps, strict=True):
        label.set(**_LABEL_STYLES[step.kind])
    _scales(axes, *ends)
    return figure


def _headline(head: SubFigure, report: RiskReport) -> None:
    when = report.prediction_time.isoformat(sep=" ", timespec="minutes")
    head.text(0.012, 0.72, f"Risk {report.risk_text()}", fontsize=16, fontweight="bold", color=_INK, va="center")
    who = shortened(f"Subject {report.subject_id}") + f", seen from {when}"
    head.text(0.012, 0.22, who, fontsize=10.5, color=_GREY, va="center", parse_math=False)
    for x, colour, said in ((0.705, RAISES, "raises the risk"), (0.85, LOWERS, "lowers the risk")):
        head.text(x, 0.22, "■", fontsize=11, color=colour, va="center")
        head.text(x + 0.02, 0.22, said, fontsize=10, color=_GREY, va="center")


def _draw(axes: Axes, step: Step, centre: float, height: float) -> None:
    """Draw the bar of a modality or a feature, with its number on the side where the bar ends."""
    if step.kind not in {"modality", "feature"}:
        return
    share = step.end - step.start
    modality = step.kind == "modality"
    if modality:
        axes.axhspan(centre - height / 2, centre + height / 2, color=_PALE, linewidth=0, zorder=0)
    thickness, alpha = (0.28, 1.0) if modality else (0.13, 0.6)
    colour = RAISES if share > 0 else LOWERS
    axes.barh(centre, share, left=step.start, height=thickness, color=colour, alpha=alpha, linewidth=0, zorder=3)
    _number(axes, step.end, centre, signed(share), 1 if share >= 0 else -1, bold=modality)


def _end(axes: Axes, centre: float, place: float, low: float | None, high: float | None) -> None:
    """Mark the base rate or the risk, with its interval."""
    beside = place
    if low is not None and high is not None:
        ends = [float(logit(np.clip(risk, 1e-6, 1 - 1e-6))) for risk in (low, high)]
        axes.plot(ends, [centre, centre], color=_INK, linewidth=6, alpha=0.2, solid_capstyle="butt", zorder=2)
        beside = max(beside, *ends)
    axes.plot(place, centre, "D", color=_INK, markersize=7.5, zorder=4)
    _number(axes, beside, centre, percent(float(expit(place))), 1, bold=True)


def _number(axes: Axes, x: float, y: float, text: str, side: int, *, bold: bool) -> None:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - slow to import

    axes.annotate(
        text,
        (x, y),
        xytext=(side * (9 if bold else 6), 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        fontsize=10.5 if bold else 9,
        fontweight="bold" if bold else "normal",
        color=_INK,
        zorder=5,
        path_effects=[withStroke(linewidth=3, foreground=_PALE if bold else "white")],
    )


def _connect(axes: Axes, steps: list[Step], centres: np.ndarray) -> None:
    """Lead from where each bar ends to where the next modality begins."""
    main = [index for index, step in enumerate(steps) if step.kind != "feature"]
    for here, there in pairwise(main):
        at = steps[here].end
        axes.plot([at, at], centres[[here, there]], color=_GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)


def _scales(axes: Axes, low: float, high: float) -> None:
    """Put log-odds below and the probabilities that they mean above."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="x", colors=_GREY, labelsize=9)
    axes.set_xlabel("log-odds", color=_GREY, fontsize=9.5)
    above = axes.secondary_xaxis("top")
    shown = ticks(low, high)
    above.set_xticks(logit(shown), [f"{100 * risk:.3g} %" for risk in shown])
    above.tick_params(colors=_GREY, labelsize=9)
    above.spines["top"].set_color(_GREY)
    for place in logit(shown):
        axes.axvline(place, color="#e9ecef", linewidth=0.8, zorder=0)
