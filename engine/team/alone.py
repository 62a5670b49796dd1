"""What a team is, and the one of a single process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

Heed: TypeAlias = Callable[[Any], Awaitable[Any] | Any]
"""What a process does when it hears something; a told one answers with what it returns, as JSON."""


class Team(Protocol):
    """The processes that serve one ledger, as one of them sees them."""

    @property
    def name(self) -> str:
        """The name of this process, which no other ever has; empty where there is only one."""

    @property
    def index(self) -> int:
        """Which one it is: 0 to `size` - 1. A process that was started anew has the place of the one before."""

    @property
    def size(self) -> int: ...

    @property
    def problem(self) -> str:
        """Why this team must not serve any more, if so."""

    @property
    def board(self) -> Mapping[str, Any]:
        """What members posted for those that come later."""

    def living(self) -> Collection[str]:
        """The names of all that run."""

    def on(self, what: str, heed: Heed) -> None:
        """What to do when another process tells or spreads `what`."""

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """Waits until no process has the turn of this name."""

    async def tell(self, what: str, said: Any = None, patience: float = 0.0) -> dict[int, Any]:
        """Every other process has done it; what they answered, by their places. `patience` (s) where it may take
        longer than the hub's. Unavailable when nobody can say."""

    async def ask(self, what: str) -> dict[int, Any]:
        """What others answer, of those that do so within a moment."""

    def spread(self, what: str, item: Any) -> None:
        """Others hear of it within a moment, together with the other items of that moment."""

    async def post(self, **facts: Any) -> None:
        """Put something on the board."""

    async def close(self) -> None:
        """Leave."""


class Alone:
    """A team of one."""

    name, index, size, problem = "", 0, 1, ""

    def __init__(self) -> None:
        self.board: Mapping[str, Any] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def living(self) -> Collection[str]:
        return ()

    def on(self, what: str, heed: Heed) -> None:
        """There is nobody to hear from."""

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        # A lock stays for as long as somebody holds it or waits for it.
        return self._turns.setdefault(name, asyncio.Lock())

    async def tell(self, what: str, said: Any = None, patience: float = 0.0) -> dict[int, Any]:
        del what, said, patience  # There is nobody to tell.
        return {}

    async def ask(self, what: str) -> dict[int, Any]:
        del what
        return {}

    def spread(self, what: str, item: Any) -> None:
        """There is nobody to tell."""

    async def post(self, **facts: Any) -> None:
        self.board = {**self.board, **facts}

    async def close(self) -> None:
        """There is nothing to leave."""
