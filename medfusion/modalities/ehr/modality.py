"""Events of an electronic health record: vital signs, laboratory values, diagnoses, and facts without a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from medfusion.core.edits import Changed, EditableValue
from medfusion.core.errors import Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Advance, Encoder, ModalityOptions
from medfusion.core.schema import TableSchema
from medfusion.core.state import State
from medfusion.core.types import FeatureShare, Records
from medfusion.core.views import View
from medfusion.modalities.ehr.edits import editable_values, edited_record
from medfusion.modalities.ehr.encoder import CourseEncoder, EhrEncoder
from medfusion.modalities.ehr.example import example_payload
from medfusion.modalities.ehr.harmonise import declared_units, with_one_unit
from medfusion.modalities.ehr.payload import EhrPayload, read_payloads
from medfusion.modalities.ehr.reference import declared_ranges, with_ranges
from medfusion.modalities.ehr.summary import STATISTICS, VERSION
from medfusion.modalities.ehr.tables import LONG, WIDE, read_events
from medfusion.modalities.ehr.view import view_of

_AT_ONCE = 4096
"""Records read at once: enough for vectorised work, few enough for little memory."""
_ENOUGH_FOR_COURSES = 1000
"""Training records from which on a thousand columns about a few dozen codes can be told apart."""


class EhrModality:
    """Values over time, each code summarised by a few statistics (see `summary.summarise`).

    The facts of subjects.csv (sex, age, site) are features of this modality, too.

    Raises
    ------
    UsageError
        If there are settings: it has none.
    """

    name: ClassVar[str] = "ehr"
    tables: ClassVar[tuple[TableSchema, ...]] = (LONG, WIDE)

    def __init__(self, options: ModalityOptions) -> None:
        if options.settings:
            names = ", ".join(f"{self.name}.{key}" for key in options.settings)
            raise UsageError(f"{names}: no such setting; {self.name} has none")

    def index(self, folder: CohortFolder) -> pa.Table | None:
        """Read ehr.csv or .parquet, long or wide, with one unit per code.

        Returns
        -------
        pyarrow.Table or None
            Columns ``subject_id``, ``time``, ``code`` (dictionary), ``unit`` (dictionary; empty where unknown) and
            ``numeric_value`` (float64; null for an event without a value); its metadata hold the reference ranges of
            cohort.toml. None where there is no such file.
        """
        found = read_events(folder)
        if found is None:
            return None
        file, events = found
        events = with_one_unit(events, declared_units(folder), file, folder.problems)
        events = events.select(["subject_id", "time", "code", "unit", "numeric_value"])
        return with_ranges(events, declared_ranges(folder))

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[EhrPayload | None]:
        """Summarise every code of every record; None where there are no events and no facts."""
        payloads: list[EhrPayload | None] = []
        for start in range(0, len(records), _AT_ONCE):
            batch = records[start : start + _AT_ONCE]
            payloads += read_payloads(batch)
            advance(len(batch))
        return payloads

    def identity(self) -> Mapping[str, str]:
        """Say which statistics payloads hold."""
        return {"summary": VERSION, "statistics": " ".join(STATISTICS)}

    def encoder(self) -> EhrEncoder:
        """Return an unfitted encoder."""
        return EhrEncoder()

    def encoders(self, records: int) -> list[EhrEncoder]:
        """Return the encoder of summaries, and from 1,000 records on that of courses beside it."""
        return [EhrEncoder(), CourseEncoder()] if records >= _ENOUGH_FOR_COURSES else [EhrEncoder()]

    def restore(self, state: State) -> EhrEncoder:
        """Return an encoder as it was."""
        kind = CourseEncoder if state["kind"] == CourseEncoder.kind else EhrEncoder
        return kind.restore(state)

    def fingerprints(self, payload: Any) -> list[str]:
        """Return nothing: equal values in two patients are no copy."""
        return []

    def items(self, payload: Any) -> list[Any]:
        """Return the payload: a record is one thing."""
        return [payload]

    def acquisition(self, payload: EhrPayload) -> Mapping[str, str | float]:
        """Return how much was recorded: events, codes (different ones), and hours from the first event to the last."""
        hours = float(np.ptp(payload.hours_before)) if len(payload.hours_before) else 0.0
        return {"events": len(payload.event_codes), "codes": len(payload.codes), "hours": hours}

    def view(self, payload: Any, shares: Sequence[FeatureShare]) -> list[View]:
        """Return the curves, and what has none as facts."""
        return [view_of(payload, shares)]

    def editable(self, record: Records, encoders: Sequence[Encoder]) -> list[EditableValue]:
        """List the last value of each series, also of those that were not recorded, and the facts."""
        return editable_values(record, [each for each in encoders if isinstance(each, EhrEncoder)])

    def edited(self, record: Records, changes: Mapping[str, Changed]) -> Records:
        """Return a record with other last values and facts; without a series, where its value is None."""
        return edited_record(record, changes)

    def example(self, seed: int) -> EhrPayload:
        """Return three days on a ward."""
        return example_payload(seed)
