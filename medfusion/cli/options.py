"""Arguments and options that commands share, and what is made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from medfusion.core.errors import UsageError

DONE, DATA_PROBLEM, WRONG_USAGE = 0, 1, 2
"""Exit codes."""
CohortFolder = Annotated[Path, typer.Argument(metavar="COHORT", help="Folder with a cohort.toml.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `medfusion train`.")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")]
TaskName = Annotated[str | None, typer.Option("--task", help="May be left out where the cohort has one.")]
SameTask = Annotated[
    str | None, typer.Option("--task", help="The cohort's labels to use, where they are not named as the model's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Where image embeddings are kept between runs.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep nothing between runs.")]
Only = Annotated[list[str] | None, typer.Option(metavar="MODALITY", help="Use only this one. Repeatable.")]
Thresholds = Annotated[
    list[float] | None,
    typer.Option("--threshold", metavar="RISK", help="A risk from which on somebody would act. Repeatable."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="MODALITY.KEY=VALUE", help="For example imaging.backbone=densenet121. Repeatable."),
]


def settings_of(assignments: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return settings by modality, from words such as ``imaging.backbone=densenet121``.

    Raises
    ------
    UsageError
        If one has another form.
    """
    settings: dict[str, dict[str, str]] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        modality, _, key = name.partition(".")
        if not (modality and key and value):
            raise UsageError(f"--set {assignment}: write MODALITY.KEY=VALUE, as in imaging.backbone=densenet121")
        settings.setdefault(modality, {})[key] = value
    return settings


def cache_folder(folder: Path | None, without: bool) -> Path | None:
    """Return where embeddings are kept; None for nowhere."""
    if without:
        return None
    return folder or home("XDG_CACHE_HOME", ".cache")


def home(variable: str, default: str) -> Path:
    """Return the user's folder for one kind of file."""
    return Path(os.environ.get(variable) or Path.home() / default) / "medfusion"
