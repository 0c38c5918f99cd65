"""Closing a ledger: base, modalities and features have to sum to the logit that is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medfusion.core.lines import Lines
from medfusion.core.types import TOLERANCE, Explanation, FeatureShare, FloatArray

ROUNDING = 1e-4
"""The most that single-precision arithmetic in a head may be off by, in log-odds."""


def close_ledger(
    base: float, shares: Mapping[str, float], lines: Mapping[str, Sequence[FeatureShare]], logit: float
) -> Explanation:
    """Return the ledger of one prediction.

    Heads compute in single precision, so the lines of a modality may miss its share by a rounding error; it goes to
    the largest line, where it is smallest in proportion.

    Parameters
    ----------
    base : float
        Log-odds of somebody of whom nothing is known.
    shares : mapping from modality to float
        Log-odds; 0 where absent.
    lines : mapping from modality to sequence of FeatureShare
        Of the modalities that are present.
    logit : float

    Raises
    ------
    ValueError
        If the lines are off by more than rounding, or the modalities do not sum to the logit.

    Examples
    --------
    >>> ledger = close_ledger(-1.0, {"ehr": 0.5}, {"ehr": [FeatureShare("lactate last", 4.7, 0.4999999)]}, -0.5)
    >>> ledger.by_feature["ehr"][0].share
    0.5
    """
    closed = {name: _close(name, shares[name], each) for name, each in lines.items()}
    return Explanation(base, dict(shares), closed, logit)


def close_lines(name: str, shares: FloatArray, lines: Lines) -> Lines:
    """Close the ledgers of many samples, as `close_ledger` does; one modality, all of them present.

    Parameters
    ----------
    name : str
        The modality.
    shares : array (n,)
        What it adds to the log-odds of each.
    lines : Lines
        Of n samples.

    Raises
    ------
    ValueError
        If the lines of a sample are off by more than rounding.

    Examples
    --------
    >>> from medfusion.core.lines import Entries
    >>> lines = Entries.of([[FeatureShare("lactate last", 4.7, 0.4999999)]])
    >>> close_lines("ehr", np.array([0.5]), lines).shares
    array([0.5])
    """
    missing = shares - lines.totals
    off = np.flatnonzero(~(np.abs(missing) <= ROUNDING * np.maximum(1.0, np.abs(shares))))
    if len(off):
        raise ValueError(f"the lines of {name} miss its share by {missing[off[0]]:.6f} in {len(off)} samples")
    closed = lines.closed(missing)
    if not (np.abs(closed.totals - shares) <= TOLERANCE).all():
        raise ValueError(f"the ledgers do not add up: the lines of {name} do not sum to its share")
    return closed


def _close(name: str, share: float, lines: Sequence[FeatureShare]) -> list[FeatureShare]:
    ordered = sorted(lines, key=lambda line: -abs(line.share))
    missing = share - math.fsum(line.share for line in ordered)
    if abs(missing) > ROUNDING * max(1.0, abs(share)):
        raise ValueError(f"the lines of {name} miss its share by {missing:.6f}")
    if not ordered:
        return []
    return [replace(ordered[0], share=ordered[0].share + missing), *ordered[1:]]
