"""What a mitigation, such as recalibration per group, does for each group, and what it costs the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from medfusion.core.errors import DataError, Problem
from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES, difference_interval
from medfusion.evaluation.decision import check_thresholds
from medfusion.evaluation.figures import BLUE, GREY, VERMILION, tidy
from medfusion.evaluation.metrics import check_risks
from medfusion.evaluation.subgroups_columns import group
from medfusion.evaluation.subgroups_draws import Figures, GroupFigures, benefit_name, missed_name
from medfusion.evaluation.subgroups_estimates import Members
from medfusion.evaluation.subgroups_figures import EVERYBODY
from medfusion.evaluation.subgroups_gaps import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NO_CHANGE = "no clear change"
_HIGHER_IS_BETTER = ("auroc", "net_benefit")
_NOTHING = 1e-12
_EMPTY: dict[str, Any] = dict.fromkeys(["before", "after", "change", "low", "high"], np.nan) | {
    "verdict": "",
    "note": "",
}


@dataclass(frozen=True, slots=True)
class Mitigation:
    """The figures of each group before and after a change of its risks.

    Attributes
    ----------
    table : DataFrame
        One row per group and figure: who, n, n_events, figure, before, after, change, low, high, verdict, note.
        ``who`` is everybody, each group, and everybody outside each group. The interval (95 %, by resampling patients)
        is that of the paired change; the verdict is better, worse or no clear change. NaN, with a note, where there
        are too few.
    """

    title: ClassVar[str] = "Before and after"
    caption: ClassVar[str] = (
        "Each figure before and after, and its change with the 95 % interval of paired resamples of the patients. "
        "Better and worse are said where the interval leaves no doubt; of observed / expected, nearer to 1 is better."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return one row for each of whom it is told, with all figures as text; `table` has the numbers."""
        rows = []
        for who, part in self.table.groupby("who", sort=False):
            texts = {label(str(row.figure)): _text(row) for row in part.itertuples(index=False)}
            rows.append({"who": who, "n": part["n"].iloc[0], "events": part["n_events"].iloc[0], **texts})
        return pd.DataFrame(rows)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What clearly changed, for whom, and for whom nothing did."""
        told, unchanged = [], []
        for who, part in self.table.groupby("who", sort=False):
            clear = part[part["verdict"].isin(["better", "worse"])]
            changes = [
                f"{label(str(row.figure))} {row.before:.3f} to {row.after:.3f} ({row.verdict})"
                for row in clear.itertuples(index=False)
            ]
            if changes:
                told.append(f"{who}: {', '.join(changes)}.")
            elif (part["verdict"] == _NO_CHANGE).any():
                unchanged.append(str(who))
        if unchanged:
            told.append(f"No clear change for: {', '.join(unchanged)}.")
        return tuple(told)

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the rows as JSON values; None stands where the data cannot tell."""
        records = self.table.astype(object).where(self.table.notna(), None).to_dict(orient="records")
        return [{str(key): value for key, value in record.items()} for record in records]

    def plot(self) -> Figure:
        """Return observed / expected and the false-negative rate of each group, before and after."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        whos = [who for who in self.table["who"].unique() if not who.startswith("outside ")]
        missed = next(name for name in self.table["figure"] if name.startswith("fnr"))
        figure = Figure(figsize=(10.0, 1.5 + 0.36 * len(whos)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        self._draw(left, "observed_expected", whos)
        self._draw(right, missed, whos)
        left.axvline(1.0, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        left.set_yticks(range(len(whos)), whos)
        left.set_ylim(len(whos) - 0.4, -0.6)
        right.legend(["before", "after"], frameon=False, fontsize=9)
        return figure

    def _draw(self, axes: Axes, name: str, whos: Sequence[str]) -> None:
        rows = self.table[self.table["figure"] == name].set_index("who").loc[list(whos)]
        places = np.arange(len(whos))
        axes.plot(rows["before"], places, "o", color=VERMILION, markersize=6, markerfacecolor="none")
        axes.plot(rows["after"], places, "o", color=BLUE, markersize=6)
        axes.hlines(places, rows["before"], rows["after"], color=GREY, linewidth=1.2, zorder=1)
        axes.set_xlabel(label(name))
        tidy(axes)
        axes.grid(visible=False, axis="y")


def mitigation_table(
    events: BoolArray,
    before: FloatArray,
    after: FloatArray,
    subject_ids: Sequence[str],
    groups: Sequence[Any],
    threshold: float,
    column: str = "group",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Mitigation:
    """Compare the risks of the same samples before and after a mitigation, for each group and all others.

    Parameters
    ----------
    events : array (n,), bool
    before, after : arrays (n,), probabilities
        Both by members or maps that have not seen the sample, or ``after`` looks better than it is.
    subject_ids : sequence of str, length n
    groups : sequence of length n
        Text, numbers or None, divided as by `subgroups_columns.group`.
    threshold : float
        Of the false-negative rate and the net benefit.
    column : str
        What the groups are of; ages are cut by years if it is ``age_years``.
    seed, resamples : int

    Raises
    ------
    UsageError
        If the threshold is not within (0, 1).
    DataError
        If the groups are one, or too many.
    ValueError
        If there is no sample, lengths differ, or a risk is not within [0, 1].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> risks, sex = rng.uniform(0.2, 0.5, 1000), np.array(["F", "M"] * 500)
    >>> events = rng.uniform(size=1000) < risks
    >>> too_low = np.where(sex == "F", risks / 2, risks)
    >>> found = mitigation_table(events, too_low, risks, [str(i) for i in range(1000)], sex, 0.3, resamples=100)
    >>> table = found.table.set_index(["who", "figure"])["verdict"]
    >>> table["F", "observed_expected"], table["M", "observed_expected"]
    ('better', 'no clear change')
    """
    events = np.asarray(events, dtype=bool)
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    thresholds = check_thresholds([threshold]).tolist()
    check_risks(events, before, subject_ids)
    check_risks(events, after, subject_ids)
    grouping = group(column, list(groups))
    if isinstance(grouping, Problem):
        raise DataError([grouping])
    inside = grouping.codes[:, None] == np.arange(len(grouping.names))
    members = np.hstack([np.ones((len(events), 1), dtype=bool), inside])
    whos = [EVERYBODY, *grouping.names]
    if len(grouping.names) > 2:  # Of two groups, either is everybody outside the other.
        members, whos = np.hstack([members, ~inside]), [*whos, *(f"outside {name}" for name in grouping.names)]
    once = np.ones((1, len(events)))
    sides = [GroupFigures(events, risks, members, thresholds) for risks in (before, after)]
    points = [side.of(once)[0] for side in sides]
    draws = [side.draws(subject_ids, seed, resamples)[0] for side in sides]
    names = ["observed_expected", "ece", missed_name(threshold), "auroc", "brier", benefit_name(threshold)]
    patients = np.asarray(subject_ids, dtype=object)
    rows = []
    for place, who in enumerate(whos):
        here = members[:, place]
        few = Members(events[here], before[here], patients[here]).too_few()
        counts = {"who": who, "n": int(here.sum()), "n_events": int(events[here].sum())}
        for name in names:
            reason = few.get("all") or few.get(name.partition("_at_")[0], "")
            found = (
                {"note": reason} if reason else _change(name, _column(points, name, place), _column(draws, name, place))
            )
            rows.append({**counts, "figure": name, **_EMPTY, **found})
    return Mitigation(pd.DataFrame(rows))


def _column(sides: Sequence[Figures], name: str, place: int) -> tuple[FloatArray, FloatArray]:
    before, after = (side[name][:, place] for side in sides)
    return before, after


def _change(
    name: str, points: tuple[FloatArray, FloatArray], draws: tuple[FloatArray, FloatArray]
) -> dict[str, float | str]:
    """Return a figure before and after, its change with an interval, and whether that is for the better."""
    before, after = (float(side[0]) for side in points)
    low, high = difference_interval(draws[1] - draws[0], after - before) or (np.nan, np.nan)
    (worse,) = _badness(name, points[1]) - _badness(name, points[0])
    interval = difference_interval(_badness(name, draws[1]) - _badness(name, draws[0]), float(worse))
    verdict = _NO_CHANGE
    if abs(worse) > _NOTHING and interval is not None and not interval[0] <= 0 <= interval[1]:
        verdict = "worse" if worse > 0 else "better"
    return {"before": before, "after": after, "change": after - before, "low": low, "high": high, "verdict": verdict}


def _badness(name: str, values: FloatArray) -> FloatArray:
    """Turn a figure into one of which less is better."""
    if name == "observed_expected":
        with np.errstate(divide="ignore"):
            return np.where(values > 0, np.abs(np.log(values)), np.nan)
    return -values if name.startswith(_HIGHER_IS_BETTER) else values


def _text(row: Any) -> str:
    if row.note:
        return str(row.note)
    if abs(row.change) < _NOTHING:
        return f"{row.before:.3f} (unchanged)"
    change = f"{row.change:+.3f}" if np.isnan(row.low) else f"{row.change:+.3f}, {row.low:+.3f} to {row.high:+.3f}"
    return f"{row.before:.3f} to {row.after:.3f} ({change}; {row.verdict})"
