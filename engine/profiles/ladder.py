"""The tiers of a profile, best first, and how points lead from one to another.

A worse tier is entered at once when the points reach its `enter`. A better one comes one step at a time: when the
points are below the tier's own `leave`, and not before it was stood in for its `stay`. `leave` is at most `enter`, so
points that swing between the two change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """In which tier somebody stands, and since when (UTC µs)."""

    tier: str
    since: int


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier. `enter` and `leave` are points, 0 for the best one; `stay` and `review` are in µs."""

    tier: str
    enter: int
    leave: int
    stay: int
    review: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """The tiers, best first, and the one in which somebody stands of whom nothing is known."""

    rungs: Sequence[Rung]
    start: str

    @property
    def tiers(self) -> tuple[str, ...]:
        """Their names, best first."""
        return tuple(rung.tier for rung in self.rungs)

    def place(self, tier: str) -> int:
        """Which tier it is, 0 for the best; the starting one for a name that the ladder does not have."""
        return self.tiers.index(tier if tier in self.tiers else self.start)

    def next(self, standing: Standing | None, points: int, now: int) -> Standing:
        """Where somebody stands with these points at `now` who stood there before; None: nowhere yet.

        Who stands nowhere begins at the start, or in a worse tier, and its stay begins now.
        """
        begins = standing is None or standing.tier not in self.tiers
        if standing is None or begins:
            standing = Standing(self.start, now)
        place = self.place(standing.tier)
        worst = max((at for at, rung in enumerate(self.rungs) if points >= rung.enter), default=0)
        if worst > place:
            return Standing(self.rungs[worst].tier, now)
        here = self.rungs[place]
        if place and not begins and points < here.leave and now - standing.since >= here.stay:
            return Standing(self.rungs[place - 1].tier, now)
        return standing

    def better_from(self, standing: Standing) -> int | None:
        """From when on a better tier can come, if the points are there (UTC µs); None in the best one."""
        here = self.rungs[self.place(standing.tier)]
        return standing.since + here.stay if self.place(standing.tier) else None

    def review_at(self, standing: Standing, now: int) -> int:
        """When somebody who stands there is looked at again (UTC µs)."""
        return now + self.rungs[self.place(standing.tier)].review
