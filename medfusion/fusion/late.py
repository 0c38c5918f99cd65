"""Late fusion: the risk is a base rate plus weighted evidence, and an absent modality adds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from medfusion.core.folds import Patients
from medfusion.core.state import State
from medfusion.core.types import Block, FloatArray, Pull
from medfusion.fusion.weights import Weights


class LateFusion:
    """Non-negative ridge weights on calibrated evidence.

    ``logit = base + sum over present modalities of weight * evidence``. Fitted on out-of-fold evidence only, so the
    base rate and the scale of the sum are calibrated on patients that no head has seen.

    Attributes
    ----------
    fitted : Weights
        Base and weights, one per modality in the order of the blocks.
    """

    kind: ClassVar[str] = "late"
    uses_embeddings: ClassVar[bool] = False

    def __init__(self, fitted: Weights | None = None) -> None:
        self.fitted = fitted or Weights(0.0, np.empty(0), np.zeros((1, 1)))

    @property
    def base(self) -> float:
        """Log-odds of a patient of whom nothing is known."""
        return self.fitted.base

    @property
    def weights(self) -> FloatArray:
        """How much each modality's evidence counts (modalities,); never negative."""
        return self.fitted.weights

    def fit(self, blocks: Mapping[str, Block], patients: Patients, seed: int = 0) -> Self:
        """Fit on out-of-fold evidence; nothing is drawn, so the seed does not matter."""
        self.fitted = Weights.fit(out_of_fold(blocks, patients), patients)
        return self

    def left_out(self, blocks: Mapping[str, Block], patients: Patients) -> FloatArray:
        """Return log-odds (n,) of the training samples, with base and weights of the other folds."""
        evidence = out_of_fold(blocks, patients)
        logits = np.empty(len(evidence))
        for fold in range(patients.n_folds):
            here = patients.folds == fold
            logits[here] = Weights.fit(evidence[~here], patients.take(~here)).logit(evidence[here])
        return logits

    def logits(self, blocks: Mapping[str, Block]) -> FloatArray:
        """Return calibrated log-odds (k, n) for any subset of modalities."""
        return np.asarray(self.base + _evidence(blocks) @ self.weights)

    def variance(self, blocks: Mapping[str, Block], mixture: FloatArray) -> FloatArray:
        """Return how uncertain the logits (n,) are because base and weights were estimated."""
        return self.fitted.variance(np.einsum("nk,knm->nm", mixture, _evidence(blocks)))

    def pulls(self, blocks: Mapping[str, Block]) -> dict[str, Pull]:
        """Return each modality's weight, the same for all samples and members."""
        return {
            name: Pull(np.full(len(block.evidence), weight))
            for (name, block), weight in zip(blocks.items(), self.weights, strict=True)
        }

    def summary(self, names: Sequence[str]) -> dict[str, float]:
        """Return the weight of each modality."""
        weights = self.weights.round(4).tolist()
        return {f"weight of {name}": weight for name, weight in zip(names, weights, strict=True)}

    def state(self) -> State:
        """Return base, weights and their covariance."""
        return {"kind": self.kind, **self.fitted.state()}

    @classmethod
    def restore(cls, state: State) -> LateFusion:
        """Return the model that `state` described."""
        return cls(Weights.restore(state))


def out_of_fold(blocks: Mapping[str, Block], patients: Patients) -> FloatArray:
    """Return evidence (n, modalities) of training samples from members that have not seen them; 0 where absent."""
    return np.nan_to_num(np.column_stack([block.left_out(patients.folds) for block in blocks.values()]))


def _evidence(blocks: Mapping[str, Block]) -> FloatArray:
    """Return evidence (k, n, modalities), 0 where absent."""
    return np.nan_to_num(np.stack([block.evidence for block in blocks.values()], axis=-1))
