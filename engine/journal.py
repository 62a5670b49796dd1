"""What people and services do beside decisions, written into the ledger: changes of what decides, and accesses to data.

    journal = Journal(ledger, clock)
    await journal.change("shop-a", "merchant_tier", "m-1", "standard", "watched", by, note)
    await journal.access("shop-a", "reveal", decision_id, "appeal", 1, by)

A record is durable before what it tells of takes effect: what nobody can find in the log must not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from engine.build import build
from engine.callers import By
from engine.decide import FORMAT
from engine.jcs import canonical
from engine.ledger import Entry, Ledger, new_id
from engine.randomness import random_bytes
from engine.vault import PSEUDONYM_BYTES, SEALED, Sealed, Vault, commit

SALT_BYTES = 32

EVERYONE = "*"
"""The tenant of what no caller did and what holds for all of them. No API key can have it."""

Note: TypeAlias = Callable[[str], tuple[str, str, Sealed]]
"""Seals what belongs to the record with this id, such as a reason in free text: (role, commitment, sealed)."""


def sealed_note(
    vault: Vault, tenant: str, record: str, subject: str | None, note: str | Mapping[str, str]
) -> tuple[str, str, Sealed]:
    """A reason in free text, or by language, sealed for a record under the subject it is about, so that it goes when
    that subject is erased: (role, commitment, sealed). Without a subject it is sealed under one of its own."""
    return sealed_beside(vault, tenant, record, subject, "note", {"note": note}, SEALED)


def sealed_beside(
    vault: Vault, tenant: str, record: str, subject: str | None, role: str, fields: Mapping[str, Any], use: str
) -> tuple[str, str, Sealed]:
    """What belongs to a record and must not stand in it, as `sealed_note`, under a key for this use."""
    salt, written = random_bytes(SALT_BYTES), canonical(fields)
    text = b'{"role":"%b","salt":"%b","fields":%b}' % (role.encode(), salt.hex().encode(), written)
    sealed = vault.seal(tenant, record, subject or random_bytes(PSEUDONYM_BYTES).hex(), text, use)
    return role, commit(salt, written), sealed


class Journal:
    """Writes what was done into the ledger, each with who did it."""

    def __init__(self, ledger: Ledger, clock: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def change(
        self,
        tenant: str,
        what: str,
        changed: str,
        before: str | None,
        after: str | None,
        by: By,
        note: Note | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> str:
        """Record one change and give the record's id. The reason stands in the leaf as a commitment only: it is free
        text, and the leaf is for ever. `more` are further parts of the record, of nothing personal."""
        said = {"object": changed, "before": before, "after": after, **(more or {})}
        return await self._append(*(tenant, "change", what, by), said, note)

    async def access(
        self, tenant: str, what: str, read: str, purpose: str, count: int, by: By, note: Note | None = None
    ) -> str:
        """Record that data was taken out and give the record's id: `what` was done to what (`read`: an id, or a filter
        as canonical JSON; never a personal value), for which purpose (a word, as `reveal` has them) and how many
        entries that was."""
        return await self._append(
            *(tenant, "access", what, by), {"object": read, "purpose": purpose, "count": count}, note
        )

    async def _append(self, tenant: str, kind: str, what: str, by: By, more: dict[str, Any], note: Note | None) -> str:
        id, now = new_id(), self._clock()
        _, commitment, sealed = note(id) if note else ("", None, None)
        record = {
            "format": FORMAT,
            "build": build(),
            "type": kind,
            "id": id,
            "tenant": tenant,
            "decided_at": now,
            "what": what,
            **more,
            "by": asdict(by),
            "note": commitment,
        }
        cells = (sealed,) if sealed else ()
        await self._ledger.append(Entry(id, tenant, kind, None, what, now, now, canonical(record), cells))
        return id
