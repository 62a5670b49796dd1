"""Random conditions and events, and an event given to the solver as constants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import z3
from hypothesis import strategies as st

from engine.expr import Env, Expression, Vocabulary, Window, interpret
from engine.money import Money
from engine.reasoning.encode import Encoding, Ground, ground
from engine.reasoning.solver import Answer, Questions
from engine.reasoning.terms import CURRENCY, Amount, Listed, Term, number, real
from engine.schema import at_path, nesting, schema

KIND = "transaction"
FIELDS = schema().fields(KIND)
WORDS = Vocabulary(FIELDS, {kind: schema().fields(kind) for kind in schema().kinds}, (KIND,), lists={"vip": "exact"})
AT = 1_795_435_200_000_000

NUMBERS = ("basket.quantity", "buyer.orders", "basket.lowest_price_ratio")
AMOUNTS = ("amount", "discount", "tax")
TEXTS = ("card.scheme", "coupon.code", "ip_type", "buyer.membership")
TRUTHS = ("buyer.guest", "device.emulator", "basket.virtual")
LISTS = ("items.category", "items.sku")
COUNT = "count(last 10m by card.ref)"
MEAN = "avg(amount last 30d by card.ref)"
WORD = st.sampled_from(("app", "apple", "pp", "Web", "web", "tor", "", "91350100M000100Y43"))


def here() -> Ground:
    """The ground of conditions about transactions."""
    required = {kind: schema().required(kind) for kind in schema().kinds}
    return ground(required, (KIND,), [FIELDS])


def _pick(*options: str) -> st.SearchStrategy[str]:
    return st.sampled_from(options)


def _join(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: form.format(*found))


_number_leaf = st.one_of(_pick(*NUMBERS), _pick("0", "1", "2", "3", "0.5", "2.5", "10"), st.just(COUNT))
_money_leaf = st.one_of(_pick(*AMOUNTS), _pick("0 CNY", "1 CNY", "2.50 CNY", "3 USD"), st.just(MEAN))
_text_leaf = st.one_of(_pick(*TEXTS), WORD.map(lambda word: f'"{word}"'))
_instant_leaf = _pick("at", "now", "buyer.signup_at", "2026-11-20", "2026-11-23T12:00:00Z")
_duration_leaf = _pick("session.since_landing", "10s", "1d", "36h")


def _numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _join("({} {} {})", inner, _pick("+", "-", "*", "/", "%"), inner),
        _join("min({}, {})", inner, inner),
        _join("max({}, {})", inner, inner),
        _join("abs({})", inner),
        _join("round({})", inner),
        _join("default({}, {})", inner, inner),
        _join("length({})", _pick(*TEXTS)),
        _join("size({})", _pick(*LISTS)),
        _join("(-({}))", inner),
        _join("({} / 2 CNY)", _money_leaf),
        _join("hour({})", _instant_leaf),
        _join("weekday({})", _instant_leaf),
    )


def _amounts(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _join("({} {} {})", inner, _pick("+", "-"), inner),
        _join("({} * 0.7)", inner),
        _join("({} in CNY)", _pick(*AMOUNTS)),
        _join("abs({})", inner),
        _join("min({}, {})", inner, inner),
        _join("round({})", inner),
    )


numbers = st.recursive(_number_leaf, _numbers, max_leaves=4)
amounts = st.recursive(_money_leaf, _amounts, max_leaves=3)
texts = st.one_of(
    _text_leaf,
    _join("{}({})", _pick("lower", "plain"), _pick(*TEXTS)),
    _join("default({}, {})", _pick(*TEXTS), _text_leaf),
)
instants = st.one_of(_instant_leaf, _join("({} {} {})", _instant_leaf, _pick("+", "-"), _duration_leaf))
durations = st.one_of(
    _duration_leaf, _join("({} - {})", _instant_leaf, _instant_leaf), _join("({} * 1.5)", _duration_leaf)
)
_compare = _pick("==", "!=", "<", "<=", ">", ">=")
_atoms = st.one_of(
    _pick(*TRUTHS),
    _join("{} {} {}", numbers, _compare, numbers),
    _join("{} {} {}", amounts, _compare, amounts),
    _join("{} {} {}", texts, _pick("==", "!="), texts),
    _join("{} {} {}", instants, _compare, instants),
    _join("{} {} {}", durations, _compare, durations),
    _join('{} {} "{}"', texts, _pick("starts with", "ends with", "contains", "not contains"), WORD),
    _join('{} matches "(?i){}"', texts, WORD),
    _join("valid_uscc({})", texts),
    _join('{} in ["{}", "{}"]', texts, WORD, WORD),
    _join("{} in [1, 2, 2.5]", numbers),
    _join("{} in [1 CNY, 2.50 CNY]", amounts),
    _join('"{}" in {}', WORD, _pick(*LISTS)),
    _join('{} overlaps ["{}", "{}"]', _pick(*LISTS), WORD, WORD),
    _join("{} is {}", _pick(*NUMBERS, *AMOUNTS, *TEXTS, *LISTS, *TRUTHS, COUNT), _pick("missing", "present")),
    _join("{} in list vip", _pick(*TEXTS)),
)
conditions = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        _join("({} and {})", inner, inner), _join("({} or {})", inner, inner), _join("not ({})", inner)
    ),
    max_leaves=5,
)


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


_small = st.sampled_from((0, 1, 2, 3, 10))
_minor = st.sampled_from((0, 1, 100, 250, 300, 1000))
_money = st.builds(Money, _minor, st.sampled_from(("CNY", "USD")))


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Values by path, some of them missing."""
    found: dict[str, Any] = {"at": AT, "amount": draw(_money), "kind": KIND}
    found |= {path: draw(_maybe(_small)) for path in NUMBERS[:2]}
    found["basket.lowest_price_ratio"] = draw(_maybe(st.sampled_from((0, Decimal("0.5"), Decimal("2.5"), 1))))
    found |= {path: draw(_maybe(_money)) for path in AMOUNTS[1:]}
    words = st.sampled_from(("app", "apple", "pp", "Web", "web", "wap", "tor"))
    found |= {path: draw(_maybe(words)) for path in TEXTS if path != "ip_type"}
    found["ip_type"] = draw(_maybe(st.sampled_from(("tor", "vpn"))))
    found |= {path: draw(_maybe(st.booleans())) for path in TRUTHS}
    found["buyer.signup_at"] = draw(_maybe(st.sampled_from((AT, AT - 86_400_000_000, AT - 1))))
    found["session.since_landing"] = draw(_maybe(st.sampled_from((0, 10_000_000, 86_400_000_000))))
    found["card.ref"] = draw(_maybe(st.just("c")))
    rows = draw(_maybe(st.lists(st.fixed_dictionaries({"category": _maybe(words), "sku": _maybe(words)}), max_size=3)))
    if rows is not None:
        found["items"] = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {path: value for path, value in found.items() if value is not None}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The values as an event holds them."""
    values, problems = nesting.nested(flat, frozenset())
    assert not problems
    return values


def no_rates(money: Money, currency: str, _: int) -> Money | None:
    return money if money.currency == currency else None


def answer(expression: Expression, values: dict[str, Any], features: Mapping[Window, Any]) -> Any:
    """What the interpreter says."""
    lists = {"vip": lambda value: value == "app"}
    return interpret(expression, values, features, Env(AT, AT, lists, no_rates))


def pinned(encoding: Encoding, values: dict[str, Any], features: Mapping[Window, Any], now: int = AT) -> Iterator[Term]:
    """The event as constants, for everything of it that was encoded."""
    for path, term in encoding.event.values.items():
        yield from _pin(encoding, term.value, at_path(values, path), term.known)
    for path, (_, found) in encoding.members.items():
        there = {str(number(each)) for each in at_path(values, path) or () if isinstance(each, int | Decimal)}
        yield from (has == (shown in there) for shown, has in found.items() if there)
    for window, term in encoding.windows.values.items():
        yield from _pin(encoding, term.value, features.get(window), z3.Bool(f"{window.name} is known"))
    yield encoding.event.now == now


def ask(facts: Iterable[Term], *claims: Term) -> Answer:
    """Whether the claims can hold together, the facts being so."""
    questions = Questions()
    with questions.given(facts):
        return questions.ask(*claims)


def constant(encoding: Encoding, value: Any) -> Any:
    """A value as the solver has it."""
    if isinstance(value, Money):
        return Amount(number(value.minor), z3.IntVal(CURRENCY[value.currency]))
    if isinstance(value, bool):
        return z3.BoolVal(value)
    return encoding.texts.number(value) if isinstance(value, str) else number(value)


def equal(encoding: Encoding, term: Any, value: Any) -> Term:
    """That a term has a value."""
    if isinstance(value, Money):
        return z3.And(real(term.minor) == real(number(value.minor)), term.currency == CURRENCY[value.currency])
    return term == constant(encoding, value)


def _pin(encoding: Encoding, term: Any, value: Any, known: Term) -> Iterator[Term]:
    if value is None:
        yield z3.Not(known)
        return
    yield known
    if isinstance(term, Listed):
        there = {item for item in value if item is not None}
        words = {each for each in there if isinstance(each, str)}
        told = {*words, *encoding.texts.written} if words or not there else set()
        yield from (term.has(encoding.texts.number(each)) == (each in there) for each in sorted(told))
        yield from (term.has(constant(encoding, each)) for each in there - words)
        yield z3.And(term.gap == (None in value), term.size == len(value))
    else:
        yield equal(encoding, term, value)
