"""The application: who comes in, in which language, to which page. Started by `medfusion dashboard`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards import access, context, language, shell, trouble
from dashboards.access import Role
from dashboards.language import _

SCREENS = Path(__file__).parent / "screens"
"""Not named ``pages``: what is in a folder of that name, Streamlit offers by itself, to whoever asks."""


def main() -> None:
    """Draw what the reader may see."""
    st.set_page_config(page_title="medfusion", layout="wide")
    st.session_state.setdefault(language.STATE, language.preferred(st.context.locale))
    trouble.quiet()
    shell.research_use()
    with trouble.told():
        settings, store = context.settings(), context.store()
        context.warm()
        who = access.admit(settings, store)
        pages = _pages(who)
        page = st.navigation(pages or [_nothing])
        shell.tools(who, settings, store)
        page.run()


def _pages(who: access.Reader) -> list[st.Page]:
    """Return the pages that a reader's roles open."""
    every = [
        (st.Page(SCREENS / "worklist.py", title=_("Worklist"), default=True), (Role.REVIEWER,)),
        (st.Page(SCREENS / "patient.py", title=_("Patient")), (Role.REVIEWER,)),
        (st.Page(SCREENS / "reports.py", title=_("Cohort")), (Role.REVIEWER, Role.AUDITOR)),
        (st.Page(SCREENS / "model.py", title=_("Model")), (Role.REVIEWER, Role.AUDITOR)),
        (st.Page(SCREENS / "audit.py", title=_("Audit trail")), (Role.AUDITOR,)),
    ]
    return [page for page, roles in every if who.may(*roles)]


def _nothing() -> None:
    st.info(_("There is no page for your role."))


if __name__ == "__main__":
    main()
