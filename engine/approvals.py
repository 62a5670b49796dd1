"""The way of a rulebook into force through two persons, and back: proposed, approved, let decide, rolled back.

Each step is in the ledger before it takes effect. Only where the settings ask for approval is this the way; otherwise
packs come into force from their folders, and nothing here can be used.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
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
from engine.errors import BodyRefused, Conflict, FieldProblem, NotAllowed, NotFound, SecondPerson
from engine.force import Force, Way
from engine.intake import Clock, Intake
from engine.journal import Note
from engine.ledger import Ledger
from engine.lists import same_person
from engine.proposals import InForce, Proposal
from engine.rulebook import Rulebook
from engine.schema import masked, shown_name

MAX_FILES = 10_000
MAX_PAPERS = 20
PAPER_BYTES = 1024 * 1024
"""Of all papers of one proposal together."""
ROLLBACK = "rollback"
"""The `object` of a change of the rulebook that goes back."""

PATH_BYTES, PART_BYTES = 800, 200
LONGEST = 2_000
"""Lines of a file up to which a difference shows them one by one."""
SHORTEST = 8
"""Digits of a hash that name a rulebook, at least."""

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
        self._holders = db.Rows(ledger.database, db.api_key)
        self._ledger = ledger
        self._force = force
        self._library = library
        self._changes = changes
        self._intake = intake
        self._clock = clock
        self._required = required

    def files(self) -> dict[str, Any]:
        """The files of the rulebook in force by their paths, and its hash: what a proposal is made against."""
        rulebook = self._intake.live.rulebook
        return {"hash": rulebook.hash, "files": {path: text.decode() for path, text in rulebook.files.items()}}

    async def propose(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in a rulebook that is sound and passes its own tests. Raises PackError with every problem of it,
        BodyRefused, Conflict where nothing would change."""
        self._must()
        wanted = read_body(_NEW, body)
        _check(wanted)
        by = caller.speaking_for(wanted.person)
        if caller.kind != "person":
            await self._known(by.person)
        files = {path: text.encode() for path, text in wanted.files.items()}
        rulebook = await asyncio.to_thread(loaded, files, strict=True)
        await self._force.try_out(rulebook)
        content, attached = await asyncio.to_thread(lambda: (pack_files(rulebook.files), _packed(wanted.papers)))
        async with self._changes.turn():
            base = self._intake.live.rulebook
            proposal = proposals.propose(
                rulebook.hash,
                base.hash,
                tenant=caller.tenant,
                author=by.person,
                at=self._clock(),
                reason=masked(wanted.reason),
                papers=wanted.papers,
            )
            kept = _Kept(proposal, _json(_found(base, rulebook)))
            await self._enter("rulebook_proposed", proposal, by, wanted.reason)
            if not await self._rows.add(**kept.row(), content=content, attached=attached):
                raise Conflict("the same was proposed at this very moment")
        return _shown(kept, await self._in_force())

    async def proposals(self, caller: Caller) -> list[dict[str, Any]]:
        """Every proposal of the caller's tenant, the newest first."""
        kept = [_Kept.of(row) for row in await self._rows.find(*_COLUMNS, tenant=caller.tenant)]
        in_force = await self._in_force()
        return [_shown(each, in_force) for each in sorted(kept, key=lambda each: -each.proposal.created)]

    async def proposal(self, id: str, caller: Caller) -> dict[str, Any]:
        """One proposal with its papers, and line by line what it would change. NotFound."""
        kept = await self._find(id, caller)
        (held,) = await self._rows.find("content", "attached", id=id)
        base = await self._library.files(kept.proposal.base)
        difference = await asyncio.to_thread(_difference, base, held["content"])
        papers = _unpacked(held["attached"])
        if proposals.hashes(papers) != kept.proposal.papers:
            raise Conflict("the papers of this proposal are not those that came with it: propose it again")
        return {**_shown(kept, await self._in_force()), "papers": papers, "difference": difference}

    async def judge(self, id: str, body: bytes, caller: Caller, *, approved: bool) -> dict[str, Any]:
        """Approve or decline a proposal, as a person. SecondPerson, Conflict, NotFound."""
        self._must()
        wanted = read_body(_JUDGEMENT, body)
        if not approved and not wanted.reason.strip():
            raise BodyRefused([FieldProblem("reason", "missing_field", "say why", "whoever proposed it reads this")])
        if caller.kind != "person":
            raise SecondPerson("a person approves or declines a proposal: use the key of a person")
        async with self._changes.turn():
            kept, in_force = await self._find(id, caller), await self._in_force()
            own = same_person(caller.name, kept.proposal.author) and kept.proposal.forced is None
            if "approve" not in caller.scopes and not own:
                raise NotAllowed("This key does not judge the proposals of others.", missing="approve")
            after = proposals.judge(
                kept.proposal,
                approved=approved,
                by=caller.name,
                at=self._clock(),
                reason=masked(wanted.reason),
                in_force=in_force,
            )
            if approved:
                await self._enter("rulebook_approved", after, caller.by, wanted.reason)
            else:
                await self._enter("rulebook_declined", after, caller.by, wanted.reason)
            return _shown(await self._keep(kept, after), in_force)

    async def activate(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let a proposal decide, in all workers at once; what is different then. PackError, SecondPerson, Conflict."""
        self._must()
        wanted = read_body(_ACTIVATION, body)
        step = _step(wanted, caller)
        kept = await self._find(id, caller)
        step(kept.proposal, at=self._clock(), in_force=await self._in_force())
        (held,) = await self._rows.find("content", id=id)
        rulebook = await asyncio.to_thread(lambda: loaded(unpack_files(held["content"]), strict=True))
        if rulebook.hash != kept.proposal.hash:
            raise Conflict("the files of this proposal are not those that came with it: propose it again")

        async def permit() -> Way:
            now = await self._find(id, caller)
            after = step(now.proposal, at=self._clock(), in_force=await self._in_force())
            # Before it is recorded: what then fails can be tried again, and what was forced is followed up anyhow.
            await self._keep(now, after)
            if wanted.force:
                log.error("rulebook_forced", proposal=id, by=caller.name, due=after.due)
            note = await self._note(caller.tenant, wanted.reason)
            return Way(f"{'forced' if wanted.force else 'proposal'}/{id}", note)

        changed = await self._force.take(rulebook, caller, permit)
        return {**changed, "proposal": _shown(await self._find(id, caller), await self._in_force())}

    async def roll_back(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let a rulebook decide again that did before; what is different then. NotFound; Conflict also for one that was
        forced and never approved: two persons must have seen what comes back."""
        self._must()
        wanted = read_body(_ROLLBACK, body)
        before = self._intake.live.rulebook.hash
        to = await self._target(wanted.to)
        if to == before:
            raise Conflict("this rulebook is in force")
        rulebook = await self._library.find(to)
        if rulebook.hash != to:
            raise Conflict("the files of this rulebook in the archive are not those that were in force")
        rows = await self._rows.find("forced", "approved", hash=to)
        if any(row["forced"] for row in rows) and not any(row["approved"] for row in rows):
            raise Conflict("this rulebook was forced, and nobody else has approved it: propose it again")

        async def permit() -> Way:
            if self._intake.live.rulebook.hash != before:
                raise Conflict("another rulebook came into force meanwhile: look again, and roll back from that one")
            return Way(ROLLBACK, await self._note(caller.tenant, wanted.reason))

        return await self._force.take(rulebook, caller, permit)

    async def follow_ups(self) -> dict[str, int]:
        """How many proposals one person alone let decide that wait for another one's look: {"open", "overdue"}."""
        kept = (_Kept.of(row).proposal for row in await self._rows.find(*_COLUMNS, judged=None))
        due = [each.due for each in kept if each.due is not None]
        now = self._clock()
        return {"open": len(due), "overdue": sum(each < now for each in due)}

    def _must(self) -> None:
        if not self._required:
            raise Conflict(
                "packs come into force from their folders here; with ARBITER_APPROVAL=required they are proposed, and "
                "approved by a second person"
            )

    async def _known(self, person: str) -> None:
        """BodyRefused where nobody of this name has a key: one person under two spellings would be two."""
        hint = "the name of the person's own key; `arbiter keys list` has them"
        if not person:
            raise BodyRefused([FieldProblem("person", "missing_field", "say who wrote it", hint)])
        if not await self._holders.find("name", name=person, kind="person", revoked=None):
            raise BodyRefused([FieldProblem("person", "not_a_choice", "no person with a key has this name", hint)])

    async def _in_force(self) -> InForce:
        return InForce(self._intake.live.rulebook.hash, _ever(await self._ledger.rulebook_changes()))

    async def _target(self, asked: str) -> str:
        """The rulebook to go back to: the one before, or the one whose hash begins as asked."""
        changes = await self._ledger.rulebook_changes()
        ever = _ever(changes)
        if asked:
            found = {named for named in ever if len(asked) >= SHORTEST and named.startswith(asked)}
            if len(found) != 1:
                raise NotFound("no rulebook that was in force has a hash that begins so, or several have")
            return found.pop()
        if len(ever) < 2:
            raise Conflict("no other rulebook was in force before this one")
        if orjson.loads(changes[-1])["object"] == ROLLBACK:
            raise Conflict("this rulebook is in force by a rollback already; say with `to` (--to) which one you mean")
        return ever[-2]

    async def _find(self, id: str, caller: Caller) -> _Kept:
        rows = await self._rows.find(*_COLUMNS, id=id, tenant=caller.tenant)
        if not rows:
            raise NotFound("there is no proposal with this id")
        return _Kept.of(rows[0])

    async def _keep(self, kept: _Kept, after: Proposal) -> _Kept:
        changed = replace(kept, proposal=after)
        await self._rows.change({"id": after.id}, **changed.row())
        return changed

    async def _enter(self, what: str, proposal: Proposal, by: By, reason: str) -> None:
        """Into the ledger: the proposal's id, which stands for all that was looked at."""
        note = await self._note(proposal.tenant, reason)
        await self._changes.record(proposal.tenant, what, proposal.id, proposal.base, proposal.hash, by, note)

    async def _note(self, tenant: str, reason: str) -> Note | None:
        """A reason to be sealed with a record; None for none."""
        if not reason:
            return None
        await self._intake.ready(tenant)
        return partial(self._intake.seal_note, tenant, subject=None, note=reason)


def _ever(changes: Sequence[bytes]) -> tuple[str, ...]:
    """The rulebooks that were in force, in the order in which they came, from the leaves of all their changes."""
    came = [orjson.loads(leaf) for leaf in changes]
    # The first of a ledger may have come without a record: then the first change names it.
    first = [each["before"] for each in came[:1] if each["before"]]
    return (*first, *(each["after"] for each in came))


def _shown(kept: _Kept, in_force: InForce) -> dict[str, Any]:
    proposal = kept.proposal
    derived = {"due": proposal.due, "state": proposal.state(in_force), "stale": proposal.stale(in_force)}
    return {**asdict(proposal), **derived, "found": orjson.loads(kept.found)}


def _step(wanted: Activation, caller: Caller) -> Callable[..., Proposal]:
    by = caller.by.person or caller.name
    if not wanted.force:
        return partial(proposals.activate, by=by)
    if caller.kind != "person":
        raise SecondPerson("a person answers for what nobody approved: use the key of a person")
    if not wanted.reason.strip():
        raise BodyRefused([FieldProblem("reason", "missing_field", "say why it cannot wait for a second person")])
    return partial(proposals.force, by=by, reason=masked(wanted.reason))


def _found(base: Rulebook, rulebook: Rulebook) -> dict[str, Any]:
    """What is told of a proposal: what differs, and how many of its own tests passed."""
    return {**difference(base, rulebook), "tests": sum(len(rule.tests) for rule in rulebook.rules)}


def _check(wanted: NewProposal) -> None:
    """Raises BodyRefused for files or papers that cannot be."""
    # By their numbers: what a caller sent is not repeated.
    odd = [number for number, path in enumerate(wanted.files, 1) if _odd(path)]
    problems = [FieldProblem("files", "bad_format", f"the path of file {number} {_PATHS}") for number in odd]
    if any(parent in wanted.files for path in wanted.files for parent in _parents(path)):
        problems.append(FieldProblem("files", "bad_format", "a file stands where another one has a folder"))
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


_PATHS = "does not lead from rules/ or policies/ to a file in it, or is too long"


def _odd(path: str) -> bool:
    root, *parts = path.split("/")
    if len(path.encode()) > PATH_BYTES:
        return True
    return root not in ("rules", "policies") or not parts or any(_odd_part(part) for part in parts)


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _odd_part(part: str) -> bool:
    return part in (".", "..") or _PART.fullmatch(part) is None or len(part.encode()) > PART_BYTES


def _difference(base: Mapping[str, bytes], content: bytes) -> str:
    return "".join(unified(base, unpack_files(content), LONGEST))


def _json(data: Any) -> str:
    return orjson.dumps(data).decode()


def _packed(papers: Mapping[str, str]) -> bytes:
    return zlib.compress(orjson.dumps(papers))


def _unpacked(packed: bytes) -> dict[str, str]:
    papers: dict[str, str] = orjson.loads(zlib.decompress(packed))
    return papers
