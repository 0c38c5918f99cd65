"""Waveforms: one signal per patient, described by its level, its peak and its swing. A fourth modality, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from medfusion.core.errors import Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Advance, HeadKind, ModalityOptions
from medfusion.core.schema import Column, TableSchema
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray, Records
from medfusion.core.views import Series, SeriesView, View

FEATURES = ("signal mean", "signal max", "signal standard deviation")
TABLE = TableSchema(
    "waveform",
    "One row per reading of the signal.",
    (
        Column("subject_id", "string", "Patient"),
        Column("time", "time", "When it was read"),
        Column("value", "number", "What was read"),
    ),
)


@dataclass(frozen=True, slots=True)
class Waveform:
    """The readings of one patient."""

    times: tuple[datetime, ...]
    values: tuple[float, ...]

    def features(self) -> FloatArray:
        values = np.array(self.values)
        return np.array([values.mean(), values.max(), values.std()])


class WaveformEncoder:
    """Three numbers per waveform; there is nothing to learn."""

    heads: ClassVar[tuple[HeadKind, ...]] = ("linear",)

    def fit(self, payloads: Sequence[Waveform | None], events: BoolArray) -> None:
        pass

    def encode(self, payloads: Sequence[Waveform | None]) -> Embedding:
        values = np.full((len(payloads), len(FEATURES)), np.nan, dtype=np.float32)
        for row, payload in enumerate(payloads):
            if payload is not None:
                values[row] = payload.features()
        return Embedding(values, np.array([payload is not None for payload in payloads], dtype=bool), FEATURES)

    def explain(self, payload: Waveform, attribution: Attribution) -> list[FeatureShare]:
        observed = zip(FEATURES, payload.features().tolist(), attribution.shares.tolist(), strict=True)
        return [FeatureShare(*line) for line in observed] + [FeatureShare("average signal", None, attribution.constant)]

    def state(self) -> State:
        return {}


class WaveformModality:
    """Signals of a cohort folder."""

    name: ClassVar[str] = "waveform"
    tables: ClassVar[tuple[TableSchema, ...]] = (TABLE,)

    def __init__(self, options: ModalityOptions) -> None:
        if options.settings:
            raise UsageError(f"waveform has no setting {', '.join(options.settings)}")

    def index(self, folder: CohortFolder) -> pa.Table | None:
        return folder.table(TABLE)

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[Waveform | None]:
        payloads = [_read(record) for record in records]
        advance(len(records))
        return payloads

    def identity(self) -> Mapping[str, str]:
        return {"features": " ".join(FEATURES)}

    def encoder(self) -> WaveformEncoder:
        return WaveformEncoder()

    def restore(self, state: State) -> WaveformEncoder:
        return WaveformEncoder()

    def fingerprints(self, payload: Waveform) -> list[str]:
        return []

    def items(self, payload: Waveform) -> list[Waveform]:
        return [payload]

    def acquisition(self, payload: Waveform) -> Mapping[str, str | float]:
        return {"readings": len(payload.values)}

    def view(self, payload: Waveform, shares: Sequence[FeatureShare]) -> list[View]:
        total = sum(line.share for line in shares)
        series = Series("signal", "", payload.times, payload.values, total)
        return [SeriesView("Waveform", [series], [], payload.times[-1])]

    def example(self, seed: int) -> Waveform:
        values = np.random.default_rng(seed).normal(size=8).tolist()
        return Waveform(tuple(datetime(2024, 1, 1, hour) for hour in range(8)), tuple(values))


def _read(record: Records) -> Waveform | None:
    table: Any = record.table
    if not table.num_rows:
        return None
    return Waveform(tuple(table["time"].to_pylist()), tuple(table["value"].to_pylist()))


MODALITY = WaveformModality
