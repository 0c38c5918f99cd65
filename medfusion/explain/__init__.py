"""The ledger: a risk opened up into what it is the sum of."""
