"""What do ledgers of a whole cohort cost beside its predictions?

For each model, its samples are taken as those of new patients, whom all members judge. ``medfusion score`` is run with
and without ledgers, in turns, each time as a whole process; its processor time tells more than the clock where others
use the machine, too. Then predicting and explaining are timed in turns within one process, beside XGBoost's own
TreeSHAP, on the same rows of the same trees, with two threads. Embeddings of images come from a cache, if one is
named; then the command is timed without it, too, as of a night's new images.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import xgboost as xgb
from common import RESULTS, cohort_config, machine, machine_line, markdown_table, medfusion, write_results

from medfusion.core.batch import Batch
from medfusion.core.types import Sample
from medfusion.pipeline import Opened, open_for_use
from medfusion.pipeline.data import read_payloads, silent
from medfusion.pipeline.model import Payloads, RiskModel, Roster
from medfusion.pipeline.model_folder import save_model

THREADS = 2
KINDS = {"without": "--no-ledger", "with": "--ledger"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="MODEL COHORT", help="as `medfusion train` wrote them")
    parser.add_argument("--samples", type=int, default=2000, help="of each cohort; repeated where it has fewer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where embeddings of images are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if len(args.pairs) % 2:
        parser.error("name a model folder and a cohort folder, or several such pairs")
    described, cohorts = machine(), []
    for model, cohort in zip(args.pairs[::2], args.pairs[1::2], strict=True):
        opened = open_for_use(model, cohort, args.cache)
        name = cohort_config(cohort)["name"]
        said = {"cohort": name, "task": opened.model.task}
        said |= {"score": scored(opened.model, cohort, args.cache, args.repeats)}
        if args.cache and "imaging" in opened.model.evidence:
            said |= {"score_decoding": scored(opened.model, cohort, None, args.repeats)}
        cohorts.append(said | measure(opened, args.samples, args.repeats))
    measured = {"machine": described, "samples": args.samples, "cohorts": cohorts}
    write_results(args.out, "ledger", measured, page(measured))


def scored(model: RiskModel, cohort: Path, cache: Path | None, repeats: int) -> dict[str, Any]:
    """Time the command ``score`` with ledgers and without, of patients whom no member of the model has seen."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": [], "scoring": []} for name in KINDS}
    with tempfile.TemporaryDirectory() as place:
        strangers = Path(place) / "model"
        save_model(replace(model, roster=Roster(model.roster.salt, {})), strangers)
        for turn in range(repeats):
            for name, asked in KINDS.items():
                out, before = Path(place) / f"{name}-{turn}", _processor_seconds()
                cached = ("--cache", cache) if cache else ("--no-cache",)
                wall = medfusion("score", strangers, cohort, "--out", out, asked, *cached, allowed=(0, 1))
                run = json.loads((out / "run.json").read_text(encoding="utf-8"))
                took = {"wall": wall, "processor": _processor_seconds() - before, "scoring": run["seconds"]}
                for what, each in took.items():
                    seconds[name][what].append(each)
    medians = {name: {what: median(each) for what, each in kind.items()} for name, kind in seconds.items()}
    extra = {what: medians["with"][what] / medians["without"][what] - 1 for what in ("wall", "processor", "scoring")}
    rate = run["scored"] / medians["with"]["scoring"]
    return {"samples": run["scored"], "seconds": seconds, "extra": extra, "samples_per_second_with_ledger": rate}


def _processor_seconds() -> float:
    """Return what the processes that have ended used, on all cores together."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(opened: Opened, size: int, repeats: int) -> dict[str, Any]:
    """Time the steps of scoring a batch."""
    known, model = opened.cohort.samples, opened.model
    read_payloads(opened.cohort, model.modalities, known[:size], [], silent)  # fills the cache
    start = time.perf_counter()
    payloads = read_payloads(opened.cohort, model.modalities, known[:size], [], silent)
    read = (time.perf_counter() - start) * size / len(known[:size])
    rows = [place % len(known[:size]) for place in range(size)]
    samples = [replace(known[row], subject_id=f"new-{place}") for place, row in enumerate(rows)]
    payloads = {name: [each[row] for row in rows] for name, each in payloads.items()}
    seconds: dict[str, list[float]] = {"read": [read]}
    for _ in range(repeats):
        for name, took in timed(model, samples, payloads).items():
            seconds.setdefault(name, []).append(took)
    medians = {name: median(each) for name, each in seconds.items()}
    predict, ledger, treeshap = medians["predict"], medians["ledger"], medians["treeshap"]
    return {
        "modalities": list(model.evidence),
        "seconds": seconds,
        "predict_and_ledger_over_predict": (predict + ledger) / predict,
        "ledger_over_read_and_predict": ledger / (medians["read"] + predict),
        "treeshap_over_ledger": treeshap / ledger,
        "samples_per_second": size / (predict + ledger),
        "samples_per_second_of_treeshap": size / treeshap if treeshap else None,
    }


def timed(model: RiskModel, samples: Sequence[Sample], payloads: Payloads) -> dict[str, float]:
    """Return the seconds of predicting, explaining with 10 lines and with all, and of TreeSHAP by itself."""
    seconds: dict[str, float] = {}

    def timing(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        seconds[name] = time.perf_counter() - start
        return done

    subjects = [sample.subject_id for sample in samples]
    predictions = timing("predict", lambda: model.predict(subjects, payloads))
    timing("ledger", lambda: model.ledger(samples, predictions, payloads, []))
    timing("ledger, all lines", lambda: model.ledger(samples, predictions, payloads, [], top=None))
    trees = list(booster_rows(model, payloads))
    timing("treeshap", lambda: [booster.predict(rows, pred_contribs=True) for booster, rows in trees])
    return seconds


def booster_rows(model: RiskModel, payloads: Payloads) -> list[tuple[xgb.Booster, xgb.DMatrix]]:
    """Return the trees of all members, each with the rows that it explains."""
    found = []
    for name, evidence in model.evidence.items():
        batch = Batch(payloads[name])
        for member in evidence.members:
            embedding = member.embed(batch)
            for part in member.head.parts:
                if part.head.state()["kind"] == "trees":
                    booster = part.head.booster
                    booster.set_param({"nthread": THREADS})
                    rows = part.read(embedding.values[embedding.present])
                    found.append((booster, xgb.DMatrix(rows, nthread=THREADS)))
    return found


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    steps = ["read", "predict", "ledger", "ledger, all lines", "treeshap"]
    names = [f"{each['cohort']}, {each['task']}" for each in measured["cohorts"]]
    runs = [
        (name + said, each[key])
        for key, said in (("score", ""), ("score_decoding", ", pictures decoded"))
        for name, each in zip(names, measured["cohorts"], strict=True)
        if key in each
    ]
    whole = [
        [
            f"{name}: {what}",
            *(f"{median(score['seconds'][kind][what]):.1f}" for kind in KINDS),
            f"{100 * score['extra'][what]:+.0f} %",
            f"{score['samples_per_second_with_ledger']:.0f}" if what == "scoring" else "",
        ]
        for name, score in runs
        for what in score["extra"]
    ]
    seconds = [
        [name, *(f"{median(each['seconds'][step]):.2f}" for step in steps)]
        for name, each in zip(names, measured["cohorts"], strict=True)
    ]
    ratios = [
        [
            name,
            f"{100 * each['ledger_over_read_and_predict']:.0f} %",
            f"{each['treeshap_over_ledger']:.1f}",
            f"{each['samples_per_second']:.0f}",
            "-" if limit is None else f"{limit:.0f}",
        ]
        for name, each in zip(names, measured["cohorts"], strict=True)
        for limit in [each["samples_per_second_of_treeshap"]]
    ]
    sizes = "; ".join(
        f"{each['cohort']}: {each['score']['samples']} samples, {', '.join(each['modalities'])}"
        for each in measured["cohorts"]
    )
    header = ["", "ledger over read + predict", "XGBoost's TreeSHAP over ledger"]
    rates = ["samples/s of predict + ledger", "of XGBoost's TreeSHAP alone"]
    return (
        f"# What ledgers cost\n\n{machine_line(measured['machine'])}\n\n"
        f"Samples of new patients; medians; images are one line. {sizes}.\n\n"
        "## `medfusion score`, seconds\n\n"
        f"{markdown_table(['', 'without ledgers', 'with ledgers', 'extra', 'samples/s with ledgers'], whole)}\n"
        "`wall` and `processor` are of the whole process; `scoring` is what the command tells, without starting and "
        "loading the model. 20 lines per modality and one for the others.\n\n"
        f"## {measured['samples']} samples within one process, seconds\n\n{markdown_table(['', *steps], seconds)}\n"
        f"{markdown_table([*header, *rates], ratios)}\n"
        f"10 lines per modality and one for the others. TreeSHAP is XGBoost's own, on {THREADS} threads; ledgers of "
        "many samples do without it.\n"
    )


if __name__ == "__main__":
    main()
