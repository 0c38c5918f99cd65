"""Films and volumes as a screen shows them, with the shares of their regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medfusion.core.types import FeatureShare, FloatArray
from medfusion.core.views import ImageView
from medfusion.modalities.imaging.geometry import border, border_name, region_name
from medfusion.modalities.imaging.payload import Film, Films, Scan
from medfusion.modalities.imaging.reader import FilmReader
from medfusion.modalities.imaging.scans import evenly

MAX_SIDE = 1024
"""Side of the shown square, in pixels, at most."""
MAX_PIXELS = 2**23
"""How many pixels are shown of a volume at most: its slices get smaller the more there are."""
MAX_SLICES = 64
"""How many slices are shown of a volume at most: those that the network saw come first."""


def film_views(payload: Films, shares: Sequence[FeatureShare], reader: FilmReader) -> list[ImageView]:
    """Return one view per film or volume.

    Parameters
    ----------
    payload : Films
    shares : sequence of FeatureShare
        The lines of this modality in a ledger; regions that are not among them have a heat of 0.
    reader : FilmReader
        Reads the pixels again.

    Returns
    -------
    list of ImageView
        With the black border that makes a film square, so that the grid of the heat fits the picture.

    Raises
    ------
    PayloadRejected
        If a film cannot be read any more.
    """
    by_name = {line.feature: line.share for line in shares}
    return [
        _volume(film, film.source, by_name, reader)
        if isinstance(film.source, Scan)
        else _film(f"film {number}", film, by_name, reader)
        for number, film in enumerate(payload.films, start=1)
    ]


def _film(name: str, film: Film, shares: Mapping[str, float], reader: FilmReader) -> ImageView:
    heat = _heat(name, film, shares, reader.grid)[None]
    return _view(f"{name}, {film.time:%Y-%m-%d %H:%M}", film, heat, reader, [name])


def _volume(film: Film, scan: Scan, shares: Mapping[str, float], reader: FilmReader) -> ImageView:
    numbers = _shown(scan)
    places = film.planes(reader.planes(len(scan.numbers)))
    heats = [_heat(place, film, shares, reader.grid) for place in places]
    # Several slices may share one plane of the map; each is shown with the heat of its plane.
    planes = np.repeat(np.arange(len(places)), [len(part) for part in np.array_split(scan.numbers, len(places))])
    heat_of = {number: heats[plane] for number, plane in zip(scan.numbers, planes, strict=True)}
    unseen = np.full((reader.grid, reader.grid), np.nan)
    heat = np.array([heat_of.get(number, unseen) for number in numbers])
    names = [f"slice {number} of {scan.total}" for number in numbers]
    return _view(f"volume, {film.time:%Y-%m-%d %H:%M} ({scan.reason})", film, heat, reader, names, numbers)


def _shown(scan: Scan) -> list[int]:
    """Return which slices are shown, counted from 1: those that the network saw, and others evenly between."""
    seen = [scan.numbers[place] for place in evenly(len(scan.numbers), MAX_SLICES)]
    if scan.total <= MAX_SLICES:
        return list(range(1, scan.total + 1))
    others = [number for number in range(1, scan.total + 1) if number not in set(scan.numbers)]
    return sorted([*seen, *(others[place] for place in evenly(len(others), MAX_SLICES - len(seen)))])


def _view(
    title: str, film: Film, heat: FloatArray, reader: FilmReader, names: list[str], numbers: Sequence[int] = ()
) -> ImageView:
    side = min(MAX_SIDE, int((MAX_PIXELS / len(names)) ** 0.5), max(film.size))
    levels = reader.levels(film, side, numbers)
    window = (levels.low + levels.high) / 2, (levels.high - levels.low) or 1.0
    return ImageView(title, levels.values, heat, window, levels.unit, names)


def _heat(place: str, film: Film, shares: Mapping[str, float], grid: int) -> FloatArray:
    heat = np.array(
        [
            [shares.get(region_name(place, row, column), 0.0) for column in range(1, grid + 1)]
            for row in range(1, grid + 1)
        ]
    )
    outside = border(film.size, grid)
    if outside.any():
        heat[outside] = shares.get(border_name(place), 0.0) / outside.sum()
    return heat
