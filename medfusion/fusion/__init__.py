"""Adding evidence up into a risk."""
