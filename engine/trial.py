"""Rules tried on the tests written beside them, by the same matcher and windows that decide online."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.detectors import ANOMALY, FIELD
from engine.errors import EventRefused, Problem, did_you_mean
from engine.expr import Env, Match, Matcher, Type, compile_rules, truth
from engine.features import Facts, Features
from engine.packs.moments import BEIJING
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest, show
from engine.schema import at_path, instant, misplaced
from engine.stores import MemoryStore

CLOCK = int(datetime.fromisoformat("2026-11-20T10:00:00+08:00").timestamp()) * 1_000_000
"""When the event of a test happens, unless it says so itself: a Friday morning in Shanghai."""

WHY = "what the rule asked, and what it was told:"
LONGEST_SHOWN = 80
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one inline test went. `problem` is None when the rule did what was expected."""

    rule: str
    it: str
    problem: Problem | None


def try_rules(rulebook: Rulebook, rules: Iterable[Rule] | None = None) -> Iterator[Trial]:
    """Run the inline tests of `rules` (all of the rulebook's when not given), in order."""
    for rule in rulebook.rules if rules is None else rules:
        matcher = compile_rules([rule.condition], rule.condition.windows, watch_unknown=(0,))
        for index, test in enumerate(rule.tests):
            yield Trial(rule.id, test.it, _try(rulebook, rule, matcher, index, test))


def player(rulebook: Rulebook, rule: Rule) -> Callable[[RuleTest], str]:
    """Gives what the rule does on a test, be it one of its own or not: fires, quiet or unknown; "" where an event of it
    cannot be."""
    matcher = compile_rules([rule.condition], rule.condition.windows, watch_unknown=(0,))

    def play(test: RuleTest) -> str:
        try:
            return _Stage(rulebook, rule, matcher).play(test)[0]
        except _Misplaced:
            return ""

    return play


def _try(rulebook: Rulebook, rule: Rule, matcher: Matcher, index: int, test: RuleTest) -> Problem | None:
    loc = (*rule.loc, "tests", index)
    try:
        got, why = _Stage(rulebook, rule, matcher).play(test)
    except _Misplaced as error:
        return rule.document.problem((*loc, *error.loc), str(error), error.hint, key=error.key)
    if got == test.expect:
        return None
    what = f"rule '{rule.id}': the test '{test.it}' expects '{test.expect}', the rule is '{got}'"
    return rule.document.problem((*loc, "expect"), what, why)


class _Misplaced(Exception):
    """Something in a test that is no event or no time, and where."""

    def __init__(self, what: str, *loc: str | int, hint: str = "", key: bool = False) -> None:
        super().__init__(what)
        self.loc = loc
        self.hint = hint
        self.key = key


class _Stage:
    """A small world for one test: empty windows, a fixed clock, the rulebook's lists and rates."""

    def __init__(self, rulebook: Rulebook, rule: Rule, matcher: Matcher) -> None:
        self._rulebook = rulebook
        self._rule = rule
        self._windows = rule.condition.windows
        self._matcher = matcher
        self._features = Features(self._windows, MemoryStore(), convert=rulebook.convert)
        self._features.restore(())
        self._known: dict[str, tuple[str, int, dict[str, Any], Mapping[str, str]]] = {}
        self._count = 0

    def play(self, test: RuleTest) -> tuple[str, str]:
        """What the rule does (fires, quiet or unknown), and why: its questions with their answers, a line each."""
        kind = test.kind or self._rule.kinds[0]
        now = self._time(test.event.get("at"), CLOCK, "event", "at")
        for at, before, place in sorted(self._times(test.before, now), key=lambda row: row[0]):
            self._show(before.event, before.kind or self._rule.kinds[0], at, "before", place, "event")
        event, reading = self._show(test.event, kind, now, "event")
        book = self._rulebook
        env = Env(event.at, event.received_at, book.lists.lookups(event.received_at, "test"), book.convert)
        values = {**event.values, ANOMALY: _percentile(test.event[ANOMALY])} if ANOMALY in test.event else event.values
        match = self._matcher(values, reading.values, env)
        got = "fires" if match.fired else "unknown" if match.unsure else "quiet"
        return got, "\n".join([WHY, *self._questions(kind, values, reading.values, match)])

    def _questions(self, kind: str, values: Mapping[str, Any], features: Sequence[Any], match: Match) -> Iterator[str]:
        """Each question of the rule with its answer and the values behind it, in the form of `arbiter explain`."""
        fields = {**self._rulebook.schema.fields(kind), ANOMALY: FIELD}
        for number in dict.fromkeys(number for number, _ in self._matcher.atoms_of(0)):
            atom = self._matcher.atoms[number]
            answer = truth(number, match.true, match.unknown)
            shown = [(path, at_path(values, path), Type(fields[path].type)) for path in sorted(atom.paths)]
            shown += [(each.name, features[self._windows.index(each)], each.type) for each in atom.windows]
            known = ", ".join(f"{name} = {_shown(value, type_)}" for name, value, type_ in shown)
            yield f"  {answer:<8}{atom.text}" + (f"    [{known}]" if known else "")

    def _times(self, history: Iterable[Before], now: int) -> Iterator[tuple[int, Before, int]]:
        """(when, what, place) of every earlier event, from the newest back."""
        later = now
        for place, before in reversed(list(enumerate(history))):
            newest = later - before.every if before.ago is None else now - before.ago
            for step in range(before.repeat):
                yield newest - step * before.every, before, place
            later = newest - (before.repeat - 1) * before.every

    def _show(self, given: Mapping[str, Any], kind: str, at: int, *loc: str | int) -> Any:
        schema = self._rulebook.schema
        if kind not in schema.kinds:
            hint = did_you_mean(kind, schema.kinds) or "one of: " + ", ".join(schema.kinds)
            raise _Misplaced(f"there is no kind of event '{kind}'", *loc[:-1], "kind", hint=hint)
        self._count += 1
        body = {**schema.sample_fields(kind), "event_id": f"test-{self._count}", "at": at, **given}
        body.pop(ANOMALY, None)
        try:
            event = schema.build(body, received_at=at, kind=kind, tenant="test")
        except EventRefused as error:
            raise _refused(error, given, loc) from None
        public, _, entities = schema.split(event)
        keys: Mapping[str, str] = {path: f"{namespace}:{value}" for path, namespace, value in entities}
        if event.id in self._known:
            raise _Misplaced("another event of this test has this event_id, so this one would not count", *loc)
        if kind == "outcome":
            first = event.values["outcome"]["refers_to"]
            if first not in self._known:
                raise _Misplaced("no earlier event of this test has the id in outcome.refers_to", *loc)
            about_kind, about_at, about, about_keys = self._known[first]
            fault = misplaced(event, about_kind, about_at)
            if fault is not None:
                raise _Misplaced(fault.what, *loc, hint=fault.hint)
            public, keys = {**about, **public}, {**about_keys, **keys}
        self._known[event.id] = (kind, event.at, public, keys)
        facts = Facts(kind, "test", event.id, event.at, at + self._count, public, keys)
        return event, self._features.observe(facts)

    def _time(self, given: Any, default: int, *loc: str | int) -> int:
        if given is None:
            return default
        try:
            return instant(str(given))
        except ValueError:
            raise _Misplaced("write a time such as 2026-11-20T10:00:00+08:00", *loc) from None


def _percentile(given: Any) -> int | Decimal:
    """The anomaly that a test says the event has: no model is asked in a test."""
    if isinstance(given, bool) or not isinstance(given, int | Decimal) or not 0 <= given <= 100:
        raise _Misplaced("the anomaly is a number from 0 to 100", "event", ANOMALY)
    return given


def _refused(error: EventRefused, given: Mapping[str, Any], loc: tuple[str | int, ...]) -> _Misplaced:
    """The first problem with a field that the test itself gives, or the first one."""
    first = next((problem for problem in error.problems if problem.path in given), error.problems[0])
    if first.path in given:
        return _Misplaced(str(first), *loc, first.path, hint=first.hint, key=True)
    return _Misplaced(str(first), *loc, hint=first.hint)


def _shown(value: Any, type_: Type) -> str:
    """A value on one line, of a length that can be read."""
    text = " ".join(show(value, type_, "en", BEIJING).split())
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
