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

_VERSION_TABLE = "review_schema"


def is_current(connection: Connection) -> bool:
    """Say whether a database has the schema of this version.

    Raises
    ------
    ReviewUnavailable
        If it has one of a later version.
    """
    script = _script()
    found = set(MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE}).get_current_heads())
    if unknown := found - {step.revision for step in script.walk_revisions()}:
        said = f"the review database has schema {min(unknown)}, which is newer than this medfusion knows"
        raise ReviewUnavailable(f"{said} ({script.get_current_head()}); update medfusion")
    return found == set(script.get_heads())


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
