"""What a scoring run has done so far: who writes to a folder, which parts are finished, and what they were made of.

A part's tables are written one after the other, each in one piece, and then its record. Every table carries the token
of the record that it belongs to, so a stop between two of them, at whatever moment, is noticed, and the part done anew.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from medfusion.core.errors import RunStopped, UsageError
from medfusion.core.files import atomic, write_text

TABLES = ("predictions", "ledger", "quarantine")
"""What scoring writes, each a folder ``<name>.parquet`` of Parquet files that together are one table."""
_STATE, _HOLDER = ".state", "holder.json"
_TOKEN = b"medfusion.record"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a table of labels.

    Attributes
    ----------
    rows : int
        Rows of the labels.
    samples : int
        Samples that these rows name; copies, and rows that contradict each other or cannot be read, make none.
    scored : int
        Samples with a prediction that was written in this run.
    unchanged : int
        Samples with a prediction from before, by the same model from the same data.
    failed : int
        Samples that could not be scored; they are in quarantine.
    quarantined : int
        Rows of the quarantine: files, records and samples.

    Examples
    --------
    >>> both = Counts(rows=3, samples=2, scored=1, failed=1) + Counts(rows=1, samples=1, unchanged=1)
    >>> both.rows, both.left_out, both.balanced
    (4, 1, True)
    """

    rows: int = 0
    samples: int = 0
    scored: int = 0
    unchanged: int = 0
    failed: int = 0
    quarantined: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, others = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})

    @property
    def left_out(self) -> int:
        """Rows of the labels that are no sample of their own."""
        return self.rows - self.samples

    @property
    def balanced(self) -> bool:
        """Whether every sample is accounted for."""
        return self.samples == self.scored + self.unchanged + self.failed


@dataclass(frozen=True, slots=True)
class Kept:
    """What a finished part holds.

    Attributes
    ----------
    tables : mapping from name to pyarrow.Table
    files : mapping from path to (bytes, nanoseconds, digest)
        How large the files were that it was made of, when they were changed, and what was in them.
    """

    tables: Mapping[str, pa.Table]
    files: Mapping[str, tuple[int, int, str]]


class Journal:
    """The folder of a scoring run.

    Parameters
    ----------
    out : Path
    source : str
        What the parts are named by; several cohorts that are scored into one folder have different ones.
    tables : sequence of str
        Those of `TABLES` that are written.
    run : str
        Which run a worker belongs to: one that outlives its run writes nothing any more. Who takes the folder makes a
        new one.
    """

    def __init__(self, out: Path, source: str = "part", tables: Sequence[str] = TABLES, run: str = "") -> None:
        self.out = out
        self.run = run
        self.source = source
        self.tables = tuple(tables)
        self._state = out / _STATE
        self._own = self._state / source
        self._lock = FileLock(self._state / "lock")

    @property
    def staging(self) -> Path:
        """A place for what is not needed after the run."""
        return self._own / "staging"

    def __enter__(self) -> Self:
        """Take the folder.

        Raises
        ------
        UsageError
            If another run is writing to it, or it holds something else.
        """
        if old := [name for name in TABLES if (self.out / f"{name}.parquet").is_file()]:
            raise UsageError(f"{self.out} holds {old[0]}.parquet as one file, from before; name another folder")
        self._state.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UsageError(
                f"{self.out} is being written by {self._holder()}; wait for it, or name another folder"
            ) from None
        self.run = secrets.token_hex(8)
        said = {
            "run": self.run,
            "pid": os.getpid(),
            "host": platform.node(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(self._state / _HOLDER, json.dumps(said))
        self._sweep()
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        (self._state / _HOLDER).unlink(missing_ok=True)
        self._lock.release()

    def remember(self, name: str, said: Mapping[str, Any]) -> None:
        """Keep JSON values for later runs into the folder, whatever their source."""
        write_text(self._state / f"{name}.json", json.dumps(said))

    def recalled(self, name: str) -> dict[str, Any]:
        """Return what was kept; empty if nothing was."""
        return _json(self._state / f"{name}.json")

    @property
    def planned(self) -> int | None:
        """Into how many parts the cohort was divided before; None where there is no before."""
        said = _json(self._own / "plan.json")
        return int(said["parts"]) if said.get("format") == _FORMAT else None

    def plan(self, parts: int) -> None:
        """Note into how many parts the cohort is divided, now and later: a patient stays in one part."""
        self._own.mkdir(parents=True, exist_ok=True)
        write_text(self._own / "plan.json", json.dumps({"format": _FORMAT, "parts": parts}))

    def kept(self, part: int) -> Kept | None:
        """Return what a finished part holds; None where it is not finished, or something of it is missing."""
        record = _json(self._record(part))
        try:
            tables = {name: pq.read_table(self._table(name, part)) for name in self.tables}
        except (OSError, pa.ArrowException):
            return None
        tokens = {(table.schema.metadata or {}).get(_TOKEN, b"").decode() for table in tables.values()}
        if tokens != {record.get("token")}:
            return None
        files = {
            path: (int(size), int(changed), str(digest)) for path, (size, changed, digest) in record["files"].items()
        }
        return Kept({name: table.replace_schema_metadata(None) for name, table in tables.items()}, files)

    def commit(self, part: int, tables: Mapping[str, pa.Table], files: Mapping[str, tuple[int, int, str]]) -> None:
        """Write the tables of a part, and then that it is finished.

        Raises
        ------
        OSError
            If they cannot be written; what was there before may then be half replaced, which `kept` notices.
        RunStopped
            If the folder is no longer this run's.
        """
        if _json(self._state / _HOLDER).get("run") != self.run:
            raise RunStopped(f"{self.out} is no longer this run's: it has ended, or another has begun")
        token = secrets.token_hex(8)
        for name in self.tables:
            path = self._table(name, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary:
                pq.write_table(tables[name].replace_schema_metadata({_TOKEN: token.encode()}), temporary)
        for name in set(TABLES) - set(self.tables):
            self._table(name, part).unlink(missing_ok=True)
        self._record(part).parent.mkdir(parents=True, exist_ok=True)
        write_text(self._record(part), json.dumps({"token": token, "files": dict(files)}))

    @property
    def closed(self) -> bool:
        """Whether the source was scored to its end, and is not to be looked at again."""
        return (self._own / "closed").is_file()

    def close(self) -> None:
        """Note that the source need not be looked at again."""
        self._own.mkdir(parents=True, exist_ok=True)
        write_text(self._own / "closed", datetime.now(UTC).isoformat(timespec="seconds"))

    def note(self, name: str, told: Mapping[str, Any]) -> None:
        """Write what is known about the run as a whole to ``<name>.json``."""
        write_text(self.out / f"{name}.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def whole(self, name: str) -> Path:
        """Return where rows of a table stand that belong to no part."""
        path = self.out / f"{name}.parquet" / f"{self.source}-cohort.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def rows(self, name: str) -> int:
        """Count the rows of a table that are on the disk."""
        folder = self.out / f"{name}.parquet"
        # Another source may be called as this one and more.
        mine = re.compile(re.escape(self.source) + r"-\d{5,}\.parquet")
        return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet") if mine.fullmatch(file.name))

    @classmethod
    def finished(cls, out: Path) -> tuple[list[dict[str, Path]], int]:
        """Look for what can be relied on in a folder that nobody needs to have taken, a run that is on included.

        Returns
        -------
        list of dict from table to Path
            The files of each finished part, whatever its source; ``ledger`` is missing where none was written.
        int
            How many parts have files of predictions and are not finished.
        """
        parts = []
        for record in sorted((out / _STATE).glob("*/finished/*.json")):
            journal, token = cls(out, record.parent.parent.name), _json(record).get("token")
            files = {name: journal._table(name, int(record.stem)) for name in TABLES}
            files = {name: file for name, file in files.items() if file.is_file()}
            if "predictions" in files and {_token(file) for file in files.values()} == {token}:
                parts.append(files)
        there = sum(re.search(r"-\d{5,}$", file.stem) is not None for file in out.glob("predictions.parquet/*.parquet"))
        return parts, there - len(parts)

    @classmethod
    def last_finished(cls, out: Path) -> int:
        """Return when a part was last finished, in nanoseconds since 1970; 0 where none was."""
        return max((folder.stat().st_mtime_ns for folder in (out / _STATE).glob("*/finished")), default=0)

    def _table(self, name: str, part: int) -> Path:
        return self.out / f"{name}.parquet" / f"{self.source}-{part:05d}.parquet"

    def _record(self, part: int) -> Path:
        return self._own / "finished" / f"{part:05d}.json"

    def _holder(self) -> str:
        said = _json(self._state / _HOLDER)
        return f"process {said['pid']} on {said['host']} since {said['since']}" if said else "another process"

    def _sweep(self) -> None:
        """Remove what a run that was killed left behind."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for left in self.out.rglob(".*.tmp"):
            left.unlink(missing_ok=True)


def _token(path: Path) -> str | None:
    """Return the record that a table is of; None where the file is not whole."""
    try:
        metadata: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    return metadata.get(_TOKEN, b"").decode()


def _json(path: Path) -> dict[str, Any]:
    """Read a file of the state; what is not there, or not whole, says nothing."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
