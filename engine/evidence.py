"""What was sent in a dispute, kept: a sealed copy in the record of the access that made it, as its own class of data.

    evidence = Evidence(ledger, vault, library.find, clock)
    sent = await evidence.send(stored, None, retention.disputes, by)     the pack, and whether a copy of it is kept
    sent = await evidence.again(stored, None, by)                        as it was sent last, whatever was erased since
    await evidence.close(stored, "won", by)                              the dispute is over

A copy is under a data key of its own and a use of its own, `dispute`: nothing that opens data of events opens it. It
stays when the person is erased or the data of the order ends, until the term of `disputes` in `policies/retention.yaml`
is over or the dispute is: until then its purpose is not achieved (PIPL Art. 47 ¶1(1)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from engine.callers import By
from engine.dispute import Disputes, events_of
from engine.errors import NotFound, VaultError
from engine.jcs import canonical
from engine.journal import Journal, Note, sealed_beside, sealed_note
from engine.ledger import Ledger, Stored
from engine.ledger.beside import Copy, copies_about, drop_copies
from engine.ledger.reading import EVIDENCE
from engine.records import ByHash
from engine.retention import Kept
from engine.schema import FRAUD
from engine.vault import DISPUTE, Vault, commit

PURPOSE = "dispute"
ROLE = "evidence"

Copied: TypeAlias = Literal["kept", "no_term", "no_dispute", "erased"]
"""Whether a copy is kept: else nobody said how long, no dispute is known of, or something in the pack was erased."""


class Sent(NamedTuple):
    """A pack with who made it by which access, whether a copy of it is kept, and the id of the access recorded now."""

    pack: dict[str, Any]
    copied: Copied
    access: str


class Again(NamedTuple):
    """A pack as it was sent, at which time (UTC µs), by the accesses of which copies are kept, and the id of the access
    recorded now."""

    pack: dict[str, Any]
    at: int
    copies: tuple[str, ...]
    access: str


class Evidence:
    """Makes packs, and keeps, opens and ends copies of them."""

    def __init__(self, ledger: Ledger, vault: Vault, rulebook: ByHash, clock: Callable[[], int]) -> None:
        self._ledger = ledger
        self._vault = vault
        self._disputes = Disputes(ledger, vault, rulebook)
        self._journal = Journal(ledger, clock)
        self._clock = clock

    async def send(self, stored: Stored, disputed_on: int | None, term: Kept | None, by: By) -> Sent:
        """The pack of a decision, recorded as an access, and a copy kept of it where there are a dispute and a `term`.
        `disputed_on` as in `Disputes.pack`."""
        found = await self._disputes.pack(stored, disputed_on, self._clock())
        tenant, note = stored.entry.tenant, None
        copied = await self._to_be_copied(stored, found, disputed_on, term)
        if copied == "kept":
            await self._vault.ready(tenant)
            note = partial(_sealed, self._vault, tenant, found)
        access = await self._record(stored, found, by, note)
        if copied == "kept" and not await self._disputes.stands(tenant, found):
            # Somebody was erased between the reading and the keeping: that erasure could not know of the copy.
            await self._drop([each for each in await self._copies(stored) if each.id == access])
            copied = "erased"
        return Sent(_named(found, access, by.name), copied, access)

    async def _to_be_copied(
        self, stored: Stored, found: Mapping[str, Any], disputed_on: int | None, term: Kept | None
    ) -> Copied:
        """Without a dispute none is kept: else anybody could keep an order from being erased. And a pack in which
        something is erased takes the place of no copy."""
        if term is None:
            return "no_term"
        if disputed_on is None and not any(each["fields"]["outcome.result"] in FRAUD for each in found["outcomes"]):
            return "no_dispute"
        if any(each["erased"] for each in events_of(found)) and await self._copies(stored):
            return "erased"
        return "kept"

    async def again(self, stored: Stored, access: str | None, by: By) -> Again:
        """The pack that this access sent, or that was sent last, recorded as an access too. NotFound where no such copy
        is kept. VaultError: it was altered."""
        ids = tuple(each.id for each in await self._copies(stored))
        if not ids or access not in (None, *ids):
            raise NotFound(
                f"no {'such ' if access else ''}copy of what was sent about '{stored.entry.event_id}' is kept"
            )
        record, found = await self._opened(stored.entry.tenant, access or ids[-1])
        now = await self._record(stored, found, by, None)
        return Again(_named(found, record["id"], record["by"]["name"]), record["decided_at"], ids, now)

    async def close(self, stored: Stored, reason: str, by: By) -> int:
        """End all copies about a decision, recorded before in a number; how many there were. The reason is sealed."""
        copies, tenant = await self._copies(stored), stored.entry.tenant
        if copies:
            await self._vault.ready(tenant)
            # It may name the buyer: so it goes when the buyer is erased.
            whose = next((cell.subject for cell in stored.entry.sealed if cell.restricted is None), None)
            note = partial(sealed_note, self._vault, tenant, subject=whose, note=reason)
            count = str(len(copies))
            await self._journal.change(tenant, "dispute_closed", stored.entry.id, count, None, by, note)
            await self._drop(copies)
        return len(copies)

    async def _opened(self, tenant: str, access: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The record of the access that made a copy, and the copy."""
        stored = await self._ledger.get(tenant, access)
        assert stored is not None, "entries are never deleted"
        record = orjson.loads(stored.entry.leaf)
        await self._vault.prepare(stored.entry.sealed)
        text = orjson.loads(self._vault.open(stored.entry.sealed[0]))
        if commit(bytes.fromhex(text["salt"]), canonical(text["fields"])) != record["note"]:
            raise VaultError("the copy of what was sent is not what its record commits to")
        return record, orjson.loads(text["fields"]["pack"])

    async def _record(self, stored: Stored, found: Mapping[str, Any], by: By, note: Note | None) -> str:
        entry, count = stored.entry, len(events_of(found))
        return await self._journal.access(entry.tenant, EVIDENCE, entry.id, PURPOSE, count, by, note)

    async def _copies(self, stored: Stored) -> tuple[Copy, ...]:
        entry = stored.entry
        return await self._ledger.database.read(lambda connection: copies_about(connection, entry.tenant, {entry.id}))

    async def _drop(self, copies: Sequence[Copy]) -> None:
        await self._ledger.database.write(lambda connection: drop_copies(connection, copies))
        await self._ledger.database.scrub()


def _named(found: Mapping[str, Any], access: str, by: str) -> dict[str, Any]:
    return {**found, "access": access, "made_by": by}


def _sealed(vault: Vault, tenant: str, pack: Mapping[str, Any], record: str) -> Any:
    # As text: in the order in which it was written, whatever canonical JSON would make of it.
    return sealed_beside(vault, tenant, record, None, ROLE, {"pack": orjson.dumps(pack).decode()}, DISPUTE)
