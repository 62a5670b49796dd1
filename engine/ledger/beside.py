"""What is sealed beside records that are about no event: reasons, and copies of what was sent in disputes.

It has terms of its own, and goes with what leads to it. A copy lies in the record of the access that made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, select

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
        cells = connection.execute(sealed.select().where(sealed.c.entry.in_(rows[at : at + AT_ONCE]))).all()
        _drop(connection, cells)
        connection.execute(delete(subject_key).where(subject_key.c.key_id.in_([cell.key_id for cell in cells])))


def count_reasons(connection: Connection, tenant: str, before: int) -> int:
    """How many reasons of changes and accesses were written before a time (UTC µs)."""
    query = select(func.count()).select_from(_REASONS).where(*_old_reasons(tenant, before))
    return connection.execute(query).scalar_one()


def drop_reasons(connection: Connection, tenant: str, before: int, size: int) -> int:
    """Delete up to `size` of them; how many there were. Their keys may seal other data of the same person."""
    query = select(*sealed.c).select_from(_REASONS).where(*_old_reasons(tenant, before)).limit(size)
    cells = connection.execute(query).all()
    _drop(connection, cells)
    return len(cells)


_REASONS = sealed.join(entry, entry.c.row == sealed.c.entry)


def _old_reasons(tenant: str, before: int) -> tuple[ColumnElement[bool], ...]:
    reason = entry.c.kind.in_(("change", "access")) & (entry.c.event_kind != EVIDENCE)
    return sealed.c.tenant == tenant, reason, entry.c.received_at < before


def _drop(connection: Connection, cells: Iterable[Any]) -> None:
    """Delete ciphertexts, each the only one of its record, and what leads to them."""
    for cell in cells:
        # First, so that whoever fills the index just now is waited for.
        connection.execute(delete(key_pending).where(key_pending.c.entry == cell.entry))
        named = (key_index.c.pseudonym == cell.subject, key_index.c.entry == cell.entry)
        connection.execute(delete(key_index).where(*named))
        for table in (event_key, sealed):
            connection.execute(delete(table).where(table.c.entry == cell.entry))
