"""What the windows of one decision cost, in memory and on a server: read and updated, by how many events a key holds.

    python -m bench.features [--check]

One decision has 8 stretches over 4 keys, each counted and summed, and 2 distinct counts: 18 values. Tables: by events
per key (one hot key of each kind), in order and late; the same for 4 values that need the events in the order of their
amounts (median, 95 % quantile, maximum, percentile); by keys (about 200 events each, so that caches are cold); how fast
a history is loaded. Then the same decision with a Valkey that is started for it, over a socket of this machine, beside
a bare PING. The figures are medians of single calls, of the quietest of some rounds, as other work on the machine can
only add. The bars: one decision in at most 25 µs in memory and 250 µs with Valkey, and nearly flat.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

import redis

from engine.expr import Vocabulary, Window, read
from engine.features import Facts, Features
from engine.money import Money
from engine.schema import schema
from engine.stores import DAY, MemoryStore, ValkeyStore
from tests import servers

BAR = 25.0
"""Microseconds for the windows of one decision."""
FLAT = 1.6
"""At most this many times the cost at 10 events a key when there are 1,000,000."""
LOADED = 40_000
"""Events a second that a history is loaded with in memory, at least."""
SERVER_BAR = 250.0
"""Microseconds for the windows of one decision on a server."""

KEYS = ("card.ref", "device.id", "ip", "buyer.account")
TEXTS = (
    *(f"count(last {length} by {key})" for key in KEYS for length in ("1h", "24h")),
    *(f"sum(amount last {length} by {key})" for key in KEYS for length in ("1h", "24h")),
    "distinct(card.ref last 24h by device.id)",
    "distinct(buyer.account last 24h by ip)",
)

RANKED = (
    "median(amount last 24h by card.ref)",
    "quantile(amount, 95% last 24h by card.ref)",
    "max(amount last 24h by card.ref)",
    "percentile(amount last 24h by card.ref)",
)


def windows(texts: Sequence[str] = TEXTS) -> list[Window]:
    known = schema()
    kinds = {kind: known.fields(kind) for kind in known.kinds}
    words = Vocabulary(fields=kinds["transaction"], kinds=kinds, kind=("transaction",))
    return [window for text in texts for window in read(text, words).windows]


def orders(keys: int, pace: int, *, start: int = 1_795_406_400_000_000) -> Iterator[Facts]:
    """Orders without end, one every `pace` microseconds, of so many cards, devices, addresses and accounts."""
    random = Random(keys)
    arrival = 0
    while True:
        arrival += 1
        own = {path: f"{path}-{random.randrange(keys)}" for path in KEYS}
        if keys == 1:  # On one hot device and address there still are many cards and accounts.
            own |= {"card.ref": "card", "buyer.account": "account"}
        values = {"amount": Money(random.randrange(100, 1_000_000), "CNY")}
        yield Facts("transaction", "shop", f"order-{arrival}", start + arrival * pace, arrival, values, own)


def microseconds(features: Features, facts: Sequence[Facts]) -> float:
    """The median of single calls."""
    gc.disable()
    times = []
    for one in facts:
        begin = perf_counter_ns()
        features.observe(one)
        times.append(perf_counter_ns() - begin)
        features.keep(one)
    gc.enable()
    return median(times) / 1000


def quietest(features: Features, stream: Iterator[Facts], rounds: int = 9, each: int = 1000) -> float:
    return min(microseconds(features, list(islice(stream, each))) for _ in range(rounds))


def late(facts: Facts, by: int) -> Facts:
    return Facts(facts.kind, facts.tenant, facts.id, facts.at - by, facts.arrival, facts.values, facts.keys)


def by_events(made: list[Window]) -> list[tuple[int, float, float]]:
    rows = []
    for events in (10, 1_000, 100_000, 1_000_000):
        stream, features = orders(1, DAY // events), Features(made, MemoryStore(cap=2_000_000))
        features.restore(islice(stream, events))
        in_order = quietest(features, stream)
        # Later than one in a hundred of the key's events.
        lately = microseconds(features, [late(one, DAY // 100) for one in islice(stream, 300)])
        rows.append((events, in_order, lately))
    return rows


def by_keys(made: list[Window]) -> list[tuple[int, float]]:
    rows = []
    for keys in (10, 100, 1000):
        stream, features = orders(keys, DAY // (200 * keys)), Features(made, MemoryStore())
        features.restore(islice(stream, 200 * keys))
        rows.append((keys, quietest(features, stream)))
    return rows


def load_rate(made: list[Window], events: int = 60_000) -> float:
    facts = list(islice(orders(300, DAY // events), events))
    Random(0).shuffle(facts)
    features = Features(made, MemoryStore())
    begin = perf_counter()
    features.restore(facts)
    return events / (perf_counter() - begin)


def ping(connection: Any, calls: int = 2000) -> float:
    """The median of a round trip that does nothing."""
    times = []
    for _ in range(calls):
        begin = perf_counter_ns()
        connection.send_command("PING")
        connection.read_response()
        times.append(perf_counter_ns() - begin)
    return median(times) / 1000


def on_server(made: list[Window], url: str) -> list[tuple[int, float, float, float, float]]:
    """By events a key: in order, late, a PING beside it, and events a second that the history was loaded with."""
    connection = redis.Redis.from_url(url).connection_pool.make_connection()
    rows = []
    for events in (10, 1_000, 100_000):
        stream, features = orders(1, DAY // events), Features(made, ValkeyStore(url, f"{len(made)}-{events}"))
        begin = perf_counter()
        features.restore(islice(stream, events))
        rate = events / (perf_counter() - begin)
        in_order = quietest(features, stream, rounds=5, each=500)
        bare = min(ping(connection) for _ in range(3))
        lately = microseconds(features, [late(one, DAY // 100) for one in islice(stream, 20)])
        rows.append((events, in_order, lately, bare, rate))
    return rows


def server() -> tuple[float, float]:
    """Print the table of the server; the dearest decision in order, and how much dearer than the cheapest it is."""
    print("\nValkey, over a socket of this machine")
    print("events per key   in order µs   late µs   PING µs   ratio   loaded/s   4 ranks µs")
    with servers.own("valkey") as it:
        rows = on_server(windows(), it.url())
        ranked = on_server(windows(RANKED), it.url())
        for (events, in_order, lately, bare, rate), (_, ranks, *_) in zip(rows, ranked, strict=True):
            numbers = f"{events:14,} {in_order:13.1f} {lately:9.0f} {bare:9.1f} {in_order / bare:7.1f}"
            print(f"{numbers} {rate:10,.0f} {ranks:12.1f}")
    return max(row[1] for row in rows), rows[-1][1] / rows[0][1]


def main() -> int:
    made = windows()
    print("events per key   in order µs   late µs")
    events = by_events(made)
    for number, in_order, lately in events:
        print(f"{number:14,} {in_order:13.1f} {lately:9.1f}")
    print("\nevents per key   in order µs   late µs   (4 ranks)")
    ranked = by_events(windows(RANKED))
    for number, in_order, lately in ranked:
        print(f"{number:14,} {in_order:13.1f} {lately:9.1f}")
    print("\n          keys   in order µs   (200 events each)")
    keys = by_keys(made)
    for number, in_order in keys:
        print(f"{number:14,} {in_order:13.1f}")
    rate, flat = load_rate(made), events[-1][1] / events[0][1]
    print(f"\nhistory loaded, in random order: {rate:,.0f} events/s")
    print(f"cost at 1,000,000 events a key ÷ at 10: {flat:.2f} (bar {FLAT})")
    decision = keys[1][1]
    print(f"one decision, 8 count+sum and 2 distinct, read and updated: {decision:.1f} µs (bar {BAR:.0f})")
    shared, flat_too = server()
    print(f"one decision on the server, the dearest: {shared:.1f} µs (bar {SERVER_BAR:.0f})")
    print(f"cost at 100,000 events a key ÷ at 10: {flat_too:.2f} (bar {FLAT})")
    kept = decision <= BAR and flat <= FLAT and rate >= LOADED and shared <= SERVER_BAR and flat_too <= FLAT
    return int("--check" in sys.argv and not kept)


if __name__ == "__main__":
    sys.exit(main())
