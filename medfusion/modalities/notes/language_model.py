"""A language model from a local folder: hidden states of tokens, and their sums kept by content."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfusion.core.errors import UsageError
from medfusion.core.types import FloatArray

MAX_TOKENS = 512
_BATCH = 16


class LanguageModel:
    """A pretrained encoder of text, frozen.

    Nothing is downloaded and no code from the folder is run; weights are read from safetensors alone.

    Parameters
    ----------
    folder : Path
        With ``config.json``, ``model.safetensors`` and the files of a fast tokenizer.
    cache : Path or None
        Folder for sums of hidden states, by the hash of model and text; no text is kept in it.
    """

    def __init__(self, folder: Path, cache: Path | None) -> None:
        self._folder = folder
        self._cache = cache

    @cached_property
    def digest(self) -> str:
        """What identifies the model: SHA-256 over its weights, configuration and tokenizer, 16 digits."""
        sha = hashlib.sha256()
        for file in sorted(self._folder.glob("*")):
            if file.name in ("config.json", "model.safetensors", "vocab.txt") or file.name.startswith("tokenizer"):
                with file.open("rb") as stream:
                    sha.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
        return sha.hexdigest()[:16]

    @cached_property
    def size(self) -> int:
        """How long a hidden state is."""
        return int(self._network.config.hidden_size)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer  # noqa: PLC0415 - an extra, and slow to import

        tokenizer = _loaded(AutoTokenizer, self._folder)
        if not tokenizer.is_fast:
            raise UsageError(f"notes.model: {self._folder} has no fast tokenizer (tokenizer.json), which is needed")
        limit = getattr(self._network.config, "max_position_embeddings", MAX_TOKENS)
        tokenizer.model_max_length = min(MAX_TOKENS, tokenizer.model_max_length, limit)
        return tokenizer

    @cached_property
    def _network(self) -> Any:
        from transformers import AutoModel  # noqa: PLC0415

        return _loaded(AutoModel, self._folder, use_safetensors=True).float().eval()

    def tokens(self, text: str) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the hidden states of a text's tokens.

        Returns
        -------
        hidden : array (tokens, size), float32
        places : array (tokens, 2), int64
            Where each token stands in the text; (0, 0) for the model's own markers.
        """
        chunks = self._chunks([text])
        hidden = [states for batch in _batches(chunks) for states in self._hidden(batch)]
        return np.concatenate(hidden), np.concatenate([np.asarray(chunk["offsets"]) for chunk in chunks])

    def sums(self, texts: Sequence[str]) -> dict[str, tuple[int, FloatArray]]:
        """Return, per distinct text, the number of tokens and the sum of their hidden states (size,), float64."""
        wanted = {hashlib.sha256(f"{self.digest}\0{text}".encode()).hexdigest(): text for text in texts}
        known = self._recall(wanted)
        new = [text for key, text in wanted.items() if key not in known]
        fresh = self._computed(new)
        self._remember({key: fresh[text] for key, text in wanted.items() if key not in known})
        return fresh | {wanted[key]: found for key, found in known.items()}

    def _computed(self, texts: Sequence[str]) -> dict[str, tuple[int, FloatArray]]:
        chunks = sorted(self._chunks(texts), key=lambda chunk: len(chunk["ids"]))
        found: dict[str, tuple[int, FloatArray]] = {text: (0, np.zeros(self.size)) for text in texts}
        for batch in _batches(chunks):
            for chunk, hidden in zip(batch, self._hidden(batch), strict=True):
                text = texts[chunk["text"]]
                count, total = found[text]
                found[text] = (count + len(hidden), total + hidden.sum(axis=0, dtype=np.float64))
        return found

    def _chunks(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Split texts into stretches that the model can take, each with the model's own markers."""
        if not texts:
            return []
        coded = self._tokenizer(
            list(texts), truncation=True, return_overflowing_tokens=True, return_offsets_mapping=True
        )
        texts_of = coded["overflow_to_sample_mapping"]
        rows = zip(coded["input_ids"], coded["offset_mapping"], texts_of, strict=True)
        return [{"ids": ids, "offsets": offsets, "text": text} for ids, offsets, text in rows]

    def _hidden(self, chunks: Sequence[dict[str, Any]]) -> Iterator[FloatArray]:
        import torch  # noqa: PLC0415 - slow to import

        padded = self._tokenizer.pad({"input_ids": [chunk["ids"] for chunk in chunks]}, return_tensors="pt")
        with torch.inference_mode():
            states = self._network(**padded).last_hidden_state
        for chunk, mask, state in zip(chunks, padded["attention_mask"].bool(), states, strict=True):
            yield state[mask][: len(chunk["ids"])].numpy()

    def _recall(self, keys: Iterable[str]) -> dict[str, tuple[int, FloatArray]]:
        if self._cache is None:
            return {}
        with closing(_opened(self._cache)) as store:
            rows = (store.execute("SELECT key, tokens, total FROM sums WHERE key = ?", (key,)) for key in keys)
            return {key: (count, np.frombuffer(total)) for row in rows for key, count, total in row}

    def _remember(self, found: dict[str, tuple[int, FloatArray]]) -> None:
        if self._cache is None or not found:
            return
        rows = [(key, count, total.tobytes()) for key, (count, total) in found.items()]
        with closing(_opened(self._cache)) as store, store:
            store.executemany("INSERT OR IGNORE INTO sums VALUES (?, ?, ?)", rows)


def _loaded(kind: Any, folder: Path, **options: Any) -> Any:
    """Load from local files, silently."""
    from transformers.utils import logging  # noqa: PLC0415

    talkative = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise UsageError(f"notes.model: {folder} cannot be loaded ({type(error).__name__})") from error
    finally:
        if talkative:
            logging.enable_progress_bar()


def _batches(chunks: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(chunks), _BATCH):
        yield chunks[start : start + _BATCH]


def _opened(cache: Path) -> sqlite3.Connection:
    cache.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(cache / "notes.sqlite", timeout=60)
    store.execute("CREATE TABLE IF NOT EXISTS sums (key TEXT PRIMARY KEY, tokens INTEGER, total BLOB)")
    return store
