"""Small modalities and small cohort folders."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from medfusion.core.schema import Column, TableSchema


def table(name, *columns):
    keys = (Column("subject_id", "string", "Who."), Column("time", "time", "When."))
    return TableSchema(name, f"The table {name}.", keys + columns)


class TableModality:
    """As much of a modality as a cohort needs: a name, its tables, and an index."""

    def __init__(self, *columns, name):
        self.name = name
        self.tables = (table(name, *columns),)

    def index(self, folder):
        return folder.table(self.tables[0])


def write(root: Path, files: dict[str, str]) -> Path:
    """Write a cohort folder with one task ``died``; ``files`` are added or replace the ones here."""
    toml = 'name = "small"\n[tasks.died]\nlabels = "labels/died.csv"\npositive = "died in hospital"\n'
    for name, content in {"cohort.toml": toml, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def toys():
    """Return in-test modalities and a writer of cohort folders."""
    value = Column("numeric_value", "number", "What.", nullable=True)
    return SimpleNamespace(
        ehr=TableModality(Column("code", "string", "What."), value, name="ehr"),
        notes=TableModality(Column("text", "string", "Words.", nullable=True), name="notes"),
        films=TableModality(Column("path", "string", "File."), name="imaging"),
        write=write,
        labels="subject_id,prediction_time,boolean_value\n",
        events="subject_id,time,code,numeric_value\n",
    )
