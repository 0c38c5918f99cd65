"""The report of an evaluation: as one page for people, and as JSON for a screen that shows it in parts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from medfusion.core.errors import UsageError
from medfusion.core.files import write_text
from medfusion.outputs.page import drawn, embedded, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
_CARDS = 4
_MAX_BYTES = 256 * 2**20
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with its table, as a report holds them.

    Attributes
    ----------
    title, caption : str
    picture : str
        SVG.
    width_in : float
        Width of the picture in inches.
    table : DataFrame
    """

    title: str
    caption: str
    picture: str
    width_in: float
    table: pd.DataFrame

    @classmethod
    def of(cls, panel: Panel) -> Shown:
        """Draw a panel."""
        figure = panel.plot()
        return cls(panel.title, panel.caption, drawn(figure), float(figure.get_figwidth()), panel.frame())


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says.

    Attributes
    ----------
    title : str
    headline : DataFrame
        One row per figure: label, value, low, high, meaning, note; the first four are shown large.
    panels : sequence of Shown
    basis : mapping
        What the numbers rest on, such as ``{"Patients": 236, "Predictions": "out of fold"}``.
    notes : sequence of str
        What a reader has to know besides.
    lead : sequence of str
        Sentences with the answer, the first of them large, before any figure.
    """

    title: str
    headline: pd.DataFrame
    panels: Sequence[Shown]
    basis: Mapping[str, object]
    notes: Sequence[str] = ()
    lead: Sequence[str] = ()


def write_report(
    path: Path,
    title: str,
    headline: pd.DataFrame,
    panels: Sequence[Panel],
    basis: Mapping[str, object],
    notes: Sequence[str] = (),
    lead: Sequence[str] = (),
) -> None:
    """Write a report as one HTML file that needs no other, and beside it as JSON, with every row of every table.

    Parameters
    ----------
    path : Path
        Of the HTML file.
    title, headline, basis, notes, lead
        As in `Report`.
    panels : sequence of Panel
        Each becomes a picture with its table below.
    """
    report = Report(title, headline, [Shown.of(panel) for panel in panels], basis, notes, lead)
    write_text(path, _page(report))
    write_text(path.with_suffix(".json"), json.dumps(_values(report), allow_nan=False) + "\n")


def read_report(path: Path) -> Report:
    """Read what `write_report` wrote as JSON.

    Raises
    ------
    UsageError
        If the file is not there, or holds no such report.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path}: larger than any report")
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise UsageError(f"{path}: a report of another format; write it again with this version")
        panels = [Shown(**{**panel, "table": _table(panel["table"])}) for panel in values["panels"]]
        told = (values["basis"], values["notes"], values["lead"])
        return Report(values["title"], _table(values["headline"]), panels, *told)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read; write a report with: medfusion evaluate") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: not a report of medfusion") from error


def _page(report: Report) -> str:
    cards = report.headline.to_dict(orient="records")
    values = {
        "title": report.title,
        "cards": cards[:_CARDS],
        "others": cards[_CARDS:],
        "panels": [_panel(panel) for panel in report.panels],
        "basis": report.basis,
        "notes": report.notes,
        "lead": report.lead,
    }
    return render("report.html", values)


def _panel(panel: Shown) -> dict[str, Any]:
    shown = panel.table
    if len(shown) > _MAX_ROWS:
        shown = shown.iloc[np.linspace(0, len(shown) - 1, _MAX_ROWS).round().astype(int)]
    return {
        "title": panel.title,
        "caption": panel.caption,
        "svg": embedded(panel.picture, panel.width_in, f"{panel.title}. {panel.caption}"),
        "wide": panel.width_in > _WIDE,
        "columns": [str(column).replace("_", " ") for column in panel.table.columns],
        "rows": list(shown.itertuples(index=False)),
        "total": len(panel.table),
    }


def _values(report: Report) -> dict[str, Any]:
    """Return JSON values."""
    panels = [
        {
            "title": panel.title,
            "caption": panel.caption,
            "picture": panel.picture,
            "width_in": panel.width_in,
            "table": _rows(panel.table),
        }
        for panel in report.panels
    ]
    return {
        "format": FORMAT,
        "title": report.title,
        "headline": _rows(report.headline),
        "panels": panels,
        "basis": {name: _plain(value) for name, value in report.basis.items()},
        "notes": list(report.notes),
        "lead": list(report.lead),
    }


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    rows = [[_plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return {"columns": [str(column) for column in table.columns], "rows": rows}


def _table(values: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(values["rows"], columns=values["columns"])


def _plain(value: object) -> str | int | float | bool | None:
    """Return a JSON value; null for a number that is none."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, str | bool | int):
        return plain
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    return str(plain)
