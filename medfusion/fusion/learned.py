"""Fusion by a network that learns what the sum of the evidence misses: gated, early and joint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Any, ClassVar, Self

import numpy as np
import torch

from medfusion.core.folds import Patients
from medfusion.core.state import State
from medfusion.core.types import Block, FloatArray, Pull
from medfusion.fusion.networks import Early, Gated, Inputs, Joint, Network
from medfusion.fusion.projection import Projection
from medfusion.fusion.training import one_thread, train_network
from medfusion.fusion.weights import Weights

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(12)
TOWARDS = (1.0, 0.0)
"""Without proof to the contrary, the sum of the evidence is right, and the network has nothing to add."""


@dataclass(frozen=True, slots=True)
class Learner:
    """One member: what was fitted without one fold.

    Attributes
    ----------
    weights : array (modalities,)
        Of the evidence, as in late fusion.
    projections : tuple of Projection
        One per modality; empty for a network that looks at evidence alone.
    network : Network
    """

    weights: FloatArray
    projections: tuple[Projection, ...]
    network: Network

    def inputs(self, blocks: Mapping[str, Block], evidence: FloatArray, place: int) -> Inputs:
        """Return what the network sees, given evidence (n, modalities) with NaN where absent."""
        return _inputs(self.weights, self.projections, blocks, evidence, place)

    def terms(self, inputs: Inputs) -> torch.Tensor:
        """Return the weighted sum of the evidence, and what the network adds to it: (n, 2)."""
        return torch.stack([inputs.evidence.sum(dim=1), self.network(inputs)], dim=1)


class LearnedFusion:
    """``logit = base + a * weighted sum of evidence + b * network``, for any subset of modalities.

    The network of each member is fitted without one fold; base, a and b are fitted on what it says of that fold, with a
    pulled to 1 and b to 0. So a network that finds nothing new is switched off, and late fusion remains.

    Attributes
    ----------
    learners : tuple of Learner, length k
    fitted : Weights
        Base, a and b.
    """

    kind: ClassVar[str]
    network: ClassVar[type[Network]]

    def __init__(self, learners: tuple[Learner, ...] = (), fitted: Weights | None = None) -> None:
        self.learners = learners
        self.fitted = fitted or Weights(0.0, np.ones(2), np.zeros((3, 3)))

    @property
    def base(self) -> float:
        """Log-odds of a patient of whom nothing is known."""
        return self.fitted.base

    def fit(self, blocks: Mapping[str, Block], patients: Patients, seed: int) -> Self:
        """Fit a network per fold, and on what they left out, how much they count."""
        evidence = np.column_stack([block.left_out(patients.folds) for block in blocks.values()])
        self.learners = tuple(self._learner(blocks, evidence, patients, fold, seed) for fold in range(patients.n_folds))
        self.fitted = Weights.fit(self._left_out_terms(blocks, patients), patients, TOWARDS)
        return self

    def left_out(self, blocks: Mapping[str, Block], patients: Patients) -> FloatArray:
        """Return log-odds (n,) of the training samples.

        A sample's network, and the outcomes that base, a and b are fitted on, are those of other folds. What the other
        folds say comes from networks that have seen the sample's fold, as cross-fitted evidence itself does.
        """
        terms = self._left_out_terms(blocks, patients)
        logits = np.empty(len(terms))
        for fold in range(patients.n_folds):
            here = patients.folds == fold
            logits[here] = Weights.fit(terms[~here], patients.take(~here), TOWARDS).logit(terms[here])
        return logits

    def logits(self, blocks: Mapping[str, Block]) -> FloatArray:
        """Return calibrated log-odds (k, n) for any subset of modalities."""
        return np.stack([self.fitted.logit(terms) for terms in self._terms(blocks)])

    def variance(self, blocks: Mapping[str, Block], mixture: FloatArray) -> FloatArray:
        """Return how uncertain the logits (n,) are because base, a and b were estimated."""
        return self.fitted.variance(np.einsum("nk,knt->nt", mixture, self._terms(blocks)))

    def pulls(self, blocks: Mapping[str, Block]) -> dict[str, Pull]:
        """Open up n samples: Aumann-Shapley slopes [1]_, averaged over the subsets of the other modalities.

        Each modality's evidence and embedding are brought in along a straight path from the average to what they are,
        with every subset of the others there, as often as Shapley's formula counts it.

        References
        ----------
        .. [1] Sundararajan M, Taly A, Yan Q (2017). Axiomatic attribution for deep networks. ICML.
        """
        with one_thread():
            slopes = [self._slopes(blocks, place) for place in range(len(self.learners))]
        pulls = {}
        for column, name in enumerate(blocks):
            weights = np.array([learner.weights[column] for learner in self.learners])
            known = [learner.projections[column] for learner in self.learners if learner.projections]
            pulls[name] = Pull(
                weights * np.column_stack([each[column][:, 0] for each in slopes]),
                tuple(
                    each[column][:, 1:] @ projection.directions.T
                    for projection, each in zip(known, slopes, strict=False)
                ),
                tuple(projection.centre for projection in known),
            )
        return pulls

    def summary(self, names: Sequence[str]) -> dict[str, float]:
        """Return how much the weighted sum of the evidence counts, and how much what the network adds."""
        total, network = self.fitted.weights.round(4).tolist()
        return {f"weight of the sum of {', '.join(names)}": total, "weight of the network": network}

    def state(self) -> State:
        """Return the networks' parameters, the projections and the weights."""
        learners = [
            {
                "weights": learner.weights,
                "projections": [projection.state() for projection in learner.projections],
                "sizes": list(learner.network.sizes),
                "network": learner.network.arrays(),
            }
            for learner in self.learners
        ]
        return {"kind": self.kind, "learners": learners, "fitted": self.fitted.state()}

    @classmethod
    def restore(cls, state: State) -> Self:
        """Return the model that `state` described."""
        return cls(tuple(map(cls._restored, state["learners"])), Weights.restore(state["fitted"]))

    @classmethod
    def _restored(cls, state: State) -> Learner:
        # A new network draws its first parameters; nobody else's random numbers are touched.
        with torch.random.fork_rng(devices=[]):
            network = cls.network([int(size) for size in state["sizes"]]).double()
        network.load(state["network"])
        network.eval()
        return Learner(state["weights"], tuple(map(Projection.restore, state["projections"])), network)

    @classmethod
    def _learner(
        cls, blocks: Mapping[str, Block], evidence: FloatArray, patients: Patients, fold: int, seed: int
    ) -> Learner:
        train = patients.folds != fold
        known = patients.take(train)
        late = Weights.fit(np.nan_to_num(evidence[train]), known)
        rows = {name: block.take(train) for name, block in blocks.items()}
        projections: tuple[Projection, ...] = ()
        if cls.network.uses_coordinates:
            projections = tuple(Projection.fit(block.embeddings[fold]) for block in rows.values())
        sizes = [projection.directions.shape[1] for projection in projections] or [0] * len(blocks)
        inputs = _inputs(late.weights, projections, rows, evidence[train], fold)
        network = train_network(cls.network, sizes, inputs, late.base, known, seed)
        return cls._restored(
            {
                "weights": late.weights,
                "projections": [projection.state() for projection in projections],
                "sizes": sizes,
                "network": network.arrays(),
            }
        )

    def _terms(self, blocks: Mapping[str, Block]) -> FloatArray:
        """Return what each learner says (k, n, 2)."""
        evidence = np.stack([block.evidence for block in blocks.values()], axis=-1)
        if evidence.shape[1] == 0:
            return np.zeros((*evidence.shape[:2], 2))
        with one_thread(), torch.no_grad():
            return np.stack(
                [
                    learner.terms(learner.inputs(blocks, evidence[place], place)).numpy()
                    for place, learner in enumerate(self.learners)
                ]
            )

    def _left_out_terms(self, blocks: Mapping[str, Block], patients: Patients) -> FloatArray:
        return np.asarray(self._terms(blocks)[patients.folds, np.arange(len(patients.folds))])

    def _slopes(self, blocks: Mapping[str, Block], place: int) -> list[FloatArray]:
        """Return by modality the slopes (n, 1 + r) of log-odds in weighted evidence and coordinates."""
        learner = self.learners[place]
        evidence = np.stack([block.evidence[place] for block in blocks.values()], axis=-1)
        inputs = learner.inputs(blocks, evidence, place)
        there = ~np.isnan(evidence)
        slopes: list[FloatArray] = [np.zeros((len(evidence), 1 + size)) for size in learner.network.sizes]
        for pattern in np.unique(there, axis=0):
            rows = np.flatnonzero((there == pattern).all(axis=1))
            present = np.flatnonzero(pattern).tolist()
            alike = Inputs(inputs.evidence[rows], [each[rows] for each in inputs.coordinates], inputs.present[rows])
            for column in present:
                others = [other for other in present if other != column]
                slopes[column][rows] = self._slope(learner, alike, column, others)
        return slopes

    def _slope(self, learner: Learner, inputs: Inputs, column: int, others: list[int]) -> FloatArray:
        """Return the slopes (n, 1 + r) of samples that have the same modalities."""
        masks, often = _coalitions(len(learner.network.sizes), column, others)
        n, points = len(inputs.evidence), len(masks) * len(_NODES)
        steps = torch.as_tensor((_NODES + 1.0) / 2.0).repeat(n * len(masks))
        weights = torch.as_tensor(np.repeat(often, len(_NODES)) * np.tile(_NODE_WEIGHTS / 2.0, len(masks)))
        rows = torch.as_tensor(np.repeat(masks, len(_NODES), axis=0)).repeat(n, 1)
        evidence = inputs.evidence.repeat_interleave(points, dim=0)
        coordinates = [each.repeat_interleave(points, dim=0) for each in inputs.coordinates]
        given = Inputs(evidence, coordinates, torch.ones_like(rows)).masked(rows)
        own = (torch.cat([evidence[:, [column]], coordinates[column]], dim=1) * steps[:, None]).detach()
        own.requires_grad_()
        moved = given.evidence.clone()
        moved[:, column] = own[:, 0]
        coordinates = [own[:, 1:] if place == column else each for place, each in enumerate(given.coordinates)]
        terms = learner.terms(Inputs(moved, coordinates, given.present))
        total = terms @ torch.as_tensor(self.fitted.weights)
        (gradient,) = torch.autograd.grad(total.sum(), own)
        return np.asarray((weights[:, None] * gradient.reshape(n, points, -1)).sum(dim=1).numpy())


def _inputs(
    weights: FloatArray,
    projections: Sequence[Projection],
    blocks: Mapping[str, Block],
    evidence: FloatArray,
    place: int,
) -> Inputs:
    columns = [
        projection.apply(block.embeddings[place])
        for projection, block in zip(projections, blocks.values(), strict=False)
    ] or [np.zeros((len(evidence), 0))] * len(blocks)
    present = torch.as_tensor(~np.isnan(evidence), dtype=torch.float64)
    weighted = torch.as_tensor(np.nan_to_num(evidence) * weights)
    everything = Inputs(weighted, [torch.as_tensor(column) for column in columns], torch.ones_like(present))
    return everything.masked(present)


def _coalitions(modalities: int, column: int, others: list[int]) -> tuple[FloatArray, FloatArray]:
    """Return masks (s, modalities) with one modality and every subset of some others, and how often each counts."""
    masks, often = [], []
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            masks.append([float(place == column or place in chosen) for place in range(modalities)])
            often.append(factorial(size) * factorial(len(others) - size) / factorial(len(others) + 1))
    return np.array(masks), np.array(often)


class GatedFusion(LearnedFusion):
    """Late fusion whose weights depend on which modalities are there, and on how sure each is."""

    kind: ClassVar[str] = "gated"
    uses_embeddings: ClassVar[bool] = False
    network: ClassVar[type[Network]] = Gated


class EarlyFusion(LearnedFusion):
    """Features side by side, with presence flags, into one perceptron."""

    kind: ClassVar[str] = "early"
    uses_embeddings: ClassVar[bool] = True
    network: ClassVar[type[Network]] = Early


class JointFusion(LearnedFusion):
    """Tokens of all modalities through co-attention, with modality dropout and a loss for each modality alone."""

    kind: ClassVar[str] = "joint"
    uses_embeddings: ClassVar[bool] = True
    network: ClassVar[type[Network]] = Joint


CLASSES: dict[str, Any] = {each.kind: each for each in (GatedFusion, EarlyFusion, JointFusion)}
