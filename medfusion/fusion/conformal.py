"""Risk sets: which outcomes a risk leaves open, with a stated coverage, and when a person has to decide.

Conformal prediction asks of each outcome how many calibration patients who had it looked as strange as this sample; an
outcome that few did is ruled out. The promise holds for whatever model made the risks, well calibrated or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import UsageError
from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray

COVERAGE = 0.9
UNDECIDED, UNUSUAL = "abstain-undecided", "abstain-unusual"
"""Findings: neither outcome can be ruled out; both are, as no patient of either kind looked like this."""
OUTCOMES = ("no event", "the event")
_WHO = ("without the event", "with the event")


@dataclass(frozen=True, slots=True)
class Sets:
    """What n risks leave open.

    Attributes
    ----------
    coverage : float
    p_values : array (n, 2)
        Of no event and of the event: the share of calibration patients, this sample among them, who had that outcome
        and looked at least as strange for it.
    counts : array (n, 2), int
        How many calibration patients that is a share of.

    Examples
    --------
    >>> sets = Sets(0.9, np.array([[0.02, 0.6], [0.3, 0.4]]), np.full((2, 2), 200))
    >>> sets.included.tolist(), sets.codes()
    ([[False, True], [True, True]], [None, 'abstain-undecided'])
    >>> sets.text(0)
    'at a stated coverage of 90 %, no event is ruled out (p = 0.020)'
    """

    coverage: float
    p_values: FloatArray
    counts: NDArray[np.int64]

    @property
    def included(self) -> BoolArray:
        """Which outcomes are in the set (n, 2): no event, event."""
        return np.asarray(self.p_values > _error(self.coverage))

    def words(self) -> list[str]:
        """Return each set in words: event, no event, both or neither."""
        names = {(True, False): "no event", (False, True): "event", (True, True): "both", (False, False): "neither"}
        return [names[without, having] for without, having in self.included.tolist()]

    def codes(self) -> list[str | None]:
        """Return the finding of each sample that a person has to decide on; None for the others."""
        found = {2: UNDECIDED, 0: UNUSUAL}
        return [found.get(size) for size in self.included.sum(axis=1).tolist()]

    def text(self, row: int) -> str:
        """Return in one sentence what the set of a sample says, and why."""
        stated = f"at a stated coverage of {100 * self.coverage:g} %"
        without, having = (f"{p:.3f}" for p in self.p_values[row])
        code = self.codes()[row]
        if code is None:
            ruled_out = int(self.included[row, 0])
            return f"{stated}, {OUTCOMES[ruled_out]} is ruled out (p = {self.p_values[row, ruled_out]:.3f})"
        if code == UNUSUAL:
            return (
                f"a person has to decide: {stated}, this risk fits neither patients with the event (p = {having}) "
                f"nor patients without it (p = {without})"
            )
        enough = least(self.coverage)
        few = [
            f"; only {count} patients {who} are there to compare with, {enough} are needed to rule it out"
            for count, who in zip(self.counts[row].tolist(), _WHO, strict=True)
            if count < enough
        ]
        return (
            f"a person has to decide: {stated}, neither the event (p = {having}) nor no event (p = {without}) "
            f"can be ruled out{''.join(few)}"
        )


@dataclass(frozen=True, slots=True)
class RiskSets:
    r"""Calibration patients to compare with: how strange each looked for the outcome that they had.

    Strangeness is one minus the risk for those with the event, the risk for those without. Calibrated on out-of-fold
    risks, this is cross-conformal prediction [1]_ with the folds pooled: new patients are judged by the mean of the
    members and each calibration patient by one, so that the coverage, exact for one model and exchangeable patients, is
    approximate; ``benchmarks/conformal.py`` measures it.

    By default (``by_class``) a sample is compared, for each outcome, with those who had it. Coverage then holds among
    patients with the event and among those without. Comparing with everybody promises it for all patients taken
    together only, and where the event is rare, sets that never hold it keep that promise. Within categories (presence
    patterns, groups) it holds in each that has enough patients of its own: Mondrian conformal prediction [2]_.
    Another category, or one with fewer, is compared with patients of all categories, without a promise of its own.

    Rows of a patient are not exchangeable with those of others; each comparison takes one row per patient, at random
    [3]_. The promise is for one such row of a new patient.

    Attributes
    ----------
    coverage : float
        How often the set holds what happens, at least: 0.9 for 90 %.
    by_class : bool
    everybody : pair of arrays
        Sorted strangeness of those without and with the event; the same twice if not ``by_class``.
    categories : pair of mappings from category to array
        Likewise, of the categories with enough patients.

    References
    ----------
    .. [1] Vovk V (2015). Cross-conformal predictors. Annals of Mathematics and Artificial Intelligence 74.
    .. [2] Vovk V, Gammerman A, Shafer G (2005). Algorithmic Learning in a Random World. Springer.
    .. [3] Dunn R, Wasserman L, Ramdas A (2023). Distribution-free prediction sets for two-layer hierarchical models.
       Journal of the American Statistical Association 118(544).

    Examples
    --------
    >>> risks = np.linspace(0.01, 0.99, 99)
    >>> sets = RiskSets.fit(risks, risks > 0.4, [f"P{index}" for index in range(99)])
    >>> sets.predict(np.array([0.05, 0.42, 0.9])).included.tolist()
    [[True, False], [False, False], [False, True]]
    >>> sets.statement()
    'of 100 new patients with the event, and of 100 without, at least 90 on average get a set that holds what happens'
    """

    coverage: float
    by_class: bool
    everybody: tuple[FloatArray, FloatArray]
    categories: tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]

    @classmethod
    def fit(
        cls,
        risks: FloatArray,
        events: BoolArray,
        subject_ids: Any,
        categories: Sequence[str] | None = None,
        *,
        coverage: float = COVERAGE,
        by_class: bool = True,
        seed: int = 0,
    ) -> RiskSets:
        """Calibrate on patients that the model has not seen.

        Parameters
        ----------
        risks : array (n,), probabilities
            As they will be shown: after any recalibration.
        events : array (n,), bool
        subject_ids : sequence of str, length n
        categories : sequence of str, length n, optional
            Presence patterns, levels of a column of subjects.csv, or both in one text.
        coverage : float
            Between 0 and 1.
        by_class : bool
        seed : int
            Decides which row of a patient is taken.

        Raises
        ------
        UsageError
            If the coverage is not between 0 and 1.
        ValueError
            If lengths differ, or a risk is not within [0, 1].
        """
        if not 0 < coverage < 1:
            raise UsageError(f"coverage is {coverage}, expected a number between 0 and 1; 0.9 means 90 %")
        names = np.array([""] * len(risks) if categories is None else list(categories), dtype=str)
        subjects = np.asarray(subject_ids, dtype=str)
        if not len(risks) == len(events) == len(subjects) == len(names):
            raise ValueError(
                f"{len(risks)} risks, {len(events)} events, {len(subjects)} subjects and {len(names)} categories "
                "do not belong together"
            )
        _check(risks)
        rng = np.random.default_rng(seed)
        strangeness = np.where(events, 1.0 - risks, risks)
        everybody, within = [], []
        for outcome in (False, True):
            here = events == outcome if by_class else np.ones(len(risks), dtype=bool)
            known = np.unique(names).tolist() if categories is not None else []
            each = {name: _one_per_patient(strangeness, subjects, here & (names == name), rng) for name in known}
            everybody.append(_one_per_patient(strangeness, subjects, here, rng))
            within.append({name: scores for name, scores in each.items() if len(scores) >= enough(coverage)})
        if not by_class:
            everybody[1], within[1] = everybody[0], within[0]
        return cls(coverage, by_class, (everybody[0], everybody[1]), (within[0], within[1]))

    def predict(self, risks: FloatArray, categories: Sequence[str] | None = None) -> Sets:
        """Return the sets of n risks, each compared with its category where that has enough patients of its own.

        Raises
        ------
        ValueError
            If a risk is not within [0, 1].
        """
        _check(risks)
        names = np.array([""] * len(risks) if categories is None else list(categories), dtype=str)
        p_values, counts = np.empty((len(risks), 2)), np.empty((len(risks), 2), dtype=np.int64)
        for outcome, strangeness in enumerate((risks, 1.0 - risks)):
            p_values[:, outcome] = _p_values(self.everybody[outcome], strangeness)
            counts[:, outcome] = len(self.everybody[outcome])
            for name, scores in self.categories[outcome].items() if categories is not None else ():
                here = names == name
                p_values[here, outcome] = _p_values(scores, strangeness[here])
                counts[here, outcome] = len(scores)
        return Sets(self.coverage, p_values, counts)

    def statement(self) -> str:
        """Return what the coverage promises, in words."""
        who = "of 100 new patients with the event, and of 100 without," if self.by_class else "of 100 new patients"
        return f"{who} at least {100 * self.coverage:g} on average get a set that holds what happens"

    def state(self) -> State:
        """Return coverage and arrays."""
        categories = [{"names": list(each), "scores": list(each.values())} for each in self.categories]
        return {
            "coverage": self.coverage,
            "by_class": self.by_class,
            "everybody": list(self.everybody),
            "categories": categories,
        }

    @classmethod
    def restore(cls, state: State) -> RiskSets:
        """Return the sets that `state` described."""
        within = [dict(zip(each["names"], each["scores"], strict=True)) for each in state["categories"]]
        (without, having), coverage = state["everybody"], float(state["coverage"])
        return cls(coverage, bool(state["by_class"]), (without, having), (within[0], within[1]))


def least(coverage: float) -> int:
    """Return how many patients to compare with it takes to rule anything out at all.

    Examples
    --------
    >>> least(0.9), least(0.95)
    (9, 19)
    """
    return ceil(round(1 / _error(coverage) - 1, 9))


def enough(coverage: float) -> int:
    """Return how many patients of an outcome a category needs to be compared with its own.

    With n of them, coverage exceeds what is stated by less than ``1 / (n + 1)``; here a fifth of the stated error, two
    points at 90 %.

    Examples
    --------
    >>> enough(0.9), enough(0.95)
    (49, 99)
    """
    return ceil(round(5 / _error(coverage) - 1, 9))


def _error(coverage: float) -> float:
    """Return 1 - coverage; rounded, as 1 - 0.9 is a little less than 0.1."""
    return round(1.0 - coverage, 12)


def _check(risks: FloatArray) -> None:
    if bad := int((~((risks >= 0) & (risks <= 1))).sum()):
        raise ValueError(f"{bad} risks are not within [0, 1]")


def _one_per_patient(
    strangeness: FloatArray, subjects: NDArray[np.str_], here: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """Return the sorted strangeness of one row of each patient that has any here."""
    rows = rng.permutation(np.flatnonzero(here))
    _, first = np.unique(subjects[rows], return_index=True)
    return np.sort(strangeness[rows[first]])


def _p_values(scores: FloatArray, strangeness: FloatArray) -> FloatArray:
    """Return the share of the sorted scores, and the sample itself, that are at least as strange."""
    as_strange = len(scores) - np.searchsorted(scores, strangeness, side="left") + 1
    return np.asarray(as_strange / (len(scores) + 1))
