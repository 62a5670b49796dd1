"""Variants of a test in what happened before: earlier events fewer or more, older or younger, and with other values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.expr import Window
from engine.mutation.asked import Part, Sides, meeting, paths_of
from engine.mutation.given import Given, Variant, changed, with_value
from engine.mutation.measures import HOUR, SECOND, measured, moment
from engine.mutation.meeting import Added, EventField, solved
from engine.mutation.values import is_chosen, values_of
from engine.mutation.wording import said
from engine.rules import Before, RuleTest, show_duration
from engine.trial import CLOCK


def counted(given: Given, part: Part) -> Iterator[Variant]:
    """One earlier event less."""
    for place in given.places(part.windows):
        repeat = given.test.before[place].repeat
        if repeat > 1:
            yield given.repeated(place, repeat - 1)
        else:
            yield given.replaced("one earlier event is left out", place)


def of_history(given: Given, part: Part) -> Iterator[Variant]:
    """Earlier events that are there, of another age or with other values."""
    for place in given.places(part.windows):
        yield from _aged(given, place, part.ages)
        yield from _altered(given, place, part)
        yield from _bounded(given, place, part.inner)
    yield from _all_altered(given, part)


def _aged(given: Given, place: int, ages: Iterable[int]) -> Iterator[Variant]:
    """The oldest of some events at the edge of a window or of a comparison, just outside, and just inside."""
    before = given.test.before[place]
    span = (before.repeat - 1) * before.every
    for old in (edge + by for edge in ages for by in (0, SECOND, -SECOND)):
        words = f"{'the oldest' if before.repeat > 1 else 'an'} earlier event is {show_duration(old)} old"
        if old - span > 0:
            yield given.replaced(words, place, changed(before, ago=old - span))
        elif before.repeat > 1 and old > before.repeat:
            every = max(old // before.repeat // SECOND, 1) * SECOND
            yield given.replaced(words, place, changed(before, every=every, ago=old - (before.repeat - 1) * every))


def _altered(given: Given, place: int, part: Part) -> Iterator[Variant]:
    """One earlier event with another value, in the place of one or beside those that are there."""
    before = given.test.before[place]
    kind = given.kind_of(before)
    fields = given.fields(kind)
    for path in paths_of([window for window in part.windows if kind in window.kinds]):
        if path in fields and is_chosen(fields[path]):
            for value in values_of(fields[path], part, before.event):
                single = changed(before, event=with_value(before.event, fields[path], value), repeat=1)
                words = said(path, value, "an earlier")
                yield given.replaced(words, place, single, *_fewer(before))
                if before.repeat == 1:
                    yield given.replaced(said(path, value, "one more"), place, before, single)


def _fewer(before: Before) -> list[Before]:
    """What is left of an entry without one event."""
    return [changed(before, repeat=before.repeat - 1)] if before.repeat > 1 else []


def _bounded(given: Given, place: int, inner: Iterable[Sides]) -> Iterator[Variant]:
    """One earlier event, or all of an entry, at the edge of a comparison that a window makes of it."""
    before = given.test.before[place]
    kind = given.kind_of(before)
    fields = given.fields(kind)
    alone = RuleTest(it="", kind=kind, event={**before.event, "at": moment(_when(given.test, place))}, expect="quiet")
    single = given.other(Variant((), alone))
    for sides in inner:
        for path in sorted(path for path in sides[0].paths | sides[1].paths if path in fields):
            for variant in solved(single, sides, EventField(fields[path], None)) if measured(fields[path]) else ():
                value = variant.test.event[path]
                whole = changed(before, event={**before.event, path: value})
                one = changed(whole, repeat=1)
                yield given.replaced(said(path, value, "an earlier"), place, one, *_fewer(before))
                yield given.replaced(said(path, value, "every earlier"), place, whole)


def _when(test: RuleTest, place: int) -> int:
    """When the newest event of an earlier entry happens, if the judged one does at the usual time."""
    later = CLOCK
    for before in reversed(test.before[place:]):
        newest = later - before.every if before.ago is None else CLOCK - before.ago
        later = newest - (before.repeat - 1) * before.every
    return newest


def _all_altered(given: Given, part: Part) -> Iterator[Variant]:
    """All earlier events with another value."""
    before = given.test.before
    for path in paths_of(part.windows) if before else ():
        tables = [given.fields(given.kind_of(each)) for each in before]
        field = next((table[path] for table in tables if path in table), None)
        if field is not None and is_chosen(field):
            for value in values_of(field, part, before[0].event):
                entries = [
                    changed(each, event=with_value(each.event, field, value)) if path in table else each
                    for each, table in zip(before, tables, strict=True)
                ]
                yield given.made(said(path, value, "every earlier"), before=entries)


# More of them


def one_added(given: Given, window: Window, ages: Iterable[int]) -> Iterator[Variant]:
    """One earlier event more, made as a window wants it, of every age that may matter."""
    for kind, event, judged in _wanted(given, window):
        for old in dict.fromkeys((HOUR, *(edge + by for edge in ages for by in (0, SECOND, -SECOND)))):
            one = changed(Before(event=event), ago=old)
            yield given.added(f"another {kind} came {show_duration(old)} before", kind, [one], judged)


def additions(given: Given, window: Window, ages: Iterable[int]) -> Iterator[Added]:
    """Events that a window may hold more of: in the minutes before, just inside its edges and just outside."""
    path = window.argument.text if window.function == "distinct" and window.argument else ""
    for kind, event, judged in _wanted(given, window):
        field = given.fields(kind).get(path)
        yield Added(kind, event, judged, None, False, field)
        for edge in ages:
            for outside in (False, True):
                yield Added(kind, event, judged, edge, outside, field)


def _wanted(given: Given, window: Window) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(kind, event, judged event) for each kind that a window looks at: an event that it holds, and the judged event
    with the keys by which it does, itself held where the window counts it."""
    own = given.own
    keys = {path: given.sample(None, path) for path in window.by}
    wanted = [step.where for step in window.steps] if window.steps else [window.where]
    kinds = [step.kinds[0] for step in window.steps] if window.steps else window.kinds
    met = dict(pair for where in wanted if where for pair in meeting(where.tree))
    judged = {**given.test.event, **{path: value for path, value in keys.items() if path in own}}
    if window.including_this and given.kind_of(given.test) in window.kinds:
        judged = {**{path: value for path, value in met.items() if path in own}, **judged}
    if window.including_this or window.function == "percentile":
        judged = {**_reckoned(given, window, given.kind_of(given.test)), **judged}
    for kind in dict.fromkeys(kinds):
        fields = given.fields(kind)
        if kind == "outcome" or not fields.keys() >= {path for path in window.by if path in own}:
            continue
        event = {**_reckoned(given, window, kind), **_like(given, kind)}
        event |= {path: value for path, value in keys.items() if path in fields and value is not None}
        yield kind, event | {path: value for path, value in met.items() if path in fields}, judged


def _like(given: Given, kind: str) -> dict[str, Any]:
    """What the first earlier event of a kind says, without its name."""
    first = next((each for each in given.test.before if given.kind_of(each) == kind), None)
    return {path: value for path, value in first.event.items() if path != "event_id"} if first else {}


def _reckoned(given: Given, window: Window, kind: str) -> dict[str, Any]:
    """What an event of a kind has to say for a window to reckon with it: the usual value of what is reckoned."""
    paths = window.argument.paths if window.argument is not None and window.function != "distinct" else frozenset()
    usual = {path: given.usual(kind, path) for path in sorted(paths - {"at"})}
    return {path: value for path, value in usual.items() if value is not None}
