"""What a screen or a report shows of a payload, by kind: a renderer knows three kinds, never a modality's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class ImageView:
    """A film, or slices of a volume, with the shares of their regions.

    Attributes
    ----------
    title : str
    pixels : array (slices, height, width), float32
        Finite values in ``unit``, of which the lowest is black; a film is one slice.
    heat : array (slices, rows, columns), float
        Log-odds per region of an even grid over each slice; row 0 is the top, column 0 the left of the picture. NaN in
        slices that the model was not shown.
    window : (centre, width)
        Of the values that are shown from black to white at first, in ``unit``.
    unit : str
        Empty for grey values without one.
    names : sequence of str, length slices
        What each slice is called.

    Examples
    --------
    >>> pixels = np.array([[[0.0, 50.0, 100.0]]], dtype=np.float32)
    >>> ImageView("film 1", pixels, np.zeros((1, 2, 2)), (50.0, 50.0), "", ["film 1"]).grey(0).tolist()
    [[0, 128, 255]]
    """

    title: str
    pixels: NDArray[np.float32]
    heat: FloatArray
    window: tuple[float, float]
    unit: str
    names: Sequence[str]

    def grey(self, index: int) -> NDArray[np.uint8]:
        """Return a slice in its window, array (height, width), uint8; 0 is black."""
        centre, width = self.window
        shown = (self.pixels[index] - (centre - width / 2)) / width
        return np.asarray(np.rint(255 * np.clip(shown, 0, 1)), dtype=np.uint8)

    def strongest(self, most: int) -> list[int]:
        """Return at most so many slices, those with the largest shares, in their order."""
        weight = np.nan_to_num(np.abs(self.heat)).sum(axis=(1, 2))
        return sorted(np.argsort(-weight, kind="stable")[:most].tolist())


@dataclass(frozen=True, slots=True)
class Series:
    """One measured quantity over time.

    Attributes
    ----------
    name, unit : str
    times : sequence of datetime
    values : sequence of float
    share : float
        What the quantity added to the log-odds.
    low, high : float or None
        Ends of the reference range that the cohort gives; None where it gives none.
    """

    name: str
    unit: str
    times: Sequence[datetime]
    values: Sequence[float]
    share: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SeriesView:
    """Measured quantities over time, and facts without a time (age, sex).

    Attributes
    ----------
    title : str
    series : sequence of Series
    facts : sequence of (name, value, share)
    as_of : datetime
        The prediction time, to be marked.
    """

    title: str
    series: Sequence[Series]
    facts: Sequence[tuple[str, str, float]]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text with its share in the log-odds, and whether it is negated."""

    text: str
    share: float = 0.0
    negated: bool = False


@dataclass(frozen=True, slots=True)
class TextView:
    """Texts as spans that concatenate to what was written; ``titles[i]`` heads ``texts[i]``."""

    title: str
    titles: Sequence[str]
    texts: Sequence[Sequence[Span]]


View = ImageView | SeriesView | TextView
