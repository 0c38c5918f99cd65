"""A cohort of invented patients whose risk is known: for trying things out, and for testing."""

from medfusion.cohort.synthetic.patients import draw_patients, truth_of
from medfusion.cohort.synthetic.truth import Truth, TruthKind
from medfusion.cohort.synthetic.writer import write_synthetic_cohort

__all__ = ["Truth", "TruthKind", "draw_patients", "truth_of", "write_synthetic_cohort"]
