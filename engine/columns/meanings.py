"""What each operator and function means for columns: one entry for each row of engine.expr.functions.

An entry takes the arguments as cells (engine.columns.cells) and gives a cell. Unknown is NULL, which SQL carries
through as the language does; where it would not, the entry says so. What cannot be exact raises Refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import ibis

from engine.columns import calendar
from engine.columns.cells import Amount, Cell, Items, Number, Refused, choose, is_null, number, truth, whole
from engine.columns.macros import HUGE, MILLION, TRUTH, WHOLE, call
from engine.expr.functions import FIRST_INSTANT, LAST_INSTANT, LIMIT, Pattern, folding
from engine.expr.nodes import Type
from engine.money import Money

Meaning: TypeAlias = Callable[..., Cell]
Key: TypeAlias = tuple[str, tuple[str, ...]]
"""The name of a row, and what it takes."""


# Numbers


def _tidy(raw: Any, wide: bool) -> Number:
    """A computed number: unknown at 10^18."""
    if wide:
        return Number(call("arb_bounded_wide", HUGE, raw), True)
    return Number(call("arb_bounded", raw.type(), raw), False)


def _together(a: Number, b: Number) -> tuple[Any, Any, bool]:
    wide = a.wide or b.wide
    return a.at(wide), b.at(wide), wide


def _added(operation: Callable[[Any, Any], Any]) -> Callable[[Number, Number], Number]:
    def added(a: Number, b: Number) -> Number:
        one, other, wide = _together(a, b)
        return _tidy(operation(one, other), wide)

    return added


def _multiplied(a: Number, b: Number) -> Number:
    product = call("arb_times", HUGE, a.raw, b.raw)
    if a.wide and b.wide:
        return _tidy(call("arb_half_even", HUGE, product, MILLION), True)
    return _tidy(product, a.wide or b.wide)


def _divided(a: Number, b: Number) -> Number:
    one, other, _ = _together(a, b)
    return Number(call("arb_divide", HUGE, one, other), True)


def _remainder(a: Number, b: Number) -> Number:
    one, other, wide = _together(a, b)
    return _tidy(call("arb_remainder", HUGE, one, other), wide)


def _negated(a: Number) -> Number:
    return Number(-a.raw, a.wide, a.loose)


def _absolute(a: Number) -> Number:
    return Number(a.raw.abs(), a.wide, a.loose)


def _rounded(a: Number, places: int = 0) -> Number:
    return _tidy(call("arb_round", HUGE, a.raw, 10 ** (6 - places)), True) if a.wide else a


def _ordered(operation: Callable[[Any, Any], Any]) -> Callable[[Number, Number], Any]:
    def ordered(a: Number, b: Number) -> Any:
        one, other, _ = _together(a, b)
        return operation(one, other)

    return ordered


def _chosen(name: str) -> Callable[[Number, Number], Number]:
    def chosen(a: Number, b: Number) -> Number:
        one, other, wide = _together(a, b)
        return Number(_extreme(name, one, other), wide, a.loose or b.loose)

    return chosen


def _extreme(name: str, a: Any, b: Any) -> Any:
    # LEAST and GREATEST pass over NULL.
    found = ibis.least(a, b) if name == "min" else ibis.greatest(a, b)
    return ibis.ifelse(a.isnull() | b.isnull(), ibis.null(), found)


# Plain integers: instants and durations


def _duration(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: call("arb_bounded", WHOLE, operation(a, b))


def _instant(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def instant(a: Any, b: Any) -> Any:
        found = operation(a, b)
        return ibis.ifelse((found >= FIRST_INSTANT) & (found <= LAST_INSTANT), found, ibis.null())

    return instant


def _whole(operation: Callable[[Number, Number], Number]) -> Callable[[Cell, Cell], Any]:
    """A duration from an operation on numbers, to the microsecond."""

    def made(a: Cell, b: Cell) -> Any:
        found = operation(_numeric(a), _numeric(b))
        return call("arb_half_even", HUGE, found.raw, MILLION) if found.wide else found.raw

    return made


def _numeric(cell: Cell) -> Number:
    return cell if isinstance(cell, Number) else Number(cell)


# Money


def _same(operation: Callable[[Number, Number], Cell]) -> Callable[[Amount, Amount], Cell]:
    """`operation` on two amounts of one currency; two currencies are unknown."""

    def same(a: Amount, b: Amount) -> Cell:
        if a.single and b.single:
            found = operation(a.minor, b.minor)
            return found if a.currency == b.currency else choose(ibis.literal(False), found, None)
        return choose(_alike(a, b), operation(a.minor, b.minor), None)

    return same


def _alike(a: Amount, b: Amount) -> Any:
    one, other = (ibis.literal(each.currency) if each.single else each.currency for each in (a, b))
    return one == other


def _amounts(operation: Callable[[Number, Number], Number]) -> Callable[[Amount, Amount], Amount]:
    """`operation` on two amounts of one currency, giving money."""
    return lambda a, b: Amount(_same(operation)(a, b), a.currency)


def _of_minor(operation: Callable[..., Number]) -> Callable[..., Amount]:
    return lambda a, *more: Amount(operation(a.minor, *more), a.currency)


# Text


def _fold(text: Any) -> Any:
    capitals = "".join(map(chr, folding()))
    return call("arb_fold", "string", text, capitals, capitals.translate(folding()))


def _matches(text: Any, pattern: Pattern) -> Any:
    source = pattern.source
    if "\\p" in source or "\\P" in source:
        raise Refused("a pattern with classes of Unicode, whose tables differ between versions of RE2")
    if not source.isascii() and "(?" in source:
        raise Refused("a pattern with flags and letters beyond ASCII, whose cases differ between versions of RE2")
    return call("arb_found", TRUTH, text, source)


# Lists


def _member(x: Cell, items: Cell, element: str) -> Any:
    if isinstance(items, Items):
        return _member_of_column(x, items)
    if element == "number":
        return _any_of([_ordered(operator.eq)(x, number(item)) for item in items], is_null(x))
    return x.isin(list(items)) if items else ibis.ifelse(is_null(x), ibis.null(), False)


def _member_of_column(x: Cell, items: Items) -> Any:
    if not isinstance(x, Number):
        return call("arb_member", TRUTH, x, items.raw)
    return call("arb_member", TRUTH, call("arb_whole", HUGE, x.raw) if x.wide else x.raw, items.raw)


def _any_of(found: Sequence[Any], unknown: Any) -> Any:
    whether: Any = ibis.literal(False)
    for each in found:
        whether = whether | each
    return ibis.ifelse(unknown, ibis.null(), whether)


def _member_money(x: Amount, items: Sequence[Money]) -> Any:
    if isinstance(items, Items):
        raise Refused("a list of amounts")
    code = ibis.literal(x.currency) if x.single else x.currency
    found: Any = ibis.literal(False)
    for item in items:
        found = found | ((code == item.currency) & _ordered(operator.eq)(x.minor, number(item.minor)))
    foreign = code != items[0].currency if items else ibis.literal(False)
    unknown = is_null(x) | (~found & foreign)
    return ibis.ifelse(unknown, ibis.null(), found)


def _overlaps(items: Cell, others: Cell) -> Any:
    return call("arb_overlaps", TRUTH, _array(items), _array(others))


def _array(items: Cell) -> Any:
    if isinstance(items, Items):
        return items.raw
    if any(isinstance(each, str) for each in items):
        return ibis.array([ibis.literal(each) for each in items])
    # A list column holds whole numbers only, so that others cannot be shared.
    wholes = [number(each).raw for each in items if each == int(each)]
    return ibis.array(wholes) if wholes else ibis.literal([-(10**18)], type="array<int64>")


def _sum_of(items: Items) -> Number:
    return Number(call("arb_total", HUGE, items.raw, whole(LIMIT)))


def _extreme_of(macro: str) -> Callable[[Items], Cell]:
    def extreme(items: Items) -> Cell:
        found = call(macro, WHOLE, items.raw)
        return Number(found) if items.numbers else found

    return extreme


def _refuse(reason: str) -> Meaning:
    def refuse(*_: Cell) -> Cell:
        raise Refused(reason)

    return refuse


_LIST_OF_MONEY = _refuse("a list of amounts")
_LOOKUP = _refuse("a look into a kept list, whose entries come and go")
_RATE = _refuse("an exchange at the rate of the day")

_PLAIN = ("number", "instant", "duration")


def _typed(of_number: Meaning, of_plain: Meaning) -> Meaning:
    """One meaning for numbers, another for what is a plain column."""
    return lambda *args: (of_number if isinstance(args[0], Number) else of_plain)(*args)


def _comparison(name: str, operation: Callable[[Any, Any], Any]) -> dict[Key, Meaning]:
    return {
        (name, ("T", "T")): _typed(_ordered(operation), lambda a, b: operation(truth(a), truth(b))),
        (name, ("money", "money")): _same(_ordered(operation)),
    }


def _extremes(name: str) -> dict[Key, Meaning]:
    macro = "arb_least" if name == "min" else "arb_greatest"
    return {
        (name, ("T", "T")): _typed(_chosen(name), lambda a, b: _extreme(name, a, b)),
        (name, ("money", "money")): _amounts(_chosen(name)),
        (name, ("list[T]",)): _extreme_of(macro),
        (name, ("list[money]",)): _LIST_OF_MONEY,
    }


MEANINGS: Mapping[Key, Meaning] = {
    **_comparison("==", operator.eq),
    **_comparison("<", operator.lt),
    **_comparison("<=", operator.le),
    **_comparison(">", operator.gt),
    **_comparison(">=", operator.ge),
    ("+", ("number", "number")): _added(operator.add),
    ("+", ("money", "money")): _amounts(_added(operator.add)),
    ("+", ("duration", "duration")): _duration(operator.add),
    ("+", ("instant", "duration")): _instant(operator.add),
    ("-", ("number", "number")): _added(operator.sub),
    ("-", ("money", "money")): _amounts(_added(operator.sub)),
    ("-", ("duration", "duration")): _duration(operator.sub),
    ("-", ("instant", "instant")): _duration(operator.sub),
    ("-", ("instant", "duration")): _instant(operator.sub),
    ("-", ("T",)): _typed(_negated, operator.neg),
    ("-", ("money",)): _of_minor(_negated),
    ("*", ("number", "number")): _multiplied,
    ("*", ("money", "number")): _of_minor(_multiplied),
    ("*", ("number", "money")): lambda a, b: Amount(_multiplied(a, b.minor), b.currency),
    ("*", ("duration", "number")): _whole(_multiplied),
    ("*", ("number", "duration")): _whole(_multiplied),
    ("/", ("number", "number")): _divided,
    ("/", ("money", "number")): _of_minor(_divided),
    ("/", ("money", "money")): _same(_divided),
    ("/", ("duration", "number")): _whole(_divided),
    ("/", ("duration", "duration")): lambda a, b: _divided(_numeric(a), _numeric(b)),
    ("%", ("number", "number")): _remainder,
    ("in", ("money", "currency")): _RATE,
    ("starts with", ("text", "text")): lambda a, b: a.startswith(b),
    ("ends with", ("text", "text")): lambda a, b: a.endswith(b),
    ("contains", ("text", "text")): lambda a, b: a.contains(b),
    ("matches", ("text", "pattern")): _matches,
    ("lower", ("text",)): _fold,
    ("plain", ("text",)): _refuse("a text as it is read"),
    ("length", ("text",)): lambda a: Number(a.length()),
    ("valid_uscc", ("text",)): lambda a: call("arb_uscc", TRUTH, a),
    ("in", ("T", "list[T]")): _member,
    ("in", ("money", "list[money]")): _member_money,
    ("overlaps", ("list[T]", "list[T]")): _overlaps,
    ("in list", ("text", "name")): _LOOKUP,
    ("overlaps list", ("list[text]", "name")): _LOOKUP,
    ("phrases", ("text", "name")): _LOOKUP,
    ("size", ("list[T]",)): lambda items: Number(call("arb_size", WHOLE, items.raw)),
    ("sum", ("list[number]",)): _sum_of,
    ("sum", ("list[money]",)): _LIST_OF_MONEY,
    ("is missing", ("T",)): is_null,
    ("default", ("T", "T")): lambda a, b: choose(~is_null(a), a, b),
    ("abs", ("T",)): _typed(_absolute, lambda a: a.abs()),
    ("abs", ("money",)): _of_minor(_absolute),
    ("round", ("number",)): _rounded,
    ("round", ("number", "places")): _rounded,
    ("round", ("money",)): _of_minor(_rounded),
    **_extremes("min"),
    **_extremes("max"),
    ("hour", ("instant", "zone")): lambda at, zone: Number(calendar.hour(at, zone)),
    ("weekday", ("instant", "zone")): lambda at, zone: Number(calendar.weekday(at, zone)),
}
"""By row: what it means for columns."""


def meaning(name: str, takes: tuple[str, ...], args: Sequence[Cell], types: Sequence[Type]) -> Cell:
    """The cell that a row gives for these arguments. Raises Refused."""
    found = MEANINGS[name, takes]
    if found is _member:
        return _member(args[0], args[1], types[0].name)
    return found(*args)
