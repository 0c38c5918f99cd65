"""How fast is scoring on Ray, against the same parts in one program? And what would ten million studies cost?

A cohort of invented patients is repeated under new names (see scoring_memory.py), with events, notes and, for some,
films that are decoded every time. The local engine and Ray with 2 actors score it in turns. Compared is the time of
scoring itself: from the moment at which the first part begins to that at which the last is written; what it takes to
get there, and to end, is told apart.

The cost model takes processor time, which other programs on the machine do not move as they move the clock: cohorts of
one kind of data, the small one taken off the large one, so that starting falls out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from common import RESULTS, machine, machine_line, markdown_table, write_results
from scoring_memory import Templates, run_measured, trained

from medfusion.scoring.divide import MOST_OPEN

RAY = ("--engine", "ray", "--workers", "2")
LOCAL = ("--engine", "local")
AIM = 0.8
STUDIES, NODES, CORES, PART_SIZE = 10_000_000, 50, 16, 5000
"""Of the cost model; the parts are larger than by default, so that tables need not be gone through so often."""
_PER_SAMPLE = (
    "data",
    "CPU ms",
    "samples/s per core",
    "rows",
    "s per million rows",
    "parts kB",
    "written kB",
    "start s",
)
COHORTS: Mapping[str, tuple[Sequence[str], int]] = {
    "events": (("ehr",), 1),
    "events and notes": (("ehr", "notes"), 1),
    "events, notes and a film": (("ehr", "notes", "films"), 1),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--films-every", type=int, default=10, help="one of so many samples has films")
    parser.add_argument("--part-size", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, help="trained on 80 synthetic patients unless given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "samples": args.samples, "films_every": args.films_every}
    measured["part_size"] = args.part_size
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model, templates = args.model or trained(work), Templates.write(work / "templates")
        cohort = work / "cohort"
        templates.repeat(cohort, args.samples, films_every=args.films_every)
        parts = ("--no-cache", "--part-size", args.part_size)
        measured["turns"] = [
            {
                name: _timed(model, cohort, work / f"{name}-{turn}", (*own, *parts))
                for name, own in (("local", LOCAL), ("ray", RAY))
            }
            for turn in range(args.repeats)
        ]
        measured["ratio"] = median(each["local"]["scoring_s"] / each["ray"]["scoring_s"] for each in measured["turns"])
        measured["kinds"] = {name: _kind(name, model, templates, work) for name in COHORTS}
    write_results(args.out, "ray_engine", measured, _page(measured))
    return int(measured["ratio"] < AIM)


def _timed(model: Path, cohort: Path, out: Path, options: Sequence[object]) -> dict[str, float]:
    run = run_measured(model, cohort, out, options)
    scoring = _scoring_s(out)
    print(out.name, scoring, run, flush=True)
    return {**asdict(run), "scoring_s": scoring, "other_s": run.whole_s - scoring - run.divide_s}


def _scoring_s(out: Path) -> float:
    """Return the time from the beginning of the first part to the writing of the last."""
    begun, written = [], []
    for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        if said["event"] == "part":
            # Ray tells of parts later than they are there; the files know when.
            moment = (out / ".state" / "part" / "finished" / f"{said['part']:05d}.json").stat().st_mtime
            written.append(moment)
            begun.append(moment - sum(said["seconds"].values()))
    return max(written) - min(begun)


def _kind(name: str, model: Path, templates: Templates, work: Path) -> dict[str, float]:
    """Return what a sample costs that has some kinds of data."""
    kinds, every = COHORTS[name]
    sizes = (100, 400) if "films" in kinds else (500, 4000)
    runs, rows = [], []
    for samples in sizes:
        cohort = work / f"{name}-{samples}"
        rows.append(templates.repeat(cohort, samples, kinds, every))
        runs.append(run_measured(model, cohort, work / f"out-{name}-{samples}", ("--no-cache",)))
        print(name, samples, runs[-1], flush=True)
    few, many = runs
    more = sizes[1] - sizes[0]
    return {
        "samples": sizes[1],
        "cpu_ms": 1000 * (many.cpu_s - few.cpu_s) / more,
        "start_cpu_s": few.cpu_s - sizes[0] * (many.cpu_s - few.cpu_s) / more,
        "rows_each": rows[1] / sizes[1],
        "divide_s_per_million_rows": 1e6 * many.divide_s / rows[1],
        "staging_kb": 1000 * many.staging_mb / sizes[1],
        "written_kb": 1000 * many.written_mb / sizes[1],
    }


def model_of(
    kind: Mapping[str, float], studies: int = STUDIES, nodes: int = NODES, cores: int = CORES
) -> dict[str, float]:
    """Return what studies cost on a cluster, from what one costs on a core.

    Dividing is done by the program that was started, on one core, and goes through the tables once for so many parts;
    scoring is done by all. A shared file system that is slower than the cores is not in it.
    """
    passes = math.ceil(studies / PART_SIZE / MOST_OPEN)
    divide_s = passes * studies * kind["rows_each"] * kind["divide_s_per_million_rows"] / 1e6
    score_s = studies * kind["cpu_ms"] / 1000 / (nodes * cores) / AIM
    return {
        "divide_h": divide_s / 3600,
        "score_h": score_s / 3600,
        "whole_h": (divide_s + score_s + kind["start_cpu_s"]) / 3600,
        "core_h": studies * kind["cpu_ms"] / 3.6e6 / AIM,
        "staging_gb": studies * kind["staging_kb"] / 1e6,
        "written_gb": studies * kind["written_kb"] / 1e6,
    }


def _page(measured: Mapping[str, Any]) -> str:
    turns = measured["turns"]
    rows = [
        [
            name,
            *(
                f"{median(turn[name][key] for turn in turns):.1f}"
                for key in ("whole_s", "scoring_s", "other_s", "cpu_s", "peak_mb")
            ),
        ]
        for name in ("local", "ray")
    ]
    kinds = [
        [
            name,
            f"{kind['cpu_ms']:.1f}",
            f"{1000 / kind['cpu_ms']:.0f}",
            f"{kind['rows_each']:.0f}",
            f"{kind['divide_s_per_million_rows']:.1f}",
            f"{kind['staging_kb']:.1f}",
            f"{kind['written_kb']:.1f}",
            f"{kind['start_cpu_s']:.0f}",
        ]
        for name, kind in measured["kinds"].items()
    ]
    costs = []
    for name, kind in measured["kinds"].items():
        cost = model_of(kind)
        hours = [f"{cost[key]:.1f}" for key in ("divide_h", "score_h", "whole_h")]
        costs.append([name, *hours, *(f"{cost[key]:,.0f}" for key in ("core_h", "staging_gb", "written_gb"))])
    passes = math.ceil(STUDIES / PART_SIZE / MOST_OPEN)
    ratios = ", ".join(f"{turn['local']['scoring_s'] / turn['ray']['scoring_s']:.2f}" for turn in turns)
    return f"""# Scoring on Ray

`benchmarks/ray_engine.py`. {machine_line(measured["machine"])}

{measured["samples"]:,} samples with events and notes, one in {measured["films_every"]} with films, in parts of
{measured["part_size"]}, nothing cached; medians of {len(turns)} turns. Ray has 2 actors on the same machine.

{markdown_table(["engine", "whole s", "scoring s", "start and end s", "CPU s", "peak MB"], rows)}
Speed of Ray over that of the local engine, scoring itself: **{measured["ratio"]:.2f}** ({ratios}); the aim is {AIM}.

## What a sample costs
Local engine, torch in fp32, no cache. CPU ms are of all processes; the start is taken off. Seconds
per million rows are those of dividing; parts are on the disk while a run lasts.

{markdown_table(_PER_SAMPLE, kinds)}
## {STUDIES / 1e6:.0f} million studies on {NODES} nodes of {CORES} cores
Computed from the table above: scoring is CPU time over all cores at {AIM} of the local speed. Dividing is one core of
the node on which the command was started; for parts of {PART_SIZE:,} samples (`--part-size {PART_SIZE}`) it goes
through the tables {passes} times, each counted in full: an upper bound. Patients are repeated here, so what is written
is less than real patients need.

{markdown_table(["data", "dividing h", "scoring h", "whole h", "core hours", "parts GB", "written GB"], costs)}"""


if __name__ == "__main__":
    sys.exit(main())
