"""How images were taken, stored and sent: what their files say besides what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from medfusion.modalities.imaging.headers import text_of
from medfusion.modalities.imaging.payload import Film, Scan
from medfusion.modalities.imaging.syntaxes import transfer_syntax

Facts = Mapping[str, str | float]
_WORDS = {
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "photometric": "PhotometricInterpretation",
}
KEYWORDS = ("ViewPosition", "ViewCodeSequence", "Modality", "Manufacturer", "ManufacturerModelName")
"""The header values that are needed besides those that decide how pixels look."""


def facts_of(picture: Any) -> Facts:
    """Return what one file says of how it was made; what it does not say is left out.

    Parameters
    ----------
    picture : pydicom Dataset with `KEYWORDS`, or bytes of a PNG or JPEG file

    Returns
    -------
    dict
        ``format`` (PNG, JPEG, or the name of the transfer syntax), ``bits``, and of DICOM ``view``, ``modality``,
        ``manufacturer``, ``model`` and ``photometric``.
    """
    if isinstance(picture, bytes):
        return _of_picture(picture)
    from pydicom.uid import UID  # noqa: PLC0415 - slow to import

    words = {"view": _view(picture), **{name: text_of(picture.get(keyword)) for name, keyword in _WORDS.items()}}
    facts: dict[str, str | float] = {name: word for name, word in words.items() if word}
    stored = text_of(picture.get("BitsStored"))
    if stored.isdecimal():
        facts["bits"] = int(stored)
    return {**facts, "format": UID(transfer_syntax(picture)).name}


def described(films: Sequence[Film]) -> dict[str, str | float]:
    """Return how the images of one payload were made.

    Parameters
    ----------
    films : sequence of Film
        At least one.

    Returns
    -------
    dict
        ``images`` (how many), ``slices`` (of a volume), ``rows``, ``columns`` and ``aspect`` (columns by rows) as
        stored, and what `facts_of` tells. Of several images: the mean of numbers, all different words.
    """
    each = [{**film.facts, **_sizes(film)} for film in films]
    told: dict[str, str | float] = {"images": len(films)}
    for name in dict.fromkeys(name for facts in each for name in facts):
        values = [facts[name] for facts in each if name in facts]
        numbers = [value for value in values if not isinstance(value, str)]
        told[name] = sum(numbers) / len(numbers) if numbers else ", ".join(sorted({str(value) for value in values}))
    return told


def _sizes(film: Film) -> dict[str, float]:
    rows, columns = film.size
    sizes = {"rows": rows, "columns": columns, "aspect": round(columns / rows, 2)}
    return {**sizes, "slices": film.source.total} if isinstance(film.source, Scan) else sizes


def _view(header: Any) -> str:
    """Return PA, AP, …; some detectors only give it as a code (PS3.3 C.8.11.5)."""
    if position := text_of(header.get("ViewPosition")):
        return position
    try:
        return text_of(header.ViewCodeSequence[0].CodeMeaning)
    except Exception:  # absent, or as damaged as sequences can be
        return ""


def _of_picture(data: bytes) -> Facts:
    from PIL import Image  # noqa: PLC0415 - slow to import

    with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        bits = 16 if picture.mode.startswith("I") else 8
        return {"format": str(picture.format), "bits": bits, "photometric": picture.mode}
