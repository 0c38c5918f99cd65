"""De-identification of a whole cohort folder: one key, one shift per patient, the same in images, tables and texts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from medfusion.core.errors import PayloadRejected, Problem, UsageError
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.protocols import Advance
from medfusion.deidentify import columns
from medfusion.deidentify.births import last_predictions, with_topped_births
from medfusion.deidentify.config import as_toml, clean_config, labels_of
from medfusion.deidentify.files import ImageFile, examine, find_files
from medfusion.deidentify.gather import Gathered
from medfusion.deidentify.headers import HeaderCleaner, Person
from medfusion.deidentify.pseudonyms import Pseudonyms
from medfusion.deidentify.report import Report
from medfusion.deidentify.tables import Counts, Roles, TableCleaner, read_plain, write_like
from medfusion.deidentify.text import Engine, Scrubber
from medfusion.deidentify.writing import write_image

Track = Callable[[str, int], Advance]
"""Called with the name of a stage and its number of steps; returns what counts them."""
REPORT_FILE = "deidentification.json"
_TABLES = ("subjects", "imaging", "ehr", "notes")


def _silent(_stage: str, _total: int) -> Advance:
    return lambda _done: None


def deidentify_cohort(
    cohort: Path,
    out: Path,
    *,
    key: bytes,
    force: bool = False,
    engines: Sequence[Engine] = (),
    track: Track = _silent,
) -> Report:
    """Write a copy of a cohort folder without what identifies its patients.

    Subjects, UIDs and dates change in the same way everywhere, so that studies still belong together, intervals
    stay, and the copy trains as the original does. The copy appears when it is complete, or not at all.

    Parameters
    ----------
    cohort : Path
    out : Path
        A folder that does not exist or is empty, outside the cohort.
    key : bytes
        At least 32 random bytes; equal keys give equal copies.
    force : bool
        Whether to copy images, too, that may show whose they are; a person has to look at those.
    engines : sequence of Engine
        Further ways to find identifiers in texts.
    track : callable
        Shows progress.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If ``out`` cannot be written or the key is too short.
    DataError
        If the folder has no cohort.toml, or a table of it cannot be read.

    References
    ----------
    .. [1] DICOM PS3.15, Annex E: Attribute Confidentiality Profiles.
    """
    _check_places(cohort, out)
    run = _Run(CohortFolder.open(cohort), Pseudonyms(key), force, track)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that nothing has to be copied once it is complete. What pydicom warns of would quote values.
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = Path(work) / "cohort"
            target.mkdir()
            run.write(target, engines)
            if out.exists():
                out.rmdir()
            target.rename(out)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror or error}; name a folder that can be written") from None
    return run.report


def _check_places(cohort: Path, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; name another one, or remove it")
    inner, outer = out.resolve(), cohort.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise UsageError(f"{out} and {cohort} lie in each other; name a folder elsewhere")


class _Run:
    """One cohort on its way."""

    def __init__(self, folder: CohortFolder, pseudonyms: Pseudonyms, force: bool, track: Track) -> None:
        self.report = Report()
        self._folder, self._pseudonyms, self._force, self._track = folder, pseudonyms, force, track
        self._tables = {name: table for name in _TABLES if (table := self._find(name)) is not None}
        self._labels = {
            task: path for task, name in labels_of(folder).items() if (path := self._find(name)) is not None
        }
        self._gathered = Gathered()

    def write(self, target: Path, engines: Sequence[Engine]) -> None:
        """Do everything, in the order in which each step needs the ones before."""
        subjects = self._read("subjects")
        if subjects is not None:
            roles = columns.subject_roles(subjects)
            columns.add_identifiers(subjects, roles, self._gathered.patients, self._gathered.staff)
        listed = self._read("imaging")
        images = self._examined(listed)
        scrubber = Scrubber(self._pseudonyms, self._gathered.patients, self._gathered.staff, engines)
        paths = self._write_images(images, target, scrubber)
        last = self._write_labels(target, scrubber)
        if subjects is not None:
            self._write("subjects", with_topped_births(subjects, last), roles, target, scrubber)
        if listed is not None:
            self._write("imaging", _with_paths(listed, paths), columns.IMAGING, target, scrubber)
        if (events := self._read("ehr")) is not None:
            wide = "code" not in events.column_names
            self._write("ehr", events, columns.wide_roles(events) if wide else columns.LONG, target, scrubber)
        if (notes := self._read("notes")) is not None:
            self._write("notes", notes, columns.NOTES, target, scrubber)
        self._write_config(target, scrubber)
        self.report.others = self._count_others()
        text = json.dumps(self.report.counts(), indent=2) + "\n"
        (target / REPORT_FILE).write_text(text, encoding="utf-8", newline="\n")

    def _find(self, name: str) -> Path | None:
        """Return the file of a table, whichever form it has."""
        stem = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
        files = [self._folder.resolve(file) for file in (name, *(stem + suffix for suffix in SUFFIXES))]
        return next((file for file in files if file is not None and file.is_file()), None)

    def _read(self, name: str) -> pa.Table | None:
        return read_plain(path, path.name) if (path := self._tables.get(name)) else None

    def _examined(self, listed: pa.Table | None) -> list[ImageFile]:
        """Return the files that can leave; the others are counted."""
        wanted = list(find_files(self._folder.root)) if listed is None else []
        candidates = [("", path, file) for path, file in wanted]
        if listed is not None:
            candidates = self._listed(listed)
        advance = self._track("read headers", len(candidates))
        images = []
        for subject, path, file in candidates:
            try:
                image = examine(path, file, subject, self._gathered)
                if image.held and not self._force:
                    raise PayloadRejected(image.held)
                images.append(image)
            except PayloadRejected as error:
                self._hold(error.problem, path, subject)
            advance(1)
        return images

    def _listed(self, listed: pa.Table) -> list[tuple[str, str, Path]]:
        """Return subject, path and file of each row, once; count the files that are not listed."""
        pairs = dict.fromkeys(_pairs(listed))
        found = []
        for subject, path in pairs:
            file = self._folder.resolve(path) if path else None
            if subject and file is not None and file.is_file():
                found.append((subject, path, file))
            else:
                self._hold(
                    Problem("missing-file", "", "", "path", path, "a file of a subject", "correct the row", "warning"),
                    path,
                    subject,
                )
        inside = {file.resolve() for _, _, file in found}
        unlisted = sum(file.resolve() not in inside for _, file in find_files(self._folder.root))
        if unlisted:
            self.report.files["not-listed"] += unlisted
        return found

    def _write_images(
        self, images: Sequence[ImageFile], target: Path, scrubber: Scrubber
    ) -> dict[tuple[str, str], str]:
        """Write the files and return their new paths by subject and old path."""
        cleaner = HeaderCleaner(self._pseudonyms)
        advance = self._track("write images", len(images))
        paths: dict[tuple[str, str], str] = {}
        numbers: dict[str, int] = {}
        for image in images:
            subject = image.subject_id
            person = Person(self._pseudonyms.subject(subject), self._pseudonyms.shift_days(subject))
            numbers[subject] = numbers.get(subject, 0) + 1
            # Names count the files of one patient: they keep an order without telling the old names.
            name = f"imaging/{person.pseudonym}/{numbers[subject]:05d}{image.suffix}"
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                self.report.elements += write_image(
                    image, target / name, cleaner, person, _scrub_for(scrubber, subject)
                )
            except PayloadRejected as error:
                self._hold(error.problem, image.path, subject)
            else:
                paths[subject, image.path] = name
                self.report.files["forced" if image.held else "written"] += 1
                if image.held:
                    self.report.problems.append(replace(image.held, file=image.path, subject_id=subject))
            advance(1)
        return paths

    def _hold(self, problem: Problem, path: str, subject: str) -> None:
        self.report.files[problem.code] += 1
        self.report.problems.append(replace(problem, file=path, subject_id=subject))

    def _write_labels(self, target: Path, scrubber: Scrubber) -> dict[str, date]:
        """Write the labels of every task, and return the last day of a prediction for every subject."""
        last: dict[str, date] = {}
        for task, path in self._labels.items():
            labels = read_plain(path, f"labels/{path.name}")
            if {"subject_id", "prediction_time"} <= set(labels.column_names):
                last_predictions(labels, last)
            self._write(f"labels/{task}", labels, columns.LABELS, target, scrubber, path.suffix)
        return last

    def _write(
        self, name: str, table: pa.Table, roles: Roles, target: Path, scrubber: Scrubber, suffix: str = ""
    ) -> None:
        counts = self.report.tables[name] = Counts()
        if "subject_id" not in table.column_names:
            # Whose rows they are is not known, so neither is what identifies them.
            counts.rows_left_out = table.num_rows
            return
        cleaner = TableCleaner(self._pseudonyms, scrubber, counts)
        new = cleaner.clean(table, roles, self._track(f"write {name}", table.num_rows))
        file = target / (name + (suffix or self._tables[name].suffix))
        file.parent.mkdir(exist_ok=True)
        write_like(new, file)

    def _write_config(self, target: Path, scrubber: Scrubber) -> None:
        labels = {task: f"labels/{task}{path.suffix}" for task, path in self._labels.items()}
        config = clean_config(self._folder.config, labels, scrubber)
        (target / "cohort.toml").write_text(as_toml(config), encoding="utf-8", newline="\n")

    def _count_others(self) -> int:
        known = {*self._tables.values(), *self._labels.values(), self._folder.root / "cohort.toml"}
        images = self._folder.root / "imaging"
        files = (file for file in self._folder.root.rglob("*") if file.is_file() and images not in file.parents)
        return sum(file not in known for file in files)


def _scrub_for(scrubber: Scrubber, subject_id: str) -> Callable[[str], str]:
    return lambda text: scrubber.scrub(text, subject_id, prose=False)[0]


def _pairs(listed: pa.Table) -> list[tuple[str, str]]:
    """Return subject and path of each row, as the reader of images takes them."""
    if not {"subject_id", "path"} <= set(listed.column_names):
        return []
    subjects, paths = (
        pc.utf8_trim_whitespace(pc.fill_null(pc.cast(listed[name], pa.string()), "")).to_pylist()
        for name in ("subject_id", "path")
    )
    return list(zip(subjects, paths, strict=True))


def _with_paths(listed: pa.Table, paths: Mapping[tuple[str, str], str]) -> pa.Table:
    """Keep the rows whose files leave, with their new paths."""
    new = pa.array([paths.get(pair) for pair in _pairs(listed)], pa.string())
    if "path" not in listed.column_names:
        return listed
    return listed.set_column(listed.column_names.index("path"), "path", new).filter(new.is_valid())
