"""What it costs to count what decisions came to.

    python -m bench.figures [--check] [--decisions 1000000]

A SQLite ledger of decisions with records of the shipped rulebook, of which one in 20 was reviewed and one in 50 has an
outcome, is read whole, beside reading the same leaves as JSON and nothing more. Then a hundred decisions more: what one
look of a server takes. Memory is what the process needed at most beyond what it had before.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from sqlalchemy import Connection, select

from bench._orders import orders
from cli.replay import World
from engine import database as db
from engine.database import entry
from engine.decide import leaf
from engine.errors import Unavailable
from engine.figures import Follower, count
from engine.ledger import Duplicate, Entry, Ledger, new_id
from engine.rulebook import Rulebook, load
from engine.shipped import shipped
from engine.vault import KeyFile

SECOND = 1_000_000
TENANT = "bench"
BAR = 6.0
"""Times the reading of the leaves alone."""
AT_ONCE = 200
WEEK = 7 * 86_400 * SECOND


def main(decisions: int) -> int:
    """Build, count, print, and say by the exit status whether the bar is reached."""
    return asyncio.run(measure(decisions))


async def measure(decisions: int) -> int:
    """The whole measurement."""
    book = load(shipped("rules"), shipped("policies"))

    async def find(_: str) -> Rulebook:
        return book

    with TemporaryDirectory(prefix="arbiter-bench-") as folder:
        keys = KeyFile.create(Path(folder, "arbiter.keys"), "bench.invalid/log")
        url = f"sqlite:///{folder}/arbiter.db"
        db.migrate(url)
        ledger = await Ledger.open(url, keys)
        now = time.time_ns() // 1_000
        begin = now - decisions * SECOND // 10
        made = await fill(ledger, templates(book), decisions, begin)
        plain = await timed(leaves(ledger))
        before = _peak()
        began = time.process_time()
        found = await count(ledger, find, TENANT, 0, now + 1, "rule", 0, now)
        took, more = time.process_time() - began, _peak() - before
        follower = Follower(ledger, find, lambda _: None)
        await follower.begin(now - SECOND)
        await fill(ledger, templates(book), 100, now)
        look = await timed(follower.go())
        await ledger.close()
    events = max(sums.get("events", 0) for sums in found.all.values())
    print(f"{decisions:,} decisions, {made - decisions:,} resolutions and outcomes; most with one rule: {events:,}")
    rate = f"{decisions / took:,.0f} decisions a second of a core"
    print(f"counted in {took:.1f} s of a core, {rate}, {more / 1024:.0f} MiB more at most")
    print(f"{took / plain:.1f} x reading the leaves as JSON alone ({plain:.1f} s; bar {BAR:g})")
    print(f"a look at 100 new decisions: {look * 1_000:.1f} ms")
    return int(took / plain > BAR)


def templates(book: Rulebook) -> list[dict[str, Any]]:
    """Records of some orders, as a server would have written them."""
    world, schema, now = World(book), book.schema, time.time_ns() // 1_000
    events = [schema.parse(body, received_at=now, tenant=TENANT) for body in islice(orders(1), 400)]
    seen = [world.see(event) for event in events]
    return [orjson.loads(leaf(each.record)) for each in world.judge(seen)]


async def fill(ledger: Ledger, records: list[dict[str, Any]], decisions: int, begin: int) -> int:
    """Append so many decisions a tenth of a second apart, with what came after them; how many entries that was."""
    waiting: list[Entry] = []
    made = 0
    for new in entries(records, decisions, begin):
        waiting.append(new)
        made += 1
        if len(waiting) == AT_ONCE:
            await append(ledger, waiting)
            waiting = []
    await append(ledger, waiting)
    return made


async def append(ledger: Ledger, new: list[Entry]) -> None:
    """Append them all; what a slow disk did not acknowledge is sent again."""
    while new:
        said = await asyncio.gather(*map(ledger.append, new), return_exceptions=True)
        wrong = [each for each in said if isinstance(each, BaseException)]
        assert all(isinstance(each, Unavailable | Duplicate) for each in wrong), wrong
        new = [entry for entry, each in zip(new, said, strict=True) if isinstance(each, Unavailable)]


def entries(records: list[dict[str, Any]], decisions: int, begin: int) -> Iterator[Entry]:
    """Decisions, every 20th resolved after it, every 50th with an outcome after that."""
    for number in range(decisions):
        at, id, event = begin + number * SECOND // 10, new_id(), f"{begin}-{number}"
        record = records[number % len(records)]
        record["id"], record["decided_at"] = id, at
        record["event"] |= {"id": event, "at": at, "received_at": at}
        yield Entry(
            *(id, TENANT, "decision", event, "transaction", at, at, orjson.dumps(record)), verdict=record["verdict"]
        )
        if not number % 20:
            told: dict[str, Any] = {"what": "enforced", "said": "captured", "counted": "captured"}
            told |= {"verdict": None, "asks": None, "by": {"person": ""}, "decided_at": at, "tenant": TENANT}
            yield Entry(
                *(new_id(), TENANT, "resolution", None, "transaction", at, at, orjson.dumps(told)), refers_to=id
            )
        if not number % 50:
            public = {"outcome": {"refers_to": event, "result": "chargeback"}}
            text = orjson.dumps({"event": {"kind": "outcome", "public": public}, "tenant": TENANT})
            yield Entry(*(new_id(), TENANT, "event", f"o-{event}", "outcome", at, at, text))


async def leaves(ledger: Ledger) -> None:
    """Read every leaf as JSON, and nothing more."""
    place = -1

    def some(connection: Connection) -> list[Any]:
        query = select(entry.c.row, entry.c.leaf).where(entry.c.row > place).order_by(entry.c.row).limit(AT_ONCE)
        return list(connection.execute(query))

    while rows := await ledger.database.read(some):
        for row in rows:
            orjson.loads(row.leaf)
        place = rows[-1].row


async def timed(work: Any) -> float:
    """Seconds of a core that something takes: what others do beside it is not counted."""
    began = time.process_time()
    await work
    return time.process_time() - began


def _peak() -> int:
    """KiB that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    asked = int(sys.argv[sys.argv.index("--decisions") + 1]) if "--decisions" in sys.argv else 1_000_000
    missed = main(asked)
    raise SystemExit(missed if "--check" in sys.argv else 0)
