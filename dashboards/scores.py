"""The scored samples as a worklist asks for them: filtered, sorted and paged.

What a row shows of the predictions is read once, and held for all readers; shares and the ledger, which are many times
as much, stay in their files, and are read for the rows of a page alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from medfusion.pipeline import ScoreFiles, open_scores

MEMORY = "400MB"
"""What samples and queries may take, of all readers together."""
THREADS = 2
"""Of one query; readers who ask at the same time have others."""
REASONS = 3
"""Lines of the ledger that stand for it in a worklist."""
_NO_REASON = r"^\((\d+ others|average .*)\)$"
"""Lines that say nothing about this patient: what was folded, and what everybody has."""
NOBODY = pa.table(
    {
        "subject_id": pa.array([], pa.string()),
        "prediction_time": pa.array([], pa.timestamp("us")),
        "readers": pa.array([], pa.int64()),
        "verdict": pa.array([], pa.string()),
    }
)
"""Decisions where nobody has decided."""
_COLUMNS = (
    "subject_id",
    "prediction_time",
    "risk",
    "risk_low",
    "risk_high",
    "findings",
    "model_id",
    "input_hash",
)
"""Of the predictions, what a row shows; beside what is there of each kind of data."""
_PRESENT = "present_"


class Flag(StrEnum):
    """What a reader should know before believing a risk."""

    ABSTAIN = "abstain"
    OUT_OF_DOMAIN = "out-of-domain"
    MISSING = "missing"


class Order(StrEnum):
    """What a worklist can be sorted by."""

    RISK = "risk"
    CHANGE = "change"
    TIME = "prediction_time"
    SUBJECT = "subject_id"


@dataclass(frozen=True, slots=True)
class Query:
    """Which samples, in which order.

    Attributes
    ----------
    least, most : float
        Ends of the range of risks, as probabilities.
    flags : frozenset of Flag
        Samples that have one of them; all samples where empty.
    missing : frozenset of str
        Samples in which all of these kinds of data are missing.
    reviewed : bool or None
        Whether somebody has decided; None for either.
    text : str
        Part of the subject's name.
    order : Order
    descending : bool
    """

    least: float = 0.0
    most: float = 1.0
    flags: frozenset[Flag] = frozenset()
    missing: frozenset[str] = frozenset()
    reviewed: bool | None = None
    text: str = ""
    order: Order = Order.RISK
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Reason:
    """A line of a ledger: feature and what was observed, as the ledger writes them, and its share in log-odds."""

    modality: str
    feature: str
    value: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Row:
    """A scored sample.

    Attributes
    ----------
    change : float or None
        How much the risk has moved since the subject's previous prediction time; None where there is none.
    missing : tuple of str
        Kinds of data that were not there.
    readers : int
        How many have decided.
    verdict : str
        The last of their decisions; empty where there is none.
    reasons : tuple of Reason
        Those with the largest shares.
    """

    subject_id: str
    prediction_time: datetime
    risk: float
    risk_low: float | None
    risk_high: float | None
    findings: tuple[str, ...]
    missing: tuple[str, ...]
    model_id: str
    input_hash: str
    change: float | None = None
    readers: int = 0
    verdict: str = ""
    reasons: tuple[Reason, ...] = ()

    @property
    def flags(self) -> frozenset[Flag]:
        """Return the kinds of findings that a worklist marks."""
        coded = {flag for flag in Flag if any(code.startswith(f"{flag}-") for code in self.findings)}
        return frozenset(coded | ({Flag.MISSING} if self.missing else set()))


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and how many there are of their kind."""

    rows: tuple[Row, ...]
    total: int


class Scores:
    """A folder written by `medfusion score`, open for queries.

    Parameters
    ----------
    files : ScoreFiles
    """

    def __init__(self, files: ScoreFiles) -> None:
        self.modalities = files.modalities
        self.left_out = files.left_out
        self.zoned = files.zoned
        self._ledger = {str(file): str(ledger) for file, ledger in files.ledger.items()}
        self._database = duckdb.connect()
        for setting in (f"memory_limit = '{MEMORY}'", f"threads = {THREADS}", "parquet_metadata_cache = true"):
            self._database.execute(f"SET {setting}")
        self._database.execute("SET TimeZone = 'UTC'")
        self._database.execute(_samples(files), {"files": [str(file) for file in files.predictions]})

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder.

        Raises
        ------
        medfusion.core.errors.DataError
            If there is nothing that can be relied on; see `medfusion.pipeline.open_scores`.
        """
        return cls(open_scores(folder))

    def page(self, query: Query, start: int, size: int, reviews: pa.Table | None = None) -> Page:
        """Return some of the samples that a query asks for.

        Parameters
        ----------
        query : Query
        start, size : int
            The first row, counted from 0, and how many.
        reviews : pyarrow.Table, optional
            A row per sample of which somebody has decided, as from `medfusion.review.ReviewStore.summary`.
        """
        cursor = self._database.cursor()
        cursor.register("reviews", NOBODY if reviews is None else reviews)
        conditions, values = _conditions(query, self.modalities)
        found = f"""
            FROM samples LEFT JOIN (
                SELECT subject_id, epoch_us(prediction_time) AS moment, readers, verdict FROM reviews
            ) USING (subject_id, moment)
            WHERE {" AND ".join(conditions)}
        """  # noqa: S608 - nothing in it comes from a reader
        # Not counted along with the rows: that would sort all of them whole for the sake of a few.
        total = cursor.execute(f"SELECT count(*) {found}", values).fetchall()[0][0]
        keys = (
            cursor.sql(
                f"""
                SELECT samples.*, readers, verdict {found}
                ORDER BY {query.order} {"DESC" if query.descending else "ASC"} NULLS LAST, subject_id, prediction_time
                LIMIT $size OFFSET $start
                """,
                params={"start": start, "size": size, **values},
            )
            .to_arrow_table()
            .to_pylist()
        )
        if not keys:
            return Page((), 0)
        reasons = self._reasons(cursor, keys)
        rows = map(self._row, keys)
        return Page(tuple(replace(row, reasons=reasons.get(_key(row), ())) for row in rows), total)

    def _row(self, said: dict[str, Any]) -> Row:
        return Row(
            subject_id=said["subject_id"],
            prediction_time=said["prediction_time"],
            risk=said["risk"],
            risk_low=said["risk_low"],
            risk_high=said["risk_high"],
            findings=tuple((said["findings"] or "").split(",")) if said["findings"] else (),
            missing=tuple(name for name in self.modalities if not said[_PRESENT + name]),
            model_id=said["model_id"],
            input_hash=said["input_hash"] or "",
            change=said["change"],
            readers=said["readers"] or 0,
            verdict=said["verdict"] or "",
        )

    def _reasons(
        self, cursor: duckdb.DuckDBPyConnection, keys: Sequence[dict[str, Any]]
    ) -> dict[tuple[str, datetime], tuple[Reason, ...]]:
        files = _distinct(self._ledger[key["filename"]] for key in keys if key["filename"] in self._ledger)
        if not files:
            return {}
        table = cursor.sql(
            f"""
            SELECT subject_id, prediction_time, modality, feature, value, share
            FROM read_parquet($files, filename = true)
            WHERE list_contains($subjects, subject_id) AND NOT regexp_matches(feature, $no_reason)
            QUALIFY row_number() OVER (PARTITION BY subject_id, prediction_time, filename ORDER BY abs(share) DESC)
                <= {REASONS}
            ORDER BY abs(share) DESC
            """,  # noqa: S608
            params={
                "files": files,
                "subjects": _distinct(key["subject_id"] for key in keys),
                "no_reason": _NO_REASON,
            },
        ).to_arrow_table()
        reasons: dict[tuple[str, datetime], tuple[Reason, ...]] = {}
        for line in table.to_pylist():
            reason = Reason(line["modality"], line["feature"], line["value"], line["share"])
            key = line["subject_id"], line["prediction_time"]
            reasons[key] = (*reasons.get(key, ()), reason)
        return reasons


def _samples(files: ScoreFiles) -> str:
    """Return the statement that reads all samples; of one that several deliveries hold, what was scored last."""
    present = [_quoted(_PRESENT + name) for name in files.modalities]
    columns = ", ".join([*_COLUMNS, "filename", *present])
    several = len({file.stem.rpartition("-")[0] for file in files.predictions}) > 1
    last = "QUALIFY row_number() OVER (PARTITION BY subject_id, prediction_time ORDER BY scored_at DESC) = 1"
    return f"""
        CREATE TABLE samples AS SELECT *, epoch_us(prediction_time) AS moment,
            risk - lag(risk) OVER (PARTITION BY subject_id ORDER BY prediction_time) AS change
        FROM (
            SELECT {columns} FROM read_parquet($files, filename = true, union_by_name = {not files.alike})
            {last if several else ""}
        )
    """  # noqa: S608 - names of columns, quoted


def _conditions(query: Query, modalities: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return what a query asks for in SQL, and the values that it names."""
    conditions = ["risk BETWEEN $least AND $most"]
    values: dict[str, Any] = {"least": query.least, "most": query.most}
    missing = {name: f"NOT coalesce({_quoted(_PRESENT + name)}, false)" for name in modalities}
    if query.flags:
        said = [
            f"contains(',' || coalesce(findings, ''), ',{flag}-')" for flag in query.flags if flag is not Flag.MISSING
        ]
        conditions.append(f"({' OR '.join([*said, *(missing.values() if Flag.MISSING in query.flags else ())])})")
    conditions += [missing[name] for name in query.missing]
    if query.reviewed is not None:
        conditions.append("coalesce(readers, 0) > 0" if query.reviewed else "coalesce(readers, 0) = 0")
    if query.text:
        conditions.append("contains(lower(subject_id), lower($text))")
        values["text"] = query.text
    return conditions, values


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _key(row: Row) -> tuple[str, datetime]:
    return row.subject_id, row.prediction_time


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
