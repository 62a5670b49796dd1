"""A table in the order of time: its events, and what became known of them when it became known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cli.tables import Bad, Rows
from engine.errors import EventRefused, FieldProblem
from engine.mapping import Table
from engine.schema import Event

TENANT = "score"

Refused = Callable[[Bad], None]
Step = Callable[[int], Any]


def nothing(_: int) -> None:
    """A step that nobody counts."""


class Happened(NamedTuple):
    """The row's event, or, where `about` is that event, what became known of it. `labelled`: the row has an outcome,
    known by now or later."""

    row: int
    event: Event
    about: Event | None
    labelled: bool


class History:
    """All rows of a table, as a server would have got them. What is no event goes to `refused`, once a walk.

    What becomes known at an instant is known to an event of that instant; rows of one instant keep their order.
    """

    def __init__(self, table: Table, rows: Rows) -> None:
        self._table = table
        self._rows = rows

    def walk(self, refused: Refused, step: Step = nothing) -> Iterator[Happened]:
        """Everything in the order of time; `step(count)` is told how many more rows are done."""
        for bad in self._rows.unreadable:
            refused(bad)
        return self._walk(refused, step)

    def _walk(self, refused: Refused, step: Step) -> Iterator[Happened]:
        gone = bytearray(len(self._rows))
        """By place: rows that were refused, whose outcomes must not be told either."""
        order, outcomes, labelled = self._in_time(gone, refused)
        seen: set[str] = set()
        for place, late, cells in self._placed(order, outcomes):
            number = int(self._rows.numbers[place])
            if late and gone[place]:
                continue
            if not late:
                step(1)
            try:
                if late:
                    about = self._table.event(cells, number, TENANT)
                    yield Happened(number, self._table.outcome(cells, number, about), about, True)
                else:
                    yield Happened(number, self._event(number, cells, seen), None, bool(labelled[place]))
            except EventRefused as error:
                gone[place] = 1
                refused((number, error.problems))

    def _event(self, number: int, cells: tuple[str | None, ...], seen: set[str]) -> Event:
        event = self._table.event(cells, number, TENANT)
        if event.id in seen:
            raise EventRefused([FieldProblem("event_id", "used_twice", "an earlier row has this id")])
        seen.add(event.id)
        return event

    def _in_time(self, gone: bytearray, refused: Refused) -> tuple[Any, Any, Any]:
        """Places of events and outcomes in the order of time, which of them are outcomes, and which places have one."""
        size = len(self._rows)
        at, known = np.zeros(size, np.int64), np.zeros(size, np.int64)
        labelled = np.zeros(size, bool)
        place = 0
        for block in self._rows.blocks():
            for cells in block:
                number = int(self._rows.numbers[place])
                try:
                    at[place], later = self._table.times(cells, number)
                    known[place], labelled[place] = later or 0, later is not None
                except EventRefused as error:
                    gone[place] = 1
                    refused((number, error.problems))
                place += 1
        happened = np.flatnonzero(np.frombuffer(gone, np.uint8) == 0)
        later_on = np.flatnonzero(labelled)
        places = np.concatenate([later_on, happened])
        times = np.concatenate([known[later_on], at[happened]])
        order = np.argsort(times, kind="stable")
        return places[order], order < len(later_on), labelled

    def _placed(self, places: Any, late: Any) -> Iterator[tuple[int, bool, tuple[str | None, ...]]]:
        start = 0
        for block in self._rows.blocks(places):
            for offset, cells in enumerate(block, start):
                yield int(places[offset]), bool(late[offset]), cells
            start += len(block)
