"""How long do training, scoring and explaining take?

Cold training starts with an empty cache, so that every film is decoded and embedded; warm training finds the
embeddings. Both are timed in turns in one run, as whole processes from start to exit. Explaining is timed within this
process, apart from loading the model, with nothing cached: films are decoded, embedded, and mapped region by region.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from common import RESULTS, cohort_config, machine, machine_line, markdown_table, medfusion, write_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("task")
    parser.add_argument("--repeats", type=int, default=3, help="of each command")
    parser.add_argument("--patients", type=int, default=5, help="to be explained, beside the first")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        seconds = time_commands(args.cohort, args.task, work, args.repeats)
        scored = pd.read_parquet(work / "scores" / "predictions.parquet")
        explained = time_explain(work / "model", args.cohort, patients(scored, args.patients + 1))
    measured = {
        "cohort": cohort_config(args.cohort)["name"],
        "task": args.task,
        "samples": len(scored),
        "seconds": seconds,
        "medians": {name: median(each) for name, each in seconds.items()},
        "cold_over_warm": median(seconds["train, cold"]) / median(seconds["train, warm"]),
        "explain": explained,
        "machine": described,
    }
    write_results(args.out, f"speed-{measured['cohort']}-{args.task}", measured, page(measured))


def time_commands(cohort: Path, task: str, work: Path, repeats: int) -> dict[str, list[float]]:
    """Time the commands in turns, so that whatever else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {}

    def timed(name: str, *arguments: object) -> None:
        # Exit code 1 of `score`: something of the cohort had to be left out, and the rest was scored.
        took = medfusion(*arguments, allowed=(0, 1) if arguments[0] == "score" else (0,))
        seconds.setdefault(name, []).append(took)
        print(f"{name}: {took:.1f} s", flush=True)

    model, scores = work / "model", work / "scores"
    for repeat in range(repeats):
        cache = work / f"cache-{repeat}"
        train = ("train", cohort, "--task", task, "--out", model, "--cache", cache)
        timed("train, cold", *train)
        timed("train, warm", *train)
        timed("score, nothing cached", "score", model, cohort, "--out", scores, "--no-cache")
        timed("score, embeddings cached", "score", model, cohort, "--out", scores, "--cache", cache)
        timed(
            "score without ledger, embeddings cached",
            "score",
            model,
            cohort,
            "--out",
            scores,
            "--cache",
            cache,
            "--no-ledger",
        )
        subject = patients(pd.read_parquet(scores / "predictions.parquet"), 1)[0]
        timed("explain one patient, whole command", "explain", model, cohort, "--subject", subject, "--no-cache")
    return seconds


def patients(scored: pd.DataFrame, n: int) -> list[str]:
    """Choose patients with as many modalities as any, spread over the cohort."""
    present = scored.filter(regex="^present_").sum(axis=1)
    richest = scored.loc[present == present.max(), "subject_id"].unique().tolist()
    return richest[:: max(1, len(richest) // n)][:n]


def time_explain(model: Path, cohort: Path, subjects: Sequence[str]) -> dict[str, Any]:
    """Time one after the other: importing, loading the model and the cohort, and explaining each patient."""
    start = time.perf_counter()
    from medfusion import pipeline  # noqa: PLC0415 - its import is timed

    imported = time.perf_counter()
    opened = pipeline.open_for_use(model, cohort, cache=None)
    loaded = time.perf_counter()
    seconds, modalities = [], []
    for subject in subjects:
        before = time.perf_counter()
        report = pipeline.explain(opened, subject)
        seconds.append(time.perf_counter() - before)
        modalities.append(sum(report.present.values()))
    return {
        "import_seconds": imported - start,
        "load_seconds": loaded - imported,
        "first_seconds": seconds[0],
        "further_seconds": seconds[1:],
        "modalities_present": modalities,
    }


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    rows = [
        [name, f"{median(each):.1f}", ", ".join(f"{one:.1f}" for one in each)]
        for name, each in measured["seconds"].items()
    ]
    per_sample = [
        [name.removeprefix("score").lstrip(", "), f"{1000 * value / measured['samples']:.0f}"]
        for name, value in measured["medians"].items()
        if name.startswith("score")
    ]
    explained = measured["explain"]
    further = explained["further_seconds"]
    within = [
        ["import", f"{explained['import_seconds']:.2f}"],
        ["load model and cohort", f"{explained['load_seconds']:.2f}"],
        ["explain the first patient", f"{explained['first_seconds']:.2f}"],
        [f"explain each of {len(further)} further patients (median)", f"{median(further):.2f}" if further else "-"],
    ]
    return (
        f"# Speed: {measured['cohort']}, {measured['task']}\n\n{machine_line(measured['machine'])}\n\n"
        f"## Whole commands, from start to exit\n\n{markdown_table(['', 'median s', 'each'], rows)}\n"
        f"Cold over warm training: {measured['cold_over_warm']:.1f}.\n\n"
        f"## Scoring, per sample\n\n{measured['samples']} samples, start-up included.\n\n"
        f"{markdown_table(['', 'ms'], per_sample)}\n"
        f"## Within one process, nothing cached\n\n{markdown_table(['', 's'], within)}\n"
        f"Modalities of the patients explained: {', '.join(map(str, explained['modalities_present']))}.\n"
    )


if __name__ == "__main__":
    main()
