"""How tests of notes make payloads."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from medfusion.core.protocols import ModalityOptions
from medfusion.core.types import Records
from medfusion.modalities.notes import NotesModality, NotesPayload

AS_OF = datetime(2024, 3, 10, 12)


def records(*texts: str) -> Records:
    """Notes an hour apart, the last at the prediction time."""
    times = [AS_OF - timedelta(hours=len(texts) - 1 - at) for at in range(len(texts))]
    columns = {"time": pa.array(times, pa.timestamp("us")), "note_type": ["progress"] * len(texts), "text": list(texts)}
    return Records("P1", AS_OF, pa.table(columns))


@pytest.fixture(scope="session")
def read() -> Callable[..., NotesPayload | None]:
    """Read the notes of one patient, given as texts."""
    modality = NotesModality(ModalityOptions())

    def read(*texts: str) -> NotesPayload | None:
        return modality.read([records(*texts)], [], lambda done: None)[0]

    return read
