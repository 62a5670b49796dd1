"""The keys of tenants: wrapped in the database, open in this process for a bounded time and number of uses.

    tenants = TenantKeys(database, services)
    await tenants.ready("shop-a")           before something is sealed; costs a look into a dict while the key is warm
    cipher, name = tenants.sealing("shop-a")

The first event of a tenant makes its first key. While the key service is away a key works until its time is over, and
then nothing is sealed and nothing opens: Unavailable. There is no other way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine import database as db
from engine.errors import Unavailable, VaultError
from engine.randomness import random_bytes
from engine.vault.cells import TenantKey
from engine.vault.derive import KEY_BYTES
from engine.vault.services import UNAVAILABLE, Context, Services, Wrapped

SECONDS = 300.0
"""How long a tenant's key is open in a process; then its service is asked again, and may refuse."""
FRESH_SECONDS = 240.0
"""After so long it is asked behind the events, so that none waits."""
USES = 2**20
"""Data keys that an open key wraps at most, far below the 2^32 random nonces of AES-GCM (SP 800-38D §8.3)."""
AGAIN_SECONDS = 1.0
"""So long nobody asks a service again that did not answer."""

PURPOSE = "subject-keys"

log = structlog.get_logger("arbiter")


def context_of(tenant: str, version: int) -> Context:
    """What a tenant's key is bound to at the key service."""
    return {"application": "arbiter", "tenant": tenant, "purpose": PURPOSE, "version": str(version)}


@dataclass(slots=True)
class _Open:
    """A tenant's key at work in this process."""

    key: TenantKey
    cipher: AESGCM
    since: float
    uses: int = 0

    def good(self, now: float) -> bool:
        return now - self.since < SECONDS and self.uses < USES


class TenantKeys:
    """The open keys of tenants. `sealing` is for the event loop, `opening` for any thread."""

    def __init__(self, database: db.Database | None, services: Services) -> None:
        """Without a database the keys are kept nowhere, and go with this object."""
        self.services = services
        self._rows = None if database is None else db.Rows(database, db.tenant_key)
        self._current: dict[str, _Open] = {}
        self._open: dict[tuple[str, int], _Open] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, Unavailable | VaultError]] = {}

    @property
    def problem(self) -> str:
        """Why keys cannot be had just now, if so."""
        return next((str(error) for _, error in self._failed.values()), "")

    def close(self) -> None:
        """Let go of all keys, and of the connections to their service."""
        for asking in list(self._asking.values()):
            asking.cancel()
        self._current.clear()
        self._open.clear()
        self.services.close()

    async def ready(self, tenant: str) -> None:
        """See that `sealing` has a key. Unavailable or VaultError, as the key service says."""
        now = time.monotonic()
        held = self._current.get(tenant)
        if held is not None and held.good(now):
            if now - held.since > FRESH_SECONDS:
                self._ask(tenant, now)
            return
        failed = self._failed.get(tenant)
        if failed is not None and now - failed[0] < AGAIN_SECONDS:
            raise failed[1]
        await asyncio.shield(self._ask(tenant, now))

    async def renew(self, tenant: str) -> None:
        """`ready` with the newest version that the database has, whatever is open here."""
        self._current.pop(tenant, None)
        await self.ready(tenant)

    def sealing(self, tenant: str) -> tuple[AESGCM, TenantKey]:
        """The key that wraps new data keys of this tenant. Unavailable when nobody made it `ready`."""
        held = self._current.get(tenant)
        if held is None or not held.good(time.monotonic()):
            if self._rows is not None:
                raise Unavailable("the key of this tenant is not at hand; ask again", UNAVAILABLE)
            held = self._keep(self._made(tenant, 1), time.monotonic())
        held.uses += 1
        return held.cipher, held.key

    def opening(self, key: TenantKey) -> AESGCM:
        """The key that this row wraps. Asks the service when it is not open here; blocks as that does."""
        held = self._open.get((key.tenant, key.version))
        now = time.monotonic()
        if held is None or now - held.since >= SECONDS:
            held = _Open(key, AESGCM(self._unwrapped(key)), now)
            self._open[key.tenant, key.version] = held
        return held.cipher

    def at_hand(self, key: TenantKey) -> bool:
        """Whether `opening` needs nobody else now."""
        held = self._open.get((key.tenant, key.version))
        return held is not None and time.monotonic() - held.since < SECONDS

    def _ask(self, tenant: str, now: float) -> asyncio.Task[None]:
        """One question a tenant at a time."""
        asking = self._asking.get(tenant)
        if asking is None:
            failed = self._failed.get(tenant)
            pause = AGAIN_SECONDS - (now - failed[0]) if failed is not None else 0.0
            asking = asyncio.create_task(self._renew(tenant, max(0.0, pause)), name="arbiter-tenant-key")
            self._asking[tenant] = asking
            asking.add_done_callback(lambda done: self._asked(tenant, done))
        return asking

    def _asked(self, tenant: str, done: asyncio.Task[None]) -> None:
        self._asking.pop(tenant, None)
        if done.cancelled():
            return
        error = done.exception()  # Seen: behind the events nobody waits for it.
        if error is None:
            self._failed.pop(tenant, None)
            return
        log.warning("tenant_key_not_renewed", reason=str(error))
        if isinstance(error, (Unavailable, VaultError)):
            self._failed[tenant] = time.monotonic(), error

    async def _renew(self, tenant: str, pause: float) -> None:
        """Open the newest key of a tenant, made here if there is none."""
        if pause:
            await asyncio.sleep(pause)
        if self._rows is None:
            self._keep(await asyncio.to_thread(self._made, tenant, 1), time.monotonic())
            return
        key = await self.newest(tenant)
        if key is None:
            await self.make(tenant, 1)
            key = await self.newest(tenant)
            assert key is not None, "made here, or by another process"
        # Reckoned from before the question: what the service would refuse meanwhile is not held the longer.
        now = time.monotonic()
        self._keep((key, await asyncio.to_thread(self._unwrapped, key)), now)

    def _keep(self, opened: tuple[TenantKey, bytes], now: float) -> _Open:
        key, secret = opened
        held = _Open(key, AESGCM(secret), now)
        self._current[key.tenant] = self._open[key.tenant, key.version] = held
        return held

    # Rows

    async def newest(self, tenant: str) -> TenantKey | None:
        """The version that wraps new data keys, as the database has it."""
        found = await self.find(tenant)
        return found[-1] if found else None

    async def find(self, tenant: str | None = None) -> list[TenantKey]:
        """All versions, of one tenant or of all, the oldest of each first."""
        assert self._rows is not None
        where = {} if tenant is None else {"tenant": tenant}
        return [TenantKey(**row) for row in await self._rows.find(**where)]

    async def make(self, tenant: str, version: int) -> bool:
        """Make and store this version; False when another process was first."""
        assert self._rows is not None
        key, _ = await asyncio.to_thread(self._made, tenant, version)
        return await self._rows.add(**_row(key))

    async def moved(self, key: TenantKey) -> TenantKey:
        """The same key, wrapped anew by the service and key that wrap now, and stored so."""
        assert self._rows is not None
        context = context_of(key.tenant, key.version)
        wrapped = await asyncio.to_thread(self.services.move, Wrapped(key.service, key.wrapped), context)
        after = TenantKey(key.tenant, key.version, wrapped.key, wrapped.data, key.created, _now())
        where = {"tenant": key.tenant, "version": key.version, "wrapped": key.wrapped}
        await self._rows.change(where, service=after.service, wrapped=after.wrapped, wrapped_at=after.wrapped_at)
        return after

    def _made(self, tenant: str, version: int) -> tuple[TenantKey, bytes]:
        secret = random_bytes(KEY_BYTES)
        wrapped = self.services.used.wrap(secret, context_of(tenant, version))
        now = _now()
        return TenantKey(tenant, version, wrapped.key, wrapped.data, now, now), secret

    def _unwrapped(self, key: TenantKey) -> bytes:
        secret = self.services.unwrap(Wrapped(key.service, key.wrapped), context_of(key.tenant, key.version))
        if len(secret) != KEY_BYTES:
            raise VaultError("a tenant's key is not as long as a key")
        return secret


def _row(key: TenantKey) -> Mapping[str, Any]:
    return {name: getattr(key, name) for name in TenantKey.__dataclass_fields__}


def _now() -> int:
    return time.time_ns() // 1_000
