"""Making a long list of shares short without losing what it adds up to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medfusion.core.lines import Entries, Lines, chained
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


def fold_lines(lines: Lines, top: int | None) -> Entries:
    """Do so for the ledgers of many samples; None keeps all lines.

    Examples
    --------
    >>> ledger = [FeatureShare("age", 70.0, 0.25), FeatureShare("lactate", 4.7, 1.0), FeatureShare("pH", 7.4, -0.5)]
    >>> for line in fold_lines(Entries.of([ledger]), 1).ledgers()[0]:
    ...     print(line.feature, line.value, line.share)
    lactate 4.7 1.0
    (2 others) None -0.25
    """
    if top is None:
        return lines.largest(None)
    # One line more, because a single other line is shown by its own name.
    largest, counts, totals = lines.largest(top + 1), lines.counts, lines.totals
    visible = np.bincount(largest.rows, np.abs(largest.shares) >= VISIBLE, minlength=lines.n).astype(np.int64)
    shown = np.minimum(top, visible)
    shown = np.where(counts - shown == 1, counts, shown)
    kept = largest.take(np.flatnonzero(largest.ranks < shown[largest.rows]))
    others = counts - shown
    rows = np.flatnonzero(others)
    names = sorted({f"({number} others)" for number in others[rows].tolist()})
    where = {name: place for place, name in enumerate(names)}
    line = np.array([where[f"({number} others)"] for number in others[rows].tolist()], dtype=np.int64)
    rest = (totals - kept.totals)[rows]
    both = chained([kept, Entries(lines.n, names, rows, line, rest, np.full(len(rows), np.nan))])
    return both.take(np.argsort(both.rows, kind="stable"))
