"""Figures of a comparison with the training. Each yields its table (``frame()``) and its picture (``plot()``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion.evaluation.drift_changes import NewRows
from medfusion.evaluation.drift_fingerprint import Fingerprint
from medfusion.evaluation.drift_kernel import Shift
from medfusion.evaluation.drift_psi import MOVED, MUCH, READINGS
from medfusion.evaluation.figures import BLUE, GREY, INK, VERMILION, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED, _SHOWN = 8, 60
_LEAST_SIZE, _LEAST_PART = 1e-3, 1e-5
"""What is smaller is drawn there: the axes are logarithmic."""


@dataclass(frozen=True, slots=True)
class MovedAndMatters:
    """What moved, against how much the model leans on it.

    Attributes
    ----------
    changes : DataFrame
        Of `medfusion.evaluation.drift_changes.compare`.
    """

    title: ClassVar[str] = "What moved, and what of it matters"
    caption: ClassVar[str] = (
        "One point per feature and comparison, and per modality that is there or not. Right of the lines, a PSI of 0.1 "
        "and 0.25, it moved, and much; vermilion is beyond chance. The model leans most on what is high up."
    )
    changes: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return the 60 comparisons that moved most, or matter most among what did not."""
        return self.changes.head(_SHOWN)

    def plot(self) -> Figure:
        """Return size against leaning; what moved and matters is named."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        shown = self.changes[self.changes["leaning"].notna() & self.changes["size"].notna()]
        shown = shown[shown["what"] != "all"]
        beyond = shown["reading"] != READINGS[0]
        figure = Figure(figsize=(10.0, 4.6), layout="constrained")
        axes = figure.subplots()
        for limit in (MOVED, MUCH):
            axes.axvline(limit, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        sizes, parts = shown["size"].clip(lower=_LEAST_SIZE), 100.0 * shown["leaning"].clip(lower=_LEAST_PART)
        axes.plot(sizes[~beyond], parts[~beyond], "o", color=GREY, markersize=4, alpha=0.5, label="within chance")
        axes.plot(sizes[beyond], parts[beyond], "o", color=VERMILION, markersize=5, label="beyond chance")
        named = shown[shown["reading"].isin(READINGS[2:])].nlargest(_NAMED, "leaning")
        for row in named.to_dict(orient="records"):
            text = f"{row['modality']} {row['feature']} {row['what']}".replace("  ", " ")
            at = max(row["size"], _LEAST_SIZE), 100.0 * max(row["leaning"], _LEAST_PART)
            axes.annotate(text, at, xytext=(5, 3), textcoords="offset points", fontsize=8, color=INK)
        axes.set(
            xscale="log", yscale="log", xlabel="PSI (of a modality as a whole: size of its MMD)", ylabel="Leaning, %"
        )
        axes.legend(frameon=False, fontsize=9)
        tidy(axes)
        return figure


@dataclass(frozen=True, slots=True)
class RiskShift:
    """Risks of new patients, in the bins of the training.

    Attributes
    ----------
    fingerprint : Fingerprint
    rows : NewRows
    """

    title: ClassVar[str] = "Risks"
    caption: ClassVar[str] = (
        "Part of the patients in each tenth of the training by risk: a tenth each without drift. Where outcomes are "
        "known, the table has the rate of the event in each."
    )
    fingerprint: Fingerprint
    rows: NewRows

    def frame(self) -> pd.DataFrame:
        """Return one row per bin: low, high, training, now (parts of the patients), mean_risk, n_outcomes, observed."""
        edges = self.fingerprint.risk_bins.edges[0]
        counts = self.fingerprint.risk_counts[0]
        bins = np.arange(int(np.isfinite(edges).sum()) + 1)
        codes = self.fingerprint.risk_bins.codes(self.rows.risks[:, None])[:, 0]
        new = np.bincount(codes, self.rows.weights, minlength=len(bins))
        known = ~np.isnan(self.rows.events)
        outcomes = np.bincount(codes[known], minlength=len(bins))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(codes, self.rows.risks, minlength=len(bins)) / np.bincount(codes, minlength=len(bins))
            observed = np.bincount(codes[known], self.rows.events[known], minlength=len(bins)) / outcomes
        return pd.DataFrame(
            {
                "low": np.concatenate([[0.0], edges[bins[:-1]]]),
                "high": np.concatenate([edges[bins[:-1]], [1.0]]),
                "training": counts[bins] / counts.sum(),
                "now": new / new.sum(),
                "mean_risk": mean,
                "n_outcomes": outcomes,
                "observed": observed,
            }
        )

    def plot(self) -> Figure:
        """Return bars of the training beside those of now."""
        table = self.frame()
        figure, axes = _bars([f"{high:.2g}" for high in table["high"]], table["training"], table["now"])
        axes.set(xlabel="Risk up to", ylabel="Part of the patients")
        return figure


@dataclass(frozen=True, slots=True)
class WhoHasWhat:
    """How often each modality is there.

    Attributes
    ----------
    fingerprint : Fingerprint
    rows : NewRows
    """

    title: ClassVar[str] = "Which modalities are there"
    caption: ClassVar[str] = "Part of the patients who have each modality, in the training and now."
    fingerprint: Fingerprint
    rows: NewRows

    def frame(self) -> pd.DataFrame:
        """Return one row per modality: modality, training, now (parts of the patients)."""
        known, total = self.fingerprint.modalities, self.rows.weights.sum()
        here = [float(self.rows.weights[self.rows.blocks[name].present].sum() / total) for name in known]
        there = [each.present / self.fingerprint.patients for each in known.values()]
        return pd.DataFrame({"modality": list(known), "training": there, "now": here})

    def plot(self) -> Figure:
        """Return bars of the training beside those of now."""
        table = self.frame()
        figure, axes = _bars(table["modality"].tolist(), table["training"], table["now"])
        axes.set(ylim=(0, 1.02), ylabel="Part of the patients")
        return figure


@dataclass(frozen=True, slots=True)
class EmbeddingShift:
    """Each modality as a whole: the distance from the training, among those that chance makes.

    Attributes
    ----------
    shifts : mapping from modality to Shift
    changes : DataFrame
        Of `medfusion.evaluation.drift_changes.compare`.
    """

    title: ClassVar[str] = "Modalities as a whole"
    caption: ClassVar[str] = (
        "Maximum mean discrepancy: distance of new patients from the training, all features together (line), and after "
        "exchanging groups of patients between the two at random (bars)."
    )
    shifts: Mapping[str, Shift]
    changes: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return one row per modality: mmd2, size, p, p_adjusted, reading, mean_shift, spread_ratio, patients, bags."""
        told = self.changes[self.changes["what"] == "all"].set_index("modality").to_dict(orient="index")
        rows = [
            {
                "modality": name,
                "mmd2": shift.mmd2,
                "size": shift.size,
                "p": shift.p,
                "p_adjusted": told[name]["p_adjusted"],
                "reading": told[name]["reading"],
                "mean_shift": shift.mean_shift,
                "spread_ratio": shift.spread_ratio,
                "patients": shift.patients,
                "bags": shift.bags,
            }
            for name, shift in self.shifts.items()
        ]
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Return a histogram of permutations per modality, with the distance that was found."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        figure = Figure(figsize=(10.0, 2.6), layout="constrained")
        parts = figure.subplots(1, len(self.shifts), squeeze=False)[0]
        for axes, (name, shift) in zip(parts, self.shifts.items(), strict=True):
            axes.set_title(f"{name}: p = {shift.p:.3f}" if shift.bags else name, loc="left", fontsize=10, color=INK)
            if shift.bags:
                axes.hist(shift.null, bins=40, color=BLUE, alpha=0.55)
                axes.axvline(shift.statistic, color=VERMILION, linewidth=2)
            else:
                axes.text(0.5, 0.5, "too few patients", transform=axes.transAxes, ha="center", fontsize=9, color=GREY)
            axes.set(xlabel="Squared distance", yticks=[])
            axes.locator_params(axis="x", nbins=3)
            tidy(axes)
        return figure


def _bars(names: list[str], training: pd.Series[float], now: pd.Series[float]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(4.3, 4.0), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.bar(rows - 0.2, training, width=0.38, color=GREY, alpha=0.7, label="training")
    axes.bar(rows + 0.2, now, width=0.38, color=BLUE, label="now")
    axes.set_xticks(rows, names, rotation=90 if len(names) > 4 else 0)
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    axes.grid(visible=False, axis="x")
    return figure, axes
