"""Who saw, decided and did what: the audit trail, whether it is whole, and a copy to take along."""

from __future__ import annotations

import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards import context
from dashboards.language import _, ngettext, number
from medfusion.review import Event, ReviewStore

SIZE = 50
"""Events of a page."""
_END = "audit_end"


def main() -> None:
    """Draw the latest events, and the ways to check and to copy all of them."""
    st.title(_("Audit trail"))
    store = context.store()
    last = store.head().seq
    said = ngettext("{n} event", "{n} events", last).format(n=number(last, 12))
    st.caption(said + " · " + _("each carries a hash of the one before, so that none can be changed unseen"))
    _check(store)
    _copy(store)
    if last:
        _events(store, last)


def _check(store: ReviewStore) -> None:
    """Check the chain on request: of a long trail it takes a while."""
    with st.container(border=True):
        head = st.text_input(
            _("End of the chain as noted earlier, NUMBER:HASH (optional)"),
            help=_("With it, a trail that was shortened or written anew is found, too."),
        )
        if not st.button(_("Check the chain"), icon=":material/verified_user:"):
            return
        with st.spinner(_("Checking every event")):
            found = store.verify(head.strip())
        if found.ok:
            st.success(
                _("Whole: {n} events. Note this end of the chain somewhere else:").format(n=number(found.checked, 12))
            )
            st.code(found.head, language=None)
        else:
            st.error(
                _("Not whole, from event {n} on: {reason}").format(
                    n=number(found.first_bad or 0, 12), reason=found.reason
                ),
                icon=":material/gpp_bad:",
            )


def _copy(store: ReviewStore) -> None:
    """Offer decisions and events as Parquet; the copy itself is an event."""
    if st.button(_("Prepare a copy (Parquet)"), icon=":material/table:"):
        st.download_button(
            _("Download the copy"), _zipped(store), "reviews.zip", "application/zip", icon=":material/download:"
        )


def _zipped(store: ReviewStore) -> bytes:
    written = BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        store.export(Path(folder), context.reader().name)
        with zipfile.ZipFile(written, "w") as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)
    return written.getvalue()


def _events(store: ReviewStore, last: int) -> None:
    """Draw a page of events, the latest first."""
    end = min(st.session_state.get(_END, last), last)
    start = max(end - SIZE, 0)
    found = store.events(after=start, limit=end - start)
    # A plain table: a browser can search it, and read it aloud.
    st.table([_row(event) for event in reversed(found)], border="horizontal", hide_index=True)
    newer, where, older = st.columns([1, 2, 1], vertical_alignment="center")
    where.markdown(_("Events {first} to {last}").format(first=number(start + 1, 12), last=number(end, 12)))
    turn: dict[str, Any] = {"on_click": _go, "width": "stretch"}
    newer.button(_("Newer"), disabled=end == last, args=(min(end + SIZE, last),), **turn)
    older.button(_("Older"), disabled=start == 0, args=(start,), **turn)


def _go(end: int) -> None:
    st.session_state[_END] = end


def _row(event: Event) -> dict[str, str | int]:
    about = event.about
    return {
        _("Number"): event.seq,
        _("Time (UTC)"): event.time[:19].replace("T", " "),
        _("Who"): event.who,
        _("Action"): event.action,
        _("Patient"): "" if about is None else about.subject_id,
        _("Detail"): event.what,
    }


if __name__ == "__main__":
    main()
