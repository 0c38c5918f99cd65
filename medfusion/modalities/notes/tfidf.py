"""Notes as weighted counts: words and pairs of words, and pieces of words for what is misspelt, inflected or new."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray
from medfusion.modalities.notes.payload import AVERAGE, NotesPayload
from medfusion.modalities.notes.sentences import NEGATED, name_of
from medfusion.modalities.notes.words import is_hangul

MIN_PAYLOADS = 2
"""A feature that fewer training payloads have is left out."""
MAX_FEATURES = 20_000
"""Per block; the most frequent are kept."""
PIECE_WEIGHT = 0.5
"""Norm of the block of pieces, where the block of words has norm 1: they help out, and must not drown the words."""
ELSEWHERE = "(words not in these notes)"
"""The line of a ledger for features that the notes do not have."""


class TfidfEncoder:
    """TF-IDF [1]_ in two blocks: words with pairs of words, scaled to norm 1, and pieces of words, to norm 0.5.

    Words carry their marks, so that *fever*, *not fever* and *fever* in the family history are different features.
    Pairs do not span sentences. Pieces are 3 to 5 characters of a word with a space at either end, 2 to 4 in Korean,
    and are taken from words without marks alone: a piece of *not fever* must not look like fever. Term frequency
    enters as 1 + log(count).

    References
    ----------
    .. [1] Salton G, Buckley C. Term-weighting approaches in automatic text retrieval. Information Processing &
       Management. 1988;24(5):513-523.

    Examples
    --------
    >>> from medfusion.modalities.notes.example import example_payload
    >>> payloads = [example_payload(seed) for seed in range(4)] + [None]
    >>> encoder = TfidfEncoder()
    >>> encoder.fit(payloads, np.array([True, False, True, False, True]))
    >>> encoder.encode(payloads).present.tolist()
    [True, True, True, True, False]
    """

    heads: ClassVar[tuple[HeadKind, ...]] = ("linear",)
    kind: ClassVar[str] = "tfidf"

    def __init__(self) -> None:
        self._words = _Block(_word_features, 1.0)
        self._pieces = _Block(_piece_features, PIECE_WEIGHT)

    def fit(self, payloads: Sequence[NotesPayload | None], events: BoolArray) -> None:
        """Learn vocabulary and inverse document frequencies from the payloads that are there."""
        there = [payload for payload in payloads if payload is not None]
        self._words.fit(there)
        self._pieces.fit(there)

    def encode(self, payloads: Sequence[NotesPayload | None]) -> Embedding:
        """Return values (n, d), sparse float32; rows of absent payloads are empty."""
        blocks = [block.transform(payloads) for block in (self._words, self._pieces)]
        values = sparse.csr_array(sparse.hstack(blocks, format="csr", dtype=np.float32))
        present = np.array([payload is not None for payload in payloads], dtype=bool)
        names = [f"word:{name}" for name in self._words.columns] + [f"char:{name}" for name in self._pieces.columns]
        return Embedding(values, present, names)

    def explain(self, payload: NotesPayload, attribution: Attribution) -> list[FeatureShare]:
        """Give the share of every feature to the words that carry it.

        A pair's share is split evenly between its two words. The share of a piece is split between the words that
        hold it, by how often each brings it in. Features that are not in the notes are summed up in one line, and what
        the average note contributes stands in another.

        Returns
        -------
        list of FeatureShare
            Largest first; ``value`` is the number of occurrences.
        """
        counts = payload.terms()
        shares: defaultdict[str, float] = defaultdict(float)
        used = np.zeros(len(attribution.shares), dtype=bool)
        for feature, carriers in self._carriers(payload, counts):
            used[feature] = True
            each = float(attribution.shares[feature]) / sum(carriers.values())
            for term, weight in carriers.items():
                shares[term] += each * weight
        lines = [FeatureShare(name_of(term), float(counts[term]), share) for term, share in shares.items()]
        lines.sort(key=lambda line: (-abs(line.share), line.feature))
        lines.append(FeatureShare(ELSEWHERE, None, float(attribution.shares[~used].sum())))
        lines.append(FeatureShare(AVERAGE, None, float(attribution.constant)))
        return lines

    def _carriers(self, payload: NotesPayload, counts: Counter[str]) -> Iterator[tuple[int, Counter[str]]]:
        """Yield the features in the notes, each with the words that carry it and their weights."""
        words, pieces = self._words.columns, self._pieces.columns
        for term in counts:
            if term in words:
                yield words[term], Counter([term])
        for pair in {pair for sentence in payload.sentences() for pair in _pairs(sentence.terms)}:
            if (feature := words.get(" ".join(pair))) is not None:
                yield feature, Counter(pair)
        carriers: dict[int, Counter[str]] = {}
        for term, count in counts.items():
            for piece in pieces_of(term):
                if (feature := pieces.get(piece)) is not None:
                    carriers.setdefault(len(words) + feature, Counter())[term] += count
        yield from carriers.items()

    def state(self) -> State:
        """Return the vocabularies, in the order of the columns, and the inverse document frequencies."""
        return {"kind": self.kind, "words": self._words.state(), "pieces": self._pieces.state()}

    @classmethod
    def restore(cls, state: State) -> TfidfEncoder:
        """Return the encoder that `state` described."""
        encoder = cls()
        encoder._words.set(**state["words"])
        encoder._pieces.set(**state["pieces"])
        return encoder


class _Block:
    """One vocabulary, its weights, and scikit-learn's arithmetic on it.

    Attributes
    ----------
    columns : mapping from feature to column
    """

    def __init__(self, features: Callable[[NotesPayload | None], list[str]], norm: float) -> None:
        self._features = features
        self._norm = norm
        self._idf: FloatArray = np.empty(0)
        self.columns: dict[str, int] = {}

    def fit(self, payloads: Sequence[NotesPayload]) -> None:
        total, payloads_with = Counter[str](), Counter[str]()
        for payload in payloads:
            counts = Counter(self._features(payload))
            total.update(counts)
            payloads_with.update(counts.keys())
        shared = [name for name, count in payloads_with.items() if count >= MIN_PAYLOADS]
        # Notes that have no feature in common have at least their own.
        frequent = sorted(shared or total, key=lambda name: (-total[name], name))[:MAX_FEATURES]
        names = sorted(frequent)
        rarity = (1 + len(payloads)) / (1 + np.array([payloads_with[name] for name in names], dtype=float))
        self.set(names, np.log(rarity) + 1)

    def set(self, names: Sequence[str], idf: FloatArray) -> None:
        self.columns = {name: column for column, name in enumerate(names)}
        self._idf = np.asarray(idf, dtype=float)

    def transform(self, payloads: Sequence[NotesPayload | None]) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - slow to import

        if not self.columns or not payloads:
            return sparse.csr_array((len(payloads), len(self.columns)))
        vectorizer = TfidfVectorizer(analyzer=self._features, vocabulary=self.columns, sublinear_tf=True)
        vectorizer.idf_ = self._idf
        return vectorizer.transform(payloads) * self._norm

    def state(self) -> State:
        return {"names": list(self.columns), "idf": self._idf}


def _word_features(payload: NotesPayload | None) -> list[str]:
    if payload is None:
        return []
    found: list[str] = []
    for sentence in payload.sentences():
        found += sentence.terms
        found += [" ".join(pair) for pair in _pairs(sentence.terms)]
    return found


def _pairs(terms: Sequence[str]) -> Iterator[tuple[str, str]]:
    return pairwise(terms)


def _piece_features(payload: NotesPayload | None) -> list[str]:
    if payload is None:
        return []
    return [piece for sentence in payload.sentences() for term in sentence.terms for piece in pieces_of(term)]


@lru_cache(maxsize=1 << 16)
def pieces_of(term: str) -> tuple[str, ...]:
    """Return the pieces of a word; a word with marks has none.

    Examples
    --------
    >>> pieces_of("flu")
    (' fl', 'flu', 'lu ', ' flu', 'flu ', ' flu ')
    >>> pieces_of("¬flu")
    ()
    """
    if NEGATED in term or ":" in term:
        return ()
    padded = f" {term} "
    sizes = (2, 3, 4) if is_hangul(term) else (3, 4, 5)
    return tuple(padded[at : at + size] for size in sizes for at in range(len(padded) - size + 1))
