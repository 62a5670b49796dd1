"""The sealed copies of what was sent in disputes: each lies in the record of the access that made it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, delete, select

from engine import database as db
from engine.database import entry, event_key, key_index, key_pending, sealed, subject_key
from engine.ledger.reading import AT_ONCE, EVIDENCE


class Copy(NamedTuple):
    """A copy: the row and id of its record, the id of the decision it is about, and when it was made (UTC µs)."""

    row: int
    id: str
    about: str
    at: int


def copies(connection: Connection, tenant: str, until: int | None = None) -> list[Copy]:
    """The copies of a tenant that are still there, made before `until`, in the order in which they came."""
    # As text, so that the index of accesses is known to hold them.
    query = (
        select(entry.c.row, entry.c.id, entry.c.leaf, entry.c.received_at)
        .join(sealed, sealed.c.entry == entry.c.row)
        .where(db.ACCESSES, entry.c.tenant == tenant, entry.c.event_kind == EVIDENCE)
        .order_by(entry.c.row)
    )
    if until is not None:
        query = query.where(entry.c.received_at < until)
    return [
        Copy(row.row, row.id, orjson.loads(row.leaf)["object"], row.received_at)
        for row in connection.execute(query).all()
    ]


def copies_about(connection: Connection, tenant: str, decisions: Collection[str]) -> tuple[Copy, ...]:
    """The copies that are about one of these decisions. Copies end: so there are never many to look through."""
    return tuple(each for each in copies(connection, tenant) if each.about in decisions)


def drop_copies(connection: Connection, gone: Iterable[Copy]) -> None:
    """Delete copies with their keys, which seal nothing else."""
    rows = [each.row for each in gone]
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        cells = connection.execute(select(sealed.c.key_id, sealed.c.subject).where(sealed.c.entry.in_(some))).all()
        # First, so that whoever fills the index just now is waited for.
        connection.execute(delete(key_pending).where(key_pending.c.entry.in_(some)))
        connection.execute(delete(key_index).where(key_index.c.pseudonym.in_([cell.subject for cell in cells])))
        connection.execute(delete(event_key).where(event_key.c.entry.in_(some)))
        connection.execute(delete(sealed).where(sealed.c.entry.in_(some)))
        connection.execute(delete(subject_key).where(subject_key.c.key_id.in_([cell.key_id for cell in cells])))
