"""Where those stand whom profiles are about, and how they came there."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "standing",
        *(required(name, sa.Text()) for name in ("tenant", "profile", "subject", "id")),
        *(sa.Column("tier", sa.Text()), required("since", INTEGER), required("points", INTEGER)),
        *(required("factors", sa.Text()), optional("assessed", INTEGER), required("review", INTEGER)),
        *(sa.Column("held_by", sa.Text()), optional("held_until", INTEGER), required("set_by", sa.Text())),
        sa.PrimaryKeyConstraint("tenant", "profile", "subject"),
        sqlite_strict=True,
    )
    op.create_index("standing_review", "standing", ["review"])
    op.create_table(
        "standing_step",
        *(required(name, sa.Text()) for name in ("tenant", "profile", "subject", "id")),
        *(required("at", INTEGER), sa.Column("before", sa.Text()), required("after", sa.Text())),
        *(optional("points", INTEGER), required("factors", sa.Text()), required("why", sa.Text())),
        *(required("by", sa.Text()), required("reason", sa.Text()), optional("until", INTEGER)),
        required("record", sa.Text()),
        sa.PrimaryKeyConstraint("tenant", "profile", "subject", "id"),
        sqlite_strict=True,
    )


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def optional(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, autoincrement=False)
