"""The ledger: a risk opened up into what it is the sum of."""

from medfusion.explain.ledger import close_ledger

__all__ = ["close_ledger"]
