"""From ehr.csv and ehr.parquet to events."""

import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HEADER = "subject_id,time,code,numeric_value"


def rows_of(table):
    """Return (subject, time, code, unit, value) sorted, as text where there is no order."""
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=str)


def problems_of(folder):
    return [(problem.code, problem.where, problem.got) for problem in folder.problems]


def test_a_long_table_becomes_events_with_the_declared_units(ehr, write):
    folder = write(f"{HEADER}\nP1,2020-01-01T08:00,lactate,2.5\nP1,2020-01-01T09:00,I10,\n", {"lactate": "mmol/L"})
    table = ehr.index(folder)
    assert table.column_names == ["subject_id", "time", "code", "unit", "numeric_value"]
    assert pa.types.is_dictionary(table.schema.field("code").type)
    assert table.schema.field("numeric_value").type == pa.float64()
    assert [row[2:] for row in rows_of(table)] == [("lactate", "mmol/L", 2.5), ("I10", "", None)]
    assert folder.problems == []


def test_a_folder_without_the_table_has_nothing_of_this_kind(ehr, write):
    folder = write("")
    (folder.root / "ehr.csv").unlink()
    assert ehr.index(folder) is None
    assert folder.problems == []


def test_wide_equals_long(ehr, write):
    wide = (
        "subject_id,time,lactate,heart rate\n"
        "P1,2020-01-01T08:00,2.5,\nP2,2020-01-01T08:00,,80\nP1,2020-01-02T08:00,3,90\n"
    )
    long = (
        f"{HEADER}\nP1,2020-01-01T08:00,lactate,2.5\nP2,2020-01-01T08:00,heart rate,80\n"
        "P1,2020-01-02T08:00,lactate,3\nP1,2020-01-02T08:00,heart rate,90\n"
    )
    units = {"lactate": "mmol/L"}
    assert rows_of(ehr.index(write(wide, units))) == rows_of(ehr.index(write(long, units)))


cells = st.one_of(st.none(), st.floats(-1e6, 1e6))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8))
def test_wide_parquet_equals_what_pandas_melts(ehr, write, values):
    folder = write("")
    (folder.root / "ehr.csv").unlink()
    frame = pd.DataFrame(values, columns=["a", "b c", "d"], dtype=float)
    frame.insert(0, "subject_id", [f"P{n % 3}" for n in range(len(frame))])
    frame.insert(1, "time", pd.date_range("2020-01-01", periods=len(frame), freq="h"))
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder.root / "ehr.parquet")
    melted = frame.melt(["subject_id", "time"], var_name="code", value_name="numeric_value").dropna()
    expected = [(s, t.to_pydatetime(), c, "", v) for s, t, c, v in melted.itertuples(index=False)]
    assert rows_of(ehr.index(folder)) == sorted(expected, key=str)
    assert folder.problems == []


def test_a_text_value_becomes_an_event_of_its_own(ehr, write):
    text = (
        f"{HEADER},text_value\nP1,2020-01-01T08:00,culture,,E. coli\n"
        "P1,2020-01-01T09:00,culture,,\nP1,2020-01-01T10:00,glucose,500,>500\n"
    )
    table = ehr.index(write(text))
    assert table["code"].to_pylist() == ["culture=E. coli", "culture", "glucose"]
    assert table["numeric_value"].to_pylist() == [None, None, 500.0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_of_any_arrow_type_is_read(ehr, write, kind):
    folder = write("", {"na": "mmol/L"})
    (folder.root / "ehr.csv").unlink()
    columns = {
        "subject_id": ["P1", "P1"],
        "code": ["na", "culture"],
        "text_value": [None, "E. coli"],
        "unit": ["", None],
    }
    table = pa.table({name: pa.array(values, pa.string()).cast(kind) for name, values in columns.items()})
    times = pd.date_range("2020-01-01", periods=2, freq="h")
    table = table.append_column("time", pa.array(times)).append_column("numeric_value", pa.array([140, None]))
    pq.write_table(table, folder.root / "ehr.parquet")
    events = ehr.index(folder)
    assert events["code"].to_pylist() == ["na", "culture=E. coli"]
    assert events["unit"].to_pylist() == ["mmol/L", ""]
    assert events["numeric_value"].to_pylist() == [140.0, None]


@pytest.mark.parametrize("bad", ["NaN", "inf", "-inf", "1,5", "<0.1"])
def test_a_number_that_is_none_is_left_out_and_told(ehr, write, bad):
    cell = f'"{bad}"'
    folder = write(f"{HEADER}\nP1,2020-01-01T08:00,ph,{cell}\nP1,2020-01-01T09:00,ph,7.4\n")
    assert ehr.index(folder)["numeric_value"].to_pylist() == [7.4]
    assert problems_of(folder) == [("not-a-number", "row 1", bad)]


def test_nan_and_infinity_in_parquet_are_told_but_null_is_an_event(ehr, write):
    folder = write("")
    (folder.root / "ehr.csv").unlink()
    table = pa.table(
        {
            "subject_id": ["P1"] * 4,
            "time": pd.date_range("2020-01-01", periods=4, freq="h"),
            "code": ["ph"] * 4,
            "numeric_value": pa.array([7.4, float("nan"), float("inf"), None]),
        }
    )
    pq.write_table(table, folder.root / "ehr.parquet")
    assert ehr.index(folder)["numeric_value"].to_pylist() == [7.4, None]
    assert [problem.where for problem in folder.problems] == ["row 2", "row 3"]


def test_a_unit_that_converts_exactly_is_converted(ehr, write):
    text = (
        f"{HEADER},unit\nP1,2020-01-01T08:00,temp,98.6,[degF]\nP1,2020-01-01T09:00,temp,38,Cel\n"
        "P1,2020-01-01T10:00,temp,39,\n"
    )
    folder = write(text, {"temp": "Cel"})
    table = ehr.index(folder)
    assert table["numeric_value"].to_pylist() == pytest.approx([37.0, 38.0, 39.0])
    assert set(table["unit"].to_pylist()) == {"Cel"}
    assert folder.problems == []


def test_rows_in_a_unit_without_exact_conversion_are_left_out_with_one_line_per_unit(ehr, write):
    lines = [f"P1,2020-01-01T0{n}:00,crea,{80 + n},umol/L" for n in range(5)]
    lines += ["P1,2020-01-01T07:00,crea,1.1,mg/dL", "P1,2020-01-01T08:00,crea,1.2,Mg/dl"]
    folder = write("\n".join([HEADER + ",unit", *lines]) + "\n", {"crea": "mg/dL"})
    assert ehr.index(folder)["numeric_value"].to_pylist() == [1.1]
    said = (
        "expected mg/dL, or a UCUM unit that converts to it exactly; "
        "convert the values before; the rows were left out [unknown-unit]"
    )
    assert [problem.line() for problem in folder.problems] == [
        f"error ehr.csv rows 1, 2, 3 and 2 more: unit is 'umol/L for crea', {said}",
        f"error ehr.csv row 7: unit is 'Mg/dl for crea', {said}",
    ]


def test_one_undeclared_unit_throughout_is_taken_as_it_is(ehr, write):
    folder = write(f"{HEADER},unit\nP1,2020-01-01T08:00,gcs,12,{{score}}\nP2,2020-01-01T08:00,gcs,15,{{score}}\n")
    assert set(ehr.index(folder)["unit"].to_pylist()) == {"{score}"}
    assert folder.problems == []


@pytest.mark.parametrize("other", ["g/L", ""])
def test_two_undeclared_units_of_one_code_are_left_out_until_one_is_declared(ehr, write, other):
    text = (
        f"{HEADER},unit\nP1,2020-01-01T08:00,hb,12,g/dL\n"
        f"P1,2020-01-01T09:00,hb,120,{other}\nP1,2020-01-01T09:00,na,140,\n"
    )
    folder = write(text)
    assert ehr.index(folder)["code"].to_pylist() == ["na"]
    assert sorted(problems_of(folder)) == [
        ("mixed-units", "row 1", "g/dL for hb"),
        ("mixed-units", "row 2", f"{other or 'empty'} for hb"),
    ]
    declared = write(text, {"hb": "g/dL"})
    assert ehr.index(declared)["numeric_value"].to_pylist() == [12.0, 12.0 if other else 120.0, 140.0]
    assert declared.problems == []


def test_the_unit_of_an_event_without_a_value_means_nothing(ehr, write):
    folder = write(
        f"{HEADER},unit\nP1,2020-01-01T08:00,crea,,umol/L\nP1,2020-01-01T09:00,crea,1,mg/dL\n", {"crea": "mg/dL"}
    )
    assert ehr.index(folder)["numeric_value"].to_pylist() == [None, 1.0]
    assert folder.problems == []


def test_units_that_are_no_text_in_cohort_toml_are_passed_over(ehr, write):
    folder = write(f"{HEADER}\nP1,2020-01-01T08:00,crea,1\n")
    for config in ({"ehr": 3}, {"ehr": {"units": "mg/dL"}}, {"ehr": {"units": {"crea": 3}}}):
        folder.config = config
        assert ehr.index(folder)["unit"].to_pylist() == [""]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", 'subject_id,time,code,numeric_value\n"P1', "\n\n"])
def test_a_table_that_cannot_be_read_is_told_and_not_raised(ehr, write, content):
    folder = write(content)
    assert ehr.index(folder) is None
    assert folder.problems


def test_a_damaged_parquet_file_is_told_and_not_raised(ehr, write):
    folder = write("")
    (folder.root / "ehr.csv").rename(folder.root / "ehr.parquet")
    assert ehr.index(folder) is None
    assert [problem.code for problem in folder.problems] == ["unreadable-table"]


def test_a_table_without_rows_has_the_columns_all_the_same(ehr, write):
    table = ehr.index(write(f"{HEADER},unit\n"))
    assert table.num_rows == 0
    assert table.column_names == ["subject_id", "time", "code", "unit", "numeric_value"]


def test_importing_the_modality_brings_no_heavy_library():
    heavy = "torch monai sklearn xgboost shap pint matplotlib"
    code = f"import sys, medfusion.modalities.ehr; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
