"""What is computed from the values of one code in one record: the features, before any training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FloatArray

PLAIN = (
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
"""Statistics that say where a series stands. A name has no blank in it: a feature is ``"<code> <statistic>"``."""
WINDOWS = ((0.0, 12.0), (12.0, 24.0), (24.0, 36.0), (36.0, 48.0), (48.0, 96.0), (96.0, 168.0))
"""Hours before the prediction, by which the course of a series is followed; the first begins at the prediction."""
_DECAYS = (6.0, 24.0)
_IN_WINDOWS = tuple(f"mean_{start:.0f}_{end:.0f}h" for start, end in WINDOWS)
COURSE = (
    *_IN_WINDOWS,
    *(f"{extreme}_{start:.0f}_{end:.0f}h" for start, end in WINDOWS[:2] for extreme in ("min", "max")),
    *(f"recent_{hours:.0f}h" for hours in _DECAYS),
    "mean_in_time",
    "tenth",
    "ninetieth",
    "spread",
    "sum_24h",
    "count_12h",
    "count_24h",
)
"""Statistics that say how a series came to where it stands; for cohorts that are large enough to learn from them."""
STATISTICS = PLAIN + COURSE
"""The columns of a summary."""
PER_HOUR = (STATISTICS.index("slope"),)
"""The column that is in the unit of the values per hour."""
DIFFERENCES = (STATISTICS.index("spread"),)
"""The column that is in the unit of the values, but has no zero point, as a difference of temperatures has none."""
SUM, SUMMED = STATISTICS.index("sum_24h"), STATISTICS.index("count_24h")
"""The column that is a sum of values, and the one with how many they are."""
IN_UNIT = tuple(range(8)) + tuple(range(len(PLAIN), STATISTICS.index("spread")))
"""The columns that are in the unit of the values."""
VERSION = "2"
"""Changes whenever a number of a summary changes."""
_RECENT_HOURS = 24.0
_SECOND = 1 / 3600
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
    array (size, statistics), float64
        Columns as in `STATISTICS`, first those of `PLAIN`:

        - ``last``, ``first``: at the latest and the earliest time; the mean of values of the same moment.
        - ``min``, ``max``, ``mean``: over all values; ``..._24h``: over those of the last 24 hours.
        - ``slope``: change per hour, by least squares; NaN with fewer than two distinct times.
        - ``count``: events, with or without a value.
        - ``hours_since_last``: since the latest event, with or without a value.

        Then those of `COURSE`:

        - ``mean_12_24h`` and so on: over the values in a window of hours before the prediction.
        - ``recent_6h``: the mean weighted by ``exp(-hours before / 6)``.
        - ``mean_in_time``: each value weighted by how long it was the latest one, up to the prediction.
        - ``tenth``, ``ninetieth``: percentiles, the nearest value each.
        - ``spread``: the standard deviation; NaN with fewer than two values.
        - ``sum_24h``, ``count_12h``, ``count_24h``: of the values of the last hours; the counts are 0 where there are
          none.

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
        *_course(groups, size, hours_before, values),
    ]
    return np.stack(columns, axis=1)


def _course(groups: _Groups, size: int, hours_before: FloatArray, values: FloatArray) -> list[FloatArray]:
    """Return the columns of `COURSE`, of events that have a value."""
    inside = [(hours_before >= start) & (hours_before < end) for start, end in WINDOWS]
    extremes = [_extremes_and_mean(groups[here], size, values[here])[:2] for here in inside[:2]]
    recent = groups[hours_before <= _RECENT_HOURS]
    count_24h = np.bincount(recent, minlength=size).astype(float)
    total = np.bincount(recent, values[hours_before <= _RECENT_HOURS], minlength=size)
    mean = _mean(groups, size, values)
    variance = _mean(groups, size, (values - mean[groups]) ** 2)
    return [
        *(_mean(groups[here], size, values[here]) for here in inside),
        *(column for pair in extremes for column in pair),
        *(_weighted(groups, size, values, _fading(groups, size, hours_before, decay)) for decay in _DECAYS),
        _weighted(groups, size, values, _lasting(groups, hours_before)),
        *_percentiles(groups, size, values, (0.1, 0.9)),
        np.where(np.bincount(groups, minlength=size) > 1, np.sqrt(variance), np.nan),
        np.where(count_24h > 0, total, np.nan),
        np.bincount(groups[inside[0]], minlength=size).astype(float),
        count_24h,
    ]


def _fading(groups: _Groups, size: int, hours_before: FloatArray, decay: float) -> FloatArray:
    """Return weights that fade with time; the latest value of a series has 1, however old it is."""
    return np.asarray(np.exp((_least(groups, size, hours_before)[groups] - hours_before) / decay))


def _lasting(groups: _Groups, hours_before: FloatArray) -> FloatArray:
    """Return for how long each value was the latest one, which values of the same moment share.

    A second is added, so that the value of the moment of the prediction has some weight.
    """
    order = np.lexsort((-hours_before, groups))
    group, hours = groups[order], hours_before[order]
    begins = np.append(True, (np.diff(group) != 0) | (np.diff(hours) != 0))[: len(group)]
    moment, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
    until = np.append(hours[first][1:], 0.0)[: len(first)]
    until[:-1][np.diff(group[first]) != 0] = 0.0
    lasting = np.empty(len(group))
    lasting[order] = ((hours[first] - until + _SECOND) / np.bincount(moment))[moment]
    return lasting


def _weighted(groups: _Groups, size: int, values: FloatArray, weights: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.bincount(groups, values * weights, minlength=size) / np.bincount(groups, weights, minlength=size)


def _percentiles(groups: _Groups, size: int, values: FloatArray, levels: tuple[float, ...]) -> list[FloatArray]:
    """Return the values nearest to some percentiles of each series."""
    ordered = np.append(values[np.lexsort((values, groups))], np.nan)
    count = np.bincount(groups, minlength=size)
    start = np.cumsum(count) - count
    places = [start + np.floor(level * (count - 1) + 0.5).astype(int) for level in levels]
    return [np.where(count > 0, ordered[np.where(count > 0, place, -1)], np.nan) for place in places]


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
