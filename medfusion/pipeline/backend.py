"""Which library runs the frozen network: measured on this machine, and held against the risks of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from medfusion.core.errors import MedfusionError, UsageError
from medfusion.core.protocols import Backends, Modality
from medfusion.core.state import State
from medfusion.core.types import FloatArray
from medfusion.pipeline.model import RiskModel

RISK_LIMIT = 0.005
"""By less than this may a backend change the risk of any picture of the check batch."""
WARM_UP_S = 1.0
"""How long each backend is measured."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What was found out about one backend.

    Attributes
    ----------
    name : str
    per_second : float or None
        Pictures per second on all processors; None if it was not measured.
    risk_change : float or None
        The largest difference to the risk of training, over the check batch; None where that was not checked.
    refused : str
        Why it may not be used; empty if it may.
    """

    name: str
    per_second: float | None = None
    risk_change: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend runs a modality's network, and why.

    Attributes
    ----------
    modality, wanted, chosen : str
    checked_on : int
        Pictures of the check batch; 0 where there is none.
    candidates : tuple of Candidate
    """

    modality: str
    wanted: str
    chosen: str
    checked_on: int
    candidates: tuple[Candidate, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "candidates": [asdict(each) for each in self.candidates], "risk_limit": RISK_LIMIT}

    def text(self) -> str:
        """Return one line about it.

        Examples
        --------
        >>> candidate = Candidate("openvino-int8", 104.2, 0.0012)
        >>> BackendChoice("imaging", "auto", "openvino-int8", 24, (candidate,)).text()
        'imaging runs on openvino-int8: 104 pictures/s, risks within 0.0012 of training on 24 pictures'
        """
        one = next(each for each in self.candidates if each.name == self.chosen)
        said = [] if one.per_second is None else [f"{one.per_second:.0f} pictures/s"]
        if one.risk_change is not None:
            said.append(f"risks within {one.risk_change:.2g} of training on {self.checked_on} pictures")
        return f"{self.modality} runs on {self.chosen}" + (f": {', '.join(said)}" if said else "")


def checks_of(modalities: Mapping[str, Modality], payloads: Mapping[str, Sequence[Any | None]]) -> dict[str, State]:
    """Return the check batches of those modalities that have backends."""
    offered = {
        name: each.check_batch(payloads[name]) for name, each in modalities.items() if isinstance(each, Backends)
    }
    return {name: check for name, check in offered.items() if check is not None}


def choose_backend(model: RiskModel, wanted: str = "auto", *, seconds: float = WARM_UP_S) -> BackendChoice | None:
    """Choose the fastest backend that gives the risks of training, and have the model's modality use it.

    Parameters
    ----------
    model : RiskModel
    wanted : str
        ``auto``, a library (``openvino``) or a backend (``openvino-int8``). A single one in fp32 is taken without
        being measured.
    seconds : float
        How long each is measured.

    Returns
    -------
    BackendChoice or None
        None for a model without a network that has backends; nothing has happened then.

    Raises
    ------
    UsageError
        If there is no such backend, or none of those wanted may be used.
    MissingExtra
        If the only one wanted needs a package that is not installed.

    Notes
    -----
    The check is the risk from the pictures alone, of the model and of each of its members, against torch in fp32.
    """
    for name, modality in model.modalities.items():
        if isinstance(modality, Backends) and (names := modality.backends(wanted)):
            return _Choosing(model, name, modality).among(names, wanted, seconds)
    return None


def use_backend(model: RiskModel, chosen: str) -> None:
    """Have a model's network run by a backend that was chosen before, perhaps in another process.

    Raises
    ------
    MissingExtra, UsageError
        As `Backends.use_backend`.
    """
    for name, modality in model.modalities.items():
        if isinstance(modality, Backends):
            modality.use_backend(chosen, model.check.get(name))


class _Choosing:
    """The choice for one modality."""

    def __init__(self, model: RiskModel, name: str, modality: Backends) -> None:
        self._model = model
        self._name = name
        self._modality = modality
        self._check = model.check.get(name)
        self._reference: FloatArray | None = None

    def among(self, names: Mapping[str, str], wanted: str, seconds: float) -> BackendChoice:
        """Try what can be used, take the fastest."""
        only = len(names) == 1
        candidates = [self._tried(name, reason, only, seconds) for name, reason in names.items()]
        allowed = [each for each in candidates if not each.refused]
        if not allowed:
            reasons = "; ".join(f"{each.name}: {each.refused}" for each in candidates)
            raise UsageError(f"no backend for {wanted!r} ({reasons}); take --backend auto")
        chosen = max(allowed, key=lambda each: each.per_second or 0.0).name
        self._modality.use_backend(chosen, self._check)
        self._modality.settle()
        pictures = 0 if self._check is None else len(next(iter(self._check.values())))
        return BackendChoice(self._name, wanted, chosen, pictures, tuple(candidates))

    def _tried(self, name: str, reason: str, only: bool, seconds: float) -> Candidate:
        if only:
            # Whoever asks for one thing is told as an error why it cannot be had.
            self._modality.use_backend(name, self._check)
        if reason:
            return Candidate(name, refused=reason)
        is_exact = self._modality.is_exact(name)
        if self._check is None and not is_exact:
            return Candidate(name, refused="the model folder has no check batch")
        if only and name == self._modality.reference:
            return Candidate(name)
        try:
            tried = replace(Candidate(name), risk_change=self._risk_change(name))
            if tried.risk_change is not None and not tried.risk_change < RISK_LIMIT:
                return replace(tried, refused=f"it changes a risk by {tried.risk_change:.3f}")
            return tried if only else replace(tried, per_second=self._modality.rate(self._check, seconds))
        except Exception as error:  # libraries fail in many ways; the others still can be used
            if only or isinstance(error, MedfusionError):
                raise
            said = str(error).strip().splitlines()
            return Candidate(name, refused=f"{type(error).__name__}: {said[0] if said else ''}")

    def _risk_change(self, name: str) -> float | None:
        """Return the largest change of a risk; the backend is in use afterwards."""
        if self._check is None:
            self._modality.use_backend(name, None)
            return None
        if self._reference is None:
            self._modality.use_backend(self._modality.reference, self._check)
            self._reference = self._risks()
        self._modality.use_backend(name, self._check)
        return float(np.abs(self._risks() - self._reference).max())

    def _risks(self) -> FloatArray:
        """Return the risk of each picture by itself: the model's, and below it each member's."""
        alone = self._modality.checked(self._check)
        payloads = {name: alone if name == self._name else [None] * len(alone) for name in self._model.evidence}
        # Nobody's name: all members answer.
        whole = self._model.predict([""] * len(alone), payloads).risk
        members = expit(self._model.fusion.logits(self._model.blocks(payloads)))
        return np.vstack([whole, members])
