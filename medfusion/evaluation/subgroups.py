"""Whether a model is as good for some patients as for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medfusion.core.errors import Problem
from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES
from medfusion.evaluation.decision import check_thresholds
from medfusion.evaluation.metrics import (
    Estimate,
    calibration_error,
    chance_calibration_error,
    check_risks,
    recalibration,
)
from medfusion.evaluation.subgroups_columns import Grouping, group_columns
from medfusion.evaluation.subgroups_draws import Figures, GroupFigures, missed_name
from medfusion.evaluation.subgroups_estimates import MIN_EVENTS, MIN_PATIENTS, Group, Members
from medfusion.evaluation.subgroups_figures import EVERYBODY, GapFigure, SubgroupFigure
from medfusion.evaluation.subgroups_gaps import OTHERS, Gap, find_gaps, label

_CHANCE_DRAWS = 200
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Subgroups:
    """How good the risks are for each group of patients, and which gaps between groups are more than chance.

    Attributes
    ----------
    panels : tuple of SubgroupFigure and GapFigure
        One per column, and one of the gaps where there is any.
    gaps : tuple of Gap
    sentences : tuple of str
        The gaps that survive, or that none does; and which groups are too small.
    problems : list of Problem
        Columns that could not be used.
    thresholds : tuple of float
        Those of the false-negative rate.
    intervals : str
        How the intervals were made.
    """

    panels: tuple[SubgroupFigure | GapFigure, ...]
    gaps: tuple[Gap, ...]
    sentences: tuple[str, ...]
    problems: list[Problem]
    thresholds: tuple[float, ...]
    intervals: str

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; None stands where the data cannot tell."""
        columns = {panel.column: _groups(panel) for panel in self.panels if isinstance(panel, SubgroupFigure)}
        gaps = [
            {
                "column": gap.column,
                "figure": gap.figure,
                "group": gap.group,
                "other": gap.other,
                "value": gap.value,
                "other_value": gap.other_value,
                "difference": _values(gap.difference),
                "p": gap.p,
                "p_adjusted": gap.p_adjusted,
                "survives": gap.survives,
            }
            for gap in self.gaps
        ]
        return {
            "thresholds": list(self.thresholds),
            "intervals": self.intervals,
            "too_few": {"patients": MIN_PATIENTS, "patients_with_or_without_event": MIN_EVENTS},
            "columns": columns,
            "gaps": gaps,
            "sentences": list(self.sentences),
            "problems": [problem.line() for problem in self.problems],
        }


def by_subgroup(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    threshold: float | Sequence[float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Subgroups:
    """Compute figures for every group of every column, and compare the groups.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
        Resampled for the intervals.
    columns : mapping from name to sequence of length n
        Text, numbers or None, such as the columns of subjects.csv (see `subgroups_columns.columns_of`). Those whose
        value is missing are a group of their own.
    threshold : float or sequence of float, optional
        Of the false-negative rate; the prevalence, if left out.
    seed, resamples : int

    Raises
    ------
    UsageError
        If a threshold is not within (0, 1).
    ValueError
        If there is no sample, lengths differ, or a risk is not within [0, 1].

    References
    ----------
    .. [1] Weerts, Dudík, Edgar, Jalali, Lutz, Madaio. Fairlearn: assessing and improving fairness of AI systems.
       Journal of Machine Learning Research 24 (2023).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> risks = rng.uniform(0.1, 0.6, 400)
    >>> events, sex = rng.uniform(size=400) < risks, ["F", "M"] * 200
    >>> found = by_subgroup(events, risks, [str(i) for i in range(400)], {"sex": sex}, 0.3, resamples=100)
    >>> found.panels[0].table[["group", "n"]].to_numpy().tolist()
    [['everybody', 400], ['F', 200], ['M', 200]]
    >>> print(found.sentences[0])
    No gap between groups is more than chance (3 were looked at); the intervals show how large one could still be.
    """
    events, risks = np.asarray(events, dtype=bool), np.asarray(risks, dtype=float)
    check_risks(events, risks, subject_ids)
    wrong = {name: len(values) for name, values in columns.items() if len(values) != len(events)}
    if wrong:
        raise ValueError(f"{len(events)} samples do not belong with the values of columns: {wrong}")
    thresholds = _thresholds(threshold, events)
    groupings, problems = group_columns(columns)
    everyone = Grouping("", (EVERYBODY,), np.zeros(len(events), dtype=np.intp))
    groups, others = _groups_and_others([everyone, *groupings], events, risks, subject_ids, thresholds, seed, resamples)
    gaps = find_gaps(groups[1:], others)
    panels: list[SubgroupFigure | GapFigure] = [
        SubgroupFigure(one.column, tuple(group for group in groups if group.column == one.column), groups[0])
        for one in groupings
    ]
    if any(gap.p is not None for gap in gaps):
        panels.append(GapFigure(gaps))
    return Subgroups(
        panels=tuple(panels),
        gaps=gaps,
        sentences=tuple(_sentences(gaps, groups[1:])),
        problems=problems,
        thresholds=tuple(thresholds),
        intervals=f"95 %, by {resamples:,} resamples of the patients (seed {seed})",
    )


def _thresholds(threshold: float | Sequence[float] | None, events: BoolArray) -> list[float]:
    if threshold is None:
        prevalence = float(events.mean())
        return [prevalence] if 0 < prevalence < 1 else []
    chosen = check_thresholds([threshold] if isinstance(threshold, int | float) else threshold)
    return [float(value) for value in chosen]


def _groups_and_others(
    groupings: Sequence[Grouping],
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    thresholds: Sequence[float],
    seed: int,
    resamples: int,
) -> tuple[list[Group], dict[tuple[str, str], Mapping[str, Estimate]]]:
    """Return every group, and the figures of everybody outside each."""
    patients = np.asarray(subject_ids, dtype=object)
    members = np.hstack([one.codes[:, None] == np.arange(len(one.names)) for one in groupings])
    figures = GroupFigures(events, risks, members, thresholds)
    inside, outside = figures.draws(subject_ids, seed, resamples)
    _, outside_points = figures.of(np.ones((1, len(events))))
    points = [row for one in groupings for row in _points(one, events, risks, thresholds)]
    keys = [(one.column, name) for one in groupings for name in one.names]
    groups: list[Group] = []
    others: dict[tuple[str, str], Mapping[str, Estimate]] = {}
    for place, (column, name) in enumerate(keys):
        here = members[:, place]
        group = Members(events[here], risks[here], patients[here])
        groups.append(
            Group(
                column=column,
                name=name,
                n=int(here.sum()),
                n_patients=len(set(patients[here])),
                n_events=int(events[here].sum()),
                estimates=group.estimates(points[place], _of(inside, place)),
                ece_chance=_chance(group, seed),
            )
        )
        rest = Members(events[~here], risks[~here], patients[~here])
        rest_points = {figure: float(outside_points[figure][0, place]) for figure in points[place] if figure != "ece"}
        others[column, name] = rest.estimates(rest_points, _of(outside, place))
    return groups, others


def _points(one: Grouping, events: BoolArray, risks: FloatArray, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Compute the figures of each group of a column, without intervals."""
    from fairlearn.metrics import MetricFrame, false_negative_rate  # noqa: PLC0415 - slow to import

    def missed(happened: BoolArray, risk: FloatArray, threshold: float) -> float:
        return float(false_negative_rate(happened, risk >= threshold, pos_label=True)) if happened.any() else np.nan

    metrics: dict[str, Callable[[BoolArray, FloatArray], float]] = {
        "auroc": _auroc,
        "observed_expected": _observed_expected,
        "intercept": _intercept,
        "ece": calibration_error,
        **{missed_name(value): partial(missed, threshold=value) for value in thresholds},
    }
    if len(one.names) == 1:
        return [{name: metric(events, risks) for name, metric in metrics.items()}]
    names = np.array(one.names, dtype=object)
    frame = MetricFrame(metrics=metrics, y_true=events, y_pred=risks, sensitive_features={one.column: names[one.codes]})
    by_group = frame.by_group.astype(float)
    return [by_group.loc[name].to_dict() for name in one.names]


def _auroc(events: BoolArray, risks: FloatArray) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    return float(roc_auc_score(events, risks)) if 0 < events.sum() < len(events) else np.nan


def _observed_expected(events: BoolArray, risks: FloatArray) -> float:
    expected = float(risks.sum())
    return float(events.sum()) / expected if expected > 0 else np.nan


def _intercept(events: BoolArray, risks: FloatArray) -> float:
    return float(recalibration(events, risks, np.ones((1, len(risks))))[1][0])


def _of(figures: Figures, place: int) -> dict[str, FloatArray]:
    return {name: values[:, place] for name, values in figures.items()}


def _chance(group: Members, seed: int) -> float | None:
    if "all" in group.too_few():
        return None
    return chance_calibration_error(group.risks, seed, draws=_CHANCE_DRAWS).value


def _sentences(gaps: Sequence[Gap], groups: Sequence[Group]) -> list[str]:
    """Tell the gaps that survive, and which groups are too small to judge."""
    if not groups:
        return ["There is no column to divide the patients by."]
    told = [
        f"{label(gap.figure)} differs between the groups of {gap.column}: from {gap.other_value:.3f} ({gap.other}) to "
        f"{gap.value:.3f} ({gap.group}), adjusted p {_p(gap)}."
        for gap in gaps
        if gap.survives and gap.other != OTHERS
    ]
    told += [
        f"{gap.column} = {gap.group}: {label(gap.figure)} is {gap.value:.3f}, and {gap.other_value:.3f} for all others "
        f"(difference {gap.difference.text()}, adjusted p {_p(gap)})."
        for gap in gaps
        if gap.survives and gap.other == OTHERS
    ]
    if not told and (compared := sum(gap.other == OTHERS for gap in gaps)):
        told.append(
            f"No gap between groups is more than chance ({compared} were looked at); the intervals show how large one "
            "could still be."
        )
    few = [f"{group.column} = {group.name} ({group.n_patients})" for group in groups if group.n_patients < MIN_PATIENTS]
    if few:
        more = f" and {len(few) - _MOST_NAMED} more" if len(few) > _MOST_NAMED else ""
        told.append(f"Too few patients for any figure: {', '.join(few[:_MOST_NAMED])}{more}.")
    return told


def _p(gap: Gap) -> str:
    return "< 0.001" if gap.p_adjusted is None or gap.p_adjusted < 0.001 else f"= {gap.p_adjusted:.3f}"


def _groups(panel: SubgroupFigure) -> list[dict[str, Any]]:
    return [
        {
            "group": group.name,
            "n": group.n,
            "n_patients": group.n_patients,
            "n_events": group.n_events,
            **{name: _values(estimate) for name, estimate in group.estimates.items()},
            "ece_chance": group.ece_chance,
        }
        for group in (panel.everybody, *panel.groups)
    ]


def _values(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "note": estimate.note}
