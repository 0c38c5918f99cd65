"""Recalibration: a risk is made to mean what it says where it is used, and its ledger still adds up.

One monotone map of the log-odds, chosen by cross-validation, plus small offsets for what a sample has (its presence
pattern) and for the group that the patient belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import DataError, Problem, UsageError
from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray
from medfusion.fusion.maps import KINDS, LogitMap, MapKind
from medfusion.fusion.offsets import NOTHING, as_names, fit_offsets, look_up, patients_of_each

NEEDED: Mapping[MapKind, int] = {"none": 0, "intercept": 20, "platt": 50, "beta": 100}
"""How many patients with the event, and as many without, each map needs.

The standard error of an intercept is ``sqrt(1/with + 1/without)`` or a little more: at most 0.35 log-odds with 20 of
each, 0.22 with 50. Of a slope, it is 0.26 with 50 of each where log-odds have a standard deviation of 1, and 0.20 where
it is 2 [1]_. A curve needs 100 of each [2]_.

.. [1] Riley RD, Debray TPA, Collins GS, et al (2021). Minimum sample size for external validation of a clinical
   prediction model with a binary outcome. Statistics in Medicine 40(19).
.. [2] Vergouwe Y, Steyerberg EW, Eijkemans MJC, Habbema JDF (2005). Substantial effective sample sizes were required
   for external validation studies of predictive logistic regression models. Journal of Clinical Epidemiology 58(5).
"""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """What a recalibration makes of a ledger: ``base + factor * (sum of the old shares) + offset`` is the new logit.

    The factor is the slope of the map between the old base and the old logit. Every share times this factor is its
    Aumann-Shapley value [1]_: what the share adds if all shares grow together from nothing to their full size.
    (It is what integrated gradients [2]_ give, along the straight path.)
    The offset belongs to a pattern as a whole, so the modalities that are present divide it equally: the Shapley value
    of a game in which only all together earn something.

    Attributes
    ----------
    base : array (n,)
        Log-odds of somebody of that group of whom nothing else is known.
    factor : array (n,)
        What every share is multiplied with; never negative.
    offset : array (n,)
        Log-odds, to be divided equally among the modalities that are present; 0 where none is.

    References
    ----------
    .. [1] Aumann RJ, Shapley LS (1974). Values of Non-Atomic Games. Princeton University Press.
    .. [2] Sundararajan M, Taly A, Yan Q (2017). Axiomatic attribution for deep networks. ICML.
    """

    base: FloatArray
    factor: FloatArray
    offset: FloatArray

    def shares(self, shares: FloatArray, present: BoolArray) -> FloatArray:
        """Return the new shares (n, modalities) of the old ones; exactly 0 where a modality is absent."""
        each = self.offset / np.maximum(1, present.sum(axis=1))
        return np.where(present, shares * self.factor[:, None] + each[:, None], 0.0)


@dataclass(frozen=True, slots=True)
class Recalibration:
    """``logit = map(logit before) + offset of the pattern + offset of the group``.

    Attributes
    ----------
    map : LogitMap
    patterns : mapping from presence pattern to float
        Offsets in log-odds; a pattern that is not in it has 0, as has that of a sample without any modality.
    column : str
        The column of subjects.csv that names a patient's group; empty where no group has an offset.
    groups : mapping from group to float
        Offsets in log-odds; a group that is not in it has 0.
    losses : mapping from kind of map to float
        Cross-validated log loss of the maps that competed.

    Raises
    ------
    ValueError
        If an offset is not a finite number, or belongs to a sample without any modality.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> logits, subjects = rng.normal(-1.0, 1.5, 4000), np.arange(4000).astype(str)
    >>> events = rng.random(4000) < 1 / (1 + np.exp(-0.5 * logits - 0.4))
    >>> found = Recalibration.fit(logits, events, np.ones(4000), subjects, ["ehr"] * 4000)
    >>> found.text()
    'platt: log-odds = 0.38 + 0.50 * before'
    >>> terms = found.terms(logits, -1.0, ["ehr"] * 4000)
    >>> bool(np.allclose(terms.base + terms.factor * (logits + 1.0) + terms.offset, found.apply(logits)))
    True
    """

    map: LogitMap = field(default_factory=LogitMap)
    patterns: Mapping[str, float] = field(default_factory=dict)
    column: str = ""
    groups: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not np.isfinite([*self.patterns.values(), *self.groups.values()]).all() or NOTHING in self.patterns:
            raise ValueError("offsets have to be finite numbers, and a sample without any modality has none")

    @classmethod
    def fit(
        cls,
        logits: FloatArray,
        events: BoolArray,
        weights: FloatArray,
        subject_ids: Any,
        patterns: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
        *,
        column: str = "",
        kinds: Sequence[str] = KINDS,
        seed: int = 0,
    ) -> Recalibration:
        """Fit on samples that the model has not seen, first the map, then the offsets.

        The map is chosen among those that there are enough patients for, by log loss on left-out patients: the
        simplest one that is within one standard error of the best. The standard error is that of the difference to the
        best over patients, as the log losses themselves vary far more. Offsets are fitted with the slopes of the map
        held, together with its intercept (unless the map is "none", which has none).
        `medfusion.fusion.offsets` says how they are pooled.

        Parameters
        ----------
        logits : array (n,)
            Log-odds of the model to be recalibrated.
        events : array (n,), bool
        weights : array (n,)
            How much a row counts.
        subject_ids : sequence of str, length n
            Whose row it is; cross-validation leaves out patients, and patients are what is counted.
        patterns : sequence of str, length n, optional
            Presence patterns, as `pattern_names` gives them; without them there are no offsets for patterns.
        groups : sequence of str or None, length n, optional
            What ``column`` says of the patient; None, NaN or an empty text where that is unknown.
        column : str
        kinds : sequence of {"none", "intercept", "platt", "beta"}
            Which maps compete.
        seed : int
            Decides the folds.

        Raises
        ------
        DataError
            If there are too few patients with or without the event for any map; the message says how many are needed.
        UsageError
            If a kind does not exist, or groups come without the name of their column.
        ValueError
            If lengths differ, or a logit is not a finite number.
        """
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - slow to import

        _check_input(logits, events, weights, subject_ids, patterns, groups)
        if groups is not None and not column:
            raise UsageError("groups were given without the name of their column")
        subjects = np.asarray(subject_ids, dtype=str)
        affordable = affordable_kinds(events, subjects, kinds)
        # Products with a handful of columns only lose time when several threads share them.
        with threadpool_limits(1, user_api="blas"):
            losses = _left_out_losses(affordable, logits, events, weights, subjects, seed)
            kind = _simplest_of_the_best(losses, weights, subjects)
            fitted = LogitMap.fit(kind, logits, events, weights)
            families = [as_names(each, len(logits)) for each in (patterns, groups)]
            families[0] = np.where(families[0] == NOTHING, "", families[0])
            fitted, (by_pattern, by_group) = fit_offsets(fitted, families, logits, events, weights, subjects)
        means = {str(name): float(np.average(each, weights=weights)) for name, each in losses.items()}
        return cls(fitted, by_pattern, column if by_group else "", by_group, means)

    def apply(
        self, logits: FloatArray, patterns: Sequence[str] | None = None, groups: Sequence[Any] | None = None
    ) -> FloatArray:
        """Return recalibrated log-odds (n,); within a pattern and group, their order is that of ``logits``."""
        n = len(logits)
        return self.map.apply(logits) + look_up(self.patterns, patterns, n) + look_up(self.groups, groups, n)

    def terms(
        self,
        logits: FloatArray,
        base: FloatArray | float,
        patterns: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
    ) -> Terms:
        """Return what turns the ledgers of n samples into those of the recalibrated logits.

        Parameters
        ----------
        logits : array (n,)
            Before recalibration.
        base : float or array (n,)
            The base of their ledgers.
        patterns, groups : sequences of length n, optional
            As in `apply`.

        Returns
        -------
        Terms
            ``base + factor * (logits - old base) + offset`` is what `apply` returns.
        """
        n = len(logits)
        return Terms(
            base=self.map.apply(np.broadcast_to(base, n)) + look_up(self.groups, groups, n),
            factor=np.broadcast_to(self.map.secant(base, logits), n),
            offset=look_up(self.patterns, patterns, n),
        )

    def text(self) -> str:
        """Return the recalibration in words."""
        shift, low, high = (f"{value:.2f}" for value in (self.map.shift, self.map.low, self.map.high))
        words = {
            "none": "none: log-odds are left as they are",
            "intercept": f"intercept: log-odds = {shift} + before",
            "platt": f"platt: log-odds = {shift} + {low} * before",
            "beta": f"beta: log-odds = {shift} + {low} * ln(risk before) - {high} * ln(1 - risk before)",
        }
        offsets = {"presence pattern": self.patterns, self.column: self.groups}
        told = ", ".join(f"{len(each)} by {name}" for name, each in offsets.items() if each)
        return words[self.map.kind] + (f"; offsets: {told}" if told else "")

    def state(self) -> State:
        """Return everything as plain data."""
        offsets = {
            name: {"names": list(each), "values": list(each.values())}
            for name, each in {"patterns": self.patterns, "groups": self.groups}.items()
        }
        return {"map": self.map.state(), "column": self.column, "losses": dict(self.losses), **offsets}

    @classmethod
    def restore(cls, state: State) -> Recalibration:
        """Return the recalibration that `state` described."""
        patterns, groups = (
            dict(zip(state[name]["names"], map(float, state[name]["values"]), strict=True))
            for name in ("patterns", "groups")
        )
        return cls(LogitMap(**state["map"]), patterns, state["column"], groups, state["losses"])


def affordable_kinds(events: BoolArray, subject_ids: Any, kinds: Sequence[str] = KINDS) -> tuple[MapKind, ...]:
    """Return the kinds of map that there are enough patients for, from the simplest on.

    Raises
    ------
    DataError
        If there are too few for any but "none", which never needs a fit.
    UsageError
        If a kind does not exist.

    Examples
    --------
    >>> affordable_kinds(np.arange(300) < 60, np.arange(300).astype(str))
    ('none', 'intercept', 'platt')
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UsageError(f"there is no recalibration {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    having, lacking = patients_of_each(events, np.asarray(subject_ids, dtype=str))
    asked = tuple(kind for kind in KINDS if kind in kinds)
    needed = min((NEEDED[kind] for kind in asked if kind != "none"), default=NEEDED["intercept"])
    if min(having, lacking) < needed:
        raise DataError([_too_few(having, lacking, needed)])
    return tuple(kind for kind in asked if NEEDED[kind] <= min(having, lacking))


def _too_few(having: int, lacking: int, needed: int) -> Problem:
    missing = [
        f"{needed - count} more patients {what}"
        for count, what in ((having, "with the event"), (lacking, "without"))
        if count < needed
    ]
    got = f"{having} patients with the event and {lacking} without"
    remedy = f"add the outcomes of {' and '.join(missing)}, or use the model as it is"
    return Problem("too-few-events", "labels", "", "boolean_value", got, f"at least {needed} of each", remedy)


def _check_input(
    logits: FloatArray, events: BoolArray, weights: FloatArray, subject_ids: Any, patterns: Any, groups: Any
) -> None:
    lengths = [len(each) for each in (logits, events, weights, subject_ids, patterns, groups) if each is not None]
    if len(set(lengths)) != 1:
        raise ValueError(f"logits, events, weights, subjects, patterns and groups have different lengths: {lengths}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).sum())} logits are not finite numbers")


def _left_out_losses(
    kinds: Sequence[MapKind],
    logits: FloatArray,
    events: BoolArray,
    weights: FloatArray,
    subjects: NDArray[np.str_],
    seed: int,
) -> dict[MapKind, FloatArray]:
    """Return the log loss of each row (n,) under each kind of map, fitted without the patients of its fold."""
    from medfusion.core.folds import patient_folds  # noqa: PLC0415 - slow to import

    folds = patient_folds(subjects.tolist(), events, FOLDS, seed)
    losses: dict[MapKind, FloatArray] = {kind: np.empty(len(logits)) for kind in kinds}
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        for kind, loss in losses.items():
            after = LogitMap.fit(kind, logits[train], events[train], weights[train]).apply(logits[test])
            loss[test] = np.logaddexp(0.0, after) - events[test] * after
    return losses


def _simplest_of_the_best(
    losses: Mapping[MapKind, FloatArray], weights: FloatArray, subjects: NDArray[np.str_]
) -> MapKind:
    """Return the simplest kind whose mean loss exceeds the least one by at most its standard error, over patients."""
    best = min(losses, key=lambda kind: float(weights @ losses[kind]))
    _, patient = np.unique(subjects, return_inverse=True)
    count = patient.max() + 1
    for kind, loss in losses.items():
        excess = loss - losses[best]
        mean = float(np.average(excess, weights=weights))
        by_patient = np.bincount(patient, weights * (excess - mean), count)
        if mean <= np.sqrt(count / (count - 1) * np.sum(by_patient**2)) / weights.sum():
            return kind
    return best
