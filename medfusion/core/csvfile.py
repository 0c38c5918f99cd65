"""CSV as text, cell by cell: no type is guessed, and what cannot be split into cells with certainty is refused."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from medfusion.core.errors import PayloadRejected, Problem, shortened

_BLOCK_BYTES = 1 << 24
"""A row (a long note) has to fit in one block."""
_QUOTE = ord('"')
_BOM = b"\xef\xbb\xbf"
_UTF8_REMEDY = "export the file again as UTF-8 CSV or Parquet"


def read_csv(path: Path, file: str, problems: list[Problem]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Read a CSV file (RFC 4180, UTF-8) as text.

    Parameters
    ----------
    path : Path
    file : str
        Its name in messages.
    problems : list of Problem
        Rows with too few or too many cells are left out and noted here.

    Returns
    -------
    table : pyarrow.Table
        Every column as string; an empty cell is null.
    rows : array (n,), int64
        The number of each row in the file, counted from 1, without the header and blank lines.

    Raises
    ------
    PayloadRejected
        If the file is empty, is not UTF-8, or has quotation marks that do not pair up: then nobody knows where a
        cell ends, and one patient's text could run into the next one's.
    """
    data = path.read_bytes()
    if not data.removeprefix(_BOM).strip():
        raise _rejected(file, "empty-file", "empty", "a header and rows", "fill it, or remove the file")
    if b"\n" not in data and b"\r" not in data:
        data += b"\n"
    _check_encoding(data, file)
    _check_quotes(data, file)
    ragged: list[pacsv.InvalidRow] = []

    def leave_out(row: pacsv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    try:
        names = _header(data)
        table = pacsv.read_csv(
            pa.BufferReader(data),
            # Only a single thread knows the numbers of rows.
            read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=leave_out),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except (pa.ArrowException, csv.Error) as error:
        raise _rejected(file, "unreadable-table", str(error).splitlines()[0], "a table", _UTF8_REMEDY) from None
    problems.extend(shortened(_ragged(row, file) for row in ragged))
    # pyarrow counts from 1 and counts the header.
    rows = np.arange(1, table.num_rows + len(ragged) + 1)
    return table, np.delete(rows, [row.number - 2 for row in ragged])


def _header(data: bytes) -> list[str]:
    """Read the names of the columns; a header may be quoted, and span lines."""
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="") as text:
        return next((row for row in csv.reader(text) if row), [])


def _check_encoding(data: bytes, file: str) -> None:
    """Refuse what is not UTF-8, and say where; piece by piece, for a file may be large."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _BLOCK_BYTES):
        piece = data[start : start + _BLOCK_BYTES]
        try:
            decoder.decode(piece, final=start + _BLOCK_BYTES >= len(data))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, start + error.start) + 1
            got = f"byte 0x{error.object[error.start]:02x} in line {line}"
            raise _rejected(file, "not-utf8", got, "UTF-8", _UTF8_REMEDY) from None


def _check_quotes(data: bytes, file: str) -> None:
    """Refuse quotation marks that do not pair up.

    Taken in turn, marks open and close a cell (a doubled mark closes and opens it again). One that opens has to
    stand at the start of a cell, one that closes at its end.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    marks = np.flatnonzero(text == _QUOTE)
    if not len(marks):
        return
    ends = np.frombuffer(b',\r\n"', dtype=np.uint8)
    start = len(_BOM) if data.startswith(_BOM) else 0
    opening, closing = marks[::2], marks[1::2]
    before, after = text[np.maximum(opening - 1, 0)], text[np.minimum(closing + 1, len(text) - 1)]
    wrong = np.concatenate(
        [
            opening[~np.isin(before, ends) & (opening != start)],
            closing[~np.isin(after, ends)],
            marks[-1:] if len(marks) % 2 else marks[:0],
        ]
    )
    if len(wrong):
        line = data.count(b"\n", 0, int(wrong.min())) + 1
        got = f"a quotation mark in line {line} that has no partner"
        remedy = "put cells that hold quotation marks in quotation marks and double those inside"
        raise _rejected(file, "unpaired-quote", got, "paired quotation marks", remedy)


def _ragged(row: pacsv.InvalidRow, file: str) -> Problem:
    got, expected = f"{row.actual_columns} cells", f"{row.expected_columns} cells, as in the header"
    remedy = "put cells that hold commas in quotation marks"
    return Problem("ragged-row", file, f"row {row.number - 1}", "row", got, expected, remedy)


def _rejected(file: str, code: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    return PayloadRejected(Problem(code, file, "", "file", got, expected, remedy))
