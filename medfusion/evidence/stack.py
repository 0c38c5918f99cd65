"""Several encoders of one modality, side by side, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from medfusion.core.protocols import Encoder, HeadKind, Modality
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray

_STACKED = "stacked"


class Stack:
    """Encoders whose embeddings stand side by side; each explains the shares of its own columns.

    Lines of one name, such as those of one word, become one.

    Parameters
    ----------
    encoders : sequence of Encoder
        Two or more, already fitted.
    """

    heads: ClassVar[tuple[HeadKind, ...]] = ()

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = tuple(encoders)

    @cached_property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """Of each encoder the first column, and the one after the last."""
        ends = np.cumsum([len(encoder.encode([]).feature_names) for encoder in self.encoders]).tolist()
        return tuple(zip([0, *ends], ends, strict=False))

    def fit(self, payloads: Sequence[Any | None], events: BoolArray) -> None:
        """Fit each."""
        for encoder in self.encoders:
            encoder.fit(payloads, events)
        self.__dict__.pop("columns", None)

    def encode(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return the embeddings side by side; sparse if one of them is."""
        return side_by_side([encoder.encode(payloads) for encoder in self.encoders])

    def explain(self, payload: Any, attribution: Attribution) -> list[FeatureShare]:
        """Have each encoder name its part; the constant goes to the first."""
        values: dict[str, float | str | None] = {}
        shares: dict[str, float] = {}
        for encoder, part in zip(self.encoders, self._parts(attribution), strict=True):
            for line in encoder.explain(payload, part):
                if values.get(line.feature) is None:
                    values[line.feature] = line.value
                shares[line.feature] = shares.get(line.feature, 0.0) + line.share
        return [FeatureShare(name, values[name], share) for name, share in shares.items()]

    def _parts(self, attribution: Attribution) -> Iterator[Attribution]:
        constant = attribution.constant
        for first, end in self.columns:
            shares, slope, reference = attribution.shares[first:end], attribution.slope, attribution.reference
            if slope is None or reference is None or np.isnan(slope[first:end]).any():
                yield Attribution(shares, constant)
            else:
                yield Attribution(shares, constant, slope[first:end], reference[first:end])
            constant = 0.0

    def state(self) -> State:
        """Return the state of each."""
        return {_STACKED: [encoder.state() for encoder in self.encoders]}


def side_by_side(embeddings: Sequence[Embedding]) -> Embedding:
    """Return embeddings of the same payloads as one; a payload is present where one of them has something to say.

    Examples
    --------
    >>> here = np.array([True])
    >>> both = side_by_side([Embedding(np.ones((1, 2)), here, ["a", "b"]), Embedding(np.zeros((1, 1)), here, ["c"])])
    >>> both.values.tolist(), both.feature_names
    ([[1.0, 1.0, 0.0]], ['a', 'b', 'c'])
    """
    present = np.any([each.present for each in embeddings], axis=0)
    names = [name for each in embeddings for name in each.feature_names]
    if any(sparse.issparse(each.values) for each in embeddings):
        values: Any = sparse.hstack([_stored(each, present) for each in embeddings], format="csr")
    else:
        values = np.hstack([each.values for each in embeddings])
    return Embedding(values, present, names)


def restore(modality: Modality, state: State) -> Encoder:
    """Return one encoder of a modality, or several, as they were."""
    if isinstance(state, dict) and _STACKED in state:
        return Stack([modality.restore(each) for each in state[_STACKED]])
    return modality.restore(state)


def single(encoder: Encoder) -> tuple[Encoder, ...]:
    """Return the encoders that stand side by side in one, or the one that it is."""
    return encoder.encoders if isinstance(encoder, Stack) else (encoder,)


def _stored(embedding: Embedding, present: BoolArray) -> sparse.csr_array:
    """Return values as they are stored beside sparse ones; the rows of an absent payload are empty."""
    if not isinstance(embedding.values, np.ndarray):
        return embedding.values
    values: FloatArray = np.where(present[:, None], embedding.values, 0)
    return sparse.csr_array(values)
