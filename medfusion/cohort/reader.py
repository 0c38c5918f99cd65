"""Opening a cohort folder: samples, facts about subjects, and the firewall that all data has to pass."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medfusion.cohort.firewall import NO_ROWS, AsOfIndex, placeable
from medfusion.cohort.labels import Task, choose_task, read_labels, samples_of
from medfusion.cohort.subjects import Subjects, check_births, read_subjects
from medfusion.core.errors import DataError, FirewallBreach, Problem, shortened
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Modality
from medfusion.core.types import Records, Sample


@dataclass(frozen=True, eq=False)
class Cohort:
    """Samples, and what was known of them at their prediction times.

    Attributes
    ----------
    name, description : str
    task : Task
    samples : tuple of Sample
        Sorted by subject and time; ``event`` is None where it is to be predicted.
    subjects : mapping from subject to mapping
        Facts without a time (sex, site), the same keys for everybody; None where nothing is known.
    modalities : tuple of str
        Those of which the folder has data.
    units : mapping from code to UCUM unit
    problems : list of Problem
        Whatever was found wrong.
    """

    name: str
    description: str
    task: Task
    samples: tuple[Sample, ...]
    subjects: Mapping[str, Mapping[str, Any]]
    modalities: tuple[str, ...]
    units: Mapping[str, str]
    problems: list[Problem]
    _facts: Subjects = field(repr=False)
    _indexes: Mapping[str, AsOfIndex | None] = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def records(self, modality: str, samples: Sequence[Sample]) -> list[Records]:
        """Hand out what a modality recorded about samples up to their prediction times.

        This is the only way to data. Slices are cut without copying, so ask for a few samples at a time and memory
        stays small.

        Parameters
        ----------
        modality : str
        samples : sequence of Sample, length n
            Of this cohort.

        Returns
        -------
        list of Records, length n
            Where the folder has nothing of the modality, ``table`` has no rows and no columns of the modality.

        Raises
        ------
        KeyError
            If the cohort was not opened with the modality.
        FirewallBreach
            If a sample is not one of this cohort: a later prediction time would see later records, and a part of a
            split would see patients of the other.
        """
        index = self._indexes[modality]
        return [
            Records(
                sample.subject_id,
                sample.prediction_time,
                # Facts come first: they check that the sample is one of this cohort.
                subject=self.facts(sample),
                table=index.as_of(sample.subject_id, sample.prediction_time) if index else NO_ROWS,
            )
            for sample in samples
        ]

    def facts(self, sample: Sample) -> Mapping[str, Any]:
        """Return the facts about a sample's subject; where there is a birth date, the age is as of the prediction.

        Raises
        ------
        FirewallBreach
            If the sample is not one of this cohort.
        """
        if sample not in self._known:
            moment = sample.prediction_time.isoformat()
            raise FirewallBreach(f"subject {sample.subject_id} at {moment} is no sample of this cohort")
        return self._facts.as_of(sample.subject_id, sample.prediction_time)

    def samples_of(self, subject_id: str) -> tuple[Sample, ...]:
        """Return the samples of one subject, by time; empty if there are none."""
        start, stop = (side(self.samples, subject_id, key=_subject) for side in (bisect_left, bisect_right))
        return self.samples[start:stop]

    def labelled(self) -> Cohort:
        """Return the cohort with the samples of which the outcome is known."""
        return self._of(sample for sample in self.samples if sample.event is not None)

    def split(self, seed: int, test_fraction: float = 0.25) -> tuple[Cohort, Cohort]:
        """Split by patient: no patient is on both sides, whatever the number of stays, images or samples.

        Patients who ever have the event, who never have it, and who have no label are split separately, so that
        both sides have similar rates.

        Parameters
        ----------
        seed : int
        test_fraction : float
            Between 0 and 1, of the patients.

        Returns
        -------
        train, test : Cohort

        Raises
        ------
        ValueError
            If ``test_fraction`` is not between 0 and 1.
        DataError
            If there are too few patients for two sides.
        """
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction is {test_fraction}; it has to be between 0 and 1")
        generator = np.random.default_rng(seed)
        held_out: set[str] = set()
        for group in _by_outcome(self.samples):
            order = generator.permutation(len(group))
            # A group of two or more is on both sides, however small the fraction.
            size = min(max(round(len(group) * test_fraction), 1), len(group) - 1)
            held_out.update(group[place] for place in order[: max(size, 0)])
        train = self._of(sample for sample in self.samples if sample.subject_id not in held_out)
        test = self._of(sample for sample in self.samples if sample.subject_id in held_out)
        if not train.samples or not test.samples:
            got = f"{len(self.subjects)} patients"
            raise DataError([_label_problem(self.task, "too-few-patients", got, "enough for two sides")])
        return train, test

    def _of(self, samples: Iterable[Sample]) -> Cohort:
        kept = tuple(samples)
        subjects = {sample.subject_id: self.subjects[sample.subject_id] for sample in kept}
        return replace(self, samples=kept, subjects=subjects)

    @cached_property
    def _known(self) -> frozenset[Sample]:
        return frozenset(self.samples)


def open_cohort(root: Path | str | CohortFolder, modalities: Sequence[Modality], task: str | None = None) -> Cohort:
    """Open a cohort folder.

    Parameters
    ----------
    root : Path, str or CohortFolder
    modalities : sequence of Modality
    task : str, optional
        May be left out where the cohort has one task.

    Returns
    -------
    Cohort
        With everything that is wrong in ``problems``.

    Raises
    ------
    UsageError
        If there are several tasks and none is named, or none of that name.
    DataError
        If there is no cohort.toml, no label that can be used, or if some times have a zone and others have none.
    """
    folder = root if isinstance(root, CohortFolder) else CohortFolder.open(root)
    chosen = choose_task(folder.config, task)
    labels = read_labels(folder, chosen)
    facts = read_subjects(folder)
    tables = {modality.name: _index_table(modality, folder) for modality in modalities}
    _check_zones(folder)
    samples = samples_of(labels, chosen.labels, folder.problems)
    indexes = {name: None if table is None else AsOfIndex(table) for name, table in tables.items()}
    cohort = Cohort(
        name=str(folder.config.get("name", folder.root.name)),
        description=str(folder.config.get("description", "")),
        task=chosen,
        samples=samples,
        subjects={sample.subject_id: facts.of(sample.subject_id) for sample in samples},
        modalities=tuple(name for name, index in indexes.items() if index is not None),
        units=_units(folder),
        problems=folder.problems,
        _facts=facts,
        _indexes=indexes,
    )
    _check_data(cohort, facts, indexes)
    return cohort


def require_two_classes(cohort: Cohort) -> None:
    """Refuse a cohort that nothing can be learnt from.

    Raises
    ------
    DataError
        If no sample has the event, or none is known to lack it.
    """
    events = [sample.event for sample in cohort.samples]
    if True in events and False in events:
        return
    got = f"{events.count(True)} with the event, {events.count(False)} without, {events.count(None)} empty"
    raise DataError([_label_problem(cohort.task, "one-class", got, "samples with the event and samples without")])


def _subject(sample: Sample) -> str:
    return sample.subject_id


def _index_table(modality: Modality, folder: CohortFolder) -> pa.Table | None:
    """Ask a modality for its index, and note whether its times have a zone."""
    before = set(folder.zoned)
    table = modality.index(folder)
    if table is None:
        return None
    table = placeable(table, modality.name, folder.problems)
    if not table.num_rows:
        return None
    zoned = table["time"].type.tz is not None
    if zoned not in {folder.zoned[file] for file in set(folder.zoned) - before}:
        folder.zoned[modality.name] = zoned
    return table


def _check_zones(folder: CohortFolder) -> None:
    """Refuse a cohort where only some files have time zones: nobody knows what comes first."""
    if len(set(folder.zoned.values())) < 2:
        return
    expected, remedy = "all times with a zone, or none", "give every time of the cohort a zone, or none"
    raise DataError(
        [
            Problem(
                "mixed-time-zones",
                file,
                "",
                "time",
                "with a time zone" if zoned else "without a time zone",
                expected,
                remedy,
            )
            for file, zoned in folder.zoned.items()
        ]
    )


def _units(folder: CohortFolder) -> dict[str, str]:
    ehr = folder.config.get("ehr", {})
    units = ehr.get("units", {}) if isinstance(ehr, dict) else {}
    if not isinstance(units, dict):
        units = {"": None}
    for code in (code for code, unit in units.items() if not isinstance(unit, str)):
        expected, remedy = "a unit in quotation marks", 'write code = "mmol/L" below [ehr.units]'
        field = f"ehr.units.{code}".rstrip(".")
        folder.problems.append(Problem("bad-unit", "cohort.toml", "", field, "no text", expected, remedy))
    return {code: unit for code, unit in units.items() if isinstance(unit, str)}


def _by_outcome(samples: Iterable[Sample]) -> list[list[str]]:
    """Group patients by whether they ever have the event, never have it, or have no label."""
    ever: dict[str, bool | None] = {}
    for sample in samples:
        ever[sample.subject_id] = ever.get(sample.subject_id) or sample.event
    return [sorted(name for name, event in ever.items() if event is kind) for kind in (True, False, None)]


def _check_data(cohort: Cohort, facts: Subjects, indexes: Mapping[str, AsOfIndex | None]) -> None:
    """Note what a user should know about the samples as a whole."""
    there = {name: index for name, index in indexes.items() if index is not None}
    first = {sample.subject_id: sample.prediction_time for sample in reversed(cohort.samples)}
    last = {sample.subject_id: sample.prediction_time for sample in cohort.samples}
    cohort.problems.extend(shortened(check_births(facts, first)))
    cohort.problems.extend(_unknown_subjects(cohort, facts))
    for name, index in there.items():
        late = sum(index.count(subject) - index.as_of(subject, moment).num_rows for subject, moment in last.items())
        if late:
            got, remedy = (
                f"{late} records later than the last prediction",
                "nothing, if that is meant; they are not used",
            )
            problem = Problem("late-records", name, "", "time", got, "records before predictions", remedy, "warning")
            cohort.problems.append(problem)
    if indexes:
        cohort.problems.extend(shortened(_without_data(last, there, cohort.task.labels)))


def _unknown_subjects(cohort: Cohort, facts: Subjects) -> list[Problem]:
    unknown = [subject for subject in cohort.subjects if subject not in facts.facts]
    if not facts.file or not unknown:
        return []
    got, remedy = f"{len(unknown)} patients of the labels are not in it", "check that subject_id is written alike"
    return [Problem("unknown-subjects", facts.file, "", "subject_id", got, "all of them", remedy, "warning")]


def _without_data(last: Mapping[str, datetime], there: Mapping[str, AsOfIndex], file: str) -> Iterable[Problem]:
    for subject, moment in last.items():
        if any(index.as_of(subject, moment).num_rows for index in there.values()):
            continue
        later = sum(index.count(subject) for index in there.values())
        got = f"{later} records, all later than the predictions" if later else "no records"
        remedy = "check that subject_id is written alike; the base rate is predicted"
        where = f"subject {subject}"
        yield Problem("no-data", file, where, "subject_id", got, "data of a modality", remedy, "warning", subject)


def _label_problem(task: Task, code: str, got: str, expected: str) -> Problem:
    return Problem(code, task.labels, "", "boolean_value", got, expected, "label more patients")
