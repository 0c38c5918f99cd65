"""Opening up what heads say: the shares of embeddings, n samples at once, and the lines that encoders make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from medfusion.core.errors import PayloadRejected, Problem
from medfusion.core.lines import NO_TEXT, Attributions, Entries, Grid, Lines, Places, together
from medfusion.core.protocols import Batched, Dear, Encoder
from medfusion.core.types import Attribution, Embedding, FloatArray
from medfusion.evidence.choose import MeanHead
from medfusion.evidence.stack import Stack


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of n rows of an embedding, on the scale that is shown.

    Attributes
    ----------
    about : Attributions
    slope : array (d,) or None
        Where the head is linear: ``shares = (scale * slope + pull) * (row - reference)``; NaN in columns where not.
    pull : array (n, d) or None
        What a fusion model makes of the embedding itself.
    reference : array (d,) or None
    """

    about: Attributions
    slope: FloatArray | None = None
    pull: FloatArray | None = None
    reference: FloatArray | None = None

    @classmethod
    def of(cls, head: MeanHead, values: Any, scale: FloatArray) -> tuple[Shares, float]:
        """Open up rows (n, d) of which the head's log-odds count ``scale`` times (n,).

        Returns
        -------
        Shares
            Without a constant.
        float
            The head's log-odds of the average training row.
        """
        nothing = np.zeros(len(scale))
        if sparse.issparse(values) and not np.isnan(values.data).any():
            first = head.shares(values[:1])
            if first.slope is not None and first.reference is not None and not np.isnan(first.slope).any():
                stored = values.astype(float)
                stored.sort_indices()
                place = stored.indices
                row = np.repeat(np.arange(len(scale)), np.diff(stored.indptr))
                stored.data = scale[row] * first.slope[place] * (stored.data - first.reference[place])
                about = Attributions(stored, nothing, -first.slope * first.reference, scale)
                return cls(about, first.slope, None, first.reference), first.constant
        opened = head.shares(values)
        shares = scale[:, None] * opened.shares
        about = Attributions(shares, nothing, np.zeros(shares.shape[1]), scale)
        return cls(about, opened.slope, None, opened.reference), opened.constant

    def plus(self, constant: FloatArray) -> Shares:
        """Add what the average record contributes (n,)."""
        about = self.about
        more = Attributions(about.shares, about.constant + constant, about.floor, about.scale)
        return Shares(more, self.slope, self.pull, self.reference)

    def pulled(self, embedding: Embedding, pull: FloatArray, reference: FloatArray) -> Shares:
        """Add what a fusion model makes of the embedding itself: ``pull`` (n, d) per unit from a ``reference`` (d,)."""
        about = self.about
        shares = self.dense() + pull * embedding.beyond(reference)
        floor = np.zeros(shares.shape[1])
        if self.slope is None or self.reference is None:
            return Shares(Attributions(shares, about.constant, floor, about.scale))
        # One slope needs one reference: that of the head, where it has one; the difference is the same for every row.
        moved = np.where(np.isnan(self.slope), 0.0, pull * (self.reference - reference))
        constant = about.constant + moved.sum(axis=1)
        return Shares(Attributions(shares - moved, constant, floor, about.scale), self.slope, pull, self.reference)

    def dense(self) -> FloatArray:
        """Return all shares (n, d)."""
        about = self.about
        if isinstance(about.shares, np.ndarray):
            return about.shares
        shares = about.scale[:, None] * about.floor
        row = np.repeat(np.arange(len(shares)), np.diff(about.shares.indptr))
        shares[row, about.shares.indices] = about.shares.data
        return np.asarray(shares)

    def rows(self) -> list[Attribution]:
        """Return the shares one by one."""
        about = self.about
        shares = self.dense()
        if self.slope is None or self.reference is None:
            return [Attribution(each, float(constant)) for each, constant in zip(shares, about.constant, strict=True)]
        slopes = about.scale[:, None] * self.slope + (0.0 if self.pull is None else self.pull)
        return [
            Attribution(each, float(constant), slope, self.reference)
            for each, constant, slope in zip(shares, about.constant, slopes, strict=True)
        ]


def lines_of(
    encoder: Encoder, payloads: Sequence[Any], rows: Places, shares: Shares, *, dear: bool
) -> tuple[Lines, dict[int, Problem]]:
    """Return the lines that an encoder makes of shares.

    Parameters
    ----------
    encoder : Encoder
    payloads : sequence
    rows : array (n,), int
        Which of the payloads the shares are of.
    shares : Shares
    dear : bool
        Whether to open what is dear to open, see `medfusion.core.protocols.Dear`.

    Returns
    -------
    Lines
    dict from int to Problem
        By place among ``rows``: payloads that can no longer be read, which have no lines.
    """
    if _at_once(encoder, dear):
        return _all_at_once(encoder, payloads, rows, shares.about, dear), {}
    ledgers, lost = [], {}
    for place, (row, attribution) in enumerate(zip(rows.tolist(), shares.rows(), strict=True)):
        try:
            ledgers.append(encoder.explain(payloads[row], attribution))
        except PayloadRejected as error:
            ledgers.append([])
            lost[place] = error.problem
    return Entries.of(ledgers), lost


def _at_once(encoder: Encoder, dear: bool) -> bool:
    """Say whether an encoder explains many payloads at once; several side by side do if each of them does."""
    if isinstance(encoder, Stack):
        return all(_at_once(each, dear) for each in encoder.encoders)
    return isinstance(encoder, Batched) or (isinstance(encoder, Dear) and not dear)


def _all_at_once(encoder: Encoder, payloads: Sequence[Any], rows: Places, about: Attributions, dear: bool) -> Lines:
    if isinstance(encoder, Stack):
        everyone = np.arange(len(rows))
        parts = [
            (everyone, _all_at_once(each, payloads, rows, about.columns(first, end, number == 0), dear))
            for number, (each, (first, end)) in enumerate(zip(encoder.encoders, encoder.columns, strict=True))
        ]
        return together(parts, len(rows))
    if isinstance(encoder, Batched):
        return encoder.explain_all(payloads, rows, about)
    assert isinstance(encoder, Dear)
    return Grid([encoder.whole], about.total()[:, None], _nothing_observed)


def _nothing_observed(rows: Places, _lines: Places) -> tuple[FloatArray, Mapping[int, str]]:
    return np.full(len(rows), np.nan), NO_TEXT
