"""Conditions that differ from a given one in a single place: the mistakes that a good set of tests would notice.

Mutation testing (DeMillo, Lipton and Sayward 1978): a test is worth something if it fails once the rule is wrong. The
changes are those an officer makes by mistake: a limit that is off by one step or by far, `<` for `<=`, `and` for `or`,
a forgotten `not`, a question or a value of a list left out, a window of another length or with the wrong edge.

Changes are made on the typed tree, so every mutant is a valid condition of the same type. Those that could not differ
for a reason of the language (`count > 4` and `count >= 5`) are not made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from engine.expr import nodes
from engine.expr.check import LEAST_APPROXIMATE, MAX_WINDOW, expression
from engine.expr.functions import BY_NAME, tidy
from engine.expr.nodes import (
    BOOL,
    NUMBER,
    UNITS,
    And,
    Call,
    Expression,
    Feature,
    Field,
    Literal,
    Node,
    Not,
    Or,
    Step,
    Window,
    literal,
)
from engine.money import Money

Whole = Callable[[str], bool]
"""Whether the field at a path holds whole numbers only."""

MUTATIONS = {
    "threshold": "a limit shifted",
    "comparison": "a comparison flipped",
    "logic": "and and or exchanged",
    "negation": "a not dropped or put in",
    "dropped": "a question dropped",
    "listed": "a value of a list dropped",
    "window": "a window longer or shorter",
    "this": "this event counted or not",
}
"""Every kind of change, in words."""

_EDGES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_COUNTED = frozenset({"count", "distinct", "streak", "group_size", "group_links"})
_SECOND = UNITS["s"]
_SMALLER = (UNITS["d"], UNITS["h"], UNITS["m"], UNITS["s"])
_PERCENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A condition with one change. `old` is the part that was changed, `new` what stands in its place."""

    kind: str
    old: Node
    new: Node
    condition: Expression

    @property
    def change(self) -> str:
        """The change as it reads, such as 'amount > 5000 CNY -> amount >= 5000 CNY'."""
        if self.kind == "dropped" and isinstance(self.old, And | Or):
            left = self.new.items if type(self.new) is type(self.old) else (self.new,)
            pairs = zip(self.old.items, (*left, None), strict=True)
            return "without: " + next(item.text for item, still in pairs if item != still)
        return f"{self.old.text} -> {self.new.text}"


def mutants(condition: Expression, kinds: Collection[str], whole: Whole) -> tuple[Mutant, ...]:
    """Every mutant of a condition over events of `kinds`, each once, in the order of the condition."""
    changes = [*_changes(condition.tree, whole)]
    for window in condition.windows:
        old = Feature(window.type, window.name, window=window)
        for kind, other in _windows(window, kinds, whole):
            new = Feature(other.type, other.name, window=other)
            changes.append(_Change(kind, old, new, _replaced(condition.tree, window, new)))
    found: dict[str, Mutant] = {}
    for change in changes:
        text = change.whole.text
        if change.whole.type == condition.type and text != condition.text and text not in found:
            found[text] = Mutant(change.kind, change.old, change.new, expression(change.whole))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Change:
    """One change: of `old` to `new`, which makes the tree `whole`."""

    kind: str
    old: Node
    new: Node
    whole: Node

    def within(self, around: Node, place: int) -> _Change:
        """The same change seen from the node around it, told as one of the smallest question that holds it."""
        whole = _with_child(around, place, self.whole)
        told = self.old.type != BOOL or (isinstance(around, Not) and not isinstance(around.item, And | Or))
        return replace(self, old=around, new=whole, whole=whole) if told else replace(self, whole=whole)


def _changes(node: Node, whole: Whole, *, negated: bool = False) -> Iterator[_Change]:
    """Every change of a node and of what is in it; with `negated` it is not turned round itself: a `not` stands before
    it already, or it is what a question asks about."""
    for kind, new in _own(node, whole, negated):
        yield _Change(kind, node, new, new)
    for place, child in enumerate(node.children):
        if isinstance(child, Literal):
            continue  # changed by the call around it
        for change in _changes(child, whole, negated=isinstance(node, Not | Call)):
            yield change.within(node, place)


def _own(node: Node, whole: Whole, negated: bool) -> Iterator[tuple[str, Node]]:
    """What a node itself becomes."""
    match node:
        case And() | Or():
            other = nodes.either if isinstance(node, And) else nodes.both
            yield "logic", other(node.items)
            for place in range(len(node.items)):
                yield "dropped", _without(node, place)
        case Not():
            yield _negated_kind(node.item), node.item
        case Call():
            yield from _call(node, whole, negated)
        case Field() | Feature() if node.type == BOOL and not negated:
            yield "negation", nodes.negate(node)


def _negated_kind(node: Node) -> str:
    return "comparison" if isinstance(node, Call) and node.row.name == "==" else "negation"


def _without(node: And | Or, place: int) -> Node:
    left = (*node.items[:place], *node.items[place + 1 :])
    if len(left) == 1:
        return left[0]
    return nodes.both(left) if isinstance(node, And) else nodes.either(left)


def _call(node: Call, whole: Whole, negated: bool) -> Iterator[tuple[str, Node]]:
    name = node.row.name
    counted = all(_is_whole(arg, whole) for arg in node.args)
    if name in _EDGES and not counted:  # over whole numbers that is the next limit
        row = next(row for row in BY_NAME[_EDGES[name], 2] if row.args == node.row.args)
        yield "comparison", nodes.call(row, node.args, BOOL)
    if node.type == BOOL and name not in _EDGES and not negated:
        yield _negated_kind(node), nodes.negate(node)
    for place, arg in enumerate(node.args):
        if isinstance(arg, Literal):
            for kind, value in _values(arg):
                yield kind, _with_child(node, place, literal(value, arg.type))


def _values(given: Literal) -> Iterator[tuple[str, Any]]:
    """What may stand in the place of a written value."""
    if given.type.element is not None:
        if len(given.value) > 1:
            for place in range(len(given.value)):
                yield "listed", (*given.value[:place], *given.value[place + 1 :])
        return
    shifts: dict[str, Callable[[Any], Iterator[Any]]] = {
        "number": _numbers,
        "money": lambda money: (Money(minor, money.currency) for minor in _numbers(money.minor)),
        "duration": lambda value: _shifted(value, _SECOND, whole=_SECOND),
        "instant": lambda value: iter((value - _SECOND, value + _SECOND, value - UNITS["d"], value + UNITS["d"])),
    }
    if given.type.name in shifts:
        for value in shifts[given.type.name](given.value):
            yield "threshold", value


def _numbers(value: int | Decimal) -> Iterator[int | Decimal]:
    """A number one step off, and far off: a step is 1, of what has decimals 0.01."""
    if isinstance(value, int):
        yield from _shifted(value, 1, whole=1)
        return
    for other in (value - _PERCENT, value + _PERCENT, value / 2, value * 2):
        found = tidy(other)
        if found is not None:
            yield found


def _shifted(value: int, step: int, *, whole: int) -> Iterator[int]:
    """One step less and more, then half and double, in multiples of `whole`."""
    half = value // 2 // whole * whole
    far = [other for other in (half, value * 2) if other not in (value, 0)]
    yield from dict.fromkeys((value - step, value + step, *far))


def _is_whole(node: Node, whole: Whole) -> bool:
    """Whether a number is always whole."""
    match node:
        case Literal():
            return type(node.value) is int and node.type == NUMBER
        case Field():
            return whole(node.path)
        case Feature():
            return node.window.function in _COUNTED
        case Call():
            if node.row.name in ("size", "length", "hour", "weekday"):
                return True
            return node.row.name in ("+", "-", "*", "min", "max", "abs", "default") and all(
                _is_whole(arg, whole) for arg in node.args
            )
    return False


# ---------------------------------------------------------------------------------------------- windows


def _windows(window: Window, kinds: Collection[str], whole: Whole) -> Iterator[tuple[str, Window]]:
    """What a window becomes. A question about links alone has nothing of its own to change."""
    if not window.kinds:
        return
    for length in _lengths(window.length, approximately=window.approximately):
        if 0 < length <= MAX_WINDOW and length > window.gap:
            yield "window", rebuilt(window, length=length)
    if window.steps:
        yield from _patterns(window, whole)
        return
    if set(kinds) & set(window.kinds):
        yield "this", rebuilt(window, including_this=not window.including_this)
    for kind, where in _tests(window.where, whole):
        yield kind, rebuilt(window, where=where)
    if window.argument is not None:
        for change in _changes(window.argument.tree, whole):
            yield change.kind, rebuilt(window, argument=expression(change.whole))
    for _, share in _values(literal(window.parameter, NUMBER)) if window.parameter is not None else ():
        if 0 < share < 1:
            yield "threshold", rebuilt(window, parameter=share)


def _lengths(length: int, *, approximately: bool = False) -> Iterator[int]:
    """A unit shorter and longer, half and double. An approximate window does not know its edge so well."""
    if approximately:
        yield from (other for other in (length // 2, length * 2) if other >= LEAST_APPROXIMATE)
        return
    unit = next(size for size in (*_SMALLER, 1) if length % size == 0 and length > size)
    yield from dict.fromkeys((length - unit, length + unit, length // 2, length * 2))


def _tests(where: Expression | None, whole: Whole) -> Iterator[tuple[str, Expression | None]]:
    """What the condition of a window becomes; None when it is dropped."""
    if where is None:
        return
    if not isinstance(where.tree, And | Or):
        yield "dropped", None
    for change in _changes(where.tree, whole):
        yield change.kind, expression(change.whole)


def _patterns(window: Window, whole: Whole) -> Iterator[tuple[str, Window]]:
    for gap in _lengths(window.gap) if window.gap else ():
        if 0 < gap <= window.length:
            yield "window", rebuilt(window, gap=gap)
    for place, step in enumerate(window.steps):
        for kind, where in _tests(step.where, whole):
            steps = (*window.steps[:place], Step(step.kinds, where), *window.steps[place + 1 :])
            yield kind, rebuilt(window, steps=steps)


def rebuilt(window: Window, **changed: Any) -> Window:
    """The window with some parts changed, and the name that it then has."""
    given = replace(window, **changed)
    if given.steps:
        return nodes.pattern_window(given.function, given.steps, given.by, given.length, given.gap)
    return nodes.window(
        *(given.function.replace("_", " "), given.kinds, given.argument, given.parameter, given.length, given.by),
        *(given.where, given.including_this, given.groups, given.approximately),
    )


# ---------------------------------------------------------------------------------------------- trees


def _with_child(node: Node, place: int, child: Node) -> Node:
    children = (*node.children[:place], child, *node.children[place + 1 :])
    return nodes.over(node, children)


def _replaced(node: Node, window: Window, new: Feature) -> Node:
    """The tree with `new` wherever it reads the window."""
    if isinstance(node, Feature):
        return new if node.window == window else node
    if not node.children:
        return node
    return nodes.over(node, tuple(_replaced(child, window, new) for child in node.children))
