"""Adding evidence up into a risk: late, gated, early and joint fusion."""

from medfusion.fusion.kinds import KINDS, new_fusion, restore_fusion
from medfusion.fusion.late import LateFusion

__all__ = ["KINDS", "LateFusion", "new_fusion", "restore_fusion"]
