"""One column, or several together, as a source of risk: what it tells by itself, and the model within its levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import difference_interval, estimate, fewest_patients, percentile_interval
from medfusion.evaluation.metrics import Estimate
from medfusion.evaluation.shortcuts_model import Columns, left_out_scores, pairs_within
from medfusion.evaluation.shortcuts_panels import Level, Shortcut
from medfusion.evaluation.subgroups_columns import MAX_LEVELS, Grouping, group
from medfusion.evaluation.subgroups_estimates import Members

Draws = dict[str, FloatArray]
_CUTS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, slots=True)
class Judged:
    """Samples with what a model says of them.

    Attributes
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    patients : array (n,), str
    folds : array (n,), int
        By patient.
    """

    events: BoolArray
    risks: FloatArray
    patients: NDArray[np.object_]
    folds: NDArray[np.intp]

    def at(self, rows: NDArray[np.intp]) -> Judged:
        """Return some of them."""
        return Judged(self.events[rows], self.risks[rows], self.patients[rows], self.folds[rows])

    def auroc(self, value: float, draws: FloatArray) -> Estimate:
        """Return an AUROC of theirs with its interval."""
        if np.isnan(value):
            return Estimate(None, note="no two samples with and without the event compare")
        patients = self.patients.tolist()
        return estimate("auroc", value, draws, len(set(patients)), fewest_patients(self.events, patients))

    def too_few(self) -> str:
        """Say why they are too few for an AUROC; nothing if they are not."""
        few = Members(self.events, self.risks, self.patients).too_few()
        return few.get("all") or few.get("auroc") or ""


@dataclass(frozen=True, slots=True)
class Source:
    """Columns with what a small model makes of them.

    Attributes
    ----------
    name, kind : str
    rows : array (m,), int
        The samples on which it is judged.
    samples : Judged
        Those.
    scores : array (m,)
        Of the small model; see `left_out_scores`.
    levels : Grouping
        What divides the samples: the values of one column, or fifths of the scores of each fold.
    named : bool
        Whether a level is something that a person knows.
    reason : str
        Why it cannot be judged; empty if it can.
    """

    name: str
    kind: str
    rows: NDArray[np.intp]
    samples: Judged
    scores: FloatArray = field(repr=False)
    levels: Grouping = field(repr=False)
    named: bool
    reason: str

    @classmethod
    def of(cls, kind: str, name: str, columns: Columns, rows: NDArray[np.intp], everybody: Judged) -> Source:
        """Fit the small model to columns, on the samples ``rows``."""
        samples, one = everybody.at(rows), len(columns) == 1
        here = {key: [values[row] for row in rows] for key, values in columns.items()}
        reason = samples.too_few()
        first = next(iter(here.values()))
        if not reason and one and len(set(map(str, first))) < 2:
            reason = f"the same everywhere: {first[0]}"
        if reason:
            nothing = Grouping(name, ("all",), np.zeros(len(rows), dtype=np.intp))
            return cls(name, kind, rows, samples, np.zeros(len(rows)), nothing, False, reason)
        scores = left_out_scores(here, samples.events, samples.folds)
        levels = by_value(name, first) if one else by_fifth(scores, samples.folds)
        return cls(name, kind, rows, samples, scores, levels, one, "")

    def figures(self, weights: FloatArray) -> Draws:
        """Compute all AUROCs for weightings (b, m) of the samples: arrays (b,), and (b, levels) for ``levels``."""
        events, risks, folds = self.samples.events, self.samples.risks, self.samples.folds
        alone = ratio(*_summed(pairs_within(events, self.scores, folds, weights)))
        model = ratio(*_summed(pairs_within(events, risks, np.zeros_like(folds), weights)))
        by_level = pairs_within(events, risks, self.levels.codes, weights)
        within = ratio(*_summed(by_level))
        # What lies below chance by accident is nothing, not less.
        share = ratio(np.maximum(alone - 0.5, 0.0), np.maximum(model - 0.5, 0.0))
        return {
            "alone": alone,
            "model": model,
            "within": within,
            "drop": model - within,
            "share": share,
            "levels": ratio(*by_level),
        }

    def judged(self, draws: Draws) -> Shortcut:
        """Return the figures with their intervals, from those of resamples."""
        if self.reason:
            nothing = Estimate(None, note=self.reason)
            return Shortcut(self.name, self.kind, len(self.rows), nothing, nothing, nothing, nothing, nothing)
        points = self.figures(np.ones((1, len(self.rows))))
        share, drop = float(points["share"][0]), float(points["drop"][0])
        shares, drops = percentile_interval(draws["share"]), difference_interval(draws["drop"], drop)
        alone, model, within = (
            self.samples.auroc(float(points[name][0]), draws[name]) for name in ("alone", "model", "within")
        )
        return Shortcut(
            name=self.name,
            kind=self.kind,
            n=len(self.rows),
            alone=alone,
            model=model,
            share=_told(share, shares, "the model ranks no better than chance"),
            within=within,
            drop=_told(drop, drops, within.note),
            levels=self._levels(points["levels"][0], draws["levels"]),
        )

    def _levels(self, values: FloatArray, draws: FloatArray) -> tuple[Level, ...]:
        if not self.named:
            return ()
        found = []
        for code, name in enumerate(self.levels.names):
            here = self.samples.at(np.flatnonzero(self.levels.codes == code))
            few = here.too_few()
            auroc = Estimate(None, note=few) if few else here.auroc(float(values[code]), draws[:, code])
            found.append(Level(self.name, name, len(here.events), int(here.events.sum()), auroc))
        return tuple(found)


def by_value(name: str, values: Sequence[Any]) -> Grouping:
    """Divide by one column; numbers as for subgroups, and of text with many levels the rarest are counted together.

    Examples
    --------
    >>> by_value("model", [f"X{number // 2}" for number in range(60)]).names[:2]
    ('11 others', 'X0')
    """
    if not all(isinstance(value, int | float | np.number) for value in values):
        texts = np.array([str(value) for value in values], dtype=object)
        found, counts = np.unique(texts, return_counts=True)
        if len(found) > MAX_LEVELS:
            frequent = found[np.argsort(-counts, kind="stable")[: MAX_LEVELS - 1]]
            texts[~np.isin(texts, frequent)] = f"{len(found) - len(frequent)} others"
        values = texts.tolist()
    grouping = group(name, values)
    # Values may differ and still be of one group, as ages do.
    return grouping if isinstance(grouping, Grouping) else Grouping(name, ("all",), np.zeros(len(values), np.intp))


def by_fifth(scores: FloatArray, folds: NDArray[np.intp]) -> Grouping:
    """Divide by fifths of the scores of each fold, because those of different folds do not compare."""
    codes = np.empty(len(scores), dtype=np.intp)
    for fold in np.unique(folds):
        here = scores[folds == fold]
        codes[folds == fold] = np.searchsorted(np.quantile(here, _CUTS), here)
    used, codes = np.unique(codes, return_inverse=True)
    return Grouping("", tuple(f"fifth {code + 1}" for code in used), codes)


def _summed(counts: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    return counts[0].sum(axis=1), counts[1].sum(axis=1)


def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Divide; NaN where there is nothing to divide by."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0))


def _told(value: float, interval: tuple[float, float] | None, otherwise: str) -> Estimate:
    return Estimate(None, note=otherwise) if np.isnan(value) else Estimate(value, *(interval or ()))
