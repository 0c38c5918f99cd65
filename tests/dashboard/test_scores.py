"""What a worklist asks of the Parquet files, against the same asked of pandas."""

import json
import shutil

import pandas as pd
import pytest
from damage import damaged

from dashboards.scores import Flag, Order, Query, Scores
from medfusion.core.errors import DataError


@pytest.fixture(scope="module")
def scores(scored):
    return Scores.open(scored)


@pytest.fixture(scope="module")
def table(scored):
    """Return the predictions, read without the code under test."""
    return pd.concat([pd.read_parquet(file) for file in sorted((scored / "predictions.parquet").iterdir())])


def keys(rows):
    return [(row.subject_id, row.prediction_time) for row in rows]


def expected(table):
    return list(zip(table["subject_id"], table["prediction_time"].dt.to_pydatetime(), strict=True))


def test_pages_together_are_all_samples_by_risk(scores, table):
    pages = [scores.page(Query(), start, 10) for start in (0, 10, 20)]
    assert {page.total for page in pages} == {len(table)}
    found = [row for page in pages for row in page.rows]
    assert keys(found) == expected(table.sort_values("risk", ascending=False))
    assert [row.risk for row in found] == sorted(table["risk"], reverse=True)


def test_filters_say_what_pandas_says(scores, table):
    far = table[table["findings"].fillna("").str.contains("abstain") & table["risk"].between(0.2, 0.6)]
    page = scores.page(Query(least=0.2, most=0.6, flags=frozenset({Flag.ABSTAIN})), 0, 100)
    assert sorted(keys(page.rows)) == sorted(expected(far))
    without = table[~table["present_imaging"] & ~table["present_notes"]]
    page = scores.page(Query(missing=frozenset({"imaging", "notes"})), 0, 100)
    assert sorted(keys(page.rows)) == sorted(expected(without))
    page = scores.page(Query(text="p10000"), 0, 100)
    assert sorted(keys(page.rows)) == sorted(expected(table[table["subject_id"].str.contains("P10000")]))


def test_a_name_cannot_change_the_question(scores):
    assert scores.page(Query(text="' OR 1=1 --"), 0, 10).total == 0
    assert scores.page(Query(text="%"), 0, 10).total == 0


def test_change_is_since_the_previous_prediction_time(scores, table):
    ordered = table.sort_values("prediction_time")
    before = ordered.groupby("subject_id")["risk"].diff()
    wanted = {key: change for key, change in zip(expected(ordered), before, strict=True) if not pd.isna(change)}
    page = scores.page(Query(order=Order.CHANGE), 0, 100)
    assert {key: row.change for key, row in zip(keys(page.rows), page.rows, strict=True) if row.change is not None} == (
        pytest.approx(wanted)
    )
    assert [row.change is None for row in page.rows] == sorted(row.change is None for row in page.rows)


def test_reasons_are_the_largest_lines_of_the_ledger(scores, scored):
    ledger = pd.concat([pd.read_parquet(file) for file in (scored / "ledger.parquet").iterdir()])
    ledger = ledger[~ledger["feature"].str.match(r"\((\d+ others|average )")]
    for row in scores.page(Query(), 0, 5).rows:
        mine = ledger[(ledger["subject_id"] == row.subject_id) & (ledger["prediction_time"] == row.prediction_time)]
        largest = mine.loc[mine["share"].abs().sort_values(ascending=False).index].head(3)
        assert [reason.share for reason in row.reasons] == largest["share"].tolist()
        assert [reason.feature for reason in row.reasons] == largest["feature"].tolist()


def test_a_part_that_is_not_finished_does_not_count(scored, table, tmp_path):
    folder = shutil.copytree(scored, tmp_path / "scores")
    record = next(iter((folder / ".state" / "part" / "finished").iterdir()))
    record.write_text(json.dumps({"token": "of another run", "files": {}}), encoding="utf-8")
    gone = len(pd.read_parquet(folder / "predictions.parquet" / f"part-{record.stem}.parquet"))
    scores = Scores.open(folder)
    assert (scores.page(Query(), 0, 1).total, scores.left_out) == (len(table) - gone, 1)


def test_a_sample_of_two_deliveries_is_shown_as_it_was_scored_last(scored, table, tmp_path):
    folder = shutil.copytree(scored, tmp_path / "scores")
    shutil.copytree(folder / ".state" / "part", folder / ".state" / "later")
    for name in ("predictions", "ledger", "quarantine"):
        for file in list((folder / f"{name}.parquet").glob("part-0*.parquet")):
            shutil.copy(file, file.with_name(file.name.replace("part", "later")))
    page = Scores.open(folder).page(Query(), 0, 100)
    assert page.total == len(page.rows) == len(table)
    assert all(len(row.reasons) == 3 for row in page.rows if len(row.missing) == 0)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        ("nothing", "no-scores"),
        ("one file", "old-scores"),
        ("no column", "old-scores"),
        ("no record", "damaged-scores"),
        ("cut", "damaged-scores"),
        ("empty", "unfinished-scores"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(scored, tmp_path, harm, code):
    with pytest.raises(DataError) as told:
        Scores.open(damaged(scored, tmp_path, harm))
    assert told.value.problems[0].code == code
