"""Subgroups as figures: each column with its groups, and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from medfusion.evaluation.figures import BLUE, GREY, INK, VERMILION, tidy
from medfusion.evaluation.subgroups_estimates import MIN_EVENTS, MIN_PATIENTS, Group
from medfusion.evaluation.subgroups_gaps import LEVEL, OTHERS, Gap, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class SubgroupFigure:
    """How good the risks are in each group of one column.

    Attributes
    ----------
    column : str
    groups : tuple of Group
    everybody : Group
        The same figures of all samples together.
    """

    caption: ClassVar[str] = (
        f"Each group with 95 % intervals; the dashed line is everybody. A group of fewer than {MIN_PATIENTS} patients, "
        f"or with fewer than {MIN_EVENTS} that a figure rests on, has no number. Observed / expected above 1: risks "
        "are too low for this group. An ECE is larger in a smaller group by noise alone: 'ECE by chance' is what "
        "perfectly calibrated risks would show there."
    )
    column: str
    groups: tuple[Group, ...]
    everybody: Group

    @property
    def title(self) -> str:
        """The heading."""
        return f"Subgroups: {self.column}"

    @property
    def table(self) -> pd.DataFrame:
        """One row per group, in numbers.

        group, n, n_patients, n_events, and for each figure its value, ``*_low``, ``*_high`` and ``*_note``; then
        ece_chance. NaN where there are too few.
        """
        rows = []
        for group in (self.everybody, *self.groups):
            row: dict[str, object] = {"group": group.name, "n": group.n, "n_patients": group.n_patients}
            row["n_events"] = group.n_events
            for name, found in group.estimates.items():
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
                row[f"{name}_note"] = found.note
            rows.append(row | {"ece_chance": group.ece_chance})
        table = pd.DataFrame(rows)
        numbers = [name for name in table.columns[4:] if not name.endswith("_note")]
        return table.astype(dict.fromkeys(numbers, float))

    def frame(self) -> pd.DataFrame:
        """Return one row per group, each figure as text with its interval; `table` has the numbers."""
        rows = []
        for group in (self.everybody, *self.groups):
            row: dict[str, object] = {"group": group.name, "n": group.n, "patients": group.n_patients}
            row |= {"events": group.n_events}
            row |= {label(name): found.text() for name, found in group.estimates.items()}
            rows.append(row | {"ECE by chance": "" if group.ece_chance is None else f"{group.ece_chance:.3f}"})
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Return AUROC, observed / expected and the false-negative rate of each group, with intervals."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        missed = [name for name in self.everybody.estimates if name.startswith("fnr")]
        shown = ["auroc", "observed_expected", *missed[:1]]
        figure = Figure(figsize=(10.0, 1.3 + 0.36 * len(self.groups)), layout="constrained")
        places = range(len(self.groups) - 1, -1, -1)
        all_axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, name in zip(all_axes, shown, strict=True):
            self._draw(axes, name, places)
        names = [f"{group.name}  (n = {group.n:,}, {group.n_events:,} events)" for group in self.groups]
        all_axes[0].set_yticks(places, names)
        all_axes[0].set_ylim(-0.6, len(self.groups) - 0.4)
        return figure

    def _draw(self, axes: Axes, name: str, places: Sequence[int]) -> None:
        overall = self.everybody.estimates[name].value
        if overall is not None:
            axes.axvline(overall, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        for group, place in zip(self.groups, places, strict=True):
            found = group.estimates[name]
            if found.value is None:
                across = axes.get_yaxis_transform()
                axes.text(0.5, place, "too few", transform=across, va="center", ha="center", fontsize=8, color=GREY)
                continue
            if found.low is not None and found.high is not None:
                axes.hlines(place, found.low, found.high, color=BLUE, linewidth=1.6)
            axes.plot(found.value, place, "o", color=BLUE, markersize=6)
        axes.set_xlabel(label(name))
        tidy(axes)
        axes.grid(visible=False, axis="y")


@dataclass(frozen=True, slots=True)
class GapFigure:
    """The gaps between groups of all columns.

    Attributes
    ----------
    gaps : tuple of Gap
        At least one.
    """

    title: ClassVar[str] = "Gaps between groups"
    caption: ClassVar[str] = (
        "For each column and figure, the groups with the highest and the lowest value; then each group against "
        "all others. The p values of all comparisons with all others are adjusted together, by Holm's method; below "
        f"{LEVEL:g} a gap survives, and a largest difference does where one of its groups does. A largest difference "
        "was chosen because it is the largest: expect less of it in new patients."
    )
    gaps: tuple[Gap, ...]

    def frame(self) -> pd.DataFrame:
        """Return one row per gap: column, figure, group, other, value, other_value, difference, low, high, p, ..."""
        columns = {
            "column": [gap.column for gap in self.gaps],
            "figure": [label(gap.figure) for gap in self.gaps],
            "group": [gap.group for gap in self.gaps],
            "other": [gap.other for gap in self.gaps],
            "value": [gap.value for gap in self.gaps],
            "other_value": [gap.other_value for gap in self.gaps],
            "difference": [gap.difference.value for gap in self.gaps],
            "low": [gap.difference.low for gap in self.gaps],
            "high": [gap.difference.high for gap in self.gaps],
            "p": [gap.p for gap in self.gaps],
            "p_adjusted": [gap.p_adjusted for gap in self.gaps],
            "survives": [gap.survives for gap in self.gaps],
        }
        return pd.DataFrame(columns).astype(dict.fromkeys(["difference", "low", "high", "p", "p_adjusted"], float))

    def plot(self) -> Figure:
        """Return how surely the groups of each column differ, for each figure that is tested."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        tested = [gap for gap in self.gaps if gap.p_adjusted is not None and gap.other != OTHERS][::-1]
        figure = Figure(figsize=(10.0, 1.2 + 0.3 * len(tested)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(LEVEL, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        for place, gap in enumerate(tested):
            color = VERMILION if gap.survives else BLUE
            axes.plot(max(gap.p_adjusted or 0.0, 1e-6), place, "o", color=color, markersize=6)
        names = [f"{gap.column}: {label(gap.figure)}" for gap in tested]
        axes.set_yticks(range(len(tested)), names)
        axes.set(xscale="log", xlim=(5e-7, 2.0), ylim=(-0.6, max(len(tested), 1) - 0.4), xlabel="Adjusted p")
        tidy(axes)
        axes.tick_params(axis="y", colors=INK, labelsize=8)
        return figure
