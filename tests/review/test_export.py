"""What is exported is what is kept, and can be checked without medfusion."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from medfusion.core.errors import UsageError
from medfusion.review import Action, Event, Verdict

SCHEMAS = Path(__file__).resolve().parents[2] / "data_schemas"


@pytest.fixture
def exported(store, about, tmp_path):
    store.note("kim", Action.SIGN_IN, {"roles": ["reviewer"]})
    store.saw(about, "kim", "patient")
    store.decide(about, "kim", Verdict.EXPECTED, "용혈된 검체", "comment", blinded=True)
    store.decide(about, "lee", Verdict.AGREE)
    return store.export(tmp_path / "deep" / "out", "park")


def read(exported):
    return [pq.read_table(file).to_pylist() for file in exported.files]


def test_the_tables_equal_the_store(store, exported):
    decisions, events = read(exported)
    assert [file.name for file in exported.files] == ["decisions.parquet", "events.parquet"]
    assert (exported.decisions, exported.events) == (len(decisions), len(events)) == (2, 5)
    assert [Event(**row) for row in events] == store.events()
    for row, said in zip(decisions, store.decisions(), strict=True):
        assert {name: row[name] for name in ("seq", "reader", "verdict", "reason", "comment", "blinded")} == {
            name: getattr(said, name) for name in ("seq", "reader", "verdict", "reason", "comment", "blinded")
        }
        assert (row["subject_id"], row["model_id"]) == (said.about.subject_id, said.about.model_id)
        assert (row["input_hash"], row["prediction_time"]) == (said.about.input_hash, "2026-03-01T09:30:00.000000")
        assert row["time"] == said.time.isoformat(timespec="microseconds")


def test_an_export_is_an_event_itself_and_prints_the_head(store, exported):
    last = store.events()[-1]
    assert (last.action, last.who) == ("export", "park")
    assert exported.head == store.verify().head == f"5:{last.hash}"


def test_the_chain_can_be_checked_from_the_export_alone(exported):
    previous = "0" * 64
    for row in read(exported)[1]:
        text = json.dumps([row[field.name] for field in fields(Event)][:-1], ensure_ascii=False, separators=(",", ":"))
        assert row["previous"] == previous
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert row["hash"] == previous


@pytest.mark.parametrize("name", ["decisions", "events"])
def test_every_row_is_as_its_schema_says(exported, name):
    validator = Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))
    rows = dict(zip(("decisions", "events"), read(exported), strict=True))[name]
    assert [error.message for row in rows for error in validator.iter_errors(row)] == []


def test_a_store_without_decisions_exports_an_empty_table(store, tmp_path):
    exported = store.export(tmp_path / "out", "park")
    assert (exported.decisions, exported.events) == (0, 1)
    assert pq.read_table(exported.files[0]).num_rows == 0


def test_a_folder_that_cannot_be_made_is_told(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be written: .*; name another folder"):
        store.export(tmp_path / "file", "park")
