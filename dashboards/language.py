"""The reader's language: texts from message catalogues, numbers and dates as that language writes them."""

from __future__ import annotations

import gettext
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import streamlit as st
from babel.dates import format_date, format_time
from babel.numbers import format_decimal, format_percent
from streamlit.runtime.scriptrunner import get_script_run_ctx

LANGUAGES = {"en": "English", "ko": "한국어"}
"""By code, each in its own words."""
CATALOGUES = Path(__file__).parent / "locale"
STATE = "language"
"""Where a session keeps the code of its language; every run of it, and of a part of it, is in a thread of its own."""
MINUS = "\N{MINUS SIGN}"
_current: ContextVar[str] = ContextVar("language", default="en")


def use(language: str) -> None:
    """Speak a language from now on, in this thread alone; a session's own choice comes first.

    Raises
    ------
    KeyError
        If it is none of `LANGUAGES`.
    """
    LANGUAGES[language]
    _current.set(language)


def current() -> str:
    """Return the code of the language in use."""
    chosen = st.session_state.get(STATE) if get_script_run_ctx(suppress_warning=True) else None
    return chosen or _current.get()


def preferred(locale: str | None) -> str:
    """Return the language that comes nearest to a browser's.

    Examples
    --------
    >>> preferred("ko-KR"), preferred("de"), preferred(None)
    ('ko', 'en', 'en')
    """
    code = (locale or "").partition("-")[0].lower()
    return code if code in LANGUAGES else "en"


def N_(text: str) -> str:  # noqa: N802 - the name by which texts are found
    """Mark a text that is translated where it is shown, and return it as it is."""
    return text


def _(text: str) -> str:
    """Return a text in the language in use; the English text is its key in the catalogues."""
    return _catalogue(current()).gettext(text)


def ngettext(one: str, many: str, n: int) -> str:
    """Return the form of a text that goes with a number."""
    return _catalogue(current()).ngettext(one, many, n)


def term(name: str) -> str:
    """Return a name of the data's own, such as a kind of data or a lab value, as a reader knows it.

    The glossary is a catalogue of its own, so that names can be added without edits to any program; a name that is not
    in it is shown as it is.

    Examples
    --------
    >>> term("blood_loss")
    'blood loss'
    """
    said = _catalogue(current(), "terms").gettext(name)
    return said if said != name else name.replace("_", " ")


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


def signed(value: float, pattern: str = "0.0") -> str:
    """Write a number with its sign, whatever it is.

    Examples
    --------
    >>> signed(0.94), signed(-0.06, "0%") == MINUS + "6%"
    ('+0.9', True)
    """
    return (MINUS if value < 0 else "+") + format_decimal(abs(value), format=f"#,##{pattern}", locale=current())


def when(moment: datetime) -> str:
    """Write a date with its time.

    Examples
    --------
    >>> when(datetime(2026, 3, 1, 14, 5)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    'Mar 1, 2026 2:05 PM'
    """
    language = current()
    return f"{format_date(moment, 'medium', locale=language)} {format_time(moment, 'short', locale=language)}"


@lru_cache(maxsize=2 * len(LANGUAGES))
def _catalogue(language: str, domain: str = "dashboards") -> gettext.NullTranslations:
    return gettext.translation(domain, CATALOGUES, [language], fallback=True)
