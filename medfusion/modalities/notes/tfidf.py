"""Notes as weighted counts: words and pairs of words, and pieces of words for what is misspelt, inflected or new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
from scipy import sparse

from medfusion.core.batch import once
from medfusion.core.lines import Attributions, Entries, Places, chained
from medfusion.core.protocols import HeadKind
from medfusion.core.state import State
from medfusion.core.types import Attribution, BoolArray, Embedding, FeatureShare, FloatArray
from medfusion.modalities.notes.counting import Counted, Occurrences, count, pieces_of
from medfusion.modalities.notes.payload import AVERAGE, NotesPayload
from medfusion.modalities.notes.sentences import name_of

MIN_PAYLOADS = 2
"""A feature that fewer training payloads have is left out."""
MAX_FEATURES = 20_000
"""Per block; the most frequent are kept."""
PIECE_WEIGHT = 0.5
"""Norm of the block of pieces, where the block of words has norm 1: they help out, and must not drown the words."""
ELSEWHERE = "(words not in these notes)"
"""The line of a ledger for features that the notes do not have."""

_Carriers = tuple[Places, Places, FloatArray]
"""Places of words, of the features that they carry, and which part of each: arrays (m,)."""


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
        counted = once(payloads, count)
        blocks = [
            self._words.transform([counted.words, counted.pairs], counted.n),
            self._pieces.transform([counted.pieces], counted.n),
        ]
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
        shares = np.asarray(attribution.shares, dtype=float)[None]
        constant, nothing = np.array([attribution.constant], dtype=float), np.zeros(shares.shape[1])
        about = Attributions(shares, constant, nothing, np.ones(1))
        *lines, elsewhere, average = self.explain_all([payload], np.zeros(1, dtype=np.int64), about).ledgers()[0]
        return [*sorted(lines, key=lambda line: (-abs(line.share), line.feature)), elsewhere, average]

    def explain_all(self, payloads: Sequence[NotesPayload | None], rows: Places, about: Attributions) -> Entries:
        """Do so for many payloads; what words, pairs and pieces they hold is found once for all encoders."""
        counted, n = once(payloads, count), len(rows)
        here = np.full(counted.n, -1)
        here[rows] = np.arange(n)
        words = counted.words
        shares, carried, used = np.zeros(len(words.row)), np.zeros(len(words.row), dtype=bool), np.zeros(n)
        for found, columns, carriers in self._features(counted):
            column = np.where(here[found.row] >= 0, columns[found.name], -1)
            ours = np.flatnonzero(column >= 0)
            each = np.zeros(len(found.row))
            each[ours] = about.at(here[found.row[ours]], column[ours])
            used += np.bincount(here[found.row[ours]], each[ours], minlength=n)
            for word, feature, part in carriers:
                shares += np.bincount(word, each[feature] * part, minlength=len(shares))
                carried[word[column[feature] >= 0]] = True
        kept, everyone, nothing = np.flatnonzero(carried), np.arange(n), np.full(n, np.nan)
        names = [name_of(term) for term in words.names]
        lines = [Entries(n, names, here[words.row[kept]], words.name[kept], shares[kept], words.times[kept])]
        elsewhere = np.asarray(about.shares.sum(axis=1)).ravel() - used + about.unstored()
        for name, said in ((ELSEWHERE, elsewhere), (AVERAGE, about.constant)):
            lines.append(Entries(n, [name], everyone, np.zeros_like(everyone), said, nothing))
        return chained(lines)

    def _features(self, counted: Counted) -> Iterator[tuple[Occurrences, Places, Sequence[_Carriers]]]:
        """Yield each kind of feature with its columns (-1: not one of ours) and the words that carry it."""
        words, first = np.arange(len(counted.words.row)), len(self._words.columns)
        yield counted.words, self._words.places(counted.words.names), [(words, words, np.ones(len(words)))]
        pairs = np.arange(len(counted.pairs.row))
        half = np.full(len(pairs), 0.5)
        yield (
            counted.pairs,
            self._words.places(counted.pairs.names),
            [(word, pairs, half) for word in counted.paired],
        )
        pieces = self._pieces.places(counted.pieces.names)
        yield counted.pieces, np.where(pieces < 0, -1, first + pieces), [counted.holders]

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
    """One vocabulary, its weights, and the arithmetic of scikit-learn's TfidfVectorizer on it.

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

    def transform(self, kinds: Sequence[Occurrences], n: int) -> sparse.csr_array:
        """Return weights of n payloads, rows scaled to the norm."""
        columns = [self.places(found.names)[found.name] for found in kinds]
        row, times = (np.concatenate([getattr(found, name) for found in kinds]) for name in ("row", "times"))
        column = np.concatenate(columns)
        ours = column >= 0
        table = sparse.csr_array((times[ours], (row[ours], column[ours])), shape=(n, len(self.columns)))
        table.sort_indices()
        table.data = (np.log(table.data) + 1.0) * self._idf[table.indices]
        rows = np.repeat(np.arange(n), np.diff(table.indptr))
        norms = np.sqrt(np.bincount(rows, table.data**2, minlength=n))
        table.data = table.data / norms[rows] * self._norm
        return table

    def places(self, names: Sequence[str]) -> Places:
        """Return the column of each feature; -1 for one that is not here."""
        return np.array([self.columns.get(name, -1) for name in names], dtype=np.int64)

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
