"""Contenders compared on the same patients: tables, figures, and which of them to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medfusion.core.errors import DataError, Problem
from medfusion.core.types import BoolArray
from medfusion.evaluation.bootstrap import RESAMPLES
from medfusion.evaluation.comparison_panels import (
    ContenderFigure,
    CostFigure,
    DifferenceFigure,
    MissingnessFigure,
    PatternComparison,
)
from medfusion.evaluation.comparison_tables import (
    EVERY,
    Risks,
    all_estimates,
    contender_table,
    difference_table,
    figure_label,
    pattern_table,
    withheld_table,
)
from medfusion.evaluation.decision import check_thresholds
from medfusion.evaluation.metrics import Estimate, check_risks
from medfusion.evaluation.paired import AurocDifference, pair
from medfusion.evaluation.recommend import (
    Cost,
    Expected,
    Order,
    Recommendation,
    contender_name,
    difference_text,
    order_levels,
    p_text,
    recommend,
)

Panel = ContenderFigure | DifferenceFigure | PatternComparison | MissingnessFigure | CostFigure
_MEANINGS = {
    "auroc": "How often somebody with the event has the higher risk; 0.5 is chance, 1 perfect",
    "auprc": "Precision, averaged over sensitivities; chance is the prevalence, 1 perfect",
    "brier": "Mean squared error of the risks; 0 is perfect",
    "ece": "Mean gap between predicted and observed, in ten groups of equal size; 0 is perfect",
    "ece_debiased": "ECE less what the noise within groups explains",
    "ece_chance": "What a perfectly calibrated model with these risks would show",
}
_BENEFIT = "Events found per patient, less false alarms at the exchange rate that the threshold implies"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known about contenders on the same patients.

    Attributes
    ----------
    n, n_events, n_subjects : int
    thresholds : tuple of float
        At which net benefit was computed.
    modalities_of : mapping from contender to sequence of str
    expect_missing : float
        Share of each modality that was taken away at random before anything but ``patterns`` and ``withheld`` was
        computed, because that much is expected to be missing where the model is used; 0 for the records as they are.
    recommendation : Recommendation
        ``recommendation.verdict`` belongs first in a report, ``recommendation.sentences`` after it.
    fusion_gain : AurocDifference or None
        The best fusion less the best single modality; None where there are not both.
    estimates : mapping from contender to (mapping from figure to Estimate)
        Simplest first; auroc, auprc, brier, ece, ece_debiased, ece_chance, net_benefit_at_*.
    contenders, differences, patterns, withheld : DataFrame
        Numbers, one row each; see the functions of `comparison_tables`. ``withheld`` is empty where nothing was.
    panels : tuple of Panel
        Figures for a report.
    intervals : str
        How the intervals were made.
    """

    n: int
    n_events: int
    n_subjects: int
    thresholds: tuple[float, ...]
    modalities_of: Mapping[str, Sequence[str]]
    expect_missing: float
    recommendation: Recommendation
    fusion_gain: AurocDifference | None
    estimates: Mapping[str, Mapping[str, Estimate]]
    contenders: pd.DataFrame
    differences: pd.DataFrame
    patterns: pd.DataFrame
    withheld: pd.DataFrame
    panels: tuple[Panel, ...]
    intervals: str

    def frame(self) -> pd.DataFrame:
        """Return the headline of a report: label, value, low, high, meaning, note.

        AUROC of the recommended contender and of the one that it has to be seen beside, what fusion gains, ECE; then
        the other figures of the recommended one.
        """
        found = self.recommendation
        beside = found.single if found.name != found.single else found.fused
        rows = [
            (
                f"{figure_label('auroc')}, {contender_name(name, self.modalities_of)}",
                self.estimates[name]["auroc"],
                meaning,
            )
            for name, meaning in ((found.name, f"Recommended. {_MEANINGS['auroc']}"), (beside, _beside(found)))
            if name is not None
        ]
        if self.fusion_gain is not None:
            gain = self.fusion_gain
            said = ", ".join(
                part for part in (f"AUROC of {found.fused} less that of {found.single}", p_text(gain.p)) if part
            )
            rows.append(
                ("Fusion less single", Estimate(gain.value, gain.low, gain.high), f"{said}; above 0, fusion is better")
            )
        of_name = self.estimates[found.name]
        order = ["ece", *(figure for figure in of_name if figure not in {"auroc", "ece"})]
        rows += [(f"{figure_label(figure)}", of_name[figure], _MEANINGS.get(figure, _BENEFIT)) for figure in order]
        told = [(label, value.value, value.low, value.high, meaning, value.note) for label, value, meaning in rows]
        table = pd.DataFrame(told, columns=["label", "value", "low", "high", "meaning", "note"])
        return table.astype({"value": float, "low": float, "high": float})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; None stands where the data cannot tell."""
        found = self.recommendation
        costs = self.contenders.set_index("contender")[["fit_s", "score_ms", "size_mb"]]
        contenders = {
            name: {
                "modalities": list(self.modalities_of[name]),
                **{figure: _told(value) for figure, value in figures.items()},
                "cost": {str(part): _json(value) for part, value in costs.loc[name].items()},
            }
            for name, figures in self.estimates.items()
        }
        gain = self.fusion_gain
        return {
            "n": self.n,
            "n_events": self.n_events,
            "n_subjects": self.n_subjects,
            "thresholds": list(self.thresholds),
            "expect_missing": self.expect_missing,
            "intervals": self.intervals,
            "recommendation": {
                "name": found.name,
                "best": found.best,
                "best_single": found.single,
                "best_fusion": found.fused,
                "verdict": found.verdict,
                "reason": found.reason,
            },
            "fusion_gain": None
            if gain is None
            else {
                "difference": gain.value,
                "low": gain.low,
                "high": gain.high,
                "standard_error": _json(gain.standard_error),
                "p": _json(gain.p),
                "text": difference_text(gain),
            },
            "contenders": contenders,
            "differences": _records(self.differences),
            "patterns": _records(self.patterns),
            "withheld": _records(self.withheld),
        }


def compare_contenders(
    events: BoolArray,
    risks: Risks,
    subject_ids: Sequence[str],
    present: BoolArray,
    names: Sequence[str],
    *,
    modalities_of: Mapping[str, Sequence[str]],
    order: Order,
    costs: Mapping[str, Cost],
    withheld: Mapping[tuple[str, float], Risks],
    thresholds: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
    expect_missing: float = 0.0,
) -> Comparison:
    """Compare contenders by their risks of the same samples, none of which a contender was trained on.

    Parameters
    ----------
    events : array (n,), bool
    risks : mapping from contender to array (n,), probabilities
    subject_ids : sequence of str, length n
    present : array (n, M), bool
    names : sequence of str, length M
        Modalities.
    modalities_of : mapping from contender to sequence of str
        What each rests on, of ``names``.
    order : sequence of str, or of sequences of str
        Contenders from simple to complex; those within an inner sequence are as simple as each other.
    costs : mapping from contender to Cost
        May lack contenders.
    withheld : mapping from (modality, rate) to (mapping from contender to array (n,))
        Risks of the same samples when that share of one modality, or of every modality (`EVERY`), was removed at
        random. May be empty, and may lack contenders.
    thresholds : sequence of float
        At which net benefit is computed.
    seed : int
        Of the resampling and of the simulated chance level.
    resamples : int
    expect_missing : float
        Share of each modality that is expected to be missing where the model is used. If it is not 0, contenders are
        judged, and one is recommended, by the risks of all of them in ``withheld`` for `EVERY` modality at that rate.

    Raises
    ------
    UsageError
        If there is no threshold, or one is not within (0, 1).
    DataError
        If all samples, or none, have the event.
    ValueError
        If lengths disagree, a risk is not within [0, 1], a contender or modality is not known, or ``withheld`` lacks
        what is expected.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signals = rng.normal(size=(2, 400))
    >>> events = rng.uniform(size=400) < 1 / (1 + np.exp(-signals.sum(axis=0)))
    >>> risks = {"ehr": signals[0], "notes": signals[1], "late": signals.sum(axis=0)}
    >>> comparison = compare_contenders(
    ...     events,
    ...     {name: 1 / (1 + np.exp(-logit)) for name, logit in risks.items()},
    ...     [str(i) for i in range(400)],
    ...     np.ones((400, 2), bool),
    ...     ["ehr", "notes"],
    ...     modalities_of={"ehr": ["ehr"], "notes": ["notes"], "late": ["ehr", "notes"]},
    ...     order=[("ehr", "notes"), "late"],
    ...     costs={},
    ...     withheld={},
    ...     thresholds=[0.3],
    ...     seed=0,
    ...     resamples=100,
    ... )
    >>> comparison.recommendation.name
    'late'
    >>> comparison.recommendation.verdict[:12]
    'Fusion beats'
    """
    cuts = tuple(dict.fromkeys(check_thresholds(thresholds).tolist()))
    events = np.asarray(events, dtype=bool)
    risks = {name: np.asarray(risk, dtype=float) for name, risk in risks.items()}
    _check(events, risks, subject_ids, present, names, modalities_of, withheld)
    risks = {name: risks[name] for level in order_levels(order, risks, modalities_of) for name in level}
    judged = {name: _judged(risks, withheld, expect_missing)[name] for name in risks}
    paired = pair(events, judged, subject_ids, cuts, seed, resamples)
    areas = {name: points["auroc"] for name, points in paired.points.items()}
    expected = Expected(expect_missing, _areas(events, risks)) if expect_missing else None
    found = recommend(areas, paired.auroc_difference, order, modalities_of, costs, expected)
    estimates = all_estimates(paired, judged, cuts, seed)
    contenders = contender_table(estimates, modalities_of, costs)
    differences = difference_table(paired, found.name, cuts)
    patterns = pattern_table(events, risks, subject_ids, present, names, modalities_of, seed, resamples)
    lost = withheld_table(events, risks, withheld, subject_ids, names)
    panels: list[Panel] = [ContenderFigure(contenders, found.name)]
    if len(risks) > 1:
        panels.append(DifferenceFigure(differences))
    panels.append(PatternComparison(patterns))
    if len(lost):
        panels.append(MissingnessFigure(lost, found.name))
    if set(costs) & set(risks):
        panels.append(CostFigure(contenders, found.name))
    both = found.fused is not None and found.single is not None
    return Comparison(
        n=len(events),
        n_events=int(events.sum()),
        n_subjects=paired.n_subjects,
        thresholds=cuts,
        modalities_of=modalities_of,
        expect_missing=expect_missing,
        recommendation=found,
        fusion_gain=paired.auroc_difference(str(found.fused), str(found.single)) if both else None,
        estimates=estimates,
        contenders=contenders,
        differences=differences,
        patterns=patterns,
        withheld=lost,
        panels=tuple(panels),
        intervals=f"95 %, by {resamples:,} resamples of the patients (seed {seed}), the same for all contenders",
    )


def _judged(risks: Risks, withheld: Mapping[tuple[str, float], Risks], expect_missing: float) -> Risks:
    """Return the risks that contenders are judged by."""
    if not expect_missing:
        return risks
    found = withheld.get((EVERY, expect_missing), {})
    if lacking := sorted(set(risks) - set(found)):
        raise ValueError(f"these contenders have no risks with {expect_missing:g} of each modality removed: {lacking}")
    return found


def _areas(events: BoolArray, risks: Risks) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    return {name: float(roc_auc_score(events, risk)) for name, risk in risks.items()}


def _check(
    events: BoolArray,
    risks: Risks,
    subject_ids: Sequence[str],
    present: BoolArray,
    names: Sequence[str],
    modalities_of: Mapping[str, Sequence[str]],
    withheld: Mapping[tuple[str, float], Risks],
) -> None:
    """Refuse what cannot be compared."""
    for risk in [*risks.values(), *(risk for removed in withheld.values() for risk in removed.values())]:
        check_risks(events, risk, subject_ids)
    if present.shape != (len(events), len(names)):
        raise ValueError(f"present is {present.shape}, expected {(len(events), len(names))}")
    used = {modality for name in risks for modality in modalities_of.get(name, ())}
    removed = {modality for modality, _ in withheld} - {EVERY}
    if unknown := sorted((used | removed) - set(names)):
        raise ValueError(f"these modalities are not known: {unknown}; the cohort has {list(names)}")
    if outside := sorted(rate for _, rate in withheld if not 0 < rate <= 1):
        raise ValueError(f"a rate of removal is {outside[0]:g}, expected above 0 and at most 1")
    if unknown := sorted({name for removed in withheld.values() for name in removed} - set(risks)):
        raise ValueError(f"risks with something removed are of contenders that do not take part: {unknown}")
    if events.all() or not events.any():
        got = f"{len(events)} samples, {'all' if events.all() else 'none'} of them with the event"
        remedy = "compare on a cohort where both occur"
        raise DataError([Problem("one-class", "labels", "", "boolean_value", got, "samples of both outcomes", remedy)])


def _beside(found: Recommendation) -> str:
    return "The best single modality, on the same patients" if found.name != found.single else "The best fusion"


def _told(value: Estimate) -> dict[str, Any]:
    return {"value": value.value, "low": value.low, "high": value.high, "note": value.note}


def _json(value: object) -> object:
    return None if isinstance(value, float) and np.isnan(value) else value


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values; NaN becomes None."""
    return [{str(key): _json(value) for key, value in row.items()} for row in table.to_dict(orient="records")]
