"""The writer of a SQLite ledger: one connection, one transaction for all that waits."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite

from engine import database as db
from engine.database import (
    Database,
    batch,
    digest,
    entry,
    event_key,
    key_index,
    key_pending,
    sealed,
    subject_key,
    unplaced,
)
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

Measured on two cores, SQLite FULL, 64 callers, 10 keys and 3 subjects each: 9,900 appends/s below this, 6,500 at it.
"""

INDEX_BEHIND = 500
"""Entries that are indexed at once then. More of their pseudonyms fall into one page of the index: 6,500 appends/s,
where a hundred at once left 4,200. Verdicts wait some 25 ms for it, twice a second."""

_log = logging.getLogger(__name__)


def _insert(table: Table, *, skip_taken: bool = False, rows: int = 1) -> str:
    """The INSERT of so many rows of `table`, compiled once; `executemany` takes that of one for a group.

    For what the loop writes, statements of many rows were measured and gave nothing.
    """
    made: Any = sqlite.insert(table)
    if rows > 1:
        made = made.values([{column.name: None for column in table.c}] * rows)
    if skip_taken:
        made = made.on_conflict_do_nothing()
    return str(made.compile(dialect=sqlite.dialect(paramstyle="qmark")))


_BATCH, _UNPLACED, _ENTRY, _SEALED = _insert(batch), _insert(unplaced), _insert(entry), _insert(sealed)
_EVENT_KEY, _KEY_PENDING, _DIGEST = _insert(event_key), _insert(key_pending), _insert(digest)
_SUBJECT_KEY = _insert(subject_key, skip_taken=True)
_KEY_INDEX = {rows: _insert(key_index, skip_taken=True, rows=rows) for rows in (256, 16, 1)}
"""The INSERT of so many pairs."""

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

_Job = Callable[[], Callable[[], None] | None]
"""Work for the thread; it returns what the loop is to do about it."""


class SQLiteWriter(Writer):
    """One writing connection, which the event loop and one thread hand to each other; one of them has it at a time.

    The loop writes a group's rows: that is processor time, which both would have to take from the same interpreter, and
    each step of a statement gives up and takes back its lock. The thread does what may wait for a disk or for another
    process: the commit, opening, a group that did not go the usual way, the index of pseudonyms. A commit in progress
    is the window in which the next group gathers.
    """

    def __init__(self, database: Database, signer: Signer) -> None:
        super().__init__(signer)
        self._path = db.sqlite_path(database.url)
        self._waiting: deque[Waiting] = deque()
        self._jobs: deque[_Job] = deque()
        self._busy = False
        """Whether the thread has the connection, or the loop is about to use it."""
        self._rest: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="arbiter-ledger")
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._backoff = Backoff()
        self._pending = 0

    async def start(self) -> None:
        connection = self._open()
        self._pending = connection.execute("SELECT count(*) FROM key_pending").fetchone()[0]
        self._go_on()

    async def close(self) -> None:
        self._closed = True
        self._go_on()
        await self._ended.wait()
        self._thread.shutdown()
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

        def job() -> Callable[[], None]:
            try:
                count = 0
                while moved := self._index():
                    count += moved
            except (sqlite3.Error, Gone) as error:
                return partial(done.set_exception, away(error))
            return partial(done.set_result, count)

        self._jobs.append(job)
        self._go_on()
        return await done

    # What follows runs on the event loop.

    def _put(self, item: Waiting) -> None:
        self._waiting.append(item)
        self._go_on()

    def _go_on(self) -> None:
        """Soon, and so behind everything that is ready to run now: what that appends belongs into the same group."""
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin the next piece of work, if there is one."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._jobs:
            self._hand_over(self._jobs.popleft())
        elif self._waiting:
            self._begin([self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))])
        elif self._closed:
            self._ended.set()
        else:
            self._busy = False
            if self._pending or not self.alive:
                self._rest = self._loop.call_later(IDLE_SECONDS, self._look_after)

    def _look_after(self) -> None:
        """Nothing came for a moment."""
        self._rest = None
        if not self._busy:
            self._busy = True
            self._hand_over(self._tidy)

    def _begin(self, items: list[Waiting]) -> None:
        """Write the rows of a group, and let the thread commit them."""
        if self._pending > MAX_PENDING:
            self._jobs.append(lambda: self._tidy(INDEX_BEHIND))
        try:
            answers = self._rows(items)
        except Exception:  # noqa: BLE001 - the thread does it again, waits longer, and finds out whose fault it is
            answers = None
        if answers is None:
            self._hand_over(lambda: partial(self._answer, self._commit(items)))
        else:
            self._hand_over(lambda: partial(self._answer, self._confirm(answers)))

    def _rows(self, items: list[Waiting]) -> Answers | None:
        """What to answer once the rows of `items`, written now, are committed; None without a connection.

        Waits for nobody: raises when another connection holds the right to write.
        """
        connection = self._connection
        if connection is None or _identity(self._path) != self._file:
            return None
        connection.execute("BEGIN IMMEDIATE")
        with _undone(connection):
            return self._group(connection, items)

    def _hand_over(self, job: _Job) -> None:
        """Give the connection to the thread for one job; what the job returns runs here, then the next turn begins."""
        self._thread.submit(job).add_done_callback(self._handed_back)

    def _handed_back(self, future: Future[Callable[[], None] | None]) -> None:
        # On the thread. A closed loop has nobody left who waits for an answer.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._taken_back, future)

    def _taken_back(self, future: Future[Callable[[], None] | None]) -> None:
        try:
            tell = future.result()
            if tell is not None:
                tell()
        finally:
            # Behind the callers that were told: their answers go out before the next group is written.
            self._loop.call_soon(self._turn)

    # What follows runs on the thread.

    def _confirm(self, answers: Answers) -> Answers:
        """Commit what the loop wrote; the answers that are true then."""
        connection = self._connection
        assert connection is not None, "the loop wrote to it"
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _log.warning("a commit failed: %s", error)
            self._drop()
            return [(item, unknown(error)) for item, _ in answers]
        return self._done(answers)

    def _commit(self, items: list[Waiting]) -> Answers:
        """Open and wait as long as it takes, and give each row its own transaction if one of them does not fit."""
        try:
            connection = self._open()
            with _immediate(connection):
                answers = self._group(connection, items)
        except Exception as error:  # noqa: BLE001 - every caller hears of it; a thread that ended would answer nobody
            if _is_gone(error):
                self._drop()
                return [(item, unknown(error)) for item in items]
            if len(items) == 1:
                return [(items[0], self._refusal(items[0].new, error))]
        else:
            return self._done(answers)
        # One of them cannot be written: each gets a transaction of its own.
        return [answer for item in items for answer in self._commit([item])]

    def _done(self, answers: Answers) -> Answers:
        self.alive = True
        mark_stored(item for item, receipt in answers if receipt is not None)
        return answers

    def _group(self, connection: sqlite3.Connection, items: list[Waiting]) -> Answers:
        """Write the rows of `items`, inside a transaction; the answers that are true once it is committed."""
        named = json.dumps([(item.new.tenant, item.new.event_id) for item in items], ensure_ascii=False)
        rows = connection.execute(_TAKEN, (named,)).fetchall()
        taken = {(tenant, event_id) for held, tenant, event_id in rows if held}
        _, last_row, last_batch = next(row for row in rows if not row[0])
        fresh, repeats = without_repeats(items, taken)
        receipts = self._insert(connection, fresh, last_row or 0, last_batch or 0) if fresh else ()
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
        connection.execute(_UNPLACED, (number, last_row + 1, last_row + len(items)))
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
            connection.execute("PRAGMA busy_timeout = 0")
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

    def _tidy(self, entries: int = INDEX_AT_ONCE) -> None:
        """In a quiet moment: find a lost database again, index the pseudonyms of some entries.

        What fails is not lost: it stays in key_pending, and look-ups read it there.
        """
        if not self._backoff.over() or (self.alive and not self._pending):
            return
        try:
            self._index(entries)
        except (sqlite3.Error, Gone) as error:
            _log.warning("the ledger's database does not answer: %s", error)
            self._drop()
        else:
            self.alive = True

    def _index(self, entries: int = INDEX_BEHIND) -> int:
        connection = self._open()
        with _immediate(connection):
            rows = connection.execute(_WAITING_KEYS, (entries,)).fetchall()
            if rows:
                _put_index(connection, index_rows(rows))
                connection.execute(_INDEXED, (rows[0][0], rows[-1][0]))
        self._pending = max(0, self._pending - len(rows)) if len(rows) == entries else 0
        return len(rows)


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that owns the right to write from its first moment, for which it waits its turn."""
    connection.execute(f"PRAGMA busy_timeout = {db.BUSY_MS}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
    with _undone(connection):
        yield
        connection.execute("COMMIT")


@contextmanager
def _undone(connection: sqlite3.Connection) -> Iterator[None]:
    """When anything fails, the transaction under way is as if it had never begun."""
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _put_index(connection: sqlite3.Connection, pairs: Sequence[tuple[bytes, int]]) -> None:
    """Add (pseudonym, entry) pairs, many in each statement: each step gives up the interpreter's lock, and the thread
    waits to get it back while the loop is busy."""
    at = 0
    for size, statement in _KEY_INDEX.items():
        while len(pairs) - at >= size:
            connection.execute(statement, [*chain.from_iterable(pairs[at : at + size])])
            at += size


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_gone(error: Exception) -> bool:
    """Whether the database failed rather than the row: locked, full, unreadable, damaged, away."""
    return isinstance(error, (Gone, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError
