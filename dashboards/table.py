"""The table of the worklist: a semantic HTML table, drawn in the browser from words that are ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_STATIC = Path(__file__).parent / "static"
_HTML = '<div class="frame" role="region" tabindex="0"></div>'
_table = st.components.v2.component(
    "medfusion.worklist",
    html=_HTML,
    css=(_STATIC / "worklist.css").read_text(encoding="utf-8"),
    js=(_STATIC / "worklist.js").read_text(encoding="utf-8"),
)


def table(
    columns: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str], key: str
) -> tuple[str | None, Mapping[str, str] | None]:
    """Show rows, and return what the reader has just asked for.

    Parameters
    ----------
    columns : sequence of mapping
        ``label``; ``order`` where it can be sorted by it, and ``sorted`` ("ascending", "descending") where it is.
    rows, labels : mappings of what is shown; see ``static/worklist.js``
    key : str

    Returns
    -------
    order : str or None
        That of the heading that was pressed.
    opened : mapping or None
        ``subject`` and ``time`` of the row that was opened.
    """
    said = _table(
        key=key,
        data={"columns": list(columns), "rows": list(rows), "labels": dict(labels)},
        on_sort_change=_nothing,
        on_opened_change=_nothing,
    )
    return said.sort, said.opened


def _nothing() -> None:
    """Exist: a component tells only what somebody listens to."""
