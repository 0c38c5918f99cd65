"""Who wins on cohorts with a known truth: trained on the cohort of one seed, tested on those of the others."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import markdown_table, number
from fusion_runs import Data, Fitted, load

from medfusion.cohort.synthetic import Truth, write_synthetic_cohort
from medfusion.core.folds import Patients
from medfusion.evaluation.paired import pair
from medfusion.fusion import KINDS
from medfusion.pipeline.compare import THRESHOLDS, Contender, Run, contenders_of, judged
from medfusion.pipeline.fit import divided

TIE, GAIN = 0.005, 0.03
"""Differences in AUROC: less is none; as much as the interaction has to give."""


def measure_synthetic(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure every truth and seed; of two seeds at least, because one trains and the others test."""
    if len(args.seeds) < 2:
        raise SystemExit("--seeds: at least two are needed; one cohort trains, the others test")
    measured = {truth: measure_truth(truth, args) for truth in args.truths}
    aims = {f"{truth}: {aim}": bool(met) for truth, each in measured.items() for aim, met in AIMS[truth](each).items()}
    found = {"patients": args.patients, "seeds": args.seeds, "truths": measured, "aims": aims}
    return found, page(found, args)


def measure_truth(truth: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train on each cohort of a truth and test on the others."""
    folder = args.keep / "synthetic"
    cohorts, tables = {}, {}
    for seed in args.seeds:
        tables[seed] = truth_table(truth, args.patients, seed, folder)
        cohorts[seed] = load(folder / f"{truth}-{args.patients}-{seed}", None, args.cache)
    each = {}
    for seed in args.seeds:
        start = time.perf_counter()
        test = {other: cohorts[other] for other in args.seeds if other != seed}
        run = answered(
            truth, cohorts[seed], test, seed, args.keep / f"{truth}-{args.patients}-{seed}-of-{args.seeds}.npz"
        )
        bayes = Truth(0.0, pd.concat([tables[other] for other in test]), {}).auroc()
        each[seed] = {"bayes": bayes, **figures(run, seed)}
        print(f"{truth}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    return {"seeds": each, "differences": {name: over_seeds(name, each) for name in DIFFERENCES[truth]}}


def truth_table(truth: Any, patients: int, seed: int, folder: Path) -> pd.DataFrame:
    """Write a cohort, unless it was written before, and return the truth about it."""
    file = folder / f"{truth}-{patients}-{seed}.truth.parquet"
    if not file.exists():
        found = write_synthetic_cohort(folder / f"{truth}-{patients}-{seed}", patients, seed, truth=truth)
        found.table.to_parquet(file)
    return pd.read_parquet(file)


def answered(truth: str, train: Data, test: Mapping[int, Data], seed: int, file: Path) -> Run:
    """Fit all contenders on one cohort, and ask them about others."""
    known, asked = train.patients(seed), [other.patients(seed) for other in test.values()]
    # No one is left out of the training cohort here, so that the outer folds are of no use.
    together = Patients(
        np.concatenate([each.subject_ids for each in asked]),
        np.concatenate([each.events for each in asked]),
        np.zeros(sum(len(each.events) for each in asked), dtype=int),
    )
    names = tuple(train.modalities)
    run = Run(together, names)
    wanted = contenders_of(names)
    if truth == "useless":
        useful = tuple(name for name in names if name != "notes")
        wanted += [Contender(without_notes(kind), kind, useful) for kind in KINDS if kind != "late"]
    payloads = {name: [each for other in test.values() for each in other.payloads[name]] for name in names}
    run.present = np.column_stack([[payload is not None for payload in payloads[name]] for name in names])
    if file.exists():
        with np.load(file) as kept:
            run.risks = {name: kept[name] for name in kept.files}
        return run
    fitted = Fitted.on(train.modalities, train.payloads, divided(known.subject_ids, known.events, seed), seed)
    blocks = fitted.blocks(payloads)
    for contender in wanted:
        run.risks[contender.name] = fitted.risks(contender, blocks, seed)
    np.savez_compressed(file, **run.risks)
    return run


def without_notes(kind: str) -> str:
    """Return the name of a fusion of all but notes."""
    return "late: ehr + imaging" if kind == "late" else f"{kind} without notes"


def figures(run: Run, seed: int) -> dict[str, Any]:
    """Return AUROCs, differences, and what is recommended."""
    events, subjects = run.patients.events, run.patients.subject_ids.tolist()
    paired = pair(events, run.risks, subjects, [], seed=0)
    ours = Run(run.patients, run.names)
    ours.present = run.present
    ours.risks = {each.name: run.risks[each.name] for each in contenders_of(run.names)}
    found = judged(ours, THRESHOLDS, seed).recommendation
    pairs = {
        name: parts for each in DIFFERENCES.values() for name, parts in each.items() if set(parts) <= set(run.risks)
    }
    tested = {name: paired.auroc_difference(*parts) for name, parts in pairs.items()}
    return {
        "samples": len(events),
        "events": int(events.sum()),
        "auroc": {name: float(points["auroc"]) for name, points in paired.points.items()},
        "ece": {name: float(points["ece"]) for name, points in paired.points.items()},
        "recommended": found.name,
        "sentences": list(found.sentences),
        "differences": {name: [one.value, one.low, one.high] for name, one in tested.items()},
    }


DIFFERENCES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "additive": {f"late less {kind}": ("late", kind) for kind in KINDS if kind != "late"},
    "interaction": {f"{kind} less late": (kind, "late") for kind in KINDS if kind != "late"},
    "useless": {f"{kind}: with less without notes": (kind, without_notes(kind)) for kind in KINDS},
    "single": {f"{kind} less ehr": (kind, "ehr") for kind in KINDS},
}


def over_seeds(name: str, each: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of a difference over the seeds, and each seed's with its paired interval."""
    by_seed = {seed: found["differences"][name] for seed, found in each.items()}
    return {"mean": float(np.mean([one[0] for one in by_seed.values()])), "by_seed": by_seed}


def _additive(found: Mapping[str, Any]) -> dict[str, bool]:
    differences = found["differences"].values()
    ties = all(one["mean"] >= -TIE or any(each[1] <= 0 for each in one["by_seed"].values()) for one in differences)
    return {"late beats gated, early and joint, or no interval excludes a tie": ties}


def _interaction(found: Mapping[str, Any]) -> dict[str, bool]:
    gain = max(found["differences"][f"{kind} less late"]["mean"] for kind in ("early", "joint"))
    said = all(
        each["recommended"] in {"early", "joint"} and "late" in " ".join(each["sentences"][1:3])
        for each in found["seeds"].values()
    )
    return {f"early or joint beats late by {GAIN} or more": gain >= GAIN, "the first sentences say so": said}


def _useless(found: Mapping[str, Any]) -> dict[str, bool]:
    return {f"{name} is no less than -{TIE}": each["mean"] >= -TIE for name, each in found["differences"].items()}


def _single(found: Mapping[str, Any]) -> dict[str, bool]:
    return {"ehr alone is recommended": all(each["recommended"] == "ehr" for each in found["seeds"].values())}


AIMS = {"additive": _additive, "interaction": _interaction, "useless": _useless, "single": _single}


def page(found: Mapping[str, Any], args: argparse.Namespace) -> str:
    """Write the tables."""
    parts = [
        f"# Cohorts with a known truth\n\n`fusion.py synthetic --patients {found['patients']} --seeds "
        f"{' '.join(map(str, found['seeds']))}`: of each truth a cohort per seed. Every contender is trained on one "
        "and tested on the others, which is cheaper and more precise than nested cross-validation; the recommendation "
        "is made from the same test samples. Bayes is the AUROC to be expected of the true risk: none is better."
    ]
    for truth, each in found["truths"].items():
        seeds = each["seeds"]
        names = list(next(iter(seeds.values()))["auroc"])
        rows = [[name, *(number(one["auroc"][name]) for one in seeds.values())] for name in names]
        rows.append(["Bayes", *(number(one["bayes"]) for one in seeds.values())])
        rows.append(["recommended", *(one["recommended"] for one in seeds.values())])
        heads = [f"trained on seed {seed}" for seed in seeds]
        less = [
            [name, number(one["mean"]), *(told(pair) for pair in one["by_seed"].values())]
            for name, one in each["differences"].items()
        ]
        size = next(iter(seeds.values()))
        said = "\n".join(f"- seed {seed}: {' '.join(one['sentences'][:3])}" for seed, one in seeds.items())
        parts.append(
            f"## {truth.capitalize()}\n\nAUROC on about {size['samples']} samples:\n\n"
            f"{markdown_table(['', *heads], rows)}\n"
            f"{markdown_table(['difference in AUROC (95 % interval, paired)', 'mean', *heads], less)}\n{said}\n"
        )
    aims = "".join(f"- {'met' if met else '**missed**'}: {aim}\n" for aim, met in found["aims"].items())
    return "\n\n".join([*parts, f"## Aims\n\n{aims}"])


def told(pair_of: Sequence[float]) -> str:
    """Write a difference with its interval."""
    return f"{pair_of[0]:.3f} ({pair_of[1]:.3f} to {pair_of[2]:.3f})"
