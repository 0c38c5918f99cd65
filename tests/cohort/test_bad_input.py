"""Bad input: each kind of mistake is one line that says where and what to do, never a traceback."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfusion.cohort import open_cohort
from medfusion.core.errors import DataError, UsageError

GOOD_LABELS = "A,2020-01-02T00:00:00,True\nB,2020-01-02T00:00:00,False\n"
GOOD_EVENTS = "A,2020-01-01T10:00:00,HR,80\nB,2020-01-01T10:00:00,HR,70\n"


@pytest.fixture
def opened(toys, tmp_path):
    """Open a good cohort of two patients with some files replaced."""

    def open_with(files, modalities=None):
        good = {"labels/died.csv": toys.labels + GOOD_LABELS, "ehr.csv": toys.events + GOOD_EVENTS}
        return open_cohort(toys.write(tmp_path, good | files), modalities or [toys.ehr])

    return open_with


def told(cohort):
    return [(problem.severity, problem.code, problem.file) for problem in cohort.problems]


def test_a_good_cohort_has_no_problems(opened):
    assert opened({}).problems == []


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("A,01/02/2020,HR,80\n", "bad-time"),
        ("A,2020-01-01T10:00:00,HR,NaN\n", "not-a-number"),
        ("A,2020-01-01T10:00:00,HR,inf\n", "not-a-number"),
        (",2020-01-01T10:00:00,HR,1\n", "empty-cell"),
        ("A,,HR,1\n", "empty-cell"),
        ("A,2020-01-01T10:00:00,HR\n", "ragged-row"),
    ],
)
def test_a_bad_row_is_left_out_and_the_others_are_used(opened, toys, row, code):
    cohort = opened({"ehr.csv": toys.events + GOOD_EVENTS + row})
    assert told(cohort) == [("error", code, "ehr.csv")]
    assert cohort.problems[0].where == "row 3"
    assert [records.table.num_rows for records in cohort.records("ehr", cohort.samples)] == [1, 1]


@pytest.mark.parametrize(
    ("content", "code"),
    [("", "empty-file"), ("subject_id,when,code,numeric_value\n" + GOOD_EVENTS, "missing-column")],
)
def test_a_table_that_cannot_be_read_is_absent_and_the_cohort_still_opens(opened, content, code):
    cohort = opened({"ehr.csv": content})
    assert cohort.modalities == ()
    assert told(cohort)[0] == ("error", code, "ehr.csv")
    assert [problem.code for problem in cohort.problems[1:]] == ["no-data", "no-data"]


def test_time_zones_in_some_files_only_are_refused_with_one_line_for_each_file(opened, toys):
    events = toys.events + GOOD_EVENTS.replace("10:00:00", "10:00:00Z")
    with pytest.raises(DataError) as caught:
        opened({"ehr.csv": events, "subjects.csv": "subject_id,birth_date\nA,1950-01-01\n"})
    assert {(problem.file, problem.got) for problem in caught.value.problems} == {
        ("labels/died.csv", "without a time zone"),
        ("ehr.csv", "with a time zone"),
    }


def test_a_modality_whose_times_have_a_zone_that_no_table_told_of_is_found_too(opened, toys):
    class Headers:
        name = "films"

        def index(self, folder):
            table = toys.ehr.index(folder)
            folder.zoned.clear()
            times = table["time"].cast(pa.timestamp("us", tz="UTC"))
            return table.set_column(table.column_names.index("time"), "time", times)

    class Labels:
        name = "other"

        def index(self, folder):
            folder.zoned["labels/died.csv"] = False

    with pytest.raises(DataError, match="films: time is 'with a time zone'"):
        opened({}, [Headers(), Labels()])


def test_labels_that_say_the_same_twice_are_a_warning(opened, toys):
    cohort = opened({"labels/died.csv": toys.labels + GOOD_LABELS + "A,2020-01-02 00:00,1\n"})
    assert told(cohort) == [("warning", "duplicate-label", "labels/died.csv")]
    assert len(cohort) == 2


@pytest.mark.parametrize("other", ["False", ""])
def test_labels_that_contradict_each_other_are_all_left_out(opened, toys, other):
    cohort = opened({"labels/died.csv": toys.labels + GOOD_LABELS + f"A,2020-01-02T00:00:00,{other}\n"})
    assert told(cohort) == [("error", "contradicting-labels", "labels/died.csv")]
    assert [sample.subject_id for sample in cohort.samples] == ["B"]
    assert cohort.problems[0].where == "subject A"


def test_a_subject_without_any_data_is_told_to_get_the_base_rate(opened, toys):
    late = "D,2020-01-03T10:00:00,HR,80\n"
    labels = toys.labels + GOOD_LABELS + "C,2020-01-02T00:00:00,\nD,2020-01-02T00:00:00,\n"
    cohort = opened({"labels/died.csv": labels, "ehr.csv": toys.events + GOOD_EVENTS + late})
    lines = {problem.subject_id: problem for problem in cohort.problems if problem.code == "no-data"}
    assert set(lines) == {"C", "D"}
    assert lines["C"].got == "no records"
    assert "all later" in lines["D"].got
    assert "base rate" in lines["C"].remedy
    assert [records.table.num_rows for records in cohort.records("ehr", cohort.samples)] == [1, 1, 0, 0]


def test_records_of_patients_without_labels_are_no_problem(opened, toys):
    assert opened({"ehr.csv": toys.events + GOOD_EVENTS + "Z,2029-01-01T10:00:00,HR,1\n"}).problems == []


def test_a_later_record_that_a_later_prediction_uses_is_not_called_late(opened, toys):
    labels = toys.labels + GOOD_LABELS + "A,2020-01-09T00:00:00,True\n"
    assert (
        opened({"labels/died.csv": labels, "ehr.csv": toys.events + GOOD_EVENTS + "A,2020-01-08T10:00,HR,1\n"}).problems
        == []
    )


@pytest.mark.parametrize(
    ("rows", "severity", "code", "sex"),
    [
        ("A,F,60\nA,F,60\n", "warning", "duplicate-subject", "F"),
        ("A,F,60\nA,M,60\n", "error", "contradicting-subjects", None),
    ],
)
def test_two_rows_of_one_subject(opened, rows, severity, code, sex):
    cohort = opened({"subjects.csv": "subject_id,sex,age_years\nB,M,50\n" + rows})
    assert (severity, code, "subjects.csv") in told(cohort)
    assert cohort.subjects["A"]["sex"] == sex
    assert cohort.subjects["B"]["sex"] == "M"


@pytest.mark.parametrize("age", ["-1", "200", "300"])
def test_an_impossible_age_is_unknown(opened, age):
    cohort = opened({"subjects.csv": f"subject_id,sex,age_years\nA,F,{age}\nB,M,130\n"})
    assert cohort.subjects["A"] == {"sex": "F", "age_years": None}
    assert told(cohort) == [("warning", "bad-age", "subjects.csv")]


def test_a_nan_in_a_column_of_numbers_about_subjects_is_refused_and_does_not_turn_the_column_into_text(opened):
    cohort = opened({"subjects.csv": "subject_id,height_cm,note\nA,180,NaN\nB,NaN,x\n"})
    assert cohort.subjects["A"] == {"height_cm": 180.0, "note": "NaN"}
    assert cohort.subjects["B"] == {"height_cm": None, "note": None}
    assert cohort.problems[0].line().startswith("error subjects.csv row 2: height_cm is 'NaN'")


@pytest.mark.parametrize("path", ["../died.csv", "/etc/passwd", "labels/../../died.csv", "C:\\died.csv"])
def test_labels_outside_the_folder_are_refused(opened, path):
    with pytest.raises(DataError, match="path-outside"):
        opened({"cohort.toml": f"[tasks.died]\nlabels = '{path}'\n"})


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        ("name = 'x'\n", "no-task"),
        ("tasks = 3\n", "no-task"),
        ("[tasks.died]\npositive = 'x'\n", "bad-task"),
        ("[tasks]\ndied = 'labels/died.csv'\n", "bad-task"),
        ("[tasks.died]\nlabels = 'labels/died.xlsx'\n", "bad-task"),
        ("[tasks.died]\nlabels = 'labels/none.csv'\n", "no-labels"),
    ],
)
def test_a_configuration_without_usable_labels_is_refused(opened, toml, code):
    with pytest.raises(DataError, match=code):
        opened({"cohort.toml": toml})


@pytest.mark.parametrize(
    "content", ["", "subject_id,prediction_time,boolean_value\n", "subject_id,boolean_value\nA,True\n",
                "subject_id,prediction_time,boolean_value\nA,01/02/2020,True\n"],
)  # fmt: skip
def test_labels_of_which_no_row_can_be_used_are_refused_with_the_reasons(opened, content):
    with pytest.raises(DataError, match="no row that can be used") as caught:
        opened({"labels/died.csv": content})
    assert len(caught.value.problems) == 2


def test_a_unit_that_is_no_text_is_told_and_left_out(opened):
    toml = "[tasks.died]\nlabels = 'labels/died.csv'\n[ehr.units]\nHR = 1\nlactate = 'mmol/L'\n"
    cohort = opened({"cohort.toml": toml})
    assert cohort.units == {"lactate": "mmol/L"}
    assert [problem.field for problem in cohort.problems] == ["ehr.units.HR"]


@pytest.mark.parametrize("toml", ["ehr = 1\n", "ehr = {units = 'none'}\n"])
def test_units_of_a_wrong_form_do_not_stop_the_reader(opened, toml):
    assert opened({"cohort.toml": toml + "[tasks.died]\nlabels = 'labels/died.csv'\n"}).units == {}


def test_a_task_that_is_not_there_is_wrong_usage(toys, tmp_path):
    toys.write(tmp_path, {"labels/died.csv": toys.labels + GOOD_LABELS})
    with pytest.raises(UsageError, match=r"'survived'.*died"):
        open_cohort(tmp_path, [], "survived")


def test_no_message_holds_a_value_of_another_column(opened, toys):
    cohort = opened({"ehr.csv": toys.events + "A,soon,SECRET,80\n" + GOOD_EVENTS})
    assert not any("SECRET" in problem.line() for problem in cohort.problems)


CELLS = st.sampled_from(
    ["", "A", "B", "True", "maybe", "2020-01-02T00:00:00", "2020-01-02", "1950-02-30", "01/02/2020", "3", "-7", "NaN",
     "1e400", '"', '"x,y"', "\u00e9", "2020-01-02T00:00:00Z", "0001-01-01", "9999-12-31T23:59:59", " "]
)  # fmt: skip
LINES = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=6).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(
    labels=st.one_of(st.just(GOOD_LABELS), LINES),
    subjects=LINES,
    header=st.sampled_from(
        ["subject_id,sex,age_years,birth_date", "subject_id,birth_date,x,y", "subject_id,x,x", "x", ""]
    ),
    events=LINES,
)
def test_whatever_stands_in_the_tables_the_reader_opens_or_refuses_on_purpose(
    toys, tmp_path_factory, labels, subjects, header, events
):
    files = {
        "labels/died.csv": toys.labels + labels,
        "subjects.csv": f"{header}\n{subjects}",
        "ehr.csv": toys.events + events,
    }
    try:
        cohort = open_cohort(toys.write(tmp_path_factory.mktemp("fuzz"), files), [toys.ehr])
    except DataError:
        return
    for sample, records in zip(cohort.samples, cohort.records("ehr", cohort.samples), strict=True):
        assert records.as_of == sample.prediction_time
        assert all(time <= sample.prediction_time for time in records.table["time"].to_pylist())
    assert all(problem.line() for problem in cohort.problems)
