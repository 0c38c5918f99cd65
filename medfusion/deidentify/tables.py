"""De-identification of tables: every column has a role, and a column without one does not leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medfusion.core.csvfile import read_csv
from medfusion.core.errors import DataError, PayloadRejected, Problem
from medfusion.core.protocols import Advance
from medfusion.core.tables import number_text
from medfusion.core.times import ISO_PATTERN
from medfusion.core.types import BoolArray
from medfusion.deidentify.pseudonyms import Pseudonyms
from medfusion.deidentify.text import Scrubber

Role = Literal["subject", "time", "number", "boolean", "age", "site", "category", "text", "kept"]
Roles = Mapping[str, Role]
ROWS_AT_ONCE = 65_536
OLDEST_YEARS = 89
"""Older people are few enough to be known by their age alone; they all count as one year older than this."""
_BOOLEANS = ("true", "false", "1", "0", "1.0", "0.0", "t", "f", "yes", "no")
_FIRST_DAY = np.datetime64("0001-01-01")


@dataclass(slots=True)
class Counts:
    """What became of tables.

    Attributes
    ----------
    cells : Counter
        Changed cells, by role.
    columns_left_out, rows_left_out : int
    spans : Counter
        Parts of texts replaced, by kind.
    """

    cells: Counter[str] = field(default_factory=Counter)
    columns_left_out: int = 0
    rows_left_out: int = 0
    spans: Counter[str] = field(default_factory=Counter)


def read_plain(path: Path, file: str) -> pa.Table:
    """Read a table as it stands: CSV as text, Parquet with its types and without its metadata.

    Raises
    ------
    DataError
        If it cannot be read, or names two columns alike.
    """
    try:
        table = read_csv(path, file, [])[0] if path.suffix == ".csv" else pq.read_table(path)
    except PayloadRejected as error:
        raise DataError([error.problem]) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        # An OSError's own words would name a path of the machine.
        got = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
        raise DataError([_problem("unreadable-table", file, got, "a table", "export the file again")]) from None
    names = [name.strip() for name in table.column_names]
    if len(set(names)) < len(names):
        raise DataError([_problem("duplicate-column", file, "two columns of one name", "one", "rename one")])
    columns = {name: _plain(column) for name, column in zip(names, table.columns, strict=True)}
    return pa.table(columns)


def write_like(table: pa.Table, path: Path) -> None:
    """Write a table as CSV or Parquet, as the ending of the path says."""
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path)


class TableCleaner:
    """De-identifies tables column by column.

    Parameters
    ----------
    pseudonyms : Pseudonyms
    scrubber : Scrubber
    counts : Counts
        Added to.
    """

    def __init__(self, pseudonyms: Pseudonyms, scrubber: Scrubber, counts: Counts) -> None:
        self._pseudonyms, self._scrubber, self._counts = pseudonyms, scrubber, counts

    def clean(self, table: pa.Table, roles: Roles, advance: Advance) -> pa.Table:
        """Return the columns that have a role, de-identified; rows with a cell that does not fit its role go.

        Parameters
        ----------
        table : pyarrow.Table
            As `read_plain` returns it, with a column ``subject_id``.
        roles : mapping from column to role
            One of them is "subject".
        advance : callable
            Called with the number of rows done.
        """
        self._counts.columns_left_out += sum(name not in roles for name in table.column_names)
        names = [name for name in table.column_names if name in roles]
        parts = []
        for start in range(0, table.num_rows, ROWS_AT_ONCE):
            part = table.select(names).slice(start, ROWS_AT_ONCE).combine_chunks()
            parts.append(self._clean_part(part, roles))
            advance(part.num_rows)
        if not parts:
            return table.select(names)
        # The old order is often that of the old identifiers, and would tell who is who.
        whole = pa.concat_tables(parts)
        return whole.take(pc.sort_indices(whole, [("subject_id", "ascending")]))

    def _clean_part(self, part: pa.Table, roles: Roles) -> pa.Table:
        subjects = pc.utf8_trim_whitespace(pc.cast(_one(part["subject_id"]), pa.string()))
        keep = np.asarray(pc.fill_null(pc.not_equal(subjects, ""), False))
        ids = subjects.dictionary_encode()
        columns = {}
        for name in part.column_names:
            columns[name], fits = self._clean_column(_one(part[name]), roles[name], ids)
            keep &= fits
        self._counts.rows_left_out += int((~keep).sum())
        return pa.table(columns).filter(pa.array(keep))

    def _clean_column(self, values: pa.Array, role: Role, subjects: pa.DictionaryArray) -> tuple[pa.Array, BoolArray]:
        """Return the new values, and which of the old ones fitted."""
        all_fit = np.ones(len(values), dtype=bool)
        if role == "subject":
            new = self._by_value(subjects, self._pseudonyms.subject)
        elif role == "time":
            days = np.array([self._pseudonyms.shift_days(one) for one in subjects.dictionary.to_pylist()] or [0])
            new, all_fit = shifted(values, days[np.asarray(pc.fill_null(subjects.indices, 0))])
        elif role in _CHECKED:
            return values, _CHECKED[role](values)
        elif role == "age":
            new, all_fit = _topped(values), _numbers(values)
        elif role == "site":
            new = self._by_value(_text(values).dictionary_encode(), self._pseudonyms.site)
        elif role == "category":
            new = self._by_value(_text(values).dictionary_encode(), self._scrub_category)
        else:
            new = self._scrub_texts(_text(values), subjects)
        self._counts.cells[role] += _differing(values, new)
        return new, all_fit

    @staticmethod
    def _by_value(values: pa.DictionaryArray, change: Callable[[str], str]) -> pa.Array:
        """Change every distinct value once."""
        new = pa.array([change(value) for value in values.dictionary.to_pylist()], pa.string())
        return new.take(values.indices)

    def _scrub_category(self, value: str) -> str:
        return self._scrubber.scrub(value, prose=False)[0]

    def _scrub_texts(self, texts: pa.Array, subjects: pa.DictionaryArray) -> pa.Array:
        new = []
        for text, subject in zip(texts.to_pylist(), subjects.to_pylist(), strict=True):
            scrubbed, kinds = self._scrubber.scrub(text, subject) if text else (text, Counter())
            self._counts.spans += kinds
            new.append(scrubbed)
        return pa.array(new, texts.type)


def shifted(values: pa.Array, days: NDArray[np.int64]) -> tuple[pa.Array, BoolArray]:
    """Move times back by days; the clock, its precision and its zone stay as they are.

    Parameters
    ----------
    values : pyarrow.Array of string (ISO 8601), date or timestamp, length n
    days : array (n,), int64

    Returns
    -------
    times : pyarrow.Array of the same type
    fits : array (n,), bool
        False where something stands that is no time, or one too early to be moved.

    Examples
    --------
    >>> shifted(pa.array(["2020-03-01T09:00+09:00", "1/2/2020"]), np.array([1, 1]))[0].to_pylist()
    ['2020-02-29T09:00+09:00', None]
    """
    empty = np.asarray(values.is_null())
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        unit = pa.duration(values.type.unit) if pa.types.is_timestamp(values.type) else pa.duration("s")
        moves = pa.array(days.astype("timedelta64[D]").astype("timedelta64[s]"), pa.duration("s")).cast(unit)
        return pc.subtract(values, moves).cast(values.type), np.ones(len(values), dtype=bool)
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    empty |= np.asarray(pc.fill_null(pc.equal(text, ""), True))
    shaped = np.asarray(pc.fill_null(pc.match_substring_regex(text, ISO_PATTERN), False))
    dates = np.full(len(values), np.datetime64("NaT"), dtype="datetime64[D]")
    if shaped.any():
        heads = pc.utf8_slice_codeunits(text, 0, 10).filter(pa.array(shaped))
        parsed = pc.strptime(heads, format="%Y-%m-%d", unit="s", error_is_null=True)
        dates[shaped] = parsed.to_numpy(zero_copy_only=False).astype("datetime64[D]")
        # A 30th of February is taken for a day of March.
        dates[shaped] = np.where(
            dates[shaped].astype(str) == heads.to_numpy(zero_copy_only=False), dates[shaped], np.datetime64("NaT")
        )
    dates -= days.astype("timedelta64[D]")
    fits = ~np.isnat(dates) & (np.where(np.isnat(dates), _FIRST_DAY, dates) >= _FIRST_DAY)
    heads = pa.array([str(day) if fit else None for day, fit in zip(dates, fits, strict=True)], pa.string())
    moved = pc.binary_join_element_wise(heads, pc.utf8_slice_codeunits(text, 10), "")
    return moved, fits | empty


def _numbers(values: pa.Array) -> BoolArray:
    """Say which cells are numbers or empty."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return np.ones(len(values), dtype=bool)
    if pa.types.is_boolean(values.type) or pa.types.is_null(values.type):
        return np.ones(len(values), dtype=bool)
    text = pc.utf8_trim_whitespace(_text(values))
    empty = np.asarray(pc.fill_null(pc.equal(text, ""), True))
    plain: BoolArray = number_text(text) | empty
    return plain


def _booleans(values: pa.Array) -> BoolArray:
    if not pa.types.is_string(values.type):
        return _numbers(values)
    known = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), pa.array(["", *_BOOLEANS]))
    fits: BoolArray = np.asarray(pc.or_(pc.is_null(values), known))
    return fits


def _anything(values: pa.Array) -> BoolArray:
    return np.ones(len(values), dtype=bool)


_CHECKED: dict[Role, Callable[[pa.Array], BoolArray]] = {"number": _numbers, "boolean": _booleans, "kept": _anything}


def _topped(ages: pa.Array) -> pa.Array:
    """Give everybody above the oldest age the next one."""
    is_text = pa.types.is_string(ages.type)
    numbers = pc.cast(pc.if_else(pa.array(_numbers(ages)), ages, None), pa.float64()) if not is_text else _parsed(ages)
    old = pc.fill_null(pc.greater(numbers, OLDEST_YEARS), False)
    top = pa.scalar(str(OLDEST_YEARS + 1)) if is_text else pa.scalar(OLDEST_YEARS + 1).cast(ages.type)
    return pc.if_else(old, top, ages)


def _parsed(texts: pa.Array) -> pa.Array:
    plain = pa.array(number_text(pc.utf8_trim_whitespace(texts)))
    return pc.cast(pc.utf8_trim_whitespace(pc.if_else(plain, texts, pa.scalar(None, texts.type))), pa.float64())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo encodings of text that the other functions need not know."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pc.cast(column, pa.string()) if is_text else column


def _text(values: pa.Array) -> pa.Array:
    return values if pa.types.is_string(values.type) else pc.cast(values, pa.string())


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def _differing(old: pa.Array, new: pa.Array) -> int:
    if old.type != new.type:
        old = pc.cast(old, new.type)
    return int(pc.sum(pc.fill_null(pc.not_equal(old, new), False)).as_py() or 0)


def _problem(code: str, file: str, got: str, expected: str, remedy: str) -> Problem:
    return Problem(code, file, "", "file", got, expected, remedy)
