"""What a scoring run has written, as those who read it find it: finished parts alone, of a schema that is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfusion.core.errors import DataError, Problem
from medfusion.outputs.tables import PREDICTIONS
from medfusion.scoring import Journal

_PRESENT = "present_"


@dataclass(frozen=True, slots=True)
class ScoreFiles:
    """The files of a folder of scores that can be relied on.

    Attributes
    ----------
    predictions : tuple of Path
        One per finished part.
    ledger : mapping from file of predictions to Path
        The ledger of the same samples, where one was written.
    modalities : tuple of str
        Those that any of the predictions knows.
    alike : bool
        Whether all predictions have the same columns; deliveries that different models scored may not.
    zoned : bool
        Whether prediction times are in UTC.
    left_out : int
        Parts that are not finished, or damaged.
    """

    predictions: tuple[Path, ...]
    ledger: dict[Path, Path]
    modalities: tuple[str, ...]
    alike: bool
    zoned: bool
    left_out: int


def open_scores(folder: Path) -> ScoreFiles:
    """Find the finished parts of a folder that `score` has written to, or is writing to.

    Raises
    ------
    DataError
        With one problem, whose code is ``no-scores`` (nothing there that was made by scoring), ``unfinished-scores``
        (no part is finished), ``damaged-scores`` (no part is whole) or ``old-scores`` (columns are missing).
    """
    if not (folder / "predictions.parquet").exists():
        raise _unusable("no-scores", "nothing", "name a folder written by medfusion score")
    if (folder / "predictions.parquet").is_file():
        raise _unusable("old-scores", "one file", "score again into another folder")
    parts, left_out = Journal.finished(folder)
    if not parts:
        remedy = "run the command medfusion score again, which makes them anew; copy a folder with its .state"
        code = "damaged-scores" if left_out else "unfinished-scores"
        raise _unusable(code, f"{left_out} parts that are not finished", remedy)
    schemas = [_schema(part["predictions"]) for part in parts]
    columns = {name for schema in schemas for name in schema.names}
    modalities = sorted(name.removeprefix(_PRESENT) for name in columns if name.startswith(_PRESENT))
    return ScoreFiles(
        predictions=tuple(part["predictions"] for part in parts),
        ledger={part["predictions"]: part["ledger"] for part in parts if "ledger" in part},
        modalities=tuple(modalities),
        alike=all(schema.equals(schemas[0]) for schema in schemas),
        zoned=schemas[0].field("prediction_time").type.tz is not None,
        left_out=left_out,
    )


def scored_at(folder: Path, subject_id: str, prediction_time: datetime) -> datetime | None:
    """Return when a sample was scored, the last time; None where that is not known.

    Raises
    ------
    DataError
        As `open_scores` does.
    """
    wanted = [("subject_id", "==", subject_id), ("prediction_time", "==", prediction_time)]
    times: list[datetime] = []
    for file in open_scores(folder).predictions:
        if "scored_at" in pq.read_schema(file).names:
            times += pq.read_table(file, columns=["scored_at"], filters=wanted)["scored_at"].drop_null().to_pylist()
    return max(times, default=None)


def scores_changed(folder: Path) -> int:
    """Return a number that changes whenever a part of a folder of scores is finished."""
    return Journal.last_finished(folder)


def _schema(file: Path) -> pa.Schema:
    schema = pq.read_schema(file)
    if missing := [column.name for column in PREDICTIONS.columns if column.name not in schema.names]:
        raise _unusable("old-scores", f"a table without {missing[0]}", "score again into another folder")
    return schema


def _unusable(code: str, got: str, remedy: str) -> DataError:
    return DataError([Problem(code, "predictions.parquet", "", "content", got, "finished parts", remedy)])
