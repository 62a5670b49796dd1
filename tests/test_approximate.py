"""Approximate windows: within the errors they state, whatever order events come in, in bounded room."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import PackError
from engine.expr import read
from engine.features import Facts, Features
from engine.money import Money
from engine.stores import BUCKETS, DAY, HOUR, LATENESS, MemoryStore, StoreUnavailable, buckets
from engine.stores.buckets import RECENT, TOGETHER, Buckets
from engine.stores.contract import DISTINCT, RANKED, SUMS, VALUES, quantile
from engine.stores.sketches import Spectrum, Uniques, bin_of, middle
from tests.seeds import seeded
from tests.test_features import MINUTE, NOON, Stream, cny, vocabulary, window

KEPT = "last 2d by merchant.id"
LENGTH, WIDTH = 2 * DAY, 2 * DAY // BUCKETS
TEXTS = {
    "count": f"count({KEPT}, approximately)",
    "counting this": f"count({KEPT}, including this, approximately)",
    "small ones": f"count({KEPT} where amount <= 20 CNY, approximately)",
    "sum": f"sum(amount {KEPT}, approximately)",
    "avg": f"avg(amount {KEPT}, approximately)",
    "stddev": f"stddev(session.pages {KEPT}, including this, approximately)",
    "share": f'share(channel == "app" {KEPT}, approximately)',
    "min": f"min(amount {KEPT}, approximately)",
    "max": f"max(session.pages {KEPT}, including this, approximately)",
    "median": f"median(amount {KEPT}, approximately)",
    "quantile": f"quantile(session.pages, 90% {KEPT}, approximately)",
    "percentile": f"percentile(amount {KEPT}, approximately)",
    "distinct": f"distinct(card.ref {KEPT}, including this, approximately)",
}
EXACT = ("count", "counting this", "small ones", "sum", "avg", "stddev", "share")


def small_stacks() -> Any:
    """Few events stay single, so that a short stream goes all ways."""
    return patch.multiple(buckets, TOGETHER=3, RECENT=9)


# ---------------------------------------------------------------- against exact windows over the same stretch


class Streams:
    """Random events of two shops of two tenants, over a week: late ones, ties, duplicates, several currencies."""

    def __init__(self, seed: int) -> None:
        self.random, self.arrival, self.now = Random(seed), 0, NOON
        self.pace = self.random.choice((MINUTE, 20 * MINUTE, 3 * HOUR))
        self.currencies = self.random.choice((("CNY",), ("CNY",), ("CNY",) * 20 + ("USD",)))

    def maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.9 else None

    def next(self) -> Facts:
        self.arrival += 1
        self.now += self.random.choice((0, 1, self.random.randrange(self.pace), self.pace))
        late = self.random.choice((0, 0, 0, 1, self.random.randrange(4 * DAY)))
        money = Money(round(math.exp(self.random.gauss(8, 2))), self.random.choice(self.currencies))
        values = {
            "amount": self.maybe(money),
            "channel": self.maybe(self.random.choice(("app", "web"))),
            "session": {"pages": self.maybe(self.random.randrange(-40, 40))},
            "merchant": {"id": self.maybe(self.random.choice("mn"))},
        }
        keys = {"card.ref": f"c{self.random.randrange(40)}"}
        tenant = self.random.choice(("shop", "shop", "other"))
        return Facts("transaction", tenant, str(self.arrival), self.now - late, self.arrival, values, keys)


class Whole:
    """Exact windows, each over the stretch that the approximate one says it holds, as of the last thing in it."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], Facts] = {}

    def read(self, facts: Facts) -> dict[str, tuple[Any, str]]:
        """What must be read at an event that is new."""
        first = (facts.at - LENGTH) // WIDTH
        held = [one for one in self.events.values() if first <= one.at // WIDTH <= facts.at // WIDTH]
        told: dict[str, tuple[Any, str]] = {}
        for name, text in TEXTS.items():
            made = replace(window(text.replace(", approximately", "")), length=400 * DAY)
            features = Features([made], MemoryStore(400 * DAY))
            features.restore(held)
            # Behind all of them, so that those of its own bucket count.
            reading = features.observe(replace(facts, at=max([facts.at, *(one.at for one in held)])))
            told[name] = reading.values[0], next((gap for _, gap in reading.gaps), "")
        return told


def near(got: Any, want: Any, part: Fraction) -> bool:
    if isinstance(want, Money):
        return isinstance(got, Money) and got.currency == want.currency and near(got.minor, want.minor, part)
    return abs(Fraction(got) - Fraction(want)) <= abs(Fraction(want)) * part


def wrong(got: dict[str, tuple[Any, str]], want: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    """The windows that are not what they say they are."""
    found = {}
    for name, told in want.items():
        value, gap = got[name]
        if gap or told[1] or value is None or told[0] is None or name in EXACT:
            right = (repr(value), gap) == (repr(told[0]), told[1])
        elif name == "percentile":
            right = True  # see test_a_percentile_is_that_of_a_value_nearby
        elif name == "distinct":
            right = abs(value - told[0]) <= 1  # of 40 at most: two of them in one register
        else:
            right = near(value, told[0], Fraction(1, 128))
        if not right:
            found[name] = (value, gap), told
    return found


@seeded(24, always=4, test=8)
def test_a_window_is_the_exact_one_over_whole_buckets(seed: int) -> None:
    """With events that are late, come twice, are forgotten, and with restarts in another order."""
    streams, whole = Streams(seed), Whole()
    made, last = Features([window(text) for text in TEXTS.values()], MemoryStore()), 0
    made.restore(())
    with small_stacks():
        for step in range(70):
            facts = streams.next()
            reading = made.observe(facts)
            gaps = dict(reading.gaps)
            got = {name: (reading.values[at], gaps.get(at, "")) for at, name in enumerate(TEXTS)}
            assert not wrong(got, whole.read(facts)), step
            throw = streams.random.random()
            if throw < 0.1:
                assert not made.observe(facts).added
            elif throw < 0.3:
                made.forget(facts)
                continue
            whole.events[facts.tenant, facts.id] = facts
            if throw > 0.95:
                made, last = Features([window(text) for text in TEXTS.values()], MemoryStore()), step
                made.restore(streams.random.sample(list(whole.events.values()), len(whole.events)))
    assert last or seed


def test_a_window_begins_up_to_one_64th_early_and_never_late() -> None:
    stream, made = Stream(), features("count(last 64d by card.ref, approximately)")
    day = 24 * 60
    for back in (64, 64.4, 64.99, 65.01, 66):
        made.observe(stream((70 - back) * day))

    # Noon plus 70 days, and buckets begin at midnight UTC; noon in NOON is 04:00 UTC.
    seen = NOON + 70 * DAY
    first = (seen - 64 * DAY) // DAY * DAY
    early = [back for back in (64, 64.4, 64.99, 65.01, 66) if seen - back * DAY >= first]
    assert made.observe(stream(70 * day)).values == [len(early)]
    assert 1 <= len(early) < 5


def test_a_late_event_counts_what_came_after_it_in_its_own_64th_alone() -> None:
    stream, made = Stream(), features("count(last 64d by card.ref, approximately)")
    start = -(NOON % DAY) // MINUTE  # midnight UTC
    for hour in (1, 2, 5, 23, 25, 49):
        made.observe(stream(start + 60 * hour))

    assert made.observe(stream(start + 60 * 3)).values == [4]


def features(*texts: str, store: Any = None, **more: Any) -> Features:
    made = Features([window(text) for text in texts], store or MemoryStore(), **more)
    made.restore(())
    return made


# ---------------------------------------------------------------- order


events = st.lists(
    st.tuples(
        st.integers(0, 3 * 2880), st.integers(-9, 9), st.sampled_from("abcdef"), st.sampled_from(("CNY", "CNY", "USD"))
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_the_order_in_which_events_come_does_not_show(rows: list[tuple[int, int, str, str]], random: Random) -> None:
    facts = [
        Stream()(
            at, Money(100 * number, unit), id=str(place), keys={"card.ref": card}, values={"merchant": {"id": "m"}}
        )
        for place, (at, number, card, unit) in enumerate(rows)
    ]
    facts = [replace(one, arrival=place) for place, one in enumerate(facts)]
    probe = replace(Stream()(3 * 2880 + 60, cny("5"), values={"merchant": {"id": "m"}}), id="probe", arrival=10**6)

    def reading(order: Sequence[Facts], restored: int) -> str:
        made = Features([window(text) for text in TEXTS.values()], MemoryStore())
        made.restore(order[:restored])
        for one in order[restored:]:
            made.observe(one)
        return repr(made.observe(probe))

    with small_stacks():
        shuffled = random.sample(facts, len(facts))
        assert reading(facts, 0) == reading(shuffled, 0) == reading(shuffled, random.randint(0, len(facts)))


# ---------------------------------------------------------------- errors


def random_hashes(count: int, seed: int) -> list[int]:
    """The marks of so many different texts: what the hash makes of a text is as good as random."""
    numbers = np.random.default_rng(seed).integers(0, 2**64, count, np.uint64).tolist()
    with patch("engine.stores.sketches.blake2b", lambda text, digest_size: Digest(text)):
        return [Uniques.mark(str(number)) for number in numbers]


class Digest:
    def __init__(self, text: bytes) -> None:
        self._digest = int(text).to_bytes(8)

    def digest(self) -> bytes:
        return self._digest


def estimates(marks: Iterable[int], sizes: Sequence[int]) -> Iterator[float]:
    uniques = Uniques()
    for count, mark in enumerate(marks, 1):
        uniques.add(mark)
        if count in sizes:
            yield uniques.answer(DISTINCT, None) / count - 1


SIZES = (10, 100, 1_000, 3_000, 10_000, 20_000, 50_000)


@pytest.mark.slow
def test_distinct_has_the_standard_error_it_states_at_any_size() -> None:
    """40 streams: the root of the mean square of 40 errors is within 1.3 of the true one in all but one in 300."""
    errors = np.array([list(estimates(random_hashes(SIZES[-1], seed), SIZES)) for seed in range(40)])

    spread = np.sqrt((errors**2).mean(axis=0))
    assert (spread <= 1.3 * 0.0163).all(), spread
    assert (abs(errors) <= 0.08).all()  # five standard errors
    assert (abs(errors.mean(axis=0)) <= 3 * 0.0163 / math.sqrt(40)).all(), "it leans to one side"


@pytest.mark.parametrize("size", [10, 1_000, 100_000, 1_000_000])
def test_distinct_of_real_texts(size: int) -> None:
    """With the hash itself: within three standard errors."""
    texts = (f"acct:{number}" for number in range(size))
    (error,) = estimates((Uniques.mark(text) for text in texts), (size,))

    assert abs(error) <= 3 * 0.0163


def test_what_sketches_say_when_put_together_is_what_one_says() -> None:
    parts = [Uniques() for _ in range(7)]
    whole, few = Uniques(), Uniques()
    for number, mark in enumerate(random_hashes(4_000, 1)):
        parts[number % 7].add(mark)
        whole.add(mark)
    for part in parts:
        few.merge(part)
        few.merge(part)

    assert few.answer(DISTINCT, None) == whole.answer(DISTINCT, None)


numbers = st.one_of(
    st.integers(-(10**18), 10**18),
    st.decimals(-(10**18), 10**18, places=6, allow_nan=False),
    st.decimals(-10, 10, places=6, allow_nan=False),
)


@given(numbers)
def test_the_number_that_stands_for_a_bin_is_less_than_a_128th_off(number: int | Decimal) -> None:
    stands = middle(bin_of(number))

    assert near(stands, number, Fraction(1, 128))
    assert bin_of(stands) == bin_of(number)
    assert type(stands) is int or number != int(number), "whole numbers stay whole"
    assert stands == number or abs(number) > 128 or number != int(number), "small ones stay as they are"


@given(numbers, numbers)
def test_bins_are_in_the_order_of_their_numbers(one: int | Decimal, other: int | Decimal) -> None:
    low, high = sorted((one, other))
    assert bin_of(low) <= bin_of(high)


@pytest.mark.parametrize("share", ["1/100", "1/2", "9/10", "99/100", "999/1000"])
@pytest.mark.parametrize("draw", ["lognormvariate", "uniform", "gauss"])
def test_quantiles_of_many_numbers(draw: str, share: str) -> None:
    random, parts = Random(draw), [Spectrum() for _ in range(5)]
    made = {
        "lognormvariate": lambda: random.lognormvariate(9, 2),
        "uniform": lambda: random.uniform(1, 10**7),
        "gauss": lambda: random.gauss(0, 10**6),
    }[draw]
    drawn = [round(made()) for _ in range(20_000)]
    for place, number in enumerate(drawn):
        parts[place % 5].add(Spectrum.mark(("CNY", number)))
    whole = Spectrum()
    for part in parts:
        whole.merge(part)
    part = Fraction(share)
    exact = sorted(drawn)[math.ceil(part * len(drawn)) - 1]

    got = whole.answer(quantile(part), None)
    assert isinstance(got, Money)
    assert near(got, Money(exact, "CNY"), Fraction(1, 128))


def test_a_percentile_is_that_of_a_value_nearby() -> None:
    random, spectrum = Random(3), Spectrum()
    drawn = [round(random.lognormvariate(9, 1)) for _ in range(20_000)]
    for number in drawn:
        spectrum.add(Spectrum.mark(("", number)))

    for own in random.sample(drawn, 50):
        answer: Any = spectrum.answer("percentile", Spectrum.mark(("", own)))
        below = [sum(number < value for number in drawn) for value in (Fraction(127, 128) * own, own)]
        assert below[0] <= answer[1] // 100 <= below[1]
        assert answer[2] == len(drawn)


# ---------------------------------------------------------------- room


def test_a_key_takes_bounded_room() -> None:
    """What 60,000 events leave, over ten times what a window and the lateness reach."""
    line, sizes = Buckets((SUMS, VALUES, RANKED), DAY // BUCKETS), []
    reach = DAY + DAY // BUCKETS + LATENESS
    for number in range(60_000):
        at = NOON + number * 10 * reach // 60_000
        line.add(at, number, (("CNY", number), f"c{number}", ("CNY", number)))
        line.tidy(at - reach, seal=True)
        sizes.append(len(line))

    single = RECENT + TOGETHER  # each of them, and its bucket in its stack
    assert max(sizes) <= reach // (DAY // BUCKETS) + 1 + TOGETHER + 2 * single
    assert max(sizes[30_000:]) <= max(sizes[:30_000])


def test_a_sketch_takes_bounded_room() -> None:
    uniques, spectrum = Uniques(), Spectrum()
    for number in range(200_000):
        uniques.add(Uniques.mark(str(number)))
    for size in range(-18 * 8, 18 * 8):
        spectrum.add(Spectrum.mark(("", (1 if size >= 0 else -1) * 10 ** (abs(size) // 8))))

    assert len(uniques._spread()) == 4096
    (bins,) = spectrum._bins.values()
    assert len(bins.counts) < 2 * 128 * (80 - 6)


def test_past_the_cap_an_approximate_window_answers() -> None:
    exact, rough = f"count({KEPT})", f"count({KEPT}, approximately)"
    stream, made = Stream(), features(exact, rough, store=MemoryStore(cap=100))
    for _ in range(150):
        made.observe(stream(0, values={"merchant": {"id": "m"}}))

    reading = made.observe(stream(1, values={"merchant": {"id": "m"}}))
    assert (reading.values, reading.gaps) == ([None, 150], ((0, "feature_capped"),))


# ---------------------------------------------------------------- what comes and goes


def shop(stream: Stream, at: float, card: str = "c", **more: Any) -> Facts:
    return stream(at, cny("5"), keys={"card.ref": card}, values={"merchant": {"id": "m"}}, **more)


def test_one_of_the_last_2000_can_be_forgotten() -> None:
    stream, made = Stream(), features(TEXTS["count"], TEXTS["distinct"], TEXTS["sum"])
    facts = [shop(stream, at / 10, f"c{at}") for at in range(3_000)]
    plain, kept = features(TEXTS["count"], TEXTS["distinct"], TEXTS["sum"]), facts[:1_000] + facts[2_900:]
    for one in facts:
        made.observe(one)
    for one in facts[1_000:2_900]:
        made.forget(one)
    for one in kept:
        plain.observe(one)

    probe = shop(stream, 301)
    assert made.observe(probe) == plain.observe(probe)


def test_an_older_one_stays_counted() -> None:
    stream, made = Stream(), features(TEXTS["count"])
    facts = [shop(stream, at / 10) for at in range(RECENT + 2 * TOGETHER)]
    for one in facts:
        made.observe(one)
    made.forget(facts[0])

    assert made.observe(shop(stream, 301)).values == [len(facts)]


def test_an_event_that_comes_again_is_left_out_of_its_own_reading() -> None:
    stream, made = Stream(), features(TEXTS["count"], TEXTS["counting this"])
    facts = [shop(stream, at) for at in range(2 * TOGETHER + 50)]
    for one in facts:
        made.observe(one)

    for one in (facts[0], facts[-1]):
        again = made.observe(one)
        assert not again.added
        assert again.values[1] == again.values[0] + 1


def test_a_late_event_is_read_up_to_a_week_behind() -> None:
    stream, made = Stream(), features(TEXTS["count"])
    for at in (0, 24 * 60, 8 * 24 * 60):
        made.observe(shop(stream, at))

    assert made.observe(shop(stream, 25 * 60)).values == [2]
    assert made.observe(shop(stream, 0)).gaps == ((0, "too_late"),)


def test_what_is_observed_while_a_history_is_loaded_counts_once() -> None:
    stream, made = Stream(), Features([window(TEXTS["count"])], MemoryStore())
    facts = [shop(stream, at) for at in range(3 * TOGETHER)]

    def history() -> Iterator[Facts]:
        for place, one in enumerate(facts):
            yield one
            if place == 10:
                for other in facts[5:TOGETHER]:
                    made.observe(other)
        yield facts[3]

    made.restore(history())
    assert made.observe(shop(stream, 900)).values == [len(facts)]


def test_a_history_that_ends_half_way_leaves_nothing() -> None:
    stream, made = Stream(), Features([window(TEXTS["count"])], MemoryStore())
    facts = [shop(stream, at) for at in range(400)]

    def history() -> Iterator[Facts]:
        yield from facts[:300]
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        made.restore(history())
    assert made.cold
    made.restore(facts)
    assert made.observe(shop(stream, 900)).values == [400]


def test_a_snapshot_has_no_approximate_series() -> None:
    store = MemoryStore()
    stream, made = Stream(), features(TEXTS["count"], f"count({KEPT})", store=store)
    made.observe(shop(stream, 0))

    assert [one.bucket for one in store.held] == [0]


def test_a_key_without_events_goes() -> None:
    stream, store = Stream(), MemoryStore()
    made = features(TEXTS["count"], store=store)
    for day in range(60):
        made.observe(stream(day * 24 * 60, values={"merchant": {"id": f"m{day}"}}))

    (lines,) = store._rooms["shop"].sketches.values()
    assert len(lines.new) + len(lines.old) < 30


# ---------------------------------------------------------------- the language


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("count(last 30d by card.ref, approximately)", "count(transaction last 30d by card.ref, approximately)"),
        (
            "count(last 30d by card.ref where amount > 1 CNY , approximately,including  this)",
            "count(transaction last 30d by card.ref where amount > 1 CNY, including this, approximately)",
        ),
        (
            "quantile(amount, 95% last 24h by merchant.id,\n approximately)",
            "quantile(amount, 0.95 of transaction last 1d by merchant.id, approximately)",
        ),
    ],
)
def test_it_is_part_of_a_windows_name(source: str, name: str) -> None:
    made = window(source)

    assert (made.name, made.approximately) == (name, True)
    assert window(name) == made
    assert window(name.replace(", approximately", "")) != made


@pytest.mark.parametrize(
    ("source", "what", "hint"),
    [
        (
            "streak(amount > 1 CNY last 30d by card.ref, approximately)",
            "streak() cannot be approximate",
            "leave 'approximately' out; there are count,",
        ),
        ("first seen(last 30d by card.ref, approximately)", "first seen() cannot be approximate", "leave"),
        ("last seen(last 30d by card.ref, approximately)", "last seen() cannot be approximate", "leave"),
        (
            "count(last 23h by card.ref, approximately)",
            "an approximate window is at least 1d long",
            "leave 'approximately' out: it is exact then",
        ),
        ("count(last 30d by card.ref, approximately, approximately)", "', approximately' does not fit here", ""),
        ("approximately > 1", "'approximately' does not fit here", "a value is missing before it"),
    ],
)
def test_what_cannot_be_approximate_is_refused(source: str, what: str, hint: str) -> None:
    with pytest.raises(PackError) as refused:
        read(source, vocabulary("transaction"))

    (problem,) = refused.value.problems
    assert problem.what == what
    assert problem.hint.startswith(hint)


def test_approximate_windows_of_one_length_share_a_series() -> None:
    made = features(
        f"count({KEPT}, approximately)",
        f"sum(amount {KEPT}, including this, approximately)",
        f"count({KEPT})",
        "count(last 3d by merchant.id, approximately)",
        "count(last 3d by merchant.id)",
    )

    series = [(windows, one.span, one.bucket) for one, windows in made._series]
    assert series == [
        ((0, 1), LENGTH + WIDTH, WIDTH),
        ((2, 4), 3 * DAY, 0),
        ((3,), 3 * DAY * 65 // 64, 3 * DAY // 64),
    ]
