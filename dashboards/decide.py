"""What readers decide: the form, and what was decided before."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import context
from dashboards.language import N_, _, when
from medfusion.core.errors import UsageError
from medfusion.review import Decision, ReviewUnavailable, Scored, Verdict

_VERDICTS = {
    Verdict.AGREE: N_("Agree with the risk"),
    Verdict.OVERRIDE: N_("Override it"),
    Verdict.UNSURE: N_("Unsure"),
    Verdict.EXPECTED: N_("Event expected"),
    Verdict.NOT_EXPECTED: N_("Event not expected"),
}
_OPEN = (Verdict.AGREE, Verdict.OVERRIDE, Verdict.UNSURE)
_BLIND = (Verdict.EXPECTED, Verdict.NOT_EXPECTED, Verdict.UNSURE)
_ROUND = "decide_round"


def decided(about: Scored) -> list[Decision] | None:
    """Return what readers have decided, latest last; None, with a message, where the database cannot be read."""
    try:
        return context.store().decisions(about)
    except ReviewUnavailable:
        st.error(_("The decisions cannot be read now: the database is locked, gone, or not to be reached."))
        return None


def form(about: Scored, visit: int, *, blinded: bool = False) -> None:
    """Ask for a decision; what was typed stays until it is recorded.

    Parameters
    ----------
    about : Scored
    visit : int
        Tells apart the fields of one patient from those of the next.
    blinded : bool
        Whether the reader has not been shown the risk: then they are asked what they expect.
    """
    key = f"{visit}-{st.session_state.get(_ROUND, 0)}"
    with st.form(f"decide-{key}"):
        verdict = st.radio(
            _("Your opinion"),
            _BLIND if blinded else _OPEN,
            format_func=lambda each: _(_VERDICTS[each]),
            key=f"verdict-{key}",
        )
        reason = st.text_input(_("Reason"), key=f"reason-{key}", help=_("Needed to override."))
        comment = st.text_area(_("Comment"), key=f"comment-{key}")
        asked = st.form_submit_button(_("Record"), icon=":material/check:", width="stretch")
    if asked:
        _record(about, verdict, reason.strip(), comment.strip(), blinded=blinded)


def history(decisions: Sequence[Decision]) -> None:
    """List what readers have decided, the latest first."""
    if not decisions:
        st.caption(_("Nobody has decided yet."))
    for decision in reversed(decisions):
        head = {"reader": decision.reader, "verdict": _(_VERDICTS[decision.verdict]), "when": when(decision.time)}
        with st.container(border=True):
            st.text(_("{reader}: {verdict}").format(**head))
            said = [head["when"]] + ([_("without knowing the risk")] if decision.blinded else [])
            st.caption(" · ".join(said))
            for text in (decision.reason, decision.comment):
                if text:
                    st.text(text)


def _record(about: Scored, verdict: Verdict, reason: str, comment: str, *, blinded: bool) -> None:
    if verdict is Verdict.OVERRIDE and not reason:
        st.error(_("Not recorded yet: say why you override the risk."))
        return
    try:
        context.store().decide(about, context.reader().name, verdict, reason, comment, blinded)
    except ReviewUnavailable:
        said = _(
            "Not recorded: the database is locked, gone, or not to be reached. What you typed is still here; try again."
        )
        st.error(said)
    except UsageError:
        st.error(_("Not recorded: the text holds characters that cannot be kept. What you typed is still here."))
    else:
        st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
        st.toast(_("Recorded."), icon=":material/check:")
        st.rerun()
