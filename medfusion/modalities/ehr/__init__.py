"""Electronic health records: events over time, and facts about the subject."""

from medfusion.modalities.ehr.modality import EhrModality
from medfusion.modalities.ehr.payload import EhrPayload

MODALITY = EhrModality

__all__ = ["MODALITY", "EhrModality", "EhrPayload"]
