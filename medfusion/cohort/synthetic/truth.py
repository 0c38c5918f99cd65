"""The model that draws the outcome: additive in log-odds, so that a learnt ledger can be held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from medfusion.cohort.synthetic.anatomy import opaque_fraction
from medfusion.cohort.synthetic.events import Event
from medfusion.cohort.synthetic.films import Film
from medfusion.cohort.synthetic.notes import PREVALENCE, Note


@dataclass(frozen=True, slots=True)
class Driver:
    """Something observed that moves the risk.

    Attributes
    ----------
    modality : str
        The modality that carries it.
    per_unit : float
        Log-odds per unit.
    reference : float
        The value that adds nothing: about the average, so that a value that is absent, which adds nothing either,
        means the average risk.
    low, high : float
        Beyond these the effect grows no further.
    """

    modality: str
    per_unit: float
    reference: float
    low: float
    high: float

    def contribution(self, value: float) -> float:
        """Return the log-odds that a value adds.

        Examples
        --------
        >>> Driver("ehr", 0.5, 2.0, 0.5, 8.0).contribution(4.0)
        1.0
        """
        return self.per_unit * (min(max(value, self.low), self.high) - self.reference)


BASE = -1.45
"""Log-odds of somebody with average values, or of whom nothing is known."""
DRIVERS: Mapping[str, Driver] = {
    "opaque_fraction": Driver("imaging", 10.0, 0.11, 0.0, 0.5),
    "lactate": Driver("ehr", 0.75, 1.9, 0.4, 7.0),
    "spo2": Driver("ehr", -0.2, 94.3, 80.0, 100.0),
    "respiratory_rate": Driver("ehr", 0.09, 20.0, 10.0, 40.0),
    "creatinine": Driver("ehr", 0.8, 1.1, 0.3, 4.0),
    "age_years": Driver("ehr", 0.03, 64.0, 18.0, 97.0),
    "confusion": Driver("notes", 1.5, PREVALENCE["confusion"], 0.0, 1.0),
    "cyanosis": Driver("notes", 1.4, PREVALENCE["cyanosis"], 0.0, 1.0),
    "mottling": Driver("notes", 1.1, PREVALENCE["mottling"], 0.0, 1.0),
    "ambulating": Driver("notes", -1.1, PREVALENCE["ambulating"], 0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The answer, which a cohort folder does not hold.

    Attributes
    ----------
    base : float
        Log-odds of somebody of whom nothing is known.
    table : pandas.DataFrame
        One row per sample: subject_id, prediction_time, event, logit, risk, and a column per driver with the
        log-odds that it adds, 0 where it was not observed by then. ``logit = base + sum of the drivers`` and
        ``risk = 1 / (1 + exp(-logit))``; the event was drawn with that probability.
    drivers : mapping from modality to names of drivers
        Age is under ``ehr``, whose reader has the static facts, and counts even where no event was recorded.
    """

    base: float
    table: pd.DataFrame
    drivers: Mapping[str, tuple[str, ...]]


def drivers_by_modality() -> dict[str, tuple[str, ...]]:
    """Return the names of the drivers that each modality carries.

    Examples
    --------
    >>> drivers_by_modality()["imaging"]
    ('opaque_fraction',)
    """
    modalities = dict.fromkeys(driver.modality for driver in DRIVERS.values())
    return {name: tuple(key for key, driver in DRIVERS.items() if driver.modality == name) for name in modalities}


def contributions(
    moment: datetime, age_years: int, films: Iterable[Film], events: Iterable[Event], notes: Iterable[Note]
) -> dict[str, float]:
    """Return what each driver adds to the log-odds, from what was recorded up to ``moment``.

    Of films and values the last one counts; of notes, what any of them says is present.
    """
    values: dict[str, float] = {"age_years": float(age_years)}
    seen = [film for film in films if film.time <= moment]
    if seen:
        last = max(seen, key=lambda film: film.time)
        values["opaque_fraction"] = opaque_fraction(last.anatomy, last.opacities)
    for event in sorted(events, key=lambda event: event.time):
        if event.time <= moment and event.code in DRIVERS:
            values[event.code] = event.value
    read = [note.findings for note in notes if note.time <= moment]
    if read:
        found = frozenset().union(*read)
        values |= {name: float(name in found) for name in PREVALENCE}
    return {name: driver.contribution(values[name]) if name in values else 0.0 for name, driver in DRIVERS.items()}
