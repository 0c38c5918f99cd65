"""Rows of the worklist in the reader's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboards.filters import FLAGS
from dashboards.language import N_, _, ngettext, percent, signed, term, when
from dashboards.reasons import reason_text
from dashboards.scores import Flag, Order, Query, Row

_VERDICTS = {
    "agree": N_("Agrees"),
    "override": N_("Overrides"),
    "unsure": N_("Unsure"),
    "expected": N_("Event expected"),
    "not-expected": N_("Event not expected"),
}
_STILL = 0.005
"""A change of the risk that is told as none."""


def columns(query: Query, blinded: bool) -> list[dict[str, Any]]:
    """Return the headings, with what each sorts by; a reader who is to be blind cannot sort by risk."""
    sorts = {
        _("Patient"): Order.SUBJECT,
        _("Risk"): None if blinded else Order.RISK,
        _("Change"): None if blinded else Order.CHANGE,
        _("Reasons"): None,
        _("Flags"): None,
        _("Decisions"): None,
    }
    direction = "descending" if query.descending else "ascending"
    return [
        {"label": label, "order": order, "sorted": direction if order is query.order else None}
        for label, order in sorts.items()
    ]


def labels() -> dict[str, str]:
    """Return the words of the table itself."""
    return {"caption": _("Patients"), "open": _("Open patient"), "open_review": _("Not reviewed")}


@dataclass(frozen=True, slots=True)
class Shown:
    """How rows are shown to one reader.

    Attributes
    ----------
    units : mapping from code to UCUM unit
    own : frozenset of (subject_id, prediction_time), or None
        Patients of whom the reader has given an opinion, where all others are hidden; None where nothing is.
    """

    units: Mapping[str, str]
    own: frozenset[tuple[str, datetime]] | None = None

    def row(self, row: Row) -> dict[str, Any]:
        """Return what the table shows of a sample; of a hidden one, nothing that gives its risk away."""
        who = {
            "subject": row.subject_id,
            "time": row.prediction_time.isoformat(),
            "when": when(row.prediction_time),
            "readers": _readers(row.readers),
        }
        if self.own is not None and (row.subject_id, row.prediction_time) not in self.own:
            hidden = _("Hidden until your first opinion")
            verdict = _("Reviewed") if row.readers else ""
            flags = _flags(row, row.flags - {Flag.ABSTAIN})
            return {**who, "hidden": hidden, "change": None, "reasons": [], "flags": flags, "verdict": verdict}
        return {
            **who,
            "hidden": "",
            "risk": row.risk,
            "low": row.risk_low,
            "high": row.risk_high,
            "said": percent(row.risk),
            "interval": _interval(row),
            "change": _change(row),
            "reasons": [
                {"text": reason_text(reason, self.units), "raises": reason.share > 0} for reason in row.reasons
            ],
            "flags": _flags(row, row.flags),
            "verdict": _(_VERDICTS[row.verdict]) if row.verdict else "",
        }


def _interval(row: Row) -> str:
    if row.risk_low is None or row.risk_high is None:
        return ""
    return _("{low} to {high}").format(low=percent(row.risk_low), high=percent(row.risk_high))


def _change(row: Row) -> dict[str, Any] | None:
    if row.change is None:
        return None
    if abs(row.change) < _STILL:
        return {"text": _("unchanged"), "raises": None}
    said = _("{change} points").format(change=signed(100 * row.change, "0"))
    return {"text": said, "raises": row.change > 0}


def _flags(row: Row, flags: frozenset[Flag]) -> list[dict[str, str]]:
    shown = [
        {"text": _(FLAGS[flag]), "style": "strong"} for flag in (Flag.ABSTAIN, Flag.OUT_OF_DOMAIN) if flag in flags
    ]
    return shown + [{"text": _("no {data}").format(data=term(name)), "style": "quiet"} for name in row.missing]


def _readers(number: int) -> str:
    return ngettext("{n} reader", "{n} readers", number).format(n=number) if number else ""
