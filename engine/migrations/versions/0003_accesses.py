"""Looks at personal data are counted for each key, so they are found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    accesses = sa.text("kind = 'access'")
    columns = ["tenant", "event_kind", "received_at"]
    op.create_index("entry_accesses", "entry", columns, sqlite_where=accesses, postgresql_where=accesses)
