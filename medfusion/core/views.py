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
    """An image with the shares of its regions.

    Attributes
    ----------
    title : str
    pixels : array (height, width), uint8
        0 is black as a reader sees it.
    heat : array (rows, columns), float
        Log-odds per region of an even grid over the image; row 0 is the top, column 0 the left of the picture.
    """

    title: str
    pixels: NDArray[np.uint8]
    heat: FloatArray


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
    """

    name: str
    unit: str
    times: Sequence[datetime]
    values: Sequence[float]
    share: float


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
