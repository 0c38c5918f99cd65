"""One patient: the risk and its reasons, the data behind it, and what readers decide."""

from __future__ import annotations

from math import exp

import streamlit as st

from dashboards import context
from dashboards.around import missing, similar
from dashboards.decide import decided, form, history
from dashboards.language import N_, _, percent, signed, term, when
from dashboards.look import ABOUT, Look, NotThere, look
from dashboards.neighbours import neighbours
from dashboards.printed import download
from dashboards.renderers import render_all, waterfall
from dashboards.whatif import whatif
from medfusion.outputs.ledger import RiskReport
from medfusion.review import Scored

_VISIT, _HERE = "patient_visit", "patient_worklist"
_FINDINGS = {
    "abstain-undecided": N_("A person has to decide: the model can rule out neither outcome."),
    "abstain-unusual": N_(
        "A person has to decide: this risk fits neither patients with the event nor patients without it."
    ),
    "seen-in-training": N_("A patient of the training cohort: the part of the model that has not seen them answers."),
    "no-data": N_("Nothing is known of this patient: the risk is that of the average patient."),
}


def main() -> None:
    """Draw the patient."""
    about = st.session_state.get(ABOUT)
    # A button that was drawn in the run before is in the session's state: else the reader has just come here.
    arrived = _HERE not in st.session_state or st.session_state.get("patient_about") is not about
    _ways(about if isinstance(about, Scored) else None)
    if not isinstance(about, Scored):
        st.title(_("Patient"))
        st.info(_("Choose a patient in the worklist."))
        return
    if arrived:
        # First of all: nothing is shown that is not on the audit trail.
        context.store().saw(about, context.reader().name, "patient")
        st.session_state["patient_about"] = about
        st.session_state[_VISIT] = st.session_state.get(_VISIT, 0) + 1
    st.title(about.subject_id)
    try:
        with st.spinner(_("Opening the patient")):
            shown = look(about, again=arrived)
    except NotThere as error:
        st.error(str(error), icon=":material/person_off:")
        return
    _patient(shown, st.session_state[_VISIT])


def _ways(about: Scored | None) -> None:
    """Draw the ways to the worklist, and to its next and previous patient."""
    back, previous, following = st.columns(3)
    if back.button(_("Worklist"), key=_HERE, icon=":material/list:", width="stretch"):
        st.switch_page("screens/worklist.py")
    before, after = (None, None) if about is None else neighbours(about)
    for place, said, whom, side in (
        (previous, _("Previous patient"), before, "left"),
        (following, _("Next patient"), after, "right"),
    ):
        icon = f":material/chevron_{side}:"
        key = f"patient-{side}"
        place.button(said, key=key, disabled=whom is None, on_click=_go, args=(whom,), icon=icon, width="stretch")


def _go(whom: Scored) -> None:
    st.session_state[ABOUT] = whom


def _patient(shown: Look, visit: int) -> None:
    about, decisions = shown.about, decided(shown.about)
    mine = [each for each in decisions or () if each.reader == context.reader().name]
    hidden = context.settings().blinded and not mine
    _head(shown, hidden=hidden)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if hidden:
            st.info(
                _("Blinded: risk and reasons are shown once you have recorded your opinion."),
                icon=":material/visibility_off:",
            )
        else:
            st.subheader(_("Reasons"))
            waterfall(shown.report, f"reasons-{visit}", context.units(), opened=True)
    with right:
        st.subheader(_("Decision"))
        form(about, visit, blinded=hidden)
        if not hidden:
            history(decisions or ())
            download(shown, decisions or (), visit)
    _data(shown, visit, hidden=hidden)
    if hidden:
        return
    with st.expander(_("What if?"), icon=":material/science:"):
        whatif(shown, visit)
    first, second = st.columns(2, gap="large")
    with first:
        st.subheader(_("Not available"))
        missing(shown)
    with second:
        st.subheader(_("Similar patients"))
        similar(shown, visit)


def _head(shown: Look, *, hidden: bool) -> None:
    report = shown.report
    st.caption(
        _("Seen from {when}: nothing later was used. Risk of: {event}").format(
            when=when(report.prediction_time), event=shown.patient.model.positive
        )
    )
    if not hidden:
        risk, said = st.columns([1, 3], vertical_alignment="center")
        risk.metric(_("Risk"), percent(report.explanation.risk), help=_("A calibrated probability."))
        said.markdown(_interval(report))
    if shown.as_scored is False:
        st.warning(
            _("The data have changed since they were scored; what you see is worked out from them as they are now.")
        )
    if report.model_id != shown.about.model_id:
        st.warning(_("This risk is from another model than the one that scored the worklist."))
    for text in _flags(report, hidden=hidden):
        st.warning(text, icon=":material/flag:")
    if shown.patient.problems:
        with st.expander(_("Data that could not be used"), icon=":material/error:"):
            for problem in shown.patient.problems:
                st.text(problem.line())


def _interval(report: RiskReport) -> str:
    base = _("base rate {risk}").format(risk=percent(1 / (1 + exp(-report.explanation.base))))
    if report.risk_low is None or report.risk_high is None:
        return base
    ends = {"low": percent(report.risk_low), "high": percent(report.risk_high)}
    return _("{coverage} interval {low} to {high}").format(coverage="95%", **ends) + " · " + base


def _flags(report: RiskReport, *, hidden: bool) -> list[str]:
    """Say what was noticed; of what tells about the risk, nothing where it is hidden."""
    codes = [code for code in report.findings if not (hidden and code.startswith("abstain"))]
    said = [_(_FINDINGS[code]) for code in codes if code in _FINDINGS]
    return said + [
        _("{data}: unlike what the model has learnt from; do not trust its share.").format(data=term(name))
        for name, distance in report.distances.items()
        if distance.outside
    ]


def _data(shown: Look, visit: int, *, hidden: bool) -> None:
    """Show the data of each kind, with its share in the risk."""
    report = shown.report
    views = shown.patient.views() if hidden else report.views
    for number, name in enumerate(sorted(report.present) if hidden else report.ordered()):
        if not report.present[name]:
            continue
        share = "" if hidden else f" ({signed(report.explanation.by_modality[name], '0.00')})"
        st.subheader(term(name) + share, divider="gray")
        if name in views:
            render_all(views[name], f"view-{visit}-{number}")
        else:
            st.error(_("It could be read when the patient was opened, and cannot any more."))


if __name__ == "__main__":
    main()
