"""Tables that come in or go out: columns, types, and their JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medfusion.core.times import DAY_PATTERN, ISO_PATTERN

ColumnType = Literal["string", "number", "boolean", "time", "date"]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# "format": "date-time" would demand a time zone; the pattern is what the reader accepts.
_JSON_TYPES: dict[ColumnType, dict[str, Any]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "pattern": ISO_PATTERN},
    "date": {"type": "string", "pattern": DAY_PATTERN},
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    type : {"string", "number", "boolean", "time", "date"}
        A "date" has no time of day, and so no time zone.
    description : str
    required : bool
        Whether the column must be there.
    nullable : bool
        Whether a cell may be empty.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = True
    nullable: bool = False

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of one cell.

        Examples
        --------
        >>> Column("age_years", "number", "Age.", nullable=True).json_schema()
        {'type': ['number', 'null'], 'description': 'Age.'}
        """
        kind = {**_JSON_TYPES[self.type], "description": self.description}
        if self.nullable:
            kind["type"] = [kind["type"], "null"]
        elif self.type == "string":
            kind["minLength"] = 1
        return kind


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of one table.

    Attributes
    ----------
    name : str
        File name without its ending.
    description : str
    columns : tuple of Column
    other_columns : {"number", "any", None}
        What columns beyond these may hold; None where they are not read.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    other_columns: Literal["number", "any"] | None = None

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema (draft 2020-12) of one row."""
        others: bool | dict[str, Any] = self.other_columns == "any"
        if self.other_columns == "number":
            others = {"type": ["number", "null"]}
        return {
            "$schema": _DIALECT,
            "title": self.name,
            "description": self.description,
            "type": "object",
            "properties": {column.name: column.json_schema() for column in self.columns},
            "required": [column.name for column in self.columns if column.required],
            "additionalProperties": others,
        }


def write_schemas(schemas: Iterable[TableSchema], folder: Path) -> list[Path]:
    """Write ``<name>.json`` for every table; forms of one table that share a name are alternatives in one file.

    Parameters
    ----------
    schemas : iterable of TableSchema
    folder : Path
        Made where it is not there.

    Returns
    -------
    list of Path
        The files, by name.
    """
    forms: dict[str, list[TableSchema]] = {}
    for schema in schemas:
        forms.setdefault(schema.name, []).append(schema)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, alternatives in sorted(forms.items()):
        content = alternatives[0].json_schema()
        if len(alternatives) > 1:
            rows = [{k: v for k, v in form.json_schema().items() if k != "$schema"} for form in alternatives]
            content = {"$schema": _DIALECT, "title": name, "anyOf": rows}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
