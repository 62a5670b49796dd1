"""Who may see personal values, what for, how often, and what is unusual about it. Each look is a record of the ledger.

    record = await reveals.allow(decision_id, Reveal("appeal", per_hour=60), count=1, caller=caller)

`allow` returns once the record is durable; nothing is opened before. Its records are also what the limit and the alarm
are counted from, so they hold for all workers, after a restart too, and keep no second list of whose data was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import structlog

from engine.callers import By, Caller
from engine.errors import FieldProblem, NotAllowed, RequestRefused, TooMuch, did_you_mean
from engine.journal import Journal
from engine.ledger import Ledger
from engine.packs.moments import BEIJING, DAY
from engine.team import Team

log = structlog.get_logger("arbiter")

PURPOSES = ("review", "appeal", "dispute", "subject_request", "authority_request", "audit", "incident")
"""What personal values may be looked at for (PIPL Art. 6: a definite purpose)."""

REVEAL = "reveal"

SECOND = 1_000_000
HOUR = 3_600 * SECOND

PAST_DAYS = 28
"""A key is compared with itself, over so many days before the last one."""

FEW = 10
"""So many decisions in a day are never many."""

MANY = 2
"""From more than so many times the busiest day on they are."""

NIGHT = (22, 6)
"""From this hour until before that one, in Asia/Shanghai."""

SELDOM = 0.1
"""A key that looks at night for less than this share of its looks does it seldom."""


class Reveal(NamedTuple):
    """What a caller wants to see personal values for, None when it does not; how often its key may in an hour."""

    purpose: str | None
    per_hour: int = 0


NOTHING = Reveal(None)


@dataclass(frozen=True, slots=True)
class Look:
    """One look of the past: when, and at what."""

    at: int
    object: str


class Reveals:
    """Lets callers see personal values, one recorded look at a time.

    `counts` are the looks by purpose, `alarms` what was unusual about them, both of this process since its start.
    """

    def __init__(self, journal: Journal, ledger: Ledger, team: Team, clock: Callable[[], int]) -> None:
        self._journal = journal
        self._ledger = ledger
        self._team = team
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self.alarms: Counter[str] = Counter()

    async def allow(self, id: str, reveal: Reveal, count: int, caller: Caller) -> str:
        """Record a look at `count` entries, that with this id and what came after it; the record's id.

        Raises NotAllowed without the scope, RequestRefused for a purpose that is none, TooMuch with the time to wait
        after `per_hour` looks in an hour, Unavailable when the record cannot be written.
        """
        purpose, per_hour = check(reveal.purpose, caller), reveal.per_hour
        # Else two looks at once would each find room for the last one.
        async with self._team.turn(f"reveal {caller.tenant} {caller.name}"):
            now = self._clock()
            past = await self._past(caller, now)
            wait = waiting([look.at for look in past], now, per_hour)
            if wait:
                self._alarm("limit", caller, purpose, None)
                raise TooMuch(f"This key has shown personal data {per_hour} times in an hour.", retry_after=wait)
            record = await self._journal.access(caller.tenant, REVEAL, id, purpose, count, caller.by)
        self.counts[purpose] += 1
        for why in unusual([*past, Look(now, id)], now):
            self._alarm(why, caller, purpose, record)
        return record

    def _alarm(self, why: str, caller: Caller, purpose: str, record: str | None) -> None:
        self.alarms[why] += 1
        # A person's name is personal data itself: the record has it.
        who = caller.name if caller.kind == "service" else "person"
        log.warning("reveal_unusual", why=why, caller=who, purpose=purpose, record=record)

    async def _past(self, caller: Caller, now: int) -> list[Look]:
        since = now - (PAST_DAYS + 1) * DAY
        leaves = await self._ledger.accesses(caller.tenant, REVEAL, since)
        return [Look(r["decided_at"], r["object"]) for r in map(orjson.loads, leaves) if _same(r["by"], caller.by)]


def _same(by: Mapping[str, Any], caller: By) -> bool:
    return (by["name"], by["kind"]) == (caller.name, caller.kind)


def check(purpose: str | None, caller: Caller) -> str:
    """The purpose. Raises NotAllowed or RequestRefused unless this caller may see personal values for it."""
    if REVEAL not in caller.scopes:
        raise NotAllowed("scope missing", missing=REVEAL)
    if purpose not in PURPOSES:
        near = did_you_mean(purpose or "", PURPOSES)
        hint = "; ".join(filter(None, (near, "one of " + ", ".join(PURPOSES))))
        problem = FieldProblem("query.purpose", "not_a_choice", "there is no such purpose", hint)
        raise RequestRefused("Personal values are shown for a purpose; see errors.", [problem])
    return purpose


def waiting(looks: Sequence[int], now: int, per_hour: int) -> int:
    """Seconds until another look is allowed after those at `looks`; 0 when it is allowed now."""
    recent = sorted(at for at in looks if at > now - HOUR)
    if len(recent) < per_hour:
        return 0
    return int((recent[-per_hour] + HOUR - now) // SECOND) + 1


def unusual(looks: Iterable[Look], now: int) -> tuple[str, ...]:
    """What is unusual about the last of a key's `looks`, which is at `now`, beside those of the days before.

    `many`: more decisions in the last 24 hours than 10, and than twice those of its busiest day of the 28 before.
    `night`: between 22:00 and 06:00 in Asia/Shanghai, when less than a tenth of its looks of the 28 days before were.
    """
    days: dict[int, set[str]] = {}
    before = []
    for look in looks:
        days.setdefault(max(0, (now - look.at) // DAY), set()).add(look.object)
        if now - look.at >= DAY:
            before.append(look.at)
    busiest = max((len(objects) for day, objects in days.items() if day > 0), default=0)
    found = []
    if len(days.get(0, ())) > max(FEW, MANY * busiest):
        found.append("many")
    if at_night(now) and sum(map(at_night, before)) < max(1, SELDOM * len(before)):
        found.append("night")
    return tuple(found)


def at_night(at: int) -> bool:
    """Whether a moment in UTC microseconds lies in the night of Asia/Shanghai."""
    hour = datetime.fromtimestamp(at // SECOND, BEIJING).hour
    return hour >= NIGHT[0] or hour < NIGHT[1]
