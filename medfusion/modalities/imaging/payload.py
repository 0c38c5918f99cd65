"""What remains of a picture once it has been read: an embedding, and where to find the pixels again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from medfusion.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Scan:
    """A volume, and the slices of it that are shown.

    Attributes
    ----------
    files : tuple of Path
        All files of the volume.
    key : tuple of str and int
        Which of the volumes in these files it is; see `Stack.key`.
    planes : tuple of (Path, int)
        File and frame of each, in the order of the volume.
    numbers : tuple of int
        The place of each in the volume, from 1; the first is the rightmost, foremost or lowest.
    total : int
        How many slices the volume has.
    reason : str
        Why this series of the study was taken.
    """

    files: tuple[Path, ...]
    key: tuple[str, str, int]
    planes: tuple[tuple[Path, int], ...]
    numbers: tuple[int, ...]
    total: int
    reason: str


Source = Path | bytes | Scan
"""A file, the bytes of one, or the slices of a volume."""


@dataclass(frozen=True, slots=True)
class Film:
    """One picture, without its pixels: a film, or a volume seen as some of its slices.

    Attributes
    ----------
    path : str
        Relative to the cohort folder, for messages; of a volume, its first file.
    source : Path, bytes or Scan
        The file, its content, or the slices.
    time : datetime
        When it was taken.
    size : (rows, columns)
    content : str
        SHA-256 of the encoded pixels alone: equal for two patients who were given the same picture.
    digest : str
        SHA-256 of the encoded pixels and of every header value that changes how they look.
    embedding : array (d,), float32
        The mean of the backbone's feature map over its positions.
    facts : mapping
        How it was made, as far as its file says; see `acquisition.facts_of`.
    """

    path: str
    source: Source = field(repr=False)
    time: datetime
    size: tuple[int, int]
    content: str
    digest: str
    embedding: FloatArray = field(repr=False, compare=False)
    facts: Mapping[str, str | float] = field(default_factory=dict, repr=False, compare=False)

    def planes(self, maps: int) -> list[str]:
        """Name the planes of a feature map: one per slice, or one for several of them where there are fewer.

        Parameters
        ----------
        maps : int
            How many planes the map has.

        Examples
        --------
        >>> scan = Scan((), ("", "", 0), ((Path("a"), 0),) * 4, (1, 3, 5, 7), 8, "the only volume")
        >>> film = Film("a", scan, datetime(2020, 1, 1), (9, 9), "", "", np.empty(0))
        >>> film.planes(4), film.planes(2)
        (['slice 1', 'slice 3', 'slice 5', 'slice 7'], ['slices 1 to 3', 'slices 5 to 7'])
        """
        assert isinstance(self.source, Scan)
        if maps == len(self.source.numbers):
            return [f"slice {number}" for number in self.source.numbers]
        groups = np.array_split(self.source.numbers, maps)
        return [f"slices {group[0]} to {group[-1]}" for group in groups]


@dataclass(frozen=True, slots=True)
class Films:
    """The films of one study, oldest first, or its volume; at least one."""

    films: tuple[Film, ...]

    def embedding(self) -> FloatArray:
        """Return the mean over the films, array (d,), float64."""
        return np.asarray(np.mean([film.embedding for film in self.films], axis=0, dtype=np.float64))
