"""Who calls: keys, what they allow, and how fast they may ask.

    Authorization: Bearer <key>

A key is verified once and its caller kept for `TTL` seconds under the SHA-256 of the key, so that a request costs a
hash and a look-up; a revoked key works for that long at most. Each key has one token bucket per worker.

However many requests come with a key that must be verified, the database is asked once; and a key in use is verified
again shortly before its time is over, while requests go on. Else all of them would wait for the database every `TTL`
seconds, and those that come meanwhile behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

from engine.arbiter import Caller
from engine.errors import NotAllowed

TTL = 5.0
"""Seconds a verified key is believed."""

AHEAD = 1.0
"""Seconds before the end of that time from which on a request has its key verified again, without waiting for it."""

MAX_KEY_BYTES = 512
MAX_KEYS = 10_000
"""Verified keys kept; the oldest goes first."""


@dataclass(slots=True)
class Holder:
    """A verified key: its caller, and the tokens left in its bucket."""

    caller: Caller
    until: float
    tokens: float
    filled_at: float

    def wait(self, now: float, rate: float, burst: float) -> float:
        """0.0 when a token was taken, else the seconds until there is one."""
        self.tokens = min(burst, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / rate
        self.tokens -= 1.0
        return 0.0


class Keys:
    """The keys this worker has seen. `rate` requests a second per key, `burst` at once."""

    def __init__(
        self,
        authenticate: Callable[[str], Awaitable[Caller]],
        rate: float,
        burst: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._authenticate = authenticate
        self._rate, self._burst = rate, burst
        self._clock = clock
        self._holders: dict[bytes, Holder] = {}
        self._asking: dict[bytes, asyncio.Task[Holder]] = {}

    async def holder(self, headers: Mapping[bytes, bytes]) -> Holder:
        """The holder of the key in `headers`, verified at most `TTL` seconds ago. Raises NotAllowed."""
        secret = _secret(headers.get(b"authorization", b""))
        digest = sha256(secret).digest()
        holder = self._holders.get(digest)
        left = 0.0 if holder is None else holder.until - self._clock()
        if holder is None or left <= 0.0:
            return await asyncio.shield(self._ask(secret, digest))
        if left <= AHEAD:
            self._ask(secret, digest)
        return holder

    def wait(self, holder: Holder) -> float:
        """0.0 when the holder may go on (a token is taken), else the seconds to wait before asking again."""
        return holder.wait(self._clock(), self._rate, self._burst)

    def _ask(self, secret: bytes, digest: bytes) -> asyncio.Task[Holder]:
        """The verification of this key that is under way, begun now if there was none."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._verify(secret, digest))
            task.add_done_callback(lambda ended: self._asked(digest, ended))
        return task

    def _asked(self, digest: bytes, task: asyncio.Task[Holder]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # Whoever waited has it; where nobody did, the next request without time left asks again.

    async def _verify(self, secret: bytes, digest: bytes) -> Holder:
        try:
            caller = await self._authenticate(secret.decode("ascii"))
        except NotAllowed:
            self._holders.pop(digest, None)
            raise
        now = self._clock()
        # The bucket outlives the verification: a key that is verified again must not get a full one.
        holder = self._holders.setdefault(digest, Holder(caller, 0.0, self._burst, now))
        holder.caller, holder.until = caller, now + TTL
        while len(self._holders) > MAX_KEYS:
            del self._holders[next(iter(self._holders))]
        return holder


def allow(caller: Caller, *scopes: str) -> None:
    """Raises NotAllowed, naming what would do, unless the caller has one of `scopes`. No scopes: any key will do."""
    if scopes and caller.scopes.isdisjoint(scopes):
        raise NotAllowed("scope missing", missing=" or ".join(scopes))


def _secret(header: bytes) -> bytes:
    scheme, _, secret = header.partition(b" ")
    if scheme.lower() != b"bearer" or not secret:
        raise NotAllowed("Send a key: Authorization: Bearer <key>.")
    if len(secret) > MAX_KEY_BYTES or not secret.isascii():
        raise NotAllowed("This is not a key of ours.")
    return secret
