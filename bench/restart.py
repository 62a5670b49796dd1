"""How long a start takes until the windows are warm: from a snapshot, and from the whole ledger.

    python -m bench.restart [--check] [--events 5000000]

The windows are those of `bench.features` (18 values over 4 kinds of keys), over so many orders in 8 days, ten a card,
device, address and account, a thousandth of them on one hot key of each kind. Tables: the snapshot written
while orders come (how long one piece holds the store, and what an order costs meanwhile), read again into a new store,
and the same windows counted from events, as a start does without one. That has to read the ledger first, which is
measured on a small one and told apart. Processor time stands beside the time that passed, for the machine may have
other work. The bar: warm from the snapshot within 60 s.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median, quantiles
from threading import Lock, Thread
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

import orjson

from api.collector import survivors_frozen
from bench.features import KEYS, windows
from engine.assembly import Settings, open_arbiter
from engine.callers import Caller
from engine.features import Facts, Features
from engine.intake import facts_of
from engine.money import Money
from engine.shipped import shipped
from engine.stores import DAY, MemoryStore
from engine.stores.snapshot import Snapshot, encode, write
from engine.vault import KeyFile
from engine.warmth import SNAPSHOT_PAUSE

BAR = 60.0
"""Seconds until the windows of 5,000,000 events are warm."""
TIMES = 10
"""Orders of a card, a device, an address or an account on average."""
START = 1_795_406_400_000_000
NEVER_ENDS = 2**62


def orders(events: int) -> Iterator[Facts]:
    """Orders without end, `events` of them in 8 days."""
    random, arrival, pace = Random(5), 0, 8 * DAY // events
    while True:
        arrival += 1
        hot = random.random() < 0.001
        own = {path: f"{path}-{0 if hot else random.randrange(events // TIMES):032x}" for path in KEYS}
        values = {"amount": Money(random.randrange(100, 1_000_000), "CNY")}
        yield Facts("transaction", "shop", f"order-{arrival}", START + arrival * pace, arrival, values, own)


class Timed:
    """A lock that knows how long it was held at most."""

    def __init__(self) -> None:
        self._lock, self._since, self.longest = Lock(), 0.0, 0.0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.longest = max(self.longest, perf_counter() - self._since)
        self._lock.release()


def observed(features: Features, stream: Iterator[Facts], so_long: Any) -> list[float]:
    """Microseconds of each order, one every two milliseconds."""
    times: list[float] = []
    while so_long(len(times)):
        one = next(stream)
        begin = perf_counter()
        features.observe(one)
        times.append((perf_counter() - begin) * 1e6)
        sleep(0.002)
    return times


def told(what: str, times: list[float]) -> None:
    cuts = quantiles(times, n=1000)
    figures = f"{median(times):8.0f} {cuts[989]:9.0f} {max(times):9.0f}"
    print(f"{what:<40}{figures}")


def written(store: MemoryStore, features: Features, stream: Iterator[Facts], path: Path) -> None:
    """Write a snapshot in the background while orders come, and tell both."""
    quiet = observed(features, stream, lambda count: count < 3_000)
    lock = store._lock = Timed()  # type: ignore[assignment]
    series = {one.name: one for one in store.held}
    size: list[int] = []

    def blocks() -> Iterator[Any]:
        for piece in store.pieces(series):
            yield encode(piece, series, NEVER_ENDS, frozenset())
            sleep(SNAPSHOT_PAUSE)

    thread = Thread(target=lambda: size.append(write(path, {}, blocks())))
    begin = perf_counter()
    thread.start()
    busy = observed(features, stream, lambda _: thread.is_alive())
    seconds = perf_counter() - begin
    made, longest = f"{size[0] / 1e6:,.0f} MB in {seconds:.0f} s", lock.longest * 1e3
    print(f"written beside the orders: {made}; longest hold {longest:.0f} ms")
    print(f"\n{'an order, µs':<40}{'median':>8} {'p99':>9} {'most':>9}")
    told("no snapshot being written", quiet)
    told("a snapshot being written", busy)
    start = now()
    write(path, {}, (encode(piece, series, NEVER_ENDS, frozenset()) for piece in store.pieces(series)))
    took = Took.since(start)
    print(f"\nwritten at a stop, without rests: {took.passed:.0f} s, processor {took.worked:.0f} s")


class Took(NamedTuple):
    """Seconds that passed, and that a processor worked."""

    passed: float
    worked: float

    @classmethod
    def since(cls, begin: Took) -> Took:
        return Took(perf_counter() - begin.passed, process_time() - begin.worked)


def now() -> Took:
    return Took(perf_counter(), process_time())


def from_snapshot(path: Path) -> Took:
    """Until the windows are warm."""
    store = MemoryStore()
    features = Features(windows(), store)
    begin = now()
    with Snapshot.open(path) as snapshot:
        store.adopt(snapshot.pieces(), features.cold)
    features.restore((), only=features.cold)
    took = Took.since(begin)
    assert features.ready
    return took


async def ledger_read(count: int = 10_000) -> Took:
    """An event's share of reading a SQLite ledger and making its events ready to be counted."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys.json")
        KeyFile.create(keys)
        settings = Settings(
            f"sqlite:///{folder}/arbiter.db", key_file=keys, rules=shipped("rules"), policies=shipped("policies")
        )
        arbiter = await open_arbiter(settings)
        caller = Caller("bench", "service", "shop", frozenset({"score"}))
        body = {"kind": "payment", "at": "2026-11-23T12:00:00Z", "amount": "5.00 CNY", "payment": {"stage": "attempt"}}
        for first in range(0, count, 200):
            bodies = [
                orjson.dumps(
                    {**body, "event_id": f"e{n}", "card": {"ref": f"card-{n}"}, "device": {"id": f"device-{n}"}}
                )
                for n in range(first, first + 200)
            ]
            await asyncio.gather(*(arbiter.observe(each, caller) for each in bodies))
        begin = now()
        facts = [fact async for page in arbiter._ledger.facts(0) for fact in page]
        ready = len([facts_of(fact.tenant, fact.leaf, fact.keys) for fact in facts])
        took = Took.since(begin)
        await arbiter.close()
        assert ready == count
        return Took(took.passed / count, took.worked / count)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--events", type=int, default=5_000_000)
    given = parser.parse_args()
    stream, store = orders(given.events), MemoryStore()
    features = Features(windows(), store)
    begin = now()
    sum(1 for _ in islice(orders(given.events), 100_000))
    made, share = Took.since(begin), given.events / 100_000
    begin = now()
    features.restore(islice(stream, given.events))
    both = Took.since(begin)
    counting = Took(both.passed - made.passed * share, both.worked - made.worked * share)
    each = asyncio.run(ledger_read())
    reading = Took(each.passed * given.events, each.worked * given.events)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "windows")
        with survivors_frozen():  # As a server has it.
            written(store, features, stream, path)
        del store, features
        gc.collect()
        loading = from_snapshot(path)
    print(f"\n{given.events:,} events                s  processor s")
    for what, took in (
        ("from a snapshot", loading),
        ("counted from events", counting),
        ("  and read from SQLite", reading),
    ):
        print(f"{what:<22}{took.passed:10.1f} {took.worked:12.1f}")
    print(f"snapshot ÷ whole ledger {loading.worked / (counting.worked + reading.worked):.2f} of processor time")
    print(f"warm from a snapshot in {loading.passed:.0f} s (bar {BAR:.0f})")
    return int(given.check and loading.passed > BAR)


if __name__ == "__main__":
    sys.exit(main())
