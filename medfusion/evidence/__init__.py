"""From embeddings to calibrated evidence: heads, cross-fitting, calibration."""
