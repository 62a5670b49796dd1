"""Zones as columns: the offset from UTC at an instant, from the same pinned tables that `hour` uses online.

Instants of events lie between the years 2000 and 2100 (engine.schema), so that a zone has few offsets to choose from.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any

from engine.columns.macros import WHOLE, call
from engine.columns.steps import step
from engine.expr.functions import zone
from engine.expr.nodes import EPOCH
from engine.schema.values import EARLIEST, LATEST

HOUR, DAY = 3_600_000_000, 86_400_000_000


def hour(at: Any, name: str) -> Any:
    """The hour of the day in a zone, 0 to 23, of an event's instant."""
    local = at + step(at, transitions(name))
    return call("arb_floor_div", WHOLE, call("arb_floor_mod", WHOLE, local, DAY), HOUR)


def weekday(at: Any, name: str) -> Any:
    """The day of the week in a zone, 1 for Monday, of an event's instant."""
    days = call("arb_floor_div", WHOLE, at + step(at, transitions(name)), DAY)
    return call("arb_floor_mod", WHOLE, days + 3, 7) + 1  # 1970 began on a Thursday.


@lru_cache(maxsize=64)
def transitions(name: str) -> tuple[tuple[int, int], ...]:
    """(from when on, offset) in microseconds, over the time in which events lie. No zone changes twice within a day."""
    steps = [(EARLIEST, _offset_at(EARLIEST, name))]
    for at in range(EARLIEST + DAY, LATEST + DAY, DAY):
        found = _offset_at(at, name)
        if found != steps[-1][1]:
            steps.append((_change(at - DAY, at, name), found))
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
