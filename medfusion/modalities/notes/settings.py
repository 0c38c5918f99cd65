"""What a user may set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medfusion.core.errors import MissingExtra, UsageError

ENCODERS = ("tfidf", "transformer", "auto")
_VALID = "notes.encoder (tfidf, transformer or auto), notes.model (the folder of a language model, for the last two)"


@dataclass(frozen=True, slots=True)
class NotesSettings:
    """Settings of the notes.

    Attributes
    ----------
    encoder : {"tfidf", "transformer", "auto"}
        With ``"auto"`` both compete; it is the default where there is a language model.
    model : Path or None
        Folder of a language model with ``config.json`` and ``model.safetensors``.
    """

    encoder: str = "tfidf"
    model: Path | None = None

    @classmethod
    def parse(cls, settings: Mapping[str, str]) -> NotesSettings:
        """Check what stands on the command line.

        Raises
        ------
        UsageError
            If a setting is unknown, has a value that does not fit, or is missing.
        MissingExtra
            If a language model is asked for and the package ``transformers`` is not installed.

        Examples
        --------
        >>> NotesSettings.parse({}).encoder
        'tfidf'
        """
        if unknown := sorted(set(settings) - {"encoder", "model"}):
            raise UsageError(f"unknown setting {', '.join(f'notes.{name}' for name in unknown)}; valid are {_VALID}")
        encoder = settings.get("encoder", "auto" if "model" in settings else "tfidf")
        if encoder not in ENCODERS:
            raise UsageError(f"notes.encoder is {encoder!r}, expected tfidf, transformer or auto")
        if encoder == "tfidf":
            if "model" in settings:
                raise UsageError("notes.model is set, but notes.encoder is 'tfidf'; set notes.encoder=auto")
            return cls()
        if find_spec("transformers") is None:
            raise MissingExtra("transformers", "text")
        return cls(encoder, _model_folder(encoder, settings.get("model")))


def _model_folder(encoder: str, name: str | None) -> Path:
    if not name:
        raise UsageError(f"notes.encoder={encoder} needs notes.model, the folder of a language model")
    folder = Path(name).expanduser()
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise UsageError(f"notes.model: {folder} has no {needed}; give the folder of a model saved as safetensors")
    return folder
