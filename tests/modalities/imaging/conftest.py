"""Cohort folders of films, and a modality to read them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from imaging_files import as_bytes
from pydicom.dataset import FileDataset

from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import ModalityOptions
from medfusion.modalities.imaging import ImagingModality


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., CohortFolder]:
    """Write a cohort folder of films (path to film or bytes) and an optional imaging.csv, and open it."""

    def _folder(films: Mapping[str, FileDataset | bytes], table: str | None = None) -> CohortFolder:
        (tmp_path / "cohort.toml").write_text("", encoding="utf-8")
        for name, film in films.items():
            path = tmp_path / "imaging" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(film if isinstance(film, bytes) else as_bytes(film))
        if table is not None:
            (tmp_path / "imaging.csv").write_text(table, encoding="utf-8")
        return CohortFolder.open(tmp_path)

    return _folder


@pytest.fixture(scope="session")
def filters() -> ImagingModality:
    """Return a modality that needs no weights."""
    return ImagingModality(ModalityOptions({"backbone": "filters", "size": "128"}))
