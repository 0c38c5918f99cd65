"""Proportions with intervals that remember how many patients they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfusion.core.types import FloatArray
from medfusion.evaluation.metrics import Estimate

_NORMAL = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Counted(Estimate):
    """A figure that is a ratio of counts.

    Attributes
    ----------
    hits, of : float
        What was counted, and among how many; as many as there would be of independent observations that tell as much.
    """

    hits: float = 0.0
    of: float = 0.0


def wilson(value: float, of: float) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion among a number of observations, whole or not [1]_.

    References
    ----------
    .. [1] Wilson. Probable inference, the law of succession, and statistical inference. Journal of the American
       Statistical Association 22, 209-212 (1927).

    Examples
    --------
    >>> low, high = wilson(0.0, 4)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.49)
    """
    square = _NORMAL**2
    centre = value + square / (2.0 * of)
    reach = _NORMAL * math.sqrt(value * (1.0 - value) / of + square / (4.0 * of**2))
    low, high = ((centre + end) / (1.0 + square / of) for end in (-reach, reach))
    return max(0.0, low), min(1.0, high)


def independent_number(value: float, draws: FloatArray, patients: Sequence[str]) -> float:
    """Return how many independent observations tell as much of a proportion as those of these patients do.

    That is all of them where each is of another patient. Else it is what makes the binomial spread that of the
    resamples of patients (the design effect of Kish); and since resamples of none or of all never vary, it is then the
    number of patients.

    Parameters
    ----------
    value : float
        The proportion.
    draws : array (b,)
        The proportion in each resample of patients.
    patients : sequence of str
        Whose each observation is.

    Examples
    --------
    >>> independent_number(1.0, np.ones(100), ["a", "b", "b"])
    2.0
    """
    of, n_patients = len(patients), len(set(patients))
    defined = draws[~np.isnan(draws)]
    variance = float(defined.var(ddof=1)) if len(defined) > 1 else 0.0
    if n_patients == of:
        return float(of)
    if not 0 < value < 1 or variance == 0.0:
        return float(n_patients)
    return min(float(of), value * (1.0 - value) / variance)


def rate_estimate(hits: int, draws: FloatArray, patients: Sequence[str]) -> Counted:
    """Return a proportion with its 95 % interval: Wilson's, of as many observations as are independent.

    Parameters
    ----------
    hits : int
        How many of the observations count.
    draws : array (b,)
        The proportion in each resample of patients.
    patients : sequence of str
        Whose each observation is.

    Returns
    -------
    Counted
        The value is None, with a note, where there is no observation.

    Examples
    --------
    >>> rate_estimate(0, np.zeros(100), ["a", "b", "c", "d", "d"]).text()
    '0.000 (0.000 to 0.490)'
    """
    if not patients:
        return Counted(None, note="nobody to count")
    value = hits / len(patients)
    number = independent_number(value, draws, patients)
    return Counted(value, *wilson(value, number), hits=hits * number / len(patients), of=number)
