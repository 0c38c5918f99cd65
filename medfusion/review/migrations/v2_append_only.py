"""Triggers that refuse to change or delete an event."""

from __future__ import annotations

from alembic import op

revision = "2"
down_revision = "1"

_SQLITE_REFUSES = "BEGIN SELECT RAISE(ABORT, 'review_events is append-only'); END"
_SQLITE = (
    f"CREATE TRIGGER review_events_no_update BEFORE UPDATE ON review_events {_SQLITE_REFUSES}",
    f"CREATE TRIGGER review_events_no_delete BEFORE DELETE ON review_events {_SQLITE_REFUSES}",
    # INSERT OR REPLACE deletes without asking the trigger on DELETE.
    "CREATE TRIGGER review_events_no_replace BEFORE INSERT ON review_events "
    "WHEN EXISTS (SELECT 1 FROM review_events WHERE seq = NEW.seq OR previous = NEW.previous) "
    "BEGIN SELECT RAISE(ABORT, 'review_events is append-only'); END",
)
_POSTGRESQL = (
    "CREATE FUNCTION review_events_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'review_events is append-only'; END $$",
    "CREATE TRIGGER review_events_no_change BEFORE UPDATE OR DELETE ON review_events "
    "FOR EACH ROW EXECUTE FUNCTION review_events_refuse()",
    "CREATE TRIGGER review_events_no_truncate BEFORE TRUNCATE ON review_events "
    "FOR EACH STATEMENT EXECUTE FUNCTION review_events_refuse()",
)


def upgrade() -> None:
    """Make the triggers."""
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
