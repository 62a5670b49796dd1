"""Reading back: decisions with what came after them, pages of them, and why they came out so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from engine.callers import Caller
from engine.cases import Case
from engine.errors import FieldProblem, NotFound, RequestRefused, did_you_mean
from engine.explain import ERASED, SEALED, explanation
from engine.ledger import Filter, Ledger, Stored
from engine.reveals import NOTHING, PURPOSES, REVEAL, Reveal, Reveals
from engine.rulebook import Rulebook
from engine.statement import Audience, occasion, statement
from engine.vault import Vault

ByHash = Callable[[str], Awaitable[Rulebook]]
"""Gives the rulebook of a hash."""


class Records:
    """What the ledger holds, as people read it."""

    def __init__(self, ledger: Ledger, vault: Vault, rulebook: ByHash, reveals: Reveals | None = None) -> None:
        self._ledger = ledger
        self._vault = vault
        self._rulebook = rulebook
        self._reveals = reveals

    async def decision(self, id: str, caller: Caller, reveal: Reveal = NOTHING) -> dict[str, Any]:
        """A decision as it was recorded, its receipt, and everything that came after it; reasons as `_notes` has them.

        Any other record is read by its id likewise.
        """
        stored = await self.stored(id, caller.tenant)
        case = await self.case(stored)
        decided = case.first["type"] == "decision"
        told = [record for record in (case.first, *case.later) if record.get("note")]
        shown = await self._look(id, len(told), caller, reveal)
        return {
            "record": case.first,
            "receipt": stored.receipt.json(),
            "verdict": case.verdict if decided else None,
            "due": case.due if decided else None,
            "resolutions": list(case.later),
            "notes": await self._notes(told, caller.tenant, shown),
            "personal": _personal(caller, reveal, shown),
        }

    async def _look(self, id: str, count: int, caller: Caller, reveal: Reveal) -> str | None:
        """The record of the look, None where no purpose is given: personal values then stay sealed."""
        if reveal.purpose is None:
            return None
        assert self._reveals is not None, "who names a purpose reads through a server"
        return await self._reveals.allow(id, reveal, count, caller)

    async def page(
        self, tenant: str, wanted: Filter, cursor: str | None, limit: int, rulebook: Rulebook
    ) -> dict[str, Any]:
        """A page of decisions, newest first: {"items": [...], "next": cursor or None}.

        Raises RequestRefused for a kind of event that does not exist, and for a verdict that no policy of the rulebook
        in force has and that was never given: an empty page would say that nothing of the kind happened.
        """
        await self._refuse_unknown(tenant, wanted, rulebook)
        page = await self._ledger.page(tenant, wanted, cursor, limit)
        return {"items": [summary(orjson.loads(stored.entry.leaf)) for stored in page.entries], "next": page.cursor}

    async def _refuse_unknown(self, tenant: str, wanted: Filter, rulebook: Rulebook) -> None:
        problems = []
        kinds, verdicts = rulebook.schema.kinds, rulebook.verdicts
        if wanted.event_kind is not None and wanted.event_kind not in kinds:
            problems.append(_no_such("kind", "there is no such kind of event", wanted.event_kind, kinds))
        if wanted.verdict is not None and wanted.verdict not in verdicts:
            # An older rulebook may have had it.
            given = await self._ledger.page(tenant, Filter(kind=wanted.kind, verdict=wanted.verdict), None, 1)
            if not given.entries:
                what = "no policy in force has this verdict, and it was never given"
                problems.append(_no_such("verdict", what, wanted.verdict, verdicts))
        if problems:
            raise RequestRefused("A filter names what does not exist; see errors.", problems)

    async def explanation(self, id: str, caller: Caller, reveal: Reveal = NOTHING) -> dict[str, Any]:
        """Why a decision came out as it did, and what came after it.

        Personal values and reasons in free text only for a caller that may reveal them and says what for.
        """
        stored = await self.stored(id, caller.tenant, "decision")
        record = orjson.loads(stored.entry.leaf)
        rulebook = await self._rulebook(record["pins"]["rulebook"])
        later = (await self.case(stored)).later
        told = [each for each in later if each.get("note")]
        shown = await self._look(id, 1 + len(told), caller, reveal)
        private = await self._unsealed(stored) if shown else None
        return {
            "tenant": stored.entry.tenant,
            **explanation(record, rulebook, private),
            "resolutions": list(later),
            "notes": await self._notes(told, caller.tenant, shown),
            "personal": _personal(caller, reveal, shown),
        }

    async def statement(
        self,
        id: str,
        caller: Caller,
        audience: Audience,
        language: str,
        of: str | None = None,
        reveal: Reveal = NOTHING,
    ) -> dict[str, Any]:
        """What a person is told of a decision as it stands, or as it stood after the record `of`; for officers, what is
        behind it. What was answered to an appeal, in free text, only where `reveal` says what for.

        Conflict where there is nothing to tell, or the rulebook has no words for it.
        """
        stored = await self.stored(id, caller.tenant, "decision")
        case = await self.case(stored)
        rulebook = await self._rulebook(case.first["pins"]["rulebook"])
        about = occasion(case, of).of
        answer = None
        if about["type"] == "appeal" and about["note"]:
            shown = await self._look(id, 1, caller, reveal)
            note = await self._note(about["id"], caller.tenant, shown)
            answer = note if isinstance(note, Mapping) and note not in (SEALED, ERASED) else None
        return statement(case, rulebook, audience, language, of=of, answer=answer)

    async def stored(self, id: str, tenant: str, kind: str | None = None) -> Stored:
        """The entry with this id, of this kind if one is named. NotFound otherwise."""
        stored = await self._ledger.get(tenant, id)
        if stored is None or (kind is not None and stored.entry.kind != kind):
            raise NotFound(f"there is no {kind or 'entry'} with this id")
        return stored

    async def case(self, stored: Stored) -> Case:
        """An entry and all that refers to it."""
        later = [one async for one in self.all(stored.entry.tenant, Filter(refers_to=stored.entry.id))]
        return Case(orjson.loads(stored.entry.leaf), tuple(orjson.loads(one.entry.leaf) for one in reversed(later)))

    def all(self, tenant: str, wanted: Filter) -> AsyncIterator[Stored]:
        """Every entry that is wanted, newest first, page by page."""
        return self._ledger.all(tenant, wanted)

    async def _notes(self, told: Iterable[Mapping[str, Any]], tenant: str, shown: str | None) -> dict[str, Any]:
        """Id → the reason that was given in free text, of each record that has one.

        Without a recorded look it is only said that it is sealed, and after an erasure that it is gone.
        """
        return {record["id"]: await self._note(record["id"], tenant, shown) for record in told}

    async def _note(self, id: str, tenant: str, shown: str | None) -> Any:
        stored = await self.stored(id, tenant)
        if not any(cell.readable for cell in stored.entry.sealed):
            return ERASED
        return (await self._unsealed(stored))["note"]["note"] if shown else SEALED

    async def _unsealed(self, stored: Stored) -> dict[str, dict[str, Any]]:
        """Subject role → path → value, without the subjects whose keys were erased."""
        await self._vault.prepare(stored.entry.sealed)
        found = {}
        for cell in stored.entry.sealed:
            if cell.readable:
                text = orjson.loads(self._vault.open(cell))
                found[text["role"]] = text["fields"]
        return found


def _personal(caller: Caller, reveal: Reveal, shown: str | None) -> dict[str, Any]:
    """Whether personal values are shown: by which record, or what it takes."""
    if shown:
        return {"shown": True, "purpose": reveal.purpose, "record": shown}
    purposes = ", ".join(PURPOSES)
    scope = "" if REVEAL in caller.scopes else "a key with the scope reveal, and "
    return {"shown": False, "needs": f"{scope}a purpose, as in ?purpose=appeal: one of {purposes}"}


def _no_such(name: str, what: str, asked: str, known: Sequence[str]) -> FieldProblem:
    hint = "; ".join(filter(None, (did_you_mean(asked, known), "one of " + ", ".join(known))))
    return FieldProblem(f"query.{name}", "not_a_choice", what, hint)


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a list of decisions says of each, from its record."""
    event = record["event"]
    return {
        "id": record["id"],
        "event_id": event["id"],
        "kind": event["kind"],
        "order_id": event["order"],
        "at": event["at"],
        "received_at": event["received_at"],
        "verdict": record["verdict"],
        "score": record["score"],
        "signals": record["signals"],
        "rules": record["found"],
    }
