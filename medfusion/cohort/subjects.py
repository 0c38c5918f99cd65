"""Facts about patients that have no time: sex, age, site and whatever else subjects.csv holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfusion.cohort.tables import SUBJECTS
from medfusion.core.errors import Problem, shortened
from medfusion.core.folder import CohortFolder
from medfusion.core.schema import Column, ColumnType
from medfusion.core.tables import ROW, number_text

OLDEST_YEARS = 130.0
"""An age beyond this is refused as a mistake."""
_DAYS_PER_YEAR = 365.25
_OLDEST_DAYS = OLDEST_YEARS * _DAYS_PER_YEAR
_NOT_FINITE = ("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")


@dataclass(frozen=True, slots=True)
class Subjects:
    """What is known of each subject.

    Attributes
    ----------
    facts : mapping from subject to mapping
        None where a cell is empty.
    births : mapping from subject to date
    blank : mapping
        The facts of somebody of whom nothing is known.
    file : str
        Where it stands; empty where there is no such file.
    """

    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    births: Mapping[str, date] = field(default_factory=dict)
    blank: Mapping[str, None] = field(default_factory=dict)
    file: str = ""

    def of(self, subject_id: str) -> Mapping[str, Any]:
        """Return the facts of one subject, the same keys for everybody."""
        return self.facts.get(subject_id, self.blank)

    def as_of(self, subject_id: str, moment: datetime) -> Mapping[str, Any]:
        """Return the facts as they are at a moment: a birth date has become an age."""
        facts, birth = self.of(subject_id), self.births.get(subject_id)
        if birth is None:
            return facts
        days = (moment.date() - birth).days
        return {**facts, "age_years": days / _DAYS_PER_YEAR if 0 <= days <= _OLDEST_DAYS else None}


def read_subjects(folder: CohortFolder) -> Subjects:
    """Read subjects.csv or .parquet; problems go to ``folder.problems``.

    Returns
    -------
    Subjects
        Empty where there is no such file. A column that is not in the schema holds what the folder knows it to hold;
        else numbers, if every cell of it that is not empty is a number, and text if not.
    """
    glance = CohortFolder(folder.root, folder.config)
    first = glance.table(SUBJECTS)
    known = {column.name for column in SUBJECTS.columns} | {ROW}
    others = {} if first is None else {name: first[name] for name in first.column_names if name not in known}

    def kind(name: str, values: pa.ChunkedArray) -> ColumnType:
        return folder.kinds[name] if name in folder.kinds else _kind(values)

    typed = [Column(name, kind(name, values), "", required=False, nullable=True) for name, values in others.items()]
    table = folder.table(replace(SUBJECTS, columns=SUBJECTS.columns + tuple(typed)))
    if table is None:
        return Subjects()
    file = "subjects.parquet" if (folder.root / "subjects.parquet").exists() else "subjects.csv"
    blank = dict.fromkeys(name for name in table.column_names if name not in {"subject_id", "birth_date", ROW})
    if "birth_date" in table.column_names:
        blank["age_years"] = None
    rows = _one_each(table.drop_columns([ROW]).to_pylist(), file, folder.problems)
    births = {name: row["birth_date"] for name, row in rows.items() if row.get("birth_date") is not None}
    facts = {name: {key: row.get(key) for key in blank} for name, row in rows.items()}
    folder.problems.extend(shortened(_check_ages(facts, file)))
    return Subjects(facts, births, blank, file)


def check_births(subjects: Subjects, firsts: Mapping[str, datetime]) -> Iterable[Problem]:
    """Tell of birth dates that give no age at the subject's first prediction."""
    for name, moment in firsts.items():
        birth = subjects.births.get(name)
        if birth is not None and not 0 <= (moment.date() - birth).days <= _OLDEST_DAYS:
            expected = f"a date in the {OLDEST_YEARS:.0f} years before the prediction"
            remedy, where = "correct it; the age is taken as unknown", f"subject {name}"
            got = birth.isoformat()
            yield Problem("bad-birth-date", subjects.file, where, "birth_date", got, expected, remedy, "warning", name)


def _kind(values: pa.ChunkedArray) -> ColumnType:
    """Say whether a column was meant as numbers; a NaN among numbers is a bad number, not a text."""
    kind = values.type
    if not pa.types.is_string(kind):
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        return "number" if number else "string"
    texts = values.drop_null().combine_chunks()
    numbers = number_text(texts)
    odd = np.asarray(pc.is_in(pc.utf8_lower(texts), pa.array(_NOT_FINITE)))
    return "number" if numbers.any() and (numbers | odd).all() else "string"


def _one_each(rows: list[dict[str, Any]], file: str, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """Keep one of rows that say the same, and none of rows that contradict each other."""
    said: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        said.setdefault(row["subject_id"], []).append(row)
    found = []
    for name, alike in said.items():
        if len(alike) == 1:
            continue
        where, got = f"subject {name}", f"{len(alike)} rows"
        if all(row == alike[0] for row in alike):
            remedy = "remove the copies; one was kept"
            found.append(
                Problem("duplicate-subject", file, where, "subject_id", got, "one row", remedy, "warning", name)
            )
        else:
            remedy, got = "correct them; all of these rows were left out", f"{got} that differ"
            found.append(
                Problem("contradicting-subjects", file, where, "subject_id", got, "one row", remedy, "error", name)
            )
    problems.extend(shortened(found))
    return {name: alike[0] for name, alike in said.items() if all(row == alike[0] for row in alike)}


def _check_ages(facts: Mapping[str, dict[str, Any]], file: str) -> Iterable[Problem]:
    """Take an impossible age as unknown, and say so."""
    for name, row in facts.items():
        age = row.get("age_years")
        if age is not None and not 0 <= age <= OLDEST_YEARS:
            row["age_years"] = None
            where, expected = f"subject {name}", f"0 to {OLDEST_YEARS:.0f}"
            remedy = "correct it (some sources code above 89 as 200 or 300); it is taken as unknown"
            yield Problem("bad-age", file, where, "age_years", f"{age:g}", expected, remedy, "warning", name)
