"""The chain of hashes: an event carries the hash of the one before, so none changes without all that follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple, Self

from medfusion.core.errors import UsageError
from medfusion.review.events import Event

_DIGITS = 64


class Head(NamedTuple):
    """The end of a chain: whoever notes it elsewhere can tell later whether anything up to it was touched.

    Attributes
    ----------
    seq : int
        Of the last event; 0 where there is none.
    hash : str

    Examples
    --------
    >>> str(Head.read("2:" + "ab" * 32)) == "2:" + "ab" * 32
    True
    """

    seq: int = 0
    hash: str = "0" * _DIGITS

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a head as it is printed.

        Raises
        ------
        UsageError
            If it has another form.
        """
        seq, _, digest = text.strip().partition(":")
        if not (seq.isascii() and seq.isdigit() and len(digest) == _DIGITS and set(digest) <= set("0123456789abcdef")):
            raise UsageError("a head is written NUMBER:HASH, as `medfusion audit verify` prints it")
        return cls(int(seq), digest)


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether an audit trail is as it was written.

    Attributes
    ----------
    checked : int
        How many events from the first on are in order.
    head : str
        The last of these, ``NUMBER:HASH``.
    first_bad : int or None
        Number of the first event that is not as it was written.
    reason : str
        What is wrong with it; empty if nothing is.
    """

    checked: int
    head: str
    first_bad: int | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.first_bad is None


def canonical(value: Any) -> str:
    """Write a value as JSON in the one way in which it is hashed: keys sorted, no spaces, characters as they are.

    Raises
    ------
    TypeError, ValueError
        If JSON cannot hold it; NaN and infinity are no JSON.

    Examples
    --------
    >>> canonical({"b": [1, None], "a": "é"})
    '{"a":"é","b":[1,null]}'
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(event: Event) -> str:
    """Return the hash that an event has to have: SHA-256 of the list of its other columns, in their order, as JSON.

    Raises
    ------
    TypeError, ValueError
        If a column holds what cannot have been written by `medfusion`.
    """
    return hashlib.sha256(canonical(astuple(event)[:-1]).encode()).hexdigest()


def check(events: Iterable[Event], noted: Head | None = None, known: int = 0) -> Verification:
    """Find the first event that is not as it was written.

    Parameters
    ----------
    events : iterable of Event
        By number.
    noted : Head, optional
        The end of the chain at an earlier time.
    known : int
        How many events there have been at least, as far as the database knows.

    Returns
    -------
    Verification
    """
    head = Head()
    for event in events:
        bad = _fault(head, event)
        if bad is None and noted is not None and event.seq == noted.seq and event.hash != noted.hash:
            bad = event.seq, "it is not the event that was noted: this one or one before it was written anew"
        if bad is not None:
            return Verification(head.seq, str(head), *bad)
        head = Head(event.seq, event.hash)
    last = max(known, noted.seq if noted else 0)
    if last > head.seq:
        return Verification(head.seq, str(head), head.seq + 1, f"{_span(head.seq + 1, last)} missing from the end")
    return Verification(head.seq, str(head))


def _fault(head: Head, event: Event) -> tuple[int, str] | None:
    """Say which event is bad, and what is wrong, if an event does not follow those before it."""
    if event.seq < 1:
        return event.seq, "it stands before the first event: it was inserted"
    if event.seq > head.seq + 1:
        return head.seq + 1, f"{_span(head.seq + 1, event.seq - 1)} missing"
    try:
        same = digest(event) == event.hash
    except (TypeError, ValueError):
        same = False
    if not same:
        return event.seq, "its content is not what was hashed: it was changed, moved or inserted"
    if event.previous != head.hash:
        # Both are whole in themselves; what comes later was written on top of what came before.
        reason = f"event {event.seq} was not written after it: one of the two was exchanged"
        return (head.seq, reason) if head.seq else (event.seq, "it does not begin a chain: it was exchanged")
    return None


def _span(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"
