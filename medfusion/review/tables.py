"""What leaves the store as tables: decisions and events as Parquet, and a summary to join with predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfusion.core.errors import UsageError
from medfusion.core.files import atomic
from medfusion.core.schema import Column, TableSchema
from medfusion.review.events import Action, Decision, Event, time_text

_ABOUT = (
    Column("subject_id", "string", "Patient; empty where the event is about none", nullable=True),
    Column("prediction_time", "time", "The moment from which the risk is seen", nullable=True),
    Column("model_id", "string", "Which model predicted", nullable=True),
    Column("input_hash", "string", "Hash of everything that decided the prediction", nullable=True),
)
_SEQ = Column("seq", "number", "Number of the event, from 1 on without gaps")
_TIME = Column("time", "time", "When it was recorded, in UTC")
EVENTS = TableSchema(
    "events",
    "The audit trail, one row per event. Every row is as it was hashed, so that the chain can be checked anew: hash is "
    "SHA-256 of the list of the other columns, in this order, as JSON without spaces in UTF-8; previous is the hash of "
    "the row before.",
    (
        _SEQ,
        _TIME,
        Column("who", "string", "Whose doing it was"),
        Column("action", "string", f"One of: {', '.join(Action)}"),
        *_ABOUT,
        Column("what", "string", "The rest, as JSON with sorted keys"),
        Column("previous", "string", "Hash of the event before; 64 zeros for the first"),
        Column("hash", "string", "SHA-256 of the event, as hexadecimal digits"),
    ),
)
DECISIONS = TableSchema(
    "decisions",
    "One row per decision of a reader about a prediction, all that were made; each is an event of the audit trail.",
    (
        _SEQ,
        _TIME,
        Column("reader", "string", "Who decided"),
        Column("subject_id", "string", "Patient"),
        *_ABOUT[1:],
        Column(
            "verdict",
            "string",
            "agree, override or unsure; expected or not-expected, of the event, by who had not been shown the risk",
        ),
        Column("reason", "string", "Why the risk is overridden", nullable=True),
        Column("comment", "string", "Free text", nullable=True),
        Column("blinded", "boolean", "Whether the reader had not been shown the risk"),
    ),
)
SCHEMAS: tuple[TableSchema, ...] = (DECISIONS, EVENTS)
_ARROW = {"seq": pa.int64(), "blinded": pa.bool_()}
_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes
    ----------
    files : tuple of Path
    decisions, events : int
        Rows.
    head : str
        The end of the chain, ``NUMBER:HASH``.
    """

    files: tuple[Path, ...]
    decisions: int
    events: int
    head: str


def write_tables(folder: Path, events: Iterable[Event], head: str) -> Exported:
    """Write decisions.parquet and events.parquet, each in one piece.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    files = tuple(folder / f"{schema.name}.parquet" for schema in SCHEMAS)
    decided = written = 0
    remaining = iter(events)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic(file)), _arrow_schema(schema)))
                for file, schema in zip(files, SCHEMAS, strict=True)
            ]
            while page := list(islice(remaining, _ROWS)):
                decisions = [_row(Decision.of(event)) for event in page if event.action == Action.DECISION]
                writers[0].write_table(_table(DECISIONS, decisions))
                writers[1].write_table(_table(EVENTS, [astuple(event) for event in page]))
                decided, written = decided + len(decisions), written + len(page)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}; name another folder") from None
    return Exported(files, decided, written, head)


def summary_table(latest: Sequence[tuple[Decision, int]], zoned: bool) -> pa.Table:
    """Build the table of the latest decision per patient and prediction time.

    Parameters
    ----------
    latest : sequence of (Decision, int)
        With how many readers have decided.
    zoned : bool
        Whether prediction times are in UTC; those of the other kind are left out.
    """
    kept = [(each, readers) for each, readers in latest if (each.about.prediction_time.tzinfo is not None) == zoned]
    times = pa.timestamp("us", tz="UTC" if zoned else None)
    columns = {
        "subject_id": pa.array([each.about.subject_id for each, _ in kept], pa.string()),
        "prediction_time": pa.array([each.about.prediction_time for each, _ in kept], times),
        "readers": pa.array([readers for _, readers in kept], pa.int64()),
        "verdict": pa.array([each.verdict.value for each, _ in kept], pa.string()),
        "reader": pa.array([each.reader for each, _ in kept], pa.string()),
        "time": pa.array([each.time for each, _ in kept], pa.timestamp("us", tz="UTC")),
        "model_id": pa.array([each.about.model_id for each, _ in kept], pa.string()),
        "input_hash": pa.array([each.about.input_hash for each, _ in kept], pa.string()),
    }
    return pa.table(columns)


def _row(decision: Decision) -> tuple[object, ...]:
    about = decision.about
    scored = about.subject_id, time_text(about.prediction_time), about.model_id, about.input_hash
    said = decision.verdict.value, decision.reason, decision.comment, decision.blinded
    return decision.seq, time_text(decision.time), decision.reader, *scored, *said


def _table(schema: TableSchema, rows: Sequence[Sequence[object]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema.columns)
    return pa.table([list(values) for values in columns], schema=_arrow_schema(schema))


def _arrow_schema(schema: TableSchema) -> pa.Schema:
    return pa.schema([(column.name, _ARROW.get(column.name, pa.string())) for column in schema.columns])
