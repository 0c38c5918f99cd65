import csv
import zlib
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medfusion.core.errors import DataError
from medfusion.core.folder import CohortFolder
from medfusion.core.schema import Column, TableSchema
from medfusion.scoring import divide
from medfusion.scoring.divide import MOST_OPEN

NOTES = TableSchema("notes", "", (Column("subject_id", "string", ""), Column("text", "string", "", nullable=True)))
PATIENTS = 60


@pytest.fixture
def source(tmp_path):
    """Write a cohort whose rows are in no order, with a cell of two lines and a ragged row."""
    root = tmp_path / "cohort"
    (root / "labels").mkdir(parents=True)
    (root / "cohort.toml").write_text('[tasks.t]\nlabels = "labels/t.csv"\n')
    with (root / "labels" / "t.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject_id", "prediction_time", "boolean_value"])
        rows.writerows([f"P{(7 * n) % PATIENTS}", "2024-01-02T09:00:00", ""] for n in range(PATIENTS))
    with (root / "notes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([" subject_id", "text"])
        rows.writerows([f" P{(11 * n) % PATIENTS} ", f"note {n}\nof two lines"] for n in range(3 * PATIENTS))
        file.write("P1,too,many\n")
    ehr = pa.table({"subject_id": pa.array([f"P{n % PATIENTS}" for n in range(500)] + [None]).dictionary_encode()})
    pq.write_table(ehr.append_column("value", pa.array(range(501))), root / "ehr.parquet", row_group_size=50)
    return CohortFolder.open(root)


def parts_of(division):
    return [division.part(number) for number in range(division.parts)]


@pytest.mark.parametrize("parts", [1, 4, MOST_OPEN + 20])
def test_every_row_is_in_the_part_of_its_patient_with_its_number_and_in_its_order(source, tmp_path, parts):
    division = divide(source, tmp_path / "parts", "labels/t.csv", ["notes.csv", "ehr.parquet"], {}, lambda rows: parts)
    assert (division.parts, division.label_rows) == (parts, PATIENTS)
    whole = source.table(NOTES).to_pylist()
    found = []
    for number, folder in enumerate(parts_of(division)):
        table = folder.table(NOTES)
        for row in table.to_pylist() if table else []:
            assert zlib.crc32(row["subject_id"].encode()) % parts == number
            found.append(row)
        assert [row["row"] for row in found] == sorted(row["row"] for row in found) or parts > 1
    assert sorted(found, key=lambda row: row["row"]) == whole
    values = [pq.read_table(file)["value"].to_pylist() for file in (tmp_path / "parts").glob("*/ehr.parquet")]
    assert sorted(chain.from_iterable(values)) == list(range(501))
    assert all(part == sorted(part) for part in values)


def test_nobodys_rows_are_in_the_first_part(source, tmp_path):
    division = divide(source, tmp_path / "parts", "labels/t.csv", ["ehr.parquet"], {}, lambda rows: 5)
    table = pq.read_table(division.part(0).root / "ehr.parquet")
    assert 500 in table["value"].to_pylist()


def test_a_ragged_row_is_told_once_with_its_number(source, tmp_path):
    division = divide(source, tmp_path / "parts", "labels/t.csv", ["notes.csv"], {}, lambda rows: MOST_OPEN + 20)
    assert [(problem.code, problem.where) for problem in division.problems] == [
        ("ragged-row", f"row {3 * PATIENTS + 1}")
    ]


def test_a_table_without_subjects_is_refused_and_one_that_is_no_table_is_told(source, tmp_path):
    (source.root / "subjects.csv").write_text("name,sex\nA,F\n")
    with pytest.raises(DataError, match=r"subjects\.csv: subject_id is 'name, sex', expected this column"):
        divide(source, tmp_path / "parts", "labels/t.csv", ["subjects.csv"], {}, lambda rows: 2)
    (source.root / "subjects.csv").write_bytes(b"\xff\xfe\x00")
    division = divide(source, tmp_path / "again", "labels/t.csv", ["subjects.csv"], {}, lambda rows: 2)
    assert [problem.code for problem in division.problems] == ["not-utf8"]


def test_films_of_a_part_are_those_of_the_whole_and_tables_are_its_own(source, tmp_path):
    division = divide(source, tmp_path / "parts", "labels/t.csv", [], {}, lambda rows: 2)
    part = division.part(1)
    assert part.resolve("imaging/a.dcm") == source.root / "imaging" / "a.dcm"
    assert part.root == tmp_path / "parts" / "00001"
    assert part.clock is False
