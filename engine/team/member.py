"""One process of several."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Self

import structlog

from engine.errors import Unavailable
from engine.team.alone import Heed
from engine.team.lines import Lines

SPREAD_SECONDS = 0.05
"""How long an item waits for others to be spread with it."""

log = structlog.get_logger("arbiter")


class Member:
    """A Team over a hub (`engine.team.hub`). `gone` is set when the hub is: this process must end then."""

    def __init__(self, lines: Lines, welcome: Mapping[str, Any]) -> None:
        self._lines = lines
        self.name: str = welcome["name"]
        self.index: int = welcome["index"]
        self.size: int = welcome["size"]
        self._state = welcome
        self.gone = asyncio.Event()
        self._heeds: dict[str, Heed] = {}
        self._numbers = count(1)
        self._waits: dict[int, asyncio.Future[Any]] = {}
        self._items: dict[str, list[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def connect(cls, end: socket.socket) -> Self:
        """A member over its end of the pair that the hub has the other end of. Unavailable when there is no hub."""
        lines = await Lines.over(end)
        messages = lines.messages()
        async for welcome in messages:
            member = cls(lines, welcome)
            member._begin(member._attend(messages))
            return member
        raise Unavailable("the server that this process is of is gone")

    @property
    def problem(self) -> str:
        return str(self._state["problem"])

    @property
    def board(self) -> Mapping[str, Any]:
        board: Mapping[str, Any] = self._state["board"]
        return board

    def living(self) -> Collection[str]:
        names: Collection[str] = self._state["living"]
        return names

    def on(self, what: str, heed: Heed) -> None:
        self._heeds[what] = heed

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        id, answer = self._number()
        self._lines.send({"do": "take", "turn": name, "id": id})
        try:
            await answer
            yield
        finally:
            self._waits.pop(id, None)
            self._lines.send({"do": "give", "turn": name, "id": id})

    async def tell(self, what: str, said: Any = None, patience: float = 0.0) -> dict[int, Any]:
        return await self._tell(what, said, must=True, patience=patience)

    async def ask(self, what: str) -> dict[int, Any]:
        return await self._tell(what, None, must=False, patience=0.0)

    async def _tell(self, what: str, said: Any, *, must: bool, patience: float) -> dict[int, Any]:
        id, answer = self._number()
        self._lines.send({"do": "tell", "what": what, "said": said, "id": id, "must": must, "patience": patience})
        answers = (await answer)["answer"]
        return {int(index): each for index, each in answers.items()}

    def spread(self, what: str, item: Any) -> None:
        waiting = self._items.setdefault(what, [])
        if not waiting:
            asyncio.get_running_loop().call_later(SPREAD_SECONDS, self._flush, what)
        waiting.append(item)

    def _flush(self, what: str) -> None:
        self._lines.send({"do": "spread", "what": what, "said": self._items.pop(what)})

    async def post(self, **facts: Any) -> None:
        id, answer = self._number()
        self._lines.send({"do": "post", "facts": facts, "id": id})
        await answer

    async def close(self) -> None:
        self._heeds.clear()
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._lines.close()

    def _number(self) -> tuple[int, asyncio.Future[Any]]:
        if self.gone.is_set():
            raise Unavailable("the server that this process is of is gone")
        id, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waits[id] = answer
        return id, answer

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attend(self, messages: AsyncIterator[dict[str, Any]]) -> None:
        try:
            async for message in messages:
                self._heed(message)
        finally:
            self.gone.set()
            for answer in self._waits.values():
                if not answer.done():
                    answer.set_exception(Unavailable("the server that this process is of is gone"))
                    answer.exception()

    def _heed(self, message: dict[str, Any]) -> None:
        do = message["do"]
        if do == "answer":
            answer = self._waits.pop(message["id"], None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif do == "state":
            self._state = message
        elif do == "hear":
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        """In the order of the messages, as far as nothing waits."""
        heed = self._heeds.get(message["what"])
        if heed is None:
            self._reply(message, None)
        else:
            self._begin(_done(heed, message["said"])).add_done_callback(partial(self._finish, message))

    def _finish(self, message: dict[str, Any], done: asyncio.Task[Any]) -> None:
        if done.cancelled():
            return  # This process is about to end.
        error = done.exception()
        if error is None:
            self._reply(message, done.result())
        elif isinstance(error, Exception):
            self._fail(message, error)

    def _reply(self, message: dict[str, Any], answer: Any) -> None:
        if "id" in message:
            self._lines.send({"do": "answer", "id": message["id"], "answer": answer})

    def _fail(self, message: dict[str, Any], error: Exception) -> None:
        log.error("told_and_failed", told=message["what"], reason=f"{type(error).__name__}: {error}")
        if "id" in message:
            self._lines.send({"do": "answer", "id": message["id"], "error": type(error).__name__})


async def _done(heed: Heed, said: Any) -> Any:
    answer = heed(said)
    return await answer if inspect.isawaitable(answer) else answer
