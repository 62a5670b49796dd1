"""Images of listings, and the known ones they are compared with."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "image",
        *(required("tenant", sa.Text()), required("sha256", sa.Text()), required("looked", INTEGER)),
        *(required("seen", sa.Text()), required("hashes", sa.LargeBinary())),
        sa.PrimaryKeyConstraint("tenant", "sha256"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "image_reference",
        *(required(name, sa.Text()) for name in ("tenant", "id", "kind", "label", "sha256")),
        required("hashes", sa.LargeBinary()),
        *(required(name, sa.Text()) for name in ("state", "reason", "added_by")),
        required("added", INTEGER),
        sa.Column("expires", INTEGER, autoincrement=False),
        *(sa.Column("ended_by", sa.Text()), sa.Column("end_approved_by", sa.Text())),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_strict=True,
    )


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)
