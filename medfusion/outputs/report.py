"""The report of an evaluation, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from medfusion.core.files import write_text
from medfusion.outputs.page import render, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CARDS = 4
_MAX_ROWS = 60
_WIDE = 6.0
"""Inches beyond which a picture gets a row of its own."""


class Panel(Protocol):
    """A figure that yields its table and its picture."""

    @property
    def title(self) -> str:
        """The heading."""

    @property
    def caption(self) -> str:
        """How to read it."""

    def frame(self) -> pd.DataFrame:
        """Return the table."""

    def plot(self) -> Figure:
        """Return the picture."""


def write_report(
    path: Path,
    title: str,
    headline: pd.DataFrame,
    panels: Sequence[Panel],
    basis: Mapping[str, object],
    notes: Sequence[str] = (),
    lead: Sequence[str] = (),
) -> None:
    """Write a report as one HTML file that needs no other.

    Parameters
    ----------
    path : Path
    title : str
    headline : DataFrame
        One row per figure: label, value, low, high, meaning, note; the first four are shown large.
    panels : sequence of Panel
        Each becomes a picture with its table below.
    basis : mapping
        What the numbers rest on, such as ``{"Patients": 236, "Predictions": "out of fold"}``.
    notes : sequence of str
        What a reader has to know besides.
    lead : sequence of str
        Sentences with the answer, the first of them large, before any figure.
    """
    cards = headline.to_dict(orient="records")
    values = {
        "title": title,
        "cards": cards[:_CARDS],
        "others": cards[_CARDS:],
        "panels": [_panel(panel) for panel in panels],
        "basis": basis,
        "notes": notes,
        "lead": lead,
    }
    write_text(path, render("report.html", values))


def _panel(panel: Panel) -> dict[str, Any]:
    frame = panel.frame()
    shown = frame
    if len(frame) > _MAX_ROWS:
        shown = frame.iloc[np.linspace(0, len(frame) - 1, _MAX_ROWS).round().astype(int)]
    figure = panel.plot()
    return {
        "title": panel.title,
        "caption": panel.caption,
        "svg": svg(figure, f"{panel.title}. {panel.caption}"),
        "wide": figure.get_figwidth() > _WIDE,
        "columns": [str(column).replace("_", " ") for column in frame.columns],
        "rows": list(shown.itertuples(index=False)),
        "total": len(frame),
    }
