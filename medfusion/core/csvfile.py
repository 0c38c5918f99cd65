"""CSV as text, cell by cell: no type is guessed, and what cannot be split into cells with certainty is refused."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from medfusion.core.errors import PayloadRejected, Problem, shortened

_PIECE_BYTES = 1 << 22
"""How much of a file is in memory at once."""
_MAX_ROW_BYTES = 1 << 24
"""How long a row (a long note) may be."""
_QUOTE = ord('"')
_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"
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
    pieces = list(iterate_csv(path, file, problems))
    return pa.concat_tables([table for table, _ in pieces]), np.concatenate([rows for _, rows in pieces])


def iterate_csv(path: Path, file: str, problems: list[Problem]) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Read a CSV file as `read_csv` does, piece by piece; there is at least one piece, and it may have no rows."""
    _check(path, file)
    names: list[str] | None = None
    last, ragged = 0, list[Problem]()
    try:
        types = dict.fromkeys(csv_header(path), pa.string())
        for text in _whole_rows(path, file):
            table, gone = _parsed(text, names, types)
            # pyarrow counts from 1 and counts the header. A row that is left out has a number, too.
            before = last if names else last - 1
            rows = table.num_rows + len(gone)
            numbers = np.setdiff1d(np.arange(last + 1, last + rows + 1), [before + row.number for row in gone])
            ragged += (_ragged(row, before + row.number, file) for row in gone)
            names, last = table.column_names, last + rows
            yield table, numbers
    except (pa.ArrowException, csv.Error) as error:
        raise _rejected(file, "unreadable-table", str(error).splitlines()[0], "a table", _UTF8_REMEDY) from None
    problems.extend(shortened(ragged))


def _whole_rows(path: Path, file: str) -> Iterator[bytes]:
    """Cut a file that was checked between rows; pyarrow, left to itself, reads 32 blocks ahead."""
    with path.open("rb") as data:
        rest = data.read(len(_BOM)).removeprefix(_BOM)
        while piece := data.read(_PIECE_BYTES):
            text = rest + piece
            end = _end_of_rows(text)
            if text[:end].strip(_LINE_ENDS):
                yield text[:end]
            rest = text[end:]
            if len(rest) > _MAX_ROW_BYTES:
                remedy = "put every row into a line of its own, or shorten it"
                raise _rejected(file, "unreadable-table", "a row that does not end", "shorter rows", remedy)
    if rest.strip(_LINE_ENDS):
        # A header that no line ends is no header to pyarrow.
        yield rest + b"\n"


def _end_of_rows(text: bytes) -> int:
    """Return how far a text that begins with a row has whole rows: to the last line end outside of quotation marks."""
    end, is_outside = len(text), text.count(b'"') % 2 == 0
    while True:
        mark = text.rfind(b'"', 0, end)
        if is_outside and (last := max(text.rfind(b"\n", mark + 1, end), text.rfind(b"\r", mark + 1, end))) >= 0:
            return last + 1
        if mark < 0:
            return 0
        end, is_outside = mark, not is_outside


def _parsed(
    text: bytes, names: list[str] | None, types: Mapping[str, pa.DataType]
) -> tuple[pa.Table, list[pacsv.InvalidRow]]:
    """Read rows, of which the first is the header where no names are given, and those that have not as many cells."""
    gone: list[pacsv.InvalidRow] = []

    def leave_out(row: pacsv.InvalidRow) -> str:
        gone.append(row)
        return "skip"

    table = pacsv.read_csv(
        pa.BufferReader(text),
        # Only a single thread knows the numbers of rows.
        read_options=pacsv.ReadOptions(use_threads=False, block_size=len(text), column_names=names),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=leave_out),
        convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
    )
    return table, gone


def csv_header(path: Path) -> list[str]:
    """Read the names of the columns; a header may be quoted, and span lines."""
    with path.open(encoding="utf-8-sig", newline="") as text:
        return next((row for row in csv.reader(text) if row), [])


def _check(path: Path, file: str) -> None:
    """Refuse a file whose cells cannot be told apart."""
    check, blank = _Check(file), True
    with path.open("rb") as data:
        piece = data.read(_PIECE_BYTES).removeprefix(_BOM)
        while piece:
            following = data.read(_PIECE_BYTES)
            blank = blank and not piece.strip()
            check.see(piece, following[:1])
            piece = following
    if blank:
        raise _rejected(file, "empty-file", "empty", "a header and rows", "fill it, or remove the file")
    check.end()


class _Check:
    """Looks through the bytes of a file, piece by piece: UTF-8, and quotation marks that pair up.

    Taken in turn, marks open and close a cell (a doubled mark closes and opens it again). One that opens has to
    stand at the start of a cell, one that closes at its end.
    """

    _AROUND = np.frombuffer(b',\r\n"', dtype=np.uint8)

    def __init__(self, file: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._marks = self._lines = self._last_line = 0
        self._before = b"\n"

    def see(self, piece: bytes, following: bytes) -> None:
        """Check a piece, of which the byte that follows is known (none at the end)."""
        self._decode(piece, final=not following)
        text = np.frombuffer(self._before + piece + (following or b"\n"), dtype=np.uint8)
        marks = np.flatnonzero(text[1:-1] == _QUOTE) + 1
        opens = (self._marks + np.arange(len(marks))) % 2 == 0
        wrong = marks[~np.isin(np.where(opens, text[marks - 1], text[marks + 1]), self._AROUND)]
        if len(wrong):
            raise self._unpaired(self._line(piece, int(wrong[0]) - 1))
        if len(marks):
            self._marks += len(marks)
            self._last_line = self._line(piece, int(marks[-1]) - 1)
        self._before = piece[-1:]
        self._lines += piece.count(b"\n")

    def end(self) -> None:
        if self._marks % 2:
            raise self._unpaired(self._last_line)

    def _decode(self, piece: bytes, *, final: bool) -> None:
        try:
            self._decoder.decode(piece, final=final)
        except UnicodeDecodeError as error:
            got = f"byte 0x{error.object[error.start]:02x} in line {self._line(piece, error.start)}"
            raise _rejected(self._file, "not-utf8", got, "UTF-8", _UTF8_REMEDY) from None

    def _line(self, piece: bytes, place: int) -> int:
        return self._lines + piece.count(b"\n", 0, place) + 1

    def _unpaired(self, line: int) -> PayloadRejected:
        got = f"a quotation mark in line {line} that has no partner"
        remedy = "put cells that hold quotation marks in quotation marks and double those inside"
        return _rejected(self._file, "unpaired-quote", got, "paired quotation marks", remedy)


def _ragged(row: pacsv.InvalidRow, number: int, file: str) -> Problem:
    got, expected = f"{row.actual_columns} cells", f"{row.expected_columns} cells, as in the header"
    remedy = "put cells that hold commas in quotation marks"
    return Problem("ragged-row", file, f"row {number}", "row", got, expected, remedy)


def _rejected(file: str, code: str, got: str, expected: str, remedy: str) -> PayloadRejected:
    return PayloadRejected(Problem(code, file, "", "file", got, expected, remedy))
