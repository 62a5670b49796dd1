"""Old keys and what they sealed, a batch at a time, and what takes their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, or_, select

from engine.database import entry, restriction, sealed, subject_key
from engine.ledger.erasing import store_keys
from engine.ledger.reading import AT_ONCE, key_of, tenant_keys, use_of
from engine.vault import Sealed, SubjectKey

Place = tuple[int, bytes]
"""Where a ciphertext lies: entry and subject."""


_KEY = [column.label(f"key_{column.name}") for column in subject_key.c]


@dataclass(frozen=True, slots=True)
class Old:
    """A ciphertext under an old key."""

    place: Place
    cell: Sealed


def old_keys(tenant: str, current: str, size: int) -> Callable[[Connection], list[SubjectKey]]:
    """The next data keys of a tenant that something else than its key `current` wraps."""
    query = (
        subject_key.select()
        .where(subject_key.c.tenant == tenant, subject_key.c.kek_id != current)
        .order_by(subject_key.c.key_id)
        .limit(size)
    )

    def work(connection: Connection) -> list[SubjectKey]:
        above = tenant_keys(connection, tenant)
        return [key for row in connection.execute(query).all() if (key := key_of(row, above)) is not None]

    return work


def put_wraps(wrapped: Iterable[tuple[SubjectKey, SubjectKey]]) -> Callable[[Connection], int]:
    """Each data key as it is wrapped now in place of how it was read; how many were still so."""

    def work(connection: Connection) -> int:
        count = 0
        for before, after in wrapped:
            where = and_(subject_key.c.key_id == before.id, subject_key.c.wrapped == before.wrapped)
            changed = subject_key.update().where(where).values(kek_id=after.kek, wrapped=after.wrapped)
            count += connection.execute(changed).rowcount
        return count

    return work


def old_cells(tenant: str, before: int, place: Place, size: int) -> Callable[[Connection], list[Old]]:
    """The next ciphertexts of a tenant after a place whose data keys were made before a time (UTC µs)."""
    after = or_(sealed.c.entry > place[0], and_(sealed.c.entry == place[0], sealed.c.subject > place[1]))
    joined = (
        sealed.join(subject_key, subject_key.c.key_id == sealed.c.key_id)
        .join(entry, entry.c.row == sealed.c.entry)
        .outerjoin(
            restriction,
            and_(restriction.c.entry == sealed.c.entry, restriction.c.subject == sealed.c.subject),
        )
    )
    query = (
        select(*sealed.c, entry.c.id, entry.c.kind, entry.c.event_kind, restriction.c.until, *_KEY)
        .select_from(joined)
        .where(sealed.c.entry >= place[0], after, sealed.c.tenant == tenant, subject_key.c.created < before)
        .order_by(sealed.c.entry, sealed.c.subject)
        .limit(size)
    )

    def work(connection: Connection) -> list[Old]:
        above = tenant_keys(connection, tenant)
        found = []
        for row in connection.execute(query).all():
            key = SubjectKey(
                *(row.key_tenant, row.key_subject.hex(), row.key_key_id, row.key_kek_id),
                *(row.key_wrapped, row.key_created),
                stored=True,
                under=above.get(row.key_kek_id),
            )
            use = use_of(row.kind, row.event_kind, row.until)
            cell = Sealed(*(row.tenant, row.id, row.subject.hex(), row.key_id, row.ciphertext, key), use, row.until)
            found.append(Old((row.entry, row.subject), cell))
        return found

    return work


def put_cells(changed: Sequence[tuple[Old, Sealed]]) -> Callable[[Connection], int]:
    """Each ciphertext as it is sealed now in place of how it was read, with its key; how many were still so.

    What was erased meanwhile is not there to be changed, and its new key is not stored either.
    """

    def work(connection: Connection) -> int:
        used: dict[bytes, SubjectKey] = {}
        count = 0
        for old, new in changed:
            where = and_(
                sealed.c.entry == old.place[0],
                sealed.c.subject == old.place[1],
                sealed.c.ciphertext == old.cell.ciphertext,
            )
            values = {"key_id": new.key_id, "ciphertext": new.ciphertext}
            if connection.execute(sealed.update().where(where).values(values)).rowcount:
                count += 1
                assert new.key is not None, "it was sealed with one"
                used[new.key_id] = new.key
        known = select(subject_key.c.key_id).where(subject_key.c.key_id.in_(sorted(used)))
        for id in connection.execute(known).scalars():
            del used[id]
        store_keys(connection, used.values())
        return count

    return work


def clear_keys(tenant: str, before: int) -> Callable[[Connection], int]:
    """Destroy the data keys of a tenant made before a time (UTC µs) that no ciphertext names; how many."""
    # As a join: both databases go through both tables once, where the one has no index.
    unused = (
        select(subject_key.c.key_id)
        .select_from(subject_key.outerjoin(sealed, sealed.c.key_id == subject_key.c.key_id))
        .where(subject_key.c.tenant == tenant, subject_key.c.created < before, sealed.c.entry.is_(None))
    )

    def work(connection: Connection) -> int:
        ids = sorted(connection.execute(unused).scalars())
        for at in range(0, len(ids), AT_ONCE):
            connection.execute(subject_key.delete().where(subject_key.c.key_id.in_(ids[at : at + AT_ONCE])))
        return len(ids)

    return work


def used_names(tenant: str) -> Callable[[Connection], frozenset[str]]:
    """What wraps the data keys of a tenant, by name."""
    query = select(subject_key.c.kek_id).where(subject_key.c.tenant == tenant).distinct()
    return lambda connection: frozenset(connection.execute(query).scalars())
