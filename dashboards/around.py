"""Beside a patient's own data: what is missing and what it would be worth, and patients who are like this one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import context
from dashboards.language import _, number, percent, term, when
from dashboards.look import Look
from medfusion.core.errors import DataError
from medfusion.pipeline import Similar, Worth

_MOST = 5
_SAME = 0.005
"""Risks that differ by less are told as one."""


def missing(look: Look) -> None:
    """Say which kinds of data were not there, and where the risk would probably end with them."""
    worth = look.patient.worth()
    if not worth:
        st.caption(_("Everything that the model knows how to use is there."))
    for each in worth:
        st.markdown(f"**{term(each.modality)}**")
        st.caption(_worth(each))


def _worth(worth: Worth) -> str:
    if worth.low is None or worth.high is None:
        return _("What it would be worth is not known: this model was trained by an earlier version.")
    if worth.high - worth.low < _SAME:
        return _("It would hardly move the risk: the model does not go by it.")
    ends = {"low": percent(worth.low), "high": percent(worth.high)}
    said = _(
        "If it were there, the risk would probably end between {low} and {high}: so it would for 8 of 10 patients."
    )
    return said.format(**ends)


@st.fragment
def similar(look: Look, visit: int) -> None:
    """Show patients of the training cohort who are like this one, when asked: to read them all takes a while once."""
    if context.settings().training is None:
        st.caption(_("To see similar patients, start the dashboard with the training cohort: --training COHORT"))
        return
    if not st.toggle(_("Show similar patients of the training cohort"), key=f"similar-{visit}"):
        return
    try:
        with st.spinner(_("Reading the training cohort; this takes a while the first time.")):
            training = context.training()
    except DataError:
        st.error(_("The training cohort cannot be read. Run: medfusion validate COHORT"))
        return
    found = [] if training is None else training.similar(look.patient, _MOST)
    if not found:
        st.caption(_("There is nobody to compare with."))
        return
    st.table(_rows(found))
    events = sum(each.event for each in found)
    said = _("{events} of these {n} had the event. Distance: 0 is the same patient, 1 is chance.")
    st.caption(said.format(events=events, n=len(found)))


def _rows(found: Sequence[Similar]) -> list[dict[str, str]]:
    return [
        {
            _("Patient"): each.subject_id,
            _("Seen from"): when(each.prediction_time),
            _("Event"): _("yes") if each.event else _("no"),
            _("Risk at the time"): percent(each.risk),
            _("Distance"): number(each.distance, 2),
            _("Compared by"): ", ".join(term(name) for name in each.compared),
        }
        for each in found
    ]
