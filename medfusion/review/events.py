"""What an audit trail is made of: events, some of which are decisions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from medfusion.core.errors import ReviewUnavailable


class Verdict(StrEnum):
    """What a reader thinks of a risk; or, where they have not been shown it, of the patient."""

    AGREE = "agree"
    OVERRIDE = "override"
    UNSURE = "unsure"
    EXPECTED = "expected"
    NOT_EXPECTED = "not-expected"

    @property
    def is_blind(self) -> bool:
        """Whether it is about the outcome, and can be said by who does not know the risk."""
        return self not in {Verdict.AGREE, Verdict.OVERRIDE}


class Action(StrEnum):
    """What an event tells of."""

    DECISION = "decision"
    VIEW = "view"
    SIGN_IN = "sign-in"
    SIGN_OUT = "sign-out"
    REFUSAL = "refusal"
    WHAT_IF = "what-if"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Scored:
    """The prediction that an event is about.

    Attributes
    ----------
    subject_id : str
    prediction_time : datetime
        Naive, or with a time zone, as in the table of predictions.
    model_id : str
    input_hash : str
        Empty where the predictions have none.
    """

    subject_id: str
    prediction_time: datetime
    model_id: str
    input_hash: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the audit trail, as it was hashed.

    Attributes
    ----------
    seq : int
        1 for the first, without gaps.
    time : str
        When it was recorded: UTC, ISO 8601 with microseconds.
    who : str
        Whose doing it was.
    action : str
        One of `Action`.
    subject_id, prediction_time, model_id, input_hash : str or None
        The prediction that it is about; None where it is about none.
    what : str
        The rest, as canonical JSON.
    previous : str
        Hash of the event before.
    hash : str
        SHA-256 of all of the above, as 64 hexadecimal digits; see `medfusion.review.chain.digest`.
    """

    seq: int
    time: str
    who: str
    action: str
    subject_id: str | None
    prediction_time: str | None
    model_id: str | None
    input_hash: str | None
    what: str
    previous: str
    hash: str

    @property
    def detail(self) -> dict[str, Any]:
        """What stands in ``what``."""
        detail: dict[str, Any] = json.loads(self.what)
        return detail

    @property
    def about(self) -> Scored | None:
        """The prediction that it is about."""
        if self.subject_id is None or self.prediction_time is None:
            return None
        time = datetime.fromisoformat(self.prediction_time)
        return Scored(self.subject_id, time, self.model_id or "", self.input_hash or "")


@dataclass(frozen=True, slots=True)
class Decision:
    """What one reader decided about one prediction.

    Attributes
    ----------
    seq : int
        Of the event that it is.
    time : datetime
        When it was recorded, in UTC.
    about : Scored
    reader : str
    verdict : Verdict
    reason : str
        Why the risk is overridden; may be empty for another verdict.
    comment : str
    blinded : bool
        Whether the reader had not been shown the risk.
    """

    seq: int
    time: datetime
    about: Scored
    reader: str
    verdict: Verdict
    reason: str
    comment: str
    blinded: bool

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the decision that an event is.

        Raises
        ------
        ReviewUnavailable
            If it is none: somebody changed it.
        """
        try:
            said, about = event.detail, event.about
            words = Verdict(said["verdict"]), said["reason"], said["comment"], said["blinded"]
            time = datetime.fromisoformat(event.time)
        except (KeyError, TypeError, ValueError):
            about = None
        if about is None:
            bad = f"event {event.seq} of the review database is not as it was written"
            raise ReviewUnavailable(f"{bad}; run: medfusion audit verify")
        return cls(event.seq, time, about, event.who, *words)


def time_text(time: datetime) -> str:
    """Write a time in the one way in which it is kept; one with a zone in UTC.

    Examples
    --------
    >>> time_text(datetime(2020, 1, 31, 9)), time_text(datetime(2020, 1, 31, 9, tzinfo=UTC))
    ('2020-01-31T09:00:00.000000', '2020-01-31T09:00:00.000000+00:00')
    """
    return (time.astimezone(UTC) if time.tzinfo else time).isoformat(timespec="microseconds")
