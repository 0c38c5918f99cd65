"""How good a model is for patients of whom this is known and that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES, draw_auroc, fewest_patients, logit_interval
from medfusion.evaluation.figures import BLUE, GREY, INK, tidy
from medfusion.evaluation.metrics import calibration_error, ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_SAMPLES = 20
"""Below this, a figure of a subgroup is an anecdote and is not given."""
_FIGURES = ["auroc", "auroc_low", "auroc_high", "brier", "ece"]


def by_pattern(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    present: BoolArray,
    names: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compute figures for every pattern of modalities, from all to none.

    Each sample is in exactly one pattern: that of the modalities which are present for it.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
        Resampled for the interval of the AUROC.
    present : array (n, M), bool
    names : sequence of str, length M
    seed, resamples : int

    Returns
    -------
    DataFrame
        ``2**M`` rows: pattern, n, n_events, n_subjects, auroc, auroc_low, auroc_high, brier, ece, note. A figure is
        NaN, and the note says why, below 20 samples and where all have, or none has, the event.

    Examples
    --------
    >>> events, risks = np.array([True, False]), np.array([0.8, 0.3])
    >>> table = by_pattern(events, risks, ["a", "b"], np.array([[True, True], [True, False]]), ["ehr", "notes"])
    >>> table[["pattern", "n", "note"]].to_string(index=False, header=False).splitlines()[0].split(maxsplit=4)
    ['ehr', '+', 'notes', '1', 'too few: 1 of 20 samples']
    """
    ids = np.asarray(subject_ids, dtype=object)
    rows = []
    for size in range(len(names), -1, -1):
        for chosen in combinations(range(len(names)), size):
            here = (present == np.isin(np.arange(len(names)), chosen)).all(axis=1)
            pattern = " + ".join(names[index] for index in chosen) or "none"
            rows.append({"pattern": pattern, **_figures(events[here], risks[here], ids[here], seed, resamples)})
    return pd.DataFrame(rows)


def _figures(
    events: BoolArray, risks: FloatArray, subject_ids: Sequence[str], seed: int, resamples: int
) -> dict[str, object]:
    n, n_events = len(events), int(events.sum())
    counts = {"n": n, "n_events": n_events, "n_subjects": len(set(subject_ids))}
    note = ""
    if n < MIN_SAMPLES:
        note = f"too few: {n} of {MIN_SAMPLES} samples" if n else "no sample"
    elif n_events in {0, n}:
        note = "one class: all have the event" if n_events else "one class: none has the event"
    if note:
        return {**counts, **dict.fromkeys(_FIGURES, np.nan), "note": note}
    points = ranking(events, risks)
    draws, fewest = draw_auroc(events, risks, subject_ids, seed, resamples), fewest_patients(events, subject_ids)
    low, high = logit_interval(draws, float(points["auroc"] or 0.0), fewest) or (np.nan, np.nan)
    values = [points["auroc"], low, high, points["brier"], calibration_error(events, risks)]
    return {**counts, **dict(zip(_FIGURES, values, strict=True)), "note": note}


@dataclass(frozen=True, slots=True)
class PatternFigure:
    """The table of `by_pattern`, with a picture of it.

    Attributes
    ----------
    table : DataFrame
    """

    title: ClassVar[str] = "Which modalities were there"
    caption: ClassVar[str] = (
        "Each sample counts in one row: that of exactly the modalities which it has. "
        "AUROC with its 95 % interval; rows of too few samples, or of one class, have none."
    )
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def plot(self) -> Figure:
        """Return the AUROC of each pattern that occurs, with its interval."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        shown = self.table[self.table["n"] > 0].iloc[::-1].reset_index(drop=True)
        figure = Figure(figsize=(10.0, 1.0 + 0.34 * len(shown)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.5, color=GREY, linewidth=1, linestyle=(0, (5, 4)))
        values, rows = shown["auroc"], np.arange(len(shown))
        axes.hlines(rows, shown["auroc_low"], shown["auroc_high"], color=BLUE, linewidth=1.6)
        axes.plot(values, rows, "o", color=BLUE, markersize=7)
        for row, (n, n_events, note) in enumerate(zip(shown["n"], shown["n_events"], shown["note"], strict=True)):
            said = f"n = {n:,}, {n_events:,} events"
            axes.text(1.02, row, said, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
            if note:
                axes.text(0.51, row, note, va="center", fontsize=9, color=GREY, style="italic")
        lowest = min(0.45, float(shown["auroc_low"].min(skipna=True)) - 0.02) if values.notna().any() else 0.45
        axes.set(xlim=(lowest, 1.0), ylim=(-0.6, len(shown) - 0.4), xlabel="AUROC")
        axes.set_yticks(rows, shown["pattern"])
        tidy(axes)
        axes.grid(visible=False, axis="y")
        return figure
