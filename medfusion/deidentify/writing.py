"""Writes an image file anew, without what identifies its patient and without touching its pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from medfusion.core.errors import PayloadRejected
from medfusion.deidentify.compressed import strip_comments
from medfusion.deidentify.files import ImageFile, read_dataset, rejected, unreadable
from medfusion.deidentify.headers import Clean, HeaderCleaner, Person

_MAX_PICTURE_PIXELS = 1 << 28


def write_image(image: ImageFile, out: Path, cleaner: HeaderCleaner, person: Person, scrub: Clean) -> Counter[str]:
    """Write a file without what identifies its patient.

    Parameters
    ----------
    image : ImageFile
    out : Path
        The file to write.
    cleaner : HeaderCleaner
    person : Person
    scrub : callable

    Returns
    -------
    Counter
        How many elements were treated in which way.

    Raises
    ------
    PayloadRejected
        If it cannot be read to the end or written again.
    """
    if image.suffix == ".png":
        return _write_picture(image.file, out)
    try:
        dataset = read_dataset(image.file, pixels=True)
        syntax, sop_class = _syntax_of(dataset), dataset.get("SOPClassUID")
        counts = cleaner.clean(dataset, person, scrub)
        _renew_meta(dataset, syntax, sop_class)
        counts["frame-comment"] += strip_comments(dataset)
        dataset.save_as(out, enforce_file_format=True)
    except PayloadRejected:
        raise
    except Exception as error:  # damaged files make parser and writer fail in every way there is
        out.unlink(missing_ok=True)
        raise unreadable(error) from None
    return +counts


def _syntax_of(dataset: Any) -> Any:
    """Return the transfer syntax; a file without meta information is as it was parsed."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: PLC0415 - slow

    if said := dataset.file_meta.get("TransferSyntaxUID"):
        return said
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _renew_meta(dataset: Any, syntax: Any, sop_class: Any) -> None:
    """Write file meta information and preamble anew: the old ones may name stations and hold anything."""
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 - slow to import

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    dataset.file_meta, dataset.preamble = meta, bytes(128)


def _write_picture(file: Path, out: Path) -> Counter[str]:
    """Write the pixels of a PNG or JPEG alone, upright, as PNG: what is not a pixel stays behind."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - slow to import

    try:
        with Image.open(file, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MAX_PICTURE_PIXELS:
                got = f"{picture.width} x {picture.height} pixels"
                raise rejected("too-large", "file", got, f"at most {_MAX_PICTURE_PIXELS} pixels", "it is not copied")
            upright = ImageOps.exif_transpose(picture)
            upright = upright.convert("RGB") if upright.mode in {"CMYK", "YCbCr"} else upright
            upright.info = {key: upright.info[key] for key in ("transparency",) if key in upright.info}
            upright.save(out, format="PNG")
    except PayloadRejected:
        raise
    except Exception as error:  # a damaged picture makes the decoder fail in every way there is
        out.unlink(missing_ok=True)
        raise unreadable(error) from None
    return Counter({"picture-rewritten": 1})
