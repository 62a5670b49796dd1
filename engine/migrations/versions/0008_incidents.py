"""Incidents with their steps, and what opinion monitors report."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "incident",
        *texts("id", "tenant", "playbook", "rulebook"),
        *numbers("drill"),
        *texts("cause"),
        *numbers("known", "opened"),
        *texts("opened_by", "reason"),
        sa.Column("closed", INTEGER, autoincrement=False),
        sa.Column("closed_by", sa.Text()),
        sa.Column("conclusion", sa.Text()),
        *texts("record"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_index("incident_playbook", "incident", ["tenant", "playbook"])
    op.create_table(
        "incident_step",
        *texts("incident", "step", "state"),
        *numbers("at"),
        *texts("by", "evidence", "record"),
        sa.PrimaryKeyConstraint("incident", "step"),
        sa.ForeignKeyConstraint(["incident"], ["incident.id"]),
        sqlite_strict=True,
    )
    op.create_table(
        "opinion",
        *texts("tenant", "source", "id"),
        *numbers("at", "received_at", "sentiment", "volume"),
        *texts("record"),
        sa.PrimaryKeyConstraint("tenant", "source", "id"),
        sqlite_strict=True,
    )
    op.create_index("opinion_received", "opinion", ["tenant", "received_at"])


def texts(*names: str) -> list[Any]:
    return [sa.Column(name, sa.Text(), nullable=False, autoincrement=False) for name in names]


def numbers(*names: str) -> list[Any]:
    return [sa.Column(name, INTEGER, nullable=False, autoincrement=False) for name in names]
