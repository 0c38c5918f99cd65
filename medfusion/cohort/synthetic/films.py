"""Draws chest films: soft tissue less lung, plus bone, vessels, heart and opacities, through a film's tone curve.

The pictures are simple but have what a reader looks for, in the right places: both lungs with ribs and vessels,
trachea, heart and aortic knob, the domes of the diaphragm, clavicles, spine, and consolidation where there is any.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np
from scipy.special import expit

from medfusion.cohort.synthetic.anatomy import (
    Anatomy,
    Image,
    Opacity,
    Points,
    filled,
    lung_outlines,
    opacity_map,
    rounded,
    smooth_noise,
    stroked,
)

LUNG, OPACITY, HEART, BONE, VESSEL = 0.40, 0.34, 0.10, 0.085, 0.11
"""What each takes from or adds to the thickness of tissue, where the chest wall is about 0.6."""
VESSELS = ((0.011, 0.10, 0.6), (0.0075, 0.09, 0.5), (0.005, 0.075, 0.4), (0.003, 0.06, 0.3))
"""Of each generation of branches: width, length, brightness."""
CANVAS = (420, 372)
"""Rows and columns on which anatomy is drawn."""
NOISE = 0.018
"""Standard deviation of the noise, as a part of the range from black to white."""


@dataclass(frozen=True, slots=True)
class Film:
    """Everything that a film shows; its pixels are drawn when they are written.

    Attributes
    ----------
    time : datetime
    seed : int
        Of noise and exposure.
    view : {"PA", "AP"}
    anatomy : Anatomy
    opacities : tuple of Opacity
    """

    time: datetime
    seed: int
    view: str
    anatomy: Anatomy
    opacities: tuple[Opacity, ...]


def render(film: Film, shape: tuple[int, int]) -> Image:
    """Draw a film.

    Parameters
    ----------
    film : Film
    shape : (rows, columns)

    Returns
    -------
    array (rows, columns), float32
        0 (black, air) to 1 (white, bone).
    """
    rng = np.random.default_rng([film.seed, 0])
    picture = cv2.resize(_tone(_tissue(film, rng), rng), shape[::-1], interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(-128, 128, shape, dtype=np.int8).astype(np.float32)
    picture += NOISE / 74.0 * cv2.GaussianBlur(grain, (0, 0), 0.6) * (0.5 + picture)
    return np.asarray(np.clip(picture, 0.0, 1.0, out=picture), dtype=np.float32)


def _tissue(film: Film, rng: np.random.Generator) -> Image:
    """Return the thickness of tissue on a canvas of fixed size: what is finer than that is noise in a film."""
    a = film.anatomy
    lungs = filled(lung_outlines(a), CANVAS)
    body = _blurred(filled([_body_outline(a)], CANVAS), 0.008)
    opaque = cv2.resize(opacity_map(a, film.opacities), CANVAS[::-1], interpolation=cv2.INTER_LINEAR)
    air = lungs * (0.45 + 0.55 * _blurred(lungs, 0.045))
    texture = 0.010 * (smooth_noise(rng, 90, CANVAS) + smooth_noise(rng, 40, CANVAS))
    vessels = _vessels(a) * VESSEL * (1.0 - 0.7 * opaque)
    tissue = body * (_soft_tissue(a, film.view) + BONE * _bones(a, film.view))
    tissue += lungs * (OPACITY * opaque + vessels + texture) - LUNG * air
    return np.asarray(np.maximum(tissue, 1.2 * _marker()), dtype=np.float32)


def _tone(tissue: Image, rng: np.random.Generator) -> Image:
    """Return brightness from thickness: a curve with a toe and a shoulder, and an exposure that differs."""
    exposure, contrast = rng.normal(0.40, 0.02), rng.normal(6.2, 0.4)
    return np.asarray(expit(contrast * (tissue - exposure)), dtype=np.float32)


def _soft_tissue(a: Anatomy, view: str) -> Image:
    """Return the thickness of everything soft: chest wall, mediastinum, heart, abdomen, breasts."""
    y, x = _grid()
    across = (x - a.center) / 0.56
    wall = a.bulk * 0.60 * np.sqrt(np.clip(1.0 - across**2, 0.0, 1.0)) ** 0.5
    abdomen = 0.10 * expit((y - a.angle) / 0.03)
    middle = 0.13 * np.exp(-(((x - a.center) / 0.062) ** 2)) + 0.06 * np.exp(-(((x - a.center) / 0.14) ** 2))
    size = a.heart * (1.12 if view == "AP" else 1.0)
    heart = filled([_ellipse(a.center + 0.3 * size, a.dome_left - 0.10, 0.78 * size, 0.155, -28.0)], CANVAS)
    knob = filled([_ellipse(a.center + 0.055, 0.335, 0.042, 0.04, 0.0)], CANVAS)
    trachea = stroked(np.array([[(a.center, 0.0), (a.center - 0.004, 0.2), (a.center + 0.004, 0.385)]]), CANVAS, 0.036)
    bronchi = stroked(_bronchi(a), CANVAS, 0.02)
    wind = filled([_ellipse(a.center + 0.20, a.dome_left + 0.085, 0.055, 0.03, -12.0)], CANVAS)
    soft = HEART * _blurred(heart, 0.012) + 0.06 * _blurred(knob, 0.006) - 0.09 * _blurred(trachea, 0.006)
    soft += wall + abdomen + middle - 0.05 * _blurred(bronchi, 0.006) - 0.12 * _blurred(wind, 0.01)
    if a.breast:
        sides = [_ellipse(a.center + side * 0.235, 0.64, 0.17, 0.145, side * 20.0) for side in (-1, 1)]
        soft += a.breast * _blurred(filled(sides, CANVAS), 0.012)
    return np.asarray(soft, dtype=np.float32)


def _bones(a: Anatomy, view: str) -> Image:
    """Return ribs, clavicles, shoulder blades and spine; 1 is a rib."""
    posterior, anterior = _rib_lines(a)
    rib = _cortical(stroked(posterior, CANVAS, 0.026), 0.0022)
    front = _blurred(stroked(anterior, CANVAS, 0.03), 0.005)
    lift = 0.03 if view == "AP" else 0.0
    clavicle = _cortical(stroked(_clavicles(a, lift), CANVAS, 0.03), 0.0025)
    blade = _blurred(filled(_shoulder_blades(a, 0.045 if view == "AP" else 0.0), CANVAS), 0.006)
    y, x = _grid()
    column = np.exp(-(((x - a.center) / 0.042) ** 4))
    vertebrae = column * (0.75 + 0.35 * np.sin(2 * np.pi * y / 0.062) ** 2)
    return np.asarray(0.95 * rib + 0.4 * front + 1.3 * clavicle + 0.55 * blade + 0.7 * vertebrae, dtype=np.float32)


def _cortical(mask: Image, blur: float) -> Image:
    """Return a bone with a rim brighter than its inside."""
    inside = cv2.erode(mask, np.ones((5, 5), dtype=np.uint8))
    return _blurred(np.asarray(1.05 * mask - 0.45 * inside, dtype=np.float32), blur)


def _vessels(a: Anatomy) -> Image:
    """Return the hilar shadows and the vessels that branch from them, thinner with every generation."""
    rng = np.random.default_rng([a.seed, 7])
    side = np.repeat((-1.0, 1.0), 8)
    at = np.stack([a.center + 0.085 * side, np.where(side < 0, 0.43, 0.40)], 1)
    angle = rng.uniform(-1.25, 1.35, len(side))
    shadow = [_ellipse(a.center + s * 0.105, y, 0.032, 0.055, s * 18) for s, y in ((-1, 0.44), (1, 0.41))]
    drawn = 0.8 * _blurred(filled(shadow, CANVAS), 0.02)
    for width, length, strength in VESSELS:
        side, at, angle = np.repeat(side, 2), np.repeat(at, 2, axis=0), np.repeat(angle, 2)
        bend = angle + rng.normal(0.0, 0.22, len(side)) + 0.3 * np.tile((-1.0, 1.0), len(side) // 2)
        half = 0.5 * length * rng.uniform(0.7, 1.2, (len(side), 1))
        middle = at + half * np.stack([side * np.cos(angle), np.sin(angle)], 1)
        end = middle + half * np.stack([side * np.cos(bend), np.sin(bend)], 1)
        drawn += strength * _blurred(stroked(np.stack([at, middle, end], 1), CANVAS, width), 0.0018)
        at, angle = end, bend
    return np.asarray(np.clip(drawn, 0.0, 1.2), dtype=np.float32)


def _rib_lines(a: Anatomy) -> tuple[Points, Points]:
    """Return the posterior ribs, which fall outwards, and the fainter anterior ones, which fall inwards."""
    t = np.linspace(0.0, 1.0, 14)
    posterior, anterior = [], []
    for side in (-1.0, 1.0):
        for k in range(10):
            y0 = a.apex - 0.015 + 0.069 * k
            reach = a.half_width * min(1.0, 0.62 + 0.115 * k)
            x = a.center + side * (0.045 + (reach - 0.045) * np.sin(0.5 * np.pi * t))
            posterior.append(np.stack([x, y0 - 0.035 * np.sin(np.pi * t) + (0.06 + 0.011 * k) * t**2], 1))
            if 1 <= k <= 6:
                x = a.center + side * (reach * np.cos(0.5 * np.pi * 0.72 * t))
                anterior.append(np.stack([x, y0 + 0.07 + 0.011 * k + 0.12 * t**1.3], 1))
    return np.array(posterior), np.array(anterior)


def _clavicles(a: Anatomy, lift: float) -> Points:
    t = np.linspace(0.0, 1.0, 12)
    bend = 0.17 - lift - 0.065 * t + 0.022 * np.sin(2 * np.pi * t)
    return np.array([np.stack([a.center + side * (0.045 + 0.36 * t), bend], 1) for side in (-1, 1)])


def _shoulder_blades(a: Anatomy, inward: float) -> list[Points]:
    blade = np.array(
        [(0.33, 0.16), (0.42, 0.12), (0.50, 0.17), (0.47, 0.30), (0.41, 0.43), (0.385, 0.42), (0.36, 0.28)]
    )
    return [rounded(np.array([a.center, 0.0]) + (blade - (inward, 0.0)) * (side, 1.0)) for side in (-1, 1)]


def _bronchi(a: Anatomy) -> Points:
    return np.array([[(a.center + 0.004, 0.38), (a.center + side * 0.06, y)] for side, y in ((-1, 0.435), (1, 0.425))])


def _body_outline(a: Anatomy) -> Points:
    """Return the outline of neck, shoulders, flanks and abdomen; the arms leave the film at its upper corners."""
    wide = a.half_width + 0.045 + 0.03 * (a.bulk - 1.0)
    half = [
        (0.135, -0.05), (0.14, 0.01), (0.19, 0.06), (0.33, 0.095), (0.47, 0.14), (0.60, 0.20), (0.62, 0.36),
        (0.52, 0.40), (wide + 0.015, 0.43), (wide, 0.52), (wide, 0.70), (wide + 0.015, 0.86), (wide + 0.03, 1.05),
    ]  # fmt: skip
    right = np.array(half)
    outline = np.concatenate([right, (right * (-1.0, 1.0))[::-1]])
    return rounded(outline + np.array([a.center, 0.0]))


def _ellipse(x: float, y: float, width: float, height: float, degrees: float) -> Points:
    """Return an ellipse by its half axes, turned so that positive degrees lower its right end."""
    t = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    turn = np.deg2rad(degrees)
    along, over = width * np.cos(t), height * np.sin(t)
    return np.stack([x + along * np.cos(turn) - over * np.sin(turn), y + along * np.sin(turn) + over * np.cos(turn)], 1)


def _marker() -> Image:
    """Return the radiographer's L in the corner at the patient's left."""
    return stroked(np.array([[(0.930, 0.045), (0.930, 0.078), (0.952, 0.078)]]), CANVAS, 0.007)


def _grid() -> tuple[Image, Image]:
    """Return y (rows, 1) and x (1, columns) of the canvas."""
    y = np.linspace(0.0, 1.0, CANVAS[0], dtype=np.float32)[:, None]
    return y, np.linspace(0.0, 1.0, CANVAS[1], dtype=np.float32)[None, :]


def _blurred(image: Image, sigma: float) -> Image:
    """Blur by a Gaussian whose sigma is a fraction of the columns; wide ones at a quarter of the resolution."""
    pixels = sigma * image.shape[1]
    if pixels < 3.0:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(pixels, 0.3)), dtype=np.float32)
    small = cv2.resize(image, (image.shape[1] // 4, image.shape[0] // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), pixels / 4)
    return np.asarray(cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)
