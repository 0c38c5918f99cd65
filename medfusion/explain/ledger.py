"""Closing a ledger: base, modalities and features have to sum to the logit that is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medfusion.core.types import Explanation, FeatureShare

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


def _close(name: str, share: float, lines: Sequence[FeatureShare]) -> list[FeatureShare]:
    ordered = sorted(lines, key=lambda line: -abs(line.share))
    missing = share - math.fsum(line.share for line in ordered)
    if abs(missing) > ROUNDING * max(1.0, abs(share)):
        raise ValueError(f"the lines of {name} miss its share by {missing:.6f}")
    if not ordered:
        return []
    return [replace(ordered[0], share=ordered[0].share + missing), *ordered[1:]]
