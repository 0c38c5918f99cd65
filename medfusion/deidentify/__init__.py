"""De-identification of a cohort folder: DICOM headers, tables and notes, with one key for all of them."""

from medfusion.deidentify.cohort import deidentify_cohort
from medfusion.deidentify.presidio import PresidioEngine
from medfusion.deidentify.pseudonyms import new_key, read_key
from medfusion.deidentify.report import Report
from medfusion.deidentify.text import Engine, Span

__all__ = ["Engine", "PresidioEngine", "Report", "Span", "deidentify_cohort", "new_key", "read_key"]
