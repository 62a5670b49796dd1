"""Open appeals are looked for again and again, so they are found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    appeals = sa.text("kind = 'appeal'")
    columns = ["tenant", "received_at"]
    op.create_index("entry_appeals", "entry", columns, sqlite_where=appeals, postgresql_where=appeals)
