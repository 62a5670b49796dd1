"""Every fast way to a condition's value against the slow walker, on conditions and events made at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import PackError
from engine.expr import BOOL, Env, Expression, Vocabulary, Window, compile_rules, index, interpret, read, value_of
from engine.money import Money
from engine.schema import FieldDef
from tests.seeds import seeded

TYPES = {
    "n": "number",
    "a.m": "number",
    "a.b.k": "number",
    "price": "money",
    "a.cost": "money",
    "word": "text",
    "a.name": "text",
    "yes": "bool",
    "a.no": "bool",
    "at": "instant",
    "a.since": "instant",
    "wait": "duration",
    "tags": "list[text]",
    "items.kind": "list[text]",
    "items.count": "list[number]",
    "items.price": "list[money]",
}
FIELDS = {path: FieldDef(path, kind, "", None, "") for path, kind in TYPES.items()}
WORDS = Vocabulary(FIELDS, {"payment": FIELDS}, ("payment",), zone="UTC")
WINDOWS = {
    "number": ["count(last 1d by word)", "distinct(word last 1d by word where n > 1, including this)"],
    "money": ["sum(price last 1d by word)"],
    "instant": ["first seen(last 1d by word)"],
}
TEXTS = ["", "a", "ab", "B", "卡"]
DAY = 86_400_000_000


def paths(kind: str) -> list[str]:
    return [path for path, type_ in TYPES.items() if type_ == kind]


class Writing:
    """Conditions at random, of a chosen type, mostly small."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def condition(self, depth: int) -> str:
        rng = self.rng
        if depth > 0 and rng.random() < 0.6:
            parts = [self.condition(depth - 1) for _ in range(rng.randrange(2, 4))]
            joined = rng.choice([" and ", " or "]).join(f"({part})" for part in parts)
            return f"not ({joined})" if rng.random() < 0.3 else joined
        atom = rng.choice(
            [self.compared, self.compared, self.compared, self.chained, self.member, self.presence, self.other]
        )()
        return f"not ({atom})" if rng.random() < 0.3 else atom

    def compared(self) -> str:
        kind = self.rng.choice(["number", "number", "money", "money", "text", "instant", "duration", "bool"])
        sign = self.rng.choice(["==", "!="] if kind in ("text", "bool") else ["==", "!=", "<", "<=", ">", ">="])
        left, right = self.value(kind, 1), self.value(kind, 1) if self.rng.random() < 0.2 else self.literal(kind)
        return f"({left}) {sign} ({right})" if self.rng.random() < 0.9 else f"({right}) {sign} ({left})"

    def chained(self) -> str:
        kind = self.rng.choice(["number", "money"])
        one, other = self.rng.choice(["<", "<="]), self.rng.choice(["<", "<="])
        return f"{self.literal(kind)} {one} {self.rng.choice(paths(kind))} {other} {self.literal(kind)}"

    def member(self) -> str:
        kind = self.rng.choice(["number", "money", "text"])
        word = self.rng.choice(["in", "not in"])
        if self.rng.random() < 0.3:
            return f"{self.literal(kind)} {word} {self.rng.choice(paths(f'list[{kind}]'))}"
        items = {"money": ["1 CNY", "2 CNY", "0.5 CNY"]}.get(kind) or [self.literal(kind) for _ in range(3)]
        return f"{self.value(kind, 0)} {word} [{', '.join(items)}]"

    def presence(self) -> str:
        kind = self.rng.choice(["number", "money", "text", "bool", "instant", "list[text]", "list[money]"])
        return f"({self.value(kind, 1)}) is {self.rng.choice(['missing', 'present'])}"

    def other(self) -> str:
        rng = self.rng
        text, quoted = self.value("text", 1), self.literal("text")
        pattern, lists = rng.choice(["a", "^a", "^$", "(?i)b", "[a-z]+"]), paths("list[text]")
        others = rng.choice(["tags", "items.kind", '["a", "b"]', "list known"])
        return rng.choice(
            [
                "yes",
                "a.no",
                f"{text} {rng.choice(['starts with', 'ends with', 'contains', 'not contains'])} {quoted}",
                f'{text} matches "{pattern}"',
                f"{text} {rng.choice(['in', 'not in'])} list known",
                f"{text} in list unloaded",
                f"{rng.choice(lists)} overlaps {others}",
            ]
        )

    def value(self, kind: str, depth: int) -> str:
        rng = self.rng
        if depth <= 0 or rng.random() < 0.5:
            if kind in WINDOWS and rng.random() < 0.2:
                return rng.choice(WINDOWS[kind])
            return rng.choice(paths(kind))
        return rng.choice(self.made(kind, depth - 1))

    def made(self, kind: str, depth: int) -> list[str]:
        first, second = self.value(kind, depth), self.value(kind, depth)
        sure = f"default({first}, {self.literal(kind)})" if "[" not in kind else first
        if kind == "number":
            money, other = self.value("money", depth), self.value("money", depth)
            return [
                sure,
                f"({first} {self.rng.choice('+-*/%')} {second})",
                f"({first} {self.rng.choice('+-*/%')} {self.literal(kind)})",
                f"-({first})",
                f"abs({first})",
                f"round({first} / 3, 2)",
                f"min({first}, {second})",
                f"max({first}, 1)",
                f"length({self.value('text', 0)})",
                "size(tags)",
                "size(items.price)",
                "sum(items.count)",
                f"({money}) / ({other})",
                f"hour({self.value('instant', 0)})",
                f"weekday({self.value('instant', 0)})",
            ]
        if kind == "money":
            return [
                sure,
                f"({first} + {second})",
                f"({first} - {self.literal(kind)})",
                f"({first} * {self.literal('number')})",
                f"({first} / {self.value('number', 0)})",
                f"({first}) in CNY",
                f"min({first}, {second})",
                f"round({first})",
                "sum(items.price)",
                "max(items.price)",
                f"abs({first})",
            ]
        if kind == "instant":
            return [sure, f"({first} + {self.value('duration', 0)})", f"({first} - 1h)", "now"]
        if kind == "duration":
            instant, other = self.value("instant", 0), self.value("instant", 0)
            return [sure, f"({instant} - {other})", f"({first} * 2)", f"({first} / 2)"]
        return [sure, f"lower({first})"] if kind == "text" else [sure]

    def literal(self, kind: str) -> str:
        rng = self.rng
        return {
            "number": rng.choice(["0", "1", "2", "-1", "2.5", "0.5", "25%", "100"]),
            "money": f"{rng.choice(['0', '1', '2', '0.5', '-1'])} {rng.choice(['CNY', 'CNY', 'CNY', 'USD'])}",
            "text": f'"{rng.choice(TEXTS)}"',
            "bool": rng.choice(["true", "false"]),
            "instant": rng.choice(["1970-01-01", "1970-01-02T03:00Z", "1970-01-03"]),
            "duration": rng.choice(["0s", "1h", "1d", "2d"]),
        }[kind]


def event_of(rng: random.Random) -> dict[str, Any]:
    """An event in which anything may be missing, whole objects too."""
    draw = {
        "number": lambda: rng.choice([0, 1, 2, -1, 100, Decimal("2.5"), Decimal("0.50"), Decimal(1), 10**17]),
        "money": lambda: Money(
            rng.choice([0, 50, 100, 200, Decimal("50.5")]), rng.choice(["CNY", "CNY", "USD", "JPY"])
        ),
        "text": lambda: rng.choice(TEXTS),
        "bool": lambda: rng.random() < 0.5,
        "instant": lambda: rng.choice([0, DAY, 2 * DAY, 10_800_000_000, -5 * DAY]),
        "duration": lambda: rng.choice([0, DAY, 2 * DAY, 3_600_000_000]),
        "list[text]": lambda: [rng.choice([None, *TEXTS]) for _ in range(rng.randrange(3))],
    }
    event: dict[str, Any] = {}
    for path, kind in TYPES.items():
        *parents, last = path.split(".")
        if rng.random() < 0.25 or parents == ["items"]:
            continue
        place = event
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = draw[kind]()
    for gone in ("a", "items"):
        if rng.random() < 0.15:
            event.pop(gone, None)
    if rng.random() < 0.85:
        each = {"kind": "text", "count": "number", "price": "money"}
        event["items"] = [
            {name: draw[kind]() for name, kind in each.items() if rng.random() < 0.8} for _ in range(rng.randrange(4))
        ]
    return event


def env_of(rng: random.Random) -> Env:
    known: dict[str, bool | None] = {"a": True, "ab": None}
    return Env(0, rng.choice([0, DAY]), {"known": lambda value: known.get(value, False)}, _convert)


def _convert(money: Money, currency: str, _at: int) -> Money | None:
    if money.currency == currency:
        return money
    return Money(money.minor * 7, currency) if money.currency == "USD" else None


def features_of(rng: random.Random, windows: Sequence[Window]) -> list[Any]:
    draw = {"number": [0, 1, 5], "money": [Money(100, "CNY"), Money(100, "USD")], "instant": [0, DAY]}
    return [rng.choice([None, *draw[window.type.name]]) for window in windows]


def conditions_of(rng: random.Random, count: int, depth: int) -> list[Expression]:
    """Conditions that read; a few are refused because a part of them is always unknown or two currencies meet."""
    found: list[Expression] = []
    while len(found) < count:
        try:
            found.append(read(Writing(rng).condition(depth), WORDS, BOOL))
        except PackError as error:
            refused = [each.what for each in error.problems]
        else:
            continue
        assert all(any(word in what for word in _EXPECTED) for what in refused), refused
    return found


_EXPECTED = ("always unknown", "do not meet", "one currency", "never missing")


def hold(rng: random.Random, rules: int = 12, events: int = 8, depth: int = 2) -> None:
    """One matcher against the slow walker: rules, questions, replay, single values."""
    conditions = conditions_of(rng, rules, depth)
    windows = list(dict.fromkeys(window for condition in conditions for window in condition.windows))
    watched = [rule for rule in range(rules) if rng.random() < 0.5]
    matcher = compile_rules(conditions, windows, watch_unknown=watched)
    single = [value_of(condition, windows) for condition in conditions]
    for _ in range(events):
        event, env, features = event_of(rng), env_of(rng), features_of(rng, windows)
        by_window = dict(zip(windows, features, strict=True))
        match = matcher(event, features, env)
        truths = [interpret(condition, event, by_window, env) for condition in conditions]
        for condition, truth, evaluate in zip(conditions, truths, single, strict=True):
            assert truth is evaluate(event, features, env), (condition.text, event)
        for number, atom in enumerate(matcher.atoms):
            truth = value_of(_question(atom), windows)(event, features, env)
            recorded = True if match.true >> number & 1 else None if match.unknown >> number & 1 else False
            assert recorded is truth, (atom.text, event)
        assert match.fired == tuple(rule for rule, truth in enumerate(truths) if truth), event
        assert match.unsure == tuple(rule for rule in watched if truths[rule] is None), event
        assert matcher.replay(match.true, match.unknown) == match
        undecided = tuple(rule for rule, truth in enumerate(truths) if truth is None)
        assert matcher.undecided(match.true, match.unknown) == undecided, event
        assert not match.true & match.unknown


def _question(atom: index.Atom) -> Expression:
    return Expression(atom.text, BOOL, atom.tree, atom.paths, atom.windows, frozenset(), atom.text)


@seeded(24, always=8, test=12)
def test_matcher_replay_and_functions_agree_with_the_slow_walker(seed: int) -> None:
    hold(random.Random(seed))


@pytest.mark.random
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_they_agree_wherever_hypothesis_looks(seed: int) -> None:
    hold(random.Random(seed), rules=5, events=4, depth=3)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_rules_too_wide_to_write_out_agree_too(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With almost no alternatives allowed, nearly every rule goes by its formula over the masks."""
    monkeypatch.setattr(index, "MAX_TERMS", limit)
    for seed in range(5):
        hold(random.Random(seed))


def test_long_masks_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """From some thousand terms on another reader takes over; here it reads from the first."""
    monkeypatch.setattr(index, "MANY", 0)
    for seed in range(5):
        hold(random.Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_they_agree_on_many_more(seed: int) -> None:
    hold(random.Random(seed), rules=40, events=30, depth=3)


# ---------------------------------------------------------------------------------------------- by hand

ENV = Env(0, 0, {}, lambda *_: None)


def match(*sources: str, event: dict[str, Any], watch: Sequence[int] = ()) -> index.Match:
    return compile_rules([read(source, WORDS, BOOL) for source in sources], [], watch_unknown=watch)(event, [], ENV)


def test_no_rules_match_nothing() -> None:
    found = match(event={"n": 1})

    assert found == ((), (), 0, 0)
    assert compile_rules([], []).replay(0, 0) == found


def test_one_question_in_many_rules_is_one_atom() -> None:
    conditions = [read(source, WORDS, BOOL) for source in ("n > 1 and yes", "not (n > 1)", "n > 1 or n > 1")]
    matcher = compile_rules(conditions, [])

    assert [atom.text for atom in matcher.atoms] == ["n > 1", "yes"]
    assert matcher.atoms_of(0) == ((0, False), (1, False))
    assert matcher.atoms_of(1) == ((0, True),)
    assert matcher.atoms_of(2) == ((0, False),)
    assert matcher({"n": 2}, [], ENV).fired == (2,)


def test_an_atom_names_what_it_looks_at() -> None:
    condition = read("count(last 1d by word) > n", WORDS, BOOL)
    (atom,) = compile_rules([condition], condition.windows).atoms

    assert atom.paths == {"n"}
    assert atom.windows == condition.windows


def test_only_watched_rules_are_unsure() -> None:
    found = match("n > 1", "n > 1 or yes", "n > 1 and yes", event={"yes": True}, watch=[0, 2])

    assert found.fired == (1,)
    assert found.unsure == (0, 2)


def test_a_rule_that_nothing_can_save_is_not_unsure() -> None:
    assert match("n > 1 and yes", event={"yes": False}, watch=[0]).unsure == ()


def test_a_contradiction_over_a_missing_value_is_unknown_not_false() -> None:
    """Kleene does not know that x and not x cannot both hold; SQL does not either, so columns agree."""
    assert match("n > 1 and not (n > 1)", event={}, watch=[0]).unsure == (0,)
    assert match("n > 1 or not (n > 1)", event={}, watch=[0]).unsure == (0,)


def test_numbers_of_both_kinds_meet_the_same_thresholds() -> None:
    for value in (2, Decimal(2), Decimal("2.0")):
        assert match("n >= 2", "n == 2", "n < 2", "n in [1, 2]", "n > 1.9999", event={"n": value}).fired == (0, 1, 3, 4)


def test_money_in_two_currencies_asks_each_in_its_own() -> None:
    rules = ("price > 1 CNY", "price > 1 USD", "price > 1 CNY or price > 1 USD", "not (price > 1 CNY)")

    assert match(*rules, event={"price": Money(200, "CNY")}, watch=range(4))[:2] == ((0, 2), (1,))
    assert match(*rules, event={"price": Money(200, "JPY")}, watch=range(4))[:2] == ((), (0, 1, 2, 3))
    assert match(*rules, event={}, watch=range(4))[:2] == ((), (0, 1, 2, 3))


def test_ten_thousand_rules_compile_in_seconds() -> None:
    conditions = [read(f"n > {number} and a.m <= {number % 997}", WORDS, BOOL) for number in range(500)] * 20
    matcher = compile_rules(conditions, [])

    assert len(matcher({"n": 1_000, "a": {"m": 0}}, [], ENV).fired) == 10_000
