"""How good a model is: discrimination, calibration, missing patterns."""
