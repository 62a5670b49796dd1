"""One server a ledger: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine.assembly import Settings, open_arbiter
from engine.claim import STALE, TAKEN, Claim
from engine.database import address
from engine.errors import SettingsError
from tests import books

pytestmark = pytest.mark.anyio

POSTGRESQL = pytest.param("postgresql_url", id="postgresql", marks=pytest.mark.service)
EACH = [pytest.param("sqlite_url", id="sqlite"), POSTGRESQL]


@pytest.fixture(params=EACH)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


async def test_a_second_server_waits_and_is_refused_with_the_reason(url: str) -> None:
    first = await Claim.take(url, 0)
    with pytest.raises(SettingsError, match=TAKEN):
        await Claim.take(url, 0.3)
    await first.release()


async def test_a_claim_that_is_let_go_is_free_for_one_who_waits(url: str) -> None:
    first = await Claim.take(url, 0)
    waiting = asyncio.create_task(Claim.take(url, 5))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await first.release()
    await (await waiting).release()


async def test_two_ledgers_have_two_servers(url: str, tmp_path: Path) -> None:
    first = await Claim.take(url, 0)
    other = await Claim.take(f"sqlite:///{tmp_path / 'other.db'}", 0)
    await first.release()
    await other.release()


async def test_another_spelling_of_the_path_is_the_same_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = await Claim.take(f"sqlite:///{tmp_path / 'a.db'}", 0)
    for same in ("sqlite:///a.db", "sqlite:///./a.db"):
        with pytest.raises(SettingsError, match=TAKEN):
            await Claim.take(same, 0)
    await first.release()


async def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    script = (
        "import asyncio, sys, time\n"
        "from engine.claim import Claim\n"
        f"held = asyncio.run(Claim.take({url!r}, 0))\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"held\n"
    with pytest.raises(SettingsError, match=TAKEN):
        await Claim.take(url, 0)
    child.kill()
    await child.communicate()
    await (await Claim.take(url, 5)).release()


@pytest.mark.service
async def test_a_claim_that_went_with_its_connection_is_taken_again(
    postgresql_url: str,
) -> None:
    first = await Claim.take(postgresql_url, 0)
    keeping, before = asyncio.create_task(first.keep()), first._held
    await cut_all(postgresql_url)
    await until(lambda: first._held is not before)
    with pytest.raises(SettingsError, match=TAKEN):
        await Claim.take(postgresql_url, 0)

    keeping.cancel()
    await first.release()


@pytest.mark.service
async def test_whoever_finds_its_claim_taken_says_so_also_when_it_is_free_again(postgresql_url: str) -> None:
    first = await Claim.take(postgresql_url, 0)
    await cut_all(postgresql_url)
    second = await Claim.take(postgresql_url, 5)
    await asyncio.wait_for(first.keep(), 5)
    assert first.problem == STALE
    await second.release()
    await (await Claim.take(postgresql_url, 0)).release()
    await asyncio.wait_for(first.keep(), 5)
    assert first.problem == STALE
    await first.release()


async def cut_all(url: str) -> None:
    """End every other connection to the database, as a restart of it does."""
    connection = await asyncpg.connect(address(url).render_as_string(hide_password=False))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1",
        connection.get_server_pid(),
    )
    await connection.close()


async def until(done: Callable[[], bool]) -> None:
    for _ in range(250):
        if done():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come about in 5 seconds")


async def test_a_second_arbiter_over_one_ledger_does_not_start(
    tmp_path: Path, sqlite_url: str, key_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.write(tmp_path, books.SMALL)
    settings: Any = Settings(
        database_url=sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies"
    )
    take = Claim.take
    monkeypatch.setattr(Claim, "take", lambda url: take(url, 0.2))
    first = await open_arbiter(settings)
    with pytest.raises(SettingsError, match=TAKEN):
        await open_arbiter(settings)
    await first.close()
    await (await open_arbiter(settings)).close()
