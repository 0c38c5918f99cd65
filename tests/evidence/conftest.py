"""The reference for shares."""

import warnings
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def shap() -> ModuleType:
    """Import shap without the deprecations that its own imports run into."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap
