"""Where rows live: the tables, the two databases that hold them, and the migrations that make them.

    migrate("sqlite:///arbiter.db")
    database = Database("sqlite:///arbiter.db")
    keys = Rows(database, api_key)
    await keys.find(tenant="shop-a")

SQLite is one file beside the process; PostgreSQL serves several workers.
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
    ColumnElement,
    Connection,
    Table,
    create_engine,
    event,
    exc,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import QueuePool

from engine.database.tables import (
    ACCESSES,
    APPEALS,
    CASES,
    CHANGES,
    ONE_VERDICT,
    Int64,
    anchor,
    api_key,
    batch,
    checkpoint,
    digest,
    entry,
    event_key,
    image,
    image_reference,
    incident,
    incident_step,
    key_index,
    key_pending,
    list_entry,
    merchant,
    metadata,
    mode,
    opinion,
    placed,
    proposal,
    restriction,
    rulebook,
    sealed,
    setting,
    standing,
    standing_step,
    subject_key,
    tenant_key,
    tile,
    unplaced,
)
from engine.errors import SettingsError, Unavailable

__all__ = [
    "ACCESSES",
    "APPEALS",
    "BUSY_MS",
    "CASES",
    "CHANGES",
    "GONE",
    "ONE_VERDICT",
    "SETTING",
    "Database",
    "Int64",
    "Rows",
    "address",
    "anchor",
    "api_key",
    "backup",
    "batch",
    "checkpoint",
    "digest",
    "entry",
    "event_key",
    "image",
    "image_reference",
    "incident",
    "incident_step",
    "key_index",
    "key_pending",
    "list_entry",
    "merchant",
    "metadata",
    "migrate",
    "mode",
    "open_sqlite",
    "opinion",
    "placed",
    "proposal",
    "restriction",
    "rulebook",
    "sealed",
    "setting",
    "sqlite_path",
    "standing",
    "standing_step",
    "subject_key",
    "tenant_key",
    "tile",
    "unplaced",
]

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

BUSY_MS = 5_000
"""How long a SQLite connection waits for another one's write, milliseconds."""

MIGRATIONS = Path(__file__).parent.parent / "migrations"
"""The scripts that make the tables, in order."""

SETTING = "ARBITER_DATABASE_URL"

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
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
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

    async def find(self, *columns: str, **where: Any) -> list[dict[str, Any]]:
        """All rows whose columns equal `where`, in the order of the primary key: these columns of them, or all."""
        wanted = [self._table.c[name] for name in columns] or self._table.columns
        query = select(*wanted).where(*self._conditions(where)).order_by(*self._table.primary_key.columns)
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
