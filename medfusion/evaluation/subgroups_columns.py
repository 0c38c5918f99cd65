"""Groups of patients, from the columns of subjects.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import Problem
from medfusion.core.types import FloatArray

NOT_KNOWN = "not known"
"""The group of those whose value is missing."""
MAX_LEVELS = 20
"""A text column with more levels than this is not divided by."""
_MAX_NUMBERS = 6
_AGE_YEARS = (18.0, 40.0, 65.0, 80.0)
_QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Grouping:
    """A column that divides the samples into groups.

    Attributes
    ----------
    column : str
    names : tuple of str, length g
        In the order to show them; those whose value is missing come last.
    codes : array (n,), int
        Which of the names each sample has.
    """

    column: str
    names: tuple[str, ...]
    codes: NDArray[np.intp]


def columns_of(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn the facts about n samples into columns of n values; None where a sample has no such fact.

    Examples
    --------
    >>> columns_of([{"sex": "F", "site": "A"}, {"sex": "M"}])
    {'sex': ['F', 'M'], 'site': ['A', None]}
    """
    names = dict.fromkeys(name for row in facts for name in row)
    return {name: [row.get(name) for row in facts] for name in names}


def group_columns(columns: Mapping[str, Sequence[Any]]) -> tuple[list[Grouping], list[Problem]]:
    """Divide the samples by each column, and tell of the columns that cannot be used.

    Returns
    -------
    groupings : list of Grouping
    problems : list of Problem
        Warnings: a text column with more than 20 levels, or a column with one level only.

    Examples
    --------
    >>> groupings, problems = group_columns({"sex": ["F", "M", None], "ward": ["A", "A", "A"]})
    >>> groupings[0].names, [problem.code for problem in problems]
    (('F', 'M', 'not known'), ['one-level'])
    """
    groupings, problems = [], []
    for name, values in columns.items():
        found = group(name, values)
        if isinstance(found, Grouping):
            groupings.append(found)
        else:
            problems.append(found)
    return groupings, problems


def group(column: str, values: Sequence[Any]) -> Grouping | Problem:
    """Divide n samples by their values.

    Ages (``age_years``) are cut at 18, 40, 65 and 80 years, so that cohorts compare; other numbers with more than
    six levels are cut into quarters of the samples. Where a cut lies is in the name of the group.

    Parameters
    ----------
    column : str
    values : sequence of length n
        Text, numbers or truth values; None, NaN and empty text are missing.

    Returns
    -------
    Grouping, or the Problem that keeps the column from being used

    Examples
    --------
    >>> group("age_years", [71.0, 17.5, 90.0, None]).names
    ('under 18', '65 to 79', '80 and over', 'not known')
    >>> group("height_cm", [150, 160, 161, 170, 171, 180, 190, 200]).names
    ('up to 160', 'above 160, up to 170', 'above 170, up to 180', 'above 180')
    """
    known = [value for value in values if not _missing(value)]
    if known and all(_is_number(value) for value in known):
        names, codes = _of_numbers(column, np.array([math.nan if _missing(v) else float(v) for v in values]))
    else:
        levels = sorted({str(value) for value in known})
        if len(levels) > MAX_LEVELS:
            remedy = "put a column with a few levels, such as the region for a postcode, beside it"
            got = f"too many levels: {len(levels)}"
            return _unusable("too-many-levels", column, got, f"at most {MAX_LEVELS}", remedy)
        place = {level: code for code, level in enumerate(levels)}
        names, codes = levels, np.array([-1 if _missing(v) else place[str(v)] for v in values], dtype=np.intp)
    if (codes < 0).any():
        names, codes = [*names, NOT_KNOWN], np.where(codes < 0, len(names), codes)
    if len(names) < 2:
        got = f"{names[0] if names else NOT_KNOWN!r} for everybody"
        return _unusable("one-level", column, got, "at least two levels", "there is nothing to compare")
    return Grouping(column, tuple(names), codes)


def _unusable(code: str, column: str, got: str, expected: str, remedy: str) -> Problem:
    return Problem(code, "subjects", "", column, got, expected, remedy, "warning")


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float | np.floating) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _of_numbers(column: str, numbers: FloatArray) -> tuple[list[str], NDArray[np.intp]]:
    """Name groups of numbers, and say which each number is in; -1 where it is missing."""
    known = numbers[~np.isnan(numbers)]
    levels = np.unique(known)
    if column == "age_years":
        names, codes = _age_names(), np.digitize(numbers, _AGE_YEARS)
    elif len(levels) <= _MAX_NUMBERS:
        names, codes = [f"{level:.12g}" for level in levels], np.searchsorted(levels, numbers)
    else:
        # Cuts are values that occur, so that a name shows them in full; nobody is above the highest.
        cuts = np.unique(np.quantile(known, _QUARTERS, method="inverted_cdf"))
        cuts = cuts[cuts < levels[-1]] if cuts[0] < levels[-1] else levels[-2:-1]
        names, codes = _quarter_names(cuts), np.searchsorted(cuts, numbers)
    codes = np.where(np.isnan(numbers), -1, codes)
    occurring = np.unique(codes[codes >= 0])
    return [names[code] for code in occurring], np.where(codes < 0, -1, np.searchsorted(occurring, codes))


def _age_names() -> list[str]:
    first, *_, last = _AGE_YEARS
    between = [f"{low:g} to {high - 1:g}" for low, high in pairwise(_AGE_YEARS)]
    return [f"under {first:g}", *between, f"{last:g} and over"]


def _quarter_names(cuts: Iterable[float]) -> list[str]:
    texts = [f"{cut:.12g}" for cut in cuts]
    between = [f"above {low}, up to {high}" for low, high in pairwise(texts)]
    return [f"up to {texts[0]}", *between, f"above {texts[-1]}"]
