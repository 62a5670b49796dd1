"""Changes of what decides, recorded before they take effect: who, what, from, to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from engine.callers import By
from engine.decide import FORMAT
from engine.jcs import canonical
from engine.ledger import Entry, Ledger, new_id
from engine.team import Team
from engine.vault import Sealed

EVERYONE = "*"
"""The tenant of a change that no caller made and that holds for all of them. No API key can have it."""

TURN = "changes"
"""The turn of who changes what decides."""

Note: TypeAlias = Callable[[str], tuple[str, str, Sealed]]
"""Seals the reason of a change for the record with this id: (role, commitment, sealed)."""


class Changes:
    """Writes changes into the ledger.

    Who changes something holds `turn` from the moment it looks at what is there until the change is in force, in every
    process: so the order in the log is the order in which changes took effect.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], int], team: Team) -> None:
        self._ledger = ledger
        self._clock = clock
        self._team = team

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Waits until nobody else changes anything."""
        return self._team.turn(TURN)

    async def record(
        self,
        tenant: str,
        what: str,
        changed: str,
        before: str | None,
        after: str | None,
        by: By,
        note: Note | None = None,
    ) -> None:
        """Record one change. It comes first: a change that nobody can find in the log must not count.

        The reason stands in the leaf as a commitment only: it is free text, and the leaf is for ever.
        """
        id, now = new_id(), self._clock()
        _, commitment, sealed = note(id) if note else ("", None, None)
        record = {
            "format": FORMAT,
            "type": "change",
            "id": id,
            "tenant": tenant,
            "decided_at": now,
            "what": what,
            "object": changed,
            "before": before,
            "after": after,
            "by": {"name": by.name, "kind": by.kind, "person": by.person},
            "note": commitment,
        }
        cells = (sealed,) if sealed else ()
        await self._ledger.append(Entry(id, tenant, "change", None, what, now, now, canonical(record), cells))
