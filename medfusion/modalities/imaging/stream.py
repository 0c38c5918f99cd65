"""Films in, embeddings out: decoding and the network side by side, with a bounded number of films on the way.

A film is read once, in a worker: bytes, digest, decoded square picture and filters. What a worker hands over waits for
the network, which runs on the threads that otherwise wait for workers. So at any time as many processors are busy as
there are threads, and none with anything but decoding and the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.backbone import Backbone
from medfusion.modalities.imaging.cache import EmbeddingCache
from medfusion.modalities.imaging.payload import Film, Scan, Source
from medfusion.modalities.imaging.pool import decoders, processors
from medfusion.modalities.imaging.scans import to_json

_PUT_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture to be read, and for whom."""

    path: str
    source: Source
    time: datetime
    subject_id: str = ""

    def problem(self, error: PayloadRejected) -> Problem:
        """Return what is wrong with it, named as the cohort does."""
        where = f"subject {self.subject_id}" if self.subject_id else ""
        return replace(error.problem, file=self.path, where=where, subject_id=self.subject_id)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A film that waits for the network: the pictures it is to see, and the mean of the filters."""

    asked: Asked
    film: Film
    planes: FloatArray
    filters: FloatArray


Result = tuple[Asked, Film | Problem]


class Embedder:
    """Embeds films; see the module.

    Parameters
    ----------
    backbone : Backbone
    size : int
        Side of the square that the backbone sees, in pixels.
    cache_folder : Path or None
    identity : mapping
        What an embedding depends on besides the film.
    """

    def __init__(self, backbone: Backbone, size: int, cache_folder: Path | None, identity: Mapping[str, str]) -> None:
        self._backbone = backbone
        self._size = size
        self._cache = EmbeddingCache(cache_folder, identity, backbone.dimensions)
        kept = None
        if cache_folder is not None:
            kept = [str(cache_folder.absolute()), json.dumps(dict(identity)), backbone.dimensions]
        self._arguments = {
            "size": size,
            "network": bool(backbone.network),
            "filters": backbone.filter_scale,
            "cache": kept,
        }

    def one(self, asked: Asked) -> Film:
        """Read one film.

        Raises
        ------
        PayloadRejected
            If it cannot be used.
        """
        ((_, result),) = self.all([asked])
        if isinstance(result, Problem):
            raise PayloadRejected(result)
        return result

    def all(self, asked: Iterable[Asked]) -> Iterator[Result]:
        """Yield each film with its embedding, or what is wrong with it, as they become ready.

        Raises
        ------
        UsageError
            If the weights do not fit the network.
        """
        computed: dict[str, FloatArray] = {}
        with ThreadPoolExecutor(processors()) as pool:
            try:
                for each, result, is_new in self._flow(asked, pool):
                    if is_new and isinstance(result, Film):
                        computed[result.digest] = result.embedding
                    if len(computed) >= _PUT_AT_ONCE:
                        self._cache.put(computed)
                        computed = {}
                    yield each, result
            finally:
                pool.shutdown(cancel_futures=True)
                self._cache.put(computed)

    def _flow(self, asked: Iterable[Asked], pool: ThreadPoolExecutor) -> Iterator[tuple[Asked, Film | Problem, bool]]:
        todo, most = iter(asked), 2 * processors()
        running: set[Future[list[_Seen | tuple[Asked, Film | Problem, bool]]]] = set()
        waiting: list[_Seen] = []
        while True:
            running |= {pool.submit(self._look, each) for each in islice(todo, max(0, most - len(running)))}
            if waiting and (not running or self._is_batch(waiting)):
                running.add(pool.submit(self._embed, waiting))
                waiting = []
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for result in (each for future in done for each in future.result()):
                if isinstance(result, _Seen):
                    waiting.append(result)
                else:
                    yield result

    def _is_batch(self, waiting: Sequence[_Seen]) -> bool:
        return sum(len(each.planes) for each in waiting) >= self._backbone.batch(self._size)

    def _look(self, asked: Asked) -> list[_Seen | tuple[Asked, Film | Problem, bool]]:
        """Have a worker read and decode a film."""
        scan = asked.source if isinstance(asked.source, Scan) else None
        source = b"" if isinstance(asked.source, Scan) else asked.source
        arguments = {**self._arguments, "scan": to_json(scan) if scan else None}
        try:
            told, array = decoders().run("see", arguments, source, files=len(scan.files) if scan else 1)
        except PayloadRejected as error:
            return [(asked, asked.problem(error), True)]
        size = (told["size"][0], told["size"][1])
        film = Film(asked.path, asked.source, asked.time, size, told["content"], told["digest"], array, told["facts"])
        if not told["planes"]:
            return [(asked, film, not told["kept"])]
        shape = (told["planes"], self._size, self._size)
        pixels = told["planes"] * self._size**2
        planes = array[:pixels].reshape(shape)
        return [_Seen(asked, film, planes[None] if self._backbone.sees_volumes else planes, array[pixels:])]

    def _embed(self, seen: Sequence[_Seen]) -> list[_Seen | tuple[Asked, Film | Problem, bool]]:
        """Show a batch of films to the network."""
        same = {each.planes.shape[1:] for each in seen}
        # Volumes have as many slices as they have; each is a batch.
        groups = [list(seen)] if len(same) == 1 else [[each] for each in seen]
        results: list[_Seen | tuple[Asked, Film | Problem, bool]] = []
        for group in groups:
            means = self._backbone.means(np.concatenate([each.planes for each in group]))
            ends = np.cumsum([len(each.planes) for each in group])[:-1]
            for each, own in zip(group, np.split(means, ends), strict=True):
                embedding = np.concatenate([own.mean(axis=0).astype(np.float32), each.filters])
                results.append((each.asked, replace(each.film, embedding=embedding), True))
        return results
