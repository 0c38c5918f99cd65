"""The ledger: a risk opened up into what it is the sum of."""

from medfusion.explain.ledger import close_ledger
from medfusion.explain.shapley import modality_shares

__all__ = ["close_ledger", "modality_shares"]
