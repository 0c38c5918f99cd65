"""What contenders and rivals lose when half of each modality is removed at random."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from common import cohort_config, markdown_table, number
from fusion_rivals import RIVALS
from fusion_runs import RATE, complete_run, load, removed_from, removed_run
from fusion_tables import Risks, aims_text, contender_means, mean_difference, paired, told, without_rivals
from sklearn.metrics import roc_auc_score

from medfusion.core.types import FloatArray
from medfusion.evaluation.comparison_tables import EVERY
from medfusion.evaluation.metrics import calibration_error, chance_calibration_error, debiased_calibration_error
from medfusion.evaluation.paired import PairedFigures
from medfusion.pipeline.compare import THRESHOLDS, Run, judged

PATTERN_AIM, PATTERN_N = 0.08, 100
TRAINED = ("trained as is", "trained with it")


def missing(args: argparse.Namespace) -> tuple[dict[str, Any], str, str]:
    """Remove half of each modality at random."""
    name, data = f"{cohort_config(args.cohort)['name']}-{args.task}", load(args.cohort, args.task, args.cache)
    runs = {seed: complete_run(data, name, seed, args.keep) for seed in args.seeds}
    found = {seed: judged(without_rivals(run), THRESHOLDS, seed, expect_missing=RATE) for seed, run in runs.items()}
    chosen = {seed: each.recommendation.name for seed, each in found.items()}
    removed = {seed: removed_run(data, name, seed, args.keep, chosen[seed]) for seed in args.seeds}
    risks = {seed: half_risks(runs[seed], removed[seed], chosen[seed]) for seed in args.seeds}
    pairs = {seed: paired(runs[seed], each) for seed, each in risks.items()}
    table = contender_means(runs, risks)
    losses = {f"{who}, {how}": loss(pairs, who, how) for who in ("recommended", "late", *RIVALS) for how in TRAINED}
    best = min((f"{rival}, trained with it" for rival in RIVALS), key=lambda each: losses[each]["value"])
    ours = [f"recommended, {how}" for how in TRAINED]
    extra = {mine: loss_difference(pairs, mine, best) for mine in ours}
    top = max((f"{rival}, trained with it" for rival in RIVALS), key=lambda each: table[each]["auroc"])
    ahead = {mine: mean_difference(pairs, mine, top) for mine in ours}
    patterns = pattern_rows(runs, risks)
    large = [row for row in patterns if row["n"] >= PATTERN_N]
    aims = {f"{mine}: loses no more AUROC than {best}": bool(extra[mine]["value"] <= 0) for mine in ours} | {
        f"recommended, {how}: ECE <= {PATTERN_AIM} in every pattern with n >= {PATTERN_N}": all(
            row["ece"] <= PATTERN_AIM for row in large if row["trained"] == how
        )
        for how in ("complete", *TRAINED)
        if any(row["trained"] == how for row in large)
    }
    measured = {
        "cohort": name,
        "seeds": args.seeds,
        "rate": RATE,
        "recommended": chosen,
        "verdicts": {seed: each.recommendation.reason for seed, each in found.items()},
        "figures": table,
        "losses": losses,
        "best_rival_by_loss": best,
        "loss_of_recommended_less_that_of_best_rival": extra,
        "best_rival_by_auroc": top,
        "auroc_of_recommended_less_that_of_best_rival": ahead,
        "single_modalities": single_losses(runs, chosen),
        "patterns": patterns,
        "aims": aims,
    }
    return measured, missing_page(measured, args), f"fusion-missing-{name}"


def half_risks(run: Run, removed: Run, chosen: str) -> dict[str, FloatArray]:
    """Return the risks on complete records and on half of them, of models trained as is and with half of them."""
    of, risks = {"recommended": chosen, "late": "late", **{name: name for name in RIVALS}}, {}
    for who, name in of.items():
        risks[f"{who}, complete"] = run.risks[name]
        risks[f"{who}, trained as is"] = run.withheld[EVERY, RATE][name]
        risks[f"{who}, trained with it"] = removed.risks[name]
    return risks


def loss(pairs: Mapping[int, PairedFigures], who: str, how: str) -> dict[str, Any]:
    """Return how much AUROC is lost against the same recipe with complete records in training and test."""
    return mean_difference(pairs, f"{who}, complete", f"{who}, {how}")


def loss_difference(pairs: Mapping[int, PairedFigures], mine: str, other: str) -> dict[str, Any]:
    """Return by how much more one loses than another, with its paired interval."""

    def lost(found: PairedFigures, name: str) -> tuple[float, FloatArray]:
        full = complete(name)
        points, draws = found.points, found.draws
        return points[full]["auroc"] - points[name]["auroc"], draws[full]["auroc"] - draws[name]["auroc"]

    both = [(lost(found, mine), lost(found, other)) for found in pairs.values()]
    value = float(np.mean([first[0] - second[0] for first, second in both]))
    reach = 1.96 * float(np.nanstd(np.mean([first[1] - second[1] for first, second in both], axis=0), ddof=1))
    by_seed = {seed: first[0] - second[0] for seed, (first, second) in zip(pairs, both, strict=True)}
    return {"value": value, "low": value - reach, "high": value + reach, "by_seed": by_seed}


def single_losses(runs: Mapping[int, Run], chosen: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """Return the mean AUROC where one modality alone is taken from half of the samples; rivals trained as is."""
    names = next(iter(runs.values())).names
    return {
        modality: {
            who: float(
                np.mean(
                    [
                        roc_auc_score(
                            run.patients.events,
                            run.withheld[modality, RATE][chosen[seed] if who == "recommended" else who],
                        )
                        for seed, run in runs.items()
                    ]
                )
            )
            for who in ("recommended", "late", *RIVALS)
        }
        for modality in names
    }


def pattern_rows(runs: Mapping[int, Run], risks: Mapping[int, Risks]) -> list[dict[str, Any]]:
    """Return the calibration per presence pattern of the recommended, over the removals of all seeds together."""
    frames = []
    for seed, run in runs.items():
        gone = removed_from(run.patients, run.names, seed)
        here = run.present & ~np.column_stack([gone[name] for name in run.names])
        for how, present in (("complete", run.present), ("trained as is", here), ("trained with it", here)):
            told = [" + ".join(name for name, there in zip(run.names, row, strict=True) if there) for row in present]
            frames.append(
                pd.DataFrame(
                    {
                        "trained": how,
                        "pattern": [each or "none" for each in told],
                        "subject": run.patients.subject_ids,
                        "event": run.patients.events,
                        "risk": risks[seed][f"recommended, {how}"],
                    }
                )
            )
    rows = []
    for (how, pattern), each in pd.concat(frames).groupby(["trained", "pattern"], sort=True):
        events, risk = each["event"].to_numpy(), each["risk"].to_numpy()
        rows.append(
            {
                "trained": str(how),
                "pattern": str(pattern),
                "n": len(each),
                "patients": int(each["subject"].nunique()),
                "events": int(events.sum()),
                "ece": calibration_error(events, risk),
                "ece_debiased": debiased_calibration_error(events, risk),
                "ece_chance": float(chance_calibration_error(risk, 0).value or 0.0),
                "risk_less_rate": float(risk.mean() - events.mean()),
            }
        )
    return rows


def missing_page(measured: Mapping[str, Any], args: argparse.Namespace) -> str:
    """Write the tables of missingness."""
    figures_of, losses = measured["figures"], measured["losses"]
    rows = [
        [
            name,
            number(figures_of[complete(name)]["auroc"]),
            number(figures_of[name]["auroc"]),
            told(each),
            number(figures_of[name]["ece"]),
            number(figures_of[name]["ece_chance"]),
        ]
        for name, each in losses.items()
    ]
    who = ["recommended", "late", *RIVALS]
    singles = [[name, *(number(each[one]) for one in who)] for name, each in measured["single_modalities"].items()]
    extra = [
        [f"loss of {mine}; less that of {measured['best_rival_by_loss']}", told(each)]
        for mine, each in measured["loss_of_recommended_less_that_of_best_rival"].items()
    ] + [
        [f"AUROC of {mine}; less that of {measured['best_rival_by_auroc']}", told(each)]
        for mine, each in measured["auroc_of_recommended_less_that_of_best_rival"].items()
    ]
    patterns = [
        [
            f"{row['trained']}: {row['pattern']}",
            *(str(row[column]) for column in ("n", "patients", "events")),
            *(number(row[column]) for column in ("ece", "ece_debiased", "ece_chance", "risk_less_rate")),
        ]
        for row in measured["patterns"]
        if row["n"] >= PATTERN_N
    ]
    said = "\n".join(f"- seed {seed}: {reason}" for seed, reason in measured["verdicts"].items())
    return f"""# Half of each modality removed at random: {measured["cohort"]}

`fusion.py missing {args.cohort.name} {args.task} --seeds {" ".join(map(str, args.seeds))}`: every modality is taken
from a sample with a probability of {RATE:g}, whichever of the others are.
"Trained as is": only test samples lose records.
"Trained with it": the training part has lost them at the same rate, and encoders, heads and fusion saw only what is
left; both are tested on the same samples with the same records removed. Losses are against complete records in training
and test; means over seeds, intervals paired by patient. Recommended is what
`medfusion compare --expect-missing {RATE:g}` recommends: {named(measured["recommended"])}.

{markdown_table(["", "AUROC complete", "AUROC at 50 %", "loss (95 % interval)", "ECE at 50 %", "by chance"], rows)}
{markdown_table(["difference", "value (95 % interval)"], extra)}
AUROC where half of the samples lose one modality only, all trained as is:

{markdown_table(["", *who], singles)}
## Calibration by presence pattern

Of the recommended; samples of all seeds together (n), so that a patient may count once per seed; patterns with fewer
than {PATTERN_N} are in the JSON. The last column is the mean risk less the share of events.

{markdown_table(["", "n", "patients", "events", "ECE", "debiased", "by chance", "mean bias"], patterns)}
## What the report says

{said}

## Aims

{aims_text(measured["aims"])}"""


def named(chosen: Mapping[int, str]) -> str:
    """Write which contender is recommended with which seed."""
    return ", ".join(f"{name} (seed {seed})" for seed, name in chosen.items())


def complete(name: str) -> str:
    """Return the name of the same recipe with complete records."""
    return f"{name.partition(',')[0]}, complete"
