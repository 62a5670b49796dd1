"""The log: places for the entries, the tree over them, checkpoints and who saw them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text()
BYTES = sa.LargeBinary()


def upgrade() -> None:
    rows = (required("low", INTEGER), required("high", INTEGER))
    table("unplaced", required("batch", INTEGER), *rows, of("batch", "batch.id"), key=["batch"])
    rows = (required("low", INTEGER), required("high", INTEGER))
    table(
        "placed",
        *(required("first", INTEGER), required("size", INTEGER), required("batch", INTEGER), *rows),
        *(sa.UniqueConstraint("batch"), of("batch", "batch.id")),
        key=["first"],
    )
    table(
        "tile",
        *(required("level", INTEGER), required("number", INTEGER), required("hashes", BYTES)),
        key=["level", "number"],
    )
    table(
        "checkpoint",
        *(required("size", INTEGER), required("root", BYTES), required("note", TEXT), required("signed_at", INTEGER)),
        key=["size"],
    )
    table(
        "anchor",
        *(required("size", INTEGER), required("name", TEXT), required("kind", TEXT), required("at", INTEGER)),
        *(required("proof", BYTES), of("size", "checkpoint.size")),
        key=["size", "name"],
    )
    # What was written before there was a log gets its place as what is written now.
    op.execute("INSERT INTO unplaced (batch, low, high) SELECT batch, min(row), max(row) FROM entry GROUP BY batch")
    guard = guard_sqlite if op.get_bind().dialect.name == "sqlite" else guard_postgresql
    for name in ("placed", "checkpoint"):
        guard(name)


def guard_sqlite(name: str) -> None:
    """As in the first schema: a slip cannot change history."""
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        )


def guard_postgresql(name: str) -> None:
    op.execute(
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION arbiter_append_only()"
    )


def table(name: str, *columns: Any, key: list[str]) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_strict=True)


def required(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def of(column: str, other: str) -> Any:
    return sa.ForeignKeyConstraint([column], [other])
