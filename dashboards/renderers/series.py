"""Measured quantities over time, and facts without a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards.language import _, number, term, when
from dashboards.reasons import unit_text
from dashboards.renderers.tables import table
from medfusion.core.views import Series, SeriesView
from medfusion.outputs.fold import VISIBLE
from medfusion.outputs.ledger import signed
from medfusion.outputs.waterfall import LOWERS, RAISES

_SHOWN = 6
_COLUMNS = 3
_HEIGHT = 170
_NEUTRAL = "#7b8794"
_TIME: dict[str, Any] = {
    "field": "time",
    "type": "temporal",
    "title": None,
    "axis": {"tickCount": 4, "format": "%m-%d %H:%M", "labelOverlap": True},
}
_VALUE: dict[str, Any] = {
    "field": "value",
    "type": "quantitative",
    "title": None,
    "scale": {"zero": False},
    "axis": {"tickCount": 4, "format": "~g"},
}


def render_series(view: SeriesView, key: str) -> None:
    """Draw the quantities with the largest shares, and those that the reader asks for; facts as a table.

    Parameters
    ----------
    view : SeriesView
    key : str
        Unique on the page.
    """
    st.subheader(view.title)
    ordered = sorted((each for each in view.series if len(each.values)), key=lambda each: -abs(each.share))
    if ordered:
        _charts(view, ordered, key)
    if view.facts:
        columns = _("What"), _("Value"), _("Log-odds")
        facts = [(term(name), term(value), signed(share)) for name, value, share in view.facts]
        table([dict(zip(columns, fact, strict=True)) for fact in facts])


@st.fragment
def _charts(view: SeriesView, ordered: Sequence[Series], key: str) -> None:
    by_name = {each.name: each for each in ordered}
    names = list(by_name)
    shown = st.multiselect(_("Quantities"), names, names[:_SHOWN], format_func=term, key=f"{key}-shown")
    since = min((time for name in shown for time in by_name[name].times), default=view.as_of)
    for start in range(0, len(shown), _COLUMNS):
        for column, name in zip(st.columns(_COLUMNS), shown[start : start + _COLUMNS], strict=False):
            with column:
                st.vega_lite_chart(chart(by_name[name], since, view.as_of), width="stretch", height=_HEIGHT)
    said = [_("The dashed line is the time of the prediction; the number is what the quantity added, in log-odds.")]
    if any(each.low is not None or each.high is not None for each in ordered):
        said.append(_("Grey: the cohort's reference range; triangles lie outside of it."))
    st.caption(" ".join(said))
    with st.expander(_("As a table")):
        table([row for name in shown for row in rows(by_name[name])])


def chart(series: Series, since: datetime, as_of: datetime) -> dict[str, Any]:
    """Draw one quantity, coloured where it moved the risk.

    Parameters
    ----------
    series : Series
    since, as_of : datetime
        Ends of the axis of time; ``as_of`` is the time of the prediction.

    Returns
    -------
    dict
        A Vega-Lite specification; as such, and not by a library that builds and checks one, because a page has several.
    """
    moved = abs(series.share) >= VISIBLE
    colour = _NEUTRAL if not moved else RAISES if series.share > 0 else LOWERS
    name, unit = term(series.name), f" ({unit_text(series.unit)})" if series.unit else ""
    values = [
        {"time": time.isoformat(), "value": float(value), "outside": is_outside(series, value)}
        for time, value in zip(series.times, series.values, strict=True)
    ]
    span = {"domain": [since.isoformat(), as_of.isoformat()]}
    x = {**_TIME, "scale": span}
    outside = {"domain": [False, True], "range": ["circle", "triangle-up"]}
    points = {
        "x": x,
        "y": _VALUE,
        "shape": {"field": "outside", "type": "nominal", "legend": None, "scale": outside},
        "tooltip": [
            {"field": "time", "type": "temporal", "title": _("Time"), "format": "%Y-%m-%d %H:%M"},
            {"field": "value", "type": "quantitative", "title": name + unit},
        ],
    }
    layers = [
        *_reference(series),
        _layer([{"time": as_of.isoformat()}], {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5}, {"x": x}),
        _layer(values, {"type": "line", "strokeWidth": 1.2}, {"x": x, "y": _VALUE}),
        _layer(values, {"type": "point", "filled": True, "size": 70 if moved else 40, "opacity": 1}, points, colour),
    ]
    title = {"text": f"{name}{unit}  {signed(series.share)}", "anchor": "start", "fontSize": 13, "limit": 300}
    described = _("{name} over time, {n} values").format(name=name, n=len(series.values))
    return {"layer": layers, "title": title, "description": described}


def _layer(
    values: list[dict[str, Any]], mark: dict[str, Any], encoding: dict[str, Any], colour: str = _NEUTRAL
) -> dict[str, Any]:
    return {"data": {"values": values}, "mark": {"color": colour, **mark}, "encoding": encoding}


def _reference(series: Series) -> list[dict[str, Any]]:
    """Return the band of the reference range, open to the side on which the cohort gives no end."""
    if series.low is None and series.high is None:
        return []
    encoding = {
        "y": {"value": "height"} if series.low is None else {"datum": series.low, "type": "quantitative"},
        "y2": {"value": 0} if series.high is None else {"datum": series.high},
    }
    return [_layer([{}], {"type": "rect", "opacity": 0.18}, encoding)]


def is_outside(series: Series, value: float) -> bool:
    """Tell whether a value lies outside of the reference range that the cohort gives.

    Examples
    --------
    >>> from datetime import datetime
    >>> lactate = Series("lactate", "mmol/L", [datetime(2020, 1, 1)], [4.7], 0.8, high=2.0)
    >>> is_outside(lactate, 4.7), is_outside(lactate, 0.1)
    (True, False)
    """
    return (series.low is not None and value < series.low) or (series.high is not None and value > series.high)


def rows(series: Series) -> list[dict[str, str]]:
    """Return the values of a quantity as rows of a table, in order of time."""
    reference = ""
    if series.low is not None or series.high is not None:
        low, high = ("" if end is None else number(end) for end in (series.low, series.high))
        reference = f"{low}\N{EN DASH}{high}"
    return [
        {
            _("What"): term(series.name),
            _("Time"): when(time),
            _("Value"): f"{number(value)} {unit_text(series.unit)}".strip(),
            _("Reference"): reference,
        }
        for time, value in zip(series.times, series.values, strict=True)
    ]
