"""Comparing every modality alone and every fusion on the same patients, none of whom a contender was trained on.

Cross-validation is nested: for every outer fold, all that training does (folds, encoders, heads, calibration, fusion)
is done anew on the other folds, and the patients of the fold are seen for the first time when they are scored.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medfusion.cohort import Cohort, open_cohort, require_two_classes
from medfusion.core import files
from medfusion.core.errors import DataError, MedfusionWarning, Problem, UsageError
from medfusion.core.folds import Patients, patient_folds
from medfusion.core.types import Block, BoolArray, FloatArray
from medfusion.evaluation.comparison import Comparison, compare_contenders
from medfusion.evaluation.comparison_tables import EVERY
from medfusion.evaluation.decision import check_thresholds
from medfusion.evaluation.recommend import Cost, percent
from medfusion.evaluation.shortcuts import ShortcutAudit
from medfusion.evidence import EvidenceModel
from medfusion.fusion import KINDS, new_fusion
from medfusion.outputs.report import write_report
from medfusion.pipeline.data import Settings, Track, build_modalities, read_payloads, silent
from medfusion.pipeline.fit import FOLDS, divided, fit_fusion, fit_modality
from medfusion.pipeline.model import Payloads
from medfusion.pipeline.shortcuts import audit_shortcuts

RATES = (0.1, 0.3, 0.5, 0.7)
"""Shares of patients from whom a modality is taken away in the simulation, beside the share that is expected."""
THRESHOLDS = (0.1, 0.2, 0.3, 0.5)

Rival = Callable[[Mapping[str, Block], Patients, Mapping[str, Block]], FloatArray]
"""Somebody else's recipe: from blocks and patients of a training part and blocks of a test part to risks (n,)."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to a risk.

    Attributes
    ----------
    name : str
    kind : str
        Of fusion; ``late`` for a modality alone.
    modalities : tuple of str
    """

    name: str
    kind: str
    modalities: tuple[str, ...]


@dataclass(slots=True)
class Run:
    """What all contenders said of n samples, each in the outer fold in which it was left out.

    Attributes
    ----------
    patients : Patients
        Samples, with the outer folds.
    names : tuple of str, length M
        Modalities.
    task : str
    risks : mapping from contender to array (n,)
    withheld : mapping from (modality, rate) to (mapping from contender to array (n,))
        Risks of the same samples with data taken away at random.
    present : array (n, M), bool
    seconds, sizes : mappings from contender to list, one per fold
    scoring : mapping from contender to list of milliseconds per patient
    """

    patients: Patients
    names: tuple[str, ...]
    task: str = ""
    risks: dict[str, FloatArray] = field(default_factory=dict)
    withheld: dict[tuple[str, float], dict[str, FloatArray]] = field(default_factory=dict)
    present: BoolArray = field(default_factory=lambda: np.empty((0, 0), dtype=bool))
    seconds: dict[str, list[float]] = field(default_factory=dict)
    scoring: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.present = np.zeros((len(self.patients.events), len(self.names)), dtype=bool)

    def put(self, name: str, rows: NDArray[np.intp], risks: FloatArray, taken: tuple[str, float] | None = None) -> None:
        """Note what a contender said of some samples."""
        kept = self.risks if taken is None else self.withheld.setdefault(taken, {})
        kept.setdefault(name, np.full(len(self.patients.events), np.nan))[rows] = risks

    def costs(self) -> dict[str, Cost]:
        """Return what each contender takes, on average over the folds."""
        return {
            name: Cost(*(float(np.mean(each[name])) for each in (self.seconds, self.scoring, self.sizes)))
            for name in self.seconds
        }


def contenders_of(names: Sequence[str]) -> list[Contender]:
    """List who competes, from simple to complex: each modality, late fusions of some, every fusion of all.

    Examples
    --------
    >>> [each.name for each in contenders_of(["ehr", "notes"])]
    ['ehr', 'notes', 'late', 'gated', 'early', 'joint']
    """
    found = [Contender(name, "late", (name,)) for name in names]
    for size in range(2, len(names)):
        found += [Contender(f"late: {' + '.join(some)}", "late", some) for some in combinations(names, size)]
    return found + [Contender(kind, kind, tuple(names)) for kind in KINDS if len(names) > 1]


def compare(
    cohort_folder: Path,
    out: Path | None,
    task: str | None = None,
    *,
    settings: Settings | None = None,
    only: Sequence[str] = (),
    thresholds: Sequence[float] = THRESHOLDS,
    folds: int | None = None,
    expect_missing: float = 0.0,
    cache: Path | None = None,
    seed: int = 0,
    rivals: Mapping[str, Rival] | None = None,
    track: Track = silent,
) -> tuple[Comparison, Run]:
    """Compare all contenders on a cohort by nested cross-validation; write metrics.json and report.html.

    Parameters
    ----------
    cohort_folder : Path
    out : Path or None
        None to write nothing.
    task : str, optional
        May be left out where the cohort has one.
    settings : mapping from modality to mapping, optional
    only : sequence of str
        Modalities to use; empty for all.
    thresholds : sequence of float
        Risks at which net benefit is compared.
    folds : int, optional
        Outer folds; 5, or as many as the rarer outcome allows, unless given.
    expect_missing : float
        Share of each modality that is expected to be missing where the model is used. Contenders are then judged on
        records of which so much was taken away at random, and not on the records as they are.
    cache : Path, optional
        Where image embeddings are kept.
    seed : int
    rivals : mapping from name to Rival, optional
        Other recipes, judged on the same folds.
    track : callable
        Shows progress.

    Raises
    ------
    DataError
        If the cohort cannot be read, or holds too few patients with and without the event.
    UsageError
        If a task, modality or setting does not exist, a threshold is not within (0, 1), or a share that is expected
        to be missing not within [0, 1).
    """
    check_thresholds(thresholds)
    check_expected(expect_missing)
    modalities = build_modalities(settings or {}, cache, only)
    cohort = open_cohort(cohort_folder, list(modalities.values()), task)
    require_two_classes(cohort)
    cohort = cohort.labelled()
    payloads = read_payloads(cohort, modalities, cohort.samples, cohort.problems, track)
    here = {name: modalities[name] for name, each in payloads.items() if any(payload is not None for payload in each)}
    rates = sorted({*RATES, expect_missing} - {0.0})
    run = nested(here, payloads, outer_folds(cohort, folds, seed), seed, rivals or {}, track, rates)
    run.task = cohort.task.name
    result = judged(run, thresholds, seed, tuple(rivals or ()), expect_missing)
    if out is not None:
        risks = run.risks[result.recommendation.name]
        audit = audit_shortcuts(cohort, cohort.samples, here, payloads, run.patients, risks, run.present, seed)
        _write(out, cohort, result, run, audit, cohort_folder)
    return result, run


def check_expected(missing: float) -> None:
    """Refuse a share that cannot be expected to be missing.

    Raises
    ------
    UsageError
        If it is not within [0, 1).

    Examples
    --------
    >>> check_expected(50)
    Traceback (most recent call last):
    medfusion.core.errors.UsageError: --expect-missing is 50; it has to be 0 or more and below 1; write 50 % as 0.5
    """
    if not 0 <= missing < 1:
        remedy = f"write {missing:g} % as {missing / 100:g}" if 1 < missing < 100 else "name another, such as 0.3"
        raise UsageError(f"--expect-missing is {missing:g}; it has to be 0 or more and below 1; {remedy}")


def outer_folds(cohort: Cohort, folds: int | None, seed: int) -> Patients:
    """Divide the patients into outer folds."""
    subject_ids = np.array([sample.subject_id for sample in cohort.samples])
    events = np.array([bool(sample.event) for sample in cohort.samples])
    if folds is None:
        return divided(subject_ids, events, seed)
    return Patients(subject_ids, events, patient_folds(subject_ids.tolist(), events, folds, seed))


def nested(
    modalities: Mapping[str, Any],
    payloads: Payloads,
    patients: Patients,
    seed: int,
    rivals: Mapping[str, Rival] | None = None,
    track: Track = silent,
    rates: Sequence[float] = RATES,
) -> Run:
    """Let all contenders answer for patients that they were not trained on."""
    run = Run(patients, tuple(modalities))
    wanted = contenders_of(run.names)
    advance = track("compare", patients.n_folds * len(wanted))
    for fold in range(patients.n_folds):
        train, test = np.flatnonzero(patients.folds != fold), np.flatnonzero(patients.folds == fold)
        part = _Part.fitted(modalities, payloads, patients, train, test, seed)
        run.present[test] = part.present(run.names)
        taken = taken_away(part.test, run.names, len(test), seed + fold, rates)
        for contender in wanted:
            _contend(run, contender, part, test, taken, seed)
            advance(1)
        for name, rival in (rivals or {}).items():
            run.put(name, test, rival(part.train, part.patients, part.test))
            for key, blocks in taken.items():
                run.put(name, test, rival(part.train, part.patients, blocks), key)
    return run


def judged(
    run: Run, thresholds: Sequence[float], seed: int, rivals: Sequence[str] = (), expect_missing: float = 0.0
) -> Comparison:
    """Compute all figures of what contenders and rivals said; rivals stand last, as the most complex."""
    wanted = contenders_of(run.names)
    singles = [each.name for each in wanted if len(each.modalities) == 1]
    some = [each.name for each in wanted if 1 < len(each.modalities) < len(run.names)]
    order = [singles, *([some] if some else []), *(each.name for each in wanted if each.name in KINDS), *rivals]
    of = {each.name: each.modalities for each in wanted} | dict.fromkeys(rivals, run.names)
    return compare_contenders(
        run.patients.events,
        run.risks,
        run.patients.subject_ids.tolist(),
        run.present,
        run.names,
        modalities_of=of,
        order=order,
        costs=run.costs(),
        withheld=run.withheld,
        thresholds=thresholds,
        seed=seed,
        expect_missing=expect_missing,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One outer fold: what was fitted without it, and what that says of both sides."""

    patients: Patients
    evidence: Mapping[str, EvidenceModel]
    train: Mapping[str, Block]
    test: Mapping[str, Block]
    fit_s: Mapping[str, float]
    score_ms: Mapping[str, float]

    @classmethod
    def fitted(
        cls,
        modalities: Mapping[str, Any],
        payloads: Payloads,
        patients: Patients,
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        seed: int,
    ) -> _Part:
        inner = divided(patients.subject_ids[train], patients.events[train], seed)
        evidence, seen, asked = {}, {}, {}
        fit_s, score_ms = {}, {}
        for name, modality in modalities.items():
            known, new = ([payloads[name][row] for row in rows.tolist()] for rows in (train, test))
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MedfusionWarning)
                model = fit_modality(modality, known, inner, seed)
            fit_s[name] = time.perf_counter() - start
            if model is None:
                continue
            evidence[name], seen[name] = model, model.block(known, embed=True)
            start = time.perf_counter()
            asked[name] = model.block(new, embed=True)
            score_ms[name] = 1000 * (time.perf_counter() - start) / len(test)
        if not evidence:
            expected, remedy = "a modality that enough patients have in every fold", "add data, or use fewer folds"
            raise DataError([Problem("nothing-to-learn-from", "", "", "modalities", "none", expected, remedy)])
        return cls(inner, evidence, seen, asked, fit_s, score_ms)

    def present(self, names: Sequence[str]) -> BoolArray:
        """Return which modalities the test samples have (n, M)."""
        nothing = np.zeros(next(iter(self.test.values())).evidence.shape[1], dtype=bool)
        here = [self.test[name].present.any(axis=0) if name in self.test else nothing for name in names]
        return np.column_stack(here)


def _contend(
    run: Run,
    contender: Contender,
    part: _Part,
    test: NDArray[np.intp],
    taken: Mapping[tuple[str, float], Mapping[str, Block]],
    seed: int,
) -> None:
    mine = [name for name in contender.modalities if name in part.evidence]
    if not mine:
        # Nobody in the training part has it, or too few: all that can be said is the base rate.
        rate = float(np.average(part.patients.events, weights=part.patients.weights))
        for key in (None, *taken):
            run.put(contender.name, test, np.full(len(test), rate), key)
        return
    fusion = new_fusion(contender.kind if len(mine) > 1 else "late")
    start = time.perf_counter()
    fit_fusion(fusion, {name: part.train[name] for name in mine}, part.patients, seed)
    fit_s = time.perf_counter() - start

    def risks(blocks: Mapping[str, Block]) -> FloatArray:
        return np.asarray(expit(fusion.logits({name: blocks[name] for name in mine}).mean(axis=0)))

    start = time.perf_counter()
    run.put(contender.name, test, risks(part.test))
    score_ms = 1000 * (time.perf_counter() - start) / len(test)
    for key, blocks in taken.items():
        run.put(contender.name, test, risks(blocks), key)
    run.seconds.setdefault(contender.name, []).append(fit_s + sum(part.fit_s[name] for name in mine))
    run.scoring.setdefault(contender.name, []).append(score_ms + sum(part.score_ms[name] for name in mine))
    states = [fusion.state(), *(part.evidence[name].state() for name in mine)]
    run.sizes.setdefault(contender.name, []).append(sum(map(_bytes, states)) / 1e6)


def taken_away(
    blocks: Mapping[str, Block], names: Sequence[str], n: int, seed: int, rates: Sequence[float] = RATES
) -> dict[tuple[str, float], dict[str, Block]]:
    """Take modalities away from random samples: each by itself, and all of them independently.

    Parameters
    ----------
    blocks : mapping from modality to Block
        Of n samples; may lack modalities that could not be fitted.
    names : sequence of str
        All modalities.
    n, seed : int
    rates : sequence of float
        What loses a modality at one rate, loses it at all higher ones.

    Returns
    -------
    dict from (modality or `EVERY`, rate) to (dict from modality to Block)
    """
    drawn = dict(zip(names, np.random.default_rng(seed).random((len(names), n)), strict=True))
    taken = {}
    for rate in rates:
        for name in [*names, EVERY]:
            taken[name, rate] = {
                other: block.without(drawn[other] < rate) if name in (other, EVERY) else block
                for other, block in blocks.items()
            }
    return taken


def _bytes(state: Any) -> float:
    """Count the bytes of the arrays of a state."""
    if isinstance(state, np.ndarray):
        return float(state.nbytes)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(_bytes, parts))


def _write(out: Path, cohort: Cohort, result: Comparison, run: Run, audit: ShortcutAudit, cohort_folder: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    numbers = {"cohort": cohort.name, "task": cohort.task.name, **result.as_dict(), "shortcuts": audit.as_dict()}
    files.write_text(out / "metrics.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    found = result.recommendation
    basis = {
        "Task": f"{cohort.task.name}: {cohort.task.positive}",
        "Cohort": cohort.name,
        "Samples": result.n,
        "Patients": result.n_subjects,
        "Events": result.n_events,
        "Records": _records(result.expect_missing),
        "Validation": f"nested, by patient: {run.patients.n_folds} outer folds, up to {FOLDS} inner ones",
        "Intervals": result.intervals,
        "To train it": train_command(result, cohort_folder, cohort.task.name),
    }
    write_report(
        out / "report.html",
        f"Comparison for {cohort.task.name}",
        result.frame(),
        result.panels,
        basis,
        lead=found.sentences,
    )


def _records(missing: float) -> str:
    """Return on which records contenders were judged."""
    if not missing:
        return "as they are"
    return (
        f"{percent(missing)} of each modality taken away at random, as expected in use; as they are in the tables of "
        "patterns and of missing modalities"
    )


def train_command(result: Comparison, cohort_folder: Path | str, task: str) -> str:
    """Return the command that trains the recommended contender."""
    name = result.recommendation.name
    words = ["medfusion train", str(cohort_folder), "--task", task, "--out model"]
    if name in KINDS:
        words += [f"--fusion {name}"] * (name != "late")
    else:
        words += [f"--only {modality}" for modality in result.modalities_of[name]]
    return " ".join(words)
