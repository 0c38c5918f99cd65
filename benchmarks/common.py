"""What the benchmarks share: running the command line, describing the machine, writing what was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_VERSIONS = ("medfusion", "torch", "scikit-learn", "xgboost-cpu", "numpy", "pydicom")


class Failed(Exception):
    """A command ended with an exit code that it should not have."""


def medfusion(*arguments: object, allowed: tuple[int, ...] = (0,)) -> float:
    """Run ``medfusion`` in a process of its own, as a user does, and return its wall-clock seconds.

    Raises
    ------
    Failed
        If the exit code is not among those allowed; with the end of what was said.
    """
    beside = Path(sys.executable).with_name("medfusion")
    command = [str(beside) if beside.exists() else "medfusion", *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in allowed:
        said = (done.stderr.strip() or done.stdout.strip())[-800:]
        raise Failed(f"medfusion {arguments[0]} ended with exit code {done.returncode}: {said}")
    return seconds


def cohort_config(cohort: Path) -> dict[str, Any]:
    """Return what cohort.toml says."""
    return tomllib.loads((cohort / "cohort.toml").read_text(encoding="utf-8"))


def machine() -> dict[str, Any]:
    """Describe what a figure depends on, and how busy it was; to be called before measuring."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONS},
    }


def machine_line(described: dict[str, Any]) -> str:
    """Return the machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in described["versions"].items())
    return (
        f"{described['cores']} cores ({described['processor']}), load {described['load_before']} before; "
        f"Python {described['python']}, {versions}."
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)) + "\n"


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def write_results(out: Path, name: str, measured: dict[str, Any], text: str) -> None:
    """Write ``<name>.json`` and ``<name>.md``, and show the latter."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(measured, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    columns = shutil.get_terminal_size().columns
    print("-" * min(columns, 80), text, f"written: {out / name}.json and .md", sep="\n")
