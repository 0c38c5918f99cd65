"""The notes of one patient as of a moment, without what was copied forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from unicodedata import name as name_of_letter

from medfusion.core.types import FloatArray
from medfusion.core.views import Span, TextView
from medfusion.modalities.notes.sentences import NEGATED, Sentence, name_of, normalised

AVERAGE = "(average note)"
"""The line of a ledger for what the average note contributes."""


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """One note; its text is not in its ``repr``, so that no log holds it by accident.

    Attributes
    ----------
    kind : str
        Such as ``"radiology"``.
    time : datetime
    text : str
        As it was written.
    sentences : tuple of Sentence
        Those that no earlier note of the patient has.
    """

    kind: str
    time: datetime
    text: str = field(repr=False)
    sentences: tuple[Sentence, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class NotesPayload:
    """All notes, newest last.

    Attributes
    ----------
    notes : tuple of Note
    vector : array (d,) or None
        Mean of the hidden states of a language model over all tokens, where one is used.
    """

    notes: tuple[Note, ...]
    vector: FloatArray | None = None

    def sentences(self) -> Iterator[Sentence]:
        """Iterate over all sentences that count, in order."""
        for note in self.notes:
            yield from note.sentences

    def terms(self) -> Counter[str]:
        """Count the words."""
        return Counter(term for sentence in self.sentences() for term in sentence.terms)


def new_sentences(notes: Iterable[tuple[Sentence, ...]]) -> Iterator[tuple[Sentence, ...]]:
    """Leave out of each note the sentences that stand in an earlier one; a repetition within a note stays."""
    seen: set[bytes] = set()
    for note in notes:
        yield tuple(sentence for sentence in note if sentence.key not in seen)
        seen.update(sentence.key for sentence in note)


def fingerprint(text: str) -> str:
    """Return a hash that is equal for notes which differ in case, spacing or final punctuation alone."""
    return sha256(normalised(text).encode("utf-8")).hexdigest()


def scripts(texts: Iterable[str]) -> str:
    """Name the scripts that letters are of, where they are at least a tenth of them.

    Examples
    --------
    >>> scripts(["lactate 4.7", "혼돈 없음"])
    'hangul, latin'
    """
    counts: Counter[str] = Counter()
    for letter, count in sum((Counter(text) for text in texts), Counter[str]()).items():
        if letter.isalpha():
            counts[name_of_letter(letter, "unknown").partition(" ")[0].lower()] += count
    return ", ".join(sorted(script for script, count in counts.items() if 10 * count >= counts.total()))


def text_view(payload: NotesPayload, shares: Mapping[str, float]) -> TextView:
    """Lay shares over the texts; a word's share is spread evenly over where it stands.

    Parameters
    ----------
    payload : NotesPayload
    shares : mapping from name of a word to its share
        Names as `name_of` makes them; what is no word of the notes is left out.
    """
    counts: Counter[str] = Counter()
    for term, count in payload.terms().items():
        counts[name_of(term)] += count
    each = {name: share / counts[name] for name, share in shares.items() if name in counts}
    titles = [f"{note.kind}, {note.time:%Y-%m-%d %H:%M}" for note in payload.notes]
    return TextView("Notes", titles, [_spans(note, each) for note in payload.notes])


def _spans(note: Note, each: Mapping[str, float]) -> list[Span]:
    spans, done = [], 0
    for sentence in note.sentences:
        for term, (start, end) in zip(sentence.terms, sentence.places.tolist(), strict=True):
            if start > done:
                spans.append(Span(note.text[done:start]))
            negated = term.rpartition(":")[2].startswith(NEGATED)
            spans.append(Span(note.text[start:end], each.get(name_of(term), 0.0), negated))
            done = end
    if done < len(note.text):
        spans.append(Span(note.text[done:]))
    return spans
