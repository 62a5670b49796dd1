"""The writer of a SQLite ledger: one thread, one connection, one transaction for all that waits."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite

from engine import database as db
from engine.database import Database, batch, digest, entry, event_key, key_index, key_pending, sealed, subject_key
from engine.ledger.entries import UNIQUE_KINDS, Entry
from engine.ledger.writing import (
    ENTRY_VALUES,
    IDLE_SECONDS,
    INDEX_AT_ONCE,
    MAX_BATCH,
    Answers,
    Backoff,
    Gone,
    Outcome,
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

MAX_PENDING = 20_000
"""Entries that may wait for the pseudonym index before it is filled although the writer is busy.

Measured on two cores, SQLite FULL, 64 callers, 10 keys and 3 subjects each: 12,200 appends/s below this, 7,400 at it.
"""

_log = logging.getLogger(__name__)


def _insert(table: Table, *, skip_taken: bool = False) -> str:
    """The INSERT of one row of `table`, compiled once; `executemany` takes it for a group.

    Statements of many rows were measured and gave nothing: the same throughput, slightly more CPU.
    """
    made: Any = sqlite.insert(table)
    if skip_taken:
        made = made.on_conflict_do_nothing()
    return str(made.compile(dialect=sqlite.dialect(paramstyle="qmark")))


_BATCH, _ENTRY, _SEALED = _insert(batch), _insert(entry), _insert(sealed)
_EVENT_KEY, _KEY_PENDING, _DIGEST = _insert(event_key), _insert(key_pending), _insert(digest)
_SUBJECT_KEY, _KEY_INDEX = _insert(subject_key, skip_taken=True), _insert(key_index, skip_taken=True)

# One statement says what is taken and where the numbers stand. The named pairs are few and the entries many: CROSS JOIN
# keeps SQLite from turning the loops around.
_TAKEN = f"""
SELECT 1, tenant, event_id FROM json_each(?) AS named CROSS JOIN entry
WHERE tenant = json_extract(named.value, '$[0]') AND event_id = json_extract(named.value, '$[1]') AND {db.ONE_VERDICT}
UNION ALL SELECT 0, (SELECT max("row") FROM entry), (SELECT max(id) FROM batch)
"""
_HOLDS = f"SELECT 1 FROM entry WHERE tenant = ? AND event_id = ? AND {db.ONE_VERDICT}"
_WAITING_KEYS = """
SELECT key_pending.entry, event_key.packed FROM key_pending
LEFT JOIN event_key ON event_key.entry = key_pending.entry ORDER BY key_pending.entry LIMIT ?
"""
_INDEXED = "DELETE FROM key_pending WHERE entry BETWEEN ? AND ?"

_Job = Callable[[], None]


class SQLiteWriter(Writer):
    """A thread that owns the one writing connection; a commit in progress is the window in which a group gathers."""

    def __init__(self, database: Database, signer: Signer) -> None:
        super().__init__(signer)
        self._path = db.sqlite_path(database.url)
        self._queue: queue.SimpleQueue[Waiting | _Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="arbiter-ledger", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._backoff = Backoff()
        self._pending = 0

    async def start(self) -> None:
        connection = self._open()
        self._pending = connection.execute("SELECT count(*) FROM key_pending").fetchone()[0]
        self._thread.start()

    async def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        # The thread's last answers are callbacks of this loop: let them run before the caller goes on.
        await asyncio.sleep(0)
        self._stop_watching()
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()

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
            raise away(error) from error

    async def index_keys(self) -> int:
        done: asyncio.Future[int] = self._loop.create_future()

        def job() -> None:
            try:
                count = 0
                while moved := self._index():
                    count += moved
                self._tell(done.set_result, count)
            except (sqlite3.Error, Gone) as error:
                self._tell(done.set_exception, away(error))

        self._queue.put(job)
        return await done

    def _put(self, item: Waiting) -> None:
        self._queue.put(item)

    # What follows runs on the writer's thread.

    def _run(self) -> None:
        running = True
        while running:
            items, jobs, running = self._take()
            if items:
                self._tell(self._answer, self._commit(items))
            for job in jobs:
                job()
            if not items or self._pending > MAX_PENDING:
                self._tidy()

    def _take(self) -> tuple[list[Waiting], list[_Job], bool]:
        """What waits, at most a full group, and whether to go on; blocks while there is nothing to do."""
        items: list[Waiting] = []
        jobs: list[_Job] = []
        try:
            got = self._queue.get(timeout=IDLE_SECONDS if self._pending or not self.alive else None)
            while got is not None:
                if isinstance(got, Waiting):
                    items.append(got)
                else:
                    jobs.append(got)
                if len(items) >= MAX_BATCH:
                    return items, jobs, True
                got = self._queue.get_nowait()
        except queue.Empty:
            return items, jobs, True
        return items, jobs, False

    def _tell(self, callback: Callable[..., Any], *args: Any) -> None:
        # A closed loop has nobody left who waits for an answer.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *args)

    def _commit(self, items: list[Waiting]) -> Answers:
        try:
            answers = self._group(self._open(), items)
        except Exception as error:  # noqa: BLE001 - every caller hears of it; a thread that ended would answer nobody
            if _is_gone(error):
                self._drop()
                return [(item, unknown(error)) for item in items]
            if len(items) == 1:
                return [(items[0], self._refusal(items[0].new, error))]
        else:
            self.alive = True
            return answers
        # One of them cannot be written: each gets a transaction of its own.
        return [answer for item in items for answer in self._commit([item])]

    def _group(self, connection: sqlite3.Connection, items: list[Waiting]) -> Answers:
        named = json.dumps([(item.new.tenant, item.new.event_id) for item in items], ensure_ascii=False)
        with _immediate(connection):
            rows = connection.execute(_TAKEN, (named,)).fetchall()
            taken = {(tenant, event_id) for held, tenant, event_id in rows if held}
            _, last_row, last_batch = next(row for row in rows if not row[0])
            fresh, repeats = without_repeats(items, taken)
            receipts = self._insert(connection, fresh, last_row or 0, last_batch or 0) if fresh else ()
        mark_stored(fresh)
        return [*zip(fresh, receipts, strict=True), *((item, None) for item in repeats)]

    def _insert(
        self, connection: sqlite3.Connection, items: list[Waiting], last_row: int, last_batch: int
    ) -> Sequence[Receipt]:
        # Inside BEGIN IMMEDIATE nobody else writes: numbers that follow the last ones are ours.
        group = sign_group(self._signer, items, last_row + 1)
        number, now, leaves = last_batch + 1, group.now, group.leaves
        entries = [
            (last_row + 1 + index, *ENTRY_VALUES(item.new), leaves[index], number, index, now)
            for index, item in enumerate(items)
        ]
        connection.execute(_BATCH, (number, *group.batch_values))
        connection.executemany(_ENTRY, entries)
        connection.executemany(_SEALED, group.cells)
        connection.executemany(_SUBJECT_KEY, group.keys)
        connection.executemany(_EVENT_KEY, group.packed)
        connection.executemany(_KEY_PENDING, [row[:1] for row in group.packed])
        connection.executemany(_DIGEST, group.digests)
        self._pending += len(group.packed)
        return group.receipts

    def _refusal(self, new: Entry, error: Exception) -> Outcome:
        """What the writer of a refused entry hears: its event id is taken after all, or the error itself."""
        if isinstance(error, sqlite3.IntegrityError) and new.kind in UNIQUE_KINDS and self._connection is not None:
            held = self._connection.execute(_HOLDS, (new.tenant, new.event_id)).fetchone()
            return None if held else error
        return error

    def _open(self) -> sqlite3.Connection:
        """The writing connection, opened again when it was lost; Gone while the file is away or another one."""
        if self._connection is not None:
            if _identity(self._path) == self._file:
                return self._connection
            # The file was moved or replaced under us: what we would write nobody could ever read.
            self._drop()
        if not self._backoff.over():
            raise Gone("the database was away a moment ago")
        try:
            connection = db.open_sqlite(self._path)
        except sqlite3.Error as error:
            self._failed()
            raise Gone(str(error)) from error
        self._connection, self._file = connection, _identity(self._path)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._failed()

    def _failed(self) -> None:
        self.alive = False
        self._backoff.failed()

    def _tidy(self) -> None:
        """In a quiet moment: find a lost database again, index some pseudonyms.

        What fails is not lost: it stays in key_pending, and look-ups read it there.
        """
        if not self._backoff.over() or (self.alive and not self._pending):
            return
        try:
            self._index()
        except (sqlite3.Error, Gone) as error:
            _log.warning("the ledger's database does not answer: %s", error)
            self._drop()
        else:
            self.alive = True

    def _index(self) -> int:
        connection = self._open()
        with _immediate(connection):
            rows = connection.execute(_WAITING_KEYS, (INDEX_AT_ONCE,)).fetchall()
            if rows:
                connection.executemany(_KEY_INDEX, index_rows(rows))
                connection.execute(_INDEXED, (rows[0][0], rows[-1][0]))
        self._pending = max(0, self._pending - len(rows)) if len(rows) == INDEX_AT_ONCE else 0
        return len(rows)


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that owns the right to write from its first moment; undone when anything fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_gone(error: Exception) -> bool:
    """Whether the database failed rather than the row: locked, full, unreadable, damaged, away."""
    return isinstance(error, (Gone, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError
