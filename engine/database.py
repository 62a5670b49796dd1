"""Where rows live: the tables, the two databases that hold them, and the migrations that make them.

    migrate("sqlite:///arbiter.db")
    database = Database("sqlite:///arbiter.db")
    keys = Rows(database, api_key)
    await keys.find(tenant="shop-a")

SQLite is one file beside the process; PostgreSQL serves several workers. Times are UTC microseconds since 1970.
A pseudonym or key id is 16 bytes here and 32 hex digits everywhere else.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import SchemaItem

from engine.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

BUSY_MS = 5_000
"""How long a SQLite connection waits for another one's write, milliseconds."""

SETTING = "ARBITER_DATABASE_URL"

# ---------------------------------------------------------------------------------------------- tables

# SQLite knows a row number only under the name INTEGER, and holds 64 bits in it.
Int64 = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData()


def _required(name: str, kind: Any, *args: Any, **more: Any) -> Column[Any]:
    # Numbers come from the ledger, never from a hidden default of the database.
    return Column(name, kind, *args, nullable=False, autoincrement=False, **more)


def _table(name: str, *items: SchemaItem, clustered: bool = False) -> Table:
    """A table that checks types; `clustered` ones lie in the order of their primary key in SQLite."""
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=not clustered)


batch = _table(
    "batch",
    _required("id", Int64, primary_key=True),
    _required("root", LargeBinary),
    _required("size", Int64),
    # The leaf hashes in order: a receipt's path is computed from this one row, without an index over entries.
    _required("leaves", LargeBinary),
    _required("signed_at", Int64),
    _required("log", Text),
    _required("key_id", Text),
    _required("signature", LargeBinary),
)
"""One row per commit: what its receipts are made of. Append-only."""

entry = _table(
    "entry",
    _required("row", Int64, primary_key=True),
    _required("id", Text),
    _required("tenant", Text),
    _required("kind", Text),
    Column("event_id", Text),
    _required("event_kind", Text),
    _required("at", Int64),
    _required("received_at", Int64),
    Column("order_id", Text),
    Column("merchant_id", Text),
    Column("verdict", Text),
    Column("refers_to", Text),
    _required("leaf", LargeBinary),
    _required("leaf_hash", LargeBinary),
    _required("batch", Int64, ForeignKey("batch.id")),
    _required("batch_index", Int64),
    _required("created", Int64),
)
"""The ledger. `row` is the order of arrival in this database, not a position in a log. Append-only."""

ONE_VERDICT = text("kind IN ('decision', 'event')")
"""The entries of which a (tenant, event id) has at most one."""

Index("entry_id", entry.c.id, unique=True)
Index(
    "entry_event", entry.c.tenant, entry.c.event_id, unique=True, sqlite_where=ONE_VERDICT, postgresql_where=ONE_VERDICT
)
Index("entry_received", entry.c.tenant, entry.c.received_at)

CASES = text("(kind = 'resolution' OR verdict IN ('challenge', 'review'))")
"""The entries that open a case, and those that rule in one."""

Index("entry_cases", entry.c.tenant, entry.c.received_at, sqlite_where=CASES, postgresql_where=CASES)


CHANGES = text("kind = 'change'")
"""The changes of what decides: few, and looked for by what they changed."""

Index("entry_changes", entry.c.event_kind, entry.c.row, sqlite_where=CHANGES, postgresql_where=CHANGES)


ACCESSES = text("kind = 'access'")
"""Looks at personal data and exports: few, and looked for by what was done and when."""

Index(
    "entry_accesses",
    *(entry.c.tenant, entry.c.event_kind, entry.c.received_at),
    sqlite_where=ACCESSES,
    postgresql_where=ACCESSES,
)


def _listed(column: Column[Any]) -> None:
    """An index for listing a tenant's entries by `column`, newest first; rows without a value are not in it."""
    held = column.is_not(None)
    name = f"entry_{column.name}"
    Index(name, entry.c.tenant, column, entry.c.received_at, sqlite_where=held, postgresql_where=held)


for _column in (entry.c.order_id, entry.c.merchant_id, entry.c.verdict, entry.c.refers_to):
    _listed(_column)

unplaced = _table(
    "unplaced",
    _required("batch", Int64, ForeignKey("batch.id"), primary_key=True),
    _required("low", Int64),
    _required("high", Int64),
)
"""The batches that have no place in the log yet, written with them. `low` and `high`: their lowest and highest row."""

placed = _table(
    "placed",
    _required("first", Int64, primary_key=True),
    _required("size", Int64),
    _required("batch", Int64, ForeignKey("batch.id"), unique=True),
    _required("low", Int64),
    _required("high", Int64),
)
"""The log: which batch begins at position `first`. The next one begins where it ends. Append-only."""

tile = _table(
    "tile",
    _required("level", Int64, primary_key=True),
    _required("number", Int64, primary_key=True),
    _required("hashes", LargeBinary),
)
"""The tree over the log in tiles of 256 hashes (C2SP tlog-tiles). Can be made again from `placed` and `batch`."""

checkpoint = _table(
    "checkpoint",
    _required("size", Int64, primary_key=True),
    _required("root", LargeBinary),
    _required("note", Text),
    _required("signed_at", Int64),
)
"""What the log's key signed: so many leaves, this root. Append-only."""

anchor = _table(
    "anchor",
    _required("size", Int64, ForeignKey("checkpoint.size"), primary_key=True),
    _required("name", Text, primary_key=True),
    _required("kind", Text),
    _required("at", Int64),
    _required("proof", LargeBinary),
)
"""Who outside saw a checkpoint: a witness's signature, a timestamp, a copy in a folder."""

sealed = _table(
    "sealed",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("subject", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("key_id", LargeBinary),
    _required("ciphertext", LargeBinary),
    clustered=True,
)
"""Personal data, one ciphertext per record and subject. Deletable."""

subject_key = _table(
    "subject_key",
    _required("key_id", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("subject", LargeBinary),
    _required("kek_id", Text),
    _required("wrapped", LargeBinary),
    _required("created", Int64),
    clustered=True,
)
"""The wrapped data keys of a subject, one or several. Deleting them is erasure. There is no index over `subject`: an
erasure reads the table once, an order would pay for the index each time; key ids rise with time and fall in place."""

tenant_key = _table(
    "tenant_key",
    _required("tenant", Text, primary_key=True),
    _required("version", Int64, primary_key=True),
    _required("service", Text),
    _required("wrapped", LargeBinary),
    _required("created", Int64),
    _required("wrapped_at", Int64),
    clustered=True,
)
"""The keys of tenants, each version wrapped by a key service: `service` is its name, ':' and the key that wrapped it. A
data key whose `kek_id` is `tenant/VERSION` is wrapped by one of them, any other by a key of the key file."""

restriction = _table(
    "restriction",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("subject", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("until", Int64),
    clustered=True,
)
"""The ciphertexts of erased persons that the law keeps until a time (UTC µs): for storage and security only. They are
under data keys of their own, and gone with their row once that time is over."""

event_key = _table(
    "event_key",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("tenant", Text),
    _required("packed", LargeBinary),
)
"""All pseudonyms of one entry in one value (`pack_keys`), for rebuilding windows. Deletable."""

key_index = _table(
    "key_index",
    _required("pseudonym", LargeBinary, primary_key=True),
    _required("entry", Int64, primary_key=True),
    clustered=True,
)
"""Pseudonym → entries. Deletable. Filled from `event_key` behind the commits (`key_pending`), in quiet moments: its
random places cost an append about two thirds more again. That work is put off, not saved: a writer that never rests
does it all the same."""

key_pending = _table("key_pending", _required("entry", Int64, primary_key=True))
"""Entries whose pseudonyms are not in `key_index` yet."""

digest = _table(
    "digest",
    _required("entry", Int64, ForeignKey("entry.row"), primary_key=True),
    _required("tenant", Text),
    _required("digest", LargeBinary),
)
"""The keyed digest of the body an entry answered: tells a retry from a reused id. Deletable."""

api_key = _table(
    "api_key",
    _required("hash", LargeBinary, primary_key=True),
    _required("tenant", Text),
    _required("name", Text),
    _required("kind", Text),
    _required("scopes", Text),
    _required("created", Int64),
    Column("expires", Int64),
    Column("revoked", Int64),
)
"""Callers: `kind` is service or person, `scopes` are words with spaces between, `hash` the SHA-256 of the key."""

list_entry = _table(
    "list_entry",
    _required("tenant", Text, primary_key=True),
    _required("list", Text, primary_key=True),
    _required("value", Text, primary_key=True),
    _required("state", Text),
    _required("reason", Text),
    _required("added_by", Text),
    _required("added", Int64),
    Column("approved_by", Text),
    Column("expires", Int64),
    Column("ended_by", Text),
    Column("end_approved_by", Text),
)
"""Entries of named lists kept through the API; `value` is a pseudonym where the list holds personal data."""

merchant = _table(
    "merchant",
    _required("tenant", Text, primary_key=True),
    _required("id", Text, primary_key=True),
    _required("tier", Text),
    _required("reason", Text),
    _required("updated", Int64),
)
"""The tier of a merchant, which the caller never sets."""

rulebook = _table(
    "rulebook",
    _required("hash", Text, primary_key=True),
    _required("content", LargeBinary),
    _required("first_seen", Int64),
)
"""Every rulebook that ever decided, whole, by its hash."""

setting = _table("setting", _required("name", Text, primary_key=True), _required("value", Text))
"""What must stay the same as long as this database lives, such as the fingerprint of its key file."""

# ------------------------------------------------------------------------------------------- addresses


def address(url: str) -> URL:
    """The parsed database URL. SettingsError says what is wrong without repeating a password."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise SettingsError(f"{SETTING} is not a URL; {_FORMS}") from None
    if parsed.drivername == "sqlite":
        return _sqlite_address(parsed)
    if parsed.drivername in ("postgresql", "postgres"):
        if not parsed.database:
            raise SettingsError(f"{SETTING} names no database; {_FORMS}")
        return parsed.set(drivername="postgresql")
    raise SettingsError(f"{SETTING} starts with '{parsed.drivername}:', which is not supported; {_FORMS}")


_FORMS = "write sqlite:///path/to/file.db or postgresql://user:password@host/database"


def _sqlite_address(parsed: URL) -> URL:
    if parsed.host:
        raise SettingsError(f"{SETTING}: a SQLite URL has three slashes (sqlite:///file.db), four for an absolute path")
    if parsed.query:
        raise SettingsError(f"{SETTING}: a SQLite URL takes no options after '?'")
    if not parsed.database or parsed.database == ":memory:":
        raise SettingsError(f"{SETTING}: a ledger in memory keeps nothing; {_FORMS}")
    folder = Path(parsed.database).absolute().parent
    if not folder.is_dir():
        raise SettingsError(f"{SETTING}: the folder {folder} does not exist; create it first")
    if Path(parsed.database).is_dir():
        raise SettingsError(f"{SETTING}: {parsed.database} is a folder; name a file in it")
    return parsed


def sqlite_path(url: URL) -> Path:
    """The file of a SQLite address."""
    assert url.drivername == "sqlite"
    assert url.database
    return Path(url.database).absolute()


def open_sqlite(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A raw connection that commits for good: WAL, fsync at each commit, foreign keys, in autocommit mode.

    Never makes a file unless `create`: a ledger that vanished must be noticed, not replaced by an empty one.
    """
    uri = f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # What is erased must not stay in the file's free pages, however this SQLite was built.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -65536")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


# --------------------------------------------------------------------------------------------- opening


class Database:
    """One database for everything off the hot path. Work is a plain function that gets a SQLAlchemy connection.

    `read` and `write` run it in one transaction and raise Unavailable when the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = address(url)
        self.dialect = self.url.drivername
        if self.dialect == "sqlite":
            self._engine: Engine | AsyncEngine = _sqlite_engine(self.url)
            self._threads = ThreadPoolExecutor(4, thread_name_prefix="arbiter-database")
        else:
            self._engine = _postgresql_engine(self.url)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, from one consistent view."""
        return await self._run(work, write=False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once its changes are durable."""
        return await self._run(work, write=True)

    async def scrub(self) -> None:
        """Let go of what was deleted before: SQLite's log of pages (WAL) still has it. PostgreSQL has its own ways.

        As far as nobody reads from that log just now; what stays goes as the log is written over.
        """
        if isinstance(self._engine, Engine):
            engine, loop = self._engine, asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, partial(_truncate_log, engine))

    async def close(self) -> None:
        """Give all connections back."""
        if isinstance(self._engine, Engine):
            self._threads.shutdown()
            self._engine.dispose()
        else:
            await self._engine.dispose()

    async def _run(self, work: Callable[[Connection], T], *, write: bool) -> T:
        try:
            if isinstance(self._engine, Engine):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, partial(_in_transaction, self._engine, work, write))
            async with self._engine.connect() as connection:
                if not write:  # Else each statement would see what was committed since the one before.
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    return await connection.run_sync(work)
        except _MAYBE_GONE as error:
            if not _is_gone(error):
                raise
            raise Unavailable("the database does not answer", "database_unavailable") from error


GONE: tuple[type[BaseException], ...] = (
    OSError,
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,  # the driver's own confusion about a connection that was cut
)
"""What a driver raises when the database is away, full or shutting down."""
_MAYBE_GONE: tuple[type[BaseException], ...] = (*GONE, exc.DBAPIError)


def _is_gone(error: BaseException) -> bool:
    if isinstance(error, GONE) or type(error) is exc.DatabaseError:  # a bare DatabaseError is a damaged file
        return True
    # SQLAlchemy knows few of asyncpg's errors by name: the others come as a bare DBAPIError around the original.
    return isinstance(error, exc.DBAPIError) and (
        error.connection_invalidated or isinstance(getattr(error.orig, "__cause__", None), GONE)
    )


def _in_transaction(engine: Engine, work: Callable[[Connection], T], write: bool) -> T:
    with engine.connect().execution_options(arbiter_write=write) as connection, connection.begin():
        return work(connection)


def _truncate_log(engine: Engine) -> None:
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        raw.close()


def _sqlite_engine(url: URL, *, create: bool = False) -> Engine:
    path = sqlite_path(url)

    engine = create_engine("sqlite://", creator=partial(open_sqlite, path, create=create), poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that starts with reading and then writes fails at once when another one wrote in between.
        write = connection.get_execution_options().get("arbiter_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # with it comes the ORM, which SQLite has no use for

    return create_async_engine(url.set(drivername="postgresql+asyncpg"), pool_pre_ping=True, pool_size=4)


# ------------------------------------------------------------------------------------------- migrations


def migrate(url: str) -> None:
    """Bring the database to the newest schema, making the SQLite file where there is none. Safe to run twice at once.

    SettingsError: the database is away, may not be written, or is newer than this Arbiter.
    """
    parsed = address(url)
    try:
        if parsed.drivername == "sqlite":
            _migrate_sqlite(parsed)
        else:
            # A caller may be inside a running loop, where asyncio.run is refused: a thread of its own has none.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(lambda: asyncio.run(_migrate_postgresql(parsed))).result()
    except _MAYBE_GONE as error:
        shown = parsed.render_as_string(hide_password=True)
        raise SettingsError(f"{SETTING}: cannot open {shown}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _migrate_sqlite(url: URL) -> None:
    engine = _sqlite_engine(url, create=True)
    try:
        with engine.connect().execution_options(arbiter_write=True) as connection, connection.begin():
            _upgrade(connection)
    finally:
        engine.dispose()
    # A key file's neighbour: personal data in it is sealed, order numbers are not.
    sqlite_path(url).chmod(0o600)


async def _migrate_postgresql(url: URL) -> None:
    engine = _postgresql_engine(url)
    try:
        async with engine.begin() as connection:
            # Two workers may start at the same moment; the second waits here and finds the work done.
            await connection.execute(text("SELECT pg_advisory_xact_lock(7266741)"))
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(f"{SETTING}: this database was made by a newer Arbiter ({error})") from error


def backup(url: str, to: Path) -> None:
    """A consistent copy of a SQLite ledger, also while it is written to. For PostgreSQL use pg_dump.

    The copy appears under its name only when it is whole and on disk. SettingsError when `to` is taken.
    """
    parsed = address(url)
    if parsed.drivername != "sqlite":
        raise SettingsError("this is a PostgreSQL ledger: back it up with pg_dump --format=custom (docs/backup.md)")
    if to.exists():
        raise SettingsError(f"{to} exists already; a backup never overwrites")
    part = to.with_name(f"{to.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(open_sqlite(sqlite_path(parsed))) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        part.chmod(0o600)
        _sync(part)
        part.rename(to)
        _sync(to.parent)
    except sqlite3.Error as error:
        part.unlink(missing_ok=True)
        raise Unavailable(f"the backup failed: {error}", "backup_failed") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ------------------------------------------------------------------------------------- small repositories


class Rows:
    """The rows of one table, found and written by equality: API keys, list entries, merchants, rulebooks."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        # The two `insert` take ON CONFLICT alike, but share no type that says so.
        self._insert: Any = sqlite.insert if database.dialect == "sqlite" else postgresql.insert

    async def find(self, **where: Any) -> list[dict[str, Any]]:
        """All rows whose columns equal `where`, in the order of the primary key."""
        query = self._table.select().where(*self._conditions(where)).order_by(*self._table.primary_key.columns)
        return await self._database.read(lambda c: [dict(row) for row in c.execute(query).mappings()])

    async def add(self, **row: Any) -> bool:
        """Insert a row; False, and nothing changed, when its primary key is taken."""
        statement = self._insert(self._table).values(row).on_conflict_do_nothing()
        return await self._database.write(lambda c: c.execute(statement).rowcount == 1)

    async def put(self, **row: Any) -> None:
        """Insert a row, or replace the one with the same primary key."""
        keys = [column.name for column in self._table.primary_key.columns]
        rest = {name: value for name, value in row.items() if name not in keys}
        statement = self._insert(self._table).values(row).on_conflict_do_update(index_elements=keys, set_=rest)
        await self._database.write(lambda c: c.execute(statement))

    async def change(self, where: Mapping[str, Any], **values: Any) -> int:
        """Set `values` in all rows whose columns equal `where`; how many there were."""
        statement = self._table.update().where(*self._conditions(where)).values(values)
        return await self._database.write(lambda c: c.execute(statement).rowcount)

    async def remove(self, **where: Any) -> int:
        """Delete all rows whose columns equal `where`; how many there were. At least one column must be named."""
        assert where, "removing every row of a table is never meant"
        statement = self._table.delete().where(*self._conditions(where))
        return await self._database.write(lambda c: c.execute(statement).rowcount)

    def _conditions(self, where: Mapping[str, Any]) -> list[ColumnElement[bool]]:
        return [self._table.c[name] == value for name, value in where.items()]
