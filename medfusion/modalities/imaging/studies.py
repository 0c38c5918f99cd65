"""Which films and volumes there are, whose they are, and when they were taken: everything that needs no pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.schema import Column, TableSchema
from medfusion.modalities.imaging.clock import BadTime, taken_at
from medfusion.modalities.imaging.intake import Verdict, examine

FOLDER = "imaging/"
SCANNED = "imaging.files.parquet"
"""What a part of a divided cohort has instead of files in ``imaging/``."""
_AT_ONCE = 1024
IMAGING_TABLE = TableSchema(
    "imaging",
    "The films to use, where DICOM headers do not say whose they are or when they were taken, and for PNG and JPEG. "
    "If this table is there, files that it does not list are ignored.",
    (
        Column("subject_id", "string", "Whose film it is."),
        Column("path", "string", "The file, relative to the cohort folder, such as imaging/a.png."),
        Column(
            "time", "time", "When it was taken; the DICOM header decides where empty.", required=False, nullable=True
        ),
    ),
)
_UNLISTED = Problem(
    "not-dicom", "", "", "file", "PNG or JPEG", "a DICOM image", "list it in imaging.csv", severity="warning"
)
_TABLES = tuple(IMAGING_TABLE.name + suffix for suffix in SUFFIXES)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that may be a film; subject and time are None where its header has to tell."""

    path: str
    file: Path
    subject_id: str | None = None
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One film of the index."""

    subject_id: str
    time: datetime
    path: str
    location: str
    study: str
    series: str
    frames: int
    vague: bool


def index_films(folder: CohortFolder) -> pa.Table | None:
    """List the films of a cohort folder.

    With ``imaging.csv`` (or ``.parquet``), that table decides; else every DICOM file at any depth below ``imaging/``
    whose header names a patient and a time (see `clock`). Linked folders are followed, each real folder once. A part of
    a divided cohort has a list of its files instead, see `scan_films`.

    Returns
    -------
    pyarrow.Table or None
        Columns ``subject_id``, ``time``, ``path`` (relative to the cohort folder), ``location`` (absolute), ``study``
        (films of one value belong together) and ``series`` (of a slice of a volume; empty for films); None if there is
        no image. All slices of a series have the time of the last: before that there is no volume.
    """
    entries = _whole_series(_of_one_clock(_entries(folder), folder))
    if not entries:
        return None
    _note_vague(entries, folder.problems)
    zone = "UTC" if entries[0].time.tzinfo else None
    for file in _TABLES:
        # Its column of times may be empty; what the films together say, counts.
        folder.zoned.pop(file, None)
    folder.zoned[FOLDER] = zone is not None
    names = ("subject_id", "path", "location", "study", "series")
    columns = {name: pa.array([getattr(entry, name) for entry in entries], pa.string()) for name in names}
    times = pa.array([entry.time for entry in entries], pa.timestamp("us", tz=zone))
    return pa.table({"subject_id": columns.pop("subject_id"), "time": times, **columns})


def scan_films(folder: CohortFolder) -> Iterator[pa.Table]:
    """List the files below ``imaging/`` piece by piece, with what their headers say; problems go to the folder.

    Nothing where a table lists the films: that is divided as any other table.

    Yields
    ------
    pyarrow.Table
        One row per file that can be used, to be written as `SCANNED` into the parts of a divided cohort.
    """
    if any(os.path.lexists(folder.root / file) for file in _TABLES):
        return
    candidates = _found(folder)
    while some := list(islice(candidates, _AT_ONCE)):
        with _unremarked():
            found = (_entry(candidate, folder.problems) for candidate in some)
            # A column of times has one zone or none, and files may have either.
            rows = [{**asdict(entry), "time": entry.time.isoformat()} for entry in found if entry is not None]
        if rows:
            yield pa.Table.from_pylist(rows)


def _entries(folder: CohortFolder) -> list[_Entry]:
    if (folder.root / SCANNED).is_file():
        rows = pq.read_table(folder.root / SCANNED).to_pylist()
        return [_Entry(**{**row, "time": datetime.fromisoformat(row["time"])}) for row in rows]
    with _unremarked():
        tables = [file for file in _TABLES if os.path.lexists(folder.root / file)]
        candidates = _listed(folder, tables[0]) if tables else _found(folder)
        return [entry for candidate in candidates if (entry := _entry(candidate, folder.problems)) is not None]


@contextmanager
def _unremarked() -> Iterator[None]:
    """Ignore what pydicom remarks on a header: it is either harmless or ends in a problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _found(folder: CohortFolder) -> Iterator[_Candidate]:
    """Yield every file below imaging/, in the order of names."""
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and error.filename == os.fspath(folder.root / "imaging"):
            return
        path = Path(error.filename).relative_to(folder.root).as_posix()
        got, remedy = error.strerror or type(error).__name__, "give the program the right to read it"
        folder.problems.append(Problem("unreadable-folder", path, "", "folder", got, "a folder", remedy))

    for parent, directories, files in os.walk(folder.root / "imaging", onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            file = Path(parent, name)
            yield _Candidate(file.relative_to(folder.root).as_posix(), file)


def _listed(folder: CohortFolder, name: str) -> Iterator[_Candidate]:
    """Yield the rows of imaging.csv whose files are there."""
    table = folder.table(IMAGING_TABLE)
    if table is None:
        return
    for row in table.to_pylist():
        file = folder.resolve(row["path"])
        if file is None:
            expected, remedy = "a path inside the cohort folder", "put the file there, and name it relative to it"
            code = "path-outside"
        elif not file.is_file():
            expected, remedy = "a file", "correct the path; it is relative to the cohort folder, as imaging/a.png is"
            code = "missing-file"
        else:
            path = file.relative_to(folder.files or folder.root).as_posix()
            yield _Candidate(path, file, row["subject_id"], row.get("time"))
            continue
        where, subject = f"row {row['row']}", row["subject_id"]
        folder.problems.append(Problem(code, name, where, "path", row["path"], expected, remedy, subject_id=subject))


def _entry(candidate: _Candidate, problems: list[Problem]) -> _Entry | None:
    """Return a file's line of the index, or None and a problem."""
    verdict = examine(candidate.file)
    subject = candidate.subject_id or verdict.header.get("PatientID", "")
    try:
        if verdict.problem is not None:
            raise PayloadRejected(_asked_for(verdict.problem, candidate.subject_id is not None))
        if verdict.format == "picture" and candidate.subject_id is None:
            raise PayloadRejected(_UNLISTED)
        return _dated(candidate, subject, verdict)
    except PayloadRejected as error:
        where = f"subject {subject}" if subject else ""
        problems.append(replace(error.problem, file=candidate.path, where=where, subject_id=subject))
        return None


def _asked_for(problem: Problem, listed: bool) -> Problem:
    """Say that a file is no image: a remark where it merely lies in the folder, an error where it was asked for."""
    if problem.code != "not-dicom":
        return problem
    return (
        replace(problem, remedy="name another file, or convert it") if listed else replace(problem, severity="warning")
    )


def _dated(candidate: _Candidate, subject: str, verdict: Verdict) -> _Entry:
    header = verdict.header
    if not subject:
        remedy = "fill it in, or list the file in imaging.csv"
        raise PayloadRejected(Problem("missing-patient-id", "", "", "PatientID", "", "who the film is of", remedy))
    try:
        time = candidate.time or taken_at(dict(header))
    except BadTime as error:
        remedy = "correct it, or give the time in imaging.csv"
        raise PayloadRejected(Problem("bad-time", "", "", error.keyword, error.got, "a DICOM time", remedy)) from None
    if time is None:
        remedy = "fill in the header, or the column time of imaging.csv"
        raise PayloadRejected(Problem("missing-time", "", "", "time", "", "when the film was taken", remedy))
    study = header.get("StudyInstanceUID", "") or time.isoformat()
    series = header.get("SeriesInstanceUID", "") if verdict.kind == "slice" else ""
    frames = int(header.get("NumberOfFrames") or 1)
    vague = candidate.time is None and (time.second, time.microsecond) == (59, 999_999)
    return _Entry(subject, time, candidate.path, str(candidate.file), study, series, frames, vague)


def _whole_series(entries: list[_Entry]) -> list[_Entry]:
    """Give the slices of a series the time of its last one; a slice that is alone in its series is a film."""
    series: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        series.setdefault((entry.subject_id, entry.series), []).append(entry)
    whole = []
    for entry in entries:
        slices = series[entry.subject_id, entry.series]
        if entry.series and (len(slices) > 1 or entry.frames > 1):
            whole.append(replace(entry, time=max(each.time for each in slices)))
        else:
            whole.append(replace(entry, series=""))
    return whole


def _of_one_clock(entries: list[_Entry], folder: CohortFolder) -> list[_Entry]:
    """Keep films whose times can be compared: all in UTC or all naive, as the cohort has, or whichever are more."""
    zoned = sum(entry.time.tzinfo is not None for entry in entries)
    keep_zoned = 2 * zoned > len(entries) if folder.clock is None else folder.clock
    kept = [entry for entry in entries if (entry.time.tzinfo is not None) == keep_zoned]
    expected = "a time zone, as most films have" if keep_zoned else "no time zone, as most films"
    remedy = "give every film TimezoneOffsetFromUTC, or none; or give all times in imaging.csv"
    for entry in entries:
        if (entry.time.tzinfo is not None) != keep_zoned:
            got, subject = entry.time.isoformat(), entry.subject_id
            where = f"subject {subject}"
            problem = Problem("mixed-time-zones", entry.path, where, "time", got, expected, remedy, subject_id=subject)
            folder.problems.append(problem)
    return kept


def _note_vague(entries: list[_Entry], problems: list[Problem]) -> None:
    """Say once how many headers have a date and no time of day: no prediction of that day can use these films."""
    if count := sum(entry.vague for entry in entries):
        got, remedy = f"{count} films without a time of day", "give times; each was taken as the end of its day"
        problems.append(
            Problem("date-without-time", FOLDER, "", "time", got, "a date and a time", remedy, severity="warning")
        )
