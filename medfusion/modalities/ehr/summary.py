"""What is computed from the values of one code in one record: the features, before any training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FloatArray

STATISTICS = (
    "last",
    "first",
    "min",
    "max",
    "mean",
    "min_24h",
    "max_24h",
    "mean_24h",
    "slope",
    "count",
    "hours_since_last",
)
"""The columns of a summary. A name has no blank in it: a feature is called ``"<code> <statistic>"``."""
IN_UNIT = slice(0, 8)
"""The columns that are in the unit of the values."""
PER_HOUR = slice(8, 9)
"""The column that is in the unit of the values per hour."""
VERSION = "1"
"""Changes whenever a number of a summary changes."""
_RECENT_HOURS = 24.0
_Groups = NDArray[np.int64]


def summarise(groups: _Groups, size: int, hours_before: FloatArray, values: FloatArray) -> FloatArray:
    """Summarise many series at once, in any order of events.

    Parameters
    ----------
    groups : array (n,), int
        The series that each event belongs to, 0 <= group < ``size``.
    size : int
    hours_before : array (n,)
        Hours from the event to the prediction, 0 or more.
    values : array (n,)
        NaN for an event without a value, such as a diagnosis.

    Returns
    -------
    array (size, 11), float64
        Columns as in `STATISTICS`:

        - ``last``, ``first``: at the latest and the earliest time; the mean of values of the same moment.
        - ``min``, ``max``, ``mean``: over all values; ``..._24h``: over those of the last 24 hours.
        - ``slope``: change per hour, by least squares; NaN with fewer than two distinct times.
        - ``count``: events, with or without a value.
        - ``hours_since_last``: since the latest event, with or without a value.

        Statistics of values are NaN where no event (of the last 24 hours) has a value.

    Examples
    --------
    >>> two_lactates = summarise(np.array([0, 0]), 1, np.array([6.0, 2.0]), np.array([1.0, 3.0]))
    >>> dict(zip(STATISTICS, two_lactates[0].tolist()))["slope"]
    0.5
    """
    count = np.bincount(groups, minlength=size).astype(float)
    since = _least(groups, size, hours_before)
    valued = ~np.isnan(values)
    if not valued.all():
        groups, hours_before, values = groups[valued], hours_before[valued], values[valued]
    recent = hours_before <= _RECENT_HOURS
    latest, earliest = _least(groups, size, hours_before), -_least(groups, size, -hours_before)
    at_last, at_first = hours_before == latest[groups], hours_before == earliest[groups]
    slope = np.where(earliest > latest, _slope(groups, size, -hours_before, values), np.nan)
    columns = [
        _mean(groups[at_last], size, values[at_last]),
        _mean(groups[at_first], size, values[at_first]),
        *_extremes_and_mean(groups, size, values),
        *_extremes_and_mean(groups[recent], size, values[recent]),
        slope,
        count,
        since,
    ]
    return np.stack(columns, axis=1)


def _extremes_and_mean(groups: _Groups, size: int, values: FloatArray) -> list[FloatArray]:
    there = np.bincount(groups, minlength=size) > 0
    extremes = _least(groups, size, values), -_least(groups, size, -values)
    return [*(np.where(there, extreme, np.nan) for extreme in extremes), _mean(groups, size, values)]


def _least(groups: _Groups, size: int, values: FloatArray) -> FloatArray:
    least = np.full(size, np.inf)
    np.minimum.at(least, groups, values)
    return least


def _mean(groups: _Groups, size: int, values: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN of a series without values
        return np.bincount(groups, values, minlength=size) / np.bincount(groups, minlength=size)


def _slope(groups: _Groups, size: int, times: FloatArray, values: FloatArray) -> FloatArray:
    """Fit a line to each series, centred first: hours of a long record are far from 0."""
    times = times - _mean(groups, size, times)[groups]
    values = values - _mean(groups, size, values)[groups]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(groups, times * values, minlength=size) / np.bincount(groups, times * times, minlength=size)
