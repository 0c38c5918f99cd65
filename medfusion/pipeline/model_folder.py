"""The folder of a trained model: JSON and safetensors, read back only as it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medfusion.core.errors import ModelFolderError, UsageError
from medfusion.core.protocols import Modality
from medfusion.core.state import State, load_state, save_state
from medfusion.core.types import Block, Embedding
from medfusion.evidence import EvidenceModel, Member
from medfusion.fusion import restore_fusion
from medfusion.fusion.conformal import RiskSets
from medfusion.fusion.recalibration import Recalibration
from medfusion.pipeline.data import build_modalities
from medfusion.pipeline.model import RiskModel, Roster

FORMAT = 3
_STATE, _CHECK, _CARD = "state", "check", "card.json"
_SUFFIXES = (".json", ".safetensors")


def save_model(model: RiskModel, folder: Path) -> str:
    """Write the model folder: JSON and safetensors only. Return the model id."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "task": model.task,
        "positive": model.positive,
        "modalities": {
            name: {
                "identity": dict(evidence.modality.identity()),
                "settings": dict(model.card["settings"].get(name, {})),
                "evidence": evidence.state(),
            }
            for name, evidence in model.evidence.items()
        },
        "fusion": model.fusion.state(),
        "recalibration": model.recalibration.state(),
        "risk_sets": None if model.risk_sets is None else model.risk_sets.state(),
        "sets_by": model.sets_by,
        "check": _write_check(folder, model.check),
        "roster": {"salt": model.roster.salt, "folds": dict(model.roster.folds)},
    }
    save_state(folder, _STATE, state)
    card = {**model.card, "format": FORMAT, "model_id": _digest(folder)}
    (folder / _CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(card["model_id"])


def load_model(folder: Path, build: Any) -> RiskModel:
    """Read a model folder.

    Parameters
    ----------
    folder : Path
    build : callable
        Takes settings by modality, returns modalities by name.

    Raises
    ------
    ModelFolderError
        If the folder is damaged, was changed after training, or needs what is not here.
    """
    card = _read_card(folder)
    if card.get("model_id") != _digest(folder):
        raise ModelFolderError(f"{folder.name}: its files were changed after training; get the folder again")
    try:
        model = _restored(load_state(folder, _STATE), card, build, folder)
        _check_parts(model)
    except UsageError as error:
        raise ModelFolderError(f"{folder.name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFolderError(f"{folder.name}: not a model of this version ({error!r})") from error
    return model


def load_for(folder: Path, cache: Path | None) -> RiskModel:
    """Read a model folder, with the modalities that are installed; see `load_model`."""
    return load_model(folder, lambda settings: build_modalities(settings, cache))


def _restored(state: Any, card: Mapping[str, Any], build: Any, folder: Path) -> RiskModel:
    parts = state["modalities"]
    modalities = build({name: part["settings"] for name, part in parts.items()})
    evidence = {}
    for name, part in parts.items():
        _check_identity(name, part["identity"], modalities)
        evidence[name] = EvidenceModel.restore(modalities[name], part["evidence"])
    roster = Roster(state["roster"]["salt"], state["roster"]["folds"])
    fusion = restore_fusion(state["fusion"])
    recalibration = Recalibration.restore(state["recalibration"])
    sets = None if state["risk_sets"] is None else RiskSets.restore(state["risk_sets"])
    return RiskModel(
        state["task"],
        state["positive"],
        evidence,
        fusion,
        roster,
        card,
        str(card["model_id"]),
        recalibration,
        sets,
        str(state["sets_by"]),
        _read_check(folder, state.get("check")),
    )


def _write_check(folder: Path, check: Mapping[str, State]) -> str:
    """Write the check batch into files of its own, or none where there is none; return their digest."""
    if check:
        save_state(folder, _CHECK, dict(check))
        return _digest(folder, _CHECK)
    for suffix in _SUFFIXES:
        (folder / (_CHECK + suffix)).unlink(missing_ok=True)
    return ""


def _read_check(folder: Path, digest: str | None) -> Mapping[str, State]:
    """Read the check batch; none where there was none, or somebody took it away to keep pictures from others."""
    if not digest or not any((folder / (_CHECK + suffix)).exists() for suffix in _SUFFIXES):
        return {}
    if _digest(folder, _CHECK) != digest:
        raise ModelFolderError(f"{folder.name}: its check batch was changed after training; get the folder again")
    found: Mapping[str, State] = load_state(folder, _CHECK)
    return found


def _check_parts(model: RiskModel) -> None:
    """Refuse parts that do not fit each other, so that no later step meets an array of another shape.

    Raises
    ------
    ValueError
        Or whatever else the parts run into when they are tried.
    """
    sizes = {len(each.members) for each in model.evidence.values()}
    folds = set(model.roster.folds.values())
    fits = {
        "task": isinstance(model.task, str) and isinstance(model.positive, str),
        "members": len(sizes) == 1 and 0 not in sizes,
        "roster": isinstance(model.roster.salt, str) and folds <= set(range(max(sizes, default=0))),
        **{name: all(_is_sound(each, member) for member in each.members) for name, each in model.evidence.items()},
    }
    if wrong := [name for name, fit in fits.items() if not fit]:
        raise ValueError(f"wrong: {', '.join(wrong)}")
    _try_fusion(model)


def _try_fusion(model: RiskModel) -> None:
    """Ask the fusion about one made-up sample that has everything."""
    blocks = {}
    for name, each in model.evidence.items():
        embedded = [member.embed([]) for member in each.members] if model.fusion.uses_embeddings else []
        rows = [np.zeros((1, len(every.feature_names)), dtype=np.float32) for every in embedded]
        there = np.ones(1, dtype=bool)
        blocks[name] = Block(
            np.zeros((len(each.members), 1)),
            tuple(Embedding(row, there, every.feature_names) for row, every in zip(rows, embedded, strict=True)),
        )
    members = len(next(iter(blocks.values())).evidence)
    pulls = model.fusion.pulls(blocks)
    said = model.fusion.logits(blocks)
    spread = model.fusion.variance(blocks, np.full((1, members), 1 / members))
    slopes = [slope for pull in pulls.values() for slope in pull.evidence.ravel()]
    numbers = [model.fusion.base, *said[:, 0], *spread, *slopes]
    if said.shape != (members, 1) or list(pulls) != list(blocks) or not np.isfinite(numbers).all() or spread[0] < 0:
        raise ValueError("wrong: fusion")


def _is_sound(evidence: EvidenceModel, member: Member) -> bool:
    """Say whether a head takes what its encoder gives, and answers with numbers."""
    row = np.zeros((1, member.encoder.encode([]).values.shape[1]), dtype=np.float32)
    opened = member.head.shares(row)
    said = [evidence.base, *evidence.platt.apply(member.head.raw(row)), *evidence.platt.apply(opened.shares[0])]
    sound = opened.shares.shape == row.shape and evidence.platt.slope >= 0 and bool(np.isfinite(said).all())
    domain = evidence.domain
    if domain is None:
        return sound
    fits = len(domain.members) == len(evidence.members) and domain.limit > 0
    return sound and fits and bool(np.isfinite(domain.distance(row)).all())


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{folder}: no model folder ({_CARD} is missing)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{folder.name}/{_CARD}: cannot be read") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFolderError(f"{folder.name}: made by another version of medfusion; train it again")
    return card


def _check_identity(name: str, expected: Mapping[str, str], modalities: Mapping[str, Modality]) -> None:
    if name not in modalities:
        raise ModelFolderError(f"the model needs the modality {name}, which is not installed")
    found = modalities[name].identity()
    for key in sorted(set(expected) | set(found)):
        if expected.get(key) != found.get(key):
            raise ModelFolderError(
                f"{name}: {key} is {found.get(key)} here, the model was made with {expected.get(key)}"
            )


def _digest(folder: Path, name: str = _STATE) -> str:
    digest = hashlib.sha256()
    for suffix in _SUFFIXES:
        path = folder / (name + suffix)
        if not path.is_file():
            raise ModelFolderError(f"{folder.name}: {path.name} is missing")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
