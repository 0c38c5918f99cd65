"""From films to an embedding, and from a head's shares back to regions of the films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medfusion.core.errors import PayloadRejected, Problem, UsageError
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray
from medfusion.modalities.imaging.geometry import AVERAGE, border, border_name, region_name
from medfusion.modalities.imaging.payload import Film, Films

_ROUNDING = 1e-4
"""How far the recomputed parts may be from the share, relative to its size, before the film counts as changed."""


@dataclass(frozen=True, slots=True)
class ImagingEncoder:
    """The mean of the films' embeddings; the backbone is frozen, so there is nothing to fit.

    Parameters
    ----------
    dimensions : int
        Length of an embedding.
    maps : function from Film to array (dimensions, rows, columns)
        The feature map whose mean over positions is the film's embedding; (dimensions, planes, rows, columns) for a
        volume.
    same_unit : bool
        Whether the features are activations of one layer.
    """

    dimensions: int
    maps: Callable[[Film], FloatArray]
    same_unit: bool = True
    heads: ClassVar[tuple[HeadKind, ...]] = ("linear",)
    whole: ClassVar[str] = "(all regions)"

    def fit(self, payloads: Sequence[Films | None], events: BoolArray) -> None:
        """Learn nothing: the backbone is frozen."""

    def encode(self, payloads: Sequence[Films | None]) -> Embedding:
        """Return one row per payload, array (n, dimensions), float32; NaN where there is no film."""
        values = np.full((len(payloads), self.dimensions), np.nan, dtype=np.float32)
        for row, payload in enumerate(payloads):
            if payload is not None:
                values[row] = payload.embedding()
        present = np.array([payload is not None for payload in payloads], dtype=bool)
        names = [f"dim{index}" for index in range(self.dimensions)]
        return Embedding(values, present, names, same_unit=self.same_unit)

    def explain(self, payload: Films, attribution: Attribution) -> list[FeatureShare]:
        """Name the regions that make up a share, by class-activation mapping.

        A linear head sees the mean over films and positions of feature maps, so its log-odds are the same mean of what
        it would say of every position alone. For film i of F and position p of P, with feature map f::

            share(i, p) = sum_k slope_k * (f_ikp - reference_k) / (F * P)

        The positions of a volume are those of its slices. This is exact, not an approximation; only the rounding of the
        stored embedding to float32 is spread evenly.
        Positions whose centre lies outside of the film (the black border that makes it square) are one line, because
        the network sees them too.

        Parameters
        ----------
        payload : Films
        attribution : Attribution
            Of a head that is linear in the embedding.

        Returns
        -------
        list of FeatureShare
            Regions, borders, and what the average record contributes; they sum to ``attribution.total``.

        Raises
        ------
        UsageError
            If the head is not linear.
        PayloadRejected
            If a film cannot be read any more, or is not the one that was.

        References
        ----------
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
        """
        if attribution.slope is None or attribution.reference is None:
            raise UsageError("films are explained through the slope of a linear head; this head has none")
        slope = attribution.slope.astype(np.float64)
        offset = float(slope @ attribution.reference.astype(np.float64))
        films = len(payload.films)
        parts = [_activation(self.maps(film), slope, offset) / films for film in payload.films]
        positions = sum(part.size for part in parts)
        parts = [part / part.size for part in parts]
        rest = float(attribution.shares.sum(dtype=np.float64)) - sum(float(part.sum()) for part in parts)
        if abs(rest) > _ROUNDING * (1.0 + float(np.abs(attribution.shares).sum())):
            raise PayloadRejected(_changed(payload.films[0]))
        lines: list[FeatureShare] = []
        for number, (film, part) in enumerate(zip(payload.films, parts, strict=True), start=1):
            lines += _lines(number, film, part + rest / positions)
        return [*lines, FeatureShare(AVERAGE, None, attribution.constant)]

    def state(self) -> State:
        """Return the length of the embedding, which is all there is to keep."""
        return {"dimensions": self.dimensions}


def _activation(maps: FloatArray, slope: FloatArray, offset: float) -> FloatArray:
    """Return what a linear head says of each position, array (rows, columns) or (planes, rows, columns), float64."""
    return np.asarray(np.tensordot(slope, maps.astype(np.float64), axes=1) - offset)


def _lines(number: int, film: Film, part: FloatArray) -> list[FeatureShare]:
    if part.ndim == 2:
        return _plane(f"film {number}", film, part)
    places = film.planes(len(part))
    return [line for place, plane in zip(places, part, strict=True) for line in _plane(place, film, plane)]


def _plane(place: str, film: Film, part: FloatArray) -> list[FeatureShare]:
    outside = border(film.size, part.shape[0])
    lines = [
        FeatureShare(region_name(place, row + 1, column + 1), None, float(part[row, column]))
        for row, column in np.argwhere(~outside)
    ]
    if outside.any():
        lines.append(FeatureShare(border_name(place), None, float(part[outside].sum())))
    return lines


def _changed(film: Film) -> Problem:
    expected = "those that were read before"
    return Problem("changed-film", film.path, "", "file", "other pixels", expected, "start again")
