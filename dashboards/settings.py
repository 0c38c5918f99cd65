"""What a running dashboard was told when it was started: where things are, who may come in, how it behaves."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

VARIABLE = "MEDFUSION_DASHBOARD"
"""Of the environment, which other users of the machine cannot read, unlike a command line: the settings as JSON."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `medfusion dashboard` passes on; never anything about a patient.

    Attributes
    ----------
    scores : Path
        Folder written by `medfusion score`.
    reviews : str
        Database URL of the decisions and the audit trail.
    cohort, model, training : Path or None
        The cohort that was scored, the model that scored it, and the cohort that it was trained on.
    reports : tuple of Path
        Folders written by `medfusion evaluate`, `drift`, `compare` or `recalibrate`.
    cache : Path or None
        Where embeddings of images are kept.
    sign_in : bool
        Whether readers sign in with an OpenID provider; if not, the dashboard is for the user of this machine alone.
    roles_claim : str
        Claim of the identity token that holds the roles; a dotted name leads into nested claims.
    roles : mapping from role to sequence of str
        Which values of the claim grant which role; a role that is not named is granted by its own name.
    blinded : bool
        Whether risks stay hidden from a reader until that reader has recorded a first opinion.
    timeout_minutes : float
        After so long without activity a reader is signed out.

    Examples
    --------
    >>> Settings.of('{"scores": "scores", "reviews": "sqlite:///reviews.db"}').scores.name
    'scores'
    """

    scores: Path
    reviews: str
    cohort: Path | None = None
    model: Path | None = None
    training: Path | None = None
    reports: tuple[Path, ...] = ()
    cache: Path | None = None
    sign_in: bool = False
    roles_claim: str = "roles"
    roles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    blinded: bool = False
    timeout_minutes: float = 15.0

    @classmethod
    def of(cls, text: str) -> Self:
        """Read settings from JSON.

        Raises
        ------
        TypeError
            If something is missing or unknown.
        """
        said: dict[str, Any] = json.loads(text)
        for name in ("scores", "cohort", "model", "training", "cache"):
            said[name] = Path(said[name]) if said.get(name) else None
        said["reports"] = tuple(map(Path, said.get("reports", ())))
        roles: dict[str, list[str]] = said.pop("roles", {})
        return cls(**said, roles=tuple((role, tuple(values)) for role, values in roles.items()))

    @classmethod
    def current(cls) -> Self:
        """Return the settings of this process.

        Raises
        ------
        RuntimeError
            If it was not started by `medfusion dashboard`.
        """
        if not (text := os.environ.get(VARIABLE)):
            raise RuntimeError("start the dashboard with: medfusion dashboard SCORES")
        return cls.of(text)
