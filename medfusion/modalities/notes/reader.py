"""From the table of notes to payloads."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.errors import Problem, shortened
from medfusion.core.folder import CohortFolder
from medfusion.core.schema import Column, TableSchema
from medfusion.core.types import Records
from medfusion.modalities.notes.payload import Note, NotesPayload, new_sentences
from medfusion.modalities.notes.sentences import Sentence, sentences

NOTES = TableSchema(
    name="notes",
    description="Clinical notes as they were written, one per row, in English, Korean or both.",
    columns=(
        Column("subject_id", "string", "Whose note it is."),
        Column("time", "time", "When it was written; later predictions alone may use it."),
        Column("note_type", "string", "Such as radiology, nursing or discharge.", required=False, nullable=True),
        Column("text", "string", "The note.", nullable=True),
    ),
)
_UNNAMED = "note"
_HAS_WORDS = r"[\p{L}\p{N}]"


def index_notes(folder: CohortFolder) -> pa.Table | None:
    """Read notes.csv or .parquet; a note without a word is left out and noted.

    Returns
    -------
    pyarrow.Table or None
        Columns ``subject_id``, ``time``, ``note_type`` and ``text``; None if there is no such file.
    """
    table = folder.table(NOTES)
    if table is None:
        return None
    worded = pc.fill_null(pc.match_substring_regex(table["text"], _HAS_WORDS), False)
    file = "notes.parquet" if (folder.root / "notes.parquet").exists() else "notes.csv"
    empty = table.filter(pc.invert(worded)).select(["subject_id", "row"]).to_pylist()
    folder.problems.extend(shortened(_empty_note(file, row) for row in empty))
    table = table.filter(worded)
    kinds = table["note_type"] if "note_type" in table.column_names else pa.nulls(len(table), pa.string())
    kinds = pc.fill_null(kinds, _UNNAMED)
    columns = {"subject_id": table["subject_id"], "time": table["time"], "note_type": kinds, "text": table["text"]}
    return pa.table(columns)


def _empty_note(file: str, row: dict[str, object]) -> Problem:
    where, subject = f"row {row['row']}", str(row["subject_id"])
    return Problem("empty-note", file, where, "text", "", "words", "remove the row, or fill it in", subject_id=subject)


def read_notes(records: Sequence[Records]) -> list[NotesPayload | None]:
    """Split the notes of every record into words, and leave out what was copied forward.

    A note that several records share is split once.
    """
    known: dict[str, tuple[Sentence, ...]] = {}
    return [_payload(record.table, known) for record in records]


def _payload(table: pa.Table, known: dict[str, tuple[Sentence, ...]]) -> NotesPayload | None:
    if not table.num_rows:
        return None
    texts = table["text"].to_pylist()
    for text in texts:
        if text not in known:
            known[text] = sentences(text)
    kinds, times = table["note_type"].to_pylist(), table["time"].to_pylist()
    kept = new_sentences([known[text] for text in texts])
    notes = tuple(Note(*each) for each in zip(kinds, times, texts, kept, strict=True))
    return NotesPayload(notes) if any(note.sentences for note in notes) else None
