"""What every page has: the line on research use, language, who looks."""

from __future__ import annotations

import streamlit as st

from dashboards import access, language
from dashboards.access import Reader
from dashboards.language import _
from dashboards.settings import Settings
from medfusion.review import ReviewStore

_CHOICE = "language_choice"
_STYLE = """
<style>
.medfusion-use { padding: 0.35rem 0.8rem; border: 1px solid currentColor; border-radius: 0.4rem; font-size: 0.9rem; }
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p { color: inherit; opacity: 1; }
[data-tag], [data-tag] > * { color: inherit; }
[data-tag] { background: transparent; border: 1px solid currentColor; }
[data-testid="stMainBlockContainer"] { padding: 3.5rem 1.5rem 2rem; }
</style>
"""


def research_use() -> None:
    """Say what none of this is; on every page, whatever happens."""
    said = _("Research use only. Not a medical device.")
    st.html(f'{_STYLE}<div class="medfusion-use" role="note">{said}</div>')


def tools(who: Reader, settings: Settings, store: ReviewStore) -> None:
    """Draw the foot of the sidebar: language, who looks, and the way out."""
    with st.sidebar:
        codes = list(language.LANGUAGES)
        place = codes.index(language.current())
        words = language.LANGUAGES.__getitem__
        st.selectbox("Language / 언어", codes, place, format_func=words, key=_CHOICE, on_change=_choose)
        st.caption(_("Reader: {name}").format(name=who.name))
        if settings.sign_in:
            st.button(_("Sign out"), on_click=access.sign_out, args=(settings, store), width="stretch")
        else:
            st.caption(_("Without sign-in: for this machine only, and for everybody who is logged in on it."))


def _choose() -> None:
    # Kept apart from the widget, whose own state is dropped whenever a page ends before it is drawn.
    st.session_state[language.STATE] = st.session_state[_CHOICE]
