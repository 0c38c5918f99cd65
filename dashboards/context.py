"""What all pages share: opened once per server, whoever looks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Thread

import pyarrow as pa
import streamlit as st

from dashboards import access
from dashboards.access import Reader
from dashboards.reasons import units_of
from dashboards.scores import Scores
from dashboards.settings import Settings
from medfusion.pipeline import Desk, RiskModel, TrainingCohort, load_for, open_for_use, scores_changed
from medfusion.review import ReviewStore

_LOOK_SECONDS = 30
"""How long it may take until what is being scored now is seen."""
__all__ = [
    "Reader",
    "cohort_folder",
    "decided",
    "desk",
    "model",
    "reader",
    "scores",
    "settings",
    "store",
    "training",
    "units",
    "warm",
]


def settings() -> Settings:
    """Return what the dashboard was started with."""
    return Settings.current()


def scores() -> Scores:
    """Return the scored samples.

    Raises
    ------
    medfusion.core.errors.DataError
        If the folder is empty, damaged, or of an older version; see `medfusion.pipeline.open_scores`.
    """
    folder = settings().scores
    return _scores(folder, _changed(folder))


def store() -> ReviewStore:
    """Return the decisions and the audit trail.

    Raises
    ------
    medfusion.review.ReviewUnavailable
        If the database is locked or gone.
    """
    return _store(settings().reviews)


def decided(zoned: bool) -> pa.Table:
    """Return the latest decision of each sample, as `medfusion.review.ReviewStore.summary` does.

    Raises
    ------
    medfusion.review.ReviewUnavailable
        If the database is locked or gone.
    """
    return _decided(settings().reviews, str(store().head()), zoned)


def units() -> dict[str, str]:
    """Return the units that the cohort declares."""
    return _units(cohort_folder())


def model() -> RiskModel | None:
    """Return the model that scored; None where none was named."""
    folder = settings().model
    return None if folder is None else _model(folder, settings().cache)


def cohort_folder() -> Path | None:
    """Return the folder of the cohort that was scored; None where none was named."""
    return settings().cohort


def desk() -> Desk | None:
    """Return model and cohort, open for one patient after another; None where one of them was not named."""
    found, folder = model(), cohort_folder()
    return None if found is None or folder is None else _desk(found, found.model_id, folder)


@st.cache_resource(show_spinner=False)
def warm() -> None:
    """Have model and cohort read in the background, once per server: who opens the first patient need not wait."""
    named = settings()
    if named.model is not None and named.cohort is not None:
        whole = (named.model, named.cohort, named.cache)
        Thread(target=_read_cohort, args=whole, name="warm", daemon=True).start()


def _read_cohort(model_folder: Path, cohort: Path, cache: Path | None) -> None:
    # The patient page meets the same error and tells it; a thread would print its words, which may name a patient.
    with suppress(Exception):
        found = _model(model_folder, cache)
        _ = _desk(found, found.model_id, cohort).cohort


def training() -> TrainingCohort | None:
    """Return the cohort that the model was trained on, embedded; None where it was not named. It takes its time.

    Raises
    ------
    medfusion.core.errors.DataError
        If it cannot be read.
    """
    named = settings()
    if named.model is None or named.training is None:
        return None
    return _training(named.model, named.training, named.cache)


def reader() -> Reader:
    """Return who looks, and note that they are active; whoever has no right to look never gets here."""
    return access.reader(settings())


@st.cache_data(ttl=_LOOK_SECONDS, show_spinner=False)
def _changed(folder: Path) -> int:
    return scores_changed(folder)


@st.cache_resource(max_entries=2, show_spinner=False)
def _scores(folder: Path, changed: int) -> Scores:
    return Scores.open(folder)


@st.cache_resource(show_spinner=False)
def _store(url: str) -> ReviewStore:
    return ReviewStore.open(url)


@st.cache_resource(max_entries=2, show_spinner=False)
def _decided(url: str, head: str, zoned: bool) -> pa.Table:
    return _store(url).summary(zoned=zoned)


@st.cache_resource(show_spinner=False)
def _units(cohort: Path | None) -> dict[str, str]:
    return units_of(cohort)


@st.cache_resource(show_spinner=False)
def _model(folder: Path, cache: Path | None) -> RiskModel:
    return load_for(folder, cache)


@st.cache_resource(show_spinner=False)
def _desk(_model: RiskModel, model_id: str, cohort: Path) -> Desk:
    return Desk(_model, cohort)


@st.cache_resource(show_spinner=False)
def _training(model_folder: Path, cohort: Path, cache: Path | None) -> TrainingCohort:
    return TrainingCohort.of(open_for_use(model_folder, cohort, cache))
