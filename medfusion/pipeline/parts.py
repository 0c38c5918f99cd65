"""One part of a cohort on its way through the stages: read, score, write.

A part is opened like a cohort of its own, so the same checks and the same firewall hold. Of what was scored before, by
the same model from the same data, nothing is read again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medfusion import __version__
from medfusion.cohort import Cohort, open_cohort
from medfusion.core.errors import DataError, MedfusionError, Problem, RunStopped
from medfusion.core.memory import give_back
from medfusion.core.types import Sample
from medfusion.outputs import tables
from medfusion.pipeline.backend import use_backend
from medfusion.pipeline.data import read_payloads, silent
from medfusion.pipeline.model import Payloads, RiskModel
from medfusion.pipeline.model_folder import load_for
from medfusion.scoring import TABLES, Counts, Division, FileContents, Journal, Kept, PartResult, Stage, input_hashes

_READERS = 2
"""Parts that are read at once: while one waits for its last films, the next has begun to decode."""
_KEY = ("subject_id", "prediction_time")


@dataclass(frozen=True, slots=True)
class Options:
    """What may be asked of a scoring run.

    Attributes
    ----------
    ledger : bool
        Whether to write the ledger.
    lines : int or None
        Lines per modality and sample; the others are summed into one. None for all.
    regions : bool
        Whether to open up images into regions.
    """

    ledger: bool = True
    lines: int | None = 20
    regions: bool = False

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are written."""
        return tuple(name for name in TABLES if self.ledger or name != "ledger")

    def fingerprint(self, version: str, model_id: str, backend: str) -> str:
        """Return what decides a prediction besides the data, as input hashes have it."""
        return f"{version} {model_id} {backend} {self}"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker has to know, wherever it is.

    Attributes
    ----------
    model, out : Path
    source : str
        What the parts are named by.
    division : Division
    task : str or None
    options : Options
    cache : Path or None
    backend : str
        What runs the networks; empty where there are none.
    run : str
        The run that holds the folder; empty for a look that writes nothing.
    """

    model: Path
    out: Path
    source: str
    division: Division
    task: str | None
    options: Options
    cache: Path | None
    backend: str
    run: str

    def scorer(self, model: RiskModel | None = None) -> PartScorer:
        """Return what scores parts; the model is loaded unless it is at hand."""
        if model is None:
            model = load_for(self.model, self.cache)
            if self.backend:
                use_backend(model, self.backend)
        return PartScorer(self, model)


@dataclass(slots=True)
class _Chunk:
    """Samples that were read together."""

    samples: Sequence[Sample]
    hashes: Sequence[str]
    payloads: Payloads

    def take(self, rows: Sequence[int]) -> _Chunk:
        payloads = {name: [each[row] for row in rows] for name, each in self.payloads.items()}
        return _Chunk([self.samples[row] for row in rows], [self.hashes[row] for row in rows], payloads)


@dataclass(slots=True)
class _Part:
    """A part on its way through the stages."""

    number: int
    rows: int
    cohort: Cohort | None
    kept: Kept | None
    files: Mapping[str, tuple[int, int, str]]
    unchanged: frozenset[str]
    hashes: Mapping[Sample, str] = field(default_factory=dict)
    opening: list[Problem] = field(default_factory=list)
    reading: list[Problem] = field(default_factory=list)
    chunks: list[_Chunk] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    made: dict[str, list[pa.Table]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def samples(self) -> Sequence[Sample]:
        return self.cohort.samples if self.cohort else ()

    @property
    def todo(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.subject_id not in self.unchanged]


class PartScorer:
    """Takes parts through the stages.

    Parameters
    ----------
    job : Job
    model : RiskModel
    """

    def __init__(self, job: Job, model: RiskModel) -> None:
        self._job, self._model = job, model
        self._journal = Journal(job.out, job.source, job.options.tables, job.run)
        self._fingerprint = job.options.fingerprint(__version__, model.model_id, job.backend)

    def stages(self) -> list[Stage]:
        """Return the steps from the number of a part to a `PartResult`."""
        return [
            Stage("read", partial(_timed, "read", self.read), _READERS),
            Stage("score", partial(_timed, "score", self.score)),
            Stage("write", partial(_timed, "write", self.write)),
        ]

    def look(self, number: int) -> _Part:
        """Open a part, and find out what has changed since it was scored."""
        folder = self._job.division.part(number)
        rows = _rows_of(folder.root / self._job.division.labels)
        kept = self._journal.kept(number)
        try:
            cohort = open_cohort(folder, list(self._model.modalities.values()), self._job.task)
        except DataError as error:
            if not {problem.code for problem in error.problems} & {"no-labels"}:
                raise
            return _Part(number, rows, None, kept, {}, frozenset(), opening=list(error.problems[:-1]))
        contents = FileContents(kept.files if kept else {})
        records = {name: cohort.records(name, cohort.samples) for name in self._model.modalities}
        hashes = dict(zip(cohort.samples, input_hashes(self._fingerprint, records, contents), strict=True))
        unchanged = frozenset(sample.subject_id for sample in cohort.samples) - _changed(hashes, kept)
        return _Part(number, rows, cohort, kept, contents.now, unchanged, hashes, list(cohort.problems))

    def read(self, number: int) -> _Part:
        """Look at a part, and read what has changed."""
        part = self.look(number)
        if part.cohort is None:
            return part
        cohort, todo = part.cohort, part.todo

        def read(some: Sequence[int]) -> _Chunk:
            chosen = [todo[row] for row in some]
            problems: list[Problem] = []
            payloads = read_payloads(cohort, self._model.modalities, chosen, problems, silent)
            part.reading += problems
            return _Chunk(chosen, [part.hashes[sample] for sample in chosen], payloads)

        part.chunks = list(_attempted(read, range(len(todo)), todo, part.failed))
        return part

    def score(self, part: _Part) -> _Part:
        """Predict and explain."""
        for chunk in part.chunks:
            score = partial(self._scored, part, chunk)
            for made in _attempted(score, range(len(chunk.samples)), chunk.samples, part.failed):
                for name, table in made.items():
                    part.made.setdefault(name, []).append(table)
        part.chunks = []
        return part

    def write(self, part: _Part) -> PartResult:
        """Put what is new beside what is kept, and write the part if anything is new.

        Raises
        ------
        RunStopped
            If the disk does not take it.
        """
        new = self._whole(part)
        counts = Counts(
            rows=part.rows,
            samples=len(part.samples),
            scored=sum(table.num_rows for table in part.made.get("predictions", ())),
            unchanged=sum(sample.subject_id in part.unchanged for sample in part.samples),
            failed=len(part.failed),
            quarantined=new["quarantine"].num_rows,
        )
        if part.kept is None or any(not new[name].equals(part.kept.tables[name]) for name in new):
            try:
                self._journal.commit(part.number, new, part.files)
            except OSError as error:
                raise stopped(error, self._job.out) from None
        codes = Counter(new["quarantine"]["code"].to_pylist())
        give_back()
        return PartResult(part.number, counts, part.seconds, dict(codes))

    def _scored(self, part: _Part, chunk: _Chunk, rows: Sequence[int]) -> dict[str, pa.Table]:
        assert part.cohort is not None
        chunk, model, options = chunk.take(rows), self._model, self._job.options
        facts = [part.cohort.facts(sample) for sample in chunk.samples] if model.columns else ()
        said = model.predict([sample.subject_id for sample in chunk.samples], chunk.payloads, facts)
        problems: list[Problem] = []
        made = {}
        if options.ledger:
            made["ledger"] = model.ledger(
                chunk.samples, said, chunk.payloads, problems, top=options.lines, regions=options.regions
            )
        made["predictions"] = tables.predictions_table(
            chunk.samples,
            risk=said.risk,
            interval=said.interval,
            logit=said.logit,
            base_logit=said.terms.base,
            shares={name: said.shares[:, i] for i, name in enumerate(model.evidence)},
            present={name: said.present[:, i] for i, name in enumerate(model.evidence)},
            distances=said.distances,
            risk_sets=[None] * len(rows) if said.sets is None else said.sets.words(),
            findings=[model.findings(said, row) for row in range(len(rows))],
            model_id=model.model_id,
            seen_in_training=said.seen.tolist(),
            input_hashes=chunk.hashes,
            scored_at=datetime.now(UTC),
        )
        part.reading += problems
        return made

    def _whole(self, part: _Part) -> dict[str, pa.Table]:
        """Return the tables of a part: what was made now, and what was kept of patients who have not changed."""
        old = part.kept.tables if part.kept and part.unchanged else {}
        whole = {}
        for name in self._job.options.tables:
            if name == "quarantine":
                continue
            pieces = part.made.get(name, [])
            if name in old:
                pieces = [old[name].filter(_among(old[name], part.unchanged)), *pieces]
            whole[name] = _sorted(pa.concat_tables(pieces)) if pieces else self._empty(name)
        kept = [old["quarantine"].filter(_read_before(old["quarantine"], part.unchanged))] if old else []
        opening = [problem for problem in part.opening if _belongs(problem, part.number)]
        new = [
            problem_table(opening, "opening"),
            problem_table(list(dict.fromkeys(part.reading)), "reading"),
            problem_table(part.failed, "scoring"),
        ]
        whole["quarantine"] = pa.concat_tables([*kept, *new]).sort_by([("subject_id", "ascending")])
        return whole

    def _empty(self, name: str) -> pa.Table:
        """Return a table without rows, of the types that others have."""
        nobody: dict[str, list[Any]] = {each: [] for each in self._model.evidence}
        said = self._model.predict([], nobody)
        zoned = bool(self._job.division.source.clock)
        if name == "ledger":
            return tables.empty_ledger(zoned)
        names = list(self._model.evidence)
        return tables.predictions_table(
            [],
            risk=said.risk,
            interval=said.interval.reshape(0, 2),
            logit=said.logit,
            base_logit=said.logit,
            shares=dict.fromkeys(names, said.logit),
            present={each: said.logit.astype(bool) for each in names},
            distances={each: [] for each in names},
            risk_sets=[],
            findings=[],
            model_id=self._model.model_id,
            seen_in_training=[],
            zoned=zoned,
        )


def _timed(name: str, work: Callable[[Any], Any], item: Any) -> Any:
    start = time.perf_counter()
    done = work(item)
    done.seconds[name] = time.perf_counter() - start
    return done


def _attempted(
    work: Callable[[Sequence[int]], Any], rows: Sequence[int], samples: Sequence[Sample], failed: list[Problem]
) -> Iterator[Any]:
    """Do what can be done with some rows: where it fails, with half of them, so that one sample costs no other.

    Errors that are about the run, and not about a sample, are not held back.
    """
    if not rows:
        return
    try:
        done = work(rows)
    except (MedfusionError, OSError):
        raise
    except Exception as error:
        if len(rows) == 1:
            failed.append(_failure(samples[rows[0]], error))
            return
        middle = len(rows) // 2
        yield from _attempted(work, rows[:middle], samples, failed)
        yield from _attempted(work, rows[middle:], samples, failed)
        return
    yield done


def _failure(sample: Sample, error: Exception) -> Problem:
    # The error's own words may quote what is known of the patient.
    where, got = f"subject {sample.subject_id}", type(error).__name__
    remedy = "report it; the other samples are scored"
    moment = sample.prediction_time.isoformat()
    return Problem("scoring-failed", "", where, moment, got, "a risk", remedy, subject_id=sample.subject_id)


def stopped(error: OSError, out: Path) -> RunStopped:
    """Say what the system has refused, and what to do."""
    said = error.strerror or type(error).__name__
    return RunStopped(
        f"{out} cannot be written: {said}; make room or give the program the right to write, and run the same command "
        "again: it goes on where it stopped"
    )


def _rows_of(path: Path) -> int:
    """Count the rows of a part's labels; a part may have none."""
    return int(pq.read_metadata(path).num_rows) if path.is_file() else 0


def _changed(hashes: Mapping[Sample, str], kept: Kept | None) -> frozenset[str]:
    """Return the subjects of whom a sample is new, gone or has other data; all of theirs are scored anew."""
    known = {}
    if kept is not None:
        before = kept.tables["predictions"].select([*_KEY, "input_hash"]).to_pydict()
        known = dict(zip(zip(*(before[name] for name in _KEY), strict=True), before["input_hash"], strict=True))
    now = {(sample.subject_id, sample.prediction_time): each for sample, each in hashes.items()}
    different = {key for key in {*now, *known} if now.get(key) != known.get(key)}
    return frozenset(subject for subject, _ in different)


def _among(table: pa.Table, subjects: frozenset[str]) -> pa.Array:
    return pc.is_in(table["subject_id"], pa.array(sorted(subjects), pa.string()))


def _read_before(table: pa.Table, subjects: frozenset[str]) -> pa.Array:
    """Choose what was found when patients were read who are not read now; the rest is found again."""
    return pc.and_(_among(table, subjects), pc.equal(table["found"], "reading"))


def _belongs(problem: Problem, part: int) -> bool:
    """Say whether a part reports a problem: errors; what is wrong with cohort.toml is the same in every part."""
    return problem.severity == "error" and (problem.file != "cohort.toml" or part == 0)


def problem_table(problems: Sequence[Problem], step: str) -> pa.Table:
    """Return a quarantine of the errors among problems, with the step that found them."""
    errors = [problem for problem in problems if problem.severity == "error"]
    table = tables.quarantine_table(errors)
    return table.append_column("found", pa.array([step] * table.num_rows, pa.string()))


def _sorted(table: pa.Table) -> pa.Table:
    """Sort by sample; the lines of a ledger keep their order."""
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in _KEY]))
