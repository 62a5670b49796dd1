"""What a key service is: the keeper of the one key above all others, which never leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

from engine.errors import Unavailable, VaultError

Context: TypeAlias = Mapping[str, str]
"""What a wrapped key is bound to. It is no secret, and a service may log it: no personal value stands in it."""

UNAVAILABLE = "keys_unavailable"
"""The reason (`Unavailable.reason`) while keys cannot be had."""


class Wrapped(NamedTuple):
    """A secret that only its service can open. `key`: the name of the service, ':' and the key that wrapped it."""

    key: str
    data: bytes


class KeyService(Protocol):
    """Wraps and unwraps secrets of 32 bytes, each bound to a context.

    What is wrapped opens under the very same context alone. VaultError: the context is another one, the secret was
    altered, or the service's key is deleted or disabled: asking again does not help. Unavailable (`keys_unavailable`):
    the service is away, slow, throttles, or does not take our credentials. Nothing is ever done without it.

    Blocks for some seconds at most; safe to use from several threads.
    """

    @property
    def name(self) -> str:
        """The service's name, which stands before ':' in `Wrapped.key`."""

    def current(self) -> str:
        """The key that wraps now, as `Wrapped.key` names it."""

    def wrap(self, secret: bytes, context: Context) -> Wrapped: ...

    def unwrap(self, wrapped: Wrapped, context: Context) -> bytes: ...

    def rewrap(self, wrapped: Wrapped, context: Context) -> Wrapped:
        """The same secret under the key that wraps now."""

    def close(self) -> None:
        """Give connections back."""


def unavailable(service: str, why: str) -> Unavailable:
    """The error while a service cannot be used. `why` is ours, never a part of an answer that may hold a secret."""
    return Unavailable(f"the key service {service} {why}", UNAVAILABLE)


def refused(service: str, why: str) -> VaultError:
    """The error for what a service will not open, however often it is asked."""
    return VaultError(f"the key service {service} {why}")


MOVED = "does not open a wrapped key: it was moved or altered, or its context is another one"
GONE = "no longer opens what its key wrapped: the key is deleted, disabled or unknown to it"
CREDENTIALS = "does not take our credentials, or does not allow them this key"
SILENT = "does not answer"
BUSY = "is too busy to answer"
