"""Decoding a frame at a lower resolution, where its encoding offers that.

JPEG baseline is a sum of cosines that can be evaluated on a coarser grid, and JPEG 2000 holds an image at every power
of two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.modalities.imaging.decoders import Buffer, checked, encoded_frame, stored_values
from medfusion.modalities.imaging.layout import Layout
from medfusion.modalities.imaging.syntaxes import JPEG_2000, JPEG_BASELINE

_MAX_REDUCTION = 8


def reduced_values(dataset: Any, frame: int, at_least: int) -> NDArray[Any]:
    """Decode one frame at the lowest resolution that its encoding offers.

    Parameters
    ----------
    dataset : pydicom Dataset
    frame : int
        Counted from 0.
    at_least : int
        Pixels that the longer side keeps, unless it has fewer.

    Returns
    -------
    array (rows / f, columns / f) or (rows / f, columns / f, 3)
        As `stored_values`, where f is 1, 2, 4 or 8, and lengths are rounded up; f is 1 where the encoding knows no
        other resolution. Values are local means, as the encoding weighs them.

    Raises
    ------
    PayloadRejected, Exception
        As `stored_values`.
    """
    syntax, layout = checked(dataset, frame)
    factor = _MAX_REDUCTION if syntax in _REDUCE and layout.samples == 1 else 1
    while factor > 1:
        if -(-max(layout.rows, layout.columns) // factor) >= at_least:
            # A stream may hold fewer resolutions, or not be what the header says.
            with suppress(Exception):
                return _REDUCE[syntax](encoded_frame(dataset, syntax, layout, frame), layout, factor)
        factor //= 2
    return stored_values(dataset, frame)


def _jpeg_reduced(encoded: Buffer, layout: Layout, factor: int) -> NDArray[Any]:
    from PIL import Image  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(encoded), formats=("JPEG",)) as picture:
        _check_stream(layout, picture.size, precision=8, signed=False)
        picture.draft("L", (max(1, layout.columns // factor), max(1, layout.rows // factor)))
        values = np.asarray(picture)
    return _evenly_spaced(values, layout, factor, first=factor / 2)


def _jpeg_2000_reduced(encoded: Buffer, layout: Layout, factor: int) -> NDArray[Any]:
    from PIL import Image  # noqa: PLC0415 - slow to import
    from pydicom.pixels.utils import get_j2k_parameters  # noqa: PLC0415 - slow to import

    stream = get_j2k_parameters(bytes(encoded))
    with Image.open(BytesIO(encoded), formats=("JPEG2000",)) as picture:
        _check_stream(layout, picture.size, stream["precision"], stream["is_signed"])
        # Pillow rounds the reduced size, where the standard rounds it up: so it is given one that divides evenly.
        picture._size = (-(-layout.columns // factor) * factor, -(-layout.rows // factor) * factor)
        picture.reduce = factor.bit_length() - 1  # type: ignore[method-assign, assignment]
        values = np.asarray(picture)
    # Pillow fills its 8 or 16 bits, and adds half the range to signed values.
    values = (values >> (8 * values.dtype.itemsize - layout.stored)).astype(np.float32)
    if layout.signed:
        values -= 2 ** (layout.stored - 1)
    return _evenly_spaced(values, layout, factor, first=0.5)


def _evenly_spaced(values: NDArray[Any], layout: Layout, factor: int, first: float) -> NDArray[Any]:
    """Return samples in the middle of equal parts of the image, from samples every so many pixels.

    The last sample may reach beyond the image, and a wavelet's low band has its samples not in the middle of the pixels
    that they stand for, but on the first of them.

    Parameters
    ----------
    values : array (rows, columns)
    layout : Layout
    factor : int
        Distance of the samples, in pixels.
    first : float
        Where the first sample lies, in pixels from the edge.
    """
    import cv2  # noqa: PLC0415 - slow to import

    sides = np.array([layout.columns, layout.rows])
    step = sides / values.shape[::-1]
    if (step == factor).all() and first == factor / 2:
        return values
    scale, offset = step / factor, (step / 2 - first) / factor
    move = np.array([[scale[0], 0.0, offset[0]], [0.0, scale[1], offset[1]]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values = values.astype(np.float32, copy=False)
    return np.asarray(cv2.warpAffine(values, move, values.shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE))


def _check_stream(layout: Layout, size: tuple[int, int], precision: int, signed: bool) -> None:
    """Leave to pydicom a stream that is not as the header says."""
    if (size, precision, signed) != ((layout.columns, layout.rows), layout.stored, layout.signed):
        raise ValueError("the compressed image is not as the header says")


_REDUCE: dict[str, Callable[[Buffer, Layout, int], NDArray[Any]]] = {
    JPEG_BASELINE: _jpeg_reduced,
    **dict.fromkeys(JPEG_2000, _jpeg_2000_reduced),
}
