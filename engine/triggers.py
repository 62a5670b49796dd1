"""Triggers at work: events that playbooks count, in one process for all, and out of the ledger after a start.

    triggers = Triggers(ledger, intake, team, clock, fire)
    triggers.saw(record)                          # each event, once its record is durable
    await triggers.tend()                         # now and then: another rulebook has other triggers

`fire` is called when one has tripped, with the tenant, the playbook, the trigger and what it counted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from engine.expr import Env
from engine.intake import Clock, Intake
from engine.ledger import Ledger
from engine.playbooks import Playbook, Trigger
from engine.rulebook import Rulebook
from engine.schema import decode
from engine.team import Team
from engine.tripwires import Tripwire

TRIPPED = "tripped"
"""What the process that counts for all hears of: an event that a trigger counts."""

QUIET = 5_000_000
"""µs for which a trigger that has tripped is not looked at again."""

Fire: TypeAlias = Callable[[str, Playbook, Trigger, Tripwire], Coroutine[Any, Any, None]]


class Triggers:
    """Counts events for the triggers of the rulebook in force."""

    def __init__(self, ledger: Ledger, intake: Intake, team: Team, clock: Clock, fire: Fire) -> None:
        self._ledger = ledger
        self._intake = intake
        self._team = team
        self._clock = clock
        self._fire = fire
        self._counted: Rulebook | None = None
        """The rulebook whose triggers are counted."""
        self._watched: dict[str, list[tuple[Playbook, int]]] = {}
        """Kind of event → the triggers that count such events, by their places."""
        self._wires: dict[tuple[str, str, Trigger], Tripwire] = {}
        self._quiet: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        team.on(TRIPPED, self._heard)

    def saw(self, record: Mapping[str, Any]) -> None:
        """An event that is in the ledger, by its record. Nothing here waits."""
        event = record["event"]
        if event["kind"] not in self._watched:
            return
        for book, place in self._watched[event["kind"]]:
            if not self._counts(book, place, record):
                continue
            told = (record["tenant"], book.id, place, event["received_at"], event["arrival"])
            if self._team.index == 0:
                self._count(*told)
            else:
                self._team.spread(TRIPPED, told)

    def _counts(self, book: Playbook, place: int, record: Mapping[str, Any]) -> bool:
        """Whether a trigger counts an event. By its public fields, as the record has them: so it is the same again."""
        trigger, test, event = book.triggers[place], book.tests.get(place), record["event"]
        if trigger.signal and trigger.signal not in record.get("signals", ()):
            return False
        if test is None:
            return True
        env = Env(event["at"], event["received_at"], {}, self._intake.live.rulebook.convert)
        return test(decode(event["public"]), (), env) is True

    def _heard(self, items: Sequence[tuple[str, str, int, int, int]]) -> None:
        if self._team.index == 0:
            for each in items:
                self._count(*each)

    def _count(self, tenant: str, playbook: str, place: int, received_at: int, arrival: int) -> None:
        book = next((book for book in self._intake.live.rulebook.playbooks if book.id == playbook), None)
        if book is None or place >= len(book.triggers):
            return  # Another process has another rulebook for a moment.
        trigger, now = book.triggers[place], self._clock()
        wire = self._wire(tenant, book, trigger)
        wire.add(received_at, arrival)
        fresh = received_at > now - trigger.within  # What was long ago is counted again after a start.
        if fresh and wire.tripped() and self._quiet.get((tenant, playbook), 0) <= now:
            self._quiet[tenant, playbook] = now + QUIET
            task = asyncio.get_running_loop().create_task(self._fire(tenant, book, trigger, wire))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _wire(self, tenant: str, book: Playbook, trigger: Trigger) -> Tripwire:
        wire = self._wires.get((tenant, book.id, trigger))
        if wire is None:
            wire = self._wires[tenant, book.id, trigger] = Tripwire(trigger.at_least, trigger.within)
        return wire

    async def settled(self) -> None:
        """Wait until what has tripped was told of."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def tend(self) -> None:
        """Count for the rulebook in force; where it is another one than before, out of the ledger. Unavailable."""
        rulebook = self._intake.live.rulebook
        if rulebook is self._counted:
            return
        watched: dict[str, list[tuple[Playbook, int]]] = defaultdict(list)
        for book in rulebook.playbooks:
            for place, trigger in enumerate(book.triggers):
                if trigger.kind:
                    watched[trigger.kind].append((book, place))
        self._watched = dict(watched)
        if self._team.index == 0:
            known = {(book.id, trigger) for book in rulebook.playbooks for trigger in book.triggers}
            self._wires = {key: wire for key, wire in self._wires.items() if key[1:] in known}
            await self._recall()
        self._counted = rulebook

    async def _recall(self) -> None:
        reach = max((book.triggers[at].within for each in self._watched.values() for book, at in each), default=0)
        if reach:
            async for facts in self._ledger.facts(self._clock() - reach):
                for fact in facts:
                    if fact.event_kind in self._watched and fact.kind in ("decision", "event"):
                        self.saw(orjson.loads(fact.leaf))
