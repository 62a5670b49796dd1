"""Reading the ledger back: one entry whole, a page of many, the facts that windows are rebuilt from."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, text

from engine import database as db
from engine.database import (
    batch,
    digest,
    entry,
    event_key,
    key_index,
    key_pending,
    list_entry,
    placed,
    restriction,
    sealed,
    subject_key,
    tenant_key,
)
from engine.errors import RequestRefused
from engine.ledger.entries import Entry, Fact, Filter, Stored, unpack_keys
from engine.receipt import Batch
from engine.vault import DISPUTE, RESTRICTED, SEALED, Sealed, SubjectKey, TenantKey, tenant_key_name

EVIDENCE = "dispute_pack"
"""The accesses in whose records lies a sealed copy of what was sent."""

AnyRow = Any
"""A SQLAlchemy row: its type would spell out every column of every query."""

_JOINED = entry.join(batch, entry.c.batch == batch.c.id)
_PROOF = (batch.c.root, batch.c.size, batch.c.leaves, batch.c.signed_at, batch.c.log, batch.c.key_id, batch.c.signature)
_STORED = select(*entry.c, *_PROOF).select_from(_JOINED)
_BESIDE = _JOINED.outerjoin(event_key, event_key.c.entry == entry.c.row).outerjoin(
    digest, digest.c.entry == entry.c.row
)
_WHOLE = select(*entry.c, *_PROOF, event_key.c.packed, digest.c.digest).select_from(_BESIDE)


def stored(row: AnyRow) -> Stored:
    """A row of entry and batch as a value."""
    of = Batch(row.log, row.root, row.size, row.signed_at, row.key_id, row.signature)
    return Stored(entry_of(row), row.row, row.created, of, row.batch, row.leaves, row.batch_index)


def entry_of(row: AnyRow) -> Entry:
    """A row of entry as a value, without what is sealed, keys and digest."""
    return Entry(
        *(row.id, row.tenant, row.kind, row.event_id, row.event_kind, row.at, row.received_at, row.leaf),
        refers_to=row.refers_to,
        order_id=row.order_id,
        merchant_id=row.merchant_id,
        verdict=row.verdict,
    )


def whole(connection: Connection, *conditions: Any) -> Stored | None:
    """The one entry that meets `conditions`, with its sealed data, keys and digest."""
    row = connection.execute(_WHOLE.where(*conditions)).one_or_none()
    if row is None:
        return None
    found = stored(row)
    keys = tuple(unpack_keys(row.packed)) if row.packed else ()
    cells = _cells(connection, row)
    return replace(found, entry=replace(found.entry, sealed=cells, keys=keys, digest=row.digest))


def _cells(connection: Connection, of: AnyRow) -> tuple[Sealed, ...]:
    cells = connection.execute(sealed.select().where(sealed.c.entry == of.row).order_by(sealed.c.subject)).all()
    named = subject_key.c.key_id.in_([cell.key_id for cell in cells])
    keys = {row.key_id: row for row in connection.execute(subject_key.select().where(named))} if cells else {}
    above = tenant_keys(connection, of.tenant) if keys else {}
    kept = connection.execute(restriction.select().where(restriction.c.entry == of.row)).all() if keys else []
    until = {row.subject: row.until for row in kept}
    return tuple(
        Sealed(
            *(of.tenant, of.id, cell.subject.hex(), cell.key_id, cell.ciphertext),
            key=key_of(keys.get(cell.key_id), above),
            table=use_of(of.kind, of.event_kind, until.get(cell.subject)),
            restricted=until.get(cell.subject),
        )
        for cell in cells
    )


def use_of(kind: str, event_kind: str, until: int | None) -> str:
    """What the key of a ciphertext is for: that of an entry of this kind, which the law keeps until a time or not."""
    if until is not None:
        return RESTRICTED
    return DISPUTE if (kind, event_kind) == ("access", EVIDENCE) else SEALED


def entries_with(connection: Connection, tenant: str, pseudonyms: Collection[str]) -> list[Carrying]:
    """All entries of a tenant that carry one of these pseudonyms."""
    carry = [_with_pseudonym(each, connection.dialect.name) for each in sorted(pseudonyms)]
    rows = sorted({row[0] for query in carry for row in connection.execute(query)})
    found: list[Carrying] = []
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        subjects: dict[int, list[str]] = {}
        # What a law keeps is nobody's any more.
        kept = and_(restriction.c.entry == sealed.c.entry, restriction.c.subject == sealed.c.subject)
        cells = select(sealed.c.entry, sealed.c.subject).select_from(sealed.outerjoin(restriction, kept))
        for cell in connection.execute(cells.where(sealed.c.entry.in_(some), restriction.c.until.is_(None))):
            subjects.setdefault(cell.entry, []).append(cell.subject.hex())
        query = _CARRYING.where(entry.c.tenant == tenant, entry.c.row.in_(some))
        found += [Carrying(*row, subjects.get(row.row, [])) for row in connection.execute(query)]
    return found


def tenant_keys(connection: Connection, tenant: str) -> dict[str, TenantKey]:
    """All versions of a tenant's key by their names. They are few."""
    rows = connection.execute(tenant_key.select().where(tenant_key.c.tenant == tenant))
    return {tenant_key_name(row.version): TenantKey(*row) for row in rows}


def key_of(row: AnyRow, above: Mapping[str, TenantKey]) -> SubjectKey | None:
    """A row of `subject_key` as a value, where `above` holds the keys of its tenant; None for no row."""
    if row is None:
        return None
    return SubjectKey(
        *(row.tenant, row.subject.hex(), row.key_id, row.kek_id, row.wrapped, row.created),
        stored=True,
        under=above.get(row.kek_id),
    )


class Carrying(NamedTuple):
    """An entry with its pseudonyms, packed, and the subjects of its ciphertexts (hex)."""

    row: int
    id: str
    kind: str
    event_kind: str
    at: int
    leaf: bytes
    packed: bytes | None
    subjects: list[str]


AT_ONCE = 400
"""Rows named in one statement: databases bound how many parameters it has."""

_CARRYING = select(
    *(entry.c.row, entry.c.id, entry.c.kind, entry.c.event_kind, entry.c.at, entry.c.leaf, event_key.c.packed)
).select_from(entry.outerjoin(event_key, event_key.c.entry == entry.c.row))

_EQUAL = ("verdict", "kind", "event_kind", "merchant_id", "order_id", "refers_to")


def page_query(tenant: str, wanted: Filter, cursor: str | None, dialect: str) -> Select[Any]:
    """The entries `wanted` shows after `cursor`, newest first."""
    conditions: list[Any] = [entry.c.tenant == tenant]
    named = ((name, getattr(wanted, name)) for name in _EQUAL)
    conditions += [entry.c[name] == value for name, value in named if value is not None]
    if wanted.event_id is not None:
        # As text, so that the index of event ids is known to hold it.
        conditions += [entry.c.event_id == wanted.event_id, db.ONE_VERDICT]
    if wanted.since is not None:
        conditions.append(entry.c.received_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(entry.c.received_at < wanted.until)
    if wanted.pseudonym is not None:
        conditions.append(entry.c.row.in_(_with_pseudonym(wanted.pseudonym, dialect)))
    if cursor is not None:
        conditions.append(_before(*_place(cursor)))
    return _STORED.where(*conditions).order_by(entry.c.received_at.desc(), entry.c.row.desc())


def _before(received_at: int, row: int) -> ColumnElement[bool]:
    tie = and_(entry.c.received_at == received_at, entry.c.row < row)
    # The first term alone lets the index be used; the second orders what was received in one microsecond.
    return and_(entry.c.received_at <= received_at, or_(entry.c.received_at < received_at, tie))


def _with_pseudonym(pseudonym: str, dialect: str) -> Any:
    """The rows that carry `pseudonym`: indexed ones, and those whose pseudonyms still wait for the index."""
    try:
        wanted = bytes.fromhex(pseudonym)
    except ValueError:
        raise RequestRefused("a pseudonym is 32 hex digits") from None
    find = func.instr if dialect == "sqlite" else func.pg_catalog.position
    waiting = event_key.join(key_pending, event_key.c.entry == key_pending.c.entry)
    indexed = select(key_index.c.entry).where(key_index.c.pseudonym == wanted)
    return indexed.union_all(select(event_key.c.entry).select_from(waiting).where(find(event_key.c.packed, wanted) > 0))


def cursor_of(row: AnyRow) -> str:
    """An opaque word for the place after `row`."""
    return _word(row.received_at, row.row)


def _word(received_at: int, row: int) -> str:
    return urlsafe_b64encode(f"{received_at}.{row}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[int, int]:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        received_at, row = text.split(".")
        place = int(received_at), int(row)
    except (Base64Error, ValueError):
        raise RequestRefused("the cursor is not one this API gave out") from None
    if not all(0 <= number < 2**63 for number in place) or _word(*place) != cursor:
        raise RequestRefused("the cursor is not one this API gave out")
    return place


def last_rulebook_change() -> Select[Any]:
    """The change of the rulebook that was recorded last."""
    return _STORED.where(*_RULEBOOK).order_by(entry.c.row.desc()).limit(1)


# Both as text, so that the index of changes is known to hold them.
_RULEBOOK = (db.CHANGES, text("event_kind = 'rulebook'"))


def rulebook_changes() -> Select[Any]:
    """The leaves of the changes of the rulebook, the first one first."""
    return select(entry.c.leaf).where(*_RULEBOOK).order_by(entry.c.row)


def key_changes() -> Select[Any]:
    """The leaves of the changes of API keys, the first one first."""
    # As text, so that the index of changes is known to hold them.
    changes = (db.CHANGES, text("event_kind IN ('key_created', 'key_revoked')"))
    return select(entry.c.leaf).where(*changes).order_by(entry.c.row)


def alert_changes(tenant: str | None = None) -> Select[Any]:
    """The leaves of the changes of alerts, of one tenant or of all, the first one first."""
    # As text, so that the index of changes is known to hold them.
    query = select(entry.c.leaf).where(db.CHANGES, text("event_kind IN ('alert_raised', 'alert_cleared')"))
    return (query if tenant is None else query.where(entry.c.tenant == tenant)).order_by(entry.c.row)


def list_changes(tenant: str) -> Select[Any]:
    """The leaves of the changes of a tenant's list entries, the first one first."""
    # As text, so that the index of changes is known to hold them.
    changes = (db.CHANGES, text("event_kind LIKE 'list_entry%'"))
    return select(entry.c.leaf).where(*changes, entry.c.tenant == tenant).order_by(entry.c.row)


def changes(tenant: str, what: str) -> Select[Any]:
    """The leaves of the changes of one sort of a tenant, the first one first."""
    # As text, so that the index of changes is known to hold them.
    return (
        select(entry.c.leaf)
        .where(db.CHANGES, entry.c.tenant == tenant, entry.c.event_kind == what)
        .order_by(entry.c.row)
    )


def listed_under(connection: Connection, tenant: str, values: Collection[str]) -> Sequence[AnyRow]:
    """The rows of a tenant's list entries that are one of these values."""
    named = list_entry.c.value.in_(sorted(values))
    return connection.execute(list_entry.select().where(list_entry.c.tenant == tenant, named)).all()


def accesses(tenant: str, what: str, since: int) -> Callable[[Connection], list[bytes]]:
    """The leaves of a tenant's accesses of a sort from `since` on, the first one first."""
    # As text, so that the index of accesses is known to hold them.
    query = (
        select(entry.c.leaf)
        .where(db.ACCESSES, entry.c.tenant == tenant, entry.c.event_kind == what, entry.c.received_at >= since)
        .order_by(entry.c.received_at, entry.c.row)
    )
    return lambda connection: list(connection.execute(query).scalars())


def appeals(tenant: str, since: int) -> Callable[[Connection], list[bytes]]:
    """The leaves of a tenant's steps of appeals from `since` on, the first one first."""
    # As text, so that the index of appeals is known to hold them.
    query = (
        select(entry.c.leaf)
        .where(db.APPEALS, entry.c.tenant == tenant, entry.c.received_at >= since)
        .order_by(entry.c.received_at, entry.c.row)
    )
    return lambda connection: list(connection.execute(query).scalars())


def newest_decision() -> Select[Any]:
    """The decision that was written last, of all tenants."""
    return _STORED.where(entry.c.kind == "decision").order_by(entry.c.row.desc()).limit(1)


NEWEST = (2**63 - 1, 2**63 - 1)
"""The place (received, row) above all entries."""


def cases_before(
    tenant: str, since: int, above: int, place: tuple[int, int], size: int
) -> Callable[[Connection], list[AnyRow]]:
    """(row, received_at) of the next cases of a tenant, newest first, below a place, not before `since`, in a row above
    `above`."""
    received_at, row = place
    query = (
        select(entry.c.row, entry.c.received_at)
        .where(entry.c.tenant == tenant, entry.c.received_at >= since, entry.c.row > above)
        .where(_before(received_at, row), db.CASES)
        .order_by(entry.c.received_at.desc(), entry.c.row.desc())
        .limit(size)
    )
    return lambda connection: list(connection.execute(query).all())


def leaves_of(rows: Sequence[int]) -> Callable[[Connection], list[bytes]]:
    """The leaves in these rows, newest first."""
    query = select(entry.c.leaf).where(entry.c.row.in_(rows)).order_by(entry.c.received_at.desc(), entry.c.row.desc())
    return lambda connection: list(connection.execute(query).scalars())


def next_tenant(after: str) -> Callable[[Connection], str | None]:
    """The tenant after `after` in alphabetical order, None after the last."""
    # Hops from tenant to tenant through the index; DISTINCT would read every row.
    query = select(func.min(entry.c.tenant)).where(entry.c.tenant > after)
    return lambda connection: connection.execute(query).scalar()


_FACTS = (
    select(
        *(entry.c.id, entry.c.tenant, entry.c.kind, entry.c.event_kind, entry.c.event_id, entry.c.refers_to),
        *(entry.c.at, entry.c.received_at, entry.c.row, entry.c.leaf, event_key.c.packed),
    )
    .select_from(entry.outerjoin(event_key, event_key.c.entry == entry.c.row))
    .where(db.ONE_VERDICT)
)


def placed_in(first: int, end: int) -> Callable[[Connection], list[tuple[int, AnyRow]]]:
    """The entries at positions `first` until before `end` of the log, each with its position, in order."""

    def read(connection: Connection) -> list[tuple[int, AnyRow]]:
        # A batch that begins before `first` may reach into it.
        begin = connection.execute(select(func.max(placed.c.first)).where(placed.c.first <= first)).scalar()
        query = placed.select().where(placed.c.first >= (begin or 0), placed.c.first < end)
        batches = connection.execute(query).all()
        starts = {each.batch: each.first for each in batches}
        found = []
        # Rows by their own key: a join over `batch` would look through all of them, again and again.
        for low, high in _runs((each.low, each.high) for each in batches):
            for row in connection.execute(entry.select().where(entry.c.row.between(low, high))):
                place = starts.get(row.batch, end) + row.batch_index
                if first <= place < end:
                    found.append((place, row))
        return sorted(found, key=itemgetter(0))

    return read


def _runs(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of rows, put together where they touch or overlap."""
    low, high = None, -1
    for begin, end in sorted(spans):
        if low is not None and begin > high + 1:
            yield low, high
            low = None
        low, high = begin if low is None else low, max(high, end)
    if low is not None:
        yield low, high


def positions_of(since: int | None, until: int | None) -> Callable[[Connection], tuple[int, int]]:
    """The positions from the first until after the last entry received from `since` until before `until`."""
    rows = select(func.min(entry.c.row).label("low"), func.max(entry.c.row).label("high"))
    if since is not None:
        rows = rows.where(entry.c.received_at >= since)
    if until is not None:
        rows = rows.where(entry.c.received_at < until)

    def read(connection: Connection) -> tuple[int, int]:
        if since is None and until is None:
            low, high = None, None
        else:
            low, high = connection.execute(rows).one()
            if low is None:
                return 0, 0
        first, end = select(func.min(placed.c.first)), select(func.max(placed.c.first + placed.c.size))
        if low is not None:
            first, end = first.where(placed.c.high >= low), end.where(placed.c.low <= high)
        return connection.execute(first).scalar() or 0, connection.execute(end).scalar() or 0

    return read


def facts_after(tenant: str, place: tuple[int, int], size: int) -> Callable[[Connection], Sequence[AnyRow]]:
    """The next decisions and events of a tenant after a place (received, row)."""
    received_at, row = place
    later = or_(entry.c.received_at > received_at, and_(entry.c.received_at == received_at, entry.c.row > row))
    query = (
        _FACTS.where(entry.c.tenant == tenant, entry.c.received_at >= received_at, later)
        .order_by(entry.c.received_at, entry.c.row)
        .limit(size)
    )
    return lambda connection: connection.execute(query).all()


def facts_above(row: int, size: int) -> Callable[[Connection], Sequence[AnyRow]]:
    """The next decisions and events of all tenants above a row."""
    query = _FACTS.where(entry.c.row > row).order_by(entry.c.row).limit(size)
    return lambda connection: connection.execute(query).all()


def newest_facts(size: int) -> Callable[[Connection], Sequence[AnyRow]]:
    """The decisions and events of all tenants that were written last."""
    query = _FACTS.order_by(entry.c.row.desc()).limit(size)
    return lambda connection: connection.execute(query).all()


def fact_of(row: AnyRow) -> Fact:
    """A row of `facts_after` as a value."""
    keys = dict(unpack_keys(row.packed)) if row.packed else {}
    return Fact(
        *(row.id, row.tenant, row.kind, row.event_kind, row.event_id, row.refers_to),
        *(row.at, row.received_at, row.row, row.leaf, keys),
    )


def merchants_of(tenant: str) -> Callable[[Connection], list[str]]:
    """The ids of all merchants whom events of a tenant were about, in order."""
    query = select(entry.c.merchant_id).where(entry.c.tenant == tenant, entry.c.merchant_id.is_not(None)).distinct()
    return lambda connection: list(connection.execute(query.order_by(entry.c.merchant_id)).scalars())
