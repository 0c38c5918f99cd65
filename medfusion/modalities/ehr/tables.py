"""From ehr.csv or ehr.parquet, long or wide, to one table of events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.schema import Column, TableSchema
from medfusion.core.tables import ROW, header

_SUBJECT = Column("subject_id", "string", "The patient.")
_TIME = Column("time", "time", "When the value was known; it is used by predictions at this moment or later.")
LONG = TableSchema(
    "ehr",
    "Long form: one row per event, as in MEDS. An event without any value, such as a diagnosis, is counted.",
    (
        _SUBJECT,
        _TIME,
        Column("code", "string", "What was measured or done."),
        Column("numeric_value", "number", "The value, where it is a number.", nullable=True),
        Column("text_value", "string", "The value, where it is text: the event is code=text.", False, True),
        Column("unit", "string", "UCUM unit of numeric_value; empty: as cohort.toml declares.", False, True),
    ),
)
WIDE = TableSchema(
    "ehr",
    "Wide form: one row per moment, one numeric column per quantity; an empty cell was not measured.",
    (_SUBJECT, _TIME),
    other_columns="number",
)


def read_events(folder: CohortFolder) -> tuple[str, pa.Table] | None:
    """Read the events of a cohort folder; problems go to ``folder.problems``.

    Parameters
    ----------
    folder : CohortFolder

    Returns
    -------
    (file, table) or None
        Columns ``row`` (int64), ``subject_id``, ``time``, ``code`` (dictionary), ``numeric_value`` (null for an
        event without a value) and, in the long form, perhaps ``unit``; None where there is no table.
    """
    file = next((LONG.name + end for end in SUFFIXES if (folder.root / (LONG.name + end)).exists()), None)
    wide = file is not None and _is_wide(folder, file)
    table = folder.table(WIDE if wide else LONG)
    if table is None or file is None:
        return None
    return file, _melted(table) if wide else _long(table)


def _is_wide(folder: CohortFolder, file: str) -> bool:
    """Look at the header alone. What cannot be read is called long, and told of when it is read as such."""
    names = header(folder.root / file)
    return bool(names) and "code" not in names


def _long(table: pa.Table) -> pa.Table:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    if "text_value" in columns:
        code = columns["code"]
        text, sign = columns.pop("text_value").cast(code.type), pa.scalar("=", code.type)
        # A number that stands beside a text is the value.
        said = pc.and_(text.is_valid(), columns["numeric_value"].is_null())
        columns["code"] = pc.if_else(said, pc.binary_join_element_wise(code, text, sign), code)
    columns["code"] = pc.dictionary_encode(columns["code"])
    return pa.table(columns)


def _melted(table: pa.Table) -> pa.Table:
    """Make one event of every cell that is not empty."""
    keys = {ROW, "subject_id", "time"}
    names = [name for name in table.column_names if name not in keys]
    columns = [table[name].combine_chunks() for name in names]
    places = [np.flatnonzero(column.is_valid()) for column in columns]
    row = pa.array(np.concatenate([np.empty(0, dtype=np.int64), *places]))
    code = np.repeat(np.arange(len(names), dtype=np.int32), [len(place) for place in places])
    values = [column.drop_null() for column in columns]
    return (
        table.select([ROW, "subject_id", "time"])
        .take(row)
        .add_column(3, "code", pa.DictionaryArray.from_arrays(pa.array(code), pa.array(names, pa.string())))
        .append_column("numeric_value", pa.chunked_array(values, pa.float64()).combine_chunks())
    )
