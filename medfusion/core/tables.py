"""Strict reading of CSV and Parquet: every cell gets its type or a line in the list of problems, never a guess."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medfusion.core.csvfile import csv_header, iterate_csv, read_csv
from medfusion.core.errors import MAX_LINES_PER_CODE, PayloadRejected, Problem
from medfusion.core.schema import Column, ColumnType, TableSchema
from medfusion.core.times import ISO_REMEDY, date_only, parse_times
from medfusion.core.types import BoolArray

ROW = "row"
"""The column with row numbers, added to every table."""
_NAMELESS = re.compile(rf"^(|{ROW}|Unnamed: \d+|__index_level_\d+__)$")
"""No names, names that pandas gives to an index without one, and the name taken by `ROW`."""
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_TRUE, _FALSE = {"true", "1", "1.0", "t", "yes"}, {"false", "0", "0.0", "f", "no"}
_MAX_STRING_BYTES = 2**31 - 1
_MAGIC, _NUMBERED = b"PAR1", b"medfusion.numbered"


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

    def note(self, code: str, name: str, got: str, expected: str, remedy: str) -> None:
        """Add an error about the file as a whole."""
        self.problems.append(Problem(code, self.file, "", name, got, expected, remedy))

    def warn(self, code: str, name: str, got: str, expected: str, remedy: str) -> None:
        """Add a warning about the file as a whole."""
        self.problems.append(Problem(code, self.file, "", name, got, expected, remedy, "warning"))


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
        Nothing is raised: whatever is wrong with the file stands in ``problems``.
    """
    result = TableRead(file)
    try:
        raw, rows = _read_raw(path, result)
    except PayloadRejected as error:
        result.problems.append(error.problem)
        return result
    raw = _named(raw, result)
    if not _has_columns(raw, schema, result):
        return result
    if not len(rows):
        result.warn("no-rows", "file", "a header without rows", "rows", "fill it, or remove the file")
    result.table = _typed(raw, rows, schema, result)
    return result


def number_text(values: pa.Array) -> BoolArray:
    """Say which texts are plain numbers (``-1.5e3``): no thousands separators, units, NaN or infinity.

    Parameters
    ----------
    values : pyarrow.Array of string, length n

    Returns
    -------
    array (n,), bool

    Examples
    --------
    >>> number_text(pa.array(["1.5", "1,200", "<0.1", "nan"])).tolist()
    [True, False, False, False]
    """
    plain: BoolArray = np.asarray(pc.fill_null(pc.match_substring_regex(values, _NUMBER), False))
    return plain


def is_parquet(path: Path) -> bool:
    """Say whether a file is Parquet, by its content: a divided cohort keeps the names of its tables.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return path.suffix == ".parquet" or file.read(len(_MAGIC)) == _MAGIC


def header(path: Path) -> list[str]:
    """Return the names of a table's columns, those that mean something; none if the file cannot be read."""
    try:
        names = pq.read_schema(path).names if is_parquet(path) else csv_header(path)
    except (pa.ArrowException, OSError, ValueError, csv.Error):
        return []
    return [name.strip() for name in names if not _NAMELESS.match(name.strip())]


def raw_pieces(path: Path, file: str, problems: list[Problem]) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Read a .csv or .parquet file piece by piece, as it is.

    Parameters
    ----------
    path : Path
    file : str
        Its name in messages.
    problems : list of Problem
        Rows of a .csv with too few or too many cells are left out and noted here.

    Yields
    ------
    table : pyarrow.Table
        Every column as string if it comes from a .csv.
    rows : array (n,), int64
        The number of each row in the file, counted from 1.

    Raises
    ------
    PayloadRejected
        If the file cannot be read.
    """
    try:
        if not is_parquet(path):
            yield from iterate_csv(path, file, problems)
            return
        with pq.ParquetFile(path) as parquet:
            start = 1
            for batch in parquet.iter_batches():
                yield pa.Table.from_batches([batch]), np.arange(start, start + batch.num_rows)
                start += batch.num_rows
            if start == 1:
                yield parquet.schema_arrow.empty_table(), np.empty(0, dtype=np.int64)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error, file) from None


def numbered(raw: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Let rows keep their numbers when they are written to a Parquet file of their own; `read_table` reads them.

    Examples
    --------
    >>> numbered(pa.table({"code": ["a", "b"]}), np.array([7, 9]))["row"].to_pylist()
    [7, 9]
    """
    kept = raw.drop_columns([name for name in raw.column_names if name.strip() == ROW])
    numbers = pa.field(ROW, pa.int64(), metadata={_NUMBERED: b"1"})
    return kept.append_column(numbers, pa.array(rows, pa.int64()))


def _read_raw(path: Path, result: TableRead) -> tuple[pa.Table, NDArray[np.int64]]:
    try:
        if not is_parquet(path):
            return read_csv(path, result.file, result.problems)
        raw = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error, result.file) from None
    place = raw.schema.get_field_index(ROW)
    if place >= 0 and _NUMBERED in (raw.schema.field(place).metadata or {}):
        return raw.remove_column(place), raw[ROW].to_numpy()
    return raw, np.arange(1, raw.num_rows + 1)


def _unreadable(error: Exception, file: str) -> PayloadRejected:
    # An OSError's own words would name a path of the machine.
    got = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
    remedy = "export the file again as UTF-8 CSV or Parquet"
    return PayloadRejected(Problem("unreadable-table", file, "", "file", got, "a table", remedy))


def _named(raw: pa.Table, result: TableRead) -> pa.Table:
    """Strip the names of columns, and leave out columns that have none."""
    raw = raw.rename_columns([name.strip() for name in raw.column_names])
    nameless = [index for index, name in enumerate(raw.column_names) if _NAMELESS.match(name)]
    for index in nameless:
        got = raw.column_names[index]
        result.warn("unnamed-column", f"column {index + 1}", got, "a name", "name it, if it is to be used")
    return raw.select([index for index in range(raw.num_columns) if index not in nameless])


def _has_columns(raw: pa.Table, schema: TableSchema, result: TableRead) -> bool:
    names = Counter(raw.column_names)
    for name, count in names.items():
        if count > 1:
            result.note("duplicate-column", name, f"{count} columns", "one", "rename or remove the others")
    missing = [column.name for column in schema.columns if column.required and column.name not in names]
    for name in missing:
        remedy = f"add the column {name}"
        if raw.num_columns == 1 and re.search("[;\t|]", raw.column_names[0]):
            remedy = "separate the columns by commas"
        result.note("missing-column", name, ", ".join(names), "this column", remedy)
    return not missing and max(names.values(), default=0) <= 1


def _typed(raw: pa.Table, rows: NDArray[np.int64], schema: TableSchema, result: TableRead) -> pa.Table:
    """Give every column its type, and leave out rows that have a bad cell."""
    known = {column.name: column for column in schema.columns}
    report = _Report(result, rows, _subjects(raw), np.ones(raw.num_rows, dtype=bool))
    columns = {ROW: pa.array(rows, pa.int64())}
    for name in raw.column_names:
        values = _plain(raw[name])
        column = known.get(name)
        if column is None and schema.other_columns is None:
            continue
        if column is None and schema.other_columns == "any":
            columns[name] = _to_text(values)[0] if pa.types.is_string(values.type) else values
            continue
        typed, bad = _convert(values, column.type if column else "number")
        if column is None and bad.any() and not typed.is_valid().true_count:
            result.note("text-column", name, "no number", "numbers", "remove the column, or give it as events")
            continue
        _check_column(column or Column(name, "number", "", nullable=True), values, typed, bad, report)
        columns[name] = typed
    return pa.table(columns).filter(pa.array(report.keep))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Make one array of the chunks, of a type that the converters know."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_string(kind):
        # Offsets of 32 bits do not reach beyond 2 GiB of notes.
        kind = pa.large_string() if column.nbytes > _MAX_STRING_BYTES else pa.string()
    return pc.cast(column, kind).combine_chunks()


def _subjects(raw: pa.Table) -> pa.Array | None:
    if "subject_id" not in raw.column_names:
        return None
    return _convert(_plain(raw["subject_id"]), "string")[0]


@dataclass(slots=True)
class _Report:
    """Which rows stay, and how to name the others."""

    result: TableRead
    rows: NDArray[np.int64]
    subjects: pa.Array | None
    keep: BoolArray

    def leave_out(self, code: str, column: Column, values: pa.Array, bad: BoolArray, said: tuple[str, str]) -> None:
        """Leave rows out and say so: the first few singly, the others as a count."""
        places = np.flatnonzero(bad)
        self.keep[places] = False
        for place in places[:MAX_LINES_PER_CODE]:
            got = values[place].as_py()
            subject = self.subjects[place].as_py() if self.subjects is not None else None
            where, got = f"row {self.rows[place]}", "" if got is None else str(got)
            problem = Problem(code, self.result.file, where, column.name, got, *said, subject_id=subject or "")
            self.result.problems.append(problem)
        if (more := len(places) - MAX_LINES_PER_CODE) > 0:
            self.result.problems.append(Problem(code, self.result.file, f"{more} more", column.name, "the same", *said))


def _check_column(column: Column, values: pa.Array, typed: pa.Array, bad: BoolArray, report: _Report) -> None:
    code, expected, remedy = _EXPECTED[column.type]
    if column.type == "time":
        _check_times(column.name, values, typed, report.result)
        if typed.type.tz and bad.any():
            expected += " with a zone such as +01:00, as other times of this column have one"
    report.leave_out(code, column, values, bad, (expected, remedy))
    if not column.nullable:
        empty = np.asarray(typed.is_null()) & ~bad
        report.leave_out("empty-cell", column, values, empty, ("a value", "fill it in"))


def _check_times(name: str, values: pa.Array, typed: pa.Array, result: TableRead) -> None:
    if days := int(date_only(values).sum()):
        remedy = "give clock times; each was taken as the end of its day"
        result.warn("date-without-time", name, f"{days} dates without a time of day", "a date and a time", remedy)
    if not typed.is_valid().true_count:
        return
    zoned = typed.type.tz is not None
    if result.zoned is not None and result.zoned != zoned:
        result.note("mixed-time-zones", name, "mixed", "all or none", "give every time a zone, or none")
    result.zoned = zoned


_Converted = tuple[pa.Array, BoolArray]


def _convert(values: pa.Array, kind: ColumnType) -> _Converted:
    """Convert, and call bad what has a type that cannot be converted at all."""
    converter, arrow = _CONVERTERS[kind]
    try:
        return converter(values)
    except pa.ArrowException:
        return pa.nulls(len(values), arrow), np.asarray(values.is_valid())


def _to_text(values: pa.Array) -> _Converted:
    text = values if pa.types.is_large_string(values.type) else pc.cast(values, pa.string())
    text = pc.utf8_trim_whitespace(text)
    empty = pc.fill_null(pc.equal(text, ""), False)
    return pc.if_else(empty, pa.scalar(None, text.type), text), np.zeros(len(values), dtype=bool)


def _to_number(values: pa.Array) -> _Converted:
    """Cast to float64; a NaN or an infinity is an error, an empty cell is not."""
    if pa.types.is_string(values.type):
        values = _to_text(values)[0]
        plain = pa.array(number_text(values))
        numbers = pc.cast(pc.if_else(plain, values, pa.scalar(None, pa.string())), pa.float64())
    else:
        numbers = pc.cast(values, pa.float64())
    finite = pc.fill_null(pc.is_finite(numbers), False)
    bad = np.asarray(values.is_valid()) & ~np.asarray(finite)
    return pc.if_else(finite, numbers, pa.scalar(None, pa.float64())), bad


def _to_boolean(values: pa.Array) -> _Converted:
    if pa.types.is_boolean(values.type):
        return values, np.zeros(len(values), dtype=bool)
    text = [None if value is None else str(value).strip().lower() for value in values.to_pylist()]
    typed = [True if word in _TRUE else False if word in _FALSE else None for word in text]
    bad = np.array([bool(word) and value is None for word, value in zip(text, typed, strict=True)], dtype=bool)
    return pa.array(typed, pa.bool_()), bad


def _to_date(values: pa.Array) -> _Converted:
    times, bad = parse_times(values)
    return pc.cast(times, pa.date32(), safe=False), bad


_CONVERTERS: dict[ColumnType, tuple[Callable[[pa.Array], _Converted], pa.DataType]] = {
    "string": (_to_text, pa.string()),
    "number": (_to_number, pa.float64()),
    "boolean": (_to_boolean, pa.bool_()),
    "time": (parse_times, pa.timestamp("us")),
    "date": (_to_date, pa.date32()),
}
_EXPECTED: dict[ColumnType, tuple[str, str, str]] = {
    "string": ("bad-text", "text", "export the column as text"),
    "number": ("not-a-number", "a finite number", "correct it, or leave it empty if it was not measured"),
    "boolean": (
        "not-a-boolean",
        "True, False or empty",
        "write True or False; leave it empty where it is to be predicted",
    ),
    "time": ("bad-time", "an ISO 8601 time such as 2020-01-31T09:00:00", ISO_REMEDY),
    "date": ("bad-time", "an ISO 8601 date such as 2020-01-31", ISO_REMEDY),
}
