"""One unit per code: convert what converts exactly, leave out the rest and say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfusion.core.errors import Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.tables import ROW
from medfusion.modalities.ehr.units import conversion

_ROWS_NAMED = 3


def declared_units(folder: CohortFolder) -> dict[str, str]:
    """Return ``[ehr.units]`` of cohort.toml; what is no text there is told of where the cohort is opened."""
    ehr = folder.config.get("ehr", {})
    units = ehr.get("units", {}) if isinstance(ehr, Mapping) else {}
    if not isinstance(units, Mapping):
        return {}
    return {code: unit for code, unit in units.items() if isinstance(unit, str) and unit}


def with_one_unit(table: pa.Table, declared: Mapping[str, str], file: str, problems: list[Problem]) -> pa.Table:
    """Bring the values of each code to one unit.

    Parameters
    ----------
    table : pyarrow.Table
        As from `tables.read_events`.
    declared : mapping from code to UCUM unit
        The unit of rows that name none, and the one that others are converted to. The rows of a code that is not in
        it have to name the same unit, or none, throughout.
    file : str
        Its name in messages.
    problems : list of Problem
        What is left out is noted here, one line per code and unit.

    Returns
    -------
    pyarrow.Table
        ``unit`` (dictionary of string) is the same in all rows of a code; empty where it is unknown.
    """
    codes = table["code"].combine_chunks()
    places, names = np.asarray(codes.indices), codes.dictionary.to_pylist()
    units = [declared.get(name, "") for name in names]
    keep = None
    if "unit" in table.column_names:
        plan = _Plan(table, names, places, declared)
        plan.report(table[ROW].to_numpy(), file, problems)
        units, keep = plan.units, plan.keep
        number = table.column_names.index("numeric_value")
        table = table.set_column(number, "numeric_value", plan.converted).drop_columns("unit")
    distinct = sorted(set(units))
    which = np.array([distinct.index(unit) for unit in units], dtype=np.int32)
    unit = pa.DictionaryArray.from_arrays(pa.array(which[places]), pa.array(distinct, pa.string()))
    table = table.append_column("unit", unit)
    return table if keep is None or keep.all() else table.filter(pa.array(keep))


class _Plan:
    """What becomes of each pair of a code and a unit; a pair is numbered ``code * number of units + unit``."""

    def __init__(
        self, table: pa.Table, names: Sequence[str], places: NDArray[np.int32], declared: Mapping[str, str]
    ) -> None:
        said = pc.dictionary_encode(pc.fill_null(table["unit"].combine_chunks(), ""))
        self._names, self._said = names, said.dictionary.to_pylist()
        self._pair = places.astype(np.int64) * len(self._said) + np.asarray(said.indices)
        # The unit of an event without a value means nothing.
        self._valued = np.asarray(table["numeric_value"].combine_chunks().is_valid())
        self.units = [declared.get(name, "") for name in names]
        exact = self._decide()
        accepted = np.ones(len(names) * len(self._said), dtype=bool)
        accepted[[pair for pair, found in exact.items() if found is None]] = False
        self.keep = accepted[self._pair] | ~self._valued
        self.converted = self._convert(table["numeric_value"], exact)

    def _decide(self) -> dict[int, tuple[float, float] | None]:
        """Choose each code's unit and the factor and offset of its pairs; None where there is no exact conversion."""
        exact: dict[int, tuple[float, float] | None] = {}
        used = np.flatnonzero(np.bincount(self._pair[self._valued]))
        for place, group in groupby(used.tolist(), lambda pair: pair // len(self._said)):
            pairs = {pair: self._said[pair % len(self._said)] for pair in group}
            if not self.units[place] and len(pairs) == 1:
                self.units[place] = next(iter(pairs.values()))
            target = self.units[place]
            for pair, unit in pairs.items():
                known = target or len(pairs) == 1
                exact[pair] = conversion(unit or target, target) if known else None
        return exact

    def _convert(self, values: pa.ChunkedArray, exact: Mapping[int, tuple[float, float] | None]) -> pa.ChunkedArray:
        needed = {pair: found for pair, found in exact.items() if found not in {None, (1.0, 0.0)}}
        if not needed:
            return values
        factor, offset = np.ones(len(self._names) * len(self._said)), np.zeros(len(self._names) * len(self._said))
        for pair, found in needed.items():
            factor[pair], offset[pair] = found or (1.0, 0.0)
        scaled = pc.multiply(values, pa.array(factor[self._pair]))
        return pc.add(scaled, pa.array(offset[self._pair]))

    def report(self, rows: NDArray[np.int64], file: str, problems: list[Problem]) -> None:
        """Note what is left out, with the numbers of the first rows."""
        left_out = np.flatnonzero(~self.keep)
        left_out = left_out[np.argsort(self._pair[left_out], kind="stable")]
        for pair, group in groupby(left_out.tolist(), lambda row: int(self._pair[row])):
            numbers = [int(rows[row]) for row in group]
            name, unit = self._names[pair // len(self._said)], self._said[pair % len(self._said)]
            target = self.units[pair // len(self._said)]
            code, expected = "mixed-units", "one unit throughout, or a declared one"
            remedy = "declare the code's unit under [ehr.units] in cohort.toml; the rows were left out"
            if target:
                code, expected = "unknown-unit", f"{target}, or a UCUM unit that converts to it exactly"
                remedy = "convert the values before; the rows were left out"
            got = f"{unit or 'empty'} for {name}"
            problems.append(Problem(code, file, _where(numbers), "unit", got, expected, remedy))


def _where(rows: Sequence[int]) -> str:
    """Name the first rows and count the others.

    Examples
    --------
    >>> _where([3, 8, 12, 13, 20])
    'rows 3, 8, 12 and 2 more'
    """
    named = ", ".join(str(row) for row in rows[:_ROWS_NAMED])
    more = len(rows) - _ROWS_NAMED
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
