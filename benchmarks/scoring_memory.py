"""Does the memory of a scoring run grow with the cohort, or the time that a sample takes?

Cohorts of several sizes are generated piece by piece: events and notes of invented patients under ever new names, and
their films by link. Each is scored by the command line, in turns with nothing else. The memory is that of all processes
of the run together (main and decoding), by their proportional set size (PSS), looked at every 50 ms. Embeddings are
cached, so a film is embedded once per content; it is opened and read for every sample.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from common import RESULTS, Failed, machine, machine_line, markdown_table, write_results
from crashes import processes

from medfusion.cohort.synthetic import write_synthetic_cohort
from medfusion.pipeline import train

KINDS = ("ehr", "notes", "films")
TEMPLATES = 60
"""Patients whose data is repeated."""
TRAINING = 80
_LOOK_S = 0.05
_STAGING_EVERY_S = 1.0
_PER_FOLDER = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--model", type=Path, help="trained on 80 synthetic patients unless given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "runs": []}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = args.model or trained(work)
        templates = Templates.write(work / "templates")
        # Every film is in the cache before: what is measured is not the network.
        templates.repeat(work / "first", TEMPLATES)
        run_measured(model, work / "first", work / "out-first", ("--cache", work / "cache"))
        for samples in args.samples:
            cohort = work / f"cohort-{samples}"
            rows = templates.repeat(cohort, samples)
            run = run_measured(model, cohort, work / f"out-{samples}", ("--cache", work / "cache"))
            measured["runs"].append({"samples": samples, "rows": rows, **asdict(run)})
            print(measured["runs"][-1], flush=True)
    write_results(args.out, "scoring_memory", measured, _page(measured))
    return 0


def trained(work: Path) -> Path:
    """Train a model of all three modalities."""
    write_synthetic_cohort(work / "before", subjects=TRAINING, seed=0)
    train(work / "before", work / "model", cache=work / "cache")
    return work / "model"


@dataclass(frozen=True, slots=True)
class Templates:
    """Patients of a synthetic cohort, to be repeated.

    Attributes
    ----------
    folder : Path
    patients : list of dict
        Rows of each table, and films with their times.
    """

    folder: Path
    patients: Sequence[Mapping[str, Any]]

    @classmethod
    def write(cls, folder: Path) -> Templates:
        """Draw them, and read them back; of each the first prediction time counts."""
        write_synthetic_cohort(folder, subjects=TEMPLATES, seed=1)
        patients: dict[str, dict[str, Any]] = {}
        for name in ("subjects", "labels/deterioration", "ehr", "notes"):
            for row in _rows(folder / f"{name}.csv"):
                mine = patients.setdefault(row.pop("subject_id"), {"films": []})
                mine.setdefault(name, []).append(row)
        for film in sorted((folder / "imaging").rglob("*.dcm")):
            patients[film.parent.name]["films"].append((film, _time_of(film)))
        return cls(folder, list(patients.values()))

    def repeat(self, cohort: Path, samples: int, kinds: Sequence[str] = KINDS, films_every: int = 1) -> int:
        """Write a cohort, row by row, and return how many rows its tables have.

        Parameters
        ----------
        cohort : Path
        samples : int
            Each of a patient of its own.
        kinds : sequence of {"ehr", "notes", "films"}
        films_every : int
            One of so many samples has films.
        """
        (cohort / "labels").mkdir(parents=True)
        config = (self.folder / "cohort.toml").read_text(encoding="utf-8")
        (cohort / "cohort.toml").write_text(config, encoding="utf-8")
        tables = ["subjects", "labels/deterioration", *(kind for kind in kinds if kind != "films")]
        rows = sum(self._table(cohort, name, samples) for name in tables)
        return rows + (self._films(cohort, samples, films_every) if "films" in kinds else 0)

    def _table(self, cohort: Path, name: str, samples: int) -> int:
        count, header = 0, list(next(each[name] for each in self.patients if name in each)[0])
        with (cohort / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["subject_id", *header])
            for number in range(samples):
                own = self.patients[number % len(self.patients)].get(name, [])
                if name.startswith("labels"):
                    own = [{**own[0], "boolean_value": ""}]
                out.writerows([_named(number), *row.values()] for row in own)
                count += len(own)
        return count

    def _films(self, cohort: Path, samples: int, every: int) -> int:
        count = 0
        with (cohort / "imaging.csv").open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["subject_id", "path", "time"])
            for number in range(0, samples, every):
                for place, (film, moment) in enumerate(self.patients[number % len(self.patients)]["films"]):
                    path = Path("imaging", str(number // _PER_FOLDER), f"{number}-{place}.dcm")
                    (cohort / path.parent).mkdir(parents=True, exist_ok=True)
                    (cohort / path).symlink_to(film)
                    out.writerow([_named(number), path.as_posix(), moment])
                    count += 1
        return count


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _named(number: int) -> str:
    return f"S{number:07}"


def _time_of(film: Path) -> str:
    from pydicom import dcmread  # noqa: PLC0415

    said = str(dcmread(film, stop_before_pixels=True, specific_tags=["AcquisitionDateTime"]).AcquisitionDateTime)
    return datetime.strptime(said[:14], "%Y%m%d%H%M%S").isoformat()


@dataclass(frozen=True, slots=True)
class Run:
    """What a scoring run took.

    Attributes
    ----------
    whole_s : float
        From start to exit of the command.
    run_s : float
        Without imports and loading the model.
    divide_s : float
        Of it, dividing the cohort.
    cpu_s : float
        Of all processes.
    peak_mb : float
        Of all processes together (PSS).
    main_mb : float
        Of the main one, at its own peak.
    staging_mb, written_mb : float
        Most on the disk for the parts, and what stays.
    """

    whole_s: float
    run_s: float
    divide_s: float
    cpu_s: float
    peak_mb: float
    main_mb: float
    staging_mb: float
    written_mb: float


def run_measured(model: Path, cohort: Path, out: Path, options: Sequence[object]) -> Run:
    """Score by the command line, and watch.

    Raises
    ------
    Failed
        If it does not end well.
    """
    command = [sys.executable, "-m", "medfusion.cli", "score", model, cohort, "--out", out, *options]
    before, start, staging, looked = _cpu_s(), time.monotonic(), 0.0, 0.0
    peak = main = 0.0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(list(map(str, command)), stdout=said, stderr=said)
        while process.poll() is None:
            memory = _memory_mb(process.pid)
            peak, main = max(peak, sum(memory.values())), max(main, memory.get(process.pid, 0.0))
            if time.monotonic() - looked > _STAGING_EVERY_S:
                staging, looked = max(staging, _disk_mb(out / ".state" / "part" / "staging")), time.monotonic()
            time.sleep(_LOOK_S)
        whole = time.monotonic() - start
        said.seek(0)
        if process.returncode not in {0, 1}:
            raise Failed(f"exit code {process.returncode}: {said.read().decode(errors='replace')[-800:]}")
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    after = (datetime.fromisoformat(events[-1]["at"]) - datetime.fromisoformat(events[0]["at"])).total_seconds()
    written = sum(_disk_mb(out / f"{name}.parquet") for name in ("predictions", "ledger", "quarantine"))
    took = (whole, told["seconds"], told["seconds"] - after, _cpu_s() - before)
    return Run(*(round(each, 2) for each in (*took, peak, main, staging, written)))


def _memory_mb(root: int) -> dict[int, float]:
    """Return the proportional set sizes of a process and of all below it."""
    mine, alive = {root}, processes()
    while more := {pid for pid, each in alive.items() if each.parent in mine} - mine:
        mine |= more
    return {pid: pss_mb(pid) for pid in mine}


def pss_mb(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in islice(file, 1, None):
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def _disk_mb(folder: Path) -> float:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total / 1e6


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _page(measured: Mapping[str, Any]) -> str:
    runs = measured["runs"]
    rows = [
        [
            f"{run['samples']:,}",
            f"{run['rows']:,}",
            f"{run['peak_mb']:,.0f}",
            f"{run['main_mb']:,.0f}",
            f"{1000 * run['run_s'] / run['samples']:.1f}",
            f"{1000 * run['cpu_s'] / run['samples']:.1f}",
            f"{run['divide_s']:.1f}",
            f"{1000 * run['written_mb'] / run['samples']:.1f}",
        ]
        for run in runs
    ]
    header = (
        "samples",
        "rows of tables",
        "peak MB, all",
        "main",
        "ms each",
        "CPU ms each",
        "dividing s",
        "kB each",
    )
    peaks = [run["peak_mb"] for run in runs]
    first, last = ((run["run_s"] / run["samples"], run["cpu_s"] / run["samples"]) for run in (runs[0], runs[-1]))
    return f"""# Memory and time of a scoring run by size of the cohort

`benchmarks/scoring_memory.py --samples {" ".join(str(run["samples"]) for run in runs)}`.
{machine_line(measured["machine"])}

{markdown_table(header, rows)}
The largest peak is {max(peaks) / min(peaks):.2f} times the smallest. A sample of the largest cohort takes
{last[0] / first[0]:.2f} times what one of the smallest takes by the clock, which other programs on the machine move,
and {last[1] / first[1]:.2f} times by processor time, which includes starting the command.
"""


if __name__ == "__main__":
    sys.exit(main())
