"""The word lists of ``cues.toml``, made ready for looking up."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Phrases = Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]
"""Per first word, the phrases that begin with it and their kind, longest first."""


@dataclass(frozen=True, slots=True)
class Korean:
    """The Korean lists, as tuples for ``str.startswith`` and ``str.endswith``, and as sets for whole words."""

    after: tuple[str, ...]
    attached: tuple[str, ...]
    forms: frozenset[str]
    forms_at_end: frozenset[str]
    not_before: frozenset[str]
    not_after: frozenset[str]
    not_after_endings: tuple[str, ...]
    not_in: tuple[str, ...]
    not_verb: str
    verbs: tuple[str, ...]
    verb_endings: tuple[str, ...]
    change: frozenset[str]
    clause_endings: tuple[str, ...]
    clause_words: frozenset[str]
    place_endings: tuple[str, ...]
    told: frozenset[str]
    told_endings: tuple[str, ...]
    reach: int
    list_reach: int


@dataclass(frozen=True, slots=True)
class Cues:
    """All lists.

    Attributes
    ----------
    sections : mapping from heading to section
        The section is ``"family"``, ``"past"``, ``"reason"`` or, for the present state, empty.
    abbreviations : frozenset of str
    phrases : mapping
        The English cues.
    reach : int
        How many words an English negation reaches.
    korean : Korean
    particles : tuple of (ending, True, False or None)
        Whether what precedes the ending closes with a consonant; None where either will do. Longest first.
    keep : tuple of str
        Endings that are part of the word.
    """

    sections: Mapping[str, str]
    abbreviations: frozenset[str]
    phrases: Phrases
    reach: int
    korean: Korean
    particles: tuple[tuple[str, bool | None], ...]
    keep: tuple[str, ...]


def _raw() -> bytes:
    return files(__package__).joinpath("cues.toml").read_bytes()


def digest() -> str:
    """Return what identifies the lists: the first 16 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(_raw()).hexdigest()[:16]


@cache
def cues() -> Cues:
    """Return the lists; they are read once.

    Examples
    --------
    >>> cues().sections["가족력"]
    'family'
    """
    lists = tomllib.loads(_raw().decode("utf-8"))
    sections = {
        heading: "" if section == "present" else section
        for section, headings in lists["sections"].items()
        for heading in headings
    }
    korean = lists["korean"]
    particles = korean.pop("particles")
    return Cues(
        sections=sections,
        abbreviations=frozenset(lists["sentences"]["abbreviations"]),
        phrases=_phrases(lists["english"]),
        reach=lists["english"]["reach"],
        korean=_korean(korean),
        particles=_particles(particles),
        keep=tuple(particles["keep"]),
    )


def _phrases(english: Mapping[str, Any]) -> Phrases:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for kind, phrases in english.items():
        for phrase in phrases if kind != "reach" else ():
            words = tuple(phrase.split())
            found.setdefault(words[0], []).append((words, kind))
    return {first: tuple(sorted(items, key=lambda item: -len(item[0]))) for first, items in found.items()}


def _korean(lists: Mapping[str, Any]) -> Korean:
    types = Korean.__annotations__
    made: dict[str, Any] = dict(lists)
    for name, value in lists.items():
        if isinstance(value, list):
            made[name] = frozenset(value) if types[name].startswith("frozenset") else tuple(value)
    return Korean(**made)


def _particles(lists: Mapping[str, list[str]]) -> tuple[tuple[str, bool | None], ...]:
    closed = {"after_consonant": True, "after_vowel": False, "after_any": None}
    endings = [(ending, closed[name]) for name, values in lists.items() if name != "keep" for ending in values]
    return tuple(sorted(endings, key=lambda item: -len(item[0])))
