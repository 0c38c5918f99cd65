"""What readers decide about scored patients, and the audit trail of it: append-only, and every event hash-chained."""

from medfusion.core.errors import ReviewUnavailable
from medfusion.review.chain import Head, Verification
from medfusion.review.events import Action, Decision, Event, Scored, Verdict
from medfusion.review.store import ReviewStore
from medfusion.review.tables import SCHEMAS, Exported

__all__ = [
    "SCHEMAS",
    "Action",
    "Decision",
    "Event",
    "Exported",
    "Head",
    "ReviewStore",
    "ReviewUnavailable",
    "Scored",
    "Verdict",
    "Verification",
]
