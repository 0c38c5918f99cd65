"""What if a value were another, or a kind of data were not there? Answered beside the real risk, never in its place."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboards import context
from dashboards.language import _, number, percent, signed, term
from dashboards.look import Look
from dashboards.reasons import unit_text
from dashboards.renderers import waterfall
from medfusion.core.edits import Changed, EditableValue
from medfusion.core.errors import UsageError
from medfusion.outputs.ledger import RiskReport
from medfusion.review import Action, ReviewUnavailable

_ASKED = "whatif_asked"


@st.fragment
def whatif(look: Look, visit: int) -> None:
    """Draw the panel; only it is drawn again when something in it changes.

    Parameters
    ----------
    look : Look
    visit : int
        Tells apart the widgets of one patient from those of the next.
    """
    st.info(_("Hypothetical: nothing here is recorded as this patient's data or risk."), icon=":material/science:")
    changes, without = _changes(look, visit), _without(look, visit)
    if not changes and not without:
        st.caption(_("Choose what to change, and the risk is worked out again from the changed record."))
        return
    try:
        report = look.patient.what_if(changes, without)
    except UsageError as error:
        st.error(str(error))
        return
    _note(look, report, visit)
    _compare(look.report, report, visit)


def _changes(look: Look, visit: int) -> dict[str, dict[str, Changed]]:
    """Ask which values to change, and to what."""
    values = {(name, value.name): value for name, each in look.patient.editable().items() for value in each}
    if not values:
        return {}
    chosen = st.multiselect(
        _("Values to change"),
        list(values),
        format_func=lambda key: _named(values[key]),
        placeholder=_("Choose a value"),
        key=f"whatif-values-{visit}",
    )
    changes: dict[str, dict[str, Changed]] = {}
    for key in chosen:
        changed = _asked(values[key], f"whatif-value-{visit}-{list(values).index(key)}")
        if changed != values[key].value:
            changes.setdefault(key[0], {})[values[key].name] = changed
    return changes


def _asked(value: EditableValue, key: str) -> Changed:
    """Ask for one value; an empty field means that it was not recorded."""
    label, hint = _named(value), _("Empty: as if it had not been recorded")
    if value.choices:
        place = None if value.value is None else value.choices.index(str(value.value))
        return st.selectbox(label, value.choices, place, format_func=term, placeholder=hint, key=key, help=hint)
    recorded = value.value if isinstance(value.value, float) else None
    low, high = _bounds(value, recorded)
    said = hint
    if value.low is not None and value.high is not None:
        span = {"low": number(value.low), "high": number(value.high)}
        said += " · " + _("the model has learnt from {low} to {high}").format(**span)
    return st.number_input(label, low, high, recorded, format="%.6g", placeholder=hint, key=key, help=said)


def _bounds(value: EditableValue, recorded: float | None) -> tuple[float | None, float | None]:
    """Return the range of the field, which holds what was recorded even where the model has never seen such a value."""
    if value.low is None or value.high is None:
        return None, None
    known = [value.low, value.high] if recorded is None else [value.low, value.high, recorded]
    return min(known), max(known)


def _without(look: Look, visit: int) -> list[str]:
    present = [name for name, here in look.report.present.items() if here]
    return st.multiselect(
        _("Leave out"), present, format_func=term, placeholder=_("A kind of data"), key=f"whatif-without-{visit}"
    )


def _named(value: EditableValue) -> str:
    """Name a value with what was recorded."""
    name = term(value.name)
    if value.value is None:
        return _("{name}: not recorded").format(name=name)
    said = number(value.value) if isinstance(value.value, float) else term(value.value)
    return f"{name}: {said} {unit_text(value.unit)}".rstrip()


def _note(look: Look, report: RiskReport, visit: int) -> None:
    """Put the question on the audit trail, once."""
    asked = (visit, tuple(report.hypothetical))
    if st.session_state.get(_ASKED) == asked:
        return
    detail = {"changes": list(report.hypothetical)}
    try:
        context.store().note(context.reader().name, Action.WHAT_IF, detail, look.about)
    except ReviewUnavailable:
        st.warning(_("This question could not be put on the audit trail: the database cannot be reached."))
        return
    st.session_state[_ASKED] = asked


def _compare(real: RiskReport, hypothetical: RiskReport, visit: int) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.metric(_("As recorded"), percent(real.explanation.risk))
        waterfall(real, f"whatif-real-{visit}", context.units())
    with right:
        moved = 100 * (hypothetical.explanation.risk - real.explanation.risk)
        said = _("{change} points").format(change=signed(moved))
        # The sign is a minus, which is no hyphen: the arrow has to be told.
        arrow: Literal["up", "down", "off"] = "up" if moved > 0 else "down" if moved < 0 else "off"
        st.metric(_("Hypothetical"), percent(hypothetical.explanation.risk), said, delta_color="off", delta_arrow=arrow)
        waterfall(hypothetical, f"whatif-hypothetical-{visit}", context.units())
    for each in hypothetical.hypothetical:
        st.text(each)
