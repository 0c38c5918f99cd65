"""The tables of a comparison, with one row per contender and whatever it is told apart by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.metrics import Estimate, calibration_error, chance_calibration_error
from medfusion.evaluation.paired import PairedFigures, benefit_name, delong
from medfusion.evaluation.patterns import by_pattern
from medfusion.evaluation.recommend import Cost

Risks = Mapping[str, FloatArray]
FIGURES = ("auroc", "auprc", "brier", "ece", "ece_debiased")
EVERY = "each"
"""In place of a modality: all of them lose the same rate, each at random by itself."""
_NORMAL = 1.959963984540054


def figure_label(figure: str) -> str:
    """Return a figure's name as a reader knows it.

    Examples
    --------
    >>> figure_label("auroc"), figure_label("net_benefit_at_0.1")
    ('AUROC', 'Net benefit at 0.1')
    """
    labels = {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "brier": "Brier score",
        "ece": "ECE",
        "ece_debiased": "ECE, debiased",
        "ece_chance": "ECE by chance",
    }
    return labels.get(figure) or figure.replace("net_benefit_at_", "Net benefit at ")


def all_estimates(
    paired: PairedFigures, risks: Risks, thresholds: Sequence[float], seed: int
) -> dict[str, dict[str, Estimate]]:
    """Return every figure of every contender, with its interval.

    Returns
    -------
    dict from contender to (dict from figure to Estimate)
        auroc, auprc, brier, ece, ece_debiased, ece_chance (its range instead of an interval), net_benefit_at_*.
    """
    found = {}
    for name, risk in risks.items():
        of_name = {figure: paired.estimate(name, figure) for figure in FIGURES}
        of_name["ece_chance"] = chance_calibration_error(risk, seed)
        of_name.update({benefit_name(cut): paired.estimate(name, benefit_name(cut)) for cut in thresholds})
        found[name] = of_name
    return found


def contender_table(
    estimates: Mapping[str, Mapping[str, Estimate]],
    modalities_of: Mapping[str, Sequence[str]],
    costs: Mapping[str, Cost],
) -> pd.DataFrame:
    """Return one row per contender: modalities, each figure with ``*_low`` and ``*_high``, fit_s, score_ms, size_mb."""
    rows = []
    for name, figures in estimates.items():
        row: dict[str, object] = {"contender": name, "modalities": " + ".join(modalities_of[name])}
        for figure, found in figures.items():
            row |= {figure: found.value, f"{figure}_low": found.low, f"{figure}_high": found.high}
        cost = costs.get(name)
        row |= {part: getattr(cost, part, None) for part in ("fit_s", "score_ms", "size_mb")}
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = [column for column in table if column not in {"contender", "modalities"}]
    return table.astype(dict.fromkeys(numbers, float))


def difference_table(paired: PairedFigures, reference: str, thresholds: Sequence[float]) -> pd.DataFrame:
    """Return one row per other contender and figure: the contender's less the reference's, on the same resamples.

    Returns
    -------
    DataFrame
        contender, figure, difference, low, high, and for the AUROC standard_error, z and p of DeLong's test and
        bootstrap_error; NaN where there is none.
    """
    figures = [*FIGURES[1:], *(benefit_name(cut) for cut in thresholds)]
    rows: list[tuple[object, ...]] = []
    for name in paired.points:
        if name == reference:
            continue
        of = paired.auroc_difference(name, reference)
        rows.append((name, "auroc", of.value, of.low, of.high, of.standard_error, of.z, of.p, of.bootstrap_error))
        for figure in figures:
            found = paired.difference(name, reference, figure)
            rows.append((name, figure, found.value, found.low, found.high, None, None, None, None))
    columns = ["difference", "low", "high", "standard_error", "z", "p", "bootstrap_error"]
    return pd.DataFrame(rows, columns=["contender", "figure", *columns]).astype(dict.fromkeys(columns, float))


def pattern_table(
    events: BoolArray,
    risks: Risks,
    subject_ids: Sequence[str],
    present: BoolArray,
    names: Sequence[str],
    modalities_of: Mapping[str, Sequence[str]],
    seed: int,
    resamples: int,
) -> pd.DataFrame:
    """Return the table of `patterns.by_pattern` for each contender, with the column contender in front.

    A contender that rests on none of the modalities of a pattern says the same of everybody: what its risks differ by
    is what training folds differ by, so that it has no AUROC there.
    """
    parts = []
    for name, risk in risks.items():
        table = by_pattern(events, risk, subject_ids, present, names, seed, resamples)
        blind = [not set(pattern.split(" + ")) & set(modalities_of[name]) for pattern in table["pattern"]]
        told = np.array(blind) & (table["note"] == "").to_numpy()
        table.loc[told, ["auroc", "auroc_low", "auroc_high"]] = np.nan
        table.loc[told, "note"] = "has none of its modalities"
        table.insert(0, "contender", name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def withheld_table(
    events: BoolArray,
    risks: Risks,
    withheld: Mapping[tuple[str, float], Risks],
    subject_ids: Sequence[str],
    names: Sequence[str],
) -> pd.DataFrame:
    """Return what is lost when a modality is removed at random: one row per modality, rate and contender.

    Returns
    -------
    DataFrame
        modality, rate, contender, auroc, loss, loss_low, loss_high, ece. The loss is of AUROC against nothing removed
        (rate 0, a row of its own), with a 95 % interval by DeLong's standard error of paired samples.
    """
    rows: list[tuple[object, ...]] = []
    for modality in [name for name in (*names, EVERY) if any(name == key for key, _ in withheld)]:
        rates = sorted(rate for key, rate in withheld if key == modality)
        contenders = [name for name in risks if any(name in withheld[modality, rate] for rate in rates)]
        for rate in [0.0, *rates]:
            for name in contenders:
                risk = withheld[modality, rate].get(name) if rate else risks[name]
                if risk is not None:
                    rows.append((modality, rate, name, *_lost(events, risks[name], risk, subject_ids)))
    columns = ["auroc", "loss", "loss_low", "loss_high", "ece"]
    table = pd.DataFrame(rows, columns=["modality", "rate", "contender", *columns])
    return table.astype(dict.fromkeys(["rate", *columns], float))


def _lost(events: BoolArray, full: FloatArray, risk: FloatArray, subject_ids: Sequence[str]) -> tuple[float, ...]:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    loss = delong(events, full, risk, subject_ids)
    reach = _NORMAL * loss.standard_error
    area = float(roc_auc_score(events, risk))
    return area, loss.value, loss.value - reach, loss.value + reach, calibration_error(events, risk)
