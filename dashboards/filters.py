"""The filters beside the worklist."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards.language import N_, _, term
from dashboards.scores import Flag, Order, Query

FLAGS = {
    Flag.ABSTAIN: N_("Model abstains"),
    Flag.OUT_OF_DOMAIN: N_("Unlike the training"),
    Flag.MISSING: N_("Data missing"),
}
"""Flags in words."""
_REVIEWED = {None: N_("All"), False: N_("Not reviewed"), True: N_("Reviewed")}


def filters(modalities: Sequence[str], order: Order, descending: bool, blinded: bool) -> Query:
    """Draw the filters, and return what they ask for.

    Parameters
    ----------
    modalities : sequence of str
    order, descending
        What the table is sorted by.
    blinded : bool
        Whether risks are hidden; what would give them away is then not offered.
    """
    with st.sidebar:
        st.subheader(_("Filters"))
        text = st.text_input(_("Patient"), placeholder=_("Part of the patient's name"), key="filter_text")
        least, most = (0, 100) if blinded else st.slider(_("Risk"), 0, 100, (0, 100), format="%d%%", key="filter_risk")
        offered = [flag for flag in Flag if not (blinded and flag is Flag.ABSTAIN)]
        flags = st.multiselect(
            _("Flags"), offered, format_func=lambda flag: _(FLAGS[flag]), placeholder=_("Any"), key="filter_flags"
        )
        missing = st.multiselect(
            _("Without"), modalities, format_func=term, placeholder=_("Any kind of data"), key="filter_missing"
        )
        reviewed = st.radio(
            _("Decisions"), list(_REVIEWED), format_func=lambda each: _(_REVIEWED[each]), key="filter_reviewed"
        )
    return Query(
        least=least / 100,
        most=most / 100,
        flags=frozenset(flags),
        missing=frozenset(missing),
        reviewed=reviewed,
        text=text.strip(),
        order=order,
        descending=descending,
    )
