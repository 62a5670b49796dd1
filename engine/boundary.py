"""Tests for a rule from its condition: one that fires and one that stays quiet, as near to each other as can be.

Values just below, at and just above what the condition compares with are tried through `engine.trial`, and histories
one event too short and just long enough (boundary value analysis: ISTQB Foundation syllabus 4.0, 4.2.2). It finds most
plain conditions and few that need patterns, links, lists or text of a form; then it gives less than both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from math import prod
from typing import Any, Literal

from engine.expr import BOOL, DURATION, INSTANT, MONEY, NUMBER, Node, Window, spell
from engine.expr.nodes import Call, Field, Not, walk
from engine.expr.nodes import Literal as Constant
from engine.money import Money
from engine.packs.moments import BEIJING
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest
from engine.trial import CLOCK, player

MOST_TRIES = 1_000
"""Events that are tried for one rule."""
_LONGEST_HISTORY = 60
"""Earlier events in a test that a person is to read."""
_COMPARED = ("==", "!=", "<", "<=", ">", ">=")
_KEY = "k1"
_PLAIN: Mapping[str, Sequence[Any]] = {
    "number": (1, 0, 10, 1000),
    "money": ("100.00 CNY", "1.00 CNY", "10000.00 CNY"),
    "instant": ("2026-11-19T10:00:00+08:00", "2026-11-21T10:00:00+08:00"),
}
"""Values of fields that a condition compares with each other, not with a value of its own."""

Chosen = dict[str, Any]
"""Path → value as a test writes it, and name of a window → `Past`; None for nothing."""


@dataclass(frozen=True, slots=True)
class Past:
    """Earlier events: how many, and what each has."""

    count: int
    event: tuple[tuple[str, Any], ...]
    differs: str = ""
    """The path that has another value in each."""
    every: str = "1m"


def boundary_tests(rulebook: Rulebook, rule: Rule) -> tuple[RuleTest, ...]:
    """A test that fires and one that stays quiet; fewer where none was found."""
    choices = _Choices(rulebook, rule)
    play = player(rulebook, rule)
    fires: Chosen | None = None
    quiet: Chosen | None = None
    for chosen in choices.tried():
        got = play(choices.test(chosen, "fires"))
        if got == "fires":
            fires = _least(choices, chosen, play)
            # One value changed is the nearest: what the rule asks is then seen at a glance.
            near = (other for other in choices.beside(fires) if play(choices.test(other, "quiet")) == "quiet")
            quiet = next(near, quiet)
            break
        if got == "quiet":
            quiet = chosen
    tests = [choices.test(fires, "fires")] if fires is not None else []
    return (*tests, *([choices.test(quiet, "quiet")] if quiet is not None else []))


def _least(choices: _Choices, fires: Chosen, play: Callable[[RuleTest], str]) -> Chosen:
    """The firing event without what it does not need; values that the condition speaks of stay to be seen."""
    for name in (name for name in fires if name not in choices.named):
        less = {**fires, name: None}
        if fires[name] is not None and play(choices.test(less, "fires")) == "fires":
            fires = less
    return fires


class _Choices:
    """What may stand in an event for this rule: for each path, and each window, a few values."""

    def __init__(self, rulebook: Rulebook, rule: Rule) -> None:
        self._fields = rulebook.schema.fields(rule.kinds[0])
        self._kind = rule.kinds[0]
        self.values: dict[str, list[Any]] = {path: [] for path in sorted(rule.condition.paths) if path in self._fields}
        self.named: set[str] = set()
        """Paths that the condition compares with a value."""
        self._pasts: dict[str, list[Past | None]] = {}
        for node in walk(rule.condition.tree):
            self._note(node)
        for window in rule.condition.windows:
            self._history(rule, window)
        for path, values in self.values.items():
            self._complete(path, values)

    def tried(self) -> Iterator[Chosen]:
        """Choices in an order that is the same each time: all of them, or as many as may be tried."""
        names = [*self.values, *self._pasts]
        options: list[Sequence[Any]] = [*self.values.values(), *self._pasts.values()]
        if prod(map(len, options)) <= MOST_TRIES:
            yield from (dict(zip(names, row, strict=True)) for row in product(*options))
            return
        rng = random.Random(20261120)  # noqa: S311  # the same tests each time, not a secret
        for _ in range(MOST_TRIES):
            yield {name: rng.choice(values) for name, values in zip(names, options, strict=True)}

    def beside(self, chosen: Chosen) -> Iterator[Chosen]:
        """Choices that differ in one value, those of numbers and amounts first."""
        # The time of the event last: another value says more.
        options: dict[str, Sequence[Any]] = {**self._pasts, **self.values}
        options["at"] = options.pop("at", ())
        for name, values in options.items():
            at = values.index(chosen[name]) if chosen.get(name) in values else 0
            near = sorted(range(len(values)), key=lambda place, at=at: abs(place - at))  # type: ignore[misc]
            others = (values[place] for place in near if values[place] is not None)
            yield from ({**chosen, name: other} for other in others if other != chosen[name])
        yield from ({**chosen, name: None} for name in options if chosen.get(name) is not None)

    def test(self, chosen: Chosen, expect: Literal["fires", "quiet"]) -> RuleTest:
        """The test that these choices are."""
        event = {path: chosen[path] for path in self.values if chosen[path] is not None}
        pasts = [past for name in self._pasts if (past := chosen[name]) is not None]
        for past in pasts:
            event |= {path: value for path, value in past.event if value == _KEY}
        before = [row for past in pasts for row in _rows(past)]
        words = {"fires": "fires on what the condition asks for", "quiet": "stays quiet just short of it"}
        return RuleTest(it=words[expect], before=before, event=event, expect=expect)

    # From the condition

    def _note(self, node: Node) -> None:
        """Values for the fields of one comparison."""
        if isinstance(node, Not):
            return
        if isinstance(node, Field) and node.type == BOOL:
            self._add(node.path, [True, False])
        if not isinstance(node, Call):
            return
        literals = [each for each in node.args if isinstance(each, Constant)]
        others = [each for each in node.args if not isinstance(each, Constant)]
        if len(literals) != 1 or len(others) != 1:
            return
        calls = [each for each in walk(others[0]) if isinstance(each, Call)]
        named = next((each.row.name for each in calls if each.row.name in ("hour", "weekday")), "")
        for field in (each for each in walk(others[0]) if isinstance(each, Field)):
            self._add(field.path, list(_near(literals[0], field, named)))

    def _add(self, path: str, values: Iterable[Any]) -> None:
        if path in self.values:
            self.named.add(path)
            self.values[path] += [value for value in values if value not in self.values[path]]

    def _complete(self, path: str, values: list[Any]) -> None:
        """Beside the values that the condition names: one that it does not, and none."""
        definition = self._fields[path]
        if path == "at":
            values.insert(0, None)
            return
        other = [choice for choice in definition.choices if choice not in values][:1]
        if not values and definition.type in _PLAIN:
            other = list(_PLAIN[definition.type])
        elif definition.form.name == "country":
            other = ["CN", "US", "DE"]
        elif not other and (not values or definition.type in ("text", "list[text]")):
            other = [definition.example]
        values += [value for value in other if value not in values]
        if definition.type == "bool":
            values.sort(key=lambda value: value is not False)
        values.append(None)

    # Histories

    def _history(self, rule: Rule, window: Window) -> None:
        """Histories for one window: as many events as it is compared with, one fewer and one more."""
        if window.steps or window.groups or not window.kinds or self._kind not in window.kinds:
            return
        wanted = {
            int(literal.value)
            for node in walk(rule.condition.tree)
            if isinstance(node, Call) and node.row.name in _COMPARED
            for literal in node.args
            if isinstance(literal, Constant) and literal.type == NUMBER and window.name in node.text
        }
        counts = sorted({n + d for n in wanted or {1} for d in (-2, -1, 0, 1) if 0 < n + d <= _LONGEST_HISTORY})
        keys = tuple((path, _KEY) for path in window.by if path in self._fields and self._fields[path].type == "text")
        differs = _only_path(window) if window.function == "distinct" else ""
        every = spell(max(1_000_000, min(60_000_000, window.length // (_LONGEST_HISTORY * 2))), DURATION)
        base = dict(self._where(window))
        self._pasts[window.name] = [
            None, *(Past(count, (*keys, *base.items()), differs, every) for count in counts)
        ]  # fmt: skip
        for path in (path for path, _ in keys):
            self.values.pop(path, None)
        for path, value in base.items():
            if window.including_this:
                self.values.setdefault(path, [])
                self._add(path, [value])
        if differs and window.including_this:
            self.values[differs] = ["v0"]

    def _where(self, window: Window) -> Iterator[tuple[str, Any]]:
        """What an earlier event has so that the window counts it, as far as its condition says it plainly."""
        if window.argument is not None and window.function != "distinct":
            path = _only_path(window)
            if path in self._fields:
                yield path, _written(self._fields[path].example)
        for node in walk(window.where.tree) if window.where else ():
            if isinstance(node, Field) and node.type == BOOL:
                yield node.path, True
            if isinstance(node, Call) and len(node.args) == 2 and isinstance(node.args[1], Constant):
                field = next((each for each in walk(node.args[0]) if isinstance(each, Field)), None)
                near = list(_near(node.args[1], field, "")) if field else []
                if field is not None and near:
                    yield field.path, near[{"<": 0, ">": 2}.get(node.row.name, 1) if len(near) == 3 else 0]


def _only_path(window: Window) -> str:
    paths = sorted(window.argument.paths) if window.argument else []
    return paths[0] if paths else ""


def _rows(past: Past) -> list[Before]:
    event = dict(past.event)
    if not past.differs:
        return [Before.model_validate({"repeat": past.count, "every": past.every, "event": event})]
    return [
        Before.model_validate({"every": past.every, "event": {**event, past.differs: f"v{number}"}})
        for number in range(1, past.count + 1)
    ]


def _near(literal: Constant, field: Field, named: str) -> Iterator[Any]:
    """Values of a field just below, at and just above a literal, as tests write them."""
    value, type_ = literal.value, literal.type
    if named == "hour":
        yield from (_clock().replace(hour=int(value + by) % 24).isoformat() for by in (-1, 0, 1))
    elif named == "weekday":
        yield from ((_clock() + timedelta(days=by)).isoformat() for by in range(7))
    elif type_ == MONEY and field.type == MONEY:
        yield from (_money(value, by) for by in (-1, 0, 1))
    elif type_ == NUMBER and field.type == NUMBER:
        step = 1 if isinstance(value, int) else Decimal("0.01")
        yield from (value + by * step for by in (-1, 0, 1))
    elif type_ == DURATION and field.type == INSTANT and field.path != "at":
        moments = (CLOCK - value - by * 1_000_000 for by in (-1, 0, 1))
        yield from (_moment(each) for each in moments)
    elif type_ == INSTANT and field.type == INSTANT:
        yield from (_moment(value + by * 1_000_000) for by in (-1, 0, 1))
    elif type_.element is not None and type_.element == field.type:
        yield from (_written(each) for each in value[:6])
    elif field.type.element is not None:
        yield [_written(each) for each in (value if type_.element else [value])][:1]
    elif type_ == field.type:
        yield _written(value)


def _clock() -> datetime:
    return datetime.fromtimestamp(CLOCK // 1_000_000, BEIJING)


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).astimezone(BEIJING).isoformat()


def _money(value: Any, by: int) -> str:
    amount = Decimal(value.amount) + by * Decimal("0.01")
    return f"{amount:.2f} {value.currency}"


def _written(value: Any) -> Any:
    return _money(value, 0) if isinstance(value, Money) else value
