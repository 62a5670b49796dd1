"""The writer of a PostgreSQL ledger: one task in each process, one statement for all that waits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from engine import database as db
from engine.database import Database, batch, digest, entry, event_key, sealed, subject_key
from engine.errors import SettingsError
from engine.ledger.entries import UNIQUE_KINDS
from engine.ledger.writing import (
    ACKNOWLEDGE_SECONDS,
    ENTRY_VALUES,
    IDLE_SECONDS,
    INDEX_AT_ONCE,
    MAX_BATCH,
    Answers,
    Backoff,
    Gone,
    Waiting,
    Writer,
    away,
    index_rows,
    mark_stored,
    sign_group,
    unknown,
    without_repeats,
)
from engine.receipt import Receipt, Signer

_log = logging.getLogger(__name__)
_ATTEMPTS = 10


def _unnest(at: int, columns: Sequence[Column[Any]]) -> str:
    """`unnest($at::text[], …) AS u(name, …)` for values that arrive as one array a column."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = [column.type.compile(dialect) for column in columns]
    arrays = ", ".join(f"${at + number}::{name}[]" for number, name in enumerate(types))
    return f"unnest({arrays}) AS u({_names(columns)})"


def _names(columns: Iterable[Column[Any]], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{column.name}" for column in columns)


_OWN = [column for column in entry.c if column.name not in ("row", "batch", "created")]
_BESIDE = {table: [column for column in table.c if column.name != "entry"] for table in (sealed, event_key, digest)}


def _append_statement() -> str:
    """One statement for a whole group: batch, entries and all their rows, in one round trip and one transaction.

    It must write all or nothing. A conflict therefore fails it, instead of leaving an entry out: the tree that the
    receipts are made of would then have a leaf that was never written.
    """
    parts = [
        (
            f"made AS (INSERT INTO batch ({_names(batch.c)}) "
            "VALUES (nextval('batch_id'), $1, $2, $3, $4, $5, $6, $7) RETURNING id)"
        ),
        (
            f"new AS (INSERT INTO entry (row, {_names(_OWN)}, batch, created) "
            f"SELECT nextval('entry_row'), {_names(_OWN, 'u.')}, made.id, $8::bigint FROM made, {_unnest(9, _OWN)} "
            "RETURNING row, batch_index)"
        ),
    ]
    parts.append(
        "put_unplaced AS (INSERT INTO unplaced (batch, low, high) "
        "SELECT made.id, min(new.row), max(new.row) FROM made, new GROUP BY made.id)"
    )
    at = 9 + len(_OWN)
    for table, rest in _BESIDE.items():
        parts.append(
            f"put_{table.name} AS (INSERT INTO {table.name} (entry, {_names(rest)}) SELECT new.row, "
            f"{_names(rest, 'u.')} FROM {_unnest(at, [entry.c.batch_index, *rest])} JOIN new USING (batch_index) "
            "RETURNING entry)"
        )
        at += 1 + len(rest)
    keys = list(subject_key.c)
    parts += [
        "put_pending AS (INSERT INTO key_pending (entry) SELECT entry FROM put_event_key)",
        (
            f"put_key AS (INSERT INTO subject_key ({_names(keys)}) SELECT {_names(keys, 'u.')} "
            f"FROM {_unnest(at, keys)} ON CONFLICT DO NOTHING)"
        ),
    ]
    return f"WITH {', '.join(parts)} SELECT count(*) FROM new"


_APPEND = _append_statement()
_TAKEN = f"""
SELECT tenant, event_id FROM entry
WHERE (tenant, event_id) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND {db.ONE_VERDICT}
"""
_HOLDS = f"SELECT EXISTS (SELECT 1 FROM entry WHERE tenant = $1 AND event_id = $2 AND {db.ONE_VERDICT})"
# Two workers may index at once: each skips what the other one holds.
_WAITING_KEYS = """
SELECT key_pending.entry, (SELECT packed FROM event_key WHERE event_key.entry = key_pending.entry)
FROM key_pending ORDER BY entry LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_KEY_INDEX = """
INSERT INTO key_index (pseudonym, entry) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING
"""
_INDEXED = "DELETE FROM key_pending WHERE entry = ANY($1::bigint[])"

_LOST: tuple[type[BaseException], ...] = (
    *db.GONE,
    asyncpg.InternalServerError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)
_AWAY: tuple[type[BaseException], ...] = (*_LOST, Gone)
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class PostgreSQLWriter(Writer):
    """A task with a connection of its own; a statement under way is the window in which a group gathers."""

    def __init__(self, database: Database, signer: Signer) -> None:
        super().__init__(signer)
        self._dsn = database.url.render_as_string(hide_password=False)
        self._queue: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._connection: Any = None
        self._pool: Any = None
        self._task: asyncio.Task[None] | None = None
        self._pending = True

    async def start(self) -> None:
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=0, max_size=4, command_timeout=ACKNOWLEDGE_SECONDS
            )
            connection = await self._open()
            fsync = await connection.fetchval("SHOW fsync")
        except _AWAY as error:
            raise away(error) from error
        if fsync == "off":
            raise SettingsError("PostgreSQL runs with fsync = off: what it confirms is not durable; switch it on")
        self._task = asyncio.create_task(self._run(), name="arbiter-ledger")

    async def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._stop_watching()
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await connection.close(timeout=ACKNOWLEDGE_SECONDS)
        if self._pool is not None:
            await self._pool.close()

    async def holds(self, tenant: str, event_id: str) -> bool:
        try:
            return bool(await self._pool.fetchval(_HOLDS, tenant, event_id))
        except _LOST as error:
            raise away(error) from error

    async def index_keys(self) -> int:
        count = 0
        try:
            async with self._pool.acquire() as connection:
                while moved := await _index(connection):
                    count += moved
        except _LOST as error:
            raise away(error) from error
        return count

    def _put(self, item: Waiting) -> None:
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
        if self._closed:
            return
        try:
            async with asyncio.timeout(IDLE_SECONDS if self._pending or not self.alive else None):
                await self._wake.wait()
        except TimeoutError:
            await self._tidy()

    async def _tidy(self) -> None:
        """In a quiet moment: find a lost database again, index some pseudonyms.

        What fails is not lost: it stays in key_pending, and look-ups read it there.
        """
        if not self._backoff.over():
            return
        try:
            self._pending = await _index(await self._open()) > 0
        except Exception as error:  # noqa: BLE001 - whatever it was, the connection is not to be trusted
            # Only the kind: a PostgreSQL message may repeat values.
            _log.warning("the ledger's database does not answer: %s", type(error).__name__)
            self._drop()
        else:
            self.alive = True

    async def _commit(self, items: list[Waiting]) -> Answers:
        try:
            answers = await self._group(await self._open(), items)
        except _AWAY as error:
            self._drop()
            return [(item, unknown(error)) for item in items]
        except Exception as error:  # noqa: BLE001 - every caller hears of it; a task that ended would answer nobody
            if len(items) == 1:
                return [(items[0], error)]
        else:
            self.alive = True
            return answers
        # One of them cannot be written: each gets a transaction of its own.
        return [answer for item in items for answer in await self._commit([item])]

    async def _group(self, connection: Any, items: list[Waiting]) -> Answers:
        # Two workers that insert the same ids in different orders would wait for each other for ever.
        items = sorted(items, key=lambda item: (item.new.tenant, item.new.event_id or ""))
        taken: set[tuple[str, str]] = set()
        for _ in range(_ATTEMPTS):
            fresh, repeats = without_repeats(items, taken)
            try:
                receipts = await self._insert(connection, fresh) if fresh else ()
            except asyncpg.UniqueViolationError:
                found = await self._taken(connection, fresh)
                if not found:
                    raise
                taken |= found
            except _AGAIN:
                continue
            else:
                mark_stored(fresh)
                return [*zip(fresh, receipts, strict=True), *((item, None) for item in repeats)]
        raise Gone(f"{_ATTEMPTS} attempts met other writers")

    async def _taken(self, connection: Any, items: list[Waiting]) -> set[tuple[str, str]]:
        named = [(item.new.tenant, item.new.event_id) for item in items if item.new.kind in UNIQUE_KINDS]
        return {(row[0], row[1]) for row in await connection.fetch(_TAKEN, *_columns(named, 2))}

    async def _insert(self, connection: Any, items: list[Waiting]) -> Sequence[Receipt]:
        group = sign_group(self._signer, items, 0)
        entries = [(*ENTRY_VALUES(item.new), group.leaves[index], index) for index, item in enumerate(items)]
        arrays = [
            *_columns(entries, len(_OWN)),
            *_columns(group.cells, len(sealed.c)),
            *_columns(group.packed, len(event_key.c)),
            *_columns(group.digests, len(digest.c)),
            *_columns(group.keys, len(subject_key.c)),
        ]
        try:
            await connection.fetchval(_APPEND, *group.batch_values, group.now, *arrays, timeout=ACKNOWLEDGE_SECONDS)
        except asyncpg.PostgresError:
            # The server's own word (or the driver's, before it sent anything): nothing was written.
            raise
        except Exception as error:
            raise Gone(type(error).__name__) from error
        self._pending = True
        return group.receipts

    async def _open(self) -> Any:
        """The writing connection, made again when it was lost; Gone while the database is away."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if not self._backoff.over():
            raise Gone("the database was away a moment ago")
        try:
            connection = await asyncpg.connect(self._dsn, timeout=ACKNOWLEDGE_SECONDS)
            if await connection.fetchval("SHOW synchronous_commit") in ("off", "local"):
                await connection.execute("SET synchronous_commit = on")
        except _LOST as error:
            self._failed()
            raise Gone(str(error)) from error
        self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._failed()

    def _failed(self) -> None:
        self.alive = False
        self._backoff.failed()


async def _index(connection: Any) -> int:
    async with connection.transaction():
        rows = await connection.fetch(_WAITING_KEYS, INDEX_AT_ONCE)
        if rows:
            await connection.execute(_KEY_INDEX, *_columns(index_rows(rows), 2))
            await connection.execute(_INDEXED, [row[0] for row in rows])
    return len(rows)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Rows turned into one array a column."""
    return list(zip(*rows, strict=True)) if rows else [()] * width
