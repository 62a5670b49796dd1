"""A Valkey or Redis: the ways to it, our library on it, and what its complaints mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from threading import Lock
from typing import Any
from weakref import finalize

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.retry import Retry

_LUA = files("engine.stores").joinpath("valkey.lua").read_text()
FUNCTION = f"arbiter_{sha256(_LUA.encode()).hexdigest()[:16]}"
"""Our library on the server, and its one function. Another version of it has another name: both can be in use."""
LIBRARY = _LUA.replace("LIBRARY", FUNCTION)

CONNECT_SECONDS, ANSWER_SECONDS = 0.1, 0.25
"""How long a decision waits for a server that does not answer."""
LOAD_SECONDS = 30.0
"""How long one step of a loading may take."""

_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.MasterDownError,
)
"""What a server that cannot serve says, or is. Anything else is our mistake, and raises."""
_AWAY_WORDS = ("BUSY", "MISCONF", "NOREPLICAS")
"""The same, where redis-py knows no kind of error for it."""


class Away(Exception):
    """The server cannot serve now. `sent`: it may have done all the same what it was asked."""

    def __init__(self, problem: str, *, sent: bool = False) -> None:
        super().__init__(problem)
        self.sent = sent


class Server:
    """The ways to a server: `call` for decisions, a connection of its own that waits for nobody long; `client` for
    what looks after the store; `bulk` for loadings. Threads may share it."""

    def __init__(self, url: str) -> None:
        self.function = FUNCTION
        self._line = Lock()
        none = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        quick = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, **none)
        self._connection: Any = quick.connection_pool.make_connection()
        self.client: Any = redis.Redis.from_url(url, socket_connect_timeout=1.0, socket_timeout=2.0, **none)
        self.bulk: Any = redis.Redis.from_url(url, socket_connect_timeout=1.0, socket_timeout=LOAD_SECONDS, **none)
        # Who lets go of a store without closing it leaves no socket to the collector, which would complain of it.
        finalize(self, _close, self._connection, self.client, self.bulk).atexit = False

    def teach(self) -> None:
        """Put our library there."""
        self.client.function_load(LIBRARY, replace=True)

    def call(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """What our function gives for a decision. Raises Away."""
        # Packed here: redis-py takes three times as long over sixty arguments.
        return self._exchange(pack_command(("FCALL", self.function, len(keys), *keys, *args)))

    def ping(self) -> None:
        """Find out whether the way of decisions is open. Raises Away."""
        self._exchange(pack_command(("PING",)))

    def run(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """What our function gives, for whoever looks after the store; within `guarded`."""
        return self.client.fcall(self.function, len(keys), *keys, *args)

    def close(self) -> None:
        """Close the connections. Who asks all the same opens them again."""
        with self._line:
            _close(self._connection, self.client, self.bulk)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Raises Away for what `client` and `bulk` meet, where it means that."""
        try:
            try:
                yield
            except redis.ResponseError as error:
                raise _away(error) from error
        except _AWAY as error:
            raise Away(str(error)) from error

    def _exchange(self, packed: bytes) -> Any:
        sent = False
        with self._line:
            try:
                try:
                    self._connection.connect()
                    sent = True
                    self._connection.send_packed_command([packed], check_health=False)
                    return self._connection.read_response()
                except redis.ResponseError as error:  # Also to what is said while it connects, such as SELECT.
                    raise _away(error) from error
            except _AWAY as error:
                self._connection.disconnect()
                raise Away(str(error), sent=sent) from error


def _close(connection: Any, *clients: Any) -> None:
    connection.disconnect()
    for client in clients:
        client.close()


def _away(error: redis.ResponseError) -> redis.RedisError:
    """What a server's complaint means: that it cannot serve now, or what it says."""
    said = str(error)
    if isinstance(error, _AWAY):
        return error
    if said.startswith(_AWAY_WORDS) or "Function not found" in said:
        return redis.ConnectionError(said)
    if "unknown command" in said:
        return redis.ConnectionError(f"{said.split(',', maxsplit=1)[0]}: it must be Valkey 7.2 or Redis 7.0, or later")
    return error
