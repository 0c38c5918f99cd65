"""The table of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "review_events",
        # SQLite keeps the highest number that there ever was of a column that counts by itself.
        sa.Column("seq", sa.Integer if sqlite else sa.BigInteger, primary_key=True, autoincrement=sqlite),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text),
        sa.Column("prediction_time", sa.Text),
        sa.Column("model_id", sa.Text),
        sa.Column("input_hash", sa.Text),
        sa.Column("what", sa.Text, nullable=False),
        # No two events follow the same one: the chain cannot fork, whoever writes.
        sa.Column("previous", sa.Text, nullable=False, unique=True),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("review_events_about", "review_events", ["action", "subject_id", "prediction_time"])
