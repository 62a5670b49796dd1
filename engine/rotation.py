"""New keys in place of old ones, at every level, while servers go on.

    rotation = Rotation(ledger, vault, journal)
    await rotation.kms(by)                  every tenant's key under the key service's key of now
    await rotation.tenant("shop-a", by)     a new key of a tenant, and all its data keys under that one
    await rotation.subjects("shop-a", by)   new data keys, and all ciphertexts under these

Each goes on where it was killed, as the rows say themselves what is not done yet; each step changes a row only if it is
still what was read, so that two at once, a server and an erasure do no harm. A server meets a changed row as it reads
it: with the cell comes its key, and with the key the tenant's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from engine.callers import By
from engine.database import Rows, setting, tenant_key
from engine.errors import NotFound, VaultError
from engine.jcs import canonical
from engine.journal import EVERYONE, Journal
from engine.ledger import Ledger
from engine.ledger.rewrapping import Old, clear_keys, old_cells, old_keys, put_cells, put_wraps, used_names
from engine.vault import KEY_SECONDS, SubjectKey, Vault
from engine.vault.services import FileService

AT_ONCE = 200
"""Rows in one transaction."""

YOUNG = 2 * KEY_SECONDS * 1_000_000
"""A data key as young as this (µs) may still be sealing somewhere: a process uses one for an hour at most. It is new,
too, and stays."""

Done = Callable[[int], None]
"""Told how many rows are done, now and then."""


def _quiet(_: int) -> None:
    """Nobody wants to know."""


class Rotation:
    """Rotates keys of one ledger. Unavailable and VaultError as the key service says; what is done then stays done."""

    def __init__(self, ledger: Ledger, vault: Vault, journal: Journal) -> None:
        self._ledger = ledger
        self._vault = vault
        self._journal = journal
        self._settings = Rows(ledger.database, setting)

    async def kms(self, by: By, tell: Done = _quiet) -> int:
        """Wrap every version of every tenant's key anew; how many. Data keys and ciphertexts stay as they are.

        The key of a service is rotated there, before; the key file gets a new key here.

        An interrupted one goes on: what was wrapped since it began is done.
        """
        tenants = self._vault.tenants
        service = tenants.services.used
        resumed = await self._settings.find(name="rotation kms")
        if isinstance(service, FileService) and not resumed:
            await asyncio.to_thread(service.make_key)
        began = await self._began("rotation kms")
        after = tenants.services.used.current()
        # One that begins takes all, whatever the clock says: it may have been set back since they were wrapped.
        keys = [key for key in await tenants.find() if not resumed or key.wrapped_at < began]
        before = sorted({key.service for key in keys})
        await self._record(EVERYONE, "kms", before, after, len(keys), by)
        for number, key in enumerate(keys, 1):
            await tenants.moved(key)
            tell(number)
        await self._ended("rotation kms")
        return len(keys)

    async def tenant(self, tenant: str, by: By, tell: Done = _quiet) -> int:
        """Give a tenant a new key and wrap all its data keys by that one; how many. Ciphertexts stay.

        An interrupted one goes on with the key it had made. A server still wraps new data keys by the old one for as
        long as it has that open; so the old one stays, and the next rotation takes these over. NotFound for a tenant
        without any key.
        """
        tenants = self._vault.tenants
        name = f"rotation tenant {tenant}"
        resumed = await self._settings.find(name=name)
        await self._prune(tenant)
        newest = await tenants.newest(tenant)
        if newest is None and not await self._left(tenant, ""):
            raise NotFound(f"the tenant '{tenant}' has no keys")
        if not resumed:
            version = newest.version + 1 if newest else 1
            await self._record(tenant, "tenant", [newest.name if newest else ""], f"tenant/{version}", None, by)
            await self._began(name)
            await tenants.make(tenant, version)
        elif newest is not None and newest.created < int(resumed[0]["value"]):
            await tenants.make(tenant, newest.version + 1)  # It was killed before it made one.
        current = await tenants.newest(tenant)
        assert current is not None, "made here"
        await tenants.renew(tenant)
        done = 0
        while rows := await self._left(tenant, current.name):
            done += await self._rewrap(rows)
            tell(done)
        await self._ended(name)
        return done

    async def subjects(self, tenant: str, by: By, tell: Done = _quiet) -> int:
        """Seal everything of a tenant anew under new data keys, and destroy the old ones; how many ciphertexts.

        Keys that were made within two hours stay: they may be in use. What was erased stays erased. A ciphertext that
        does not open stops it, and no key of the tenant is destroyed.
        """
        name = f"rotation subjects {tenant}"
        resumed = await self._settings.find(name=name)
        before = int(resumed[0]["value"]) if resumed else _now() - YOUNG
        if not resumed:
            await self._record(tenant, "subjects", ["data keys"], "data keys", None, by)
            await self._settings.put(name=name, value=str(before))
        await self._vault.ready(tenant)
        made: dict[str, tuple[SubjectKey, bytes]] = {}
        place, done = (-1, b""), 0
        while found := await self._ledger.database.read(old_cells(tenant, before, place, AT_ONCE)):
            done += await self._reseal(found, made)
            place = found[-1].place
            tell(done)
            await self._vault.ready(tenant)
        await self._ledger.database.write(clear_keys(tenant, before))
        await self._ended(name)
        return done

    async def _prune(self, tenant: str) -> None:
        """Destroy versions of a tenant's key that wrap nothing, and that no process has open any more."""
        versions = await self._vault.tenants.find(tenant)
        used = await self._ledger.database.read(used_names(tenant))
        for old, new in pairwise(versions):
            if old.name not in used and new.created < _now() - YOUNG:
                await Rows(self._ledger.database, tenant_key).remove(tenant=tenant, version=old.version)

    async def _left(self, tenant: str, current: str) -> list[SubjectKey]:
        return await self._ledger.database.read(old_keys(tenant, current, AT_ONCE))

    async def _rewrap(self, rows: list[SubjectKey]) -> int:
        """The same data keys under the tenant's key of now."""
        wrapped = [(row, self._vault.rewrap(row)) for row in rows]
        return await self._ledger.database.write(put_wraps(wrapped))

    async def _reseal(self, found: list[Old], made: dict[str, tuple[SubjectKey, bytes]]) -> int:
        """The same data under new data keys: one for each subject, or more where there are very many subjects."""
        if len(made) > 10 * AT_ONCE:
            made.clear()
        await self._vault.prepare(old.cell for old in found)
        changed = []
        for old in found:
            subject = old.cell.subject
            if subject not in made:
                made[subject] = self._vault.new_key(old.cell.tenant, subject)
            key, secret = made[subject]
            try:
                changed.append((old, self._vault.reseal(old.cell, key, secret, old.cell.table)))
            except VaultError as error:
                what = f"a text of the record {old.cell.record} does not open: {error}; no old key is destroyed"
                raise VaultError(what) from None
        return await self._ledger.database.write(put_cells(changed))

    async def _began(self, name: str) -> int:
        """When the rotation of this name began (UTC µs), now or before it was interrupted."""
        await self._settings.add(name=name, value=str(_now()))
        (row,) = await self._settings.find(name=name)
        return int(row["value"])

    async def _ended(self, name: str) -> None:
        await self._settings.remove(name=name)

    async def _record(self, tenant: str, level: str, before: list[str], after: str, count: int | None, by: By) -> None:
        """Into the log before it is done. An interrupted one that goes on is recorded again."""
        told: dict[str, Any] = {"keys": before} if count is None else {"keys": before, "count": count}
        await self._journal.change(tenant, "key_rotated", level, canonical(told).decode(), after, by)


def _now() -> int:
    return time.time_ns() // 1_000
