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
    units = ehr.get("units", {}) if isinstance(ehr, dict) else {}
    if isinstance(units, dict) and units:
        texts = {code: unit for code, unit in units.items() if isinstance(unit, str)}
        new["ehr"] = {"units": {_clean(code, scrubber, prose=False): unit for code, unit in texts.items()}}
    return new


def _clean(text: object, scrubber: Scrubber, prose: bool = True) -> str:
    return scrubber.scrub(str(text), prose=prose)[0]


def as_toml(config: Mapping[str, Any], section: str = "") -> str:
    """Write nested mappings of texts as TOML.

    Examples
    --------
    >>> print(as_toml({"name": "a", "ehr": {"units": {"GLU": "mg/dL"}}}), end="")
    name = "a"
    <BLANKLINE>
    [ehr.units]
    GLU = "mg/dL"
    """
    lines = [f"{_key(key)} = {_quoted(value)}\n" for key, value in config.items() if isinstance(value, str)]
    head = f"\n[{section}]\n" if section and lines else ""
    inner = (
        as_toml(value, f"{section}.{_key(key)}" if section else _key(key))
        for key, value in config.items()
        if isinstance(value, Mapping)
    )
    return head + "".join(lines) + "".join(inner)


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    # TOML's basic strings have JSON's escapes; DEL alone has to be escaped besides.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
