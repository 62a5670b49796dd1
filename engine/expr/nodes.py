"""The typed tree of a condition: frozen nodes, each with its canonical text.

Two nodes are equal when their canonical texts are equal. The text is fully resolved (let names are replaced by what
they stand for, zones and kinds are written out), so it is also what the ledger and the explanation show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from engine.money import Money

if TYPE_CHECKING:
    from engine.expr.functions import Row

MAX_SIZE = 400
"""Most nodes in one condition, with every let name replaced by what it stands for."""
MAX_DEPTH = 60
"""Deepest nesting of one condition; every walk over a tree recurses at most this far."""

# How tightly a text binds, loosest first: a child that binds looser than its place asks for stands in parentheses.
OR, AND, NOT, COMPARE, SUM, PRODUCT, SIGN, POSTFIX, ATOM = range(1, 10)


@dataclass(frozen=True, slots=True)
class Type:
    """What kind of value an expression gives: `name` is as in the schema ("money", "list[text]")."""

    name: str

    @property
    def element(self) -> Type | None:
        """The type of a list's elements; None for what is no list."""
        return Type(self.name[5:-1]) if self.name.startswith("list[") else None

    def __str__(self) -> str:
        words = {"bool": "yes/no", "list[bool]": "a list of yes/no"}
        return words.get(self.name) or (f"a list of {self.element}" if self.element else self.name)


BOOL, NUMBER, MONEY = Type("bool"), Type("number"), Type("money")
TEXT, INSTANT, DURATION = Type("text"), Type("instant"), Type("duration")


def list_of(element: Type) -> Type:
    """The type of a list of `element`."""
    return Type(f"list[{element.name}]")


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One part of a condition. `level` says how tightly its text binds; `size` and `depth` count nodes."""

    type: Type
    text: str
    level: int = ATOM
    size: int = 1
    depth: int = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def key(self) -> str:
        """What two nodes have in common that mean the same in conditions about the same event."""
        return self.text

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes that this one is made of."""
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Node):
    """A value written in the condition; a list of values is a tuple."""

    value: Any = None

    @property
    def key(self) -> str:
        """With its type: a list's name and a field, or a pattern and a text, may be spelled alike."""
        return f"{self.type.name} {self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class Field(Node):
    """The value of an event at a path; missing is unknown."""

    path: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Now(Node):
    """The time the event was received."""


@dataclass(frozen=True, slots=True, eq=False)
class Feature(Node):
    """What a window holds at this event."""

    window: Window = None  # type: ignore[assignment]  # always given; dataclass order needs a default


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    """An operator or function, one row of engine.expr.functions, with its arguments."""

    row: Row = None  # type: ignore[assignment]  # always given; dataclass order needs a default
    args: tuple[Node, ...] = ()

    @property
    def children(self) -> tuple[Node, ...]:
        return self.args


@dataclass(frozen=True, slots=True, eq=False)
class Not(Node):
    """The opposite of `item`; unknown stays unknown."""

    item: Node = None  # type: ignore[assignment]  # always given; dataclass order needs a default

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.item,)


@dataclass(frozen=True, slots=True, eq=False)
class And(Node):
    """True when all `items` are; false when one is; otherwise unknown."""

    items: tuple[Node, ...] = ()

    @property
    def children(self) -> tuple[Node, ...]:
        return self.items


@dataclass(frozen=True, slots=True, eq=False)
class Or(Node):
    """True when one of `items` is; false when all are; otherwise unknown."""

    items: tuple[Node, ...] = ()

    @property
    def children(self) -> tuple[Node, ...]:
        return self.items


@dataclass(frozen=True)
class Expression:
    """A condition or value, read and checked. `text` is canonical: reading it again gives an equal expression."""

    source: str = field(compare=False, repr=False)
    type: Type
    tree: Node
    paths: frozenset[str]
    windows: tuple[Window, ...]
    lists: frozenset[str]
    text: str

    @property
    def meaning(self) -> str:
        """The canonical text, and what the groups in it are, which is said elsewhere."""
        links = dict.fromkeys(group.links.text for window in self.windows for group in window.groups)
        return "; ".join([self.text, *(f"links: {each}" for each in links)])


@dataclass(frozen=True, slots=True)
class Step:
    """What one event of a pattern is: of which kinds, and what must be true of it."""

    kinds: tuple[str, ...]
    where: Expression | None

    @property
    def text(self) -> str:
        """The canonical text, such as 'account where account.action == "login"'."""
        return ", ".join(self.kinds) + (f" where {self.where.text}" if self.where else "")


@dataclass(frozen=True, slots=True)
class Share:
    """What events of some kinds say of an account: the identifiers at these paths are its own."""

    kinds: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Party:
    """Accounts of one sort: the path that names one, what each shares, and in which `space` their names are one.

    Two paths of one namespace (a buyer's and a referrer's account) are one space: the same name is the same account.
    """

    account: str
    space: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """What joins accounts. A link lasts `within` microseconds after the last event that shows it; an identifier of more
    than `hub` accounts joins none; a search goes at most `steps` identifiers far (0: no limit) and gives up beyond
    `accounts`.
    """

    parties: tuple[Party, ...]
    within: int
    hub: int
    accounts: int
    steps: int

    @property
    def text(self) -> str:
        """The canonical text: two that differ in any way differ in it."""
        told = [
            f"{party.account} of {', '.join(share.kinds)} by {', '.join(share.by)}"
            for party in self.parties
            for share in party.shares
        ]
        limits = f"hub {self.hub}, accounts {self.accounts}, steps {self.steps}"
        return f"{'; '.join(told)} within {spell_duration(self.within)}, {limits}"


@dataclass(frozen=True, slots=True)
class Group:
    """A name of conditions: the accounts that are linked with the one at `account`."""

    name: str
    account: str
    space: str
    links: Links


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What is counted over past events with the same key; two windows are equal when their names and groups are.

    `parameter` is the share of a quantile; `length` is in microseconds; `by` are the paths that make the key; `name` is
    the canonical text. A pattern has `steps` instead of an argument; `gap` is how long an absence lasts.

    Of `groups` the first stands for the account among `by`: events of all its accounts count. A question about links
    alone (`group_size`, `group_links`, `linked`) has no kinds; `parameter` is then how many steps `linked` goes.

    `approximately` takes bounded room for each key, and answers within errors that are stated.
    """

    function: str
    kinds: tuple[str, ...]
    argument: Expression | None
    parameter: int | Decimal | None
    length: int
    by: tuple[str, ...]
    where: Expression | None
    including_this: bool
    name: str
    type: Type
    steps: tuple[Step, ...] = ()
    gap: int = 0
    groups: tuple[Group, ...] = ()
    approximately: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and self.name == other.name and self.groups == other.groups

    def __hash__(self) -> int:
        return hash(self.name)


class Found(Protocol):
    """A phrase of a list in a text, from the character at `start` to the one before `end`. `phrase` is None where no
    record may hold it."""

    @property
    def phrase(self) -> str | None: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


@runtime_checkable
class Finds(Protocol):
    """A list that also says where its phrases stand in a text; None when it cannot say."""

    def __call__(self, value: Any) -> bool | None: ...
    def hits(self, value: str) -> Sequence[Found] | None: ...


@dataclass(frozen=True, slots=True)
class Env:
    """What a condition may see beside the event: both times (UTC microseconds), the lists and the rates.

    A list says whether it holds a value (None when it cannot say); one of phrases with disguises `Finds` them, too.
    `convert(money, currency, received_at)` gives the amount at that day's rate, None without a rate.
    """

    at: int
    received_at: int
    lists: Mapping[str, Callable[[Any], bool | None]]
    convert: Callable[[Money, str, int], Money | None]


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything in it, outermost first, left to right."""
    yield node
    for child in node.children:
        yield from walk(child)


def plainly(node: Node) -> frozenset[str]:
    """The paths whose values may be in what the node gives: all but those that phrases() looks at, which gives what a
    list says."""
    if isinstance(node, Field):
        return frozenset((node.path,))
    if isinstance(node, Call) and node.row.name == "phrases":
        return frozenset()
    return frozenset().union(*map(plainly, node.children))


def within(node: Node, level: int) -> str:
    """The text of `node` for a place that asks for `level`: in parentheses when it binds looser."""
    return node.text if node.level >= level else f"({node.text})"


def measure(nodes: tuple[Node, ...]) -> tuple[int, int]:
    """Size and depth of a node over `nodes`."""
    return 1 + sum(node.size for node in nodes), 1 + max((node.depth for node in nodes), default=0)


def literal(value: Any, type_: Type) -> Literal:
    """A literal node. Money of whole minor units, numbers, text, bool, instants, durations, and tuples of them."""
    element = type_.element
    if element is not None:
        return Literal(type_, "[" + ", ".join(spell(item, element) for item in value) + "]", value=value)
    text = spell(value, type_)
    return Literal(type_, text, SIGN if text.startswith("-") else ATOM, value=value)


def spell(value: Any, type_: Type) -> str:
    """`value` as the language writes it."""
    return _SPELLINGS[type_.name](value)


def spell_number(value: int | Decimal) -> str:
    """A number in plain digits: no exponent, no trailing zeros."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _spell_money(value: Money) -> str:
    return f"{spell_number(Decimal(value.amount))} {value.currency}"


def _spell_text(value: Any) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def spell_duration(value: int) -> str:
    """A duration in its largest whole unit: 90 minutes are '90m', 24 hours are '1d'."""
    for unit, length in reversed(UNITS.items()):
        if value and value % length == 0:
            return f"{value // length}{unit}"
    return "0s" if not value else f"{spell_number(Decimal(value).scaleb(-6))}s"


def _spell_instant(value: int) -> str:
    return (EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
"""Units of duration in microseconds, shortest first. A day here is 24 hours, in any zone."""

_SPELLINGS: dict[str, Callable[[Any], str]] = {
    "bool": lambda value: "true" if value else "false",
    "number": spell_number,
    "money": _spell_money,
    "text": _spell_text,
    "instant": _spell_instant,
    "duration": spell_duration,
}
_NEGATED = {"==": "!=", "in": "not in", "in list": "not in list", "is missing": "is present"}
_NEGATED |= {name: f"not {name}" for name in ("starts with", "ends with", "contains", "matches", "overlaps")}
_NEGATED |= {"overlaps list": "not overlaps list"}
_SUMS, _PRODUCTS = {"+", "-"}, {"*", "/", "%"}


def call(row: Row, args: tuple[Node, ...], type_: Type) -> Call:
    """A call node with its canonical text."""
    size, depth = measure(args)
    text, level = _call_text(row.name, row.form, args)
    return Call(type_, text, level, size, depth, row=row, args=args)


def _call_text(name: str, form: str, args: tuple[Node, ...]) -> tuple[str, int]:
    if form == "call":
        return f"{name}({', '.join(arg.text for arg in args)})", ATOM
    if form == "sign":
        return f"-{within(args[0], POSTFIX)}", SIGN
    if form == "convert":
        return f"{within(args[0], ATOM)} in {_bare(args[1])}", POSTFIX
    if form == "postfix":
        return f"{within(args[0], SUM)} {name}", COMPARE
    if form == "list":
        return f"{within(args[0], SUM)} {name} {_bare(args[1])}", COMPARE
    place = SUM if name in _SUMS else PRODUCT if name in _PRODUCTS else COMPARE
    # Operators group to the left: a right side of the same level needs its parentheses.
    left = within(args[0], place if place != COMPARE else SUM)
    return f"{left} {name} {within(args[1], place + 1)}", place


def _bare(node: Node) -> str:
    assert isinstance(node, Literal)
    return str(node.value)


def negate(item: Node) -> Node:
    """The opposite of `item`: `not not x` is x, and `not (a == b)` reads `a != b`."""
    if isinstance(item, Not):
        return item.item
    size, depth = measure((item,))
    if isinstance(item, Call) and item.row.name in _NEGATED:
        row = item.row
        text, level = _call_text(_NEGATED[row.name], row.form, item.args)
        return Not(BOOL, text, level, size, depth, item=item)
    return Not(BOOL, f"not {within(item, NOT)}", NOT, size, depth, item=item)


def both(items: tuple[Node, ...]) -> Node:
    """`and` over `items`; nested ones are flattened."""
    flat = tuple(part for item in items for part in (item.items if isinstance(item, And) else (item,)))
    size, depth = measure(flat)
    return And(BOOL, " and ".join(within(item, NOT) for item in flat), AND, size, depth, items=flat)


def either(items: tuple[Node, ...]) -> Node:
    """`or` over `items`; nested ones are flattened."""
    flat = tuple(part for item in items for part in (item.items if isinstance(item, Or) else (item,)))
    size, depth = measure(flat)
    return Or(BOOL, " or ".join(within(item, AND) for item in flat), OR, size, depth, items=flat)


def over(node: Node, children: tuple[Node, ...]) -> Node:
    """A node of the same kind over other children."""
    match node:
        case And():
            return both(children)
        case Or():
            return either(children)
        case Not():
            return negate(children[0])
        case Call():
            return call(node.row, children, node.type)
    raise AssertionError(f"{type(node).__name__} has no children")


def replaced(node: Node, old: Node, new: Node) -> Node:
    """The tree with `new` wherever it has `old`. What windows look at stays."""
    if node == old:
        return new
    if not node.children:
        return node
    return over(node, tuple(replaced(child, old, new) for child in node.children))


def window(
    function: str,
    kinds: tuple[str, ...],
    argument: Expression | None,
    parameter: int | Decimal | None,
    length: int,
    by: tuple[str, ...],
    where: Expression | None,
    including: bool,
    groups: tuple[Group, ...] = (),
    approximately: bool = False,
) -> Window:
    """A window with its canonical name. `function` is the word of the language, such as 'first seen'."""
    share = "" if parameter is None else f", {spell_number(parameter)}"
    what = f"{argument.text}{share} of {', '.join(kinds)}" if argument else ", ".join(kinds)
    test = f" where {where.text}" if where else ""
    this = ", including this" if including else ""
    grouped = {group.account: group.name for group in groups}
    keys = ", ".join(grouped.get(path, path) for path in by)
    rough = ", approximately" if approximately else ""
    name = f"{function}({what} last {spell_duration(length)} by {keys}{test}{this}{rough})"
    numbers = dict.fromkeys(("count", "distinct", "percentile", "share", "streak"), NUMBER)
    result = {**numbers, "first seen": INSTANT, "last seen": INSTANT}.get(function)
    if result is None:
        assert argument is not None
        result = argument.type
    named = function.replace(" ", "_")
    return Window(
        *(named, kinds, argument, parameter, length, by, where, including, name, result),
        groups=groups,
        approximately=approximately,
    )


def pattern_window(function: str, steps: tuple[Step, ...], by: tuple[str, ...], length: int, gap: int) -> Window:
    """The window that follows a pattern (`sequence` or `absence`), with its canonical name."""
    kinds = tuple(sorted({kind for step in steps for kind in step.kinds}))
    told = "; ".join(step.text for step in steps)
    lasting = f" for {spell_duration(gap)}" if gap else ""
    name = f"{function}({told}{lasting} last {spell_duration(length)} by {', '.join(by)})"
    return Window(function, kinds, None, None, length, by, None, False, name, BOOL, steps=steps, gap=gap)
