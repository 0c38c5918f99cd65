"""What all pages share: opened once per server, whoever looks."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards import access
from dashboards.access import Reader
from dashboards.scores import Scores
from dashboards.settings import Settings
from medfusion.pipeline import RiskModel, load_model
from medfusion.review import ReviewStore

__all__ = ["Reader", "cohort_folder", "model", "reader", "scores", "settings", "store"]


def settings() -> Settings:
    """Return what the dashboard was started with."""
    return Settings.current()


def scores() -> Scores:
    """Return the scored samples.

    Raises
    ------
    dashboards.scores.ScoresUnusable
        If the folder is empty, damaged, or of an unknown version; the text says what to do.
    """
    return _scores(settings().scores)


def store() -> ReviewStore:
    """Return the decisions and the audit trail.

    Raises
    ------
    medfusion.review.ReviewUnavailable
        If the database is locked or gone.
    """
    return _store(settings().reviews)


def model() -> RiskModel | None:
    """Return the model that scored; None where none was named."""
    folder = settings().model
    return None if folder is None else _model(folder)


def cohort_folder() -> Path | None:
    """Return the folder of the cohort that was scored; None where none was named."""
    return settings().cohort


def reader() -> Reader:
    """Return who looks, and note that they are active; whoever has no right to look never gets here."""
    return access.reader(settings())


@st.cache_resource(show_spinner=False)
def _scores(folder: Path) -> Scores:
    return Scores.open(folder)


@st.cache_resource(show_spinner=False)
def _store(url: str) -> ReviewStore:
    return ReviewStore.open(url)


@st.cache_resource(show_spinner=False)
def _model(folder: Path) -> RiskModel:
    return load_model(folder)
