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
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from math import ceil
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

import numpy as np

from medfusion.core.errors import PayloadRejected
from medfusion.core.guards import open_checked
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.acquisition import KEYWORDS as ACQUISITION
from medfusion.modalities.imaging.acquisition import facts_of
from medfusion.modalities.imaging.decoders import items_of, stored_values
from medfusion.modalities.imaging.geometry import inner_box
from medfusion.modalities.imaging.grey import PERCENTILES, Levels, averaged, is_linear, levels, luma, percentiles
from medfusion.modalities.imaging.headers import kind_of, parse, pixels_keyword, rejected, sop_class, text_of
from medfusion.modalities.imaging.intake import check_image, check_size, shown_frame
from medfusion.modalities.imaging.reduction import reduced_values
from medfusion.modalities.imaging.syntaxes import transfer_syntax
from medfusion.modalities.imaging.volumes.header import SOP_CLASSES as SLICES

PIPELINE = f"grey-2 range-{PERCENTILES[0]}-{PERCENTILES[1]}"
"""Changes whenever the same file gives other grey values."""
_OVERSAMPLING = 1.9
"""How many decoded pixels there are at least along one that is shown, where fewer than all are decoded."""
LOOK = (
    *(
        "NumberOfFrames",
        "RepresentativeFrameNumber",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "Rows",
        "Columns",
        "BitsAllocated",
    ),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    *("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
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
_NEEDED = (
    *("SOPClassUID", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Encoded:
    """A film's file, read but not decoded.

    Attributes
    ----------
    picture : pydicom Dataset, or bytes of a PNG or JPEG file
    size : (rows, columns)
    look : bytes
        Everything but the pixels that decides how they look.
    frame : int
        Which one is shown, counted from 0.
    """

    picture: Any = field(repr=False)
    size: tuple[int, int]
    look: bytes = field(default=b"", repr=False)
    frame: int = 0

    @cached_property
    def content(self) -> str:
        """The SHA-256 of the encoded pixels; computed when it is first asked for."""
        is_file = isinstance(self.picture, bytes)
        return hashlib.sha256(self.picture if is_file else self.picture[pixels_keyword(self.picture)].value).hexdigest()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the encoded pixels and of what decides how they look."""
        return hashlib.sha256(bytes.fromhex(self.content) + self.look).hexdigest()

    @cached_property
    def facts(self) -> Mapping[str, str | float]:
        """How it was made, as far as the file says; no part of the digest."""
        return facts_of(self.picture)


def load(source: Path | bytes, *, of_volume: bool = False) -> Encoded:
    """Read a film without decoding it.

    Parameters
    ----------
    source : Path or bytes
        A file, or the content of one.
    of_volume : bool
        Whether slices of a volume are expected, of which a file may hold several.

    Raises
    ------
    PayloadRejected
        Without a file name, which the caller adds: ``unreadable-file``, ``unreadable-dicom``, ``not-an-image``,
        ``not-2d``, ``too-large``, or what `guards.check_structure` refuses.
    """
    try:
        with open_checked(source) if isinstance(source, Path) else BytesIO(source) as file:
            kind = kind_of(file.read(132))
            file.seek(0)
            return _load_dicom(file, of_volume) if kind == "dicom" else _load_picture(file.read())
    except (PayloadRejected, MemoryError):
        raise
    except Exception as error:  # damaged files make the parsers fail in every way there is
        if isinstance(error, OSError) and error.strerror:
            raise rejected("unreadable-file", "file", error.strerror, "a readable file", "check the file") from None
        raise rejected("unreadable-dicom", "file", _said(error), "an image", "export the file again") from None


def decode(encoded: Encoded, *, longest: int | None = None, frame: int | None = None) -> FloatArray:
    """Return what a reader sees.

    Parameters
    ----------
    encoded : Encoded
    longest : int, optional
        Pixels that the longer side is to have: larger images are averaged over areas, and only what that needs is
        decoded where the encoding allows it; smaller ones come as they are.
    frame : int, optional
        Counted from 0; that of ``encoded`` unless given.

    Returns
    -------
    array (rows, columns), float32
        In [0, 1]; 0 is black. Where ``longest`` made it smaller, (rows, columns) are those of `inner_box`.

    Raises
    ------
    PayloadRejected
        Without a file name: ``unsupported-transfer-syntax``, ``undecodable-pixels`` or ``empty-image``.
    """
    image = decode_levels(encoded, longest=longest, frame=frame).grey()
    if not image.max() > image.min():
        remedy = "check the window, and whether the film was exposed"
        raise rejected("empty-image", "PixelData", "one grey value", "a picture", remedy)
    return image


def decode_levels(encoded: Encoded, *, longest: int | None = None, frame: int | None = None) -> Levels:
    """Return the values of which a reader sees a range; see `decode`.

    Raises
    ------
    PayloadRejected
        Without a file name: ``unsupported-transfer-syntax`` or ``undecodable-pixels``.
    """
    smaller = longest is not None and longest < max(encoded.size)
    shape = inner_box(encoded.size, longest)[2:] if longest and smaller else None
    try:
        if isinstance(encoded.picture, bytes):
            return _decode_picture(encoded.picture, shape)
        return _decode_dicom(encoded.picture, encoded.frame if frame is None else frame, shape)
    except (KeyboardInterrupt, SystemExit, PayloadRejected, MemoryError):
        raise
    except BaseException as error:  # a decoder written in Rust panics with one that is no Exception
        raise rejected("undecodable-pixels", "PixelData", _said(error), "pixels", "export the file again") from None


def _load_dicom(file: BinaryIO, of_volume: bool) -> Encoded:
    dataset, has_pixels = parse(file, (*_NEEDED, *LOOK), ACQUISITION)
    frames = check_image(dataset, has_pixels)
    if frames > 1 and sop_class(dataset) in SLICES and not of_volume:
        raise rejected("not-2d", "NumberOfFrames", str(frames), "1", "this is a volume; read it as one")
    if not (keyword := pixels_keyword(dataset)):
        _read_pixels(file, dataset)
    elif not isinstance(dataset[keyword].value, bytes):
        raise ValueError("the pixels are no bytes")
    frame, _ = shown_frame(frames, text_of(dataset.get("RepresentativeFrameNumber")))
    shown = of_frame(dataset, frame)
    look = b"".join(f"|{keyword}=".encode() + _plain(shown.get(keyword)) for keyword in LOOK)
    size = (int(dataset.Rows), int(dataset.Columns))
    return Encoded(dataset, size, transfer_syntax(dataset).encode() + look, frame)


def _read_pixels(file: BinaryIO, dataset: Any) -> None:
    """Read the element with the pixels, which comes next, into memory that is not copied again."""
    from pydicom.dataelem import DataElement  # noqa: PLC0415 - slow to import

    order = "<" if dataset.original_encoding[1] else ">"
    head = file.read(8)
    # Some files are not in the encoding that they name.
    implicit = head[4:6] not in {b"OB", b"OW", b"OF", b"OD", b"UN"}
    group, number = unpack(order + "HH", head[:4])
    length = unpack(order + "I", head[4:] if implicit else file.read(4))[0]
    # numpy asks the system for large pages, which makes reading several times faster.
    data = memoryview(file.read()) if isinstance(file, BytesIO) else np.fromfile(file, np.uint8).data
    undefined = length == _UNDEFINED_LENGTH
    vr = "OB" if undefined or implicit else head[4:6].decode("ascii")
    value = data[: sum(8 + len(item) for item in items_of(data)) if undefined else length]
    # Converted already: pydicom knows no memory that it did not read itself.
    element = DataElement((group, number), vr, value, is_undefined_length=undefined, already_converted=True)
    dataset[group, number] = element


def of_frame(dataset: Any, frame: int) -> Any:
    """Return the header values that hold for one frame: those of functional groups win (PS3.3 C.7.6.16)."""
    shared, own = (dataset.get(f"{which}FunctionalGroupsSequence") or [] for which in ("Shared", "PerFrame"))
    items = [*shared[:1], *own[frame : frame + 1]]
    if not items:
        return dataset
    merged = dataset.copy()
    for item in items:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for group in list(item.get(keyword) or [])[:1]:
                merged.update(group)
    return merged


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
    from PIL import ExifTags, Image  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        # The last four of the eight orientations of a photograph lie on their side.
        lying = picture.format == "JPEG" and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
        size = (picture.width, picture.height) if lying else (picture.height, picture.width)
    check_size(*size)
    return Encoded(data, size)


def _decode_dicom(dataset: Any, frame: int, shape: tuple[int, int] | None) -> Levels:
    dataset = of_frame(dataset, frame)
    if shape is not None and is_linear(dataset):
        stored = reduced_values(dataset, frame, at_least=ceil(_OVERSAMPLING * max(shape)))
    else:
        stored = stored_values(dataset, frame)
    monochrome = dataset.get("PhotometricInterpretation") in {"MONOCHROME1", "MONOCHROME2"} and stored.ndim == 2
    return levels(stored, dataset, shape) if monochrome else Levels(luma(stored, dataset, shape), 0.0, 1.0)


def _decode_picture(data: bytes, shape: tuple[int, int] | None) -> Levels:
    from PIL import Image, ImageOps  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        if shape is not None:
            factor = max(1, int(max(picture.size) / (_OVERSAMPLING * max(shape))))
            picture.draft(None, (picture.width // factor, picture.height // factor))
        upright = ImageOps.exif_transpose(picture) if picture.format == "JPEG" else picture
        deep = upright.mode.startswith("I")
        values = np.asarray(upright if deep else upright.convert("L"), dtype=np.float32)
    values, _ = averaged(values, None, shape)
    return Levels(values, *(percentiles(values) if deep else (0.0, 255.0)))


def _said(error: BaseException) -> str:
    # An address in memory says nothing, and is another one each time.
    lines = re.sub(r" <\S+ object at 0x[0-9a-f]+>", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
