"""From payloads to an embedding: a column per code and statistic, and per fact or level of a fact.

There are two encoders. `EhrEncoder` says where each series stands, in its own units. `CourseEncoder` also says how it
came there, and in ranks; it has many more columns, which small cohorts have nothing to gain from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from medfusion.core.batch import Batch, once
from medfusion.core.lines import Attributions, Entries, Grid, Places
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray
from medfusion.modalities.ehr.facts import NO_FACTS, FactColumns, level_of
from medfusion.modalities.ehr.payload import EhrPayload
from medfusion.modalities.ehr.scores import NormalScores
from medfusion.modalities.ehr.series import SeriesColumns
from medfusion.modalities.ehr.summary import PLAIN, STATISTICS

MIN_RECORDS = 5
"""How many training records have to know a code, a number or a level for it to become a feature."""
AVERAGE = "(average record)"
"""The line of a ledger with what the average record contributes."""


class Known(NamedTuple):
    """What an encoder has learnt about a number: the training data's unit, the least and the greatest value."""

    unit: str
    low: float
    high: float


class EhrEncoder:
    """Lays payloads out in columns that are chosen on training data.

    A code, a number or a level that fewer than 5 training records know is left out, and so is a column that is the
    same wherever it is known, or repeats another. What is not known is NaN, with one exception: in a record that has
    events, a code without events has ``count`` 0, because then it is a fact that it was not recorded.

    A value outside the range of the training values is drawn in to it, so that no head extrapolates from a slipped
    sensor or a comma in the wrong place; the ledger shows what was observed. Nothing is scaled or imputed, and outcomes
    are not looked at: that is up to the head.

    Attributes
    ----------
    feature_names : list of str
        Such as ``"lactate last"``, ``"age_years"`` and ``"sex=F"``; empty before `fit`.
    """

    heads: ClassVar[tuple[HeadKind, ...]] = ("linear", "trees")
    kind: ClassVar[str] = "summary"
    statistics: ClassVar[tuple[str, ...]] = PLAIN

    def __init__(self) -> None:
        self._use(SeriesColumns.none(), FactColumns.none(), np.empty((2, 0)))

    def fit(self, payloads: Sequence[Any | None], events: BoolArray) -> None:
        """Choose columns; ``events`` are not used."""
        there = [payload for payload in payloads if payload is not None]
        series = SeriesColumns.known_in(there, MIN_RECORDS, self.statistics)
        facts = FactColumns.known_in([payload.facts for payload in there], MIN_RECORDS)
        values = _matrix(there, series, facts)
        split = len(series.names)
        span = np.stack([np.fmin.reduce(values, initial=np.nan), np.fmax.reduce(values, initial=np.nan)])
        useful = _useful(values) & (span[0] < span[1])
        self._use(series.kept(useful[:split]), facts.kept(useful[split:]), span[:, useful])

    def encode(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return one row per payload, float32; a payload that knows none of the features is absent."""
        values = np.clip(_matrix(payloads, self._series, self._facts), *self._range).astype(np.float32)
        return Embedding(values, np.asarray(~np.isnan(values).all(axis=1)), self.feature_names)

    def explain(self, payload: Any, attribution: Attribution) -> list[FeatureShare]:
        """Name every feature with what was observed; the levels of a fact become one line."""
        shares = np.asarray(attribution.shares, dtype=float)[None]
        nothing = np.zeros(shares.shape[1])
        about = Attributions(shares, np.array([attribution.constant], dtype=float), nothing, np.ones(1))
        grid = self.explain_all([payload], np.zeros(1, dtype=np.int64), about)
        lines = np.arange(len(grid.names))
        rows = np.zeros_like(lines)
        return Entries(1, grid.names, rows, lines, grid.shares[0], *grid.look(rows, lines)).ledgers()[0]

    def explain_all(self, payloads: Sequence[Any | None], rows: Places, about: Attributions) -> Grid:
        """Do so for many payloads; what was observed is looked up for the lines that are shown."""
        start = len(self._series.names)
        plain = start + len(self._facts.numbers)
        groups = self._facts.groups()
        assert isinstance(about.shares, np.ndarray)
        shares = np.empty((len(rows), plain + len(groups) + 1))
        shares[:, :plain] = about.shares[:, :plain]
        for line, columns in enumerate(groups.values(), start=plain):
            shares[:, line] = about.shares[:, [start + column for column in columns]].sum(axis=1)
        shares[:, -1] = about.constant
        names = [*self.feature_names[:plain], *groups, AVERAGE]

        def look(samples: Places, lines: Places) -> tuple[FloatArray, dict[int, str]]:
            return self._observed(payloads, rows[samples], lines, list(groups))

        return Grid(names, shares, look)

    def _observed(
        self, payloads: Sequence[Any | None], rows: Places, lines: Places, facts: list[str]
    ) -> tuple[FloatArray, dict[int, str]]:
        """Look up what was observed: numbers (m,) of series and facts, and the levels of other facts by place."""
        width = len(self.feature_names)
        wanted = np.zeros(width, dtype=bool)
        plain = len(self._series.names) + len(self._facts.numbers)
        numeric = np.flatnonzero(lines < plain)
        wanted[lines[numeric]] = True
        split = len(self._series.names)
        values = _matrix(payloads, self._series.kept(wanted[:split]), self._facts.kept(wanted[split:]))
        numbers = np.full(len(lines), np.nan)
        numbers[numeric] = values[rows[numeric], (np.cumsum(wanted) - 1)[lines[numeric]]]
        texts = {}
        for place in np.flatnonzero((lines >= plain) & (lines < plain + len(facts))).tolist():
            payload = payloads[int(rows[place])]
            level = None if payload is None else level_of(payload.facts.get(facts[int(lines[place]) - plain]))
            if level is not None:
                texts[place] = level
        return numbers, texts

    def known_series(self) -> dict[str, Known]:
        """Return what was learnt about last values, by code; the range is NaN where that is no column."""
        spans, nowhere = self._spans(), (math.nan, math.nan)
        known = zip(self._series.codes, self._series.units, strict=True)
        return {code: Known(unit, *spans.get(f"{code} last", nowhere)) for code, unit in known}

    def known_numbers(self) -> dict[str, Known]:
        """Return what was learnt about facts that are numbers."""
        spans = self._spans()
        return {name: Known("", *spans[name]) for name in self._facts.numbers}

    def known_levels(self) -> dict[str, list[str]]:
        """Return the levels that were learnt of facts that are no numbers."""
        levels = self._facts.levels
        return {name: [level for other, level in levels if other == name] for name, _ in levels}

    def state(self) -> State:
        """Return the columns and the range of each."""
        return {
            "kind": self.kind,
            "series": self._series.state(),
            "facts": self._facts.state(),
            "range": self._range,
        }

    @classmethod
    def restore(cls, state: State) -> Self:
        """Return the encoder that `state` described."""
        encoder = cls()
        encoder._use(SeriesColumns.restore(state["series"]), FactColumns.restore(state["facts"]), state["range"])
        return encoder

    def _spans(self) -> dict[str, list[float]]:
        return dict(zip(self.feature_names, self._range.T.tolist(), strict=True))

    def _use(self, series: SeriesColumns, facts: FactColumns, span: FloatArray) -> None:
        self._series, self._facts, self._range = series, facts, span
        self.feature_names = series.names + facts.names


class CourseEncoder(EhrEncoder):
    """Lays out how each series ran, too, and turns every column into normal scores.

    Means over windows of hours, averages that fade with time, percentiles and sums are columns beside those of
    `EhrEncoder`. Values become normal scores (see `scores.NormalScores`) of the training records, so that a linear head
    is not led by the one bilirubin of 40; trees do not mind. The ledger shows what was observed.
    """

    kind: ClassVar[str] = "course"
    statistics: ClassVar[tuple[str, ...]] = STATISTICS

    def __init__(self) -> None:
        super().__init__()
        self._scores = NormalScores.none()

    def fit(self, payloads: Sequence[Any | None], events: BoolArray) -> None:
        """Choose columns, and learn how their values are distributed; ``events`` are not used."""
        super().fit(payloads, events)
        self._scores = NormalScores.fit(super().encode(payloads).values)

    def encode(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return one row of scores per payload, float32."""
        plain = super().encode(payloads)
        return Embedding(self._scores.apply(plain.values), plain.present, plain.feature_names)

    def state(self) -> State:
        """Return the scores, too."""
        return {**super().state(), "scores": self._scores.state()}

    @classmethod
    def restore(cls, state: State) -> Self:
        """Return the encoder that `state` described."""
        encoder = super().restore(state)
        encoder._scores = NormalScores.restore(state["scores"])
        return encoder


def _matrix(payloads: Sequence[EhrPayload | None], series: SeriesColumns, facts: FactColumns) -> FloatArray:
    return np.hstack([series.values(payloads), facts.values(once(payloads, _facts))])


def _facts(payloads: Sequence[EhrPayload | None]) -> Batch:
    return Batch([NO_FACTS if payload is None else payload.facts for payload in payloads])


def _useful(values: FloatArray) -> BoolArray:
    """Say which columns are known often enough, and repeat no column before them."""
    known = (~np.isnan(values)).sum(axis=0)
    # Where each code has one value only, its last, first, least, greatest and mean value are one feature.
    first: dict[bytes, int] = {}
    new = [
        first.setdefault(_digest(column), place) == place for place, column in enumerate(np.ascontiguousarray(values.T))
    ]
    return np.asarray((known >= MIN_RECORDS) & np.array(new, dtype=bool))


def _digest(column: FloatArray) -> bytes:
    plain = np.where(np.isnan(column), np.nan, column)  # NaN has more than one form
    return hashlib.blake2b(plain.tobytes(), digest_size=16).digest()
