"""Are later patients still like those of the training, and does it matter?

A `Fingerprint` is taken of the training and kept with the model. `drift` holds later data against it: what moved
(values, words, what is missing, which modalities are there, risks, base rate), whether by more than chance, how much,
and how much the model leans on it. Together with outcomes, where some are known already, that becomes a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from medfusion.core.errors import DataError, Problem
from medfusion.core.types import Embedding, FloatArray
from medfusion.evaluation.drift_changes import OF_FEATURES, NewRows, compare, moved_part, never_seen
from medfusion.evaluation.drift_fingerprint import Fingerprint, patient_weights
from medfusion.evaluation.drift_kernel import PERMUTATIONS, Shift
from medfusion.evaluation.drift_outcomes import Outlook, outlook
from medfusion.evaluation.drift_panels import EmbeddingShift, MovedAndMatters, RiskShift, WhoHasWhat
from medfusion.evaluation.drift_psi import READINGS

Verdict = Literal["no sign of drift", "moved, performance probably not hurt", "performance probably hurt"]
NONE: Verdict = "no sign of drift"
MOVED: Verdict = "moved, performance probably not hurt"
HURT: Verdict = "performance probably hurt"
HURT_FROM = 0.2
"""Where no outcomes tell, performance counts as hurt if so much of what the model leans on moved much."""
_NAMED = 5
Panel = MovedAndMatters | WhoHasWhat | RiskShift | EmbeddingShift


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What moved, how much, and whether performance is likely hurt.

    Attributes
    ----------
    verdict : str
        One of three.
    reasons : tuple of str
        Why, most important first.
    n, n_subjects : int
        Of the later data.
    changes : DataFrame
        One row per comparison, as `medfusion.evaluation.drift_changes.compare` describes it.
    shifts : mapping from modality to Shift
        Maximum mean discrepancies.
    outlook : Outlook
        What the risks promise, and what came of it.
    problems : tuple of Problem
        Where the features of model and data do not match.
    panels : tuple of Panel
        Each with ``title``, ``caption``, ``frame()`` and ``plot()``.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    n: int
    n_subjects: int
    changes: pd.DataFrame
    shifts: Mapping[str, Shift]
    outlook: Outlook
    problems: tuple[Problem, ...]
    panels: tuple[Panel, ...]

    def frame(self) -> pd.DataFrame:
        """Return the headline, one row per figure: label, value, low, high, meaning, note."""
        moved = self.changes[self.changes["reading"].isin(READINGS[2:])]
        rows: list[tuple[str, float | None, float | None, float | None, str, str]] = [
            (
                "Moved",
                moved_part(self.changes, READINGS[2:]),
                None,
                None,
                "Part of what the model leans on that moved by more than chance and by a PSI of 0.1; 1 is all of it",
                f"{len(moved)} of {len(self.changes)} comparisons",
            ),
        ]
        for name, (label, meaning) in _LABELS.items():
            estimate = self.outlook.estimates[name]
            rows.append((label, estimate.value, estimate.low, estimate.high, meaning, estimate.note))
        table = pd.DataFrame(rows, columns=["label", "value", "low", "high", "meaning", "note"])
        return table.astype({"value": float, "low": float, "high": float})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; None stands where the data cannot tell."""
        estimates = self.outlook.estimates.items()
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "n": self.n,
            "n_subjects": self.n_subjects,
            "n_outcomes": self.outlook.outcomes,
            "moved_part": moved_part(self.changes, READINGS[2:]),
            "much_moved_part": moved_part(self.changes, READINGS[3:]),
            "problems": [problem.line() for problem in self.problems],
            "performance": {
                name: {"value": each.value, "low": each.low, "high": each.high, "note": each.note}
                for name, each in estimates
            },
            "changes": _records(self.changes),
            "mmd": {
                name: {
                    "mmd2": shift.mmd2,
                    "size": shift.size,
                    "p": _number(shift.p),
                    "patients": shift.patients,
                    "bags": shift.bags,
                    "mean_shift": shift.mean_shift,
                    "spread_ratio": shift.spread_ratio,
                }
                for name, shift in self.shifts.items()
            },
        }


_LABELS = {
    "auroc_change": ("AUROC, change", "Against the training, by the outcomes that are known; below 0 is worse"),
    "observed_expected": ("Observed / expected", "Events that came, over events that the risks promised; 1 is perfect"),
    "expected_change": ("Expected AUROC, change", "What the risks promise before outcomes; holds if still calibrated"),
    "expected_auroc": ("Expected AUROC", "What the AUROC is if the risks are still calibrated, and not else"),
    "auroc": ("AUROC", "By the outcomes that are known"),
    "ece": ("ECE", "Mean gap between predicted and observed; compare it with that by chance"),
    "mean_risk": ("Mean risk", "The base rate that the risks promise"),
}


def drift(
    fingerprint: Fingerprint,
    blocks: Mapping[str, Embedding],
    events: FloatArray | None,
    risks: FloatArray,
    subject_ids: Sequence[str],
    *,
    as_trained: FloatArray | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> DriftReport:
    """Hold later data against the fingerprint of the training.

    Every comparison has a size (PSI, or that of an MMD) and a p-value adjusted for all of them together, so that two
    cohorts of the same kind are told to differ in one case of 20. A size is called moved only if it is beyond chance,
    and large enough to mean something; see `medfusion.evaluation.drift_psi`.

    The verdict follows outcomes where they are many enough. Otherwise performance counts as probably hurt if at least
    20 % of what the model leans on moved much (PSI above 0.25), or the risks have grown so alike that the AUROC to be
    expected of them fell. That is a warning, not a measurement: a population may be other and the model right about it.

    Parameters
    ----------
    fingerprint : Fingerprint
    blocks : mapping from modality to Embedding of n rows
        By the encoder that the fingerprint was taken with.
    events : array (n,), or None
        1, 0, or NaN where the outcome is not known.
    risks : array (n,), probabilities
    subject_ids : sequence of str, length n
        Every patient counts once.
    as_trained : array (n,), optional
        The risks before the model was recalibrated, if it was since the training: how they moved is told by these.
    seed : int
    permutations : int

    Raises
    ------
    ValueError
        If there is no row, lengths differ, a risk is not within [0, 1], or blocks are not those of the fingerprint.
    DataError
        If no row has any of the modalities.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def labs(n, by):
    ...     return {"ehr": Embedding((rng.normal(size=(n, 2)) + by).astype("float32"), np.ones(n, bool), ["Na", "K"])}
    >>> risks, patients = rng.uniform(size=400), [f"P{row}" for row in range(400)]
    >>> fingerprint = Fingerprint.of(labs(400, 0.0), rng.uniform(size=400) < risks, risks, patients)
    >>> drift(fingerprint, labs(100, 0.0), None, risks[::4], patients[::4]).verdict
    'no sign of drift'
    >>> drift(fingerprint, labs(100, 1.0), None, risks[::4], patients[::4]).verdict
    'performance probably hurt'
    """
    _check(fingerprint, blocks, events, risks, subject_ids)
    subjects = np.asarray(subject_ids, dtype=str)
    known = np.full(len(risks), np.nan) if events is None else np.asarray(events, dtype=np.float64)
    stated, raw = (np.asarray(each, dtype=np.float64) for each in (risks, risks if as_trained is None else as_trained))
    rows = NewRows(blocks, subjects, patient_weights(subjects), raw, known)
    changes, shifts = compare(fingerprint, rows, seed, permutations)
    seen = outlook(fingerprint.performance, events, stated, raw, subjects.tolist(), seed)
    verdict, reasons = _judged(changes, seen)
    lost = never_seen(fingerprint, rows).items()
    problems = tuple(_lost(name, names, fingerprint.modalities[name].bins.are_terms) for name, names in lost)
    panels: list[Panel] = [MovedAndMatters(changes), RiskShift(fingerprint, rows), WhoHasWhat(fingerprint, rows)]
    if shifts:
        panels.append(EmbeddingShift(shifts, changes))
    n_subjects = len(np.unique(subjects))
    return DriftReport(verdict, reasons, len(subjects), n_subjects, changes, shifts, seen, problems, tuple(panels))


def _check(
    fingerprint: Fingerprint,
    blocks: Mapping[str, Embedding],
    events: FloatArray | None,
    risks: FloatArray,
    subject_ids: Sequence[str],
) -> None:
    lengths = {len(risks), len(subject_ids), *(len(block) for block in blocks.values())}
    lengths |= set() if events is None else {len(events)}
    if lengths == {0} or len(lengths) > 1:
        raise ValueError(
            f"risks, subjects, events and blocks have {sorted(lengths)} rows; one number above 0 is needed"
        )
    bad = np.flatnonzero(~((risks >= 0) & (risks <= 1)))
    if len(bad):
        raise ValueError(f"{len(bad)} risks are not within [0, 1]; the first is {risks[bad[0]]} at position {bad[0]}")
    for name, known in fingerprint.modalities.items():
        if name not in blocks or blocks[name].values.shape[1] != known.width:
            got = blocks[name].values.shape[1] if name in blocks else "none"
            raise ValueError(f"{name}: {got} features, the fingerprint was taken with {known.width}")
    if not any(blocks[name].present.any() for name in fingerprint.modalities):
        names = ", ".join(fingerprint.modalities)
        remedy = "compare the names of files, codes and columns with those of the training cohort"
        raise DataError([Problem("nothing-in-common", "", "", "modalities", "no row has any", names, remedy)])


def _lost(modality: str, names: Sequence[str], are_terms: bool) -> Problem:
    """Tell which features of the model occur in no new patient; those of one code together."""
    of = list(dict.fromkeys(name if are_terms else name.rsplit(" ", 1)[0] for name in names))
    got = f"{len(names)} of the model's in no patient"
    remedy = f"the model takes them as missing; check how they are coded: {_some(of)}"
    return Problem("features-never-seen", modality, "", "features", got, "as in the training", remedy, "warning")


def _judged(changes: pd.DataFrame, seen: Outlook) -> tuple[Verdict, tuple[str, ...]]:
    moved, much = (moved_part(changes, readings) for readings in (READINGS[2:], READINGS[3:]))
    told = _told(changes)
    outcomes = f"outcomes of {seen.outcomes} samples: " if seen.outcomes else ""
    if seen.hurt:
        return HURT, (f"{outcomes}{seen.hurt}", *told)
    ratio, change = seen.estimates["observed_expected"], seen.estimates["auroc_change"]
    fine = f"{outcomes}AUROC changed by {change.text()}, observed / expected {ratio.text(2)}"
    if not changes["reading"].isin(READINGS[2:]).any():
        return NONE, (*told, *([fine] if seen.reassuring else []))
    if seen.reassuring:
        return MOVED, (fine, *told)
    untold = "too few outcomes to tell" if seen.outcomes else "no outcomes to tell"
    if seen.fading:
        return HURT, (f"{untold}, but {seen.fading}", *told)
    if much >= HURT_FROM:
        return HURT, (f"{untold}, but {much:.0%} of what the model leans on moved much", *told)
    return MOVED, (f"{untold}; of what the model leans on {moved:.0%} moved, {much:.0%} much", *told)


def _told(changes: pd.DataFrame) -> list[str]:
    """Put what moved into words, most first."""
    lines = []
    moved = changes[changes["reading"].isin(READINGS[2:])]
    for (modality, what), rows in moved.groupby(["modality", "what"], sort=False):
        lines.append(_line(str(modality), str(what), rows))
    if not len(moved):
        slight = int((changes["reading"] == READINGS[1]).sum())
        rest = f"; {slight} of them are beyond chance, but slight (PSI below 0.1)" if slight else ""
        lines.append(f"none of {len(changes)} comparisons moved by more than chance and a PSI of 0.1{rest}")
    return lines


def _line(modality: str, what: str, rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    sized = f"{row['reading']} ({'MMD size' if what == 'all' else 'PSI'} {row['size']:.2f})"
    if what in OF_FEATURES:
        kind = {"values": "values", "used": "use", "missing": "missingness"}[what]
        of = f"{len(rows)} feature" + "s" * (len(rows) > 1)
        return f"{modality}: {kind} of {of} moved ({rows['matters'].sum()} matter): {_some(rows['feature'].tolist())}"
    if what == "all":
        return f"{modality}: the data as a whole {sized}"
    if what == "presence":
        return f"{modality}: there for {row['after']:.0%} of patients, in the training {row['before']:.0%}; {sized}"
    if what == "pattern":
        return f"which modalities are there together {sized}"
    if what == "risks":
        return f"risks {sized}; their mean is {row['after']:.3f}, in the training {row['before']:.3f}"
    return f"base rate {row['after']:.1%}, in the training {row['before']:.1%}; {sized}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _number(value) for key, value in row.items()} for row in frame.to_dict(orient="records")]


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
