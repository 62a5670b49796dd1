"""The ledger: what is appended here was decided, and what is not was not.

    ledger = await Ledger.open("sqlite:///arbiter.db", KeyFile.read(path))
    receipt = await ledger.append(entry)        durable when this returns
    stored = await ledger.find("shop-a", "ev-1")
    page = await ledger.page("shop-a", Filter(verdict="decline"))

`append` is a group commit: while one commit runs the next entries gather, and all of them share the next commit, one
Merkle root and one signature. SQLite has a writer thread, PostgreSQL a writer task; both have one surface. Promises:

* a receipt means durable (fsync); an error other than Duplicate and Unavailable means not written
* Unavailable("verdict_unknown") means it may or may not be written: ask again with the same event id
* of one (tenant, event id) one decision or event is kept; every later one gets Duplicate with the first
* an entry that cannot be written fails alone, never the others of its group
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import asyncpg
from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from engine import database as db
from engine import merkle
from engine.database import Database, batch, digest, entry, event_key, key_index, key_pending, sealed, subject_key
from engine.errors import Conflict, RequestRefused, SettingsError, Unavailable
from engine.receipt import Batch, Receipt, Signer, receipt_of, sign_batch
from engine.vault import KeyFile, Sealed, SubjectKey

MAX_BATCH = 256
"""Entries in one commit at most."""

MAX_WAITING = 2_000
"""Entries that may wait for a commit; more are refused, so that callers hear of it at once."""

MAX_LEAF = 65_535
"""Bytes of a leaf at most (C2SP tlog-tiles)."""

ACKNOWLEDGE_SECONDS = 10
"""How long an append waits for its commit before it answers that the outcome is unknown."""

MAX_PAGE = 200
UNIQUE_KINDS = frozenset(("decision", "event"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to be kept: its leaf for everyone, its sealed personal data, its pseudonyms for linking.

    `kind` is decision, event, resolution or change; `keys` are (entity path, pseudonym) pairs; `digest` is the keyed
    digest of the body it answers; `refers_to` is the id of the entry it is about. Times are UTC microseconds.
    """

    id: str
    tenant: str
    kind: str
    event_id: str | None
    event_kind: str
    at: int
    received_at: int
    leaf: bytes
    sealed: tuple[Sealed, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    digest: bytes | None = None
    refers_to: str | None = None
    order_id: str | None = None
    merchant_id: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as the ledger gives it back. `arrival` is its order in this ledger, without meaning elsewhere.

    From `page` the entry comes without sealed data, keys and digest.
    """

    entry: Entry
    arrival: int
    created: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Fact:
    """What windows are rebuilt from: one event's leaf and its pseudonyms by entity path."""

    id: str
    tenant: str
    kind: str
    event_kind: str
    event_id: str | None
    refers_to: str | None
    at: int
    received_at: int
    arrival: int
    leaf: bytes
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries a page shows; None does not narrow. `since` (inclusive) and `until` bound the time received."""

    verdict: str | None = None
    kind: str | None = None
    event_kind: str | None = None
    merchant_id: str | None = None
    order_id: str | None = None
    refers_to: str | None = None
    pseudonym: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries newest first, and the cursor of the next page, None on the last one."""

    entries: tuple[Stored, ...]
    cursor: str | None


class Duplicate(Conflict):
    """The event id has its entry already; `stored` is that one."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        super().__init__("this event id was decided before")


def new_id() -> str:
    """A UUID version 7 (RFC 9562): sorts by time of creation to the millisecond, the rest is random."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) | 0x7 << 76
    digits = f"{bits & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Ledger:
    """Appends and reads. One per process and event loop; `open` makes it, `close` drains it."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self.database = database
        self._writer = writer

    @classmethod
    async def open(cls, url: str, keys: KeyFile) -> Self:
        """The ledger at `url`, migrated before (`database.migrate`). SettingsError when `keys` are another ledger's."""
        database = Database(url)
        try:
            await database.write(lambda connection: _check_keys(connection, keys))
            kind = SQLiteWriter if database.dialect == "sqlite" else PostgreSQLWriter
            writer = kind(database, keys.signer)
            await writer.start()
        except BaseException:
            await database.close()
            raise
        return cls(database, writer)

    async def close(self) -> None:
        """Commit what waits, then give everything back. Appends after this are refused."""
        await self._writer.close()
        await self.database.close()

    async def append(self, new: Entry) -> Receipt:
        """The receipt of `new`, once it is durable.

        Duplicate: its event id has an entry. Unavailable: the commit was not acknowledged, or too many wait.
        """
        if len(new.leaf) > MAX_LEAF:
            raise ValueError(f"a leaf of {len(new.leaf)} bytes is longer than {MAX_LEAF}")
        receipt = await self._writer.submit(new)
        if receipt is not None:
            return receipt
        stored = await self.find(new.tenant, new.event_id or "")
        assert stored is not None, "the database refused an event id that it does not hold"
        raise Duplicate(stored)

    async def find(self, tenant: str, event_id: str) -> Stored | None:
        """The decision or event under this event id, with its sealed data, or None. Cheap when there is none."""
        if not await self._writer.holds(tenant, event_id):
            return None
        return await self._one(entry.c.tenant == tenant, entry.c.event_id == event_id, db.ONE_VERDICT)

    async def get(self, tenant: str, id: str) -> Stored | None:
        """The entry under this id, with its sealed data, or None."""
        return await self._one(entry.c.tenant == tenant, entry.c.id == id)

    async def page(self, tenant: str, wanted: Filter | None = None, cursor: str | None = None, limit: int = 50) -> Page:
        """Up to `limit` entries of `tenant`, newest first. RequestRefused for a cursor that is not one of ours."""
        limit = max(1, min(limit, MAX_PAGE))
        query = _page_query(tenant, wanted or Filter(), cursor, self.database.dialect).limit(limit + 1)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        shown = tuple(_stored(row) for row in rows[:limit])
        return Page(shown, _cursor(rows[limit - 1]) if len(rows) > limit else None)

    async def facts(self, since: int, size: int = 2_000) -> AsyncIterator[list[Fact]]:
        """All decisions and events received at or after `since`, in lists of `size`, tenant by tenant, by arrival."""
        tenant = ""
        while (found := await self.database.read(_next_tenant(tenant))) is not None:
            tenant = found
            place = (since, -1)
            while rows := await self.database.read(_facts_after(tenant, place, size)):
                yield [_fact(row) for row in rows]
                place = (rows[-1].received_at, rows[-1].row)

    async def index_keys(self) -> int:
        """Index pseudonyms that wait; how many entries that was. Happens by itself whenever the writer is idle."""
        return await self._writer.index_keys()

    async def _one(self, *conditions: Any) -> Stored | None:
        return await self.database.read(lambda connection: _whole(connection, *conditions))


def _check_keys(connection: Connection, keys: KeyFile) -> None:
    """Another key file would give every person a new pseudonym and open nothing: refuse it before it writes."""
    name = "key_file"
    held = connection.execute(select(db.setting.c.value).where(db.setting.c.name == name)).scalar()
    if held is None:
        connection.execute(db.setting.insert().values(name=name, value=keys.fingerprint))
    elif held != keys.fingerprint:
        raise SettingsError("ARBITER_KEY_FILE holds the keys of another ledger; restore the key file of this one")


# ---------------------------------------------------------------------------------------------- reading

AnyRow = Any
"""A SQLAlchemy row: its type would spell out every column of every query."""

_JOINED = entry.join(batch, entry.c.batch == batch.c.id)
_PROOF = (batch.c.root, batch.c.size, batch.c.leaves, batch.c.signed_at, batch.c.log, batch.c.key_id, batch.c.signature)
_STORED = select(*entry.c, *_PROOF).select_from(_JOINED)


def _stored(row: AnyRow) -> Stored:
    of = Batch(row.log, row.root, row.size, row.signed_at, row.key_id, row.signature)
    found = Entry(
        *(row.id, row.tenant, row.kind, row.event_id, row.event_kind, row.at, row.received_at, row.leaf),
        refers_to=row.refers_to,
        order_id=row.order_id,
        merchant_id=row.merchant_id,
        verdict=row.verdict,
    )
    return Stored(found, row.row, row.created, receipt_of(of, row.leaves, row.batch_index))


def _whole(connection: Connection, *conditions: Any) -> Stored | None:
    row = connection.execute(_STORED.where(*conditions)).one_or_none()
    if row is None:
        return None
    stored = _stored(row)
    packed = connection.execute(select(event_key.c.packed).where(event_key.c.entry == row.row)).scalar()
    kept = connection.execute(select(digest.c.digest).where(digest.c.entry == row.row)).scalar()
    cells = _cells(connection, row)
    keys = tuple(unpack_keys(packed)) if packed else ()
    return replace(stored, entry=replace(stored.entry, sealed=cells, keys=keys, digest=kept))


def _cells(connection: Connection, of: AnyRow) -> tuple[Sealed, ...]:
    same = and_(subject_key.c.subject == sealed.c.subject, subject_key.c.key_id == sealed.c.key_id)
    query = select(
        *(sealed.c.subject, sealed.c.key_id, sealed.c.ciphertext, subject_key.c.tenant),
        *(subject_key.c.kek_id, subject_key.c.wrapped, subject_key.c.created),
    ).select_from(sealed.outerjoin(subject_key, same))
    rows = connection.execute(query.where(sealed.c.entry == of.row).order_by(sealed.c.subject))
    return tuple(_cell(row, of) for row in rows)


def _cell(row: AnyRow, of: AnyRow) -> Sealed:
    subject = row.subject.hex()
    key = None
    if row.wrapped is not None:
        key = SubjectKey(row.tenant, subject, row.key_id, row.kek_id, row.wrapped, row.created, stored=True)
    return Sealed(of.tenant, of.id, subject, row.key_id, row.ciphertext, key)


_EQUAL = ("verdict", "kind", "event_kind", "merchant_id", "order_id", "refers_to")


def _page_query(tenant: str, wanted: Filter, cursor: str | None, dialect: str) -> Select[Any]:
    conditions: list[Any] = [entry.c.tenant == tenant]
    named = ((name, getattr(wanted, name)) for name in _EQUAL)
    conditions += [entry.c[name] == value for name, value in named if value is not None]
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


def _cursor(row: AnyRow) -> str:
    return urlsafe_b64encode(f"{row.received_at}.{row.row}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[int, int]:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        received_at, row = text.split(".")
        place = int(received_at), int(row)
    except (Base64Error, ValueError):
        raise RequestRefused("the cursor is not one this API gave out") from None
    if not all(0 <= number < 2**63 for number in place):
        raise RequestRefused("the cursor is not one this API gave out")
    return place


def _next_tenant(after: str) -> Callable[[Connection], str | None]:
    # Hops from tenant to tenant through the index; DISTINCT would read every row.
    query = select(func.min(entry.c.tenant)).where(entry.c.tenant > after)
    return lambda connection: connection.execute(query).scalar()


def _facts_after(tenant: str, place: tuple[int, int], size: int) -> Callable[[Connection], Sequence[AnyRow]]:
    received_at, row = place
    later = or_(entry.c.received_at > received_at, and_(entry.c.received_at == received_at, entry.c.row > row))
    query = (
        select(
            *(entry.c.id, entry.c.tenant, entry.c.kind, entry.c.event_kind, entry.c.event_id, entry.c.refers_to),
            *(entry.c.at, entry.c.received_at, entry.c.row, entry.c.leaf, event_key.c.packed),
        )
        .select_from(entry.outerjoin(event_key, event_key.c.entry == entry.c.row))
        .where(entry.c.tenant == tenant, entry.c.received_at >= received_at, later, db.ONE_VERDICT)
        .order_by(entry.c.received_at, entry.c.row)
        .limit(size)
    )
    return lambda connection: connection.execute(query).all()


def _fact(row: AnyRow) -> Fact:
    keys = dict(unpack_keys(row.packed)) if row.packed else {}
    return Fact(
        *(row.id, row.tenant, row.kind, row.event_kind, row.event_id, row.refers_to),
        *(row.at, row.received_at, row.row, row.leaf, keys),
    )


# ------------------------------------------------------------------------------------------ packed keys

SUBJECT = "@"
"""The path under which a sealed subject's pseudonym stands among an entry's packed keys, so that it can be found."""

_LABELS: dict[str, bytes] = {}


def pack_keys(keys: Iterable[tuple[str, str]], subjects: Iterable[str] = ()) -> bytes:
    """Pseudonyms as one value: 16 bytes of pseudonym, one byte length, the path; and so on."""
    pieces = [bytes.fromhex(pseudonym) + (_LABELS.get(path) or _label(path)) for path, pseudonym in keys]
    at = _LABELS.get(SUBJECT) or _label(SUBJECT)
    return b"".join(pieces + [bytes.fromhex(subject) + at for subject in subjects])


def unpack_keys(packed: bytes, *, subjects: bool = False) -> Iterator[tuple[str, str]]:
    """The (path, pseudonym) pairs in `packed`; those of sealed subjects only when asked for."""
    at = 0
    while at < len(packed):
        pseudonym, length = packed[at : at + 16].hex(), packed[at + 16]
        path = packed[at + 17 : at + 17 + length].decode()
        at += 17 + length
        if subjects or path != SUBJECT:
            yield path, pseudonym


def _label(path: str) -> bytes:
    data = path.encode()
    assert 0 < len(data) < 256, path
    # Paths come from the schema: a few dozen. The bound only guards against a mistake.
    if len(_LABELS) > 10_000:
        _LABELS.clear()
    return _LABELS.setdefault(path, bytes((len(data),)) + data)


# ---------------------------------------------------------------------------------------------- writing


@dataclass(slots=True)
class _Waiting:
    """An entry on its way, and who waits for it: a receipt, or None when its event id is taken."""

    new: Entry
    future: asyncio.Future[Receipt | None]
    since: float


Outcome = Receipt | BaseException | None


def _unknown(error: BaseException | None = None) -> Unavailable:
    made = Unavailable("the commit was not acknowledged; ask again with the same event id", "verdict_unknown")
    made.__cause__ = error
    return made


class Writer:
    """What both writers share: the queue in front of them and the answers behind them."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._count = 0

    async def submit(self, new: Entry) -> Receipt | None:
        """The receipt of `new` when it is durable, None when its event id is taken."""
        if self._closed:
            raise Unavailable("the ledger is closing", "ledger_closed")
        if self._count >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} entries wait to be written", "ledger_busy")
        item = _Waiting(new, self._loop.create_future(), self._loop.time())
        self._count += 1
        self._unanswered.append(item)
        if self._watch is None:
            self._watch = self._loop.call_later(1, self._look)
        self._put(item)
        return await item.future

    def _put(self, item: _Waiting) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Connect and begin to write."""
        raise NotImplementedError

    async def close(self) -> None:
        """Write what waits, then stop."""
        raise NotImplementedError

    async def holds(self, tenant: str, event_id: str) -> bool:
        """Whether a decision or event has this event id."""
        raise NotImplementedError

    async def index_keys(self) -> int:
        """Move pending pseudonyms into the index; how many entries that was."""
        raise NotImplementedError

    def _answer(self, outcomes: Sequence[tuple[_Waiting, Outcome]]) -> None:
        """Wake everyone whose entry has an outcome. Runs on the event loop."""
        self._count -= len(outcomes)
        for item, outcome in outcomes:
            # A caller may have gone away, or heard that its outcome is unknown.
            if item.future.done():
                continue
            if isinstance(outcome, BaseException):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)

    def _look(self) -> None:
        """Once a second: answer those whose commit takes too long."""
        late = self._loop.time() - ACKNOWLEDGE_SECONDS
        waiting = self._unanswered
        while waiting and (waiting[0].future.done() or waiting[0].since < late):
            item = waiting.popleft()
            if not item.future.done():
                item.future.set_exception(_unknown())
        self._watch = self._loop.call_later(1, self._look) if waiting else None

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


def _without_repeats(items: Sequence[_Waiting], taken: set[tuple[str, str]]) -> tuple[list[_Waiting], list[_Waiting]]:
    """`items` to write, and those whose event id is `taken` or came earlier in the same group."""
    fresh, repeats = [], []
    for item in items:
        new = item.new
        if new.kind in UNIQUE_KINDS and new.event_id is not None:
            name = (new.tenant, new.event_id)
            if name in taken:
                repeats.append(item)
                continue
            taken.add(name)
        fresh.append(item)
    return fresh, repeats


def _mark_stored(items: Iterable[_Waiting]) -> None:
    for item in items:
        for cell in item.new.sealed:
            if cell.key is not None:
                cell.key.stored = True


def _now() -> int:
    return time.time_ns() // 1_000


# One row of each table, in the order of its columns.

_entry_row = attrgetter(
    *("id", "tenant", "kind", "event_id", "event_kind", "at", "received_at"),
    *("order_id", "merchant_id", "verdict", "refers_to", "leaf"),
)


def _cell_rows(row: int, new: Entry) -> list[tuple[Any, ...]]:
    return [(row, bytes.fromhex(cell.subject), cell.tenant, cell.key_id, cell.ciphertext) for cell in new.sealed]


def _key_rows(new: Entry) -> list[tuple[Any, ...]]:
    return [
        (bytes.fromhex(key.subject), key.id, key.tenant, key.kek, key.wrapped, key.created)
        for cell in new.sealed
        if (key := cell.key) is not None and not key.stored
    ]


def _batch_row(number: int, of: Batch, leaves: Sequence[bytes]) -> tuple[Any, ...]:
    return (number, of.root, of.size, b"".join(leaves), of.signed_at, of.log, of.key_id, of.signature)


def _packed(new: Entry) -> bytes:
    held = {pseudonym for _, pseudonym in new.keys}
    return pack_keys(new.keys, [cell.subject for cell in new.sealed if cell.subject not in held])


# ----------------------------------------------------------------------------------------------- SQLite

_CHUNKS = (256, 64, 16, 4, 1)
IDLE_SECONDS = 0.05
INDEX_AT_ONCE = 500
"""Entries whose pseudonyms are indexed in one transaction."""

MAX_PENDING = 20_000
"""Entries that may wait for the pseudonym index before it is filled although the writer is busy."""


class _Insert:
    """INSERT statements for one SQLite table that take many rows at once.

    Every step of a statement gives up the interpreter lock and must win it back from a busy event loop: one statement
    of 256 rows loses it once, `executemany` 256 times.
    """

    def __init__(self, table: Table, *, skip_taken: bool = False) -> None:
        made: Any = sqlite.insert(table)
        if skip_taken:
            made = made.on_conflict_do_nothing()
        one = str(made.compile(dialect=sqlite.dialect(paramstyle="qmark")))
        head, values, tail = one.partition("VALUES ")
        group = f"({', '.join('?' * len(table.columns))})"
        assert tail.startswith(group), one
        rest = tail.removeprefix(group)
        self._statements = [(size, f"{head}{values}{', '.join([group] * size)}{rest}") for size in _CHUNKS]

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        at = 0
        for size, statement in self._statements:
            while len(rows) - at >= size:
                connection.execute(statement, list(chain.from_iterable(rows[at : at + size])))
                at += size


_INSERT = {table.name: _Insert(table) for table in (batch, entry, sealed, event_key, key_pending, digest)}
_INSERT_KEY = _Insert(subject_key, skip_taken=True)
_INDEX_KEY = _Insert(key_index, skip_taken=True)
# The named pairs are few and the entries many: CROSS JOIN keeps SQLite from turning the loops around.
_TAKEN = f"""
SELECT 1, tenant, event_id FROM json_each(?) AS named CROSS JOIN entry
WHERE tenant = json_extract(named.value, '$[0]') AND event_id = json_extract(named.value, '$[1]') AND {db.ONE_VERDICT}
UNION ALL SELECT 0, (SELECT max("row") FROM entry), (SELECT max(id) FROM batch)
"""
_HOLDS = f"SELECT 1 FROM entry WHERE tenant = ? AND event_id = ? AND {db.ONE_VERDICT}"

_Job = Callable[[], None]


class SQLiteWriter(Writer):
    """A thread that owns the one writing connection; a commit in progress is the window in which a group gathers."""

    def __init__(self, database: Database, signer: Signer) -> None:
        super().__init__(database, signer)
        self._path = db.sqlite_path(database.url)
        self._queue: queue.SimpleQueue[_Waiting | _Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="arbiter-ledger", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._backoff = _Backoff()
        self._pending = 0

    async def start(self) -> None:
        connection = self._open()
        self._pending = connection.execute("SELECT count(*) FROM key_pending").fetchone()[0]
        self._thread.start()

    async def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        # The thread's last answers are callbacks of this loop: let them run before the caller goes on.
        await asyncio.sleep(0)
        self._stop_watching()
        if self._reader is not None:
            self._reader.close()

    async def holds(self, tenant: str, event_id: str) -> bool:
        # On the event loop on purpose: an indexed look-up takes microseconds, a trip to a thread ten times that,
        # and a reader of a WAL database never waits for the writer.
        try:
            if self._reader is None:
                self._reader = db.open_sqlite(self._path)
            return self._reader.execute(_HOLDS, (tenant, event_id)).fetchone() is not None
        except sqlite3.Error as error:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
            raise Unavailable("the database does not answer", "database_unavailable") from error

    async def index_keys(self) -> int:
        done: asyncio.Future[int] = self._loop.create_future()

        def job() -> None:
            try:
                count = 0
                while moved := self._index():
                    count += moved
                self._tell(done.set_result, count)
            except (sqlite3.Error, _Gone) as error:
                gone = Unavailable("the database does not answer", "database_unavailable")
                gone.__cause__ = error
                self._tell(done.set_exception, gone)

        self._queue.put(job)
        return await done

    def _put(self, item: _Waiting) -> None:
        self._queue.put(item)

    # ------ on the writer's thread

    def _run(self) -> None:
        running = True
        while running:
            items, jobs, running = self._take()
            if items:
                self._tell(self._answer, self._commit(items))
            for job in jobs:
                job()
            if (self._pending and not items) or self._pending > MAX_PENDING:
                self._index_when_possible()
        if self._connection is not None:
            self._connection.close()

    def _take(self) -> tuple[list[_Waiting], list[_Job], bool]:
        """What waits, at most a full group: blocks while there is nothing to do."""
        items: list[_Waiting] = []
        jobs: list[_Job] = []
        try:
            got = self._queue.get(timeout=IDLE_SECONDS if self._pending and self._backoff.over() else None)
            while True:
                if got is None:
                    return items, jobs, False
                if isinstance(got, _Waiting):
                    items.append(got)
                else:
                    jobs.append(got)
                if len(items) >= MAX_BATCH:
                    return items, jobs, True
                got = self._queue.get_nowait()
        except queue.Empty:
            return items, jobs, True

    def _tell(self, callback: Callable[..., Any], *args: Any) -> None:
        # A closed loop has nobody left who waits for an answer.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *args)

    def _commit(self, items: list[_Waiting]) -> list[tuple[_Waiting, Outcome]]:
        try:
            return self._group(self._open(), items)
        except (sqlite3.Error, _Gone, ValueError, TypeError, AttributeError, OverflowError, AssertionError) as error:
            if _is_gone(error):
                self._drop()
                return [(item, _unknown(error)) for item in items]
            if len(items) == 1:
                return [(items[0], self._refusal(items[0].new, error))]
        # One of them cannot be written: each gets a transaction of its own.
        return [outcome for item in items for outcome in self._commit([item])]

    def _group(self, connection: sqlite3.Connection, items: list[_Waiting]) -> list[tuple[_Waiting, Outcome]]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            named = json.dumps([(item.new.tenant, item.new.event_id) for item in items], ensure_ascii=False)
            rows = connection.execute(_TAKEN, (named,)).fetchall()
            (_, last_row, last_batch), *taken = sorted(rows, key=_first)
            fresh, repeats = _without_repeats(items, {(tenant, event_id) for _, tenant, event_id in taken})
            receipts = self._insert(connection, fresh, last_row or 0, last_batch or 0)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        _mark_stored(fresh)
        self._pending += sum(1 for item in fresh if item.new.keys or item.new.sealed)
        return [*zip(fresh, receipts, strict=True), *((item, None) for item in repeats)]

    def _insert(
        self, connection: sqlite3.Connection, items: list[_Waiting], last_row: int, last_batch: int
    ) -> list[Receipt]:
        if not items:
            return []
        number, now, start = last_batch + 1, _now(), last_row + 1
        leaves = [merkle.leaf_hash(item.new.leaf) for item in items]
        of, receipts = sign_batch(self._signer, leaves, now)
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _INSERT}
        keys: list[tuple[Any, ...]] = []
        rows["batch"].append(_batch_row(number, of, leaves))
        for index, item in enumerate(items):
            new, row = item.new, start + index
            rows["entry"].append((row, *_entry_row(new), leaves[index], number, index, now))
            if new.sealed:
                rows["sealed"] += _cell_rows(row, new)
                keys += _key_rows(new)
            if new.keys or new.sealed:
                rows["event_key"].append((row, new.tenant, _packed(new)))
                rows["key_pending"].append((row,))
            if new.digest is not None:
                rows["digest"].append((row, new.tenant, new.digest))
        for name, insert in _INSERT.items():
            insert(connection, rows[name])
        _INSERT_KEY(connection, keys)
        return receipts

    def _refusal(self, new: Entry, error: BaseException) -> Outcome:
        """What the writer of a refused entry hears: its event id is taken after all, or the error itself."""
        if isinstance(error, sqlite3.IntegrityError) and new.kind in UNIQUE_KINDS and self._connection is not None:
            held = self._connection.execute(_HOLDS, (new.tenant, new.event_id)).fetchone()
            return None if held else error
        return error

    def _open(self) -> sqlite3.Connection:
        """The writing connection, opened again when it was lost; _Gone while the file is away or another one."""
        if self._connection is not None:
            if _identity(self._path) == self._file:
                return self._connection
            # The file was moved or replaced under us: what we would write nobody could ever read.
            self._drop()
        if not self._backoff.over():
            raise _Gone("the database was away a moment ago")
        try:
            connection = db.open_sqlite(self._path)
        except sqlite3.Error as error:
            self._backoff.failed()
            raise _Gone(str(error)) from error
        self._connection, self._file = connection, _identity(self._path)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._backoff.failed()

    def _index_when_possible(self) -> None:
        try:
            self._index()
        except (sqlite3.Error, _Gone):
            # Not lost: the entries stay in key_pending, and look-ups read them there until the index has them.
            self._drop()

    def _index(self) -> int:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = connection.execute(_PENDING, (INDEX_AT_ONCE,)).fetchall()
            _INDEX_KEY(connection, _index_rows(rows))
            connection.executemany("DELETE FROM key_pending WHERE entry = ?", [row[:1] for row in rows])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._pending = max(0, self._pending - len(rows)) if len(rows) == INDEX_AT_ONCE else 0
        return len(rows)


_PENDING = """
SELECT key_pending.entry, event_key.packed FROM key_pending
LEFT JOIN event_key ON event_key.entry = key_pending.entry ORDER BY key_pending.entry LIMIT ?
"""


def _index_rows(rows: Iterable[Sequence[Any]]) -> list[tuple[bytes, int]]:
    """(pseudonym, entry) pairs, sorted so that neighbours in the index are written together."""
    return sorted(
        {
            (bytes.fromhex(pseudonym), row)
            for row, packed in rows
            for _, pseudonym in unpack_keys(packed or b"", subjects=True)
        }
    )


def _first(row: Sequence[Any]) -> Any:
    return row[0]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Gone(Exception):
    """The database is away."""


def _is_gone(error: BaseException) -> bool:
    """Whether the database failed rather than the row: locked, full, unreadable, damaged, away."""
    return isinstance(error, (_Gone, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError


class _Backoff:
    """How long to leave a lost database alone: 0.1 s after the first failure, doubling up to 2 s."""

    def __init__(self) -> None:
        self._until = 0.0
        self._pause = 0.1

    def over(self) -> bool:
        return time.monotonic() >= self._until

    def failed(self) -> None:
        now = time.monotonic()
        calm = now - self._until > 10
        self._pause = 0.1 if calm else min(2.0, self._pause * 2)
        self._until = now + self._pause


# ------------------------------------------------------------------------------------------- PostgreSQL


def _unnest(at: int, columns: Sequence[Column[Any]]) -> str:
    """`unnest($at::text[], …) AS u(name, …)` for values that arrive as one array a column."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = [column.type.compile(dialect) for column in columns]
    arrays = ", ".join(f"${at + number}::{name}[]" for number, name in enumerate(types))
    return f"unnest({arrays}) AS u({', '.join(column.name for column in columns)})"


def _names(columns: Iterable[Column[Any]], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{column.name}" for column in columns)


def _append_statement() -> str:
    """One statement for a whole group: batch, entries and all their rows, in one round trip and one transaction."""
    own = [column for column in entry.c if column.name not in ("row", "batch", "created")]
    keys = list(subject_key.c)
    at = 9
    parts = [
        f"made AS (INSERT INTO batch ({_names(batch.c)}) "
        "VALUES (nextval('batch_id'), $1, $2, $3, $4, $5, $6, $7) RETURNING id)",
        f"new AS (INSERT INTO entry (row, {_names(own)}, batch, created) "
        f"SELECT nextval('entry_row'), {_names(own, 'u.')}, made.id, $8::bigint FROM made, {_unnest(at, own)} "
        "RETURNING row, batch_index)",
    ]
    at += len(own)
    for table in (sealed, event_key, digest):
        rest = [column for column in table.c if column.name != "entry"]
        parts.append(
            f"put_{table.name} AS (INSERT INTO {table.name} (entry, {_names(rest)}) SELECT new.row, "
            f"{_names(rest, 'u.')} FROM {_unnest(at, [entry.c.batch_index, *rest])} JOIN new USING (batch_index) "
            "RETURNING entry)"
        )
        at += 1 + len(rest)
    parts.append("put_pending AS (INSERT INTO key_pending (entry) SELECT entry FROM put_event_key)")
    parts.append(
        f"put_key AS (INSERT INTO subject_key ({_names(keys)}) SELECT {_names(keys, 'u.')} "
        f"FROM {_unnest(at, keys)} ON CONFLICT DO NOTHING)"
    )
    return f"WITH {', '.join(parts)} SELECT count(*) FROM new"


_APPEND = _append_statement()
_TAKEN_OF = f"""
SELECT tenant, event_id FROM entry
WHERE (tenant, event_id) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND {db.ONE_VERDICT}
"""
_HELD = f"SELECT EXISTS (SELECT 1 FROM entry WHERE tenant = $1 AND event_id = $2 AND {db.ONE_VERDICT})"
# Two workers may index at once: each skips what the other one holds.
_CLAIM = """
SELECT key_pending.entry, (SELECT packed FROM event_key WHERE event_key.entry = key_pending.entry)
FROM key_pending ORDER BY entry LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_FILL = (
    "INSERT INTO key_index (pseudonym, entry) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING"
)
_DONE = "DELETE FROM key_pending WHERE entry = ANY($1::bigint[])"

_LOST: tuple[type[BaseException], ...] = (
    *db.GONE,
    asyncpg.InternalServerError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)
_AWAY: tuple[type[BaseException], ...] = (*_LOST, _Gone)
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class PostgreSQLWriter(Writer):
    """A task with a connection of its own; several processes may write to one database."""

    def __init__(self, database: Database, signer: Signer) -> None:
        super().__init__(database, signer)
        self._dsn = database.url.render_as_string(hide_password=False)
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._backoff = _Backoff()
        self._connection: Any = None
        self._pool: Any = None
        self._task: asyncio.Task[None] | None = None
        self._pending = True

    async def start(self) -> None:
        self._pool = asyncpg.create_pool(self._dsn, min_size=0, max_size=4, command_timeout=ACKNOWLEDGE_SECONDS)
        try:
            await self._pool
            connection = await self._open()
            if await connection.fetchval("SHOW fsync") == "off":
                raise SettingsError("PostgreSQL runs with fsync = off: what it confirms is not durable; switch it on")
        except _AWAY as error:
            raise Unavailable("the database does not answer", "database_unavailable") from error
        self._task = asyncio.create_task(self._run(), name="arbiter-ledger")

    async def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._stop_watching()
        await self._drop()
        await self._pool.close()

    async def holds(self, tenant: str, event_id: str) -> bool:
        try:
            return bool(await self._pool.fetchval(_HELD, tenant, event_id))
        except _LOST as error:
            raise Unavailable("the database does not answer", "database_unavailable") from error

    async def index_keys(self) -> int:
        count = 0
        try:
            async with self._pool.acquire() as connection:
                while moved := await _index_on(connection):
                    count += moved
        except _LOST as error:
            raise Unavailable("the database does not answer", "database_unavailable") from error
        return count

    def _put(self, item: _Waiting) -> None:
        self._queue.append(item)
        self._wake.set()

    async def _run(self) -> None:
        while not (self._closed and not self._queue):
            if not self._queue:
                await self._rest()
                continue
            items = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            self._answer(await self._commit(items))

    async def _rest(self) -> None:
        """Wait for an entry; when none comes for a moment, index pseudonyms that wait."""
        self._wake.clear()
        idle = IDLE_SECONDS if self._pending and self._backoff.over() else None
        try:
            async with asyncio.timeout(idle):
                await self._wake.wait()
        except TimeoutError:
            await self._index_when_possible()

    async def _index_when_possible(self) -> None:
        try:
            self._pending = await _index_on(await self._open()) > 0
        except _AWAY:
            # Not lost: the entries stay in key_pending, and look-ups read them there until the index has them.
            await self._drop()

    async def _commit(self, items: list[_Waiting]) -> list[tuple[_Waiting, Outcome]]:
        try:
            return await self._group(await self._open(), items)
        except _AWAY as error:
            await self._drop()
            return [(item, _unknown(error)) for item in items]
        except (
            asyncpg.PostgresError,
            asyncpg.DataError,
            ValueError,
            TypeError,
            AttributeError,
            AssertionError,
        ) as error:
            if len(items) == 1:
                return [(items[0], error)]
        # One of them cannot be written: each gets a transaction of its own.
        return [outcome for item in items for outcome in await self._commit([item])]

    async def _group(self, connection: Any, items: list[_Waiting]) -> list[tuple[_Waiting, Outcome]]:
        # Two workers that insert the same ids in different orders would wait for each other for ever.
        items = sorted(items, key=lambda item: (item.new.tenant, item.new.event_id or ""))
        taken: set[tuple[str, str]] = set()
        for _ in range(10):
            fresh, repeats = _without_repeats(items, set(taken))
            try:
                receipts = await self._insert(connection, fresh) if fresh else []
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "entry_event":
                    raise
                # The statement undid itself whole, so the tree of the next try has no gap.
                taken |= await self._taken(connection, fresh)
                continue
            except _AGAIN:
                continue
            _mark_stored(fresh)
            self._pending = True
            return [*zip(fresh, receipts, strict=True), *((item, None) for item in repeats)]
        raise _Gone("ten attempts met other writers")

    async def _taken(self, connection: Any, items: list[_Waiting]) -> set[tuple[str, str]]:
        named = [(item.new.tenant, item.new.event_id) for item in items if item.new.kind in UNIQUE_KINDS]
        tenants, ids = zip(*named, strict=True)
        return {(row[0], row[1]) for row in await connection.fetch(_TAKEN_OF, tenants, ids)}

    async def _insert(self, connection: Any, items: list[_Waiting]) -> list[Receipt]:
        now = _now()
        leaves = [merkle.leaf_hash(item.new.leaf) for item in items]
        of, receipts = sign_batch(self._signer, leaves, now)
        entries, cells, packed, digests = [], [], [], []
        keys: dict[bytes, tuple[Any, ...]] = {}
        for index, item in enumerate(items):
            new = item.new
            entries.append((*_entry_row(new), leaves[index], index))
            cells += _cell_rows(index, new)
            keys |= {row[1]: row for row in _key_rows(new)}
            if new.keys or new.sealed:
                packed.append((index, new.tenant, _packed(new)))
            if new.digest is not None:
                digests.append((index, new.tenant, new.digest))
        arrays = [
            *_columns(entries, 14),
            *_columns(cells, 5),
            *_columns(packed, 3),
            *_columns(digests, 3),
            *_columns(list(keys.values()), 6),
        ]
        count = await connection.fetchval(
            _APPEND, *_batch_row(0, of, leaves)[1:], now, *arrays, timeout=ACKNOWLEDGE_SECONDS
        )
        assert count == len(items), (count, len(items))
        return receipts

    async def _open(self) -> Any:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if not self._backoff.over():
            raise _Gone("the database was away a moment ago")
        try:
            connection = await asyncpg.connect(self._dsn, timeout=ACKNOWLEDGE_SECONDS)
            if await connection.fetchval("SHOW synchronous_commit") in ("off", "local"):
                await connection.execute("SET synchronous_commit = on")
        except _LOST as error:
            self._backoff.failed()
            raise _Gone(str(error)) from error
        self._connection = connection
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._backoff.failed()


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Rows turned into one array a column."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


async def _index_on(connection: Any) -> int:
    async with connection.transaction():
        rows = await connection.fetch(_CLAIM, INDEX_AT_ONCE)
        if rows:
            pairs = _index_rows(rows)
            await connection.execute(_FILL, *_columns(pairs, 2))
            await connection.execute(_DONE, [row[0] for row in rows])
    return len(rows)
