"""A folder of scores of any size: scored samples of a small cohort, repeated under new names with risks of their own.

Parts are written by the journal of scoring itself, so files, schemas and records are those of a real run. Every
sample's shares are stretched by a factor of its own, in predictions and ledger alike, so that each row still adds up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, logit

from medfusion.outputs.tables import check_predictions
from medfusion.scoring import TABLES, Journal

PART = 500
"""Samples per part, as `medfusion score` makes them."""
_KEY = ["subject_id", "prediction_time"]


def repeat_scores(scored: Path, out: Path, samples: int, seed: int = 0) -> None:
    """Write a folder of scores.

    Parameters
    ----------
    scored : Path
        Folder written by `medfusion score`, with its ledger.
    out : Path
    samples : int
    """
    source = {name: _plain(pq.read_table(scored / f"{name}.parquet")) for name in TABLES}
    predictions, ledger = source["predictions"], source["ledger"]
    lines = _lines_of(predictions, ledger)
    rng = np.random.default_rng(seed)
    with Journal(out) as journal:
        parts = -(-samples // PART)
        journal.plan(parts)
        for part in range(parts):
            rows = np.arange(part * PART, min((part + 1) * PART, samples))
            which = rows % predictions.num_rows
            factors = rng.uniform(0.2, 3.0, len(rows))
            tables = {
                "predictions": _renamed(_stretched(predictions.take(pa.array(which)), factors), rows, predictions),
                "ledger": _ledger(ledger, lines, which, rows, factors, predictions),
                "quarantine": source["quarantine"].slice(0, 0),
            }
            check_predictions(tables["predictions"])
            journal.commit(part, tables, {})
        journal.note("run", {"samples": samples})


def _plain(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)


def _lines_of(predictions: pa.Table, ledger: pa.Table) -> list[np.ndarray]:
    """Return where in the ledger the lines of each prediction are."""
    found: dict[tuple, list[int]] = {}
    for place, key in enumerate(zip(*(ledger[name].to_pylist() for name in _KEY), strict=True)):
        found.setdefault(key, []).append(place)
    keys = zip(*(predictions[name].to_pylist() for name in _KEY), strict=True)
    return [np.array(found.get(key, []), dtype=np.int64) for key in keys]


def _stretched(table: pa.Table, factors: np.ndarray) -> pa.Table:
    base, before = table["base_logit"].to_numpy(), table["logit"].to_numpy()
    after = base + factors * (before - base)
    for name in table.column_names:
        if name.startswith("share_"):
            table = _with(table, name, table[name].to_numpy() * factors)
        if name in {"risk_low", "risk_high"}:
            table = _with(table, name, expit(logit(table[name].to_numpy()) + after - before))
    return _with(_with(table, "logit", after), "risk", expit(after))


def _with(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64(), from_pandas=True))


def _renamed(table: pa.Table, rows: np.ndarray, predictions: pa.Table) -> pa.Table:
    """Give each repetition of the cohort names of its own; samples of one patient stay with one patient."""
    rounds = rows // predictions.num_rows
    names = [f"{name}-{number:05}" for name, number in zip(table["subject_id"].to_pylist(), rounds, strict=True)]
    return table.set_column(0, "subject_id", pa.array(names, pa.string()))


def _ledger(
    ledger: pa.Table,
    lines: list[np.ndarray],
    which: np.ndarray,
    rows: np.ndarray,
    factors: np.ndarray,
    predictions: pa.Table,
) -> pa.Table:
    owners = np.repeat(np.arange(len(which)), [len(lines[each]) for each in which])
    table = ledger.take(pa.array(np.concatenate([lines[each] for each in which])))
    table = _with(table, "share", table["share"].to_numpy() * factors[owners])
    return _renamed(table, rows[owners], predictions)
