"""From embeddings to calibrated evidence: heads, cross-fitting, calibration."""

from medfusion.evidence.calibration import Platt
from medfusion.evidence.crossfit import EvidenceModel, Member, crossfit
from medfusion.evidence.heads import Rows
from medfusion.evidence.linear import LinearHead

__all__ = ["EvidenceModel", "LinearHead", "Member", "Platt", "Rows", "crossfit"]
