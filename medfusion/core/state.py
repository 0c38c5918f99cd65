"""What a fitted component is made of, as plain data: JSON values and arrays, nothing that executes when loaded.

A state is a tree of dicts, lists, strings, numbers, booleans, None and NumPy arrays. On disk it is one JSON file, in
which an array is ``{"$array": "path"}``, and one safetensors file with the arrays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from medfusion.core.errors import ModelFolderError

State = Any
_ARRAY = "$array"


def save_state(folder: Path, name: str, state: State) -> None:
    """Write ``<name>.json`` and ``<name>.safetensors``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state(Path(folder), "head", {"kind": "linear", "slope": np.array([1.0, 2.0])})
    ...     load_state(Path(folder), "head")["slope"].tolist()
    [1.0, 2.0]
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _split(state, name, arrays)
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    save_file(arrays, folder / f"{name}.safetensors")


def load_state(folder: Path, name: str) -> State:
    """Read what `save_state` wrote.

    Raises
    ------
    ModelFolderError
        If a file is missing or damaged, or refers to an array that is not there.
    """
    try:
        tree = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / f"{name}.safetensors")
        return _join(tree, arrays, name)
    except (OSError, ValueError, LookupError, RecursionError, SafetensorError) as error:
        raise ModelFolderError(f"{folder.name}/{name}: cannot be read ({type(error).__name__})") from error


def _split(value: State, path: str, arrays: dict[str, np.ndarray]) -> State:
    if isinstance(value, np.ndarray):
        arrays[path] = np.ascontiguousarray(value)
        return {_ARRAY: path}
    if isinstance(value, dict):
        return {key: _split(item, f"{path}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{path}.{index}", arrays) for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _join(value: State, arrays: dict[str, np.ndarray], name: str) -> State:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            if not isinstance(value[_ARRAY], str) or value[_ARRAY] not in arrays:
                raise ModelFolderError(f"{name}: the array {value[_ARRAY]} is missing")
            return arrays[value[_ARRAY]]
        return {key: _join(item, arrays, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_join(item, arrays, name) for item in value]
    return value
