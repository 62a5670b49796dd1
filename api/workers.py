"""Several processes that serve one address: their parent starts them, starts them anew, and is between them.

The parent holds the claim on the ledger and the listening socket, which all share: the kernel gives a connection to
whoever takes it first, and none is lost with a process. It decides nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from engine.assembly import Settings
from engine.claim import Claim
from engine.database import migrate
from engine.team import Hub, Peer

SERVING = "serving"
"""What the first worker posts on the board once it serves."""
QUICK_SECONDS = 5.0
"""A worker that lived shorter, or never served, is started anew only after a pause, which doubles up to
`LONGEST_PAUSE`."""
LONGEST_PAUSE = 10.0
STOP_SECONDS = 30.0
"""How long workers have to answer what they accepted, at a stop."""

log = structlog.get_logger("arbiter")


class Failed(Exception):
    """The first worker ended before it served, with this exit status; it has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def oversee(
    settings: Settings,
    command: Sequence[str],
    environ: Mapping[str, str],
    listener: socket.socket,
    opened: Callable[[], None],
) -> None:
    """Run `settings.workers` processes of `command` until a signal ends this one. Raises Failed, SettingsError.

    A process gets as arguments its place, and the numbers of two open files: the socket to listen on, and its end of
    the pair to the hub. `opened` is called when the first one serves.
    """
    await asyncio.to_thread(migrate, settings.database_url)
    claim = await Claim.take(settings.database_url)
    try:
        await _Parent(settings.workers, command, environ, listener, claim).run(opened)
    finally:
        await claim.release()


class _Parent:
    def __init__(
        self, size: int, command: Sequence[str], environ: Mapping[str, str], listener: socket.socket, claim: Claim
    ) -> None:
        self._size = size
        self._command = command
        self._environ = environ
        self._listener = listener
        self._claim = claim
        self._hub = Hub(size)
        self._processes: dict[int, Process] = {}
        self._peers: dict[int, Peer] = {}
        self._stopping = asyncio.Event()

    async def run(self, opened: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        claim = asyncio.create_task(self._keep_claim())
        try:
            # Alone at first: where it cannot start, neither can the others, and it has the packs to let in.
            first = await self._start(0)
            if not await self._serves(first):
                if not self._stopping.is_set():
                    raise Failed(first.returncode or 1)
                return
            opened()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(0, first))
                for index in range(1, self._size):
                    group.create_task(self._keep(index, await self._start(index)))
        finally:
            claim.cancel()
            await self._stop()
            await self._hub.close()

    async def _serves(self, first: Process) -> bool:
        """Wait until the first worker serves; False when it ended, or this process is to end."""
        waits = [first.wait(), self._hub.posted(SERVING), self._stopping.wait()]
        tasks = [asyncio.ensure_future(each) for each in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        return first.returncode is None and not self._stopping.is_set()

    async def _keep(self, index: int, process: Process) -> None:
        """Start a worker anew whenever it ended, until this process is to end."""
        loop, pause = asyncio.get_running_loop(), 0.0
        while True:
            began = loop.time()
            ended = asyncio.ensure_future(process.wait())
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._stopping.is_set():
                ended.cancel()
                return
            quick = loop.time() - began < QUICK_SECONDS or SERVING not in self._peers[index].posted
            pause = min(LONGEST_PAUSE, max(0.5, 2 * pause)) if quick else 0.0
            log.error("worker_gone", worker=index, status=process.returncode, again_in_seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if self._stopping.is_set():
                return
            try:
                process = await self._start(index)
            except OSError as error:  # Too many processes or files, say: `process` ended long ago.
                log.error("worker_not_started", worker=index, reason=str(error))

    async def _start(self, index: int) -> Process:
        ours, theirs = socket.socketpair()
        with theirs:
            files = (self._listener.fileno(), theirs.fileno())
            arguments = (*self._command, str(index), *map(str, files))
            # In a group of its own: Ctrl-C is the parent's, which lets workers end in order.
            process = await asyncio.create_subprocess_exec(
                *arguments, pass_fds=files, env=dict(self._environ), process_group=0
            )
        self._processes[index] = process
        self._peers[index] = await self._hub.take_in(index, ours, process.kill)
        return process

    async def _keep_claim(self) -> None:
        await self._claim.keep()
        self._hub.fail(self._claim.problem)

    async def _stop(self) -> None:
        """Let all workers finish what they accepted."""
        left = [process for process in self._processes.values() if process.returncode is None]
        for process in left:
            process.terminate()
        waits = [asyncio.ensure_future(process.wait()) for process in left]
        if waits:
            _, late = await asyncio.wait(waits, timeout=STOP_SECONDS)
            for process in left:
                if process.returncode is None:
                    process.kill()
            if late:
                await asyncio.wait(late)


def environ_of(settings: Settings) -> dict[str, str]:
    """The environment of a process that has these settings, and all else of ours."""
    return {**os.environ, **settings.environ()}
