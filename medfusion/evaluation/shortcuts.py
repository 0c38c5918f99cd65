"""Shortcuts: how much of a ranking comes from how data were acquired, or from what is missing, and not from medicine.

A model may rank well because portable films are taken of the sicker, because one hospital sends another format, or
because a laboratory value is only measured in those whom somebody worried about. Three things are asked of every such
column: what it tells of the outcome by itself, how good the model is among samples that are alike in it, and how good
in each of its levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.types import BoolArray, FloatArray
from medfusion.evaluation.bootstrap import RESAMPLES, subject_weights
from medfusion.evaluation.metrics import Estimate, check_risks
from medfusion.evaluation.shortcuts_model import Columns, known, pairs_within
from medfusion.evaluation.shortcuts_panels import Shortcut, ShortcutLevels, ShortcutSources
from medfusion.evaluation.shortcuts_sources import Draws, Judged, Source, ratio

TOGETHER = "all of these"
MODALITIES, VALUES = "which modalities are there", "which values are missing"
_SUBJECTS, _MIXED = "subject", "acquisition and subject"
_LISTED = 5


@dataclass(frozen=True, slots=True)
class ShortcutAudit:
    """What a model may owe to shortcuts.

    Attributes
    ----------
    n, n_events, n_subjects : int
    model : Estimate
        The AUROC of the model, over all samples.
    shortcuts : tuple of Shortcut
        One per column, and per kind of column one of all together.
    sentences : tuple of str
        What was found, in plain words; the most important first.
    panels : tuple of ShortcutSources and ShortcutLevels
        What each column tells by itself, and the model within levels.
    intervals : str
        How the intervals were made.
    """

    n: int
    n_events: int
    n_subjects: int
    model: Estimate
    shortcuts: tuple[Shortcut, ...]
    sentences: tuple[str, ...]
    panels: tuple[ShortcutSources | ShortcutLevels, ...]
    intervals: str

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; None stands where the data cannot tell."""
        return {
            "n": self.n,
            "n_events": self.n_events,
            "n_subjects": self.n_subjects,
            "model": _values(self.model),
            "intervals": self.intervals,
            "sentences": list(self.sentences),
            "shortcuts": [
                {
                    "name": each.name,
                    "kind": each.kind,
                    "n": each.n,
                    "verdict": each.verdict,
                    **{name: _values(getattr(each, name)) for name in ("alone", "model", "share", "within", "drop")},
                    "levels": [
                        {"level": one.name, "n": one.n, "n_events": one.n_events, "auroc": _values(one.auroc)}
                        for one in each.levels
                    ],
                }
                for each in self.shortcuts
            ],
        }


def _values(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "note": found.note}


def acquisition_columns(told: Mapping[str, Sequence[Mapping[str, str | float] | None]]) -> dict[str, list[Any]]:
    """Turn what modalities say of how their payloads came about into columns.

    Parameters
    ----------
    told : mapping from modality to n mappings
        As `Modality.acquisition` gives them; None where the modality is absent.

    Examples
    --------
    >>> acquisition_columns({"imaging": [{"view": "AP"}, None]})
    {'imaging: view': ['AP', None]}
    """
    return {
        f"{modality}: {key}": [None if each is None else each.get(key) for each in rows]
        for modality, rows in told.items()
        for key in dict.fromkeys(key for each in rows if each is not None for key in each)
    }


def shortcut_audit(
    events: BoolArray,
    risks: FloatArray,
    subject_ids: Sequence[str],
    folds: NDArray[np.integer],
    columns: Columns,
    presence: BoolArray,
    names: Sequence[str],
    seed: int,
    *,
    subjects: Columns | None = None,
    missing: Mapping[str, BoolArray] | None = None,
    resamples: int = RESAMPLES,
) -> ShortcutAudit:
    """Compare a model with what can be told without medicine.

    Columns are judged by a small model that is fitted to the other folds, and its AUROC counts pairs of patients of one
    fold: the base rates of training parts differ, and pairs across folds would make a column that tells nothing look
    worse than nothing [1]_. A column is judged on the samples that have a value in it, and the model with it. The model
    within levels counts pairs of samples with the same level: its AUROC, adjusted for the column [2]_. Of several
    columns together, levels are fifths of what the small model says.

    Parameters
    ----------
    events : array (n,), bool
    risks : array (n,), probabilities
        Those of the model, for patients that it had not seen.
    subject_ids : sequence of str, length n
        Resampled for the intervals.
    folds : array (n,), int
        By patient.
    columns : mapping from name to n values
        How data were acquired, as `acquisition_columns` gives it; text or numbers, None where it is not known.
    presence : array (n, M), bool
        Which modalities a sample has.
    names : sequence of str, length M
    seed : int
    subjects : mapping from name to n values, optional
        Columns of subjects.csv, such as the site. Age and sex may be good medicine: what they tell is for a person
        to judge.
    missing : mapping from feature to array (n,), bool, optional
        Where a feature of a modality has no value.
    resamples : int

    Raises
    ------
    ValueError
        If lengths differ, a risk is not within [0, 1], or the samples have one class only.

    References
    ----------
    .. [1] Airola, Pahikkala, Waegeman, De Baets, Salakoski. An experimental comparison of cross-validation techniques
       for estimating the area under the ROC curve. Computational Statistics & Data Analysis 55 (2011).
    .. [2] Janes, Pepe. Adjusting for covariate effects on classification accuracy using the covariate-adjusted ROC
       curve. Biometrika 96 (2009).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> view, ill = rng.choice(["AP", "PA"], 400), rng.normal(size=400)
    >>> events = rng.uniform(size=400) < 1 / (1 + np.exp(1 - 1.5 * (view == "AP") - ill))
    >>> audit = shortcut_audit(events, 1 / (1 + np.exp(-ill)), [str(i) for i in range(400)], np.arange(400) % 5,
    ...     {"view": view}, np.ones((400, 1), bool), ["imaging"], seed=0, resamples=100)
    >>> audit.shortcuts[0].alone.value > 0.6, abs(audit.shortcuts[0].drop.value) < 0.05
    (True, True)
    """
    events, risks, folds = np.asarray(events, dtype=bool), np.asarray(risks, dtype=float), np.asarray(folds)
    check_risks(events, risks, subject_ids)
    if events.all() or not events.any():
        raise ValueError("a shortcut audit needs samples with and without the event")
    for name, values in {
        **columns,
        **(subjects or {}),
        **(missing or {}),
        "folds": folds,
        "presence": presence,
    }.items():
        if len(values) != len(events):
            raise ValueError(f"{name} has {len(values)} values for {len(events)} samples")
    everybody = Judged(events, risks, np.asarray(subject_ids, dtype=object), np.unique(folds, return_inverse=True)[1])
    sources = [
        Source.of(kind, name, asked, _rows(asked), everybody)
        for kind, name, asked in _asked(columns, presence, names, subjects or {}, missing or {})
    ]
    model, draws = _resampled(everybody, sources, seed, resamples)
    shortcuts = tuple(source.judged(each) for source, each in zip(sources, draws, strict=True))
    levels = tuple(level for each in shortcuts for level in each.levels)
    return ShortcutAudit(
        n=len(events),
        n_events=int(events.sum()),
        n_subjects=len(set(everybody.patients)),
        model=model,
        shortcuts=shortcuts,
        sentences=tuple(_sentences(model, shortcuts)),
        panels=(ShortcutSources(model, shortcuts), *([ShortcutLevels(model, levels)] if levels else [])),
        intervals=f"95 %, by {resamples:,} resamples of the patients (seed {seed})",
    )


def _asked(
    columns: Columns, presence: BoolArray, names: Sequence[str], subjects: Columns, missing: Mapping[str, BoolArray]
) -> Iterator[tuple[str, str, Columns]]:
    """Yield what is judged, as kind, name and columns: each alone, and those of a kind together."""
    patterns = [" + ".join(name for name, here in zip(names, row, strict=True) if here) or "none" for row in presence]
    for kind, found in (("acquisition", columns), (_SUBJECTS, subjects)):
        for name, values in found.items():
            yield kind, name, {name: values}
        if len(found) > 1:
            yield kind, TOGETHER, found
    if columns and subjects:
        yield _MIXED, TOGETHER, {**columns, **subjects}
    yield "missingness", MODALITIES, {MODALITIES: patterns}
    if missing:
        # A second column, if there is one feature only: a flag is no level that a person knows.
        flags = {name: np.asarray(gaps, dtype=float) for name, gaps in missing.items()}
        yield "missingness", VALUES, {**flags, "how many": np.sum(list(flags.values()), axis=0)}


def _rows(columns: Columns) -> NDArray[np.intp]:
    """Return where one column is known; several are judged on all samples."""
    first = next(iter(columns.values()))
    return np.flatnonzero([len(columns) > 1 or known(value) for value in first])


def _resampled(everybody: Judged, sources: Sequence[Source], seed: int, resamples: int) -> tuple[Estimate, list[Draws]]:
    """Return the AUROC of the model, and the figures of every source on the same resamples of patients."""
    one = np.zeros(len(everybody.events), dtype=np.intp)

    def area(weights: FloatArray) -> FloatArray:
        right, pairs = pairs_within(everybody.events, everybody.risks, one, weights)
        return ratio(right[:, 0], pairs[:, 0])

    areas: list[FloatArray] = []
    parts: list[list[Draws]] = []
    for counts in subject_weights(everybody.patients.tolist(), seed, resamples):
        weights = counts.astype(float)
        areas.append(area(weights))
        parts.append([{} if source.reason else source.figures(weights[:, source.rows]) for source in sources])
    model = everybody.auroc(float(area(np.ones((1, len(one))))[0]), np.concatenate(areas))
    by_source = list(zip(*parts, strict=True))
    return model, [{name: np.concatenate([part[name] for part in each]) for name in each[0]} for each in by_source]


def _sentences(model: Estimate, shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    judged = [each for each in shortcuts if each.alone.value is not None]
    yield f"The model has AUROC {model.text(2)}."
    for kind, words in (("acquisition", "How the data were acquired"), ("missingness", "What is missing")):
        of_kind = [each for each in judged if each.kind == kind]
        if whole := next(
            (each for each in of_kind if each.name in {TOGETHER, VALUES}), of_kind[0] if of_kind else None
        ):
            yield f"{words}, {whole.verdict}{_share(whole)}."
    single = [each for each in judged if each.name not in {TOGETHER, VALUES, MODALITIES} and (each.tells or each.leans)]
    leaning = [each for each in single if each.leans]
    for each in sorted(single, key=lambda each: (not each.leans, -(each.alone.value or 0.0)))[:_LISTED]:
        yield f"{each.name}{' of the subject' * (each.kind == _SUBJECTS)} {each.verdict}{_share(each)}."
    if not leaning:
        yield "Among samples that are alike in one column, the model loses no more than chance explains."
    if any(each.kind == _SUBJECTS for each in leaning):
        yield "What a model owes to age or sex may be good medicine; what it owes to a site is not."
    if skipped := [f"{each.name} ({each.alone.note})" for each in shortcuts if each.alone.value is None]:
        more = f" and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
        yield f"Not judged: {'; '.join(skipped[:_LISTED])}{more}."


def _share(found: Shortcut) -> str:
    """Say how much of the ranking could be had without medicine."""
    if not found.tells or found.share.value is None:
        return ""
    if found.share.value >= 1.0:
        return " (it ranks as well as the model)"
    return f" ({100 * found.share.value:.0f} % of what the model has above chance could be had from it)"
