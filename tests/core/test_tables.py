"""Tables: every cell gets its type or a line in the list of problems; no file makes the reader fall over."""

import csv
import io
from datetime import datetime
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.core.csvfile import read_csv
from medfusion.core.schema import Column, TableSchema
from medfusion.core.tables import number_text, raw_pieces, read_table

EVENTS = TableSchema(
    "events",
    "Measurements.",
    (
        Column("subject_id", "string", "Who."),
        Column("time", "time", "When."),
        Column("value", "number", "What.", nullable=True),
        Column("text", "string", "Words.", required=False, nullable=True),
    ),
)
WIDE = TableSchema("wide", "One column per feature.", EVENTS.columns[:2], other_columns="number")
HEADER = "subject_id,time,value\n"
GOOD = "C1,2020-01-01T10:00:00,5\n"


def read(path, content, schema=EVENTS):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, path.name, schema)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "events.csv"


def codes(result):
    return [problem.code for problem in result.problems]


def test_a_good_file_has_no_problems(file):
    result = read(file, HEADER + GOOD)
    assert result.problems == []
    assert result.table.to_pylist() == [{"row": 1, "subject_id": "C1", "time": datetime(2020, 1, 1, 10), "value": 5.0}]
    assert result.zoned is False


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + HEADER + GOOD,
        " subject_id , time ,value\n" + GOOD,
        (HEADER + GOOD).replace("\n", "\r\n"),
        (HEADER + GOOD).replace("\n", "\r"),
        '"subject_id","time","value"\n"C1 ","2020-01-01T10:00:00"," 5"\n',
        '\ufeff"subject_id","time","value"\n' + GOOD,
        "\n\n" + HEADER + "\n" + GOOD + "\n\n",
        (HEADER + GOOD).rstrip("\n"),
    ],
    ids=["bom", "spaces", "crlf", "cr", "quoted", "bom and quotes", "blank lines", "no last newline"],
)
def test_harmless_differences_of_form_make_no_difference(file, content):
    result = read(file, content)
    assert result.problems == []
    assert result.table.select(["subject_id", "value"]).to_pylist() == [{"subject_id": "C1", "value": 5.0}]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b" \n\n", "empty-file"),
        ((HEADER + "C1,2020-01-01,\u00e4\n").encode("latin-1"), "not-utf8"),
        ((HEADER + GOOD).encode("utf-16"), "not-utf8"),
        (HEADER + 'C1,2020-01-01T10:00,"5\n' + GOOD, "unpaired-quote"),
        (HEADER + 'C1,2020-01-01T10:00,"5"x\n' + GOOD, "unpaired-quote"),
        (HEADER + 'C1,2020-01-01T10:00,5" tube\n' + 'C2,2020-01-01T10:00,6" tube\n', "unpaired-quote"),
        ("subject_id;time;value\n", "missing-column"),
        ("subject_id,value\nC1,5\n", "missing-column"),
        ("subject_id,time,value,value\nC1,2020-01-01T10:00,5,6\n", "duplicate-column"),
    ],
)
def test_a_file_that_cannot_be_read_with_certainty_is_refused_as_a_whole(file, content, code):
    result = read(file, content)
    assert result.table is None
    assert set(codes(result)) == {code}


def test_a_semicolon_file_is_told_to_use_commas(file):
    assert "commas" in read(file, "subject_id;time;value\n").problems[0].remedy


def test_the_line_of_a_wrong_byte_is_told(file):
    content = (HEADER + GOOD + "C1,2020-01-01,\u00e4\n").encode("latin-1")
    assert read(file, content).problems[0].got == "byte 0xe4 in line 3"


@pytest.mark.parametrize("content", [HEADER, HEADER.strip()])
def test_a_header_without_rows_is_an_empty_table_and_a_warning(file, content):
    result = read(file, content)
    assert result.table.num_rows == 0
    assert [(problem.code, problem.severity) for problem in result.problems] == [("no-rows", "warning")]


def test_ragged_rows_are_left_out_and_the_others_keep_their_numbers(file):
    result = read(file, HEADER + GOOD + "C2,2020-01-01T10:00:00\n" + GOOD + "C3,1,2,3\n" + GOOD)
    assert result.table["row"].to_pylist() == [1, 3, 5]
    assert [problem.where for problem in result.problems] == ["row 2", "row 4"]
    assert [problem.got for problem in result.problems] == ["2 cells", "4 cells"]


@pytest.mark.parametrize("text", ["NaN", "inf", "-Infinity", "1e999", "<0.1", "1,5", "5 mg", "NA", "0x10", "1_000"])
def test_what_is_no_finite_number_is_refused_row_by_row(file, text):
    result = read(file, HEADER + GOOD + f'C2,2020-01-01T10:00:00,"{text}"\n')
    assert result.table["subject_id"].to_pylist() == ["C1"]
    (problem,) = result.problems
    assert (problem.code, problem.where, problem.field, problem.got) == ("not-a-number", "row 2", "value", text)
    assert problem.subject_id == "C2"


def test_an_empty_number_is_missing_not_zero(file):
    result = read(file, HEADER + 'C1,2020-01-01T10:00:00,\nC1,2020-01-01T10:00:00,""\n')
    assert result.table["value"].to_pylist() == [None, None]
    assert result.problems == []


def test_an_ambiguous_date_is_refused_row_by_row(file):
    result = read(file, HEADER + "C1,01/02/2020,1\n" + GOOD)
    assert result.table.num_rows == 1
    assert "not guessed" in result.problems[0].remedy


@pytest.mark.parametrize("cell", ["", "   ", '""'])
def test_a_row_without_a_subject_is_refused(file, cell):
    result = read(file, HEADER + f"{cell},2020-01-01T10:00:00,5\n" + GOOD)
    assert codes(result) == ["empty-cell"]
    assert result.table.num_rows == 1


def test_many_bad_rows_are_five_lines_and_a_count(file):
    result = read(file, HEADER + "C1,soon,1\n" * 1000)
    assert len(result.problems) == 6
    assert result.problems[-1].where == "995 more"


def test_dates_without_a_time_of_day_are_one_warning_with_their_count(file):
    result = read(file, HEADER + "C1,2020-01-01,1\n" * 7 + GOOD)
    (problem,) = result.problems
    assert (problem.code, problem.severity) == ("date-without-time", "warning")
    assert problem.got.startswith("7 ")
    assert "clock times" in problem.remedy


def test_a_time_without_a_zone_among_zoned_ones_is_refused_and_told_why(file):
    result = read(file, HEADER + "C1,2020-01-01T10:00Z,1\n" + GOOD)
    assert result.zoned is True
    assert "with a zone" in result.problems[0].expected


def test_a_file_whose_times_are_all_bad_says_nothing_about_zones(file):
    assert read(file, HEADER + "C1,soon,1\n").zoned is None


def test_quoted_line_breaks_and_commas_stay_in_their_cell(file):
    text = 'He said "no",\nthen left.'
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["subject_id", "time", "value", "text"])
        writer.writerow(["C1", "2020-01-01T10:00", "1", text])
        writer.writerow(["C2", "bad", "1", text])
    result = read_table(file, file.name, EVENTS)
    assert result.table["text"].to_pylist() == [text]
    assert result.problems[0].where == "row 2"


def test_a_note_of_several_megabytes_fits(file):
    note = "word " * 1_000_000
    result = read(file, "subject_id,time,value,text\nC1,2020-01-01T10:00,1," + note + "\n")
    assert result.table["text"][0].as_py() == note.strip()


def test_a_row_that_does_not_end_is_refused_before_it_fills_the_memory(file):
    result = read(file, HEADER + GOOD + "C2,2020-01-01T10:00:00," + "1" * 30_000_000)
    assert codes(result) == ["unreadable-table"]
    assert result.problems[0].got == "a row that does not end"


def test_a_file_is_read_piece_by_piece_however_long_it_is(file):
    rows = 400_000
    file.write_text("subject_id,text\n" + "".join(f"P{n},{'a word ' * 14}\n" for n in range(rows)))
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for table, numbers in raw_pieces(file, file.name, []):
        most, seen = max(most, pa.total_allocated_bytes() - before), seen + table.num_rows
        assert numbers[-1] == seen
    assert seen == rows
    assert most < file.stat().st_size / 3


def test_columns_without_a_name_and_pandas_indexes_are_not_features(file):
    result = read(file, "Unnamed: 0,,subject_id,time,lactate\n0,0,C1,2020-01-01T10:00,2\n", WIDE)
    assert result.table.column_names == ["row", "subject_id", "time", "lactate"]
    assert codes(result) == ["unnamed-column", "unnamed-column"]


def test_a_text_column_in_a_wide_table_costs_the_column_not_every_row(file):
    result = read(file, "subject_id,time,lactate,ward\nC1,2020-01-01T10:00,2,north\n", WIDE)
    assert result.table.column_names == ["row", "subject_id", "time", "lactate"]
    assert result.table.num_rows == 1
    assert [(problem.code, problem.field) for problem in result.problems] == [("text-column", "ward")]


def test_a_column_that_is_called_row_does_not_disturb(file):
    result = read(file, "subject_id,time,value,row\nC1,2020-01-01T10:00,2,77\n")
    assert result.table["row"].to_pylist() == [1]


def test_parquet_of_pandas_is_read_with_its_types(tmp_path):
    frame = pd.DataFrame({
        "subject_id": pd.Categorical(["C1", "C2"]),
        "time": pd.to_datetime(["2020-01-01T10:00", "2020-01-02T10:00"]),
        "value": [1, 2],
        "text": ["a", None],
    })  # fmt: skip
    frame.index = [7, 9]
    frame.to_parquet(tmp_path / "events.parquet")
    result = read_table(tmp_path / "events.parquet", "events.parquet", EVENTS)
    assert [problem.code for problem in result.problems] == ["unnamed-column"]
    assert result.table.drop_columns("row").to_pylist() == frame.astype({"value": float, "subject_id": str}).replace(
        {np.nan: None}
    ).to_dict("records")


def test_numeric_subject_ids_are_text_without_a_decimal_point(tmp_path):
    for ids in ([10002345], [10002345.0], np.array([10002345], np.int32)):
        times = pa.array([datetime(2020, 1, 1)], pa.timestamp("us"))
        pq.write_table(pa.table({"subject_id": ids, "time": times, "value": [1.0]}), tmp_path / "a.parquet")
        table = read_table(tmp_path / "a.parquet", "a.parquet", EVENTS).table
        assert table["subject_id"].to_pylist() == ["10002345"]


def test_nan_in_parquet_is_refused_and_null_is_missing(tmp_path):
    times = pa.array([datetime(2020, 1, 1)] * 3, pa.timestamp("us"))
    values = pa.array([float("nan"), None, float("inf")])
    pq.write_table(pa.table({"subject_id": ["a", "b", "c"], "time": times, "value": values}), tmp_path / "a.parquet")
    result = read_table(tmp_path / "a.parquet", "a.parquet", EVENTS)
    assert result.table["subject_id"].to_pylist() == ["b"]
    assert [problem.got for problem in result.problems] == ["nan", "inf"]


def test_columns_of_a_type_that_cannot_be_used_are_bad_cells_not_a_traceback(tmp_path):
    nested = pa.array([[1.0], [2.0]])
    pq.write_table(pa.table({"subject_id": ["a", "b"], "time": [1, 2], "value": nested}), tmp_path / "a.parquet")
    result = read_table(tmp_path / "a.parquet", "a.parquet", EVENTS)
    assert result.table.num_rows == 0
    assert set(codes(result)) == {"bad-time", "not-a-number"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" * 100])
def test_a_broken_parquet_file_is_reported(tmp_path, content):
    result = read(tmp_path / "events.parquet", content)
    assert result.table is None
    assert codes(result) == ["unreadable-table"]


def test_a_folder_or_a_dead_link_in_the_place_of_a_file_is_reported_without_paths_of_the_machine(tmp_path):
    (tmp_path / "events.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere.csv")
    for name in ("events.csv", "link.csv"):
        result = read_table(tmp_path / name, name, EVENTS)
        assert codes(result) == ["unreadable-table"]
        assert str(tmp_path) not in result.problems[0].line()


def test_labels_are_read_in_the_forms_that_people_write(file):
    schema = TableSchema("labels", "", (Column("y", "boolean", "", nullable=True),))
    words = ["True", "false", "1", "0", "1.0", "0.0", "yes", "No", "T", "f"]
    result = read(file, "y,z\n" + "".join(f"{word},\n" for word in [*words, "", "maybe"]), schema)
    assert result.table["y"].to_pylist() == [True, False] * 5 + [None]
    assert [problem.got for problem in result.problems] == ["maybe"]


@given(st.text(alphabet="0123456789.eE+-", max_size=8))
def test_whatever_is_called_a_plain_number_is_one_for_python(text):
    if number_text(pa.array([text]))[0]:
        float(text)


@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(alphabet='abc,;"\n\r \t1.-:T\x00\u00e9', max_size=120)))
def test_no_bytes_make_the_reader_fall_over(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "events.csv"
    header = HEADER.encode()
    for data in (content, header + content) if isinstance(content, bytes) else (content, HEADER + content):
        result = read(path, data)
        assert result.table is not None or result.problems


ODD = ["a", "", '""', '"x,y"', '"two\nlines"', '"two\r\nlines"', '"said ""no"""', "\u00e9"]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from(ODD), min_size=1, max_size=4), max_size=12),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    piece=st.integers(4, 40),
)
def test_where_a_file_is_cut_makes_no_difference(tmp_path_factory, rows, end, piece):
    path = tmp_path_factory.mktemp("pieces") / "texts.csv"
    text = end.join(["one,two", *(",".join(row) for row in rows)])
    path.write_bytes(text.encode())
    # Python's reader is the referee; of an empty line it makes an empty row.
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    problems = []
    with mock.patch("medfusion.core.csvfile._PIECE_BYTES", piece):
        table, numbers = read_csv(path, path.name, problems)
    whole = [(number, row) for number, row in enumerate(expected, 1) if len(row) == 2]
    assert numbers.tolist() == [number for number, _ in whole]
    assert [[cell or "" for cell in row.values()] for row in table.to_pylist()] == [row for _, row in whole]
    ragged = [number for number, row in enumerate(expected, 1) if len(row) != 2]
    assert [problem.where for problem in problems][:5] == [f"row {number}" for number in ragged][:5]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs", "Zs", "Cc"]))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_text_that_python_writes_as_csv_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("cells") / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("one", "two"), *rows])
    columns = tuple(Column(name, "string", "", nullable=True) for name in ("one", "two"))
    table = read_table(path, path.name, TableSchema("texts", "", columns)).table
    expected = [{"one": one.strip() or None, "two": two.strip() or None} for one, two in rows]
    assert table.drop_columns("row").to_pylist() == expected
