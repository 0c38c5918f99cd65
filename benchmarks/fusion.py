"""Does fusion help, and can it be trusted?

synthetic    cohorts with a known truth: who wins, and what the recommendation says
cohort       all contenders and two recipes of others on the same outer folds of a cohort
missing      the same with half of each modality removed at random, trained as is and with the same removed
time         one `medfusion compare` with embeddings cached
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common import RESULTS, cohort_config, machine, machine_line, markdown_table, medfusion, number, write_results
from fusion_missing import missing
from fusion_rivals import RIVALS
from fusion_runs import complete_run, load
from fusion_synthetic import measure_synthetic
from fusion_tables import aims_text, contender_means, mean_difference, paired, told, without_rivals

from medfusion.evaluation.comparison import Comparison
from medfusion.evaluation.paired import PairedFigures
from medfusion.fusion import KINDS
from medfusion.pipeline.compare import THRESHOLDS, judged

AUROC_AIM = {"icu": 0.865, "covid": 0.92}
ECE_AIM = 0.05


def main() -> None:
    args = arguments()
    args.keep = args.keep or Path(tempfile.mkdtemp(prefix="fusion-"))
    described = machine()
    measured, text, name = {"synthetic": synthetic, "cohort": cohort, "missing": missing, "time": timed}[args.what](
        args
    )
    write_results(args.out, name, {**measured, "machine": described}, f"{text}\n{machine_line(described)}\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for what in ("synthetic", "cohort", "missing", "time"):
        command = commands.add_parser(what)
        if what == "synthetic":
            command.add_argument("--patients", type=int, default=600)
            command.add_argument("--truths", nargs="+", default=["additive", "interaction", "useless", "single"])
        else:
            command.add_argument("cohort", type=Path)
            command.add_argument("task")
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        command.add_argument("--cache", type=Path, help="where embeddings are kept")
        command.add_argument("--keep", type=Path, help="where risks are kept, so that a run can go on where it ended")
        command.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def synthetic(args: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """Measure and describe the synthetic cohorts."""
    measured, text = measure_synthetic(args)
    return measured, text, "fusion-synthetic"


def cohort(args: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """Judge contenders and rivals on the same outer folds."""
    name, data = f"{cohort_config(args.cohort)['name']}-{args.task}", load(args.cohort, args.task, args.cache)
    runs = {seed: complete_run(data, name, seed, args.keep) for seed in args.seeds}
    found = {seed: judged(without_rivals(run), THRESHOLDS, seed) for seed, run in runs.items()}
    chosen = {seed: each.recommendation.name for seed, each in found.items()}
    singles = list(data.modalities)
    # All seeds are the same patients, so that resamples of them are the same, and differences can be averaged.
    with_choice = {seed: {**run.risks, "recommended": run.risks[chosen[seed]]} for seed, run in runs.items()}
    pairs = {seed: paired(runs[seed], risks) for seed, risks in with_choice.items()}
    table = contender_means(runs, with_choice)
    single = max(singles, key=lambda each: table[each]["auroc"])
    beside = {each: mean_difference(pairs, "recommended", each) for each in (*RIVALS, single, *KINDS)}
    best = max((*RIVALS, single), key=lambda each: table[each]["auroc"])
    recommended = table["recommended"]
    aims = [
        (f"recommended >= best of HAIM, stacking and {single} alone (the best: {best})", beside[best]["value"] >= 0),
        *(
            [(f"AUROC >= {AUROC_AIM[args.task]}", recommended["auroc"] >= AUROC_AIM[args.task])]
            if args.task in AUROC_AIM
            else []
        ),
        (f"ECE <= {ECE_AIM}", recommended["ece"] <= ECE_AIM),
        ("the first line of the report says whether fusion beats the best single modality", says_so(found.values())),
    ]
    measured = {
        "cohort": name,
        "seeds": args.seeds,
        "samples": len(data.cohort.samples),
        "events": int(runs[args.seeds[0]].patients.events.sum()),
        "recommended": chosen,
        "verdicts": {seed: each.recommendation.reason for seed, each in found.items()},
        "figures": table,
        "recommended_less": beside,
        "aims": {aim: bool(met) for aim, met in aims},
    }
    return measured, cohort_page(measured, pairs, args), f"fusion-{name}"


def says_so(found: Iterable[Comparison]) -> bool:
    """Check that each first sentence says what the paired interval says."""
    agreed = []
    for each in found:
        gain = each.fusion_gain
        beats = gain is not None and gain.low is not None and gain.low > 0 and gain.p < 0.05
        start = "Fusion beats" if beats else "Fusion does not beat"
        agreed.append(each.recommendation.verdict.startswith(start))
    return all(agreed)


def cohort_page(measured: Mapping[str, Any], pairs: Mapping[int, PairedFigures], args: argparse.Namespace) -> str:
    """Write the tables of a cohort."""
    columns = ["auroc", "auprc", "brier", "ece", "ece_debiased", "ece_chance"]
    rows = [
        [name, *(number(each[column]) for column in columns)]
        for name, each in sorted(measured["figures"].items(), key=lambda item: -item[1]["auroc"])
    ]
    seeds = [
        [
            str(seed),
            name,
            number(found.points["recommended"]["auroc"]),
            *(number(found.points[r]["auroc"]) for r in RIVALS),
        ]
        for (seed, name), found in zip(measured["recommended"].items(), pairs.values(), strict=True)
    ]
    less = [[f"recommended less {name}", told(each)] for name, each in measured["recommended_less"].items()]
    said = "\n".join(f"- seed {seed}: {reason}" for seed, reason in measured["verdicts"].items())
    return f"""# Contenders and recipes of others on {measured["cohort"]}

`fusion.py cohort {args.cohort.name} {args.task} --seeds {" ".join(map(str, args.seeds))}`:
{measured["samples"]} samples, {measured["events"]} events; nested cross-validation by patient, 5 outer folds,
the same for all. Figures are means over the seeds. Recommended is what `medfusion compare` recommends with that seed;
the rivals take no part in that.

{markdown_table(["", "AUROC", "AUPRC", "Brier", "ECE", "debiased", "by chance"], rows)}
{markdown_table(["seed", "recommended", "AUROC", *RIVALS], seeds)}
{markdown_table(["difference in AUROC, mean over seeds", "95 % interval, paired by patient"], less)}
## What the report says

{said}

## Aims

{aims_text(measured["aims"])}"""


def timed(args: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """Time one `medfusion compare` whose embeddings are cached."""
    name = f"{cohort_config(args.cohort)['name']}-{args.task}"
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or Path(folder) / "cache"
        load(args.cohort, args.task, cache)
        before, used, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = ("compare", args.cohort, "--task", args.task, "--cache", cache, "--out", Path(folder) / "out")
        medfusion(*command, allowed=(0, 1))
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    measured = {
        "cohort": name,
        "wall_s": seconds,
        "processor_s": processor,
        "load": [before, os.getloadavg()[0]],
        "aims": {"15 minutes on 2 cores": seconds <= 900},
    }
    text = f"""# How long `medfusion compare` takes on {name}

`fusion.py time {args.cohort.name} {args.task}`, embeddings cached: {seconds / 60:.1f} minutes from start to exit. The
processor worked {processor / 60:.1f} minutes (both cores together); the load of the machine was {before:.1f} before
and {measured["load"][1]:.1f} after, so that other work shared the cores.

{aims_text(measured["aims"])}"""
    return measured, text, f"fusion-time-{name}"


if __name__ == "__main__":
    main()
