"""Draws vital signs and laboratory values at irregular times, in ranges and units as on a ward."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from medfusion.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Quantity:
    """How one quantity behaves.

    Attributes
    ----------
    unit : str
        UCUM.
    typical, spread : float
        Median and standard deviation over patients; of the logarithm where ``skewed``.
    low, high : float
        Values beyond are not reported.
    digits : int
        Decimals.
    every_hours : float
        Mean time between measurements.
    measured : float
        Part of the patients in whom it is measured at all.
    severity : float
        Correlation of a patient's level with how ill the patient is.
    skewed : bool
        Whether it is log-normal.
    """

    unit: str
    typical: float
    spread: float
    low: float
    high: float
    digits: int
    every_hours: float
    measured: float
    severity: float
    skewed: bool = False


QUANTITIES: Mapping[str, Quantity] = {
    "heart_rate": Quantity("/min", 88.0, 15.0, 38.0, 190.0, 0, 5.0, 0.98, 0.25),
    "respiratory_rate": Quantity("/min", 20.0, 4.5, 8.0, 48.0, 0, 5.0, 0.96, 0.3),
    "spo2": Quantity("%", 94.5, 2.8, 70.0, 100.0, 0, 5.0, 0.97, -0.3),
    "systolic_bp": Quantity("mm[Hg]", 126.0, 18.0, 60.0, 220.0, 0, 5.0, 0.98, -0.15),
    "temperature": Quantity("Cel", 37.4, 0.7, 34.5, 41.0, 1, 7.0, 0.95, 0.1),
    "lactate": Quantity("mmol/L", 1.7, 0.45, 0.4, 14.0, 1, 14.0, 0.82, 0.3, skewed=True),
    "creatinine": Quantity("mg/dL", 1.0, 0.38, 0.3, 9.0, 2, 18.0, 0.93, 0.2, skewed=True),
    "crp": Quantity("mg/L", 62.0, 0.85, 0.5, 420.0, 1, 20.0, 0.85, 0.3, skewed=True),
    "wbc": Quantity("10*3/uL", 10.6, 0.38, 0.8, 45.0, 1, 20.0, 0.92, 0.1, skewed=True),
    "hemoglobin": Quantity("g/dL", 12.7, 1.8, 5.5, 18.5, 1, 20.0, 0.92, 0.0),
    "potassium": Quantity("mmol/L", 4.2, 0.45, 2.5, 6.9, 1, 18.0, 0.9, 0.0),
    "sodium": Quantity("mmol/L", 138.0, 3.8, 118.0, 156.0, 0, 18.0, 0.9, 0.0),
}
WITHIN_PATIENT = 0.35
"""Standard deviation of one measurement around the patient's level, as a part of ``spread``."""


@dataclass(frozen=True, slots=True)
class Event:
    """One measured value."""

    time: datetime
    code: str
    value: float
    unit: str


def draw_levels(rng: np.random.Generator, severity: float, always: Collection[str] = ()) -> dict[str, float]:
    """Draw a patient's level of each quantity that is measured in this patient, as a standard normal.

    Parameters
    ----------
    rng : numpy.random.Generator
    severity : float
        How ill the patient is, as a standard normal.
    always : collection of str
        Codes of quantities that are measured in everybody.
    """
    levels = {}
    for code, quantity in QUANTITIES.items():
        own = rng.standard_normal()
        if rng.random() < quantity.measured or code in always:
            levels[code] = quantity.severity * severity + np.sqrt(1.0 - quantity.severity**2) * own
    return levels


def draw_events(
    rng: np.random.Generator, levels: Mapping[str, float], start: datetime, end: datetime, worse: float = 0.0
) -> list[Event]:
    """Draw measurements after ``start`` and not after ``end``.

    Parameters
    ----------
    rng : numpy.random.Generator
    levels : mapping from code to float
        As `draw_levels` gives them.
    start, end : datetime
    worse : float
        Standard deviations by which quantities that go with severity move to the worse.
    """
    hours = (end - start).total_seconds() / 3600.0
    events = []
    for code, level in levels.items():
        quantity = QUANTITIES[code]
        gaps = quantity.every_hours * rng.uniform(0.5, 1.5, int(2.0 * hours / quantity.every_hours) + 2)
        gaps[0] -= 0.5 * quantity.every_hours
        at = 1 + np.floor(60.0 * np.cumsum(gaps))
        at = at[at <= 60.0 * hours]
        around = level + worse * np.sign(quantity.severity) + WITHIN_PATIENT * rng.standard_normal(len(at))
        for minutes, value in zip(at.tolist(), measured_values(quantity, around).tolist(), strict=True):
            events.append(Event(start + timedelta(minutes=minutes), code, value, quantity.unit))
    return sorted(events, key=lambda event: event.time)


def measured_values(quantity: Quantity, levels: FloatArray) -> FloatArray:
    """Return the values that belong to standard normal ``levels`` (n,).

    Examples
    --------
    >>> measured_values(QUANTITIES["spo2"], np.array([-1.0, 5.0])).tolist()
    [92.0, 100.0]
    """
    shifted = quantity.spread * levels
    values = quantity.typical * np.exp(shifted) if quantity.skewed else quantity.typical + shifted
    return np.asarray(np.round(np.clip(values, quantity.low, quantity.high), quantity.digits))
