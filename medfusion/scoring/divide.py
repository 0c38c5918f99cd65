"""Dividing a cohort by patient into parts on disk, each a small cohort by itself, in memory that does not grow.

Tables are read piece by piece and their rows are sent to the part of their patient, in any order; so a part can be
opened, checked and scored like any other cohort, through the same firewall, however large the whole is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medfusion.core.errors import DataError, PayloadRejected, Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.memory import give_back
from medfusion.core.protocols import Scans
from medfusion.core.tables import numbered, raw_pieces
from medfusion.core.times import parse_times

MOST_OPEN = 256
"""How many parts are written at once; for more, the tables are gone through again."""
_GATHERED_BYTES = 16 * 2**20
"""How much is written at once."""
_SUBJECT = "subject_id"


@dataclass(frozen=True, slots=True)
class Division:
    """A cohort in parts.

    Attributes
    ----------
    folder : Path
        Where the parts are.
    source : CohortFolder
        The whole; films stay there.
    labels : str
        The file with the labels, in each part.
    parts : int
    label_rows : int
        Rows of the labels, as they are in the file.
    problems : list of Problem
        What was found wrong on the way.
    """

    folder: Path
    source: CohortFolder
    labels: str
    parts: int
    label_rows: int
    problems: list[Problem] = field(default_factory=list)

    def part(self, number: int) -> CohortFolder:
        """Return a part as a cohort folder."""
        root = self.folder / f"{number:05d}"
        return replace(self.source, root=root, files=self.source.root, problems=[], zoned={})


def part_of(subject_ids: Sequence[str | None], parts: int) -> NDArray[np.int64]:
    """Say in which part each subject is, the same on every machine; nobody's rows are in the first.

    Examples
    --------
    >>> part_of(["P1", "P2", "P1", None], 4).tolist()
    [1, 3, 1, 0]
    """
    return np.array([0 if name is None else zlib.crc32(name.encode()) % parts for name in subject_ids], dtype=np.int64)


def divide(
    source: CohortFolder,
    into: Path,
    labels: str,
    tables: Sequence[str],
    scans: Mapping[str, Scans],
    parts: Callable[[int], int],
) -> Division:
    """Divide a cohort folder.

    Parameters
    ----------
    source : CohortFolder
    into : Path
        A folder that is not there yet.
    labels : str
        The file with the labels, relative to the folder.
    tables : sequence of str
        The other files, all with a column ``subject_id``.
    scans : mapping from modality to Scans
        Those whose files say themselves whose they are.
    parts : callable
        From the number of rows of the labels to that of parts.

    Returns
    -------
    Division

    Raises
    ------
    DataError
        If the labels cannot be read, or a table has no column ``subject_id``.
    """
    problems: list[Problem] = []
    try:
        label_rows, clock = _look_at(source, labels)
    except PayloadRejected as error:
        raise DataError([error.problem]) from None
    count = max(1, parts(label_rows))
    for number in range(count):
        (into / f"{number:05d}" / labels).parent.mkdir(parents=True)
    for file in (labels, *tables):
        for window in _windows(count):
            try:
                _send(into, file, _by_subject(source, file, problems if window.start == 0 else []), window, count)
            except PayloadRejected as error:
                problems.append(error.problem)
    for name, scanner in scans.items():
        _scan(into, f"{name}.files.parquet", scanner.scan(source), count)
    problems += source.problems
    give_back()
    return Division(into, replace(source, clock=clock), labels, count, label_rows, problems)


def _windows(count: int) -> Iterator[range]:
    for start in range(0, count, MOST_OPEN):
        yield range(start, min(start + MOST_OPEN, count))


def _look_at(source: CohortFolder, labels: str) -> tuple[int, bool | None]:
    """Count the rows of the labels, and tell whether the first of them have a time zone."""
    rows, clock = 0, None
    for table, _ in raw_pieces(source.root / labels, labels, []):
        rows += table.num_rows
        name = next((name for name in table.column_names if name.strip() == "prediction_time"), None)
        if clock is None and name is not None and table.num_rows:
            times, _bad = parse_times(table[name].combine_chunks())
            clock = times.type.tz is not None if times.is_valid().true_count else None
    return rows, clock


def _by_subject(source: CohortFolder, file: str, problems: list[Problem]) -> Iterator[tuple[pa.Table, pa.Array]]:
    """Yield pieces of a table with the subjects of their rows."""
    for raw, rows in raw_pieces(source.root / file, file, problems):
        name = next((name for name in raw.column_names if name.strip() == _SUBJECT), None)
        if name is None:
            got, remedy = ", ".join(raw.column_names), f"add the column {_SUBJECT}"
            raise DataError([Problem("missing-column", file, "", _SUBJECT, got, "this column", remedy)])
        yield numbered(raw, rows), pc.utf8_trim_whitespace(pc.cast(raw[name].combine_chunks(), pa.string()))


def _scan(into: Path, file: str, found: Iterable[pa.Table], count: int) -> None:
    """Send what a modality found; a list on the disk is gone through again where parts are many, and not the files."""
    listed, writer = into / file, None
    with ExitStack() as stack:
        for table in found:
            writer = writer or stack.enter_context(pq.ParquetWriter(listed, table.schema, compression="lz4"))
            writer.write_table(table.cast(writer.schema))
    for window in _windows(count) if writer else ():
        pieces = ((table, table[_SUBJECT].combine_chunks()) for table, _ in raw_pieces(listed, file, []))
        _send(into, file, pieces, window, count)


def _send(into: Path, file: str, pieces: Iterable[tuple[pa.Table, pa.Array]], window: range, count: int) -> None:
    """Write the rows of each part in the window to a file of its own, Parquet whatever its name."""
    writers: dict[int, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for table, place in _gathered(_placed(pieces, window, count)):
            order = np.argsort(place, kind="stable")
            bounds = np.searchsorted(place[order], np.arange(window.start, window.stop + 1))
            for part, start, stop in zip(window, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
                if start == stop:
                    continue
                if part not in writers:
                    path = into / f"{part:05d}" / file
                    # Whoever opens a part reads all of it: figures about its columns would be kept for nothing.
                    writer = pq.ParquetWriter(path, table.schema, compression="lz4", write_statistics=False)
                    writers[part] = stack.enter_context(writer)
                writers[part].write_table(table.take(pa.array(order[start:stop])).cast(writers[part].schema))


def _placed(
    pieces: Iterable[tuple[pa.Table, pa.Array]], window: range, count: int
) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Yield the rows of the parts in the window, with their parts."""
    for table, subjects in pieces:
        coded = pc.dictionary_encode(subjects, null_encoding="encode")
        place = part_of(coded.dictionary.to_pylist(), count)[np.asarray(coded.indices)]
        chosen = (place >= window.start) & (place < window.stop)
        yield (table, place) if chosen.all() else (table.filter(pa.array(chosen)), place[chosen])


def _gathered(pieces: Iterable[tuple[pa.Table, NDArray[np.int64]]]) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Put small pieces together, so that a part gets its rows in few groups."""
    kept: list[tuple[pa.Table, NDArray[np.int64]]] = []
    for piece in pieces:
        kept.append(piece)
        if sum(table.nbytes for table, _ in kept) >= _GATHERED_BYTES:
            together = _together(kept)
            kept.clear()
            yield together
    if kept:
        yield _together(kept)


def _together(pieces: Sequence[tuple[pa.Table, NDArray[np.int64]]]) -> tuple[pa.Table, NDArray[np.int64]]:
    table = pa.concat_tables([table for table, _ in pieces]).combine_chunks()
    return table, np.concatenate([place for _, place in pieces])
