"""The columns and units that a model was trained on, and where a cohort differs from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from medfusion.cohort import Cohort
from medfusion.cohort.tables import SUBJECTS
from medfusion.core.errors import DataError, Problem
from medfusion.core.folder import SUFFIXES, CohortFolder
from medfusion.core.protocols import Modality
from medfusion.core.schema import TableSchema
from medfusion.core.tables import header


def inputs_of(folder: CohortFolder, modalities: Iterable[Modality]) -> dict[str, Any]:
    """Return the columns of each table of a cohort, and the units that it declares, as JSON values."""
    schemas = {SUBJECTS.name: SUBJECTS, **{table.name: table for each in modalities for table in each.tables}}
    files = {name: file for name in schemas if (file := table_file(folder, name)) is not None}
    columns = {name: sorted(header(folder.root / file)) for name, file in files.items()}
    return {"columns": columns, "units": declared_units(folder)}


def kinds_of(cohort: Cohort) -> dict[str, str]:
    """Return which columns of subjects.csv hold numbers, and which text; not those in which nothing stands."""
    kinds = {}
    for facts in cohort.subjects.values():
        for name, fact in facts.items():
            if fact is not None:
                kinds[name] = "string" if isinstance(fact, str) else "number"
    return kinds


def as_trained(trained: Mapping[str, Any], folder: CohortFolder) -> CohortFolder:
    """Return a cohort folder that is read as the training cohort was, where it says nothing itself.

    Units that it does not declare are those of the training, and columns of subjects.csv hold what they held there: so
    nothing depends on which patients are read together.
    """
    units = {**trained.get("units", {}), **declared_units(folder)}
    config = {**folder.config, "ehr": {**folder.config.get("ehr", {}), "units": units}} if units else folder.config
    return replace(folder, config=config, kinds=trained.get("kinds", {}))


def table_file(folder: CohortFolder, name: str) -> str | None:
    """Return the file of a table, relative to the folder; None where there is none."""
    return next((name + end for end in SUFFIXES if (folder.root / (name + end)).is_file()), None)


def declared_units(folder: CohortFolder) -> dict[str, str]:
    """Return the units that cohort.toml declares, by code."""
    ehr = folder.config.get("ehr", {})
    units = ehr.get("units", {}) if isinstance(ehr, Mapping) else {}
    return {code: unit for code, unit in units.items() if isinstance(unit, str)} if isinstance(units, Mapping) else {}


def require_same_inputs(trained: Mapping[str, Any], folder: CohortFolder, modalities: Iterable[Modality]) -> None:
    """Refuse a cohort whose tables lack columns that the model was trained on, or have another unit for a code.

    A table that is not there at all is an absent modality, which models can do without.

    Raises
    ------
    DataError
        With one line per difference.
    """
    modalities = list(modalities)
    optional = {
        column.name
        for table in (SUBJECTS, *(table for each in modalities for table in each.tables))
        for column in _optional(table)
    }
    here, differences = inputs_of(folder, modalities), []
    for name, columns in trained.get("columns", {}).items():
        if name not in here["columns"]:
            continue
        for column in sorted(set(columns) - set(here["columns"][name]) - optional):
            got, expected = ", ".join(here["columns"][name]), f"the column {column}, which the model was trained on"
            remedy = "add or rename the column, or train a model for this cohort"
            differences.append(
                Problem("other-columns", f"{table_file(folder, name)}", "", column, got, expected, remedy)
            )
    for code, unit in trained.get("units", {}).items():
        said = here["units"].get(code, unit)
        if said != unit:
            expected, remedy = f"{unit}, as the model was trained on", f"convert the values, and declare {unit}"
            differences.append(Problem("other-unit", "cohort.toml", "", f"ehr.units.{code}", said, expected, remedy))
    if differences:
        raise DataError(differences)


def _optional(table: TableSchema) -> Iterable[Any]:
    return (column for column in table.columns if not column.required)
