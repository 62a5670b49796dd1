"""The known images that others are compared with, kept through the API: who added each, why, and until when.

    add ──► active ──► ending ──► ended

Being like a known image raises the risk, so one person adds it, and it counts until a second one approves its end: the
same way as an entry of a list that raises the risk (`engine.lists.entries`, whose steps these are).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.errors import BodyRefused, Conflict, FieldProblem, NotFound, SecondPerson
from engine.gallery import Gallery
from engine.images import Index, Reference
from engine.intake import Clock, Intake
from engine.lists import ListEntry, approve, ask_end, end, withdraw
from engine.schema import identifying, identifying_problem, instant, masked
from engine.team import Team

MAX_REFERENCES = 100_000
"""Known images of one tenant that count, or did until their time was over."""
CHANGED = "image_reference"
"""What other processes are told: a known image is another one."""

_DIGITS = 16


class NewReference(BaseModel):
    """An image that was sent, to be known from now on. `expires` is in UTC microseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    image: str = Field(min_length=64, max_length=64, description="The SHA-256 of an image that was sent before")
    kind: Literal["counterfeit", "brand_mark", "banned"]
    label: str = Field(min_length=1, max_length=100, description="What it shows, in a word that conditions can name")
    reason: str = Field(min_length=1, max_length=400)
    expires: Annotated[int, BeforeValidator(instant)] | None = Field(default=None, json_schema_extra={"type": "string"})
    person: str = Field(default="", max_length=120, description="Who decided, where a service reports it")


_NEW = TypeAdapter(NewReference)


@dataclass(frozen=True, slots=True)
class Known:
    """A known image and how it stands. `entry` has who, why and until when; its value is the id."""

    entry: ListEntry
    label: str
    sha256: str
    hashes: bytes

    @property
    def reference(self) -> Reference:
        """What others are compared with."""
        entry = self.entry
        return Reference(entry.value, entry.list, self.label, self.sha256, self.hashes, entry.expires)

    def row(self) -> dict[str, Any]:
        """The row of the table."""
        row = asdict(self.entry)
        del row["approved_by"]  # Of adding one nobody has to approve.
        row |= {"id": row.pop("value"), "kind": row.pop("list")}
        return row | {"label": self.label, "sha256": self.sha256, "hashes": self.hashes}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Known:
        """What a row of the table says."""
        entry = {name: value for name, value in row.items() if name not in ("id", "kind", "label", "sha256", "hashes")}
        return cls(ListEntry(**entry, list=row["kind"], value=row["id"]), row["label"], row["sha256"], row["hashes"])

    def shown(self) -> dict[str, Any]:
        """As an answer shows it."""
        row = self.row()
        del row["hashes"]
        return row

    def standing(self) -> str:
        """What it is, as the record of a change says it: enough to tell which image counted when."""
        return f"{self.entry.standing}: {self.entry.list} {self.label} sha256:{self.sha256}"


class References:
    """The known images of all tenants. What is in force is an `Index`; here are its rows."""

    def __init__(
        self, database: db.Database, changes: Changes, intake: Intake, gallery: Gallery, team: Team, clock: Clock
    ) -> None:
        self._rows = db.Rows(database, db.image_reference)
        self._changes = changes
        self._intake = intake
        self._gallery = gallery
        self._team = team
        self._clock = clock
        team.on(CHANGED, self._changed)

    async def load(self) -> None:
        """Put the known images that the database holds in force."""
        rows = await self._rows.find()
        # A hundred thousand take a second, in which the loop answers.
        self._gallery.indexes = await asyncio.to_thread(_indexes, rows)

    async def read(self, caller: Caller) -> list[dict[str, Any]]:
        """All of the caller's tenant, ended ones too."""
        return [known.shown() for known in await self._find(tenant=caller.tenant)]

    async def add(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let an image that was sent be known. BodyRefused where it cannot be compared, Conflict where it is."""
        wanted, now = read_body(_NEW, body), self._clock()
        seen = await self._gallery.image(caller.tenant, wanted.image.lower())
        problems = list(_problems(wanted, now, comparable=bool(seen.hashes)))
        if problems:
            raise BodyRefused(problems)
        by, reason = caller.speaking_for(wanted.person), wanted.reason
        id = sha256(f"{wanted.kind}|{wanted.label}|{seen.sha256}".encode()).hexdigest()[:_DIGITS]
        entry = ListEntry(
            *(caller.tenant, wanted.kind, id, "active", masked(reason), by.person or by.name, now),
            expires=wanted.expires,
        )
        async with self._changes.turn():
            if any(one.entry.holds(now) for one in await self._find(tenant=caller.tenant, id=id)):
                raise Conflict("this image is known as such already")
            if len(self._gallery.known(caller.tenant).references) >= MAX_REFERENCES:
                raise Conflict(f"there are {MAX_REFERENCES} known images: end some that nobody needs")
            known = Known(entry, wanted.label, seen.sha256, seen.hashes)
            return await self._keep(None, known, "image_reference_added", by, reason)

    async def remove(self, id: str, caller: Caller) -> dict[str, Any]:
        """Ask for the end of a known image: it counts until a second person approves. One that does not count any more
        ends at once."""
        async with self._changes.turn():
            known = await self._one(id, caller)
            if not known.entry.holds(self._clock()):
                ended = replace(known, entry=end(known.entry, by=caller.name))
                return await self._keep(known, ended, "image_reference_ended", caller.by)
            if caller.kind != "person":
                raise SecondPerson("being like a known image raises the risk: end it with the key of a person")
            asked = replace(known, entry=ask_end(known.entry, by=caller.name))
            return await self._keep(known, asked, "image_reference_end_asked", caller.by)

    async def approve(self, id: str, caller: Caller) -> dict[str, Any]:
        """Let a known image end whose end waits. Only a second person does."""
        if not caller.by.person:
            raise SecondPerson("a person approves the end of a known image: use the key of a person")
        async with self._changes.turn():
            known = await self._one(id, caller)
            ended = replace(known, entry=approve(known.entry, by=caller.name, at=self._clock()))
            return await self._keep(known, ended, "image_reference_ended", caller.by)

    async def withdraw(self, id: str, caller: Caller) -> dict[str, Any]:
        """Say no to an end that waits. It never lowers the risk, so anybody may."""
        async with self._changes.turn():
            known = await self._one(id, caller)
            kept = replace(known, entry=withdraw(known.entry, by=caller.name))
            return await self._keep(known, kept, "image_reference_kept", caller.by)

    async def _one(self, id: str, caller: Caller) -> Known:
        found = await self._find(tenant=caller.tenant, id=id)
        if not found:
            raise NotFound("there is no known image with this id")
        return found[0]

    async def _find(self, **where: Any) -> list[Known]:
        return [Known.of(row) for row in await self._rows.find(**where)]

    async def _keep(self, before: Known | None, known: Known, what: str, by: By, reason: str = "") -> dict[str, Any]:
        entry = known.entry
        await self._intake.ready(entry.tenant)
        # Of the steps of a known image only the first has a reason.
        note = partial(self._intake.seal_note, entry.tenant, subject=None, note=reason) if reason else None
        told = before.standing() if before else None
        await self._changes.record(entry.tenant, what, entry.value, told, known.standing(), by, note)
        await self._rows.put(**known.row())
        await self._changed(entry.tenant)
        await self._team.tell(CHANGED, entry.tenant)
        return known.shown()

    async def _changed(self, tenant: str) -> None:
        found = await asyncio.to_thread(_indexes, await self._rows.find(tenant=tenant))
        self._gallery.indexes = {**self._gallery.indexes, **found}


def _indexes(rows: Iterable[Mapping[str, Any]]) -> dict[str, Index]:
    """By tenant what others are compared with."""
    by_tenant: dict[str, list[Reference]] = {}
    for known in map(Known.of, rows):
        references = by_tenant.setdefault(known.entry.tenant, [])
        if known.entry.on:
            references.append(known.reference)
    return {tenant: Index(references) for tenant, references in by_tenant.items()}


def _problems(wanted: NewReference, now: int, *, comparable: bool) -> Iterable[FieldProblem]:
    if wanted.expires is not None and wanted.expires <= now:
        what, hint = "lies in the past", "give a time to come; without one it counts until it is ended"
        yield FieldProblem("expires", "out_of_range", what, hint)
    if not comparable:
        what, hint = "this image is broken or of one colour: nothing can be compared with it", "send a better one"
        yield FieldProblem("image", "bad_format", what, hint)
    if any(not letter.isprintable() for letter in wanted.label):
        yield FieldProblem("label", "bad_format", "must be one line of text")
    if kind := identifying(wanted.label):
        # It stands in records for ever.
        yield identifying_problem("label", kind)
