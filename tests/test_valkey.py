"""What the store on a server does beside the contract: it is shared, lost, away and found again, and counts rightly.

The contract itself is held in `test_stores`, and every window against an oracle in `test_features`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Context, Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
import redis

from engine.assembly import Settings
from engine.errors import Unavailable
from engine.ledger import Ledger
from engine.money import Money
from engine.stores import (
    COUNT,
    DISTINCT,
    HOUR,
    LEAST,
    MOST,
    RANKED,
    SPREAD,
    SQUARES,
    SUM,
    SUMS,
    VALUES,
    Gap,
    MemoryStore,
    Series,
    SplitStore,
    StoreUnavailable,
    Touch,
    ValkeyStore,
    plain,
)
from engine.stores.news import KEPT
from engine.stores.rows import SMALL, parsed, written
from engine.stores.server import ANSWER_SECONDS
from engine.stores.valkey import MARGIN
from tests import servers
from tests.books import SHOP, Clock, judged, payment, running, write
from tests.books import SMALL as BOOK
from tests.daemon import Daemon
from tests.test_features import limit_server
from tests.test_stores import Seen, seen

pytestmark = pytest.mark.service

CARDS = Series("cards", (SUMS, VALUES), HOUR)
ASKED = ((HOUR, False, ((COUNT, -1), (SUM, 0), (DISTINCT, 1))),)


def touch(number: int | Decimal = 5, text: str = "a", key: str = "card") -> list[Touch]:
    return [("cards", key, (("CNY", number), text), ASKED, None)]


def opened(url: str, space: str = "", **more: Any) -> ValkeyStore:
    made = ValkeyStore(url, space or token_hex(4), **more)
    made.declare([CARDS])
    return made


def warm(url: str, space: str = "", **more: Any) -> ValkeyStore:
    made = opened(url, space, **more)
    made.load((), ["cards"])
    return made


def count(store: ValkeyStore, arrival: int) -> Any:
    """How many events the card has, for an event that is nowhere else."""
    return store.observe(seen(HOUR, arrival), [("cards", "card", None, ASKED, None)])[2][0]


def history(arrivals: range) -> list[tuple[Seen, list[Touch]]]:
    return [(seen(arrival, arrival), touch()) for arrival in arrivals]


@pytest.fixture
def server() -> Iterator[servers.Server]:
    """A Valkey that this test may stop and kill."""
    try:
        with servers.own("valkey") as it:
            yield it
    except LookupError as error:
        pytest.skip(str(error))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-7, "-7"),
        (SMALL - 1, "9007199254740991"),
        (SMALL, "B0,4740992,719925,90"),
        (-SMALL, "B0,5259008,9280074,-91"),
        (Decimal("0.5"), "B-1,5000000"),
        (Decimal("-0.5"), "B-1,-5000000"),
        (Decimal("1.00000001"), "B-2,1000000,0,1"),
    ],
)
def test_numbers_cross_as_text_and_come_back(number: int | Decimal, text: str) -> None:
    """Plain digits where a double is exact, limbs of seven digits elsewhere."""
    assert written(number) == text
    assert parsed(text.encode()) == number


def test_sums_on_the_server_are_exact_at_any_size(valkey_url: str) -> None:
    """Beyond what a double holds, below and above the point; in order, late and as squares."""
    numbers = [SMALL - 1, 1, Decimal("0.1"), -(10**40), Decimal("1E-30"), 10**40, Decimal("-0.1"), 3 * SMALL, -SMALL]
    store = ValkeyStore(valkey_url, token_hex(4))
    store.declare([Series("n", (SUMS, SQUARES), HOUR)])
    store.load((), ["n"])
    asked = ((HOUR, True, ((SUM, 0), (SPREAD, 1))),)
    order = [3, 1, 8, 2, 7, 0, 6, 4, 5]
    for done, at in enumerate(order, 1):
        own = ("", numbers[at])
        whole = [int(Decimal(numbers[place]).scaleb(30, WIDE)) for place in order[:done] if place <= at]
        total, squares = unscaled(sum(whole), 30), unscaled(sum(number * number for number in whole), 60)

        found = store.observe(seen(at, at), [("n", "k", (own, own), asked, None)])[2]

        assert found == [total, ("", total, squares, len(whole))]


WIDE = Context(prec=400)


def unscaled(whole: int, places: int) -> int | Decimal:
    return plain(Decimal(whole).scaleb(-places, WIDE))


# ---------------------------------------------------------------- lost


def test_a_server_that_lost_everything_is_noticed_by_the_next_event(server: servers.Server) -> None:
    """In its one round trip: it reads not_warm, and it is kept for after the loading."""
    store = warm(server.url())
    for arrival in range(1, 4):
        store.observe(seen(arrival, arrival), touch())
    redis.Redis.from_url(server.url()).flushall()

    assert store.observe(seen(4, 4), touch()) == (4, True, [Gap.NOT_WARM] * 3)
    assert not store.warm("cards")

    store.tend()
    assert store.since(["cards"]) is None
    store.load(history(range(1, 4)), ["cards"])

    assert store.warm("cards")
    assert count(store, 5) == 4


def test_a_loss_that_no_event_met_is_noticed_as_well(server: servers.Server) -> None:
    """By looking after the store."""
    store = warm(server.url())
    store.observe(seen(1, 1), touch())
    redis.Redis.from_url(server.url()).flushall()
    store.tend()

    assert not store.warm("cards")


def test_a_tenant_that_is_new_is_warm_at_once(valkey_url: str) -> None:
    """It has no epoch either, but the store still has ours."""
    store = warm(valkey_url)

    assert store.observe(seen(1, 1, tenant="new"), touch())[2] == [0, None, 0]
    assert store.observe(seen(2, 2, tenant="new"), touch())[2] == [1, Money(5, "CNY"), 1]


def test_a_loss_during_the_loading_makes_it_void(server: servers.Server) -> None:
    """What was loaded before is gone, so nothing is warm; the next loading is whole."""
    store, other = opened(server.url()), redis.Redis.from_url(server.url())

    def half() -> Iterator[tuple[Seen, list[Touch]]]:
        yield from history(range(1, 3))
        other.flushall()
        yield from history(range(3, 5))

    with pytest.raises(StoreUnavailable, match="lost"):
        store.load(half(), ["cards"])
    assert not store.warm("cards")

    store.tend()
    store.load(history(range(1, 5)), ["cards"])
    assert count(store, 9) == 4


def test_a_loss_while_the_end_of_the_ledger_is_read_is_not_taken_for_a_whole_loading(server: servers.Server) -> None:
    """What was read is less than what is missing by now."""
    warm(server.url(), "space", clock=lambda: 2 * MARGIN)
    store = opened(server.url(), "space", clock=lambda: 2 * MARGIN)
    since = store.since(["cards"])
    assert since == MARGIN
    redis.Redis.from_url(server.url()).flushall()
    store.tend()

    with pytest.raises(StoreUnavailable, match="lost more"):
        store.load(history(range(1, 3)), ["cards"], since)
    assert not store.warm("cards")


def test_a_server_that_came_back_from_an_older_copy_is_not_believed(server: servers.Server) -> None:
    """It says of what time it is; from then on the ledger is read again."""
    now = 10 * MARGIN
    store = warm(server.url(), clock=lambda: now)
    for arrival in range(1, 4):
        store.observe(seen(arrival, arrival), touch())
    redis.Redis.from_url(server.url()).save()
    now += 5 * MARGIN
    store.tend()
    store.observe(seen(4, 4), touch())
    server.kill()
    server.start()
    store.tend()

    assert not store.warm("cards")
    assert store.since(["cards"]) == 9 * MARGIN
    store.load(history(range(1, 5)), ["cards"])
    assert count(store, 5) == 4


def test_a_server_that_cannot_be_used_is_told_with_its_own_words(valkey_url: str) -> None:
    """At the first contact, which a start makes."""
    store = opened(f"{valkey_url.partition('?')[0]}?db=9999")

    with pytest.raises(StoreUnavailable, match="DB index is out of range"):
        store.observe(seen(1, 1), touch())


def test_a_server_that_would_forget_keys_by_itself_is_not_used(server: servers.Server) -> None:
    """It would lose single keys, which nothing can notice."""
    redis.Redis.from_url(server.url()).config_set("maxmemory-policy", "allkeys-lru")
    store = opened(server.url())

    with pytest.raises(StoreUnavailable, match="allkeys-lru"):
        store.observe(seen(1, 1), touch())


# ---------------------------------------------------------------- away


def test_a_server_that_is_away_costs_one_wait_and_comes_back_by_itself(server: servers.Server) -> None:
    """What was decided meanwhile is not in it, so it is not warm until that is loaded."""
    now = 10 * MARGIN
    store = warm(server.url(), clock=lambda: now)
    store.observe(seen(1, 1), touch())
    now += MARGIN
    server.stop()
    began = time.monotonic()
    for arrival in range(2, 200):
        with pytest.raises(StoreUnavailable):
            store.observe(seen(2, arrival), touch())
    with pytest.raises(StoreUnavailable):
        store.tend()
    assert time.monotonic() - began < 5
    assert store.failures == 198

    server.start()
    store.tend()
    assert not store.warm("cards")
    store.load(history(range(1, 200)), ["cards"])
    assert count(store, 300) == 199


def test_a_server_that_hangs_is_not_waited_for_and_what_it_did_late_is_undone(server: servers.Server) -> None:
    """The event was counted after we had given up on it, with an arrival that nobody was told of."""
    store, other = warm(server.url()), redis.Redis.from_url(server.url())
    store.observe(seen(1, 1), touch())
    other.client_pause(int(2000 * ANSWER_SECONDS), all=True)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.observe(seen(2, 1, "late"), touch())
    with pytest.raises(StoreUnavailable):
        store.forget(seen(1, 1), touch())
    assert time.monotonic() - began < 4 * ANSWER_SECONDS

    store.tend()
    store.load([(seen(2, 7, "late"), touch())], ["cards"])

    assert store.observe(seen(2, 9, "late"), touch())[:2] == (7, False)
    assert count(store, 10) == 1


def test_what_is_committed_leaves_the_server_whoever_tells_it_first(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tend` runs beside decisions: one may take along what it is about to tell, or have had nothing to tell."""
    store, client = warm(server.url()), redis.Redis.from_url(server.url())
    events = [seen(1, 1, tenant=tenant) for tenant in ("one", "two")]
    for event in events:
        store.observe(event, touch())
        store.keep(event)
    tell = store._server.client.hdel

    def meanwhile(*args: Any) -> Any:
        store.observe(seen(2, 2, tenant="two"), touch())
        return tell(*args)

    with monkeypatch.context() as raced:
        raced.setattr(store._server.client, "hdel", meanwhile)
        store.tend()
    assert sorted(client.hlen(key) for key in client.keys("*:pending")) == [1]  # The event of meanwhile.

    server.stop()
    with pytest.raises(StoreUnavailable):
        store.observe(seen(3, 3, tenant="one"), touch())
    server.start()
    store.tend()
    store.load((), ["cards"])
    store.tend()


@pytest.mark.parametrize(
    ("said", "away"),
    [
        ("BUSY Valkey is busy running a script.", True),
        ("MISCONF Errors writing to the AOF file: no space", True),
        ("ERR Function not found", True),
        ("ERR unknown command 'FCALL', with args beginning with: ", True),
        ("ERR user_function:7: attempt to index a nil value", False),
    ],
)
def test_a_server_that_cannot_serve_is_told_from_a_mistake_of_ours(
    said: str, away: bool, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is a gap, the other an error that is seen."""

    def complain() -> Any:
        raise redis.ResponseError(said)

    store = warm(valkey_url)
    store.observe(seen(0, 0), touch())
    monkeypatch.setattr(store._server._connection, "read_response", complain)

    with pytest.raises(StoreUnavailable if away else redis.ResponseError):
        store.observe(seen(1, 1), touch())


def test_an_arbiter_can_start_while_its_store_is_away(server: servers.Server) -> None:
    """It asks again by itself."""
    server.stop()
    store = opened(server.url())
    with pytest.raises(StoreUnavailable):
        store.observe(seen(1, 1), touch())
    server.start()
    store.tend()
    store.load(history(range(1, 2)), ["cards"])

    assert count(store, 2) == 1


# ---------------------------------------------------------------- the next process


def test_what_the_next_process_finds_needs_only_the_end_of_the_ledger(valkey_url: str) -> None:
    """The series are there; what came in the last minutes before is read again."""
    now = 10 * MARGIN
    first = warm(valkey_url, "space", clock=lambda: now)
    first.observe(seen(1, 1), touch())
    first.keep(seen(1, 1))
    first.tend()
    second = opened(valkey_url, "space", clock=lambda: now)

    assert (second.warm("cards"), second.since(["cards"])) == (False, 9 * MARGIN)

    second.load(history(range(1, 3)), ["cards"])
    assert count(second, 5) == 2


def test_what_a_killed_process_counted_and_never_committed_is_taken_out(valkey_url: str) -> None:
    """Of three events the ledger has two: one whose commit the store was told of, and one that it was not."""
    first = warm(valkey_url, "space", clock=lambda: MARGIN)
    for arrival in range(MARGIN, MARGIN + 3):
        first.observe(seen(1, arrival), touch(key=f"card\n{arrival % 2}"))
    first.keep(seen(1, MARGIN))
    first.tend()
    second = opened(valkey_url, "space", clock=lambda: MARGIN)
    second.load([(seen(1, at), touch(key=f"card\n{at % 2}")) for at in (MARGIN, MARGIN + 1)], ["cards"])

    asked = [("cards", f"card\n{key}", None, ASKED, None) for key in range(2)]
    assert second.observe(seen(9, MARGIN + 9), asked)[2][0::3] == [1, 1]


# ---------------------------------------------------------------- members

BESIDE = Series("beside", (SUMS, VALUES), HOUR, grouped=True)
"""What each keeps for itself, as it does whatever groups are asked about."""


class Watch:
    """A clock for members, and who of them runs."""

    def __init__(self, url: str) -> None:
        self.url, self.space = url, token_hex(4)
        self.now = 10 * MARGIN
        self.living: list[str] = []

    def member(self, name: str) -> SplitStore:
        """One more, which has all that is in the ledger: nothing yet, or what `load` is given."""
        self.living.append(name)
        clock = {"clock": lambda: self.now}
        made = SplitStore(ValkeyStore(self.url, self.space, member=name, living=lambda: self.living, **clock), **clock)
        made.declare([CARDS, BESIDE])
        return made

    def warm(self, name: str) -> SplitStore:
        made = self.member(name)
        made.load((), ["cards", "beside"])
        return made

    def event(self, number: int) -> Seen:
        return seen(number, self.now + number)


def both() -> list[Touch]:
    (one,) = touch()
    return [one, ("beside", *one[1:])]


def counts(store: SplitStore, event: Seen) -> list[Any]:
    """How many events the card has, on the server and beside it, for an event that is nowhere else."""
    answers = store.observe(event, [(name, "card", None, ASKED, None) for name in ("cards", "beside")])[2]
    return answers[0::3]


def test_a_member_that_heard_nothing_for_long_reads_what_it_lacks_from_the_ledger(valkey_url: str) -> None:
    """The news are not kept for ever."""
    watch = Watch(valkey_url)
    one, other = watch.warm("one"), watch.warm("other")
    one.observe(watch.event(1), both())
    watch.now += KEPT // 2 + 1
    other.hear()

    assert (other.warm("cards"), other.warm("beside")) == (True, False)
    assert other.since(["beside"]) == 10 * MARGIN - MARGIN
    assert counts(other, watch.event(5)) == [1, Gap.NOT_WARM]

    other.load([(seen(1, 10 * MARGIN + 1), both())], ["beside"], other.since(["beside"]))
    assert counts(other, watch.event(6)) == [1, 1]
    assert one.warm("beside") is True


def test_a_member_knows_that_news_may_be_lost_with_the_server(server: servers.Server) -> None:
    watch = Watch(server.url())
    one, other = watch.warm("one"), watch.warm("other")
    one.observe(watch.event(1), both())
    redis.Redis.from_url(server.url()).flushall()

    assert counts(other, watch.event(2)) == [Gap.NOT_WARM, Gap.NOT_WARM]
    assert other.since(["beside"]) == watch.now - MARGIN
    for member in (one, other):
        member.tend()
        member.load([(watch.event(1), both())], ["cards", "beside"])
    assert counts(other, watch.event(3)) == [1, 1]


def test_what_a_killed_member_never_committed_is_taken_out_of_all_and_what_others_have_under_way_is_not(
    valkey_url: str,
) -> None:
    watch = Watch(valkey_url)
    one, other = watch.warm("one"), watch.warm("other")
    one.observe(watch.event(1), both())
    other.observe(watch.event(2), both())
    watch.living.remove("one")
    later = watch.member("later")
    later.load([(watch.event(2), both())], ["cards", "beside"])  # By then it is in the ledger.

    assert counts(other, watch.event(5)) == [1, 1]
    assert counts(later, watch.event(6)) == [1, 1]


def test_an_event_that_came_to_two_stays_when_the_first_of_them_is_killed(valkey_url: str) -> None:
    """The second one is about to commit it."""
    watch = Watch(valkey_url)
    one, other = watch.warm("one"), watch.warm("other")
    assert [member.observe(watch.event(1), both())[:2] for member in (one, other)] == [
        (watch.now + 1, True),
        (watch.now + 1, False),
    ]
    watch.living.remove("one")
    later = watch.member("later")
    later.load([(watch.event(1), both())], ["cards", "beside"])  # By then it is in the ledger.

    assert counts(later, watch.event(5)) == [1, 1]


def test_a_member_that_comes_later_hears_what_is_told_from_then_on(valkey_url: str) -> None:
    """What was before it has from the ledger; two minutes of news at once would hold up the server."""
    watch = Watch(valkey_url)
    one = watch.warm("one")
    for number in range(1, 4):
        one.observe(watch.event(number), both())
    later = watch.member("later")
    one.observe(watch.event(4), both())
    assert later._server is not None
    _, (_, _, *told) = later._server.news("shop")
    assert [int(arrival) for arrival in told[1::3]] == [watch.now + 4]

    later.load([(watch.event(number), both()) for number in range(1, 4)], ["cards", "beside"])
    assert counts(later, watch.event(5)) == [4, 4]


def test_members_that_cannot_reach_the_server_tell_the_others_from_when_on(server: servers.Server) -> None:
    """The server never saw the event; who was told reads as little as the one who knows."""
    watch = Watch(server.url())
    one, other = watch.warm("one"), watch.warm("other")
    server.stop()
    with pytest.raises(StoreUnavailable):
        one.observe(watch.event(1), both())
    server.start()
    missed = one.missed
    assert missed == watch.now
    other.miss(missed)

    assert (other.warm("cards"), other.warm("beside"), other.missed) == (False, False, missed)


def test_sketches_are_of_what_all_members_counted(valkey_url: str) -> None:
    """As one store in memory has them."""
    sketched = Series("sketched", (SUMS, VALUES), HOUR, bucket=HOUR // 64)
    watch = Watch(valkey_url)
    alone, members = MemoryStore(), [watch.member(name) for name in ("one", "other", "third")]
    for each in (alone, *members):
        each.declare([sketched])
        each.load((), ["sketched", "cards", "beside"] if each is not alone else ["sketched"])
    for number in range(300):
        touches = [("sketched", "card", (("CNY", number), f"t{number % 37}"), ASKED, None)]
        event = seen(number, watch.now + number)
        assert members[number % 3].observe(event, touches)[2] == alone.observe(event, touches)[2]


def test_a_fresh_store_counts_beside_the_other_until_that_one_is_let_go(valkey_url: str) -> None:
    """A reload loads a generation of its own. Later processes find that; the one before leaves nothing behind."""
    first = warm(valkey_url, "space")
    first.observe(seen(1, 1), touch())
    second = ValkeyStore(valkey_url, "space", fresh=True)
    second.declare([CARDS])
    second.load(history(range(1, 3)), ["cards"])
    assert (count(first, 10), count(second, 10)) == (1, 2)

    with redis.Redis.from_url(valkey_url) as client:
        connected = len(client.client_list())
        first.release(["cards"])
        wait_until(lambda: not list(client.scan_iter(f"{first._generation}*")))
        wait_until(lambda: len(client.client_list()) < connected - 1)  # And none of its connections.
    third = opened(valkey_url, "space")
    third.load((), ["cards"])

    assert count(third, 20) == 2


def wait_until(so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not so():
        assert time.monotonic() < until
        time.sleep(0.01)


# ---------------------------------------------------------------- bounded


def test_idle_keys_leave_the_server(valkey_url: str) -> None:
    """A key seen once is gone after its span and lateness, as other keys come; so are its texts and its ids."""
    store = warm(valkey_url, lateness=HOUR)
    with redis.Redis.from_url(valkey_url) as client:
        sizes = []
        for at in range(0, 20 * HOUR, HOUR // 50):
            store.observe(seen(at, at), touch(key=f"card-{at}"))
            sizes.append(client.dbsize())

    # Two hours of 50 keys, each with one for its texts; and the ids of three hours.
    assert max(sizes) <= 2 * 2 * 52 + 10
    assert sizes[-1] <= max(sizes[:150])


def test_a_busy_key_keeps_what_a_question_can_reach_and_little_more(valkey_url: str) -> None:
    """After many spans, and however many come within one."""
    store = warm(valkey_url, lateness=0, cap=500)
    with redis.Redis.from_url(valkey_url) as client:
        sizes = []
        for arrival in range(4000):
            store.observe(seen(arrival * HOUR // 300, arrival), touch(text=f"t{arrival}"))
            sizes.append(sum(client.zcard(name) for name in client.scan_iter("*card:*")))
        for arrival in range(4000, 6000):
            store.observe(seen(4000 * HOUR // 300, arrival), touch(text=f"t{arrival % 9}"))
        full = max(client.zcard(name) for name in client.scan_iter("*card:*"))

    assert max(sizes) <= 2 * (300 + 33)
    assert full <= 500 + 34


def test_a_late_event_before_very_many_is_not_let_in(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To let it in would keep the server from others. What reaches back to it is unknown, what is shorter exact."""
    limit_server(monkeypatch, LATE=20)
    store = warm(valkey_url)
    for at in range(100, 130):
        store.observe(seen(at, at), touch())

    assert store.observe(seen(50, 150), touch())[1:] == (True, [Gap.CAPPED] * 3)
    short = [("cards", "card", (("CNY", 5), "a"), ((30, False, ((COUNT, -1),)), (100, False, ((COUNT, -1),))), None)]
    assert store.observe(seen(130, 151), short)[2] == [30, Gap.CAPPED]
    assert store.observe(seen(151, 152), short)[2] == [10, 31]
    assert store.observe(seen(120, 153), short)[2] == [21, Gap.CAPPED]


def test_ranks_of_very_many_are_known_after_some_events(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never in order before is put in order a piece at a time."""
    limit_server(monkeypatch, MOST=100)
    store = ValkeyStore(valkey_url, token_hex(4))
    store.declare([Series("prices", (RANKED,), HOUR)])
    asked = ((HOUR, False, ((COUNT, -1), (LEAST, 0), (MOST, 0))),)

    def tell(at: int) -> tuple[Any, list[Touch]]:
        return seen(at, at), [("prices", "k", (("", at),), asked, None)]

    store.load([tell(at) for at in range(1000)], ["prices"])
    found = [store.observe(*tell(at))[2] for at in range(1000, 1020)]

    assert found[0] == [1000, Gap.NOT_WARM, Gap.NOT_WARM]
    assert found[-1] == [1019, 0, 1018]


# ---------------------------------------------------------------- two processes


def hammer(url: str, worker: int, events: int, together: Any, told: Any) -> None:
    """Observe many events on few keys; forget some again."""
    store, found = opened(url, "space"), []
    while not store.warm("cards"):
        with suppress(StoreUnavailable):  # The other one is loading it.
            store.load((), ["cards"], store.since(["cards"]))
    together.wait(60)
    for number in range(events):
        at = number // 7 - number % 3
        stamp = seen(at, number, f"w{worker}-{number}")
        asked = touch(number, f"t{number % 5}", f"card-{number % 3}")
        arrival, added, answers = store.observe(stamp, asked)
        assert added
        gone = number % 11 == 0
        if gone:
            store.forget(Seen(at, arrival, stamp.id), asked)
        else:
            store.keep(stamp)
        found.append((arrival, at, number, gone, answers))
    told.put(found)


def test_two_processes_on_the_same_keys_lose_nothing_and_agree_on_what_each_saw(valkey_url: str) -> None:
    """Each event saw exactly those with a smaller arrival, apart from what was being forgotten then."""
    last = warm(valkey_url, "space")
    processes = multiprocessing.get_context("spawn")
    told, together = processes.Queue(), processes.Barrier(2)
    workers = [processes.Process(target=hammer, args=(valkey_url, worker, 700, together, told)) for worker in range(2)]
    for worker in workers:
        worker.start()
    found = [row for _ in workers for row in told.get(timeout=120)]
    for worker in workers:
        worker.join(30)
    assert len({arrival for arrival, *_ in found}) == 1400

    stay = [row for row in found if not row[3]]
    gone = [row for row in found if row[3]]
    for arrival, at, number, _, (held, total, texts) in found:
        before = [n for a, t, n, *_ in stay if n % 3 == number % 3 and a < arrival and t <= at]
        extra = held - len(before)
        # The other process may have been about to forget one.
        passing = [n for a, t, n, *_ in gone if n % 3 == number % 3 and a < arrival and t <= at]
        assert extra in (0, 1)
        sums = {sum(before)} if not extra else {sum(before) + n for n in passing}
        assert (total.minor if total else 0) in sums
        assert extra or texts == len({n % 5 for n in before})

    for key in range(3):
        held = [number for _, _, number, *_ in stay if number % 3 == key]
        asked = [("cards", f"card-{key}", None, ASKED, None)]
        answers = last.observe(seen(HOUR // 2, 10_000 + key), asked)[2]
        assert answers == [len(held), Money(sum(held), "CNY"), len({number % 5 for number in held})]


# ---------------------------------------------------------------- a whole Arbiter


@pytest.fixture
def settings(sqlite_url: str, key_path: Path, tmp_path: Path, server: servers.Server) -> Settings:
    write(tmp_path, BOOK)
    return Settings(
        database_url=sqlite_url,
        redis_url=server.url(),
        key_file=key_path,
        rules=tmp_path / "rules",
        policies=tmp_path / "policies",
    )


CARD = {"card": {"ref": "card-1"}}


async def tries(arbiter: Any, event_id: str) -> Any:
    """How many payments the card has with this one, as its explanation says."""
    answer = await judged(arbiter, payment(event_id, **CARD))
    (value,) = (await arbiter.explanation(answer["id"], SHOP))["features"].values()
    return value


async def until_ready(arbiter: Any, so: bool = True) -> list[str]:
    async with asyncio.timeout(20):
        while arbiter.ready()["ready"] is not so:  # noqa: ASYNC110 - readiness is polled by whoever balances load
            await asyncio.sleep(0.01)
    reasons: list[str] = arbiter.ready()["reasons"]
    return reasons


@pytest.mark.anyio
async def test_an_arbiter_outlives_its_store_and_the_other_way_round(
    settings: Settings, server: servers.Server
) -> None:
    """Counted, flushed, rebuilt; stopped, decided without, found again; a new process; each time exact."""
    clock = Clock()
    async with running(settings, clock) as arbiter:
        assert [await tries(arbiter, f"p{number}") for number in range(3)] == [1, 2, 3]

        redis.Redis.from_url(server.url()).flushall()
        lost = await judged(arbiter, payment("p3", **CARD))
        assert "not_warm" in lost["signals"]
        assert arbiter.ready()["reasons"] == ["the windows are being rebuilt from the ledger"]
        await until_ready(arbiter)
        assert await tries(arbiter, "p4") == 5

        server.stop()
        away = await judged(arbiter, payment("p5", **CARD))
        assert ("store_unavailable" in away["signals"], away["degraded"]) == (True, ["features_unavailable"])
        assert arbiter.store_failures > 0
        await asyncio.sleep(0.6)
        assert "the store does not answer" in (await until_ready(arbiter, False))[0]
        server.start()
        await until_ready(arbiter)
        assert await tries(arbiter, "p6") == 7

    async with running(settings, clock) as arbiter:
        assert await tries(arbiter, "p7") == 8


@pytest.mark.anyio
async def test_a_commit_that_fails_is_uncounted_on_the_server_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in memory."""

    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database", "verdict_unknown")

    async with running(settings, Clock()) as arbiter:
        await tries(arbiter, "p1")
        with monkeypatch.context() as broken:
            broken.setattr(Ledger, "append", gone)
            with pytest.raises(Unavailable):
                await arbiter.decide(payment("p2", **CARD), SHOP)

        assert await tries(arbiter, "p3") == 2


def test_after_a_kill_the_windows_are_those_of_the_ledger(
    sqlite_url: str, key_path: Path, tmp_path: Path, server: servers.Server
) -> None:
    """A real server is killed under load. What it counted and did not commit is not counted, what it did commit is."""
    write(tmp_path, BOOK)
    packs = {"rules": tmp_path / "rules", "policies": tmp_path / "policies"}
    with Daemon(tmp_path, sqlite_url, key_path, environ={"ARBITER_REDIS_URL": server.url()}, **packs) as daemon:

        def send(number: int) -> httpx.Response:
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            return daemon.call("POST", "/v1/decisions", "score", content=payment(f"p{number}", at=now, **CARD))

        for first in (0, 1000, 2000):
            with ThreadPoolExecutor(8) as senders:
                sent = [senders.submit(send, number) for number in range(first, first + 400)]
                wait_until(lambda: sum(each.done() for each in sent) > 60)  # noqa: B023 - it ends within the round
                daemon.kill()
            daemon.start()
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as ledger:
                (committed,) = ledger.execute("SELECT count(*) FROM entry WHERE kind = 'decision'").fetchone()
            answer = send(10_000 + committed).json()
            shown = daemon.call("GET", f"/v1/decisions/{answer['id']}/explanation", "audit").json()
            assert list(shown["features"].values()) == [committed + 1]
