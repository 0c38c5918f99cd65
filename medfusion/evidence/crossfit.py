"""One modality as calibrated evidence, by cross-fitting.

The patients are divided into folds. For every fold an encoder and a head are fitted on the other folds: a *member*. The
members serve three times: what each says of the patients it has not seen calibrates the modality and weighs it against
the others; their mean is what new patients get; and how much they differ tells how sure that is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfusion.core.protocols import Advance, Encoder, Modality
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Distance, FeatureShare, FloatArray
from medfusion.evidence.calibration import Platt
from medfusion.evidence.choose import MeanHead, fit_head, inner_folds
from medfusion.evidence.domain import Domain
from medfusion.evidence.heads import Rows


@dataclass(frozen=True, slots=True)
class Patients:
    """Whose rows they are, what happened, and in which fold each is left out.

    Attributes
    ----------
    subject_ids : array (n,)
    events : array (n,), bool
    folds : array (n,), int
        Equal for all rows of a patient.
    weights : array (n,)
        1/sqrt(rows of that patient): a patient seen often counts more, but not that much more.
    """

    subject_ids: np.ndarray
    events: BoolArray
    folds: np.ndarray

    @property
    def weights(self) -> FloatArray:
        """How much each row counts."""
        _, inverse, counts = np.unique(self.subject_ids, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / np.sqrt(counts[inverse]))


@dataclass(frozen=True, slots=True)
class Member:
    """An encoder and a head, fitted without one fold."""

    encoder: Encoder
    head: MeanHead

    def raw(self, payloads: Sequence[Any | None]) -> FloatArray:
        """Return log-odds (n,), NaN where absent."""
        embedding = self.encoder.encode(payloads)
        raw = np.full(len(payloads), np.nan)
        if embedding.present.any():
            raw[embedding.present] = self.head.raw(embedding.values[embedding.present])
        return raw


@dataclass(frozen=True, slots=True)
class EvidenceModel:
    """A modality's members and their common calibration.

    Attributes
    ----------
    modality : Modality
    members : tuple of Member, length k
        Member i has not seen the patients of fold i.
    platt : Platt
        From raw log-odds to calibrated ones.
    base : float
        Log-odds of the base rate; evidence is relative to it.
    domain : Domain or None
        What training items look like; None where embeddings have no common unit to measure distances in.
    """

    modality: Modality
    members: tuple[Member, ...]
    platt: Platt
    base: float
    domain: Domain | None = None

    def member_evidence(self, payloads: Sequence[Any | None]) -> FloatArray:
        """Return what each member says (k, n), relative to the base rate; NaN where absent."""
        return np.stack([self.platt.apply(member.raw(payloads)) - self.base for member in self.members])

    def distances(self, payloads: Sequence[Any | None], mixture: FloatArray) -> list[Distance | None]:
        """Return how far the farthest item of each payload is from the training.

        Parameters
        ----------
        payloads : sequence of length n
        mixture : array (n, k)
            How much each member counts; rows sum to 1.

        Returns
        -------
        list of Distance or None, length n
            None where absent, and where there is no domain.
        """
        owned = [
            (row, item)
            for row, payload in enumerate(payloads)
            if payload is not None and self.domain is not None
            for item in self.modality.items(payload)
        ]
        if self.domain is None or not owned:
            return [None] * len(payloads)
        rows = np.array([row for row, _ in owned])
        farthest = np.full(len(payloads), np.nan)
        embedding = self.members[0].encoder.encode([item for _, item in owned])
        # Their mean would hide one wrong image among right ones.
        np.fmax.at(farthest, rows, self.domain.distance(embedding.values, mixture[rows]))
        told = zip(farthest, self.domain.percentile(farthest), self.domain.is_outside(farthest), strict=True)
        return [
            None if np.isnan(times) else Distance(float(times), float(nearer), bool(far)) for times, nearer, far in told
        ]

    def attribute(self, payload: Any, mixture: FloatArray, scale: float) -> list[FeatureShare]:
        """Open up the evidence of one payload.

        Parameters
        ----------
        payload : object
        mixture : array (k,)
            How much each member counts; sums to 1.
        scale : float
            What the evidence is multiplied with in the risk.

        Returns
        -------
        list of FeatureShare
            Largest first; they sum to scale * (mixture @ evidence).
        """
        total: dict[str, FeatureShare] = {}
        for member, part in zip(self.members, mixture, strict=True):
            if part > 0:
                for line in member.encoder.explain(payload, self._attribution(member, payload, part * scale)):
                    known = total.get(line.feature)
                    share = line.share + (known.share if known else 0.0)
                    total[line.feature] = FeatureShare(line.feature, line.value, share)
        return sorted(total.values(), key=lambda line: -abs(line.share))

    def _attribution(self, member: Member, payload: Any, factor: float) -> Attribution:
        """Bring a member's shares to the scale that is shown."""
        opened = member.head.shares(member.encoder.encode([payload]).values)
        slope = factor * self.platt.slope
        constant = factor * (self.platt.apply(opened.constant) - self.base)
        return Attribution(
            shares=slope * opened.shares[0].astype(float),
            constant=float(constant),
            slope=None if opened.slope is None else slope * opened.slope,
            reference=opened.reference,
        )

    def state(self) -> State:
        """Return everything but the modality."""
        members = [{"encoder": member.encoder.state(), "head": member.head.state()} for member in self.members]
        domain = None if self.domain is None else self.domain.state()
        return {"members": members, "platt": self.platt.state(), "base": self.base, "domain": domain}

    @classmethod
    def restore(cls, modality: Modality, state: State) -> EvidenceModel:
        """Return the model that `state` described."""
        members = tuple(
            Member(modality.restore(member["encoder"]), MeanHead.restore(member["head"])) for member in state["members"]
        )
        domain = None if state["domain"] is None else Domain.restore(state["domain"])
        return cls(modality, members, Platt(**state["platt"]), float(state["base"]), domain)


def crossfit(
    modality: Modality, payloads: Sequence[Any | None], patients: Patients, base: float, seed: int, advance: Advance
) -> tuple[EvidenceModel, FloatArray] | None:
    """Fit a modality's members, one per fold, and calibrate them on what they had not seen.

    Parameters
    ----------
    modality : Modality
    payloads : sequence of length n, None where absent
    patients : Patients
    base : float
        Log-odds of the base rate.
    seed : int
    advance : callable
        Called with 1 after each member.

    Returns
    -------
    (EvidenceModel, array (n,)) or None
        The model and its out-of-fold evidence, NaN where absent; None if too few patients have this
        modality.
    """
    folds = range(int(patients.folds.max()) + 1)
    members, raw = [], np.full(len(payloads), np.nan)
    with ThreadPoolExecutor(min(len(folds), os.cpu_count() or 1)) as pool:
        for fold, member in enumerate(
            pool.map(lambda fold: _fit_member(modality, payloads, patients, fold, seed), folds)
        ):
            advance(1)
            if member is None:
                return None
            left_out = np.flatnonzero(patients.folds == fold)
            raw[left_out] = member.raw([payloads[row] for row in left_out.tolist()])
            members.append(member)
    here = ~np.isnan(raw)
    platt = Platt.fit(raw[here], patients.events[here], patients.weights[here])
    domain = _fit_domain(modality, members, payloads, patients)
    return EvidenceModel(modality, tuple(members), platt, base, domain), platt.apply(raw) - base


def _fit_member(
    modality: Modality, payloads: Sequence[Any | None], patients: Patients, fold: int, seed: int
) -> Member | None:
    chosen = np.flatnonzero((patients.folds != fold) & np.array([payload is not None for payload in payloads]))
    present = [payloads[row] for row in chosen.tolist()]
    if len(present) == 0:
        return None
    encoder = modality.encoder()
    encoder.fit(present, patients.events[chosen])
    embedding = encoder.encode(present)
    kept = chosen[embedding.present]
    values = embedding.values[embedding.present]
    rows = Rows(values, patients.events[kept], patients.weights[kept], patients.subject_ids[kept], embedding.same_unit)
    if values.shape[1] == 0 or inner_folds(rows) < 2:
        return None
    return Member(encoder, fit_head(encoder.heads, rows, seed))


def _fit_domain(
    modality: Modality, members: Sequence[Member], payloads: Sequence[Any | None], patients: Patients
) -> Domain | None:
    """Fit what training items look like, each counted once per patient."""
    encoder, present = members[0].encoder, [row for row, payload in enumerate(payloads) if payload is not None]
    first = encoder.encode([payloads[present[0]]])
    if not first.same_unit or not isinstance(first.values, np.ndarray):
        return None
    items: dict[Any, tuple[int, Any]] = {}
    for row in present:
        for place, item in enumerate(modality.items(payloads[row])):
            copies = tuple(modality.fingerprints(item)) or (row, place)
            items.setdefault((patients.subject_ids[row], copies), (row, item))
    values = encoder.encode([item for _, item in items.values()]).values
    domain = Domain.fit(values, patients.folds[[row for row, _ in items.values()]])
    # A last fold without the modality would leave its patients without a member of their own.
    return domain if domain is not None and len(domain.members) == len(members) else None
