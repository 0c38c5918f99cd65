"""The cohort folder: its configuration, its tables, and paths that stay inside."""

import pytest

from medfusion.core.errors import DataError
from medfusion.core.folder import CohortFolder
from medfusion.core.schema import Column, TableSchema

NOTES = TableSchema("notes", "", (Column("subject_id", "string", ""), Column("time", "time", "")))
ROW = "subject_id,time\nC1,2020-01-01T10:00\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cohort.toml").write_text('name = "small"\n')
    return CohortFolder.open(tmp_path)


def test_a_folder_without_configuration_is_refused_and_named(tmp_path):
    with pytest.raises(DataError, match="missing-file") as caught:
        CohortFolder.open(tmp_path / "nowhere")
    assert "nowhere" in str(caught.value)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_configuration_that_is_no_toml_is_refused(tmp_path, content):
    (tmp_path / "cohort.toml").write_bytes(content)
    with pytest.raises(DataError, match="bad-toml"):
        CohortFolder.open(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "cohort.toml").write_bytes(b'\xef\xbb\xbfname = "small"')
    assert CohortFolder.open(tmp_path).config["name"] == "small"


def test_a_table_that_is_not_there_is_none_and_no_problem(folder):
    assert folder.table(NOTES) is None
    assert folder.problems == []


def test_a_link_to_nowhere_is_not_taken_for_an_absent_table(folder):
    (folder.root / "notes.csv").symlink_to(folder.root / "elsewhere.csv")
    assert folder.table(NOTES) is None
    assert [problem.code for problem in folder.problems] == ["unreadable-table"]


def test_a_linked_table_is_read(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data.csv"
    elsewhere.write_text(ROW)
    (folder.root / "notes.csv").symlink_to(elsewhere)
    assert folder.table(NOTES).num_rows == 1
    assert folder.zoned == {"notes.csv": False}


def test_of_two_files_with_one_table_the_one_used_is_told(folder):
    (folder.root / "notes.csv").write_text(ROW)
    (folder.root / "notes.parquet").write_text("")
    folder.table(NOTES)
    assert "notes.parquet is used" in folder.problems[0].remedy


@pytest.mark.parametrize(
    "name", ["../secret.png", "a/../../b.png", "/etc/passwd", "\\\\server\\x", "C:\\x.png", "c:x.png", "", ".", "a\0b"]
)
def test_a_path_that_leads_out_of_the_folder_is_refused(folder, name):
    assert folder.resolve(name) is None


def test_a_path_inside_is_resolved_also_with_backslashes(folder):
    assert folder.resolve("imaging\\a.png") == folder.root / "imaging" / "a.png"


def test_a_linked_folder_inside_is_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("films")
    (elsewhere / "a.png").write_text("x")
    (folder.root / "imaging").symlink_to(elsewhere)
    assert folder.resolve("imaging/a.png").read_text() == "x"
