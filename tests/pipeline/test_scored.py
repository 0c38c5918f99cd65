"""Which files of a folder of scores can be relied on, while it is written, and after an accident."""

import pyarrow as pa
import pytest

from medfusion.core.errors import DataError
from medfusion.pipeline import open_scores, scores_changed
from medfusion.scoring import Journal

COLUMNS = ["subject_id", "risk", "risk_low", "risk_high", "logit", "base_logit", "risk_set", "findings", "model_id"]
COLUMNS += ["seen_in_training", "input_hash", "scored_at", "present_film"]


def tables(zone=None):
    predictions = {name: pa.array([None]) for name in COLUMNS}
    predictions["prediction_time"] = pa.array([None], pa.timestamp("us", tz=zone))
    return {"predictions": pa.table(predictions), "ledger": pa.table({}), "quarantine": pa.table({})}


@pytest.fixture
def folder(tmp_path):
    with Journal(tmp_path / "scores") as journal:
        for part in range(3):
            journal.commit(part, tables(), {})
    return tmp_path / "scores"


def test_all_finished_parts_count_with_their_ledgers(folder):
    found = open_scores(folder)
    names = [f"part-0000{part}.parquet" for part in range(3)]
    assert [file.name for file in found.predictions] == names
    assert [file.name for file in found.ledger.values()] == names
    assert (found.modalities, found.alike, found.zoned, found.left_out) == (("film",), True, False, 0)


@pytest.mark.parametrize("table", ["predictions", "ledger", "quarantine"])
def test_a_part_of_which_one_table_is_of_another_record_does_not_count(folder, tmp_path, table):
    with Journal(tmp_path / "other") as journal:
        journal.commit(1, tables(), {})
    (tmp_path / "other" / f"{table}.parquet" / "part-00001.parquet").replace(
        folder / f"{table}.parquet" / "part-00001.parquet"
    )
    found = open_scores(folder)
    assert [file.stem for file in found.predictions] == ["part-00000", "part-00002"]
    assert found.left_out == 1


def test_a_part_that_has_no_record_yet_does_not_count(folder):
    (folder / ".state" / "part" / "finished" / "00002.json").unlink()
    found = open_scores(folder)
    assert (len(found.predictions), found.left_out) == (2, 1)


def test_times_in_utc_are_known_as_such(tmp_path):
    with Journal(tmp_path / "scores") as journal:
        journal.commit(0, tables("UTC"), {})
    assert open_scores(tmp_path / "scores").zoned


def test_a_finished_part_changes_the_folder(folder):
    before = scores_changed(folder)
    with Journal(folder) as journal:
        journal.commit(3, tables(), {})
    assert scores_changed(folder) > before > 0


def test_what_was_not_made_by_scoring_is_refused(tmp_path):
    with pytest.raises(DataError, match="no-scores"):
        open_scores(tmp_path)
