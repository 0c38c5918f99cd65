"""Values of a record that may be changed, to see what a model would say if they were others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medfusion.core.errors import UsageError

Changed = float | str | None
"""What a value is changed to; None where it is to be as if it had not been recorded."""


@dataclass(frozen=True, slots=True)
class EditableValue:
    """One value that may be changed.

    Attributes
    ----------
    name : str
        No two values of a record have the same.
    value : float, str or None
        As it was recorded; None where it was not.
    unit : str
        UCUM unit of a number; empty where it has none, or it is unknown.
    low, high : float or None
        What a number may be changed to: from the least to the greatest value that the model has learnt from. None
        where that is not known.
    choices : tuple of str
        What a text may be changed to; empty for a number.
    """

    name: str
    value: float | str | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, changed: Changed) -> None:
        """Refuse what it may not be changed to.

        Raises
        ------
        UsageError

        Examples
        --------
        >>> EditableValue("lactate", 4.7, "mmol/L", 0.4, 15.0).check(1.2)
        >>> EditableValue("lactate", 4.7, "mmol/L", 0.4, 15.0).check(150.0)
        Traceback (most recent call last):
        medfusion.core.errors.UsageError: lactate: it may be from 0.4 to 15, which is what the model has learnt from
        """
        if changed is None or changed == self.value:
            return
        if self.choices:
            if changed not in self.choices:
                raise UsageError(f"{self.name}: it may be one of {', '.join(self.choices)}")
            return
        if isinstance(changed, str) or not math.isfinite(changed):
            raise UsageError(f"{self.name}: it has to be a number")
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        if not low <= changed <= high:
            raise UsageError(
                f"{self.name}: it may be from {low:g} to {high:g}, which is what the model has learnt from"
            )


def check_changes(values: Sequence[EditableValue], changes: Mapping[str, Changed]) -> None:
    """Refuse changes of what may not be changed, or to what it may not be.

    Raises
    ------
    UsageError
    """
    known = {value.name: value for value in values}
    for name, changed in changes.items():
        if name not in known:
            raise UsageError(f"{name}: no value that may be changed")
        known[name].check(changed)
