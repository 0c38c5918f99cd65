"""A cohort folder as modalities see it: typed tables, safe paths, and a list of everything that is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from medfusion.core.errors import DataError, Problem
from medfusion.core.schema import TableSchema
from medfusion.core.tables import read_table


@dataclass(slots=True)
class CohortFolder:
    """The folder of a cohort, opened.

    Attributes
    ----------
    root : Path
    config : mapping
        What cohort.toml says.
    problems : list of Problem
        Whatever was found wrong so far; reading goes on where that is safe.
    zoned : dict from file to bool
        Whether the times of a file carry a time zone; a cohort has one kind or the other.
    """

    root: Path
    config: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)
    zoned: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path | str) -> CohortFolder:
        """Open a folder that has a cohort.toml.

        Raises
        ------
        DataError
            If there is no cohort.toml, or it is no TOML.
        """
        root = Path(root)
        try:
            config = tomllib.loads((root / "cohort.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError([_config_problem("missing-file", "absent", "name the folder that holds it")]) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError([_config_problem("bad-toml", str(error), "correct the file")]) from None
        return cls(root, config)

    def table(self, schema: TableSchema) -> pa.Table | None:
        """Read ``<schema.name>.parquet`` or ``.csv``, typed and checked row by row.

        Bad rows are left out and noted in ``problems``. The column ``row`` (int64) counts rows from 1, for
        messages about them.

        Returns
        -------
        pyarrow.Table or None
            None if neither file is there, or the file as a whole cannot be read.
        """
        for suffix in (".parquet", ".csv"):
            path = self.root / (schema.name + suffix)
            if path.exists():
                result = read_table(path, path.relative_to(self.root).as_posix(), schema)
                self.problems.extend(result.problems)
                if result.zoned is not None:
                    self.zoned[result.file] = result.zoned
                return result.table
        return None

    def resolve(self, relative: str) -> Path | None:
        """Return the path of a file named in a table, or None if the name leads out of the folder."""
        pure = PurePosixPath(relative.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0:1]:
            return None
        return self.root / pure


def _config_problem(code: str, got: str, remedy: str) -> Problem:
    return Problem(code, "cohort.toml", "", "file", got, "a TOML file with [tasks.<name>]", remedy)
