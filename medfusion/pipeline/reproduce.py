"""Doing a training run again, from its record, and comparing what the two models say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from medfusion.cohort import Cohort, open_cohort
from medfusion.core.errors import ModelFolderError, Problem
from medfusion.fusion.recalibration import Recalibration
from medfusion.pipeline.data import Track, build_modalities, read_payloads, silent
from medfusion.pipeline.model import RiskModel
from medfusion.pipeline.model_folder import load_for
from medfusion.pipeline.record import data_hashes, environment
from medfusion.pipeline.train import COVERAGE, train

_NOBODY = "\0somebody new"
"""A subject of no cohort: all members answer for somebody new."""
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of training a model again.

    Attributes
    ----------
    difference : float or None
        The largest difference between the risks of the two models, over the samples of the training cohort, answered
        once by the member that has not seen the patient and once by all members; infinite if one model lacks a
        modality of the other; None if nothing was trained, because the data differ.
    samples : int
        How many were compared.
    data : tuple of Problem
        Where the cohort folder is not the one of the record, file by file.
    versions : tuple of Problem
        Where libraries or machine are not those of the record; warnings.
    """

    TOLERANCE: ClassVar[float] = 1e-6
    difference: float | None
    samples: int
    data: tuple[Problem, ...]
    versions: tuple[Problem, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the same data gave the same risks."""
        return not self.data and self.difference is not None and self.difference <= self.TOLERANCE

    def text(self) -> str:
        """Say in one line what came of it.

        Examples
        --------
        >>> Reproduction(2.5e-16, 194, (), ()).text()
        'reproduced: the risks of 194 samples differ by 2.5e-16 at most (allowed: 1e-06)'
        """
        if self.difference is None:
            return "not reproduced: the data are not those of the training run, so nothing was trained"
        said = "reproduced" if self.reproduced else "not reproduced"
        return (
            f"{said}: the risks of {self.samples:,} samples differ by {self.difference:.2g} at most "
            f"(allowed: {self.TOLERANCE:g})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        comparable = self.difference is not None and np.isfinite(self.difference)
        return {
            "reproduced": self.reproduced,
            "difference": self.difference if comparable else None,
            "tolerance": self.TOLERANCE,
            "samples": self.samples,
            "data": [problem.line() for problem in self.data],
            "versions": [problem.line() for problem in self.versions],
        }


def reproduce(
    model_folder: Path, cohort_folder: Path, *, cache: Path | None = None, track: Track = silent
) -> Reproduction:
    """Train a model again as its record says, and compare the risks of the two.

    Parameters
    ----------
    model_folder : Path
    cohort_folder : Path
        The cohort that the model was trained on, unchanged.
    cache : Path, optional
        Where embeddings of images are kept; without it every image is decoded once more.
    track : callable
        Shows progress.

    Raises
    ------
    ModelFolderError
        If the model cannot be loaded here, or its folder holds no run record.
    DataError
        If the cohort cannot be read.
    """
    with TemporaryDirectory() as temporary:
        # Training and comparison see every image; one decoding serves both.
        kept = cache or Path(temporary, "cache")
        model = load_for(model_folder, kept)
        parameters = _parameters(model.card, model_folder)
        modalities = build_modalities(parameters["settings"], kept, parameters["only"])
        cohort = open_cohort(cohort_folder, list(modalities.values()), parameters["task"]).labelled()
        data = tuple(_data_differences(model.card["data"], data_hashes(cohort, cohort_folder, modalities)))
        versions = tuple(_version_differences(model.card, environment()))
        if data:
            return Reproduction(None, 0, data, versions)
        again = train(
            cohort_folder,
            Path(temporary, "model"),
            parameters["task"],
            settings=parameters["settings"],
            only=parameters["only"],
            fusion=parameters["fusion"],
            coverage=float(parameters.get("coverage", COVERAGE)),
            sets_by=str(parameters.get("sets_by", "")),
            seed=parameters["seed"],
            cache=kept,
            track=track,
        )
        # Recalibration came after the training, from other data; what is trained again has none.
        model = replace(model, recalibration=Recalibration())
        difference = _largest_difference(model, again.model, cohort, track)
    return Reproduction(difference, len(cohort), data, versions)


def _parameters(card: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    parameters, data = card.get("parameters"), card.get("data")
    kinds = {"task": str, "settings": dict, "only": list, "fusion": str, "seed": int}
    if not (
        isinstance(parameters, dict)
        and isinstance(data, dict)
        and all(isinstance(data.get(key), dict) for key in ("tables", "files"))
        and all(isinstance(parameters.get(key), kind) for key, kind in kinds.items())
    ):
        raise ModelFolderError(f"{folder.name}: its card.json holds no run record to train by; train it again")
    return parameters


def _largest_difference(first: RiskModel, second: RiskModel, cohort: Cohort, track: Track) -> float:
    """Return the largest difference of risks; infinite where one has a modality that the other has not."""
    if set(first.evidence) != set(second.evidence):
        return float("inf")
    payloads = read_payloads(cohort, first.modalities, cohort.samples, [], track)
    subjects = [sample.subject_id for sample in cohort.samples]
    differences = [
        np.abs(first.predict(who, payloads).risk - second.predict(who, payloads).risk).max()
        for who in (subjects, [_NOBODY] * len(subjects))
    ]
    return float(max(differences))


def _data_differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Problem]:
    remedy = "name the cohort folder as it was in training"
    for file, was, now in _differing(recorded["tables"], found["tables"]):
        got = "no such file" if now is None else f"SHA-256 {now[:_SHORT]}…"
        expected = "no such file" if was is None else f"SHA-256 {was[:_SHORT]}…"
        yield Problem("data-differ", file, "", "content", got, expected, remedy)
    for modality, was, now in _differing(recorded["files"], found["files"]):
        yield Problem("data-differ", modality, "", "files", _files_text(now), _files_text(was), remedy)


def _files_text(known: Mapping[str, Any] | None) -> str:
    """Say what is known of the files of a modality; which of them differs, a record cannot tell."""
    if known is None:
        return "none"
    return f"{known['count']} with {known['bytes']} bytes, digest {known['sha256'][:_SHORT]}…"


def _version_differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Problem]:
    remedy = "install the version of the record if the risks differ"
    single = [{key: known[key] for key in ("medfusion", "python") if key in known} for known in (recorded, found)]
    for package, was, now in [
        *_differing(*single),
        *_differing(recorded.get("versions", {}), found["versions"]),
    ]:
        got, expected = (str(version or "not installed") for version in (now, was))
        yield Problem("version-differs", package, "", "version", got, expected, remedy, "warning")
    remedy = "use the same kind of machine if the risks differ"
    for trait, was, now in _differing(recorded.get("system", {}), found["system"]):
        # What one side did not load says nothing about the other.
        if was is not None and now is not None:
            yield Problem("machine-differs", "", "this machine", trait, str(now), str(was), remedy, "warning")


def _differing(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (key, recorded, found) where they differ; None where one has no such key."""
    keys = sorted(set(recorded) | set(found))
    return [(key, recorded.get(key), found.get(key)) for key in keys if recorded.get(key) != found.get(key)]
