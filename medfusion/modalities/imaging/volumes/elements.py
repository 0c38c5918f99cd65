"""Values of a header by keyword, read with care: absent, present, or damaged, and never a surprise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medfusion.core.errors import PayloadRejected
from medfusion.core.guards import check_structure, open_checked
from medfusion.modalities.imaging.headers import kind_of, rejected

Elements = Mapping[str, Any]
"""pydicom data elements by DICOM keyword."""
LARGEST = 1e12
"""No number of a header is larger; products of those that are allowed stay finite."""


def parse(path: Path, keywords: Iterable[str], *, pixels: bool) -> Any:
    """Read some elements of a DICOM file, once its size and its structure have been found bearable.

    Returns
    -------
    pydicom Dataset

    Raises
    ------
    PayloadRejected
        Without a file name: ``unreadable-file``, ``not-dicom``, ``unreadable-dicom``, or a limit of `guards`.
    """
    from pydicom import dcmread  # noqa: PLC0415 - slow to import

    try:
        with open_checked(path) as file, warnings.catch_warnings():
            # What pydicom remarks on a header is either harmless or ends in a rejection.
            warnings.simplefilter("ignore")
            if kind_of(file.read(132)) != "dicom":
                raise rejected("not-dicom", "file", "another format", "a DICOM file", "remove it")
            check_structure(file)
            file.seek(0)
            return dcmread(file, stop_before_pixels=not pixels, specific_tags=list(keywords), force=True)
    except PayloadRejected:
        raise
    except Exception as error:  # damaged files make the parser fail in every way there is
        got, remedy = type(error).__name__, "export the file again"
        raise rejected("unreadable-dicom", "file", got, "a DICOM file", remedy) from None


def text(elements: Elements, keyword: str) -> str:
    """Return a value as text, several joined by a backslash; empty where there is none."""
    value = elements[keyword].value if keyword in elements else None
    if value is None:
        return ""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return str(value).strip(" \0")
    return "\\".join(str(part).strip(" \0") for part in value)


def number(elements: Elements, keyword: str) -> float | None:
    """Return a number, or None where the header gives none.

    Raises
    ------
    PayloadRejected
        ``bad-header``, if it is none, not finite, or larger than any that means something.
    """
    values = numbers(elements, keyword, 1)
    return None if values is None else values[0]


def numbers(elements: Elements, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return so many numbers, or None where the header gives none.

    Raises
    ------
    PayloadRejected
        ``bad-header``, if they are more or fewer, not finite, or larger than any that means something.
    """
    got = text(elements, keyword)
    if not got:
        return None
    try:
        values = tuple(float(part) for part in got.split("\\"))
    except ValueError:
        values = ()
    if len(values) != count or not all(abs(value) <= LARGEST for value in values):
        expected = "a number" if count == 1 else f"{count} numbers"
        raise rejected("bad-header", keyword, got, expected, "export the file again")
    return values
