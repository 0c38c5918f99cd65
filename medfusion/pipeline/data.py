"""From a cohort folder and a choice of modalities to payloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medfusion.cohort import Cohort
from medfusion.core.errors import Problem, UsageError
from medfusion.core.protocols import Advance, Modality, ModalityOptions
from medfusion.core.types import Sample
from medfusion.modalities import discover

Track = Callable[[str, int], Advance]
"""Called with the name of a stage and its number of steps; returns what counts them."""
Settings = Mapping[str, Mapping[str, str]]
"""By modality: what the user set."""


def silent(_stage: str, _total: int) -> Advance:
    """Show no progress."""
    return lambda _done: None


def build_modalities(settings: Settings, cache: Path | None, only: Sequence[str] = ()) -> dict[str, Modality]:
    """Set the modalities up.

    Parameters
    ----------
    settings : mapping from modality to mapping
    cache : Path or None
    only : sequence of str
        Take these; empty for all.

    Raises
    ------
    UsageError
        If a modality or a setting is unknown.
    """
    found = discover()
    for name in [*settings, *only]:
        if name not in found:
            raise UsageError(f"no modality {name!r}; there are: {', '.join(found)}")
    chosen = {name: kind for name, kind in found.items() if not only or name in only}
    return {name: kind(ModalityOptions(settings.get(name, {}), cache)) for name, kind in chosen.items()}


def read_payloads(
    cohort: Cohort, modalities: Mapping[str, Modality], samples: Sequence[Sample], problems: list[Problem], track: Track
) -> dict[str, list[Any | None]]:
    """Read what each modality knew of samples at their prediction times, through the firewall."""
    payloads = {}
    for name, modality in modalities.items():
        advance = track(f"read {name}", len(samples))
        payloads[name] = modality.read(cohort.records(name, samples), problems, advance)
    return payloads


def column_of(cohort: Cohort, samples: Sequence[Sample], column: str) -> list[str]:
    """Return what a column of subjects.csv says of samples, as text; empty where it says nothing.

    Raises
    ------
    UsageError
        If there is no such column.
    """
    facts = [cohort.facts(sample) for sample in samples]
    if not any(column in each for each in facts):
        known = ", ".join(sorted({name for each in facts for name in each}))
        raise UsageError(f"subjects.csv has no column {column!r}; it has: {known}")
    return ["" if each.get(column) is None else str(each[column]) for each in facts]
