"""Modes: what people switch on for a while when something is going on, such as guarded, review-all or stop-payouts.

    await modes.switch("guarded", body, caller)     # {"for": "2h", "reason": "cards are being tested"}
    await modes.end("guarded", body, caller)

What a mode does stands in the policies (`modes`). It can only be more careful than without it, so whoever may let a
rulebook decide may switch it on alone; before its time it is ended by a person. It ends by itself: an event is in a
mode by when it was received. Each step is in the ledger before it takes effect, and the record of a decision has the
modes it was made in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.errors import Conflict, NotFound, SecondPerson, did_you_mean
from engine.intake import Clock, Intake
from engine.packs.durations import duration
from engine.packs.moments import written
from engine.policy import LONGEST_MODE
from engine.schema import masked, wrong
from engine.team import Team

MODE = "mode"
"""What other processes are told: a mode is on, or over."""


def _length(value: Any) -> int:
    try:
        length = duration(value)
    except ValueError as error:
        raise wrong("bad_format", str(error)) from None
    if length > LONGEST_MODE:
        raise wrong("out_of_range", "at most 7d", "what has to last longer is a change of the policy")
    return length


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    reason: str = Field(min_length=1, max_length=400, description="Why; it is recorded")
    person: str = Field(default="", max_length=120, description="Who decided, where a service reports it")


class ModeOn(_Body):
    """A mode to be on for a while."""

    for_: Annotated[int, BeforeValidator(_length)] = Field(
        alias="for", description="How long, at most 7d", json_schema_extra={"type": "string"}
    )


class ModeOff(_Body):
    """A mode to end before its time."""


_ON: TypeAdapter[ModeOn] = TypeAdapter(ModeOn)
_OFF: TypeAdapter[ModeOff] = TypeAdapter(ModeOff)


class Modes:
    """The modes that are on, of each tenant by itself."""

    def __init__(self, database: db.Database, changes: Changes, intake: Intake, team: Team, clock: Clock) -> None:
        self._rows = db.Rows(database, db.mode)
        self._changes = changes
        self._intake = intake
        self._team = team
        self._clock = clock
        team.on(MODE, self._set)

    async def load(self) -> None:
        """Put the modes that the database holds in force."""
        found: dict[str, dict[str, int]] = {}
        for row in await self._rows.find():
            found.setdefault(row["tenant"], {})[row["name"]] = row["until"]
        self._intake.live.modes = found

    async def shown(self, caller: Caller) -> dict[str, Any]:
        """Every mode of the rulebook in force: what it does by policy, and whether, until when and why it is on."""
        now = self._clock()
        rows = {row["name"]: row for row in await self._rows.find(tenant=caller.tenant)}
        on = [{name: row[name] for name in _SHOWN} for row in rows.values() if now < row["until"]]
        return {"on": on, "modes": [{"name": name, "does": does} for name, does in self._known().items()]}

    async def switch(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Switch a mode on, or on for longer. Conflict where it is on for longer already; NotFound, BodyRefused."""
        wanted = read_body(_ON, body)
        self._must_know(name)
        async with self._changes.turn():
            now = self._clock()
            before, until = self._until(caller.tenant, name), now + wanted.for_
            if before >= until:
                raise Conflict(f"this mode is on until {written(before)}, which is later: a person may end it before")
            by = caller.speaking_for(wanted.person)
            return await self._put(caller.tenant, name, until, now, wanted.reason, by)

    def _must_know(self, name: str) -> None:
        """NotFound where no policy in force does anything in this mode."""
        known = self._known()
        if name not in known:
            hint = did_you_mean(name, known) or ("modes are " + ", ".join(known) if known else "none has a mode")
            raise NotFound(f"no policy in force has the mode '{name[:40]}'; {hint}")

    async def enter(self, tenant: str, name: str, length: int, reason: str, by: By) -> int:
        """See that a mode is on for `length` µs from now, and say until when (UTC µs); longer where it was already."""
        async with self._changes.turn():
            now = self._clock()
            before = self._until(tenant, name)
            if before < now + length:
                await self._put(tenant, name, now + length, now, reason, by)
            return self._until(tenant, name)

    async def end(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """End a mode before its time, as a person. Conflict where it is not on."""
        wanted = read_body(_OFF, body)
        if caller.kind != "person":
            raise SecondPerson("a person ends a mode before its time: use the key of a person, or wait for its end")
        async with self._changes.turn():
            now = self._clock()
            if self._until(caller.tenant, name) <= now:
                raise Conflict("this mode is not on")
            return await self._put(caller.tenant, name, now, now, wanted.reason, caller.by)

    def seconds_left(self) -> Mapping[tuple[str, str], float]:
        """(tenant, mode) → for how many more seconds it is on."""
        now = self._clock()
        modes = self._intake.live.modes
        return {(tenant, name): (until - now) / 1e6 for tenant, on in modes.items() for name, until in on.items()
                if now < until}  # fmt: skip

    def _known(self) -> dict[str, dict[str, Any]]:
        """Mode → policy → what it does there."""
        known: dict[str, dict[str, Any]] = {}
        for policy in self._intake.live.rulebook.policies.values():
            for name in policy.active(policy.pack.modes):
                mode = policy.pack.modes[name]
                seconds = None if mode.for_ is None else mode.for_ // 1_000_000
                does = {"at_least": mode.at_least, "do": mode.do, "for_s": seconds, "if": mode.if_}
                known.setdefault(name, {})[policy.name] = {
                    key: value for key, value in does.items() if value is not None
                }
        return dict(sorted(known.items()))

    def _until(self, tenant: str, name: str) -> int:
        return self._intake.live.modes.get(tenant, {}).get(name, 0)

    async def _put(self, tenant: str, name: str, until: int, now: int, reason: str, by: By) -> dict[str, Any]:
        """On until then; over where that is now."""
        await self._intake.ready(tenant)
        note = partial(self._intake.seal_note, tenant, subject=None, note=reason)
        before, after = (written(each) if each > now else None for each in (self._until(tenant, name), until))
        id = await self._changes.record(tenant, "mode", name, before, after, by, note)
        who = by.person or by.name
        row = {"name": name, "until": until, "changed": now, "by": who, "reason": masked(reason), "record": id}
        await self._rows.put(tenant=tenant, **row)
        self._set((tenant, name, until))
        await self._team.tell(MODE, (tenant, name, until))
        return {key: row[key] for key in _SHOWN}

    def _set(self, said: Sequence[Any]) -> None:
        tenant, name, until = said
        modes = self._intake.live.modes
        self._intake.live.modes = {**modes, tenant: {**modes.get(tenant, {}), name: until}}


_SHOWN = ("name", "until", "changed", "by", "reason", "record")
