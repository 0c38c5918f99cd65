"""The JSON schemas: as in the code, and in agreement with what the reader takes."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.cohort import LABELS, SUBJECTS, TABLES
from medfusion.core.schema import Column, TableSchema, write_schemas
from medfusion.core.tables import read_table

FOLDER = Path(__file__).resolve().parents[2] / "data_schemas"


def errors(schema, row):
    return list(jsonschema.Draft202012Validator(schema).iter_errors(row))


def test_the_files_are_what_the_code_generates(tmp_path):
    for path in write_schemas(TABLES, tmp_path):
        assert (FOLDER / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_every_file_is_a_json_schema(path):
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "row",
    [
        {"subject_id": "C2", "prediction_time": "2020-01-15T09:00:00", "boolean_value": True},
        {"subject_id": "C2", "prediction_time": "2020-01-15T09:00:00Z", "boolean_value": None, "note": "kept apart"},
    ],
)
def test_rows_of_labels_are_valid(row):
    assert errors(LABELS.json_schema(), row) == []


@pytest.mark.parametrize(
    "change",
    [{"prediction_time": "15/01/2020"}, {"prediction_time": None}, {"boolean_value": "maybe"}, {"subject_id": ""}],
)
def test_wrong_rows_of_labels_are_invalid(change):
    row = {"subject_id": "C2", "prediction_time": "2020-01-15T09:00:00", "boolean_value": True, **change}
    assert errors(LABELS.json_schema(), row)


def test_rows_of_subjects_are_valid_with_further_columns():
    row = {"subject_id": "C2", "sex": None, "birth_date": "1955-03-02", "site": "north"}
    assert errors(SUBJECTS.json_schema(), row) == []
    assert errors(SUBJECTS.json_schema(), {**row, "birth_date": "1955-03-02T10:00"})


def test_forms_of_one_table_are_alternatives(tmp_path):
    long = TableSchema("ehr", "Long.", (Column("code", "string", "What."),))
    wide = TableSchema("ehr", "Wide.", (Column("time", "time", "When."),), other_columns="number")
    (path,) = write_schemas([long, wide], tmp_path)
    schema = json.loads(path.read_text())
    assert errors(schema, {"code": "HR"}) == errors(schema, {"time": "2020-01-01", "HR": 80}) == []
    assert errors(schema, {"time": "2020-01-01", "HR": "fast"})


@settings(max_examples=60, deadline=None)
@given(
    time=st.one_of(
        st.datetimes().map(lambda moment: moment.isoformat()),
        st.dates().map(str),
        st.sampled_from(["01/02/2020", "2020-01-01T10:00Z", "2020-01-01 10:00:00+02", "2020-1-1", "soon", ""]),
    ),
    subject=st.sampled_from(["C1", "007", ""]),
)
def test_the_reader_takes_a_row_exactly_if_its_schema_does(tmp_path_factory, time, subject):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text(f"subject_id,prediction_time,boolean_value\n{subject},{time},True\n")
    taken = read_table(path, path.name, LABELS).table.num_rows == 1
    row = {"subject_id": subject, "prediction_time": time, "boolean_value": True}
    assert taken == (errors(LABELS.json_schema(), row) == [])
