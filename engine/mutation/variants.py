"""Tests that differ from a given one in a single place, aimed at the edges of a condition.

What is varied: a field of the judged event or of an earlier one, how many earlier events there are, and how long ago.
Numbers are not guessed: where a comparison stands between two sides, the value at which they meet is worked out, and
that value, one step below and one above are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from engine.expr import (
    BOOL,
    DURATION,
    TEXT,
    And,
    Call,
    Expression,
    Field,
    Literal,
    Node,
    Not,
    Or,
    Window,
    expression,
    interpret,
    spell,
    walk,
)
from engine.money import CURRENCIES, Money
from engine.packs.moments import BEIJING
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest
from engine.schema import FieldDef
from engine.trial import CLOCK, Built, Misplaced, Staged, stage

COMPARED = ("<", "<=", ">", ">=", "==")
SECOND = 1_000_000
HOUR = 3_600 * SECOND
MOST_EVENTS = 400
"""Most earlier events of one entry that are tried."""
_MEASURED = ("number", "money", "duration", "instant")
MOST_DIFFERENT = 24
"""Most earlier events with a value of their own that are tried."""
_ANSWERS = {True: "fires", False: "quiet", None: "unknown"}
_FRESH = ("x1", "x2", "x3")
BASE_COST = 3
"""What a test costs that has other earlier events than the one it was made of."""
CHEAP = 8
"""So many earlier events cost one more."""


class Spent(Exception):
    """The search has put together as many events as it may."""


class Purse:
    """What a search may still spend, which bounds its time, and the events that it has put together."""

    def __init__(self, left: int, built: Built) -> None:
        self.left = left
        self.built = built

    def pay(self, cost: int) -> None:
        """Pay for a test. Raises Spent."""
        self.left -= cost
        if self.left < 0:
            raise Spent


class Tried:
    """A test made ready, and what conditions say of it. Windows are read once each."""

    def __init__(self, rulebook: Rulebook, staged: Staged, windows: dict[Window, Any] | None = None) -> None:
        self._rulebook = rulebook
        self.staged = staged
        self.windows: dict[Window, Any] = {} if windows is None else windows

    def value(self, asked: Expression) -> Any:
        """The value of an expression at the judged event; None is unknown."""
        missing = [window for window in asked.windows if window not in self.windows]
        if missing:
            found = self.staged.features(missing, self._rulebook)
            self.windows.update(zip(missing, found, strict=True))
        return interpret(asked, self.staged.values, self.windows, self.staged.env)

    def answer(self, condition: Expression) -> str:
        """What a rule with this condition does: 'fires', 'quiet' or 'unknown'."""
        return _ANSWERS[self.value(condition)]


@dataclass(frozen=True, slots=True)
class Variant:
    """A test, and in which words it differs from the one it was made of.

    Where only a field of the judged event differs, at `path`, `like` is the test it was made of.
    """

    words: tuple[str, ...]
    test: RuleTest
    like: Varied | None = None
    path: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a condition that variants aim at: its comparisons, and the windows it reads."""

    comparisons: tuple[Sides, ...]
    inner: tuple[Sides, ...]
    paths: frozenset[str]
    windows: tuple[Window, ...]
    texts: Mapping[str, tuple[str, ...]]
    peers: Mapping[str, frozenset[str]]
    ages: tuple[int, ...]

    @classmethod
    def of(cls, trees: Iterable[Node]) -> Part:
        """All that some trees ask about."""
        made = [expression(tree) for tree in trees]
        windows = tuple(dict.fromkeys(window for each in made for window in each.windows))
        outer = [node for each in made for node in walk(each.tree)]
        inner = [node for window in windows for each in _conditions(window) for node in walk(each.tree)]
        texts: dict[str, dict[str, None]] = {}
        peers: dict[str, frozenset[str]] = {}
        for call in (node for node in [*outer, *inner] if isinstance(node, Call)):
            paths = frozenset(arg.path for each in call.args for arg in walk(each) if isinstance(arg, Field))
            for path in paths:
                texts.setdefault(path, {}).update(dict.fromkeys(_texts(call)))
                peers[path] = peers.get(path, frozenset()) | paths - {path}
        return cls(
            _sides(outer),
            _sides(inner),
            frozenset(path for each in made for path in each.paths),
            windows,
            {path: tuple(found) for path, found in texts.items()},
            peers,
            _ages(windows, outer),
        )


def _ages(windows: Iterable[Window], outer: Iterable[Node]) -> tuple[int, ...]:
    """How old an earlier event may be for a window or a comparison to change its mind, in microseconds."""
    edges = [edge for window in windows for edge in (window.length, window.gap) if edge]
    told = [node.value for node in outer if isinstance(node, Literal) and node.type == DURATION and node.value > 0]
    return tuple(dict.fromkeys([*edges, *told]))


Sides = tuple[Expression, Expression]
"""The two sides of a comparison."""


def _sides(nodes: Iterable[Node]) -> tuple[Sides, ...]:
    """The comparisons of numbers, amounts and times among some nodes."""
    calls = (node for node in nodes if isinstance(node, Call) and node.row.name in COMPARED)
    found = dict.fromkeys(call.args for call in calls if call.args[0].type.name in _MEASURED)
    return tuple((expression(left), expression(right)) for left, right in found)


def _texts(call: Call) -> Iterator[str]:
    """The texts that a question compares with."""
    for each in call.args:
        if isinstance(each, Literal) and each.type == TEXT:
            yield str(each.value)
        elif isinstance(each, Literal) and each.type.element == TEXT:
            yield from map(str, each.value)


def _conditions(window: Window) -> Iterator[Expression]:
    """The conditions over earlier events that a window has."""
    if window.argument is not None:
        yield window.argument
    if window.where is not None:
        yield window.where
    yield from (step.where for step in window.steps if step.where is not None)


class Varied:
    """One test of a rule, and its variants."""

    def __init__(self, rulebook: Rulebook, rule: Rule, variant: Variant, purse: Purse) -> None:
        self._rulebook = rulebook
        self._rule = rule
        self._variant = variant
        self._purse = purse
        self.test = variant.test

    @cached_property
    def tried(self) -> Tried | None:
        """The test made ready; None when it is no test (a value that no event may have). Raises Spent."""
        like = self._variant.like.tried if self._variant.like else None
        events = sum(before.repeat for before in self.test.before)
        self._purse.pay(1 if like else BASE_COST + events // CHEAP)
        try:
            staged = stage(self._rulebook, self._rule, self.test, like.staged if like else None, self._purse.built)
        except Misplaced:
            return None
        same = like is not None and self._variant.path not in _seen(self._rule.condition.windows)
        return Tried(self._rulebook, staged, like.windows if like and same else None)

    def variants(self, part: Part) -> Iterator[Variant]:
        """Variants that change the answers to the questions of `part`."""
        if part.windows:
            for place in self._places(part):
                yield from self._counted(place, self.test.before[place])
        yield from self._of_event(part)
        yield from self._of_history(part)
        for window in part.windows:
            yield from self._added(window, part)

    def more(self, part: Part) -> Iterator[Variant]:
        """Variants with so many more earlier events, at the edges of windows, that two sides meet or nearly do."""
        for window in part.windows:
            for added in self._additions(window, part):
                for left, right in part.comparisons:
                    if window in left.windows or window in right.windows or not part.comparisons:
                        yield from self._solved(left, right, added)

    def _additions(self, window: Window, part: Part) -> Iterator[_Added]:
        """Events that a window may hold more of: well inside it, just inside and just outside."""
        path = window.argument.text if window.function == "distinct" and window.argument else ""
        for kind, event, _ in self._wanted(window):
            field = self._fields(kind).get(path)
            for edge in (HOUR, *part.ages):
                for outside in (False, True) if edge != HOUR else (False,):
                    yield _Added(kind, event, edge, outside, field if path else None)

    def met(self, part: Part) -> Iterator[Variant]:
        """Variants at which the two sides of a comparison of `part` meet, or nearly do."""
        kind = self.test.kind or self._rule.kinds[0]
        for left, right in part.comparisons:
            for path in sorted(left.paths | right.paths):
                yield from self._solved(left, right, _EventField(self._fields(kind).get(path), path, None))
            for place in self._places(part):
                if left.windows or right.windows:
                    yield from self._solved(left, right, _Repeat(place))
            for place, path, field in self._measured_before(left, right, part):
                yield from self._solved(left, right, _EventField(field, path, place))

    # Fields of the judged event

    def _of_event(self, part: Part) -> Iterator[Variant]:
        kind = self.test.kind or self._rule.kinds[0]
        yield from self.met(part)
        for path in sorted(part.paths):
            field = self._fields(kind).get(path)
            if field is not None and path != "at":
                for value in self._values(field, part, self.test.event.get(path)):
                    yield self.put(_said(path, value), None, field, value)
        if "at" in part.paths:
            yield from self._hours()

    def _values(self, field: FieldDef, part: Part, own: Any) -> Iterator[Any]:
        """Values that make a difference to a field which is not measured."""
        known = part.texts.get(field.path, ())
        match field.type:
            case "bool":
                yield from (value for value in (True, False) if value is not own)
            case "text":
                beside = [self.test.event.get(path) for path in sorted(part.peers.get(field.path, ()))]
                texts = [*known, *(str(value) for value in beside if isinstance(value, str))]
                texts += [*field.choices, *_others(field)]
                yield from (value for value in dict.fromkeys(texts) if value != own and field.takes(value))
            case "list[text]":
                yield from ([value] for value in dict.fromkeys((*known, *_others(field))))
        yield None

    def _hours(self) -> Iterator[Variant]:
        """The full hours of the day of the test, and one second before each."""
        day = datetime.fromtimestamp(CLOCK // SECOND, BEIJING).replace(hour=0, minute=0, second=0)
        for second in (hour * 3600 - before for hour in range(24) for before in (0, 1)):
            if second >= 0:
                moment = datetime.fromtimestamp(day.timestamp() + second, BEIJING).isoformat()
                yield self._made(f"it is {moment[11:19]} in Shanghai", event={**self.test.event, "at": moment})

    # Earlier events

    def _of_history(self, part: Part) -> Iterator[Variant]:
        for place in self._places(part):
            before = self.test.before[place]
            kind = before.kind or self._rule.kinds[0]
            windows = [window for window in part.windows if kind in window.kinds]
            yield from self._aged(place, before, part.ages)
            yield from self._altered(place, before, kind, part, windows)
            yield from self._bounded(place, before, kind, part.inner)
        yield from self._all_altered(part)

    def _places(self, part: Part) -> list[int]:
        """Which earlier entries to vary: of those that differ in their identifiers alone, the first and the last."""
        groups: dict[str, list[int]] = {}
        for place, before in enumerate(self.test.before):
            kind = before.kind or self._rule.kinds[0]
            if any(kind in window.kinds for window in part.windows):
                fields = self._fields(kind)
                same = {
                    path: value for path, value in before.event.items() if path in fields and not fields[path].entity
                }
                groups.setdefault(repr((kind, before.repeat, sorted(same.items(), key=str))), []).append(place)
        return sorted({place for places in groups.values() for place in (places[0], places[-1])})

    def _counted(self, place: int, before: Before) -> Iterator[Variant]:
        """One earlier event less."""
        if before.repeat > 1:
            repeat = before.repeat - 1
            yield self._before(_counted(repeat), place, before.model_copy(update={"repeat": repeat}))
        else:
            yield self._before("one earlier event is left out", place)

    def _aged(self, place: int, before: Before, ages: Iterable[int]) -> Iterator[Variant]:
        """The oldest of some events at the edge of a window or of a comparison, just outside, and just inside."""
        span = (before.repeat - 1) * before.every
        for age in (edge + more for edge in ages for more in (0, SECOND, -SECOND)):
            oldest = "the oldest" if before.repeat > 1 else "an"
            words = f"{oldest} earlier event is {_age(age)} old"
            if age - span > 0:
                yield self._before(words, place, before.model_copy(update={"ago": age - span}))
            elif before.repeat > 1 and age > before.repeat:
                every = max(age // before.repeat // SECOND, 1) * SECOND
                ago = age - (before.repeat - 1) * every
                yield self._before(words, place, before.model_copy(update={"every": every, "ago": ago}))

    def _altered(
        self, place: int, before: Before, kind: str, part: Part, windows: Sequence[Window]
    ) -> Iterator[Variant]:
        """One earlier event with another value, in the place of one or beside those that are there."""
        for path in _paths_of(windows):
            field = self._fields(kind).get(path)
            if field is None or path == "at" or _measured_field(field):
                continue
            for value in self._values(field, part, before.event.get(path)):
                event = _with(before.event, field, value)
                single = before.model_copy(update={"event": event, "repeat": 1})
                words = _said(path, value, earlier=True)
                if before.repeat == 1:
                    yield self._before(words, place, single)
                    yield self._before(words.replace("an earlier", "one more", 1), place, before, single)
                else:
                    fewer = before.model_copy(update={"repeat": before.repeat - 1})
                    yield self._before(words, place, single, fewer)

    def _added(self, window: Window, part: Part) -> Iterator[Variant]:
        """One earlier event more, made as a window wants it, of every age that may matter."""
        for kind, event, judged in self._wanted(window):
            test = self.test.model_copy(update={"event": judged})
            for age in dict.fromkeys((HOUR, *(edge + more for edge in part.ages for more in (0, SECOND, -SECOND)))):
                more = Before(event=event, kind=self._told(kind)).model_copy(update={"ago": age})
                changed = test.model_copy(update={"before": [more, *test.before]})
                words = f"another {kind} came {_age(age)} before"
                yield Variant((*self._variant.words, words), changed)

    def _wanted(self, window: Window) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(kind, event, judged event) for each kind that a window looks at: an event that it holds."""
        own = self._fields(self.test.kind or self._rule.kinds[0])
        keys = {path: self.sample(None, path) for path in window.by}
        judged = {**self.test.event, **{path: value for path, value in keys.items() if path in own}}
        wanted = [step.where for step in window.steps] if window.steps else [window.where]
        kinds = [step.kinds[0] for step in window.steps] if window.steps else window.kinds
        for kind in dict.fromkeys(kinds):
            fields = self._fields(kind)
            if kind == "outcome" or not fields.keys() >= {path for path in window.by if path in own}:
                continue
            event = self._like(kind)
            event |= {path: value for path, value in keys.items() if path in fields and value is not None}
            for where in wanted:
                event |= {path: value for path, value in _meeting(where.tree) if path in fields} if where else {}
            yield kind, event, judged

    def _like(self, kind: str) -> dict[str, Any]:
        """What the first earlier event of a kind says, without its name."""
        first = next((each for each in self.test.before if (each.kind or self._rule.kinds[0]) == kind), None)
        return {path: value for path, value in first.event.items() if path != "event_id"} if first else {}

    def _told(self, kind: str) -> str | None:
        return None if kind == self._rule.kinds[0] else kind

    def added(self, words: str, kind: str, more: Iterable[Before]) -> Variant:
        """The test with more earlier events of a kind, before those that are there."""
        told = [each.model_copy(update={"kind": self._told(kind)}) for each in more]
        return self._made(words, before=[*told, *self.test.before])

    def _bounded(self, place: int, before: Before, kind: str, inner: Iterable[Sides]) -> Iterator[Variant]:
        """One earlier event at the edge of a comparison that a window makes of it."""
        fields = self._fields(kind)
        alone = RuleTest(it="", kind=kind, event={**before.event, "at": self._when(place)}, expect="quiet")
        single = Varied(self._rulebook, self._rule, Variant((), alone), self._purse)
        for left, right in inner:
            for path in sorted(path for path in left.paths | right.paths if path in fields):
                for variant in single._solved(left, right, _EventField(fields[path], path, None)):
                    value = variant.test.event[path]
                    event = {**before.event, path: value}
                    one = before.model_copy(update={"event": event, "repeat": 1})
                    rest = [before.model_copy(update={"repeat": before.repeat - 1})] if before.repeat > 1 else []
                    yield self._before(_said(path, value, earlier=True), place, one, *rest)
                    yield self._before(
                        f"every {_said(path, value, earlier=True).removeprefix('an ')}",
                        place,
                        before.model_copy(update={"event": event}),
                    )

    def _when(self, place: int) -> str:
        """When the newest event of an earlier entry happens, as an event writes it."""
        later = CLOCK
        for at, before in reversed(list(enumerate(self.test.before))):
            newest = later - before.every if before.ago is None else CLOCK - before.ago
            if at == place:
                return datetime.fromtimestamp(newest // SECOND, BEIJING).isoformat()
            later = newest - (before.repeat - 1) * before.every
        raise AssertionError("the place is one of the entries")

    def _all_altered(self, part: Part) -> Iterator[Variant]:
        """All earlier events with another value."""
        paths = _paths_of(part.windows)
        kinds = {before.kind or self._rule.kinds[0] for before in self.test.before}
        fields = {path: self._fields(kind).get(path) for kind in kinds for path in paths}
        for path, field in fields.items():
            if field is None or path == "at" or _measured_field(field) or len(self.test.before) < 1:
                continue
            for value in self._values(field, part, self.test.before[0].event.get(path)):
                changed = [
                    before.model_copy(update={"event": _with(before.event, field, value)})
                    if path in self._fields(before.kind or self._rule.kinds[0])
                    else before
                    for before in self.test.before
                ]
                yield self._made("every " + _said(path, value, earlier=True).removeprefix("an "), before=changed)

    def _measured_before(self, left: Expression, right: Expression, part: Part) -> Iterator[tuple[int, str, FieldDef]]:
        """Numbers, amounts and times of earlier events that the windows of a comparison read."""
        windows = (*left.windows, *right.windows)
        for place in self._places(part):
            before = self.test.before[place]
            kind = before.kind or self._rule.kinds[0]
            for path in _paths_of([window for window in windows if kind in window.kinds]):
                field = self._fields(kind).get(path)
                if field is not None and path != "at" and _measured_field(field):
                    yield place, path, field

    # Where two sides meet

    def _solved(self, left: Expression, right: Expression, variable: _Variable) -> Iterator[Variant]:
        """The value of a variable at which both sides are equal, and its neighbours."""
        start = variable.now(self)
        if start is None:
            return
        root = _root(lambda value: self._apart(left, right, variable, value), start, variable.grid)
        if root is None:
            return
        nearest = round(root / variable.grid) * variable.grid
        for value in (nearest, nearest - variable.grid, nearest + variable.grid):
            made = variable.put(self, value)
            if made is not None:
                yield made

    def _apart(self, left: Expression, right: Expression, variable: _Variable, value: Fraction) -> Fraction | None:
        """By how much the left side is more than the right one."""
        made = variable.put(self, value)
        tried = Varied(self._rulebook, self._rule, made, self._purse).tried if made is not None else None
        if tried is None:
            return None
        return _difference(tried.value(left), tried.value(right))

    # Parts

    def _fields(self, kind: str) -> Mapping[str, FieldDef]:
        return self._rulebook.schema.body_fields(kind)

    def sample(self, place: int | None, path: str) -> Any:
        """What the judged event (None) or an earlier one holds at a path, or would."""
        given = self.test.event if place is None else self.test.before[place].event
        kind = (self.test.kind if place is None else self.test.before[place].kind) or self._rule.kinds[0]
        if path in given:
            return given[path]
        field = self._fields(kind).get(path)
        return field.example if field is not None else None

    def put(self, words: str, place: int | None, field: FieldDef, value: Any) -> Variant:
        """The test with another value in the judged event (None) or in those of an earlier entry."""
        if place is None:
            test = self.test.model_copy(update={"event": _with(self.test.event, field, value)})
            return Variant((*self._variant.words, words), test, self, field.path)
        before = self.test.before[place]
        changed = before.model_copy(update={"event": _with(before.event, field, value)})
        return self._before(words, place, changed)

    def repeated(self, place: int, repeat: int) -> Variant:
        """The test with so many events of an earlier entry."""
        before = self.test.before[place]
        if repeat == 0:
            return self._before("no such event came before", place)
        return self._before(_counted(repeat), place, before.model_copy(update={"repeat": repeat}))

    def _before(self, words: str, place: int, *instead: Before) -> Variant:
        before = self.test.before
        return self._made(words, before=[*before[:place], *instead, *before[place + 1 :]])

    def _made(self, words: str, **changed: Any) -> Variant:
        return Variant((*self._variant.words, words), self.test.model_copy(update=changed))


class _Variable:
    """Something of a test that can be any number."""

    def now(self, varied: Varied) -> Fraction | None:
        """Its value in a test; None where there is none to vary."""
        raise NotImplementedError

    @property
    def grid(self) -> Fraction:
        """The smallest step."""
        raise NotImplementedError

    def put(self, varied: Varied, value: Fraction) -> Variant | None:
        """The test with this value; None when it cannot have it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _EventField(_Variable):
    """A number, an amount or a time of an event."""

    field: FieldDef | None
    path: str
    place: int | None

    def now(self, varied: Varied) -> Fraction | None:
        if self.field is None or not _measured_field(self.field) or self.path == "at":
            return None
        return _as_number(varied.sample(self.place, self.path), self.field)

    @property
    def grid(self) -> Fraction:
        assert self.field is not None
        if self.field.type == "number" and not self.field.form.whole:
            return Fraction(1, 100)
        return Fraction(SECOND) if self.field.type in ("instant", "duration") else Fraction(1)

    def put(self, varied: Varied, value: Fraction) -> Variant | None:
        assert self.field is not None
        low = self.field.form.low
        if low is not None and value < low:
            return None
        written = _written(value, self.field, varied.sample(self.place, self.path))
        words = _said(self.path, written, earlier=self.place is not None)
        return varied.put(words, self.place, self.field, written)


@dataclass(frozen=True, slots=True)
class _Repeat(_Variable):
    """How many events an earlier entry stands for."""

    place: int

    def now(self, varied: Varied) -> Fraction | None:
        return Fraction(varied.test.before[self.place].repeat)

    @property
    def grid(self) -> Fraction:
        return Fraction(1)

    def put(self, varied: Varied, value: Fraction) -> Variant | None:
        return varied.repeated(self.place, int(value)) if 0 <= value <= MOST_EVENTS else None


@dataclass(frozen=True, slots=True)
class _Added(_Variable):
    """How many more events of a kind came before, at an age just inside or outside an edge; with a field, each has a
    value of its own in it."""

    kind: str
    event: Mapping[str, Any]
    edge: int
    outside: bool
    field: FieldDef | None

    def now(self, varied: Varied) -> Fraction | None:
        del varied
        return Fraction(0)

    @property
    def grid(self) -> Fraction:
        return Fraction(1)

    def put(self, varied: Varied, value: Fraction) -> Variant | None:
        count = int(value)
        if not 0 < count <= (MOST_EVENTS if self.field is None else MOST_DIFFERENT):
            return varied.added("nothing else came before", self.kind, []) if count == 0 else None
        ago = self.edge + SECOND if self.outside else max(self.edge - (count - 1) * SECOND, SECOND)
        one = Before(event=dict(self.event)).model_copy(update={"ago": ago, "every": SECOND})
        different = f" with another {self.field.path} each" if self.field is not None else ""
        words = f"{count} more {self.kind} event{'s' if count > 1 else ''}{different} came {_age(ago)} before"
        if self.field is None:
            return varied.added(words, self.kind, [one.model_copy(update={"repeat": count})])
        values = _different(self.field, count)
        if values is None:
            return None
        events = [_with(self.event, self.field, each) for each in values]
        return varied.added(words, self.kind, [one.model_copy(update={"event": each}) for each in events])


def _different(field: FieldDef, count: int) -> list[str] | None:
    """So many values of a field that no test has yet; None when it takes none of that form."""
    values = [f"more-{number}" for number in range(1, count + 1)]
    return values if all(field.takes(value) for value in values) else None


def _root(apart: Callable[[Fraction], Fraction | None], start: Fraction, grid: Fraction) -> Fraction | None:
    """Where a difference is 0, by the rule of the secant: exact for what is linear, near for the rest."""
    one, two = start, start + grid
    first, second = apart(one), apart(two)
    if second is None:
        two = start - grid
        second = apart(two)
    for _ in range(4):
        if first is None or second is None or first == second:
            return None
        nearest = round((one - first * (two - one) / (second - first)) / grid) * grid
        if nearest in (one, two):
            return nearest
        one, first, two, second = two, second, nearest, apart(nearest)
        if second is None:
            return two
        if second == 0:
            return two
    return two


def _meeting(node: Node) -> Iterator[tuple[str, Any]]:
    """Values of fields with which a condition is answered with yes, as far as they are plain to see."""
    match node:
        case And(items=items):
            for item in items:
                yield from _meeting(item)
        case Or(items=items):
            yield from _meeting(items[0])
        case Not(item=Field(path=path)):
            yield path, False
        case Field(path=path) if node.type == BOOL:
            yield path, True
        case Call(args=(Field(path=path), Literal(value=value))) if node.row.name in _NEAREST:
            yield path, _plain(value[0] if isinstance(value, tuple) and node.row.name == "in" else value, node.row.name)


_NEAREST = {"==": 0, ">=": 0, "<=": 0, "in": 0, ">": 1, "<": -1}
"""How far from the written value one lies that meets a comparison."""


def _plain(value: Any, comparison: str) -> Any:
    """A value that meets a comparison with a written one, as an event writes it."""
    step = _NEAREST[comparison]
    if isinstance(value, Money):
        return f"{Decimal(value.minor + step).scaleb(-CURRENCIES[value.currency]):f} {value.currency}"
    return str(value) if isinstance(value, str) else value + step


def _difference(left: Any, right: Any) -> Fraction | None:
    if left is None or right is None:
        return None
    if isinstance(left, Money) and isinstance(right, Money):
        return Fraction(left.minor) - Fraction(right.minor) if left.currency == right.currency else None
    return Fraction(left) - Fraction(right)


def _paths_of(windows: Iterable[Window]) -> list[str]:
    """The fields of earlier events that windows look at, keys left out."""
    return sorted({path for window in windows for each in _conditions(window) for path in each.paths})


@lru_cache(maxsize=64)
def _seen(windows: tuple[Window, ...]) -> frozenset[str]:
    """Every field that windows may look at."""
    keys = {path for window in windows for path in window.by}
    accounts = {path for window in windows for each in window.groups for party in each.links.parties
                for path in (party.account, *(path for share in party.shares for path in share.by))}  # fmt: skip
    return frozenset(keys | accounts | set(_paths_of(windows)))


def _measured_field(field: FieldDef) -> bool:
    return field.type in _MEASURED


def _others(field: FieldDef) -> Iterator[str]:
    """A value that nobody names, if the field is open."""
    if not field.choices:
        yield str(field.example if isinstance(field.example, str) else "x")
        yield from (value for value in _FRESH if field.takes(value))


def _as_number(value: Any, field: FieldDef) -> Fraction | None:
    """The value of a field as a plain number: minor units, microseconds."""
    try:
        match field.type:
            case "number":
                return Fraction(value)
            case "money":
                amount, currency = str(value).split()
                return Fraction(Money.of(amount, currency).minor)
            case "duration":
                return Fraction(_length(str(value)))
            case "instant":
                moment = datetime.fromisoformat(str(value))
                return Fraction(round(moment.timestamp()) * SECOND)
    except (ValueError, TypeError, KeyError):
        return None
    return None


_LENGTHS = {"ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND, "w": 604_800 * SECOND}


def _length(text: str) -> int:
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * _LENGTHS[unit]


def _written(value: Fraction, field: FieldDef, like: Any) -> Any:
    """A plain number as an event writes it."""
    match field.type:
        case "number":
            return int(value) if value.denominator == 1 else Decimal(value.numerator) / Decimal(value.denominator)
        case "money":
            currency = str(like).split()[-1]
            return f"{Decimal(int(value)).scaleb(-CURRENCIES[currency]):f} {currency}"
        case "duration":
            return spell(int(value), DURATION)
    return datetime.fromtimestamp(int(value) // SECOND, BEIJING).isoformat()


def _with(event: Mapping[str, Any], field: FieldDef, value: Any) -> dict[str, Any]:
    """The event with another value in a field; a field of a list's objects is set in one object."""
    path = field.path
    above, _, name = path.rpartition(".")
    if field.many and above in event and isinstance(event[above], list):
        first = event[above][0] if event[above] else {}
        values = value if isinstance(value, list) else [value]
        return {**event, above: [{**first, name: each} for each in values]}
    return {**event, path: value}


def _said(path: str, value: Any, *, earlier: bool = False) -> str:
    """In words what a field is."""
    who, verb = ("an earlier " + path, "was") if earlier else (path, "is")
    if value is None:
        return f"{who} {verb} missing"
    if isinstance(value, bool):
        return f"{who} {verb} {'true' if value else 'false'}"
    return f"{who} {verb} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _counted(repeat: int) -> str:
    return f"{repeat} such event{'s' if repeat != 1 else ''} came before"


def _age(microseconds: int) -> str:
    seconds = microseconds // SECOND
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
