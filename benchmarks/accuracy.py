"""How good is the fused risk, and what is it worth beside each modality alone?

Cross-validated from the outside: every fold is a cohort folder of its own, the held-out part has no labels, and only
`medfusion train` and `medfusion score` are called. The figures are computed here from predictions.parquet.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from common import (
    RESULTS,
    Failed,
    cohort_config,
    machine,
    machine_line,
    markdown_table,
    medfusion,
    number,
    write_results,
)
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from medfusion.core.times import parse_times
from medfusion.evaluation.metrics import calibration_error, chance_calibration_error, debiased_calibration_error

TOLERANCE = 1e-6
KEY = ["subject_id", "prediction_time"]
FIGURES = ("auroc", "auprc", "brier", "ece", "ece_debiased", "ece_chance")
HEADINGS = ("AUROC", "AUPRC", "Brier", "ECE", "ECE, debiased", "ECE by chance")


@dataclass
class Runs:
    """Out-of-fold predictions of each contender, and what making them took.

    Attributes
    ----------
    rows : mapping from contender to list of DataFrame
        One per seed and fold: subject_id, prediction_time, truth, seed, and what `medfusion score` wrote.
    seconds : mapping from command to float
    gaps : mapping from check to float
        The largest violation of each sum.
    failures : list of str
        Contenders that could not be trained in some fold.
    """

    rows: dict[str, list[pd.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gaps: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    failures: list[str] = field(default_factory=list)


def main() -> None:
    args = arguments()
    described = machine()
    with tempfile.TemporaryDirectory() as temporary:
        labels, file = read_labels(args.cohort, args.task)
        runs = Runs()
        for seed, fold, held_out in folds(labels, args.seeds, args.folds):
            work = Path(temporary) / "fold"
            cache = args.cache or Path(temporary) / "cache"
            print(f"seed {seed}, fold {fold + 1} of {args.folds}", flush=True)
            write_fold(args.cohort, work, file, labels, held_out)
            truth = labels[held_out].assign(seed=seed)
            contend(runs, "fused", [], work, args, cache, truth)
            alone = modalities(runs.rows["fused"][-1]) if args.singles else []
            for name in alone if len(alone) > 1 else []:
                contend(runs, name, ["--only", name], work, args, cache, truth)
            shutil.rmtree(work)
    measured = summary(runs, labels, args, described)
    write_results(args.out, f"accuracy-{measured['cohort']}-{args.task}", measured, page(measured))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="each divides the patients anew")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--singles", action=argparse.BooleanOptionalAction, default=True, help="each modality alone, too"
    )
    parser.add_argument("--cache", type=Path, help="where embeddings are kept; for this run only unless given")
    parser.add_argument("--train-args", default="", help='more for `medfusion train`, such as "--set imaging.size=224"')
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def read_labels(cohort: Path, task: str) -> tuple[pd.DataFrame, str]:
    """Read the labelled rows of a task, each once, and the name of its file."""
    file = str(cohort_config(cohort)["tasks"][task]["labels"])
    path = cohort / file
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    table = table.dropna(subset="boolean_value").drop_duplicates(KEY).reset_index(drop=True)
    truth = table["boolean_value"].astype(str).str.strip().str.lower().isin(["true", "1"])
    return table.assign(truth=truth), file


def folds(labels: pd.DataFrame, seeds: Sequence[int], k: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield seed, fold and who is held out: by patient, with similar rates of the event."""
    for seed in seeds:
        divider = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(divider.split(labels, labels["truth"], labels["subject_id"])):
            yield seed, fold, np.isin(np.arange(len(labels)), test)


def write_fold(source: Path, work: Path, file: str, labels: pd.DataFrame, held_out: np.ndarray) -> None:
    """Write two cohort folders of links, with labels of their own: ``train``, and ``test`` without outcomes."""
    plain = labels.drop(columns="truth")
    parts = {"train": plain[~held_out], "test": plain[held_out].assign(boolean_value=None)}
    for name, part in parts.items():
        shutil.copytree(source.resolve(), work / name, copy_function=os.symlink)
        path = work / name / file
        path.unlink()
        if path.suffix == ".parquet":
            part.astype({"boolean_value": "boolean"}).to_parquet(path, index=False)
        else:
            part.to_csv(path, index=False)


def contend(
    runs: Runs, name: str, only: list[str], work: Path, args: argparse.Namespace, cache: Path, truth: pd.DataFrame
) -> None:
    """Train and score one contender in one fold, and keep what it said of the held-out patients."""
    model, scores = work / f"model-{name}", work / f"scores-{name}"
    keep: list[object] = ["--cache", cache]
    more = [*shlex.split(args.train_args), *only, *keep]
    start = time.perf_counter()
    try:
        runs.seconds["train"] += medfusion("train", work / "train", "--task", args.task, "--out", model, *more)
    except Failed as failure:
        if not only:
            raise SystemExit(str(failure)) from None
        runs.failures.append(f"{name} alone, seed {truth['seed'].iloc[0]}: {failure}")
        return
    # Every ledger is checked once; the other seeds would only repeat that.
    with_ledger = not only and truth["seed"].iloc[0] == args.seeds[0]
    keep += [] if with_ledger else ["--no-ledger"]
    # Exit code 1: something of the cohort had to be left out, and the rest was scored.
    runs.seconds["score"] += medfusion("score", model, work / "test", "--out", scores, *keep, allowed=(0, 1))
    said = pd.read_parquet(scores / "predictions.parquet")
    check_sums(runs, said, pd.read_parquet(scores / "ledger.parquet") if with_ledger else None)
    runs.rows[name].append(joined(truth, said))
    print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)


def joined(truth: pd.DataFrame, said: pd.DataFrame) -> pd.DataFrame:
    """Put what happened beside what was predicted."""
    times, _ = parse_times(pa.array(truth["prediction_time"]))
    left = truth[["subject_id", "truth", "seed"]].assign(
        prediction_time=pd.to_datetime(times.to_pandas(), utc=True).array
    )
    right = said.assign(prediction_time=pd.to_datetime(said["prediction_time"], utc=True))
    return left.merge(right, on=KEY, how="left", validate="one_to_one")


def check_sums(runs: Runs, said: pd.DataFrame, ledger: pd.DataFrame | None) -> None:
    """Refuse predictions, and ledgers where there are any, that do not add up."""
    shares = said.filter(regex="^share_")
    gaps = {
        "base and shares against logit": said["base_logit"] + shares.sum(axis=1) - said["logit"],
        "logistic of logit against risk": expit(said["logit"]) - said["risk"],
    }
    if ledger is not None:
        lines = ledger.pivot_table(index=KEY, columns="modality", values="share", aggfunc="sum").add_prefix("share_")
        summed = lines.reindex(index=pd.MultiIndex.from_frame(said[KEY]), columns=shares.columns).fillna(0.0)
        gaps["lines of the ledger against shares"] = summed.to_numpy() - shares.to_numpy()
    for what, gap in gaps.items():
        largest = float(np.abs(np.asarray(gap)).max())
        runs.gaps[what] = max(runs.gaps[what], largest)
        if not largest <= TOLERANCE:
            raise SystemExit(f"does not add up: {what} are off by {largest:.2e}")


def modalities(rows: pd.DataFrame) -> list[str]:
    return [str(name).removeprefix("share_") for name in rows.columns if str(name).startswith("share_")]


def summary(runs: Runs, labels: pd.DataFrame, args: argparse.Namespace, described: dict[str, Any]) -> dict[str, Any]:
    folds_run = len(runs.rows["fused"])
    by_contender = {name: together(parts) for name, parts in runs.rows.items() if len(parts) == folds_run}
    unscored = int(by_contender["fused"]["risk"].isna().sum())
    figures = {name: over_seeds(rows.dropna(subset="risk")) for name, rows in by_contender.items()}
    return {
        "cohort": cohort_config(args.cohort)["name"],
        "task": args.task,
        "samples": len(labels),
        "patients": labels["subject_id"].nunique(),
        "events": int(labels["truth"].sum()),
        "folds": args.folds,
        "seeds": args.seeds,
        "train_args": args.train_args,
        "unscored_rows_over_all_seeds": unscored,
        "contenders": figures,
        "best_alone": best_alone(figures),
        "patterns": by_pattern(by_contender["fused"].dropna(subset="risk")),
        "withheld": by_withheld(by_contender["fused"].dropna(subset="risk")),
        "largest_gaps": dict(runs.gaps),
        "failures": runs.failures,
        "seconds": {name: round(seconds, 1) for name, seconds in runs.seconds.items()},
        "machine": described,
    }


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put folds below each other; a modality that one of them could not learn from was absent there."""
    rows = pd.concat(parts, ignore_index=True)
    shares = dict.fromkeys(rows.filter(regex="^share_").columns, 0.0)
    return rows.fillna({**shares, **dict.fromkeys(rows.filter(regex="^present_").columns, False)})


def over_seeds(rows: pd.DataFrame) -> dict[str, Any]:
    """Compute the figures of each seed's pooled out-of-fold predictions, and their mean over the seeds.

    Pooling the seeds would count every patient several times, and the level of chance would be wrong.
    """
    per_seed = [
        figures_of(each["truth"].to_numpy(), each["risk"].to_numpy(), int(seed)) for seed, each in rows.groupby("seed")
    ]
    mean = {}
    for name in FIGURES:
        known = [each[name] for each in per_seed if each[name] is not None]
        mean[name] = float(np.mean(known)) if known else None
    return {"mean": mean, "per_seed": per_seed}


def figures_of(truth: np.ndarray, risk: np.ndarray, seed: int) -> dict[str, float | None]:
    both = 0 < truth.sum() < len(truth)
    return {
        "seed": seed,
        "auroc": float(roc_auc_score(truth, risk)) if both else None,
        "auprc": float(average_precision_score(truth, risk)) if both else None,
        "brier": float(brier_score_loss(truth, risk, pos_label=True)),
        "ece": calibration_error(truth, risk),
        "ece_debiased": debiased_calibration_error(truth, risk),
        "ece_chance": chance_calibration_error(risk, seed).value,
    }


def best_alone(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compare the fused risk with the modality that has the highest mean AUROC by itself."""
    alone = {name: each for name, each in figures.items() if name != "fused"}
    if not alone:
        return None
    best = max(alone, key=lambda name: alone[name]["mean"]["auroc"])
    pairs = zip(figures["fused"]["per_seed"], alone[best]["per_seed"], strict=True)
    differences = [fused["auroc"] - single["auroc"] for fused, single in pairs]
    return {"modality": best, "fused_minus_alone": float(np.mean(differences)), "per_seed": differences}


def subsets(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield every set of modalities with its name, from all to none."""
    for size in range(len(names), -1, -1):
        for chosen in combinations(names, size):
            yield " + ".join(chosen) or "none", list(chosen)


def by_pattern(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute the figures of the fused risk for each set of modalities that samples have."""
    names = modalities(rows)
    present = rows[[f"present_{name}" for name in names]].to_numpy(dtype=bool)
    return [
        pattern_figures(pattern, rows[(present == np.isin(names, chosen)).all(axis=1)])
        for pattern, chosen in subsets(names)
    ]


def by_withheld(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute the figures that the samples with all modalities would have if only some were seen.

    An absent modality adds exactly 0, so the risk from a subset is the logistic of the base and its shares.
    """
    names = modalities(rows)
    complete = rows[rows[[f"present_{name}" for name in names]].all(axis=1)]
    return [
        pattern_figures(
            pattern,
            complete.assign(
                risk=expit(complete["base_logit"] + complete[[f"share_{name}" for name in chosen]].sum(axis=1))
            ),
        )
        for pattern, chosen in subsets(names)
    ]


def pattern_figures(pattern: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Compute the figures of some rows; n and events are those of one seed."""
    seeds = max(rows["seed"].nunique(), 1)
    counts = {"n": round(len(rows) / seeds), "events": round(int(rows["truth"].sum()) / seeds)}
    return {"pattern": pattern, **counts, **over_seeds(rows)["mean"]}


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    contenders = measured["contenders"]
    rows = [[name, *(number(each["mean"][key]) for key in FIGURES)] for name, each in contenders.items()]
    per_seed = [
        [f"{each['seed']}", *(number(each[key]) for key in FIGURES)] for each in contenders["fused"]["per_seed"]
    ]
    best = measured["best_alone"]
    against = (
        ""
        if best is None
        else (
            f"Fused less the best alone ({best['modality']}): AUROC {best['fused_minus_alone']:+.3f}; "
            f"by seed {', '.join(f'{each:+.3f}' for each in best['per_seed'])}.\n\n"
        )
    )
    gaps = "; ".join(f"{what} {gap:.1e}" for what, gap in measured["largest_gaps"].items())
    failures = "".join(f"- {line}\n" for line in measured["failures"])
    return (
        f"# Accuracy: {measured['cohort']}, {measured['task']}\n\n"
        f"{measured['samples']} samples of {measured['patients']} patients, {measured['events']} with the event. "
        f"{measured['folds']} folds by patient, seeds {', '.join(map(str, measured['seeds']))}; figures of the pooled "
        "out-of-fold risks, mean over the seeds. A modality alone is trained with `--only`, and judged on all samples: "
        "who does not have it gets the base rate.\n\n"
        f"{markdown_table(['', *HEADINGS], rows)}\n{against}"
        "ECE: 10 bins of equal mass; by chance is what a perfectly calibrated model with these risks would show.\n\n"
        f"## Fused, by seed\n\n{markdown_table(['seed', *HEADINGS], per_seed)}\n"
        f"## Fused, by what a sample has\n\n{pattern_table(measured['patterns'])}\n"
        "n and events are those of one seed.\n\n"
        f"## Fused, with the others withheld\n\n{pattern_table(measured['withheld'])}\n"
        "The samples that have all modalities, as if only these were seen: an absent modality adds exactly 0.\n\n"
        f"Samples without a risk, over all seeds: {measured['unscored_rows_over_all_seeds']}. "
        f"Largest gap in a row: {gaps}.\n\n{failures}"
        f"{measured['seconds']['train']:.0f} s of training and {measured['seconds']['score']:.0f} s of scoring on "
        f"{machine_line(measured['machine'])}\n"
    )


def pattern_table(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [each["pattern"], str(each["n"]), str(each["events"]), *(number(each[key]) for key in FIGURES)]
        for each in figures
    ]
    return markdown_table(["pattern", "n", "events", *HEADINGS], rows)


if __name__ == "__main__":
    main()
