"""A trained risk model: evidence per modality, their sum, and who was seen in training."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit

from medfusion.core.batch import Batch
from medfusion.core.errors import Problem
from medfusion.core.protocols import FusionModel, Modality
from medfusion.core.state import State
from medfusion.core.types import Block, BoolArray, Distance, Explanation, FloatArray, Sample
from medfusion.evidence import EvidenceModel
from medfusion.evidence.crossfit import AT_ONCE
from medfusion.explain import close_ledger, modality_shares
from medfusion.fusion.conformal import RiskSets, Sets
from medfusion.fusion.offsets import as_names, pattern_names
from medfusion.fusion.recalibration import Recalibration, Terms
from medfusion.pipeline.ledger import explained, ledger_of

Payloads = Mapping[str, Sequence[Any | None]]
"""Payloads by modality; all of the same length."""


@dataclass(frozen=True, slots=True)
class Roster:
    """Who was seen in training, and by which members: salted hashes, no names.

    Attributes
    ----------
    salt : str
    folds : mapping from hash to int
        The member of that number has not seen the patient.
    """

    salt: str
    folds: Mapping[str, int]

    @classmethod
    def of(cls, subject_ids: Sequence[str], folds: NDArray[np.int64]) -> Roster:
        """Note the patients of a training run."""
        salt = secrets.token_hex(16)
        return cls(salt, {_hash(salt, subject): int(fold) for subject, fold in zip(subject_ids, folds, strict=True)})

    def fold(self, subject_id: str) -> int | None:
        """Return the fold of a patient; None for somebody new."""
        return self.folds.get(_hash(self.salt, subject_id))


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of n samples.

    Attributes
    ----------
    before : array (n,)
        Log-odds before recalibration.
    logit : array (n,)
    shares : array (n, modalities)
        ``terms.base + shares.sum(axis=1) = logit``.
    present : array (n, modalities), bool
    interval : array (n, 2)
        95 % interval of the risk.
    mixture : array (n, members)
        How much each member counts: all alike for new patients; for a patient of the training cohort only the one
        that has not seen them.
    seen : array (n,), bool
        Whether the patient was in the training cohort.
    distances : mapping from modality to list of Distance or None, length n
        How far each payload is from the training; None where absent, or where that cannot be told.
    terms : Terms
        Base, factor and offset of each sample's ledger, after recalibration.
    sets : Sets or None
        Which outcomes each risk leaves open, at a stated coverage.
    batches : mapping from modality to Batch, or None
        The payloads, with what was worked out about them, so that `RiskModel.ledger` need not do it again; None where
        there are more than a few thousand.
    """

    before: FloatArray
    logit: FloatArray
    shares: FloatArray
    present: BoolArray
    interval: FloatArray
    mixture: FloatArray
    seen: BoolArray
    distances: Mapping[str, list[Distance | None]]
    terms: Terms
    sets: Sets | None
    batches: Mapping[str, Batch] | None = None

    @property
    def risk(self) -> FloatArray:
        """Calibrated probabilities (n,)."""
        return np.asarray(expit(self.logit))


@dataclass(frozen=True, slots=True)
class RiskModel:
    """A calibrated risk model.

    Attributes
    ----------
    task, positive : str
        What is predicted, and what it means.
    evidence : mapping from modality to EvidenceModel
    fusion : FusionModel
    roster : Roster
    card : mapping
        What is known about the model: data, versions, cross-validated figures. JSON values.
    model_id : str
        Digest of everything that decides a prediction.
    recalibration : Recalibration
        What the fused log-odds go through before they are shown; as it is after training, nothing.
    risk_sets : RiskSets or None
        Calibration patients by category, for what a risk leaves open.
    sets_by : str
        The column of subjects.csv that names the category; empty for the presence pattern.
    check : mapping from modality to State
        A few items of the training, to check backends with; see `core.protocols.Backends`.
    """

    task: str
    positive: str
    evidence: Mapping[str, EvidenceModel]
    fusion: FusionModel
    roster: Roster
    card: Mapping[str, Any]
    model_id: str = ""
    recalibration: Recalibration = field(default_factory=Recalibration)
    risk_sets: RiskSets | None = None
    sets_by: str = ""
    check: Mapping[str, State] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """The columns of subjects.csv that a prediction needs."""
        return {self.recalibration.column, self.sets_by} - {""}

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities that take part."""
        return {name: model.modality for name, model in self.evidence.items()}

    def blocks(self, payloads: Payloads, *, embed: bool | None = None) -> dict[str, Block]:
        """Return what each modality says of n samples; with embeddings where asked, or where the fusion needs them."""
        return blocks_of(self.evidence, payloads, embed=self.fusion.uses_embeddings if embed is None else embed)

    def predict(
        self, subject_ids: Sequence[str], payloads: Payloads, facts: Sequence[Mapping[str, Any]] = ()
    ) -> Predictions:
        """Predict n samples, each from the modalities that it has.

        Parameters
        ----------
        subject_ids : sequence of str, length n
        payloads : mapping from modality to sequence of length n
        facts : sequence of mappings, length n, optional
            What subjects.csv says of them; needed only by a model that has `columns`.
        """
        batches = None
        if len(subject_ids) <= AT_ONCE:
            payloads = batches = {name: _batch(payloads[name]) for name in self.evidence}
        blocks = self.blocks(payloads)
        mixture = self._mixture(subject_ids)
        by_member = self.fusion.logits(blocks)
        # From the base on, so that where nothing is known it is the base, without rounding.
        before = self.fusion.base + np.einsum("nk,kn->n", mixture, by_member - self.fusion.base)
        # A member that does not count must not make a modality present.
        there = np.stack([block.present for block in blocks.values()], axis=-1) & (mixture.T > 0)[:, :, None]
        present = np.asarray(there.any(axis=0))
        shares = np.einsum("nk,knm->nm", mixture, modality_shares(self.fusion.logits, blocks))
        spread = 1.96 * np.sqrt(_of_members(by_member) + self.fusion.variance(blocks, mixture))
        patterns, groups = pattern_names(present, list(blocks)), _groups(facts, self.recalibration.column)
        categories = as_names(_groups(facts, self.sets_by), len(before)).tolist() if self.sets_by else patterns
        low, logit, high = (
            self.recalibration.apply(each, patterns, groups) for each in (before - spread, before, before + spread)
        )
        terms = self.recalibration.terms(before, self.fusion.base, patterns, groups)
        return Predictions(
            before=before,
            logit=logit,
            shares=terms.shares(shares, present),
            present=present,
            interval=expit(np.column_stack([low, high])),
            mixture=mixture,
            seen=np.array([self.roster.fold(subject) is not None for subject in subject_ids], dtype=bool),
            distances={name: model.distances(payloads[name], mixture) for name, model in self.evidence.items()},
            terms=terms,
            sets=None if self.risk_sets is None else self.risk_sets.predict(np.asarray(expit(logit)), categories),
            batches=batches,
        )

    def recalibrated(
        self, before: FloatArray, present: BoolArray, facts: Sequence[Mapping[str, Any]] = ()
    ) -> FloatArray:
        """Return the log-odds (n,) that are shown of those before recalibration.

        Parameters
        ----------
        before : array (n,)
        present : array (n, modalities), bool
        facts : sequence of mappings, length n, optional
            As in `predict`.
        """
        patterns = pattern_names(present, list(self.evidence))
        return self.recalibration.apply(before, patterns, _groups(facts, self.recalibration.column))

    def _mixture(self, subject_ids: Sequence[str]) -> FloatArray:
        """Return how much each member counts (n, k)."""
        members = len(next(iter(self.evidence.values())).members)
        folds = [self.roster.fold(subject) for subject in subject_ids]
        mixture = [np.full(members, 1 / members) if fold is None else np.eye(members)[fold] for fold in folds]
        return np.array(mixture).reshape(len(folds), members)

    def explain(self, predictions: Predictions, row: int, payloads: Payloads, problems: list[Problem]) -> Explanation:
        """Open up one prediction, from the base rate to single values, words and regions.

        A modality whose payload can no longer be read (a film that vanished meanwhile) stays one line, and the reason
        goes to ``problems``.
        """
        shares = dict(zip(self.evidence, predictions.shares[row].tolist(), strict=True))
        lines = explained(self, predictions, row, payloads, problems)
        return close_ledger(float(predictions.terms.base[row]), shares, lines, float(predictions.logit[row]))

    def ledger(
        self,
        samples: Sequence[Sample],
        predictions: Predictions,
        payloads: Payloads,
        problems: list[Problem],
        *,
        top: int | None = 10,
        regions: bool = False,
    ) -> pa.Table:
        """Open up all predictions, as `explain` does one, in batches.

        Parameters
        ----------
        samples : sequence of Sample, length n
        predictions : Predictions
            What `predict` said of the same n samples.
        payloads : mapping from modality to sequence of length n
            Those that were given to `predict`.
        problems : list of Problem
            Payloads that can no longer be read are noted here.
        top : int or None
            Lines per modality and sample; the others are summed into one. None for all.
        regions : bool
            Whether to open what is dear to open, as regions of films are; else it is one line with the whole share.

        Returns
        -------
        pyarrow.Table
            As `medfusion.outputs.tables.LEDGER` describes it.

        Raises
        ------
        ValueError
            If the lines of a modality do not sum to its share.
        """
        return ledger_of(self, samples, predictions, payloads, problems, top=top, regions=regions)

    def findings(self, predictions: Predictions, row: int) -> list[str]:
        """Return codes of what a reader of one prediction should know."""
        codes: list[str] = [
            f"no-{name}" for name, here in zip(self.evidence, predictions.present[row], strict=True) if not here
        ]
        if not predictions.present[row].any():
            codes = ["no-data"]
        far = {name: each[row] for name, each in predictions.distances.items()}
        codes += [
            f"out-of-domain-{name}" for name, distance in far.items() if distance is not None and distance.outside
        ]
        undecided = None if predictions.sets is None else predictions.sets.codes()[row]
        codes += [undecided] if undecided else []
        return codes + ["seen-in-training"] * bool(predictions.seen[row])


def blocks_of(evidence: Mapping[str, EvidenceModel], payloads: Payloads, *, embed: bool) -> dict[str, Block]:
    """Return what each modality says of n samples; with embeddings where a fusion looks at them."""
    return {name: model.block(payloads[name], embed) for name, model in evidence.items()}


def _batch(payloads: Sequence[Any | None]) -> Batch:
    return payloads if isinstance(payloads, Batch) else Batch(payloads)


def _groups(facts: Sequence[Mapping[str, Any]], column: str) -> list[Any] | None:
    """Return the group of each sample; None where there is no such column, or nothing is known."""
    return [each.get(column) for each in facts] if column and facts else None


def _of_members(logits: FloatArray) -> FloatArray:
    """Variance of the logits (k, n) that comes from the members, by the delete-a-group jackknife [1]_.

    .. [1] Kott PS (2001). The delete-a-group jackknife. Journal of Official Statistics 17(4).
    """
    members = len(logits)
    return np.asarray((members - 1) / members * ((logits - logits.mean(axis=0)) ** 2).sum(axis=0))


def _hash(salt: str, subject_id: str) -> str:
    return hashlib.sha256(f"{salt}:{subject_id}".encode()).hexdigest()[:24]
