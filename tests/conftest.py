"""Fixtures that all tests share: addresses of real databases, fresh for each test."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest

from engine import database
from engine.columns import DuckDB, Warehouse
from engine.vault import KeyFile
from tests import servers
from tests.books import SHARED

# No test is timed: under load any example may take long.
hypothesis.settings.register_profile("arbiter", deadline=None)
hypothesis.settings.load_profile("arbiter")


def pytest_collection_finish() -> None:
    """Python's collector looks for cycles less often: a worker holds millions of objects that stay, and looking through
    them took a fifth of the run."""
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more worker than cores (`-n auto`): a third of the time a test waits for a server. Two a core were slower."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what is not here are skipped, and say what that is. Those of Spark run where their marker asks
    for them: a Java for each worker would be too much."""
    for item in items:
        if item.get_closest_marker("spark") and "spark" not in config.getoption("markexpr"):
            item.add_marker(pytest.mark.skip(reason="needs Java and Spark: `make test-spark`"))
        for marker in item.iter_markers("data"):
            (needed,) = marker.args
            if not (SHARED / needed).exists():
                item.add_marker(pytest.mark.skip(reason=f"needs ../shared/{needed}, which is not here"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests (`@pytest.mark.anyio`) run on asyncio."""
    return "asyncio"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgresql_server() -> str:
    """The address of the run's PostgreSQL; ARBITER_TEST_DATABASE_URL names another one that may create databases."""
    given = os.environ.get("ARBITER_TEST_DATABASE_URL")
    return given or _shared("postgresql")


@pytest.fixture(scope="session")
def valkey_server() -> str:
    """The address of the run's Valkey; ARBITER_TEST_REDIS_URL names another one."""
    given = os.environ.get("ARBITER_TEST_REDIS_URL")
    return given or _shared("valkey")


def _shared(name: str) -> str:
    try:
        return servers.shared(name)
    except LookupError as error:
        pytest.skip(str(error))


@contextmanager
def _own_database(server: str, template: str = "template1") -> Iterator[str]:
    """The address of a new database that is a copy of `template`."""
    name = f"test_{uuid.uuid4().hex}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE {template}"))
    head, _, options = server.partition("?")
    address = f"{head.rpartition('/')[0]}/{name}"
    yield f"{address}?{options}" if options else address
    asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The address of an empty PostgreSQL database of this test's own."""
    with _own_database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_postgresql(postgresql_server: str) -> Iterator[str]:
    with _own_database(postgresql_server) as url:
        database.migrate(url)
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def postgresql_ledger_url(postgresql_server: str, _migrated_postgresql: str) -> Iterator[str]:
    """The address of a migrated, empty ledger on PostgreSQL."""
    with _own_database(postgresql_server, _migrated_postgresql) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "arbiter.db"
    database.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated, empty ledger: every test that asks runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "arbiter.db"
        shutil.copyfile(request.getfixturevalue("_migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_server")
    with _own_database(server, request.getfixturevalue("_migrated_postgresql")) as url:
        yield url


@pytest.fixture(scope="session")
def key_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file made for this run."""
    path = tmp_path_factory.mktemp("keys") / "arbiter.keys"
    KeyFile.create(path)
    return path


@pytest.fixture(scope="session")
def keys(key_path: Path) -> KeyFile:
    """The keys of this run."""
    return KeyFile.read(key_path)


@pytest.fixture
def valkey_url(valkey_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty Valkey database that only this worker uses."""
    import redis

    # Not its patience is tested with it, for which tests have a server of their own, and a busy machine is no loss.
    monkeypatch.setattr("engine.stores.server.ANSWER_SECONDS", 10.0)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    address = f"{valkey_server}?db={int(worker) % 16}"
    with redis.Redis.from_url(address) as client:
        client.flushdb()
        yield address
        client.flushdb()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'arbiter.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database: every test that asks runs once on SQLite and once on PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def spark_session() -> Iterator[Any]:
    """The Spark of this run; commands that want one get a session beside it."""
    from engine.columns.spark_session import session

    with session("local[2]") as running:
        yield running


Opening = Callable[[], AbstractContextManager[Warehouse]]


@pytest.fixture(scope="session", params=["duckdb", pytest.param("spark", marks=pytest.mark.spark)])
def opening(request: pytest.FixtureRequest) -> Opening:
    """Opens an empty warehouse: every test that asks runs once on DuckDB and once on Spark."""
    if request.param == "duckdb":
        return lambda: closing(DuckDB())
    request.getfixturevalue("spark_session")
    from engine.columns.spark import on_spark

    return on_spark
