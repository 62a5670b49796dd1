"""Looks at images in a process of its own, which a broken or hostile one may end without ending anything else."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson
import structlog

from engine.errors import TooMuch
from engine.images.seen import Seen

SECONDS = 20.0
"""How long one image may take, after which it counts as broken; the first of a process has as long to start it."""
WAITING = 16
"""Most images that wait for their turn; more are asked to come back."""

_HEAD = 4
_ROOT = Path(__file__).parent.parent.parent

log = structlog.get_logger("arbiter")


class Reader:
    """One process that looks at one image at a time; it starts with the first one, and again after it was ended.

    `detector` is the folder of a model to look with, and `problem` says why it does not, once it was tried.
    """

    def __init__(self, detector: Path | None = None, *, seconds: float = SECONDS) -> None:
        self.problem = ""
        self._detector = detector
        self._seconds = seconds
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def look(self, body: bytes) -> Seen:
        """What the bytes of an image show. TooMuch where too many wait already."""
        if self._waiting >= WAITING:
            raise TooMuch("too many images wait to be looked at", retry_after=1)
        self._waiting += 1
        try:
            async with self._turn:
                return await self._look(body)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def _look(self, body: bytes) -> Seen:
        try:
            async with asyncio.timeout(self._seconds):
                process = self._process or await self._start()
                return await self._asked(process, body)
        except TimeoutError:
            why = "timeout"
        except (asyncio.IncompleteReadError, ConnectionError):
            why = "crashed"
        except BaseException:
            # Cancelled between question and answer: the next answer of this process would be that of another image.
            await self._end()
            raise
        await self._end()
        log.warning("image_reader_ended", reason=why)
        return Seen(sha256(body).hexdigest(), len(body), broken=why)

    async def _asked(self, process: Process, body: bytes) -> Seen:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(len(body).to_bytes(_HEAD) + body)
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(_HEAD))
        answer = orjson.loads(await process.stdout.readexactly(length))
        if answer["problem"] != self.problem:
            self.problem = answer["problem"]
            log.warning("detector_unavailable", reason=self.problem)
        return Seen.of(answer["seen"], bytes.fromhex(answer["hashes"]))

    async def _start(self) -> Process:
        arguments = [str(self._detector)] if self._detector else []
        # It needs no setting and no secret of the server.
        environ = {"PYTHONPATH": str(_ROOT), "PATH": os.environ.get("PATH", os.defpath), "OMP_NUM_THREADS": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "engine.images.child", *arguments), stdin=PIPE, stdout=PIPE, env=environ
        )
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
