"""One modality as calibrated evidence, by cross-fitting.

The patients are divided into folds. For every fold an encoder and a head are fitted on the other folds: a *member*.
Where several encoders or kinds of head suit the data, cross-validation inside those other folds chooses among them. The
members serve three times: what each says of the patients it has not seen calibrates the modality and weighs it against
the others; their mean is what new patients get; and how much they differ tells how sure that is.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medfusion.core.batch import Batch
from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.folds import Patients
from medfusion.core.lines import Lines, Places, together
from medfusion.core.protocols import Advance, Alternatives, Encoder, Modality
from medfusion.core.state import State
from medfusion.core.types import Block, Distance, Embedding, FeatureShare, FloatArray, Pull
from medfusion.evidence.calibration import Platt
from medfusion.evidence.choose import Candidate, MeanHead, Part, fit_heads, inner_folds
from medfusion.evidence.domain import Domain
from medfusion.evidence.heads import Rows
from medfusion.evidence.opening import Shares, lines_of
from medfusion.evidence.stack import Stack, restore, single

TOGETHER = "(together with the others)"
"""The line of a ledger with what a modality adds beyond what its own values pull: by being there, and by interplay."""
AT_ONCE = 2048
"""Payloads that are looked at together: enough for vectorised work, few enough for little memory."""
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Member:
    """An encoder and a head, fitted without one fold; several encoders side by side are one, see `stack.Stack`."""

    encoder: Encoder
    head: MeanHead

    def embed(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return one row per payload; of a `Batch`, encoders that are equal work once."""
        if isinstance(payloads, Batch):
            return payloads.known(("embedding", _identity(self.encoder)), lambda: self.encoder.encode(payloads))
        return self.encoder.encode(payloads)

    def raw(self, payloads: Sequence[Any | None]) -> FloatArray:
        """Return log-odds (n,), NaN where absent."""
        return self.judge(self.embed(payloads))

    def judge(self, embedding: Embedding) -> FloatArray:
        """Return log-odds (n,) of what `embed` returned, NaN where absent."""
        raw = np.full(len(embedding.present), np.nan)
        if embedding.present.all():
            return self.head.raw(embedding.values) if len(raw) else raw
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

    @property
    def encoders(self) -> list[Encoder]:
        """The encoders of all members."""
        return [each for member in self.members for each in single(member.encoder)]

    def member_evidence(self, payloads: Sequence[Any | None]) -> FloatArray:
        """Return what each member says (k, n), relative to the base rate; NaN where absent."""
        return np.stack([self.platt.apply(member.raw(payloads)) - self.base for member in self.members])

    def block(self, payloads: Sequence[Any | None], embed: bool) -> Block:
        """Return what a fusion model sees of n payloads; embeddings only where it looks at them."""
        if embed:
            batch = payloads if isinstance(payloads, Batch) else Batch(payloads)
            return Block(self.member_evidence(batch), tuple(member.embed(batch) for member in self.members))
        if isinstance(payloads, Batch) or len(payloads) <= AT_ONCE:
            return Block(self.member_evidence(payloads))
        lots = [Batch(payloads[start : start + AT_ONCE]) for start in range(0, len(payloads), AT_ONCE)]
        return Block(np.concatenate([self.member_evidence(lot) for lot in lots], axis=1))

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
        if self.domain is None or all(payload is None for payload in payloads):
            return [None] * len(payloads)
        farthest = np.full(len(payloads), np.nan)
        rows, values = self._items(payloads)
        # Their mean would hide one wrong image among right ones.
        np.fmax.at(farthest, rows, self.domain.distance(values, mixture[rows]))
        told = zip(farthest, self.domain.percentile(farthest), self.domain.is_outside(farthest), strict=True)
        return [
            None if np.isnan(times) else Distance(float(times), float(nearer), bool(far)) for times, nearer, far in told
        ]

    def _items(self, payloads: Sequence[Any | None]) -> tuple[Places, FloatArray]:
        """Return the rows that single items belong to (m,), and their embeddings (m, d)."""
        items = [[] if payload is None else self.modality.items(payload) for payload in payloads]
        alone = np.array([row for row, mine in enumerate(items) if len(mine) == 1], dtype=np.int64)
        several = [(row, item) for row, mine in enumerate(items) if len(mine) > 1 for item in mine]
        # A payload with one item is that item.
        known = self.members[0].embed(payloads).values[alone]
        if not several:
            return alone, known
        encoded = self.members[0].encoder.encode([item for _, item in several]).values
        return np.concatenate([alone, [row for row, _ in several]]), np.concatenate([known, encoded])

    def attribute(self, payload: Any, mixture: FloatArray, pull: Pull, rest: float) -> list[FeatureShare]:
        """Open up the share of one payload; `open` does it for many.

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

        Raises
        ------
        PayloadRejected
            If the payload can no longer be read.
        """
        lines, lost = self.open(Batch([payload]), np.zeros(1, dtype=np.int64), mixture[None], pull, np.array([rest]))
        if lost:
            raise PayloadRejected(lost[0])
        return lines.largest(None).ledgers()[0]

    def open(
        self,
        payloads: Batch,
        rows: Places,
        mixture: FloatArray,
        pull: Pull,
        rest: FloatArray,
        *,
        dear: bool = True,
    ) -> tuple[Lines, dict[int, Problem]]:
        """Open up the shares of many payloads, with as few calls of encoders and heads as there are members.

        Parameters
        ----------
        payloads : Batch
        rows : array (n,), int
            Which of the payloads; none of them is None.
        mixture : array (n, k)
            How much each member counts; rows sum to 1.
        pull : Pull
            How strongly the parts of these n payloads pull at the risk.
        rest : array (n,)
            What the modality adds beyond `Pull.own`; one line, `TOGETHER`, where it is something.
        dear : bool
            Whether to open what is dear to open, see `medfusion.core.protocols.Dear`.

        Returns
        -------
        Lines
            Those of payload ``rows[i]`` sum to ``Pull.own + rest`` of i.
        dict from int to Problem
            By place among ``rows``: payloads that can no longer be read. Their lines mean nothing.
        """
        parts: list[tuple[Places, Lines]] = []
        lost: dict[int, Problem] = {}
        for place, member in enumerate(self.members):
            embedding = member.embed(payloads)
            counts = (mixture[:, place] > 0) & embedding.present[rows]
            counts[list(lost)] = False
            mine = np.flatnonzero(counts)
            if len(mine):
                seen = embedding if len(mine) == len(payloads) else embedding.take(rows[mine])
                shares = self._shares(place, seen, mixture[mine, place], pull.take(mine))
                lines, gone = lines_of(member.encoder, payloads, rows[mine], shares, dear=dear)
                lost |= {int(mine[each]): problem for each, problem in gone.items()}
                parts.append((mine, lines))
        return together(parts, len(rows)).also(TOGETHER, np.where(np.abs(rest) > _NOTHING, rest, np.nan)), lost

    def _shares(self, place: int, embedding: Embedding, part: FloatArray, pull: Pull) -> Shares:
        """Bring a member's shares to the scale that is shown."""
        factor = part * pull.evidence[..., place]
        shares, constant = Shares.of(self.members[place].head, embedding.values, factor * self.platt.slope)
        shares = shares.plus(factor * (self.platt.apply(constant) - self.base))
        if not pull.embedding:
            return shares
        return shares.pulled(embedding, part[:, None] * pull.embedding[place], pull.reference[place])

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


def _identity(encoder: Encoder) -> Hashable:
    """Return what is equal for encoders that say the same; where that cannot be told, for the same one."""
    try:
        hash(encoder)
    except TypeError:
        return id(encoder)
    assert isinstance(encoder, Hashable)
    return encoder
