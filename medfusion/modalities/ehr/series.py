"""Summaries of series as columns: which codes and statistics, and in which unit."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfusion.core.batch import once
from medfusion.core.errors import MedfusionWarning
from medfusion.core.state import State
from medfusion.core.types import BoolArray, FloatArray
from medfusion.modalities.ehr.payload import EhrPayload, Vocabulary
from medfusion.modalities.ehr.summary import DIFFERENCES, IN_UNIT, PER_HOUR, STATISTICS, SUM, SUMMED
from medfusion.modalities.ehr.units import conversion

_COUNT = STATISTICS.index("count")
_NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class SeriesColumns:
    """Columns for codes: one per statistic that is worth it.

    Attributes
    ----------
    codes, units : list of str
        The unit is the training data's; empty where it is unknown.
    places : array (codes, statistics), int
        The column of each code's statistic; -1 where there is none.
    """

    codes: list[str]
    units: list[str]
    places: NDArray[np.int64]

    @classmethod
    def none(cls) -> SeriesColumns:
        """Return no columns."""
        return cls([], [], np.empty((0, len(STATISTICS)), dtype=np.int64))

    @classmethod
    def known_in(cls, payloads: Sequence[EhrPayload], least: int, statistics: Sequence[str]) -> SeriesColumns:
        """Choose the codes that at least ``least`` of the payloads have, with some statistics."""
        seen: Counter[str] = Counter()
        units: dict[str, str] = {}
        for vocabulary, mine in _by_vocabulary(payloads).items():
            counts = np.bincount(np.concatenate(mine), minlength=len(vocabulary.codes))
            seen.update(dict(zip(vocabulary.codes, counts.tolist(), strict=True)))
            units.update({c: unit for c, unit in zip(vocabulary.codes, vocabulary.units, strict=True) if unit})
        codes = sorted(code for code, n in seen.items() if n >= least)
        wanted = np.isin(STATISTICS, statistics)
        places = np.full((len(codes), len(STATISTICS)), _NOWHERE)
        places[:, wanted] = np.arange(len(codes) * wanted.sum()).reshape(len(codes), wanted.sum())
        return cls(codes, [units.get(code, "") for code in codes], places)

    @property
    def names(self) -> list[str]:
        """Such as ``"lactate last"``."""
        every = [f"{code} {statistic}" for code in self.codes for statistic in STATISTICS]
        return [name for name, place in zip(every, self.places.flat, strict=True) if place != _NOWHERE]

    def kept(self, which: BoolArray) -> SeriesColumns:
        """Return some of the columns, and the codes that they need."""
        keep = np.zeros(self.places.shape, dtype=bool)
        keep[self.places != _NOWHERE] = which
        places = np.where(keep, np.cumsum(keep).reshape(keep.shape) - 1, _NOWHERE)
        rows = np.flatnonzero(keep.any(axis=1))
        return SeriesColumns([self.codes[row] for row in rows], [self.units[row] for row in rows], places[rows])

    def values(self, payloads: Sequence[EhrPayload | None]) -> FloatArray:
        """Return one row per payload; NaN where nothing is known."""
        width = int((self.places != _NOWHERE).sum())
        # One column too many, the last: it takes what has no place.
        values = np.full((len(payloads), width + 1), np.nan)
        recorded = once(payloads, _recorded)
        if len(recorded.rows):
            self._fill(values, recorded)
        return values[:, :width]

    def state(self) -> State:
        """Return the columns as plain data."""
        return {"codes": self.codes, "units": self.units, "places": self.places}

    @classmethod
    def restore(cls, state: State) -> SeriesColumns:
        """Return the columns that `state` described."""
        return cls(list(state["codes"]), list(state["units"]), state["places"])

    def _fill(self, values: FloatArray, recorded: _Recorded) -> None:
        values[recorded.rows[:, None], self.places[:, _COUNT]] = 0.0
        found = [self._find(vocabulary) for vocabulary in recorded.vocabularies]
        code, factor, offset = (
            np.concatenate([getattr(match, name) for match in found])[recorded.code]
            for name in ("code", "factor", "offset")
        )
        summaries = recorded.summaries
        if any(match.converts for match in found):
            summaries, factor, offset = summaries.copy(), factor[:, None], offset[:, None]
            summaries[:, IN_UNIT] = summaries[:, IN_UNIT] * factor + offset
            summaries[:, PER_HOUR + DIFFERENCES] *= factor
            summaries[:, [SUM]] = summaries[:, [SUM]] * factor + summaries[:, [SUMMED]] * offset
        used = np.flatnonzero((self.places != _NOWHERE).any(axis=0))
        places = np.vstack([self.places, np.full((1, len(STATISTICS)), _NOWHERE)])[:, used]
        values[recorded.row[:, None], places[code]] = summaries[:, used]

    def _find(self, vocabulary: Vocabulary) -> _Match:
        """Find the codes of a vocabulary among the columns, and convert units."""
        where = {code: place for place, code in enumerate(self.codes)}
        code = np.array([where.get(name, _NOWHERE) for name in vocabulary.codes])
        match = _Match(code, np.ones(len(code)), np.zeros(len(code)))
        for place in np.flatnonzero(code != _NOWHERE).tolist():
            unit, target = vocabulary.units[place], self.units[code[place]]
            if unit and target and unit != target:
                match.converts = True
                exact = conversion(unit, target)
                match.factor[place], match.offset[place] = exact or (np.nan, np.nan)
                if exact is None:
                    _warn(vocabulary.codes[place], unit, target)
        return match


@dataclass(slots=True)
class _Match:
    """For each code of a vocabulary: its place among the columns (-1: none), and how to convert its values."""

    code: NDArray[np.int64]
    factor: FloatArray
    offset: FloatArray
    converts: bool = False


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What payloads recorded, one row per code of a payload.

    Attributes
    ----------
    vocabularies : tuple of Vocabulary
    rows : array (r,), int
        The payloads that recorded something.
    row : array (m,), int
        The payload.
    code : array (m,), int
        Position among the codes of all vocabularies, one after another.
    summaries : array (m, statistics)
    """

    vocabularies: tuple[Vocabulary, ...]
    rows: NDArray[np.int64]
    row: NDArray[np.int64]
    code: NDArray[np.int64]
    summaries: FloatArray


def _recorded(payloads: Sequence[EhrPayload | None]) -> _Recorded:
    there = [(row, payload) for row, payload in enumerate(payloads) if payload is not None and len(payload.codes)]
    rows = np.array([row for row, _ in there], dtype=np.int64)
    starts: dict[Vocabulary, int] = {}
    end = 0
    for _, payload in there:
        if payload.vocabulary not in starts:
            starts[payload.vocabulary] = end
            end += len(payload.vocabulary.codes)
    if not there:
        return _Recorded((), rows, rows, rows, np.empty((0, len(STATISTICS))))
    lengths = [len(payload.codes) for _, payload in there]
    code = np.concatenate([payload.codes for _, payload in there])
    code = code + np.repeat([starts[payload.vocabulary] for _, payload in there], lengths)
    summaries = np.concatenate([payload.summaries for _, payload in there])
    return _Recorded(tuple(starts), rows, np.repeat(rows, lengths), code, summaries)


def _warn(code: str, unit: str, target: str) -> None:
    said = f"{code} is given in {unit}; the model was trained on {target}, and there is no exact conversion"
    warnings.warn(f"{said}: its values are taken as missing", MedfusionWarning, stacklevel=2)


def _by_vocabulary(payloads: Sequence[EhrPayload]) -> dict[Vocabulary, list[NDArray[np.int64]]]:
    found: dict[Vocabulary, list[NDArray[np.int64]]] = {}
    for payload in payloads:
        found.setdefault(payload.vocabulary, []).append(payload.codes)
    return found
