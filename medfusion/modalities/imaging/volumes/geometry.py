"""Where the slices of a stack lie: their order, their spacing, and one affine for all of them.

Coordinates are those of DICOM patients: LPS, in mm, where x grows to the patient's left, y to the back and z to the
head (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.volumes.header import SliceHeader

AffineLPS = NewType("AffineLPS", np.ndarray)
"""Array (4, 4), float64: maps (column, row, slice, 1), counted from 0, to (x, y, z, 1) in LPS, in mm."""
SAME_PLACE_MM = 0.01
"""Slices closer together than this, along the normal, share a position."""
EVEN = 0.2
"""How far a slice may lie from a regular grid, as a share of the spacing: more than positions in tenths of a mm do."""
MAX_TILT_DEGREES = 45.0
TILT_DEGREES = 0.5
"""A slant between the axis of the slices and their normal that is more than rounding."""
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a volume that whoever uses it has to know, though it can be used.

    Attributes
    ----------
    code : str
        Stable and in kebab-case, such as ``"missing-slices"``.
    words : str
    """

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a stack lies.

    Attributes
    ----------
    affine_lps : AffineLPS
        Exact for the first and the last slice; between them as exact as `findings` say.
    positions_lps : array (slices, 3), float64
        Of the centre of each slice's first pixel, in mm: exact for each.
    spacing_mm : (between slices, between rows, between columns)
        The first along the axis on which the slices lie, which a tilted gantry does not have at right angles to them.
    plane : {"axial", "coronal", "sagittal"}
        Which the slices are nearest to.
    tilt_degrees : float
        Between the axis of the slices and their normal.
    findings : tuple of Finding
        ``missing-slices``, ``uneven-spacing``, ``sparse-slices``, ``gantry-tilt`` or ``tilt-mismatch``.
    """

    affine_lps: AffineLPS
    positions_lps: FloatArray
    spacing_mm: tuple[float, float, float]
    plane: str
    tilt_degrees: float
    findings: tuple[Finding, ...]


def affine_lps(matrix: NDArray[np.floating]) -> AffineLPS:
    """Return a matrix as an affine, once it has been found to be one.

    Raises
    ------
    PayloadRejected
        ``bad-affine``, if it is not (4, 4), not finite, or maps space to less than space.

    Examples
    --------
    >>> affine_lps(np.diag([0.5, 0.5, 5.0, 1.0]))[2, 2].item()
    5.0
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    remedy = "export the series again"
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
        raise rejected("bad-affine", "affine", f"{matrix.shape}", "a finite affine of (4, 4)", remedy)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not lengths.min() > 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise rejected("bad-affine", "affine", "a singular matrix", "three independent axes", remedy)
    return AffineLPS(matrix)


def depths_mm(slices: Sequence[SliceHeader]) -> FloatArray:
    """Return how far along their common normal slices lie, array (slices,), float64, in mm.

    The normal is that of the first: slices of one orientation, up to rounding, are expected.
    """
    return np.array([each.position_lps for each in slices], dtype=np.float64) @ _normal(slices[0])


def _normal(header: SliceHeader) -> FloatArray:
    along_row, along_column = np.reshape(np.array(header.orientation, dtype=np.float64), (2, 3))
    normal = np.cross(along_row, along_column)
    return np.asarray(normal / np.linalg.norm(normal))


def geometry_of(slices: Sequence[SliceHeader]) -> Geometry:
    """Return the geometry of slices that are in order, along the normal, each at a position of its own.

    The affine is that of PS3.3 equation C.7.6.2.1-1, with the third column from the first position to the last; so a
    tilted gantry gives a sheared affine, as the scan itself is sheared.

    Raises
    ------
    PayloadRejected
        ``scattered-slices``, if the positions are not on one line, or on one that is slanted by more than 45 degrees.
    """
    positions = np.array([each.position_lps for each in slices], dtype=np.float64)
    along_row, along_column = np.reshape(np.array(slices[0].orientation, dtype=np.float64), (2, 3))
    between_rows, between_columns = slices[0].spacing_mm or (math.nan, math.nan)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    depths = depths_mm(slices)
    tilt = _tilt(positions, depths, min(between_rows, between_columns))
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([along_row * between_columns, along_column * between_rows, step])
    matrix[:3, 3] = positions[0]
    normal = _normal(slices[0])
    return Geometry(
        affine_lps(matrix),
        positions,
        (float(np.linalg.norm(step)), between_rows, between_columns),
        PLANES[int(np.abs(normal).argmax())],
        tilt,
        (*_spacing_findings(positions, depths, slices[0].thickness_mm), *_tilt_findings(tilt, slices[0].tilt_degrees)),
    )


def _tilt(positions: FloatArray, depths: FloatArray, pixel_mm: float) -> float:
    """Return the angle between the axis and the normal, once the positions have been found to be on one line."""
    axis = positions[-1] - positions[0]
    on_line = positions[0] + np.outer((depths - depths[0]) / (depths[-1] - depths[0]), axis)
    off_mm = float(np.linalg.norm(positions - on_line, axis=1).max())
    tilt = math.degrees(math.acos(min(1.0, (depths[-1] - depths[0]) / float(np.linalg.norm(axis)))))
    if off_mm > pixel_mm / 2 or tilt > MAX_TILT_DEGREES:
        got = f"{off_mm:.2f} mm off a line that is slanted by {tilt:.1f} degrees"
        expected = "slices above each other"
        raise rejected("scattered-slices", "ImagePositionPatient", got, expected, "export the series again")
    return tilt


def _spacing_findings(positions: FloatArray, depths: FloatArray, thickness_mm: float | None) -> list[Finding]:
    steps = np.diff(depths)
    smallest = float(steps.min())
    even = np.linspace(positions[0], positions[-1], len(positions))
    off_mm = float(np.linalg.norm(positions - even, axis=1).max())
    uneven = off_mm > EVEN * steps.mean()
    multiples = np.rint(steps / smallest)
    found = []
    if uneven and np.abs(steps / smallest - multiples).max() <= EVEN:
        missing = int(multiples.sum()) - len(steps)
        words = f"{missing} of {missing + len(depths)} slices; the affine is up to {off_mm:.1f} mm off"
        found.append(Finding("missing-slices", words))
    elif uneven:
        words = f"{smallest:.2f} to {steps.max():.2f} mm; the affine is up to {off_mm:.1f} mm off"
        found.append(Finding("uneven-spacing", words))
    if thickness_mm and smallest > 2 * thickness_mm:
        found.append(Finding("sparse-slices", f"slices of {thickness_mm:g} mm every {smallest:.2f} mm"))
    return found


def _tilt_findings(tilt: float, declared: float | None) -> list[Finding]:
    found = []
    if tilt > TILT_DEGREES:
        found.append(Finding("gantry-tilt", f"{tilt:.1f} degrees; the affine is sheared"))
    if declared is not None and abs(abs(declared) - tilt) > 1.0:
        words = f"GantryDetectorTilt is {declared:g} degrees, the positions say {tilt:.1f}"
        found.append(Finding("tilt-mismatch", words))
    return found
