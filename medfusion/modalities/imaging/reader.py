"""From the rows of an index to films with embeddings: decoding, the frozen backbone, and both only where needed."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.protocols import Advance
from medfusion.core.types import FloatArray, Records
from medfusion.modalities.imaging.backbone import STRIDE, Backbone
from medfusion.modalities.imaging.cache import EmbeddingCache
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.payload import Film, Films, Source
from medfusion.modalities.imaging.pixels import PIPELINE, decode, load

MAX_FILMS = 8
"""How many films of a study are used at most, the newest."""
STUDY_SPAN = timedelta(hours=12)
"""Films of one study that are further than this before its newest are taken as an earlier examination."""
_CHUNK = 128
_MAPS_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Asked:
    """A film to be read, and for whom."""

    path: str
    source: Source
    time: datetime
    subject_id: str = ""

    def problem(self, error: PayloadRejected) -> Problem:
        where = f"subject {self.subject_id}" if self.subject_id else ""
        return replace(error.problem, file=self.path, where=where, subject_id=self.subject_id)


class FilmReader:
    """Reads films; one film is decoded once, however many samples it belongs to.

    Parameters
    ----------
    backbone : Backbone
    size : int
        Side of the square that the backbone sees, in pixels.
    cache_folder : Path or None
    """

    def __init__(self, backbone: Backbone, size: int, cache_folder: Path | None) -> None:
        self.backbone = backbone
        self.size = size
        self._cache_folder = cache_folder
        self._cache: EmbeddingCache | None = None
        self._maps: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = Lock()

    @property
    def grid(self) -> int:
        """Rows and columns of a feature map."""
        return self.size // STRIDE

    def identity(self) -> dict[str, str]:
        """Say what an embedding depends on besides the film."""
        preprocessing = f"{PIPELINE} letterbox-{self.size}"
        return {"backbone": self.backbone.name, "weights": self.backbone.digest, "preprocessing": preprocessing}

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[Films | None]:
        """Return the newest study of each record; see `Modality.read`."""
        wanted = [newest_study(entry.table) for entry in records]
        asked: dict[str, _Asked] = {}
        for entry, rows in zip(records, wanted, strict=True):
            for row in rows:
                location = row["location"]
                asked.setdefault(location, _Asked(row["path"], Path(location), row["time"], entry.subject_id))
        progress = _Progress(wanted, advance)
        films: dict[str, Film] = {}
        locations = list(asked)
        with ThreadPoolExecutor(_workers()) as pool:
            for start in range(0, len(locations), _CHUNK):
                chunk = {location: asked[location] for location in locations[start : start + _CHUNK]}
                films |= self._read_chunk(chunk, pool, problems, progress)
        return [_payload([films[row["location"]] for row in rows if row["location"] in films]) for rows in wanted]

    def read_one(self, path: str, source: Source, time: datetime) -> Film:
        """Read one film that belongs to nobody.

        Raises
        ------
        PayloadRejected
            If it cannot be used.
        """
        asked = _Asked(path, source, time)
        film = _examined(asked)
        if isinstance(film, Problem):
            raise PayloadRejected(film)
        return replace(film, embedding=_mean(self.maps(film)))

    def maps(self, film: Film) -> FloatArray:
        """Return a film's feature map, array (dimensions, grid, grid); the last few are kept.

        Raises
        ------
        PayloadRejected
            If the film cannot be read any more, or is not the one that it was.
        """
        with self._lock:
            if film.digest in self._maps:
                self._maps.move_to_end(film.digest)
                return self._maps[film.digest]
        try:
            maps = self._computed_maps(film)
        except PayloadRejected as error:
            raise PayloadRejected(replace(error.problem, file=film.path)) from None
        with self._lock:
            self._maps[film.digest] = maps
            while len(self._maps) > _MAPS_KEPT:
                self._maps.popitem(last=False)
        return maps

    def _computed_maps(self, film: Film) -> FloatArray:
        encoded = load(film.source)
        if encoded.digest != film.digest:
            raise rejected("changed-film", "file", "other pixels", "those that were read before", "start again")
        return self.backbone.maps(letterbox(decode(encoded), self.size))

    def _read_chunk(
        self, asked: Mapping[str, _Asked], pool: ThreadPoolExecutor, problems: list[Problem], progress: _Progress
    ) -> dict[str, Film]:
        """Return the films that can be used, by location."""
        seen: dict[str, Film] = {}
        with _quiet():
            for location, film in zip(asked, pool.map(_examined, asked.values()), strict=True):
                if isinstance(film, Film):
                    seen[location] = film
                else:
                    problems.append(film)
                    progress.done([location])
        if self._cache is None:
            self._cache = EmbeddingCache(self._cache_folder, self.identity(), self.backbone.dimensions)
        embeddings = self._cache.get({film.digest for film in seen.values()})
        missing: dict[str, list[str]] = {}
        for location, film in seen.items():
            if film.digest in embeddings:
                progress.done([location])
            else:
                missing.setdefault(film.digest, []).append(location)
        firsts = {digest: seen[locations[0]] for digest, locations in missing.items()}
        computed: dict[str, FloatArray] = {}
        with _quiet():
            for digest, result in self._embedded(firsts, pool):
                if isinstance(result, PayloadRejected):
                    problems.append(asked[missing[digest][0]].problem(result))
                else:
                    computed[digest] = result
                progress.done(missing[digest])
        self._cache.put(computed)
        embeddings |= computed
        found = {location: embeddings.get(film.digest) for location, film in seen.items()}
        return {place: replace(seen[place], embedding=value) for place, value in found.items() if value is not None}

    def _embedded(
        self, films: Mapping[str, Film], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[str, FloatArray | PayloadRejected]]:
        """Yield the embedding of each film, or why there is none, in their order."""
        if not films:
            return
        # Here and not in the threads: weights that do not fit are found once.
        self.backbone.load()

        def embed(film: Film) -> FloatArray | PayloadRejected:
            try:
                return _mean(self.maps(film))
            except PayloadRejected as error:
                return error

        yield from zip(films, pool.map(embed, films.values()), strict=True)


def newest_study(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of the newest study, oldest first.

    Films belong to it if they have the time of the newest film, or its study and were taken at most 12 hours before
    it; a later limit of 8 keeps the newest.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of one subject, sorted by time, as of the prediction time.
    """
    if not table.num_rows:
        return []
    rows: list[dict[str, Any]] = table.to_pylist()
    last = rows[-1]
    newest = [
        row
        for row in rows
        if row["time"] == last["time"] or (row["study"] == last["study"] and last["time"] - row["time"] <= STUDY_SPAN)
    ]
    return newest[-MAX_FILMS:]


class _Progress:
    """Tells how many records are complete as their films become so."""

    def __init__(self, wanted: Sequence[Sequence[Mapping[str, Any]]], advance: Advance) -> None:
        self._advance = advance
        self._left = [len({row["location"] for row in rows}) for rows in wanted]
        self._records: dict[str, list[int]] = {}
        for index, rows in enumerate(wanted):
            for location in {row["location"] for row in rows}:
                self._records.setdefault(location, []).append(index)
        if empty := self._left.count(0):
            advance(empty)

    def done(self, locations: Iterable[str]) -> None:
        complete = 0
        for index in (index for location in locations for index in self._records[location]):
            self._left[index] -= 1
            complete += self._left[index] == 0
        if complete:
            self._advance(complete)


def _examined(asked: _Asked) -> Film | Problem:
    """Return a film that has no embedding yet."""
    try:
        encoded = load(asked.source)
    except PayloadRejected as error:
        return asked.problem(error)
    nothing = np.empty(0, dtype=np.float32)
    return Film(asked.path, asked.source, asked.time, encoded.size, encoded.content, encoded.digest, nothing)


def _payload(films: Sequence[Film]) -> Films | None:
    """Count the same picture once, if a study holds it twice."""
    distinct = {film.digest: film for film in films}
    return Films(tuple(distinct.values())) if distinct else None


def _mean(maps: FloatArray) -> FloatArray:
    return np.asarray(maps.mean(axis=(1, 2), dtype=np.float64).astype(np.float32))


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what decoders remark from the user: a film is either usable or ends in a problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
