"""Which volume of a study a model is given: explicit rules, in order, and what each of them decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medfusion.modalities.imaging.volumes.header import Modality
from medfusion.modalities.imaging.volumes.series import Stack

Rank = Callable[[Stack, Sequence[Stack]], float]
"""How good a stack is among those that are left; lower is better."""
_COVERED = 0.8
_HOLES = {"missing-slices", "uneven-spacing", "sparse-slices"}


@dataclass(frozen=True, slots=True)
class Selected:
    """The volume that was chosen, and why not the others.

    Attributes
    ----------
    stack : Stack
    reason : str
        The rules that decided, in their order.
    others : tuple of (Stack, str)
        The rest, each with the rule that it failed.
    """

    stack: Stack
    reason: str
    others: tuple[tuple[Stack, str], ...]


def coverage_mm(stack: Stack) -> float:
    """Return how much the slices span, in mm, counting each as thick as they are apart."""
    return stack.geometry.spacing_mm[0] * len(stack.slices)


def _primary(stack: Stack, _: Sequence[Stack]) -> float:
    """Count what makes an image less than an original: DERIVED, SECONDARY."""
    return len({"DERIVED", "SECONDARY"} & set(stack.slices[0].image_type))


def _covers_less(stack: Stack, rest: Sequence[Stack]) -> float:
    return float(coverage_mm(stack) < _COVERED * max(map(coverage_mm, rest)))


RULES: tuple[tuple[str, Rank], ...] = (
    ("original and primary", _primary),
    ("values with a unit", lambda stack, _: float(stack.unit.name == "arbitrary")),
    ("axial", lambda stack, _: float(stack.geometry.plane != "axial")),
    ("covers most", _covers_less),
    ("evenly spaced without holes", lambda stack, _: float(any(each.code in _HOLES for each in stack.findings))),
    ("thinnest slices", lambda stack, _: round(stack.geometry.spacing_mm[0], 2)),
    ("finest pixels", lambda stack, _: round(stack.geometry.spacing_mm[1], 3)),
)
"""After the modality, each in turn, until one stack is left; the lowest SeriesInstanceUID where several remain."""


def select(stacks: Sequence[Stack], modalities: Sequence[Modality] = ("CT", "MR", "PT")) -> Selected | None:
    """Choose one volume of a study, from headers alone.

    These rules are applied in turn to the stacks that are left, until there is one:

    ==  ===============================================================================================
    1   of the first of `modalities` that there is (localisers and single slices are no stacks)
    2   original and primary, rather than derived or secondary
    3   in a unit (HU, SUV, Bq/mL), where the modality has any
    4   axial
    5   covers most: at least 80 % of the longest stack that is left
    6   evenly spaced, without holes
    7   the thinnest slices
    8   the finest pixels
    9   the lowest SeriesInstanceUID, and within a series the first echo, time and file: no better, but always the same
    ==  ===============================================================================================

    Parameters
    ----------
    stacks : sequence of Stack
        Of one study, in any order, which does not matter.
    modalities : sequence of {"CT", "MR", "PT"}
        Those wanted, best first.

    Returns
    -------
    Selected or None
        None where there is no stack of a modality that is wanted.
    """
    wanted = next((each for each in modalities if any(_modality(stack) == each for stack in stacks)), None)
    if wanted is None:
        return None
    left = sorted((stack for stack in stacks if _modality(stack) == wanted), key=_order)
    others = [(stack, f"not {wanted}") for stack in stacks if _modality(stack) != wanted]
    decided: list[str] = [wanted] if others else []
    for name, rank in RULES:
        ranks = [rank(stack, left) for stack in left]
        if max(ranks) > min(ranks):
            decided.append(name)
            others += [(stack, f"not: {name}") for stack, each in zip(left, ranks, strict=True) if each > min(ranks)]
            left = [stack for stack, each in zip(left, ranks, strict=True) if each == min(ranks)]
    if len(left) > 1:
        decided.append("lowest SeriesInstanceUID")
        others += [(stack, "equal, and later by SeriesInstanceUID") for stack in left[1:]]
    return Selected(left[0], ", then ".join(decided) or "the only volume", tuple(others))


def _modality(stack: Stack) -> Modality:
    return stack.slices[0].modality


def _order(stack: Stack) -> tuple[object, ...]:
    first = stack.slices[0]
    return first.series_uid, first.apart, first.maybe_apart, first.sop_uid, first.frame
