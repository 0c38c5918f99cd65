"""The grayscale pipeline of DICOM on arrays: stored values become the grey that is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray

PERCENTILES = (0.5, 99.5)
"""What is shown where a film with more than 8 bits has no window."""
_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Levels:
    """Values before the last step of the pipeline, which cuts a range of them out.

    Attributes
    ----------
    values : array (..., rows, columns), floating
    low, high : float
        The range; low is shown black and high white, or the other way round.
    is_inverted : bool
        Whether low is white.
    padding : array of the same shape, bool, or None
        What is no image.
    unit : str
        Empty where values have none.
    """

    values: FloatArray = field(repr=False)
    low: float
    high: float
    is_inverted: bool = False
    padding: BoolArray | None = field(default=None, repr=False)
    unit: str = ""

    def grey(self) -> FloatArray:
        """Return what is shown, float32, in [0, 1]; 0 is black, and so is padding."""
        shown = _ramp(self.values, self.low, self.high)
        if self.is_inverted:
            shown = 1.0 - shown
        if self.padding is not None:
            shown[self.padding] = 0.0
        return shown.astype(np.float32, copy=False)

    def dark_to_bright(self) -> FloatArray:
        """Return values that grow with the brightness, float32; the same range of them is shown, from black to white.

        Examples
        --------
        >>> Levels(np.array([10.0, 30.0]), 10, 40, is_inverted=True).dark_to_bright().tolist()
        [40.0, 20.0]
        """
        values = self.low + self.high - self.values if self.is_inverted else self.values
        if self.padding is not None and self.padding.any():
            counted = values[~self.padding]
            values = np.where(self.padding, counted.min() if counted.size else self.low, values)
        return np.asarray(values, dtype=np.float32)


def levels(stored: NDArray[Any], dataset: Any, shape: tuple[int, int] | None = None) -> Levels:
    """Turn the stored values of a monochrome image into what a window is put on.

    Parameters
    ----------
    stored : array (rows, columns)
    dataset : pydicom Dataset
        With the header values that decide how pixels look.
    shape : (rows, columns), optional
        Smaller; values are averaged over areas as early as that means something: stored values where only a rescale
        and a window follow, the entries of the last lookup table otherwise, and never what is padding.

    References
    ----------
    PS3.3 C.7.5.1.1.2 (padding), C.11.1 (modality LUT), C.11.2 (VOI LUT and windows).
    """
    values, padding = stored, _padding(stored, dataset)
    if dataset.get("VOILUTSequence"):
        values, peak = look_up(_modality(values, dataset), dataset.VOILUTSequence[0], dataset)
        values, padding = averaged(values, padding, shape)
        low, high = 0.0, float(peak)
    else:
        if dataset.get("ModalityLUTSequence"):
            values, padding = averaged(_modality(values, dataset), padding, shape)
        else:
            values, padding = averaged(values, padding, shape)
            values = _modality(values, dataset)
        values, low, high = _windowed(values, dataset, padding)
    return Levels(values, low, high, dataset.PhotometricInterpretation == "MONOCHROME1", padding)


def is_linear(dataset: Any) -> bool:
    """Tell whether the mean of stored values is shown as the mean of what they are shown as, apart from cut-offs."""
    tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    padding = any(dataset.get(keyword) is not None for keyword, _ in _PADDING)
    return not tables and not padding and dataset.get("PhotometricInterpretation") != "PALETTE COLOR"


def luma(stored: NDArray[Any], dataset: Any, shape: tuple[int, int] | None = None) -> FloatArray:
    """Return the luma (ITU-R BT.601) of a colour or palette image, float32, in [0, 1].

    Parameters
    ----------
    stored : array (rows, columns, 3) of red, green and blue, or (rows, columns) of palette indices
    dataset : pydicom Dataset
    shape : (rows, columns), optional
        Smaller; colours are averaged over areas.

    Raises
    ------
    ValueError
        If the photometric interpretation is not known.
    """
    if stored.ndim == 3:
        values = stored.astype(np.float32) @ (_LUMA / np.float32(2 ** int(dataset.BitsStored) - 1))
    elif dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = _palette_luma(stored, dataset)
    else:
        raise ValueError(f"the photometric interpretation {dataset.PhotometricInterpretation} is not known")
    return np.asarray(np.clip(averaged(values, None, shape)[0], 0.0, 1.0))


def _palette_luma(stored: NDArray[Any], dataset: Any) -> FloatArray:
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415 - slow to import

    indices = np.arange(2 ** int(dataset.BitsStored), dtype=np.uint16)
    colours = apply_color_lut(indices[None], dataset)[0]
    # As in other tables, entries are counted for what they have and not for what they declare.
    table = colours.astype(np.float32) @ (_LUMA / np.float32(_peak(colours)))
    return np.asarray(table[stored.view(stored.dtype.str.replace("i", "u"))])


def averaged(
    values: NDArray[Any], padding: BoolArray | None, shape: tuple[int, int] | None
) -> tuple[NDArray[Any], BoolArray | None]:
    """Average values over the areas that become one pixel each.

    Parameters
    ----------
    values : array (rows, columns)
    padding : array (rows, columns), bool, optional
        What does not count.
    shape : (rows, columns) or None
        Smaller than or as large as that of the values, which remain as they are where it is None.

    Returns
    -------
    values : array (shape), floating where anything is averaged
    padding : array (shape), bool, or None
        True where nothing counts.

    Examples
    --------
    >>> averaged(np.array([[0, 4], [8, 8]]), np.array([[True, False], [False, False]]), (1, 2))[0].tolist()
    [[8.0, 6.0]]
    """
    if shape is None or shape == values.shape:
        return values, padding
    import cv2  # noqa: PLC0415 - slow to import

    def area(image: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA))

    # float32 holds every integer of 16 bits exactly, float64 every one of 32.
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    values = values.astype(np.float32 if small else np.float64, copy=False)
    if padding is None or not padding.any():
        return area(values), None
    covered = area((~padding).astype(values.dtype))
    total = area(np.where(padding, 0, values))
    # Below this, what is left of a pixel's area is rounding.
    empty = covered < 1e-4
    return total / np.where(empty, 1, covered), empty


def percentiles(values: FloatArray, padding: BoolArray | None = None) -> tuple[float, float]:
    """Return the range between two percentiles of what is no padding; the whole range where they are one.

    Examples
    --------
    >>> low, high = percentiles(np.array([[0.0, 10.0], [20.0, 10.0]]))
    >>> round(low, 3), round(high, 3)
    (0.15, 19.85)
    """
    counted = values if padding is None else values[~padding]
    if counted.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(counted, PERCENTILES)
    if not high > low:
        low, high = counted.min(), counted.max()
    return float(low), float(high)


def _padding(stored: NDArray[Any], dataset: Any) -> BoolArray | None:
    """Return what is no image: what the header says, and of floating pixels what is no number."""
    padding = None if stored.dtype.kind != "f" or np.isfinite(stored).all() else ~np.isfinite(stored)
    for value, limit in ((dataset.get(value), dataset.get(limit)) for value, limit in _PADDING):
        if value is not None:
            low, high = sorted((float(value), float(value if limit is None else limit)))
            marked = (stored >= low) & (stored <= high)
            padding = marked if padding is None else padding | marked
    return padding


def _modality(stored: NDArray[Any], dataset: Any) -> FloatArray:
    if dataset.get("ModalityLUTSequence"):
        return look_up(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    # float32 holds every integer of 16 bits exactly, float64 every one of 32.
    values: FloatArray = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is not None and intercept is not None and (float(slope), float(intercept)) != (1.0, 0.0):
        values *= float(slope)
        values += float(intercept)
    return values


def _windowed(values: FloatArray, dataset: Any, padding: BoolArray | None) -> tuple[FloatArray, float, float]:
    """Return values and the range of them that is shown."""
    center, width = first_number(dataset.get("WindowCenter")), first_number(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-9):
        return window(values, center, width, function)
    bits = int(dataset.get("BitsStored") or 32)
    if bits <= 8 and not dataset.get("ModalityLUTSequence") and dataset.get("RescaleSlope", 1) == 1:
        low = -(2 ** (bits - 1)) if dataset.get("PixelRepresentation") else 0
        low += float(dataset.get("RescaleIntercept", 0) or 0)
        return values, low, low + 2**bits - 1
    return values, *percentiles(values, padding)


def first_number(value: Any) -> float | None:
    """Return the first of the alternatives that a file offers."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else value[0])


def window(values: FloatArray, center: float, width: float, function: str) -> tuple[FloatArray, float, float]:
    """Return the values and the range of them that a window shows (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Parameters
    ----------
    values : array
    center, width : float
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        Any other is taken as LINEAR. A sigmoid has no range: it is applied, and all of its values are shown.

    Examples
    --------
    >>> window(np.array([0.0, 128.0, 255.0]), 128, 256, "LINEAR")[1:]
    (0.0, 255.0)
    """
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))), 0.0, 1.0
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1.0
    return values, center - width / 2.0, center + width / 2.0


def _ramp(values: FloatArray, low: float, high: float) -> FloatArray:
    """Map low to 0 and high to 1, and cut off beyond; a step where they are one."""
    if not high > low:
        return (values > low).astype(np.float32)
    return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0))


def look_up(values: NDArray[Any], item: Any, dataset: Any) -> tuple[FloatArray, int]:
    """Apply the lookup table of a sequence item (PS3.3 C.11.1.1, C.11.2.1.1).

    Returns
    -------
    values : array, float32
    peak : int
        The largest value that entries of this many bits can have. The bits are counted from the entries, because
        files declare 16 where they use 12, which would be shown four stops too dark.
    """
    count, first, _ = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    table = _entries(item["LUTData"].value, count, dataset)
    position = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[position].astype(np.float32), _peak(table)


def _peak(table: NDArray[Any]) -> int:
    bits = int(table.max()).bit_length()
    return max((1 << bits) - 1, 1)


def _entries(data: Any, count: int, dataset: Any) -> NDArray[Any]:
    """Return the entries of a lookup table, however the file packs them."""
    if isinstance(data, bytes):
        if len(data) < 2 * count:
            table = np.frombuffer(data, np.uint8)
        else:
            table = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2", count=count)
    else:
        table = np.atleast_1d(np.asarray(data, dtype=np.uint16))
        if len(table) * 2 in {count, count + 1}:
            table = table.view(np.uint8)
    if len(table) < count:
        raise ValueError(f"a lookup table has {len(table)} of {count} entries")
    return table[:count]
