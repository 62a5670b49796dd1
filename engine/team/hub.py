"""The middle of a team: passes on what members say, gives turns, and ends who does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from typing import Any

import structlog

from engine.team.lines import Lines

PATIENCE = 30.0
"""Seconds that a member has to do what it is told; then it is ended."""
ASKED_SECONDS = 0.5
"""How long to wait for answers that can be done without: probes of readiness have a second."""

log = structlog.get_logger("arbiter")


@dataclass(eq=False, slots=True)
class Peer:
    """A member, as the hub sees it. `end` ends its process, so that it is started anew."""

    index: int
    name: str
    lines: Lines
    end: Callable[[], None]
    asked: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    """What it was asked and has not answered."""
    posted: set[str] = field(default_factory=set)
    """What it put on the board."""


class Hub:
    """Between `size` members. One per server."""

    def __init__(self, size: int, patience: float = PATIENCE) -> None:
        self._size = size
        self._patience = patience
        self._peers: dict[int, Peer] = {}
        self._board: dict[str, Any] = {}
        self._problem = ""
        self._news = asyncio.Event()
        self._turns: dict[str, deque[tuple[Peer, int]]] = {}
        """By name who has the turn, and behind it who waits."""
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take_in(self, index: int, end: socket.socket, kill: Callable[[], None]) -> Peer:
        """A new process has the other end of the pair. It is a member until it is gone."""
        peer = Peer(index, token_hex(8), await Lines.over(end), kill)
        self._peers[index] = peer
        peer.lines.send({"do": "welcome", "name": peer.name, "index": index, "size": self._size, **self._state()})
        self._all({"do": "state", **self._state()})
        self._begin(self._attend(peer))
        return peer

    async def posted(self, fact: str) -> None:
        """Wait until somebody posted this fact on the board."""
        while fact not in self._board:
            self._news.clear()
            await self._news.wait()

    def fail(self, problem: str) -> None:
        """Let all know why they must not serve any more; empty when that is over."""
        self._problem = problem
        self._all({"do": "state", **self._state()})

    async def close(self) -> None:
        """Let all members go."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _state(self) -> dict[str, Any]:
        living = [peer.name for peer in self._peers.values()]
        return {"board": self._board, "living": living, "problem": self._problem}

    def _all(self, message: dict[str, Any], but: Peer | None = None) -> None:
        for peer in self._peers.values():
            if peer is not but:
                peer.lines.send(message)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, peer: Peer) -> None:
        try:
            async for message in peer.lines.messages():
                self._heed(peer, message)
        finally:
            self._leave(peer)
            await peer.lines.close()

    def _heed(self, peer: Peer, message: dict[str, Any]) -> None:
        do = message["do"]
        if do == "take":
            line = self._turns.setdefault(message["turn"], deque())
            line.append((peer, message["id"]))
            if len(line) == 1:
                peer.lines.send({"do": "answer", "id": message["id"]})
        elif do == "give":
            self._next(message["turn"], peer, message["id"])
        elif do == "tell":
            self._begin(self._tell(peer, message))
        elif do == "spread":
            self._all({"do": "hear", "what": message["what"], "said": message["said"]}, but=peer)
        elif do == "post":
            self._board |= message["facts"]
            peer.posted |= message["facts"].keys()
            self._news.set()
            self._all({"do": "state", **self._state()})
            peer.lines.send({"do": "answer", "id": message["id"]})
        elif do == "answer":
            waits = peer.asked.pop(message["id"], None)
            if waits is not None and not waits.done():
                waits.set_result(message)

    def _next(self, turn: str, peer: Peer, id: int) -> None:
        """A member gives its turn back, or its place in the line."""
        line = self._turns.get(turn, deque())
        had = bool(line) and line[0] == (peer, id)
        if (peer, id) in line:
            line.remove((peer, id))
        if not line:
            self._turns.pop(turn, None)
        elif had:
            line[0][0].lines.send({"do": "answer", "id": line[0][1]})

    async def _tell(self, teller: Peer, message: dict[str, Any]) -> None:
        """Tell all others, and the teller what they answered. Who must do it and does not is ended."""
        must, others = message["must"], [peer for peer in self._peers.values() if peer is not teller]
        said = {"do": "hear", "what": message["what"], "said": message["said"]}
        waits: dict[asyncio.Future[Any], Peer] = {}
        for peer in others:
            id, future = next(self._numbers), asyncio.get_running_loop().create_future()
            peer.asked[id] = future
            waits[future] = peer
            peer.lines.send({**said, "id": id})
        if waits:
            await asyncio.wait(waits, timeout=message["patience"] or (self._patience if must else ASKED_SECONDS))
        answers = {}
        for future, peer in waits.items():
            if future.done() and not future.cancelled() and "error" not in future.result():
                answer = future.result()["answer"]
                if must or answer is not None:  # One that is about to start has nothing to say yet.
                    answers[str(peer.index)] = answer
            elif must and not future.cancelled():
                why = future.result()["error"] if future.done() else "it does not answer"
                log.error("worker_ended", worker=peer.index, told=message["what"], reason=why)
                with suppress(ProcessLookupError):  # It ended by itself meanwhile.
                    peer.end()
            future.cancel()
        teller.lines.send({"do": "answer", "id": message["id"], "answer": answers})

    def _leave(self, peer: Peer) -> None:
        if self._peers.get(peer.index) is peer:
            del self._peers[peer.index]
        for future in peer.asked.values():
            future.cancel()
        self._all({"do": "state", **self._state()})
        self._all({"do": "hear", "what": "left", "said": peer.name})
        for turn, line in list(self._turns.items()):  # Behind it: whoever has its turn next knows why.
            for waits in [waits for waits in line if waits[0] is peer]:
                self._next(turn, *waits)
