"""Records in which a last value or a fact is another: what if?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.edits import Changed, EditableValue
from medfusion.core.types import Records
from medfusion.modalities.ehr.encoder import EhrEncoder, Known
from medfusion.modalities.ehr.facts import level_of
from medfusion.modalities.ehr.units import conversion

T = TypeVar("T")
_SERIES = " (last value)"
"""What the name of a series ends in, so that none is taken for a fact of the same name."""


def editable_values(record: Records, encoders: Sequence[EhrEncoder]) -> list[EditableValue]:
    """List what may be changed: what was recorded first, then what was not and the model knows.

    Parameters
    ----------
    record : Records
    encoders : sequence of EhrEncoder
        What none of them knows is left out: changing it would change nothing.
    """
    series = _gathered(encoder.known_series() for encoder in encoders)
    numbers = _gathered(encoder.known_numbers() for encoder in encoders)
    recorded = _last_values(record)
    values = []
    for code, known in series.items():
        value, unit = recorded.get(code, (None, known[0].unit))
        values.append(_number(code + _SERIES, value, unit, known))
    values += [_number(name, record.subject.get(name), "", known) for name, known in numbers.items()]
    for name, each in _gathered(encoder.known_levels() for encoder in encoders).items():
        level = level_of(record.subject.get(name))
        choices = {choice for levels in each for choice in levels} | ({level} if level else set())
        values.append(EditableValue(name, level, choices=tuple(sorted(choices))))
    return sorted(values, key=lambda value: (value.value is None, value.name))


def edited_record(record: Records, changes: Mapping[str, Changed]) -> Records:
    """Return a record with some values changed.

    A series keeps its earlier values; its last one is changed, or, if there is none, recorded at the prediction time.
    None leaves out the whole series, and makes a fact unknown.

    Parameters
    ----------
    record : Records
    changes : mapping from name to value
        Of the names that `editable_values` lists.
    """
    for name, changed in changes.items():
        if not name.endswith(_SERIES):
            record = replace(record, subject={**record.subject, name: changed})
            continue
        code = name.removesuffix(_SERIES)
        table = _without(record.table, code) if changed is None else _with_last(record, code, float(changed))
        record = replace(record, table=table)
    return record


def _number(name: str, value: object, unit: str, said: Sequence[Known]) -> EditableValue:
    """Describe a number in the unit in which it was recorded."""
    spans = [span for known in said if (span := _span(known, unit)) is not None]
    low, high = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else (None, None)
    return EditableValue(name, value if isinstance(value, int | float) else None, unit, low, high)


def _span(known: Known, unit: str) -> tuple[float, float] | None:
    """Return the range that an encoder knows in another unit; None where it is not known, or does not convert."""
    exact: tuple[float, float] | None = (1.0, 0.0)
    if unit and known.unit and unit != known.unit:
        exact = conversion(known.unit, unit)
    if exact is None or math.isnan(known.low):
        return None
    factor, offset = exact
    return factor * known.low + offset, factor * known.high + offset


def _gathered(said: Iterable[Mapping[str, T]]) -> dict[str, list[T]]:
    """Put together what several encoders say under one name."""
    gathered: dict[str, list[T]] = {}
    for each in said:
        for name, one in each.items():
            gathered.setdefault(name, []).append(one)
    return gathered


def _last_values(record: Records) -> dict[str, tuple[float | None, str]]:
    """Return the last value of each series, as summaries have it, and its unit; None where events have no value."""
    if "code" not in record.table.column_names:
        return {}
    table = record.table
    units = dict(zip(table["code"].to_pylist(), table["unit"].to_pylist(), strict=True))
    values = {code: pc.mean(pc.filter(table["numeric_value"], _at_last(table, code))).as_py() for code in units}
    return {code: (values[code], unit) for code, unit in units.items()}


def _at_last(table: pa.Table, code: str) -> pa.ChunkedArray:
    """Mark the values of a series that are of the moment of its last one; a mean of them is what a summary takes."""
    mine = pc.and_(pc.equal(pc.cast(table["code"], pa.string()), code), table["numeric_value"].is_valid())
    last = pc.max(pc.filter(table["time"], mine))
    return pc.and_(mine, pc.equal(table["time"], last)) if last.is_valid else mine


def _with_last(record: Records, code: str, value: float) -> pa.Table:
    """Change the last value of a series, or record it at the prediction time."""
    table, unit = record.table, ""
    if "code" in table.column_names:
        last = _at_last(table, code)
        if pc.any(last).as_py():
            values = pc.if_else(last, value, table["numeric_value"])
            return table.set_column(table.column_names.index("numeric_value"), "numeric_value", values)
        # A series of which nobody has said the unit is read in that of the training.
        unit = _last_values(record).get(code, (None, ""))[1]
    row = pa.table(
        {
            "subject_id": [record.subject_id],
            "time": pa.array([record.as_of], pa.timestamp("us", tz="UTC" if record.as_of.tzinfo else None)),
            "code": pc.dictionary_encode(pa.array([code])),
            "unit": pc.dictionary_encode(pa.array([unit])),
            "numeric_value": [value],
        }
    )
    if "code" not in table.column_names:
        return row
    both = pa.concat_tables([table, row.select(table.column_names).cast(table.schema)])
    return both.unify_dictionaries().combine_chunks()


def _without(table: pa.Table, code: str) -> pa.Table:
    if "code" not in table.column_names:
        return table
    return table.filter(pc.not_equal(pc.cast(table["code"], pa.string()), code))
