"""The reader's language: texts from message catalogues, numbers and dates as that language writes them."""

from __future__ import annotations

import gettext
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from babel.dates import format_date, format_time
from babel.numbers import format_decimal, format_percent

LANGUAGES = {"en": "English", "ko": "한국어"}
"""By code, each in its own words."""
CATALOGUES = Path(__file__).parent / "locale"
_current: ContextVar[str] = ContextVar("language", default="en")


def use(language: str) -> None:
    """Speak a language from now on, in this session's thread alone.

    Raises
    ------
    KeyError
        If it is none of `LANGUAGES`.
    """
    LANGUAGES[language]
    _current.set(language)


def current() -> str:
    """Return the code of the language in use."""
    return _current.get()


def _(text: str) -> str:
    """Return a text in the language in use; the English text is its key in the catalogues."""
    return _catalogue(current()).gettext(text)


def ngettext(one: str, many: str, n: int) -> str:
    """Return the form of a text that goes with a number."""
    return _catalogue(current()).ngettext(one, many, n)


def percent(risk: float) -> str:
    """Write a probability in percent, with a decimal where it is below 10 % or above 90 %.

    Examples
    --------
    >>> percent(0.0312), percent(0.378)
    ('3.1%', '38%')
    """
    pattern = "#,##0%" if 0.095 <= risk < 0.905 else "#,##0.0%"
    return format_percent(risk, format=pattern, locale=current())


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits.

    Examples
    --------
    >>> number(1234.567), number(0.8264)
    ('1,235', '0.826')
    """
    rounded = float(f"{value:.{digits}g}") if abs(value) < 10**digits else round(value)
    return format_decimal(rounded, locale=current())


def when(moment: datetime) -> str:
    """Write a date with its time.

    Examples
    --------
    >>> when(datetime(2026, 3, 1, 14, 5)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    'Mar 1, 2026 2:05 PM'
    """
    language = current()
    return f"{format_date(moment, 'medium', locale=language)} {format_time(moment, 'short', locale=language)}"


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("dashboards", CATALOGUES, [language], fallback=True)
