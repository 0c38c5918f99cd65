"""Exact conversion between UCUM units; a conversion that needs to know a substance or a method is refused."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

_BRACKETS = re.compile(r"\[[^\]]*\]")
_PRESSURE = ["[Hg]", "[H2O]", "[in_i'Hg]", "[in_i'H2O]", "[psi]"]
_PHYSICAL = frozenset(
    [*_PRESSURE, "[degF]", "[in_i]", "[ft_i]", "[lb_av]", "[oz_av]", "[Cal]", "[ppth]", "[ppm]", "[ppb]"]
)
"""Any other unit in brackets ([IU], [CFU], [drp]) depends on an assay or a convention."""
_BY_VALENCE = re.compile("eq|osm")
"""UCUM takes equivalents and osmoles for moles, but a mole of calcium is two equivalents."""
_MISTYPED = re.compile(r"(^|[./])(M|Pg)")
"""UCUM knows megagrams and petagrams, but in a laboratory Mg/dL is a mistyped mg/dL."""


@cache
def conversion(unit: str, target: str) -> tuple[float, float] | None:
    """Say how to convert values exactly.

    Parameters
    ----------
    unit, target : str
        UCUM units [1]_.

    Returns
    -------
    (factor, offset) or None
        ``value_in_target = factor * value + offset``; None where there is no exact conversion, or it would need to know
        more than the units: a molar mass (mg/dL to mmol/L), a valence (meq/L to mmol/L), an assay ([IU]/L to U/L), or
        what was meant (Mg/dL to mg/dL).

    References
    ----------
    .. [1] Schadow G, McDonald CJ. The Unified Code for Units of Measure. https://ucum.org/ucum

    Examples
    --------
    >>> conversion("g/L", "mg/dL")
    (100.0, 0.0)
    >>> conversion("mg/dL", "mmol/L") is None
    True
    """
    if unit == target:
        return 1.0, 0.0
    if not (_by_units_alone(unit) and _by_units_alone(target)):
        return None
    from pint import PintError  # noqa: PLC0415 - slow to import, and rarely needed

    source, aim = _parse(unit), _parse(target)
    if source is None or aim is None:
        return None
    make = _registry().Quantity
    try:
        zero, one, thousand = (float(make(x * source.m, source.u).to(aim.u).m / aim.m) for x in (0.0, 1.0, 1000.0))
    except PintError:
        return None
    factor = (thousand - zero) / 1000.0
    # A logarithmic unit (dB) is not linear in another.
    return (factor, zero) if math.isclose(one - zero, factor, rel_tol=1e-9) else None


def _by_units_alone(unit: str) -> bool:
    doubtful = _BY_VALENCE.search(unit) or _MISTYPED.search(unit)
    return not doubtful and _PHYSICAL.issuperset(_BRACKETS.findall(unit))


def _parse(unit: str) -> Any | None:
    """Return a pint quantity, or None if it is no UCUM, or only an annotation such as {score}."""
    from lark.exceptions import LarkError  # noqa: PLC0415
    from pint import PintError  # noqa: PLC0415

    try:
        parsed = _registry().from_ucum(unit)
    except (LarkError, PintError):
        return None
    return parsed if hasattr(parsed, "units") else None


@cache
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # type: ignore[import-untyped]  # noqa: PLC0415

    return PintUcumRegistry()
