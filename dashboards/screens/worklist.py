"""Who needs a look: scored patients by risk, with reasons, flags, and what readers have decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards import context
from dashboards.filters import filters
from dashboards.language import _, ngettext, number
from dashboards.rows import Shown, columns, labels
from dashboards.scores import Order, Query, Row
from dashboards.table import table
from medfusion.review import ReviewStore, Scored

SIZE = 25
"""Rows of a page."""
_START, _QUERY, _ORDER = "worklist_start", "worklist_query", "worklist_order"


def main() -> None:
    """Draw the worklist."""
    st.title(_("Worklist"))
    scores, store, blinded = context.scores(), context.store(), context.settings().blinded
    order, descending = st.session_state.get(_ORDER, (Order.SUBJECT, False) if blinded else (Order.RISK, True))
    query = filters(scores.modalities, order, descending, blinded)
    if st.session_state.get(_QUERY) != query:
        st.session_state[_QUERY], st.session_state[_START] = query, 0
    start = st.session_state[_START]
    page = scores.page(query, start, SIZE, context.decided(scores.zoned))
    _head(page.total, scores.left_out, blinded)
    if not page.rows:
        st.info(_("No patient matches these filters."))
        return
    shown = Shown(context.units(), _own(store, page.rows) if blinded else None)
    told, opened = table(columns(query, blinded), [shown.row(row) for row in page.rows], labels(), "worklist")
    _turn(start, page.total)
    if told:
        _sort(query, Order(told))
    if opened:
        _open(page.rows, opened)


def _head(total: int, left_out: int, blinded: bool) -> None:
    said = ngettext("{n} sample", "{n} samples", total).format(n=number(total, 12))
    if blinded:
        said += " · " + _("blinded: risks are hidden until your first opinion of a patient")
    st.caption(said)
    if left_out:
        some = ngettext(
            "{n} part of these scores is not finished or damaged, and is left out.",
            "{n} parts of these scores are not finished or damaged, and are left out.",
            left_out,
        )
        st.warning(some.format(n=left_out), icon=":material/warning:")


def _own(store: ReviewStore, rows: Sequence[Row]) -> frozenset[tuple[str, datetime]]:
    """Return the samples of which the reader has recorded an opinion."""
    name = context.reader().name
    return frozenset(
        (row.subject_id, row.prediction_time)
        for row in rows
        if row.readers and any(decision.reader == name for decision in store.decisions(_about(row)))
    )


def _turn(start: int, total: int) -> None:
    """Draw where the reader is, and the ways back and on."""
    last = min(start + SIZE, total)
    back, where, on = st.columns([1, 2, 1], vertical_alignment="center")
    said = _("{first} to {last} of {total}")
    where.markdown(said.format(first=number(start + 1, 12), last=number(last, 12), total=number(total, 12)))
    turn: dict[str, Any] = {"on_click": _go, "width": "stretch"}
    back.button(_("Previous page"), disabled=start == 0, args=(start - SIZE,), icon=":material/chevron_left:", **turn)
    on.button(_("Next page"), disabled=last == total, args=(start + SIZE,), icon=":material/chevron_right:", **turn)


def _go(start: int) -> None:
    st.session_state[_START] = start


def _sort(query: Query, order: Order) -> None:
    """Sort by another column, or by the same the other way round."""
    turned = not query.descending if order is query.order else order is not Order.SUBJECT
    st.session_state[_ORDER] = (order, turned)
    st.rerun()


def _open(rows: Sequence[Row], opened: Mapping[str, str]) -> None:
    """Go to a patient; one that is no longer on the page is not opened."""
    for row in rows:
        if (row.subject_id, row.prediction_time.isoformat()) == (opened["subject"], opened["time"]):
            st.session_state["about"] = _about(row)
            st.switch_page("screens/patient.py")


def _about(row: Row) -> Scored:
    return Scored(row.subject_id, row.prediction_time, row.model_id, row.input_hash)


if __name__ == "__main__":
    main()
