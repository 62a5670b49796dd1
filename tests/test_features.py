"""Windows over past events, held against an exact oracle that looks at every event of a plain list."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from random import Random
from secrets import token_hex
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from engine.expr import Vocabulary, Window, pattern, read
from engine.features import GAPS, Facts, Features, Reading
from engine.money import Money, six_places
from engine.schema import schema
from engine.stores import CAP, DAY, HOUR, LATENESS, MemoryStore, StoreUnavailable, ValkeyStore, valkey
from engine.stores.lines import Few
from tests.seeds import seeded

MINUTE = 60_000_000
NOON = 1_795_406_400_000_000


@cache
def vocabulary(kind: str) -> Vocabulary:
    known = schema()
    kinds = {name: known.fields(name) for name in known.kinds}
    return Vocabulary(fields=kinds[kind], kinds=kinds, kind=(kind,))


def window(text: str, kind: str = "transaction") -> Window:
    (found,) = read(text, vocabulary(kind)).windows
    return found


def cny(amount: str) -> Money:
    return Money.of(amount, "CNY")


def features(*texts: str, store: Any = None, kind: str = "transaction", **more: Any) -> Features:
    """Warm windows over a new store."""
    made = Features([window(text, kind) for text in texts], store or MemoryStore(), **more)
    made.restore(())
    return made


class Stream:
    """Facts with the arrivals of a ledger; `at` is in minutes after noon."""

    def __init__(self) -> None:
        self.arrival = 0

    def __call__(
        self, at: float, amount: Money | None = None, *, id: str = "", kind: str = "transaction", **more: Any
    ) -> Facts:
        self.arrival += 1
        keys = {"card.ref": "card-1", "device.id": "device-1", **more.pop("keys", {})}
        values = {"amount": amount, "channel": "app", **more.pop("values", {})}
        keys = {path: key for path, key in keys.items() if key is not None}
        return Facts(
            kind,
            more.pop("tenant", "shop"),
            id or str(self.arrival),
            NOON + round(at * MINUTE),
            self.arrival,
            values,
            keys,
        )


def readings(made: Features, facts: Iterable[Facts]) -> list[list[Any]]:
    return [made.observe(one).values for one in facts]


# ---------------------------------------------------------------- the oracle


class Case(NamedTuple):
    """A window as text, and by hand: which events it counts, and what it takes of each."""

    text: str
    where: Callable[[Facts], bool | None] = lambda _: True
    argument: Callable[[Facts], Any] = lambda _: None
    made: Window | None = None
    steps: tuple[Callable[[Facts], bool], ...] = ()


def path(name: str) -> Callable[[Facts], Any]:
    first, _, second = name.partition(".")

    def get(facts: Facts) -> Any:
        if name in facts.keys:
            return facts.keys[name]
        found = facts.values.get(first)
        return (found or {}).get(second) if second else found

    return get


def in_cny(money: Money | None) -> Money | None:
    if money is None or money.currency == "CNY":
        return money
    return Money(Decimal(money.minor) * RATES[money.currency], "CNY") if money.currency in RATES else None


RATES = {"USD": Decimal("7.123456"), "EUR": Decimal("8.1")}
amount, pages = path("amount"), path("session.pages")


def small(facts: Facts) -> bool | None:
    money = amount(facts)
    return None if money is None or money.currency != "CNY" else money.minor <= 2000


def in_app(facts: Facts) -> bool | None:
    return None if facts.values.get("channel") is None else facts.values["channel"] == "app"


def of(kind: str, where: Callable[[Facts], bool | None] = lambda _: True) -> Callable[[Facts], bool]:
    return lambda facts: facts.kind == kind and where(facts) is True


def charged(facts: Facts) -> bool:
    return bool(path("outcome.result")(facts) == "chargeback")


def following(function: str, by: str, length: int, *steps: tuple[str, str | None], gap: int = 0) -> Window:
    told = [((kind,), where) for kind, where in steps]
    (found,) = pattern(function, told, [by], length, vocabulary("transaction"), gap).windows
    return found


SMALL = ("payment", "amount <= 20 CNY")
APP = ("transaction", 'channel == "app"')
ANY = ("payment", None)
REPORTED = ("outcome", 'outcome.result == "chargeback"')
STEPS = {
    SMALL: of("payment", small),
    APP: of("transaction", in_app),
    ANY: of("payment"),
    REPORTED: of("outcome", charged),
}
"""Each step as the language has it, and by hand."""


def patterned(function: str, by: str, length: int, *steps: tuple[str, str | None], gap: int = 0) -> Case:
    made = following(function, by, length, *steps, gap=gap)
    return Case(made.name, made=made, steps=tuple(STEPS[step] for step in steps))


PATTERNS = (
    patterned("sequence", "card.ref", HOUR, SMALL, ANY),
    patterned("sequence", "device.id", HOUR, SMALL, APP, REPORTED),
    patterned("sequence", "card.ref", 20 * MINUTE, ANY, ANY, ANY),
    patterned("absence", "card.ref", HOUR, ANY, APP, gap=10 * MINUTE),
    patterned("absence", "device.id", 3 * HOUR, SMALL, SMALL, gap=MINUTE),
)

CASES = (
    Case("count(last 10m by card.ref)"),
    Case("count(last 1h by card.ref, including this)"),
    Case("count(last 10m by card.ref where amount <= 20 CNY, including this)", small),
    Case('count(last 2m by card.ref where channel == "app")', in_app),
    Case("count(payment last 30m by card.ref)"),
    Case("count(payment, transaction last 30m by device.id, including this)"),
    Case(
        'count(outcome last 1h by merchant.id where outcome.result == "chargeback")',
        lambda f: path("outcome.result")(f) == "chargeback",
    ),
    Case("count(last 20m by card.ref, merchant.id)"),
    Case("count(last 20m by channel)"),
    Case("count(last 40m by buyer.guest, basket.lowest_price_ratio)"),
    Case("first seen(last 1h by device.id)"),
    Case("first seen(last 5m by device.id, including this)"),
    Case("last seen(last 1h by card.ref)"),
    Case("last seen(payment last 10m by card.ref where amount <= 20 CNY)", small),
    Case("sum(amount last 10m by card.ref)", argument=amount),
    Case("sum(amount last 1h by card.ref, including this)", argument=amount),
    Case("sum(amount in CNY last 1h by card.ref)", argument=lambda f: in_cny(amount(f))),
    Case("sum(amount last 30m by device.id where amount <= 20 CNY)", small, amount),
    Case("sum(session.pages last 30m by device.id)", argument=pages),
    Case("sum(basket.lowest_price_ratio last 1h by card.ref)", argument=path("basket.lowest_price_ratio")),
    Case("sum(amount of payment last 20m by card.ref)", argument=amount),
    Case("avg(amount last 30m by card.ref)", argument=amount),
    Case("avg(session.pages last 1h by device.id, including this)", argument=pages),
    Case("avg(basket.lowest_price_ratio last 20m by card.ref)", argument=path("basket.lowest_price_ratio")),
    Case("avg(session.since_landing last 20m by card.ref)", argument=path("session.since_landing")),
    Case("min(amount last 1h by card.ref)", argument=amount),
    Case("max(amount in CNY last 20m by card.ref, including this)", argument=lambda f: in_cny(amount(f))),
    Case("max(session.since_landing last 1h by device.id)", argument=path("session.since_landing")),
    Case("median(amount in CNY last 30m by card.ref)", argument=lambda f: in_cny(amount(f))),
    Case("median(basket.lowest_price_ratio last 1h by card.ref)", argument=path("basket.lowest_price_ratio")),
    Case("quantile(session.pages, 90% last 1h by device.id, including this)", argument=pages),
    Case("quantile(amount in CNY, 0.25 last 1h by card.ref)", argument=lambda f: in_cny(amount(f))),
    Case("stddev(amount last 1h by card.ref)", argument=amount),
    Case("stddev(session.pages last 30m by device.id, including this)", argument=pages),
    Case("stddev(basket.lowest_price_ratio last 1h by card.ref)", argument=path("basket.lowest_price_ratio")),
    Case("stddev(session.since_landing last 1h by card.ref)", argument=path("session.since_landing")),
    Case("percentile(amount in CNY last 1h by card.ref)", argument=lambda f: in_cny(amount(f))),
    Case("percentile(amount last 40m by device.id where amount <= 20 CNY)", small, amount),
    Case("percentile(session.pages of payment last 1h by card.ref, including this)", argument=pages),
    Case("share(amount <= 20 CNY last 1h by card.ref)", argument=small),
    Case('share(channel == "app" last 20m by device.id, including this)', argument=in_app),
    Case("share(buyer.guest last 1h by card.ref where amount <= 20 CNY)", small, path("buyer.guest")),
    Case("streak(amount <= 20 CNY last 1h by card.ref)", argument=small),
    Case('streak(channel == "app" last 10m by device.id, including this)', argument=in_app),
    Case("streak(buyer.guest of payment, transaction last 1h by card.ref)", argument=path("buyer.guest")),
    *PATTERNS,
    Case("distinct(card.ref last 1h by device.id)", argument=path("card.ref")),
    Case("distinct(card.ref last 5m by device.id, including this)", argument=path("card.ref")),
    Case("distinct(device.id last 1h by card.ref where amount <= 20 CNY)", small, path("device.id")),
    Case("distinct(merchant.id last 20m by card.ref)", argument=path("merchant.id")),
    Case("distinct(amount last 1h by merchant.id, including this)", argument=amount),
    Case("distinct(card.ref of payment, transaction last 10m by merchant.id)", argument=path("card.ref")),
)


@cache
def parsed(case: Case) -> Window:
    return case.made or window(case.text)


class Oracle:
    """What a reading must be, from the definition and all events there are."""

    def __init__(self, cases: Sequence[Case], lateness: int, cap: int) -> None:
        self.cases, self.lateness, self.cap = cases, lateness, cap
        self.events: dict[tuple[str, str], Facts] = {}
        self.clock: dict[str, int] = {}

    def observe(self, facts: Facts) -> Reading:
        added = (facts.tenant, facts.id) not in self.events
        facts = self.events.setdefault((facts.tenant, facts.id), facts)
        self.clock[facts.tenant] = max(self.clock.get(facts.tenant, 0), facts.at)
        values, gaps = [], []
        for index, case in enumerate(self.cases):
            value, gap = self.value(case, facts)
            values.append(value)
            gaps += [(index, gap)] if gap else []
        return Reading(values, tuple(gaps), added, facts.arrival)

    def forget(self, facts: Facts) -> None:
        if self.events.get((facts.tenant, facts.id)) == facts:
            del self.events[facts.tenant, facts.id]

    def restart(self) -> None:
        self.clock = {}
        for facts in self.events.values():
            self.clock[facts.tenant] = max(self.clock.get(facts.tenant, 0), facts.at)

    def value(self, case: Case, now: Facts) -> tuple[Any, str]:
        made = parsed(case)
        key = [path(name)(now) for name in made.by]
        if None in key:
            return None, "thin_identity"
        if now.at < self.clock[now.tenant] - self.lateness:
            return None, "too_late"
        same = [
            one
            for one in self.events.values()
            if one.tenant == now.tenant
            and one.kind in made.kinds
            and [path(name)(one) for name in made.by] == key
            and case.where(one) is True
        ]
        since = now.at - made.length
        if sum(one.at >= since for one in same) > self.cap:
            return None, "feature_capped"
        held = [one for one in same if since <= one.at and (one.at, one.arrival) < (now.at, now.arrival)]
        if made.including_this and now in same:
            held.append(now)
        return self.of(made, case, now, held)

    def of(self, made: Window, case: Case, now: Facts, held: list[Facts]) -> tuple[Any, str]:
        if made.function == "count":
            return len(held), ""
        if made.function in ("first_seen", "last_seen"):
            pick = min if made.function == "first_seen" else max
            return (pick(one.at for one in held) if held else None), ""
        if case.steps:
            held.sort(key=lambda one: (one.at, one.arrival))
            if made.function == "sequence":
                return self.chain(case.steps, held), ""
            return any(self.alone(made, case, one, held[place + 1 :], now) for place, one in enumerate(held)), ""
        if made.function in ("share", "streak"):
            held.sort(key=lambda one: (one.at, one.arrival))
            return self.judged(made, [case.argument(one) is True for one in held]), ""
        found = [value for value in map(case.argument, held) if value is not None]
        if made.function == "distinct":
            return len(set(found)), ""
        units = {value.currency if isinstance(value, Money) else "" for value in found}
        if len(units) > 1:
            return None, "mixed_currencies"
        if made.function in ("min", "max", "median", "quantile", "percentile"):
            return self.ranked(made, found, case.argument(now))
        total = sum((Fraction(value.minor if isinstance(value, Money) else value) for value in found), Fraction(0))
        if made.function == "avg":
            return (self.mean(made, total / len(found), units.pop()) if found else None), ""
        if made.function == "stddev":
            return (self.deviation(made, found, units.pop()) if len(found) > 1 else None), ""
        if not found and made.type.name == "money":
            own = case.argument(now)
            return (None if own is None else Money(0, own.currency)), ""
        return (Money(exact(total), units.pop()) if made.type.name == "money" else exact(total)), ""

    def chain(self, steps: Sequence[Callable[[Facts], bool]], held: list[Facts]) -> bool:
        """Whether there is an event for each step, each behind the one before: all ways are tried."""
        if not steps:
            return True
        return any(steps[0](one) and self.chain(steps[1:], held[at + 1 :]) for at, one in enumerate(held))

    def alone(self, made: Window, case: Case, first: Facts, later: list[Facts], now: Facts) -> bool:
        if not case.steps[0](first) or now.at - first.at < made.gap:
            return False
        return not any(case.steps[1](one) and one.at - first.at <= made.gap for one in later)

    def judged(self, made: Window, so: list[bool]) -> Any:
        if made.function == "streak":
            return len(so) if all(so) else so[::-1].index(False)
        return Decimal(round(Fraction(sum(so), len(so)) * 10**6)).scaleb(-6) if so else None

    def ranked(self, made: Window, found: list[Any], own: Any) -> tuple[Any, str]:
        numbers = sorted(plain_number(value) for value in found)
        if not numbers or (made.function == "percentile" and own is None):
            return None, ""
        unit = found[0].currency if isinstance(found[0], Money) else ""
        if made.function == "percentile":
            if unit != (own.currency if isinstance(own, Money) else ""):
                return None, "mixed_currencies"
            below = Fraction(100 * sum(number < plain_number(own) for number in numbers), len(numbers))
            return Decimal(round(below * 10**6)).scaleb(-6), ""
        share = {"min": Fraction(0), "max": Fraction(1), "median": Fraction(1, 2)}.get(made.function)
        if share is None:
            share = Fraction(made.parameter or 0)
        passed = [number for number in numbers if Fraction(sum(n <= number for n in numbers), len(numbers)) >= share]
        number = exact(passed[0])
        return (Money(number, unit) if unit else number), ""

    def deviation(self, made: Window, found: list[Any], unit: str) -> Any:
        numbers = [plain_number(value) for value in found]
        mean = sum(numbers) / len(numbers)
        variance = sum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)
        places = 0 if made.type.name == "duration" else 6
        scaled = variance * 100**places
        root = (math.isqrt(4 * scaled.numerator // scaled.denominator) + 1) // 2
        if not places:
            return root
        return Money(Decimal(root).scaleb(-6), unit) if unit else Decimal(root).scaleb(-6)

    def mean(self, made: Window, mean: Fraction, unit: str) -> Any:
        if made.type.name == "duration":
            return round(mean)
        number = Decimal(round(mean * 10**6)).scaleb(-6)
        return Money(number, unit) if unit else number


def plain_number(value: Any) -> Fraction:
    return Fraction(value.minor if isinstance(value, Money) else value)


def exact(number: Fraction) -> int | Decimal:
    return int(number) if number.denominator == 1 else Decimal(number.numerator) / Decimal(number.denominator)


def as_text(reading: Reading) -> str:
    """Values with their types and digits: 1, Decimal('1') and Decimal('1.0') are three things in a record."""
    return repr((reading.values, sorted(reading.gaps)))


class Streams:
    """Random events: few keys, so that windows fill; ties; lateness; every value missing at times."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.arrival = self.random.randrange(100)
        self.now = NOON
        self.pace = self.random.choice((MINUTE // 6, MINUTE, 3 * MINUTE))

    def maybe(self, *values: Any) -> Any:
        return self.random.choice(values) if self.random.random() < 0.93 else None

    def at(self) -> int:
        throw = self.random.random()
        if throw < 0.12:
            return self.now
        if throw < 0.3:
            return self.now - self.random.randrange(self.random.choice((MINUTE, 30 * MINUTE, 150 * MINUTE)))
        self.now += self.random.choice((0, 1, self.random.randrange(self.pace), self.pace, 10 * self.pace))
        return self.now

    def facts(self) -> Facts:
        self.arrival += self.random.choice((1, 1, 2))
        money = Money(
            self.random.choice((1, 100, 1999, 2000, 2001, 10**17)), self.random.choice(("CNY",) * 9 + ("USD",))
        )
        ratio = self.random.choice((Decimal("0.98"), Decimal("0.5"), Decimal("1E-12"), 1, Decimal("123456789012.345")))
        values = {
            "amount": self.maybe(money),
            "channel": self.maybe("app", "web"),
            "outcome": {"result": self.random.choice(("chargeback", "false_positive"))},
            "merchant": {"id": self.maybe("m1", "m2")},
            "session": {"pages": self.maybe(1, 2, 7), "since_landing": self.maybe(1, 10**6)},
            "basket": {"lowest_price_ratio": self.maybe(ratio)},
            "buyer": {"guest": self.maybe(True, False)},
        }
        keys = {"card.ref": self.maybe("c1", "c2", "c3"), "device.id": self.maybe("d1", "d2")}
        kind = self.random.choice(("transaction", "transaction", "payment", "outcome"))
        tenant = self.random.choice(("shop", "shop", "shop", "other"))
        known = {name: key for name, key in keys.items() if key}
        return Facts(kind, tenant, f"e{self.arrival}", self.at(), self.arrival, values, known)


def convert(money: Money, currency: str, at: int) -> Money | None:
    assert currency == "CNY"
    return in_cny(money)


def without(reading: Reading, windows: set[int]) -> Reading:
    values = [None if index in windows else value for index, value in enumerate(reading.values)]
    return replace(reading, values=values, gaps=tuple(gap for gap in reading.gaps if gap[0] not in windows))


def hold_against_oracle(seed: int, make_store: Callable[[int, int], Any] = MemoryStore, *but: str) -> None:
    """One stream of events, duplicates, forgets and restarts; every reading must be the oracle's, `but` for what is
    unknown for one of these causes."""
    streams = Streams(seed)
    random = streams.random
    cases = random.sample(CASES, 8)
    lateness, cap = random.choice(((LATENESS, CAP), (HOUR, CAP), (45 * MINUTE, CAP), (HOUR, 4)))
    forgets = cap == CAP  # A capped key does not remember what it dropped, so a forgotten event stays unknown.
    oracle = Oracle(cases, lateness, cap)

    def start() -> Features:
        made = Features([parsed(case) for case in cases], make_store(lateness, cap), convert=convert)
        made.restore(random.sample(list(oracle.events.values()), len(oracle.events)))
        return made

    made = start()
    past: list[Facts] = []
    for _ in range(random.choice((20, 40, 70))):
        throw = random.random()
        facts = streams.facts()
        if past and throw < 0.06:
            facts = replace(random.choice(past), arrival=streams.arrival)
        elif past and throw < 0.16 and forgets:
            facts = random.choice((past[-1], random.choice(past)))
            made.forget(facts)
            oracle.forget(facts)
            continue
        elif throw < 0.18:
            oracle.restart()
            made = start()
        got, want = made.observe(facts), oracle.observe(facts)
        unknown = {index for index, cause in got.gaps if cause in but}
        got, want = without(got, unknown), without(want, unknown)
        assert as_text(got) == as_text(want), f"seed {seed}, {facts}"
        assert got.arrival == want.arrival or not (got.added and want.added), f"seed {seed}, {facts}"
        past.append(facts)


def hold_in_each_form(seed: int) -> None:
    """A third of the streams each with arrays from the first event on, from the fourth on, and as it is."""
    with patch.object(Few, "due", (0, 3, Few.due)[seed % 3]):
        hold_against_oracle(seed)


@seeded(10, always=3, name="block")
def test_random_streams_read_as_the_oracle_says(block: int) -> None:
    """Lateness, ties, duplicates, forgotten events, restarts, tenants, kinds, currencies, caps: no difference."""
    for seed in range(30 * block, 30 * block + 30):
        hold_in_each_form(seed)


@pytest.mark.service
@seeded(6, always=2, name="block")
def test_random_streams_read_as_the_oracle_says_on_a_server_too(block: int, valkey_url: str) -> None:
    """Fewer, as each is slower; what is held on the server is there for the next start."""

    def on_server(lateness: int, cap: int) -> ValkeyStore:
        return ValkeyStore(valkey_url, token_hex(4), lateness, cap)

    for seed in range(20_000 + 25 * block, 20_000 + 25 * block + 25):
        hold_against_oracle(seed, on_server)


@pytest.mark.service
@seeded(4, always=1, name="block")
def test_a_server_with_narrow_limits_says_what_it_does_not_know(
    block: int, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late event before more than two others is not let in, and ranks take in three numbers at once. What is known
    is the oracle's."""
    limit_server(monkeypatch, LATE=2, MOST=3)

    def on_server(lateness: int, cap: int) -> ValkeyStore:
        return ValkeyStore(valkey_url, token_hex(4), lateness, cap)

    for seed in range(30_000 + 25 * block, 30_000 + 25 * block + 25):
        hold_against_oracle(seed, on_server, "feature_capped", "not_warm")


def limit_server(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """Use a library with other limits."""
    library, name = valkey.LIBRARY, f"arbiter_test_{'_'.join(f'{limit}{value}' for limit, value in limits.items())}"
    for limit, value in limits.items():
        library, count = re.subn(rf"(?m)^local {limit} = \d+$", f"local {limit} = {value}", library)
        assert count == 1
    monkeypatch.setattr(valkey, "LIBRARY", library.replace(valkey.FUNCTION, name))
    monkeypatch.setattr(valkey, "FUNCTION", name)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(50))
def test_many_more_random_streams_read_as_the_oracle_says(block: int) -> None:
    """Fifteen thousand streams."""
    for seed in range(1000 + 300 * block, 1000 + 300 * block + 300):
        hold_in_each_form(seed)


# ---------------------------------------------------------------- one at a time


def test_an_event_never_sees_itself_unless_asked() -> None:
    """The first event reads 0, or 1 with `including this`."""
    make = Stream()
    made = features("count(last 10m by card.ref)", "count(last 10m by card.ref, including this)")

    assert readings(made, [make(0), make(1)]) == [[0, 1], [1, 2]]


def test_a_window_reaches_back_to_exactly_its_length() -> None:
    """An event exactly 10 minutes before is in a window of 10 minutes, one a microsecond earlier is not."""
    make = Stream()
    made = features("count(last 10m by card.ref)")
    made.observe(make(0))

    assert made.observe(make(10)).values == [1]
    assert made.observe(make(10 + 1 / MINUTE)).values == [1]


def test_ties_cannot_hide_from_each_other() -> None:
    """Of events at one instant each sees those that arrived before it."""
    make = Stream()
    made = features("count(last 10m by card.ref)")

    assert readings(made, [make(0), make(0), make(0)]) == [[0], [1], [2]]


def test_a_late_event_lands_where_it_belongs() -> None:
    """It sees only what is earlier than itself, and later events see it."""
    make = Stream()
    made = features("count(last 10m by card.ref)", "last seen(last 10m by card.ref)")
    first, third, second = make(0), make(8), make(4)
    readings(made, [first, third])

    assert [1, first.at] == made.observe(second).values
    assert [3, third.at] == made.observe(make(9)).values


def test_five_parallel_orders_on_one_card_see_none_to_four() -> None:
    """Tasks cannot come between reading and adding."""
    make = Stream()
    made = features("count(last 10m by card.ref)")

    async def order() -> int:
        await asyncio.sleep(0)
        return made.observe(make(0)).values[0]

    async def orders() -> list[int]:
        return await asyncio.gather(*(order() for _ in range(5)))

    assert sorted(asyncio.run(orders())) == [0, 1, 2, 3, 4]


def test_a_duplicate_adds_nothing_and_reads_as_the_first_time() -> None:
    """The same event id again, although with a new arrival and after others."""
    make = Stream()
    made = features("count(last 10m by card.ref)", "distinct(device.id last 10m by card.ref)")
    first, again = make(0, id="order-1"), make(0, id="order-1")
    before = made.observe(first)
    made.observe(make(0))

    assert replace(before, added=False) == made.observe(again)
    assert made.observe(make(1)).values == [2, 1]


def test_forgetting_leaves_the_windows_as_if_the_event_had_never_been() -> None:
    """Every function, in order and late; and the id may come again."""
    texts = [case.text for case in CASES if "in CNY" not in case.text and not case.steps]
    make = Stream()
    events = [make(at, cny(f"{at + 1}.00"), keys={"card.ref": f"c{at % 3}"}) for at in (0, 1, 2, 3, 4)]
    probe = make(5, cny("5.00"), keys={"card.ref": "c1"})
    for gone in events:
        made, without = features(*texts), features(*texts)
        readings(made, events)
        made.forget(gone)
        readings(without, [one for one in events if one is not gone])

        assert without.observe(probe) == made.observe(probe)
        assert made.observe(gone).added


def test_forgetting_a_duplicate_takes_nothing_out() -> None:
    """A lost race must not remove the winner's event; nor must forgetting twice, or what was never added."""
    make = Stream()
    made = features("count(last 10m by card.ref)")
    winner, loser, stranger = make(0, id="order-1"), make(0, id="order-1"), make(0)
    readings(made, [winner, loser])
    for facts in (loser, stranger, loser):
        made.forget(facts)

    assert made.observe(make(1)).values == [1]


def test_tenants_never_share_a_window() -> None:
    """The same card at two shops counts once for each."""
    make = Stream()
    made = features("count(last 10m by card.ref)")

    assert readings(made, [make(0, tenant="a"), make(1, tenant="b"), make(2, tenant="a")]) == [[0], [0], [1]]


def test_an_event_without_a_key_joins_no_window() -> None:
    """It reads unknown with the gap thin_identity; other windows are as ever."""
    make = Stream()
    made = features(
        "count(last 10m by card.ref)", "count(last 10m by card.ref, device.id)", "count(last 10m by channel)"
    )
    made.observe(make(0))

    reading = made.observe(make(1, keys={"device.id": None}))

    assert (reading.values, reading.gaps) == ([1, None, 1], ((1, "thin_identity"),))
    assert made.observe(make(2)).values == [2, 1, 2]


def test_combined_keys_do_not_run_into_one_another() -> None:
    """'ab' with 'c' is another key than 'a' with 'bc', whatever characters stand in them."""
    make = Stream()
    made = features("count(last 10m by card.ref, device.id)")
    pairs = [("ab", "c"), ("a", "bc"), ("1:a", "b"), ("a", "1:b"), ("a1", ":b")]

    found = readings(made, [make(0, keys={"card.ref": card, "device.id": device}) for card, device in pairs])

    assert [[0]] * len(pairs) == found


def test_a_number_is_one_key_however_it_is_written() -> None:
    """1, 1.0 and 1.00 are the same; true is not the text 'true'."""
    make = Stream()
    made = features("count(last 10m by basket.quantity)", "count(last 10m by buyer.guest)")
    values = [
        {"basket": {"quantity": number}, "buyer": {"guest": True}} for number in (1, Decimal("1.0"), Decimal("1.00"))
    ]

    assert readings(made, [make(0, values=one) for one in values]) == [[0, 0], [1, 1], [2, 2]]


def test_an_event_kind_reads_windows_over_other_kinds() -> None:
    """Outcomes are counted and transactions read them; what is not to be read stays None without a gap."""
    texts = ["count(outcome last 1h by card.ref)", "count(last 1h by card.ref)"]
    make = Stream()
    made = features(*texts, reads={"transaction": (0,)})

    assert Reading([None, None], (), True, 1) == made.observe(make(0, kind="outcome"))
    assert Reading([1, None], (), True, 2) == made.observe(make(1))
    assert Reading([None, None], (), False, 3) == made.observe(make(2, kind="listing"))


# ---------------------------------------------------------------- the functions


def test_an_empty_window_is_zero_or_unknown() -> None:
    """count, distinct and sum are 0, of the argument's own type; avg, first seen and last seen are unknown."""
    made = features(
        "count(last 10m by card.ref)",
        "distinct(device.id last 10m by card.ref)",
        "sum(session.pages last 10m by card.ref)",
        "sum(amount last 10m by card.ref)",
        "avg(amount last 10m by card.ref)",
        "first seen(last 10m by card.ref)",
        "last seen(last 10m by card.ref)",
    )

    reading = made.observe(Stream()(0, Money.of("5.00", "USD")))

    assert ([0, 0, 0, Money(0, "USD"), None, None, None], ()) == (reading.values, reading.gaps)


def test_an_empty_sum_of_money_is_unknown_for_an_event_without_the_money() -> None:
    """Nothing says which currency the 0 would be of."""
    assert features("sum(amount last 10m by card.ref)").observe(Stream()(0)).values == [None]


def test_money_of_several_currencies_in_one_window_has_no_sum() -> None:
    """It is unknown, says why, and is known again once one currency has left the window."""
    make = Stream()
    made = features("sum(amount last 10m by card.ref)", "avg(amount last 10m by card.ref)")
    readings(made, [make(0, cny("5.00")), make(5, Money.of("2.00", "USD")), make(6)])

    reading = made.observe(make(7))

    assert (reading.values, reading.gaps) == ([None, None], ((0, "mixed_currencies"), (1, "mixed_currencies")))
    assert [Money(200, "USD"), Money(Decimal("200.000000"), "USD")] == made.observe(make(12)).values


def test_money_is_converted_event_by_event_when_the_author_asks() -> None:
    """`amount in CNY` takes each event's own day; where there is no rate the event is passed over."""
    seen = []

    def rates(money: Money, currency: str, at: int) -> Money | None:
        seen.append(at)
        return {"CNY": money, "USD": Money(money.minor * 7, "CNY")}.get(money.currency)

    make = Stream()
    made = features("sum(amount in CNY last 10m by card.ref)", convert=rates)
    events = [make(at, Money.of("1.00", unit)) for at, unit in enumerate(("CNY", "USD", "EUR"))]
    readings(made, events)

    assert [Money(800, "CNY")] == made.observe(make(3, cny("9.00"))).values
    assert {one.at for one in events} <= set(seen)


def test_sums_are_exact_at_any_size() -> None:
    """Beyond 64 bits, beyond 28 digits, and after forgetting."""
    make = Stream()
    made = features("sum(basket.lowest_price_ratio last 1h by card.ref)", "sum(amount last 1h by card.ref)")
    huge = Money(10**18 - 1, "CNY")
    numbers = [Decimal(123456789012345), Decimal("0.000000000000000000001"), Decimal("2.50"), -3]
    events = [make(0, huge, values={"basket": {"lowest_price_ratio": number}}) for number in numbers * 5]
    readings(made, events)
    made.forget(events[0])

    assert [Decimal("493827156049377.500000000000000000005"), Money(19 * (10**18 - 1), "CNY")] == (
        made.observe(make(1)).values
    )


def test_a_whole_sum_is_an_int_and_no_sum_has_trailing_zeros() -> None:
    """The record shows a value by its digits, which must not depend on how the store came to it."""
    make = Stream()
    made = features("sum(basket.lowest_price_ratio last 3m by card.ref)")
    numbers = [Decimal("0.001"), Decimal("1.50"), Decimal("2.5"), Decimal("0.50")]
    found = readings(made, [make(at, values={"basket": {"lowest_price_ratio": one}}) for at, one in enumerate(numbers)])

    assert [repr(one) for (one,) in found] == ["0", "Decimal('0.001')", "Decimal('1.501')", "Decimal('4.001')"]
    assert repr(made.observe(make(4)).values[0]) == "Decimal('4.5')"


@pytest.mark.parametrize(
    ("amounts", "mean"),
    [
        ((1, 2), "1.500000"),
        ((1, 1, 2), "1.333333"),
        ((2, 2, 1), "1.666667"),
        ((0, 0, 0, 0, 0, 0, 0, 1), "0.125000"),
        ((10**17, 10**17 + 1, 10**17), "100000000000000000.333333"),
    ],
)
def test_a_mean_has_six_places_rounded_half_even(amounts: tuple[int, ...], mean: str) -> None:
    """As engine.money rounds every computed number."""
    make = Stream()
    made = features("avg(amount last 1h by card.ref)")
    readings(made, [make(0, Money(minor, "CNY")) for minor in amounts])

    assert [Money(six_places(Decimal(mean)), "CNY")] == made.observe(make(1)).values


def test_a_mean_is_not_rounded_twice() -> None:
    """Of 32 events the mean is 0.03125 of the sum: the seventh place decides, and a tie goes to the even digit."""
    make = Stream()
    made = features("avg(basket.lowest_price_ratio last 1h by card.ref)")
    numbers = [Decimal("0.000016")] + [Decimal(0)] * 31
    readings(made, [make(0, values={"basket": {"lowest_price_ratio": number}}) for number in numbers])

    assert repr(made.observe(make(1)).values[0]) == "Decimal('0.000000')"
    made.observe(make(1, values={"basket": {"lowest_price_ratio": Decimal("0.00005")}}))
    assert repr(made.observe(make(2)).values[0]) == "Decimal('0.000002')"


def test_a_mean_of_long_numbers_is_not_rounded_twice() -> None:
    """Just above the tie, 38 digits on."""
    make = Stream()
    made = features("avg(basket.lowest_price_ratio last 1h by card.ref)")
    made.observe(make(0, values={"basket": {"lowest_price_ratio": Decimal("100000000000000000000.00000050000000001")}}))

    assert repr(made.observe(make(1)).values[0]) == "Decimal('100000000000000000000.000001')"


def test_a_distinct_count_of_an_entity_knows_pseudonyms_only() -> None:
    """The argument is read from the keys, as the values hold nothing personal."""
    make = Stream()
    made = features(
        "distinct(card.ref last 10m by device.id)", "distinct(card.ref last 10m by device.id, including this)"
    )
    cards = ["a", "b", "a", None, "c"]

    found = readings(made, [make(at, keys={"card.ref": card}) for at, card in enumerate(cards)])

    assert found == [[0, 1], [1, 2], [2, 2], [2, 2], [2, 3]]


def test_a_distinct_count_forgets_what_leaves_the_window() -> None:
    """A card seen again later stays; one seen only before the window goes."""
    make = Stream()
    made = features("distinct(card.ref last 10m by device.id)")
    cards = [(0, "a"), (1, "b"), (9, "a"), (11.5, "c")]

    assert readings(made, [make(at, keys={"card.ref": card}) for at, card in cards]) == [[0], [1], [2], [1]]


# ---------------------------------------------------------------- warm-up, limits, faults


def test_windows_are_not_warm_until_the_history_is_loaded() -> None:
    """Events add meanwhile, and none is counted twice although the ledger gives it back."""
    make = Stream()
    made = Features([window("count(last 1h by card.ref)")], MemoryStore())
    old, live = make(0), make(1)

    assert (made.ready, made.warm(0)) == (False, False)
    assert Reading([None], ((0, "not_warm"),), True, 2) == made.observe(live)

    made.restore([live, old, old])

    assert (made.ready, made.warm(0)) == (True, True)
    assert made.observe(make(2)).values == [2]


def test_an_event_observed_while_the_history_is_read_counts_once() -> None:
    """Whether the ledger shows it before or after it is observed."""
    make = Stream()
    made = Features(
        [window("count(last 1h by card.ref)"), window("distinct(card.ref last 1h by device.id)")], MemoryStore()
    )
    first, second, third = make(0), make(1), make(2)

    def ledger() -> Iterable[Facts]:
        yield first
        made.observe(first)
        made.observe(second)
        yield second
        yield third

    made.restore(ledger())

    assert made.observe(make(3)).values == [3, 1]


def test_a_window_declared_later_is_not_warm_until_restored() -> None:
    """The windows that were there stay warm, on the same store."""
    store, make = MemoryStore(), Stream()
    made = features("count(last 10m by card.ref)", store=store)
    past = [make(0), make(1)]
    readings(made, past)
    later = Features([window("count(last 10m by card.ref)"), window("count(last 10m by device.id)")], store)

    assert (later.ready, later.warm(0), later.warm(1)) == (False, True, False)
    assert Reading([2, None], ((1, "not_warm"),), True, 3) == later.observe(make(2))

    later.restore(past)

    assert later.observe(make(3)).values == [3, 3]


def test_a_longer_window_waits_for_the_history_that_the_shorter_one_dropped() -> None:
    """It shares the events of the shorter one from now on, but those that were dropped must come from the ledger."""
    store, make = MemoryStore(lateness=HOUR), Stream()
    made = features("count(last 10m by card.ref)", store=store)
    past = [make(at) for at in range(0, 600, 5)]
    readings(made, past)
    later = Features([window("count(last 8h by card.ref)")], store)

    assert not later.warm(0)

    later.restore(past)

    assert later.observe(make(600)).values == [96]


def test_closing_lets_the_store_drop_what_nobody_counts() -> None:
    """A window that comes back afterwards starts without history."""
    store, make = MemoryStore(), Stream()
    one, two = (features("count(last 10m by card.ref)", store=store) for _ in range(2))
    one.observe(make(0))
    one.close()

    assert two.observe(make(1)).values == [1]

    two.close()

    assert not Features([window("count(last 10m by card.ref)")], store).ready


def test_history_says_how_far_back_the_ledger_must_be_read() -> None:
    """The longest window, and how late an event may be."""
    made = features("count(last 10m by card.ref)", "count(last 30d by device.id)")

    assert made.history == 37 * DAY


def test_an_event_later_than_allowed_reads_unknown_but_is_counted() -> None:
    """What it would have to see may be gone; later events still see it as far as their windows reach."""
    make = Stream()
    made = features("count(last 4h by card.ref)", store=MemoryStore(lateness=HOUR))
    made.observe(make(0))

    assert Reading([None], ((0, "too_late"),), True, 2) == made.observe(make(-61))
    assert Reading([0], (), True, 3) == made.observe(make(-60, keys={"card.ref": "other"}))
    assert made.observe(make(1)).values == [2]


def test_a_window_with_more_events_than_the_cap_is_unknown() -> None:
    """Others of the same key, short enough, stay exact; the full one is exact again once events have left it."""
    make = Stream()
    made = features("count(last 10m by card.ref)", "count(last 1h by card.ref)", store=MemoryStore(cap=20))
    readings(made, [make(at) for at in range(25)])

    reading = made.observe(make(25))

    assert (reading.values, reading.gaps) == ([10, None], ((1, "feature_capped"),))
    assert made.observe(make(25 + 60)).values == [0, 1]


class Away(MemoryStore):
    """A store that can be away."""

    away = False

    def observe(self, *args: Any) -> Any:
        if self.away:
            raise StoreUnavailable("no answer within 50 ms")
        return super().observe(*args)


def test_a_store_that_is_away_is_a_gap_and_never_an_error() -> None:
    """All windows that the event reads are unknown, and nothing was added."""
    make, store = Stream(), Away()
    made = features("count(last 10m by card.ref)", "count(last 10m by device.id)", store=store)
    made.observe(make(0))
    store.away = True
    missed = make(1)

    expected = Reading([None, None], ((0, "store_unavailable"), (1, "store_unavailable")), False, 2)
    assert expected == made.observe(missed)

    store.away = False
    made.forget(missed)

    assert made.observe(make(2)).values == [1, 1]


def test_another_error_of_the_store_is_not_swallowed() -> None:
    """Only the store's own StoreUnavailable is a gap."""

    class Broken(MemoryStore):
        def observe(self, *_: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        features("count(last 10m by card.ref)", store=Broken()).observe(Stream()(0))


def test_every_gap_is_explained() -> None:
    """A finding is made of each, so the words must be there."""
    assert set(GAPS) == {
        "thin_identity",
        "not_warm",
        "store_unavailable",
        "feature_capped",
        "too_late",
        "mixed_currencies",
    }
