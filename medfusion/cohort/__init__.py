"""From a cohort folder to as-of views: nothing recorded after the prediction time gets out of here."""

from medfusion.cohort.audit import audit_leakage
from medfusion.cohort.labels import Task
from medfusion.cohort.leaks import Leak
from medfusion.cohort.reader import Cohort, open_cohort, require_two_classes
from medfusion.cohort.tables import LABELS, SUBJECTS, TABLES

__all__ = [
    "LABELS",
    "SUBJECTS",
    "TABLES",
    "Cohort",
    "Leak",
    "Task",
    "audit_leakage",
    "open_cohort",
    "require_two_classes",
]
