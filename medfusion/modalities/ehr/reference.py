"""Reference ranges that a cohort gives, by code; for those who look at a value, and no part of any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite

import pyarrow as pa

from medfusion.core.errors import Problem
from medfusion.core.folder import CohortFolder
from medfusion.modalities.ehr.units import conversion

_KEY = b"medfusion.reference"


@dataclass(frozen=True, slots=True)
class Range:
    """A reference range.

    Attributes
    ----------
    unit : str
        The UCUM unit of its ends.
    low, high : float or None
        None for an end that is open.
    """

    unit: str
    low: float | None = None
    high: float | None = None

    def ends(self, unit: str) -> tuple[float | None, float | None]:
        """Return low and high in another unit; None for both where it cannot be converted exactly.

        Examples
        --------
        >>> Range("g/L", 120.0).ends("g/dL"), Range("mg/dL", 70.0, 100.0).ends("mmol/L")
        ((12.0, None), (None, None))
        """
        found = conversion(self.unit, unit)
        if found is None:
            return None, None
        factor, offset = found
        low, high = (None if end is None else round(factor * end + offset, 9) for end in (self.low, self.high))
        return low, high


def declared_ranges(folder: CohortFolder) -> dict[str, Range]:
    """Return ``[ehr.reference]`` of cohort.toml; what is no range is left out and noted as a warning.

    Examples
    --------
    >>> from pathlib import Path
    >>> reference = {"SaO2": {"low": 94, "unit": "%"}}
    >>> declared_ranges(CohortFolder(Path("cohort"), {"ehr": {"reference": reference}}))
    {'SaO2': Range(unit='%', low=94.0, high=None)}
    """
    ehr = folder.config.get("ehr", {})
    said = ehr.get("reference", {}) if isinstance(ehr, Mapping) else {}
    ranges: dict[str, Range] = {}
    for code, given in said.items() if isinstance(said, Mapping) else [("", said)]:
        if (found := _range(given)) is not None:
            ranges[code] = found
            continue
        field, got = f"ehr.reference.{code}".rstrip("."), str(given)
        expected, remedy = "a unit, and a low end, a high end above it, or both", "it is not shown; correct it, as in "
        remedy += 'Lactate = { low = 0.5, high = 2.0, unit = "mmol/L" }'
        folder.problems.append(Problem("bad-reference", "cohort.toml", "", field, got, expected, remedy, "warning"))
    return ranges


def _range(given: object) -> Range | None:
    if not isinstance(given, Mapping) or not set(given) <= {"low", "high", "unit"}:
        return None
    unit, ends = given.get("unit"), [given.get(name) for name in ("low", "high")]
    there = [end for end in ends if end is not None]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and isfinite(end) for end in there)
    if not isinstance(unit, str) or not unit or not there or not numbers or there != sorted(set(there)):
        return None
    low, high = (None if end is None else float(end) for end in ends)
    return Range(unit, low, high)


def with_ranges(table: pa.Table, ranges: Mapping[str, Range]) -> pa.Table:
    """Keep ranges with a table of events, however it is cut."""
    said = json.dumps({code: asdict(each) for code, each in ranges.items()})
    return table.replace_schema_metadata({_KEY: said}) if ranges else table


def ranges_of(table: pa.Table) -> dict[str, Range]:
    """Return the ranges that `with_ranges` kept; none where there are none."""
    kept = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    return {code: Range(**each) for code, each in kept.items()}
