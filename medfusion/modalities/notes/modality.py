"""Clinical notes, in English, Korean or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from medfusion.core.errors import ModelFolderError, Problem
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Advance, Encoder, ModalityOptions
from medfusion.core.schema import TableSchema
from medfusion.core.state import State
from medfusion.core.types import FeatureShare, Records
from medfusion.core.views import View
from medfusion.modalities.notes.cues import digest
from medfusion.modalities.notes.example import example_payload
from medfusion.modalities.notes.language_model import LanguageModel
from medfusion.modalities.notes.payload import NotesPayload, fingerprint, scripts, text_view
from medfusion.modalities.notes.reader import NOTES, index_notes, read_notes
from medfusion.modalities.notes.settings import NotesSettings
from medfusion.modalities.notes.tfidf import TfidfEncoder
from medfusion.modalities.notes.transformer import TransformerEncoder, with_vectors

_AT_ONCE = 256
"""Records read at once; after each lot the sums of a language model are kept."""
_RULES = "1"
"""To be raised when words, sections or negation are read by other rules than before."""


class NotesModality:
    """Notes as words that know their section and whether they are negated.

    Words are counted and weighted; with ``notes.model=FOLDER`` a frozen language model reads the text as well, and
    whether to go by one of them or by both is chosen inside the training folds. ``notes.encoder=transformer`` goes by
    the language model alone.

    Raises
    ------
    UsageError
        If a setting is unknown or has a value that does not fit.
    MissingExtra
        If the transformer is asked for and its package is not installed.

    Examples
    --------
    >>> modality = NotesModality(ModalityOptions())
    >>> payload = modality.example(seed=1)
    >>> modality.view(payload, [])[0].titles
    ['admission, 2024-03-01 09:30', 'progress, 2024-03-02 02:30']
    """

    name: ClassVar[str] = "notes"
    tables: ClassVar[tuple[TableSchema, ...]] = (NOTES,)

    def __init__(self, options: ModalityOptions) -> None:
        self._settings = NotesSettings.parse(options.settings)
        self._cache = options.cache

    @cached_property
    def _model(self) -> LanguageModel | None:
        folder = self._settings.model
        return None if folder is None else LanguageModel(folder, self._cache)

    def index(self, folder: CohortFolder) -> pa.Table | None:
        """Read notes.csv or .parquet; a note without a word is a problem, and left out."""
        return index_notes(folder)

    def read(self, records: Sequence[Records], problems: list[Problem], advance: Advance) -> list[NotesPayload | None]:
        """Split notes into words, leaving out what was copied forward; with a language model, run it."""
        payloads: list[NotesPayload | None] = []
        for start in range(0, len(records), _AT_ONCE):
            batch = read_notes(records[start : start + _AT_ONCE])
            payloads += batch if self._model is None else with_vectors(batch, self._model)
            advance(len(batch))
        return payloads

    def identity(self) -> Mapping[str, str]:
        """Say by which rules and with which language model payloads are made."""
        known = {"encoder": self._settings.encoder, "rules": _RULES, "cues": digest()}
        return known if self._model is None else {**known, "model": self._model.digest}

    def encoder(self) -> Encoder:
        """Return an unfitted encoder, the simplest of those that compete."""
        return self.encoders(0)[0]

    def encoders(self, records: int) -> list[Encoder]:
        """Return the encoders that are set, for any number of records: of both kinds, with ``notes.encoder=auto``."""
        of_words: list[Encoder] = [] if self._settings.encoder == "transformer" else [TfidfEncoder()]
        return of_words if self._model is None else [*of_words, TransformerEncoder(self._model)]

    def restore(self, state: State) -> Encoder:
        """Return an encoder as it was.

        Raises
        ------
        ModelFolderError
            If the state is that of another kind of encoder than the settings ask for.
        """
        wanted = self._settings.encoder
        if state["kind"] != wanted and wanted != "auto":
            raise ModelFolderError(f"notes: trained with notes.encoder={state['kind']}, but set to {wanted}")
        if state["kind"] == TransformerEncoder.kind and self._model is not None:
            return TransformerEncoder.restore(state, self._model)
        return TfidfEncoder.restore(state)

    def fingerprints(self, payload: Any) -> list[str]:
        """Return a hash per note, equal for notes that differ in case, spacing or final punctuation alone."""
        return [fingerprint(note.text) for note in payload.notes]

    def items(self, payload: Any) -> list[Any]:
        """Return the payload: its notes have been compared with each other."""
        return [payload]

    def acquisition(self, payload: NotesPayload) -> Mapping[str, str | float]:
        """Return how much was written, of which types and in which scripts."""
        written = [note.text for note in payload.notes]
        return {
            "notes": len(written),
            "characters": sum(map(len, written)),
            "types": ", ".join(sorted({note.kind for note in payload.notes})),
            "scripts": scripts(written),
        }

    def view(self, payload: Any, shares: Sequence[FeatureShare]) -> list[View]:
        """Return the texts with the shares of their words."""
        return [text_view(payload, {line.feature: line.share for line in shares})]

    def example(self, seed: int) -> NotesPayload:
        """Return an admission note and a progress note."""
        payload = example_payload(seed)
        return payload if self._model is None else with_vectors([payload], self._model)[0] or payload
