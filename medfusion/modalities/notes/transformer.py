"""Notes as the mean of a language model's hidden states; with a linear head, exactly the sum of its tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import ModelFolderError
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray
from medfusion.modalities.notes.language_model import LanguageModel
from medfusion.modalities.notes.payload import AVERAGE, Note, NotesPayload
from medfusion.modalities.notes.sentences import name_of

MARKERS = "(punctuation and markers)"
_ROUNDING = 1e-3
"""How far, in log-odds, shares may be off because hidden states depend a little on what they are computed with."""


def with_vectors(payloads: Sequence[NotesPayload | None], model: LanguageModel) -> list[NotesPayload | None]:
    """Give every payload the mean of the hidden states over all tokens of all its notes."""
    texts = [[] if payload is None else _texts(payload) for payload in payloads]
    sums = model.sums([text for each in texts for text in each])
    found: list[NotesPayload | None] = []
    for payload, each in zip(payloads, texts, strict=True):
        if payload is not None:
            total = np.sum([sums[text][1] for text in each], axis=0)
            payload = replace(payload, vector=total / sum(sums[text][0] for text in each))  # noqa: PLW2901
        found.append(payload)
    return found


class TransformerEncoder:
    """Mean-pooled hidden states of a frozen language model.

    Sentences that were copied forward are left out here, too; negation and sections are left to the model.

    Parameters
    ----------
    model : LanguageModel
    """

    heads: ClassVar[tuple[HeadKind, ...]] = ("linear",)
    kind: ClassVar[str] = "transformer"
    whole: ClassVar[str] = "(all words, as the language model reads them)"

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def fit(self, payloads: Sequence[NotesPayload | None], events: BoolArray) -> None:
        """Do nothing: the model is frozen."""

    def encode(self, payloads: Sequence[NotesPayload | None]) -> Embedding:
        """Return values (n, size), float32; rows of absent payloads are NaN."""
        values = np.full((len(payloads), self._model.size), np.nan, dtype=np.float32)
        for row, payload in enumerate(payloads):
            if payload is not None:
                values[row] = payload.vector
        present = np.array([payload is not None for payload in payloads], dtype=bool)
        return Embedding(values, present, [f"hidden {k}" for k in range(self._model.size)], same_unit=True)

    def explain(self, payload: NotesPayload, attribution: Attribution) -> list[FeatureShare]:
        """Give every token of T its share, (1/T) sum_k slope_k (hidden_k - reference_k), summed up by word.

        A token's hidden state depends on its context, so the share is that of the word where it stands. Punctuation
        and the model's own markers are summed up in one line, which takes the rounding error as well.

        Raises
        ------
        ValueError
            If the head is not linear, or the hidden states are not those that the attribution is about.
        """
        if attribution.slope is None or attribution.reference is None:
            raise ValueError("the shares of words need a head that is linear in the embedding")
        slope, reference = np.asarray(attribution.slope, float), np.asarray(attribution.reference, float)
        shares: defaultdict[str, float] = defaultdict(float)
        tokens = 0
        for note in _with_text(payload):
            hidden, places = self._model.tokens(_text(note))
            tokens += len(hidden)
            _add_shares(shares, note, (hidden - reference) @ slope, places)
        lines = _lines(payload, shares, tokens)
        rest = float(attribution.shares.sum()) - sum(line.share for line in lines)
        other = shares[MARKERS] / tokens
        if not abs(rest - other) <= _ROUNDING * (1 + abs(attribution.total)):
            raise ValueError("the hidden states are not those of the embedding that the attribution is about")
        return [*lines, FeatureShare(MARKERS, None, rest), FeatureShare(AVERAGE, None, float(attribution.constant))]

    def state(self) -> State:
        """Return the size of the embedding, for it is the modality that knows the model."""
        return {"kind": self.kind, "size": self._model.size}

    @classmethod
    def restore(cls, state: State, model: LanguageModel) -> TransformerEncoder:
        """Return the encoder that `state` described.

        Raises
        ------
        ModelFolderError
            If the language model makes embeddings of another size.
        """
        if state["size"] != model.size:
            raise ModelFolderError(
                f"notes: trained on embeddings of size {state['size']}, the model's are {model.size}"
            )
        return cls(model)


def _with_text(payload: NotesPayload) -> list[Note]:
    return [note for note in payload.notes if note.sentences]


def _texts(payload: NotesPayload) -> list[str]:
    return [_text(note) for note in _with_text(payload)]


def _text(note: Note) -> str:
    """Join the sentences that count."""
    return _JOINT.join(note.text[places[0, 0] : places[-1, 1]] for places in (s.places for s in note.sentences))


_JOINT = ". "


def _words(note: Note) -> tuple[list[str], NDArray[np.int64]]:
    """Return the words of a note and where they stand in its `_text`."""
    terms: list[str] = []
    found, start = [], 0
    for sentence in note.sentences:
        terms += sentence.terms
        found.append(sentence.places.astype(np.int64) - sentence.places[0, 0] + start)
        start = int(found[-1][-1, 1]) + len(_JOINT)
    return terms, np.concatenate(found)


def _add_shares(shares: dict[str, float], note: Note, each: FloatArray, tokens: NDArray[np.int64]) -> None:
    """Add the shares of tokens to the words in which they begin."""
    terms, places = _words(note)
    word = np.searchsorted(places[:, 0], tokens[:, 0], side="right") - 1
    inside = (word >= 0) & (tokens[:, 0] < places[word, 1]) & (tokens[:, 1] > tokens[:, 0])
    for index, is_word, share in zip(word.tolist(), inside.tolist(), each.tolist(), strict=True):
        shares[terms[index] if is_word else MARKERS] += share


def _lines(payload: NotesPayload, shares: dict[str, float], tokens: int) -> list[FeatureShare]:
    counts = payload.terms()
    lines = [
        FeatureShare(name_of(term), float(counts[term]), share / tokens)
        for term, share in shares.items()
        if term != MARKERS
    ]
    return sorted(lines, key=lambda line: (-abs(line.share), line.feature))
