"""What opinion monitors report about us: how many mentions, and how they sound. Numbers, never texts or authors.

    await opinions.take(b'{"id": "r-1", "source": "monitor", "sentiment": -0.6, "volume": 900, "at": …}', caller)
    volume = await opinions.volume("shop-a", sentiment=-400, since=…)

A report is in the ledger before it is answered; the same one again gets the first answer.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from sqlalchemy import func, select

from engine import database as db
from engine.bodies import read_body
from engine.callers import Caller
from engine.changes import Changes
from engine.errors import BodyRefused, Conflict, FieldProblem
from engine.intake import Clock
from engine.jcs import canonical
from engine.schema import FUTURE, identifying, identifying_problem, instant, wrong
from engine.team import Team

MOST = 1_000_000_000
"""Mentions in one report."""

BYTES = 16 * 1024
"""Of one report."""


def _sentiment(value: Any) -> int:
    """Thousandths, from a number or decimal text between -1 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong("wrong_type", "a number from -1 (all against) to 1 (all for) is needed")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise wrong("bad_format", "a number from -1 (all against) to 1 (all for) is needed") from None
    if not (number.is_finite() and -1 <= number <= 1):
        raise wrong("out_of_range", "from -1 (all against) to 1 (all for)")
    return round(number * 1000)


def _volume(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("wrong_type", "a whole number is needed")
    if not 0 <= value <= MOST:
        raise wrong("out_of_range", f"from 0 to {MOST:,}")
    return value


class Opinion(BaseModel):
    """What a monitor found since its last report: so many mentions (`volume`), which sound so (`sentiment`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=128, description="The monitor's id of this report")
    source: str = Field(min_length=1, max_length=64, description="Which monitor, such as weibo-monitor")
    at: Annotated[int, BeforeValidator(instant)] = Field(
        description="When it was measured, with a zone", json_schema_extra={"type": "string", "format": "date-time"}
    )
    sentiment: Annotated[int, BeforeValidator(_sentiment)] = Field(
        description="From -1, all against us, to 1, all for us", json_schema_extra={"type": "number"}
    )
    volume: Annotated[int, BeforeValidator(_volume)] = Field(description="How many mentions")


_OPINION: TypeAdapter[Opinion] = TypeAdapter(Opinion)


class Opinions:
    """Keeps reports, and adds them up."""

    def __init__(self, database: db.Database, changes: Changes, team: Team, clock: Clock) -> None:
        self._database = database
        self._rows = db.Rows(database, db.opinion)
        self._changes = changes
        self._team = team
        self._clock = clock

    async def take(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Keep a report, with the id of its record. BodyRefused; Conflict where its id was used with other figures."""
        report = read_body(_OPINION, body)
        now = self._clock()
        found = [(name, identifying(value)) for name, value in (("id", report.id), ("source", report.source))]
        problems = [identifying_problem(name, kind) for name, kind in found if kind]
        if report.at > now + FUTURE:
            what = "lies more than 5 minutes in the future"
            problems.append(FieldProblem("at", "in_the_future", what, "check the sender's clock"))
        if problems:
            raise BodyRefused(problems)
        said = report.model_dump()
        async with self._team.turn(f"opinion {caller.tenant}"):
            before = await self._rows.find(tenant=caller.tenant, source=report.source, id=report.id)
            if before:
                if any(before[0][name] != said[name] for name in ("at", "sentiment", "volume")):
                    raise Conflict("this id was used with other figures")
                return _shown(before[0])
            figures = {name: said[name] for name in ("at", "sentiment", "volume")}
            name = f"{report.source}/{report.id}"
            after = canonical(figures).decode()
            id = await self._changes.record(caller.tenant, "opinion", name, None, after, caller.by)
            row = {**said, "tenant": caller.tenant, "received_at": now, "record": id}
            await self._rows.add(**row)
        return _shown(row)

    async def volume(self, tenant: str, sentiment: int, since: int) -> int:
        """How many mentions came after `since` (UTC µs) in reports of at most this `sentiment` (thousandths)."""
        table = db.opinion.c
        query = select(func.coalesce(func.sum(table.volume), 0)).where(
            table.tenant == tenant, table.received_at > since, table.sentiment <= sentiment
        )
        return int(await self._database.read(lambda connection: connection.execute(query).scalar_one()))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "source", "at", "received_at", "record")} | {
        "sentiment": str(Decimal(row["sentiment"]) / 1000),
        "volume": row["volume"],
    }
