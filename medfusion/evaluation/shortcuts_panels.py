"""Shortcuts as figures: what each column tells by itself, and how good the model is among samples alike in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from medfusion.evaluation.figures import BLUE, GREY, INK, VERMILION, tidy
from medfusion.evaluation.metrics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_DROP = 0.01
"""A model that loses less than this within levels does not lean on the column, however sure the loss is."""


@dataclass(frozen=True, slots=True)
class Level:
    """The model among the samples with one value of a column.

    Attributes
    ----------
    column, name : str
    n, n_events : int
    auroc : Estimate
        Without a value, and with a note, where there are too few.
    """

    column: str
    name: str
    n: int
    n_events: int
    auroc: Estimate


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What a model may owe to one column, or to several together.

    Attributes
    ----------
    name : str
    kind : {"acquisition", "missingness", "subject", "acquisition and subject"}
    n : int
        Samples on which it is judged: those that have a value.
    alone : Estimate
        AUROC of the column without the model, cross-validated.
    model : Estimate
        AUROC of the model on the same samples.
    share : Estimate
        ``(alone - 0.5) / (model - 0.5)``, not below 0. Not what the model uses, but how much of its ranking could be
        had without medicine; what both know may be medicine all the same.
    within : Estimate
        AUROC of the model over pairs of samples with the same level.
    drop : Estimate
        ``model - within``.
    levels : tuple of Level
    """

    name: str
    kind: str
    n: int
    alone: Estimate
    model: Estimate
    share: Estimate
    within: Estimate
    drop: Estimate
    levels: tuple[Level, ...] = ()

    @property
    def tells(self) -> bool:
        """Whether it tells more of the outcome than chance does, beyond doubt."""
        return self.alone.low is not None and self.alone.low > 0.5

    @property
    def leans(self) -> bool:
        """Whether the model ranks worse, beyond doubt, once samples are alike in it."""
        drop = self.drop
        return drop.value is not None and drop.low is not None and drop.low > 0.0 and drop.value >= LEAST_DROP

    @property
    def verdict(self) -> str:
        """The figures in one line of plain words.

        Examples
        --------
        >>> alone, drop = Estimate(0.69, 0.62, 0.76), Estimate(0.03, 0.01, 0.05)
        >>> Shortcut("view", "acquisition", 90, alone, Estimate(0.87), Estimate(0.51), Estimate(0.84), drop).verdict
        'alone gives AUROC 0.69, and within its levels the model keeps 0.84 of 0.87: part of the result comes with it'
        """
        if self.alone.value is None or self.model.value is None:
            return self.alone.note
        said = f"alone gives AUROC {self.alone.value:.2f}, "
        if self.within.value is None:
            return said + f"and within its levels {self.within.note}"
        said += f"and within its levels the model keeps {self.within.value:.2f} of {self.model.value:.2f}: "
        if self.leans:
            return said + ("part of the result comes with it" if self.tells else "the model leans on it")
        if not self.tells:
            return said + "no shortcut is seen"
        may = (self.drop.value or 0.0) >= LEAST_DROP
        return said + ("part of the result may come with it" if may else "the ranking does not rest on it")


@dataclass(frozen=True, slots=True)
class ShortcutSources:
    """What each column tells by itself, beside the model within its levels.

    Attributes
    ----------
    model : Estimate
        Over all samples.
    shortcuts : tuple of Shortcut
    """

    title: ClassVar[str] = "What could be told without medicine"
    caption: ClassVar[str] = (
        "Orange: AUROC of a small model that sees nothing but this, cross-validated by patient. Blue: AUROC of the "
        "model among samples that are alike in it. The dashed line is the model over all samples. A blue dot well "
        "left of the line means that part of the ranking comes with the column. Bars are 95 % intervals; of twenty "
        "columns that tell nothing, one will seem to. What a column and the model both know may still be medicine: "
        "portable films are taken of the sicker."
    )
    model: Estimate
    shortcuts: tuple[Shortcut, ...]

    def frame(self) -> pd.DataFrame:
        """Return one row per column: kind, name, n, alone, model, share, within and drop with ends, verdict."""
        rows = []
        for each in self.shortcuts:
            row: dict[str, object] = {"kind": each.kind, "name": each.name, "n": each.n}
            for name in ("alone", "model", "share", "within", "drop"):
                found: Estimate = getattr(each, name)
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append({**row, "verdict": each.verdict})
        table = pd.DataFrame(rows)
        return table.astype(dict.fromkeys(table.columns[3:-1], float))

    def plot(self) -> Figure:
        """Return both AUROCs of every column that could be judged."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        shown = [each for each in self.shortcuts if each.alone.value is not None][::-1]
        figure = Figure(figsize=(10.0, 1.2 + 0.36 * max(1, len(shown))), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.5, color=GREY, linewidth=1)
        if self.model.value is not None:
            axes.axvline(self.model.value, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        for row, each in enumerate(shown):
            _bar(axes, each.within, row + 0.12, BLUE)
            _bar(axes, each.alone, row - 0.12, VERMILION)
        axes.set_yticks(range(len(shown)), [_label(each) for each in shown])
        axes.set(ylim=(-0.6, max(1, len(shown)) - 0.4), xlabel="AUROC")
        _finish(axes)
        return figure


@dataclass(frozen=True, slots=True)
class ShortcutLevels:
    """The model within each level of each column.

    Attributes
    ----------
    model : Estimate
        Over all samples.
    levels : tuple of Level
    """

    title: ClassVar[str] = "The model among samples that are alike"
    caption: ClassVar[str] = (
        "AUROC of the model among the samples with one value of a column, with 95 % intervals; the dashed line is all "
        "samples. Levels of too few patients have no number."
    )
    model: Estimate
    levels: tuple[Level, ...]

    def frame(self) -> pd.DataFrame:
        """Return one row per level: column, level, n, n_events, rate, auroc, auroc_low, auroc_high, note."""
        rows = [
            (
                *(each.column, each.name, each.n, each.n_events, each.n_events / each.n),
                *(each.auroc.value, each.auroc.low, each.auroc.high, each.auroc.note),
            )
            for each in self.levels
        ]
        columns = ["column", "level", "n", "n_events", "rate", "auroc", "auroc_low", "auroc_high", "note"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[4:8], float))

    def plot(self) -> Figure:
        """Return the AUROC of every level that has one."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        shown = [each for each in self.levels if each.auroc.value is not None][::-1]
        figure = Figure(figsize=(10.0, 1.2 + 0.3 * max(1, len(shown))), layout="constrained")
        axes = figure.subplots()
        if self.model.value is not None:
            axes.axvline(self.model.value, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        for row, each in enumerate(shown):
            _bar(axes, each.auroc, row, BLUE)
        names = [f"{each.column} = {each.name}  (n = {each.n:,}, {each.n_events:,} events)" for each in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set(ylim=(-0.6, max(1, len(shown)) - 0.4), xlabel="AUROC")
        _finish(axes)
        return figure


def _label(each: Shortcut) -> str:
    return f"{each.kind}: {each.name}" if each.name.startswith(("all", "which")) else each.name


def _bar(axes: Axes, found: Estimate, place: float, color: str) -> None:
    if found.value is None:
        return
    if found.low is not None and found.high is not None:
        axes.hlines(place, found.low, found.high, color=color, linewidth=1.6)
    axes.plot(found.value, place, "o", color=color, markersize=6)


def _finish(axes: Axes) -> None:
    tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", colors=INK, labelsize=8)
