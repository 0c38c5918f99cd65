"""Figures of an evaluation. Each is a small value that yields its table (``frame()``) and its picture (``plot()``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.metrics import BINS, Estimate, equal_mass_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#8a8f98", "#1f2933"


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """What happened, against what was predicted.

    Attributes
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    error : Estimate
        The expected calibration error, for the caption within the picture.
    """

    title: ClassVar[str] = "Calibration"
    caption: ClassVar[str] = (
        "Samples in ten groups of equal size, by predicted risk. On the diagonal, what was predicted is what happened. "
        "Bars are 95 % Wilson intervals; the strip below shows where the predicted risks lie."
    )
    events: BoolArray
    risks: FloatArray
    error: Estimate

    def frame(self) -> pd.DataFrame:
        """Return one row per bin: mean_risk, observed, low, high (95 %, Wilson), n, n_events."""
        from scipy.stats import binomtest  # noqa: PLC0415 - slow to import

        rows = []
        for bin_rows in equal_mass_bins(self.risks, BINS):
            n, n_events = len(bin_rows), int(self.events[bin_rows].sum())
            interval = binomtest(n_events, n).proportion_ci(0.95, method="wilson")
            mean_risk = float(self.risks[bin_rows].mean())
            rows.append((mean_risk, n_events / n, float(interval.low), float(interval.high), n, n_events))
        return pd.DataFrame(rows, columns=["mean_risk", "observed", "low", "high", "n", "n_events"])

    def plot(self) -> Figure:
        """Return the reliability diagram, with a histogram of the risks."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        table = self.frame()
        figure = Figure(figsize=(4.3, 5.0), layout="constrained")
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4.6, 1])
        limit = min(1.0, 1.08 * max(table["high"].max(), float(self.risks.max()), 0.1))
        axes.plot([0, limit], [0, limit], color=GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        below, above = table["observed"] - table["low"], table["high"] - table["observed"]
        axes.errorbar(
            table["mean_risk"], table["observed"], [below, above], fmt="o", color=BLUE, markersize=6, linewidth=1.4
        )
        axes.set(xlim=(0, limit), ylim=(0, limit), ylabel="Observed frequency")
        axes.set_title(f"ECE {self.error.text()}", loc="left", fontsize=10, color=INK)
        edges = np.linspace(0, limit, 41)
        strip.hist(self.risks, bins=edges.tolist(), color=BLUE, alpha=0.55)
        strip.set(xlabel="Predicted risk", ylabel="Samples")
        tidy(axes)
        tidy(strip)
        return figure


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Sensitivity against false alarms, over all thresholds.

    Attributes
    ----------
    events : array (n,), bool; both classes
    risks : array (n,), probabilities
    area : Estimate
    """

    title: ClassVar[str] = "ROC curve"
    caption: ClassVar[str] = (
        "How many of those with the event are found, for how many false alarms among those without. "
        "The diagonal is chance."
    )
    events: BoolArray
    risks: FloatArray
    area: Estimate

    def frame(self) -> pd.DataFrame:
        """Return one row per threshold: threshold, false_positive_rate, sensitivity."""
        from sklearn.metrics import roc_curve  # noqa: PLC0415 - slow to import

        false_positive_rate, sensitivity, threshold = roc_curve(self.events, self.risks)
        columns = {"threshold": threshold, "false_positive_rate": false_positive_rate, "sensitivity": sensitivity}
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """Return the ROC curve."""
        table = self.frame()
        figure, axes = _square("False positive rate (1 - specificity)", "Sensitivity")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        axes.plot(table["false_positive_rate"], table["sensitivity"], color=BLUE, linewidth=2)
        axes.set_title(f"AUROC {self.area.text()}", loc="left", fontsize=10, color=INK)
        return figure


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Precision against sensitivity, over all thresholds.

    Attributes
    ----------
    events : array (n,), bool; both classes
    risks : array (n,), probabilities
    area : Estimate
    """

    title: ClassVar[str] = "Precision-recall curve"
    caption: ClassVar[str] = (
        "How many of the alarms are right, for how many of those with the event found. "
        "The dashed line is the prevalence, which is chance."
    )
    events: BoolArray
    risks: FloatArray
    area: Estimate

    def frame(self) -> pd.DataFrame:
        """Return one row per threshold: threshold, sensitivity (recall), precision."""
        from sklearn.metrics import precision_recall_curve  # noqa: PLC0415 - slow to import

        precision, recall, threshold = precision_recall_curve(self.events, self.risks, drop_intermediate=True)
        # The last point of the curve (nobody flagged) belongs to no threshold.
        columns = {"threshold": np.append(threshold, np.inf), "sensitivity": recall, "precision": precision}
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """Return the precision-recall curve."""
        table = self.frame()
        figure, axes = _square("Sensitivity (recall)", "Precision (positive predictive value)")
        axes.axhline(float(self.events.mean()), color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        axes.step(table["sensitivity"], table["precision"], where="post", color=BLUE, linewidth=2)
        axes.set_title(f"AUPRC {self.area.text()}", loc="left", fontsize=10, color=INK)
        return figure


def _square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(4.3, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=xlabel, ylabel=ylabel)
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Leave away what carries no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
