"""The operators and functions of the language as terms: one small function each, by the name of the row.

They say the same as the rows of `engine.expr.functions`; a property test holds one against the other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import z3

from engine.expr import BOOL, MONEY, NUMBER, TEXT, zone
from engine.expr.functions import FIRST_INSTANT, LAST_INSTANT
from engine.expr.nodes import Call, Field, Literal, Now
from engine.reasoning.terms import (
    CURRENCY,
    NO,
    PLACES,
    YES,
    Amount,
    Listed,
    Term,
    Value,
    all_known,
    both,
    bounded,
    chosen,
    either,
    opposite,
    real,
)
from engine.reasoning.texts import Texts

if TYPE_CHECKING:
    from engine.reasoning.encode import Encoding

_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def encoded(encoding: Encoding, node: Call) -> Value:
    """The terms of one call."""
    args = [encoding.value(arg) for arg in node.args]
    found = _ROWS[node.row.name](encoding, node, args)
    return Value(found.known, found.value, found.exact and all(arg.exact for arg in args), found.places)


# Comparisons


def _compared(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del encoding
    one, other = args
    compare = _COMPARE[node.row.name]
    known = all_known(args)
    if isinstance(one.value, Amount):
        return Value(
            both(known, one.value.currency == other.value.currency), compare(one.value.minor, other.value.minor)
        )
    return Value(known, compare(one.value, other.value))


# Arithmetic


def _result(encoding: Encoding, node: Call, known: Term, term: Term, places: int) -> Value:
    """A computed number: known within the limits, and rounded to six places where it may have more."""
    whole = node.type.name in ("instant", "duration")
    if places <= PLACES and not (whole and z3.is_real(term)):
        return Value(both(known, bounded(term)), term, places=places)
    found = encoding.fresh.whole_near(term) if whole else encoding.fresh.near(term)
    return Value(both(known, bounded(found)), found, exact=False, places=PLACES)


def _summed(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    one, other = args
    known, places = all_known(args), max(one.places, other.places)
    act = operator.add if node.row.name == "+" else operator.sub
    if isinstance(one.value, Amount):
        known = both(known, one.value.currency == other.value.currency)
        found = _result(encoding, node, known, act(one.value.minor, other.value.minor), places)
        return Value(found.known, Amount(found.value, one.value.currency), found.exact, found.places)
    found = _result(encoding, node, known, act(one.value, other.value), places)
    if node.type.name == "instant":
        calendar = z3.And(found.value >= FIRST_INSTANT, found.value <= LAST_INSTANT)
        return Value(both(found.known, calendar), found.value, found.exact)
    return found


def _minus(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    if len(args) == 2:
        return _summed(encoding, node, args)
    [only] = args
    if isinstance(only.value, Amount):
        return Value(only.known, Amount(-only.value.minor, only.value.currency), places=only.places)
    return Value(only.known, -only.value, places=only.places)


def _minor(value: Value) -> Term:
    return value.value.minor if isinstance(value.value, Amount) else value.value


def _money_or(node: Call, args: list[Value], found: Value) -> Value:
    """The number as money of the one amount among the arguments, where the result is money."""
    if node.type != MONEY:
        return found
    [amount] = [arg.value for arg in args if isinstance(arg.value, Amount)]
    return Value(found.known, Amount(found.value, amount.currency), found.exact, found.places)


def _product(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    one, other = args
    a, b, known = _minor(one), _minor(other), all_known(args)
    if _constant(a) or _constant(b):
        found = _result(encoding, node, known, real(a) * real(b) if one.places or other.places else a * b,
                        one.places + other.places)  # fmt: skip
        return _money_or(node, args, found)
    free = encoding.unknown(NUMBER, known, node.text)
    term = _settled(encoding, node, free.value)
    encoding.fresh.facts += _signs(a, b, term)
    return _money_or(node, args, Value(free.known, term, exact=False, places=PLACES))


def _quotient(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    one, other = args
    a, b, known = _minor(one), _minor(other), all_known(args)
    if isinstance(one.value, Amount) and isinstance(other.value, Amount):
        known = both(known, one.value.currency == other.value.currency)
    known = both(known, b != 0)
    if _constant(b):
        found = _result(encoding, node, known, real(a) / real(b), PLACES + 1)
        return _money_or(node, args, found)
    free = encoding.unknown(NUMBER, known, node.text)
    term = _settled(encoding, node, free.value)
    encoding.fresh.facts += _signs(a, b, term)
    encoding.fresh.facts += [z3.Implies(z3.And(b > 0, a <= b), term <= 1), z3.Implies(z3.And(b > 0, a >= b), term >= 1)]
    return _money_or(node, args, Value(free.known, term, exact=False, places=PLACES))


def _settled(encoding: Encoding, node: Call, term: Term) -> Term:
    """A whole number of microseconds where the result is a length of time."""
    if node.type.name != "duration":
        return term
    return encoding.fresh.whole_near(term)


def _signs(a: Term, b: Term, found: Term) -> list[Term]:
    """What the signs of two numbers say about their product and quotient."""
    return [
        z3.Implies(z3.Or(z3.And(a >= 0, b >= 0), z3.And(a <= 0, b <= 0)), found >= 0),
        z3.Implies(z3.Or(z3.And(a >= 0, b <= 0), z3.And(a <= 0, b >= 0)), found <= 0),
    ]


def _constant(term: Term) -> bool:
    return bool(z3.is_int_value(term) or z3.is_rational_value(term))


def _remainder(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    one, other = args
    known = both(all_known(args), other.value != 0)
    if not (z3.is_int(one.value) and z3.is_int_value(other.value)):
        return encoding.unknown(node.type, known, node.text)
    by = abs(other.value.as_long()) or 1
    times, found = encoding.fresh.of(_INT, "times"), encoding.fresh.of(_INT, node.text)
    encoding.fresh.facts += [
        one.value == times * by + found,
        found > -by,
        found < by,
        z3.Implies(one.value >= 0, found >= 0),
        z3.Implies(one.value <= 0, found <= 0),
    ]
    return Value(known, found)


def _converted(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """The same amount where it is in that currency already; else some amount of the same sign, if there is a rate."""
    amount, wanted = args[0], z3.IntVal(CURRENCY[args[1].value])
    same = amount.value.currency == wanted
    minor = encoding.fresh.of(NUMBER, node.text)
    rated = encoding.fresh.truth(f"a rate for {node.text}")
    own = amount.value.minor
    encoding.fresh.facts += [z3.Implies(own >= 0, minor >= 0), z3.Implies(own <= 0, minor <= 0)]
    term = chosen(same, real(own), minor)
    return Value(both(amount.known, z3.Or(same, rated)), Amount(term, wanted), exact=False, places=PLACES)


# Text


def _part(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    right = node.args[1]
    if isinstance(right, Literal):
        written = right.value
        shown = str(written)
        return Value(args[0].known, encoding.texts.asked(node.row.name, args[0].value, shown, written))
    asked = z3.Function(node.row.name, z3.IntSort(), z3.IntSort(), z3.BoolSort())
    term = asked(encoding.texts.know(args[0].value), encoding.texts.know(args[1].value))
    return Value(all_known(args), term, exact=False)


def _of_text(asked: Callable[[Texts, Term], Term]) -> Callable[[Encoding, Call, list[Value]], Value]:
    """The row of a function of one text."""
    return lambda encoding, _, args: Value(args[0].known, asked(encoding.texts, args[0].value))


def _uscc(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """Whether a text is a code whose last character checks the others: a question about it, as `starts with` is."""
    return Value(args[0].known, encoding.texts.asked(node.row.name, args[0].value, "", ""))


# Lists


def _member(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    value, items = args
    if isinstance(items.value, Listed):
        found = encoding.among(node.args[1].text, items.value, value.value)
        known = either(found, opposite(items.value.gap))
        exact = node.args[0].type != MONEY
        if not exact:
            known = either(found, encoding.fresh.truth(node.text))
        return Value(both(all_known(args), known), found, exact=exact)
    if isinstance(value.value, Amount):
        same = both(*(value.value.currency == item.currency for item in items.value))
        hit = either(*(both(value.value.currency == i.currency, value.value.minor == i.minor) for i in items.value))
        return Value(both(value.known, either(hit, same)), hit)
    return Value(value.known, either(*(value.value == item for item in items.value)))


def _overlaps(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    [*lists], known = [arg.value for arg in args], all_known(args)
    listed = [each for each in lists if isinstance(each, Listed)]
    if len(listed) != 1:
        return encoding.unknown(BOOL, known, node.text)
    place = lists.index(listed[0])
    path, written = node.args[place].text, lists[1 - place]
    found = either(*(encoding.among(path, listed[0], item) for item in written))
    sure = either(found, opposite(listed[0].gap)) if written else YES
    return Value(both(known, sure), found)


def _kept(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """What a kept list says of a text, which may change at any time."""
    name = args[1].value
    if node.row.name == "overlaps list":
        return encoding.unknown(BOOL, args[0].known, node.text)
    sure = z3.Function(f"known in list {name}", z3.IntSort(), z3.BoolSort())
    on = z3.Function(f"in list {name}", z3.IntSort(), z3.BoolSort())
    term = encoding.texts.know(args[0].value)
    return Value(both(args[0].known, sure(term)), on(term), exact=False)


def _phrases(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """Any phrases at all: which ones a list has may change at any time."""
    has = z3.Function(f"{node.text} has", z3.IntSort(), z3.BoolSort())
    size = encoding.fresh.of(_INT, f"size of {node.text}")
    encoding.fresh.facts.append(size >= 0)
    known = both(args[0].known, encoding.fresh.truth(node.text))
    return Value(known, Listed(has, NO, size), exact=False)


def _size(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del encoding, node
    return Value(args[0].known, args[0].value.size)


def _total(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """The sum, least or greatest of a list: known only without gaps, and but for a sum of numbers not of nothing."""
    [items] = args
    known = both(items.known, opposite(items.value.gap))
    if node.row.name != "sum" or node.type == MONEY:
        known = both(known, items.value.size >= 1)
    return encoding.unknown(node.type, known, node.text)


# Presence


def _missing(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del encoding, node
    return Value(YES, opposite(args[0].known))


def _default(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del encoding, node
    one, other = args
    value = chosen(one.known, one.value, other.value)
    return Value(either(one.known, other.known), value, places=max(one.places, other.places))


# Numbers


def _absolute(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del encoding, node
    [only] = args
    size = _minor(only)
    size = z3.If(size >= 0, size, -size)
    value = Amount(size, only.value.currency) if isinstance(only.value, Amount) else size
    return Value(only.known, value, places=only.places)


def _rounded(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    del node
    only, places = args[0], args[1].value if len(args) == 2 else 0
    term = _minor(only)
    if only.places <= places:
        return Value(only.known, only.value, places=only.places)
    scale = 10**places
    whole = encoding.fresh.whole_near(real(term) * scale)
    found = real(whole) / scale if places else whole
    value = Amount(found, only.value.currency) if isinstance(only.value, Amount) else found
    return Value(both(only.known, bounded(found)), value, exact=False, places=places)


def _extreme(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    if len(args) == 1:
        return _total(encoding, node, args)
    one, other = args
    known, places = all_known(args), max(one.places, other.places)
    a, b = _minor(one), _minor(other)
    first = a <= b if node.row.name == "min" else a >= b
    if isinstance(one.value, Amount):
        known = both(known, one.value.currency == other.value.currency)
        return Value(known, Amount(chosen(first, a, b), one.value.currency), places=places)
    return Value(known, chosen(first, a, b), places=places)


# Time


def _clock(encoding: Encoding, node: Call, args: list[Value]) -> Value:
    """The hour or the day of the week: exact where the zone keeps one distance from UTC as long as events are taken."""
    offset = fixed_offset(args[1].value)
    low, high = (0, 23) if node.row.name == "hour" else (1, 7)
    found, facts = encoding.fresh.of(_INT, node.text), encoding.fresh.facts
    facts += [found >= low, found <= high]
    if offset is None or not isinstance(node.args[0], Field | Now):
        return Value(args[0].known, found, exact=False)
    day, hour, rest = (encoding.fresh.of(_INT, f"{part} of {node.args[0].text}") for part in ("day", "hour", "rest"))
    facts += [
        args[0].value + offset == day * _DAY + hour * _HOUR + rest,
        z3.And(hour >= 0, hour <= 23, rest >= 0, rest < _HOUR),
    ]
    if node.row.name == "hour":
        facts.append(found == hour)
    else:
        week = encoding.fresh.of(_INT, "week")
        # The first of January 1970 was a Thursday.
        facts.append(day + 3 == week * 7 + found - 1)
    return Value(args[0].known, found)


@lru_cache(maxsize=64)
def fixed_offset(name: str) -> int | None:
    """How far the zone is from UTC in microseconds, if it is the same at every hour from 2000 to 2100 that we look at;
    else None. Clocks are changed for weeks at least, so twice a month is often enough."""
    place = zone(name)
    days = (
        datetime(year, month, day, tzinfo=UTC)
        for year in range(1999, 2101)
        for month in range(1, 13)
        for day in (1, 15)
    )
    found = {day.astimezone(place).utcoffset() for day in days}
    [first, *others] = found
    return None if others or first is None else int(first.total_seconds()) * 1_000_000


_INT = TEXT
"""A type whose variables are whole numbers."""

_ROWS: dict[str, Callable[[Any, Call, list[Value]], Value]] = {
    **dict.fromkeys(_COMPARE, _compared),
    "+": _summed,
    "-": _minus,
    "*": _product,
    "/": _quotient,
    "%": _remainder,
    "in": lambda encoding, node, args: (_converted if node.row.form == "convert" else _member)(encoding, node, args),
    **dict.fromkeys(("starts with", "ends with", "contains", "matches"), _part),
    "lower": _of_text(Texts.lower),
    "plain": _of_text(Texts.plain),
    "length": _of_text(Texts.length),
    "valid_uscc": _uscc,
    "overlaps": _overlaps,
    **dict.fromkeys(("in list", "overlaps list"), _kept),
    "phrases": _phrases,
    "size": _size,
    "sum": _total,
    "is missing": _missing,
    "default": _default,
    "abs": _absolute,
    "round": _rounded,
    **dict.fromkeys(("min", "max"), _extreme),
    **dict.fromkeys(("hour", "weekday"), _clock),
}
