"""From records to payloads: the events of a batch, summarised in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfusion.core.types import FloatArray, Records
from medfusion.modalities.ehr.reference import Range, ranges_of
from medfusion.modalities.ehr.summary import summarise

_MICROSECONDS_PER_HOUR = 3_600_000_000
_COLUMNS = ["time", "code", "unit", "numeric_value"]


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The codes of a batch. Payloads refer to them by position, so that encoding needs no look-up per event.

    Attributes
    ----------
    codes : tuple of str
    units : tuple of str
        The UCUM unit of each code's values; empty where it is unknown.
    ranges : mapping from code to Range
        Of the codes that the cohort gives a reference range for.
    """

    codes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class EhrPayload:
    """The events of one subject up to one moment, their summaries, and facts without a time.

    Attributes
    ----------
    as_of : datetime
        The prediction time.
    vocabulary : Vocabulary
    codes : array (k,), int
        Positions in the vocabulary of the codes that were recorded.
    summaries : array (k, statistics), float64
        One row per recorded code, columns as in `summary.STATISTICS`.
    event_codes : array (n,), int
        Position in the vocabulary, per event, sorted by time.
    hours_before : array (n,), float64
        Hours from the event to ``as_of``, 0 or more.
    values : array (n,), float64
        NaN for an event without a value.
    facts : mapping from str to str or number
        What is known of the subject; nothing is None.
    """

    as_of: datetime
    vocabulary: Vocabulary
    codes: NDArray[np.int64]
    summaries: FloatArray
    event_codes: NDArray[np.int64]
    hours_before: FloatArray
    values: FloatArray
    facts: Mapping[str, Any]


def read_payloads(records: Sequence[Records]) -> list[EhrPayload | None]:
    """Make a payload of each record; None where there are no events and no facts.

    Parameters
    ----------
    records : sequence of Records, length n

    Returns
    -------
    list of EhrPayload or None, length n
    """
    events = _Events(records)
    size = len(events.vocabulary.codes)
    # Numbered in the order of events, and so by record: the codes of a record lie side by side.
    groups, keys = pd.factorize(events.record * size + events.code)
    summaries = summarise(groups, len(keys), events.hours_before, events.values)
    ends = np.cumsum(np.bincount(keys // max(size, 1), minlength=len(records)))
    codes, vocabulary = keys % max(size, 1), events.vocabulary
    payloads: list[EhrPayload | None] = []
    start = event = 0
    for record, stop, last in zip(records, ends.tolist(), np.cumsum(events.counts).tolist(), strict=True):
        facts = {name: fact for name, fact in record.subject.items() if fact is not None}
        mine, seen = slice(start, stop), slice(event, last)
        start, event = stop, last
        if not facts and mine.start == stop:
            payloads.append(None)
            continue
        payloads.append(
            EhrPayload(
                record.as_of,
                vocabulary,
                codes[mine],
                summaries[mine],
                events.code[seen],
                events.hours_before[seen],
                events.values[seen],
                facts,
            )
        )
    return payloads


class _Events:
    """The events of a batch as columns: ``record`` and ``code`` (positions), ``hours_before``, ``values``."""

    def __init__(self, records: Sequence[Records]) -> None:
        self.counts = np.array([record.table.num_rows for record in records], dtype=np.int64)
        self.record = np.repeat(np.arange(len(records)), self.counts)
        self.vocabulary = Vocabulary()
        self.code = np.empty(0, dtype=np.int64)
        self.hours_before = self.values = np.empty(0)
        if len(self.record):
            # A cohort without events has tables without these columns.
            table = pa.concat_tables([record.table.select(_COLUMNS) for record in records if record.table.num_rows])
            self._fill(table.unify_dictionaries().combine_chunks(), records)

    def _fill(self, table: pa.Table, records: Sequence[Records]) -> None:
        coded, measured_in = table["code"].chunk(0), table["unit"].chunk(0)
        positions, names = np.asarray(coded.indices), coded.dictionary.to_pylist()
        used = np.zeros(len(names), dtype=bool)
        used[positions] = True
        self.code = (np.cumsum(used) - 1)[positions]
        unit_of = np.zeros(len(names), dtype=np.int64)
        unit_of[positions] = np.asarray(measured_in.indices)
        unit_names = measured_in.dictionary.to_pylist()
        kept = np.flatnonzero(used).tolist()
        codes, units = tuple(names[i] for i in kept), tuple(unit_names[unit_of[i]] for i in kept)
        self.vocabulary = Vocabulary(codes, units, ranges_of(table))
        moments = np.array([record.as_of.replace(tzinfo=None) for record in records], dtype="datetime64[us]")
        ticks = np.asarray(pc.cast(table["time"].chunk(0), pa.int64()))
        self.hours_before = (moments.astype(np.int64)[self.record] - ticks) / _MICROSECONDS_PER_HOUR
        self.values = table["numeric_value"].chunk(0).to_numpy(zero_copy_only=False)
