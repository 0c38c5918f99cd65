"""From slices in any order to stacks, each of which is one volume."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medfusion.core.errors import PayloadRejected, Problem, Severity
from medfusion.modalities.imaging.headers import rejected
from medfusion.modalities.imaging.volumes.geometry import SAME_PLACE_MM, Finding, Geometry, depths_mm, geometry_of
from medfusion.modalities.imaging.volumes.header import APART, MAYBE_APART, SliceHeader
from medfusion.modalities.imaging.volumes.units import Unit, unit_of

_SAME_COSINE = 1e-3
_SAME_SPACING = 1e-3
"""Two directions, or two pixel spacings in mm, that differ by less are one, written with other digits."""
_EXPORT = "export the original series again"
_UNUSABLE = {
    "localiser": ("ImageType", "LOCALIZER", "a slice of a volume", "nothing has to be done"),
    "mosaic": ("ImageType", "MOSAIC", "one slice per image", "export the slices singly, or as enhanced MR"),
    "missing-geometry": ("ImagePositionPatient", "none", "a position, an orientation and a pixel spacing", _EXPORT),
}
"""Of each code: the field, what stands there, what should, and what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices that make one volume, in order, and what their headers say about it.

    Attributes
    ----------
    slices : tuple of SliceHeader
        At least two, in the direction of their normal, which is that of the rows x that of the columns.
    copies : tuple of (int, SliceHeader)
        Further slices at the position of the one with this index; loading checks that their pixels are the same.
    geometry : Geometry
    unit : Unit
    findings : tuple of Finding
        Of the geometry, and ``split-series`` or ``duplicate-slices``.
    """

    slices: tuple[SliceHeader, ...]
    copies: tuple[tuple[int, SliceHeader], ...]
    geometry: Geometry
    unit: Unit
    findings: tuple[Finding, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """What no other stack has: the series, and the file and frame of the first slice."""
        first = self.slices[0]
        return first.series_uid, first.sop_uid, first.frame


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the slices of a folder; every one of them is in exactly one of the three.

    Attributes
    ----------
    stacks : tuple of Stack
    images : tuple of SliceHeader
        Of series in which no two slices lie above each other: images, not volumes.
    problems : tuple of Problem
        One for each group of slices that is left out, with the first of its files and how many they are.
    """

    stacks: tuple[Stack, ...]
    images: tuple[SliceHeader, ...]
    problems: tuple[Problem, ...]


def plan_series(headers: Iterable[SliceHeader]) -> Plan:
    """Sort slices into volumes; what is done about each irregularity stands in the package's description.

    Parameters
    ----------
    headers : iterable of SliceHeader
        Of any number of patients, in any order, which does not matter.

    Returns
    -------
    Plan
    """
    ordered = sorted(headers, key=lambda each: (each.series_uid, each.sop_uid, each.frame, str(each.path)))
    stacks: list[Stack] = []
    images: list[SliceHeader] = []
    problems: list[Problem] = []
    # Files that do not say of which series they are belong together with none.
    for series in _grouped(ordered, lambda each: (each.patient_id, each.study_uid, each.series_uid or each.path)):
        usable = _usable(series, problems)
        parts = [part for alike in _of_one_geometry(usable) for part in _told_apart(alike)]
        if all(len(_places(part)) == 1 for part in parts):
            images.extend(usable)
            continue
        split = _split(parts)
        for part in parts:
            try:
                stacks.append(_stack(part, split))
            except PayloadRejected as error:
                problems.append(_about(part, error.problem))
    return Plan(tuple(stacks), tuple(images), tuple(problems))


def _grouped(slices: Iterable[SliceHeader], key: Callable[[SliceHeader], Hashable]) -> list[list[SliceHeader]]:
    """Return the slices of each key, in the order in which they come."""
    groups: dict[Hashable, list[SliceHeader]] = {}
    for each in slices:
        groups.setdefault(key(each), []).append(each)
    return list(groups.values())


def _usable(series: list[SliceHeader], problems: list[Problem]) -> list[SliceHeader]:
    """Leave out what is no slice of a volume, with a problem for each kind."""
    alone = len(series) == 1
    usable = []
    for kind in _grouped(series, lambda each: _unusable(each, alone)):
        if code := _unusable(kind[0], alone):
            severity: Severity = "warning" if code == "localiser" else "error"
            problems.append(_about(kind, replace(rejected(code, *_UNUSABLE[code]).problem, severity=severity)))
        else:
            usable = kind
    return usable


def _unusable(header: SliceHeader, alone: bool) -> str:
    """Return the code of why a slice is part of no volume; nothing where it may be, or is an image by itself."""
    if {"LOCALIZER", "SCOUT"} & set(header.image_type):
        return "localiser"
    if "MOSAIC" in header.image_type:
        return "mosaic"
    return "" if header.placed or alone else "missing-geometry"


def _about(part: Sequence[SliceHeader], problem: Problem) -> Problem:
    """Say whose slices a problem is about, how many they are, and where the first of them is."""
    first = part[0]
    got = f"{problem.got} ({len(part)} slices)" if len(part) > 1 else problem.got
    where = f"subject {first.patient_id}" if first.patient_id else ""
    return replace(problem, file=str(first.path), where=where, got=got, subject_id=first.patient_id)


def _of_one_geometry(slices: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Group slices of one matrix, frame of reference, echo, time, orientation and pixel spacing."""
    groups: list[list[SliceHeader]] = []
    for alike in _grouped(slices, lambda each: (each.modality, each.shape, each.frame_of_reference_uid, each.apart)):
        found: list[list[SliceHeader]] = []
        for each in alike:
            group = next((group for group in found if _parallel(group[0], each)), None)
            if group is None:
                found.append([each])
            else:
                group.append(each)
        groups.extend(found)
    return groups


def _parallel(one: SliceHeader, other: SliceHeader) -> bool:
    return _close(one.orientation, other.orientation, _SAME_COSINE) and _close(
        one.spacing_mm, other.spacing_mm, _SAME_SPACING
    )


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, most: float) -> bool:
    if one is None or other is None:
        return one is other
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= most


def _told_apart(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Split slices that share positions by the first header value that tells them apart.

    A value that splits into more parts than slices share a position is one of slices, such as a running number.
    """
    most = max(map(len, _places(slices)))
    for index in range(len(MAYBE_APART) if most > 1 else 0):
        parts = _grouped(slices, lambda each, index=index: each.maybe_apart[index])  # type: ignore[misc]
        if 1 < len(parts) <= most and max(len(place) for part in parts for place in _places(part)) < most:
            return [smaller for part in parts for smaller in _told_apart(part)]
    return [slices]


def _places(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Group slices by their position along the normal, in its order."""
    if not slices[0].placed:
        return [[each] for each in slices]
    depths = depths_mm(slices)
    places: list[list[SliceHeader]] = []
    start = -np.inf
    for index in np.argsort(depths, kind="stable"):
        if depths[index] - start > SAME_PLACE_MM:
            places.append([])
            start = depths[index]
        places[-1].append(slices[index])
    return places


def _split(parts: Sequence[Sequence[SliceHeader]]) -> tuple[Finding, ...]:
    """Say that a series holds several groups of slices, and what they differ in."""
    if len(parts) == 1:
        return ()
    values: dict[str, Callable[[SliceHeader], Hashable]] = {
        "orientation": lambda each: each.orientation,
        "matrix": lambda each: each.shape,
        "pixel spacing": lambda each: each.spacing_mm,
        "frame of reference": lambda each: each.frame_of_reference_uid,
        **{keyword: lambda each, n=n: each.apart[n] for n, keyword in enumerate(APART)},  # type: ignore[misc]
        **{keyword: lambda each, n=n: each.maybe_apart[n] for n, keyword in enumerate(MAYBE_APART)},  # type: ignore[misc]
    }
    inside = {name: [{value(each) for each in part} for part in parts] for name, value in values.items()}
    differ = [name for name, sets in inside.items() if all(len(one) == 1 for one in sets) and len(set.union(*sets)) > 1]
    return (Finding("split-series", f"one of {len(parts)} in its series, by {', '.join(differ[:3]) or 'geometry'}"),)


def _stack(part: list[SliceHeader], split: tuple[Finding, ...]) -> Stack:
    """Put slices in order.

    Raises
    ------
    PayloadRejected
        ``stray-slice`` or ``scattered-slices``.
    """
    places = _places(part)
    if len(places) == 1:
        remedy = "put it into a series of its own, to be read as an image"
        raise rejected("stray-slice", "ImagePositionPatient", "a single slice beside a volume", "a stack", remedy)
    # Which of several slices at a place comes first does not matter: loading makes sure that they are the same.
    slices = tuple(place[0] for place in places)
    copies = tuple((index, each) for index, place in enumerate(places) for each in place[1:])
    for index, each in copies:
        pixel_mm = min(each.spacing_mm or (0.0,))
        if not _close(slices[index].position_lps, each.position_lps, pixel_mm / 2):
            expected, remedy = "slices above each other", "export the series again"
            raise rejected("scattered-slices", "ImagePositionPatient", "slices beside each other", expected, remedy)
    geometry = geometry_of(slices)
    doubled = (Finding("duplicate-slices", f"{len(copies)} slices are there again"),) if copies else ()
    return Stack(slices, copies, geometry, unit_of(slices), (*geometry.findings, *doubled, *split))
