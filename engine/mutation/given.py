"""One test of a rule: what conditions say of it, and the same test with something changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.expr import Expression, Window, interpret
from engine.mutation.asked import seen_by
from engine.mutation.wording import events, said
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest
from engine.schema import FieldDef, exact
from engine.trial import Built, Misplaced, Staged, stage

BUDGET = 500
"""What one way of looking for a test may cost: the tests that are tried, and a part of their events."""
BASE_COST = 3
"""What a test costs that has other earlier events than the one it was made of."""
CHEAP = 8
"""So many earlier events cost one more."""
_ANSWERS = {True: "fires", False: "quiet", None: "unknown"}


class Spent(Exception):
    """The search has put together as many events as it may."""


class Purse:
    """What one way of looking may still spend, which bounds its time, and the events that are put together already."""

    def __init__(self, built: Built) -> None:
        self.left = BUDGET
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
    like: Given | None = None
    path: str = ""


class Given:
    """One test of a rule, to be asked and to be changed."""

    def __init__(self, rulebook: Rulebook, rule: Rule, variant: Variant, purse: Purse) -> None:
        self._rulebook = rulebook
        self._rule = rule
        self._variant = variant
        self._purse = purse
        self.test = variant.test

    def other(self, variant: Variant) -> Given:
        """Another test of the same rule."""
        return Given(self._rulebook, self._rule, variant, self._purse)

    @cached_property
    def tried(self) -> Tried | None:
        """The test made ready; None when it is no test (a value that no event may have). Raises Spent."""
        like = self._variant.like.tried if self._variant.like else None
        count = sum(before.repeat for before in self.test.before)
        self._purse.pay(1 if like else BASE_COST + count // CHEAP)
        try:
            staged = stage(self._rulebook, self._rule, self.test, like.staged if like else None, self._purse.built)
        except Misplaced:
            return None
        same = like is not None and self._variant.path not in seen_by(self._rule.condition.windows)
        return Tried(self._rulebook, staged, like.windows if like and same else None)

    # What it holds

    def kind_of(self, event: RuleTest | Before) -> str:
        """The kind of the judged event or of an earlier one."""
        return event.kind or self._rule.kinds[0]

    def fields(self, kind: str) -> Mapping[str, FieldDef]:
        """The fields that an event of a kind may have."""
        return self._rulebook.schema.judged_fields(kind)

    @property
    def own(self) -> Mapping[str, FieldDef]:
        """The fields that the judged event may have."""
        return self.fields(self.kind_of(self.test))

    def sample(self, place: int | None, path: str) -> Any:
        """What the judged event (None) or an earlier one holds at a path, or would."""
        event = self.test if place is None else self.test.before[place]
        return event.event[path] if path in event.event else self.usual(self.kind_of(event), path)

    def usual(self, kind: str, path: str) -> Any:
        """What an event of a kind may hold at a path; None where it has no such field."""
        field = self.fields(kind).get(path)
        if field is None:
            return None
        return exact(field.example) if field.type == "number" else field.example

    def places(self, windows: Iterable[Window]) -> list[int]:
        """The earlier entries that windows look at: of those that differ in their identifiers alone, the first and the
        last."""
        kinds = {kind for window in windows for kind in window.kinds}
        groups: dict[str, list[int]] = {}
        for place, before in enumerate(self.test.before):
            kind = self.kind_of(before)
            if kind in kinds:
                fields = self.fields(kind)
                same = {path: value for path, value in before.event.items() if not _identifies(fields.get(path))}
                groups.setdefault(repr((kind, before.repeat, sorted(same.items(), key=str))), []).append(place)
        return sorted({place for places in groups.values() for place in (places[0], places[-1])})

    # The same with something changed

    def made(self, words: str, **changed: Any) -> Variant:
        """The test with some parts changed."""
        return Variant((*self._variant.words, words), self.test.model_copy(update=changed))

    def put(self, words: str, field: FieldDef, value: Any) -> Variant:
        """The test with another value in the judged event."""
        test = self.test.model_copy(update={"event": with_value(self.test.event, field, value)})
        return Variant((*self._variant.words, words), test, self, field.path)

    def replaced(self, words: str, place: int, *instead: Before) -> Variant:
        """The test with other earlier entries in the place of one."""
        before = self.test.before
        return self.made(words, before=[*before[:place], *instead, *before[place + 1 :]])

    def told(self, paths: Iterable[str]) -> Variant:
        """The test that says of some fields what they would be anyway, so that it is seen."""
        usual = self._rulebook.schema.sample_fields(self.kind_of(self.test))
        more = {path: usual[path] for path in sorted(paths) if path in usual and path not in self.test.event}
        words = (said(path, value) for path, value in more.items())
        return self._saying((*self._variant.words, *words), {**self.test.event, **more})

    def filled(self, paths: Iterable[str]) -> Variant:
        """The test with a usual value in every one of some fields of which it says nothing yet."""
        event = dict(self.test.event)
        for path in sorted(path for path in paths if path in self.own and path not in event):
            event = with_value(event, self.own[path], self.sample(None, path))
        return self._saying(self._variant.words, event)

    def _saying(self, words: tuple[str, ...], event: Mapping[str, Any]) -> Variant:
        return Variant(words, self.test.model_copy(update={"event": event}))

    def repeated(self, place: int, repeat: int) -> Variant:
        """The test with so many events of an earlier entry."""
        if repeat == 0:
            return self.replaced("no such event came before", place)
        words = f"{events(repeat, 'such')} came before"
        return self.replaced(words, place, changed(self.test.before[place], repeat=repeat))

    def added(self, words: str, kind: str, more: Iterable[Before], judged: Mapping[str, Any]) -> Variant:
        """The test with more earlier events of a kind, before those that are there, and another judged event."""
        told = None if kind == self._rule.kinds[0] else kind
        return self.made(words, before=[*(changed(each, kind=told) for each in more), *self.test.before], event=judged)


def changed(before: Before, **parts: Any) -> Before:
    """An earlier entry with some parts changed."""
    return before.model_copy(update=parts)


def with_value(event: Mapping[str, Any], field: FieldDef, value: Any) -> dict[str, Any]:
    """The event with another value in a field; a field of a list's objects is set in one object."""
    path = field.path
    above, _, name = path.rpartition(".")
    if field.many and above in event and isinstance(event[above], list):
        first = event[above][0] if event[above] else {}
        values = value if isinstance(value, list) else [value]
        return {**event, above: [{**first, name: each} for each in values]}
    return {**event, path: value}


def _identifies(field: FieldDef | None) -> bool:
    """Whether a field says only which one it is; one that its kind does not have says nothing."""
    return field is None or field.identifier or field.entity != ""
