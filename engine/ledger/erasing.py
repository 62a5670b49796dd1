"""What the ledger holds of one person beside its leaves: found, and taken out.

A person is found by pseudonyms, and is what the data sealed under their subjects is of. In an entry that is theirs goes
what is theirs: ciphertexts, and the pseudonyms of their role; with a buyer's those of the recipient, who is mostly the
same person. What names others stays: their data is sealed there, and their windows count the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Connection, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from engine.database import (
    digest,
    entry,
    event_key,
    key_index,
    key_pending,
    list_entry,
    restriction,
    sealed,
    standing,
    standing_step,
    subject_key,
)
from engine.ledger.beside import Copy, copies_about, drop_copies
from engine.ledger.entries import pack_keys, unpack_keys
from engine.ledger.reading import AT_ONCE, Carrying, entries_with, listed_under, whole
from engine.vault import Sealed, SubjectKey, subject_of

RoleOf: TypeAlias = Callable[[str, str], str]
"""(kind of event, path) → whose identity stands there: buyer, recipient, seller, referrer; empty when nobody's."""

_BUYER, _RECIPIENT = "buyer", "recipient"


@dataclass(frozen=True, slots=True)
class Trace:
    """One entry that holds something of a person: `keys` are its pseudonyms by path, `left` those that stay; `cells`
    the subjects of the person's ciphertexts in it, `others` those of other people's."""

    row: int
    id: str
    kind: str
    event_kind: str
    at: int
    leaf: bytes
    keys: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]
    cells: frozenset[str]
    others: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """What there is of a person: entries, subjects, ids of data keys with the time each was made (UTC µs), entries of
    lists (list, value), what was sent in disputes about these entries, and their names in profiles (pseudonyms)."""

    tenant: str
    traces: tuple[Trace, ...]
    subjects: frozenset[str]
    keys: Mapping[bytes, int]
    listed: tuple[tuple[str, str], ...]
    evidence: tuple[Copy, ...]
    stood: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.traces or self.keys or self.listed or self.stood)


@dataclass(frozen=True, slots=True)
class Resealed:
    """A ciphertext that stays until a time (UTC µs), for storage only, and under whose `subject` it was: it has a key
    and a subject of its own now."""

    row: int
    subject: str
    cell: Sealed
    until: int


def find_person(
    connection: Connection, tenant: str, pseudonyms: Collection[str], roles: Collection[str], role_of: RoleOf
) -> Person:
    """All that is kept of whoever has these pseudonyms."""
    named = frozenset(pseudonyms)
    subjects = {subject_of(role, each) for role in roles for each in named}
    asked = set(named) | subjects
    entries: dict[int, Carrying] = {}
    while asked:
        for row in entries_with(connection, tenant, asked):
            entries[row.row] = row
        found = {cell for row in entries.values() for cell in _mine(row, named, subjects, roles, role_of)[1]}
        asked = found - subjects
        subjects |= found
    traces = tuple(_trace(entries[row], named, subjects, roles, role_of) for row in sorted(entries))
    return Person(
        tenant,
        traces,
        frozenset(subjects),
        _keys_of(connection, tenant, subjects),
        tuple((row.list, row.value) for row in listed_under(connection, tenant, named)),
        copies_about(connection, tenant, _decisions(connection, tenant, traces)),
        _stood(connection, tenant, named),
    )


def _stood(connection: Connection, tenant: str, named: Collection[str]) -> tuple[str, ...]:
    """Those of these pseudonyms under which somebody stands in a tier of a profile."""
    where = (standing.c.tenant == tenant) & standing.c.subject.in_(sorted(named))
    return tuple(connection.execute(select(standing.c.subject).where(where)).scalars())


def _decisions(connection: Connection, tenant: str, traces: Iterable[Trace]) -> set[str]:
    """The decisions whose disputes may hold something of the person: their own, and those of orders in which they are:
    what was sent in a dispute has all events of the order, also those that are of others."""
    found = {trace.id for trace in traces}
    orders = {orjson.loads(trace.leaf).get("event", {}).get("order") for trace in traces} - {None}
    for some in _pieces(sorted(orders)):
        query = select(entry.c.id).where(
            entry.c.tenant == tenant, entry.c.order_id.in_(some), entry.c.kind == "decision"
        )
        found.update(connection.execute(query).scalars())
    return found


def cells_of(connection: Connection, trace: Trace) -> list[Sealed]:
    """The person's ciphertexts in an entry, with their keys."""
    stored = whole(connection, entry.c.row == trace.row)
    assert stored is not None, "entries are never deleted"
    return [cell for cell in stored.entry.sealed if cell.subject in trace.cells]


def take_out(
    connection: Connection,
    person: Person,
    keys: Collection[bytes],
    kept: Iterable[Resealed],
    evidence: Iterable[Copy],
) -> None:
    """Take out all of a person but what is `kept`, these data keys, and this evidence."""
    drop_copies(connection, evidence)
    staying = {(each.row, each.subject): each for each in kept}
    for trace in person.traces:
        _unlink(connection, trace)
        for subject in trace.cells:
            where = (sealed.c.entry == trace.row) & (sealed.c.subject == bytes.fromhex(subject))
            stays = staying.get((trace.row, subject))
            if stays is None:
                connection.execute(sealed.delete().where(where))
            else:
                cell, own = stays.cell, bytes.fromhex(stays.cell.subject)
                changed = {"subject": own, "key_id": cell.key_id, "ciphertext": cell.ciphertext}
                connection.execute(sealed.update().where(where).values(changed))
                row = {"entry": trace.row, "subject": own, "tenant": person.tenant, "until": stays.until}
                connection.execute(restriction.insert().values(row))
    store_keys(connection, [each.cell.key for each in staying.values() if each.cell.key is not None])
    for some in _pieces(sorted(keys)):
        connection.execute(subject_key.delete().where(subject_key.c.key_id.in_(some)))
    for some in _pieces(person.listed):
        names = tuple_(list_entry.c.list, list_entry.c.value)
        connection.execute(list_entry.delete().where(list_entry.c.tenant == person.tenant, names.in_(some)))
    for table in (standing, standing_step) if person.stood else ():
        mine = (table.c.tenant == person.tenant) & table.c.subject.in_(person.stood)
        connection.execute(table.delete().where(mine))


def store_keys(connection: Connection, keys: Iterable[SubjectKey]) -> None:
    """Put data keys in, each once."""
    rows = {
        key.id: {
            "key_id": key.id,
            "tenant": key.tenant,
            "subject": bytes.fromhex(key.subject),
            "kek_id": key.kek,
            "wrapped": key.wrapped,
            "created": key.created,
        }
        for key in keys
    }
    if rows:
        connection.execute(subject_key.insert(), list(rows.values()))


# What is whose


def _cell_roles(row: Carrying, roles: Collection[str]) -> dict[str, tuple[str, str]]:
    """Subject of each ciphertext in an entry → (role, identity) it was made of, as far as the entry's keys tell."""
    made = {subject_of(role, each): (role, each) for role in roles for _, each in unpack_keys(row.packed or b"")}
    return {subject: made[subject] for subject in row.subjects if subject in made}


def _mine(
    row: Carrying, named: frozenset[str], subjects: Collection[str], roles: Collection[str], role_of: RoleOf
) -> tuple[set[str], set[str]]:
    """(roles that the person has in an entry, the subjects of their ciphertexts there)."""
    keys = list(unpack_keys(row.packed or b""))
    made = _cell_roles(row, roles)
    cells = set(row.subjects) & set(subjects)
    theirs = {role_of(row.event_kind, path) for path, each in keys if each in named} - {""}
    theirs |= {made[cell][0] for cell in cells if cell in made}
    while True:
        identities = {each for path, each in keys if role_of(row.event_kind, path) in theirs}
        more = {subject for subject, (role, each) in made.items() if role in theirs or each in identities} - cells
        if not more:
            return theirs, cells
        cells |= more
        theirs |= {made[cell][0] for cell in more}


def _trace(
    row: Carrying, named: frozenset[str], subjects: Collection[str], roles: Collection[str], role_of: RoleOf
) -> Trace:
    theirs, cells = _mine(row, named, subjects, roles, role_of)
    gone = theirs | ({_RECIPIENT} if _BUYER in theirs else set())
    keys = tuple(unpack_keys(row.packed or b""))
    identities = {each for path, each in keys if role_of(row.event_kind, path) in theirs} | named
    left = tuple(
        (path, each)
        for path, each in keys
        if role_of(row.event_kind, path) not in {*gone, ""} and each not in identities
    )
    others = frozenset(row.subjects) - cells
    return Trace(*(row.row, row.id, row.kind, row.event_kind, row.at, row.leaf, keys, left, frozenset(cells), others))


def _keys_of(connection: Connection, tenant: str, subjects: Collection[str]) -> dict[bytes, int]:
    """The ids of these subjects' data keys, and when each was made. Reads the table once: it has no index for this."""
    found: dict[bytes, int] = {}
    for some in _pieces(sorted(map(bytes.fromhex, subjects))):
        query = select(subject_key.c.key_id, subject_key.c.created)
        query = query.where(subject_key.c.tenant == tenant, subject_key.c.subject.in_(some))
        found |= {row.key_id: row.created for row in connection.execute(query)}
    return found


def _unlink(connection: Connection, trace: Trace) -> None:
    """Take the person's pseudonyms and the digest out of an entry; leave those of others, found as before."""
    # First: whoever fills the index just now is waited for, and what it put there is seen by what follows.
    connection.execute(delete(key_pending).where(key_pending.c.entry == trace.row))
    gone = {each for _, each in trace.keys} | trace.cells
    for some in _pieces(sorted(map(bytes.fromhex, gone))):
        connection.execute(delete(key_index).where(key_index.c.entry == trace.row, key_index.c.pseudonym.in_(some)))
    here = event_key.c.entry == trace.row
    stay = {each for _, each in trace.left} | trace.others
    if stay:
        packed = pack_keys(trace.left, sorted(trace.others - {each for _, each in trace.left}))
        connection.execute(event_key.update().where(here).values(packed=packed))
        rows = [{"pseudonym": bytes.fromhex(each), "entry": trace.row} for each in sorted(stay)]
        dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(key_index).values(rows).on_conflict_do_nothing())
    else:
        connection.execute(delete(event_key).where(here))
    connection.execute(delete(digest).where(digest.c.entry == trace.row))


def _pieces(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE))
