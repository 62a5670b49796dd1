"""Changes of what decides, recorded before they take effect: who, what, from, to."""

from __future__ import annotations

from collections.abc import Callable

from engine.callers import Caller
from engine.decide import FORMAT
from engine.jcs import canonical
from engine.ledger import Entry, Ledger, new_id


class Changes:
    """Writes changes into the ledger."""

    def __init__(self, ledger: Ledger, clock: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def record(self, what: str, changed: str, before: str | None, after: str | None, caller: Caller) -> None:
        """Record one change. It comes first: a change that nobody can find in the log must not count."""
        id, now = new_id(), self._clock()
        record = {
            "format": FORMAT,
            "type": "change",
            "id": id,
            "tenant": caller.tenant,
            "decided_at": now,
            "what": what,
            "object": changed,
            "before": before,
            "after": after,
            "by": {"name": caller.name, "kind": caller.kind},
        }
        await self._ledger.append(Entry(id, caller.tenant, "change", None, what, now, now, canonical(record)))
