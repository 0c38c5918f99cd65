import json
import os
import platform
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medfusion.core.errors import RunStopped, UsageError
from medfusion.scoring import TABLES, Counts, Journal

FILES = {"a.dcm": (10, 20, "ab")}


def made(number):
    return {name: pa.table({"subject_id": [f"P{number}"], "of": [name]}) for name in TABLES}


def test_what_is_committed_is_kept_with_the_files_it_was_made_of(tmp_path):
    with Journal(tmp_path) as journal:
        journal.commit(3, made(1), FILES)
        kept = journal.kept(3)
        assert journal.kept(4) is None
    assert {name: table.to_pylist() for name, table in kept.tables.items()} == {
        name: [{"subject_id": "P1", "of": name}] for name in TABLES
    }
    assert kept.files == FILES


@pytest.mark.parametrize("torn", TABLES)
def test_a_part_of_which_one_table_is_of_another_commit_is_not_kept(tmp_path, torn):
    with Journal(tmp_path / "a") as journal, Journal(tmp_path / "b") as other:
        journal.commit(0, made(1), FILES)
        other.commit(0, made(2), FILES)
        file = f"{torn}.parquet/part-00000.parquet"
        (tmp_path / "a" / file).write_bytes((tmp_path / "b" / file).read_bytes())
        assert journal.kept(0) is None


@pytest.mark.parametrize("damage", [b"", b"PAR1"])
def test_a_part_with_a_damaged_or_missing_file_is_not_kept(tmp_path, damage):
    with Journal(tmp_path) as journal:
        journal.commit(0, made(1), FILES)
        path = tmp_path / "ledger.parquet" / "part-00000.parquet"
        path.write_bytes(damage)
        assert journal.kept(0) is None
        path.unlink()
        assert journal.kept(0) is None


def test_a_second_run_into_the_folder_is_refused_with_the_process_and_host_of_the_first(tmp_path):
    with Journal(tmp_path):
        imports = "import sys; from pathlib import Path; from medfusion.scoring import Journal"
        code = f"{imports}\nwith Journal(Path(sys.argv[1])): pass"
        second = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"is being written by process {os.getpid()} on {platform.node()} since " in second.stderr
    with Journal(tmp_path):
        pass


def test_a_folder_that_a_killed_process_held_is_free_and_swept(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from medfusion.scoring import Journal\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    journal.staging.mkdir(parents=True); (journal.out / '.x.parquet.1.tmp').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=False)
    assert killed.returncode == -9
    with Journal(tmp_path) as journal:
        assert not journal.staging.exists()
        assert not list(tmp_path.rglob("*.tmp"))


def test_a_worker_that_outlives_its_run_writes_nothing(tmp_path):
    with Journal(tmp_path) as first:
        worker = Journal(tmp_path, run=first.run)
        worker.commit(0, made(1), FILES)
    with pytest.raises(RunStopped, match="is no longer this run's"):
        worker.commit(0, made(2), FILES)
    with Journal(tmp_path) as second:
        with pytest.raises(RunStopped, match="is no longer this run's"):
            worker.commit(0, made(2), FILES)
        assert second.kept(0).tables["ledger"]["subject_id"].to_pylist() == ["P1"]


def test_a_folder_of_an_earlier_version_is_not_written_to(tmp_path):
    pq.write_table(pa.table({"risk": [0.5]}), tmp_path / "predictions.parquet")
    with pytest.raises(UsageError, match=r"holds predictions\.parquet as one file"), Journal(tmp_path):
        pass


def test_the_number_of_parts_stays(tmp_path):
    with Journal(tmp_path) as journal:
        assert journal.planned is None
        journal.plan(7)
    assert Journal(tmp_path).planned == 7
    (tmp_path / ".state" / "part" / "plan.json").write_text(json.dumps({"format": 0, "parts": 7}))
    assert Journal(tmp_path).planned is None


def test_a_table_that_is_not_wanted_any_more_goes_with_the_next_commit(tmp_path):
    with Journal(tmp_path) as journal:
        journal.commit(0, made(1), FILES)
    with Journal(tmp_path, tables=("predictions", "quarantine")) as journal:
        journal.commit(0, made(2), FILES)
        assert set(journal.kept(0).tables) == {"predictions", "quarantine"}
    assert not list((tmp_path / "ledger.parquet").iterdir())


def test_counts_that_lose_a_sample_are_not_balanced():
    assert Counts(rows=5, samples=4, scored=2, unchanged=1, failed=1).balanced
    assert not Counts(rows=5, samples=4, scored=2, unchanged=1).balanced
