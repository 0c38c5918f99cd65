"""The patient whom a session looks at: opened once, kept until another one is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboards import context
from dashboards.language import _
from medfusion.core.errors import DataError, UsageError
from medfusion.outputs.ledger import RiskReport
from medfusion.pipeline import Patient, run_fingerprints
from medfusion.review import Scored

ABOUT = "about"
"""Where a session keeps whom it looks at, a `medfusion.review.Scored`."""
_LOOK = "patient_look"


class NotThere(Exception):
    """A patient cannot be shown; the text says why, in the reader's language."""


@dataclass(frozen=True, eq=False)
class Look:
    """A patient as they are now.

    Attributes
    ----------
    about : Scored
        What was scored.
    patient : Patient
    report : RiskReport
    as_scored : bool or None
        Whether the data are those that were scored; None where that cannot be told.
    """

    about: Scored
    patient: Patient
    report: RiskReport
    as_scored: bool | None


def look(about: Scored, *, again: bool) -> Look:
    """Return the patient; opened anew where asked, or where the session has another one.

    Raises
    ------
    NotThere
        If the dashboard has no cohort or model, or the patient is not in the cohort any more.
    """
    kept = st.session_state.get(_LOOK)
    if not isinstance(kept, Look) or kept.about != about or again:
        kept = st.session_state[_LOOK] = _opened(about)
    return kept


def _opened(about: Scored) -> Look:
    desk = context.desk()
    if desk is None:
        said = _("To show patients, start the dashboard with the cohort and the model: --cohort COHORT --model MODEL")
        raise NotThere(said)
    try:
        cohort = desk.cohort
    except UsageError:
        raise NotThere(_("The cohort has not the task of the model. Start the dashboard with another one.")) from None
    except DataError as error:
        codes = ", ".join(sorted({problem.code for problem in error.problems}))
        said = _("The cohort cannot be read ({codes}). Run: medfusion validate COHORT").format(codes=codes)
        raise NotThere(said) from None
    if about.prediction_time not in {sample.prediction_time for sample in cohort.samples_of(about.subject_id)}:
        raise NotThere(_("This patient, or this prediction time, is no longer in the cohort. Score the cohort again."))
    patient = desk.patient(about.subject_id, about.prediction_time)
    runs = run_fingerprints(context.settings().scores, about.model_id)
    return Look(about, patient, patient.report(), patient.is_as_scored(about.input_hash, runs))
