"""The first schema. A migration is frozen once released: it repeats the tables instead of importing them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text()
BYTES = sa.LargeBinary()


def upgrade() -> None:
    ledger()
    personal_data()
    records()
    (guard_sqlite if op.get_bind().dialect.name == "sqlite" else guard_postgresql)()


def ledger() -> None:
    table(
        "batch",
        *(required("id", INTEGER), required("root", BYTES), required("size", INTEGER), required("leaves", BYTES)),
        *(required("signed_at", INTEGER), required("log", TEXT), required("key_id", TEXT)),
        required("signature", BYTES),
        key=["id"],
    )
    table(
        "entry",
        *(required("row", INTEGER), required("id", TEXT), required("tenant", TEXT), required("kind", TEXT)),
        *(optional("event_id", TEXT), required("event_kind", TEXT)),
        *(required("at", INTEGER), required("received_at", INTEGER)),
        *(optional("order_id", TEXT), optional("merchant_id", TEXT)),
        *(optional("verdict", TEXT), optional("refers_to", TEXT)),
        *(required("leaf", BYTES), required("leaf_hash", BYTES)),
        *(required("batch", INTEGER), required("batch_index", INTEGER), required("created", INTEGER)),
        sa.ForeignKeyConstraint(["batch"], ["batch.id"]),
        key=["row"],
    )
    op.create_index("entry_id", "entry", ["id"], unique=True)
    one_verdict = sa.text("kind IN ('decision', 'event')")
    op.create_index(
        *("entry_event", "entry", ["tenant", "event_id"]),
        unique=True,
        sqlite_where=one_verdict,
        postgresql_where=one_verdict,
    )
    op.create_index("entry_received", "entry", ["tenant", "received_at"])
    cases = sa.text("(kind = 'resolution' OR verdict IN ('challenge', 'review'))")
    op.create_index("entry_cases", "entry", ["tenant", "received_at"], sqlite_where=cases, postgresql_where=cases)
    changes = sa.text("kind = 'change'")
    op.create_index("entry_changes", "entry", ["event_kind", "row"], sqlite_where=changes, postgresql_where=changes)
    for name in ("order_id", "merchant_id", "verdict", "refers_to"):
        held = sa.text(f"{name} IS NOT NULL")
        columns = ["tenant", name, "received_at"]
        op.create_index(f"entry_{name}", "entry", columns, sqlite_where=held, postgresql_where=held)


def personal_data() -> None:
    table(
        "sealed",
        *(required("entry", INTEGER), required("subject", BYTES), required("tenant", TEXT)),
        *(required("key_id", BYTES), required("ciphertext", BYTES)),
        of_entry(),
        key=["entry", "subject"],
        clustered=True,
    )
    table(
        "subject_key",
        *(required("key_id", BYTES), required("tenant", TEXT), required("subject", BYTES)),
        *(required("kek_id", TEXT), required("wrapped", BYTES), required("created", INTEGER)),
        key=["key_id"],
        clustered=True,
    )
    for name, value in (("event_key", "packed"), ("digest", "digest")):
        columns = (required("entry", INTEGER), required("tenant", TEXT), required(value, BYTES))
        table(name, *columns, of_entry(), key=["entry"])
    table(
        "key_index",
        *(required("pseudonym", BYTES), required("entry", INTEGER)),
        key=["pseudonym", "entry"],
        clustered=True,
    )
    table("key_pending", required("entry", INTEGER), key=["entry"])


def records() -> None:
    table(
        "api_key",
        *(required("hash", BYTES), required("tenant", TEXT), required("name", TEXT), required("kind", TEXT)),
        *(required("scopes", TEXT), required("created", INTEGER)),
        *(optional("expires", INTEGER), optional("revoked", INTEGER)),
        key=["hash"],
    )
    table(
        "list_entry",
        *(required("tenant", TEXT), required("list", TEXT), required("value", TEXT), required("state", TEXT)),
        *(required("reason", TEXT), required("added_by", TEXT), required("added", INTEGER)),
        *(optional("approved_by", TEXT), optional("expires", INTEGER), optional("ended_by", TEXT)),
        optional("end_approved_by", TEXT),
        key=["tenant", "list", "value"],
    )
    table(
        "merchant",
        *(required("tenant", TEXT), required("id", TEXT), required("tier", TEXT)),
        *(required("reason", TEXT), required("updated", INTEGER)),
        key=["tenant", "id"],
    )
    table("rulebook", required("hash", TEXT), required("content", BYTES), required("first_seen", INTEGER), key=["hash"])
    table("setting", required("name", TEXT), required("value", TEXT), key=["name"])


def guard_sqlite() -> None:
    """Defence in depth: whoever owns the file can drop these, but a bug or a slip cannot change history."""
    for name in ("entry", "batch"):
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
            )


def guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION arbiter_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END$$"
    )
    for name in ("entry", "batch"):
        op.execute(
            f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION arbiter_append_only()"
        )
    # Leaves and ciphertexts do not shrink: trying to compress them is work for nothing.
    for name, column in (("sealed", "ciphertext"), ("event_key", "packed"), ("batch", "leaves")):
        op.execute(f"ALTER TABLE {name} ALTER COLUMN {column} SET STORAGE EXTERNAL")
    # Rows are numbered by a sequence that each entry of a batch draws from.
    op.execute("CREATE SEQUENCE entry_row OWNED BY entry.row")
    op.execute("CREATE SEQUENCE batch_id OWNED BY batch.id")


def table(name: str, *columns: Any, key: list[str], clustered: bool = False) -> None:
    rowid = {"sqlite_with_rowid": False} if clustered else {}
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_strict=True, **rowid)


def required(name: str, kind: Any) -> Any:
    # Numbers come from the ledger, never from a hidden default of the database.
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def optional(name: str, kind: Any) -> Any:
    return sa.Column(name, kind, nullable=True)


def of_entry() -> Any:
    return sa.ForeignKeyConstraint(["entry"], ["entry.row"])
