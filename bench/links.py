"""What groups of linked accounts cost, in memory: read and updated, by how many events there are and how large the
groups are.

    python -m bench.links [--check]

One event brings two identifiers of a buyer (a device and a card) and is asked for the size of the group, for whether
the buyer is linked to the seller, and for the orders of the whole group at this shop: 3 values. Beside it, in the same
run and over the same events, one plain count by account and shop. Tables: by events in the store, all accounts in
groups of 3; by the size of the group, at 100,000 events; identifiers that very many accounts use. The figures are
medians of single calls, of the quietest of some rounds. The bars: at most FLAT times the cost with 1,000,000
events as with 10; for an account alone at most OVER times a plain count.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from random import Random

from bench.features import quietest
from engine.expr import Group, Links, Party, Share, Vocabulary, Window, read
from engine.features import Facts, Features
from engine.schema import schema
from engine.stores import DAY, MemoryStore

FLAT = 3.0
OVER = 8.0

SHARED = Share(("transaction",), ("card.ref", "device.id"))
SOLD = Share(("transaction",), ("merchant.payout_account",))
PARTIES = (
    Party("buyer.account", "account", (SHARED,)),
    Party("merchant.id", "merchant.id", (SOLD,)),
)
PEOPLE = Links(PARTIES, within=90 * DAY, hub=20, accounts=500, steps=0)
GROUPS = {
    "buyer_group": Group("buyer_group", "buyer.account", "account", PEOPLE),
    "seller_group": Group("seller_group", "merchant.id", "merchant.id", PEOPLE),
}
PLAIN = ("count(last 30d by buyer.account, merchant.id)",)
LINKED = (
    "group_size(buyer_group)",
    "linked(buyer_group, seller_group)",
    "count(last 30d by buyer_group, merchant.id)",
)


def windows(texts: tuple[str, ...]) -> list[Window]:
    known = schema()
    kinds = {kind: known.fields(kind) for kind in known.kinds}
    words = Vocabulary(kinds["transaction"], kinds, ("transaction",), groups=GROUPS)
    return [window for text in texts for window in read(text, words).windows]


def orders(accounts: int, size: int, pace: int, *, start: int = 1_795_406_400_000_000) -> Iterator[Facts]:
    """Orders without end, one every `pace` microseconds, of accounts in groups of a size.

    An account shares its device with the one before it in the group, its card with the one behind: a chain. `size` 0:
    all of them order on one device.
    """
    random = Random(accounts)
    arrival = 0
    while True:
        arrival += 1
        account = random.randrange(accounts)
        place = account % size if size else 0
        own = {
            "buyer.account": f"account-{account}",
            "device.id": f"device-{account - place % 2}" if size else "device",
            "card.ref": f"card-{account - (place + 1) % 2}" if place else f"card-{account}",
            "merchant.payout_account": f"payout-{arrival % 100}",
        }
        values = {"merchant": {"id": f"shop-{arrival % 100}"}}
        yield Facts("transaction", "shop", f"order-{arrival}", start + arrival * pace, arrival, values, own)


def pair(accounts: int, size: int, events: int, pace: int) -> tuple[float, float]:
    """Microseconds of one event: a plain count, and the three questions about the group."""
    found = []
    for texts in (PLAIN, LINKED):
        stream, features = orders(accounts, size, pace), Features(windows(texts), MemoryStore())
        features.restore(islice(stream, events))
        found.append(quietest(features, stream, rounds=7, each=500))
    return found[0], found[1]


def row(what: str, plain: float, linked: float) -> None:
    print(f"{what:>14} {plain:14.1f} {linked:10.1f} {linked / plain:7.1f}")


def main() -> int:
    head = "plain count µs  groups µs   ratio"
    print(f"        events {head}   (groups of 3)")
    costs = []
    for events in (10, 1_000, 100_000, 1_000_000):
        plain, linked = pair(max(3, events // 10), 3, events, 80 * DAY // events)
        costs.append(linked)
        row(f"{events:,}", plain, linked)
    print(f"\n    group size {head}   (100,000 events)")
    by_size = {}
    for size in (1, 3, 10, 50, 200):
        by_size[size] = pair(10_000, size, 100_000, 800 * DAY // 1_000_000)
        row(f"{size}", *by_size[size])
    print(f"\naccounts on one device {head[6:]}")
    for accounts in (10, 20, 1_000, 100_000):
        row(f"{accounts:,}", *pair(accounts, 0, 100_000, 800 * DAY // 1_000_000))
    flat, over = costs[-1] / costs[0], by_size[1][1] / by_size[1][0]
    print(f"\ncost with 1,000,000 events ÷ with 10: {flat:.2f} (bar {FLAT})")
    print(f"an account alone, 3 values ÷ a plain count: {over:.1f} (bar {OVER})")
    return int("--check" in sys.argv and not (flat <= FLAT and over <= OVER))


if __name__ == "__main__":
    sys.exit(main())
