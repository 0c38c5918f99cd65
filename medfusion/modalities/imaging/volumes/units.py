"""What the numbers of a volume mean: Hounsfield units, uptake, or nothing that compares between scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medfusion.modalities.imaging.volumes.header import SliceHeader
from medfusion.modalities.imaging.volumes.suv import Activity, NoUptake, suv_factor

UnitName = Literal["HU", "SUV", "BQML", "arbitrary"]
AIR_HU = -1000.0
_PLAIN_DERIVATIONS = {"AXIAL", "MPR", "REFORMATTED", "RESAMPLED", "AVERAGE", "VOLUME"}
"""What derived CT images may be called and still show attenuation."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a volume's values.

    Attributes
    ----------
    name : {"HU", "SUV", "BQML", "arbitrary"}
        Hounsfield units; standardised uptake by body weight, in g/mL; activity in Bq/mL; or numbers that mean nothing
        outside of their own series.
    reason : str
        How an SUV was found; why a CT is not in HU or a PET not in SUV.
    factor : float
        What rescaled values are multiplied by.
    """

    name: UnitName
    reason: str
    factor: float = 1.0

    @property
    def nothing(self) -> float | None:
        """The value of a place where nothing is: air, or no activity; None where the unit has no such value."""
        return {"HU": AIR_HU, "SUV": 0.0, "BQML": 0.0}.get(self.name)


def unit_of(slices: Sequence[SliceHeader]) -> Unit:
    """Return the unit in which the slices of a stack are, once they are rescaled.

    A unit is named only where all slices support it:

    ========  ===========================================================================================
    HU        CT with RescaleSlope and RescaleIntercept, RescaleType HU or absent, that can hold values
              below 0, and is original or a plain reformation (no perfusion map, no effective atomic number)
    SUV       PET in Bq/mL whose header has what `suv_factor` needs, or in g/mL by body weight
    BQML      other PET in Bq/mL
    ========  ===========================================================================================
    """
    if slices[0].modality == "MR":
        return Unit("arbitrary", "MR signal has no scale of its own")
    if any(each.slope is None or each.intercept is None for each in slices):
        return Unit("arbitrary", "RescaleSlope or RescaleIntercept is missing")
    if slices[0].modality == "CT":
        reason = next((said for each in slices if (said := _not_hounsfield(each))), "")
        return Unit("arbitrary", reason) if reason else Unit("HU", "")
    return _uptake([each.activity for each in slices if each.activity is not None])


def _not_hounsfield(header: SliceHeader) -> str:
    """Return why the values of a CT slice are not Hounsfield units; nothing where they are."""
    if header.rescale_type not in {"", "HU"}:
        return f"RescaleType is {header.rescale_type}"
    if not header.signed and (header.intercept or 0.0) >= 0:
        return "no value can be below 0, so air cannot be -1000"
    kinds = set(header.image_type[2:3]) - {""}
    if header.image_type[0] == "DERIVED" and not header.rescale_type and kinds - _PLAIN_DERIVATIONS:
        return f"a derived image ({kinds.pop()}) that does not say its RescaleType"
    return ""


def _uptake(activities: Sequence[Activity]) -> Unit:
    units = {(each.units, each.suv_type) for each in activities}
    if len(units) > 1:
        return Unit("arbitrary", "slices disagree about their Units")
    shown, suv_type = units.pop()
    if shown == "GML" and suv_type in {"", "BW"}:
        return Unit("SUV", "already in g/mL by body weight")
    if shown != "BQML":
        return Unit("arbitrary", f"Units is {' '.join((shown, suv_type)).strip() or 'missing'}")
    try:
        return Unit("SUV", "by body weight", suv_factor(activities))
    except NoUptake as missing:
        return Unit("BQML", str(missing))
