"""The as-of index: the rows of one subject up to one moment, and no way to ask for more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.errors import Problem

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
NO_ROWS = pa.table({"subject_id": pa.array([], pa.string()), "time": pa.array([], pa.timestamp("us"))})


class AsOfIndex:
    """A modality's table, sorted once, from which slices are cut without copying.

    Parameters
    ----------
    table : pyarrow.Table
        With ``subject_id`` (string) and ``time`` (timestamp), no nulls in either; rows in any order. Rows of one
        subject and time keep their order.
    """

    __slots__ = ("_blocks", "_table", "_ticks")

    def __init__(self, table: pa.Table) -> None:
        subjects = pc.dictionary_encode(table["subject_id"].combine_chunks())
        codes = np.asarray(subjects.indices)
        ticks = _ticks(table)
        order = np.lexsort((ticks, codes))
        if not np.array_equal(order, np.arange(len(order))):
            table = table.take(pa.array(order))
        codes = codes[order]
        self._ticks = ticks[order]
        # One chunk, so that cutting a slice does not search through chunks.
        self._table = table.combine_chunks()
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        stops = np.append(starts, len(codes))[1:]
        names = subjects.dictionary.to_pylist()
        self._blocks = {names[codes[start]]: (int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)}

    def as_of(self, subject_id: str, moment: datetime) -> pa.Table:
        """Return the rows of a subject with ``time <= moment``, sorted by time."""
        start, stop = self._blocks.get(subject_id, (0, 0))
        seen = int(np.searchsorted(self._ticks[start:stop], microseconds(moment), side="right"))
        return self._table.slice(start, seen)

    def count(self, subject_id: str) -> int:
        """Count the rows of a subject, whenever they were recorded."""
        start, stop = self._blocks.get(subject_id, (0, 0))
        return stop - start


def microseconds(moment: datetime) -> int:
    """Return a naive or UTC time as microseconds since 1970, exactly.

    Examples
    --------
    >>> microseconds(datetime(1970, 1, 2, microsecond=1))
    86400000001
    """
    return (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def from_microseconds(ticks: int, zoned: bool) -> datetime:
    """Undo `microseconds`; with ``zoned``, the time is in UTC."""
    moment = _EPOCH + timedelta(microseconds=ticks)
    return moment.replace(tzinfo=UTC) if zoned else moment


def placeable(table: pa.Table, file: str, problems: list[Problem]) -> pa.Table:
    """Leave out rows without a subject or a time: they cannot be placed before or after a prediction."""
    there = pc.and_(table["subject_id"].is_valid(), table["time"].is_valid())
    lost = table.num_rows - pc.sum(there).as_py() if table.num_rows else 0
    if not lost:
        return table
    got, remedy = f"{lost} records without a subject or a time", "give both"
    problems.append(Problem("no-time", file, "", "time", got, "a time for every record", remedy))
    return table.filter(there)


def _ticks(table: pa.Table) -> np.ndarray:
    micro = pa.timestamp("us", tz=table["time"].type.tz)
    return np.asarray(pc.cast(pc.cast(table["time"], micro, safe=False), pa.int64()))
