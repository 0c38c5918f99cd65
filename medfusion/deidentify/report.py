"""What de-identification did, in counts: nothing in it tells of a patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from medfusion.core.errors import Problem
from medfusion.deidentify.tables import Counts


@dataclass(slots=True)
class Report:
    """What was changed.

    Attributes
    ----------
    files : Counter
        Image files by what became of them: "written", "forced", or the code of why they were held back.
    elements : Counter
        DICOM elements by treatment.
    tables : dict from table to Counts
    others : int
        Files beside tables and images; none is copied.
    problems : list of Problem
        One for each file held back, with its original path: for the person at the screen, and not for the output.
    """

    files: Counter[str] = field(default_factory=Counter)
    elements: Counter[str] = field(default_factory=Counter)
    tables: dict[str, Counts] = field(default_factory=dict)
    others: int = 0
    problems: list[Problem] = field(default_factory=list)

    def counts(self) -> dict[str, int | Mapping[str, object]]:
        """Return all counts, ready for JSON."""
        return {
            "files": dict(sorted(self.files.items())),
            "elements": dict(sorted(self.elements.items())),
            "tables": {name: _as_mapping(counts) for name, counts in sorted(self.tables.items())},
            "other_files_not_copied": self.others,
        }

    def lines(self) -> list[tuple[str, str, int]]:
        """Return the counts as rows of a table: part, what, how many.

        Examples
        --------
        >>> Report(files=Counter(written=3)).lines()
        [('files', 'written', 3), ('files', 'others, not copied', 0)]
        """
        rows = [("files", what, count) for what, count in sorted(self.files.items())]
        rows.append(("files", "others, not copied", self.others))
        rows += [("elements", what, count) for what, count in sorted(self.elements.items())]
        for name, counts in sorted(self.tables.items()):
            rows += [(name, f"{role} cells changed", count) for role, count in sorted(counts.cells.items())]
            rows += [(name, "columns left out", counts.columns_left_out), (name, "rows left out", counts.rows_left_out)]
            rows += [(name, f"[{kind}] in texts", count) for kind, count in sorted(counts.spans.items())]
        return rows


def _as_mapping(counts: Counts) -> dict[str, object]:
    return {
        "cells": dict(sorted(counts.cells.items())),
        "columns_left_out": counts.columns_left_out,
        "rows_left_out": counts.rows_left_out,
        "spans": dict(sorted(counts.spans.items())),
    }
