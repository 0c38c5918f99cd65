"""Tables of what came from the data: as text, where Streamlit's own would read it as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

_STYLE = """<style>
.mf-table { overflow: auto; max-height: 26rem; font-size: 0.9rem; margin-bottom: 1rem; }
.mf-table table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.mf-table th, .mf-table td { text-align: left; padding: 0.25rem 0.6rem; white-space: pre-wrap; }
.mf-table tr { border-bottom: 1px solid color-mix(in srgb, currentColor 22%, transparent); }
</style>"""


def table(rows: Sequence[Mapping[str, str]]) -> None:
    """Draw rows with equal keys, which are the head of the table."""
    if rows:
        st.html(_STYLE + table_html(rows))


def table_html(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table as HTML, everything in it escaped.

    Examples
    --------
    >>> "<td>&lt;sex&gt;</td>" in table_html([{"What": "<sex>"}])
    True
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.values())}</tr>" for row in rows)
    # Whoever has no mouse can scroll what can be focused.
    return (
        f'<div class="mf-table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
