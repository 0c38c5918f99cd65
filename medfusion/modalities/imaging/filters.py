"""Image features that need no trained weights: grey levels, edges and texture, by place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import FloatArray

ZONES = 5
"""Every statistic is kept apart for each of ZONES x ZONES parts of the image, because a place means something."""
_LEVELS = np.linspace(0.0, 1.0, 8, dtype=np.float32)
_SCALES = (1, 2, 4, 8)
STATISTICS = 2 + len(_LEVELS) + 6 * len(_SCALES)
DIMENSIONS = STATISTICS * ZONES * ZONES


def filter_maps(image: FloatArray) -> FloatArray:
    """Describe an image by local statistics.

    Per pixel: the grey value and its square; its nearness to each of 8 grey levels; and at each of 4 scales (Gaussian
    of 1, 2, 4 and 8 pixels) the slopes along both axes, their norm, the curvature, and how far the pixel is from its
    smoothed surroundings, plain and squared. Averages over cells of 32 x 32 pixels make a map. Deterministic, and
    linear in nothing but these statistics, so that their mean over positions is exactly what the parts sum to.

    Parameters
    ----------
    image : array (size, size), float32
        In [0, 1]; size is a multiple of 32.

    Returns
    -------
    array (850, size / 32, size / 32), float32
        A statistic of a zone is 0 at the positions outside of it.

    Examples
    --------
    >>> filter_maps(np.zeros((64, 64), dtype=np.float32)).shape
    (850, 2, 2)
    """
    cells = _cells(image)
    grid = cells.shape[-1]
    maps = np.zeros((STATISTICS, ZONES, ZONES, grid, grid), dtype=np.float32)
    zone = _zones(grid)
    rows, columns = np.indices((grid, grid))
    maps[:, zone[rows], zone[columns], rows, columns] = cells
    return maps.reshape(DIMENSIONS, grid, grid)


def filter_mean(planes: FloatArray, scale: float) -> FloatArray:
    """Return the mean of scaled filter maps over pictures and positions.

    Parameters
    ----------
    planes : array (n, size, size), float32
    scale : float

    Returns
    -------
    array (850,), float32

    Examples
    --------
    >>> filter_mean(np.ones((3, 160, 160), dtype=np.float32), 2.0)[0]
    np.float32(2.0)
    """
    return np.asarray(np.mean([_mean(_cells(plane) * np.float32(scale)) for plane in planes], axis=0), dtype=np.float32)


def _mean(cells: FloatArray) -> FloatArray:
    """Return the mean over the positions of the maps that cells make, array (850,), float64, without making them."""
    grid = cells.shape[-1]
    within = (np.arange(ZONES)[:, None] == _zones(grid)).astype(np.float64)
    return np.asarray((within @ cells.astype(np.float64) @ within.T).reshape(DIMENSIONS) / grid**2)


def _cells(image: FloatArray) -> FloatArray:
    """Return the averages of the statistics over cells of 32 x 32 pixels, array (34, size / 32, size / 32), float32."""
    import cv2  # noqa: PLC0415 - slow to import

    grid = image.shape[0] // 32
    cells = np.stack([cv2.resize(layer, (grid, grid), interpolation=cv2.INTER_AREA) for layer in _layers(image)])
    # A zone's statistic is its own average, not diluted by the area of the others.
    return cells * np.float32(ZONES * ZONES)


def _zones(grid: int) -> NDArray[np.int64]:
    """Return the zone of each row, or column, of cells."""
    return np.arange(grid) * ZONES // grid


def _layers(image: FloatArray) -> Iterator[FloatArray]:
    """Yield the statistics per pixel, each an array of the image's shape, which the next may overwrite.

    One at a time, while it is in the cache; fresh memory for every step would cost more than the step.
    """
    import cv2  # noqa: PLC0415 - slow to import

    layer, smooth, across, down = (np.empty(image.shape, np.float32) for _ in range(4))
    yield image
    yield np.square(image, out=layer)
    for level in _LEVELS:
        np.abs(np.subtract(image, level, out=layer), out=layer)
        np.subtract(np.float32(1.0), np.multiply(layer, np.float32(7.0), out=layer), out=layer)
        yield np.maximum(np.float32(0.0), layer, out=layer)
    for scale in _SCALES:
        cv2.GaussianBlur(image, (0, 0), scale, dst=smooth)
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0, dst=across, scale=scale / 4)
        cv2.Sobel(smooth, cv2.CV_32F, 0, 1, dst=down, scale=scale / 4)
        yield np.abs(across, out=layer)
        yield np.abs(down, out=layer)
        # Not cv2.magnitude, whose last bit depends on where in memory an array lies.
        np.add(np.square(across, out=across), np.square(down, out=down), out=layer)
        yield np.sqrt(layer, out=layer)
        cv2.Laplacian(smooth, cv2.CV_32F, dst=layer, scale=scale * scale)
        yield np.abs(layer, out=layer)
        np.subtract(image, smooth, out=smooth)
        yield np.square(smooth, out=layer)
        yield np.abs(smooth, out=layer)
