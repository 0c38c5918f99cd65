"""A cohort in which identifiers are planted, and what became of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from planting import KEY, plant_in_header, plant_in_jpeg, plant_in_tables

from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.deidentify import Report, deidentify_cohort


@dataclass(frozen=True, slots=True)
class Planted:
    """The cohort before and after, and what the report says."""

    before: Path
    after: Path
    report: Report


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    before = tmp_path_factory.mktemp("planted") / "cohort_gildong"
    write_synthetic_cohort(before, subjects=12, seed=0)
    plant_in_tables(before)
    files = sorted((before / "imaging").rglob("*.dcm"))
    target = before / "imaging" / "hong_gildong" / "Gildong_1.dcm"
    target.parent.mkdir()
    files[0].rename(target)
    plant_in_header(target)
    plant_in_jpeg(target, target.with_name("Gildong_2.dcm"))
    (before / "readme_hong.txt").write_text("Gildong")
    after = tmp_path_factory.mktemp("deidentified") / "cohort"
    return Planted(before, after, deidentify_cohort(before, after, key=KEY))
