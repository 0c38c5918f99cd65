"""What remains of a film once it has been read: an embedding, and where to find the picture again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from medfusion.core.types import FloatArray

Source = Path | bytes
"""A file, or the bytes of one."""


@dataclass(frozen=True, slots=True)
class Film:
    """One 2D image, without its pixels.

    Attributes
    ----------
    path : str
        Relative to the cohort folder, for messages.
    source : Path or bytes
        The file, or its content.
    time : datetime
        When it was taken.
    size : (rows, columns)
    content : str
        SHA-256 of the encoded pixels alone: equal for two patients who were given the same picture.
    digest : str
        SHA-256 of the encoded pixels and of every header value that changes how they look.
    embedding : array (d,), float32
        The mean of the backbone's feature map over its positions.
    """

    path: str
    source: Source = field(repr=False)
    time: datetime
    size: tuple[int, int]
    content: str
    digest: str
    embedding: FloatArray = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Films:
    """The films of one study, oldest first; at least one."""

    films: tuple[Film, ...]

    def embedding(self) -> FloatArray:
        """Return the mean over the films, array (d,), float64."""
        return np.asarray(np.mean([film.embedding for film in self.films], axis=0, dtype=np.float64))
