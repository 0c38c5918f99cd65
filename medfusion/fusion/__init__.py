"""Adding evidence up into a risk."""

from medfusion.fusion.late import LateFusion

__all__ = ["LateFusion"]
