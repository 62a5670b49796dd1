"""Modes that people switch on for a while."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "mode",
        *texts("tenant", "name"),
        *numbers("until", "changed"),
        *texts("by", "reason", "record"),
        sa.PrimaryKeyConstraint("tenant", "name"),
        sqlite_strict=True,
    )


def texts(*names: str) -> list[Any]:
    return [sa.Column(name, sa.Text(), nullable=False, autoincrement=False) for name in names]


def numbers(*names: str) -> list[Any]:
    return [sa.Column(name, INTEGER, nullable=False, autoincrement=False) for name in names]
