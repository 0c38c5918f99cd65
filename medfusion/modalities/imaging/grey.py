"""The grayscale pipeline of DICOM on arrays: stored values become the grey that is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray

PERCENTILES = (0.5, 99.5)
"""What is shown where a film with more than 8 bits has no window."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def displayed(stored: NDArray[Any], dataset: Any, inverted: bool) -> FloatArray:
    """Turn the stored values of a monochrome image into shown grey.

    Parameters
    ----------
    stored : array (rows, columns), integer
    dataset : pydicom Dataset
        With the header values that decide how pixels look.
    inverted : bool
        True for MONOCHROME1, where the lowest value is white.

    Returns
    -------
    array (rows, columns), float32
        In [0, 1]; 0 is black, and so is what PixelPaddingValue marks.

    References
    ----------
    PS3.3 C.7.5.1.1.2 (padding), C.11.1 (modality LUT), C.11.2 (VOI LUT and windows).
    """
    padding = _padding(stored, dataset)
    grey = _voi(_modality(stored, dataset), dataset, padding)
    if inverted:
        grey = 1.0 - grey
    if padding is not None:
        grey[padding] = 0.0
    return grey.astype(np.float32, copy=False)


def from_colour(stored: NDArray[Any], dataset: Any, photometric: str) -> FloatArray:
    """Return the luma (ITU-R BT.601) of a colour image, array (rows, columns), float32, in [0, 1].

    Raises
    ------
    ValueError
        If the photometric interpretation is not known.
    """
    if photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415 - slow to import

        stored = apply_color_lut(stored, dataset)
        peak = float(np.iinfo(stored.dtype).max)
    else:
        peak = 2.0 ** int(dataset.BitsStored) - 1
    if stored.ndim != 3 or stored.shape[-1] != 3:
        raise ValueError(f"the photometric interpretation {photometric} does not fit the pixels")
    if photometric.startswith("YBR"):
        # What the decoder left in luma and chroma: the luma is there already.
        luma = stored[..., 0].astype(np.float32)
    elif photometric in {"RGB", "PALETTE COLOR"}:
        luma = stored.astype(np.float32) @ _LUMA
    else:
        raise ValueError(f"the photometric interpretation {photometric} is not known")
    return np.asarray(np.clip(luma / np.float32(peak), 0.0, 1.0))


def between_percentiles(values: FloatArray, padding: BoolArray | None = None) -> FloatArray:
    """Scale values so that the range between two percentiles becomes [0, 1]; the rest is cut off.

    Examples
    --------
    >>> between_percentiles(np.array([[0.0, 10.0], [20.0, 10.0]])).round(2).tolist()
    [[0.0, 0.5], [1.0, 0.5]]
    """
    counted = values if padding is None else values[~padding]
    if counted.size == 0:
        return np.zeros_like(values)
    low, high = np.percentile(counted, PERCENTILES)
    if not high > low:
        low, high = counted.min(), counted.max()
    return _ramp(values, float(low), float(high))


def _padding(stored: NDArray[Any], dataset: Any) -> BoolArray | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bounds = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= bounds[0]) & (stored <= bounds[1]))


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


def _voi(values: FloatArray, dataset: Any, padding: BoolArray | None) -> FloatArray:
    if dataset.get("VOILUTSequence"):
        shown, peak = look_up(values, dataset.VOILUTSequence[0], dataset)
        return shown / np.float32(peak)
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-9):
        return window(values, center, width, function)
    bits = int(dataset.BitsStored)
    if bits <= 8 and not dataset.get("ModalityLUTSequence") and dataset.get("RescaleSlope", 1) == 1:
        low = -(2 ** (bits - 1)) if dataset.get("PixelRepresentation") else 0
        low += float(dataset.get("RescaleIntercept", 0) or 0)
        return _ramp(values, low, low + 2**bits - 1)
    return between_percentiles(values, padding)


def _first(value: Any) -> float | None:
    """Return the first of the alternatives that a file offers."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else value[0])


def window(values: FloatArray, center: float, width: float, function: str) -> FloatArray:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3), for an output range of [0, 1].

    Parameters
    ----------
    values : array
    center, width : float
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        Any other is taken as LINEAR.

    Examples
    --------
    >>> window(np.array([0.0, 128.0, 255.0]), 128, 256, "LINEAR").round(3).tolist()
    [0.0, 0.502, 1.0]
    """
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1.0
    return _ramp(values, center - width / 2.0, center + width / 2.0)


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
    return table[position].astype(np.float32), max(2 ** int(table.max()).bit_length() - 1, 1)


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
