"""What was sent in a dispute, kept: a sealed copy in the record of the access that made it, as its own class of data.

    evidence = Evidence(ledger, vault, journal)
    access = await evidence.keep(stored, pack, 3, by)
    kept = await evidence.find(stored)               the pack as it was sent, and the record of its access
    await evidence.close(stored, "won", by)          the dispute is over

A copy is under a data key of its own and a use of its own, `dispute`: nothing that opens data of events opens it. It
stays when the person is erased or the data of the order ends, until the term of `disputes` in `policies/retention.yaml`
is over or the dispute is: until then its purpose is not achieved (PIPL Art. 47 ¶1(1)).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import orjson

from engine.callers import By
from engine.errors import VaultError
from engine.jcs import canonical
from engine.journal import Journal, Note, sealed_beside, sealed_note
from engine.ledger import Ledger, Stored
from engine.ledger.evidence import Copy, copies_about, drop_copies
from engine.ledger.reading import EVIDENCE
from engine.vault import DISPUTE, Vault, commit

PURPOSE = "dispute"
ROLE = "evidence"


class Kept(NamedTuple):
    """What was sent, the record of the access that made it, and the ids of all accesses that made a copy."""

    pack: Mapping[str, Any]
    record: Mapping[str, Any]
    all: tuple[str, ...]


class Evidence:
    """Keeps, opens and ends what was sent in disputes."""

    def __init__(self, ledger: Ledger, vault: Vault, journal: Journal) -> None:
        self._ledger = ledger
        self._vault = vault
        self._journal = journal

    async def opened(self, stored: Stored, count: int, by: By) -> str:
        """Record that what there is about a decision was opened, `count` entries, and keep no copy; the record's id."""
        return await self._access(stored, count, by, None)

    async def keep(self, stored: Stored, pack: Mapping[str, Any], count: int, by: By) -> str:
        """The same, and keep `pack` sealed; the record commits to it."""
        tenant = stored.entry.tenant
        await self._vault.ready(tenant)
        return await self._access(stored, count, by, partial(_sealed, self._vault, tenant, pack))

    async def keeps(self, stored: Stored) -> bool:
        """Whether a copy about a decision is kept."""
        return bool(await self._copies(stored))

    async def find(self, stored: Stored, access: str | None = None) -> Kept | None:
        """The copy about a decision that this access made, or that was made last; None where none is kept. VaultError:
        it was altered."""
        ids = tuple(each.id for each in await self._copies(stored))
        if not ids or access not in (None, *ids):
            return None
        found = await self._ledger.get(stored.entry.tenant, access or ids[-1])
        assert found is not None, "entries are never deleted"
        record = orjson.loads(found.entry.leaf)
        await self._vault.prepare(found.entry.sealed)
        text = orjson.loads(self._vault.open(found.entry.sealed[0]))
        if commit(bytes.fromhex(text["salt"]), canonical(text["fields"])) != record["note"]:
            raise VaultError("the copy of what was sent is not what its record commits to")
        return Kept(orjson.loads(text["fields"]["pack"]), record, ids)

    async def withdraw(self, stored: Stored, access: str) -> None:
        """End the one copy that this access made; its record stays."""
        gone = [each for each in await self._copies(stored) if each.id == access]
        await self._ledger.database.write(lambda connection: drop_copies(connection, gone))
        await self._ledger.database.scrub()

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
            await self._ledger.database.write(lambda connection: drop_copies(connection, copies))
            await self._ledger.database.scrub()
        return len(copies)

    async def _access(self, stored: Stored, count: int, by: By, note: Note | None) -> str:
        entry = stored.entry
        return await self._journal.access(entry.tenant, EVIDENCE, entry.id, PURPOSE, count, by, note)

    async def _copies(self, stored: Stored) -> tuple[Copy, ...]:
        entry = stored.entry
        return await self._ledger.database.read(lambda connection: copies_about(connection, entry.tenant, {entry.id}))


def _sealed(vault: Vault, tenant: str, pack: Mapping[str, Any], record: str) -> Any:
    # As text: in the order in which it was written, whatever canonical JSON would make of it.
    return sealed_beside(vault, tenant, record, None, ROLE, {"pack": orjson.dumps(pack).decode()}, DISPUTE)
