"""Making a long list of shares short without losing what it adds up to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medfusion.core.types import FeatureShare

VISIBLE = 0.005
"""Log-odds below which a share reads 0.00 and needs no line of its own."""


def fold(lines: Sequence[FeatureShare], top: int) -> list[FeatureShare]:
    """Keep the lines with the largest shares, and put the others into one line with their sum.

    Parameters
    ----------
    lines : sequence of FeatureShare
    top : int
        How many lines to keep, at least 1.

    Returns
    -------
    list of FeatureShare
        Largest absolute share first, the folded line last; it has the same sum as ``lines``.

    Examples
    --------
    >>> lines = [FeatureShare("age", 70.0, 0.25), FeatureShare("lactate", 4.7, 1.0), FeatureShare("pH", 7.4, -0.5)]
    >>> [(line.feature, line.share) for line in fold(lines, 1)]
    [('lactate', 1.0), ('(2 others)', -0.25)]
    """
    ordered = sorted(lines, key=lambda line: -abs(line.share))
    shown = min(top, sum(abs(line.share) >= VISIBLE for line in ordered))
    kept, others = ordered[:shown], ordered[shown:]
    if len(others) > 1:
        return [*kept, FeatureShare(f"({len(others)} others)", None, math.fsum(line.share for line in others))]
    return ordered
