"""Films and slices as a screen shows them, with the shares of their regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FeatureShare, FloatArray
from medfusion.core.views import ImageView
from medfusion.modalities.imaging.geometry import border, border_name, region_name
from medfusion.modalities.imaging.payload import Film, Films, Scan
from medfusion.modalities.imaging.reader import FilmReader

DISPLAY_PIXELS = 640
"""Side of the shown square."""
MAX_SLICES = 6
"""How many slices of a volume are shown: those with the largest shares, in their order."""


def film_views(payload: Films, shares: Sequence[FeatureShare], reader: FilmReader) -> list[ImageView]:
    """Return one view per film, or per shown slice of a volume.

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
    views: list[ImageView] = []
    for number, film in enumerate(payload.films, start=1):
        if isinstance(film.source, Scan):
            views += _slices(film, film.source, by_name, reader)
        else:
            title = f"film {number}, {film.time:%Y-%m-%d %H:%M}"
            heat = _heat(f"film {number}", film, by_name, reader.grid)
            views.append(ImageView(title, _grey(reader.shown(film, DISPLAY_PIXELS)), heat))
    return views


def _slices(film: Film, scan: Scan, shares: Mapping[str, float], reader: FilmReader) -> list[ImageView]:
    places = film.planes(reader.planes(len(scan.numbers)))
    heats = np.array([_heat(place, film, shares, reader.grid) for place in places])
    # Several slices may share one plane of the map; each is shown with the heat of its plane.
    plane_of = np.repeat(np.arange(len(places)), [len(part) for part in np.array_split(scan.numbers, len(places))])
    weight = np.abs(heats[plane_of]).sum(axis=(1, 2))
    chosen = sorted(np.argsort(-weight, kind="stable")[:MAX_SLICES].tolist())
    planes, numbers = zip(*((scan.planes[index], scan.numbers[index]) for index in chosen), strict=True)
    shown = reader.slices(replace(scan, planes=planes, numbers=numbers), DISPLAY_PIXELS)
    when = f"{film.time:%Y-%m-%d %H:%M}"
    return [
        ImageView(
            f"slice {scan.numbers[index]} of {scan.total}, {when} ({scan.reason})",
            _grey(picture),
            heats[plane_of[index]],
        )
        for index, picture in zip(chosen, shown, strict=True)
    ]


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


def _grey(picture: FloatArray) -> NDArray[np.uint8]:
    return np.asarray(np.rint(picture * 255.0), dtype=np.uint8)
