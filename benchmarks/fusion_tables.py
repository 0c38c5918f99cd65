"""What the fusion benchmarks share: figures over seeds, paired differences, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from fusion_rivals import RIVALS
from sklearn.metrics import average_precision_score, roc_auc_score

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.metrics import calibration_error, chance_calibration_error, debiased_calibration_error
from medfusion.evaluation.paired import PairedFigures, pair
from medfusion.pipeline.compare import Run

Risks = Mapping[str, FloatArray]


def without_rivals(run: Run) -> Run:
    """Return the run as `medfusion compare` would have it."""
    ours = Run(run.patients, run.names)
    ours.risks = {name: risk for name, risk in run.risks.items() if name not in RIVALS}
    ours.withheld = {
        key: {name: risk for name, risk in each.items() if name not in RIVALS} for key, each in run.withheld.items()
    }
    ours.present, ours.seconds, ours.scoring, ours.sizes = run.present, run.seconds, run.scoring, run.sizes
    return ours


def paired(run: Run, risks: Risks) -> PairedFigures:
    """Resample the patients, the same way for every seed."""
    return pair(run.patients.events, risks, run.patients.subject_ids.tolist(), [], seed=0)


def mean_difference(pairs: Mapping[int, PairedFigures], first: str, second: str) -> dict[str, Any]:
    """Return the mean over seeds of a difference in AUROC, with its paired interval, and each seed's."""
    each = {seed: found.auroc_difference(first, second) for seed, found in pairs.items()}
    draws = np.mean([found.draws[first]["auroc"] - found.draws[second]["auroc"] for found in pairs.values()], axis=0)
    value, reach = float(np.mean([one.value for one in each.values()])), 1.96 * float(np.nanstd(draws, ddof=1))
    by_seed = {seed: [one.value, one.low, one.high] for seed, one in each.items()}
    return {"value": value, "low": value - reach, "high": value + reach, "by_seed": by_seed}


def contender_means(runs: Mapping[int, Run], risks: Mapping[int, Risks]) -> dict[str, dict[str, float]]:
    """Return figures of each contender, each the mean of those of the seeds."""
    names = list(next(iter(risks.values())))
    events = next(iter(runs.values())).patients.events
    return {
        name: dict(pd.DataFrame([figures(events, risks[seed][name], seed) for seed in runs]).mean()) for name in names
    }


def figures(events: BoolArray, risk: FloatArray, seed: int) -> dict[str, float]:
    """Return AUROC and the calibration error as it is, debiased, and by chance."""
    return {
        "auroc": float(roc_auc_score(events, risk)),
        "auprc": float(average_precision_score(events, risk)),
        "brier": float(np.mean((events - risk) ** 2)),
        "ece": calibration_error(events, risk),
        "ece_debiased": debiased_calibration_error(events, risk),
        "ece_chance": float(chance_calibration_error(risk, seed).value or 0.0),
    }


def told(found: Mapping[str, Any]) -> str:
    """Write a difference with its interval."""
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def aims_text(aims: Mapping[str, bool]) -> str:
    """Write which aims were met."""
    return "".join(f"- {'met' if met else '**missed**'}: {aim}\n" for aim, met in aims.items())
