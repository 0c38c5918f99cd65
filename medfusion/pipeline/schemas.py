"""The JSON schemas of every table that goes in or comes out: ``python -m medfusion.pipeline.schemas FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from medfusion.cohort import TABLES
from medfusion.core.schema import TableSchema, write_schemas
from medfusion.modalities import discover
from medfusion.outputs.tables import SCHEMAS
from medfusion.review.tables import SCHEMAS as REVIEW


def all_schemas() -> list[TableSchema]:
    """Return the schemas of the cohort, of each modality, of what scoring writes, and of what an audit exports."""
    return [*TABLES, *(table for modality in discover().values() for table in modality.tables), *SCHEMAS, *REVIEW]


if __name__ == "__main__":
    write_schemas(all_schemas(), Path(sys.argv[1]))
