"""Erasing a person: what was sealed of them, the keys it was sealed with, and whatever links their events.

    erasure = Erasure(ledger, vault, intake, rulebook, warmth, changes, team, clock)
    done = await erasure.erase("shop-a", {"buyer.account": "u-1001"}, "asked by letter", by)

What stays are the leaves, in which nothing is personal, and what a law asks to keep (`policies/retention.yaml`): that
is sealed anew under a key that does nothing else, opens for nobody, and ends with its term (`engine.ledger.expiry`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy import Connection

from engine.bodies import read_body
from engine.callers import By
from engine.changes import RELOAD, Changes
from engine.errors import BodyRefused, EventRefused, FieldProblem, NotFound, did_you_mean
from engine.features import Facts
from engine.intake import Clock, Intake, facts_of
from engine.jcs import canonical
from engine.ledger import Ledger, new_id
from engine.ledger.erasing import Person, Resealed, Trace, cells_of, find_person, take_out
from engine.retention import Kept
from engine.rulebook import Rulebook
from engine.schema import SUBJECTS, Schema
from engine.team import Team
from engine.vault import RESTRICTED, Sealed, Vault
from engine.warmth import WARM, Warmth

FORGET = "forget"
"""What other processes are told: to let go of the keys of these subjects."""

NAMING = ("person", "account", "payer", "phone", "email", "company", "payout_account")
"""The identities that name one person. A device, an address or a network may be of many."""


UNTOLD = ("id", "restricted_until", "evidence_until")
"""What an answer says, and the log does not."""


class ErasureRequest(BaseModel):
    """Whom to erase: fields of events that name a person, with their values; and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(min_length=1, max_length=1000)]] = (
        Field(min_length=1, max_length=20, description="such as buyer.account or buyer.phone, as events have them")
    )
    reason: str = Field(min_length=1, max_length=400)


_REQUEST = TypeAdapter(ErasureRequest)


class Erasure:
    """Erases persons, one at a time, beside everything else that goes on."""

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        intake: Intake,
        warmth: Warmth,
        changes: Changes,
        team: Team,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._vault = vault
        self._intake = intake
        self._warmth = warmth
        self._changes = changes
        self._team = team
        self._clock = clock
        team.on(FORGET, self._heard)

    async def request(self, tenant: str, body: bytes, by: By) -> dict[str, Any]:
        """`erase`, as the API is asked for it. BodyRefused for a body that does not fit."""
        wanted = read_body(_REQUEST, body)
        return await self.erase(tenant, wanted.identities, wanted.reason, by)

    async def erase(self, tenant: str, identities: Mapping[str, str], reason: str, by: By) -> dict[str, Any]:
        """Erase whoever has one of these identities (field of an event → value), and say what was done in numbers.

        What arrives from now on is of a new person, even under the same identities. Done a second time it finds what
        came since. BodyRefused for a field that names nobody or a value that no event may have; NotFound when nothing
        is kept of them; Unavailable and VaultError when that which the law keeps cannot be sealed anew: then nothing
        is done.
        """
        named = {self._vault.pseudonym(tenant, *each) for each in named_by(self._live.schema, identities)}
        async with self._team.turn(RELOAD), self._warmth.busy, self._team.turn(WARM), self._changes.turn():
            await self._vault.ready(tenant)
            began = _wall()
            person = await self._find(tenant, named)
            if not person:
                raise NotFound("nothing is kept of a person with these identities")
            # Keys from before are in use nowhere once all that is under way is written.
            await self._forget(person)
            await self._warmth.settled()
            seen = person.keys
            person = await self._find(tenant, named)
            kept = await self._resealed(person)
            # Those that were there at first, whatever the clock says: it may have been set back since they were made.
            keys = [id for id, made in person.keys.items() if id in seen or made < began]
            disputes = self._live.retention.disputes
            done = _numbers(person, kept, keys, disputes)
            done["record"] = await self._record(tenant, done, reason, by)
            gone = person.evidence if disputes is None else ()
            await self._take_out(person, lambda connection: take_out(connection, person, keys, kept, gone))
            await self._forget(person)
            if person.listed or person.stood:
                await self._changes.read_again()
        return done

    async def _take_out(self, person: Person, work: Callable[[Connection], None]) -> None:
        """Out of the windows and their snapshot first: wherever a sudden end comes, nothing counts the person that is
        erased, and one that is not yet is found again."""
        self._warmth.drop_snapshot()
        counted = _counted(person)
        for before, after in counted:
            self._intake.recount(before, after)
        try:
            await self._ledger.database.write(work)
        except Exception:  # whatever it was, the person is not erased: count again, and let the caller hear of it
            for before, after in counted:
                self._intake.recount(after, before)
            raise
        await self._ledger.database.scrub()

    async def _find(self, tenant: str, named: Iterable[str]) -> Person:
        role_of = partial(role_at, self._live.schema)
        names = frozenset(named)
        return await self._ledger.database.read(
            lambda connection: find_person(connection, tenant, names, SUBJECTS, role_of)
        )

    async def _forget(self, person: Person) -> None:
        said = (person.tenant, sorted(person.subjects), [id.hex() for id in person.keys])
        self._heard(said)
        await self._team.tell(FORGET, said)

    def _heard(self, said: Sequence[Any]) -> None:
        tenant, subjects, keys = said
        for subject in subjects:
            self._vault.forget(tenant, subject, map(bytes.fromhex, keys))

    async def _resealed(self, person: Person) -> list[Resealed]:
        """What the law keeps, each under a key and a subject of its own, so that nothing says whose it was."""
        now, kept = self._clock(), []
        for trace in person.traces:
            until = self._live.retention.floor(trace.event_kind, trace.at)
            if until is None or until <= now or not trace.cells:
                continue
            for cell in await self._cells(trace):
                if cell.key is None:
                    continue
                resealed = self._vault.reseal(cell, *self._vault.lone_key(person.tenant), RESTRICTED)
                kept.append(Resealed(trace.row, cell.subject, resealed, until))
        return kept

    async def _cells(self, trace: Trace) -> list[Sealed]:
        cells = await self._ledger.database.read(lambda connection: cells_of(connection, trace))
        await self._vault.prepare(cells)
        return cells

    async def _record(self, tenant: str, done: Mapping[str, Any], reason: str, by: By) -> str:
        """Into the log before it is done: counts alone, since ids of the records would link them for ever, and so would
        times: they are those of an event, and of what was done, and a term."""
        numbers = {name: value for name, value in done.items() if name not in UNTOLD}
        note = partial(self._intake.seal_note, tenant, subject=None, note=reason) if reason else None
        what = canonical(numbers).decode()
        return await self._changes.record(tenant, "erased", done["id"], None, what, by, note)

    @property
    def _live(self) -> Rulebook:
        return self._intake.live.rulebook


def _counted(person: Person) -> list[tuple[Facts, Facts]]:
    """What windows hold of the person's events, and what they hold of them for others."""
    return [
        (facts_of(person.tenant, trace.leaf, dict(trace.keys)), facts_of(person.tenant, trace.leaf, dict(trace.left)))
        for trace in person.traces
        if trace.kind in ("decision", "event")
    ]


def _numbers(person: Person, kept: Sequence[Resealed], keys: Sequence[bytes], disputes: Kept | None) -> dict[str, Any]:
    """What is done, in numbers. What was sent in a dispute is kept for that, where the file says how long."""
    cells = sum(len(trace.cells) for trace in person.traces)
    until = [] if disputes is None else [each.at + disputes.kept for each in person.evidence]
    return {
        "id": new_id(),
        "records": len(person.traces),
        "erased": cells - len(kept) + len(person.evidence) - len(until),
        "restricted": len(kept),
        "restricted_until": max((each.until for each in kept), default=None),
        "keys": len(keys),
        "list_entries": len(person.listed),
        "standings": len(person.stood),
        "evidence": len(until),
        "evidence_until": max(until, default=None),
    }


def named_by(schema: Schema, identities: Mapping[str, str]) -> list[tuple[str, str]]:
    """(namespace, normal form) of each identity, as events get them. BodyRefused tells all that are none."""
    fields = {path: each for kind in schema.kinds for path, each in schema.body_fields(kind).items()}
    naming = {path: each for path, each in fields.items() if each.entity in NAMING}
    found, problems = [], []
    for path, value in identities.items():
        if path not in naming:
            what = "no field of events names one person so"
            hint = did_you_mean(path, naming) or "the fields are " + ", ".join(naming)
            problems.append(FieldProblem("identities", "unknown_field", what, hint))
            continue
        try:
            found.append(normal_form(schema, path, value))
        except EventRefused as error:
            problems += [
                FieldProblem(f"identities.{each.path}", each.code, each.what, each.hint) for each in error.problems
            ]
    if problems:
        raise BodyRefused(problems)
    return found


def normal_form(schema: Schema, path: str, value: str) -> tuple[str, str]:
    """The namespace and the normal form that an event gets for `value` in the linking field `path`.

    EventRefused for a value that no event may have there, or of which nothing is left that could link.
    """
    kind = next(kind for kind in schema.kinds if path in schema.body_fields(kind))
    event = schema.build({**schema.sample_fields(kind), path: value}, received_at=0, kind=kind)
    for name, namespace, form in schema.split(event)[2]:
        if name == path:
            return namespace, form
    raise EventRefused([FieldProblem(path, "bad_format", "nothing is left of this value that could link events")])


def role_at(schema: Schema, kind: str, path: str) -> str:
    """Whose identity stands at a path in events of a kind; empty for a path that this schema does not have."""
    field = schema.fields(kind).get(path) if kind in schema.kinds else None
    return field.subject if field is not None else ""


def _wall() -> int:
    """UTC microseconds by the machine, as data keys have them; the clock of decisions may be another one in a test."""
    return time.time_ns() // 1_000
