"""What do ledgers of a whole cohort cost beside its predictions, and what of that is TreeSHAP?

For each model, its samples are taken as those of new patients, whom all members judge, 2,000 at a time as scoring
does. Predicting and explaining are timed in turns within one process, and beside them XGBoost's TreeSHAP by itself, on
the same rows of the same trees, with two threads. Reading is timed once, with embeddings of images from a cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import xgboost as xgb
from common import RESULTS, cohort_config, machine, machine_line, markdown_table, write_results

from medfusion.core.batch import Batch
from medfusion.core.types import Sample
from medfusion.pipeline import Opened, open_for_use
from medfusion.pipeline.data import read_payloads, silent
from medfusion.pipeline.model import Payloads, RiskModel

THREADS = 2


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
        cohorts.append({"cohort": name, "task": opened.model.task, **measure(opened, args.samples, args.repeats)})
    measured = {"machine": described, "samples": args.samples, "cohorts": cohorts}
    write_results(args.out, "ledger", measured, page(measured))


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
    predict, ledger = medians["predict"], medians["ledger"]
    return {
        "modalities": list(model.evidence),
        "seconds": seconds,
        "predict_and_ledger_over_predict": (predict + ledger) / predict,
        "ledger_over_read_and_predict": ledger / (medians["read"] + predict),
        "treeshap_over_predict_and_ledger": medians["treeshap"] / (predict + ledger),
        "samples_per_second": size / (predict + ledger),
        "samples_per_second_of_treeshap": size / medians["treeshap"] if medians["treeshap"] else None,
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
    seconds = [
        [f"{each['cohort']}, {each['task']}", *(f"{median(each['seconds'][step]):.2f}" for step in steps)]
        for each in measured["cohorts"]
    ]
    ratios = [
        [
            f"{each['cohort']}, {each['task']}",
            f"{each['predict_and_ledger_over_predict']:.2f}",
            f"{100 * each['ledger_over_read_and_predict']:.0f} %",
            f"{100 * each['treeshap_over_predict_and_ledger']:.0f} %",
            f"{each['samples_per_second']:.0f}",
            "-" if limit is None else f"{limit:.0f}",
        ]
        for each in measured["cohorts"]
        for limit in [each["samples_per_second_of_treeshap"]]
    ]
    header = ["", "predict + ledger over predict", "ledger over read + predict", "TreeSHAP in predict + ledger"]
    return (
        f"# What ledgers cost\n\n{machine_line(measured['machine'])}\n\n"
        f"{measured['samples']} samples of new patients at once; medians. Modalities: "
        f"{'; '.join(each['cohort'] + ': ' + ', '.join(each['modalities']) for each in measured['cohorts'])}.\n\n"
        f"## Seconds\n\n{markdown_table(['', *steps], seconds)}\n"
        f"## Ratios\n\n{markdown_table([*header, 'samples/s', 'samples/s of TreeSHAP alone'], ratios)}\n"
        "A ledger has 10 lines per modality and one for the others; images are one line. TreeSHAP is that of XGBoost, "
        f"by itself, on {THREADS} threads.\n"
    )


if __name__ == "__main__":
    main()
