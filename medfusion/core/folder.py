"""A cohort folder as modalities see it: typed tables, safe paths, and a list of everything that is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from medfusion.core.errors import DataError, Problem
from medfusion.core.schema import ColumnType, TableSchema
from medfusion.core.tables import read_table

SUFFIXES = (".parquet", ".csv")
_DRIVE = re.compile(r"^[A-Za-z]:")


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
    files : Path or None
        The folder in which the paths of tables are, where it is not ``root``: of a part of a divided cohort, whose
        tables are its own and whose films are not.
    clock : bool or None
        Whether the cohort's times carry a time zone, where that is known beforehand.
    kinds : mapping from column of subjects.csv to type
        What its further columns hold, where that is known beforehand.
    """

    root: Path
    config: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)
    zoned: dict[str, bool] = field(default_factory=dict)
    files: Path | None = None
    clock: bool | None = None
    kinds: Mapping[str, ColumnType] = field(default_factory=dict)

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
            config = tomllib.loads((root / "cohort.toml").read_text(encoding="utf-8-sig"))
        except OSError as error:
            got, remedy = str(error.strerror), f"name a folder that holds it; {root} does not"
            raise DataError([_config_problem("missing-file", got, remedy)]) from None
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
        files = [schema.name + suffix for suffix in SUFFIXES]
        # A link that leads nowhere is not an absent table: it is read, and fails with a message.
        there = [file for file in files if (self.root / file).exists() or (self.root / file).is_symlink()]
        if not there:
            return None
        if len(there) > 1:
            got, remedy = " and ".join(there), f"remove one; {there[0]} is used"
            self.problems.append(Problem("two-files", there[0], "", "file", got, "one of them", remedy, "warning"))
        return self.read(there[0], schema)

    def read(self, file: str, schema: TableSchema) -> pa.Table | None:
        """Read one file of the folder as `table` does, whatever the schema's name."""
        result = read_table(self.root / file, file, schema)
        self.problems.extend(result.problems)
        if result.zoned is not None:
            self.zoned[result.file] = result.zoned
        return result.table

    def resolve(self, relative: str) -> Path | None:
        """Return the path of a file named in a table, or None if the name leads out of the folder.

        Links inside the folder are followed wherever they lead: whoever made the folder put them there.

        Examples
        --------
        >>> folder = CohortFolder(Path("cohort"), {})
        >>> folder.resolve("imaging/a.png").as_posix(), folder.resolve("../a.png"), folder.resolve("C:/a.png")
        ('cohort/imaging/a.png', None, None)
        """
        pure = PurePosixPath(relative.replace("\\", "/"))
        outside = pure.is_absolute() or ".." in pure.parts or _DRIVE.match(relative)
        if outside or not pure.parts or "\0" in relative:
            return None
        return (self.files or self.root) / pure


def _config_problem(code: str, got: str, remedy: str) -> Problem:
    return Problem(code, "cohort.toml", "", "file", got, "a TOML file with [tasks.<name>]", remedy)
