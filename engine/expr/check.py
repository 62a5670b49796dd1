"""Raw tree → typed tree: names and types against a vocabulary, every problem of one condition at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engine.errors import PackError, did_you_mean, with_article
from engine.expr import nodes
from engine.expr.functions import BY_NAME, FIRST_INSTANT, FUNCTIONS, LAST_INSTANT, Number, Pattern, Row, zone
from engine.expr.hints import ask, meant, mismatch, pattern_hint
from engine.expr.nodes import (
    BOOL,
    DURATION,
    EPOCH,
    INSTANT,
    MAX_DEPTH,
    MAX_SIZE,
    MONEY,
    NUMBER,
    TEXT,
    UNITS,
    Call,
    Expression,
    Feature,
    Field,
    Group,
    Literal,
    Node,
    Now,
    Type,
    Window,
    list_of,
    literal,
)
from engine.expr.syntax import RESERVED, Raw, Report, parse, unquote
from engine.money import CURRENCIES, Money

if TYPE_CHECKING:
    from engine.schema import FieldDef

MAX_TEXT = 20_000
"""Longest canonical text of a condition, in characters."""
MAX_ATOMS = 64
"""Most yes/no questions in one condition."""
MAX_WINDOWS = 16
MAX_WINDOW = 400 * UNITS["d"]
INHERITS = "outcome"
"""The kind whose events inherit the values of the event they refer to, so windows over it may name any field."""

_MEASURED = ("sum", "avg", "min", "max", "stddev", "median", "quantile", "percentile")
_JUDGED = ("share", "streak")
WINDOW_FUNCTIONS = ("count", *_MEASURED, *_JUDGED, "distinct", "first seen", "last seen")
GROUP_FUNCTIONS = ("group_size", "group_links", "linked")
ONE_BY_ONE = ("median", "quantile", "percentile", "streak")
"""What cannot be put together from the answers for single accounts."""
IN_ORDER = ("streak", "first seen", "last seen")
"""What cannot be approximate: it is about single events, of which nothing is kept."""
LEAST_APPROXIMATE = UNITS["d"]
"""Shortest approximate window."""
LINKED_STEPS, MAX_STEPS = 2, 5
"""How many shared identifiers lie between two accounts that are `linked`, at most: usually, and ever."""
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Vocabulary:
    """What a condition may name: fields of the event kinds it is for, kinds for windows, let names, lists, groups, the
    zone.

    `lists` maps a list's name to its matching ("exact", "cidr" …); None leaves list names unchecked. A name in `unread`
    has a problem where it is declared: nothing more is said of it where it is used.
    """

    fields: Mapping[str, FieldDef]
    kinds: Mapping[str, Mapping[str, FieldDef]] = field(default_factory=lambda: _NONE)
    kind: tuple[str, ...] = ()
    names: Mapping[str, Expression] = field(default_factory=lambda: _NONE)
    lists: Mapping[str, str] | None = None
    groups: Mapping[str, Group] = field(default_factory=lambda: _NONE)
    unread: frozenset[str] = frozenset()
    zone: str = "Asia/Shanghai"


def read(source: str, vocabulary: Vocabulary, expect: Type | None = None) -> Expression:
    """The expression that `source` writes, of type `expect` when given.

    Raises PackError with every problem found, each at its place in the source; with none where it only uses a name that
    is `unread`.
    """
    report = Report(source)
    raw = parse(source, report)
    tree = Checker(vocabulary, report).read(raw)
    if tree is None:
        raise PackError(report.problems)
    if expect is not None and tree.type != expect:
        hint = "compare it with something" if expect == BOOL else ""
        report.add(raw.start, raw.end, f"this must be {expect}, it is {tree.type}", hint)
    _limit(tree, raw, report)
    report.stop()
    return expression(tree, source)


def expression(tree: Node, source: str = "") -> Expression:
    """The expression of a checked tree."""
    parts = list(nodes.walk(tree))
    windows = tuple(dict.fromkeys(part.window for part in parts if isinstance(part, Feature)))
    paths = frozenset(part.path for part in parts if isinstance(part, Field))
    return Expression(source or tree.text, tree.type, tree, paths, windows, lists_in(parts), tree.text)


def lists_in(parts: Iterable[Node]) -> frozenset[str]:
    """The lists that some nodes of a tree ask."""
    asked = (part for part in parts if isinstance(part, Call) and "name" in part.row.args)
    return frozenset(part.args[1].text.strip('"') for part in asked)


def _limit(tree: Node, raw: Raw, report: Report) -> None:
    atoms = len(set(atoms_in(tree)))
    if atoms > MAX_ATOMS:
        report.add(raw.start, raw.end, f"a condition asks at most {MAX_ATOMS} questions, this one {atoms}", "split it")
    windows = sum(1 for part in dict.fromkeys(nodes.walk(tree)) if isinstance(part, Feature))
    if windows > MAX_WINDOWS:
        report.add(raw.start, raw.end, f"a condition has at most {MAX_WINDOWS} windows, this one {windows}", "split it")


def atoms_in(tree: Node) -> Iterable[Node]:
    """The yes/no questions that `and`, `or` and `not` combine in a condition, left to right."""
    if isinstance(tree, nodes.And | nodes.Or | nodes.Not):
        for child in tree.children:
            yield from atoms_in(child)
    else:
        yield tree


class Refused(Exception):
    """A part of the tree that cannot be typed; its problem is in the report, or told where an unread name stands."""


class Checker:
    def __init__(self, vocabulary: Vocabulary, report: Report, window: str = "") -> None:
        self.words = vocabulary
        self.report = report
        self.window = window  # "where" or "argument" inside a window, else empty

    def read(self, raw: Raw) -> Node | None:
        """The typed tree, or None when there is a problem."""
        try:
            tree = self.node(raw)
        except Refused:
            return None
        return tree

    def refuse(self, raw: Raw, what: str, hint: str = "") -> Refused:
        self.report.add(raw.start, raw.end, what, hint)
        return Refused()

    def node(self, raw: Raw) -> Node:
        made = _MEANINGS[raw.kind](self, raw)
        if made.size > MAX_SIZE or made.depth > MAX_DEPTH or len(made.text) > MAX_TEXT:
            raise self.refuse(raw, "this is too large once its let names are filled in", "split it into several rules")
        return made

    def all(self, raws: Sequence[Raw]) -> tuple[Node, ...]:
        """The nodes of `raws`; problems of all of them are reported before giving up."""
        found = [self.read(raw) for raw in raws]
        made = tuple(node for node in found if node is not None)
        if len(made) < len(found):
            raise Refused
        return made

    # ------------------------------------------------------------------------------------------ values

    def literal(self, raw: Raw) -> Node:
        return _LITERALS[raw.kind](raw.word)

    def money(self, raw: Raw) -> Node:
        amount, currency = raw.word[:-3].strip(), raw.word[-3:]
        try:
            return literal(Money.of(amount, currency), MONEY)
        except ValueError as error:
            raise self.refuse(raw, f"{raw.word} is no amount: {error}") from None

    def instant(self, raw: Raw) -> Node:
        word = raw.word
        if "T" not in word:
            word += "T00:00:00"
        try:
            moment = datetime.fromisoformat(word)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone(self.words.zone))
        except ValueError:
            hint = "such as 2026-11-20 or 2026-11-20T08:30Z"
            raise self.refuse(raw, f"{raw.word} is no date or time", hint) from None
        since = moment - EPOCH
        value = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        if not FIRST_INSTANT <= value <= LAST_INSTANT:
            raise self.refuse(raw, f"{raw.word} lies outside the calendar", "the years 1 to 9999")
        return literal(value, INSTANT)

    def values(self, raw: Raw) -> Node:
        items = self.all(raw.parts)
        for part, item in zip(raw.parts, items, strict=True):
            if not isinstance(item, Literal) or item.type.element:
                raise self.refuse(part, 'a list in [ ] holds only written values, such as "a" or 5 CNY')
            if item.type != items[0].type:
                raise self.refuse(part, f"a list holds values of one type, not {items[0].type} and {item.type}")
            if item.type == MONEY and _currency(item) != _currency(items[0]):
                raise self.refuse(part, "a list holds amounts of one currency")
        unique = dict.fromkeys(item.value for item in items if isinstance(item, Literal))
        return literal(tuple(unique), list_of(items[0].type))

    def path(self, raw: Raw) -> Node:
        path = raw.word
        if path in ("true", "false"):
            return literal(path == "true", BOOL)
        if path == "now":
            return self.now(raw)
        if path in self.words.names:
            return self.named(raw, self.words.names[path])
        if path in self.words.fields:
            self.private(raw, path)
            return _field(self.words.fields[path])
        if path in self.words.groups:
            hint = f"write group_size({path}), or count(… last 30d by {path})"
            raise self.refuse(raw, f"'{path}' is a group of accounts, not a value", hint)
        raise self.unknown(raw)

    def now(self, raw: Raw) -> Node:
        if self.window:
            raise self.refuse(
                raw, "a window cannot ask for 'now'", "it must give the same when it is rebuilt; use 'at'"
            )
        return Now(INSTANT, "now")

    def named(self, raw: Raw, known: Expression) -> Node:
        if self.window:
            if known.windows or known.lists or any(isinstance(part, Now) for part in nodes.walk(known.tree)):
                raise self.refuse(
                    raw, f"'{raw.word}' cannot be used inside a window", "it holds a window, a list or 'now'"
                )
            for path in sorted(known.paths):
                if path not in self.words.fields:
                    raise self.refuse(raw, f"'{raw.word}' uses {path}, which the events of this window do not have")
                self.private(raw, path)
        return known.tree

    def private(self, raw: Raw, path: str) -> None:
        """Refuse a field that the ledger does not keep: a window must be rebuildable from what it keeps."""
        definition = self.words.fields[path]
        if not self.window or definition.privacy == "public":
            return
        if self.window == "distinct" and definition.entity and raw.word == path:
            return
        raise self.refuse(
            raw,
            f"a window cannot read {path}: it is personal and not kept",
            "windows see public fields; personal ones that identify someone may stand after 'by' and in distinct()",
        )

    def unknown(self, raw: Raw) -> Refused:
        path = raw.word
        if path in self.words.unread:
            return Refused()
        if path in RESERVED:
            return self.refuse(raw, f"'{path}' is a word of the language; a value is missing here")
        if path in FUNCTIONS or path in WINDOW_FUNCTIONS or path in GROUP_FUNCTIONS:
            return self.refuse(raw, f"'{path}' is a function", f"write {path}(…)")
        known = [*self.words.fields, *self.words.names, *self.words.groups, "now"]
        hint = did_you_mean(path, known)
        if not hint:
            ends = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
            hint = f"did you mean '{ends[0]}'?" if len(ends) == 1 else ""
        return self.refuse(raw, f"unknown name '{path[:80]}'", hint)

    # ------------------------------------------------------------------------------------------ operators

    def logic(self, raw: Raw) -> Node:
        items = self.all(raw.parts)
        for part, item in zip(raw.parts, items, strict=True):
            self.yes_or_no(part, item, raw.word)
        return nodes.both(items) if raw.kind == "and" else nodes.either(items)

    def opposite(self, raw: Raw) -> Node:
        item = self.node(raw.parts[0])
        self.yes_or_no(raw.parts[0], item, "not")
        return nodes.negate(item)

    def yes_or_no(self, raw: Raw, item: Node, word: str) -> None:
        if item.type != BOOL:
            raise self.refuse(raw, f"'{word}' takes yes/no conditions, this is {item.type}", ask(item.type))

    def chain(self, raw: Raw) -> Node:
        operands = raw.parts[::2]
        values = self.all(operands)
        links = []
        for position, token in enumerate(raw.parts[1::2]):
            left, right = values[position], values[position + 1]
            span = replace(raw, start=operands[position].start, end=operands[position + 1].end)
            if token in ("==", "!="):
                self.can_be(left, operands[position + 1], right)
                self.can_be(right, operands[position], left)
            links.append(self.compared(str(token), span, left, right))
        return links[0] if len(links) == 1 else nodes.both(tuple(links))

    def compared(self, word: str, raw: Raw, left: Node, right: Node) -> Node:
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right, word = right, left, _MIRRORED[word]
        if left.type == right.type == MONEY:
            self.one_currency(raw, left, right)
        if word == "!=":
            return nodes.negate(self.equal(raw, left, right, word))
        return self.equal(raw, left, right, word) if word == "==" else self.apply(word, raw, (left, right), "compare")

    def equal(self, raw: Raw, left: Node, right: Node, word: str) -> Node:
        if left.type == right.type == BOOL and isinstance(right, Literal):
            return left if right.value else nodes.negate(left)  # `x == true` is x itself
        if left.type == right.type and left.type.element:
            raise self.refuse(raw, "two lists cannot be compared", "write 'overlaps' or ask for a value 'in' the list")
        del word
        return self.apply("==", raw, (left, right), "compare")

    def can_be(self, value: Node, raw: Raw, written: Node) -> None:
        """Tell of every written text that `value` can never be: such a comparison would say nothing, quietly."""
        field, also = self.closed(value)
        if field is None or not isinstance(written, Literal):
            return
        if raw.kind == "values":
            places = [(part, self.text(part)) for part in raw.parts]
        else:
            places = [(raw, each) for each in (written.value if written.type.element else (written.value,))]
        for part, text in places:
            if isinstance(text, str) and text not in also and not field.takes(text):
                what = f"{field.path} is never {nodes.spell(text[:40], TEXT)}"
                self.report.add(part.start, part.end, what, meant(field, text))

    def text(self, raw: Raw) -> str | None:
        """The text that an element of a written list stands for."""
        known = self.words.names.get(raw.word) if raw.kind == "path" else None
        if known is not None and isinstance(known.tree, Literal) and known.type == TEXT:
            return str(known.tree.value)
        return unquote(raw.word) if raw.kind == "text" else None

    def closed(self, value: Node) -> tuple[FieldDef | None, frozenset[str]]:
        """The field whose values `value` has, and the texts it may be beside: default(x, "none") is x or "none"."""
        if isinstance(value, Field):
            return self.words.fields.get(value.path), frozenset()
        if isinstance(value, Call) and value.row.name == "default" and isinstance(value.args[1], Literal):
            field, also = self.closed(value.args[0])
            return field, also | {value.args[1].value}
        return None, frozenset()

    def one_currency(self, raw: Raw, left: Node, right: Node) -> None:
        first, second = _currency(left), _currency(right)
        if first and second and first != second:
            raise self.refuse(raw, f"{first} and {second} do not meet", f"convert one: … in {second}")

    def arithmetic(self, raw: Raw) -> Node:
        left, right = self.all(raw.parts)
        if left.type == right.type == MONEY:
            self.one_currency(raw, left, right)
        verb = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "take the remainder of"}[raw.word]
        return self.apply(raw.word, raw, (left, right), verb)

    def minus(self, raw: Raw) -> Node:
        return self.apply("-", raw, self.all(raw.parts), "negate")

    def convert(self, raw: Raw) -> Node:
        value = self.node(raw.parts[0])
        if raw.word not in CURRENCIES:
            raise self.refuse(raw, f"'{raw.word}' is no ISO 4217 currency")
        return self.apply("in", raw, (value, _name(raw.word, "currency")), "convert")

    def relation(self, raw: Raw) -> Node:
        word = raw.word.removeprefix("not ")
        left, right = self.all(raw.parts)
        if word == "matches":
            right = self.pattern(raw.parts[1], right)
        if word == "in" and left.type == MONEY and right.type == list_of(MONEY):
            self.one_currency(raw, left, right)
        if word in ("in", "overlaps"):
            self.can_be(left, raw.parts[1], right)
            self.can_be(right, raw.parts[0], left)
        made = self.apply(word, raw, (left, right), "use " + word + " with")
        return nodes.negate(made) if raw.word != word else made

    def pattern(self, raw: Raw, right: Node) -> Node:
        if not isinstance(right, Literal) or right.type != TEXT:
            raise self.refuse(raw, "a pattern is written as text", r'such as matches "^\d+$"')
        try:
            pattern = Pattern(right.value)
        except ValueError as error:
            raise self.refuse(raw, f"this RE2 pattern is not usable: {error}", pattern_hint(right.value)) from None
        return Literal(Type("pattern"), right.text, value=pattern)

    def in_list(self, raw: Raw) -> Node:
        value, name = self.node(raw.parts[0]), raw.parts[1]
        self.kept(raw, name, name.word)
        word = raw.word.removeprefix("not ")
        made = self.apply(word, raw, (value, _name(name.word, "name")), "look up")
        return nodes.negate(made) if raw.word != word else made

    def kept(self, raw: Raw, place: Raw, name: str) -> None:
        """Refuse a list that is not there, or cannot be asked here."""
        if self.window:
            raise self.refuse(raw, "a window cannot ask a kept list", "lists change; the window could not be rebuilt")
        if self.words.lists is not None and name not in self.words.lists:
            raise self.refuse(place, f"unknown list '{name[:80]}'", did_you_mean(name, self.words.lists))

    def disguised(self, raw: Raw, args: tuple[Node, ...]) -> tuple[Node, ...]:
        """The text and the list that phrases() takes."""
        name = args[1].value if len(args) == 2 and isinstance(args[1], Literal) and args[1].type == TEXT else None
        if name is None:
            example = 'such as phrases(listing.title, "ad-absolutes")'
            raise self.refuse(raw, "phrases() takes a text and the name of a list in quotes", example)
        self.kept(raw, raw.parts[1], name)
        if self.words.lists is not None and self.words.lists[name] != "disguised phrase":
            hint = "the list says match: phrase and disguises: true"
            raise self.refuse(raw.parts[1], f"the list '{name}' does not say where its phrases stand", hint)
        return args[0], Literal(Type("name"), f'"{name}"', value=name)

    def presence(self, raw: Raw) -> Node:
        value = self.node(raw.parts[0])
        if isinstance(value, Literal):
            raise self.refuse(raw, "a written value is never missing")
        made = self.apply("is missing", raw, (value,), "ask about")
        return nodes.negate(made) if raw.word == "is present" else made

    # ------------------------------------------------------------------------------------------ functions

    def call(self, raw: Raw) -> Node:
        if raw.word in GROUP_FUNCTIONS:
            return self.about_group(raw)
        if raw.word not in FUNCTIONS:
            raise self.no_function(raw)
        args = self.all(raw.parts)
        if raw.word in ("hour", "weekday"):
            args = self.zoned(raw, args)
        if raw.word == "phrases":
            args = self.disguised(raw, args)
        if raw.word == "round" and len(args) == 2:
            args = (args[0], self.places(raw.parts[1], args[1]))
        if len(args) == 2 and args[0].type == args[1].type == MONEY:
            self.one_currency(raw, *args)
        return self.apply(raw.word, raw, args, "call " + raw.word + "() with")

    def no_function(self, raw: Raw) -> Refused:
        if raw.word in WINDOW_FUNCTIONS:
            return self.refuse(raw, f"{raw.word}() needs a window", f"such as {raw.word}(… last 10m by card.ref)")
        return self.refuse(
            raw,
            f"unknown function '{raw.word[:80]}'",
            did_you_mean(raw.word, [*FUNCTIONS, *WINDOW_FUNCTIONS, *GROUP_FUNCTIONS]),
        )

    def zoned(self, raw: Raw, args: tuple[Node, ...]) -> tuple[Node, ...]:
        if len(args) == 1:
            return (*args, literal_zone(self.words.zone))
        if len(args) != 2:
            return args
        name = args[1].value if isinstance(args[1], Literal) else None
        try:
            zone(str(name))
        except (KeyError, ValueError):
            raise self.refuse(raw.parts[1], "this is no time zone", 'such as "Asia/Shanghai" or "UTC"') from None
        return args[0], literal_zone(str(name))

    def places(self, raw: Raw, given: Node) -> Node:
        if not isinstance(given, Literal) or given.value not in range(7):
            raise self.refuse(raw, "the places to round to are written as 0 to 6")
        return Literal(Type("places"), given.text, value=given.value)

    def apply(self, name: str, raw: Raw, args: tuple[Node, ...], verb: str) -> Node:
        """The call of the row that takes these arguments; a call over literals only is worked out at once."""
        types = [arg.type for arg in args]
        for row in BY_NAME.get((name, len(args)), ()):
            result = row.result_for(types)
            if result is not None:
                made = nodes.call(row, args, result)
                return self.folded(raw, row, made) if all(isinstance(arg, Literal) for arg in args) else made
        if (name, len(args)) not in BY_NAME:
            counts = {count for word, count in BY_NAME if word == name} | (
                {1} if name in ("hour", "weekday") else set()
            )
            raise self.refuse(raw, f"{name}() takes {' or '.join(map(str, sorted(counts)))} value(s), not {len(args)}")
        shown = [str(kind) for kind in types if kind.name not in ("name", "currency", "zone", "places", "pattern")]
        joined = {"subtract": " and ", "compare": " with "}.get(verb, " and ")
        over = f"of a list, or over a window: {name}(… last 10m by card.ref)" if name in WINDOW_FUNCTIONS else ""
        raise self.refuse(raw, f"cannot {verb} {joined.join(shown)}", over or mismatch(name, args))

    def folded(self, raw: Raw, row: Row, made: Call) -> Node:
        if row.sees_env:
            return made
        value = row.python(*(arg.value for arg in made.args if isinstance(arg, Literal)))
        if value is None:
            raise self.refuse(raw, f"'{made.text}' is always unknown", "is something divided by zero, or too large?")
        return literal(value, made.type)

    # ------------------------------------------------------------------------------------------ windows

    def windowed(self, raw: Raw) -> Node:
        arguments, of, length, by, where, including, approximately = raw.parts
        if self.window:
            raise self.refuse(raw, "a window cannot stand inside a window")
        if raw.word not in WINDOW_FUNCTIONS:
            hint = did_you_mean(raw.word, WINDOW_FUNCTIONS) or f"windows: {', '.join(WINDOW_FUNCTIONS)}"
            raise self.refuse(raw, f"'{raw.word}' cannot look at a window", hint)
        parameter, arguments = self.parameter(raw, arguments)
        kinds, argument = self.kinds_and_argument(raw, arguments, of, parameter)
        inside = self.inside(raw, kinds)
        value = self.argument(raw, inside, argument)
        groups = self.groups_in(raw, by)
        keys = self.keys(by, inside)
        test = self.where(where, inside)
        span = self.length(length)
        if approximately:
            self.approximate(raw, length, span, groups)
        window = nodes.window(raw.word, kinds, value, parameter, span, keys, test, including, groups, approximately)
        return Feature(window.type, window.name, window=window)

    def approximate(self, raw: Raw, length: Raw, span: int, groups: tuple[Group, ...]) -> None:
        """Refuse what cannot be approximate, or need not be."""
        hint = "leave 'approximately' out"
        if raw.word in IN_ORDER:
            told = ", ".join(word for word in WINDOW_FUNCTIONS if word not in IN_ORDER)
            raise self.refuse(raw, f"{raw.word}() cannot be approximate", f"{hint}; there are {told} approximately")
        if groups:
            raise self.refuse(raw, "a window over a group cannot be approximate", hint)
        if span < LEAST_APPROXIMATE:
            least = nodes.spell_duration(LEAST_APPROXIMATE)
            raise self.refuse(length, f"an approximate window is at least {least} long", f"{hint}: it is exact then")

    def parameter(self, raw: Raw, arguments: tuple[Raw, ...]) -> tuple[Number | None, tuple[Raw, ...]]:
        """The share that quantile() takes behind its value, and what is left."""
        if raw.word != "quantile" or len(arguments) != 2:
            return None, arguments
        given = self.node(arguments[1])
        share = given.value if isinstance(given, Literal) and given.type == NUMBER else None
        if share is None or not 0 < share < 1:
            raise self.refuse(arguments[1], "quantile() takes a share between 0 and 1", "such as 95% or 0.95")
        return share, arguments[:1]

    def kinds_and_argument(
        self, raw: Raw, arguments: tuple[Raw, ...], of: tuple[Raw, ...], parameter: Number | None
    ) -> tuple[tuple[str, ...], Raw | None]:
        needs = raw.word in (*_MEASURED, *_JUDGED, "distinct")
        named = of
        if not needs and arguments:
            named = (*arguments, *of)
        if needs and len(arguments) != 1:
            what = "one condition" if raw.word in _JUDGED else "one value"
            example = {"quantile": "amount, 95%", **dict.fromkeys(_JUDGED, "amount > 20 CNY")}.get(raw.word, "amount")
            raise self.refuse(raw, f"{raw.word}() needs {what}", f"such as {raw.word}({example} last 1d by card.ref)")
        if raw.word == "quantile" and parameter is None:
            raise self.refuse(raw, "quantile() needs a share", "such as quantile(amount, 95% last 1d by card.ref)")
        known = set(self.words.kinds) | set(self.words.kind)
        for name in named:
            if name.kind not in ("path", "name") or name.word not in known:
                hint = (
                    did_you_mean(name.word, known)
                    or f"{raw.word}() counts events; conditions on them stand after 'where'"
                )
                raise self.refuse(name, f"'{name.word[:80]}' is no kind of event", hint)
        kinds = tuple(dict.fromkeys(name.word for name in named)) or self.words.kind
        return tuple(sorted(kinds)), arguments[0] if needs else None

    def inside(self, raw: Raw, kinds: tuple[str, ...]) -> Vocabulary:
        """The vocabulary of the window's own events: the fields that all of its kinds have."""
        if not kinds:
            raise self.refuse(
                raw, "this window does not say over which kind of event", "such as count(payment last 1d …)"
            )
        return self.inside_of(kinds)

    def inside_of(self, kinds: tuple[str, ...]) -> Vocabulary:
        """The fields that all of these kinds have."""
        each = [self.fields_of(kind) for kind in kinds]
        shared = {path: found for path, found in each[0].items() if all(path in fields for fields in each)}
        return replace(self.words, fields=shared, kind=kinds)

    def fields_of(self, kind: str) -> Mapping[str, FieldDef]:
        own = self.words.kinds.get(kind, self.words.fields)
        if kind != INHERITS:
            return own
        inherited: dict[str, FieldDef] = {}
        for fields in self.words.kinds.values():
            inherited = {**fields, **inherited}
        return {**inherited, **self.words.fields, **own}

    def argument(self, raw: Raw, inside: Vocabulary, argument: Raw | None) -> Expression | None:
        if argument is None:
            return None
        part = "distinct" if raw.word == "distinct" else "argument"
        value = Checker(inside, self.report, part).node(argument)
        if raw.word in _JUDGED and value.type != BOOL:
            raise self.refuse(argument, f"{raw.word}() takes a yes/no condition, this is {value.type}", ask(value.type))
        if raw.word in _MEASURED and value.type not in (NUMBER, MONEY, DURATION):
            raise self.refuse(argument, f"cannot take the {raw.word} of {value.type}")
        if value.type.element or isinstance(value, Literal):
            raise self.refuse(argument, f"{raw.word}() over a window needs one value of each event")
        return expression(value)

    def groups_in(self, raw: Raw, by: tuple[Raw, ...]) -> tuple[Group, ...]:
        """The group that a window goes by, if it goes by one."""
        named = [name for name in by if name.word in self.words.groups]
        groups = tuple(self.words.groups[name.word] for name in named)
        if groups and raw.word in ONE_BY_ONE:
            told = ", ".join(word for word in WINDOW_FUNCTIONS if word not in ONE_BY_ONE)
            raise self.refuse(raw, f"{raw.word}() cannot look over a group", f"over a group there are {told}")
        if len(groups) > 1:
            raise self.refuse(named[1], "a window goes by one group", "ask linked(…, …) whether two are one")
        for name in by:
            if groups and name.word == groups[0].account:
                raise self.refuse(name, f"the accounts of {named[0].word} are a window's key already", "leave it out")
        return groups

    def keys(self, by: tuple[Raw, ...], inside: Vocabulary) -> tuple[str, ...]:
        for name in by:
            group = self.words.groups.get(name.word)
            path = group.account if group else name.word
            if group is not None:
                self.account(name, group)
            here, there = self.words.fields.get(path), inside.fields.get(path)
            if here is None:
                raise self.unknown(name)
            if there is None:
                raise self.refuse(name, f"the events of this window have no {path}", did_you_mean(path, inside.fields))
            if here.privacy != "public" and not here.entity:
                raise self.refuse(name, f"{path} identifies nobody and is not kept, so no window can go by it")
            if here.type.startswith("list[") or here.type not in ("text", "number", "bool"):
                raise self.refuse(name, f"a window goes by text, number or yes/no, {path} is {Type(here.type)}")
        groups = self.words.groups
        return tuple(sorted({groups[name.word].account if name.word in groups else name.word for name in by}))

    def where(self, where: Raw | None, inside: Vocabulary) -> Expression | None:
        if where is None:
            return None
        test = Checker(inside, self.report, "where").node(where)
        if test.type != BOOL:
            raise self.refuse(where, f"'where' takes a yes/no condition, this is {test.type}", ask(test.type))
        return expression(test)

    # ------------------------------------------------------------------------------------------ groups

    def about_group(self, raw: Raw) -> Node:
        """A question about links alone: group_size(G), group_links(G), linked(G, H), linked(G, H, steps)."""
        if self.window:
            raise self.refuse(raw, "a window cannot stand inside a window")
        two = raw.word == "linked"
        named = raw.parts[:2] if two else raw.parts
        if len(named) != 1 + two or len(raw.parts) > (3 if two else 1):
            example = "linked(buyer_group, seller_group)" if two else f"{raw.word}(buyer_group)"
            what = "two groups, and how many identifiers far" if two else "one group"
            raise self.refuse(raw, f"{raw.word}() takes {what}", f"such as {example}")
        groups = tuple(self.group(part) for part in named)
        steps = None
        if two:
            self.two(named[1], *groups)
            steps = self.steps(raw.parts[2]) if len(raw.parts) == 3 else LINKED_STEPS
        told = [group.name for group in groups] + ([str(steps)] if steps else [])
        name = f"{raw.word}({', '.join(told)})"
        by = tuple(sorted({group.account for group in groups}))
        result = BOOL if two else NUMBER
        within = groups[0].links.within
        window = Window(raw.word, (), None, steps, within, by, None, True, name, result, groups=groups)
        return Feature(result, name, window=window)

    def group(self, raw: Raw) -> Group:
        """The group that a name stands for, which the event at hand can have."""
        known = self.words.groups.get(raw.word) if raw.kind == "path" else None
        if known is None:
            if raw.word in self.words.unread:
                raise Refused
            hint = did_you_mean(raw.word, self.words.groups) or "a file with the key 'links' declares groups"
            raise self.refuse(raw, f"'{raw.word[:80]}' is no group" if raw.word else "this is no group", hint)
        self.account(raw, known)
        return known

    def two(self, raw: Raw, one: Group, other: Group) -> None:
        """Refuse two groups that cannot be linked."""
        if one.links != other.links:
            raise self.refuse(raw, "these groups are of two files of links", "accounts are linked within one file")
        if one.account == other.account:
            raise self.refuse(raw, "this asks whether an account is linked with itself", "name another group")

    def account(self, raw: Raw, group: Group) -> None:
        """Refuse a group whose account the event at hand cannot have."""
        if group.account not in self.words.fields:
            what = f"{with_article(' or '.join(self.words.kind))} has no {group.account}, so there is no {group.name}"
            raise self.refuse(raw, what, "a rule for several kinds may use the fields they share")

    def steps(self, raw: Raw) -> int:
        """How many identifiers far `linked` goes."""
        given = self.node(raw)
        steps: Any = given.value if isinstance(given, Literal) and given.type == NUMBER else None
        if steps not in range(1, MAX_STEPS + 1):
            raise self.refuse(raw, f"linked() goes 1 to {MAX_STEPS} shared identifiers far", "such as 2")
        return int(steps)

    def length(self, raw: Raw) -> int:
        length = _duration(raw.word)
        if not 0 < length <= MAX_WINDOW:
            raise self.refuse(raw, "a window is between 1s and 400d long")
        return length


def literal_zone(name: str) -> Literal:
    """A zone name as an argument."""
    return Literal(Type("zone"), f'"{name}"', value=name)


def _name(word: str, kind: str) -> Literal:
    return Literal(Type(kind), word, value=word)


def _field(definition: FieldDef) -> Field:
    return Field(Type(definition.type), definition.path, path=definition.path)


def _duration(word: str) -> int:
    return int(word[:-1]) * UNITS[word[-1]]


def _number(word: str) -> Number:
    value = Decimal(word)
    return int(value) if value == int(value) else value


def _currency(node: Node) -> str:
    """The currency that a money value is known to have, or an empty string."""
    if isinstance(node, Literal):
        first = node.value[0] if isinstance(node.value, tuple) and node.type.element else node.value
        return first.currency if isinstance(first, Money) else ""
    if isinstance(node, Feature) and node.window.argument:
        return _currency(node.window.argument.tree)
    if isinstance(node, Call):
        if node.row.form == "convert":
            return node.args[1].text
        if node.row.name != "/":
            return next((found for arg in node.args if arg.type == MONEY and (found := _currency(arg))), "")
    return ""


_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

_LITERALS: dict[str, Callable[[str], Literal]] = {
    "number": lambda word: literal(_number(word), NUMBER),
    "percent": lambda word: literal(_number(str(Decimal(word[:-1]).scaleb(-2))), NUMBER),
    "duration": lambda word: literal(_duration(word), DURATION),
    "text": lambda word: literal(unquote(word), TEXT),
}

_MEANINGS: dict[str, Callable[[Checker, Raw], Node]] = {
    **dict.fromkeys(_LITERALS, Checker.literal),
    "money": Checker.money,
    "instant": Checker.instant,
    "values": Checker.values,
    "path": Checker.path,
    "and": Checker.logic,
    "or": Checker.logic,
    "not": Checker.opposite,
    "chain": Checker.chain,
    "arithmetic": Checker.arithmetic,
    "minus": Checker.minus,
    "convert": Checker.convert,
    "relation": Checker.relation,
    "in_list": Checker.in_list,
    "presence": Checker.presence,
    "call": Checker.call,
    "window": Checker.windowed,
}
