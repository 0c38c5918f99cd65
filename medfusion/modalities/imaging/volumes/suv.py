"""Standardised uptake values of PET, or the reason why the header does not allow them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from medfusion.modalities.imaging.volumes.elements import Elements, number, text

WEIGHT_KG = (0.3, 600.0)
DOSE_BQ = (1e5, 1e11)
HALF_LIFE_SECONDS = (10.0, 1e7)
"""Bounds of what is taken for a weight, an injected activity and a half-life; a dose in MBq or minutes lie outside."""
MOST_HALF_LIVES = 10.0
LONGEST_SCAN = timedelta(hours=12)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Activity:
    """What a PET header says about the activity that was injected and that is shown.

    Attributes
    ----------
    units, suv_type, correction : str
        Units, SUVType and DecayCorrection, in capitals; empty where the header does not say.
    weight_kg, dose_bq, half_life_seconds : float or None
    injected_at, series_at, acquired_at, corrected_to : datetime or None
        In the scanner's local time. `corrected_to` is DecayCorrectionDateTime, which enhanced PET gives.
    """

    units: str
    suv_type: str
    correction: str
    weight_kg: float | None
    dose_bq: float | None
    half_life_seconds: float | None
    injected_at: datetime | None
    series_at: datetime | None
    acquired_at: datetime | None
    corrected_to: datetime | None


def read_activity(elements: Elements) -> Activity:
    """Read it from the header of a PET slice.

    Raises
    ------
    PayloadRejected
        ``bad-header``, if a number is none.
    """
    sequence = elements.get("RadiopharmaceuticalInformationSequence")
    items = list(sequence.value or []) if sequence is not None else []
    # With two tracers in one series no single dose explains the values.
    tracer: Elements = {element.keyword: element for element in items[0]} if len(items) == 1 else {}
    day, zone = text(elements, "SeriesDate"), text(elements, "TimezoneOffsetFromUTC")
    started = text(tracer, "RadiopharmaceuticalStartDateTime")
    clock = text(tracer, "RadiopharmaceuticalStartTime")
    return Activity(
        units=text(elements, "Units").upper() or text(elements, "RescaleType").upper(),
        suv_type=text(elements, "SUVType").upper(),
        correction=text(elements, "DecayCorrection").upper(),
        weight_kg=number(elements, "PatientWeight"),
        dose_bq=number(tracer, "RadionuclideTotalDose"),
        half_life_seconds=number(tracer, "RadionuclideHalfLife"),
        injected_at=_moment(started, zone) if started else _moment(day + clock if clock else "", zone),
        series_at=_joined(elements, "SeriesDate", "SeriesTime"),
        acquired_at=_joined(elements, "AcquisitionDate", "AcquisitionTime"),
        corrected_to=_moment(text(elements, "DecayCorrectionDateTime"), zone),
    )


class NoUptake(ValueError):
    """A header does not say what it takes to turn activity into uptake; the message says what is amiss."""


def suv_factor(activities: Sequence[Activity]) -> float:
    r"""Return what Bq/mL are multiplied by to become SUV by body weight, in g/mL.

    .. math:: SUV = C \cdot \frac{1000\, w}{D \cdot 2^{-(t_{ref} - t_{inj}) / T_{1/2}}}

    where C is the activity concentration in Bq/mL, w the body weight in kg, D the injected activity in Bq at the time
    of injection, T the half-life, and :math:`t_{ref}` the moment to which C is decay corrected: the injection itself
    for DecayCorrection ADMIN, DecayCorrectionDateTime where there is one, and else, for START, the start of the series.

    Parameters
    ----------
    activities : sequence of Activity
        Of every slice.

    Raises
    ------
    NoUptake
        If a value is missing, cannot be, or differs between slices.

    References
    ----------
    QIBA, Vendor-neutral pseudo-code for SUV calculation ("happy path"); Kinahan PE, Fletcher JW. PET/CT standardized
    uptake values in clinical practice and assessing response to therapy. Semin Ultrasound CT MR 2010;31:496-505.
    DICOM PS3.3 C.8.9.1 (PET series) and C.8.9.2 (PET isotope).

    Examples
    --------
    >>> start = datetime(2020, 1, 31, 10, 0)
    >>> activity = Activity("BQML", "", "ADMIN", 70.0, 3.5e8, 6586.2, None, start, start, None)
    >>> round(suv_factor([activity]) * 5000, 6)
    1.0
    """
    first = activities[0]
    weight_kg = _within("PatientWeight", "kg", first.weight_kg, WEIGHT_KG)
    dose_bq = _within("RadionuclideTotalDose", "Bq", first.dose_bq, DOSE_BQ)
    half_life = _within("RadionuclideHalfLife", "s", first.half_life_seconds, HALF_LIFE_SECONDS)
    values = [(each.correction, each.weight_kg, each.dose_bq, each.half_life_seconds) for each in activities]
    _only("weight, dose, half-life or decay correction", values)
    seconds = 0.0
    if first.correction != "ADMIN":
        injected = _only("time of injection", [each.injected_at for each in activities])
        seconds = (_corrected_to(activities) - injected).total_seconds()
    if not 0 <= seconds <= MOST_HALF_LIVES * half_life:
        raise NoUptake(f"the injection was {seconds:.0f} s before the time of decay correction")
    return 1000.0 * weight_kg / (dose_bq * math.exp2(-seconds / half_life))


def _within(keyword: str, unit: str, value: float | None, bounds: tuple[float, float]) -> float:
    if value is None:
        raise NoUptake(f"{keyword} is missing")
    if not bounds[0] <= value <= bounds[1]:
        raise NoUptake(f"{keyword} is {value:g}, which is no value in {unit}")
    return value


def _only(name: str, values: Sequence[T | None]) -> T:
    """Return the one value that all slices have."""
    if len(set(values)) > 1:
        raise NoUptake(f"slices disagree about the {name}")
    if values[0] is None:
        raise NoUptake(f"the {name} is missing")
    return values[0]


def _corrected_to(activities: Sequence[Activity]) -> datetime:
    """Return the moment to which decay is corrected."""
    if any(each.corrected_to for each in activities):
        return _only("time of decay correction", [each.corrected_to for each in activities])
    if activities[0].correction != "START":
        raise NoUptake(f"DecayCorrection is {activities[0].correction or 'missing'}")
    start = _only("start of the series", [each.series_at for each in activities])
    acquired = [each.acquired_at for each in activities if each.acquired_at is not None]
    if not acquired or not timedelta() <= min(acquired) - start <= LONGEST_SCAN:
        # A series made later from another carries its own time, not that of the scan.
        raise NoUptake("SeriesTime is not shortly before AcquisitionTime, so it may not be when the scan began")
    return start


def _joined(elements: Elements, day: str, clock: str) -> datetime | None:
    parts = text(elements, day), text(elements, clock)
    return _moment("".join(parts), "") if all(parts) else None


def _moment(stamp: str, zone: str) -> datetime | None:
    """Return a moment in local time; None if it is not exact to the minute or of another zone than the rest."""
    from pydicom.valuerep import DT  # noqa: PLC0415 - slow to import

    digits, sign, offset = stamp.partition("+") if "+" in stamp else stamp.partition("-")
    if sign and sign + offset != zone:
        return None
    try:
        moment = DT(digits) if len(digits.partition(".")[0]) >= 12 else None
    except (ValueError, OverflowError):
        return None
    return None if moment is None else datetime.combine(moment.date(), moment.time())
