"""What the law keeps of erased persons, until a time."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "restriction",
        *(required("entry", INTEGER), required("subject", sa.LargeBinary())),
        *(required("tenant", sa.Text()), required("until", INTEGER)),
        sa.PrimaryKeyConstraint("entry", "subject"),
        sa.ForeignKeyConstraint(["entry"], ["entry.row"]),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)
