"""Figures of a comparison. Each is a small value that yields its table (``frame()``) and its picture (``plot()``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion.core.types import FloatArray
from medfusion.evaluation.comparison_tables import EVERY, figure_label
from medfusion.evaluation.figures import BLUE, GREY, INK, VERMILION, tidy
from medfusion.evaluation.metrics import Estimate
from medfusion.evaluation.recommend import p_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OTHERS = (VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK, "#8c6d31", "#7b3294", "#80b918", GREY)
_WIDTH = 10.0


@dataclass(frozen=True, slots=True)
class ContenderFigure:
    """All contenders: how good they are, and what they take.

    Attributes
    ----------
    table : DataFrame
        As `comparison_tables.contender_table` makes it, simplest first.
    recommended : str
    """

    title: ClassVar[str] = "Contenders"
    caption: ClassVar[str] = (
        "AUROC with its 95 % interval by resampling patients, simplest contender first; the recommended one is blue, "
        "and the dashed line is its AUROC. Intervals that overlap do not mean that two are alike: the differences "
        "below are those on the same patients."
    )
    table: pd.DataFrame
    recommended: str

    def frame(self) -> pd.DataFrame:
        """Return one row per contender, each figure as text with its interval; `table` has the numbers."""
        shown = self.table[["contender", "modalities"]].copy()
        for figure in [str(name) for name in self.table if f"{name}_low" in self.table]:
            shown[figure_label(figure)] = _texts(self.table, figure)
        for column, label in {"fit_s": "train s", "score_ms": "score ms", "size_mb": "MB"}.items():
            shown[label] = ["" if np.isnan(value) else f"{value:,.3g}" for value in self.table[column]]
        return shown

    def plot(self) -> Figure:
        """Return the AUROC of each contender, with its interval."""
        table = self.table.set_index("contender").iloc[::-1]
        figure, axes = _forest(
            list(table.index),
            table[["auroc", "auroc_low", "auroc_high"]].to_numpy(),
            _texts(table.reset_index(), "auroc"),
            [BLUE if name == self.recommended else INK for name in table.index],
        )
        axes.axvline(float(table["auroc"].loc[self.recommended]), color=BLUE, linewidth=1, linestyle=(0, (5, 4)))
        axes.set(xlabel="AUROC")
        return figure


@dataclass(frozen=True, slots=True)
class DifferenceFigure:
    """Each contender less the recommended one.

    Attributes
    ----------
    table : DataFrame
        As `comparison_tables.difference_table` makes it.
    """

    title: ClassVar[str] = "Differences to the recommended contender"
    caption: ClassVar[str] = (
        "AUROC of each contender less that of the recommended one, on the same patients, with the 95 % interval of the "
        "paired bootstrap by patient and the p of DeLong's test for clustered samples. To the left of 0, the contender "
        "is worse. The best was picked on these same patients, which flatters it a little, and the p are not "
        "corrected for their number."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return one row per contender, each difference as text with its interval; `table` has the numbers."""
        texts = self.table[["contender", "figure"]].assign(text=_texts(self.table, "difference", "low", "high"))
        shown = texts.pivot_table(index="contender", columns="figure", values="text", aggfunc="first", sort=False)
        areas = self.table[self.table["figure"] == "auroc"].set_index("contender")
        shown.insert(1, "p", [p_text(p).removeprefix("p ").removeprefix("= ") for p in areas.loc[shown.index, "p"]])
        return (
            shown.rename(columns={"p": "p (DeLong)"})
            .rename(columns=figure_label)
            .rename_axis(columns=None)
            .reset_index()
        )

    def plot(self) -> Figure:
        """Return the differences of the AUROC, with their intervals."""
        rows = self.table[self.table["figure"] == "auroc"].iloc[::-1]
        texts = _texts(rows, "difference", "low", "high")
        said = [f"{text}  {p_text(p)}" for text, p in zip(texts, rows["p"], strict=True)]
        values = rows[["difference", "low", "high"]].to_numpy()
        colors = [INK if row[1] <= 0 <= row[2] else VERMILION if row[0] < 0 else BLUE for row in values]
        figure, axes = _forest(rows["contender"].tolist(), values, said, colors)
        axes.axvline(0.0, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        axes.set(xlabel="Difference in AUROC")
        return figure


@dataclass(frozen=True, slots=True)
class PatternComparison:
    """Contenders by what is known of a patient.

    Attributes
    ----------
    table : DataFrame
        As `comparison_tables.pattern_table` makes it.
    """

    title: ClassVar[str] = "Which modalities were there"
    caption: ClassVar[str] = (
        "AUROC of each contender where exactly these modalities were present. Too few samples (below 20), a single "
        "class, and contenders that rest on none of these modalities have no number; the table says which it is, and "
        "has the intervals, Brier score and ECE."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return one row per pattern and figure, and a column per contender; `table` has the numbers."""
        texts = []
        for figure in ("auroc", "brier", "ece"):
            low, high = (f"{figure}_{end}" if figure == "auroc" else None for end in ("low", "high"))
            part = self.table[["pattern", "n", "n_events", "contender"]].assign(figure=figure_label(figure))
            said = _texts(self.table, figure, low, high)
            part["text"] = [text or note for text, note in zip(said, self.table["note"], strict=True)]
            texts.append(part)
        index = ["pattern", "n", "n_events", "figure"]
        shown = pd.concat(texts).pivot_table(
            index=index, columns="contender", values="text", aggfunc="first", sort=False
        )
        patterns = list(dict.fromkeys(self.table["pattern"]))
        shown = shown.rename_axis(columns=None).reset_index()
        return shown.sort_values(
            "pattern", key=lambda column: column.map(patterns.index), kind="stable", ignore_index=True
        )

    def plot(self) -> Figure:
        """Return the AUROC of every contender in every pattern that occurs, as a coloured table."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        there = self.table[self.table["n"] > 0]
        rows, columns = (list(dict.fromkeys(there[name])) for name in ("pattern", "contender"))
        values = there.pivot_table(index="pattern", columns="contender", values="auroc", dropna=False)
        values = values.reindex(index=rows, columns=columns)
        counts = there.drop_duplicates("pattern").set_index("pattern")
        figure = Figure(figsize=(_WIDTH, 1.4 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.pcolormesh(
            np.ma.masked_invalid(values.to_numpy(dtype=float)), cmap="Blues", vmin=0.4, vmax=1.15, edgecolors="white"
        )
        for (row, column), value in np.ndenumerate(values.to_numpy(dtype=float)):
            known = not np.isnan(value)
            text, color = (f"{value:.2f}", "white" if value > 0.85 else INK) if known else ("-", GREY)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9, color=color)
        labels = [f"{row}\n{counts.loc[row, 'n']:,} samples, {counts.loc[row, 'n_events']:,} events" for row in rows]
        axes.set_yticks(np.arange(len(rows)) + 0.5, labels, fontsize=8)
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=9)
        if len(columns) > 6:
            axes.tick_params(axis="x", labelrotation=30)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, colors=INK)
        return figure


@dataclass(frozen=True, slots=True)
class MissingnessFigure:
    """What is lost when modalities are removed at random.

    Attributes
    ----------
    table : DataFrame
        As `comparison_tables.withheld_table` makes it.
    recommended : str
    """

    title: ClassVar[str] = "When modalities are missing"
    caption: ClassVar[str] = (
        "What becomes of the same patients when a share of one modality, or of every modality, is removed at random: "
        "loss of AUROC against nothing removed, and calibration error. The recommended contender is the thick blue "
        "line, with the 95 % interval of its loss (DeLong, paired)."
    )
    table: pd.DataFrame
    recommended: str

    def frame(self) -> pd.DataFrame:
        """Return one row per modality and rate, and a column per contender; `table` has the numbers."""
        losses = _texts(self.table, "loss", "loss_low", "loss_high")
        said = [f"{loss}; ECE {ece:.3f}" for loss, ece in zip(losses, self.table["ece"], strict=True)]
        texts = self.table[["modality", "rate", "contender"]].assign(text=said)
        shown = texts.pivot_table(
            index=["modality", "rate"], columns="contender", values="text", aggfunc="first", sort=False
        )
        shown = shown.rename_axis(columns=None).reset_index()
        return shown.assign(modality=[_modality(name) for name in shown["modality"]])

    def plot(self) -> Figure:
        """Return lines of loss and of calibration error over the rate removed, one column per modality."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        modalities = list(dict.fromkeys(self.table["modality"]))
        contenders = list(dict.fromkeys(self.table["contender"]))
        figure = Figure(figsize=(_WIDTH, 5.4), layout="constrained")
        grid = figure.subplots(2, len(modalities), sharex=True, sharey="row", squeeze=False)
        colors = _colors(contenders, self.recommended)
        for (loss, error), modality in zip(grid.T, modalities, strict=True):
            for name in contenders:
                lines = self.table[(self.table["modality"] == modality) & (self.table["contender"] == name)]
                x, width = 100.0 * lines["rate"], 2.6 if name == self.recommended else 1.2
                loss.plot(x, lines["loss"], "o-", color=colors[name], linewidth=width, markersize=3, label=name)
                error.plot(x, lines["ece"], "o-", color=colors[name], linewidth=width, markersize=3)
                if name == self.recommended:
                    loss.fill_between(x, lines["loss_low"], lines["loss_high"], color=BLUE, alpha=0.15, linewidth=0)
            loss.set_title(_modality(modality), loc="left", fontsize=10, color=INK)
            error.set(xlabel="Removed, %")
            tidy(loss)
            tidy(error)
        grid[0, 0].set(ylabel="Loss of AUROC")
        grid[1, 0].set(ylabel="ECE")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
        return figure


@dataclass(frozen=True, slots=True)
class CostFigure:
    """AUROC against what a contender takes.

    Attributes
    ----------
    table : DataFrame
        As `comparison_tables.contender_table` makes it; contenders of unknown cost are not shown.
    recommended : str
    """

    title: ClassVar[str] = "Cost"
    caption: ClassVar[str] = (
        "AUROC with its 95 % interval, against the seconds that training takes and the milliseconds that scoring a "
        "patient takes, on the machine of the comparison. Up and to the left is better."
    )
    table: pd.DataFrame
    recommended: str

    def frame(self) -> pd.DataFrame:
        """Return contender, auroc, fit_s, score_ms and size_mb."""
        return self.table.dropna(subset=["fit_s"])[["contender", "auroc", "fit_s", "score_ms", "size_mb"]]

    def plot(self) -> Figure:
        """Return two scatter plots."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        known = self.table.dropna(subset=["fit_s"]).sort_values("auroc")
        figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
        for axes, column, label in zip(
            figure.subplots(1, 2, sharey=True),
            ("fit_s", "score_ms"),
            ("Training, s", "Scoring a patient, ms"),
            strict=True,
        ):
            colors = [BLUE if name == self.recommended else INK for name in known["contender"]]
            axes.vlines(known[column], known["auroc_low"], known["auroc_high"], color=colors, linewidth=1, alpha=0.4)
            axes.scatter(known[column], known["auroc"], c=colors, s=30, zorder=3)
            axes.set(xscale="log", xlabel=label)
            _name_points(axes, known, column, self.recommended)
            tidy(axes)
        figure.axes[0].set(ylabel="AUROC")
        return figure


def _name_points(axes: Axes, known: pd.DataFrame, column: str, recommended: str) -> None:
    """Write names beside the axes, as far apart as their size asks for, with a line to each point."""
    low, high = axes.get_ylim()
    wanted = ((known["auroc"] - low) / (high - low)).to_numpy()
    gap = min(0.06, 1.0 / max(1, len(wanted)))
    for (_, row), at in zip(known.iterrows(), _spread(wanted, gap), strict=True):
        axes.annotate(
            row["contender"],
            (row[column], row["auroc"]),
            xytext=(1.03, at),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=BLUE if row["contender"] == recommended else INK,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "alpha": 0.6},
        )


def _spread(wanted: FloatArray, gap: float) -> FloatArray:
    """Move ascending positions apart to at least ``gap``, as little upwards as can be, and then back below 1."""
    placed = np.array(wanted, dtype=float)
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], 1.0 - gap * (len(placed) - 1 - index))
    return placed


def _forest(
    names: Sequence[str], values: FloatArray, texts: Sequence[str], colors: Sequence[str]
) -> tuple[Figure, Axes]:
    """Draw rows of a value with its interval, (rows, 3), from the bottom up, and write the numbers to the right."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(_WIDTH, 1.0 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    axes.hlines(rows, values[:, 1], values[:, 2], color=list(colors), linewidth=1.6)
    axes.scatter(values[:, 0], rows, c=list(colors), s=42, zorder=3)
    for row, (text, color) in enumerate(zip(texts, colors, strict=True)):
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=color)
    axes.set(ylim=(-0.6, len(names) - 0.4))
    axes.set_yticks(rows, names)
    tidy(axes)
    axes.grid(visible=False, axis="y")
    return figure, axes


def _colors(names: Sequence[str], recommended: str) -> dict[str, str]:
    others = [name for name in names if name != recommended]
    return {recommended: BLUE, **{name: _OTHERS[index % len(_OTHERS)] for index, name in enumerate(others)}}


def _modality(name: str) -> str:
    return "every modality" if name == EVERY else name


def _texts(table: pd.DataFrame, figure: str, low: str | None = "", high: str | None = "") -> list[str]:
    """Write the figures of a column with their intervals; None for columns that there are none of."""
    columns = [figure, f"{figure}_low" if low == "" else low, f"{figure}_high" if high == "" else high]
    numbers = [table[column] if column else [np.nan] * len(table) for column in columns]
    told = ([None if np.isnan(value) else float(value) for value in row] for row in zip(*numbers, strict=True))
    return [Estimate(value, least, most).text() for value, least, most in told]
