"""A stack with its pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import PayloadRejected, UsageError
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.decoders import stored_values
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.volumes.elements import parse
from medfusion.modalities.imaging.volumes.geometry import AffineLPS, Finding, affine_lps
from medfusion.modalities.imaging.volumes.header import SliceHeader
from medfusion.modalities.imaging.volumes.series import Stack
from medfusion.modalities.imaging.volumes.units import Unit

_PIXELS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
MAX_VOXELS = 2**28
"""The most that is loaded at once: 1 GiB of values, 1024 slices of 512 x 512."""
_Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Volume:
    """Slices above each other, as numbers with a unit and a place.

    Attributes
    ----------
    values : array (planes, rows, columns), float32
        Finite; in `unit`.
    planes : tuple of int
        Which slices of the stack these are, counted from 0 and ascending; all of them unless fewer were asked for.
    affine_lps : AffineLPS
        Array (4, 4), float64, that maps (column, row, slice, 1) to (x, y, z, 1) in LPS, in mm; the slice of
        ``values[i]`` is ``planes[i]``. Exact for the first and the last slice of the stack, and for the others
        unless `findings` say otherwise.
    positions_lps : array (planes, 3), float64
        Of the centre of each plane's first pixel, in mm: exact for each.
    spacing_mm : (between slices, between rows, between columns)
    unit : Unit
        With the reason where it is neither HU nor SUV.
    findings : tuple of Finding
        What whoever uses the volume has to know.
    reason : str
        Why this volume of its study was selected; empty where there was no choice.

    Raises
    ------
    PayloadRejected
        ``bad-affine``, or ``undecodable-pixels`` if a value is not finite.
    """

    values: _Values = field(repr=False)
    planes: tuple[int, ...] = field(repr=False)
    affine_lps: AffineLPS
    positions_lps: FloatArray = field(repr=False)
    spacing_mm: tuple[float, float, float]
    unit: Unit
    findings: tuple[Finding, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        affine_lps(self.affine_lps)
        if not np.isfinite(self.values).all():
            raise rejected(
                "undecodable-pixels", "PixelData", "a value that is not finite", "numbers", "export it again"
            )


def load_volume(stack: Stack, *, planes: Sequence[int] | None = None, reason: str = "") -> Volume:
    """Decode a stack, or some of its slices.

    Each slice is rescaled with its own slope and intercept. Where PixelPaddingValue says that there is no image, the
    value becomes that of nothing: air (-1000 HU), no activity (0), or, without a unit, the lowest of the slice.

    Parameters
    ----------
    stack : Stack
    planes : sequence of int, optional
        Slices of the stack, counted from 0.
    reason : str
        Why this one was selected.

    Raises
    ------
    UsageError
        If there is no such plane.
    PayloadRejected
        Naming the file: ``too-large``, ``unreadable-file``, ``undecodable-pixels``, ``unsupported-transfer-syntax``,
        or ``conflicting-slices``, where slices at one position differ and no header value tells them apart.
    """
    chosen = tuple(range(len(stack.slices)) if planes is None else sorted(set(planes)))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(stack.slices):
        raise UsageError(f"planes are 0 to {len(stack.slices) - 1}, at least one of them")
    rows, columns = stack.slices[0].shape
    _check_size(len(chosen), rows, columns)
    values = np.empty((len(chosen), rows, columns), dtype=np.float32)
    for index, image in _images([stack.slices[plane] for plane in chosen], stack.unit):
        values[index] = image
    copies = [(chosen.index(plane), header) for plane, header in stack.copies if plane in chosen]
    for index, image in _images([header for _, header in copies], stack.unit):
        plane, header = copies[index]
        if not np.array_equal(image, values[plane]):
            remedy = "keep one of them, or export the series again with what tells them apart"
            got = "slices at one position with different pixels"
            raise _in_file(header, rejected("conflicting-slices", "ImagePositionPatient", got, "one", remedy))
    geometry = stack.geometry
    positions = geometry.positions_lps[list(chosen)]
    return Volume(
        values, chosen, geometry.affine_lps, positions, geometry.spacing_mm, stack.unit, stack.findings, reason
    )


def _check_size(planes: int, rows: int, columns: int) -> None:
    if planes * rows * columns > MAX_VOXELS:
        got, expected = f"{planes} x {rows} x {columns}", f"at most {MAX_VOXELS} voxels"
        raise rejected("too-large", "Rows, Columns", got, expected, "ask for fewer planes, or export thicker slices")


def _images(headers: Sequence[SliceHeader], unit: Unit) -> Iterator[tuple[int, _Values]]:
    """Yield the slices in their unit, each with its number; every file is read once."""
    by_file: dict[Path, list[int]] = {}
    for index, header in enumerate(headers):
        by_file.setdefault(header.path, []).append(index)
    for indexes in by_file.values():
        dataset = _dataset(headers[indexes[0]])
        for index in indexes:
            yield index, _in_unit(_stored(dataset, headers[index]), headers[index], unit)


def _dataset(header: SliceHeader) -> Any:
    try:
        return parse(header.path, _PIXELS, pixels=True)
    except PayloadRejected as error:
        raise _in_file(header, error) from None


def _stored(dataset: Any, header: SliceHeader) -> NDArray[Any]:
    """Decode one slice; what is not as its header said when the stack was planned is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (dataset.get("Rows"), dataset.get("Columns")) != header.shape:
                raise ValueError("the file has changed")
            stored = stored_values(dataset, header.frame)
    except (KeyboardInterrupt, SystemExit):
        raise
    except PayloadRejected as error:
        raise _in_file(header, error) from None
    except BaseException as error:  # a decoder written in Rust panics with one that is no Exception
        got = f"{type(error).__name__}: {error}".splitlines()[0]
        said = rejected("undecodable-pixels", "PixelData", got, "pixels", "export the file again")
        raise _in_file(header, said) from None
    if stored.shape != header.shape:
        raise _in_file(
            header, rejected("undecodable-pixels", "PixelData", f"{stored.shape}", "one grey image", "export it again")
        )
    return stored


def _in_unit(stored: NDArray[Any], header: SliceHeader, unit: Unit) -> _Values:
    slope = 1.0 if header.slope is None else header.slope
    values = stored * (slope * unit.factor) + (header.intercept or 0.0) * unit.factor
    if header.padding is not None:
        outside = (stored >= header.padding[0]) & (stored <= header.padding[1])
        measured = values[~outside]
        lowest = float(measured.min()) if measured.size else 0.0
        values[outside] = lowest if unit.nothing is None else unit.nothing
    return values.astype(np.float32)


def _in_file(header: SliceHeader, error: PayloadRejected) -> PayloadRejected:
    """Return the error with the file and the subject that it is about."""
    where = f"subject {header.patient_id}" if header.patient_id else ""
    problem = replace(error.problem, file=str(header.path), where=where, subject_id=header.patient_id)
    return PayloadRejected(problem)
