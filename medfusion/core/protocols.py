"""What a modality, an encoder and a fusion model have to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import pyarrow as pa

from medfusion.core.edits import Changed, EditableValue
from medfusion.core.errors import Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.folds import Patients
from medfusion.core.lines import Attributions, Lines, Places
from medfusion.core.schema import TableSchema
from medfusion.core.state import State
from medfusion.core.types import Attribution, Block, BoolArray, Embedding, FeatureShare, FloatArray, Pull, Records
from medfusion.core.views import View

HeadKind = Literal["linear", "trees"]
Advance = Callable[[int], None]
"""Called with the number of items done since the last call; drives a progress bar."""


@dataclass(frozen=True, slots=True)
class ModalityOptions:
    """What a user may ask of a modality.

    Attributes
    ----------
    settings : mapping from str to str
        As on the command line: ``--set imaging.backbone=densenet121`` gives ``{"backbone": "densenet121"}``.
    cache : Path or None
        Folder for what is dear to compute, kept by content; None for no cache.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None


class Encoder(Protocol):
    """Turns payloads into an embedding, and a head's shares back into things that a person knows.

    Attributes
    ----------
    heads : tuple of {"linear", "trees"}
        The kinds of head that suit the embedding.
    """

    heads: ClassVar[tuple[HeadKind, ...]]

    def fit(self, payloads: Sequence[Any | None], events: BoolArray) -> None:
        """Learn what is to be learnt, from training payloads only; None is an absent payload."""

    def encode(self, payloads: Sequence[Any | None]) -> Embedding:
        """Return one row per payload."""

    def explain(self, payload: Any, attribution: Attribution) -> list[FeatureShare]:
        """Name the parts of a payload that make up ``attribution.total``; their shares sum to it within 1e-6."""

    def state(self) -> State:
        """Return everything that `Modality.restore` needs."""


class Modality(Protocol):
    """One kind of data about a patient. Each folder under ``medfusion.modalities`` offers one as ``MODALITY``.

    Attributes
    ----------
    name : str
        Equal to the folder's name.
    tables : tuple of TableSchema
        The tables that it reads from a cohort folder.

    Raises
    ------
    UsageError
        By the constructor, if a setting is unknown or has a value that does not fit.
    """

    name: ClassVar[str]
    tables: ClassVar[tuple[TableSchema, ...]]

    def __init__(self, options: ModalityOptions) -> None: ...

    def index(self, folder: CohortFolder) -> pa.Table | None:
        """List what there is, without decoding it.

        Returns
        -------
        pyarrow.Table or None
            Columns ``subject_id`` (string), ``time`` (timestamp us) and the modality's own, in any order of rows;
            None where the folder has nothing of this kind. Problems go to ``folder.problems``.
        """

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[Any | None]:
        """Turn records into payloads, with all work that does not depend on training (decoding, a frozen backbone).

        What cannot be used is left out and noted in ``problems`` with its ``subject_id``; a payload is None where
        nothing is left. ``advance`` is called as records are done.
        """

    def identity(self) -> Mapping[str, str]:
        """Say what payloads depend on (backbone, digest of its weights, preprocessing).

        A model folder keeps it; a model is refused where it differs.
        """

    def encoder(self) -> Encoder:
        """Return a new, unfitted encoder."""

    def restore(self, state: State) -> Encoder:
        """Return an encoder as it was when `Encoder.state` was called."""

    def fingerprints(self, payload: Any) -> list[str]:
        """Return a hash per item (image, note), equal for equal content; empty if copies mean nothing here."""

    def items(self, payload: Any) -> list[Any]:
        """Return the single images or notes of a payload, each as a payload of its own; itself if it is one thing."""

    def acquisition(self, payload: Any) -> Mapping[str, str | float]:
        """Say how a payload came about (view, size and make of images; number of values), never what it shows.

        What a model owes to these is no medicine: an audit holds its ranking against theirs. A key is left out where
        nothing is known; ``{}`` if there is nothing to say of this kind of data.
        """

    def view(self, payload: Any, shares: Sequence[FeatureShare]) -> list[View]:
        """Return what a screen shows, with the shares of one ledger on it."""

    def example(self, seed: int) -> Any:
        """Return a realistic payload, for tests and demonstrations."""


@runtime_checkable
class Alternatives(Protocol):
    """What a modality offers beside `Modality` where it knows more than one way to encode its payloads.

    Every member of a cross-fit chooses among them, and their mean, by cross-validation inside its training folds. The
    encoders are fitted outside these inner folds: their `Encoder.fit` must not look at events.
    """

    def encoders(self, records: int) -> Sequence[Encoder]:
        """Return new, unfitted encoders to be tried on so many training records, the simplest first."""


@runtime_checkable
class Scans(Protocol):
    """What a modality offers beside `Modality` where a cohort's files, and no table, say whose they are.

    Who divides a cohort by patient divides tables by their ``subject_id``; of files only the modality knows.
    """

    def scan(self, folder: CohortFolder) -> Iterator[pa.Table]:
        """List the files piece by piece, with a column ``subject_id``; problems go to ``folder.problems``.

        `Modality.index` finds the rows of a part's subjects as ``<name>.files.parquet`` in the part.
        """


@runtime_checkable
class Editable(Protocol):
    """What a modality offers beside `Modality` where a person may ask what if a recorded value were another.

    Records are changed, not payloads or features: what follows is read, encoded and judged as if it had been recorded.
    """

    def editable(self, record: Records, encoders: Sequence[Encoder]) -> list[EditableValue]:
        """List the values that may be changed; ``encoders`` are those of a trained model, which know what it knows."""

    def edited(self, record: Records, changes: Mapping[str, Changed]) -> Records:
        """Return a record in which some of these values are others."""


@runtime_checkable
class Batched(Protocol):
    """What an encoder offers beside `Encoder` where it explains many payloads at once, without an object per line."""

    def explain_all(self, payloads: Sequence[Any | None], rows: Places, about: Attributions) -> Lines:
        """Name the parts of some payloads that make up ``about.total()``; what `Encoder.explain` does, n times.

        Parameters
        ----------
        payloads : sequence
            Where it is a `medfusion.core.batch.Batch`, what all members need is worked out once.
        rows : array (n,), int
            Which payloads; none of them is None.
        about : Attributions
            Of these n payloads, in this order.
        """


@runtime_checkable
class Dear(Protocol):
    """An encoder whose lines are dear: it has to compute again what payloads do not keep.

    Attributes
    ----------
    whole : str
        The name of the one line that stands for all of them where a cohort is explained without.
    """

    whole: ClassVar[str]


@runtime_checkable
class Backends(Protocol):
    """What a modality offers beside `Modality` where several libraries, or precisions, can run its frozen network.

    Attributes
    ----------
    reference : str
        The backend that training uses.
    """

    reference: ClassVar[str]

    def check_batch(self, payloads: Sequence[Any | None]) -> State | None:
        """Choose a few items of the training, as the network sees them; None if there are none to choose from."""

    def backends(self, wanted: str) -> Mapping[str, str]:
        """Return the backends that a word names, each with why it cannot be used here; empty if it can.

        Raises
        ------
        UsageError
            If the word names none.
        """

    def is_exact(self, backend: str) -> bool:
        """Say whether a backend differs from the reference by rounding alone, so that it needs no check."""

    def use_backend(self, backend: str, check: State | None) -> None:
        """Have the network run by a backend from now on; ``check`` is what some are calibrated with.

        Raises
        ------
        MissingExtra
            If a package is not installed.
        UsageError
            If it cannot be used here, or needs a check batch and is given none.
        """

    def checked(self, check: State) -> list[Any]:
        """Return a payload per item of a check batch, from the backend in use."""

    def rate(self, check: State | None, seconds: float) -> float:
        """Measure for a while how many items per second the backend in use manages."""

    def settle(self) -> None:
        """Let go of backends that are not in use."""

    def export(self, form: str, out: Path, about: Mapping[str, str]) -> list[Path]:
        """Write the network for other software, what it has to be shown described beside it; return the files.

        Raises
        ------
        UsageError
            If there is no such format.
        MissingExtra
            If a package is not installed.
        """


class FusionModel(Protocol):
    """Adds up what modalities say, for any subset of them.

    Blocks are by modality, in the order in which the model was fitted; a modality may be absent from any sample.

    Attributes
    ----------
    kind : str
        Its name on the command line.
    uses_embeddings : bool
        Whether it looks at embeddings, or at evidence alone.
    """

    kind: ClassVar[str]
    uses_embeddings: ClassVar[bool]

    @property
    def base(self) -> float:
        """Log-odds of a sample from which everything is absent."""

    def fit(self, blocks: Mapping[str, Block], patients: Patients, seed: int) -> Self:
        """Fit on training samples; of each, only what members that have not seen it say of it may count as evidence."""

    def left_out(self, blocks: Mapping[str, Block], patients: Patients) -> FloatArray:
        """Return log-odds (n,) of the training samples, each from parts that its fold had no part in."""

    def logits(self, blocks: Mapping[str, Block]) -> FloatArray:
        """Return the calibrated log-odds (k, n) that each member gives."""

    def variance(self, blocks: Mapping[str, Block], mixture: FloatArray) -> FloatArray:
        """Return the variance (n,) of the log-odds that comes from fitting the fusion, not from the members.

        ``mixture`` (n, k) tells how much each member counts.
        """

    def pulls(self, blocks: Mapping[str, Block]) -> dict[str, Pull]:
        """Open up n samples, by modality."""

    def summary(self, names: Sequence[str]) -> dict[str, float]:
        """Say in a few numbers what was fitted to modalities of these names, for a run record."""

    def state(self) -> State:
        """Return everything needed to restore the model."""
