"""A few training pictures that a model keeps, to see whether a backend gives the risks that training gave."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import PayloadRejected
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.filters import filter_mean
from medfusion.modalities.imaging.payload import Film, Films, Scan
from medfusion.modalities.imaging.pool import processors
from medfusion.modalities.imaging.reader import FilmReader

MOST = 16
"""How many pictures are kept: enough to calibrate int8, few enough to leave the folder small."""
PICTURES = "pictures"
Check = Mapping[str, NDArray[np.uint8]]


def kept_pictures(payloads: Sequence[Films | None], reader: FilmReader) -> Check | None:
    """Choose pictures of training samples, evenly among them, as the network sees them.

    Parameters
    ----------
    payloads : sequence of Films or None
    reader : FilmReader

    Returns
    -------
    mapping or None
        ``pictures``, array (n, size, size), uint8; None where there is no film, or no network that looks at films.
    """
    if not reader.backbone.network or reader.backbone.sees_volumes:
        return None
    films = {
        film.digest: film
        for payload in payloads
        for film in (payload.films if payload is not None else ())
        if not isinstance(film.source, Scan)
    }
    distinct = list(films.values())
    chosen = [distinct[index] for index in np.unique(np.linspace(0, len(distinct) - 1, MOST).round().astype(int))]
    with ThreadPoolExecutor(processors()) as pool:
        shown = [picture for picture in pool.map(lambda film: _shown(film, reader), chosen) if picture is not None]
    return {PICTURES: np.stack(shown)} if shown else None


def _shown(film: Film, reader: FilmReader) -> NDArray[np.uint8] | None:
    # A film may vanish while a run goes on.
    with suppress(PayloadRejected):
        return np.asarray((reader.shown(film, reader.size) * 255).round(), dtype=np.uint8)
    return None


def as_grey(check: Check) -> FloatArray:
    """Return the pictures as the network takes them, array (n, size, size), float32, in [0, 1]."""
    return np.asarray(check[PICTURES], dtype=np.float32) / np.float32(255)


def checked(check: Check, reader: FilmReader) -> list[Films]:
    """Return a payload of each picture, embedded by the backend in use."""
    pictures, backbone = as_grey(check), reader.backbone
    parts = np.array_split(pictures, min(len(pictures), processors()))
    with ThreadPoolExecutor(processors()) as pool:
        means = np.concatenate(list(pool.map(backbone.means, parts))).astype(np.float32)
    films = []
    for number, (picture, mean) in enumerate(zip(pictures, means, strict=True)):
        filters = [filter_mean(picture[None], backbone.filter_scale)] if backbone.filter_scale else []
        embedding = np.concatenate([mean, *filters])
        name = f"check picture {number + 1}"
        films.append(Films((Film(name, b"", datetime(2000, 1, 1), picture.shape, name, name, embedding),)))
    return films


def rate(check: Check | None, reader: FilmReader, seconds: float) -> float:
    """Return how many pictures per second the backend in use manages on all processors.

    Parameters
    ----------
    check : mapping or None
        Where there is none, noise is run.
    reader : FilmReader
    seconds : float
        How long to run it, after one batch that does not count.
    """
    backbone, size = reader.backbone, reader.size
    batch = backbone.batch(size)
    if check is not None:
        pictures = np.resize(as_grey(check), (batch, size, size))
    else:
        shape = (batch, *(size,) * (3 if backbone.sees_volumes else 2))
        pictures = np.random.default_rng(0).random(shape, dtype=np.float32)

    def until(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            backbone.means(pictures)
            done += batch
        return done

    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(backbone.means, [pictures] * processors()))
        start = time.perf_counter()
        done = sum(pool.map(until, [start + seconds] * processors()))
        return done / (time.perf_counter() - start)
