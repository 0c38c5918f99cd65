"""Proportions with intervals that remember how many patients they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from medfusion.core.types import FloatArray
from medfusion.evaluation.bootstrap import percentile_interval
from medfusion.evaluation.metrics import Estimate


def rate_estimate(hits: int, draws: FloatArray, patients: Sequence[str]) -> Estimate:
    """Return a proportion with its 95 % interval.

    The interval is Wilson's where every observation is of another patient. Else it comes from resamples of patients;
    but resamples of none (or of all) never vary, so there it is Wilson's with as many observations as patients.

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
    Estimate
        None, with a note, where there is no observation.

    Examples
    --------
    >>> import numpy as np
    >>> rate_estimate(0, np.zeros(100), ["a", "b", "c", "d", "d"]).text()
    '0.000 (0.000 to 0.490)'
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

    of, n_patients = len(patients), len(set(patients))
    if not of:
        return Estimate(None, note="nobody to count")
    if n_patients == of or hits in {0, of}:
        wilson = binomtest(hits * n_patients // of, n_patients).proportion_ci(0.95, method="wilson")
        return Estimate(hits / of, float(wilson.low), float(wilson.high))
    return Estimate(hits / of, *(percentile_interval(draws) or (None, None)))
