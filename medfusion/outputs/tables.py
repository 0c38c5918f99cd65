"""The three tables that scoring writes: predictions, the ledger that explains them, and what could not be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit

from medfusion.core.errors import Problem
from medfusion.core.files import atomic
from medfusion.core.lines import Entries, chained
from medfusion.core.schema import Column, TableSchema
from medfusion.core.types import TOLERANCE, BoolArray, Distance, FloatArray, Sample

_WHO = (
    Column("subject_id", "string", "Patient"),
    Column("prediction_time", "time", "The moment from which the risk is seen; nothing later was used"),
)
PREDICTIONS = TableSchema(
    "predictions",
    "One row per sample. logit = base_logit + sum of share_<modality>; risk = 1 / (1 + exp(-logit)). For each modality "
    "there are four more columns: share_<modality> (number, log-odds, exactly 0 where absent), present_<modality> "
    "(boolean), distance_<modality> (number: how far from the training, where 1 is typical) and percentile_<modality> "
    "(number: how much of the training is nearer, in percent); the last two are empty where that cannot be told.",
    (
        *_WHO,
        Column("risk", "number", "Calibrated probability of the event"),
        Column("risk_low", "number", "Lower end of the interval of the risk; empty where there is none", nullable=True),
        Column(
            "risk_high", "number", "Upper end of the interval of the risk; empty where there is none", nullable=True
        ),
        Column("logit", "number", "Log-odds of the risk"),
        Column(
            "base_logit",
            "number",
            "Log-odds of somebody of whom nothing is known, or nothing but the group that the model is recalibrated by",
        ),
        Column(
            "risk_set",
            "string",
            "Outcomes that the risk leaves open at the model's stated coverage: event, no event, both or neither; "
            "empty where the model states none",
            required=False,
            nullable=True,
        ),
        Column("findings", "string", "Codes of what was noticed, separated by commas; empty if nothing", nullable=True),
        Column("model_id", "string", "Which model predicted"),
        Column(
            "seen_in_training",
            "boolean",
            "Whether the patient was in the training cohort; the part of the model that has not seen them answered",
            required=False,
            nullable=True,
        ),
        Column(
            "input_hash",
            "string",
            "Hash of everything that decided the prediction: the model, its options, and all data up to the prediction "
            "time; an equal hash is not scored again",
            required=False,
            nullable=True,
        ),
        Column("scored_at", "time", "When the prediction was made, in UTC", required=False, nullable=True),
    ),
    other_columns="any",
)
LEDGER = TableSchema(
    "ledger",
    "One row per sample, modality and feature; the shares of a modality sum to share_<modality> of the prediction.",
    (
        *_WHO,
        Column("modality", "string", "Kind of data"),
        Column("feature", "string", "Lab value, word or region"),
        Column("value", "string", "What was observed, as text; empty where it was missing", nullable=True),
        Column("share", "number", "What it added to the log-odds; positive raises the risk"),
    ),
    other_columns="any",
)
QUARANTINE = TableSchema(
    "quarantine",
    "One row per file or record that could not be used.",
    (
        Column("subject_id", "string", "Patient, where that is known", nullable=True),
        Column("path", "string", "File, relative to the cohort folder"),
        Column("code", "string", "Stable identifier of the kind of problem"),
        Column("detail", "string", "The problem in one line"),
        Column("remedy", "string", "What to do about it"),
    ),
    other_columns="any",
)
SCHEMAS: tuple[TableSchema, ...] = (PREDICTIONS, LEDGER, QUARANTINE)
_ARROW = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}


def predictions_table(
    samples: Sequence[Sample],
    *,
    risk: FloatArray,
    interval: FloatArray,
    logit: FloatArray,
    base_logit: FloatArray,
    shares: Mapping[str, FloatArray],
    present: Mapping[str, BoolArray],
    distances: Mapping[str, Sequence[Distance | None]],
    risk_sets: Sequence[str | None],
    findings: Sequence[Sequence[str]],
    model_id: str,
    seen_in_training: Sequence[bool | None],
    input_hashes: Sequence[str] | None = None,
    scored_at: datetime | None = None,
    zoned: bool = False,
) -> pa.Table:
    """Build the table of predictions.

    Parameters
    ----------
    samples : sequence of Sample, length n
    risk : array (n,), probabilities
    interval : array (n, 2)
        Lower and upper end; NaN where there is none.
    logit : array (n,), log-odds
    base_logit : array (n,), log-odds
    shares : mapping from modality to array (n,), log-odds
    present : mapping from modality to array (n,), bool
    distances : mapping from modality to sequence of Distance or None, length n
    risk_sets : sequence of str or None, length n
    findings : sequence of sequences of codes, length n
    model_id : str
    seen_in_training : sequence of bool or None, length n
    input_hashes : sequence of str, length n, optional
    scored_at : datetime, optional
        With a time zone.
    zoned : bool
        Whether prediction times are in UTC; where there is a sample, it decides.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ValueError
        If a row does not add up; see `check_predictions`.
    """
    n = len(samples)
    columns = {
        **_who([sample.subject_id for sample in samples], [sample.prediction_time for sample in samples], zoned),
        "risk": pa.array(risk, pa.float64()),
        "risk_low": pa.array(interval[:, 0], pa.float64(), from_pandas=True),
        "risk_high": pa.array(interval[:, 1], pa.float64(), from_pandas=True),
        "logit": pa.array(logit, pa.float64()),
        "base_logit": pa.array(base_logit, pa.float64()),
    }
    for name in shares:
        columns[f"share_{name}"] = pa.array(shares[name], pa.float64())
        columns[f"present_{name}"] = pa.array(present[name], pa.bool_())
        times = [None if each is None else each.times for each in distances[name]]
        nearer = [None if each is None else each.percentile for each in distances[name]]
        columns[f"distance_{name}"] = pa.array(times, pa.float64())
        columns[f"percentile_{name}"] = pa.array(nearer, pa.float64())
    columns["risk_set"] = pa.array(list(risk_sets), pa.string())
    columns["findings"] = pa.array([",".join(codes) or None for codes in findings], pa.string())
    columns["model_id"] = pa.array([model_id] * n, pa.string())
    columns["seen_in_training"] = pa.array(list(seen_in_training), pa.bool_())
    columns["input_hash"] = pa.array([None] * n if input_hashes is None else list(input_hashes), pa.string())
    columns["scored_at"] = pa.array([scored_at] * n, pa.timestamp("us", tz="UTC"))
    table = pa.table(columns)
    check_predictions(table)
    return table


def check_predictions(table: pa.Table) -> None:
    """Refuse predictions that do not add up.

    Raises
    ------
    ValueError
        If the base and the shares of a row do not sum to its logit within 1e-6, its risk is not the logistic of its
        logit, an absent modality has a share, or an interval ends before it begins.
    """
    numbers = {
        name: table[name].to_numpy()
        for name in table.column_names
        if name.startswith("share_") or name in {"risk", "risk_low", "risk_high", "logit", "base_logit"}
    }
    shares = {name.removeprefix("share_"): values for name, values in numbers.items() if name.startswith("share_")}
    total = numbers["base_logit"] + sum(shares.values())
    _refuse(table, ~(np.abs(total - numbers["logit"]) <= TOLERANCE), "the shares do not sum to the logit")
    off = ~(np.abs(expit(numbers["logit"]) - numbers["risk"]) <= TOLERANCE)
    _refuse(table, off, "the risk is not the logistic of the logit")
    for name, values in shares.items():
        absent = ~table[f"present_{name}"].to_numpy(zero_copy_only=False)
        _refuse(table, absent & (values != 0), f"{name} is absent and has a share")
    _refuse(table, numbers["risk_low"] > numbers["risk_high"], "the interval ends before it begins")


def _refuse(table: pa.Table, bad: BoolArray, what: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        first = table["subject_id"][int(rows[0])].as_py()
        raise ValueError(f"{len(rows)} of {table.num_rows} predictions are refused, first of subject {first}: {what}")


def lines_table(samples: Sequence[Sample], modalities: Sequence[str], lines: Sequence[Entries]) -> pa.Table:
    """Build the table of everything that each risk is the sum of.

    Parameters
    ----------
    samples : sequence of Sample, length n
    modalities : sequence of str
    lines : sequence of Entries, one per modality
        Of the n samples, in the order in which they are to stand.

    Returns
    -------
    pyarrow.Table
        By sample, and of a sample by modality.

    Examples
    --------
    >>> from medfusion.core.types import FeatureShare
    >>> sample = Sample("P1", datetime(2020, 1, 1))
    >>> lines_table([sample], ["ehr"], [Entries.of([[FeatureShare("age", 70.0, 0.25)]])]).to_pylist()[0]["value"]
    '70'
    """
    every = chained(lines) if lines else Entries.of([[]] * len(samples))
    modality = np.repeat(np.arange(len(modalities)), [len(each.rows) for each in lines])
    order = np.argsort(every.rows, kind="stable")
    who = _who([sample.subject_id for sample in samples], [sample.prediction_time for sample in samples])
    columns = {name: each.take(pa.array(every.rows[order])) for name, each in who.items()}
    columns["modality"] = pa.array(list(modalities), pa.string()).take(pa.array(modality[order]))
    columns["feature"] = pa.array(list(every.names), pa.string()).take(pa.array(every.lines[order]))
    columns["value"] = _value_texts(every.numbers, every.texts).take(pa.array(order))
    columns["share"] = pa.array(every.shares[order], pa.float64())
    return pa.table(columns)


def _value_texts(numbers: FloatArray, texts: Mapping[int, str]) -> pa.Array:
    """Write values as `value_text` does, each different number once."""
    known = np.flatnonzero(~np.isnan(numbers))
    different, which = np.unique(numbers[known], return_inverse=True)
    said: list[str | None] = [*(value_text(number) for number in different.tolist()), None]
    place = np.full(len(numbers), len(different))
    place[known] = which
    for where, text in texts.items():
        place[where] = len(said)
        said.append(text)
    return pa.array(said, pa.string()).take(pa.array(place))


def empty_ledger(zoned: bool) -> pa.Table:
    """Return a ledger without lines; ``zoned`` tells whether the cohort's times are in UTC."""
    others = {column.name: pa.array([], _ARROW[column.type]) for column in LEDGER.columns[2:]}
    return pa.table({**_who([], [], zoned), **others})


def quarantine_table(problems: Iterable[Problem]) -> pa.Table:
    """Build the table of what could not be used.

    Examples
    --------
    >>> problem = Problem("bad-time", "ehr.csv", "row 3", "time", "1/2/20", "ISO 8601", "write 2020-02-01")
    >>> quarantine_table([problem]).to_pylist()[0]["detail"]
    "error ehr.csv row 3: time is '1/2/20', expected ISO 8601; write 2020-02-01 [bad-time]"
    """
    rows = [
        (problem.subject_id or None, problem.file, problem.code, problem.line(), problem.remedy) for problem in problems
    ]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in QUARANTINE.columns]
    names = [column.name for column in QUARANTINE.columns]
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file in one piece: readers see the old one or the new one, never half."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def value_text(value: float | str | None) -> str | None:
    """Write a value as a ledger shows it; None stays None.

    Examples
    --------
    >>> value_text(4.70), value_text(123456.0), value_text("left lower"), value_text(None)
    ('4.7', '123456', 'left lower', None)
    """
    return f"{value:.6g}" if isinstance(value, float | int) else value


def _who(subject_ids: Sequence[str], times: Sequence[datetime], zoned: bool = False) -> dict[str, pa.Array]:
    zone = "UTC" if (times[0].tzinfo if times else zoned) else None
    return {
        "subject_id": pa.array(subject_ids, pa.string()),
        "prediction_time": pa.array(times, pa.timestamp("us", tz=zone)),
    }
