"""The page that explains one risk: the picture, then what each modality looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfusion.core.files import write_text
from medfusion.core.views import ImageView, Series, SeriesView, Span, TextView, View
from medfusion.outputs.ledger import RiskReport, feature_text, footnotes, percent, signed
from medfusion.outputs.page import png_uri, render, svg
from medfusion.outputs.waterfall import LOWERS, RAISES, waterfall

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_SERIES = 12
_MAX_SLICES = 6
_NUMBERED_CELLS = 8
_CELL_OPACITY = 0.62
_WORD_OPACITY = 0.5
_COLUMNS = 3


def write_patient_page(path: Path, report: RiskReport) -> None:
    """Write the page as one HTML file that needs no other."""
    write_text(path, patient_page(report))


def patient_page(report: RiskReport) -> str:
    """Return the page: risk, waterfall, and per modality its views and every line of its ledger.

    Parameters
    ----------
    report : RiskReport
        Its views are rendered by their kind (image, series, text), whatever the modality.

    Returns
    -------
    str
        HTML in which everything that came from the data is escaped.
    """
    ledger = report.explanation
    strongest = _strongest(report)
    modalities = [
        {
            "name": name,
            "present": report.present[name],
            "share": signed(ledger.by_modality[name]),
            "views": [part for view in report.views.get(name, ()) for part in _parts(view, strongest)],
            "lines": [
                {"feature": feature_text(line.feature, line.value), "share": signed(line.share, 3)}
                for line in sorted(ledger.by_feature.get(name, ()), key=lambda line: -abs(line.share))
            ],
        }
        for name in report.ordered()
    ]
    values = {
        "report": report,
        "risk": report.risk_text(),
        "base_risk": percent(float(1.0 / (1.0 + np.exp(-ledger.base)))),
        "when": report.prediction_time.isoformat(sep=" ", timespec="minutes"),
        "picture": svg(waterfall(report), f"Waterfall from the base rate to a risk of {report.risk_text()}"),
        "modalities": modalities,
        "footnotes": footnotes(report),
        "colours": {"raises": RAISES, "lowers": LOWERS},
    }
    return render("patient.html", values)


def _strongest(report: RiskReport) -> float:
    """Return the largest share of a word: all texts of a page are shaded on one scale."""
    spans = [
        abs(span.share)
        for views in report.views.values()
        for view in views
        if isinstance(view, TextView)
        for text in view.texts
        for span in text
    ]
    return max(spans, default=0.0)


def _parts(view: View, strongest: float) -> list[dict[str, Any]]:
    match view:
        case ImageView():
            return [{"kind": "image", **_image(view, index)} for index in view.strongest(_MAX_SLICES)]
        case SeriesView():
            return [{"kind": "series", "title": view.title, **_series(view)}]
        case TextView():
            texts = [[_span(span, strongest) for span in text] for text in view.texts]
            return [{"kind": "text", "title": view.title, "texts": list(zip(view.titles, texts, strict=True))}]


def _image(view: ImageView, index: int) -> dict[str, Any]:
    """Lay the shares over a slice as cells; the strongest say their number, the others when pointed at."""
    height, width = view.pixels.shape[1:]
    heat = np.nan_to_num(view.heat[index])
    rows, columns = heat.shape
    largest = float(np.abs(heat).max(initial=0.0))
    order = np.argsort(-np.abs(heat), axis=None, kind="stable")[:_NUMBERED_CELLS]
    cells = []
    for row, column in np.ndindex(rows, columns):
        share = float(heat[row, column])
        numbered = row * columns + column in order and signed(share) != "0.00"
        cells.append(
            {
                "x": column * width / columns,
                "y": row * height / rows,
                "colour": RAISES if share > 0 else LOWERS,
                "opacity": round(_CELL_OPACITY * abs(share) / largest, 3) if largest else 0.0,
                "share": signed(share, 3),
                "number": signed(share) if numbered else "",
            }
        )
    return {
        "title": view.title if len(view.names) == 1 else f"{view.names[index]}, {view.title}",
        "uri": png_uri(view.grey(index)),
        "width": width,
        "height": height,
        "cell_width": width / columns,
        "cell_height": height / rows,
        "cells": cells,
        "largest": f"{largest:.2f}",
        "sum": signed(float(heat.sum())),
    }


def _span(span: Span, strongest: float) -> dict[str, Any]:
    strength = abs(span.share) / strongest if strongest else 0.0
    colour = RAISES if span.share > 0 else LOWERS
    alpha = round(255 * _WORD_OPACITY * strength)
    said = f"{signed(span.share, 3)} log-odds"
    return {
        "text": span.text,
        "shaded": bool(span.share),
        "background": f"{colour}{alpha:02x}",
        "negated": span.negated,
        "tip": said + (", negated" if span.negated else ""),
    }


def _series(view: SeriesView) -> dict[str, Any]:
    ordered = sorted(view.series, key=lambda series: -abs(series.share))
    shown = [series for series in ordered if len(series.values)][:_MAX_SERIES]
    return {
        "svg": svg(_charts(shown, view), f"{view.title}: measured over time") if shown else "",
        "facts": [(name, value, signed(share)) for name, value, share in view.facts],
        "others": len(ordered) - len(shown),
    }


def _charts(shown: list[Series], view: SeriesView) -> Figure:
    """Draw one small chart per quantity, with a line where the prediction was made."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(9.6, 1.75 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    hours = [[(time - view.as_of).total_seconds() / 3600 for time in series.times] for series in shown]
    earliest = min(min(times) for times in hours)
    scale, unit = (1.0, "hours") if earliest > -96 else (24.0, "days")
    start = min(earliest / scale, -1.0)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, series, times in zip(grid.flat, shown, hours, strict=False):
        _chart(axes, series, [time / scale for time in times])
        axes.set_xlim(1.06 * start, -0.04 * start)
    for axes in grid[-1]:
        axes.set_xlabel(f"{unit} before the prediction", fontsize=8, color="#7b8794")
    return figure


def _chart(axes: Axes, series: Series, times: list[float]) -> None:
    colour = RAISES if series.share > 0 else LOWERS if series.share < 0 else "#7b8794"
    axes.axvline(0.0, color="#1f2933", linewidth=1, linestyle=(0, (3, 2)))
    axes.plot(times, list(series.values), "-", color="#9aa5b1", linewidth=1)
    axes.plot(times, list(series.values), "o", color=colour, markersize=3.5)
    unit = f" ({series.unit})" if series.unit else ""
    name = series.name if len(series.name) <= 26 else series.name[:25] + "…"
    axes.set_title(f"{name}{unit}", loc="left", fontsize=9, color="#1f2933", parse_math=False)
    axes.set_title(signed(series.share), loc="right", fontsize=9, fontweight="bold", color=colour)
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#cbd2d9")
    axes.tick_params(labelsize=7.5, colors="#7b8794", length=2)
