"""Rulebooks that wait for a second person."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "proposal",
        *(required(name, sa.Text()) for name in ("id", "tenant", "hash", "base", "author", "reason", "papers")),
        required("created", INTEGER),
        *(sa.Column("judged_by", sa.Text()), sa.Column("judged", INTEGER, autoincrement=False)),
        *(sa.Column("judgement", sa.Text()), required("approved", INTEGER)),
        *(sa.Column("activated_by", sa.Text()), sa.Column("activated", INTEGER, autoincrement=False)),
        sa.Column("forced", sa.Text()),
        *(required("content", sa.LargeBinary()), required("attached", sa.LargeBinary()), required("found", sa.Text())),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)
