"""Clinical notes: words with section and negation, or a language model's reading of them."""

from medfusion.modalities.notes.modality import NotesModality
from medfusion.modalities.notes.payload import Note, NotesPayload

MODALITY = NotesModality

__all__ = ["MODALITY", "Note", "NotesModality", "NotesPayload"]
