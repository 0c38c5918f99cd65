"""Dates in running text, in English and Korean: found, and moved where it is certain which day is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

_MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
# "may" and "march" are words; as months they are capitalised.
_MONTH = (
    "(?:" + "|".join(f"{name}|{name.upper()}|{name[:3]}|{name[:3].upper()}" for name in _MONTH_NAMES) + r"|Sept)\b\.?"
)
_YEAR = r"(?:19|20)\d\d"
_DAY = r"\d{1,2}"
_ORDINAL = rf"{_DAY}(?:st|nd|rd|th)?"
_START, _END = r"(?<![\d.,/-])", r"(?![\d/-]|[.,]\d)"
_YEAR_FIRST = re.compile(
    rf"{_START}(?P<y>{_YEAR})(?P<s>[-./] ?)(?P<m>{_DAY})(?P=s)(?P<d>{_DAY})(?=T\d\d|{_END}|\b[A-Z])"
)
_COMPACT = re.compile(rf"{_START}(?P<y>{_YEAR})(?P<m>\d\d)(?P<d>\d\d){_END}(?![A-Za-z])")
_KOREAN = re.compile(rf"(?<!\d)(?P<y>{_YEAR})(?P<a>년\s*)(?P<m>{_DAY})(?P<b>월\s*)(?P<d>{_DAY})일")
_DAY_MONTH_YEAR = re.compile(
    rf"{_START}(?P<d>{_DAY})(?P<o>st|nd|rd|th)?(?P<a>[\s-](?:of )?)(?P<n>{_MONTH})(?P<b>,?[\s-])(?P<y>{_YEAR})\b"
)
_MONTH_DAY_YEAR = re.compile(rf"\b(?P<n>{_MONTH})(?P<a>\s)(?P<d>{_DAY})(?P<o>st|nd|rd|th)?(?P<b>,?\s)(?P<y>{_YEAR})\b")
_YEAR_LAST = re.compile(rf"{_START}(?P<f>{_DAY})(?P<s>[-./])(?P<g>{_DAY})(?P=s)(?P<y>{_YEAR}){_END}")
_UNIT = r"(?!\s*(?:mg|mcg|ml|mL|g|kg|units?|tabs?|%))"
_VAGUE = re.compile(
    "|".join(
        (
            rf"{_START}\d\d([-./])\d\d\1\d\d{_END}",
            rf"{_START}{_DAY}/{_DAY}/\d\d{_END}",
            rf"{_START}{_YEAR}[-./](?:0?[1-9]|1[0-2]){_END}",
            rf"(?:(?<!\d){_YEAR}년|'?(?<!\d)\d\d년)(?:\s*{_DAY}월)?(?:\s*{_DAY}일)?",
            rf"(?<!\d){_DAY}월\s*{_DAY}일",
            rf"\b{_MONTH},?\s(?:of )?{_YEAR}\b",
            rf"{_START}{_ORDINAL}(?:\s|-)(?:of )?{_MONTH}(?![A-Za-z])",
            rf"\b{_MONTH}\s{_ORDINAL}\b(?![./]\d){_UNIT}",
            rf"(?i:\b(?:in|since|from|until|before|after|year|during))\s{_YEAR}\b(?!\s*(?:mg|ml|mL|kcal|cc|hrs?|h)\b)",
        )
    )
)


@dataclass(frozen=True, slots=True)
class FoundDate:
    """A date in a text.

    Attributes
    ----------
    start, end : int
        Where it stands.
    shifted : str or None
        The date moved, written in the same way; None where it is not certain which day is meant.
    """

    start: int
    end: int
    shifted: str | None


def find_dates(text: str, shift_days: int | None, prose: bool = True) -> Iterator[FoundDate]:
    """Find dates in a text.

    Parameters
    ----------
    text : str
    shift_days : int or None
        How far they move back; None where it is not known whose dates they are.
    prose : bool
        Whether the text is prose. In codes, ``1988-5`` is a laboratory's number for CRP and no month.

    Yields
    ------
    FoundDate
        They may overlap.

    Examples
    --------
    >>> [found.shifted for found in find_dates("2020-03-01, 01/02/2020, BP 120/80", 1)]
    ['2020-02-29', None]
    """
    patterns = (_YEAR_FIRST, _KOREAN, _DAY_MONTH_YEAR, _MONTH_DAY_YEAR, _YEAR_LAST)
    for pattern in (*patterns, _COMPACT) if prose else patterns:
        for match in pattern.finditer(text):
            shifted = _shifted(match, shift_days)
            # Eight digits that are no day of the calendar are a number.
            if shifted is not None or pattern is not _COMPACT or _day_of(match) is not None:
                yield FoundDate(*match.span(), shifted)
    for match in _VAGUE.finditer(text) if prose else ():
        yield FoundDate(*match.span(), None)


def _shifted(match: re.Match[str], shift_days: int | None) -> str | None:
    day = _day_of(match)
    if day is None or shift_days is None:
        return None
    moved = day - timedelta(days=shift_days)
    part = match.groupdict()
    if "n" in part:
        names = {"y": str(moved.year), "d": str(moved.day), "n": _month_like(part["n"], moved.month), "o": ""}
    else:
        names = {
            key: _like(part[key], value) for key, value in zip("ymd", moved.timetuple()[:3], strict=True) if key in part
        }
        if "f" in part:
            day_first = int(part["f"]) > 12
            names["f"] = _like(part["f"], moved.day if day_first else moved.month)
            names["g"] = _like(part["g"], moved.month if day_first else moved.day)
    return _rewritten(match, names)


def _day_of(match: re.Match[str]) -> date | None:
    """Return the day, or None if there is none or day and month cannot be told apart."""
    part = match.groupdict()
    if "n" in part:
        month = [name[:3].lower() for name in _MONTH_NAMES].index(part["n"][:3].lower()) + 1
        numbers = int(part["y"]), month, int(part["d"])
    elif "f" in part:
        first, second = int(part["f"]), int(part["g"])
        if first <= 12 and second <= 12 and first != second:
            return None
        numbers = int(part["y"]), *((second, first) if first > 12 else (first, second))
    else:
        numbers = int(part["y"]), int(part["m"]), int(part["d"])
    try:
        return date(*numbers)
    except ValueError:
        return None


def _like(old: str, value: int) -> str:
    """Write a number with the zeros that the old one had, or would have had."""
    return f"{value:02d}" if old.startswith("0") or (len(old) == 2 and value < 10) else str(value)


def _month_like(old: str, month: int) -> str:
    name = _MONTH_NAMES[month - 1]
    bare = old.rstrip(".")
    name = name[:3] if len(bare) <= 4 and bare.lower() not in {"june", "july"} else name
    return name.upper() if bare.isupper() else name


def _rewritten(match: re.Match[str], new: dict[str, str]) -> str:
    """Put new texts in place of some groups."""
    text, offset = match.group(), match.start()
    for name in sorted(new, key=match.start, reverse=True):
        start, end = match.span(name)
        if start >= 0:
            text = text[: start - offset] + new[name] + text[end - offset :]
    return text
