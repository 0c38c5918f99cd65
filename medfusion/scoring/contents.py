"""Fingerprints of what a model could see of a sample, so that what has not changed need not be scored again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from medfusion.core.tables import ROW
from medfusion.core.types import Records

LOCATION = "location"
"""The column of an index with the absolute path of a file that a row points at; what counts is what is in the file."""
_THREADS = 4
Known = tuple[int, int, str]
"""Bytes of a file, when it was last changed (ns), and the SHA-256 of its content."""


class FileContents:
    """The digests of files; those that have not been touched since are not read again.

    Parameters
    ----------
    before : mapping from path to (bytes, nanoseconds, digest)
    """

    def __init__(self, before: Mapping[str, Known]) -> None:
        self._before = before
        self.now: dict[str, Known] = {}

    def read(self, paths: Iterable[str]) -> None:
        """Find the digests of files; one that cannot be read has none."""
        new = sorted(set(paths) - set(self.now))
        with ThreadPoolExecutor(_THREADS) as pool:
            found = dict(zip(new, pool.map(self._digest, new), strict=True))
        self.now |= {path: known for path, known in found.items() if known is not None}

    def digest(self, path: str) -> str:
        """Return the digest of a file that was read; empty if it could not be."""
        return self.now[path][2] if path in self.now else ""

    def _digest(self, path: str) -> Known | None:
        try:
            stat = os.stat(path)
            old = self._before.get(path)
            if old is not None and old[:2] == (stat.st_size, stat.st_mtime_ns):
                return old
            with Path(path).open("rb") as file:
                return stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None


def input_hashes(fingerprint: str, records: Mapping[str, Sequence[Records]], contents: FileContents) -> list[str]:
    """Return a hash per sample of everything that decides its prediction.

    Parameters
    ----------
    fingerprint : str
        Of the model and the options.
    records : mapping from modality to sequence of Records, length n
        As of the prediction times; of the same samples in the same order.
    contents : FileContents
        Reads the files that rows point at.

    Returns
    -------
    list of str, length n
        32 hexadecimal digits.
    """
    rows = {name: _row_hashes([each.table for each in some], contents) for name, some in records.items()}
    first = next(iter(records.values()), ())
    hashes = []
    for place, record in enumerate(first):
        digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
        digest.update(f"{record.subject_id} {record.as_of.isoformat()}".encode())
        digest.update(json.dumps(dict(record.subject), sort_keys=True, default=str).encode())
        for name, each in rows.items():
            digest.update(name.encode() + each[place].tobytes())
        hashes.append(digest.hexdigest())
    return hashes


def _row_hashes(tables: Sequence[pa.Table], contents: FileContents) -> list[np.ndarray]:
    """Hash the rows of tables, all at once, by their values."""
    counts = [table.num_rows for table in tables]
    there = [table for table in tables if table.num_rows]
    if not there:
        return [np.empty(0, dtype=np.uint64)] * len(tables)
    table = pa.concat_tables(there).unify_dictionaries()
    frame = table.drop_columns([name for name in (ROW,) if name in table.column_names]).to_pandas()
    if LOCATION in frame:
        contents.read(frame[LOCATION])
        frame[LOCATION] = frame[LOCATION].map(contents.digest)
    hashed = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return np.split(hashed, np.cumsum(counts)[:-1])
