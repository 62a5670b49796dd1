"""What any store promises, and what the one in memory does to stay small and quick."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from random import Random
from secrets import token_hex
from typing import Any

import pytest

from engine.errors import ArbiterError, Unavailable
from engine.money import Money
from engine.stores import (
    COUNT,
    DAY,
    DISTINCT,
    FIRST,
    HOUR,
    LAST,
    LEAST,
    MEAN,
    MOST,
    PERCENTILE,
    RANKED,
    SUM,
    SUMS,
    VALUES,
    Frame,
    Gap,
    MemoryStore,
    Series,
    Store,
    StoreUnavailable,
    Touch,
    ValkeyStore,
    plain,
    quantile,
)
from engine.stores.bag import Sorted
from engine.stores.lines import Few

SERIES = Series("cards", (SUMS, VALUES), HOUR)
ALL = ((COUNT, -1), (FIRST, -1), (LAST, -1), (SUM, 0), (MEAN, 0), (DISTINCT, 1))


@dataclass(frozen=True)
class Seen:
    at: int
    arrival: int
    id: str = ""
    tenant: str = "shop"


def seen(at: int, arrival: int, id: str = "", tenant: str = "shop") -> Seen:
    return Seen(at, arrival, id or f"e{arrival}", tenant)


def touch(values: Sequence[Any] | None = (("CNY", 5), "a"), key: str = "card", length: int = HOUR) -> list[Touch]:
    return [("cards", key, values, ((length, False, ALL),), None)]


Make = Callable[..., Any]
"""A store of the kind under test, given its limits."""


@pytest.fixture(params=["memory-arrays", "memory", pytest.param("valkey", marks=pytest.mark.service)])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Every kind of store keeps the same contract: with arrays from the first event on, as it is, and on a server."""
    if request.param == "valkey":
        url = request.getfixturevalue("valkey_url")
        return lambda **limits: ValkeyStore(url, token_hex(4), **limits)
    monkeypatch.setattr(Few, "due", 0 if request.param == "memory-arrays" else Few.due)
    return MemoryStore


@pytest.fixture
def store(make: Make) -> Store:
    return warm(make(lateness=HOUR, cap=100))


def warm(store: Store) -> Store:
    store.declare([SERIES])
    store.load((), ["cards"])
    return store


def test_a_store_that_is_away_is_one_of_our_errors() -> None:
    """It is safe to retry, and says so."""
    error = StoreUnavailable("no answer")

    assert isinstance(error, Unavailable | ArbiterError)
    assert error.reason == "store_unavailable"


def test_a_key_without_events_answers_from_nothing(store: Store) -> None:
    """0 for how many and how many different; nothing for the rest. Asking adds nothing."""
    empty = [0, None, None, None, None, 0]

    assert store.observe(seen(0, 1), touch(None)) == (1, True, empty)
    assert store.observe(seen(1, 2), touch()) == (2, True, empty)


def test_answers_are_as_of_the_event_that_asks(store: Store) -> None:
    """What is earlier counts, in the order of time and then of arrival."""
    store.observe(seen(10, 1), touch((("CNY", 5), "a")))
    store.observe(seen(30, 2), touch((("CNY", 6), "b")))
    store.observe(seen(31, 3), touch((("CNY", 9), "d")))
    store.observe(seen(30, 4, "order-4"), touch((("CNY", 8), "a")))

    assert store.observe(seen(30, 5), touch((("CNY", 7), "c")))[2] == [3, 10, 30, Money(19, "CNY"), ("CNY", 19, 3), 2]
    assert store.observe(seen(30, 6, "order-4"), touch())[2] == [2, 10, 30, Money(11, "CNY"), ("CNY", 11, 2), 2]


def test_no_two_events_of_a_tenant_have_one_arrival(store: Store) -> None:
    """An arrival that is taken, or before one that is, gives way to the next one that is free; others know nothing of
    it. So what an event saw is what has a smaller arrival."""
    given = [
        store.observe(seen(5, arrival, f"order-{place}"), touch())[0] for place, arrival in enumerate((7, 7, 3, 20))
    ]

    assert given == [7, 8, 9, 20]
    assert store.observe(seen(5, 1, "order-4", "other"), touch())[0] == 1
    assert store.observe(seen(5, 90, "order-1"), touch())[:2] == (8, False)
    store.forget(seen(5, 20, "order-3"), touch())
    assert store.observe(seen(5, 8, "order-5"), touch())[0] == 21


def test_an_event_of_the_ledger_keeps_its_arrival(store: Store) -> None:
    """However new the others are; and what comes afterwards comes behind it."""
    store.observe(seen(5, 7), touch())
    store.add(seen(5, 3), touch())
    store.add(seen(5, 3), touch())
    store.add(seen(4, 30), touch())

    assert store.observe(seen(5, 9, "e7"), touch())[2][0] == 2
    assert store.observe(seen(5, 10), touch())[0::2] == (31, [3, 4, 5, Money(15, "CNY"), ("CNY", 15, 3), 1])


def test_questions_of_several_series_are_answered_in_order(store: Store) -> None:
    """One flat list, series by series, stretch by stretch."""
    store.declare([Series("devices", (), DAY)])
    store.load((), ["devices"])
    ten, hour = (10, False, ((COUNT, -1),)), (HOUR, True, ((COUNT, -1), (DISTINCT, 1)))
    both: list[Touch] = [
        ("cards", "card", (None, None), (ten, hour), None),
        ("devices", "device", (), ((DAY, True, ((LAST, -1),)),), None),
    ]
    store.observe(seen(0, 1), both)

    assert store.observe(seen(20, 2), both) == (2, True, [0, 2, 0, 20])


def test_an_id_adds_once(store: Store) -> None:
    """Also under another arrival; another tenant's same id is another event."""
    store.observe(seen(0, 1, "order-1"), touch())

    assert store.observe(seen(0, 2, "order-1"), touch())[:2] == (1, False)
    assert store.observe(seen(0, 3, "order-1", "other"), touch())[:2] == (3, True)
    assert store.observe(seen(1, 4), touch())[2][0] == 1


def test_forgetting_needs_the_very_event(store: Store) -> None:
    """The same id with another arrival was never added; once forgotten the id is free."""
    store.observe(seen(0, 1, "order-1"), touch())
    store.forget(seen(0, 2, "order-1"), touch())
    assert store.observe(seen(1, 3), touch(None))[2][0] == 1

    store.forget(seen(0, 1, "order-1"), touch())
    assert store.observe(seen(1, 4), touch(None))[2][0] == 0
    assert store.observe(seen(0, 5, "order-1"), touch())[1] is True


def test_what_is_added_out_of_order_is_the_same_in_any_order(store: Store, make: Make) -> None:
    """Also when it is loaded; every question, at every place."""
    random = Random(7)
    units = ["CNY"] * 6 + ["USD", None]
    rows = [(seen(random.randrange(40), arrival), random.choice(units), random.choice("abc")) for arrival in range(60)]
    events = [(one, touch((unit and (unit, one.arrival), text))) for one, unit, text in rows]
    other, loaded = warm(make(lateness=HOUR, cap=100)), make(lateness=HOUR, cap=100)
    loaded.declare([SERIES])
    for event in events:
        store.observe(*event)
    for event in random.sample(events, len(events)):
        other.add(*event)
    loaded.load(random.sample(events, len(events)), ["cards"])

    for at in range(42):
        for length in (3, 20, HOUR):
            asked = seen(at, 100 + at, f"probe-{at}-{length}"), touch(None, length=length)
            assert store.observe(*asked)[2] == other.observe(*asked)[2] == loaded.observe(*asked)[2]


def test_a_stretch_over_several_units_has_no_sum(store: Store) -> None:
    """Unless the ones it holds are of one unit; events without a number count for neither."""
    for at, value in enumerate([("CNY", 5), None, ("USD", 7), None, ("USD", 8)]):
        store.observe(seen(at, at), touch((value, None)))

    assert store.observe(seen(5, 5), touch(None))[2][3:5] == [Gap.MIXED, Gap.MIXED]
    assert store.observe(seen(5, 6), touch(None, length=4))[2][3:5] == [Money(15, "USD"), ("USD", 15, 2)]
    assert store.observe(seen(5, 7), touch(None, length=2))[2][3:5] == [Money(8, "USD"), ("USD", 8, 1)]


def test_too_late_an_event_reads_nothing(store: Store) -> None:
    """A microsecond more than the lateness behind the newest event of its own tenant."""
    store.observe(seen(5 * HOUR, 1), touch())
    store.observe(seen(50 * HOUR, 2, tenant="other"), touch())

    assert store.observe(seen(4 * HOUR, 3), touch())[2][0] == 0
    assert store.observe(seen(4 * HOUR - 1, 4), touch())[2] == [Gap.TOO_LATE] * 6
    assert store.observe(seen(4 * HOUR, 5), touch())[2][0] == 2


def test_a_stretch_is_exact_up_to_the_cap(store: Store) -> None:
    """101 events are one too many, 100 are not."""
    for at in range(101):
        store.observe(seen(at, at), touch())

    assert store.observe(seen(101, 101), touch(None, length=101))[2] == [Gap.CAPPED] * 6
    assert store.observe(seen(101, 102), touch(None, length=100))[2][0] == 100
    assert store.observe(seen(HOUR + 1, 103), touch(None))[2][0] == 100


def test_a_full_stretch_stays_unknown_when_events_are_forgotten(store: Store) -> None:
    """What was dropped does not come back, so what is left must not pass for all."""
    for at in range(400):
        store.observe(seen(at, at), touch())
    for at in range(300, 400):
        store.forget(seen(at, at), touch())

    assert store.observe(seen(400, 400), touch(None))[2] == [Gap.CAPPED] * 6
    assert store.observe(seen(401, 401), touch())[2] == [Gap.CAPPED] * 6


def test_an_event_read_again_is_the_event_first_seen(make: Make) -> None:
    """A history that numbers the arrivals otherwise adds nothing to what was observed."""
    made = make()
    made.declare([SERIES])
    made.observe(seen(5, 1, "order-1"), touch())
    made.load([(seen(5, 70, "order-1"), touch())], ["cards"])

    assert made.observe(seen(5, 71), touch(None))[2][0] == 1


@pytest.mark.parametrize("seed", range(20))
def test_distinct_counts_as_of_any_event_are_those_of_a_set(seed: int, store: Store) -> None:
    """Each event asks again after all have come, so that there are ties and later events on the other side."""
    random = Random(seed)
    rows = [(random.randrange(12), arrival, random.choice("abcdefgh")) for arrival in range(80)]
    for at, arrival, text in random.sample(rows, len(rows)):
        store.add(seen(at, arrival), touch((None, text)))
    for at, arrival, _ in rows:
        for length in (1, 4, 20):
            held = {text for when, came, text in rows if at - length <= when and (when, came) < (at, arrival)}
            assert store.observe(seen(at, arrival), touch((None, "x"), length=length))[2][5] == len(held)


def test_many_threads_lose_nothing(store: Store) -> None:
    """Ninety events from four threads are all there."""

    def add(arrival: int) -> Any:
        asked: Frame = (HOUR, False, ((COUNT, -1),))
        return store.observe(seen(0, arrival), [("cards", "card", (("CNY", 1), None), (asked,), None)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(90)))

    assert store.observe(seen(1, 1000), touch(None))[2][3] == Money(90, "CNY")


# ---------------------------------------------------------------- in memory


def size(thing: Any, done: set[int]) -> int:
    """Bytes of an object and all that it alone holds."""
    if id(thing) in done or isinstance(thing, type | int | str):
        return 0
    done.add(id(thing))
    held = [getattr(thing, name) for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    held += list(getattr(thing, "__dict__", {}).values())
    held += [*thing, *thing.values()] if isinstance(thing, dict) else []
    held += list(thing) if isinstance(thing, list | tuple | set) else []
    return sys.getsizeof(thing) + sum(size(one, done) for one in held)


def in_memory(**limits: int) -> MemoryStore:
    made = MemoryStore(**limits)
    warm(made)
    return made


def test_a_busy_key_keeps_what_a_question_can_reach_and_little_more() -> None:
    """After a hundred spans it is as large as after three."""
    made = in_memory(lateness=0)
    sizes = []
    for at in range(100):
        for part in range(60):
            made.observe(seen(at * HOUR + part * HOUR // 60, 60 * at + part), touch((("CNY", 5), f"a{part % 7}")))
        sizes.append(size(made, set()))

    assert sizes[-1] < 1.5 * max(sizes[:4])


def test_a_full_key_keeps_no_more_than_the_cap_and_a_quarter() -> None:
    """However many events come within the window."""
    made = in_memory(cap=1000)
    sizes = []
    for at in range(10_000):
        made.observe(seen(at, at), touch((("CNY", 5), f"a{at % 7}")))
        if at in (1000, 9999):
            sizes.append(size(made._rooms["shop"].shelves, set()))

    assert sizes[1] < 1.4 * sizes[0]


def test_idle_keys_are_dropped() -> None:
    """A key seen once is gone after two spans and lateness, as other keys come."""
    made = in_memory(lateness=HOUR)
    for at in range(0, 20 * HOUR, HOUR // 50):
        made.observe(seen(at, at), touch(key=f"card-{at}"))

    shelf = made._rooms["shop"].shelves["cards"]
    assert len(shelf.new) + len(shelf.old) + len(shelf._dying) <= 6 * 50
    assert sum(map(len, made._rooms["shop"]._ids.values())) <= 28 * 50


def test_a_key_that_turned_generation_keeps_its_events() -> None:
    """Idle for almost the span while other keys come, through every turn."""
    made = in_memory(lateness=0)
    pace = HOUR * 19 // 20
    for at in range(0, 30 * HOUR, pace // 10):
        made.observe(seen(at, at), touch(key=f"card-{at}"))
        if at % pace == 0:
            *_, answers = made.observe(seen(at, at + 1), touch(key="steady"))
            assert answers[0] == min(at, 1)


def test_loading_drops_what_is_out_of_reach() -> None:
    """Old history costs nothing, in whatever order it comes."""
    made = MemoryStore(lateness=HOUR)
    made.declare([SERIES])
    events = [(seen(at * HOUR, at), touch()) for at in range(200)]
    made.load(reversed(events), ["cards"])

    assert len(made._rooms["shop"].shelves["cards"].new["card"]) == 3
    assert made.observe(seen(199 * HOUR + 1, 500), touch(None))[2][0] == 1


@pytest.mark.parametrize("width", [3, 64, 8192])
def test_ranks_in_a_long_line_are_those_of_the_sorted_stretch(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stretches over one key: events in order, late ones, forgotten ones; the views move back and forth."""
    monkeypatch.setattr(Sorted, "WIDTH", width)
    hold_ranks(MemoryStore(lateness=HOUR), width, 2_500)


@pytest.mark.service
@pytest.mark.parametrize("seed", range(3))
def test_ranks_on_a_server_are_those_of_the_sorted_stretch(seed: int, valkey_url: str) -> None:
    """Of negative and broken numbers too."""
    hold_ranks(ValkeyStore(valkey_url, token_hex(4), lateness=HOUR), seed, 1_500)


PRICES = (*range(-9, 30), Decimal("0.5"), Decimal("0.05"), Decimal("-0.05"), Decimal("-12.5"), 10**20, -(10**20))


def hold_ranks(store: Store, seed: int, events: int) -> None:
    random = Random(seed)
    store.declare([Series("prices", (RANKED,), HOUR)])
    store.load((), ["prices"])
    asked = ((LEAST, 0), (MOST, 0), (quantile(Fraction(9, 10)), 0), (PERCENTILE, 0))
    frames: list[Frame] = [(length, False, asked) for length in (HOUR // 20, HOUR)]
    past: dict[int, tuple[int | Decimal, int]] = {}
    by_price: list[tuple[int | Decimal, int]] = []  # What is in `past`: price and time, in order once and for all.
    now = 0
    for arrival in range(1, events):
        throw = random.random()
        if past and throw < 0.03:
            gone = random.choice(list(past))
            price, at = past.pop(gone)
            by_price.remove((price, at))
            store.forget(seen(at, gone), [("prices", "k", (("CNY", price),), (), None)])
            continue
        now += random.choice((0, HOUR // 1000))
        at = now - (random.randrange(HOUR) if throw < 0.1 else 0)
        own = ("CNY", random.choice(PRICES))
        *_, answers = store.observe(seen(at, arrival), [("prices", "k", (own,), frames, (own,))])
        looked = arrival % 5 == 0 or at < now  # To go through all of it each time would take most of the test.
        for length, found in zip((HOUR // 20, HOUR), (answers[:4], answers[4:]), strict=True):
            if looked and at >= now - HOUR and at - length >= now - 2 * HOUR:
                since = at - length
                held = [price for price, time in by_price if since <= time <= at]  # All of them arrived before.
                assert found == ranks(held, own[1])
        past[arrival] = (own[1], at)
        insort(by_price, past[arrival])
        if looked:
            past = {a: one for a, one in past.items() if one[1] >= now - 2 * HOUR}
            by_price = [one for one in by_price if one[1] >= now - 2 * HOUR]


def ranks(held: list[int | Decimal], own: int | Decimal) -> list[Any]:
    if not held:
        return [None] * 4
    tenth = held[-(-9 * len(held) // 10) - 1]
    return [*(Money(each, "CNY") for each in (held[0], held[-1], tenth)), ("", 100 * bisect_left(held, own), len(held))]


@pytest.mark.parametrize("width", [2, 5, 8192])
def test_the_bag_of_times_is_a_sorted_list(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added, taken out and moved at random, over blocks of any width."""
    monkeypatch.setattr(Sorted, "WIDTH", width)
    random, bag, plain_list = Random(width), Sorted(), list[int]()
    for _ in range(3000):
        time = random.randrange(60)
        if plain_list and random.random() < 0.45:
            bag.discard(gone := random.choice(plain_list))
            plain_list.remove(gone)
        elif random.random() < 0.5:
            bag.add(time)
            insort(plain_list, time)
        else:
            newest = max([time, *plain_list])
            old = random.choice([None, *plain_list])
            bag.move(old, newest)
            if old is not None:
                plain_list.remove(old)
            plain_list.append(newest)
        assert bag.since(time) == len(plain_list) - bisect_left(plain_list, time)
        assert [bag[place] for place in range(len(bag))] == plain_list


@pytest.mark.parametrize(
    ("number", "form"),
    [
        (5, "5"),
        (Decimal(5), "5"),
        (Decimal("5.00"), "5"),
        (Decimal("1E+2"), "100"),
        (Decimal("0.10"), "Decimal('0.1')"),
        (Decimal("-0.0"), "0"),
        (Decimal("1.0000000000000000000000000000000000000010"), "Decimal('1.000000000000000000000000000000000000001')"),
    ],
)
def test_a_number_has_one_plain_form(number: int | Decimal, form: str) -> None:
    """Every digit stays, no zero that says nothing does."""
    assert repr(plain(number)) == form
