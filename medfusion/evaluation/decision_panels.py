"""Decision curve and table of thresholds, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES, subject_weights
from medfusion.evaluation.decision import AlertCounts, alert_counts, check_thresholds, suggested_thresholds
from medfusion.evaluation.figures import BLUE, GREY, INK, VERMILION, tidy
from medfusion.evaluation.metrics import Estimate, check_risks
from medfusion.evaluation.rates import rate_estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREEN = "#009E73"
_STEP, _END = 0.01, 0.5
_LABELS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "alerts_per_100": "alerts per 100",
    "missed_per_1000": "missed per 1,000",
    "net_benefit": "net benefit",
}
_SCALE = {**dict.fromkeys(_LABELS, 1), "alerts_per_100": 100, "missed_per_1000": 1000}


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit of acting on the risks, beside acting on everybody and on nobody.

    Attributes
    ----------
    table : DataFrame
        threshold, net_benefit, low, high, treat_all, treat_none, gain, gain_low, gain_high; the gain is over the
        better of treating all and none.
    marked : tuple of float
        Thresholds that somebody chose.
    """

    title: ClassVar[str] = "Decision curve"
    caption: ClassVar[str] = (
        "Net benefit of acting on all whose risk reaches the threshold: events found per patient, less false alarms at "
        "the exchange rate that the threshold implies. The model is of use where its line is the highest. The band "
        "is the 95 % interval by resampling patients; the gain is over the better of treating everybody and nobody."
    )
    table: pd.DataFrame
    marked: tuple[float, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def plot(self) -> Figure:
        """Return the decision curve."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        table = self.table
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(table["threshold"], table["low"], table["high"], color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(table["threshold"], table["net_benefit"], color=BLUE, linewidth=2, label="Model")
        axes.plot(table["threshold"], table["treat_all"], color=VERMILION, linewidth=1.4, label="Everybody")
        axes.plot(table["threshold"], table["treat_none"], color=GREY, linewidth=1.4, label="Nobody")
        for threshold in self.marked:
            axes.axvline(threshold, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        top = max(0.01, float(np.nanmax(table[["high", "net_benefit", "treat_all"]].to_numpy())))
        axes.set(xlim=(0, float(table["threshold"].max())), ylim=(-0.15 * top, 1.08 * top))
        axes.set(xlabel="Threshold", ylabel="Net benefit")
        axes.legend(frameon=False, fontsize=9)
        tidy(axes)
        return figure


@dataclass(frozen=True, slots=True)
class ThresholdTable:
    """What each threshold finds, misses and costs in alerts.

    Attributes
    ----------
    table : DataFrame
        Numbers, one row per threshold: threshold, basis, n_alerts, n_missed, and for each of sensitivity, specificity,
        ppv, npv, alerts_per_100, missed_per_1000 and net_benefit the value, and its interval in ``*_low`` and
        ``*_high``. NaN where there is nothing to divide by.
    """

    title: ClassVar[str] = "Thresholds"
    caption: ClassVar[str] = (
        "Those whose risk reaches the threshold are flagged. Alerts are per 100 predictions, missed events per 1,000; "
        "where a patient has one prediction, these are patients. 95 % intervals are Wilson's, with repeated samples of "
        "a patient counted as what they tell together; that of net benefit is by resampling patients. None of these "
        "thresholds is a recommendation: that follows from what a missed event and a false alarm cost."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return one row per threshold, each figure as text with its interval; `table` has the numbers."""
        shown = pd.DataFrame({"threshold": [f"{value:.3g}" for value in self.table["threshold"]]})
        shown["basis"] = self.table["basis"]
        for name, label in _LABELS.items():
            columns = (self.table[column].tolist() for column in (name, f"{name}_low", f"{name}_high"))
            digits = 1 if _SCALE[name] > 1 else 3
            shown[label] = [_told(value, low, high).text(digits) for value, low, high in zip(*columns, strict=True)]
        return shown

    def plot(self) -> Figure:
        """Return sensitivity, PPV and alerts over the thresholds."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        rates, alerts = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        for axes, name, label, color in (
            (rates, "sensitivity", "Sensitivity", BLUE),
            (rates, "specificity", "Specificity", GREEN),
            (rates, "ppv", "PPV", VERMILION),
            (alerts, "alerts_per_100", "Alerts", INK),
        ):
            x, y = self.table["threshold"], self.table[name]
            axes.vlines(x, self.table[f"{name}_low"], self.table[f"{name}_high"], color=color, linewidth=1.2)
            axes.plot(x, y, "o-", color=color, markersize=4, linewidth=1.2, label=label)
        rates.set(ylim=(-0.02, 1.02), ylabel="Rate")
        rates.legend(frameon=False, fontsize=9)
        alerts.set(xlabel="Threshold", ylabel="Alerts per 100")
        tidy(rates)
        tidy(alerts)
        return figure


def decision_panels(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    thresholds: Sequence[float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[DecisionCurve, ThresholdTable]:
    """Compute what decisions on these risks are worth.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
    thresholds : sequence of float, optional
        Those that somebody chose. Where nobody did, the table shows `suggested_thresholds`.
    seed, resamples : int

    Raises
    ------
    UsageError
        If a threshold is not within (0, 1).
    ValueError
        If there is no sample, lengths differ, or a risk is not within [0, 1].

    Examples
    --------
    >>> risks = np.linspace(0.01, 0.6, 200)
    >>> events = np.arange(200) % 3 == 0
    >>> curve, table = decision_panels(events, risks, [str(i) for i in range(200)], [0.2, 0.4], resamples=50)
    >>> table.table[["threshold", "n_alerts", "n_missed"]].to_numpy().tolist()
    [[0.2, 135.0, 22.0], [0.4, 68.0, 44.0]]
    """
    events, risks = np.asarray(events, dtype=bool), np.asarray(risks, dtype=float)
    check_risks(events, risks, subject_ids)
    chosen = [] if thresholds is None else check_thresholds(thresholds).tolist()
    shown = dict.fromkeys(chosen, "chosen") if chosen else suggested_thresholds(events, risks)
    return (
        decision_curve(events, risks, subject_ids, marked=chosen, seed=seed, resamples=resamples),
        threshold_table(events, risks, subject_ids, shown, seed=seed, resamples=resamples),
    )


def decision_curve(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    grid: Sequence[float] | None = None,
    marked: Sequence[float] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> DecisionCurve:
    """Compute net benefit over a range of thresholds, with intervals by resampling patients.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
    grid : sequence of float, optional
        Thresholds of the curve. If left out: every percent up to 50 %, or up to the risk that one sample in a hundred
        exceeds, if that is more.
    marked : sequence of float
        Thresholds to mark in the picture.
    seed, resamples : int

    Raises
    ------
    UsageError
        If a threshold of the grid is not within (0, 1).
    """
    if grid is None:
        end = min(1.0 - _STEP, max(_END, float(np.quantile(risks, 0.99))))
        grid = (np.arange(1, round(end / _STEP) + 1) * _STEP).tolist()
    thresholds = np.unique(check_thresholds(grid))
    point = alert_counts(events, risks, thresholds)
    benefit, everybody = point.net_benefit(thresholds)[0], point.treat_all(thresholds)[0]
    benefits, gains = [], []
    for weights in subject_weights(subject_ids, seed, resamples):
        counts = alert_counts(events, risks, thresholds, weights.astype(float))
        benefits.append(counts.net_benefit(thresholds))
        gains.append(benefits[-1] - np.maximum(counts.treat_all(thresholds), 0.0))
    low, high = _ends(np.concatenate(benefits), subject_ids)
    gain_low, gain_high = _ends(np.concatenate(gains), subject_ids)
    columns = {
        "threshold": thresholds,
        "net_benefit": benefit,
        "low": low,
        "high": high,
        "treat_all": everybody,
        "treat_none": 0.0,
        "gain": benefit - np.maximum(everybody, 0.0),
        "gain_low": gain_low,
        "gain_high": gain_high,
    }
    return DecisionCurve(pd.DataFrame(columns), tuple(marked))


def threshold_table(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    thresholds: Mapping[float, str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ThresholdTable:
    """Compute what each threshold finds, misses and costs in alerts.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
    thresholds : mapping from threshold to where it comes from
    seed, resamples : int

    Raises
    ------
    UsageError
        If a threshold is not within (0, 1).

    Examples
    --------
    >>> events, risks = np.arange(100) < 20, np.linspace(0.9, 0.1, 100)
    >>> table = threshold_table(events, risks, [str(i) for i in range(100)], {0.5: "chosen"}, resamples=50)
    >>> table.frame()[["sensitivity", "alerts per 100"]].to_dict("records")
    [{'sensitivity': '1.000 (0.839 to 1.000)', 'alerts per 100': '50.0 (40.4 to 59.6)'}]
    """
    values = np.sort(check_thresholds(thresholds))
    parts = [
        _measures(alert_counts(events, risks, values, weights.astype(float)), values)
        for weights in subject_weights(subject_ids, seed, resamples)
    ]
    draws = {name: np.concatenate([part[name] for part in parts]) for name in _LABELS}
    benefit = alert_counts(events, risks, values).net_benefit(values)[0]
    low, high = _ends(draws["net_benefit"], subject_ids)
    rows = []
    for place, value in enumerate(values.tolist()):
        flagged = risks >= value
        row: dict[str, object] = {"threshold": value, "basis": thresholds[value]}
        row |= {"n_alerts": int(flagged.sum()), "n_missed": int((events & ~flagged).sum())}
        for name, (counted, among) in _rates(events, flagged).items():
            patients = np.asarray(subject_ids, dtype=object)[among].tolist()
            rate = rate_estimate(int(counted.sum()), draws[name][:, place], patients)
            row |= _columns(name, rate.value, rate.low, rate.high)
        row |= _columns("net_benefit", benefit[place], low[place], high[place])
        rows.append(row)
    return ThresholdTable(pd.DataFrame(rows))


def _rates(events: BoolArray, flagged: BoolArray) -> dict[str, tuple[BoolArray, BoolArray]]:
    """Say which samples each proportion counts, and among which."""
    everybody = np.ones_like(events)
    return {
        "sensitivity": (events & flagged, events),
        "specificity": (~events & ~flagged, ~events),
        "ppv": (events & flagged, flagged),
        "npv": (~events & ~flagged, ~flagged),
        "alerts_per_100": (flagged, everybody),
        "missed_per_1000": (events & ~flagged, everybody),
    }


def _measures(counts: AlertCounts, thresholds: FloatArray) -> dict[str, FloatArray]:
    """Compute every measure of resamples, as proportions: arrays (b, t)."""
    alerts, n = counts.hits + counts.false_alarms, counts.events + counts.others
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": counts.hits / counts.events,
            "specificity": 1.0 - counts.false_alarms / counts.others,
            "ppv": counts.hits / alerts,
            "npv": (counts.others - counts.false_alarms) / (n - alerts),
            "alerts_per_100": alerts / n,
            "missed_per_1000": (counts.events - counts.hits) / n,
            "net_benefit": counts.net_benefit(thresholds),
        }


def _told(value: float, low: float, high: float) -> Estimate:
    if np.isnan(value):
        return Estimate(None, note="nobody to count")
    return Estimate(value) if np.isnan(low) else Estimate(value, low, high)


def _columns(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, object]:
    scaled = [np.nan if number is None else number * _SCALE[name] for number in (value, low, high)]
    return dict(zip((name, f"{name}_low", f"{name}_high"), scaled, strict=True))


def _ends(draws: FloatArray, subject_ids: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return the 95 % intervals of columns (b, t); NaN where there is one patient, who varies not at all."""
    if len(set(subject_ids)) < 2:
        nothing = np.full(draws.shape[1], np.nan)
        return nothing, nothing
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return low, high
