"""A fourth kind of data is one new folder: no other file changes, and it trains, scores and explains."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medfusion

FOLDER = Path(__file__).parent / "waveform"


def digests(package):
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def write_waveforms(cohort, seed=0):
    """Write signals that are higher where the event follows, for three patients of four."""
    rng = np.random.default_rng(seed)
    labels = pd.read_csv(cohort / "labels" / "deterioration.csv", parse_dates=["prediction_time"])
    rows = []
    for asked in labels.drop_duplicates("subject_id").itertuples():
        if rng.random() < 0.75:
            values = rng.normal(3.0 * asked.boolean_value, 1.0) + rng.normal(0.0, 0.3, 6)
            times = asked.prediction_time - pd.to_timedelta(np.arange(6, 0, -1), unit="min")
            rows += [(asked.subject_id, time.isoformat(), value) for time, value in zip(times, values, strict=True)]
    pd.DataFrame(rows, columns=["subject_id", "time", "value"]).to_csv(cohort / "waveform.csv", index=False)


@pytest.fixture(scope="module")
def place(synthetic, tmp_path_factory, cache):
    """Copy the package, add one folder to it and one table to a cohort, and run the command line there."""
    root = tmp_path_factory.mktemp("fourth")
    package = Path(medfusion.__file__).parent
    copied = shutil.copytree(package, root / "lib" / "medfusion", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(FOLDER, copied / "modalities" / "waveform")
    shutil.copytree(synthetic.folder, root / "cohort")
    write_waveforms(root / "cohort")
    environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*words):
        command = [sys.executable, "-m", "medfusion.cli", *words, "--cache", str(cache)]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)

    done = run("train", "cohort", "--out", "model", "--json")
    assert done.returncode == 0, done.stderr
    scored = run("score", "model", "cohort", "--out", "scores")
    assert scored.returncode == 0, scored.stderr
    return root, json.loads(done.stdout), run


def test_only_the_new_folder_differs_from_the_installed_package(place):
    root, _, _ = place
    installed, there = digests(Path(medfusion.__file__).parent), digests(root / "lib" / "medfusion")
    new = {name for name in there if name not in installed}
    assert new == {"modalities/waveform/__init__.py"}
    assert {name: there[name] for name in installed} == installed


def test_it_takes_part_in_the_training(place):
    _, results, _ = place
    assert set(results) == {"ehr", "imaging", "notes", "waveform", "fused"}
    assert results["waveform"]["auroc"]["value"] > 0.7
    assert any("waveform" in str(pattern) for pattern in results["fused"]["patterns"])


def test_its_share_is_in_the_predictions_and_they_add_up(place):
    root, _, _ = place
    table = pd.read_parquet(root / "scores" / "predictions.parquet")
    shares = table[[name for name in table.columns if name.startswith("share_")]]
    assert list(shares.columns) == ["share_ehr", "share_imaging", "share_notes", "share_waveform"]
    np.testing.assert_allclose(table["base_logit"] + shares.sum(axis=1), table["logit"], atol=1e-6)
    absent = ~table["present_waveform"]
    assert 0.1 < absent.mean() < 0.5
    assert (table.loc[absent, "share_waveform"] == 0).all()
    assert table.loc[absent, "findings"].str.contains("no-waveform").all()


def test_its_lines_are_in_the_ledger_and_sum_to_its_share(place):
    root, _, _ = place
    key = ["subject_id", "prediction_time"]
    lines = pd.read_parquet(root / "scores" / "ledger.parquet")
    mine = lines[lines["modality"] == "waveform"]
    assert set(mine["feature"]) == {"signal mean", "signal max", "signal standard deviation", "average signal"}
    predictions = pd.read_parquet(root / "scores" / "predictions.parquet").set_index(key)
    here = predictions["present_waveform"]
    total = mine.groupby(key)["share"].sum()
    np.testing.assert_allclose(total.reindex(predictions.index[here]), predictions["share_waveform"][here], atol=1e-6)


def test_one_patient_is_explained_with_it(place):
    root, _, run = place
    table = pd.read_parquet(root / "scores" / "predictions.parquet")
    subject = table.loc[table["present_waveform"], "subject_id"].iloc[0]
    done = run("explain", "model", "cohort", "--subject", subject, "--json", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    ledger = json.loads(done.stdout)
    shares = {part["modality"]: part["share"] for part in ledger["modalities"]}
    assert shares["waveform"] != 0
    assert ledger["base_logit"] + sum(shares.values()) == pytest.approx(ledger["logit"], abs=1e-6)
    assert "signal mean" in (root / "page.html").read_text(encoding="utf-8")
