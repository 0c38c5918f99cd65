"""Strict reading of CSV and Parquet: every cell gets its type or a line in the list of problems, never a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medfusion.core.errors import Problem
from medfusion.core.schema import Column, TableSchema
from medfusion.core.times import ISO_REMEDY, parse_times

_BAD = {"time": "bad-time", "number": "not-a-number", "boolean": "not-a-boolean", "string": "bad-text"}
_TRUE, _FALSE = {"true", "1", "t", "yes"}, {"false", "0", "f", "no"}
MAX_LINES_PER_CODE = 5
"""How many bad rows of one kind are listed singly; the rest are counted in one more line."""


@dataclass(slots=True)
class TableRead:
    """What became of a file.

    Attributes
    ----------
    file : str
    table : pyarrow.Table or None
        The rows that could be used, with their number in ``row``; None if there are no usable columns.
    problems : list of Problem
    zoned : bool or None
        Whether its times carry a time zone; None if it has no times.
    """

    file: str
    table: pa.Table | None = None
    problems: list[Problem] = field(default_factory=list)
    zoned: bool | None = None


def read_table(path: Path, file: str, schema: TableSchema) -> TableRead:
    """Read one table.

    Parameters
    ----------
    path : Path
        A .csv or .parquet file.
    file : str
        Its name in messages.
    schema : TableSchema

    Returns
    -------
    TableRead
    """
    result = TableRead(file)
    try:
        raw = pq.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        got, remedy = str(error).splitlines()[0], "export the file again as UTF-8 CSV or Parquet"
        result.problems.append(Problem("unreadable-table", file, "", "file", got, "a table", remedy))
        return result
    missing = [column.name for column in schema.columns if column.required and column.name not in raw.column_names]
    for name in missing:
        got = ", ".join(raw.column_names)
        result.problems.append(Problem("missing-column", file, "", name, got, "this column", f"add the column {name}"))
    if missing:
        return result
    raw = raw.append_column("row", pa.array(np.arange(1, raw.num_rows + 1)))
    result.table = _typed(raw, schema, result)
    return result


def _read_csv(path: Path) -> pa.Table:
    """Read every column as text, so that no type is guessed."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    names = pacsv.read_csv(pa.BufferReader(header.encode())).column_names
    types = dict.fromkeys(names, pa.string())
    convert = pacsv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    return pacsv.read_csv(path, convert_options=convert, parse_options=pacsv.ParseOptions(newlines_in_values=True))


def _typed(raw: pa.Table, schema: TableSchema, result: TableRead) -> pa.Table:
    known = {column.name: column for column in schema.columns}
    keep = np.ones(raw.num_rows, dtype=bool)
    columns: dict[str, pa.Array] = {"row": raw["row"].combine_chunks()}
    for name in raw.column_names:
        if name == "row":
            continue
        column = known.get(name)
        if column is None:
            if schema.other_columns is None:
                continue
            if schema.other_columns == "any":
                columns[name] = raw[name].combine_chunks()
                continue
            column = Column(name, "number", "", required=False, nullable=True)
        values = raw[name].combine_chunks()
        typed, bad, expected, remedy = _CONVERTERS[column.type](values)
        if column.type == "time":
            typed = _zone_checked(typed, name, result)
        _report(result, column, values, bad, keep, expected, remedy)
        if not column.nullable:
            empty = np.asarray(values.is_null()) & ~bad
            _report(result, column, values, empty, keep, "a value", "fill it in", code="empty-cell")
        columns[name] = typed
    return pa.table(columns).filter(pa.array(keep))


def _report(
    result: TableRead,
    column: Column,
    values: pa.Array,
    bad: np.ndarray,
    keep: np.ndarray,
    expected: str,
    remedy: str,
    code: str = "",
) -> None:
    """Leave bad rows out and say so: the first few singly, the others as a count."""
    rows = np.flatnonzero(bad)
    keep[rows] = False
    code = code or _BAD[column.type]
    for row in rows[:MAX_LINES_PER_CODE]:
        got = values[row].as_py()
        said = "" if got is None else str(got)
        result.problems.append(Problem(code, result.file, f"row {row + 1}", column.name, said, expected, remedy))
    if len(rows) > MAX_LINES_PER_CODE:
        where = f"{len(rows) - MAX_LINES_PER_CODE} more rows"
        result.problems.append(Problem(code, result.file, where, column.name, "the same", expected, remedy))


def _zone_checked(typed: pa.Array, name: str, result: TableRead) -> pa.Array:
    zoned = typed.type.tz is not None
    if result.zoned is not None and result.zoned != zoned:
        remedy = "give every time a zone, or none"
        result.problems.append(Problem("mixed-time-zones", result.file, "", name, "mixed", "all or none", remedy))
    result.zoned = zoned
    return typed


_Converted = tuple[pa.Array, np.ndarray, str, str]


def _to_text(values: pa.Array) -> _Converted:
    text = values if pa.types.is_string(values.type) else pc.cast(values, pa.string())
    text = pc.utf8_trim_whitespace(text)
    empty = pc.fill_null(pc.equal(text, ""), False)
    return pc.if_else(empty, pa.scalar(None, pa.string()), text), np.zeros(len(values), dtype=bool), "text", ""


def _to_number(values: pa.Array) -> _Converted:
    """Cast to float64; a NaN or an infinity is an error, an empty cell is not."""
    expected, remedy = "a finite number", "correct it, or leave it empty if it was not measured"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        trimmed = pc.utf8_trim_whitespace(values)
        plain = pc.fill_null(pc.match_substring_regex(trimmed, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"), False)
        numbers = pc.cast(pc.if_else(plain, trimmed, pa.scalar(None, pa.string())), pa.float64())
    else:
        numbers = pc.cast(values, pa.float64())
    finite = pc.fill_null(pc.is_finite(numbers), False)
    bad = np.asarray(values.is_valid()) & ~np.asarray(finite)
    return pc.if_else(finite, numbers, pa.scalar(None, pa.float64())), bad, expected, remedy


def _to_boolean(values: pa.Array) -> _Converted:
    expected, remedy = "True, False or empty", "write True or False; leave it empty where it is to be predicted"
    if pa.types.is_boolean(values.type):
        return values, np.zeros(len(values), dtype=bool), expected, remedy
    text = [None if value is None else str(value).strip().lower() for value in values.to_pylist()]
    text = [{"1.0": "1", "0.0": "0"}.get(word, word) if word else None for word in text]
    typed = [True if word in _TRUE else False if word in _FALSE else None for word in text]
    bad = np.array([word is not None and value is None for word, value in zip(text, typed, strict=True)], dtype=bool)
    return pa.array(typed, pa.bool_()), bad, expected, remedy


def _to_time(values: pa.Array) -> _Converted:
    times, bad = parse_times(values)
    return times, bad, "an ISO 8601 time such as 2020-01-31T09:00:00", ISO_REMEDY


_CONVERTERS: dict[str, Callable[[pa.Array], _Converted]] = {
    "string": _to_text,
    "number": _to_number,
    "boolean": _to_boolean,
    "time": _to_time,
}
