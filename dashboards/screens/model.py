"""The model behind the risks: its card, its TRIPOD+AI checklist, and the record of its training."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards import context
from dashboards.language import N_, _

_PAPERS = {"model_card": N_("Model card"), "tripod": N_("TRIPOD+AI checklist")}


def main() -> None:
    """Draw the papers of the model that the dashboard was started with."""
    st.title(_("Model"))
    folder = context.settings().model
    if folder is None:
        st.info(_("No model was named. Start the dashboard with the folder of the model that scored: --model FOLDER."))
        return
    *papers, record = st.tabs([*map(_, _PAPERS.values()), _("Record")])
    for tab, (name, title) in zip(papers, _PAPERS.items(), strict=True):
        with tab:
            _paper(folder, name, _(title))
    with record:
        _record(folder)


def _paper(folder: Path, name: str, title: str) -> None:
    """Draw a paper as it stands in the model folder, and offer it for printing."""
    try:
        said = _text(folder / f"{name}.md")
        page = _text(folder / f"{name}.html")
    except OSError:
        st.warning(_("This model folder holds no such paper. Train the model again to have it written."))
        return
    st.download_button(
        _("{title} for printing (HTML)").format(title=title),
        page,
        f"{name}.html",
        "text/html",
        icon=":material/download:",
        on_click="ignore",
    )
    st.markdown(said)


@st.cache_data(show_spinner=False)
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _record(folder: Path) -> None:
    """Draw what is known about the training: data, folds, versions, parameters, figures."""
    said = _text(folder / "card.json")
    st.download_button(
        _("Record (JSON)"),
        said,
        "card.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )
    st.json(said, expanded=1)


if __name__ == "__main__":
    main()
