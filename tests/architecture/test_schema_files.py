"""The JSON schemas of all tables that go in or come out stand in data_schemas, as the code has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from medfusion.core.schema import write_schemas
from medfusion.modalities import discover
from medfusion.pipeline.schemas import all_schemas

FOLDER = Path(__file__).resolve().parents[2] / "data_schemas"


def content(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def test_the_folder_holds_exactly_what_the_code_generates(tmp_path):
    write_schemas(all_schemas(), tmp_path)
    assert content(FOLDER) == content(tmp_path), "run: python -m medfusion.pipeline.schemas data_schemas"


def test_the_command_that_the_message_names_writes_them(tmp_path):
    command = [sys.executable, "-m", "medfusion.pipeline.schemas", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert content(tmp_path) == content(FOLDER)


@pytest.mark.parametrize("name", sorted(discover()))
def test_every_table_of_a_modality_has_a_schema(name):
    assert {f"{table.name}.json" for table in discover()[name].tables} <= set(content(FOLDER))


def test_what_scoring_writes_has_a_schema():
    assert {"predictions.json", "ledger.json", "quarantine.json"} <= set(content(FOLDER))
