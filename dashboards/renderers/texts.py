"""Texts with the shares of their words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from dashboards.language import _
from medfusion.core.views import Span, TextView
from medfusion.outputs.ledger import signed
from medfusion.outputs.waterfall import LOWERS, RAISES

_STRONGEST = 0.5
"""Opacity behind the word with the largest share: the word stays readable, in light and in dark."""
_STYLE = """<style>
.mf-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.85; max-width: 78ch; margin-bottom: 1rem; }
.mf-text mark { color: inherit; border-radius: 3px; padding: 1px 1px; }
.mf-text .mf-negated { text-decoration: underline dotted 2px; text-underline-offset: 4px; }
.mf-text sup { font-size: 0.68em; margin-left: 2px; user-select: none; font-style: italic; }
</style>"""


def render_texts(view: TextView, key: str) -> None:
    """Draw texts as they come, each word shaded by its share and each negation marked."""
    st.subheader(view.title)
    shares = [abs(span.share) for text in view.texts for span in text]
    strongest = max(shares, default=0.0)
    for heading, text in zip(view.titles, view.texts, strict=True):
        if heading:
            st.html(f"<small>{escape(heading)}</small>")
        st.html(_STYLE + text_html(text, strongest))
    st.caption(
        _("Orange words raise the risk, blue ones lower it: the stronger the colour, the larger the share. ")
        + _("Dotted underline marks what the text negates.")
    )


def text_html(text: Sequence[Span], strongest: float) -> str:
    """Return a text as HTML, in which everything that was written is escaped.

    Parameters
    ----------
    text : sequence of Span
    strongest : float
        The share that is shaded most.

    Examples
    --------
    >>> text_html([Span("No ", 0.0), Span("<fever>", -0.5, negated=True)], 0.5)  # doctest: +ELLIPSIS
    '<div class="mf-text">No <mark class="mf-negated" style="background: #0072B280" title="...">&lt;fever&gt;...</div>'
    """
    return f'<div class="mf-text">{"".join(_span(span, strongest) for span in text)}</div>'


def _span(span: Span, strongest: float) -> str:
    written = escape(span.text)
    if not span.share and not span.negated:
        return written
    colour = RAISES if span.share > 0 else LOWERS
    alpha = round(255 * _STRONGEST * abs(span.share) / strongest) if strongest else 0
    said = _("{share} log-odds").format(share=signed(span.share, 3))
    negated = f"<sup>{escape(_('not'))}</sup>" if span.negated else ""
    css = ' class="mf-negated"' if span.negated else ""
    return f'<mark{css} style="background: {colour}{alpha:02x}" title="{escape(said)}">{written}</mark>{negated}'
