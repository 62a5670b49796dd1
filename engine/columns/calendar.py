"""Zones as columns: the offset from UTC at an instant, from the same pinned tables that `hour` uses online."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import ibis

from engine.columns.macros import WHOLE, call
from engine.expr.functions import FIRST_INSTANT, zone
from engine.expr.nodes import EPOCH

HOUR, DAY = 3_600_000_000, 86_400_000_000
_STEP = DAY
_FROM = -100 * 366 * DAY
"""Before 1870 no zone had a rule: one local time each."""
_CYCLE = 146_097 * DAY
"""400 years of the Gregorian calendar, whole weeks: rules of summer time come again on the same days."""
_RULED = 68 * 366 * DAY
"""After 2037 the tables are followed by a rule alone."""


def hour(at: Any, name: str) -> Any:
    """The hour of the day in a zone, 0 to 23."""
    local = at + _offset(at, name)
    return call("arb_floor_div", WHOLE, call("arb_floor_mod", WHOLE, local, DAY), HOUR)


def weekday(at: Any, name: str) -> Any:
    """The day of the week in a zone, 1 for Monday."""
    days = call("arb_floor_div", WHOLE, at + _offset(at, name), DAY)
    return call("arb_floor_mod", WHOLE, days + 3, 7) + 1  # 1970 began on a Thursday.


def _offset(at: Any, name: str) -> Any:
    steps = transitions(name)
    if len(steps) == 1:
        return ibis.literal(steps[0][1], type=WHOLE)
    late = at - call("arb_floor_div", WHOLE, at - _RULED, _CYCLE) * _CYCLE
    return _tree(ibis.ifelse(at < _RULED, at, late), steps)


def _tree(at: Any, steps: Sequence[tuple[int, int]]) -> Any:
    """A choice among steps that a row makes in as many comparisons as their number has binary digits."""
    if len(steps) == 1:
        return ibis.literal(steps[0][1], type=WHOLE)
    middle = len(steps) // 2
    return ibis.ifelse(at < steps[middle][0], _tree(at, steps[:middle]), _tree(at, steps[middle:]))


@lru_cache(maxsize=64)
def transitions(name: str) -> tuple[tuple[int, int], ...]:
    """(from when on, offset) in microseconds, until 400 years after the tables end."""
    steps = [(FIRST_INSTANT, _offset_at(FIRST_INSTANT, name))]
    last = steps[0][1]
    for at in range(_FROM, _RULED + _CYCLE, _STEP):
        found = _offset_at(at, name)
        if found != last:
            steps.append((_change(at - _STEP, at, name), found))
            last = found
    return tuple(steps)


def _change(before: int, after: int, name: str) -> int:
    """The first microsecond of the offset that holds at `after`."""
    new = _offset_at(after, name)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset_at(middle, name) == new else (middle, after)
    return after


def _offset_at(at: int, name: str) -> int:
    offset = (EPOCH + timedelta(microseconds=at)).astimezone(zone(name)).utcoffset()
    assert offset is not None, "a zone has an offset"
    return offset // timedelta(microseconds=1)
