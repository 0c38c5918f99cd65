"""What all tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with the real cohorts and DICOM files."""
    if not (SHARED / "cohorts").is_dir():
        pytest.skip("the real cohorts are not here: they are expected in ../shared beside the checkout")
    return SHARED
