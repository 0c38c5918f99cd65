"""How far groups are apart, and which of the gaps are more than chance among all that were looked at.

Everything here follows from the figures of the groups and their intervals, since patients of different groups are
independent. Labels are not permuted: that would test whether groups are alike in everything, and a group in which the
event is rarer would look badly served for this alone. Nor is there one test of all groups of a column: where one of ten
groups is badly served, the other nine would hide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from scipy.special import logit

from medfusion.core.types import FloatArray
from medfusion.evaluation.metrics import Estimate
from medfusion.evaluation.rates import Counted
from medfusion.evaluation.subgroups_estimates import MIN_EVENTS, Group

OTHERS = "all others"
LEVEL = 0.05
"""A gap survives where its adjusted p is below this."""
_Z = NormalDist().inv_cdf(0.975)
_LABELS = {
    "auroc": "AUROC",
    "observed_expected": "Observed / expected",
    "intercept": "Calibration intercept",
    "ece": "ECE",
    "brier": "Brier score",
}


def label(figure: str) -> str:
    """Return the name of a figure as a person writes it.

    Examples
    --------
    >>> label("auroc"), label("fnr_at_0.2")
    ('AUROC', 'False-negative rate at 0.2')
    """
    kind, _, threshold = figure.partition("_at_")
    named = {"fnr": "False-negative rate", "net_benefit": "Net benefit"}
    return f"{named[kind]} at {threshold}" if threshold else _LABELS[figure]


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference between two groups of a column, or of one group and all others.

    Attributes
    ----------
    column, figure, group, other : str
        ``other`` is "all others" where the group stands against them.
    value, other_value : float
    difference : Estimate
        Of ``value`` and ``other_value``, with a 95 % interval.
    p : float or None
        How often chance makes a difference as large as this. Of the largest difference in a column of more than two
        groups: how often any of its groups would differ as much from all others as one does. None where not tested.
    p_adjusted : float or None
        After Holm, among all comparisons; of the largest difference, the smallest of its groups.
    """

    column: str
    figure: str
    group: str
    other: str
    value: float
    other_value: float
    difference: Estimate
    p: float | None = None
    p_adjusted: float | None = None

    @property
    def survives(self) -> bool:
        """Whether the gap is more than chance, with all that were looked at taken into account."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL


def holm(p_values: Sequence[float]) -> FloatArray:
    """Adjust p values for their number, so that a false alarm among all of them is as rare as one [1]_.

    References
    ----------
    .. [1] Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def find_gaps(groups: Sequence[Group], others: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> tuple[Gap, ...]:
    """Compare groups: the largest difference of each column and figure, and each group with all others.

    Each group is tested against all others, and all p values of all columns and figures are adjusted together. That
    the groups of a column are not all the same follows where one differs from the others, and costs no test.
    Calibration is tested by observed / expected alone: the intercept says the same once more, and an ECE is larger in
    a smaller group by noise alone.

    Parameters
    ----------
    groups : sequence of Group
    others : mapping from (column, name) to mapping from figure to Estimate
        The figures of everybody outside the group.

    Returns
    -------
    tuple of Gap
        Largest differences first.
    """
    largest: list[Gap] = []
    against: list[Gap] = []
    for column in dict.fromkeys(group.column for group in groups):
        in_column = [group for group in groups if group.column == column]
        for figure in in_column[0].estimates:
            told = [group for group in in_column if _has_interval(group.estimates[figure])]
            if len(told) < 2:
                continue
            largest.append(_largest(figure, told))
            if _is_tested(figure):
                pairs = [(group, others[column, group.name][figure]) for group in told]
                # Of two groups, each is all others of the other.
                pairs = pairs[:1] if len(in_column) == 2 else pairs
                against.extend(_against(group, figure, other) for group, other in pairs if _has_interval(other))
    adjusted = holm([gap.p for gap in against if gap.p is not None])
    against = [replace(gap, p_adjusted=float(p)) for gap, p in zip(against, adjusted, strict=True)]
    return (*(_concluded(gap, against) for gap in largest), *against)


def p_value(figure: str, one: Estimate, other: Estimate) -> float:
    """Return how often chance makes independent figures as different as these.

    Of a few hits a standard error knows little, so that rates are compared by Fisher's exact test, and so is observed /
    expected where few were observed (the share of all events that is this group's, against its share of those
    expected). Else the spread is that of the intervals, on the scale where it depends the least on the value: log-odds
    for an AUROC, the square root for observed / expected.

    Examples
    --------
    >>> round(p_value("auroc", Estimate(0.5, 0.4, 0.6), Estimate(0.6356, 0.5386, 0.7224)), 2)
    0.06
    >>> tea = Counted(0.75, hits=3, of=4), Counted(0.25, hits=1, of=4)
    >>> round(p_value("fnr_at_0.2", *tea), 3)
    0.486
    """
    from scipy.stats import binomtest, fisher_exact, norm  # noqa: PLC0415 - slow to import

    if isinstance(one, Counted) and isinstance(other, Counted):
        if figure != "observed_expected":
            table = [[round(each.hits), round(each.of) - round(each.hits)] for each in (one, other)]
            return float(fisher_exact(table).pvalue)
        if min(one.hits, other.hits) < MIN_EVENTS:
            events = round(one.hits) + round(other.hits)
            return float(binomtest(round(one.hits), events, one.of / (one.of + other.of)).pvalue) if events else 1.0
    (value, spread), (other_value, other_spread) = _placed(figure, one), _placed(figure, other)
    noise = math.hypot(spread, other_spread)
    # Figures that never vary (of equal risks) tell nothing.
    return float(2.0 * norm.sf(abs(value - other_value) / noise)) if noise > 0 else 1.0


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return the difference of independent figures, with the interval that follows from theirs [1]_.

    References
    ----------
    .. [1] Newcombe. Interval estimation for the difference between independent proportions. Statistics in Medicine 17,
       873-890 (1998). Zou, Donner: Statistics in Medicine 27, 1693-1702 (2008), for figures of any kind.

    Examples
    --------
    >>> difference(Estimate(0.5, 0.2, 0.9), Estimate(0.3, 0.0, 0.6)).text(2)
    '0.20 (-0.22 to 0.70)'
    """
    value, low, high = _numbers(one)
    other_value, other_low, other_high = _numbers(other)
    middle = value - other_value
    down = math.hypot(value - low, other_high - other_value)
    up = math.hypot(high - value, other_value - other_low)
    return Estimate(middle, middle - down, middle + up)


def _largest(figure: str, told: Sequence[Group]) -> Gap:
    by_value = sorted(told, key=lambda group: _numbers(group.estimates[figure])[0])
    return _gap(by_value[-1], by_value[0].name, figure, by_value[0].estimates[figure])


def _against(group: Group, figure: str, other: Estimate) -> Gap:
    return replace(_gap(group, OTHERS, figure, other), p=p_value(figure, group.estimates[figure], other))


def _gap(group: Group, name: str, figure: str, other: Estimate) -> Gap:
    one = group.estimates[figure]
    value, other_value = _numbers(one)[0], _numbers(other)[0]
    return Gap(group.column, figure, group.name, name, value, other_value, difference(one, other))


def _concluded(gap: Gap, against: Sequence[Gap]) -> Gap:
    """Add to the largest difference what follows from the comparisons of its groups with all others."""
    tested = [each for each in against if (each.column, each.figure) == (gap.column, gap.figure)]
    if not tested:
        return gap
    p = min(1.0, len(tested) * min(each.p for each in tested if each.p is not None))
    return replace(gap, p=p, p_adjusted=min(each.p_adjusted for each in tested if each.p_adjusted is not None))


def _is_tested(figure: str) -> bool:
    return figure not in {"intercept", "ece"}


def _has_interval(estimate: Estimate) -> bool:
    return None not in {estimate.value, estimate.low, estimate.high}


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        raise ValueError("an estimate without an interval cannot be compared")
    return estimate.value, estimate.low, estimate.high


def _placed(figure: str, estimate: Estimate) -> tuple[float, float]:
    """Return a figure on the scale it is compared on, and its standard error there."""
    numbers = np.array(_numbers(estimate))
    value, low, high = logit(numbers) if figure == "auroc" else np.sqrt(numbers)
    return float(value), float(high - low) / (2.0 * _Z)
