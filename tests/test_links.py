"""Groups of linked accounts, held against an oracle that walks plain lists; then what each limit does, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from secrets import token_hex
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from engine.expr import Group, Vocabulary, Window, read
from engine.features import Facts, Features, Reading
from engine.links import LinksReader
from engine.money import Money
from engine.packs import parse
from engine.schema import schema
from engine.stores import CAP, DAY, HOUR, LATENESS, MemoryStore, SplitStore, StoreUnavailable, ValkeyStore, together
from engine.stores import links as graph
from engine.stores.lines import Few
from tests.books import book, told
from tests.seeds import seeded
from tests.several import Several
from tests.taking import Taking
from tests.test_features import MINUTE, NOON, Oracle, Taken, amount, as_text, path

LINKS = """\
links: people
about: Accounts that share what a person has.
owner: marketplace-integrity
within: {within}
hub: {hub}
accounts: {accounts}{steps}
groups:
  buyer_group:
    account: buyer.account
    shares:
      - {{of: [transaction, review], by: [device.id, card.ref, shipping.address]}}
      - {{of: payout, by: buyer.payout_account}}
  seller_group:
    account: merchant.id
    shares:
      - {{of: [listing, payout], by: device.id}}
      - {{of: [transaction, payout], by: merchant.payout_account}}
  referrer_group:
    account: referrer.account
    shares: [{{of: promotion, by: [referrer.device, device.id]}}]
"""


@cache
def declared(within: str = "1h", hub: int = 20, accounts: int = 200, steps: int = 0) -> dict[str, Group]:
    known = schema()
    problems: list[Any] = []
    text = LINKS.format(within=within, hub=hub, accounts=accounts, steps=f"\nsteps: {steps}" if steps else "")
    groups = LinksReader({kind: known.fields(kind) for kind in known.kinds}, problems).groups([parse(text)])
    assert problems == []
    return groups


def window(text: str, groups: dict[str, Group], kind: str = "transaction") -> Window:
    known = schema()
    kinds = {name: known.fields(name) for name in known.kinds}
    (found,) = read(text, Vocabulary(kinds[kind], kinds, (kind,), groups=groups)).windows
    return found


def features(*texts: str, store: Any = None, kind: str = "transaction", **limits: Any) -> Features:
    """Warm windows over a new store."""
    made = Features([window(text, declared(**limits), kind) for text in texts], store or MemoryStore())
    made.restore(())
    return made


class Case(NamedTuple):
    """A question as text, and by hand: which events it counts, and what it takes of each."""

    text: str
    where: Callable[[Facts], bool | None] = lambda _: True
    argument: Callable[[Facts], Any] = lambda _: None
    kind: str = "transaction"
    steps: tuple[Any, ...] = ()  # no pattern, for the oracle of plain windows


def guest(facts: Facts) -> bool | None:
    return path("buyer.guest")(facts)


CASES = (
    Case("group_size(buyer_group)"),
    Case("group_links(buyer_group)"),
    Case("group_size(seller_group)"),
    Case("group_links(seller_group)"),
    Case("linked(buyer_group, seller_group)"),
    Case("linked(seller_group, buyer_group, 1)"),
    Case("linked(buyer_group, seller_group, 4)"),
    Case("linked(buyer_group, referrer_group)", kind="promotion"),
    Case("group_size(referrer_group)", kind="promotion"),
    Case("count(last 30m by buyer_group)"),
    Case("count(last 2h by buyer_group, including this)"),
    Case("count(transaction, review last 1h by buyer_group, merchant.id, including this)"),
    Case("count(listing last 1h by seller_group)"),
    Case("count(last 1h by channel, seller_group where buyer.guest)", guest),
    Case("sum(amount last 1h by buyer_group)", argument=amount),
    Case("sum(amount last 30m by buyer_group, merchant.id, including this)", argument=amount),
    Case("avg(amount last 1h by buyer_group)", argument=amount),
    Case("min(amount last 1h by buyer_group)", argument=amount),
    Case("max(session.pages last 1h by buyer_group)", argument=path("session.pages")),
    Case("stddev(session.pages last 1h by buyer_group)", argument=path("session.pages")),
    Case("share(buyer.guest last 1h by buyer_group)", argument=guest),
    Case("distinct(buyer.account last 1h by buyer_group, merchant.id, including this)", argument=path("buyer.account")),
    Case("distinct(card.ref last 2h by buyer_group)", argument=path("card.ref")),
    Case("first seen(last 1h by buyer_group)"),
    Case("last seen(review last 30m by buyer_group)"),
    Case("count(last 1h by referrer_group)", kind="promotion"),
)


# ---------------------------------------------------------------- the oracle


class Links(NamedTuple):
    """What an oracle of links goes by."""

    within: int
    hub: int
    accounts: int
    steps: int
    look: int


Account = tuple[str, str]
SHARES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("transaction", "account", "buyer.account", ("device.id", "card.ref", "shipping.address")),
    ("review", "account", "buyer.account", ("device.id", "card.ref", "shipping.address")),
    ("payout", "account", "buyer.account", ("buyer.payout_account",)),
    ("listing", "merchant.id", "merchant.id", ("device.id",)),
    ("payout", "merchant.id", "merchant.id", ("device.id", "merchant.payout_account")),
    ("transaction", "merchant.id", "merchant.id", ("merchant.payout_account",)),
    ("promotion", "account", "referrer.account", ("referrer.device", "device.id")),
)
"""What LINKS says, by hand: of which kind, in which space, whose account, what it shares."""
SPACES = {"buyer": ("account", "buyer.account"), "seller": ("merchant.id",) * 2}
SPACES |= {"referrer": ("account", "referrer.account")}


class _TooMany(Exception):
    pass


class Walk(Oracle):
    """What a reading must be, from the definition and all events there are."""

    def __init__(self, cases: Sequence[Any], lateness: int, cap: int, links: Links) -> None:
        super().__init__(cases, lateness, cap, [window(case.text, declared(), case.kind) for case in cases])
        self.links = links

    def edges(self, now: Facts) -> list[tuple[Account, str]]:
        """The links there are as of an event."""
        found = set()
        for one in self.events.values():
            if one.tenant != now.tenant or not now.at - self.links.within <= one.at:
                continue
            if (one.at, one.arrival) > (now.at, now.arrival):
                continue
            for kind, space, account, identifiers in SHARES:
                if kind == one.kind and path(account)(one) is not None:
                    found |= {((space, path(account)(one)), one.keys[name]) for name in identifiers if name in one.keys}
        return sorted(found)

    def levels(self, start: Account, now: Facts) -> Iterator[tuple[set[Account], int]]:
        """The accounts within 0, 1, 2 … identifiers of one, and how many identifiers were crossed."""
        edges = self.edges(now)
        reached, crossed = {start}, set[str]()
        while True:
            yield set(reached), len(crossed)
            own = [(account, identifier) for account, identifier in edges if account in reached]
            users = {each: {account for account, mine in edges if mine == each} for _, each in own}
            joining = {each for each, mine in users.items() if 2 <= len(mine) <= self.links.hub}
            more = reached.union(*(users[each] for each in joining))
            if len(more) > self.links.accounts or len(own) > self.links.look:
                raise _TooMany
            if more == reached and joining == crossed:
                return
            reached, crossed = more, joining

    def group(self, start: Account, now: Facts) -> tuple[set[Account], int]:
        """The group of an account."""
        last: tuple[set[Account], int] = (set(), 0)
        for step, level in enumerate(self.levels(start, now)):
            last = level
            if self.links.steps and step == self.links.steps:
                break
        return last

    def value(self, index: int, now: Facts) -> tuple[Any, str]:
        made, case = self.made[index], self.cases[index]
        who = made.groups[0].name.removesuffix("_group")
        space, account = SPACES[who]
        name = path(account)(now)
        others = {by: path(by)(now) for by in made.by if by != account}
        if name is None or None in others.values():
            return None, "thin_identity"
        if now.at < self.clock[now.tenant] - self.lateness:
            return None, "too_late"
        try:
            if made.function == "linked":
                other, there = SPACES[made.groups[1].name.removesuffix("_group")]
                return self.near((space, name), (other, path(there)(now)), int(made.parameter or 0), now), ""
            group, crossed = self.group((space, name), now)
        except _TooMany:
            return None, "feature_capped"
        if made.function == "group_size":
            return len(group), ""
        if made.function == "group_links":
            return crossed, ""
        names = {name for where, name in group if where == space}
        same = [
            one
            for one in self.events.values()
            if one.tenant == now.tenant
            and one.kind in made.kinds
            and path(account)(one) in names
            and all(path(by)(one) == there for by, there in others.items())
            and case.where(one) is True
        ]
        since = now.at - made.length
        if any(sum(path(account)(one) == each and one.at >= since for one in same) > self.cap for each in names):
            return None, "feature_capped"
        held = [one for one in same if since <= one.at and (one.at, one.arrival) < (now.at, now.arrival)]
        if made.including_this and now in same:
            held.append(now)
        return self.of(made, case, now, [Taken(one.at, one.arrival, case.argument(one), one) for one in held])

    def near(self, start: Account, other: Account, steps: int, now: Facts) -> bool:
        for step, (reached, _) in enumerate(self.levels(start, now)):
            if other in reached or step == steps:
                return other in reached
        return False


class Streams:
    """Random events of few people, so that they meet; ties; lateness; every value missing at times."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.arrival = 0
        self.now = NOON
        self.people = self.random.choice((3, 6, 12))

    def maybe(self, *values: Any) -> Any:
        return self.random.choice(values) if self.random.random() < 0.8 else None

    def some(self, of: str, share: int = 1) -> str | None:
        return self.maybe(*(f"{of}{number}" for number in range(max(2, self.people // share))))

    def at(self) -> int:
        throw = self.random.random()
        if throw < 0.12:
            return self.now
        if throw < 0.3:
            return self.now - self.random.randrange(self.random.choice((MINUTE, 30 * MINUTE, 150 * MINUTE)))
        self.now += self.random.choice((0, 1, MINUTE, 5 * MINUTE, 20 * MINUTE))
        return self.now

    def facts(self) -> Facts:
        self.arrival += self.random.choice((1, 1, 2))
        keys = {
            "buyer.account": self.some("u"),
            "referrer.account": self.some("u"),
            "device.id": self.some("d"),
            "referrer.device": self.some("d"),
            "card.ref": self.some("c"),
            "shipping.address": self.some("a", 2),
            "buyer.payout_account": self.some("p"),
            "merchant.payout_account": self.some("p"),
        }
        values = {
            "amount": self.maybe(*(Money(number, self.random.choice(("CNY",) * 9 + ("USD",))) for number in (1, 250))),
            "channel": self.maybe("app", "web"),
            "merchant": {"id": self.some("m", 3)},
            "session": {"pages": self.maybe(1, 2, 7)},
            "buyer": {"guest": self.maybe(True, False)},
        }
        kind = self.random.choice(("transaction",) * 4 + ("review", "payout", "listing", "promotion"))
        fields = schema().fields(kind)
        known = {name: key for name, key in keys.items() if key and name in fields}
        tenant = self.random.choice(("shop", "shop", "shop", "other"))
        return Facts(kind, tenant, f"e{self.arrival}", self.at(), self.arrival, values, known)


def hold_against_oracle(seed: int, make_store: Callable[[int, int], Any] = MemoryStore) -> None:
    """One stream of events, duplicates, forgets and restarts; every reading must be the oracle's."""
    streams = Streams(seed)
    random = streams.random
    kind = random.choice(("transaction", "transaction", "promotion"))
    cases = random.sample([case for case in CASES if case.kind == kind], 3 if kind == "promotion" else 7)
    lateness, cap = random.choice(((LATENESS, CAP), (HOUR, CAP), (45 * MINUTE, CAP), (HOUR, 3)))
    hub, accounts = random.choice((2, 3, 20)), random.choice((2, 5, 200))
    within, steps, look = random.choice((20, 60, 300)), random.choice((0, 0, 1, 2)), random.choice((6, 2000))
    oracle = Walk(cases, lateness, cap, Links(within * MINUTE, hub, accounts, steps, look))
    # Exact is the forgetting of events that are no later than what may be observed, and of keys that are not capped.
    forgets = cap == CAP
    groups = declared(f"{within}m", hub, accounts, steps)
    windows = [window(case.text, groups, case.kind) for case in cases]
    reads = {kind: range(len(cases))}

    def start(taking: Taking | None) -> tuple[Any, Features]:
        store = make_store(lateness, cap)
        made = Features(windows, store, reads=reads)
        if taking is not None and random.random() < 0.7:
            taking.put_into(store, made, oracle)
        else:
            oracle.restart()
            made.restore(random.sample(list(oracle.events.values()), len(oracle.events)))
        return store, made

    with (
        patch.object(graph, "LINKS_LOOK", look),
        patch.object(graph, "_LEAST_TRIMMED", random.choice((2, 16))),
        patch.object(Few, "due", random.choice((0, 3, Few.due))),
    ):
        store, made = start(None)
        past: list[Facts] = []
        taking: Taking | None = None
        for _ in range(random.choice((20, 40, 70))):
            if isinstance(store, MemoryStore):
                if taking is None or random.random() < 0.05:
                    taking = Taking(store, oracle)
                taking.go_on(random.randrange(4))
            throw = random.random()
            facts = streams.facts()
            if past and throw < 0.06:
                facts = replace(random.choice(past), arrival=streams.arrival)
            elif past and throw < 0.16 and forgets:
                facts = random.choice((past[-1], random.choice(past)))
                if facts.at >= oracle.clock.get(facts.tenant, 0) - lateness:
                    made.forget(facts)
                    oracle.forget(facts)
                continue
            elif throw < 0.18:
                store, made = start(taking)
                taking = None
            got, want = made.observe(facts), oracle.observe(facts)
            if facts.kind == kind:
                assert as_text(got) == as_text(want), f"seed {seed}, {facts}"
            past.append(facts)


@seeded(12, always=3, test=5, name="block")
def test_random_streams_read_as_a_walk_over_all_events_says(block: int) -> None:
    """Lateness, ties, duplicates, forgotten events, restarts, tenants, hubs, caps, steps: no difference."""
    for seed in range(30 * block, 30 * block + 30):
        hold_against_oracle(seed)


@seeded(6, always=1, test=2, name="block")
def test_random_streams_read_the_same_with_the_groups_beside_another_store(block: int) -> None:
    """The other store is in memory here, too: what is held is that each event is counted once, in the right one."""
    for seed in range(20_000 + 20 * block, 20_000 + 20 * block + 20):
        hold_against_oracle(seed, lambda lateness, cap: SplitStore(MemoryStore(lateness, cap), cap))


@pytest.mark.service
def test_random_streams_read_the_same_with_the_groups_beside_a_server(valkey_url: str) -> None:
    for seed in range(21_000, 21_020):
        hold_against_oracle(
            seed, lambda lateness, cap: SplitStore(ValkeyStore(valkey_url, token_hex(4), lateness, cap), cap)
        )


@pytest.mark.service
@pytest.mark.parametrize("block", range(2))
def test_random_streams_read_the_same_whichever_of_several_processes_takes_an_event(
    block: int, valkey_url: str
) -> None:
    """Each has the groups in its own memory, and hears of the others' events before it answers for its own."""
    for seed in range(22_000 + 15 * block, 22_015 + 15 * block):
        hold_against_oracle(
            seed, lambda lateness, cap, seed=seed: Several(valkey_url, 2 + seed % 2, lateness, cap, Random(seed))
        )


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("block", range(20))
def test_many_more_random_streams_read_the_same_whichever_of_several_processes_takes_an_event(
    block: int, valkey_url: str
) -> None:
    for seed in range(23_000 + 100 * block, 23_100 + 100 * block):
        hold_against_oracle(
            seed, lambda lateness, cap, seed=seed: Several(valkey_url, 2 + seed % 2, lateness, cap, Random(seed))
        )


@pytest.mark.slow
@pytest.mark.parametrize("block", range(40))
def test_many_more_random_streams_read_as_a_walk_over_all_events_says(block: int) -> None:
    """Twelve thousand streams."""
    for seed in range(1000 + 300 * block, 1000 + 300 * block + 300):
        hold_against_oracle(seed)


# ---------------------------------------------------------------- one at a time


class Stream:
    """Orders with the arrivals of a ledger; `at` is in minutes after noon."""

    def __init__(self) -> None:
        self.arrival = 0

    def __call__(self, at: float, account: str | None = "u1", *, kind: str = "transaction", **keys: str) -> Facts:
        self.arrival += 1
        named = {"device": "device.id", "card": "card.ref", "pays": "merchant.payout_account"}
        found = {named[name]: key for name, key in keys.items() if name in named}
        found |= {"buyer.account": account} if account else {}
        values = {"amount": Money(100, keys.get("currency", "CNY")), "merchant": {"id": keys.get("shop", "m1")}}
        tenant, id = keys.get("tenant", "shop"), keys.get("id", f"e{self.arrival}")
        return Facts(kind, tenant, id, NOON + round(at * MINUTE), self.arrival, values, found)


def values(made: Features, *events: Facts) -> list[Any]:
    """What the last of some events reads."""
    return [made.observe(one) for one in events][-1].values


def test_an_account_alone_is_a_group_of_one() -> None:
    made = features("group_size(buyer_group)", "group_links(buyer_group)", "count(last 1h by buyer_group)")
    assert values(made, Stream()(0, device="d")) == [1, 0, 0]


def test_links_go_through_the_identifiers_of_the_event_itself() -> None:
    """The first order of a new account on a known device is of the old account's group, and counts with it."""
    make = Stream()
    made = features("group_size(buyer_group)", "group_links(buyer_group)", "count(last 1h by buyer_group)")
    assert values(made, make(0, "u1", device="d"), make(1, "u2", device="d")) == [2, 1, 1]


def test_what_is_linked_through_others_is_one_group() -> None:
    make = Stream()
    made = features("group_size(buyer_group)", "group_links(buyer_group)", "count(last 1h by buyer_group)")
    chain = [make(0, "u1", device="d1"), make(1, "u2", device="d1", card="c1"), make(2, "u3", card="c1")]
    assert values(made, *chain) == [3, 2, 2]


def test_a_link_fades_when_its_last_event_is_too_long_ago() -> None:
    """At exactly the length it is there, a microsecond later it is not; a new event shows it anew."""
    make = Stream()
    made = features("group_size(buyer_group)")
    values(made, make(0, "u1", device="d"), make(30, "u2", device="d"))
    assert values(made, make(60, "u2")) == [2]
    assert values(made, make(60 + 1 / MINUTE, "u2")) == [1]
    assert values(made, make(70, "u1", device="d")) == [2]


def test_a_late_event_sees_the_links_as_they_were() -> None:
    make = Stream()
    made = features("group_size(buyer_group)")
    events = [make(0, "u1", device="d"), make(20, "u2", device="d")]
    assert values(made, *events, make(10, "u1")) == [1]
    assert values(made, make(21, "u1")) == [2]


@pytest.mark.parametrize(("users", "size"), [(1, 1), (2, 2), (3, 3), (4, 1), (9, 1)])
def test_an_identifier_of_more_accounts_than_a_hub_has_joins_none(users: int, size: int) -> None:
    make = Stream()
    made = features("group_size(buyer_group)", hub=3)
    assert values(made, *(make(at, f"u{at}", device="public") for at in range(users))) == [size]


def test_a_hub_joins_again_when_enough_of_its_accounts_have_gone() -> None:
    make = Stream()
    made = features("group_size(buyer_group)", hub=2)
    values(made, make(0, "u1", device="d"), make(10, "u2", device="d"))
    assert values(made, make(20, "u3", device="d")) == [1]
    assert values(made, make(61, "u3")) == [2]


@pytest.mark.parametrize(("users", "want"), [(4, ([4, 3, 4], ())), (5, ([None] * 3, "feature_capped"))])
def test_a_group_larger_than_its_cap_is_unknown(users: int, want: tuple[list[Any], Any]) -> None:
    make = Stream()
    texts = ("group_size(buyer_group)", "group_links(buyer_group)", "count(last 1h by buyer_group, including this)")
    made = features(*texts, accounts=4)
    chain = [make(at, f"u{at}", card=f"c{at}", device=f"c{at - 1}") for at in range(users)]
    found = [made.observe(one) for one in chain][-1]
    assert (found.values, found.gaps) == (want[0], tuple((at, want[1]) for at in range(3)) if want[1] else ())


def test_an_account_with_more_links_than_a_search_goes_over_is_unknown() -> None:
    """One account that tries thousands of cards costs no more than a look."""
    make = Stream()
    made = features("group_size(buyer_group)")
    found = [made.observe(make(0, card=f"c{at}")).values for at in range(graph.LINKS_LOOK + 1)]
    assert found == [[1]] * graph.LINKS_LOOK + [[None]]


@pytest.mark.parametrize(("steps", "size"), [(0, 5), (1, 2), (3, 4), (4, 5)])
def test_a_group_reaches_as_many_steps_as_its_file_says(steps: int, size: int) -> None:
    make = Stream()
    made = features("group_size(buyer_group)", steps=steps)
    assert values(made, *(make(at, f"u{at}", card=f"c{at}", device=f"c{at - 1}") for at in range(5))) == [size]


def test_linked_counts_the_identifiers_between_two_accounts() -> None:
    """u1 - card - u2 - device - shop m1: two."""
    make = Stream()
    texts = [f"linked(buyer_group, seller_group, {steps})" for steps in (1, 2, 3)]
    made = features(*texts, "linked(buyer_group, seller_group)")
    listing = make(0, None, kind="listing", device="d")
    events = [listing, make(1, "u2", shop="m2", device="d", card="c"), make(2, "u1", card="c")]
    assert values(made, *events) == [False, True, True, True]
    assert values(made, make(3, "u1", shop="m2")) == [False] * 4


def test_a_buyer_is_linked_with_the_seller_by_an_account_that_both_are_paid_to() -> None:
    make = Stream()
    made = features("linked(buyer_group, seller_group, 1)")
    keys = {"buyer.account": "u1", "buyer.payout_account": "acc"}
    paid = Facts("payout", "shop", "p", NOON, 0, {"merchant": {"id": "m9"}}, keys)
    assert values(made, paid, make(1, "u1", pays="acc")) == [True]
    assert values(made, make(2, "u2", pays="acc")) == [False]


def test_two_paths_of_one_namespace_name_the_same_account() -> None:
    """Who refers himself is linked with himself, and what he did as a buyer counts."""
    made = features("linked(buyer_group, referrer_group)", "group_size(referrer_group)", kind="promotion")
    mine = Facts("promotion", "shop", "a", NOON, 1, {}, {"buyer.account": "u1", "referrer.account": "u1"})
    other = Facts("promotion", "shop", "b", NOON, 2, {}, {"buyer.account": "u1", "referrer.account": "u2"})
    assert [values(made, one) for one in (mine, other)] == [[True, 1], [False, 1]]


def test_an_event_without_the_account_has_no_group() -> None:
    """Its windows are unknown with the gap thin_identity; nothing links a guest."""
    texts = (
        "group_size(buyer_group)",
        "count(last 1h by buyer_group, merchant.id)",
        "linked(buyer_group, seller_group)",
    )
    made = features(*texts)
    found = made.observe(Stream()(0, None, device="d"))
    assert found.values == [None] * 3
    assert sorted(found.gaps) == [(index, "thin_identity") for index in range(3)]


def test_a_group_is_unknown_until_its_links_are_loaded() -> None:
    """Also where the events that it counts are there already: those are not loaded again."""
    make, store = Stream(), MemoryStore()
    plain = Features([window("count(last 1h by buyer.account)", {})], store)
    plain.restore(())
    texts = ("count(last 1h by buyer_group)", "group_size(buyer_group)")
    made = Features([window(text, declared()) for text in texts], store)
    past = make(0, "u2", device="d")
    plain.observe(past)
    assert (made.ready, made.warm(0), made.warm(1)) == (False, False, False)
    assert sorted(made.observe(make(0, "u3")).gaps) == [(0, "not_warm"), (1, "not_warm")]
    made.restore([past])
    assert made.ready
    assert values(made, make(1, "u1", device="d")) == [1, 2]


def test_a_store_that_is_away_is_a_gap_for_groups_too() -> None:
    class Away(MemoryStore):
        def observe(self, *_: Any) -> Any:
            raise StoreUnavailable("no answer within 50 ms")

    made = features("group_size(buyer_group)", "count(last 1h by buyer_group)", store=Away())
    found = made.observe(Stream()(0))
    assert (found.values, found.added) == ([None, None], False)
    assert sorted(found.gaps) == [(index, "store_unavailable") for index in range(2)]


class Failing(MemoryStore):
    """A store that may be away."""

    away = False

    def observe(self, stamp: Any, touches: Any) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        return super().observe(stamp, touches)


def test_what_a_store_that_was_away_did_not_count_is_loaded_for_the_groups_too() -> None:
    make, other = Stream(), Failing()
    store = SplitStore(other)
    made = features(
        "group_size(buyer_group)", "count(last 1h by buyer_group)", "count(last 1h by channel)", store=store
    )
    first, missed, third = (make(place, f"u{place}", device="d1") for place in range(3))
    values(made, first)
    other.away = True
    assert [gap for _, gap in made.observe(missed).gaps] == ["store_unavailable"] * 3
    other.away = False

    assert not made.ready
    assert sorted(gap for _, gap in made.observe(third).gaps) == ["not_warm", "not_warm", "thin_identity"]
    since = made.since
    assert since is not None
    assert since <= missed.arrival
    made.restore([missed], since)
    assert made.ready
    assert values(made, make(3, "u0", device="d1")) == [3, 3, None]


def test_what_was_missed_before_a_loading_that_failed_is_still_to_be_loaded() -> None:
    make, other = Stream(), Failing()
    store = SplitStore(other)
    made = features("count(last 1h by buyer_group)", store=store)
    missed, later, last = (replace(make(at, "u1", device="d1"), arrival=NOON + at * MINUTE) for at in (0, 30, 31))

    def away_again() -> Iterator[Facts]:
        yield missed
        made.observe(later)
        raise StoreUnavailable("away")

    other.away = True
    made.observe(missed)
    with pytest.raises(StoreUnavailable):
        made.restore(away_again(), made.since)
    other.away = False

    since = made.since
    assert since is not None
    assert since <= missed.arrival
    made.restore([missed, later], since)
    assert values(made, last) == [2]


def test_groups_that_were_never_loaded_need_all_of_the_ledger() -> None:
    store = SplitStore(MemoryStore())
    made = Features([window("group_size(buyer_group)", declared())], store)

    assert made.since is None
    made.restore(())
    assert made.ready


def test_tenants_share_no_links() -> None:
    make = Stream()
    made = features("group_size(buyer_group)")
    assert values(made, make(0, "u1", device="d", tenant="other"), make(1, "u2", device="d")) == [1]


def test_forgetting_takes_its_links_out_and_a_duplicate_brings_none() -> None:
    make = Stream()
    made = features("group_size(buyer_group)", "count(last 1h by buyer_group)")
    first = make(0, "u1", device="d", id="order")
    values(made, first, make(1, "u2", device="d"))
    made.forget(make(0, "u1", device="d", id="order"))  # lost the race: not the arrival that was added
    assert values(made, make(2, "u2")) == [2, 2]
    made.forget(first)
    assert values(made, make(3, "u2")) == [1, 2]


def test_a_plain_window_and_one_by_a_group_share_their_events() -> None:
    """The events are kept once, whichever way they are looked at."""
    store = MemoryStore()
    features("count(last 1h by buyer.account)", "count(last 1h by buyer_group)", store=store)
    assert len(store._series) == 2  # the events by account, and the links


def test_money_of_two_currencies_in_a_group_has_no_sum() -> None:
    make = Stream()
    made = features("sum(amount last 1h by buyer_group)", "max(amount last 1h by buyer_group)")
    events = [make(0, "u1", device="d"), make(1, "u2", device="d", currency="USD"), make(2, "u1")]
    reading: Reading = [made.observe(one) for one in events][-1]
    assert (reading.values, reading.gaps) == ([None, None], ((0, "mixed_currencies"), (1, "mixed_currencies")))


def test_distinct_over_a_group_looks_at_so_many_events_and_no_more() -> None:
    make = Stream()
    made = features("distinct(card.ref last 1h by buyer_group)", "count(last 1h by buyer_group)")
    with patch.object(together, "GROUP_LOOK", 3):
        found = [made.observe(make(at, f"u{at % 2}", device="d", card="c")) for at in range(5)]
    assert [one.values for one in found] == [[0, 0], [1, 1], [1, 2], [1, 3], [None, 4]]
    assert found[-1].gaps == ((0, "feature_capped"),)


def test_links_that_no_question_reaches_are_dropped_while_others_come() -> None:
    """Memory holds what is in reach, and at most twice as long."""
    make, store = Stream(), MemoryStore(lateness=HOUR)
    made = features("group_size(buyer_group)", store=store)
    for at in range(2000):
        made.observe(make(at, f"u{at}", device=f"d{at // 2}", card=f"c{at}"))
    (held,) = store._rooms["shop"].graphs.values()
    reach = 2 * (60 + 60)  # minutes: within and lateness, twice
    assert len(held) <= 2 * reach + 10
    assert len(held._nodes) <= reach + 10
    assert len(held._identifiers) <= 2 * reach + 10


def test_a_busy_link_keeps_the_events_of_late_questions_alone() -> None:
    make, store = Stream(), MemoryStore(lateness=HOUR)
    made = features("group_size(buyer_group)", store=store, within="300m")
    for at in range(4000):
        made.observe(make(at, device="d"))
    (held,) = store._rooms["shop"].graphs.values()
    assert len(held) == 1
    assert len(held._due[0][1].times) <= 2 * 64


def test_closing_lets_the_store_drop_the_links() -> None:
    store = MemoryStore()
    made = features("group_size(buyer_group)", store=store)
    made.observe(Stream()(0, device="d"))
    made.close()
    assert store._rooms["shop"].graphs == {}


def test_a_window_is_another_one_when_its_group_is_declared_otherwise() -> None:
    """So a reload rebuilds it, although it is written the same way; a model trained on it must be trained anew."""
    one, other = declared(hub=20), declared(hub=10)
    for text in ("group_size(buyer_group)", "count(last 1h by buyer_group)", "linked(buyer_group, seller_group)"):
        assert window(text, one) == window(text, dict(one))
        assert window(text, one) != window(text, other)
    known = schema().fields("transaction")
    first, second = (read("group_size(buyer_group) > 3", Vocabulary(known, groups=groups)) for groups in (one, other))
    assert first.text == second.text == "group_size(buyer_group) > 3"
    assert first.meaning != second.meaning


def test_history_reaches_back_as_far_as_a_link_lasts() -> None:
    assert features("group_size(buyer_group)", within="30d").history == 37 * DAY


# ---------------------------------------------------------------- in files

FILE = LINKS.format(within="1h", hub=20, accounts=200, steps="")
PACK = """\
pack: fake-trade/small
about: Links.
for: transaction
owner: marketplace-integrity
let:
  here: count(last 30d by buyer_group, merchant.id, including this)
rules:
  - id: small.links
    when: here >= 2 and linked(buyer_group, seller_group) and group_size(buyer_group) > 1
    signal: ring
    because: {en: "{here} orders", zh: "{here} 笔"}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def files(pack: tuple[str, str] = ("", ""), links: tuple[str, str] = ("", "")) -> dict[str, str]:
    """The two files, with a mistake in one of them."""
    assert pack[0] in PACK
    assert links[0] in FILE
    return {"rules/links/people.yaml": FILE.replace(*links, 1), "rules/small.yaml": PACK.replace(*pack, 1)}


def test_the_files_are_sound_and_the_windows_read_as_they_are_written(tmp_path: Path) -> None:
    names = [made.name for made in book(tmp_path, files()).windows]
    assert names == [
        "count(transaction last 30d by buyer_group, merchant.id, including this)",
        "linked(buyer_group, seller_group, 2)",
        "group_size(buyer_group)",
    ]


CONDITIONS = [
    ("group_size(buyer_gruop)", "small.yaml:9:22: 'buyer_gruop' is no group", "did you mean 'buyer_group'?"),
    (
        "buyer_group > 1",
        "small.yaml:9:11: 'buyer_group' is a group of accounts, not a value",
        "group_size(buyer_group)",
    ),
    ("group_size > 1", "'group_size' is a function", "write group_size(…)"),
    ("group_size(buyer.account)", "'buyer.account' is no group", "'links' declares groups"),
    ("group_size(1 + 1)", "'+' is no group", ""),
    ("group_size(buyer_group, seller_group)", "group_size() takes one group", "such as group_size(buyer_group)"),
    ("linked(buyer_group)", "linked() takes two groups", "such as linked(buyer_group, seller_group)"),
    ("linked(buyer_group, seller_group, 0)", "linked() goes 1 to 5 shared identifiers far", "such as 2"),
    ("linked(buyer_group, seller_group, 6)", "linked() goes 1 to 5", ""),
    ("linked(buyer_group, seller_group, amount)", "linked() goes 1 to 5", ""),
    ("linked(buyer_group, buyer_group)", "whether an account is linked with itself", "name another group"),
    ("linked(buyer_group, referrer_group)", "a transaction has no referrer.account, so there is no referrer_group", ""),
    ("count(last 1d by referrer_group) > 1", "a transaction has no referrer.account", ""),
    ("count(listing last 1d by buyer_group) > 1", "the events of this window have no buyer.account", ""),
    ("count(last 1d by buyer_group, seller_group) > 1", "a window goes by one group", "linked(…, …)"),
    (
        "count(last 1d by buyer_group, buyer.account) > 1",
        "the accounts of buyer_group are a window's key",
        "leave it out",
    ),
    ("median(amount last 1d by buyer_group) > 1 CNY", "median() cannot look over a group", "there are count, sum"),
    ("streak(buyer.guest last 1d by buyer_group) > 1", "streak() cannot look over a group", ""),
    ("count(last 1d by buyer_group, approximately) > 1", "a window over a group cannot be approximate", "leave"),
    ("count(last 1d by ip where group_size(buyer_group) > 1) > 1", "a window cannot stand inside a window", ""),
    ("group_sizes(buyer_group) > 1", "unknown function 'group_sizes'", "did you mean 'group_size'?"),
]


@pytest.mark.parametrize(("condition", "says", "hint"), CONDITIONS)
def test_what_is_wrong_with_a_group_in_a_condition_is_told(
    tmp_path: Path, condition: str, says: str, hint: str
) -> None:
    whole = "here >= 2 and linked(buyer_group, seller_group) and group_size(buyer_group) > 1"
    (problem,) = told(tmp_path, files(pack=(whole, condition)))
    assert says in problem
    assert hint in problem


DECLARATIONS = [
    (("within: 1h", "within: 1y"), "people.yaml:4:9: write a duration such as 30s"),
    (("hub: 20", "hub: 1"), "people.yaml:5:6"),
    (("buyer.account\n", "buyer.acount\n"), "people.yaml:9:14: unknown field 'buyer.acount'"),
    (("account: merchant.id", "account: amount"), "people.yaml:14:14: amount does not name an account"),
    (("account: merchant.id", "account: buyer.name"), "buyer.name does not name an account"),
    (("account: merchant.id", "account: buyer.account"), "buyer.account is the account of buyer_group already"),
    (("[transaction, review]", "[transactoin, review]"), "people.yaml:11:15: there is no kind of event 'transactoin'"),
    (
        ("[transaction, review]", "[listing, review]"),
        "a listing has no buyer.account, so it shows nothing that is its own",
    ),
    (("card.ref", "card.reff"), "no transaction or review has a field 'card.reff'"),
    (("card.ref", "card.bin"), "people.yaml:11:53: card.bin identifies nobody, so it cannot link accounts"),
    (("of: payout, by: buyer.payout_account", "of: payout, by: card.ref"), "no payout has a field 'card.ref'"),
    (("  referrer_group:", "  amount:"), "people.yaml:18:3: 'amount' is already a field of events"),
    (("  referrer_group:", "  where:"), "'where' is already a word of the language"),
    (("accounts: 200", "acounts: 200"), "unknown key 'acounts'"),
]


@pytest.mark.parametrize(("change", "says"), DECLARATIONS)
def test_what_is_wrong_with_a_file_of_links_is_told_once_and_with_its_place(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    (problem, *more) = told(tmp_path, files(links=change))
    assert says in problem
    assert more == []


def test_the_same_group_in_two_files_is_told(tmp_path: Path) -> None:
    again = {**files(), "rules/links/people-too.yaml": FILE}
    problems = "\n".join(told(tmp_path, again))
    assert "'buyer_group' is already a group of another file" in problems
    assert "there are links named 'people' already" in problems


def test_a_name_of_a_pack_cannot_be_that_of_a_group(tmp_path: Path) -> None:
    (problem, *_) = told(tmp_path, files(pack=("  here:", "  buyer_group:")))
    assert "'buyer_group' is already a group of linked accounts" in problem


def test_a_file_of_links_that_cannot_be_read_hides_no_other_mistake(tmp_path: Path) -> None:
    """Nobody says that its groups are not there; what else is wrong is told."""
    given = files(pack=("group_size(buyer_group) > 1", "amuont > 1 CNY"))
    problems = told(tmp_path, {**given, "rules/links/people.yaml": FILE + "  - [\n"})
    assert len(problems) == 2
    assert "unknown name 'amuont'" in "\n".join(problems)


def test_groups_of_two_files_are_not_linked(tmp_path: Path) -> None:
    other = FILE.replace("links: people", "links: shops").replace("_group:", "_ring:")
    given = {**files(pack=("linked(buyer_group, seller_group)", "linked(buyer_group, seller_ring)"))}
    (problem,) = told(tmp_path, {**given, "rules/links/shops.yaml": other.replace("within: 1h", "within: 2h")})
    assert "these groups are of two files of links" in problem


def test_a_pattern_goes_by_no_group(tmp_path: Path) -> None:
    steps = "{sequence: [{event: transaction}, {event: transaction}], within: 1d, by: buyer_group}"
    (problem,) = told(tmp_path, files(pack=("let:\n", f"patterns:\n  twice: {steps}\nlet:\n")))
    assert "a pattern cannot look over a group" in problem
    assert "go by buyer.account" in problem
