"""The models that draw outcomes: one that adds up in log-odds, and others that ask something else of a method.

``additive``
    Films, values and notes each add to the log-odds: a learnt ledger can be held against it, and adding up is right.
``interaction``
    The risk is high only where the film is opaque and the lactate is raised, and then nearly certain; either without
    the other lowers it a little. What adds up evidence modality by modality cannot say so. Notes add a little of
    their own.
``useless``
    As additive, but of the notes: they say nothing about the outcome, neither by themselves nor through what goes
    with it. Whoever listens to them can only lose.
``single``
    Values of the EHR alone drive the risk, and films and notes have nothing to do with it: fusion has no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import prod
from typing import Literal

import numpy as np
import pandas as pd

from medfusion.cohort.synthetic.anatomy import opaque_fraction
from medfusion.cohort.synthetic.events import Event
from medfusion.cohort.synthetic.films import Film
from medfusion.cohort.synthetic.notes import PREVALENCE, Note
from medfusion.core.types import FloatArray

TruthKind = Literal["additive", "interaction", "useless", "single"]


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


@dataclass(frozen=True, slots=True)
class Product:
    """Things observed that move the risk only together.

    Attributes
    ----------
    log_odds : float
        What they add where all are abnormal.
    ramps : mapping from name to (float, float)
        Up to which value each is normal, and from which on abnormal; between the two it counts in part.
    """

    log_odds: float
    ramps: Mapping[str, tuple[float, float]]

    def contribution(self, values: Mapping[str, float]) -> float:
        """Return the log-odds that values add; none where one is normal, or was not observed.

        Examples
        --------
        >>> both = Product(6.0, {"opaque_fraction": (0.05, 0.15), "lactate": (1.5, 2.5)})
        >>> both.contribution({"opaque_fraction": 0.3, "lactate": 2.0}), both.contribution({"lactate": 4.0})
        (3.0, 0.0)
        """
        if not values.keys() >= self.ramps.keys():
            return 0.0
        parts = ((values[name] - normal) / (abnormal - normal) for name, (normal, abnormal) in self.ramps.items())
        return self.log_odds * prod(min(max(part, 0.0), 1.0) for part in parts)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How outcomes come about in a cohort, and what of a patient is recorded.

    Attributes
    ----------
    base : float
        Log-odds of somebody with average values, or of whom nothing is known.
    drivers : mapping from name to Driver
    products : mapping from name to Product
    absent : mapping from modality to float
        Part of the patients of whom it has nothing at all, those of ``only_static`` among them.
    only_static : float
        Part of the patients of whom no more than age, sex and site is known.
    second_prediction : float
        Part of the patients without an event who are asked about again a day later.
    always_measured : set of str
        Quantities that everybody has of whom anything is measured.
    shared_illness : bool
        Whether values, opacities and findings go together, because one illness is behind all of them.
    """

    base: float
    drivers: Mapping[str, Driver]
    products: Mapping[str, Product] = field(default_factory=dict)
    absent: Mapping[str, float] = field(default_factory=lambda: {"imaging": 0.20, "ehr": 0.05, "notes": 0.15})
    only_static: float = 0.03
    second_prediction: float = 0.25
    always_measured: frozenset[str] = frozenset()
    shared_illness: bool = True


_DRIVERS: Mapping[str, Driver] = {
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
_FILM, _LACTATE = (0.03, 0.11), (1.4, 2.2)
"""Where the opaque fraction and the lactate (mmol/L) of the interaction turn from normal to abnormal."""
_ALONE, _TOGETHER = -1.5, 12.0
"""Log-odds of each of the two by itself, and of both beyond that."""


def _of(*modalities: str, times: float = 1.0) -> dict[str, Driver]:
    return {
        name: replace(driver, per_unit=times * driver.per_unit)
        for name, driver in _DRIVERS.items()
        if driver.modality in modalities
    }


def _ramp(modality: str, normal: float, abnormal: float) -> Driver:
    return Driver(modality, _ALONE / (abnormal - normal), normal, normal, abnormal)


TRUTHS: Mapping[TruthKind, Recipe] = {
    "additive": Recipe(-1.45, _DRIVERS),
    "interaction": Recipe(
        -1.15,
        {
            "opaque_fraction": _ramp("imaging", *_FILM),
            "lactate": _ramp("ehr", *_LACTATE),
            **_of("notes", times=0.5),
        },
        {"opaque_fraction x lactate": Product(_TOGETHER, {"opaque_fraction": _FILM, "lactate": _LACTATE})},
        # Who lacks one of the two is no use to a comparison of methods.
        absent={"imaging": 0.08, "ehr": 0.04, "notes": 0.08},
        always_measured=frozenset({"lactate"}),
    ),
    # A second prediction is for those who had no event, and notes can tell it from a first; so can who has no notes,
    # if others lack everything.
    "useless": Recipe(-1.45, _of("imaging", "ehr"), only_static=0.0, second_prediction=0.0, shared_illness=False),
    "single": Recipe(-1.45, _of("ehr"), shared_illness=False),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The answer, which a cohort folder does not hold.

    Attributes
    ----------
    base : float
        Log-odds of somebody of whom nothing is known.
    table : pandas.DataFrame
        One row per sample: subject_id, prediction_time, event, logit, risk, and a column per driver and per product
        with the log-odds that it adds, 0 where it was not observed by then. ``logit = base + sum of these columns``
        and ``risk = 1 / (1 + exp(-logit))``; the event was drawn with that probability.
    drivers : mapping from modality to names of drivers
        Age is under ``ehr``, whose reader has the static facts, and counts even where no event was recorded.
    products : mapping from name of a product to the drivers that it is of
        What they add together belongs to none of them, and to no modality.

    Examples
    --------
    >>> from medfusion.cohort.synthetic import draw_patients, truth_of
    >>> truth = truth_of(draw_patients(40, seed=0))
    >>> truth.auroc() > truth.auroc(truth.table["lactate"])
    True
    """

    base: float
    table: pd.DataFrame
    drivers: Mapping[str, tuple[str, ...]]
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def auroc(self, scores: FloatArray | None = None) -> float:
        """Return the AUROC to be expected of a score, over all outcomes that the risks could have drawn.

        Parameters
        ----------
        scores : array (n,), optional
            One per row of ``table``; without it the risk itself, than which none is better.
        """
        from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

        risk = self.table["risk"].to_numpy()
        score = risk if scores is None else np.asarray(scores)
        # Each sample is one with the event, as much as it is at risk, and one without, as much as it is not.
        outcome, weight = np.repeat([True, False], len(risk)), np.concatenate([risk, 1.0 - risk])
        return float(roc_auc_score(outcome, np.concatenate([score, score]), sample_weight=weight))


def drivers_by_modality(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Return the names of the drivers that each modality carries; of some modality there may be none.

    Examples
    --------
    >>> drivers_by_modality(TRUTHS["single"])["imaging"]
    ()
    """
    return {
        name: tuple(key for key, driver in recipe.drivers.items() if driver.modality == name) for name in recipe.absent
    }


def contributions(
    recipe: Recipe,
    moment: datetime,
    age_years: int,
    films: Iterable[Film],
    events: Iterable[Event],
    notes: Iterable[Note],
) -> dict[str, float]:
    """Return what each driver and product adds to the log-odds, from what was recorded up to ``moment``.

    Of films and values the last one counts; of notes, what any of them says is present.
    """
    values = _observed(moment, age_years, films, events, notes)
    alone = {
        name: driver.contribution(values[name]) if name in values else 0.0 for name, driver in recipe.drivers.items()
    }
    return alone | {name: product.contribution(values) for name, product in recipe.products.items()}


def _observed(
    moment: datetime, age_years: int, films: Iterable[Film], events: Iterable[Event], notes: Iterable[Note]
) -> dict[str, float]:
    """Return the values that a driver or product of any recipe may ask for."""
    values: dict[str, float] = {"age_years": float(age_years)}
    seen = [film for film in films if film.time <= moment]
    if seen:
        last = max(seen, key=lambda film: film.time)
        values["opaque_fraction"] = opaque_fraction(last.anatomy, last.opacities)
    for event in sorted(events, key=lambda event: event.time):
        if event.time <= moment:
            values[event.code] = event.value
    read = [note.findings for note in notes if note.time <= moment]
    if read:
        found = frozenset().union(*read)
        values |= {name: float(name in found) for name in PREVALENCE}
    return values
