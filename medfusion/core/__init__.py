"""Types, protocols, errors and views. Imports nothing else of medfusion."""
