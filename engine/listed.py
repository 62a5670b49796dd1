"""What was on the lists when a decision was made, found again by the hash that its record pins.

    listed = Listed(ledger, vault.pseudonym)
    history = await listed.history("shop-a", rulebook.lists.lists["blocked"])
    history.entries(record["pins"]["lists"]["blocked"])         # or None, where that is not kept

The record of a change names an entry by its keyed id; which value that is, its row says, as long as it is kept.
"""

from __future__ import annotations

import orjson

from engine import database as db
from engine.ledger import Ledger
from engine.lists import History, ListEntry, NamedList, Pseudonym, entry_id


class Listed:
    """The histories of all lists, of every tenant, each read once."""

    def __init__(self, ledger: Ledger, pseudonym: Pseudonym) -> None:
        self._ledger = ledger
        self._pseudonym = pseudonym
        self._changes: dict[str, dict[str, list[ListEntry]]] = {}
        self._histories: dict[tuple[str, str, str], History] = {}

    async def history(self, tenant: str, named: NamedList) -> History:
        """How what a tenant put on a list through the API changed, over what the files of `named` hold."""
        key = (tenant, named.name, named.hash)
        if key not in self._histories:
            if tenant not in self._changes:
                self._changes[tenant] = await self._all_changes(tenant)
            self._histories[key] = History(named.hash, self._changes[tenant].get(named.name, []))
        return self._histories[key]

    def id(self, entry: ListEntry) -> str:
        """The keyed id that records of changes have for an entry."""
        return entry_id(self._pseudonym, entry.tenant, entry.list, entry.value)

    async def _all_changes(self, tenant: str) -> dict[str, list[ListEntry]]:
        """By list each entry as every recorded change of it left it."""
        rows = [ListEntry(**row) for row in await db.Rows(self._ledger.database, db.list_entry).find(tenant=tenant)]
        known = {self.id(row): row for row in rows}
        found: dict[str, list[ListEntry]] = {}
        for leaf in await self._ledger.list_changes(tenant):
            change = orjson.loads(leaf)
            name, _, id = change["object"].rpartition("/")
            if id in known:
                found.setdefault(name, []).append(known[id].stood(change["after"]))
        return found
