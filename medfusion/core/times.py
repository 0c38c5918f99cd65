"""Times as ISO 8601 and nothing else: an ambiguous date is refused, not guessed.

A time without a clock (``2020-01-31``) is taken as the end of that day, because the record may have been made at any
moment of it and must not be seen by a prediction made earlier that day. Times are kept to the microsecond; what is
finer is cut off.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ISO_REMEDY = "write the date as YYYY-MM-DD and the time as HH:MM:SS; day and month are not guessed"
_DAY = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)"
DAY_PATTERN = f"^{_DAY}$"
ISO_PATTERN = f"^{_DAY}({_CLOCK}{_ZONE}?)?$"
_NAIVE_PATTERN = f"^{_DAY}{_CLOCK}$"
_ZONED_PATTERN = f"^{_DAY}{_CLOCK}{_ZONE}$"
_MICROSECONDS_PER_DAY = 86_400_000_000
_FIRST, _LAST = np.array(["0001-01-01", "9999-12-31T23:59:59.999999"], dtype="datetime64[us]").astype(np.int64)


def parse_times(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Read times strictly.

    Parameters
    ----------
    values : pyarrow.Array of string, date or timestamp, length n

    Returns
    -------
    times : pyarrow.Array of timestamp("us"), with tz "UTC" if any value carries a zone
        Null where empty or bad.
    bad : array (n,), bool
        Where something stands that is no ISO 8601 time, or that differs from the others in having a zone or not.

    Examples
    --------
    >>> times, bad = parse_times(pa.array(["2020-01-31T09:00:00", "31/01/2020"]))
    >>> times[0].as_py(), bad.tolist()
    (datetime.datetime(2020, 1, 31, 9, 0), [False, True])
    """
    if pa.types.is_timestamp(values.type):
        # Only nanoseconds are cut; a coarser unit must not wrap around.
        times = pc.cast(values, pa.timestamp("us", tz=_utc(values.type)), safe=values.type.unit != "ns")
        return _within_calendar(times)
    if pa.types.is_date(values.type):
        return _end_of_day(pc.cast(values, pa.timestamp("us"))), np.zeros(len(values), dtype=bool)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return pa.nulls(len(values), pa.timestamp("us")), np.asarray(values.is_valid())
    text = pc.utf8_trim_whitespace(values)
    zoned = _matches(text, _ZONED_PATTERN)
    return _parse_text(text, zoned, "UTC" if zoned.any() else None)


def date_only(values: pa.Array) -> np.ndarray:
    """Say where a date stands without a time of day.

    Parameters
    ----------
    values : pyarrow.Array of any type, length n

    Returns
    -------
    array (n,), bool

    Examples
    --------
    >>> date_only(pa.array(["2020-01-31", "2020-01-31T09:00"])).tolist()
    [True, False]
    """
    if pa.types.is_date(values.type):
        return np.asarray(values.is_valid())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _matches(pc.utf8_trim_whitespace(values), DAY_PATTERN)
    return np.zeros(len(values), dtype=bool)


def _utc(kind: pa.DataType) -> str | None:
    return "UTC" if kind.tz else None


def _matches(text: pa.Array, pattern: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.match_substring_regex(text, pattern), False))


def _within_calendar(times: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Refuse years that Python has no datetime for."""
    ticks = np.asarray(pc.fill_null(pc.cast(times, pa.int64()), 0))
    bad = (ticks < _FIRST) | (ticks > _LAST)
    return pc.if_else(pa.array(bad), pa.scalar(None, times.type), times), bad


def _parse_text(text: pa.Array, zoned: np.ndarray, zone: str | None) -> tuple[pa.Array, np.ndarray]:
    """Parse the texts that match the form, one kind (zoned or naive) for the whole column."""
    day = _matches(text, DAY_PATTERN) & (zone is None)
    form = zoned if zone else day | _matches(text, _NAIVE_PATTERN)
    shaped = pc.if_else(pa.array(form), text, pa.scalar(None, text.type))
    import pandas as pd  # noqa: PLC0415 - slow to import

    parsed = pd.to_datetime(shaped.to_pandas(), format="ISO8601", errors="coerce", utc=zone is not None)
    times, _ = _within_calendar(pa.Array.from_pandas(parsed, type=pa.timestamp("us", tz=zone), safe=False))
    if day.any():
        times = pc.if_else(pa.array(day), _end_of_day(times), times)
    empty = np.asarray(pc.fill_null(pc.equal(text, ""), True))
    return times, ~empty & np.asarray(times.is_null())


def _end_of_day(midnights: pa.Array) -> pa.Array:
    return pc.add(midnights, pa.scalar(_MICROSECONDS_PER_DAY - 1, pa.duration("us")))
