"""Which films there are, whose they are, and when they were taken: everything that needs no pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.schema import Column, TableSchema
from medfusion.modalities.imaging.clock import BadTime, taken_at
from medfusion.modalities.imaging.headers import SLICES, read_header

FOLDER = "imaging/"
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
    volume: tuple[str, str]
    vague: bool


def index_films(folder: CohortFolder) -> pa.Table | None:
    """List the films of a cohort folder.

    With ``imaging.csv`` (or ``.parquet``), that table decides; else every DICOM file at any depth below ``imaging/``
    whose header names a patient and a time (see `clock`). Linked folders are followed, each real folder once.

    Returns
    -------
    pyarrow.Table or None
        Columns ``subject_id``, ``time``, ``path`` (relative to the cohort folder), ``location`` (absolute) and
        ``study`` (films of one value belong together); None if there is no film.
    """
    with warnings.catch_warnings():
        # What pydicom remarks on a header is either harmless or ends in a problem.
        warnings.simplefilter("ignore")
        tables = [file for file in _TABLES if os.path.lexists(folder.root / file)]
        candidates = _listed(folder, tables[0]) if tables else _found(folder)
        entries = [entry for candidate in candidates if (entry := _entry(candidate, folder.problems)) is not None]
    entries = _of_one_clock(_without_volumes(entries, folder.problems), folder.problems)
    if not entries:
        return None
    _note_vague(entries, folder.problems)
    zone = "UTC" if entries[0].time.tzinfo else None
    for file in _TABLES:
        # Its column of times may be empty; what the films together say, counts.
        folder.zoned.pop(file, None)
    folder.zoned[FOLDER] = zone is not None
    names = ("subject_id", "path", "location", "study")
    columns = {name: pa.array([getattr(entry, name) for entry in entries], pa.string()) for name in names}
    times = pa.array([entry.time for entry in entries], pa.timestamp("us", tz=zone))
    return pa.table({"subject_id": columns.pop("subject_id"), "time": times, **columns})


def _found(folder: CohortFolder) -> Iterator[_Candidate]:
    """Yield every file below imaging/, in the order of names."""
    seen: set[str] = set()
    for parent, directories, files in os.walk(folder.root / "imaging", followlinks=True):
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
            yield _Candidate(file.relative_to(folder.root).as_posix(), file, row["subject_id"], row.get("time"))
            continue
        where, subject = f"row {row['row']}", row["subject_id"]
        folder.problems.append(Problem(code, name, where, "path", row["path"], expected, remedy, subject_id=subject))


def _entry(candidate: _Candidate, problems: list[Problem]) -> _Entry | None:
    """Return a film's line of the index, or None and a problem."""
    subject = candidate.subject_id or ""
    try:
        kind, header = read_header(candidate.file)
        subject = subject or header.get("PatientID", "")
        if kind in {"directory", "other"} or (kind == "picture" and candidate.subject_id is None):
            raise PayloadRejected(_not_a_film(kind, candidate.subject_id is not None))
        return _dated(candidate, subject, header)
    except PayloadRejected as error:
        where = f"subject {subject}" if subject else ""
        problems.append(replace(error.problem, file=candidate.path, where=where, subject_id=subject))
        return None


def _not_a_film(kind: str, listed: bool) -> Problem:
    """Say that a file is no film: a remark where it merely lies in the folder, an error where it was asked for."""
    got = {"directory": "a DICOMDIR", "picture": "PNG or JPEG", "other": "another format"}[kind]
    if listed:
        return Problem("not-dicom", "", "", "file", got, "DICOM, PNG or JPEG", "name another file, or convert it")
    remedy = {"directory": "nothing has to be done", "picture": "list it in imaging.csv"}.get(kind, "remove it")
    return Problem("not-dicom", "", "", "file", got, "a DICOM image", remedy, severity="warning")


def _dated(candidate: _Candidate, subject: str, header: dict[str, str]) -> _Entry:
    if not subject:
        remedy = "fill it in, or list the file in imaging.csv"
        raise PayloadRejected(Problem("missing-patient-id", "", "", "PatientID", "", "who the film is of", remedy))
    try:
        time = candidate.time or taken_at(header)
    except BadTime as error:
        remedy = "correct it, or give the time in imaging.csv"
        raise PayloadRejected(Problem("bad-time", "", "", error.keyword, error.got, "a DICOM time", remedy)) from None
    if time is None:
        remedy = "fill in the header, or the column time of imaging.csv"
        raise PayloadRejected(Problem("missing-time", "", "", "time", "", "when the film was taken", remedy))
    study = header.get("StudyInstanceUID", "") or time.isoformat()
    volume = (header.get("SOPClassUID", ""), header.get("SeriesInstanceUID", ""))
    vague = candidate.time is None and (time.second, time.microsecond) == (59, 999_999)
    return _Entry(subject, time, candidate.path, str(candidate.file), study, volume, vague)


def _without_volumes(entries: list[_Entry], problems: list[Problem]) -> list[_Entry]:
    """Leave out series of several slices, with one problem for each: no slice may stand for a volume."""
    series: dict[tuple[str, tuple[str, str]], list[_Entry]] = {}
    for entry in entries:
        if entry.volume[0] in SLICES and entry.volume[1]:
            series.setdefault((entry.subject_id, entry.volume), []).append(entry)
    left_out: set[str] = set()
    for (subject, (sop, _)), slices in series.items():
        if len(slices) > 1:
            got, where = f"{len(slices)} {SLICES[sop]} slices of one series", f"subject {subject}"
            remedy = "leave the series out; volumes are not read"
            problem = Problem("not-2d", slices[0].path, where, "file", got, "a 2D image", remedy, subject_id=subject)
            problems.append(problem)
            left_out.update(entry.path for entry in slices)
    return [entry for entry in entries if entry.path not in left_out]


def _of_one_clock(entries: list[_Entry], problems: list[Problem]) -> list[_Entry]:
    """Keep films whose times can be compared: all in UTC or all naive, whichever are more."""
    zoned = sum(entry.time.tzinfo is not None for entry in entries)
    keep_zoned = 2 * zoned > len(entries)
    kept = [entry for entry in entries if (entry.time.tzinfo is not None) == keep_zoned]
    expected = "a time zone, as most films have" if keep_zoned else "no time zone, as most films"
    remedy = "give every film TimezoneOffsetFromUTC, or none; or give all times in imaging.csv"
    for entry in entries:
        if (entry.time.tzinfo is not None) != keep_zoned:
            got, subject = entry.time.isoformat(), entry.subject_id
            where = f"subject {subject}"
            problem = Problem("mixed-time-zones", entry.path, where, "time", got, expected, remedy, subject_id=subject)
            problems.append(problem)
    return kept


def _note_vague(entries: list[_Entry], problems: list[Problem]) -> None:
    """Say once how many headers have a date and no time of day: no prediction of that day can use these films."""
    if count := sum(entry.vague for entry in entries):
        got, remedy = f"{count} films without a time of day", "give times; each was taken as the end of its day"
        problems.append(
            Problem("date-without-time", FOLDER, "", "time", got, "a date and a time", remedy, severity="warning")
        )
