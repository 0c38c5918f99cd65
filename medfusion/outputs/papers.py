"""The papers of record of a model folder: model card and TRIPOD+AI checklist, as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfusion.core.files import write_text
from medfusion.outputs.model_card import model_card
from medfusion.outputs.tripod import tripod

PAPERS = ("model_card.md", "model_card.html", "tripod.md", "tripod.html")


def write_papers(folder: Path, record: Mapping[str, Any]) -> None:
    """Write model_card.md, model_card.html, tripod.md and tripod.html, from a run record.

    Parameters
    ----------
    folder : Path
        The model folder.
    record : mapping
        JSON values, as in its card.json; with ``model_id`` where the papers are to name the model.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_papers(Path(folder), {"task": "icu"})
    ...     sorted(path.name for path in Path(folder).iterdir()) == sorted(PAPERS)
    True
    """
    for name, paper in {"model_card": model_card(record), "tripod": tripod(record).document()}.items():
        write_text(folder / f"{name}.md", paper.markdown())
        write_text(folder / f"{name}.html", paper.html())
