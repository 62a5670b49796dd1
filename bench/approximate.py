"""What approximate windows cost beside exact ones: room, and time to read and update, by how many events the key has.

    python -m bench.approximate [--check]

One key of 30 days, four windows over it: how many events, what they come to, how many buyers, the median. Both kinds
are fed with the same orders. Memory is what Python's allocator holds more after the events than before, less what the
ids of the events take, which a store keeps once for all windows. Times are medians of single calls, of the quietest of
some rounds. The bar: from 50,000 events on approximate windows take no more room for more events, and less than exact
ones.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from bench.features import quietest, windows
from engine.features import Facts, Features
from engine.money import Money
from engine.stores import DAY, MemoryStore

TEXTS = (
    "count(last 30d by merchant.id{})",
    "sum(amount last 30d by merchant.id{})",
    "distinct(buyer.account last 30d by merchant.id{})",
    "median(amount last 30d by merchant.id{})",
)
MORE = 1.25
"""At most this many times the room at 200,000 events that 50,000 take."""


def orders(events: int, start: int = 1_795_406_400_000_000) -> Iterator[Facts]:
    """Orders at one shop without end, so many in 30 days, each fourth from a new buyer."""
    random = Random(events)
    arrival = 0
    while True:
        arrival += 1
        values = {"amount": Money(round(random.lognormvariate(9, 1)), "CNY"), "merchant": {"id": "m"}}
        own = {"buyer.account": f"account-{random.randrange(1 + events // 4)}"}
        at = start + arrival * (30 * DAY // events)
        yield Facts("transaction", "shop", f"order-{arrival}", at, arrival, values, own)


def cost(texts: Sequence[str], events: int) -> tuple[float, float]:
    """Megabytes, and microseconds an event."""
    features = Features(windows(texts), MemoryStore())
    features.restore(())
    stream = orders(events)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for one in islice(stream, events):
        features.observe(one)
    room = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return room / 1e6, quietest(features, stream, rounds=5)


def main() -> int:
    print("events per key   exact MB   approximate MB   ids MB   exact µs   approximate µs")
    rooms: dict[int, tuple[float, float]] = {}
    for events in (10, 1_000, 10_000, 50_000, 200_000):
        ids, _ = cost(["count(last 30d by ip)"], events)  # The orders have none: all that is kept is that they came.
        (exact, exact_time), (rough, rough_time) = (
            cost([text.format(ending) for text in TEXTS], events) for ending in ("", ", approximately")
        )
        rooms[events] = exact - ids, rough - ids
        print(
            f"{events:14,} {exact - ids:10.2f} {rough - ids:16.2f} {ids:8.2f} {exact_time:10.1f} {rough_time:16.1f}",
            flush=True,
        )
    flat, part = rooms[200_000][1] / rooms[50_000][1], rooms[200_000][1] / rooms[200_000][0]
    print(f"\nroom of approximate windows at 200,000 events ÷ at 50,000: {flat:.2f} (bar {MORE})")
    print(f"room of approximate windows ÷ of exact ones at 200,000 events: {part:.3f} (bar 1)")
    return int("--check" in sys.argv and not (flat <= MORE and part < 1))


if __name__ == "__main__":
    sys.exit(main())
