"""Do 95 % intervals cover the truth in 95 % of cohorts?

Cohorts are drawn from a binormal model, whose AUROC is known. Of each, the interval of the AUROC by resampling patients
is computed as every report of medfusion does, and so is that of the difference of two contenders. Percentiles of the
same resamples stand beside both, to show what they would cover.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, machine_line, markdown_table, write_results
from scipy.stats import norm

from medfusion.evaluation.bootstrap import difference_interval, draw_auroc, fewest_patients, logit_interval
from medfusion.evaluation.bootstrap import percentile_interval as percentiles
from medfusion.evaluation.paired import auroc_covariance

ALIKE = 0.5
"""Of the variance of a score within an outcome, and of the leaning towards the outcome, how much is the patient's."""
SHARED = 0.6
"""Correlation of the scores of two contenders, within an outcome."""
LEAD = 0.03
"""How much the second contender's AUROC is below that of the first."""
ACCEPTED = (93.0, 97.0)


@dataclass(frozen=True)
class Setting:
    """One kind of cohort: samples, mean samples per patient (1: independent), prevalence, and the true AUROC."""

    n: int
    samples_per_patient: int
    prevalence: float
    auroc: float


SETTINGS = (
    Setting(100, 1, 0.2, 0.85),
    Setting(200, 1, 0.1, 0.8),
    Setting(200, 1, 0.1, 0.9),
    Setting(200, 1, 0.3, 0.7),
    Setting(200, 1, 0.5, 0.85),
    Setting(400, 1, 0.1, 0.85),
    Setting(800, 1, 0.05, 0.8),
    Setting(200, 2, 0.3, 0.8),
    Setting(200, 3, 0.1, 0.85),
    Setting(400, 4, 0.2, 0.85),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=1000, help="of each setting")
    parser.add_argument(
        "--resamples", type=int, default=400, help="fewer than of a report, which if anything lowers what is covered"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    described, start = machine(), time.process_time()
    rows = []
    for number, setting in enumerate(SETTINGS):
        rows.append({**asdict(setting), **covered(setting, args, args.seed + number)})
        print(f"{number + 1} of {len(SETTINGS)}: {rows[-1]['auroc_covered']:.1f} %", flush=True)
    measured = {
        "cohorts": args.cohorts,
        "resamples": args.resamples,
        "seed": args.seed,
        "accepted": list(ACCEPTED),
        "all_accepted": all(ACCEPTED[0] <= row["auroc_covered"] <= ACCEPTED[1] for row in rows),
        "settings": rows,
        "processor_seconds": round(time.process_time() - start, 1),
        "machine": described,
    }
    write_results(args.out, "intervals", measured, page(measured))


def covered(setting: Setting, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Count, in percent of the cohorts, which intervals hold the truth."""
    hits: dict[str, list[bool]] = {}
    widths, refused = [], 0
    for index, (events, first, second, ids) in enumerate(cohorts(setting, args.cohorts, seed)):
        fewest = fewest_patients(events, ids)
        if fewest < 2:
            refused += 1
            continue
        (area, other), covariance = auroc_covariance(events, np.vstack([first, second]), ids)
        # The same seed gives the same resamples, as in `pair`.
        draws, others = (draw_auroc(events, score, ids, index, args.resamples) for score in (first, second))
        gap = area - other
        reach = 1.96 * np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        intervals = {
            "auroc_covered": (logit_interval(draws, float(area), fewest), setting.auroc),
            "auroc_by_percentiles": (percentiles(draws), setting.auroc),
            "difference_covered": (difference_interval(draws - others, float(gap)), LEAD),
            "difference_by_percentiles": (percentiles(draws - others), LEAD),
            "difference_by_delong": ((gap - reach, gap + reach), LEAD),
        }
        for name, (interval, truth) in intervals.items():
            hits.setdefault(name, []).append(interval is None or interval[0] <= truth <= interval[1])
        if interval := intervals["auroc_covered"][0]:
            widths.append(interval[1] - interval[0])
    shares = {name: round(100 * float(np.mean(each)), 2) for name, each in hits.items()}
    return {**shares, "mean_width": round(float(np.mean(widths)), 4), "refused": refused}


def cohorts(setting: Setting, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]]:
    """Draw cohorts: who has the event, the scores of two contenders, and whose each sample is."""
    rng = np.random.default_rng(seed)
    distances = [np.sqrt(2.0) * norm.ppf(setting.auroc - lead) for lead in (0.0, LEAD)]
    for _ in range(count):
        patient = patients(rng, setting)
        events = leaning(rng, patient) < norm.ppf(setting.prevalence)
        noise = leaning(rng, patient)
        second = SHARED * noise + np.sqrt(1 - SHARED**2) * leaning(rng, patient)
        yield events, noise + distances[0] * events, second + distances[1] * events, [str(number) for number in patient]


def patients(rng: np.random.Generator, setting: Setting) -> np.ndarray:
    """Say whose each of the n samples is; patients have from 1 to twice the mean less 1, all equally often."""
    if setting.samples_per_patient == 1:
        return np.arange(setting.n)
    sizes = rng.integers(1, 2 * setting.samples_per_patient, size=setting.n)
    return np.repeat(np.arange(setting.n), sizes)[: setting.n]


def leaning(rng: np.random.Generator, patient: np.ndarray) -> np.ndarray:
    """Draw standard normal numbers, of which those of one patient are alike."""
    own = rng.normal(size=len(patient))
    if patient[-1] == len(patient) - 1:
        return own
    return np.sqrt(ALIKE) * rng.normal(size=patient[-1] + 1)[patient] + np.sqrt(1 - ALIKE) * own


def page(measured: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['n']}",
            f"{row['samples_per_patient']}",
            f"{row['prevalence']:.0%}".replace("%", " %"),
            f"{row['auroc']:.2f}",
            f"**{row['auroc_covered']:.1f}**",
            f"{row['auroc_by_percentiles']:.1f}",
            f"{row['difference_covered']:.1f}",
            f"{row['difference_by_percentiles']:.1f}",
            f"{row['difference_by_delong']:.1f}",
        ]
        for row in measured["settings"]
    ]
    header = ["samples", "per patient", "events", "true AUROC", "AUROC, %", "by percentiles"]
    header += ["difference, %", "by percentiles", "by DeLong"]
    low, high = measured["accepted"]
    error = 100 * np.sqrt(0.95 * 0.05 / measured["cohorts"])
    held = "All are" if measured["all_accepted"] else "Not all are"
    return (
        "# Do the intervals cover the truth?\n\n"
        f"How many of {measured['cohorts']:,} cohorts have a 95 % interval that holds the true AUROC, and the true "
        f"difference of {LEAD} between two contenders whose scores correlate by {SHARED}; {measured['resamples']:,} "
        f"resamples of the patients each. {held} between {low:.0f} and {high:.0f} % for the AUROC; counting so many "
        f"cohorts has a standard error of {error:.1f} points.\n\n"
        f"{markdown_table(header, rows)}\n"
        "Bold is what medfusion gives. Scores are binormal; where a patient has several samples, "
        f"{100 * ALIKE:.0f} % of the variance of scores, and of the leaning towards the event, is the patient's. "
        "Percentiles fall short because an AUROC near 1 varies more to below than to above, and because few patients "
        "with the event vary too little among each other.\n\n"
        f"{measured['processor_seconds']:.0f} s of one core. {machine_line(measured['machine'])}\n"
    )


if __name__ == "__main__":
    main()
