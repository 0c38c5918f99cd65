"""Do risk sets keep their promise?

For each of 100 seeds, patients are drawn (or a cohort is divided by patient): one part calibrates, the other is new.
Coverage is the share of new patients whose set holds what happened, one row each, where the sets promise it: among
all, among those with and without the event, and within every presence pattern and group. Simulated patients have a
known risk; some are judged by it, others by models that are fitted by cross-fitting as medfusion fits its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accuracy import joined, read_labels
from common import RESULTS, cohort_config, machine, machine_line, markdown_table, medfusion, write_results
from crepes import ConformalClassifier
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from medfusion.core.folds import patient_folds
from medfusion.fusion.conformal import COVERAGE, RiskSets, enough

PATIENTS = 4000
"""Simulated patients who calibrate, and as many new ones."""
_OUTCOMES = {"no event": False, "event": True}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of patients, with what was predicted and what happened; ``categories`` by the name of a division."""

    risks: np.ndarray
    events: np.ndarray
    subjects: np.ndarray
    categories: Mapping[str, np.ndarray]

    def of(self, chosen: np.ndarray) -> Rows:
        parts = {name: each[chosen] for name, each in self.categories.items()}
        return Rows(self.risks[chosen], self.events[chosen], self.subjects[chosen], parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, nargs="?", help="a cohort folder; simulated patients if left out")
    parser.add_argument("task", nargs="?")
    parser.add_argument("--column", default="sex", help="of subjects.csv, for the groups of a cohort")
    parser.add_argument("--coverage", type=float, default=COVERAGE)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--cache", type=Path, help="where embeddings are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described = machine()
    seeds = range(args.seeds)
    if args.cohort:
        rows = out_of_fold(args.cohort, args.task, args.column, args.cache)
        draws = {"Halves of the cohort, by patient": map(partial(divided, rows), seeds)}
        name = f"conformal-{cohort_config(args.cohort)['name']}-{args.task}"
    else:
        draws = {what: map(draw, map(np.random.default_rng, seeds)) for what, draw in SCENARIOS.items()}
        name = "conformal"
    found = {what: measure(each, args.coverage) for what, each in draws.items()}
    promised = pd.concat([table[table["promised"] & (table["splits"] == args.seeds)] for table, _ in found.values()])
    measured = {
        "coverage": args.coverage,
        "seeds": args.seeds,
        "farthest_from_nominal_points": float((100 * (promised["coverage"] - args.coverage)).abs().max()),
        "largest_gap_to_crepes": max(gap for _, gap in found.values()),
        "cells": {what: table.to_dict("records") for what, (table, _) in found.items()},
        "machine": described,
    }
    write_results(args.out, name, measured, page(measured))


def signals(rng: np.random.Generator, subjects: np.ndarray, intercept: float) -> tuple[np.ndarray, ...]:
    """Draw features of two modalities (NaN where absent), true log-odds, patterns and groups for rows of patients.

    In the south much of what decides the event is in no feature, so a model is worse there than it thinks; the island
    is too small to be compared with its own.
    """
    n = len(subjects)
    group = rng.choice(["north", "south", "island"], subjects.max() + 1, p=[0.6, 0.37, 0.03])[subjects]
    pattern = rng.choice(["ehr + notes", "ehr", "notes"], n, p=[0.6, 0.25, 0.15])
    values = rng.normal(size=(n, 6))
    unseen = rng.normal(0, 2.0, n) * (group == "south")
    logits = intercept + values @ np.array([1.2, 0.7, 0.3, 0.9, -0.5, 0.2]) + unseen
    values[:, :3][pattern == "notes"] = np.nan
    values[:, 3:][pattern == "ehr"] = np.nan
    return values, logits, pattern, group


def known(rng: np.random.Generator, intercept: float = -1.0) -> tuple[Rows, Rows]:
    """Patients judged by their true risk."""
    subjects = np.arange(2 * PATIENTS)
    _, logits, pattern, group = signals(rng, subjects, intercept)
    rows = Rows(expit(logits), rng.random(len(logits)) < expit(logits), subjects, {"pattern": pattern, "group": group})
    return rows.of(subjects < PATIENTS), rows.of(subjects >= PATIENTS)


def cross_fitted(rng: np.random.Generator, patients: int = PATIENTS) -> tuple[Rows, Rows]:
    """Calibration patients judged by the member that has not seen them, new ones by the mean of all members."""
    subjects = np.arange(patients + PATIENTS)
    values, logits, pattern, group = signals(rng, subjects, -1.0)
    events, first = rng.random(len(logits)) < expit(logits), subjects < patients
    # A linear model of what is there, and of what is not.
    features = np.column_stack([np.nan_to_num(values), np.isnan(values[:, [0, 3]])])
    folds = np.full(len(logits), -1)
    folds[first] = patient_folds(subjects[first].astype(str).tolist(), events[first], 5, int(rng.integers(1000)))
    said = np.zeros(len(logits))
    for fold in range(5):
        seen = first & (folds != fold)
        of_member = LogisticRegression(C=1.0).fit(features[seen], events[seen]).decision_function(features)
        said[folds == fold] = of_member[folds == fold]
        said[~first] += of_member[~first] / 5
    rows = Rows(expit(said), events, subjects, {"pattern": pattern, "group": group})
    return rows.of(first), rows.of(~first)


def seen_often(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Patients with 1 to 12 rows; those whom the model misjudges, in all of their rows, have the most."""
    fault = rng.normal(0, 1.5, 2 * PATIENTS)
    times = np.where(np.abs(fault) > 1.5, 12, rng.integers(1, 4, 2 * PATIENTS))
    subjects = np.repeat(np.arange(2 * PATIENTS), times)
    _, logits, pattern, group = signals(rng, subjects, -1.0)
    events = rng.random(len(logits)) < expit(logits + fault[subjects])
    rows = Rows(expit(logits), events, subjects, {"pattern": pattern, "group": group})
    return rows.of(subjects < PATIENTS), rows.of(subjects >= PATIENTS)


SCENARIOS = {
    "Known risk": known,
    "Cross-fitted model": cross_fitted,
    "Cross-fitted model, 400 patients": lambda rng: cross_fitted(rng, 400),
    "Known risk, rare event": lambda rng: known(rng, -5.0),
    "Patients with several rows": seen_often,
}


def out_of_fold(cohort: Path, task: str, column: str, cache: Path | None) -> Rows:
    """Train on a cohort and score it: each patient is judged by the member that has not seen them."""
    labels, _ = read_labels(cohort, task)
    with tempfile.TemporaryDirectory() as temporary:
        model, scores = Path(temporary) / "model", Path(temporary) / "scores"
        kept: list[object] = ["--cache", cache or Path(temporary) / "cache"]
        medfusion("train", cohort, "--task", task, "--out", model, *kept)
        medfusion("score", model, cohort, "--out", scores, "--no-ledger", *kept, allowed=(0, 1))
        said = joined(labels.assign(seed=0), pd.read_parquet(scores / "predictions.parquet")).dropna(subset="risk")
    present = said.filter(regex="^present_")
    names = [str(each).removeprefix("present_") for each in present.columns]
    pattern = [" + ".join(name for name, here in zip(names, row, strict=True) if here) for row in present.to_numpy()]
    subjects = pd.read_csv(cohort / "subjects.csv", dtype=str).set_index("subject_id")
    group = subjects[column].reindex(said["subject_id"]).fillna("unknown").to_numpy(dtype=str)
    categories = {"pattern": np.array(pattern, dtype=str), "group": group}
    return Rows(said["risk"].to_numpy(), said["truth"].to_numpy(bool), said["subject_id"].to_numpy(str), categories)


def divided(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Let half of the patients calibrate."""
    patients = np.unique(rows.subjects)
    calibrating = np.random.default_rng(seed).permutation(patients)[: len(patients) // 2]
    first = np.isin(rows.subjects, calibrating)
    return rows.of(first), rows.of(~first)


def measure(draws: Iterator[tuple[Rows, Rows]], coverage: float) -> tuple[pd.DataFrame, float]:
    """Return coverage and decisions per cell, over all draws, and the largest difference of a p-value to crepes."""
    cells: list[dict[str, Any]] = []
    gap = 0.0
    for seed, (calibration, new) in enumerate(draws):
        for division, categories, by_class in (
            ("everybody", None, False),
            ("by outcome", None, True),
            ("by outcome and pattern", "pattern", True),
            ("by outcome and group", "group", True),
        ):
            mine, theirs = (each.categories.get(categories or "") for each in (calibration, new))
            sets = RiskSets.fit(
                calibration.risks, calibration.events, calibration.subjects, mine,
                coverage=coverage, by_class=by_class, seed=seed,
            )  # fmt: skip
            cells += [{"division": division, **cell} for cell in judge(sets, new, theirs, np.random.default_rng(seed))]
            if division == "by outcome" and seed == 0:
                gap = beside_crepes(sets, new.risks)
    table = pd.DataFrame(cells)
    by = table.groupby(["division", "category", "outcome", "promised"], sort=False)
    together = by.agg(
        coverage=("held", "mean"), sd=("held", np.std), patients=("patients", "mean"),
        undecided=("undecided", "mean"), unusual=("unusual", "mean"), splits=("held", "size"),
    )  # fmt: skip
    return together.reset_index(), gap


def judge(
    sets: RiskSets, new: Rows, categories: np.ndarray | None, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield what came of the promise in every cell, from one row of each new patient who has one there."""
    found = sets.predict(new.risks, categories)
    held, size = found.included[np.arange(len(new.risks)), new.events.astype(int)], found.included.sum(axis=1)
    everyone = np.ones(len(held), dtype=bool)
    parts = {"all": everyone} if categories is None else {name: categories == name for name in np.unique(categories)}
    for category, here in parts.items():
        of_outcome = {name: new.events == outcome for name, outcome in _OUTCOMES.items()}
        for outcome, which in of_outcome.items() if sets.by_class else {"either": everyone, **of_outcome}.items():
            rows = rng.permutation(np.flatnonzero(here & which))
            if len(rows) == 0:
                continue
            _, first = np.unique(new.subjects[rows], return_index=True)
            rows = rows[first]
            own = sets.by_class and (categories is None or category in sets.categories[_OUTCOMES[outcome]])
            yield {
                "category": str(category), "outcome": outcome, "promised": own or outcome == "either",
                "held": held[rows].mean(), "patients": len(rows),
                "undecided": (size[rows] == 2).mean(), "unusual": (size[rows] == 0).mean(),
            }  # fmt: skip


def beside_crepes(sets: RiskSets, risks: np.ndarray) -> float:
    """Compare p-values with those of crepes, with the outcomes as Mondrian bins."""
    outcome = np.repeat([0, 1], [len(each) for each in sets.everybody])
    reference = ConformalClassifier().fit(np.concatenate(sets.everybody), bins=outcome)
    scores, mine = np.column_stack([risks, 1 - risks]), sets.predict(risks).p_values
    theirs = [reference.predict_p(scores[:, k], bins=np.full(len(risks), k), smoothing=False) for k in (0, 1)]
    return float(np.abs(mine - np.column_stack(theirs)).max())


def page(measured: Mapping[str, Any]) -> str:
    """Return the tables, as they are to be read."""
    nominal = measured["coverage"]
    header = [
        "",
        "outcome",
        "coverage %",
        "off, points",
        "SD over splits",
        "splits",
        "new patients",
        "undecided %",
        "unusual %",
    ]
    text = (
        f"# Risk sets at a stated coverage of {100 * nominal:g} %\n\n{machine_line(measured['machine'])}\n\n"
        f"{measured['seeds']} splits, seeds 0 to {measured['seeds'] - 1}. Cells with a promise in all of them are at "
        f"most {measured['farthest_from_nominal_points']:.1f} points from nominal on average; p-values differ from "
        f"those of crepes by at most {measured['largest_gap_to_crepes']:.0e}. In brackets: cells without a promise, "
        f"because everybody was compared with everybody, or for lack of {enough(nominal)} calibration patients; a cell "
        "that lacks them in some splits only stands twice.\n"
    )
    for what, cells in measured["cells"].items():
        rows = [row_of(cell, nominal) for cell in cells]
        text += f"\n## {what}\n\n{markdown_table(header, rows)}"
    return text


def row_of(cell: Mapping[str, Any], nominal: float) -> Sequence[str]:
    name = cell["division"] if cell["category"] == "all" else f"{cell['division']}: {cell['category']}"
    spread = "-" if cell["splits"] == 1 else f"{100 * cell['sd']:.1f}"
    return [
        name if cell["promised"] else f"({name})",
        cell["outcome"],
        f"{100 * cell['coverage']:.1f}",
        f"{100 * (cell['coverage'] - nominal):+.1f}",
        spread,
        str(cell["splits"]),
        f"{cell['patients']:.0f}",
        f"{100 * cell['undecided']:.0f}",
        f"{100 * cell['unusual']:.0f}",
    ]


if __name__ == "__main__":
    main()
