"""A rulebook that somebody wants to see in force, and what others say to it. Frozen: each step gives another one.

    proposal = propose(rulebook, base, by=..., at=..., reason=...)
    approve(proposal, by="wang.fang", at=...)      another person than the author, or SecondPerson

A proposal is named by the hash of all that a second person approves: the rulebook, the one it was made against, its
author and the papers with it. So nothing about it can be exchanged once somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, TypeAlias

from engine.errors import Conflict, SecondPerson
from engine.jcs import canonical
from engine.lists import same_person

State: TypeAlias = Literal["open", "approved", "declined", "in_force", "replaced"]
"""`in_force`: it decides. `replaced`: it did, and another rulebook does now."""

ID_DIGITS = 32
FOLLOW_UP = 24 * 3_600_000_000
"""Within so long another person has to look at what came into force without one, in microseconds."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`hash` is that of the rulebook and `base` that of the one in force when it was proposed; times are UTC
    microseconds. `papers` has the SHA-256 of each paper by its name. `forced_by` let it decide before anybody approved;
    `due` is until when somebody else has to look at it then."""

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
    approved: bool = False
    activated_by: str | None = None
    activated: int | None = None
    forced_by: str | None = None
    due: int | None = None

    def state(self, in_force: str) -> State:
        """Where it stands while the rulebook with the hash `in_force` decides."""
        if self.activated is not None:
            return "in_force" if self.hash == in_force else "replaced"
        if self.judged is None:
            return "open"
        return "approved" if self.approved else "declined"

    @property
    def follow_up(self) -> bool:
        """Whether it came into force by one person alone and nobody else has looked at it."""
        return self.forced_by is not None and self.judged is None


def propose(
    named: str, base: str, *, tenant: str, author: str, at: int, reason: str, papers: Mapping[str, bytes]
) -> Proposal:
    """A new proposal of the rulebook `named`. Conflict when that one is in force already."""
    if named == base:
        raise Conflict("this rulebook is in force already: nothing would change")
    hashes = {name: sha256(content).hexdigest() for name, content in sorted(papers.items())}
    said = {"rulebook": named, "base": base, "author": author, "papers": hashes, "at": at}
    id = sha256(canonical(said)).hexdigest()[:ID_DIGITS]
    return Proposal(id, tenant, named, base, author, reason, hashes, at)


def judge(proposal: Proposal, *, approved: bool, by: str, at: int, in_force: str) -> Proposal:
    """The proposal as another person approved or declined it; its author may decline it, which takes it back.

    Raises SecondPerson for an approval by the author, or by who let it decide alone; Conflict when it is judged
    already, or stale.
    """
    if proposal.judged is not None:
        raise Conflict(f"this proposal was {'approved' if proposal.approved else 'declined'} already")
    if approved and any(same_person(by, one) for one in (proposal.author, proposal.forced_by) if one):
        raise SecondPerson("a rulebook is approved by another person than the one who proposed it or let it decide")
    if approved and proposal.activated is None:
        _fresh(proposal, in_force)
    return replace(proposal, approved=approved, judged_by=by, judged=at)


def activate(proposal: Proposal, *, by: str, at: int, in_force: str) -> Proposal:
    """The proposal, in force. Conflict when it is not approved, or stale."""
    _not_yet(proposal)
    _fresh(proposal, in_force)
    if not proposal.approved:
        raise Conflict("this proposal is not approved; in an emergency a person can force it (force, with a reason)")
    return replace(proposal, activated_by=by, activated=at)


def force(proposal: Proposal, *, by: str, at: int, in_force: str) -> Proposal:
    """The proposal, in force although nobody approved it: to be looked at within `FOLLOW_UP`. Conflict when it is
    approved, so that there is nothing to force, declined, or stale."""
    _not_yet(proposal)
    _fresh(proposal, in_force)
    if proposal.approved:
        raise Conflict("this proposal is approved: it comes into force without being forced")
    return replace(proposal, activated_by=by, activated=at, forced_by=by, due=at + FOLLOW_UP)


def _not_yet(proposal: Proposal) -> None:
    if proposal.activated is not None:
        raise Conflict("this proposal came into force already; to go back to a rulebook, roll back to it")
    if proposal.judged is not None and not proposal.approved:
        raise Conflict("this proposal was declined")


def _fresh(proposal: Proposal, in_force: str) -> None:
    if proposal.base != in_force:
        raise Conflict(
            f"this proposal was made against the rulebook {proposal.base[:12]}, and {in_force[:12]} is in force now: "
            "what would change is not what was looked at. Propose it again"
        )
