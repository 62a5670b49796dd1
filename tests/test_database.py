"""The database: addresses, migrations, small repositories and backups, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from engine import database as db
from engine.errors import SettingsError, Unavailable
from engine.ledger import Entry, Ledger, new_id
from engine.receipt import verify_receipt
from engine.vault import KeyFile, Vault
from tests import servers
from tests.vaults import vault_over

pytestmark = pytest.mark.anyio

# ------------------------------------------------------------------------------------------- addresses

REFUSED = {
    "": "is not a URL",
    "arbiter.db": "is not a URL",
    "mysql://host/db": "starts with 'mysql:'",
    "postgresql+psycopg://host/db": "starts with 'postgresql\\+psycopg:'",
    "sqlite://": "keeps nothing",
    "sqlite:///:memory:": "keeps nothing",
    "sqlite://arbiter.db": "three slashes",
    "sqlite:///arbiter.db?mode=ro": "no options",
    "sqlite:////no/such/folder/arbiter.db": "the folder /no/such/folder does not exist",
    "sqlite:////": "is a folder",
    "postgresql://host": "names no database",
    "postgresql://user:secret@host:port/db": "is not a URL",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_wrong_address_is_refused_with_what_to_do(url: str) -> None:
    """The reason names the setting and the right form, and repeats no password."""
    with pytest.raises(SettingsError, match=REFUSED[url]) as caught:
        db.address(url)
    assert "ARBITER_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_right_addresses_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative and absolute files; PostgreSQL by host or socket, also as 'postgres:'."""
    monkeypatch.chdir(tmp_path)

    assert db.sqlite_path(db.address("sqlite:///arbiter.db")) == tmp_path / "arbiter.db"
    assert db.sqlite_path(db.address(f"sqlite:///{tmp_path}/a b#?.db".replace("?", ""))) == tmp_path / "a b#.db"
    assert db.address("postgres://u:p@host/db").drivername == "postgresql"
    assert db.address("postgresql://u@/db?host=/run").query == {"host": "/run"}


# ------------------------------------------------------------------------------------------- migrations


async def test_a_migrated_database_is_what_the_tables_say(ledger_url: str) -> None:
    """Alembic finds no difference between what the migrations made and the tables in the code."""
    database = db.Database(ledger_url)

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), db.metadata))

    assert await database.read(differences) == []
    await database.close()


def test_the_sqlite_tables_are_the_same_to_the_letter(sqlite_url: str) -> None:
    """Also what Alembic does not compare: STRICT, WITHOUT ROWID, the conditions of indexes."""
    db.migrate(sqlite_url)
    query = (
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger' AND name <> 'alembic_version'"
    )
    with closing(sqlite3.connect(db.sqlite_path(db.address(sqlite_url)))) as connection:
        migrated = dict(connection.execute(query).fetchall())
    engine = create_engine("sqlite://")
    with engine.connect() as memory:
        db.metadata.create_all(memory)
        declared = dict(map(tuple, memory.execute(text(query))))
    engine.dispose()

    assert {name: sql.split() for name, sql in migrated.items()} == {
        name: sql.split() for name, sql in declared.items()
    }


def test_migrating_twice_at_once_is_safe(database_url: str) -> None:
    """Two workers that start together both come up, and a later start changes nothing."""
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(db.migrate, [database_url] * 2))
    db.migrate(database_url)


async def test_migrating_works_inside_a_running_loop(database_url: str) -> None:
    """A server migrates while its loop runs."""
    db.migrate(database_url)


async def test_a_database_of_a_newer_arbiter_is_refused(ledger_url: str) -> None:
    """An old program must not write into a schema it does not know."""
    database = db.Database(ledger_url)
    await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await database.close()

    with pytest.raises(SettingsError, match="newer Arbiter"):
        await asyncio.to_thread(db.migrate, ledger_url)


def test_a_database_that_is_away_stops_the_start(tmp_path: Path) -> None:
    """The reason shows the address without its password."""
    with pytest.raises(SettingsError, match=r"cannot open postgresql://u:\*\*\*@127\.0\.0\.1:1/db") as caught:
        db.migrate("postgresql://u:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)
    (tmp_path / "text.db").write_text("this is no database, only text that is long enough to look at" * 20)
    with pytest.raises(SettingsError, match="cannot open"):
        db.migrate(f"sqlite:///{tmp_path / 'text.db'}")


def test_a_new_sqlite_file_is_private(sqlite_url: str) -> None:
    """Only its owner may open it."""
    db.migrate(sqlite_url)
    assert db.sqlite_path(db.address(sqlite_url)).stat().st_mode & 0o777 == 0o600


def test_a_sqlite_file_is_opened_to_last(sqlite_url: str) -> None:
    """WAL, an fsync at each commit, foreign keys; and no empty file where there was none."""
    db.migrate(sqlite_url)
    path = db.sqlite_path(db.address(sqlite_url))
    with closing(db.open_sqlite(path)) as connection:
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]
    with pytest.raises(sqlite3.OperationalError):
        db.open_sqlite(path.with_name("other.db"))
    assert not path.with_name("other.db").exists()


# ------------------------------------------------------------------------------------- small repositories


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[db.Database]:
    made = db.Database(ledger_url)
    yield made
    await made.close()


async def test_rows_are_added_found_changed_and_removed(database: db.Database) -> None:
    """A repository over one table, by equality of columns."""
    merchants = db.Rows(database, db.merchant)
    row = {"tenant": "shop", "id": "m-1", "tier": "watched", "reason": "", "updated": 1}
    assert await merchants.add(**row)
    assert not await merchants.add(**{**row, "tier": "trusted"})
    await merchants.add(**{**row, "id": "m-0"})
    assert await merchants.find(tenant="shop", id="m-1") == [row]
    assert [found["id"] for found in await merchants.find(tenant="shop")] == ["m-0", "m-1"]

    await merchants.put(**{**row, "tier": "trusted"})
    assert [found["tier"] for found in await merchants.find(id="m-1")] == ["trusted"]
    assert await merchants.change({"tenant": "shop"}, tier="standard") == 2
    assert await merchants.change({"tenant": "mall"}, tier="standard") == 0
    assert await merchants.remove(id="m-0") == 1
    assert await merchants.find(tenant="shop") == [{**row, "tier": "standard"}]
    assert await merchants.find(tenant="mall") == []


TABLES: dict[str, dict[str, Any]] = {
    "api_key": {
        "hash": b"h",
        "tenant": "t",
        "name": "n",
        "kind": "service",
        "scopes": "score",
        "created": 1,
        "expires": None,
        "revoked": None,
    },
    "list_entry": {
        "tenant": "t",
        "list": "l",
        "value": "v",
        "state": "active",
        "reason": "r",
        "added_by": "a",
        "added": 1,
        "approved_by": None,
        "expires": 2,
        "ended_by": None,
        "end_approved_by": None,
    },
    "rulebook": {"hash": "h", "content": b"\x00\xff", "first_seen": 1},
    "setting": {"name": "n", "value": "v"},
}


@pytest.mark.parametrize("table", TABLES)
async def test_every_record_comes_back_as_it_went_in(database: db.Database, table: str) -> None:
    """All columns, None included."""
    rows = db.Rows(database, db.metadata.tables[table])
    await rows.put(**TABLES[table])
    assert await rows.find() == [TABLES[table]]


async def test_a_failed_work_leaves_nothing(database: db.Database) -> None:
    """What `write` runs is one transaction; its error reaches the caller."""

    def half(connection: Connection) -> None:
        connection.execute(db.setting.insert().values(name="a", value="1"))
        connection.execute(db.setting.insert().values(name="a", value="2"))

    with pytest.raises(IntegrityError):
        await database.write(half)
    assert await db.Rows(database, db.setting).find() == []


async def test_a_read_sees_one_state_of_the_database(ledger_url: str) -> None:
    """What another commits between two statements of a read is not seen by the second."""

    async def other() -> None:
        beside = db.Database(ledger_url)
        await db.Rows(beside, db.setting).put(name="n", value="")
        await beside.close()

    def twice(connection: Connection) -> tuple[int, int]:
        first = len(connection.execute(db.setting.select()).all())
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, other()).result()
        return first, len(connection.execute(db.setting.select()).all())

    database = db.Database(ledger_url)
    assert await database.read(twice) == (0, 0)
    assert len(await db.Rows(database, db.setting).find()) == 1
    await database.close()


async def test_many_small_writes_beside_a_busy_ledger(ledger_url: str, keys: KeyFile) -> None:
    """Changes of lists and keys get their turn while the ledger commits without a pause."""
    ledger = await Ledger.open(ledger_url, keys)
    stop = asyncio.Event()

    async def busy() -> None:
        while not stop.is_set():
            await ledger.append(Entry(new_id(), "t", "change", None, "x", 1, 1, b"{}"))

    appends = [asyncio.ensure_future(busy()) for _ in range(32)]
    rows = db.Rows(ledger.database, db.setting)
    async with asyncio.timeout(20):
        await asyncio.gather(*(rows.put(name=f"n-{number}", value="") for number in range(20)))
    stop.set()
    await asyncio.gather(*appends)
    await ledger.close()


async def test_a_database_that_goes_away_is_unavailable(sqlite_url: str) -> None:
    """Whoever asks hears Unavailable, not a driver's error."""
    database = db.Database(sqlite_url)
    with pytest.raises(Unavailable):
        await db.Rows(database, db.setting).find()
    await database.close()


# ---------------------------------------------------------------------------------------------- backups


async def one_appended(url: str, keys: KeyFile) -> Entry:
    ledger, id = await Ledger.open(url, keys), new_id()
    vault = await vault_over(ledger.database, keys, "shop")
    entry = Entry(
        id, "shop", "decision", "ev-1", "transaction", 1, 1, b"{}", (vault.seal("shop", id, "ab" * 16, b"x"),)
    )
    await ledger.append(entry)
    await ledger.close()
    return entry


async def check_restored(url: str, keys: KeyFile, entry: Entry) -> None:
    """A restored ledger reads, proves, opens, refuses a repeat and takes new entries."""
    await asyncio.to_thread(db.migrate, url)
    ledger = await Ledger.open(url, keys)
    stored = await ledger.find("shop", "ev-1")
    assert stored is not None
    assert verify_receipt(stored.receipt.json(), entry.leaf, keys.signer.public_key)
    assert Vault.unkept(keys).open(stored.entry.sealed[0]) == b"x"
    await ledger.append(Entry(new_id(), "shop", "decision", "ev-2", "transaction", 1, 1, b"{}"))
    await ledger.close()


async def test_a_sqlite_backup_restores(sqlite_url: str, keys: KeyFile, tmp_path: Path) -> None:
    """Taken while the ledger is open and written to; put in place of the file it is a ledger again."""
    db.migrate(sqlite_url)
    entry = await one_appended(sqlite_url, keys)
    ledger = await Ledger.open(sqlite_url, keys)
    appends = [
        asyncio.ensure_future(ledger.append(Entry(new_id(), "t", "change", None, "x", 1, 1, b"{}"))) for _ in range(500)
    ]
    await asyncio.to_thread(db.backup, sqlite_url, tmp_path / "backup.db")
    await asyncio.gather(*appends)
    await ledger.close()

    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    await check_restored(f"sqlite:///{tmp_path / 'backup.db'}", keys, entry)


def test_a_backup_never_overwrites(sqlite_url: str, tmp_path: Path) -> None:
    """An older backup stays; a failed one leaves nothing."""
    db.migrate(sqlite_url)
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(SettingsError, match="never overwrites"):
        db.backup(sqlite_url, tmp_path / "backup.db")
    with pytest.raises(Unavailable):
        db.backup(f"sqlite:///{tmp_path / 'none.db'}", tmp_path / "other.db")
    assert sorted(path.name for path in tmp_path.glob("*.db*")) == ["arbiter.db", "backup.db"]


@pytest.mark.service
async def test_a_postgresql_backup_restores(postgresql_url: str, keys: KeyFile, tmp_path: Path) -> None:
    """pg_dump and pg_restore as docs/backup.md writes them."""
    with pytest.raises(SettingsError, match="pg_dump"):
        db.backup(postgresql_url, tmp_path / "backup")
    await asyncio.to_thread(db.migrate, postgresql_url)
    entry = await one_appended(postgresql_url, keys)
    dump = tmp_path / "arbiter.dump"
    await run("pg_dump", "--format=custom", f"--file={dump}", postgresql_url)
    database = db.Database(postgresql_url)
    for statement in ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public"):
        await database.write(lambda connection, statement=statement: connection.execute(text(statement)))
    await database.close()
    await run("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={postgresql_url}", str(dump))

    await check_restored(postgresql_url, keys, entry)


async def run(program: str, *args: str) -> None:
    command = [str(servers.tool("postgresql", program)), *args]
    await asyncio.to_thread(subprocess.run, command, check=True)
