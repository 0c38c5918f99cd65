"""The ledger: a risk opened up into what it is the sum of."""

from medfusion.explain.ledger import close_ledger, close_lines
from medfusion.explain.shapley import modality_shares

__all__ = ["close_ledger", "close_lines", "modality_shares"]
