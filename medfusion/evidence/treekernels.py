"""The two loops over rows that `treetables` consists of; they are compiled when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def _compiled(loop: Callable[..., None]) -> Any:
    """Have a loop compiled, and kept for the next program where there is a place for it."""
    try:
        return numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # neither this folder nor the user's can be written to
        return numba.njit(nogil=True)(loop)


@_compiled
def compare(values, patterns, twig, feature, number, place, default_left):  # type: ignore[no-untyped-def]
    """Set the bit of each comparison ``values[feature] < number``; a missing value goes to its default side."""
    for at in range(len(twig)):
        value, pattern, limit = values[feature[at]], patterns[twig[at]], number[at]
        yes, no = np.uint8(1 << place[at]), np.uint8(0)
        # No comparison with NaN holds. Each loop is simple enough for several rows per instruction.
        if default_left[at]:
            for row in range(len(pattern)):
                pattern[row] |= no if value[row] >= limit else yes
        else:
            for row in range(len(pattern)):
                pattern[row] |= yes if value[row] < limit else no


@_compiled
def look_up(totals, patterns, twig, target, start, numbers):  # type: ignore[no-untyped-def]
    """Add to each target what the table that begins at ``start`` has for the pattern of its twig."""
    for at in range(len(twig)):
        total, pattern, table = totals[target[at]], patterns[twig[at]], numbers[start[at] :]
        for row in range(len(pattern)):
            total[row] += table[pattern[row]]
