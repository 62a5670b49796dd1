"""Tests that differ from a given one in a single place, aimed at the edges of a condition.

What is varied: a field of the judged event or of an earlier one, how many earlier events there are, and how long ago.
Numbers are not guessed: where a comparison stands between two sides, the value at which they meet is worked out, and
that value, one step below and one above are tried (boundary value analysis: ISTQB Foundation syllabus 4.0, 4.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.mutation.asked import Part
from engine.mutation.given import Given, Variant
from engine.mutation.history import additions, counted, of_history, one_added
from engine.mutation.measures import HOUR, SECOND, as_number, moment
from engine.mutation.meeting import met, solved
from engine.mutation.values import values_of
from engine.mutation.wording import said
from engine.packs.moments import day_of, start_of
from engine.trial import CLOCK


def variants(given: Given, part: Part) -> Iterator[Variant]:
    """Variants that change the answers to the questions of `part`."""
    yield from counted(given, part)
    yield from _of_event(given, part)
    for window in part.windows:
        yield from one_added(given, window, part.ages)
    yield from of_history(given, part)


def more(given: Given, part: Part) -> Iterator[Variant]:
    """Variants with so many more earlier events, at the edges of windows, that two sides meet or nearly do."""
    for window in part.windows:
        for added in additions(given, window, part.ages):
            for sides in part.comparisons:
                if any(window in side.windows for side in sides):
                    yield from solved(given, sides, added)


def _of_event(given: Given, part: Part) -> Iterator[Variant]:
    yield from met(given, part)
    for path in sorted(part.paths):
        if path in given.own and path != "at":
            field = given.own[path]
            for value in values_of(field, part, given.test.event):
                yield given.put(said(path, value), field, value)
    if "at" in part.paths:
        yield from _hours(given)


def _hours(given: Given) -> Iterator[Variant]:
    """The full hours of the usual day of a test, those near its own time first, and one second before each."""
    day, own = start_of(day_of(CLOCK).isoformat()), int(as_number(given.test.event.get("at"), "instant") or CLOCK)
    full = sorted((day + hour * HOUR for hour in range(24)), key=lambda at: abs(at - own))
    for at in [*full, *(hour - SECOND for hour in full if hour > day)]:
        written = moment(at)
        yield given.made(f"it is {written[11:19]} in Shanghai", event={**given.test.event, "at": written})
