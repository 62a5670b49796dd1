"""What the ledger keeps beside its leaves past its term: counted, and taken out a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, or_, select

from engine.database import digest, entry, event_key, key_index, key_pending, restriction, sealed
from engine.ledger.entries import SUBJECT, pack_keys, unpack_keys

KINDS = ("decision", "event", "resolution", "notice", "appeal")
"""The entries that are about an event; what is sealed beside others has terms of its own (`engine.ledger.beside`)."""

Ends = Mapping[str, int]
"""Kind of event → after how many µs something of it ends."""


class Linked(NamedTuple):
    """An entry's pseudonyms, and which of them stay: the subjects of ciphertexts that are still there."""

    row: int
    pseudonyms: frozenset[str]
    stay: frozenset[str]


def count_restricted(connection: Connection, tenant: str, now: int) -> int:
    """How many ciphertexts of erased persons no law keeps any more."""
    where = (restriction.c.tenant == tenant, restriction.c.until <= now)
    return connection.execute(select(func.count()).select_from(restriction).where(*where)).scalar_one()


def drop_restricted(connection: Connection, tenant: str, now: int, size: int) -> int:
    """Delete up to `size` of them; how many there were."""
    query = (
        select(restriction.c.entry, restriction.c.subject)
        .where(restriction.c.tenant == tenant, restriction.c.until <= now)
        .limit(size)
    )
    rows = connection.execute(query).all()
    for row in rows:
        for table in (sealed, restriction):
            connection.execute(delete(table).where(table.c.entry == row.entry, table.c.subject == row.subject))
    return len(rows)


def count_personal(connection: Connection, tenant: str, ends: Ends, now: int) -> int:
    """How many ciphertexts are past their term."""
    return connection.execute(
        select(func.count()).select_from(_CELLS).where(*_old_cells(tenant, ends, now))
    ).scalar_one()


def drop_personal(connection: Connection, tenant: str, ends: Ends, now: int, size: int) -> int:
    """Delete up to `size` of them; how many there were."""
    query = select(sealed.c.entry, sealed.c.subject).select_from(_CELLS)
    rows = connection.execute(query.where(*_old_cells(tenant, ends, now)).limit(size)).all()
    for row in rows:
        connection.execute(delete(sealed).where(sealed.c.entry == row.entry, sealed.c.subject == row.subject))
    return len(rows)


def count_digests(connection: Connection, tenant: str, ends: Ends, now: int) -> int:
    """How many digests are past their term."""
    query = select(func.count()).select_from(_DIGESTS).where(digest.c.tenant == tenant, _over(ends, now))
    return connection.execute(query).scalar_one()


def drop_digests(connection: Connection, tenant: str, ends: Ends, now: int, size: int) -> int:
    """Delete up to `size` of them; how many there were."""
    query = select(digest.c.entry).select_from(_DIGESTS).where(digest.c.tenant == tenant, _over(ends, now)).limit(size)
    rows = list(connection.execute(query).scalars())
    connection.execute(delete(digest).where(digest.c.entry.in_(rows)))
    return len(rows)


def old_links(connection: Connection, tenant: str, ends: Ends, now: int, after: int, size: int) -> list[Linked]:
    """The next entries after a row whose pseudonyms are past their term; also those of which nothing has to go."""
    query = (
        select(event_key.c.entry, event_key.c.packed)
        .select_from(_LINKS)
        .where(event_key.c.tenant == tenant, event_key.c.entry > after, _over(ends, now))
        .order_by(event_key.c.entry)
        .limit(size)
    )
    rows = connection.execute(query).all()
    subjects: dict[int, set[str]] = {}
    named = sealed.c.entry.in_([row.entry for row in rows])
    for cell in connection.execute(select(sealed.c.entry, sealed.c.subject).where(named)):
        subjects.setdefault(cell.entry, set()).add(cell.subject.hex())
    return [
        Linked(
            row.entry,
            frozenset(each for _, each in unpack_keys(row.packed, subjects=True)),
            frozenset(
                each
                for path, each in unpack_keys(row.packed, subjects=True)
                if path == SUBJECT and each in subjects.get(row.entry, set())
            ),
        )
        for row in rows
    ]


def unlink(connection: Connection, link: Linked) -> None:
    """Take out what links an entry to others. That its sealed data can be found and erased is all that stays."""
    # First, so that whoever fills the index just now is waited for.
    connection.execute(delete(key_pending).where(key_pending.c.entry == link.row))
    gone = [bytes.fromhex(each) for each in sorted(link.pseudonyms - link.stay)]
    connection.execute(delete(key_index).where(key_index.c.entry == link.row, key_index.c.pseudonym.in_(gone)))
    here = event_key.c.entry == link.row
    if not link.stay:
        connection.execute(delete(event_key).where(here))
        return
    connection.execute(event_key.update().where(here).values(packed=pack_keys((), sorted(link.stay))))
    held = select(key_index.c.pseudonym).where(key_index.c.entry == link.row)
    known = set(connection.execute(held.where(key_index.c.pseudonym.in_(map(bytes.fromhex, link.stay)))).scalars())
    missing = [each for each in map(bytes.fromhex, sorted(link.stay)) if each not in known]
    if missing:
        connection.execute(key_index.insert(), [{"pseudonym": each, "entry": link.row} for each in missing])


_CELLS = sealed.join(entry, entry.c.row == sealed.c.entry).outerjoin(
    restriction, and_(restriction.c.entry == sealed.c.entry, restriction.c.subject == sealed.c.subject)
)
_DIGESTS = digest.join(entry, entry.c.row == digest.c.entry)
_LINKS = event_key.join(entry, entry.c.row == event_key.c.entry)


def _old_cells(tenant: str, ends: Ends, now: int) -> tuple[ColumnElement[bool], ...]:
    return sealed.c.tenant == tenant, restriction.c.until.is_(None), _over(ends, now)


def _over(ends: Ends, now: int) -> ColumnElement[bool]:
    """Of an entry: whether its kind of event ended before now."""
    terms = [and_(entry.c.event_kind == kind, entry.c.at < now - term) for kind, term in sorted(ends.items())]
    return and_(entry.c.kind.in_(KINDS), or_(false(), *terms))
