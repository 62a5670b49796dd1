"""The clock jumps: back while it runs, back over a restart, and far ahead. Order, windows and promises stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.arbiter import Arbiter
from engine.assembly import Settings, open_arbiter
from engine.callers import Caller
from engine.vault import KeyFile
from tests.books import keep_shipped, shipped
from tests.load import check_windows, facts_by_arrival

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
NOW = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
HOUR = 3_600_000_000
SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))


@pytest.fixture
def settings(ledger_url: str, key_path: Path) -> Settings:
    asyncio.run(keep_shipped(ledger_url))
    return Settings(database_url=ledger_url, key_file=key_path, rules=ROOT / "rules", policies=ROOT / "policies")


@asynccontextmanager
async def at(settings: Settings, now: int, *, warm: bool = True) -> AsyncIterator[Arbiter]:
    """An Arbiter whose clock stands still at `now`."""
    arbiter = await open_arbiter(settings, clock=lambda: now, rulebook=shipped())
    try:
        if warm:
            await warmed(arbiter)
        yield arbiter
    finally:
        await arbiter.close()


async def warmed(arbiter: Arbiter) -> None:
    """Return when its windows are rebuilt."""
    for _ in range(1_000):
        if arbiter.ready()["ready"]:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the windows are not rebuilt")


async def attempts(arbiter: Arbiter, *names: str) -> list[dict[str, Any]]:
    """Attempts to pay with one card, all at the same second, one after the other."""
    body = {
        "kind": "payment",
        "at": "2026-11-23T12:00:00Z",
        "amount": "5.00 CNY",
        "card": {"ref": "c"},
        "payment": {"stage": "attempt"},
    }
    return [orjson.loads(await arbiter.decide(orjson.dumps({**body, "event_id": name}), SHOP)) for name in names]


async def test_the_order_of_events_survives_a_restart_with_a_clock_that_jumped_back(
    settings: Settings, keys: KeyFile
) -> None:
    """Events of one instant are told apart by their arrival, so arrivals must rise over a restart as well."""
    async with at(settings, NOW + HOUR) as before:
        first = await attempts(before, "p1", "p2")
    async with at(settings, NOW) as after:
        second = await attempts(after, "p3", "p4")
        assert await attempts(after, "p1", "p2") == first
    async with at(settings, NOW - HOUR // 20, warm=False) as at_once:
        third = await attempts(at_once, "p5")
    async with at(settings, NOW) as last:
        (fifth,) = await attempts(last, "p6")

    pairs = await facts_by_arrival(settings.database_url, keys)
    assert [facts.id for _, facts in pairs] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert check_windows(shipped(), pairs) in (5, 6)  # p5 may have come before its windows were rebuilt
    assert "card_testing" in fifth["signals"]
    assert not any("card_testing" in one["signals"] for one in (*first, *second, *third))


async def test_a_clock_that_is_set_back_while_it_runs_changes_no_window(settings: Settings, keys: KeyFile) -> None:
    """Lists and rates see the earlier time; windows go by the events' own time and their arrival."""
    now = NOW
    arbiter = await open_arbiter(settings, clock=lambda: now, rulebook=shipped())
    try:
        await warmed(arbiter)
        for number, moved in enumerate((0, -HOUR // 60, 1 - HOUR // 60, 1 - HOUR // 60, -HOUR // 30)):
            now = NOW + moved
            await attempts(arbiter, f"p{number}")
    finally:
        await arbiter.close()

    pairs = await facts_by_arrival(settings.database_url, keys)
    assert [facts.id for _, facts in pairs] == ["p0", "p1", "p2", "p3", "p4"]
    assert check_windows(shipped(), pairs) == 5
