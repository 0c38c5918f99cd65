"""Tasks and labels: what is to be predicted, for whom, and seen from when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfusion.cohort.firewall import from_microseconds
from medfusion.cohort.tables import LABELS
from medfusion.core.errors import DataError, Problem, Severity, UsageError, shortened
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.types import Sample


@dataclass(frozen=True, slots=True)
class Task:
    """A question that a cohort has labels for.

    Attributes
    ----------
    name : str
    labels : str
        File with the labels, relative to the cohort folder.
    positive : str
        What True means.
    """

    name: str
    labels: str
    positive: str


def choose_task(config: Mapping[str, object], name: str | None) -> Task:
    """Return the task asked for, or the only one.

    Raises
    ------
    UsageError
        If there are several and none is named, or none of that name.
    DataError
        If cohort.toml names no task, or no labels for this one.

    Examples
    --------
    >>> choose_task({"tasks": {"icu": {"labels": "labels/icu.csv"}}}, None).name
    'icu'
    """
    tasks = config.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise DataError([_config_problem("no-task", "tasks", "none", 'add [tasks.<name>] with labels = "labels/..."')])
    listed = ", ".join(sorted(tasks))
    if name is None and len(tasks) > 1:
        raise UsageError(f"the cohort has several tasks; say which one with --task: {listed}")
    if name is not None and name not in tasks:
        raise UsageError(f"the cohort has no task {name!r}; it has: {listed}")
    name = name or next(iter(tasks))
    entry = tasks[name]
    labels = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(labels, str) or not labels:
        raise DataError([_config_problem("bad-task", f"tasks.{name}.labels", str(labels), "name the file with labels")])
    return Task(name, labels, str(entry.get("positive", "")))


def read_labels(folder: CohortFolder, task: Task) -> pa.Table:
    """Read the labels of a task.

    Returns
    -------
    pyarrow.Table
        As `LABELS`, with at least one row.

    Raises
    ------
    DataError
        If there is no such file inside the folder, or no row of it can be used.
    """
    field, remedy = f"tasks.{task.name}.labels", "name a .csv or .parquet file inside the folder"
    if folder.resolve(task.labels) is None:
        raise DataError([_config_problem("path-outside", field, task.labels, remedy)])
    # A table, and so in the folder itself, also where films are elsewhere.
    file = PurePosixPath(task.labels.replace("\\", "/")).as_posix()
    path = folder.root / file
    stem = next((file.removesuffix(suffix) for suffix in SUFFIXES if file.endswith(suffix)), None)
    if stem is None:
        raise DataError([_config_problem("bad-task", field, task.labels, remedy)])
    before = len(folder.problems)
    table = folder.read(file, LABELS) if path.exists() else folder.table(replace(LABELS, name=stem))
    if table is None or not table.num_rows:
        absent = Problem("no-labels", file, "", "file", "no row that can be used", "one row per prediction", remedy)
        raise DataError([*folder.problems[before:], absent])
    return table


def samples_of(table: pa.Table, file: str, problems: list[Problem]) -> tuple[Sample, ...]:
    """Make samples of labels, sorted by subject and time; duplicates go to ``problems``.

    Of rows that say the same one is kept; of rows that contradict each other none is, since nobody knows which is
    right.
    """
    zoned = table["prediction_time"].type.tz is not None
    ticks = np.asarray(pc.cast(table["prediction_time"], pa.int64())).tolist()
    said: dict[tuple[str, int], list[bool | None]] = {}
    keys = zip(table["subject_id"].to_pylist(), ticks, strict=True)
    for key, event in zip(keys, table["boolean_value"].to_pylist(), strict=True):
        said.setdefault(key, []).append(event)
    repeated = {key: events for key, events in said.items() if len(events) > 1}
    problems.extend(shortened(_duplicates(repeated, zoned, file)))
    return tuple(
        Sample(subject, from_microseconds(moment, zoned), events[0])
        for (subject, moment), events in sorted(said.items(), key=lambda item: item[0])
        if len(set(events)) == 1
    )


def _duplicates(repeated: Mapping[tuple[str, int], list[bool | None]], zoned: bool, file: str) -> Iterable[Problem]:
    for (subject, moment), events in repeated.items():
        where, got = f"subject {subject}", f"{len(events)} rows at {from_microseconds(moment, zoned).isoformat()}"
        severity: Severity = "warning" if len(set(events)) == 1 else "error"
        code, remedy = "duplicate-label", "remove the copies; one was kept"
        if severity == "error":
            values = ", ".join("empty" if event is None else str(event) for event in events)
            got = f"{got} that say {values}"
            code, remedy = "contradicting-labels", "correct the labels; all of these rows were left out"
        yield Problem(code, file, where, "boolean_value", got, "one row", remedy, severity, subject)


def _config_problem(code: str, field: str, got: str, remedy: str) -> Problem:
    return Problem(code, "cohort.toml", "", field, got, "a task with its labels", remedy)
