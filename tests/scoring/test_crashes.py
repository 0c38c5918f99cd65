"""Runs that are killed lose nothing; benchmarks/crashes.py does the same fifty times."""

import shutil

import pytest

crashes = pytest.importorskip("crashes", reason="benchmarks/ is not here")


def test_runs_that_are_killed_write_what_a_run_writes_that_nobody_kills(trained, new_patients, tmp_path):
    cohort = shutil.copytree(new_patients.folder, tmp_path / "cohort")
    assert crashes.damage(cohort, 9) > 1
    command = crashes.Command(trained.folder, cohort)
    outcome = crashes.crash(command, tmp_path, ["main", "main", "main", "worker", "worker"], seed=2)
    assert len(outcome.kills) == 5
    assert all(outcome.rows.values())
    assert (outcome.lost, outcome.doubled, outcome.changed) == (0, 0, 0)
