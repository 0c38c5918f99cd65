"""Tables that come in or go out: columns, types, and their JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ColumnType = Literal["string", "number", "boolean", "time"]
_JSON_TYPES: dict[ColumnType, dict[str, Any]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    type : {"string", "number", "boolean", "time"}
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
        What columns beyond these may hold; None where there may be none.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    other_columns: Literal["number", "any"] | None = None

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema (draft 2020-12) of one row."""
        properties = {}
        for column in self.columns:
            kind: dict[str, Any] = {**_JSON_TYPES[column.type], "description": column.description}
            if column.nullable:
                kind["type"] = [kind["type"], "null"]
            properties[column.name] = kind
        others: bool | dict[str, Any] = self.other_columns == "any"
        if self.other_columns == "number":
            others = {"type": ["number", "null"]}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.description,
            "type": "object",
            "properties": properties,
            "required": [column.name for column in self.columns if column.required],
            "additionalProperties": others,
        }
