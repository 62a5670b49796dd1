"""Rules tried on the tests written beside them, by the same matcher and windows that decide online."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from engine.detectors import ANOMALY, FIELD
from engine.errors import EventRefused, Problem, did_you_mean
from engine.expr import Env, Match, Matcher, Type, Window, compile_rules, truth, value_of
from engine.features import Facts, Features, Reading
from engine.packs.moments import BEIJING
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest, show
from engine.schema import Event, at_path, instant, misplaced
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


class Scene(Protocol):
    """What a test is made of: earlier events, and the event that is judged, of the usual kind where none is said."""

    @property
    def before(self) -> Sequence[Before]: ...

    @property
    def kind(self) -> str | None: ...

    @property
    def event(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """A test made ready: the event that is judged, the world it is judged in, and what windows see, oldest first.

    The last of `facts` is the judged event itself.
    """

    kind: str
    event: Event
    values: dict[str, Any]
    env: Env
    facts: tuple[Facts, ...]

    def features(self, windows: Sequence[Window], rulebook: Rulebook) -> list[Any]:
        """The values of `windows` at the judged event, in their order."""
        return self.reading(windows, rulebook).values

    def reading(
        self, windows: Sequence[Window], rulebook: Rulebook, reads: Mapping[str, Sequence[int]] | None = None
    ) -> Reading:
        """The same with what is missing; `reads` says which of the windows a kind of event reads."""
        features = Features(windows, MemoryStore(), reads=reads, convert=rulebook.convert, compiler=_compiled)
        features.restore(())
        *earlier, judged = self.facts
        for each in earlier:
            features.observe(each)
        return features.observe(judged)


_compiled = lru_cache(maxsize=2_048)(value_of)
"""Conditions of windows, compiled: the windows of a rule are made anew for each of its tests."""


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
            staged = stage(rulebook, rule, test)
        except Misplaced:
            return ""
        return _got(matcher(staged.values, staged.features(rule.condition.windows, rulebook), staged.env))

    return play


Built = dict[tuple[str, int, int, str], Event]
"""Events that were made before, by kind, time, number and what a test says of them."""


def stage(
    rulebook: Rulebook, rule: Rule, test: RuleTest, like: Staged | None = None, built: Built | None = None
) -> Staged:
    """A test of a rule made ready; `like` is one of the same kind and time with the same earlier events. What is in
    `built` is not made again. Raises Misplaced for what is no event or no time."""
    return stage_scene(rulebook, rule.kinds[0], test, like=like, built=built)


def stage_scene(
    rulebook: Rulebook,
    usual: str,
    scene: Scene,
    clock: int = CLOCK,
    *,
    like: Staged | None = None,
    built: Built | None = None,
) -> Staged:
    """A scene made ready, at `clock` (UTC µs) where its event does not say when. Raises Misplaced."""
    return _Stage(rulebook, usual, clock, built).ready(scene, like)


def _try(rulebook: Rulebook, rule: Rule, matcher: Matcher, index: int, test: RuleTest) -> Problem | None:
    loc = (*rule.loc, "tests", index)
    try:
        staged = stage(rulebook, rule, test)
    except Misplaced as error:
        return rule.document.problem((*loc, *error.loc), str(error), error.hint, key=error.key)
    features = staged.features(rule.condition.windows, rulebook)
    match = matcher(staged.values, features, staged.env)
    got = _got(match)
    if got == test.expect:
        return None
    why = "\n".join([WHY, *_questions(rulebook, rule, matcher, staged, features, match)])
    what = f"rule '{rule.id}': the test '{test.it}' expects '{test.expect}', the rule is '{got}'"
    return rule.document.problem((*loc, "expect"), what, why)


def _got(match: Match) -> str:
    return "fires" if match.fired else "unknown" if match.unsure else "quiet"


def _questions(
    rulebook: Rulebook, rule: Rule, matcher: Matcher, staged: Staged, features: Sequence[Any], match: Match
) -> Iterator[str]:
    """Each question of the rule with its answer and the values behind it, in the form of `arbiter explain`."""
    fields = {**rulebook.schema.fields(staged.kind), ANOMALY: FIELD}
    for number in dict.fromkeys(number for number, _ in matcher.atoms_of(0)):
        atom = matcher.atoms[number]
        answer = truth(number, match.true, match.unknown)
        shown = [(path, at_path(staged.values, path), Type(fields[path].type)) for path in sorted(atom.paths)]
        windows = rule.condition.windows
        shown += [(each.name, features[windows.index(each)], each.type) for each in atom.windows]
        known = ", ".join(f"{name} = {_shown(value, type_)}" for name, value, type_ in shown)
        yield f"  {answer:<8}{atom.text}" + (f"    [{known}]" if known else "")


class Misplaced(Exception):
    """Something in a test that is no event or no time, and where."""

    def __init__(self, what: str, *loc: str | int, hint: str = "", key: bool = False) -> None:
        super().__init__(what)
        self.loc = loc
        self.hint = hint
        self.key = key


class _Stage:
    """A small world for one test: a fixed clock, the rulebook's lists and rates, events of the kind `usual`."""

    def __init__(self, rulebook: Rulebook, usual: str, clock: int, built: Built | None) -> None:
        self._rulebook = rulebook
        self._usual = usual
        self._clock = clock
        self._built = built
        self._known: dict[str, Facts] = {}
        self._facts: list[Facts] = []

    def ready(self, test: Scene, like: Staged | None = None) -> Staged:
        kind = test.kind or self._usual
        now = self._time(test.event.get("at"), self._clock, "event", "at")
        if like is not None:
            self._facts = list(like.facts[:-1])
            self._known = {facts.id: facts for facts in self._facts}
        else:
            for at, before, place in sorted(self._times(test.before, now), key=lambda row: row[0]):
                self._show(before.event, before.kind or self._usual, at, "before", place, "event")
        event = self._show(test.event, kind, now, "event")
        book = self._rulebook
        env = Env(event.at, event.received_at, book.lists.lookups(event.received_at, "test"), book.convert)
        values = {**event.values, ANOMALY: _percentile(test.event[ANOMALY])} if ANOMALY in test.event else event.values
        return Staged(kind, event, values, env, tuple(self._facts))

    def _times(self, history: Iterable[Before], now: int) -> Iterator[tuple[int, Before, int]]:
        """(when, what, place) of every earlier event, from the newest back."""
        later = now
        for place, before in reversed(list(enumerate(history))):
            newest = later - before.every if before.ago is None else now - before.ago
            for step in range(before.repeat):
                yield newest - step * before.every, before, place
            later = newest - (before.repeat - 1) * before.every

    def _show(self, given: Mapping[str, Any], kind: str, at: int, *loc: str | int) -> Event:
        schema = self._rulebook.schema
        if kind not in schema.kinds:
            hint = did_you_mean(kind, schema.kinds) or "one of: " + ", ".join(schema.kinds)
            raise Misplaced(f"there is no kind of event '{kind}'", *loc[:-1], "kind", hint=hint)
        count = len(self._facts) + 1
        event = self._event(given, kind, at, count, loc)
        public, _, entities = schema.split(event)
        keys: Mapping[str, str] = {path: f"{namespace}:{value}" for path, namespace, value in entities}
        if event.id in self._known:
            raise Misplaced("another event of this test has this event_id, so this one would not count", *loc)
        if kind == "outcome":
            first = self._known.get(event.values["outcome"]["refers_to"])
            if first is None:
                raise Misplaced("no earlier event of this test has the id in outcome.refers_to", *loc)
            fault = misplaced(event, first.kind, first.at)
            if fault is not None:
                raise Misplaced(fault.what, *loc, hint=fault.hint)
            public, keys = {**first.values, **public}, {**first.keys, **keys}
        facts = Facts(kind, "test", event.id, event.at, at + count, public, keys)
        self._known[event.id] = facts
        self._facts.append(facts)
        return event

    def _event(self, given: Mapping[str, Any], kind: str, at: int, count: int, loc: tuple[str | int, ...]) -> Event:
        named = (kind, at, count, repr(given)) if self._built is not None else None
        if named and self._built and named in self._built:
            return self._built[named]
        schema = self._rulebook.schema
        body = {**schema.sample_fields(kind), "event_id": f"test-{count}", "at": at, **given}
        body.pop(ANOMALY, None)
        try:
            event = schema.build(body, received_at=at, kind=kind, tenant="test")
        except EventRefused as error:
            raise _refused(error, given, loc) from None
        if named and self._built is not None:
            self._built[named] = event
        return event

    def _time(self, given: Any, default: int, *loc: str | int) -> int:
        if given is None:
            return default
        try:
            return instant(str(given))
        except ValueError:
            raise Misplaced("write a time such as 2026-11-20T10:00:00+08:00", *loc) from None


def _percentile(given: Any) -> int | Decimal:
    """The anomaly that a test says the event has: no model is asked in a test."""
    if isinstance(given, bool) or not isinstance(given, int | Decimal) or not 0 <= given <= 100:
        raise Misplaced("the anomaly is a number from 0 to 100", "event", ANOMALY)
    return given


def _refused(error: EventRefused, given: Mapping[str, Any], loc: tuple[str | int, ...]) -> Misplaced:
    """The first problem with a field that the test itself gives, or the first one."""
    first = next((problem for problem in error.problems if problem.path in given), error.problems[0])
    if first.path in given:
        return Misplaced(str(first), *loc, first.path, hint=first.hint, key=True)
    return Misplaced(str(first), *loc, hint=first.hint)


def _shown(value: Any, type_: Type) -> str:
    """A value on one line, of a length that can be read."""
    text = " ".join(show(value, type_, "en", BEIJING).split())
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
