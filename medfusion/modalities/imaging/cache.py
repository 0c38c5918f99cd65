"""Embeddings kept by what they were computed from, so that no film is decoded twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from medfusion.core.errors import MedfusionWarning
from medfusion.core.types import FloatArray

FILE = "imaging-1.sqlite"
"""The number changes with the layout of the file."""
_PATIENCE_S = 60.0


class EmbeddingCache:
    """A file from the content of a film to its embedding; several processes may use it at once.

    A cache is a help, not a need: where it cannot be read or written, a warning says so and work goes on without it.

    Parameters
    ----------
    folder : Path or None
        None for no cache.
    identity : mapping from str to str
        What an embedding depends on besides the film (backbone, weights, preprocessing); part of every key.
    dimensions : int
        Length of an embedding.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = EmbeddingCache(Path(folder), {"backbone": "filters"}, 2)
    ...     cache.put({"a": np.array([1.0, 2.0], dtype=np.float32)})
    ...     cache.get(["a", "b"])
    {'a': array([1., 2.], dtype=float32)}
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, str], dimensions: int) -> None:
        self._path = None if folder is None else folder / FILE
        self._identity = json.dumps(dict(identity), sort_keys=True)
        self._bytes = 4 * dimensions

    def get(self, digests: Iterable[str]) -> dict[str, FloatArray]:
        """Return the embeddings that are there, by digest of the film."""
        if self._path is None or not self._path.exists():
            return {}
        keys = {self._key(digest): digest for digest in digests}
        # One parameter for any number of keys.
        query = "SELECT key, value FROM embedding WHERE key IN (SELECT value FROM json_each(?))"
        try:
            with closing(self._connect(self._path)) as connection:
                rows = connection.execute(query, (json.dumps(list(keys)),)).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        return {keys[key]: np.frombuffer(value, "<f4") for key, value in rows if len(value) == self._bytes}

    def put(self, embeddings: Mapping[str, FloatArray]) -> None:
        """Keep embeddings, by digest of the film."""
        if self._path is None or not embeddings:
            return
        rows = [(self._key(digest), np.asarray(value, "<f4").tobytes()) for digest, value in embeddings.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect(self._path)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS embedding (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
                connection.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_PATIENCE_S)

    def _key(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._identity}".encode()).hexdigest()

    def _give_up(self, error: Exception) -> None:
        said = f"the cache of image embeddings, {self._path}, is not used ({error}); delete it if it is damaged"
        warnings.warn(said, MedfusionWarning, stacklevel=3)
        self._path = None
