"""What all tests share."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from medfusion.cohort.synthetic import Truth, write_synthetic_cohort
from medfusion.pipeline import Opened, Training, open_for_use, train

LONGEST = (
    "install/test_wheel.py",
    "explain/test_known_truth.py",
    "scoring/test_crashes.py",
    "cli/test_fusion_commands.py",
    "scoring/test_ray.py",
    "contracts/test_fourth_modality.py",
    "pipeline/test_reduced_decoding.py",
    "evidence/test_domain_shared.py",
    "pipeline/test_backend.py",
)
"""Files that take a minute or more of one process each."""
SHARED = (Path(__file__).resolve().parents[2] / "shared").resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that in the end no process works on one while the others have nothing to do."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with the real cohorts and DICOM files."""
    if not (SHARED / "cohorts").is_dir():
        pytest.skip("the real cohorts are not here: they are expected in ../shared beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def shap() -> ModuleType:
    """Import shap, the reference for shares, without the deprecations that its own imports run into."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A synthetic cohort folder, and the answer."""

    folder: Path
    truth: Truth


@dataclass(frozen=True, slots=True)
class Trained:
    """A model folder, and what its training told."""

    folder: Path
    training: Training


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where embeddings are kept during one run of the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Return a cohort of 80 patients; nobody may change it."""
    folder = tmp_path_factory.mktemp("synthetic") / "cohort"
    return Synthetic(folder, write_synthetic_cohort(folder, subjects=80, seed=0))


@pytest.fixture(scope="session")
def new_patients(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Return a cohort of 25 patients whom the model trained on `synthetic` has never seen."""
    folder = tmp_path_factory.mktemp("new") / "cohort"
    return Synthetic(folder, write_synthetic_cohort(folder, subjects=25, seed=1))


@pytest.fixture(scope="session")
def trained(synthetic: Synthetic, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a model with all three modalities, trained on `synthetic`; nobody may change it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    return Trained(folder, train(synthetic.folder, folder, cache=cache))


@pytest.fixture(scope="session")
def opened(trained: Trained, synthetic: Synthetic, cache: Path) -> Opened:
    """Return the model, read back from its folder, beside the cohort that it was trained on."""
    return open_for_use(trained.folder, synthetic.folder, cache)
