"""The checklist has the items of the statement, and claims nothing that the record does not hold."""

import re

import pytest
from markdown_it import MarkdownIt
from run_records import EVIL, RECORD, SUBGROUPS, evil, paths, without
from test_pages import assert_stands_alone

from medfusion.core.errors import UsageError
from medfusion.outputs.tripod import items, tripod

# Numbers and applicability as Collins et al. 2024 (BMJ 385:e078378, table 2) have them.
STATEMENT = {
    "Title": "1 D;E",
    "Abstract": "2 D;E",
    "Introduction": "3a D;E, 3b D;E, 3c D;E, 4 D;E",
    "Methods": "5a D;E, 5b D;E, 6a D;E, 6b D;E, 6c D;E, 7 D;E, 8a D;E, 8b D;E, 8c D;E, 9a D, 9b D;E, 9c D;E, 10 D;E, "
    "11 D;E, 12a D, 12b D, 12c D, 12d D;E, 12e D;E, 12f E, 12g E, 13 D;E, 14 D;E, 15 D, 16 D;E, 17 D;E",
    "Open science": "18a D;E, 18b D;E, 18c D;E, 18d D;E, 18e D;E, 18f D;E",
    "Patient and public involvement": "19 D;E",
    "Results": "20a D;E, 20b D;E, 20c E, 21 D;E, 22 D, 23a D;E, 23b D;E, 24 E",
    "Discussion": "25 D;E, 26 D;E, 27a D, 27b D, 27c D;E",
}
ANSWERS = {answer.item.number: answer for answer in tripod(RECORD).answers}
FILLED = {"11", "12a", "12g", "13", "15", "21"}
NEVER = {
    "2",
    "3a",
    "3b",
    "3c",
    "6b",
    "6c",
    "8b",
    "8c",
    "9c",
    "17",
    "18a",
    "18b",
    "18c",
    "18d",
    "19",
    "25",
    "27b",
    "27c",
}


def test_the_items_are_those_of_the_statement_in_its_order():
    expected = [(section, *item.split(" ", 1)) for section, listed in STATEMENT.items() for item in listed.split(", ")]
    assert [(item.section, item.number, item.applies) for item in items()] == expected
    assert len(expected) == 52
    assert len({re.match(r"\d+", number)[0] for _, number, _ in expected}) == 27


def test_without_a_record_every_item_is_for_the_author_who_is_told_what_to_write():
    answers = tripod({}).answers
    assert {answer.status for answer in answers} == {"author"}
    assert all(answer.hint and not answer.reported and not answer.facts for answer in answers)


def test_every_sentence_rests_on_a_fact():
    assert [item.number for item in items() for sentence in item.says if not re.search(r"\{[\w.]+\}", sentence)] == []


def test_what_no_run_can_know_is_never_filled():
    assert {number for number, answer in ANSWERS.items() if answer.status == "author"} >= NEVER
    assert {number for number, answer in ANSWERS.items() if answer.status == "filled"} == FILLED


@pytest.mark.parametrize(
    ("number", "path"), [(number, path) for number, answer in ANSWERS.items() for path in answer.facts]
)
def test_an_item_does_not_claim_a_fact_that_was_taken_from_the_record(number, path):
    before, after = ANSWERS[number], {a.item.number: a for a in tripod(without(RECORD, path)).answers}[number]
    assert path not in after.facts
    assert after.reported != before.reported
    assert len(after.reported) < len(before.reported)
    assert after.status != "filled"
    assert after.hint


@pytest.mark.parametrize(
    ("number", "path"),
    [
        ("1", "positive"),
        ("4", "folds"),
        ("12g", "medfusion"),
        ("15", "methods"),
        ("22", "model_id"),
        ("26", "patients_with_event"),
    ],
)
def test_an_item_whose_only_fact_is_gone_is_for_the_author(number, path):
    assert {a.item.number: a.status for a in tripod(without(RECORD, (path,))).answers}[number] == "author"


@pytest.mark.parametrize(
    ("number", "numbers"),
    [
        ("5a", ["ward-nine", "c0c0c0c0c0c0", "imaging (12 files) f2f2f2f2f2f2"]),
        ("5b", ["2019-02-03", "2021-04-05"]),
        ("7", ["5 records or files were left out (bad-time 3, bad-unit 2)", "tfidf"]),
        ("10", ["207 samples of 103 patients, 31 of them with the event; 61 samples (29.5 %)"]),
        ("11", ["notes for 190 of 207 samples (91.8 %)", "absent ones are absent", "missing ones are missing"]),
        ("12a", ["4 folds by patient", "51 samples of 25 patients with 15 events", "d3d3"]),
        ("12c", ["Late fusion", "ehr 0.75, notes 0.125", "seed 7", "--set 'ehr.way=a b'"]),
        ("20b", ["median 66.5, quartiles 51 and 77.5, unknown for 6", "F 48, M 55"]),
        ("23a", ["AUROC 0.866 (0.826 to 0.906)", "Brier score 0.151;", "Calibration slope cannot be told"]),
        ("23a", ["notes alone: AUROC 0.702 (0.662 to 0.742)", "ehr + notes (n = 190): AUROC 0.871 (0.830 to 0.910)"]),
    ],
)
def test_filled_items_have_the_numbers_of_the_record(number, numbers):
    assert [part for part in numbers if part not in ANSWERS[number].reported] == []


def test_figures_of_subgroups_close_the_gap_of_item_23a_and_nothing_else_does():
    assert ANSWERS["23a"].status == "partly"
    answer = {a.item.number: a for a in tripod({**RECORD, "subgroups": SUBGROUPS}).answers}["23a"]
    assert answer.status == "filled"
    assert "group sex=F, n 96, auroc 0.888; group sex=M, n 111, auroc 0.844" in answer.reported


def test_what_the_author_writes_is_reported_beside_the_facts():
    written = {a.item.number: a for a in tripod(RECORD, {"17": "Committee A.", "5b": "Accrual as said."}).answers}
    assert (written["17"].status, written["17"].reported, written["17"].hint) == ("filled", "Committee A.", "")
    assert written["5b"].reported == f"{ANSWERS['5b'].reported} Accrual as said."
    with pytest.raises(UsageError, match=r"TRIPOD\+AI has no item 28; they go from 1 to 27c"):
        tripod(RECORD, {"28": "more"})


def test_the_table_has_a_row_per_item():
    table = tripod(RECORD).frame()
    assert list(table["item"]) == [item.number for item in items()]
    assert table.columns.tolist() == ["item", "section", "topic", "applies", "asks", "status", "reported", "hint"]
    assert table["status"].value_counts().sum() == 52


@pytest.mark.parametrize("record", [RECORD, evil(RECORD)], ids=["plain", "evil"])
def test_the_markdown_is_tables_of_six_columns_whatever_the_data_say(record):
    text = tripod(record).document().markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == len(STATEMENT)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert len(rows) == 52 + len(STATEMENT)
    assert {len(re.findall(r"<t[hd]>", row)) for row in rows} == {6}
    assert not re.search(r"<script|<em>|<a |<code>", html)
    assert html.count("The author must write this:") == sum(bool(a.hint) for a in tripod(record).answers)


def test_the_page_stands_alone_and_escapes_what_came_from_the_data():
    page = assert_stands_alone(tripod(evil(RECORD)).document().html())
    said = "".join(page.text)
    assert said.count(EVIL) > 20
    assert page.tags.count("tr") == 52 + len(STATEMENT)


def test_the_lead_counts_what_is_filled():
    states = [answer.status for answer in ANSWERS.values()]
    assert (
        tripod(RECORD)
        .document()
        .lead.startswith(f"Of 52 items, 6 are filled from the run record, {states.count('partly')} in part, and")
    )


@pytest.mark.parametrize("path", paths(RECORD), ids=".".join)
def test_no_missing_fact_stops_the_checklist(path):
    assert len(tripod(without(RECORD, path)).frame()) == 52
