"""The schema of the review database, step by step; each step is a file of Alembic's beside this one.

A step never touches a row that is there: rows are hashed, and what is in them has to stay.
"""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from medfusion.core.errors import ReviewUnavailable

FIRST = "1"
"""The step that makes the table of events."""
_VERSION_TABLE = "review_schema"


def missing(connection: Connection) -> list[str]:
    """Return the steps that a database lacks: none if it is up to date, all if it holds no review store.

    Raises
    ------
    ReviewUnavailable
        If it has the schema of a later version.
    """
    steps = [step.revision for step in _script().walk_revisions()][::-1]
    found = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE}).get_current_revision()
    if found is None:
        return steps
    if found not in steps:
        said = f"the review database has schema {found}, which is newer than this medfusion knows ({steps[-1]})"
        raise ReviewUnavailable(f"{said}; update medfusion")
    return steps[steps.index(found) + 1 :]


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring a database to the schema of this version, in the transaction that the connection is in."""
    script = _script()
    options = {
        "version_table": _VERSION_TABLE,
        "fn": lambda revision, _context: script._upgrade_revs(to, revision),
    }
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


def _script() -> ScriptDirectory:
    folder = Path(__file__).parent
    return ScriptDirectory(folder, version_locations=[folder])
