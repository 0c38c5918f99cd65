"""Films as a screen shows them, with the shares of their regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FeatureShare
from medfusion.core.views import ImageView
from medfusion.modalities.imaging.geometry import border, border_name, letterbox, region_name
from medfusion.modalities.imaging.payload import Film, Films
from medfusion.modalities.imaging.pixels import decode, load

DISPLAY_PIXELS = 640
"""Side of the shown square."""


def film_views(payload: Films, shares: Sequence[FeatureShare], grid: int) -> list[ImageView]:
    """Return one view per film.

    Parameters
    ----------
    payload : Films
    shares : sequence of FeatureShare
        The lines of this modality in a ledger; regions that are not among them have a heat of 0.
    grid : int
        Rows and columns of a feature map.

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
    return [_view(number, film, by_name, grid) for number, film in enumerate(payload.films, start=1)]


def _view(number: int, film: Film, shares: dict[str, float], grid: int) -> ImageView:
    heat = np.array(
        [
            [shares.get(region_name(number, row, column), 0.0) for column in range(1, grid + 1)]
            for row in range(1, grid + 1)
        ]
    )
    outside = border(film.size, grid)
    if outside.any():
        heat[outside] = shares.get(border_name(number), 0.0) / outside.sum()
    return ImageView(f"film {number}, {film.time:%Y-%m-%d %H:%M}", _shown(film), heat)


def _shown(film: Film) -> NDArray[np.uint8]:
    square = letterbox(decode(load(film.source)), DISPLAY_PIXELS)
    return np.asarray(np.rint(square * 255.0), dtype=np.uint8)
