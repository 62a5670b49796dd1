"""A table in the order of time: its events, and what became known of them when it became known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from cli.tables import Bad, Rows
from engine.errors import EventRefused, FieldProblem, did_you_mean
from engine.mapping import Beside, Table
from engine.rulebook import Rulebook
from engine.schema import Event

TENANT = "score"

Refused = Callable[[Bad], None]
Step = Callable[[int], Any]


def nothing(_: int) -> None:
    """A step that nobody counts."""


class Happened(NamedTuple):
    """The row's event, or, where `about` is that event, what became known of it. `labelled`: the row has an outcome,
    known by now or later. `beside`: what else the row says."""

    row: int
    event: Event
    about: Event | None
    labelled: bool
    beside: Beside


class _Order(NamedTuple):
    """Places of events and outcomes in the order of time, and which of them are outcomes."""

    places: Any
    late: Any


class History:
    """All rows of a table, as a server would have got them.

    What becomes known at an instant is known to an event of that instant; rows of one instant keep their order. What
    the first walk finds out of the rows, a later one need not: it tells no refusals.
    """

    def __init__(self, table: Table, rows: Rows, rulebook: Rulebook) -> None:
        policy = rulebook.kinds[table.kind].policy
        self._tiers = tuple(policy.pack.tiers) if policy else ()
        self._table = table
        self._rows = rows
        self._order: _Order | None = None
        self._gone = bytearray(len(rows))
        """By place: rows that were refused, whose outcomes must not be told either."""
        self._labelled = np.zeros(len(rows), bool)

    def walk(
        self, refused: Refused, step: Step = nothing, *, rows: Collection[int] | None = None
    ) -> Iterator[Happened]:
        """Everything in the order of time, or the events of the rows of these numbers alone; `step(count)` is told how
        many more rows are done, `refused` what is no event."""
        if self._order is None:
            for bad in self._rows.unreadable:
                refused(bad)
            self._order = self._in_time(refused)
        order = self._order if rows is None else self._among(self._order, rows)
        seen: set[str] = set()
        for place, late, cells in self._placed(order):
            number = int(self._rows.numbers[place])
            if not late:
                step(1)
            if self._gone[place]:
                continue
            try:
                beside = self._beside(cells, number)
                if late:
                    about = self._table.event(cells, number, TENANT)
                    yield Happened(number, self._table.outcome(cells, number, about), about, True, beside)
                else:
                    event = self._event(number, cells, seen)
                    yield Happened(number, event, None, bool(self._labelled[place]), beside)
            except EventRefused as error:
                self._gone[place] = 1
                refused((number, error.problems))

    def _beside(self, cells: tuple[str | None, ...], number: int) -> Beside:
        found = self._table.beside(cells, number)
        if found.tier and self._tiers and found.tier not in self._tiers:
            hint = did_you_mean(found.tier, self._tiers) or "one of " + ", ".join(self._tiers)
            raise EventRefused([FieldProblem("tier", "not_a_choice", "the policy has no such tier", hint)])
        return found

    def _event(self, number: int, cells: tuple[str | None, ...], seen: set[str]) -> Event:
        event = self._table.event(cells, number, TENANT)
        if event.id in seen:
            raise EventRefused([FieldProblem("event_id", "used_twice", "an earlier row has this id")])
        seen.add(event.id)
        return event

    def _in_time(self, refused: Refused) -> _Order:
        """All rows that have a time; the others are gone."""
        size = len(self._rows)
        at, known = np.zeros(size, np.int64), np.zeros(size, np.int64)
        place = 0
        for block in self._rows.blocks():
            for cells in block:
                number = int(self._rows.numbers[place])
                try:
                    at[place], later = self._table.times(cells, number)
                    known[place], self._labelled[place] = later or 0, later is not None
                except EventRefused as error:
                    self._gone[place] = 1
                    refused((number, error.problems))
                place += 1
        happened, later_on = np.flatnonzero(np.frombuffer(self._gone, np.uint8) == 0), np.flatnonzero(self._labelled)
        places = np.concatenate([later_on, happened])
        times = np.concatenate([known[later_on], at[happened]])
        order = np.argsort(times, kind="stable")
        return _Order(places[order], order < len(later_on))

    def _among(self, order: _Order, rows: Collection[int]) -> _Order:
        places, late = order
        wanted = np.isin(self._rows.numbers[places], np.fromiter(rows, np.int64, len(rows))) & ~late
        return _Order(places[wanted], late[wanted])

    def _placed(self, order: _Order) -> Iterator[tuple[int, bool, tuple[str | None, ...]]]:
        start = 0
        for block in self._rows.blocks(order.places):
            for offset, cells in enumerate(block, start):
                yield int(order.places[offset]), bool(order.late[offset]), cells
            start += len(block)
