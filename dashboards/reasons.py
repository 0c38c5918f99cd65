"""Lines of a ledger in words: what was observed, with its unit, and how much it moved the risk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dashboards.language import N_, _, ngettext, number, signed, term
from dashboards.scores import Reason
from medfusion.core.folder import CohortFolder

_PLAIN = {
    "last": N_("{name} {value}"),
    "first": N_("first {name} {value}"),
    "min": N_("lowest {name} {value}"),
    "max": N_("highest {name} {value}"),
    "mean": N_("average {name} {value}"),
    "mean_in_time": N_("average {name} over time {value}"),
    "tenth": N_("10th percentile of {name} {value}"),
    "ninetieth": N_("90th percentile of {name} {value}"),
    "spread": N_("spread of {name} {value}"),
}
"""How a statistic that is in the unit of the values is told."""
_WITHIN = {
    "min": N_("lowest {name} in the last {hours} h {value}"),
    "max": N_("highest {name} in the last {hours} h {value}"),
    "mean": N_("average {name} in the last {hours} h {value}"),
    "sum": N_("sum of {name} in the last {hours} h {value}"),
    "count": N_("{name}: measured {value} times in the last {hours} h"),
    "recent": N_("recent {name} {value}"),
}
_BETWEEN = {
    "min": N_("lowest {name} {start} to {hours} h before {value}"),
    "max": N_("highest {name} {start} to {hours} h before {value}"),
    "mean": N_("average {name} {start} to {hours} h before {value}"),
}
_UNITLESS = {
    "slope": N_("{name} changing by {value} per hour"),
    "count": N_("{name}: measured {value} times"),
    "hours_since_last": N_("{name}: last measured {value} h before"),
}
_WINDOW = re.compile(r"(?P<kind>min|max|mean|sum|count|recent)_(?:(?P<start>\d+)_)?(?P<hours>\d+)h")
_OTHERS = re.compile(r"\((\d+) others\)")
"""The line into which a ledger folds its smallest; see `medfusion.outputs.fold`."""
_UCUM = (("[Hg]", "Hg"), ("[degF]", "°F"), ("Cel", "°C"), ("10*3", "10³"), ("10*6", "10⁶"), ("10*9", "10⁹"))
_MICRO = re.compile(r"\bu(?=mol|g|L|kat)")


def units_of(cohort: Path | None) -> dict[str, str]:
    """Return the units that a cohort declares for its codes, whatever kind of data they are of."""
    if cohort is None:
        return {}
    config = CohortFolder.open(cohort).config
    tables = [said.get("units") for said in config.values() if isinstance(said, Mapping)]
    return {code: str(unit) for table in tables if isinstance(table, Mapping) for code, unit in table.items()}


def unit_text(unit: str) -> str:
    """Write a UCUM unit as people do.

    Examples
    --------
    >>> unit_text("mm[Hg]"), unit_text("Cel"), unit_text("10*3/uL")
    ('mmHg', '°C', '10³/µL')
    """
    for coded, said in _UCUM:
        unit = unit.replace(coded, said)
    return _MICRO.sub("µ", unit)


def reason_text(reason: Reason, units: Mapping[str, str]) -> str:
    """Tell a line of a ledger.

    Parameters
    ----------
    reason : Reason
    units : mapping from code to UCUM unit

    Examples
    --------
    >>> reason_text(Reason("labs", "lactate last", "4.7", 0.94), {"lactate": "mmol/L"})
    'lactate 4.7 mmol/L, +0.9'
    >>> reason_text(Reason("film", "(all regions)", None, 0.22), {})
    'film as a whole, +0.2'
    """
    share = signed(reason.share, "0.0" if abs(reason.share) >= 0.095 else "0.00")
    return f"{feature_text(reason, units)}, {share}"


def feature_text(reason: Reason, units: Mapping[str, str], *, alone: bool = True) -> str:
    """Tell what was observed, without its share; where it does not stand alone, but below the name of its modality.

    Examples
    --------
    >>> feature_text(Reason("labs", "heart_rate max_24h", "131", 0.5), {"heart_rate": "/min"})
    'highest heart rate in the last 24 h 131/min'
    >>> feature_text(Reason("notes", "not fever", None, -0.2), {})
    '“not fever”'
    >>> feature_text(Reason("labs", "(7 others)", None, 0.1), {}, alone=False)
    '7 others'
    """
    feature, value = reason.feature, reason.value
    if feature.startswith("("):
        others = _OTHERS.fullmatch(feature)
        said = term(feature) if others is None else _others(int(others[1]))
        return f"{term(reason.modality)} {said}" if alone else said
    name, _space, statistic = feature.rpartition(" ")
    told = _told(statistic) if name else None
    if told is None and value is None:
        return f"“{feature}”" if alone else feature
    if value is None:
        return _("{name} not recorded").format(name=term(name))
    name, told = (feature, _Told(_PLAIN["last"])) if told is None else (name, told)
    said = _value(value, units.get(name, "") if told.in_unit else "")
    return _(told.template).format(name=term(name), value=said, start=told.start, hours=told.hours)


def _others(n: int) -> str:
    return ngettext("{n} other", "{n} others", n).format(n=number(n, 12))


@dataclass(frozen=True, slots=True)
class _Told:
    """How a statistic is told."""

    template: str
    in_unit: bool = True
    start: str = ""
    hours: str = ""


def _told(statistic: str) -> _Told | None:
    if statistic in _PLAIN:
        return _Told(_PLAIN[statistic])
    if statistic in _UNITLESS:
        return _Told(_UNITLESS[statistic], in_unit=False)
    window = _WINDOW.fullmatch(statistic)
    words = _BETWEEN if window and window["start"] else _WITHIN
    if window is None or window["kind"] not in words:
        return None
    return _Told(words[window["kind"]], window["kind"] != "count", window["start"] or "", window["hours"])


def _value(value: str, unit: str) -> str:
    try:
        said = number(float(value))
    except ValueError:
        return term(value)
    unit = unit_text(unit)
    return said + unit if unit.startswith(("/", "%")) else f"{said} {unit}".rstrip()
