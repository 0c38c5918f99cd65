"""What decisions at a threshold find, miss and are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import UsageError
from medfusion.core.types import BoolArray, FloatArray

_ROUND = tuple(step / 100 for step in range(5, 51, 5))
_TOP_PERCENT = (50, 25, 10, 5)


def check_thresholds(values: Iterable[float]) -> FloatArray:
    """Return thresholds as an array, or refuse them: the one place where thresholds are checked.

    Parameters
    ----------
    values : iterable of float

    Returns
    -------
    array (t,)
        In the order given.

    Raises
    ------
    UsageError
        If there is none, or one is not within (0, 1).

    Examples
    --------
    >>> check_thresholds([0.1, 0.25]).tolist()
    [0.1, 0.25]
    >>> check_thresholds([15])
    Traceback (most recent call last):
    medfusion.core.errors.UsageError: threshold is 15, expected a risk above 0 and below 1; write 15 % as 0.15
    """
    thresholds = [float(value) for value in values]
    if not thresholds:
        raise UsageError("there is no threshold, expected a risk above 0 and below 1; name one, such as 0.1")
    for value in thresholds:
        if not 0 < value < 1:
            remedy = f"write {value:g} % as {value / 100:g}" if 1 < value < 100 else "name another, such as 0.1"
            raise UsageError(f"threshold is {value:g}, expected a risk above 0 and below 1; {remedy}")
    return np.array(thresholds)


@dataclass(frozen=True, slots=True)
class AlertCounts:
    """Who is flagged at t thresholds, under b weightings of the samples.

    Attributes
    ----------
    hits, false_alarms : arrays (b, t)
        Flagged with the event, and without it.
    events, others : arrays (b, 1)
        All with the event, and without it.
    """

    hits: FloatArray
    false_alarms: FloatArray
    events: FloatArray
    others: FloatArray

    def net_benefit(self, thresholds: FloatArray) -> FloatArray:
        """Return hits per sample, less false alarms at the exchange rate that each threshold implies: (b, t)."""
        odds = thresholds / (1.0 - thresholds)
        return np.asarray((self.hits - self.false_alarms * odds) / (self.events + self.others))

    def treat_all(self, thresholds: FloatArray) -> FloatArray:
        """Return the net benefit of flagging everybody: (b, t)."""
        odds = thresholds / (1.0 - thresholds)
        return np.asarray((self.events - self.others * odds) / (self.events + self.others))


def alert_counts(
    events: BoolArray, risks: FloatArray, thresholds: FloatArray, weights: FloatArray | None = None
) -> AlertCounts:
    """Count who is flagged: those whose risk is at the threshold or above.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    thresholds : array (t,)
    weights : array (b, n), optional
        How often each sample counts; once, if left out.

    Examples
    --------
    >>> alert_counts(np.array([True, False, False]), np.array([0.3, 0.3, 0.1]), np.array([0.2])).hits.tolist()
    [[1.0]]
    """
    order = np.argsort(risks, kind="stable")
    first_flagged = np.searchsorted(risks[order], thresholds)
    counted = np.ones((1, len(risks))) if weights is None else weights[:, order]
    hits, events_in_all = _flagged(counted * events[order], first_flagged)
    false_alarms, others = _flagged(counted * ~events[order], first_flagged)
    return AlertCounts(hits, false_alarms, events_in_all, others)


def _flagged(weights: FloatArray, first: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Sum weights (b, n) from each first column on, and altogether."""
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    return below[:, -1:] - below[:, first], below[:, -1:]


def net_benefit(
    events: BoolArray, risks: FloatArray, thresholds: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    r"""Compute the net benefit of flagging those whose risk reaches a threshold [1]_.

    :math:`TP / n - FP / n \cdot p_t / (1 - p_t)`: who acts from a risk of :math:`p_t` on holds a missed event to be
    :math:`(1 - p_t) / p_t` times as bad as a false alarm. In units of events found per sample.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    thresholds : array (t,)
    weights : array (b, n), optional
        How often each sample counts, for resamples.

    Returns
    -------
    array (t,), or (b, t) where there are weights

    Raises
    ------
    UsageError
        If a threshold is not within (0, 1).

    References
    ----------
    .. [1] Vickers, Elkin. Decision curve analysis: a novel method for evaluating prediction models. Medical Decision
       Making 26, 565-574 (2006).

    Examples
    --------
    >>> events, risks = np.array([True, False, False, False]), np.array([0.6, 0.3, 0.1, 0.1])
    >>> net_benefit(events, risks, np.array([0.2, 0.5])).tolist()
    [0.1875, 0.25]
    """
    thresholds = check_thresholds(thresholds)
    benefit = alert_counts(events, risks, thresholds, weights).net_benefit(thresholds)
    return benefit[0] if weights is None else benefit


def suggested_thresholds(events: BoolArray, risks: FloatArray) -> dict[float, str]:
    """Return thresholds to show where nobody has chosen one, each with where it comes from.

    Round values, the prevalence, and what flags a share of the samples. Those that would flag nobody are left out.

    Examples
    --------
    >>> suggested_thresholds(np.array([True, False, False, False]), np.array([0.08, 0.06, 0.03, 0.02]))
    {0.05: 'round value', 0.06: 'highest 50 % of risks', 0.08: 'highest 25 % of risks'}
    """
    found = {float(events.mean()): "prevalence"}
    for percent in _TOP_PERCENT:
        risk = float(np.quantile(risks, 1.0 - percent / 100, method="higher"))
        found.setdefault(risk, f"highest {percent} % of risks")
    found.update(dict.fromkeys(_ROUND, "round value"))
    highest = float(risks.max())
    usable = {value: basis for value, basis in sorted(found.items()) if 0 < value < 1 and value <= highest}
    return usable or dict.fromkeys(_ROUND, "round value")
