"""From the rows of an index to films with embeddings: decoding, the frozen backbone, and both only where needed."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.protocols import Advance
from medfusion.core.types import FloatArray, Records
from medfusion.modalities.imaging.backbone import STRIDE, Backbone
from medfusion.modalities.imaging.backends import REFERENCE
from medfusion.modalities.imaging.geometry import letterbox
from medfusion.modalities.imaging.grey import Levels
from medfusion.modalities.imaging.payload import Film, Films, Scan, Source
from medfusion.modalities.imaging.pixels import PIPELINE
from medfusion.modalities.imaging.pool import decoders, processors
from medfusion.modalities.imaging.scans import Found, find_scan, to_json
from medfusion.modalities.imaging.stream import Asked, Embedder

MAX_FILMS = 8
"""How many films of a study are used at most, the newest."""
STUDY_SPAN = timedelta(hours=12)
"""Films of one study that are further than this before its newest are taken as an earlier examination."""
Use = Literal["any", "films", "volumes"]
"""What is read of a study: a volume where there is one, else films; only films; only volumes."""
USES: tuple[Use, ...] = ("any", "films", "volumes")
_MAPS_KEPT = 64
_MAPS_BYTES = 512 * 2**20


class FilmReader:
    """Reads films and volumes; each is decoded once, however many samples it belongs to.

    Parameters
    ----------
    backbone : Backbone
    size : int
        Side of the square that the backbone sees, in pixels.
    cache_folder : Path or None
    use : {"any", "films", "volumes"}
    slices : int
        How many slices of a volume a backbone for pictures is shown; one for volumes is shown all.
    """

    def __init__(
        self, backbone: Backbone, size: int, cache_folder: Path | None, use: Use = "any", slices: int = 24
    ) -> None:
        self.backbone = backbone
        self.size = size
        self._use = use
        self._slices = None if backbone.sees_volumes else slices
        self._cache_folder = cache_folder
        self._maps: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = Lock()

    @property
    def grid(self) -> int:
        """Rows and columns of a feature map."""
        return self.size // STRIDE

    def planes(self, slices: int) -> int:
        """Return how many planes the feature map of a volume has, of which so many slices are shown."""
        return self.grid if self.backbone.sees_volumes else slices

    def identity(self) -> dict[str, str]:
        """Say what an embedding depends on besides the film."""
        slices = f"{self._slices} slices" if self._slices else "all slices"
        preprocessing = f"{PIPELINE} letterbox-{self.size} {self._use} {slices}"
        return {"backbone": self.backbone.name, "weights": self.backbone.digest, "preprocessing": preprocessing}

    def _embedder(self) -> Embedder:
        # Fp32 as in training is what embeddings of earlier versions were made with.
        run_by = {} if self.backbone.backend == REFERENCE else {"backend": self.backbone.run_by()}
        return Embedder(self.backbone, self.size, self._cache_folder, {**self.identity(), **run_by})

    def start(self) -> None:
        """Get the network and the decoders ready, so that the first picture does not wait for them."""
        self.backbone.load()
        decoders().start()

    def use(self, backend: str, calibration: FloatArray | None = None) -> None:
        """Have the network run by another backend from now on; see `Backbone.use`."""
        with self._lock:
            self._maps.clear()
        self.backbone.use(backend, calibration)

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[Films | None]:
        """Return the newest study of each record; see `Modality.read`."""
        with ThreadPoolExecutor(processors()) as pool, _quiet():
            # Samples of one patient ask for the same slices; what is odd about them is told once.
            find = cache(partial(find_scan, slices=self._slices))
            found = list(pool.map(lambda record: self._wanted(record, find), records))
        wanted = [asked for asked, _ in found]
        problems += dict.fromkeys(problem for _, said in found for problem in said)
        progress = _Progress([[each.source for each in asked] for asked in wanted], advance)
        distinct = {each.source: each for asked in wanted for each in asked}
        results: dict[Source, Film | Problem] = {}
        for asked, result in self._embedder().all(distinct.values()):
            results[asked.source] = result
            progress.done([asked.source])
        # In the order of the records, whichever was ready first.
        problems += [result for source in distinct if isinstance(result := results[source], Problem)]
        films = {source: result for source, result in results.items() if isinstance(result, Film)}
        return [_payload([films[each.source] for each in asked if each.source in films]) for asked in wanted]

    def read_one(self, path: str, source: Source, time: datetime) -> Film:
        """Read one film that belongs to nobody.

        Raises
        ------
        PayloadRejected
            If it cannot be used.
        """
        return self._embedder().one(Asked(path, source, time))

    def maps(self, film: Film) -> FloatArray:
        """Return a film's feature map; the last few are kept.

        Returns
        -------
        array (dimensions, grid, grid); of a volume (dimensions, planes, grid, grid)

        Raises
        ------
        PayloadRejected
            If the film cannot be read any more, or is not the one that it was.
        """
        with self._lock:
            if film.digest in self._maps:
                self._maps.move_to_end(film.digest)
                return self._maps[film.digest]
        maps = self.backbone.maps(self.shown(film, self.size))
        with self._lock:
            self._maps[film.digest] = maps
            while len(self._maps) > _MAPS_KEPT or sum(kept.nbytes for kept in self._maps.values()) > _MAPS_BYTES:
                self._maps.popitem(last=False)
        return maps

    def shown(self, film: Film, size: int) -> FloatArray:
        """Return what is shown of a film or volume, its proportions kept.

        Parameters
        ----------
        film : Film
        size : int
            Side of the square, in pixels.

        Returns
        -------
        array (size, size) or (slices, size, size), float32
            In [0, 1]; 0 is black.

        Raises
        ------
        PayloadRejected
            If the film cannot be read any more, or is not the one that it was.
        """
        with _named_after(film):
            return _squared(_decoded(film.source, size, film.digest), size)

    def levels(self, film: Film, size: int, numbers: Sequence[int] = ()) -> Levels:
        """Return what a reader may put a window on, the black border included.

        Parameters
        ----------
        film : Film
        size : int
            Side of the square, in pixels.
        numbers : sequence of int
            Which slices of a volume, counted from 1.

        Returns
        -------
        Levels
            Values (slices, size, size), float32, the lowest of which is black; a film is one slice.

        Raises
        ------
        PayloadRejected
            If the film cannot be read any more, or is not the one that it was.
        """
        asked: dict[str, Any] = {"longest": size, "digest": film.digest, "scan": None}
        source, files = film.source, 1
        if isinstance(source, Scan):
            asked["scan"], files = {**to_json(source), "numbers": list(numbers)}, len(source.files)
        with _named_after(film):
            told, values = decoders().run("levels", asked, b"" if isinstance(source, Scan) else source, files=files)
        lowest = values.min()
        planes = values.reshape(-1, *values.shape[-2:])
        return Levels(_squared(planes - lowest, size) + lowest, **told)

    def _wanted(self, record: Records, find: Callable[[tuple[Path, ...]], Found]) -> tuple[list[Asked], list[Problem]]:
        """Return what is to be read for a record, and what could not be: a volume, or the newest films."""
        rows = newest_study(record.table)
        slices = [row for row in rows if row["series"]]
        films = [row for row in rows if not row["series"]]
        problems: list[Problem] = []
        if slices and self._use != "films":
            found = find(tuple(Path(row["location"]) for row in slices))
            problems = [_named(problem, slices, record.subject_id) for problem in found.problems]
            if found.scan is not None:
                path = next(row["path"] for row in slices if row["location"] == str(found.scan.planes[0][0]))
                return [Asked(path, found.scan, slices[-1]["time"], record.subject_id)], problems
            films = [row for row in rows if not row["series"] or Path(row["location"]) in found.images]
        if self._use == "volumes":
            return [], problems
        newest = films[-MAX_FILMS:]
        return [Asked(row["path"], Path(row["location"]), row["time"], record.subject_id) for row in newest], problems


def newest_study(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of the newest study, oldest first.

    Images belong to it if they have the time of the newest one, or its study and were taken at most 12 hours before
    it.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of one subject, sorted by time, as of the prediction time.
    """
    if not table.num_rows:
        return []
    rows: list[dict[str, Any]] = table.to_pylist()
    last = rows[-1]
    return [
        row
        for row in rows
        if row["time"] == last["time"] or (row["study"] == last["study"] and last["time"] - row["time"] <= STUDY_SPAN)
    ]


class _Progress:
    """Tells how many records are complete as their films become so."""

    def __init__(self, wanted: Sequence[Sequence[Source]], advance: Advance) -> None:
        self._advance = advance
        self._left = [len(set(sources)) for sources in wanted]
        self._records: dict[Source, list[int]] = {}
        for index, sources in enumerate(wanted):
            for source in set(sources):
                self._records.setdefault(source, []).append(index)
        if empty := self._left.count(0):
            advance(empty)

    def done(self, sources: Iterable[Source]) -> None:
        complete = 0
        for index in (index for source in sources for index in self._records[source]):
            self._left[index] -= 1
            complete += self._left[index] == 0
        if complete:
            self._advance(complete)


@contextmanager
def _named_after(film: Film) -> Iterator[None]:
    """Name a film that cannot be read as the cohort does."""
    try:
        yield
    except PayloadRejected as error:
        raise PayloadRejected(replace(error.problem, file=film.path)) from None


def _decoded(source: Source, longest: int, digest: str) -> FloatArray:
    """Decode in a worker; refuse what is not the picture of the digest."""
    if isinstance(source, Scan):
        asked = {**to_json(source), "longest": longest, "digest": digest}
        return decoders().run("scan", asked, files=len(source.files))[1]
    return decoders().decode(source, longest=longest, digest=digest)[1]


def _squared(picture: FloatArray, size: int) -> FloatArray:
    if picture.ndim == 2:
        return letterbox(picture, size)
    return np.stack([letterbox(plane, size) for plane in picture])


def _named(problem: Problem, rows: Sequence[Mapping[str, Any]], subject_id: str) -> Problem:
    """Name file and subject of a problem as the cohort does."""
    path = next((row["path"] for row in rows if row["location"] == problem.file), problem.file)
    return replace(problem, file=path, where=f"subject {subject_id}", subject_id=subject_id)


def _payload(films: Sequence[Film]) -> Films | None:
    """Count the same picture once, if a study holds it twice."""
    distinct = {film.digest: film for film in films}
    return Films(tuple(distinct.values())) if distinct else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what decoders remark from the user: a film is either usable or ends in a problem."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
