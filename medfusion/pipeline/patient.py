"""One patient, kept open: the risk, what it would be if something were otherwise, and what is missing is worth."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from medfusion.cohort import Cohort, open_cohort
from medfusion.cohort.labels import choose_task
from medfusion.core.edits import Changed, EditableValue, check_changes
from medfusion.core.errors import Problem, UsageError
from medfusion.core.folder import CohortFolder
from medfusion.core.protocols import Editable
from medfusion.core.types import Records, Sample
from medfusion.core.views import View
from medfusion.outputs.ledger import RiskReport
from medfusion.outputs.tables import value_text
from medfusion.pipeline.inputs import as_trained, require_same_inputs
from medfusion.pipeline.model import Payloads, Predictions, RiskModel
from medfusion.pipeline.parts import Options
from medfusion.pipeline.use import model_task, report_of, sample_of, views_of
from medfusion.pipeline.worth import Worth, worth_of
from medfusion.scoring import FileContents, input_hashes

Changes = Mapping[str, Mapping[str, Changed]]
"""By modality and name of a value: what it is changed to."""
_Stamp = tuple[tuple[str, int, int], ...]
"""Names of files, when they were changed, and how large they are."""


class Desk:
    """A model and a cohort folder, kept open to look at one patient after another.

    Tables are read and indexed once, and again when a file of the folder has changed since; of a patient who is opened,
    only their rows and files are read. Several threads may share a desk.

    Parameters
    ----------
    model : RiskModel
    folder : Path
        The cohort.
    task : str, optional
        As in `medfusion.pipeline.open_for_use`.

    Raises
    ------
    DataError
        By `patient`, if the cohort cannot be read, or was made for other columns than the model.
    """

    def __init__(self, model: RiskModel, folder: Path, task: str | None = None) -> None:
        self.model = model
        self._root, self._task = folder.absolute(), task
        self._lock = Lock()
        self._opened: tuple[_Stamp, Cohort] | None = None

    @property
    def cohort(self) -> Cohort:
        """The cohort as it is now."""
        with self._lock:
            if self._opened is not None:
                stamp, cohort = self._opened
                if stamp == _stamp(self._root, cohort.task.labels):
                    return cohort
            self._opened = self._open()
            return self._opened[1]

    def patient(self, subject_id: str, at: datetime | None = None) -> Patient:
        """Open a patient at one of the cohort's prediction times, the latest by default.

        Raises
        ------
        UsageError
            If the cohort has no such sample.
        """
        cohort = self.cohort
        return Patient.read(self.model, cohort, sample_of(cohort, subject_id, at))

    def _open(self) -> tuple[_Stamp, Cohort]:
        """Open the cohort as a scoring run does, so that risks are the same."""
        trained, modalities = self.model.card.get("inputs", {}), list(self.model.modalities.values())
        folder = CohortFolder.open(self._root)
        require_same_inputs(trained, folder, modalities)
        task = choose_task(folder.config, self._task or model_task(folder, self.model))
        # Before the files are read: what changes meanwhile is read the next time.
        stamp = _stamp(self._root, task.labels)
        return stamp, open_cohort(as_trained(trained, folder), modalities, task.name)


@dataclass(frozen=True, eq=False)
class Patient:
    """One sample of a cohort, with everything that is known of it.

    Attributes
    ----------
    model : RiskModel
    sample : Sample
    records : mapping from modality to Records
    facts : mapping
        What subjects.csv says.
    payloads : mapping from modality to sequence of length 1
    problems : tuple of Problem
        What of this patient's data could not be used.
    """

    model: RiskModel
    sample: Sample
    records: Mapping[str, Records]
    facts: Mapping[str, Any]
    payloads: Payloads = field(repr=False)
    problems: tuple[Problem, ...]

    @classmethod
    def read(cls, model: RiskModel, cohort: Cohort, sample: Sample) -> Patient:
        """Read a sample of a cohort."""
        records = {name: cohort.records(name, [sample])[0] for name in model.modalities}
        problems: list[Problem] = []
        payloads = {name: _payload(model, name, record, problems) for name, record in records.items()}
        known = [problem for problem in cohort.problems if problem.subject_id == sample.subject_id]
        return cls(model, sample, records, cohort.facts(sample), payloads, tuple(dict.fromkeys([*known, *problems])))

    def report(self) -> RiskReport:
        """Return the risk, its ledger and what a screen shows of each modality."""
        problems: list[Problem] = []
        return report_of(self.model, self.sample, self._predicted(self.payloads, self.facts), self.payloads, problems)

    def views(self) -> dict[str, list[View]]:
        """Return what a screen shows of each modality, without a share on it: for whoever is not to know the risk."""
        return views_of(self.model, self.payloads, dict.fromkeys(self.payloads, ()), [])

    def editable(self) -> dict[str, list[EditableValue]]:
        """List the values that `what_if` may change, by modality."""
        return {
            name: modality.editable(self.records[name], self.model.evidence[name].encoders)
            for name, modality in self.model.modalities.items()
            if isinstance(modality, Editable)
        }

    def what_if(self, changes: Changes, without: Collection[str] = ()) -> RiskReport:
        """Return what the model would say if some values were others, or some modalities were not there.

        Records are changed; what follows is what happens to any record.

        Parameters
        ----------
        changes : mapping from modality to mapping from name of a value to what it is changed to
            Names as in `editable`.
        without : collection of str
            Modalities.

        Returns
        -------
        RiskReport
            Marked as hypothetical.

        Raises
        ------
        UsageError
            If there is no such modality or value, or a value may not be that.
        """
        for name in {*changes, *without} - set(self.model.modalities):
            raise UsageError(f"the model has no modality {name!r}; it has: {', '.join(self.model.modalities)}")
        payloads, facts, said = dict(self.payloads), dict(self.facts), []
        problems: list[Problem] = []
        for name, changed in changes.items():
            record, words = self._edited(name, changed)
            said += words
            payloads[name] = _payload(self.model, name, record, problems)
            facts |= {key: fact for key, fact in record.subject.items() if fact != self.facts.get(key)}
        for name in sorted(without):
            payloads[name] = [None]
            said.append(f"without {name}")
        report = report_of(self.model, self.sample, self._predicted(payloads, facts), payloads, problems)
        return replace(report, hypothetical=tuple(said) or ("nothing was changed",))

    def worth(self) -> list[Worth]:
        """Say of each modality that is not there where the risk would probably end if it were."""
        return worth_of(self.model, self._predicted(self.payloads, self.facts), [self.facts])

    def input_hash(self, fingerprint: str) -> str:
        """Return the hash that a scoring run gives to this sample as it is now.

        Parameters
        ----------
        fingerprint : str
            Of the run, see `run_fingerprints`.
        """
        return input_hashes(fingerprint, {name: [each] for name, each in self.records.items()}, FileContents({}))[0]

    def is_as_scored(self, input_hash: str, fingerprints: Sequence[str]) -> bool | None:
        """Say whether the data are those of a row of the predictions; None where that cannot be told.

        Parameters
        ----------
        input_hash : str
            Of the row; empty where it has none.
        fingerprints : sequence of str
            Of the runs that the row may be from.
        """
        if not input_hash or not fingerprints:
            return None
        return any(self.input_hash(each) == input_hash for each in fingerprints)

    def _predicted(self, payloads: Payloads, facts: Mapping[str, Any]) -> Predictions:
        return self.model.predict([self.sample.subject_id], payloads, [facts] if self.model.columns else ())

    def _edited(self, name: str, changes: Mapping[str, Changed]) -> tuple[Records, list[str]]:
        """Change a record, and say what was changed."""
        values = self.editable().get(name, [])
        check_changes(values, changes)
        modality = self.model.modalities[name]
        # Where nothing may be changed, the check has let nothing through.
        record = modality.edited(self.records[name], changes) if isinstance(modality, Editable) else self.records[name]
        return record, [_words(value, changes[value.name]) for value in values if value.name in changes]


def run_fingerprints(scores: Path, model_id: str) -> list[str]:
    """Return what decided the predictions of a scores folder besides the data, one text per run of a model.

    Parameters
    ----------
    scores : Path
    model_id : str
        Runs of other models are left out.
    """
    runs = [_json(path) for path in sorted(scores.glob("run*.json"))]
    return [
        Options(**run["options"]).fingerprint(run["version"], model_id, run.get("backend", {}).get("chosen", ""))
        for run in runs
        if run.get("model_id") == model_id and {"options", "version"} <= set(run)
    ]


def _payload(model: RiskModel, name: str, record: Records, problems: list[Problem]) -> list[Any | None]:
    return model.modalities[name].read([record], problems, lambda _done: None)


def _words(value: EditableValue, changed: Changed) -> str:
    before, after = (value_text(each) or "not recorded" for each in (value.value, changed))
    unit = f" {value.unit}" if value.unit and changed is not None else ""
    return f"{value.name}: {before} \N{RIGHTWARDS ARROW} {after}{unit}"


def _stamp(root: Path, labels: str) -> _Stamp:
    """Return what changes when a table of a cohort folder does; films are looked at when they are read."""
    stamps = []
    for path in [*sorted(root.glob("*")), root / labels]:
        try:
            stat = path.stat()
        except OSError:
            continue  # It has vanished since it was listed, or is a link to nowhere.
        stamps.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
