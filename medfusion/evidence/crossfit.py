"""One modality as calibrated evidence, by cross-fitting.

The patients are divided into folds. For every fold an encoder and a head are fitted on the other folds: a *member*.
Where several encoders or kinds of head suit the data, cross-validation inside those other folds chooses among them. The
members serve three times: what each says of the patients it has not seen calibrates the modality and weighs it against
the others; their mean is what new patients get; and how much they differ tells how sure that is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medfusion.core.folds import Patients
from medfusion.core.protocols import Advance, Alternatives, Encoder, Modality
from medfusion.core.state import State
from medfusion.core.types import Attribution, Block, Distance, Embedding, FeatureShare, FloatArray, Pull
from medfusion.evidence.calibration import Platt
from medfusion.evidence.choose import Candidate, MeanHead, Part, fit_heads, inner_folds
from medfusion.evidence.domain import Domain
from medfusion.evidence.heads import Rows
from medfusion.evidence.stack import Stack, restore

TOGETHER = "(together with the others)"
"""The line of a ledger with what a modality adds beyond what its own values pull: by being there, and by interplay."""
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Member:
    """An encoder and a head, fitted without one fold; several encoders side by side are one, see `stack.Stack`."""

    encoder: Encoder
    head: MeanHead

    def embed(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return one row per payload."""
        return self.encoder.encode(payloads)

    def raw(self, payloads: Sequence[Any | None]) -> FloatArray:
        """Return log-odds (n,), NaN where absent."""
        embedding = self.embed(payloads)
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

    def block(self, payloads: Sequence[Any | None], embed: bool) -> Block:
        """Return what a fusion model sees of n payloads; embeddings only where it looks at them."""
        embeddings = tuple(member.embed(payloads) for member in self.members) if embed else ()
        return Block(self.member_evidence(payloads), embeddings)

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

    def attribute(self, payload: Any, mixture: FloatArray, pull: Pull, rest: float) -> list[FeatureShare]:
        """Open up the share of one payload.

        Parameters
        ----------
        payload : object
        mixture : array (k,)
            How much each member counts; sums to 1.
        pull : Pull
            How strongly the payload's parts pull at the risk.
        rest : float
            What the modality adds to the log-odds beyond `Pull.own`; one line, `TOGETHER`, unless it is nothing.

        Returns
        -------
        list of FeatureShare
            Largest first; they sum to ``Pull.own + rest``.
        """
        total: dict[str, float] = {}
        values: dict[str, float | str | None] = {}
        for place, (member, part) in enumerate(zip(self.members, mixture, strict=True)):
            if part > 0:
                for line in member.encoder.explain(payload, self._attribution(member, payload, part, pull, place)):
                    values[line.feature] = line.value
                    total[line.feature] = total.get(line.feature, 0.0) + line.share
        if abs(rest) > _NOTHING:
            values[TOGETHER], total[TOGETHER] = None, rest
        lines = [FeatureShare(feature, values[feature], each) for feature, each in total.items()]
        return sorted(lines, key=lambda line: -abs(line.share))

    def _attribution(self, member: Member, payload: Any, part: Any, pull: Pull, place: int) -> Attribution:
        """Bring a member's shares to the scale that is shown."""
        embedding = member.embed([payload])
        opened = member.head.shares(embedding.values)
        factor = part * float(pull.evidence[place])
        slope = factor * self.platt.slope
        own = Attribution(
            shares=slope * opened.shares[0].astype(float),
            constant=float(factor * (self.platt.apply(opened.constant) - self.base)),
            slope=None if opened.slope is None else slope * opened.slope,
            reference=opened.reference,
        )
        if not pull.embedding:
            return own
        return _pulled(own, embedding, part * pull.embedding[place], pull.reference[place])

    def state(self) -> State:
        """Return everything but the modality."""
        members = [{"encoder": member.encoder.state(), "head": member.head.state()} for member in self.members]
        domain = None if self.domain is None else self.domain.state()
        return {"members": members, "platt": self.platt.state(), "base": self.base, "domain": domain}

    @classmethod
    def restore(cls, modality: Modality, state: State) -> EvidenceModel:
        """Return the model that `state` described."""
        members = tuple(
            Member(restore(modality, member["encoder"]), MeanHead.restore(member["head"]))
            for member in state["members"]
        )
        domain = None if state["domain"] is None else Domain.restore(state["domain"])
        return cls(modality, members, Platt(**state["platt"]), float(state["base"]), domain)


def crossfit(
    modality: Modality, payloads: Sequence[Any | None], patients: Patients, base: float, seed: int, advance: Advance
) -> EvidenceModel | None:
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
    EvidenceModel or None
        None if too few patients have this modality.
    """
    folds = range(patients.n_folds)
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
    return EvidenceModel(modality, tuple(members), platt, base, domain)


def _fit_member(
    modality: Modality, payloads: Sequence[Any | None], patients: Patients, fold: int, seed: int
) -> Member | None:
    chosen = np.flatnonzero((patients.folds != fold) & np.array([payload is not None for payload in payloads]))
    present = [payloads[row] for row in chosen.tolist()]
    if len(present) == 0:
        return None
    fitted: list[tuple[Encoder, Embedding]] = []
    for encoder in _alternatives(modality, len(present)):
        encoder.fit(present, patients.events[chosen])
        embedding = encoder.encode(present)
        if embedding.values.shape[1] and embedding.present.any():
            fitted.append((encoder, embedding))
    if not fitted:
        return None
    here = np.any([embedding.present for _, embedding in fitted], axis=0)
    kept = chosen[here]
    candidates = [
        (place, Candidate(kind, _rows(embedding.take(here), patients, kept)))
        for place, (encoder, embedding) in enumerate(fitted)
        for kind in encoder.heads
    ]
    if inner_folds(candidates[0][1].rows) < 2:
        return None
    parts = fit_heads([candidate for _, candidate in candidates], seed)
    return _member([encoder for encoder, _ in fitted], [(candidates[at][0], part) for at, part in parts.items()])


def _alternatives(modality: Modality, records: int) -> Sequence[Encoder]:
    """Return the encoders that compete, of which most modalities have one."""
    return modality.encoders(records) if isinstance(modality, Alternatives) else [modality.encoder()]


def _rows(embedding: Embedding, patients: Patients, kept: np.ndarray) -> Rows:
    known = patients.events[kept], patients.weights[kept], patients.subject_ids[kept]
    return Rows(embedding.values, *known, embedding.same_unit)


def _member(encoders: Sequence[Encoder], parts: Sequence[tuple[int, Part]]) -> Member:
    """Put the parts that were chosen together, with the encoders that they need."""
    needed = sorted({place for place, _ in parts})
    if len(needed) == 1:
        return Member(encoders[needed[0]], MeanHead([part for _, part in parts]))
    stack = Stack([encoders[place] for place in needed])
    columns = dict(zip(needed, stack.columns, strict=True))
    return Member(stack, MeanHead([replace(part, columns=columns[place]) for place, part in parts]))


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


def _pulled(own: Attribution, embedding: Embedding, pull: FloatArray, reference: FloatArray) -> Attribution:
    """Add to a head's shares what a fusion model makes of the embedding itself."""
    shares = pull * np.nan_to_num(embedding.dense(0) - reference)
    if own.slope is None or own.reference is None:
        return Attribution(own.shares + shares, own.constant)
    # One slope needs one reference: that of the head, where it has one; the difference is the same for every patient.
    moved = np.where(np.isnan(own.slope), 0.0, pull * (own.reference - reference))
    return Attribution(own.shares + shares - moved, own.constant + float(moved.sum()), own.slope + pull, own.reference)
