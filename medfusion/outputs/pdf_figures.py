"""The figures of a printed page: risk on its scale, the waterfall of reasons, images with the shares of regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from medfusion.core.types import FloatArray
from medfusion.core.views import ImageView
from medfusion.outputs.ledger import RiskReport, signed
from medfusion.outputs.pdf_canvas import INK, LEFT, PALE, RIGHT, SOFT, Sheet
from medfusion.outputs.steps import Step, limits, steps_of, ticks
from medfusion.outputs.waterfall import LOWERS, RAISES

if TYPE_CHECKING:
    from medfusion.outputs.pdf import Language

_LABELS = 190.0
"""Width of the labels beside the bars, in points."""
_ROW, _AXIS = 12.6, 15.0
_PANEL = 118.0
_PANELS = 4
_MOST_PIXELS = 400
_GAP = 10.0
_OPACITY = 0.6
_TOP = 10
Place = Callable[[float], float]
"""From log-odds to a place on the page."""
Align = Literal["left", "right", "centre"]


def draw_risk(sheet: Sheet, report: RiskReport, language: Language) -> None:
    """Write the risk, and draw it with its interval on a scale from 0 to 100 %."""
    _, risk = language._, report.explanation.risk
    y = sheet.y - 34
    sheet.text(LEFT, y, language.percent(risk), 30, bold=True)
    left, width = LEFT + 128, RIGHT - LEFT - 128
    sheet.box(left, y + 10, width, 6, "#e4e7eb")
    if report.risk_low is not None and report.risk_high is not None:
        sheet.box(left + width * report.risk_low, y + 8, width * (report.risk_high - report.risk_low), 10, INK, 0.35)
    base = float(expit(report.explanation.base))
    sheet.line((left + width * base, y + 5), (left + width * base, y + 21), SOFT, 1.2)
    sheet.diamond(left + width * risk, y + 13, 6)
    for part in (0, 25, 50, 75, 100):
        align: Align = "left" if part == 0 else "right" if part == 100 else "centre"
        sheet.text(left + width * part / 100, y - 2, f"{part}%", 7.5, colour=SOFT, align=align)
    said = _("Base rate {risk}: of somebody of whom nothing is known").format(risk=language.percent(base))
    if report.risk_low is not None and report.risk_high is not None:
        ends = {"low": language.percent(report.risk_low), "high": language.percent(report.risk_high)}
        said = _("Interval (95%): {low} to {high}").format(**ends) + " · " + said
    sheet.text(left, y - 16, said, 9, colour=SOFT)
    sheet.y = y - 22


def rows_of(report: RiskReport, most: int) -> list[Step]:
    """Return the rows of the waterfall, with as many features per modality as there is room for, or none."""
    for top in range(_TOP, 0, -1):
        if len(rows := steps_of(report, top)) <= most:
            return rows
    return [step for step in rows if step.kind != "feature"]


def draw_reasons(sheet: Sheet, rows: Sequence[Step], report: RiskReport, language: Language) -> None:
    """Draw the ledger from the base rate down to the risk, each modality opened into its features."""
    _ = language._
    low, high = limits(rows, report)
    left, width = LEFT + _LABELS, RIGHT - LEFT - _LABELS
    sheet.y -= _AXIS
    bottom = sheet.y - _ROW * len(rows)

    def place(log_odds: float) -> float:
        return left + width * (log_odds - low) / (high - low)

    for risk in ticks(low, high).tolist():
        x = place(float(logit(risk)))
        sheet.line((x, sheet.y), (x, bottom), "#e4e7eb")
        sheet.text(x, sheet.y + 4, language.percent(risk), 7.5, colour=SOFT, align="centre")
    for number, step in enumerate(rows):
        said = {0: _("Base rate"), len(rows) - 1: _("Risk")}.get(number, step.label)
        _draw_row(sheet, step, said, sheet.y - _ROW * (number + 1), place, language)
    sheet.y = bottom - 11
    sheet.text(left, sheet.y, _("raises the risk"), 8, colour=RAISES)
    across = left + sheet.width(_("raises the risk"), 8) + 14
    sheet.text(across, sheet.y, _("lowers the risk"), 8, colour=LOWERS)
    sheet.text(RIGHT, sheet.y, _("numbers are log-odds"), 8, colour=SOFT, align="right")
    sheet.y -= 6


def _draw_row(sheet: Sheet, step: Step, said: str, y: float, place: Place, language: Language) -> None:
    if step.kind == "absent":
        said = language._("{modality}: not available").format(modality=step.label.rpartition(": ")[0])
    inner = step.kind == "feature"
    baseline = y + 3.4
    if step.kind == "modality":
        sheet.box(LEFT, y, RIGHT - LEFT, _ROW, PALE)
    sheet.text(
        LEFT + (10 if inner else 3),
        baseline,
        said,
        8 if inner else 9,
        bold=step.kind in {"end", "modality"},
        colour=SOFT if step.kind == "absent" else INK,
        room=_LABELS - 16,
    )
    if step.kind == "end":
        sheet.diamond(place(step.end), y + _ROW / 2, 4)
        shown = language.percent(float(expit(step.end)))
        sheet.text(place(step.end) + 8, baseline, shown, 9, bold=True)
    elif step.kind != "absent":
        _draw_bar(sheet, step, y, place)


def _draw_bar(sheet: Sheet, step: Step, y: float, place: Place) -> None:
    share, inner = step.end - step.start, step.kind == "feature"
    start, end = sorted((place(step.start), place(step.end)))
    height = 4.0 if inner else 8.0
    colour = RAISES if share > 0 else LOWERS
    sheet.box(start, y + (_ROW - height) / 2, end - start, height, colour, 0.65 if inner else 1.0)
    rightwards = share >= 0
    x = end + 4 if rightwards else start - 4
    align: Align = "left" if rightwards else "right"
    sheet.text(x, y + 3.6, signed(share), 8, bold=not inner, align=align)


def draw_images(sheet: Sheet, views: Sequence[ImageView], language: Language) -> None:
    """Draw the images with the largest shares: as they were read, and with the shares of their regions."""
    slices = [(view, index) for view in views for index in view.strongest(_PANELS)]
    weights = [-float(np.nan_to_num(np.abs(view.heat[index])).sum()) for view, index in slices]
    chosen = [slices[place] for place in np.argsort(weights, kind="stable")[:_PANELS].tolist()]
    # Where there is room, each is shown plain, too: a heat map hides what is below it.
    both = 2 * len(chosen) <= _PANELS
    panels = [(view, index, heat) for view, index in chosen for heat in ((False, True) if both else (True,))]
    for number, (view, index, heat) in enumerate(panels):
        x = LEFT + number * (_PANEL + _GAP)
        grey = _thinned(view.grey(index))
        height, width = _fitted(grey.shape)
        pixels = overlaid(grey, view.heat[index]) if heat else grey
        sheet.picture(pixels, x + (_PANEL - width) / 2, sheet.y - _PANEL + (_PANEL - height) / 2, width, height)
        said = language._("shares: {sum}").format(sum=signed(float(np.nansum(view.heat[index])))) if heat else ""
        name = view.names[index] if len(view.names) > 1 else view.title
        sheet.text(x, sheet.y - _PANEL - 9, said or name, 7.5, colour=SOFT, room=_PANEL)
    sheet.y -= _PANEL + 14


def overlaid(grey: NDArray[np.uint8], heat: FloatArray) -> NDArray[np.uint8]:
    """Lay the shares of regions over a picture, array (height, width, 3): the stronger, the more of their colour.

    Examples
    --------
    >>> overlaid(np.zeros((2, 2), dtype=np.uint8), np.array([[1.0, 0.0]]))[0].tolist()
    [[128, 56, 0], [0, 0, 0]]
    """
    heat = np.nan_to_num(heat)
    largest = float(np.abs(heat).max(initial=0.0))
    rows = np.arange(grey.shape[0]) * heat.shape[0] // grey.shape[0]
    columns = np.arange(grey.shape[1]) * heat.shape[1] // grey.shape[1]
    shown = heat[rows[:, None], columns] / (largest or 1.0)
    colours = np.where((shown > 0)[:, :, None], _rgb(RAISES), _rgb(LOWERS))
    part = _OPACITY * np.abs(shown)[:, :, None]
    return np.asarray(np.rint(grey[:, :, None] * (1 - part) + colours * part), dtype=np.uint8)


def _thinned(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out pixels that a printed panel has no room for."""
    from PIL import Image  # noqa: PLC0415 - only a printed page needs it

    picture = Image.fromarray(grey)
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    return np.asarray(picture)


def _rgb(colour: str) -> NDArray[np.int64]:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])


def _fitted(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return height and width in a panel, in proportion."""
    scale = _PANEL / max(shape)
    return shape[0] * scale, shape[1] * scale
