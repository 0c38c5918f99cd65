"""The printed report of the patient who is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dashboards import context, language
from dashboards.language import _
from dashboards.look import Look
from medfusion import __version__
from medfusion.outputs.pdf import Provenance, patient_pdf
from medfusion.pipeline import scored_at
from medfusion.review import Action, Decision

FILE = "patient-report.pdf"
"""It names no patient: names of files end up in places that nobody looks after."""


def download(look: Look, decisions: Sequence[Decision], visit: int) -> None:
    """Draw the button; the page is made, and the download put on the audit trail, when it is pressed."""
    st.download_button(
        _("Printable report (PDF)"),
        maker(look, decisions),
        FILE,
        "application/pdf",
        key=f"pdf-{visit}",
        on_click="ignore",
        icon=":material/picture_as_pdf:",
        width="stretch",
    )


def maker(look: Look, decisions: Sequence[Decision]) -> Callable[[], bytes]:
    """Return what makes the page, in the language in use now; nothing is given out that is not on the audit trail."""
    code, scores = language.current(), context.settings().scores
    store, name = context.store(), context.reader().name
    notes = [problem.line() for problem in look.patient.problems]
    if look.as_scored is False:
        notes.insert(0, _("The data have changed since they were scored; this page shows them as they are now."))

    def make() -> bytes:
        store.note(name, Action.EXPORT, {"file": FILE}, look.about)
        language.use(code)
        when = scored_at(scores, look.about.subject_id, look.about.prediction_time)
        origin = Provenance(look.patient.model.positive, look.about.input_hash, when, __version__, notes)
        return patient_pdf(look.report, origin, decisions, language)

    return make
