"""A note as sentences of words that say in which section they stand and whether they are negated."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from sys import intern

import numpy as np
from numpy.typing import NDArray

from medfusion.modalities.notes.cues import cues
from medfusion.modalities.notes.negation import negated
from medfusion.modalities.notes.words import is_hangul, scan, stem

NEGATED = "¬"
"""Stands before a negated word."""
_SENTENCE_END = re.compile(r"(?<![.!?。])[.!?。]++[\"')\]]*+(?=\s|$)|(?<=[a-z\uac00-\ud7a3])\.(?=[A-Z\uac00-\ud7a3])")
_HEADING_END = re.compile(r"[:\uff1a\]】>]")
_MARKUP = " \t\r*#-=_<>[]()【】■●○•▶◆▪0123456789.:\uff1a"
_LONGEST_HEADING = 40
_LONGEST_ABBREVIATION = 12
_WRAPPED = 60


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a note.

    Attributes
    ----------
    key : bytes
        Hash of section and text, without case, spacing and final punctuation: equal for copies.
    terms : tuple of str
        The words, normalised, with marks: ``"fever"``, ``"¬fever"``, ``"family:diabetes"``.
    places : array (words, 2), int32
        Where they stand in the note: start and end.
    """

    key: bytes
    terms: tuple[str, ...]
    places: NDArray[np.int32]


def sentences(text: str) -> tuple[Sentence, ...]:
    """Split a note.

    A sentence ends at a full stop, question or exclamation mark that is followed by space, and at the end of a line,
    unless the line is long and the next begins in lower case (it was wrapped). A heading is one of ``cues.toml`` before
    a colon, in brackets or on its own line; it holds until the next heading, another short line opening with a colon,
    or a blank line after text. Known headings themselves are not among the words.

    Examples
    --------
    >>> for sentence in sentences("FAMILY HISTORY: diabetes. FINDINGS: No effusion. 기침은 없음."):
    ...     print(sentence.terms)
    ('family:diabetes',)
    ('no', '¬effusion')
    ('¬기침', '없음')
    """
    found = []
    for start, end, section in _parts(text):
        for first, last in _split(text, start, end):
            sentence = _sentence(text, first, last, section)
            if sentence.terms:
                found.append(sentence)
    return tuple(found)


def name_of(term: str) -> str:
    """Return a term as a person reads it.

    Examples
    --------
    >>> name_of("fever"), name_of("¬fever"), name_of("family:¬diabetes")
    ('fever', 'not fever', 'family: not diabetes')
    """
    section, _, word = term.rpartition(":")
    word = "not " + word[1:] if word.startswith(NEGATED) else word
    return f"{section}: {word}" if section else word


def _sentence(text: str, start: int, end: int, section: str) -> Sentence:
    items, places = scan(text, start, end)
    absent = negated(items)
    prefix = f"{section}:" if section else ""
    terms, kept = [], []
    for place, item in enumerate(items):
        if item[:1].isalnum():
            word = stem(_noun(item) if place in absent else item) if is_hangul(item) else item
            terms.append(intern(prefix + NEGATED + word if place in absent else prefix + word))
            kept.append(places[place])
    key = blake2b((prefix + normalised(text[start:end])).encode("utf-8"), digest_size=16).digest()
    return Sentence(key, tuple(terms), np.array(kept, dtype=np.int32).reshape(-1, 2))


def _noun(eojeol: str) -> str:
    """Take a negation off that is written in one word with its noun: 발열없음."""
    for ending in cues().korean.attached:
        if eojeol.endswith(ending) and len(eojeol) > len(ending):
            return eojeol.removesuffix(ending)
    return eojeol


def normalised(text: str) -> str:
    """Return a text without differences of case, spacing, composition and final punctuation."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    return " ".join(text.casefold().split()).strip(".,;:!? ")


def _parts(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield stretches of text of one section, each a line or several where a line was wrapped."""
    section, has_text, start = "", False, 0
    held: tuple[int, int, str] | None = None
    for line in text.split("\n"):
        end = start + len(line)
        if not line.strip():
            section = "" if has_text else section
        for first, last, named in _line(line, section):
            section, has_text = named, last > first
            part = (start + first, start + last, named)
            if held and first == 0 and held[2] == named and held[1] == start - 1 and _wrapped(text, held, part):
                held = (held[0], part[1], named)
                continue
            if held:
                yield held
            held = part
        start = end + 1
    if held:
        yield held


def _wrapped(text: str, held: tuple[int, int, str], part: tuple[int, int, str]) -> bool:
    line = text.rfind("\n", 0, held[1]) + 1
    return held[1] - line >= _WRAPPED and text[part[0] : part[1]].lstrip()[:1].islower()


def _line(line: str, section: str) -> Iterator[tuple[int, int, str]]:
    """Yield the parts of one line, split at known headings."""
    sections = cues().sections
    if len(line) <= _LONGEST_HEADING and line.strip(_MARKUP).lower() in sections:
        yield len(line), len(line), sections[line.strip(_MARKUP).lower()]
        return
    done = 0
    for match in _HEADING_END.finditer(line):
        heading = _heading(line[max(done, match.start() - _LONGEST_HEADING) : match.start()])
        if heading is not None:
            yield done, match.start() - heading[0], section
            done, section = match.end(), heading[1]
        elif done == 0 and match.group() in ":\uff1a" and _opens(line[: min(match.start(), _LONGEST_HEADING + 1)]):
            section = ""
    yield done, len(line), section


def _heading(before: str) -> tuple[int, str] | None:
    """Return length and section of the known heading that a text ends with."""
    sections = cues().sections
    tail = before.lower().rstrip(_MARKUP)
    words = tail.split()
    for count in range(min(len(words), 5), 0, -1):
        name = " ".join(words[-count:]).lstrip(_MARKUP)
        if name in sections:
            at = tail.rfind(words[-count])
            if count > 1:
                at = _position(tail, words, count)
            return len(before) - at, sections[name]
    return None


def _position(tail: str, words: list[str], count: int) -> int:
    """Return where the last ``count`` words of a text begin."""
    at = len(tail)
    for word in reversed(words[-count:]):
        at = tail.rfind(word, 0, at)
    return at


def _opens(words: str) -> bool:
    """Say whether a line opens with a heading of whatever name."""
    return len(words) <= _LONGEST_HEADING and 1 <= len(words.split()) <= 4 and words[-1:].isalpha()


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the sentences of a part."""
    for match in _SENTENCE_END.finditer(text, start, end):
        word = text[max(start, match.start() - _LONGEST_ABBREVIATION) : match.start()].split()[-1:]
        if match.group() == "." and word and word[0].lower().lstrip("(\"'") in cues().abbreviations:
            continue
        yield start, match.end()
        start = match.end()
    if start < end:
        yield start, end
