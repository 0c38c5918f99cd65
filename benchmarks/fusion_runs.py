"""What contenders and rivals say of patients whom they were not trained on; kept, so that a run can go on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fusion_rivals import Memory, rivals_of
from scipy.special import expit

from medfusion.cohort import open_cohort
from medfusion.core.errors import MedfusionWarning
from medfusion.core.folds import Patients
from medfusion.core.types import Block
from medfusion.evaluation.comparison_tables import EVERY
from medfusion.evidence import EvidenceModel
from medfusion.fusion import new_fusion
from medfusion.pipeline.compare import Contender, Run, contenders_of, nested, outer_folds, taken_away
from medfusion.pipeline.data import build_modalities, read_payloads
from medfusion.pipeline.fit import divided, fit_fusion, fit_modality

RATE = 0.5
Payloads = Mapping[str, Sequence[Any | None]]


@dataclass(frozen=True, slots=True)
class Data:
    """A cohort in memory: what each modality knew of each sample, and the outcomes."""

    cohort: Any
    modalities: Mapping[str, Any]
    payloads: Payloads

    def patients(self, seed: int) -> Patients:
        """Return the samples in outer folds."""
        return outer_folds(self.cohort, None, seed)


def load(folder: Path, task: str | None, cache: Path | None) -> Data:
    """Read a cohort folder, and drop modalities that nobody has."""
    modalities = build_modalities({}, cache)
    cohort = open_cohort(folder, list(modalities.values()), task).labelled()
    payloads = read_payloads(cohort, modalities, cohort.samples, cohort.problems, lambda *_: lambda _done: None)
    here = [name for name, each in payloads.items() if any(payload is not None for payload in each)]
    return Data(cohort, {name: modalities[name] for name in here}, {name: payloads[name] for name in here})


@dataclass(frozen=True, slots=True)
class Fitted:
    """Evidence of all modalities, cross-fitted on a training part, and what it says of that part."""

    patients: Patients
    evidence: Mapping[str, EvidenceModel]
    train: Mapping[str, Block]

    @classmethod
    def on(cls, modalities: Mapping[str, Any], payloads: Payloads, patients: Patients, seed: int) -> Fitted:
        """Fit; modalities that too few patients have are left out."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedfusionWarning)
            found = {name: fit_modality(each, payloads[name], patients, seed) for name, each in modalities.items()}
        evidence = {name: model for name, model in found.items() if model is not None}
        return cls(patients, evidence, {name: model.block(payloads[name], True) for name, model in evidence.items()})

    def blocks(self, payloads: Payloads) -> dict[str, Block]:
        """Return what is said of others."""
        return {name: model.block(payloads[name], True) for name, model in self.evidence.items()}

    def risks(self, contender: Contender, test: Mapping[str, Block], seed: int) -> np.ndarray:
        """Fit a contender, and return its risks."""
        mine = [name for name in contender.modalities if name in self.evidence]
        if not mine:
            rate = float(np.average(self.patients.events, weights=self.patients.weights))
            return np.full(next(iter(test.values())).evidence.shape[1], rate)
        fusion = new_fusion(contender.kind if len(mine) > 1 else "late")
        fit_fusion(fusion, {name: self.train[name] for name in mine}, self.patients, seed)
        return np.asarray(expit(fusion.logits({name: test[name] for name in mine}).mean(axis=0)))


def complete_run(data: Data, name: str, seed: int, keep: Path) -> Run:
    """Return the nested cross-validation of all contenders and rivals, as `medfusion compare` does it."""
    patients, file = data.patients(seed), keep / f"{name}-{seed}.npz"
    if not file.exists():
        _save(nested(data.modalities, data.payloads, patients, seed, rivals_of(seed)), file)
    return _restored(patients, tuple(data.modalities), file)


def removed_run(data: Data, name: str, seed: int, keep: Path, chosen: str) -> Run:
    """Return contenders and rivals trained and tested on a cohort of whose records half were removed at random.

    From each sample the same is taken as in the simulation of the complete run at that rate. Of the networks only the
    chosen one takes part.
    """
    patients, file = data.patients(seed), keep / f"{name}-{seed}-removed.npz"
    wanted = [each for each in contenders_of(tuple(data.modalities)) if each.kind == "late" or each.name == chosen]
    if not file.exists() or chosen not in _restored(patients, tuple(data.modalities), file).risks:
        _save(_removed(data, patients, seed, wanted, rivals_of(seed)), file)
    return _restored(patients, tuple(data.modalities), file)


def _removed(
    data: Data, patients: Patients, seed: int, wanted: Sequence[Contender], rivals: Mapping[str, Memory]
) -> Run:
    run = Run(patients, tuple(data.modalities))
    gone = removed_from(patients, run.names, seed)
    payloads = {
        name: [None if away else payload for away, payload in zip(gone[name], data.payloads[name], strict=True)]
        for name in run.names
    }
    run.present = np.column_stack([[payload is not None for payload in payloads[name]] for name in run.names])
    for fold in range(patients.n_folds):
        train, test = np.flatnonzero(patients.folds != fold), np.flatnonzero(patients.folds == fold)
        inner = divided(patients.subject_ids[train], patients.events[train], seed)
        fitted = Fitted.on(data.modalities, rows_of(payloads, train), inner, seed)
        asked = fitted.blocks(rows_of(payloads, test))
        for contender in wanted:
            run.put(contender.name, test, fitted.risks(contender, asked, seed))
        for name, rival in rivals.items():
            run.put(name, test, rival(fitted.train, inner, asked))
    return run


def removed_from(patients: Patients, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Return from which samples each modality is taken when `compare` takes `RATE` of every one away."""
    gone = {name: np.zeros(len(patients.events), dtype=bool) for name in names}
    for fold in range(patients.n_folds):
        test = np.flatnonzero(patients.folds == fold)
        whole = {name: Block(np.zeros((1, len(test)))) for name in names}
        for name, block in taken_away(whole, names, len(test), seed + fold)[EVERY, RATE].items():
            gone[name][test] = ~block.present[0]
    return gone


def rows_of(payloads: Payloads, rows: np.ndarray) -> dict[str, list[Any | None]]:
    """Return the payloads of some samples."""
    return {name: [each[row] for row in rows.tolist()] for name, each in payloads.items()}


def _save(run: Run, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"risk/{name}": each for name, each in run.risks.items()}
    arrays |= {
        f"away/{modality}/{rate}/{name}": risk
        for (modality, rate), each in run.withheld.items()
        for name, risk in each.items()
    }
    for label, costs in (("seconds", run.seconds), ("scoring", run.scoring), ("sizes", run.sizes)):
        arrays |= {f"{label}/{name}": np.array(each) for name, each in costs.items()}
    np.savez_compressed(file, present=run.present, **arrays)


def _restored(patients: Patients, names: tuple[str, ...], file: Path) -> Run:
    run = Run(patients, names)
    costs = {"seconds": run.seconds, "scoring": run.scoring, "sizes": run.sizes}
    with np.load(file) as kept:
        run.present = kept["present"]
        for key in kept.files:
            kind, _, rest = key.partition("/")
            if kind == "risk":
                run.risks[rest] = kept[key]
            elif kind == "away":
                modality, rate, name = rest.split("/", 2)
                run.withheld.setdefault((modality, float(rate)), {})[name] = kept[key]
            elif kind in costs:
                costs[kind][rest] = kept[key].tolist()
    return run
