"""The way of a rulebook into force through two persons, and back: proposed, approved, let decide, rolled back.

Each step is in the ledger before it takes effect. Only where the settings ask for approval is this the way; otherwise
packs come into force from their folders, and nothing here can be used.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine import proposals
from engine.archive import Library, loaded, pack_files, unpack_files
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.difference import difference, unified
from engine.errors import BodyRefused, Conflict, FieldProblem, NotFound, SecondPerson
from engine.force import Force
from engine.intake import Clock, Intake
from engine.ledger import Ledger
from engine.proposals import Proposal
from engine.rulebook import Rulebook
from engine.schema import masked, shown_name

MAX_FILES = 10_000
MAX_PAPERS = 20
PAPER_BYTES = 1024 * 1024
"""Of all papers of one proposal together."""

_PART = re.compile(r"[^\x00-\x1f\x7f/\\]{1,120}")
_PAPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

log = structlog.get_logger("arbiter")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewProposal(_Body):
    """All files of a rulebook by their paths (`rules/…`, `policies/…`), why, and papers to look at beside it: what a
    backtest or a mutation run printed, say, each by a name."""

    files: dict[str, str]
    reason: str = Field(min_length=1, max_length=2000)
    papers: dict[str, str] = {}
    person: str = Field(default="", max_length=120, description="Who wrote it, where a service proposes it")


class Judgement(_Body):
    """What another person says to a proposal. A reason is needed to decline it."""

    reason: str = Field(default="", max_length=2000)


class Activation(_Body):
    """`force` lets a proposal decide that nobody else has approved; it needs a reason, and is followed up."""

    force: bool = False
    reason: str = Field(default="", max_length=2000)


class Rollback(_Body):
    """`to` is the hash of a rulebook that was in force; without it the one before."""

    to: str = Field(default="", max_length=64)
    reason: str = Field(min_length=1, max_length=2000)


_NEW = TypeAdapter(NewProposal)
_JUDGEMENT = TypeAdapter(Judgement)
_ACTIVATION = TypeAdapter(Activation)
_ROLLBACK = TypeAdapter(Rollback)

_COLUMNS = (*(field.name for field in fields(Proposal)), "found")
"""What is read of a proposal where neither its files nor its papers are needed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A proposal, and what was found when it came, as the database has them."""

    proposal: Proposal
    found: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Kept:
        said = dict(row)
        found = said.pop("found")
        said["papers"], said["approved"] = orjson.loads(row["papers"]), bool(row["approved"])
        return cls(Proposal(**said), found)

    def row(self) -> dict[str, Any]:
        proposal = self.proposal
        said = {**asdict(proposal), "papers": _json(proposal.papers), "approved": int(proposal.approved)}
        return {**said, "found": self.found}


class Approvals:
    """Proposals of rulebooks, and what becomes of them."""

    def __init__(
        self,
        ledger: Ledger,
        force: Force,
        library: Library,
        changes: Changes,
        intake: Intake,
        clock: Clock,
        *,
        required: bool,
    ) -> None:
        self._rows = db.Rows(ledger.database, db.proposal)
        self._ledger = ledger
        self._force = force
        self._library = library
        self._changes = changes
        self._intake = intake
        self._clock = clock
        self._required = required

    @property
    def _in_force(self) -> str:
        return self._intake.live.rulebook.hash

    async def propose(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in a rulebook that is sound and passes its own tests. Raises PackError with every problem of it,
        BodyRefused, Conflict where nothing would change."""
        self._must()
        wanted = read_body(_NEW, body)
        _check(wanted)
        by = caller.speaking_for(wanted.person)
        files = {path: text.encode() for path, text in wanted.files.items()}
        rulebook = await asyncio.to_thread(loaded, files, strict=True)
        await self._force.try_out(rulebook)
        papers = {name: text.encode() for name, text in wanted.papers.items()}
        async with self._changes.turn():
            base = self._intake.live.rulebook
            proposal = proposals.propose(
                rulebook.hash,
                base.hash,
                tenant=caller.tenant,
                author=by.person or by.name,
                at=self._clock(),
                reason=masked(wanted.reason),
                papers=papers,
            )
            kept = _Kept(proposal, _json(_found(base, rulebook)))
            await self._enter("rulebook_proposed", proposal, by, wanted.reason)
            content, attached = pack_files(rulebook.files), _packed(wanted.papers)
            await self._rows.put(**kept.row(), content=content, attached=attached)
        return self._shown(kept)

    async def proposals(self) -> list[dict[str, Any]]:
        """Every proposal, the newest first."""
        kept = [_Kept.of(row) for row in await self._rows.find_some(_COLUMNS)]
        return [self._shown(each) for each in sorted(kept, key=lambda each: -each.proposal.created)]

    async def proposal(self, id: str) -> dict[str, Any]:
        """One proposal with its papers, and line by line what it would change. NotFound."""
        kept = await self._find(id)
        (held,) = await self._rows.find_some(("content", "attached"), id=id)
        base = await self._library.files(kept.proposal.base)
        difference = "".join(unified(base, unpack_files(held["content"])))
        return {**self._shown(kept), "papers": _unpacked(held["attached"]), "difference": difference}

    async def judge(self, id: str, body: bytes, caller: Caller, *, approved: bool) -> dict[str, Any]:
        """Approve or decline a proposal, as a person. SecondPerson, Conflict, NotFound."""
        self._must()
        wanted = read_body(_JUDGEMENT, body)
        if not approved and not wanted.reason.strip():
            raise BodyRefused([FieldProblem("reason", "missing_field", "say why", "whoever proposed it reads this")])
        if caller.kind != "person":
            raise SecondPerson("a person approves or declines a proposal: use the key of a person")
        async with self._changes.turn():
            kept = await self._find(id)
            after = proposals.judge(
                kept.proposal, approved=approved, by=caller.name, at=self._clock(), in_force=self._in_force
            )
            if approved:
                await self._enter("rulebook_approved", after, caller.by, wanted.reason)
            else:
                await self._enter("rulebook_declined", after, caller.by, wanted.reason)
            return await self._keep(kept, after)

    async def activate(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let a proposal decide, in all workers at once; what is different then. PackError, SecondPerson, Conflict."""
        self._must()
        wanted = read_body(_ACTIVATION, body)
        step = partial(_step(wanted, caller), by=caller.by.person or caller.name)
        kept = await self._find(id)
        step(kept.proposal, at=self._clock(), in_force=self._in_force)
        (held,) = await self._rows.find_some(("content",), id=id)
        rulebook = await asyncio.to_thread(loaded, unpack_files(held["content"]), strict=True)

        async def permit() -> None:
            now = await self._find(id)
            after = step(now.proposal, at=self._clock(), in_force=self._in_force)
            if not wanted.force:
                await self._enter("rulebook_activated", after, caller.by, wanted.reason)
            else:
                await self._enter("rulebook_forced", after, caller.by, wanted.reason)
                log.error("rulebook_forced", proposal=id, by=caller.name, due=after.due)
            await self._keep(now, after)

        changed = await self._force.take(rulebook, caller, permit)
        return {**changed, "proposal": self._shown(await self._find(id))}

    async def roll_back(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let a rulebook decide again that did before; what is different then. NotFound; Conflict also for one that was
        forced and never approved: two persons must have seen what comes back."""
        self._must()
        wanted = read_body(_ROLLBACK, body)
        before = self._in_force
        to = wanted.to or await self._before()
        if to == before:
            raise Conflict("this rulebook is in force")
        rulebook = await self._library.find(to)
        rows = await self._rows.find_some(_COLUMNS, hash=to)
        if rows and not any(row["approved"] for row in rows):
            raise Conflict("this rulebook was forced, and nobody else has approved it: propose it again")

        async def permit() -> None:
            if self._in_force != before:
                raise Conflict("another rulebook came into force meanwhile: look again, and roll back from that one")
            tenant, note = caller.tenant, await self._note(caller.tenant, wanted.reason)
            await self._changes.record(tenant, "rulebook_rolled_back", "rulebook", before, to, caller.by, note)

        return await self._force.take(rulebook, caller, permit)

    async def follow_ups(self) -> dict[str, int]:
        """How many proposals came into force by one person alone and wait for another one's look: {"open", "overdue"}.

        Both 0 where no approval is required.
        """
        rows = await self._rows.find_some(_COLUMNS) if self._required else []
        due = [each.due for each in (_Kept.of(row).proposal for row in rows) if each.follow_up and each.due is not None]
        now = self._clock()
        return {"open": len(due), "overdue": sum(each < now for each in due)}

    def _must(self) -> None:
        if not self._required:
            raise Conflict(
                "packs come into force from their folders here; with ARBITER_APPROVAL=required they are proposed, and "
                "approved by a second person"
            )

    async def _before(self) -> str:
        change = await self._ledger.last_rulebook_change()
        before = None if change is None else orjson.loads(change.entry.leaf)["before"]
        if before is None:
            raise Conflict("no other rulebook was in force before this one")
        return str(before)

    async def _find(self, id: str) -> _Kept:
        rows = await self._rows.find_some(_COLUMNS, id=id)
        if not rows:
            raise NotFound("there is no proposal with this id")
        return _Kept.of(rows[0])

    async def _keep(self, kept: _Kept, after: Proposal) -> dict[str, Any]:
        changed = _Kept(after, kept.found)
        await self._rows.change({"id": after.id}, **changed.row())
        return self._shown(changed)

    async def _enter(self, what: str, proposal: Proposal, by: By, reason: str) -> None:
        """Into the ledger: the proposal's id, which stands for all that was looked at."""
        note = await self._note(proposal.tenant, reason) if reason else None
        await self._changes.record(proposal.tenant, what, proposal.id, proposal.base, proposal.hash, by, note)

    async def _note(self, tenant: str, reason: str) -> Any:
        await self._intake.ready(tenant)
        return partial(self._intake.seal_note, tenant, subject=None, note=reason)

    def _shown(self, kept: _Kept) -> dict[str, Any]:
        proposal = kept.proposal
        state = proposal.state(self._in_force)
        stale = state in ("open", "approved") and proposal.base != self._in_force
        return {**asdict(proposal), "state": state, "stale": stale, "found": orjson.loads(kept.found)}


def _step(wanted: Activation, caller: Caller) -> Callable[..., Proposal]:
    if not wanted.force:
        return proposals.activate
    if caller.kind != "person":
        raise SecondPerson("a person answers for what nobody approved: use the key of a person")
    if not wanted.reason.strip():
        raise BodyRefused([FieldProblem("reason", "missing_field", "say why it cannot wait for a second person")])
    return proposals.force


def _found(base: Rulebook, rulebook: Rulebook) -> dict[str, Any]:
    """What is told of a proposal: what differs, and how many of its own tests passed."""
    return {**difference(base, rulebook), "tests": sum(len(rule.tests) for rule in rulebook.rules)}


def _check(wanted: NewProposal) -> None:
    """Raises BodyRefused for files or papers that cannot be."""
    # By their numbers: what a caller sent is not repeated.
    odd = [number for number, path in enumerate(wanted.files, 1) if _odd(path)]
    problems = [FieldProblem("files", "bad_format", f"the path of file {number} {_PATHS}") for number in odd]
    if len(wanted.files) > MAX_FILES:
        problems.append(FieldProblem("files", "too_long", f"at most {MAX_FILES:,} files"))
    if not wanted.files:
        problems.append(FieldProblem("files", "too_short", "a rulebook has at least one file"))
    problems += [
        FieldProblem(f"papers.{shown_name(name)}", "bad_format", "a name has letters, digits and . _ -, at most 64")
        for name in wanted.papers
        if not _PAPER.fullmatch(name)
    ]
    size = sum(len(text.encode()) for text in wanted.papers.values())
    if len(wanted.papers) > MAX_PAPERS or size > PAPER_BYTES:
        what = f"at most {MAX_PAPERS} papers of together {PAPER_BYTES:,} bytes"
        problems.append(FieldProblem("papers", "too_long", what))
    if problems:
        raise BodyRefused(problems[:20])


_PATHS = "does not lead from rules/ or policies/ to a file in it"


def _odd(path: str) -> bool:
    root, *parts = path.split("/")
    return root not in ("rules", "policies") or not parts or any(_odd_part(part) for part in parts)


def _odd_part(part: str) -> bool:
    return part in (".", "..") or _PART.fullmatch(part) is None


def _json(data: Any) -> str:
    return orjson.dumps(data).decode()


def _packed(papers: Mapping[str, str]) -> bytes:
    return zlib.compress(orjson.dumps(papers))


def _unpacked(packed: bytes) -> dict[str, str]:
    papers: dict[str, str] = orjson.loads(zlib.decompress(packed))
    return papers
