"""Which contender to take: the simplest whose AUROC is within one standard error of the best, and why, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from medfusion.evaluation.paired import AurocDifference

NEGLIGIBLE = 0.005
"""A lead in AUROC that is no reason for anything, however small its standard error: contenders that rank patients
nearly alike differ with tiny standard errors, and chance alone would often put such a twin ahead by more than one."""
_SIGNIFICANT = 0.05
_MAX_LISTED = 4
Difference = Callable[[str, str], AurocDifference]
Order = Sequence[str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a contender takes.

    Attributes
    ----------
    fit_s : float
        Seconds to train.
    score_ms : float
        Milliseconds to score a patient.
    size_mb : float
        Megabytes of its model folder.

    Examples
    --------
    >>> Cost(95.2, 3.14, 0.52).text()
    '95 s to train, 3.1 ms to score a patient and 0.52 MB'
    """

    fit_s: float
    score_ms: float
    size_mb: float

    def text(self) -> str:
        """Return the cost in words."""
        return (
            f"{_short(self.fit_s)} s to train, {_short(self.score_ms)} ms to score a patient and "
            f"{_short(self.size_mb)} MB"
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """Records as they are to be expected where the model is used, if they are not as in the cohort.

    Attributes
    ----------
    missing : float
        Share of each modality that was taken away at random.
    as_they_are : mapping from contender to float
        AUROCs without that.
    """

    missing: float
    as_they_are: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The contender to take.

    Attributes
    ----------
    name : str
    best : str
        The contender with the highest AUROC; the same, or less simple.
    single, fused : str or None
        The best by AUROC of those that rest on one modality, and of those that rest on more; None if there is none.
    sentences : tuple of str
        In plain language. First whether fusion beats the best single modality, then what to take and why, for which
        records that is if not for those of the cohort, what falls short, and what it costs.
    """

    name: str
    best: str
    single: str | None
    fused: str | None
    sentences: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Whether fusion beats the best single modality: the first sentence."""
        return self.sentences[0]

    @property
    def reason(self) -> str:
        """All sentences as one text."""
        return " ".join(self.sentences)


def recommend(
    areas: Mapping[str, float],
    difference: Difference,
    order: Order,
    modalities_of: Mapping[str, Sequence[str]],
    costs: Mapping[str, Cost] | None = None,
    expected: Expected | None = None,
) -> Recommendation:
    """Recommend a contender by the one-standard-error rule [1]_.

    The standard error is that of the paired difference to the best contender, by patient. A lead below `NEGLIGIBLE`
    never decides, and where the standard error cannot be told (too few patients), no lead does.

    Parameters
    ----------
    areas : mapping from contender to float
        AUROCs.
    difference : callable
        Gives the AUROC of a first contender less that of a second, as `paired.PairedFigures.auroc_difference` does.
    order : sequence of str, or of sequences of str
        Contenders from simple to complex; those within an inner sequence are as simple as each other, and the one with
        the highest AUROC is taken.
    modalities_of : mapping from contender to sequence of str
        What each rests on; more than one is fusion.
    costs : mapping from contender to Cost, optional
        Contenders may be missing.
    expected : Expected, optional
        Which records ``areas`` and ``difference`` are of, where not of those of the cohort as they are.

    Raises
    ------
    ValueError
        If ``order`` does not name each contender once, or ``modalities_of`` lacks one.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen, Stone. Classification and Regression Trees, section 3.4.3. Wadsworth (1984).

    Examples
    --------
    >>> areas = {"ehr": 0.80, "late": 0.84, "joint": 0.845}
    >>> def difference(first, second):
    ...     value = areas[first] - areas[second]
    ...     return AurocDifference(value, 0.01, value / 0.01, 0.0001, value - 0.0196, value + 0.0196, 0.01)
    >>> both = ("ehr", "notes")
    >>> found = recommend(areas, difference, ["ehr", "late", "joint"], {"ehr": ("ehr",), "late": both, "joint": both})
    >>> found.name, found.best
    ('late', 'joint')
    >>> found.verdict.split(",")[0]
    'Fusion beats ehr alone here: AUROC 0.845 (joint) against 0.800'
    """
    levels = order_levels(order, areas, modalities_of)
    simplest_first = [name for level in levels for name in level]
    best = max(simplest_first, key=lambda name: areas[name])
    behind = {name: difference(best, name) for name in simplest_first}
    close = [[name for name in level if _close(behind[name])] for level in levels]
    name = max(next(level for level in close if level), key=lambda each: areas[each])
    depth = next(number for number, level in enumerate(levels) if name in level)
    short = {each: behind[each] for level in levels[:depth] for each in level}
    words = _Words(areas, modalities_of, expected)
    single, fused = (_best_of(areas, modalities_of, fusion) for fusion in (False, True))
    sentences = [
        words.verdict(single, fused, difference),
        words.choice(name, best, behind[name]),
        *words.records(name),
        *words.shortfall(short),
        *words.cost(name, best if best != name else single, costs or {}),
    ]
    return Recommendation(name, best, single, fused, tuple(sentences))


def order_levels(
    order: Order, contenders: Iterable[str], modalities_of: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """Return contenders from simple to complex, those that are as simple as each other in one list.

    Raises
    ------
    ValueError
        If ``order`` does not name each contender once, or ``modalities_of`` lacks one.

    Examples
    --------
    >>> order_levels([("ehr", "notes"), "late"], ["late", "ehr", "notes"], {"ehr": [], "notes": [], "late": []})
    [['ehr', 'notes'], ['late']]
    """
    levels = [[level] if isinstance(level, str) else list(level) for level in order]
    named, there = sorted(name for level in levels for name in level), sorted(contenders)
    if not there or named != there:
        raise ValueError(f"the order names {named}, and the contenders are {there}")
    if lacking := sorted(set(there) - set(modalities_of)):
        raise ValueError(f"it is not said which modalities these contenders rest on: {lacking}")
    return levels


def _close(behind: AurocDifference) -> bool:
    """Say whether a contender is within one standard error of the best; yes where that cannot be told (NaN)."""
    error = behind.standard_error
    return math.isnan(error) or behind.value <= max(NEGLIGIBLE, error) + 1e-12


def _best_of(areas: Mapping[str, float], modalities_of: Mapping[str, Sequence[str]], fusion: bool) -> str | None:
    named = [name for name in areas if (len(modalities_of[name]) > 1) == fusion]
    return max(named, key=lambda name: areas[name], default=None)


@dataclass(frozen=True, slots=True)
class _Words:
    """Writes the sentences."""

    areas: Mapping[str, float]
    modalities_of: Mapping[str, Sequence[str]]
    expected: Expected | None

    @property
    def here(self) -> str:
        return (
            "here" if self.expected is None else f"where {percent(self.expected.missing)} of each modality is missing"
        )

    def verdict(self, single: str | None, fused: str | None, difference: Difference) -> str:
        if single is None or fused is None:
            lacking = "a single modality" if single is None else "more than one modality"
            return f"Whether fusion pays cannot be told here: no contender rests on {lacking}."
        tested = difference(fused, single)
        alone = self.told(single)
        if tested.low is None or math.isnan(tested.p):
            start = f"Whether fusion beats {alone} cannot be told from these patients"
        elif tested.low > 0 and tested.p < _SIGNIFICANT:
            start = f"Fusion beats {alone} {self.here}"
        else:
            chance = " beyond chance" if tested.value >= 0.0005 else ""
            start = f"Fusion does not beat {alone} {self.here}{chance}"
        compared = f"AUROC {_number(self.areas[fused])} ({fused}) against {_number(self.areas[single])}"
        return f"{start}: {compared}, a difference of {difference_text(tested)}."

    def choice(self, name: str, best: str, behind: AurocDifference) -> str:
        if name == best:
            return f"Recommended: {self.told(name)}, which has the highest AUROC ({_number(self.areas[name])})."
        if behind.value <= NEGLIGIBLE:
            within = f"less than {NEGLIGIBLE:g} below"
        elif behind.standard_error > 0:
            within = f"within one standard error ({_number(behind.standard_error)}) of"
        else:
            within = "not told apart, for want of patients, from"
        return (
            f"Recommended: {self.told(name)}, the simplest contender whose AUROC ({_number(self.areas[name])}) is "
            f"{within} that of the best, {self.told(best)} ({_number(self.areas[best])})."
        )

    def records(self, name: str) -> list[str]:
        if self.expected is None:
            return []
        areas = self.expected.as_they_are
        best = max(areas, key=lambda each: areas[each])
        beside = "the highest" if name == best else f"and the best, {self.told(best)}, {_number(areas[best])}"
        return [
            f"This is for records of which {percent(self.expected.missing)} of each modality is missing at random, as "
            f"is expected where the model is used. On the records as they are, {self.told(name)} has an AUROC of "
            f"{_number(areas[name])}, {beside}."
        ]

    def shortfall(self, short: Mapping[str, AurocDifference]) -> list[str]:
        if not short:
            return []
        nearest = sorted(short, key=lambda name: short[name].value)
        told = [
            f"{self.told(name)} by {_number(short[name].value)} ({_number(short[name].standard_error)})"
            for name in nearest[:_MAX_LISTED]
        ]
        more = f", and {len(nearest) - _MAX_LISTED} more" if len(nearest) > _MAX_LISTED else ""
        start = "Simpler contenders fall short of the best by more than one standard error (in brackets)"
        return [f"{start}: {', '.join(told)}{more}."]

    def cost(self, name: str, other: str | None, costs: Mapping[str, Cost]) -> list[str]:
        if name not in costs:
            return []
        beside = ""
        if other is not None and other in costs and other != name:
            beside = f"; {self.told(other)} would take {costs[other].text()}"
        return [f"It takes {costs[name].text()}{beside}."]

    def told(self, name: str) -> str:
        return contender_name(name, self.modalities_of)


def contender_name(name: str, modalities_of: Mapping[str, Sequence[str]]) -> str:
    """Return a contender's name as a reader needs it: with "alone" behind that of a single modality.

    Examples
    --------
    >>> contender_name("ehr", {"ehr": ["ehr"]}), contender_name("late", {"late": ["ehr", "notes"]})
    ('ehr alone', 'late')
    """
    return f"{name} alone" if len(modalities_of[name]) == 1 and "alone" not in name else name


def difference_text(tested: AurocDifference) -> str:
    """Write a difference of AUROCs with its interval and the p of DeLong's test.

    Examples
    --------
    >>> difference_text(AurocDifference(-0.00512, 0.012, -0.43, 0.67, -0.0291, 0.0189))
    '-0.005 (95 % interval -0.029 to 0.019, p = 0.67)'
    """
    brackets = []
    if tested.low is not None and tested.high is not None:
        brackets.append(f"95 % interval {_number(tested.low)} to {_number(tested.high)}")
    if said := p_text(tested.p):
        brackets.append(said)
    return _number(tested.value) + (f" ({', '.join(brackets)})" if brackets else "")


def p_text(p: float) -> str:
    """Write a p value; nothing where there is none.

    Examples
    --------
    >>> p_text(0.00004), p_text(0.0421), p_text(0.7), p_text(float("nan"))
    ('p < 0.001', 'p = 0.042', 'p = 0.70', '')
    """
    if not p >= 0:
        return ""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def percent(share: float) -> str:
    """Write a share as a percentage.

    Examples
    --------
    >>> percent(0.5), percent(0.125)
    ('50 %', '12.5 %')
    """
    return f"{100 * share:.4g} %"


def _number(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"


def _short(value: float) -> str:
    """Write a cost with about two digits."""
    if value >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
