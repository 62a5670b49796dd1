"""API keys: kept as hashes, each made and revoked with a record of who did it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from engine import database as db
from engine.callers import KINDS, SCOPES, By, Caller
from engine.errors import NotAllowed, NotFound, RequestRefused
from engine.jcs import canonical
from engine.journal import Journal

KEY_PREFIX = "arb_"
_SHOWN = 12
"""Hexadecimal digits of a key's hash by which it is named."""


class ApiKeys:
    """The API keys of one database."""

    def __init__(self, database: db.Database, journal: Journal, clock: Callable[[], int]) -> None:
        self._rows = db.Rows(database, db.api_key)
        self._journal = journal
        self._clock = clock

    async def holder(self, secret: str) -> Caller:
        """Who holds this key. NotAllowed when it is unknown, revoked or past its time."""
        rows = await self._rows.find(hash=_hash(secret))
        now = self._clock()
        if not rows or rows[0]["revoked"] is not None or (rows[0]["expires"] or now + 1) <= now:
            raise NotAllowed("this API key is unknown, revoked or past its time")
        row = rows[0]
        return Caller(row["name"], row["kind"], row["tenant"], frozenset(row["scopes"].split()))

    async def all(self) -> list[dict[str, Any]]:
        """Every key as it is kept, with the `id` that names it; revoked ones too."""
        return [{"id": key_id(row["hash"]), **row} for row in await self._rows.find()]

    async def create(
        self, name: str, kind: str, tenant: str, scopes: Iterable[str], expires: int | None, by: By
    ) -> str:
        """A new key, shown this once: only its SHA-256 is kept. `expires` is in UTC microseconds."""
        given = frozenset(scopes)
        assert kind in KINDS, kind
        assert given <= frozenset(SCOPES), given
        secret = KEY_PREFIX + token_urlsafe(32)
        hashed = _hash(secret)
        told = {"name": name, "kind": kind, "scopes": sorted(given), "expires": expires}
        await self._journal.change(tenant, "key_created", key_id(hashed), None, canonical(told).decode(), by)
        row = {"name": name, "kind": kind, "tenant": tenant, "scopes": " ".join(sorted(given))}
        await self._rows.add(hash=hashed, expires=expires, revoked=None, created=self._clock(), **row)
        return secret

    async def revoke(self, named: str, by: By) -> None:
        """End the working key that has this id, or this name where one key has it. NotFound, or RequestRefused when
        several have the name."""
        working = [row for row in await self.all() if row["revoked"] is None]
        found = [row for row in working if named in (row["id"], row["name"])]
        if not found:
            raise NotFound(f"there is no working key '{named}'; see arbiter keys list")
        if len(found) > 1:
            raise RequestRefused(f"{len(found)} keys are named '{named}': revoke them by id; see arbiter keys list")
        (key,) = found
        tenant, id, name = (key[part] for part in ("tenant", "id", "name"))
        await self._journal.change(tenant, "key_revoked", id, name, None, by)
        await self._rows.change({"hash": key["hash"]}, revoked=self._clock())


def key_id(hashed: bytes) -> str:
    """The id of a key: what its hash begins with, hex."""
    return hashed.hex()[:_SHOWN]


def _hash(secret: str) -> bytes:
    # 256 random bits cannot be guessed: a fast hash is enough, and keeps the hot path fast.
    return sha256(secret.encode()).digest()
