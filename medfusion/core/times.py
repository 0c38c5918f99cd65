"""Times as ISO 8601 and nothing else: an ambiguous date is refused, not guessed.

A time without a clock (``2020-01-31``) is taken as the end of that day, because the record may have been made at any
moment of it and must not be seen by a prediction made earlier that day.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

ISO_REMEDY = "write the date as YYYY-MM-DD and the time as HH:MM:SS; day and month are not guessed"
_DAY = r"^\d{4}-\d{2}-\d{2}$"
_NAIVE = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?$"
_ZONED = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$"
_MICROSECONDS_PER_DAY = 86_400_000_000


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
        zone = "UTC" if values.type.tz else None
        return pc.cast(values, pa.timestamp("us", tz=zone), safe=False), np.zeros(len(values), dtype=bool)
    if pa.types.is_date(values.type):
        return _end_of_day(pc.cast(values, pa.timestamp("us"))), np.zeros(len(values), dtype=bool)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return pa.nulls(len(values), pa.timestamp("us")), np.asarray(values.is_valid())
    text = pc.utf8_trim_whitespace(values)
    zoned = np.asarray(pc.fill_null(pc.match_substring_regex(text, _ZONED), False))
    return _parse_text(text, zoned, "UTC" if zoned.any() else None)


def _parse_text(text: pa.Array, zoned: np.ndarray, zone: str | None) -> tuple[pa.Array, np.ndarray]:
    """Parse the texts that match the form, one kind (zoned or naive) for the whole column."""
    day = np.asarray(pc.fill_null(pc.match_substring_regex(text, _DAY), False)) & (zone is None)
    form = zoned if zone else day | np.asarray(pc.fill_null(pc.match_substring_regex(text, _NAIVE), False))
    shaped = pc.if_else(pa.array(form), text, pa.scalar(None, text.type))
    parsed = pd.to_datetime(shaped.to_pandas(), format="ISO8601", errors="coerce", utc=zone is not None)
    times = pa.Array.from_pandas(parsed, type=pa.timestamp("us", tz=zone), safe=False)
    if day.any():
        times = pc.if_else(pa.array(day), _end_of_day(times), times)
    empty = np.asarray(pc.fill_null(pc.equal(text, ""), True))
    return times, ~empty & np.asarray(times.is_null())


def _end_of_day(midnights: pa.Array) -> pa.Array:
    return pc.add(midnights, pa.scalar(_MICROSECONDS_PER_DAY - 1, pa.duration("us")))
