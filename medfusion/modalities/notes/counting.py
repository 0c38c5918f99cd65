"""What the notes of a batch hold, counted once for all encoders: words, pairs of words, and pieces of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from medfusion.core.types import FloatArray
from medfusion.modalities.notes.payload import NotesPayload
from medfusion.modalities.notes.sentences import NEGATED
from medfusion.modalities.notes.words import is_hangul

_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Occurrences:
    """How often features of one kind occur.

    Attributes
    ----------
    names : list of str
    row, name : arrays (m,), int
        Payload and feature, sorted by both.
    times : array (m,)
    """

    names: list[str]
    row: _Places
    name: _Places
    times: FloatArray


@dataclass(frozen=True)
class Counted:
    """The features of n payloads.

    Attributes
    ----------
    n : int
    words, pairs, pieces : Occurrences
    couples : array (pairs, 2), int
        The words of each pair.
    spelt : sparse CSR (words, pieces)
        How often each word brings a piece in.
    """

    n: int
    words: Occurrences
    pairs: Occurrences
    pieces: Occurrences
    couples: _Places
    spelt: sparse.csr_array

    @cached_property
    def paired(self) -> tuple[_Places, _Places]:
        """Which occurrences of words each occurrence of a pair is of: the first and the second."""
        first, second = (self._of(self.pairs.row, self.couples[self.pairs.name, side]) for side in (0, 1))
        return first, second

    @cached_property
    def holders(self) -> tuple[_Places, _Places, FloatArray]:
        """Which occurrences of words hold which of pieces, and how much of the piece each brings in (m,)."""
        degree = np.diff(self.spelt.indptr)[self.words.name]
        word = np.repeat(np.arange(len(degree)), degree)
        within = np.arange(len(word)) - np.repeat(np.cumsum(degree) - degree, degree)
        place = self.spelt.indptr[self.words.name][word] + within
        name, times = self.spelt.indices[place], self.spelt.data[place] * self.words.times[word]
        piece = np.empty(len(word), dtype=np.int64)
        where = np.zeros(len(self.pieces.names), dtype=np.int64)
        rows = np.arange(self.n + 1)
        ends, starts = np.searchsorted(self.words.row[word], rows), np.searchsorted(self.pieces.row, rows)
        for row in range(self.n):
            mine = slice(starts[row], starts[row + 1])
            where[self.pieces.name[mine]] = np.arange(mine.start, mine.stop)
            held = slice(ends[row], ends[row + 1])
            piece[held] = where[name[held]]
        return word, piece, times / self.pieces.times[piece]

    def _of(self, row: _Places, word: _Places) -> _Places:
        size = len(self.words.names)
        return np.searchsorted(self.words.row * size + self.words.name, row * size + word)


def count(payloads: Sequence[NotesPayload | None]) -> Counted:
    """Count the features of payloads; an absent one has none.

    Pairs do not span sentences.

    Examples
    --------
    >>> from medfusion.modalities.notes.example import example_payload
    >>> counted = count([example_payload(1), None])
    >>> counted.n, sorted(set(counted.words.row.tolist())), float(counted.words.times.min())
    (2, [0], 1.0)
    """
    tokens: list[str] = []
    lengths, rows = [], []
    for row, payload in enumerate(payloads):
        for sentence in () if payload is None else payload.sentences():
            tokens += sentence.terms
            lengths.append(len(sentence.terms))
            rows.append(row)
    codes, names = pd.factorize(np.array(tokens, dtype=object))
    terms, size = [str(name) for name in names], max(len(names), 1)
    term = codes.astype(np.int64)
    sentence_of = np.repeat(np.arange(len(lengths)), lengths)
    row_of = np.array(rows, dtype=np.int64)[sentence_of]
    words = _counted(terms, row_of, term)
    inside = sentence_of[1:] == sentence_of[:-1]
    couple, which = np.unique((term[:-1] * size + term[1:])[inside], return_inverse=True)
    couples = np.column_stack([couple // size, couple % size])
    pairs = _counted([f"{terms[one]} {terms[two]}" for one, two in couples.tolist()], row_of[1:][inside], which)
    pieces, spelt = _spelt(terms)
    table = sparse.csr_array((words.times, (words.row, words.name)), shape=(len(payloads), len(terms))) @ spelt
    table.sort_indices()
    held_by = np.repeat(np.arange(len(payloads)), np.diff(table.indptr))
    found = Occurrences(pieces, held_by, table.indices.astype(np.int64), table.data)
    return Counted(len(payloads), words, pairs, found, couples, spelt)


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


def _counted(names: list[str], row: _Places, name: _Places) -> Occurrences:
    size = max(len(names), 1)
    found, times = np.unique(row * size + name, return_counts=True)
    return Occurrences(names, found // size, found % size, times.astype(float))


def _spelt(terms: Sequence[str]) -> tuple[list[str], sparse.csr_array]:
    """Return pieces, and how often each word holds each, sparse CSR (words, pieces)."""
    each = [pieces_of(term) for term in terms]
    codes, names = pd.factorize(np.array([piece for some in each for piece in some], dtype=object))
    word = np.repeat(np.arange(len(terms)), [len(some) for some in each])
    spelt = sparse.csr_array((np.ones(len(codes)), (word, codes)), shape=(len(terms), len(names)))
    spelt.sum_duplicates()
    return [str(name) for name in names], spelt
