"""From encoded pixel data to arrays of stored values.

Each encoding is read by the fastest library that gives what pydicom gives: numpy for uncompressed data, imagecodecs for
RLE, JPEG (baseline, extended, lossless), JPEG-LS and JPEG XL. Whatever is unusual, and whatever these refuse, goes to
pydicom with pylibjpeg. gdcm is not used, because a damaged file can end the whole process in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.layout import Layout
from medfusion.modalities.imaging.syntaxes import (
    BIG_ENDIAN,
    DEFLATED_FRAMES,
    HTJ2K,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    JPEG_XL,
    NATIVE,
    RLE,
    check_syntax,
    transfer_syntax,
)

Buffer = bytes | bytearray | memoryview
_ITEM = b"\xfe\xff\x00\xe0"
_SEARCHED = 256
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""What begins the segment with the size of a JPEG or JPEG-LS image (ISO 10918-1 table B.1, ISO 14495-1 table C.1)."""
_END_MARKED = JPEG | JPEG_LS | JPEG_2000 | HTJ2K


def stored_values(dataset: Any, frame: int = 0) -> NDArray[Any]:
    """Decode one frame at full size.

    Parameters
    ----------
    dataset : pydicom Dataset
        With its file meta information, the elements of group 0028 and the pixel data.
    frame : int
        Counted from 0.

    Returns
    -------
    array (rows, columns) or (rows, columns, 3)
        Stored values of monochrome and palette images, without what lies in unused bits; red, green and blue of
        colour images, whatever they were stored as. It may be read-only.

    Raises
    ------
    PayloadRejected
        ``unsupported-transfer-syntax`` or ``undecodable-pixels``, without a file name.
    Exception
        Anything that a decoder says of damaged pixels.

    References
    ----------
    PS3.5 section 8 and annex A.
    """
    syntax, layout = checked(dataset, frame)
    if syntax in NATIVE:
        return _native(dataset, syntax, layout, frame)
    encoded = encoded_frame(dataset, syntax, layout, frame)
    if syntax in _DECODE:
        return _DECODE[syntax](encoded, layout)
    if syntax in _DECODE_MONOCHROME and layout.samples == 1:
        with suppress(Exception):
            return _DECODE_MONOCHROME[syntax](encoded, layout)
    if syntax in JPEG | JPEG_LS:
        _check_size(encoded, layout)
    return _by_pydicom(dataset, syntax, layout, frame)


def checked(dataset: Any, frame: int) -> tuple[str, Layout]:
    """Return the transfer syntax and the layout of a frame.

    Raises
    ------
    PayloadRejected
        ``unsupported-transfer-syntax`` or ``undecodable-pixels``, without a file name.
    """
    syntax = transfer_syntax(dataset)
    check_syntax(syntax)
    layout = Layout.of(dataset)
    if not 0 <= frame < layout.frames:
        raise rejected("undecodable-pixels", "frame", str(frame), f"0 to {layout.frames - 1}", "name another frame")
    return syntax, layout


def encoded_frame(dataset: Any, syntax: str, layout: Layout, frame: int) -> Buffer:
    """Return the bytes of one compressed frame.

    Raises
    ------
    ValueError
        If there are none, or their end is missing.
    """
    encoded = _only_frame(dataset.PixelData) if layout.frames == 1 else _one_of_many(dataset, layout, frame)
    # Decoders fill what is missing with grey and say nothing. Some writers leave a byte or two behind the end marker.
    if syntax in _END_MARKED and b"\xff\xd9" not in bytes(encoded[-64:]).rstrip(b"\0")[-4:]:
        raise ValueError("the compressed image is truncated")
    return encoded


def _check_size(encoded: Buffer, layout: Layout) -> None:
    """Refuse a JPEG or JPEG-LS stream of another size than declared: libjpeg would reserve memory for its own."""
    position = 2
    while encoded[position : position + 1] == b"\xff":
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4], "big")
        if marker in _FRAME_MARKERS:
            rows, columns = (int.from_bytes(encoded[position + at : position + at + 2], "big") for at in (5, 7))
            if (rows, columns) != (layout.rows, layout.columns):
                raise ValueError(f"the compressed image has {rows} x {columns} pixels")
            return
        position += 2 + length


def _only_frame(pixel_data: Buffer) -> Buffer:
    """Return all items but the first, which is a table of offsets (PS3.5 annex A.4)."""
    fragments = items_of(pixel_data)[1:]
    if not fragments:
        raise ValueError("there are no fragments of a compressed image")
    return fragments[0] if len(fragments) == 1 else b"".join(fragments)


def items_of(pixel_data: Buffer) -> list[memoryview]:
    """Return the items of encapsulated pixel data, up to what is no item; the last may be cut off."""
    data, position, items = memoryview(pixel_data), 0, []
    while data[position : position + 4] == _ITEM:
        start = position + 8
        position = start + int.from_bytes(data[position + 4 : start], "little")
        items.append(data[start:position])
    return items


def _one_of_many(dataset: Any, layout: Layout, frame: int) -> bytes:
    from pydicom.encaps import get_frame  # noqa: PLC0415 - slow to import

    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets and lengths else None
    return get_frame(bytes(dataset.PixelData), frame, number_of_frames=layout.frames, extended_offsets=extended)


def _by_pydicom(dataset: Any, syntax: str, layout: Layout, frame: int) -> NDArray[Any]:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - slow to import
    from pydicom.uid import UID  # noqa: PLC0415 - slow to import

    decoder = get_decoder(UID(syntax))
    plugin = "" if syntax in NATIVE else "pylibjpeg"
    if plugin and plugin not in decoder.available_plugins:
        remedy = "run: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle"
        raise rejected("unsupported-transfer-syntax", "TransferSyntaxUID", UID(syntax).name, "a decoder", remedy)
    if isinstance(dataset.get("PixelData"), memoryview):
        dataset.PixelData = bytes(dataset.PixelData)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    values, meta = decoder.as_array(dataset, index=frame, decoding_plugin=plugin)
    if layout.samples > 1 and meta["photometric_interpretation"] != "RGB":
        raise ValueError(f"the photometric interpretation {meta['photometric_interpretation']} is not known")
    return np.asarray(values)


def _native(dataset: Any, syntax: str, layout: Layout, frame: int) -> NDArray[Any]:
    swapped_bytes = syntax == BIG_ENDIAN and layout.allocated == 8
    if layout.allocated not in {8, 16, 32, 64} or layout.photometric.startswith("YBR_FULL_422") or swapped_bytes:
        return _by_pydicom(dataset, syntax, layout, frame)
    keyword = next((each for each in ("PixelData", "FloatPixelData") if each in dataset), "DoubleFloatPixelData")
    element = dataset[keyword]
    data = memoryview(element.value)
    if element.is_undefined_length:
        raise ValueError("the pixels are in fragments, which uncompressed ones cannot be")
    length = layout.bytes_per_frame
    if len(data) < length * layout.frames:
        raise ValueError(f"there are {len(data)} of {length * layout.frames} bytes of pixels")
    order = ">" if syntax == BIG_ENDIAN else "<"
    kind = "u" if keyword == "PixelData" else "f"
    words = np.frombuffer(data[frame * length : (frame + 1) * length], f"{order}{kind}{layout.allocated // 8}")
    return _from_words(words.astype(words.dtype.newbyteorder("="), copy=False), layout, layout.planar)


def _from_words(words: NDArray[Any], layout: Layout, planar: bool) -> NDArray[Any]:
    """Return the pixels of a frame from its allocated words, in which HighBit tells where the value lies."""
    values = words if words.dtype.kind == "f" else _sign_extended(words, layout, layout.high)
    if layout.samples == 1:
        return values.reshape(layout.shape)
    if planar:
        values = values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    values = values.reshape(layout.shape)
    if layout.photometric == "YBR_FULL":
        from pydicom.pixels.processing import convert_color_space  # noqa: PLC0415 - slow to import

        return np.asarray(convert_color_space(values, "YBR_FULL", "RGB"))
    if layout.photometric != "RGB":
        raise ValueError(f"the photometric interpretation {layout.photometric} is not known")
    return values


def _sign_extended(words: NDArray[Any], layout: Layout, high: int) -> NDArray[Any]:
    """Return the number that the stored bits up to the high bit stand for; overlays may lie in the others."""
    above, below = 8 * words.dtype.itemsize - 1 - high, high + 1 - layout.stored
    if layout.signed:
        words = words.view(words.dtype.str.replace("u", "i"))
        return words << above >> (above + below) if above or below else words
    if below:
        words = words >> below
    mask = words.dtype.type(2**layout.stored - 1)
    # To look is three times faster than to copy.
    return words & mask if above and words.max() > mask else words


def _rle(encoded: Buffer, layout: Layout) -> NDArray[Any]:
    from imagecodecs import dicomrle_decode  # noqa: PLC0415 - slow to import

    # Its annotations forget that any buffer will do.
    decoded = dicomrle_decode(encoded, layout.word, out=np.empty(layout.bytes_per_frame, np.uint8).data)  # type: ignore[arg-type]
    return _from_words(_whole(decoded, layout), layout, planar=True)


def _inflated(encoded: Buffer, layout: Layout) -> NDArray[Any]:
    decoded = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, layout.bytes_per_frame)
    return _from_words(_whole(decoded, layout), layout, layout.planar)


def _whole(decoded: Buffer, layout: Layout) -> NDArray[Any]:
    if len(decoded) != layout.bytes_per_frame:
        raise ValueError(f"there are {len(decoded)} of {layout.bytes_per_frame} bytes of pixels")
    return np.frombuffer(decoded, layout.word)


def _jpeg(encoded: Buffer, layout: Layout) -> NDArray[Any]:
    from imagecodecs import jpeg_decode  # noqa: PLC0415 - slow to import

    return _filled(jpeg_decode, encoded, layout)


def _jpeg_ls(encoded: Buffer, layout: Layout) -> NDArray[Any]:
    from imagecodecs import jpegls_decode  # noqa: PLC0415 - slow to import

    # JPEG-LS knows no sign: its bit is the highest of those that are encoded, or of those that are stored if fewer.
    segment = bytes(encoded[:_SEARCHED]).find(b"\xff\xf7")
    if layout.signed and segment < 0:
        raise ValueError("where the precision stands is not known")
    stored = min(layout.stored, encoded[segment + 4]) if layout.signed else layout.stored
    return _filled(jpegls_decode, encoded, replace(layout, stored=stored))


def _jpeg_xl(encoded: Buffer, layout: Layout) -> NDArray[Any]:
    from imagecodecs import jpegxl_decode  # noqa: PLC0415 - slow to import

    return _filled(jpegxl_decode, encoded, layout)


def _filled(decode: Callable[..., Any], encoded: Buffer, layout: Layout) -> NDArray[Any]:
    """Decode into an array of the declared shape; a stream of another is refused before memory is reserved for it."""
    values = np.empty(layout.shape, np.uint8 if layout.stored <= 8 else np.uint16)
    decode(encoded, out=values)
    words = values.astype(layout.word, copy=False)
    return _sign_extended(words, layout, layout.stored - 1)


_Decode = Callable[[Buffer, Layout], NDArray[Any]]
_DECODE: dict[str, _Decode] = {RLE: _rle, DEFLATED_FRAMES: _inflated, **dict.fromkeys(JPEG_XL, _jpeg_xl)}
_DECODE_MONOCHROME: dict[str, _Decode] = {**dict.fromkeys(JPEG, _jpeg), **dict.fromkeys(JPEG_LS, _jpeg_ls)}
