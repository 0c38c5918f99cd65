"""Facts without a time (sex, age, site) as columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.batch import once
from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

Facts = Mapping[str, Any]
NO_FACTS: Facts = {}


@dataclass(frozen=True, slots=True)
class FactColumns:
    """Columns for facts: one per number, one per level of what is no number.

    Attributes
    ----------
    numbers : list of str
        Names of facts that are numbers.
    levels : list of (str, str)
        Pairs of a fact and one of its levels, together by fact.
    """

    numbers: list[str]
    levels: list[tuple[str, str]]

    @classmethod
    def none(cls) -> FactColumns:
        """Return no columns."""
        return cls([], [])

    @classmethod
    def known_in(cls, facts: Sequence[Facts], least: int) -> FactColumns:
        """Choose what at least ``least`` of the subjects have."""
        seen: dict[str, Counter[str]] = {}
        text: set[str] = set()
        for mine in facts:
            for name, fact in mine.items():
                seen.setdefault(name, Counter())[level_of(fact) or ""] += 1
                if not _is_number(fact):
                    text.add(name)
        numbers = [name for name, levels in seen.items() if name not in text and levels.total() >= least]
        levels = [
            (name, level) for name in seen if name in text for level, n in sorted(seen[name].items()) if n >= least
        ]
        return cls(numbers, levels)

    @property
    def names(self) -> list[str]:
        """Such as ``"age_years"`` and ``"sex=F"``."""
        return self.numbers + [f"{name}={level}" for name, level in self.levels]

    def kept(self, which: BoolArray) -> FactColumns:
        """Return some of the columns."""
        split = len(self.numbers)
        numbers = [name for name, keep in zip(self.numbers, which[:split], strict=True) if keep]
        return FactColumns(numbers, [pair for pair, keep in zip(self.levels, which[split:], strict=True) if keep])

    def groups(self) -> dict[str, list[int]]:
        """Return the columns of each fact that is no number."""
        groups: dict[str, list[int]] = {}
        for column, (name, _) in enumerate(self.levels, start=len(self.numbers)):
            groups.setdefault(name, []).append(column)
        return groups

    def values(self, facts: Sequence[Facts]) -> FloatArray:
        """Return one row per subject; NaN where a fact is unknown, 0 in all its levels where its level is new."""
        values = np.full((len(facts), len(self.numbers) + len(self.levels)), np.nan)
        for column, name in enumerate(self.numbers):
            values[:, column] = once(facts, _numbers, name)
        for name, columns in self.groups().items():
            said = once(facts, _levels, name)
            known = np.array([level is not None for level in said], dtype=bool)
            for column in columns:
                level = self.levels[column - len(self.numbers)][1]
                values[known, column] = said[known] == level
        return values

    def state(self) -> State:
        """Return the columns as plain data."""
        return {"numbers": self.numbers, "levels": [list(pair) for pair in self.levels]}

    @classmethod
    def restore(cls, state: State) -> FactColumns:
        """Return the columns that `state` described."""
        return cls(list(state["numbers"]), [(name, level) for name, level in state["levels"]])


def _numbers(facts: Sequence[Facts], name: str) -> FloatArray:
    return np.array([_number(mine.get(name)) for mine in facts], dtype=float)


def _levels(facts: Sequence[Facts], name: str) -> NDArray[np.object_]:
    return np.array([level_of(mine.get(name)) for mine in facts], dtype=object)


def level_of(fact: Any) -> str | None:
    """Write a fact as a level; a number in its shortest form, whatever type a table gave it.

    Examples
    --------
    >>> level_of("F"), level_of(2.0), level_of(None)
    ('F', '2', None)
    """
    if fact is None:
        return None
    return f"{fact:.15g}" if _is_number(fact) else str(fact)


def _is_number(fact: Any) -> bool:
    return isinstance(fact, (int, float, np.number)) and not isinstance(fact, bool)


def _number(fact: Any) -> float:
    """Return NaN for what is unknown, or no finite number."""
    try:
        number = float(fact)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
