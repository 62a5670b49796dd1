"""A first test for a condition: one question after another is given the answer that is wanted, the earlier ones kept.

What has to hold is read off the condition (all sides of an `and`, one of an `or`); for each question the variants that
aim at it are tried until one has the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, product

from engine.expr import And, Expression, Node, Not, Or, expression
from engine.mutation.asked import Part
from engine.mutation.given import Given, Purse, Spent, Variant
from engine.mutation.meeting import met
from engine.mutation.variants import more, variants
from engine.trial import Built

MOST_WAYS = 8
"""Ways for a condition to be answered that are tried, and of each of its parts half as many."""

Goal = tuple[Expression, bool]
"""A question and the answer that is wanted."""
Start = Callable[[Variant, Purse], Given]
"""Makes a test ready to be changed."""
Way = Callable[[Given], Iterator[Variant]]
"""Tests made of one, nearest first."""


def reached(start: Start, base: Variant, condition: Node, wanted: bool, built: Built) -> Variant | None:
    """A test made of `base` on which a condition is answered as wanted; None when none was found."""
    for goals in islice(_ways(condition, wanted), MOST_WAYS):
        found: Variant | None = base
        for number in range(1, len(goals) + 1):
            found = _step(start, found, goals[:number], built) if found is not None else None
        if found is not None:
            return found
    return None


def _ways(node: Node, wanted: bool) -> Iterator[tuple[Goal, ...]]:
    """What has to hold for an answer; each way would do."""
    match node:
        case Not(item=item):
            yield from _ways(item, not wanted)
        case And(items=items) | Or(items=items) if isinstance(node, And) == wanted:
            for together in product(*(list(islice(_ways(item, wanted), MOST_WAYS // 2)) for item in items)):
                yield tuple(goal for goals in together for goal in goals)
        case And(items=items) | Or(items=items):
            for item in items:
                yield from _ways(item, wanted)
        case _:
            yield ((expression(node), wanted),)


def beside(start: Start, base: Variant, condition: Node, wanted: bool, built: Built) -> Variant | None:
    """A test one change from `base` on which a condition is answered as wanted: what it asks is then plain to see."""
    part = Part.of([condition])
    return _holding(start, base, [(expression(condition), wanted)], lambda given: variants(given, part), built)


def _step(start: Start, base: Variant, goals: Sequence[Goal], built: Built) -> Variant | None:
    """A test near `base` on which all goals hold, the last of which may not hold yet."""
    part = Part.of([goals[-1][0].tree])
    ways = (partial(way, part=part) for way in (_near, _filled, _two))
    found = (_holding(start, base, goals, way, built) for way in ways)
    return next((variant for variant in found if variant is not None), None)


def _holding(start: Start, base: Variant, goals: Sequence[Goal], way: Way, built: Built) -> Variant | None:
    """The first test of a way on which all goals hold; None where there is none within its budget."""
    purse = Purse(built)
    try:
        return next((variant for variant in way(start(base, purse)) if _hold(start(variant, purse), goals)), None)
    except Spent:
        return None


def _hold(given: Given, goals: Sequence[Goal]) -> bool:
    tried = given.tried
    return tried is not None and all(tried.value(asked) is wanted for asked, wanted in goals)


# The ways, nearest first; each has a budget of its own.


def _near(given: Given, part: Part) -> Iterator[Variant]:
    """What is there, but at the edge of what the question asks where nothing is said of that yet; and one change."""
    if part.paths - given.test.event.keys():
        yield from met(given, part)
    yield given.told(part.paths - {"at"})
    yield from variants(given, part)
    yield from more(given, part)


def _filled(given: Given, part: Part) -> Iterator[Variant]:
    """The same, once every field that the question asks about says something."""
    full = given.filled(part.paths - {"at"})
    if full.test.event != given.test.event:
        yield from _near(given.other(full), part)


def _two(given: Given, part: Part) -> Iterator[Variant]:
    """Two changes."""
    for first in variants(given, part):
        yield from variants(given.other(first), part)
