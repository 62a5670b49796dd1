"""Who calls: API keys, kept as hashes, and the services and persons they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe

from engine import database as db
from engine.errors import NotAllowed

SCOPES = ("score", "outcome", "rules", "audit", "reveal", "admin")
"""What a key may allow: judge events, report outcomes and resolutions, change lists, read the log, see personal data,
reload and make keys."""

KINDS = ("service", "person")
KEY_PREFIX = "arb_"


@dataclass(frozen=True, slots=True)
class By:
    """Who did it: the API key's name, whether it is a service or a person, and the person a service speaks for."""

    name: str
    kind: str
    person: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a service or a person, of one tenant, with what it may do."""

    name: str
    kind: str
    tenant: str
    scopes: frozenset[str]

    @property
    def by(self) -> By:
        """The caller as a record names it."""
        return self.speaking_for("")

    def speaking_for(self, person: str) -> By:
        """The caller, and the person it names. A person speaks for nobody else."""
        return By(self.name, self.kind, self.name if self.kind == "person" else person.strip())


class ApiKeys:
    """The API keys of one database."""

    def __init__(self, database: db.Database, clock: Callable[[], int]) -> None:
        self._rows = db.Rows(database, db.api_key)
        self._clock = clock

    async def holder(self, secret: str) -> Caller:
        """Who holds this key. NotAllowed when it is unknown, revoked or past its time."""
        rows = await self._rows.find(hash=_hash(secret))
        now = self._clock()
        if not rows or rows[0]["revoked"] is not None or (rows[0]["expires"] or now + 1) <= now:
            raise NotAllowed("this API key is unknown, revoked or past its time")
        row = rows[0]
        return Caller(row["name"], row["kind"], row["tenant"], frozenset(row["scopes"].split()))

    async def create(self, name: str, kind: str, tenant: str, scopes: Iterable[str], expires: int | None = None) -> str:
        """A new key, shown this once: only its SHA-256 is kept."""
        return await create_key(self._rows, name, kind, tenant, scopes, self._clock(), expires)

    async def revoke(self, name: str, tenant: str) -> int:
        """End all keys of this name at once; how many there were."""
        return await self._rows.change({"name": name, "tenant": tenant, "revoked": None}, revoked=self._clock())


async def create_key(
    keys: db.Rows, name: str, kind: str, tenant: str, scopes: Iterable[str], now: int, expires: int | None = None
) -> str:
    """A new API key in the table `keys`, shown this once. `expires` is in UTC microseconds."""
    given = frozenset(scopes)
    assert kind in KINDS, kind
    assert given <= frozenset(SCOPES), given
    secret = KEY_PREFIX + token_urlsafe(32)
    row = {"name": name, "kind": kind, "tenant": tenant, "scopes": " ".join(sorted(given)), "created": now}
    await keys.add(hash=_hash(secret), expires=expires, revoked=None, **row)
    return secret


def _hash(secret: str) -> bytes:
    # 256 random bits cannot be guessed: a fast hash is enough, and keeps the hot path fast.
    return sha256(secret.encode()).digest()
