"""Keys of tenants between the key service and the data keys of subjects."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "tenant_key",
        *(required("tenant", sa.Text()), required("version", INTEGER), required("service", sa.Text())),
        *(required("wrapped", sa.LargeBinary()), required("created", INTEGER), required("wrapped_at", INTEGER)),
        sa.PrimaryKeyConstraint("tenant", "version"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)
