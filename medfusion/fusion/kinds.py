"""The kinds of fusion by name; a network is loaded only where one is wanted."""

from __future__ import annotations

from typing import Any

from medfusion.core.errors import UsageError
from medfusion.core.protocols import FusionModel
from medfusion.core.state import State
from medfusion.fusion.late import LateFusion

KINDS = ("late", "gated", "early", "joint")
"""From the simplest to the one with the most freedom."""


def new_fusion(kind: str) -> FusionModel:
    """Return an unfitted fusion model.

    Raises
    ------
    UsageError
        If there is no such kind.

    Examples
    --------
    >>> new_fusion("late").kind
    'late'
    """
    model: FusionModel = _class(kind)()
    return model


def restore_fusion(state: State) -> FusionModel:
    """Return the model that a state described.

    Raises
    ------
    UsageError
        If it is of a kind that is not known.
    """
    model: FusionModel = _class(state["kind"]).restore(state)
    return model


def _class(kind: str) -> Any:
    if kind == "late":
        return LateFusion
    if kind in KINDS:
        from medfusion.fusion.learned import CLASSES  # noqa: PLC0415 - torch is loaded only where a network is wanted

        return CLASSES[kind]
    raise UsageError(f"no fusion {kind!r}; there are: {', '.join(KINDS)}")
