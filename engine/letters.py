"""That a person was told: which notice, when, by which channel. The notice itself can be computed again at any time.

    letters = Letters(ledger, records, team, clock)
    await letters.sent(decision_id, body, caller)

The record holds the notice's hash and nothing of the person. From the moment that it was sent an appeal's time counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine.bodies import read_body
from engine.callers import Caller
from engine.cases import Case, sequel
from engine.errors import BodyRefused, Conflict, FieldProblem
from engine.jcs import canonical
from engine.ledger import Ledger, entry_after, new_id
from engine.records import Records
from engine.schema import FUTURE, identifying, identifying_problem, instant
from engine.team import Team

NOTICE = "notice"
"""The type of the records."""


class NoticeSent(BaseModel):
    """That the person was told. `sha256` is the notice's own, as it was read; `of` the record that it is of."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    channel: str = Field(min_length=1, max_length=64, description="How: email, sms, in_app, letter …")
    sha256: str = Field(min_length=64, max_length=64, description="Of the notice that was sent")
    lang: Literal["en", "zh"]
    of: str = Field(default="", max_length=64, description="The record it tells of; the newest when absent")
    at: Annotated[int, BeforeValidator(instant)] | None = Field(
        default=None, json_schema_extra={"type": "string"}, description="When; now when absent"
    )
    person: str = Field(default="", max_length=120, description="Who sent it, where a service reports it")


_SENT = TypeAdapter(NoticeSent)


class Letters:
    """Keeps that notices were sent."""

    def __init__(self, ledger: Ledger, records: Records, team: Team, clock: Callable[[], int]) -> None:
        self._ledger = ledger
        self._records = records
        self._team = team
        self._clock = clock

    async def sent(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in that a notice was sent; the new record and its receipt. The same report again gets the first answer.

        Conflict where the notice reads otherwise than what was sent: then something came in between.
        """
        sent = read_body(_SENT, body)
        kind = identifying(sent.channel)
        if kind:
            raise BodyRefused([identifying_problem("channel", kind)])
        async with self._team.turn(f"case {id}"):
            stored = await self._records.stored(id, caller.tenant, "decision")
            case = await self._records.case(stored)
            notice = await self._records.statement(id, caller, "person", sent.lang, sent.of or None)
            if notice["sha256"] != sent.sha256:
                raise Conflict("the notice reads otherwise than what was sent: read it again, and send that")
            known = _known(case, sent, notice["of"])
            if known is not None:
                again = await self._records.stored(known, caller.tenant, NOTICE)
                return {"record": orjson.loads(again.entry.leaf), "receipt": again.receipt.json()}
            now = max(self._clock(), case.newest)
            at = self._when(sent, case, now)
            record = sequel(NOTICE, new_id(), case, NOTICE, ("sent", "sent"), caller.speaking_for(sent.person), now)
            told = {"of": notice["of"], "lang": sent.lang, "channel": sent.channel, "at": at, "sha256": sent.sha256}
            entry = entry_after(stored.entry, record | {NOTICE: told}, canonical(record | {NOTICE: told}))
            receipt = await self._ledger.append(entry)
        return {"record": orjson.loads(entry.leaf), "receipt": receipt.json()}

    def _when(self, sent: NoticeSent, case: Case, now: int) -> int:
        at = now if sent.at is None else sent.at
        if not case.first["decided_at"] - FUTURE <= at <= now + FUTURE:
            what = "lies before the decision, or in the future"
            raise BodyRefused([FieldProblem("at", "out_of_range", what, "send when the person was told")])
        return at


def _known(case: Case, sent: NoticeSent, of: str) -> str | None:
    """The record of the same notice by the same channel, if it was kept before."""
    for record in reversed(case.later):
        told = record.get(NOTICE) or {}
        if (told.get("of"), told.get("channel"), told.get("sha256")) == (of, sent.channel, sent.sha256):
            return str(record["id"])
    return None
