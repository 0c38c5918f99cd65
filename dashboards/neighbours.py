"""From one patient of the worklist to the next, in the order of the list."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboards import context
from dashboards.scores import Query, Row
from medfusion.review import Scored

QUERY, START = "worklist_query", "worklist_start"
"""Where a session keeps what the worklist shows."""
_STRETCH = "patient_stretch"
_LENGTH = 100


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the worklist: what it was asked for, the place of its first patient, and its patients."""

    query: Query
    first: int
    people: tuple[Scored, ...]

    def ends_at(self, about: Scored) -> int | None:
        """Return where a stretch has to begin for a patient to have both neighbours in it; None if this one does."""
        if self.first and about == self.people[0]:
            return max(0, self.first - _LENGTH // 2)
        return self.first + _LENGTH // 2 if len(self.people) == _LENGTH and about == self.people[-1] else None


def neighbours(about: Scored) -> tuple[Scored | None, Scored | None]:
    """Return who comes before and after a patient in the worklist; None at its ends, and for whoever is not in it.

    The order is that in which the list was left: a decision on the way moves nobody.
    """
    query, kept = st.session_state.get(QUERY), st.session_state.get(_STRETCH)
    if not isinstance(query, Query):
        return None, None
    if not isinstance(kept, _Stretch) or kept.query != query or about not in kept.people:
        kept = _stretch(query, max(0, st.session_state.get(START, 0) - _LENGTH // 2))
    if about in kept.people and (begin := kept.ends_at(about)) is not None:
        kept = _stretch(query, begin)
    st.session_state[_STRETCH] = kept
    if about not in kept.people:
        return None, None
    place = kept.people.index(about)
    return (kept.people[place - 1] if place else None), next(iter(kept.people[place + 1 :]), None)


def _stretch(query: Query, first: int) -> _Stretch:
    scores = context.scores()
    page = scores.page(query, first, _LENGTH, context.store().summary(zoned=scores.zoned))
    return _Stretch(query, first, tuple(_about(row) for row in page.rows))


def _about(row: Row) -> Scored:
    return Scored(row.subject_id, row.prediction_time, row.model_id, row.input_hash)
