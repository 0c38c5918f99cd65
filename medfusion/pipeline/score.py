"""Scoring a cohort, however large: in parts, through stages, resumable, with nothing lost."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from medfusion import __version__
from medfusion.cohort import open_cohort
from medfusion.cohort.labels import choose_task
from medfusion.cohort.tables import SUBJECTS
from medfusion.core.errors import DataError, MissingExtra, RunStopped, UsageError
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.protocols import Scans
from medfusion.outputs import tables
from medfusion.pipeline.backend import choose_backend, use_backend
from medfusion.pipeline.inputs import as_trained, require_same_inputs, table_file
from medfusion.pipeline.model import RiskModel
from medfusion.pipeline.model_folder import load_for
from medfusion.pipeline.parts import Job, Options, problem_table, stopped
from medfusion.pipeline.use import model_task
from medfusion.scoring import (
    Counts,
    Division,
    Engine,
    Journal,
    JsonLog,
    LocalEngine,
    Monitor,
    Monitors,
    Scorer,
    divide,
)

REFERENCE = "torch-fp32"
"""What runs the networks in training."""
COHORT = "part"
"""What the files of a cohort are named by that is not one of several."""
PART_SIZE = 500
"""Samples per part: few enough for little memory, many enough for vectorised work."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a scoring run did.

    Attributes
    ----------
    counts : Counts
    codes : mapping from code to int
        What is in quarantine.
    seconds : float
    backend : mapping
        What runs the networks, and why; empty where there are none.
    """

    counts: Counts
    codes: Mapping[str, int]
    seconds: float
    backend: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Rows of the predictions."""
        return self.counts.scored + self.counts.unchanged

    @property
    def quarantined(self) -> int:
        """Rows of the quarantine."""
        return self.counts.quarantined


def score(
    model_folder: Path,
    cohort_folder: Path,
    out: Path,
    *,
    task: str | None = None,
    cache: Path | None = None,
    options: Options | None = None,
    backend: str = REFERENCE,
    engine: Engine | None = None,
    part_size: int = PART_SIZE,
    monitors: Sequence[Monitor] = (),
) -> Scoring:
    """Score every sample of a cohort, or go on where an earlier run into the same folder ended.

    Written are ``predictions.parquet``, ``ledger.parquet`` and ``quarantine.parquet``, each a folder of Parquet files
    that are read as one table, ``run.json`` with what came out, and ``log.jsonl``. What was scored before by the same
    model, with the same options, from the same data is left as it is.

    Parameters
    ----------
    model_folder, cohort_folder, out : Path
    task : str, optional
        May be left out where the cohort has one, or has one that is named as the model's.
    cache : Path, optional
        Where image embeddings are kept.
    options : Options, optional
    backend : str
        What runs the networks: ``auto`` for the fastest of this machine that changes no risk by 0.005 or more, a
        library or a library and a precision; torch in fp32, as in training, unless given.
    engine : Engine, optional
        Where parts are scored; in this program unless given.
    part_size : int
        Samples per part.
    monitors : sequence of Monitor
        Who is told how it goes on.

    Raises
    ------
    UsageError
        If another run writes to the folder, or a task does not exist.
    DataError
        If the cohort cannot be read, or was made for other columns than the model.
    RunStopped
        If the run cannot go on, such as on a full disk.
    """
    run = _Run.of(model_folder, out, task, cache, options, backend, engine, part_size, monitors)
    return run.over(cohort_folder, COHORT)


def plan(
    model_folder: Path,
    cohort_folder: Path,
    out: Path,
    *,
    task: str | None = None,
    cache: Path | None = None,
    options: Options | None = None,
    backend: str = REFERENCE,
    part_size: int = PART_SIZE,
) -> dict[str, int]:
    """Say what `score` would do, and write nothing; parameters as there.

    Returns
    -------
    dict
        Numbers of ``label_rows``, ``samples``, ``to_score``, ``unchanged`` and ``parts``.
    """
    run = _Run.of(model_folder, out, task, cache, options, backend, None, part_size, ())
    return run.planned(cohort_folder, COHORT)


def watch(
    model_folder: Path,
    incoming: Path,
    out: Path,
    *,
    every_s: float = 10.0,
    until_idle_s: float | None = None,
    task: str | None = None,
    cache: Path | None = None,
    options: Options | None = None,
    backend: str = REFERENCE,
    engine: Engine | None = None,
    part_size: int = PART_SIZE,
    monitors: Sequence[Monitor] = (),
) -> Scoring:
    """Score cohort folders as they arrive in a folder; the other parameters are as in `score`.

    A delivery is a cohort folder that is moved in whole, by renaming; names that begin with a dot are left alone. Each
    is scored once, with the guarantees of `score`; its files carry its name. One that cannot be read goes to
    quarantine as a whole.

    Parameters
    ----------
    incoming : Path
    every_s : float
        Seconds between looks.
    until_idle_s : float, optional
        Ends when nothing came for so long; goes on for ever unless given.

    Returns
    -------
    Scoring
        Of all deliveries.
    """
    start = time.monotonic()
    run = _Run.of(model_folder, out, task, cache, options, backend, engine, part_size, monitors)
    total, codes, last = Counts(), Counter[str](), time.monotonic()
    while until_idle_s is None or time.monotonic() - last < until_idle_s:
        for delivery in _deliveries(incoming, out):
            scoring = run.delivered(delivery)
            total, last = total + scoring.counts, time.monotonic()
            codes.update(scoring.codes)
        time.sleep(min(every_s, until_idle_s or every_s))
    return Scoring(total, dict(codes), time.monotonic() - start)


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same over cohorts."""

    model: RiskModel
    model_folder: Path
    out: Path
    task: str | None
    cache: Path | None
    options: Options
    backend: Mapping[str, Any]
    engine: Engine
    part_size: int
    monitors: Sequence[Monitor]

    @classmethod
    def of(
        cls,
        model_folder: Path,
        out: Path,
        task: str | None,
        cache: Path | None,
        options: Options | None,
        backend: str,
        engine: Engine | None,
        part_size: int,
        monitors: Sequence[Monitor],
    ) -> _Run:
        """Load the model, choose what runs its networks, and put defaults in."""
        model, options, engine = load_for(model_folder, cache), options or Options(), engine or LocalEngine()
        choice = _choice(model, backend, Journal(out))
        return cls(model, model_folder, out, task, cache, options, choice, engine, part_size, monitors)

    def over(self, cohort_folder: Path, source: str) -> Scoring:
        """Score a cohort.

        Raises
        ------
        RunStopped
            If the system does not let it go on, such as on a full disk.
        """
        try:
            return self._over(cohort_folder, source)
        except OSError as error:
            raise stopped(error, self.out) from None

    def _over(self, cohort_folder: Path, source: str) -> Scoring:
        start, folder = time.monotonic(), CohortFolder.open(cohort_folder.absolute())
        require_same_inputs(self.model.card.get("inputs", {}), folder, self.model.modalities.values())
        task = _task(folder, self.model, self.task)
        with Journal(self.out.absolute(), source, self.options.tables) as journal:
            division = _divided(folder, self.model, task, journal, journal.staging, self.part_size)
            journal.plan(division.parts)
            journal.remember("backend", {"model_id": self.model.model_id, **self.backend})
            told = Monitors([JsonLog(self.out / "log.jsonl"), *self.monitors])
            told.begins(division.label_rows, division.parts)
            total, codes = _of_the_whole(division, journal)
            for result in self.engine.run(range(division.parts), self._maker(division, journal, task)):
                total += result.counts
                codes.update(result.codes)
                told.finished(result, total, self.engine.waiting())
            _check(total, division, journal)
            scoring = Scoring(total, dict(sorted(codes.items())), time.monotonic() - start, self.backend)
            summary = _summary(scoring, self.model, folder, task, self.options, division)
            journal.note("run" if source == COHORT else f"run-{source}", summary)
            told.ends(summary)
        return scoring

    def planned(self, cohort_folder: Path, source: str) -> dict[str, int]:
        """Say what would be done."""
        folder = CohortFolder.open(cohort_folder.absolute())
        require_same_inputs(self.model.card.get("inputs", {}), folder, self.model.modalities.values())
        task = _task(folder, self.model, self.task)
        with tempfile.TemporaryDirectory() as place:
            journal = Journal(self.out, source, self.options.tables)
            division = _divided(folder, self.model, task, journal, Path(place) / "parts", self.part_size)
            scorer = self._job(division, journal, task).scorer(self.model)
            samples = todo = 0
            for number in range(division.parts):
                part = scorer.look(number)
                samples, todo = samples + len(part.samples), todo + len(part.todo)
        return {
            "label_rows": division.label_rows,
            "samples": samples,
            "to_score": todo,
            "unchanged": samples - todo,
            "parts": division.parts,
        }

    def delivered(self, folder: Path) -> Scoring:
        """Score a delivery, or say why not; it is not looked at again."""
        try:
            scoring = self.over(folder, _named(folder))
        except DataError as error:
            path = Journal(self.out, _named(folder)).whole("quarantine")
            tables.write_table(path, problem_table(error.problems, "opening"))
            codes = Counter(problem.code for problem in error.problems)
            scoring = Scoring(Counts(quarantined=len(error.problems)), dict(codes), 0.0)
        Journal(self.out, _named(folder)).close()
        return scoring

    def _job(self, division: Division, journal: Journal, task: str) -> Job:
        # A worker elsewhere has another working folder.
        model, out, cache = self.model_folder.absolute(), self.out.absolute(), self.cache and self.cache.absolute()
        chosen = self.backend.get("chosen", "")
        return Job(model, out, journal.source, division, task, self.options, cache, chosen, journal.run)

    def _maker(self, division: Division, journal: Journal, task: str) -> Callable[[], Scorer]:
        job = self._job(division, journal, task)
        # Where the work is done here, the model is at hand; elsewhere it is loaded.
        return partial(job.scorer, self.model) if isinstance(self.engine, LocalEngine) else job.scorer


def _choice(model: RiskModel, wanted: str, journal: Journal) -> Mapping[str, Any]:
    """Choose what runs the networks; what an earlier run into the folder measured as the fastest stays chosen."""
    before = journal.recalled("backend")
    if wanted == "auto" and before.get("model_id") == model.model_id and before.get("wanted") == "auto":
        try:
            use_backend(model, before["chosen"])
        except (MissingExtra, UsageError):
            pass  # The folder has come to another machine.
        else:
            return {name: said for name, said in before.items() if name != "model_id"}
    choice = choose_backend(model, wanted)
    return {} if choice is None else {**choice.as_dict(), "text": choice.text()}


def _deliveries(incoming: Path, out: Path) -> list[Path]:
    """Return the deliveries that are not done, the oldest first."""
    found = [each for each in incoming.iterdir() if not each.name.startswith(".") and (each / "cohort.toml").is_file()]
    new = [each for each in found if not Journal(out, _named(each)).closed]
    return sorted(new, key=lambda each: (each.stat().st_mtime_ns, each.name))


def _named(delivery: Path) -> str:
    """Return what the files of a delivery are named by; two deliveries never share it."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", delivery.name)
    if plain == delivery.name and plain != COHORT:
        return plain
    return f"{plain}-{hashlib.sha256(delivery.name.encode()).hexdigest()[:8]}"


def _task(folder: CohortFolder, model: RiskModel, task: str | None) -> str:
    """Return the task asked for, else the model's where the cohort has it, else the cohort's only one."""
    return choose_task(folder.config, task or model_task(folder, model)).name


def _divided(
    folder: CohortFolder, model: RiskModel, task: str, journal: Journal, place: Path, part_size: int
) -> Division:
    """Divide the cohort as before, or into parts of a size."""
    labels = choose_task(folder.config, task).labels
    if folder.resolve(labels) is None or not (folder.root / labels).is_file():
        # The strict reader says best what is wrong with it, and knows the other ending.
        open_cohort(folder, [], task)
        stem = next(labels.removesuffix(end) for end in SUFFIXES if labels.endswith(end))
        labels = next(stem + end for end in SUFFIXES if (folder.root / (stem + end)).is_file())
    schemas = [SUBJECTS.name, *(table.name for each in model.modalities.values() for table in each.tables)]
    files = [file for name in dict.fromkeys(schemas) if (file := table_file(folder, name)) is not None]
    scans = {name: each for name, each in model.modalities.items() if isinstance(each, Scans)}
    staged = as_trained(model.card.get("inputs", {}), folder)
    before = journal.planned
    return divide(staged, place, labels, files, scans, lambda rows: before or -(-rows // part_size))


def _of_the_whole(division: Division, journal: Journal) -> tuple[Counts, Counter[str]]:
    """Write what is wrong with the cohort as a whole, and count it."""
    errors = [problem for problem in division.problems if problem.severity == "error"]
    tables.write_table(journal.whole("quarantine"), problem_table(errors, "opening"))
    return Counts(quarantined=len(errors)), Counter(problem.code for problem in errors)


def _check(total: Counts, division: Division, journal: Journal) -> None:
    """Refuse to call a run done that lost a row.

    Raises
    ------
    RunStopped
        If what was asked and what is on the disk do not agree.
    """
    written = journal.rows("predictions")
    if total.rows != division.label_rows or not total.balanced or written != total.scored + total.unchanged:
        raise RunStopped(
            f"{division.label_rows} rows of labels, of which the parts had {total.rows}; {total.samples} samples, "
            f"{total.scored + total.unchanged} scored, {total.failed} failed, {written} predictions on the disk: "
            "these do not add up; run the command again, and report it if that does not help"
        )


def _summary(
    scoring: Scoring, model: RiskModel, folder: CohortFolder, task: str, options: Options, division: Division
) -> dict[str, Any]:
    counts = scoring.counts
    return {
        "version": __version__,
        "model_id": model.model_id,
        "cohort": str(folder.config.get("name", folder.root.name)),
        "task": task,
        "options": {"ledger": options.ledger, "lines": options.lines, "regions": options.regions},
        "backend": dict(scoring.backend),
        "parts": division.parts,
        "label_rows": counts.rows,
        "left_out_rows": counts.left_out,
        "samples": counts.samples,
        "scored": counts.scored,
        "unchanged": counts.unchanged,
        "failed": counts.failed,
        "quarantined": counts.quarantined,
        "quarantined_by_code": dict(scoring.codes),
        "seconds": round(scoring.seconds, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
