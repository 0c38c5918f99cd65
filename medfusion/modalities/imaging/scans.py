"""From the slices of a study to the volume that a network is shown: which one, which of its slices, and how grey."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.types import FloatArray
from medfusion.modalities.imaging.geometry import inner_box
from medfusion.modalities.imaging.grey import Levels, first_number, percentiles, window
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.payload import Scan
from medfusion.modalities.imaging.pixels import load, of_frame
from medfusion.modalities.imaging.volumes import (
    Finding,
    SliceHeader,
    Stack,
    Volume,
    load_volume,
    plan_series,
    read_slice_headers,
    select,
)

_AT_ONCE = 16
_UNITS = {"HU": "HU", "SUV": "SUV", "BQML": "Bq/mL"}


@dataclass(frozen=True, slots=True)
class Found:
    """What the slices of a study are.

    Attributes
    ----------
    scan : Scan or None
        The volume that is taken; None where no series is one.
    images : tuple of Path
        Files that are no part of a volume, but images by themselves.
    problems : tuple of Problem
        What was left out, and, as warnings, what is odd about the volume that was taken.
    """

    scan: Scan | None
    images: tuple[Path, ...]
    problems: tuple[Problem, ...]


def find_scan(files: Sequence[Path], slices: int | None) -> Found:
    """Choose the volume of a study by the rules of `select`.

    Parameters
    ----------
    files : sequence of Path
        The slices of one study, in any order.
    slices : int or None
        How many slices to show, evenly from the whole volume; None for all.
    """
    headers: list[SliceHeader] = []
    problems: list[Problem] = []
    for file in files:
        try:
            headers += read_slice_headers(file)
        except PayloadRejected as error:
            problems.append(error.problem)
    plan = plan_series(headers)
    problems += plan.problems
    images = tuple(header.path for header in plan.images)
    selected = select(plan.stacks)
    if selected is None:
        return Found(None, images, tuple(problems))
    stack = selected.stack
    problems += [_warning(finding, stack) for finding in stack.findings]
    total = len(stack.slices)
    chosen = evenly(total, total if slices is None else slices)
    planes = tuple((stack.slices[index].path, stack.slices[index].frame) for index in chosen)
    numbers = tuple(index + 1 for index in chosen)
    used = {each.path for each in (*stack.slices, *(copy for _, copy in stack.copies))}
    scan = Scan(tuple(sorted(used)), stack.key, planes, numbers, total, selected.reason)
    return Found(scan, images, tuple(problems))


def _warning(finding: Finding, stack: Stack) -> Problem:
    expected, remedy = "a regular volume", "nothing has to be done; it is read as it is"
    return Problem(finding.code, str(stack.slices[0].path), "", "series", finding.words, expected, remedy, "warning")


def evenly(total: int, wanted: int) -> list[int]:
    """Choose so many of ``total`` slices, each from the middle of an equal part of the volume.

    Examples
    --------
    >>> evenly(10, 5), evenly(3, 5)
    ([1, 3, 5, 7, 9], [0, 1, 2])
    """
    if total <= wanted:
        return list(range(total))
    return [int((place + 0.5) * total / wanted) for place in range(wanted)]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is known of the slices that are shown; the attributes are those of `pixels.Encoded`."""

    size: tuple[int, int]
    content: str
    digest: str
    facts: Mapping[str, str | float]


def inspect_scan(scan: Scan) -> Inspected:
    """Read the slices that are shown, without decoding them.

    Raises
    ------
    PayloadRejected
        Naming the file, if one cannot be read.
    """
    content, digest = hashlib.sha256(), hashlib.sha256(repr((scan.key, scan.numbers, scan.total)).encode())
    size: tuple[int, int] = (0, 0)
    facts: Mapping[str, str | float] = {}
    for path in dict.fromkeys(path for path, _ in scan.planes):
        try:
            slices = load(path, of_volume=True)
        except PayloadRejected as error:
            raise PayloadRejected(replace(error.problem, file=str(path))) from None
        size, facts = slices.size, slices.facts
        content.update(slices.content.encode())
        digest.update(slices.digest.encode())
    return Inspected(size, content.hexdigest(), digest.hexdigest(), facts)


def decode_scan(scan: Scan, longest: int) -> Levels:
    """Return the slices of a scan, ``numbers`` saying which.

    Values are averaged over areas. The range of them that is shown is the window of the middle one of ``planes``, where
    it has one and the values are those that it was made for; else that between two percentiles.

    Returns
    -------
    Levels
        Values (slices, rows, columns); the longer side has at most so many pixels.

    Raises
    ------
    PayloadRejected
        As `load_volume`, or ``changed-film`` if the volume is not the one that was found before.
    """
    stack, planes = _stack(scan), [number - 1 for number in scan.numbers]
    # A few at a time: a whole volume at full size may be more than a worker may use.
    parts = [planes[start : start + _AT_ONCE] for start in range(0, len(planes), _AT_ONCE)]
    values = np.concatenate([_reduced(load_volume(stack, planes=part), longest) for part in parts])
    path, frame = scan.planes[len(scan.planes) // 2]
    header = of_frame(load(path, of_volume=True).picture, frame)
    center, width = (first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width >= 1 and stack.unit.factor == 1.0:
        values, low, high = window(values, center, width, str(header.get("VOILUTFunction") or "LINEAR"))
    else:
        low, high = percentiles(values)
    return Levels(values, low, high, unit=_UNITS.get(stack.unit.name, ""))


def _reduced(volume: Volume, longest: int) -> FloatArray:
    rows, columns = volume.values.shape[1:]
    if max(rows, columns) <= longest:
        return volume.values
    import cv2  # noqa: PLC0415 - slow to import

    height, width = inner_box((rows, columns), longest)[2:]
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in volume.values])


def _stack(scan: Scan) -> Stack:
    plan = plan_series([header for file in scan.files for header in read_slice_headers(file)])
    for stack in plan.stacks:
        if stack.key == scan.key and len(stack.slices) == scan.total:
            return stack
    raise rejected("changed-film", "file", "other slices", "those that were read before", "start again")


def to_json(scan: Scan) -> dict[str, Any]:
    """Return what decoding a scan needs, as values that JSON can hold."""
    return {
        "files": [str(file) for file in scan.files],
        "key": list(scan.key),
        "planes": [[str(path), frame] for path, frame in scan.planes],
        "numbers": list(scan.numbers),
        "total": scan.total,
    }


def from_json(said: Mapping[str, Any]) -> Scan:
    """Return the scan that `to_json` described."""
    series, instance, frame = said["key"]
    return Scan(
        files=tuple(Path(file) for file in said["files"]),
        key=(series, instance, frame),
        planes=tuple((Path(path), index) for path, index in said["planes"]),
        numbers=tuple(said["numbers"]),
        total=said["total"],
        reason="",
    )
