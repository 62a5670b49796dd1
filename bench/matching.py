"""Matching many rules against one event, beside the best form of zen-engine in the same run.

    python -m bench.matching [--check]

33 nested fields (numbers, money, instants, text, yes/no), 2 to 4 predicates a rule, mostly distinct, about 5 % of the
rules hold. Arbiter gets events in which a tenth of the values is missing, works with money, and hands back the true and
unknown masks that the record keeps. zen-engine stops with an error at a missing value, so it gets the same events
complete, with money as plain numbers, all rules in one `compile_expression("[c1, c2, ...]")`. On complete events both
must give the same rules. Both take turns over all events; the figure is the best of five medians.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import zen

from engine.expr import BOOL, Env, Matcher, Vocabulary, compile_rules, read
from engine.money import Money
from engine.schema import FieldDef
from engine.schema.nesting import nested

BARS = {1_000: 0.15, 10_000: 0.04}
"""Rules → most that Arbiter may take, as a share of zen-engine's time."""
EVENTS, ROUNDS = 40, 5

FIELDS = {
    "number": "cart.lines cart.units buyer.orders buyer.refunds device.age device.accounts ip.risk ip.accounts "
    "merchant.age merchant.disputes ship.distance ship.weight bill.changes session.seconds session.pages",
    "money": "amount fee ship.cost cart.biggest coupon.value",
    "instant": "buyer.signup_at card.added_at",
    "text": "card.country ip.country ship.country channel device.os merchant.category payment.method",
    "bool": "buyer.guest ship.gift device.rooted ip.proxy",
}
TYPES = {path: kind for kind, paths in FIELDS.items() for path in paths.split()}
"""33 paths → type."""
_WORDS = [f"w{number}" for number in range(6)]
_YEAR = 31_536_000_000_000
_ENV = Env(0, 0, {}, lambda *_: None)


@dataclass(frozen=True)
class Case:
    """One size: our matcher, theirs, the complete events in both forms, and ours with missing values."""

    matcher: Matcher
    zen: Any
    complete: list[dict[str, Any]]
    plain: list[dict[str, Any]]
    holey: list[dict[str, Any]]
    seconds: float


def main() -> int:
    """Print the table; with --check, 1 when a ratio is above its bar."""
    rows, failed = [], False
    for count, bar in BARS.items():
        case = prepare(count)
        hits = agree(case)
        ours, theirs = measure(case)
        ratio = ours / theirs
        failed |= ratio > bar
        rows.append((count, len(case.matcher.atoms), case.seconds, hits, theirs, ours, ratio, bar))
    print("  rules  predicates  compile s   hits   zen us   arbiter us")
    for count, atoms, seconds, hits, theirs, ours, _, _ in rows:
        print(f"{count:7,} {atoms:11,} {seconds:10.1f} {hits:6.1%} {theirs:8.0f} {ours:12.1f}")
    for count, _, _, _, _, _, ratio, bar in rows:
        print(f"{count:,} rules: {ratio:.3f} x zen-engine (bar {bar})")
    return int(failed and "--check" in sys.argv[1:])


def prepare(count: int) -> Case:
    """Rules, matchers and events for `count` rules; everything seeded."""
    random = Random(count)
    rules = [[predicate(random) for _ in range(random.choice((2, 3, 4)))] for _ in range(count)]
    start = perf_counter()
    vocabulary = Vocabulary({path: FieldDef(path, kind, "", None, "") for path, kind in TYPES.items()})
    conditions = [read(" and ".join(ours for ours, _ in rule), vocabulary, BOOL) for rule in rules]
    matcher = compile_rules(conditions, [])
    seconds = perf_counter() - start
    theirs = "[" + ", ".join(" and ".join(theirs for _, theirs in rule) for rule in rules) + "]"
    flat = [event(random) for _ in range(EVENTS)]
    holes = [{path: value for path, value in values.items() if random.random() > 0.1} for values in flat]
    return Case(
        matcher,
        zen.compile_expression(theirs),
        [nested(values, frozenset())[0] for values in flat],
        [nested({path: _plain(value) for path, value in values.items()}, frozenset())[0] for values in flat],
        [nested(values, frozenset())[0] for values in holes],
        seconds,
    )


def predicate(random: Random) -> tuple[str, str]:
    """One predicate that holds for about a third of the events, in our words and in theirs."""
    path, kind = random.choice(list(TYPES.items()))
    if kind == "bool":
        return (path, f"{path} == true") if random.random() < 0.5 else (f"not {path}", f"{path} == false")
    if kind == "text":
        words = ", ".join(f'"{word}"' for word in random.sample(_WORDS, 2))
        return f"{path} in [{words}]", f"{path} in [{words}]"
    high = random.random() < 0.5
    at = random.uniform(0.56, 0.80) if high else random.uniform(0.20, 0.44)
    sign = random.choice((">", ">=") if high else ("<", "<="))
    if kind == "instant":
        moment = int(at * _YEAR) // 1_000_000 * 1_000_000
        return f"{path} {sign} {_written(moment)}", f"{path} {sign} {moment}"
    if kind == "money":
        minor = int(at * 100_000)
        return f"{path} {sign} {minor / 100:.2f} CNY", f"{path} {sign} {minor}"
    return f"{path} {sign} {int(at * 10_000)}", f"{path} {sign} {int(at * 10_000)}"


def _written(moment: int) -> str:
    days, seconds = divmod(moment // 1_000_000, 86_400)
    month = next(m for m in range(12, 0, -1) if _BEFORE[m - 1] <= days)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"1970-{month:02}-{days - _BEFORE[month - 1] + 1:02}T{clock}Z"


_BEFORE = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]


def event(random: Random) -> dict[str, Any]:
    """A value for each path."""
    draw: dict[str, Callable[[], Any]] = {
        "number": lambda: random.randrange(10_000),
        "money": lambda: Money(random.randrange(100_000), "CNY"),
        "instant": lambda: random.randrange(_YEAR),
        "text": lambda: random.choice(_WORDS),
        "bool": lambda: random.random() < 0.5,
    }
    return {path: draw[kind]() for path, kind in TYPES.items()}


def _plain(value: Any) -> Any:
    return value.minor if isinstance(value, Money) else value


def agree(case: Case) -> float:
    """The share of rules that hold, after checking that both engines and the replay name the same rules."""
    hits = 0
    for ours, theirs in zip(case.complete, case.plain, strict=True):
        match = case.matcher(ours, (), _ENV)
        held = case.zen.evaluate(theirs)
        assert list(match.fired) == [rule for rule, holds in enumerate(held) if holds], "the engines disagree"
        assert case.matcher.replay(match.true, match.unknown) == match, "the masks do not give the match back"
        hits += len(match.fired)
    return hits / (len(held) * len(case.complete))


def measure(case: Case) -> tuple[float, float]:
    """Microseconds for one event, ours and theirs: the best of the medians of some rounds."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(median([timed(case.zen.evaluate, plain) for plain in case.plain]))
        ours.append(median([timed(case.matcher, holey, (), _ENV) for holey in case.holey]))
    return min(ours) * 1e6, min(theirs) * 1e6


def timed(call: Callable[..., Any], *args: Any) -> float:
    """Seconds that one call takes."""
    start = perf_counter()
    call(*args)
    return perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
