"""Words, in English, Korean and whatever else is written with letters."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from medfusion.modalities.notes.cues import cues

_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"
_ITEM = re.compile(
    rf"""(?P<hangul>[{_HANGUL}]+)
    |(?P<number>\d+(?:[.,]\d+)*)
    |(?P<word>\b[A-Za-z]/[A-Za-z]\b(?!/)|[^\W\d_](?:(?![{_HANGUL}])[^\W_]|[\u0300-\u036f])*(?:['\u2019][^\W\d_]+)*)
    |(?P<mark>\(\s*[-\u2212\u2013]\s*\)|\(\s*\+\s*\)|[,;:()\[\]/·、]|(?<=\s)[-\u2013\u2014](?=\s))""",
    re.VERBOSE,
)
_SYLLABLES, _FINALS = 0xAC00, 28


def scan(text: str, start: int, end: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Find the words and the punctuation marks that matter for meaning.

    Parameters
    ----------
    text : str
    start, end : int
        The part of it to be scanned.

    Returns
    -------
    items : list of str
        Words in lower case, without compatibility forms; marks as they are; ``(-)`` and ``(+)``.
    places : list of (start, end)
        Where they stand in ``text``.

    Examples
    --------
    >>> scan("Temp 38.5, CT상 침윤(-)", 0, 20)[0]
    ['temp', '38.5', ',', 'ct', '상', '침윤', '(-)']
    """
    items, places = [], []
    for match in _ITEM.finditer(text, start, end):
        raw = match.group()
        items.append(_mark(raw) if match.lastgroup == "mark" else plain(raw))
        places.append(match.span())
    return items, places


def _mark(raw: str) -> str:
    if len(raw) == 1:
        return raw
    return "(+)" if "+" in raw else "(-)"


@lru_cache(maxsize=1 << 16)
def plain(word: str) -> str:
    """Return a word in lower case, composed, with plain apostrophes and without the English possessive."""
    if not word.isascii():
        word = "".join(unicodedata.normalize("NFKC", word).replace("\u2019", "'").split())
    return word.lower().removesuffix("'s")


def is_hangul(word: str) -> bool:
    """Say whether a word is written in Korean letters."""
    return "\uac00" <= word[:1] <= "\ud7a3"


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Take common particles off a Korean noun; what is no such noun is returned as it is.

    Rather too little is taken off than too much: two syllables must remain, the particle must be the one that fits
    after a consonant or a vowel, and words that merely end like that are left alone. One particle is taken off.

    Examples
    --------
    >>> [stem(word) for word in ("발열은", "두통이", "폐렴으로", "검사결과", "산소포화도", "fever")]
    ['발열', '두통', '폐렴', '검사결과', '산소포화도', 'fever']
    """
    if len(word) < 3 or not is_hangul(word) or word.endswith(cues().keep):
        return word
    for ending, closed in cues().particles:
        rest = word.removesuffix(ending)
        if rest and rest != word and (closed is None or closed == _closed(rest, ending)):
            # The longest ending decides: 중으로 is 중 with 으로, too short, and not 중으 with 로.
            return rest if len(rest) >= 2 else word
    return word


def _closed(word: str, ending: str) -> bool:
    """Say whether the last syllable has a final consonant; before 로, ㄹ counts as none."""
    final = (ord(word[-1]) - _SYLLABLES) % _FINALS
    return final not in ((0, 8) if ending.startswith(("로", "으로")) else (0,))
