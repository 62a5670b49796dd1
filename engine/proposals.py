"""A rulebook that somebody wants to see in force, and what others say to it. Frozen: each step gives another one.

    proposal = propose(named, base, author=..., at=..., reason=..., papers=...)
    judge(proposal, approved=True, by="wang.fang", ...)     another person than the author, or SecondPerson
    activate(proposal, ...)  or  force(proposal, ...)

A proposal is named by the hash of all that a second person approves: the rulebook, the one it was made against, its
author, the reason and the papers with it. So nothing about it can be exchanged once somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias

from engine.errors import Conflict, SecondPerson
from engine.jcs import canonical
from engine.lists import same_person

State: TypeAlias = Literal["open", "approved", "declined", "in_force", "replaced"]
"""`in_force`: it decides. `replaced`: it did, and another rulebook does now."""

ID_DIGITS = 32
FOLLOW_UP = 24 * 3_600_000_000
"""Within so long another person has to look at what came into force without one, in microseconds."""


class InForce(NamedTuple):
    """The hash of the rulebook in force, and those of all that ever were, in the order in which they came."""

    now: str
    ever: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`hash` is that of the rulebook and `base` that of the one in force when it was proposed; times are UTC
    microseconds. `papers` has the SHA-256 of each paper by its name."""

    id: str
    tenant: str
    hash: str
    base: str
    author: str
    reason: str
    papers: Mapping[str, str]
    created: int
    judged_by: str | None = None
    """Who approved or declined it; None while nobody did."""
    judged: int | None = None
    judgement: str | None = None
    """What they said to it."""
    approved: bool = False
    activated_by: str | None = None
    activated: int | None = None
    forced: str | None = None
    """Why it could not wait for an approval, where it came into force without one."""

    @property
    def due(self) -> int | None:
        """Until when another person has to look at what was forced, UTC microseconds; None where nobody has to."""
        waits = self.forced is not None and self.judged is None and self.activated is not None
        return self.activated + FOLLOW_UP if waits and self.activated is not None else None

    def state(self, in_force: InForce) -> State:
        """Where it stands. One whose activation failed stands where it stood."""
        if self.activated is not None and self.hash == in_force.now:
            return "in_force"
        if self.activated is not None and self.hash in in_force.ever:
            return "replaced"
        if self.judged is None:
            return "open"
        return "approved" if self.approved else "declined"

    def stale(self, in_force: InForce) -> bool:
        """Whether it waits, and was made against another rulebook than the one in force."""
        return self.state(in_force) in ("open", "approved") and self.base != in_force.now


def propose(
    named: str, base: str, *, tenant: str, author: str, at: int, reason: str, papers: Mapping[str, str]
) -> Proposal:
    """A new proposal of the rulebook `named`. Conflict when that one is in force already."""
    if named == base:
        raise Conflict("this rulebook is in force already: nothing would change")
    shown = hashes(papers)
    why = sha256(reason.encode()).hexdigest()
    said = {"rulebook": named, "base": base, "author": author, "reason": why, "papers": shown, "at": at}
    id = sha256(canonical(said)).hexdigest()[:ID_DIGITS]
    return Proposal(id, tenant, named, base, author, reason, shown, at)


def hashes(papers: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of each paper, by name."""
    return {name: sha256(text.encode()).hexdigest() for name, text in sorted(papers.items())}


def judge(proposal: Proposal, *, approved: bool, by: str, at: int, reason: str, in_force: InForce) -> Proposal:
    """The proposal as another person approved or declined it; its author may decline it before it decides, which takes
    it back. Of one that was forced anybody judges but who forced it: where that was not the author, two have seen it.

    Raises SecondPerson for who may not; Conflict when it is judged already, or stale.
    """
    if proposal.judged is not None:
        raise Conflict(f"this proposal was {'approved' if proposal.approved else 'declined'} already")
    if proposal.forced is not None:
        if same_person(by, proposal.activated_by or ""):
            raise SecondPerson("what was forced is looked at by another person than the one who forced it")
    elif approved:
        if same_person(by, proposal.author):
            raise SecondPerson("a rulebook is approved by another person than the one who proposed it")
        _may_come(proposal, in_force)
    return replace(proposal, approved=approved, judged_by=by, judged=at, judgement=reason)


def activate(proposal: Proposal, *, by: str, at: int, in_force: InForce) -> Proposal:
    """The proposal, in force. Conflict when it is not approved, was in force before, or is stale."""
    _may_come(proposal, in_force)
    if not proposal.approved:
        raise Conflict("this proposal is not approved; in an emergency a person can force it (force, with a reason)")
    return replace(proposal, activated_by=by, activated=at, forced=None)


def force(proposal: Proposal, *, by: str, at: int, reason: str, in_force: InForce) -> Proposal:
    """The proposal, in force although nobody approved it: to be looked at within `FOLLOW_UP`. Conflict when it is
    approved, so that there is nothing to force, declined, was in force before, or is stale."""
    _may_come(proposal, in_force)
    if proposal.approved:
        raise Conflict("this proposal is approved: it comes into force without being forced")
    return replace(proposal, activated_by=by, activated=at, forced=reason)


def _may_come(proposal: Proposal, in_force: InForce) -> None:
    if proposal.hash == in_force.now:
        raise Conflict("this rulebook is in force already")
    if proposal.state(in_force) == "replaced":
        raise Conflict("this proposal came into force already; to go back to a rulebook, roll back to it")
    if proposal.judged is not None and not proposal.approved:
        raise Conflict("this proposal was declined")
    if proposal.base != in_force.now:
        stands = f"made against the rulebook {proposal.base[:12]}, and {in_force.now[:12]} is in force now"
        raise Conflict(f"this proposal was {stands}: what would change is not what was looked at. Propose it again")
