"""What is known to identify a patient or a member of staff, from DICOM headers and the table of subjects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_LETTERS = re.compile(r"[A-Za-zÀ-ɏ]+")
_HYPHENATED = re.compile(r"[A-Za-zÀ-ɏ]+(?:-[A-Za-zÀ-ɏ]+)*")
_HANGUL = re.compile(r"[가-힣]+")
_HANJA = re.compile(r"[一-鿿]{2,}")
_TITLES = {
    "dr",
    "md",
    "mr",
    "mrs",
    "ms",
    "prof",
    "jr",
    "sr",
    "phd",
    "rn",
    "the",
    "and",
    "of",
    "van",
    "de",
    "von",
    "der",
}
_AFTER_NAME = r"(?![가-힣])|(?=(?:은|는|이|가|을|를|의|과|와|도|께|에게|님|씨|환자|교수|선생)(?![가-힣]))"


@dataclass(slots=True)
class Identity:
    """What identifies one patient.

    Attributes
    ----------
    names : set of str
        As DICOM or a table writes them: ``Hong^Gildong=洪^吉洞=홍^길동`` or ``Hong, Gildong``.
    numbers : set of str
        Numbers and codes: the patient's, those of orders and visits.
    texts : set of str
        Whatever else is found literally: addresses, phones, places.
    """

    names: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


class Finder:
    """Finds what identifies a patient.

    Parameters
    ----------
    identity : Identity
    strict : bool
        Whether the names are those of the very patient whose text it is. Names of others, such as all staff, are
        looked for only where they are capitalised, and Korean ones only in full: half of them are words, too.

    Examples
    --------
    >>> finder = Finder(Identity(names={"Hong^Gildong=洪^吉洞=홍^길동"}, numbers={"4711-A"}), strict=True)
    >>> text = "gildong HONG (4711-a), 홍길동님, 길동이"
    >>> [text[start:end] for start, end, kind in finder.find(text)]
    ['gildong', 'HONG', '홍길동', '길동', '4711-a']
    """

    def __init__(self, identity: Identity, strict: bool) -> None:
        self._strict = strict
        self._latin: set[str] = set()
        korean: set[str] = set()
        for name in identity.names:
            for group in name.split("="):
                self._latin |= _latin_parts(group)
                korean |= set(_korean_forms(group, strict))
        self._korean = _alternatives(korean)
        self._numbers = _alternatives({_literal(number) for number in identity.numbers if _is_telling(number)})
        self._texts = _alternatives({_literal(text) for text in identity.texts if len(text.strip()) >= 5})

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield start, end and kind (NAME, ID or PLACE) of what is found."""
        for word in _HYPHENATED.finditer(text) if self._latin else ():
            if self._is_name(word.group().replace("-", "")):
                yield *word.span(), "NAME"
                continue
            for part in _LETTERS.finditer(text, *word.span()):
                if self._is_name(part.group()):
                    yield *part.span(), "NAME"
        for pattern, kind in ((self._korean, "NAME"), (self._numbers, "ID"), (self._texts, "PLACE")):
            for match in pattern.finditer(text) if pattern else ():
                yield *match.span(), kind

    def _is_name(self, word: str) -> bool:
        """Tell a name from a word: "an" and "do" are both."""
        return word.lower() in self._latin and ((self._strict and len(word) > 3) or word[0].isupper())


def _latin_parts(group: str) -> set[str]:
    """Return the parts of a name in small letters, and those that are written together now and then."""
    components = [_LETTERS.findall(component.lower()) for component in re.split(r"[\^,]", group)]
    joined = ["".join(words) for words in components]
    parts = {*joined, *(word for words in components for word in words), "".join(joined[:2]), "".join(joined[1::-1])}
    return {part for part in parts if len(part) > 1} - _TITLES


def _korean_forms(group: str, strict: bool) -> Iterator[str]:
    """Yield patterns for a Korean name: in full, and for the patient also the given name."""
    parts = _HANGUL.findall(group)
    full = "".join(parts)
    given = parts[-1] if len(parts) > 1 else full[1:]
    family = full.removesuffix(given)
    if 3 <= len(full) <= 5:
        yield rf"{family}\s?{given}"
    elif len(full) == 2 and strict:
        yield rf"(?<![가-힣]){full}(?:{_AFTER_NAME})"
    if strict and len(given) >= 2 and len(full) <= 5:
        yield rf"(?<![가-힣]){given}(?:{_AFTER_NAME}|(?=이))"
    if strict and family:
        yield rf"(?<![가-힣]){family}(?=\s?(?:씨|님)(?![가-힣])|\s?환자)"
    hanja = "".join(re.findall("[一-鿿]+", group))
    if _HANJA.fullmatch(hanja):
        yield hanja


def _is_telling(number: str) -> bool:
    """Leave out what is too short to be told from a measurement."""
    number = number.strip()
    has_digit, has_letter = any(map(str.isdigit, number)), any(map(str.isalpha, number))
    return has_digit and len(number) >= (3 if has_letter else 5)


def _literal(text: str) -> str:
    """Return a pattern for a text whatever its case and spaces, not within a longer word."""
    spaced = r"\s+".join(map(re.escape, text.split()))
    return rf"(?<![A-Za-z0-9]){spaced}(?![A-Za-z0-9])"


def _alternatives(patterns: set[str]) -> re.Pattern[str] | None:
    """Join patterns, the longest first, so that the whole is found before a part."""
    return re.compile("|".join(sorted(patterns, key=lambda one: (-len(one), one))), re.IGNORECASE) if patterns else None
