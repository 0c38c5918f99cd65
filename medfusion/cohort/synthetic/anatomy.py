"""The shapes of a drawn chest film: a patient's thorax, and opacities in its lungs.

Coordinates are fractions of the film: x from the left to the right of the picture (the patient's right is at the
left), y from the top down. Shapes are drawn once at `GRID` and enlarged, so that what counts as opaque is the same
at every film size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Image = NDArray[np.float32]
Points = NDArray[np.float64]

GRID = 160
"""Rows and columns of the grid on which the opaque part of the lungs is measured."""

FINDINGS_PER_FILM = (0.45, 0.75)
"""Opacities of a film: the mean count of a Poisson draw, and how much a standard deviation of severity adds (log)."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What makes one thorax differ from another.

    Attributes
    ----------
    seed : int
        Of the vessels and of the fine structure of opacities.
    center, half_width : float
        Midline and greatest half width of the rib cage.
    apex, dome_right, dome_left, angle : float
        Heights of the lung apex, the two domes of the diaphragm and the costophrenic angles.
    heart : float
        How far the heart reaches to the patient's left.
    breast : float
        Brightness of the breast shadows; 0 for none.
    bulk : float
        Thickness of the soft tissue, 1 on average.
    """

    seed: int
    center: float
    half_width: float
    apex: float
    dome_right: float
    dome_left: float
    angle: float
    heart: float
    breast: float
    bulk: float


@dataclass(frozen=True, slots=True)
class Opacity:
    """A patch of consolidated lung: an ellipse with a ragged edge.

    Attributes
    ----------
    x, y, radius : float
    stretch : float
        Height over width.
    density : float
        From 0 (clear) to 1 (as dense as soft tissue).
    """

    x: float
    y: float
    radius: float
    stretch: float
    density: float


def draw_anatomy(rng: np.random.Generator, sex: str) -> Anatomy:
    """Draw a thorax."""
    dome = rng.normal(0.725, 0.025)
    return Anatomy(
        seed=int(rng.integers(2**31)),
        center=rng.normal(0.5, 0.012),
        half_width=rng.normal(0.415, 0.014),
        apex=rng.normal(0.115, 0.015),
        dome_right=dome,
        dome_left=dome + rng.uniform(0.015, 0.045),
        angle=dome + rng.uniform(0.09, 0.13),
        heart=rng.normal(0.205, 0.02),
        breast=rng.uniform(0.03, 0.09) if sex == "F" else 0.0,
        bulk=rng.normal(1.0, 0.08),
    )


def draw_opacities(rng: np.random.Generator, severity: float) -> tuple[Opacity, ...]:
    """Draw the opacities of one patient; more and larger ones with more ``severity`` (a standard normal)."""
    mean, slope = FINDINGS_PER_FILM
    count = int(min(rng.poisson(np.exp(mean + slope * severity)), 6))
    found = []
    for _ in range(count):
        side = rng.choice((-1.0, 1.0))
        found.append(
            Opacity(
                x=0.5 + side * rng.uniform(0.15, 0.34),
                y=float(np.clip(rng.normal(0.56, 0.13), 0.22, 0.76)),
                radius=float(np.clip(rng.lognormal(np.log(0.085) + 0.15 * severity, 0.4), 0.03, 0.22)),
                stretch=rng.uniform(0.8, 1.5),
                density=rng.uniform(0.55, 1.0),
            )
        )
    return tuple(found)


def opacity_map(anatomy: Anatomy, opacities: tuple[Opacity, ...]) -> Image:
    """Return how opaque each point is made by the opacities, inside and outside of the lungs.

    Returns
    -------
    array (GRID, GRID), float32
        0 clear, 1 as dense as soft tissue.
    """
    y, x = np.mgrid[0:GRID, 0:GRID].astype(np.float32) / GRID
    clear = np.ones((GRID, GRID), dtype=np.float32)
    for index, opacity in enumerate(opacities):
        ragged = smooth_noise(np.random.default_rng([anatomy.seed, index]), 22, (GRID, GRID))
        patchy = smooth_noise(np.random.default_rng([anatomy.seed, index, 1]), 9, (GRID, GRID))
        distance = np.hypot((x - opacity.x) / opacity.radius, (y - opacity.y) / (opacity.radius * opacity.stretch))
        edge = expit(6.0 * (1.0 + 0.22 * ragged + 0.28 * patchy - distance))
        clear *= 1.0 - opacity.density * edge * np.clip(0.9 + 0.12 * ragged, 0.5, 1.0)
    return np.asarray(1.0 - clear, dtype=np.float32)


def opaque_fraction(anatomy: Anatomy, opacities: tuple[Opacity, ...]) -> float:
    """Return the mean opacity of the lungs, from 0 (clear) to 1: what the truth counts.

    Examples
    --------
    >>> thorax = draw_anatomy(np.random.default_rng(0), "M")
    >>> opaque_fraction(thorax, ())
    0.0
    >>> 0.0 < opaque_fraction(thorax, (Opacity(x=0.3, y=0.5, radius=0.1, stretch=1.0, density=0.8),)) < 0.2
    True
    """
    if not opacities:
        return 0.0
    lungs = filled(lung_outlines(anatomy), (GRID, GRID))
    return float((lungs * opacity_map(anatomy, opacities)).sum() / lungs.sum())


def lung_outlines(anatomy: Anatomy) -> list[Points]:
    """Return the closed outlines of both lungs, each an array (points, 2) of x and y."""
    a, w = anatomy, anatomy.half_width
    top, angle, right, left, heart = a.apex, a.angle, a.dome_right, a.dome_left, a.heart
    on_right = [
        (-0.085, top + 0.055), (-0.14, top + 0.008), (-0.205, top), (-0.275, top + 0.03), (-0.335, top + 0.11),
        (-0.89 * w, 0.33), (-0.96 * w, 0.45), (-w, 0.58), (-w, right), (-0.995 * w, angle - 0.012),
        (-0.98 * w, angle), (-0.94 * w, angle - 0.025), (-0.33, right + 0.03), (-0.25, right), (-0.17, right + 0.01),
        (-0.115, right + 0.035), (-0.092, right + 0.05), (-0.095, right - 0.02), (-0.10, right - 0.09),
        (-0.088, 0.53), (-0.065, 0.45), (-0.07, 0.38), (-0.062, 0.28),
    ]  # fmt: skip
    on_left = [
        (0.075, top + 0.06), (0.13, top + 0.01), (0.20, top), (0.27, top + 0.03), (0.335, top + 0.11),
        (0.89 * w, 0.33), (0.96 * w, 0.45), (w, 0.58), (w, left), (0.995 * w, angle - 0.012), (0.98 * w, angle),
        (0.945 * w, angle - 0.025), (0.34, left + 0.028), (0.285, left + 0.008), (heart + 0.035, left + 0.02),
        (heart + 0.015, left + 0.02), (heart + 0.008, left - 0.03), (heart - 0.005, left - 0.10),
        (heart - 0.05, left - 0.19), (0.115, 0.47), (0.083, 0.41), (0.09, 0.36), (0.098, 0.325), (0.085, 0.28),
        (0.06, 0.24),
    ]  # fmt: skip
    return [rounded(np.array(side) + np.array([a.center, 0.0])) for side in (on_right, on_left)]


def rounded(points: Points) -> Points:
    """Return a closed outline with its corners cut twice (Chaikin's scheme)."""
    for _ in range(2):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
    return points


def filled(outlines: list[Points], shape: tuple[int, int]) -> Image:
    """Return a mask (rows, columns) of 0 to 1 that is 1 within the outlines, with soft pixel edges."""
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, [_fixed_point(outline, shape) for outline in outlines], 255, cv2.LINE_AA, 4)
    return np.multiply(mask, np.float32(1 / 255), dtype=np.float32)


def stroked(lines: Points, shape: tuple[int, int], width: float) -> Image:
    """Return a mask (rows, columns) of 0 to 1 with open lines.

    Parameters
    ----------
    lines : array (lines, points, 2)
    shape : (rows, columns)
    width : float
        As a fraction of the columns.
    """
    mask = np.zeros(shape, dtype=np.uint8)
    thickness = max(1, round(width * shape[1]))
    cv2.polylines(mask, list(_fixed_point(lines, shape)), False, 255, thickness, cv2.LINE_AA, 4)
    return np.multiply(mask, np.float32(1 / 255), dtype=np.float32)


def _fixed_point(points: Points, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return pixel coordinates with four binary digits after the point, as OpenCV draws them."""
    return np.round(points * (shape[1], shape[0]) * 16).astype(np.int32)


def smooth_noise(rng: np.random.Generator, cells: int, shape: tuple[int, int]) -> Image:
    """Return noise (rows, columns) of standard deviation about 0.7 that changes over 1 / ``cells`` of the picture."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
