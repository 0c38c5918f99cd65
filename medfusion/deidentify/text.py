"""De-identification of running text: what identifies becomes a placeholder, dates move with the patient's own."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from medfusion.deidentify.dates import find_dates
from medfusion.deidentify.identity import Finder, Identity
from medfusion.deidentify.patterns import find_patterns
from medfusion.deidentify.pseudonyms import Pseudonyms

_KEPT_TEXTS = 65_536
_BETWEEN_NAMES = re.compile(r"[\s,.'\u2019^-]{0,2}")
_TOP_AGE = "90"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of a text that identifies somebody.

    Attributes
    ----------
    start, end : int
    kind : str
        In capitals, such as NAME or PHONE; becomes the placeholder.
    text : str
        What to write in its place; empty for the placeholder.
    """

    start: int
    end: int
    kind: str
    text: str = ""

    @property
    def replacement(self) -> str:
        """What stands in its place."""
        return self.text or f"[{self.kind}]"


class Engine(Protocol):
    """A further way to find identifiers, such as a language model."""

    def find(self, text: str) -> Iterable[Span]:
        """Return what identifies somebody; spans may overlap."""


class Scrubber:
    """De-identifies texts.

    Parameters
    ----------
    pseudonyms : Pseudonyms
        How far the dates of each patient move.
    patients : mapping from subject to Identity
    staff : Identity
        Names and places that are looked for in every text.
    engines : sequence of Engine
        Asked besides the built-in rules.

    Examples
    --------
    >>> known = {"7": Identity(names={"Doe^Jane"})}
    >>> scrubber = Scrubber(Pseudonyms(bytes(32)), known, Identity())
    >>> scrubber.scrub("Jane Doe, call 010-1234-5678, BP 120/80", "7")[0]
    '[NAME], call [PHONE], BP 120/80'
    """

    def __init__(
        self,
        pseudonyms: Pseudonyms,
        patients: Mapping[str, Identity],
        staff: Identity,
        engines: Sequence[Engine] = (),
    ) -> None:
        self._pseudonyms, self._patients, self._engines = pseudonyms, patients, engines
        self._staff = Finder(staff, strict=False)
        self._finder = lru_cache(1024)(self._finder_of)
        self._cached = lru_cache(_KEPT_TEXTS)(self._scrubbed)

    def scrub(self, text: str, subject_id: str | None = None, prose: bool = True) -> tuple[str, Counter[str]]:
        """De-identify a text.

        Parameters
        ----------
        text : str
        subject_id : str, optional
            Whose text it is; where it is nobody's, dates become placeholders.
        prose : bool
            False for codes and names of things, in which numbers that could be a vague date stay.

        Returns
        -------
        text : str
            In Unicode form C.
        counts : Counter
            How many spans of each kind were replaced.
        """
        scrubbed, kinds = self._cached(text, subject_id, prose)
        return scrubbed, Counter(kinds)

    def _finder_of(self, subject_id: str) -> Finder:
        identity = self._patients.get(subject_id, Identity())
        return Finder(Identity(identity.names, identity.numbers | {subject_id}, identity.texts), strict=True)

    def _scrubbed(self, text: str, subject_id: str | None, prose: bool) -> tuple[str, tuple[str, ...]]:
        text = unicodedata.normalize("NFC", text)
        spans = merged(self._found(text, subject_id, prose), text)
        for span in reversed(spans):
            text = text[: span.start] + span.replacement + text[span.end :]
        return text, tuple(span.kind for span in spans)

    def _found(self, text: str, subject_id: str | None, prose: bool) -> list[Span]:
        finders = [self._staff] if subject_id is None else [self._staff, self._finder(subject_id)]
        days = None if subject_id is None else self._pseudonyms.shift_days(subject_id)
        # Of spans that cover the same, the first gives its kind: a form says more than that a text is known.
        spans = [Span(start, end, kind, _TOP_AGE if kind == "AGE" else "") for start, end, kind in find_patterns(text)]
        spans += [Span(*found) for finder in finders for found in finder.find(text)]
        spans += [Span(date.start, date.end, "DATE", date.shifted or "") for date in find_dates(text, days, prose)]
        return spans + [span for engine in self._engines for span in engine.find(text)]


def merged(spans: Iterable[Span], text: str) -> list[Span]:
    """Join spans that overlap, and names that only a space or a comma divides.

    Examples
    --------
    >>> merged([Span(0, 4, "NAME"), Span(5, 8, "NAME"), Span(6, 10, "ID")], "Jane Doe12")
    [Span(start=0, end=10, kind='NAME', text='')]
    """
    result: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end, not one.text)):
        last = result[-1] if result else None
        if last is None or not (span.start < last.end or _are_one_name(last, span, text)):
            result.append(span)
        elif span.end > last.end:
            # Neither covers the other: what stands in place of one would leave a part of the other.
            longer = max(last, span, key=lambda one: one.end - one.start)
            result[-1] = Span(last.start, span.end, longer.kind)
    return result


def _are_one_name(first: Span, second: Span, text: str) -> bool:
    between = text[first.end : second.start]
    return first.kind == second.kind == "NAME" and bool(_BETWEEN_NAMES.fullmatch(between))
