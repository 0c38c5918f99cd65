"""From an encoded film to what a reader sees on a screen: grey values in [0, 1], where 0 is black.

The steps are those of the DICOM grayscale pipeline (PS3.3 C.11; PS3.4 N.2): stored value, modality LUT or rescale,
VOI LUT or window, photometric interpretation. Where a file has several windows the first is taken; where it has none,
8-bit images are shown over their full range and others from their 0.5th to their 99.5th percentile. Pixels that
PixelPaddingValue marks as no image count for no range and become black. Colour becomes luma.

Compressed pixels are decoded by pylibjpeg alone, so that the same file gives the same values wherever it is read, and
because a damaged file can end the whole process in other decoders.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core.errors import PayloadRejected
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.grey import PERCENTILES, between_percentiles, displayed, from_colour
from medfusion.modalities.imaging.headers import kind_of, rejected
from medfusion.modalities.imaging.payload import Source

PIPELINE = f"grey-1 range-{PERCENTILES[0]}-{PERCENTILES[1]}"
"""Changes whenever the same file gives other grey values."""
MAX_PIXELS = 100_000_000
"""The largest declared rows x columns that is decoded."""
LOOK = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
"""The header values that decide how pixels look."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A film's file, read but not decoded.

    Attributes
    ----------
    picture : pydicom Dataset, or bytes of a PNG or JPEG file
    size : (rows, columns)
    content : str
        SHA-256 of the encoded pixels.
    digest : str
        SHA-256 of the encoded pixels and of what decides how they look.
    """

    picture: Any
    size: tuple[int, int]
    content: str
    digest: str


def load(source: Source) -> Encoded:
    """Read a film without decoding it.

    Raises
    ------
    PayloadRejected
        Without a file name, which the caller adds: ``unreadable-file``, ``unreadable-dicom``, ``not-an-image``,
        ``not-2d`` or ``too-large``.
    """
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise rejected("unreadable-file", "file", str(error.strerror), "a readable file", "check the file") from None
    kind = kind_of(data[:132])
    try:
        encoded = _load_dicom(data) if kind == "dicom" else _load_picture(data)
    except PayloadRejected:
        raise
    except Exception as error:  # damaged files make the parsers fail in every way there is
        raise rejected("unreadable-dicom", "file", _said(error), "an image", "export the file again") from None
    return encoded


def decode(encoded: Encoded) -> FloatArray:
    """Return what a reader sees.

    Returns
    -------
    array (rows, columns), float32
        In [0, 1]; 0 is black.

    Raises
    ------
    PayloadRejected
        Without a file name: ``unsupported-transfer-syntax``, ``undecodable-pixels`` or ``empty-image``.
    """
    try:
        is_picture = isinstance(encoded.picture, bytes)
        image = _decode_picture(encoded.picture) if is_picture else _decode_dicom(encoded.picture)
    except (KeyboardInterrupt, SystemExit, PayloadRejected):
        raise
    except BaseException as error:  # a decoder written in Rust panics with one that is no Exception
        raise rejected("undecodable-pixels", "PixelData", _said(error), "pixels", "export the file again") from None
    if image.ndim != 2:
        raise rejected("not-2d", "PixelData", f"{image.ndim} dimensions", "2", "export single images")
    if not image.max() > image.min():
        remedy = "check the window, and whether the film was exposed"
        raise rejected("empty-image", "PixelData", "one grey value", "a picture", remedy)
    return image


def _load_dicom(data: bytes) -> Encoded:
    from pydicom import dcmread  # noqa: PLC0415 - slow to import

    dataset = dcmread(BytesIO(data), force=True, specific_tags=[*LOOK, "NumberOfFrames", "PixelData"])
    if "PixelData" not in dataset or not dataset.get("Rows") or not dataset.get("Columns"):
        raise rejected("not-an-image", "PixelData", "", "pixel data", "keep only films in imaging/")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise rejected("not-2d", "NumberOfFrames", str(dataset.NumberOfFrames), "1", "export single images")
    size = (int(dataset.Rows), int(dataset.Columns))
    _check_size(size)
    content = hashlib.sha256(dataset.PixelData)
    look = hashlib.sha256(content.digest() + _syntax(dataset).encode())
    for keyword in LOOK:
        look.update(f"|{keyword}=".encode() + _plain(dataset.get(keyword)))
    return Encoded(dataset, size, content.hexdigest(), look.hexdigest())


def _plain(value: Any) -> bytes:
    """Return a header value as bytes, in full."""
    if isinstance(value, bytes):
        return value
    if hasattr(value, "iterall"):
        return b";".join(_plain(element.value) for element in value.iterall())
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return b",".join(_plain(item) for item in value)
    return str(value).encode()


def _load_picture(data: bytes) -> Encoded:
    from PIL import Image  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        size = (picture.height, picture.width)
    _check_size(size)
    content = hashlib.sha256(data).hexdigest()
    return Encoded(data, size, content, content)


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        got, expected = f"{size[0]} x {size[1]}", f"at most {MAX_PIXELS // 1_000_000} million pixels"
        raise rejected("too-large", "Rows, Columns", got, expected, "export it at a lower resolution")


def _syntax(dataset: Any) -> str:
    """Return the transfer syntax, from the encoding itself in old files that do not name it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: PLC0415 - slow to import

    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = dataset.original_encoding
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _decode_dicom(dataset: Any) -> FloatArray:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - slow to import
    from pydicom.uid import UID  # noqa: PLC0415 - slow to import

    syntax = UID(_syntax(dataset))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        remedy = "no decoder is known for it; convert the file to JPEG 2000, RLE or uncompressed"
        raise rejected("unsupported-transfer-syntax", "TransferSyntaxUID", syntax.name, "another", remedy) from None
    plugin = "pylibjpeg" if syntax.is_encapsulated else ""
    if plugin and plugin not in decoder.available_plugins:
        remedy = "run: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle"
        raise rejected("unsupported-transfer-syntax", "TransferSyntaxUID", syntax.name, "a decoder", remedy)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = syntax
    if "JPEG" in syntax.name:
        _check_complete(dataset.PixelData)
    stored, meta = decoder.as_array(dataset, decoding_plugin=plugin)
    photometric = str(meta["photometric_interpretation"])
    if photometric in {"MONOCHROME1", "MONOCHROME2"}:
        return displayed(stored, dataset, inverted=photometric == "MONOCHROME1")
    return from_colour(stored, dataset, photometric)


def _check_complete(pixel_data: bytes) -> None:
    """Refuse a JPEG stream without its end: decoders fill what is missing with grey and say nothing."""
    from pydicom.encaps import generate_frames  # noqa: PLC0415 - slow to import

    frame = next(generate_frames(pixel_data, number_of_frames=1), b"")
    # Some writers leave a byte or two behind the end marker.
    if b"\xff\xd9" not in frame.rstrip(b"\0")[-4:]:
        raise ValueError("the compressed image is truncated")


def _decode_picture(data: bytes) -> FloatArray:
    from PIL import Image, ImageOps  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            return between_percentiles(np.asarray(upright, dtype=np.float32))
        return np.asarray(upright.convert("L"), dtype=np.float32) / 255.0


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
