"""The values that travel through medfusion, from a pointer to the sum that explains a risk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfusion.core.errors import FirewallBreach

if TYPE_CHECKING:
    from scipy import sparse

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
TOLERANCE = 1e-6
"""How far a ledger may be from the number that it explains, in log-odds."""


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One question asked of a model: what is the risk of this subject, seen from this moment?

    Attributes
    ----------
    subject_id : str
    prediction_time : datetime
        Naive, or in UTC; a cohort has one kind or the other.
    event : bool or None
        The outcome; None where it is to be predicted.
    """

    subject_id: str
    prediction_time: datetime
    event: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Records:
    """What one modality recorded about one subject, as of a moment.

    The rows are pointers and values, never pixels. The constructor is the last line of the firewall:
    it refuses rows later than ``as_of``, so nothing downstream can see them.

    Attributes
    ----------
    subject_id : str
    as_of : datetime
        The prediction time.
    table : pyarrow.Table
        Rows sorted by the column ``time``; the other columns belong to the modality.
    subject : mapping
        What subjects.csv says of the subject; None where it says nothing.

    Raises
    ------
    FirewallBreach
        If a row is later than ``as_of``.
    """

    subject_id: str
    as_of: datetime
    table: pa.Table
    subject: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table.num_rows and self.table["time"][-1].as_py() > self.as_of:
            raise FirewallBreach(f"subject {self.subject_id}: a record is later than {self.as_of.isoformat()}")


@dataclass(frozen=True, slots=True)
class Embedding:
    """What an encoder makes of n payloads.

    Attributes
    ----------
    values : array (n, d), float32, or sparse CSR (n, d)
        Rows of absent payloads are NaN (dense) or empty (sparse); a NaN in a present row is a missing feature.
    present : array (n,), bool
        Where the modality has something to say.
    feature_names : sequence of str, length d
    same_unit : bool
        Whether all features are measured in one unit (activations of one layer), so that their spreads compare.

    Raises
    ------
    ValueError
        If shapes disagree, or an absent row holds numbers.
    """

    values: FloatArray | sparse.csr_array
    present: BoolArray
    feature_names: Sequence[str]
    same_unit: bool = False

    def __post_init__(self) -> None:
        n, d = self.values.shape
        if len(self.present) != n or len(self.feature_names) != d:
            raise ValueError(f"values are {n}x{d}, present {len(self.present)}, names {len(self.feature_names)}")
        if isinstance(self.values, np.ndarray):
            empty = bool(np.isnan(self.values[~self.present]).all())
        else:
            empty = not np.diff(self.values.indptr)[~self.present].any()
        if not empty:
            raise ValueError("an absent payload has numbers in its row; absent is not zero")

    def __len__(self) -> int:
        return len(self.present)

    def dense(self, row: int) -> FloatArray:
        """Return one row as an array (d,), float64."""
        values = self.values[[row]]
        dense: FloatArray = values if isinstance(values, np.ndarray) else values.toarray()
        return np.asarray(dense[0], dtype=float)

    def beyond(self, reference: FloatArray) -> FloatArray:
        """Return how far all features are from a reference (d,), dense (n, d); 0 where one is missing."""
        values: FloatArray = self.values if isinstance(self.values, np.ndarray) else self.values.toarray()
        return np.nan_to_num(values - reference)

    def take(self, chosen: NDArray[Any]) -> Embedding:
        """Return some of the rows, by a mask or by their places."""
        return Embedding(self.values[chosen], self.present[chosen], self.feature_names, self.same_unit)


@dataclass(frozen=True, slots=True)
class Block:
    """What one modality says of n samples, as a fusion model sees it: k members, each of which left one fold out.

    Attributes
    ----------
    evidence : array (k, n)
        Calibrated log-odds relative to the base rate, by member; NaN where absent.
    embeddings : tuple of Embedding, length k
        As each member's encoder makes them; empty where nobody needs them.
    """

    evidence: FloatArray
    embeddings: tuple[Embedding, ...] = ()

    @property
    def present(self) -> BoolArray:
        """Where each member has something to say (k, n)."""
        return np.asarray(~np.isnan(self.evidence))

    def left_out(self, folds: NDArray[np.int64]) -> FloatArray:
        """Return the evidence (n,) of the member that has not seen each sample."""
        return np.asarray(self.evidence[folds, np.arange(len(folds))])

    def take(self, chosen: NDArray[Any]) -> Block:
        """Return some of the samples, by a mask or by their places."""
        return Block(self.evidence[:, chosen], tuple(each.take(chosen) for each in self.embeddings))

    def without(self, gone: BoolArray) -> Block:
        """Return the block as if the modality were absent from some samples (n,).

        Examples
        --------
        >>> Block(np.array([[0.5, -0.2]])).without(np.array([True, False])).evidence
        array([[ nan, -0.2]])
        """
        return Block(np.where(gone, np.nan, self.evidence), self.embeddings)


@dataclass(frozen=True, slots=True)
class Pull:
    """How strongly each part of one modality pulls at the log-odds of n samples.

    The part of a sample's share that the modality's own values explain is, for member k,
    ``evidence[k] * evidence of k + embedding[k] @ (row of k - reference[k])``; what is left of the share comes from how
    it goes together with the other modalities.

    Attributes
    ----------
    evidence : array (k,) or (n, k)
        Log-odds per log-odds of evidence; one row where it is the same for all samples.
    embedding : tuple of arrays (d,) or (n, d), length k
        Log-odds per unit of a feature; empty for a fusion that looks at evidence alone.
    reference : tuple of arrays (d,), length k
        The row that pulls nowhere.
    """

    evidence: FloatArray
    embedding: tuple[FloatArray, ...] = ()
    reference: tuple[FloatArray, ...] = ()

    def times(self, factor: float | FloatArray) -> Pull:
        """Return the pull on log-odds that are multiplied with a factor, or with one per sample (n,)."""
        each = np.asarray(factor, dtype=float)[..., None]
        return Pull(self.evidence * each, tuple(slope * each for slope in self.embedding), self.reference)

    def take(self, chosen: NDArray[Any]) -> Pull:
        """Return the pull of some of the samples, by their places."""
        evidence, *embedding = (each if each.ndim == 1 else each[chosen] for each in (self.evidence, *self.embedding))
        return Pull(evidence, tuple(embedding), self.reference)

    def own(self, block: Block, mixture: FloatArray) -> FloatArray:
        """Return the part of each sample's share (n,) that its own values explain.

        Parameters
        ----------
        block : Block
            Of these samples.
        mixture : array (k,) or (n, k)
            How much each member counts; sums to 1.

        Examples
        --------
        >>> Pull(np.array([2.0, 4.0])).own(Block(np.array([[0.5], [0.5]])), np.array([0.5, 0.5]))
        array([1.5])
        """
        evidence = np.nan_to_num(block.evidence.T)
        weights = np.broadcast_to(mixture, evidence.shape)
        total: FloatArray = (weights * self.evidence * evidence).sum(axis=1)
        parts = zip(weights.T, self.embedding, self.reference, block.embeddings, strict=False)
        for weight, slope, reference, embedding in parts:
            if weight.any():
                total += weight * (slope * embedding.beyond(reference)).sum(axis=1)
        return total


@dataclass(frozen=True, slots=True)
class Attribution:
    """The shares of one sample's embedding features in a head's log-odds.

    Attributes
    ----------
    shares : array (d,)
        SHAP values; with ``constant`` they sum to the modality's share.
    constant : float
        What the average record of this modality contributes.
    slope, reference : array (d,) or None
        For a head that is linear in the embedding: ``shares = slope * (embedding - reference)``.
    """

    shares: FloatArray
    constant: float
    slope: FloatArray | None = None
    reference: FloatArray | None = None

    @property
    def total(self) -> float:
        """The modality's share, in log-odds."""
        return float(self.shares.sum() + self.constant)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a payload is from those that a model was trained on.

    Attributes
    ----------
    times : float
        In units of a typical training payload, which has 1; of several images, the farthest.
    percentile : float
        How many of the training payloads are nearer, in percent.
    outside : bool
        Whether it is too far for the risk to be trusted.
    """

    times: float
    percentile: float
    outside: bool

    def text(self) -> str:
        """Return the distance in words.

        Examples
        --------
        >>> Distance(3.14, 100.0, True).text()
        '3.1 times as far from the training as is typical, farther than 100.0 % of it'
        """
        return (
            f"{self.times:.1f} times as far from the training as is typical, farther than {self.percentile:.1f} % of it"
        )


@dataclass(frozen=True, slots=True)
class FeatureShare:
    """One line of a ledger: a lab value, a word or a region, and what it added to the log-odds.

    Attributes
    ----------
    feature : str
    value : float, str or None
        What was observed; None where it was missing, or where a value means nothing.
    share : float
        Log-odds; positive raises the risk.
    """

    feature: str
    value: float | str | None
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The ledger: a calibrated logit, opened up into what it is the sum of.

    Attributes
    ----------
    base : float
        Log-odds of somebody of whom nothing is known.
    by_modality : mapping from name to float
        Shares in log-odds; an absent modality has exactly 0.
    by_feature : mapping from name to sequence of FeatureShare
        The lines of each modality; they sum to its share.
    logit : float
        The number explained.

    Raises
    ------
    ValueError
        If a sum is off by more than 1e-6.

    Examples
    --------
    >>> ledger = Explanation(-1.0, {"ehr": 0.5}, {"ehr": [FeatureShare("lactate last", 4.7, 0.5)]}, -0.5)
    >>> round(ledger.risk, 3)
    0.378
    """

    base: float
    by_modality: Mapping[str, float]
    by_feature: Mapping[str, Sequence[FeatureShare]]
    logit: float

    def __post_init__(self) -> None:
        self._check("the modalities", self.base + math.fsum(self.by_modality.values()), self.logit)
        for name, lines in self.by_feature.items():
            self._check(f"the features of {name}", math.fsum(line.share for line in lines), self.by_modality[name])

    @staticmethod
    def _check(what: str, total: float, expected: float) -> None:
        if not abs(total - expected) <= TOLERANCE:
            raise ValueError(f"the ledger does not add up: {what} sum to {total:.9f}, not {expected:.9f}")

    @property
    def risk(self) -> float:
        """The probability that belongs to the logit."""
        return float(1.0 / (1.0 + math.exp(-self.logit)))
