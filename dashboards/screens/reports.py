"""How good the risks are: reports of evaluate, compare, drift and recalibrate, each picture with its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import context
from dashboards.language import _, number
from medfusion.outputs.report import Report, Shown, read_report

_FILE = "report.json"
_LARGE = 4
"""Figures of the headline that are shown large."""


def main() -> None:
    """Draw one of the reports that the dashboard was started with."""
    st.title(_("Cohort"))
    folders = context.settings().reports
    if not folders:
        st.info(
            _(
                "No report was named. Write one, for instance with medfusion evaluate or medfusion drift, and start "
                "the dashboard with its folder: --report FOLDER."
            )
        )
        return
    chosen = folders[0]
    if len(folders) > 1:
        chosen = st.radio(_("Report"), folders, format_func=_title, horizontal=True)
    _draw(_read(chosen))


def _title(folder: Path) -> str:
    return _read(folder).title


@st.cache_data(show_spinner=False)
def _read(folder: Path) -> Report:
    return read_report(folder / _FILE)


def _draw(report: Report) -> None:
    st.header(report.title)
    for place, sentence in enumerate(report.lead):
        st.markdown(f"**{_plain(sentence)}**" if place == 0 else _plain(sentence))
    _headline(report.headline)
    for tab, panel in zip(st.tabs([panel.title for panel in report.panels]), report.panels, strict=True):
        with tab:
            _panel(panel, report.title)
    with st.expander(_("What the numbers rest on"), expanded=True):
        for name, value in report.basis.items():
            st.markdown(f"**{_plain(name)}:** {_plain(value)}")
        for note in report.notes:
            st.markdown(_plain(note))


def _headline(table: pd.DataFrame) -> None:
    """Show the first figures large, with their intervals, and all of them in a table."""
    rows: list[dict[str, Any]] = table.to_dict(orient="records")  # type: ignore[assignment]
    for column, row in zip(st.columns(_LARGE), rows[:_LARGE], strict=False):
        value, low, high = row["value"], row["low"], row["high"]
        with column.container(border=True):
            st.metric(str(row["label"]), _("not known") if pd.isna(value) else number(value), help=str(row["meaning"]))
            known = not (pd.isna(low) or pd.isna(high))
            st.caption(_("{low} to {high}").format(low=number(low), high=number(high)) if known else str(row["note"]))
    if len(rows) > _LARGE:
        with st.expander(_("All figures")):
            st.dataframe(table, hide_index=True, width="stretch")


def _panel(panel: Shown, report: str) -> None:
    """Draw a picture, the table behind it, and ways to take both along."""
    st.subheader(panel.title)
    st.caption(_plain(panel.caption))
    # As an image, so that nothing in a file can act.
    st.image(panel.picture, caption=panel.title, width="content", alt=_plain(panel.caption) or panel.title)
    name = "-".join(f"{report} {panel.title}".lower().split())
    st.dataframe(panel.table, hide_index=True, width="stretch")
    table, picture = st.columns(2)
    keys: dict[str, Any] = {"icon": ":material/download:", "on_click": "ignore", "width": "stretch"}
    table.download_button(
        _("Table (CSV)"), panel.table.to_csv(index=False), f"{name}.csv", "text/csv", key=f"csv {name}", **keys
    )
    picture.download_button(
        _("Picture (SVG)"), panel.picture, f"{name}.svg", "image/svg+xml", key=f"svg {name}", **keys
    )


def _plain(said: object) -> str:
    """Return a text whose characters mean nothing in Markdown."""
    return "".join(f"\\{each}" if each in r"\`*_[]<>|$#~:" else each for each in str(said))


if __name__ == "__main__":
    main()
