"""How a film lies in the square that the network sees, and what the positions of its feature map are called."""

from __future__ import annotations

import numpy as np

from medfusion.core.types import BoolArray, FloatArray


def letterbox(image: FloatArray, size: int) -> FloatArray:
    """Fit an image into a square, its proportions kept, with black borders where it does not reach.

    Parameters
    ----------
    image : array (rows, columns), float32
    size : int
        Side of the square, in pixels.

    Returns
    -------
    array (size, size), float32

    Examples
    --------
    >>> letterbox(np.ones((4, 8), dtype=np.float32), 4)[:, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    import cv2  # noqa: PLC0415 - slow to import

    top, left, height, width = inner_box((image.shape[0], image.shape[1]), size)
    smaller = height < image.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    square = np.zeros((size, size), dtype=np.float32)
    square[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=method)
    return square


def inner_box(shape: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Return where an image of this shape lies in the square: top, left, height and width in pixels.

    Examples
    --------
    >>> inner_box((1000, 2000), 320)
    (80, 0, 160, 320)
    """
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    return (size - height) // 2, (size - width) // 2, height, width


def border(shape: tuple[int, int], grid: int) -> BoolArray:
    """Tell which cells of an even grid over the square have their centre outside of the image.

    Returns
    -------
    array (grid, grid), bool

    Examples
    --------
    >>> border((1000, 2000), 4).astype(int).tolist()
    [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    """
    # Centres are counted in units in which the square's side is the longer side of the image.
    side = max(shape)
    centres = (np.arange(grid) + 0.5) / grid * side
    rows, columns = (np.abs(centres - side / 2) > length / 2 for length in shape)
    return np.asarray(rows[:, None] | columns[None, :])


def region_name(place: str, row: int, column: int) -> str:
    """Name a position of a feature map: the film or slice, then row and column from 1, row 1 at the top."""
    return f"{place} row {row} column {column}"


def border_name(place: str) -> str:
    """Name the positions of a feature map that lie outside of the film or slice."""
    return f"{place} border (padding)"


AVERAGE = "(average film)"
"""The name of what the average record of this modality contributes."""
