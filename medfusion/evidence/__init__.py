"""From embeddings to calibrated evidence: heads, cross-fitting, calibration."""

from medfusion.evidence.calibration import Platt
from medfusion.evidence.crossfit import EvidenceModel, Member, Patients, crossfit

__all__ = ["EvidenceModel", "Member", "Patients", "Platt", "crossfit"]
