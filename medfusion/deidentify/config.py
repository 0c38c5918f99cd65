"""cohort.toml on its way out: what a reader needs, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from medfusion.core.folder import CohortFolder
from medfusion.deidentify.text import Scrubber

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def labels_of(folder: CohortFolder) -> dict[str, str]:
    """Return the path of the labels by task; tasks whose names make no file name are left out."""
    tasks = folder.config.get("tasks")
    entries = tasks.items() if isinstance(tasks, dict) else ()
    return {
        task: entry["labels"]
        for task, entry in entries
        if _PLAIN.fullmatch(task) and isinstance(entry, dict) and isinstance(entry.get("labels"), str)
    }


def clean_config(config: Mapping[str, Any], labels: Mapping[str, str], scrubber: Scrubber) -> dict[str, Any]:
    """Return what may stay of a cohort.toml.

    Parameters
    ----------
    config : mapping
    labels : mapping from task to str
        The new paths.
    scrubber : Scrubber

    Returns
    -------
    dict
    """
    new: dict[str, Any] = {key: _clean(config[key], scrubber) for key in ("name", "description") if key in config}
    new["tasks"] = {
        task: {"labels": path, "positive": _clean(config["tasks"][task].get("positive", ""), scrubber)}
        for task, path in labels.items()
    }
    ehr = config.get("ehr", {})
    kept = {
        part: {_clean(code, scrubber, prose=False): said for code, said in entries.items() if is_one(said)}
        for part, is_one in (("units", _is_unit), ("reference", _is_range))
        if isinstance(entries := ehr.get(part) if isinstance(ehr, dict) else None, dict) and entries
    }
    return {**new, "ehr": kept} if kept else new


def _is_unit(said: object) -> bool:
    return isinstance(said, str)


def _is_range(said: object) -> bool:
    """Tell a reference range, in which there is no place for more than numbers and a unit."""
    if not isinstance(said, dict) or not set(said) <= {"low", "high", "unit"}:
        return False
    return all(isinstance(each, str) == (name == "unit") for name, each in said.items())


def _clean(text: object, scrubber: Scrubber, prose: bool = True) -> str:
    return scrubber.scrub(str(text), prose=prose)[0]


def as_toml(config: Mapping[str, Any], section: str = "") -> str:
    """Write nested mappings of texts and numbers as TOML.

    Examples
    --------
    >>> print(as_toml({"name": "a", "ehr": {"units": {"GLU": "mg/dL"}}}), end="")
    name = "a"
    <BLANKLINE>
    [ehr.units]
    GLU = "mg/dL"
    """
    plain = {key: value for key, value in config.items() if isinstance(value, str | int | float)}
    lines = [f"{_key(key)} = {_quoted(value)}\n" for key, value in plain.items()]
    head = f"\n[{section}]\n" if section and lines else ""
    inner = (
        as_toml(value, f"{section}.{_key(key)}" if section else _key(key))
        for key, value in config.items()
        if isinstance(value, Mapping)
    )
    return head + "".join(lines) + "".join(inner)


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _quoted(name)


def _quoted(text: str | float) -> str:
    # TOML's basic strings have JSON's escapes; DEL alone has to be escaped besides.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
