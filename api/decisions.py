"""The hot path: one event in, one verdict out, and the same for many lines.

Both are bare ASGI endpoints. FastAPI's own routing, dependencies and answer building cost about 60 µs a request more
than this (docs/decisions), a fifth of what a verdict costs in all. Their OpenAPI is written in `api.wire`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator

from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.auth import Holder
from api.desk import Desk
from api.exchange import check_length, deadline_ms, exchange_of, late, next_piece, require, send_bytes
from api.gate import where
from api.problems import Answer, incident, problem
from engine.errors import ArbiterError, TooMuch

NDJSON = b"application/x-ndjson"

Line = tuple[int, bytes | ArbiterError]
"""A line's number, and the line or what is wrong with it."""


def routes(desk: Desk) -> list[Route]:
    """The routes of the hot path, to stand before all others."""
    return [
        Route("/v1/decisions", Decide(desk), methods=["POST"], include_in_schema=False),
        Route("/v1/decisions/batch", DecideBatch(desk), methods=["POST"], include_in_schema=False),
    ]


class Decide:
    """POST /v1/decisions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk, exchange = self._desk, exchange_of(scope)
        exchange.route = "/v1/decisions"
        holder = await desk.admit(exchange, "score")
        deadline = deadline_ms(exchange.headers)
        body = await desk.body(receive, exchange)
        await send_bytes(send, await desk.decide(body, holder, deadline))


class DecideBatch:
    """POST /v1/decisions/batch: events as lines, verdicts or problems as lines, in the same order."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk, exchange = self._desk, exchange_of(scope)
        exchange.route = "/v1/decisions/batch"
        holder = await desk.admit(exchange, "score")
        require(NDJSON, exchange.headers)
        deadline = deadline_ms(exchange.headers)
        check_length(exchange.headers, desk.limits.batch_bytes)
        if desk.batches.locked():
            raise TooMuch("As many batches as this worker takes are being read.", retry_after=1)
        async with desk.batches:
            await Batch(desk, holder, deadline, exchange.id).run(receive, send)


class Batch:
    """One batch on its way.

    The body is read as fast as it comes, up to the limit, although answers may wait to be fetched: a caller who sends
    everything before he reads anything must not stand still. Lines are begun in order, some at a time, and answered in
    order; nothing is begun while the caller does not fetch.
    """

    def __init__(self, desk: Desk, holder: Holder, deadline: int | None, request: str) -> None:
        self._desk, self._holder, self._deadline, self._request = desk, holder, deadline, request
        self._lines: deque[Line] = deque()
        self._arrived = asyncio.Event()
        self._complete = False
        self._gone = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Read, decide and answer until the last line. Raises ClientDisconnect when the caller left."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON)]})
        intake = asyncio.create_task(self._read(receive))
        running: deque[asyncio.Task[bytes]] = deque()
        try:
            while await self._begin(running):
                body = await _finished(running)
                async with asyncio.timeout(self._desk.limits.body_seconds):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        except TimeoutError:
            raise ClientDisconnect from None  # answers nobody fetches: as good as gone
        finally:
            intake.cancel()
            await asyncio.gather(intake, *running, return_exceptions=True)
        if self._gone:
            raise ClientDisconnect
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, running: deque[asyncio.Task[bytes]]) -> bool:
        """Begin waiting lines while there is room; False when all is done. Waits only when nothing is running."""
        while True:
            wait = self._fill(running)
            if running:
                return True
            if wait:
                await asyncio.sleep(wait)
            elif self._complete and not self._lines:
                return False
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _fill(self, running: deque[asyncio.Task[bytes]]) -> float:
        """Begin waiting lines while there is room and the key's bucket has tokens; the seconds until it has more."""
        while self._lines and len(running) < self._desk.limits.batch_lines_at_once:
            if wait := self._desk.keys.wait(self._holder):
                return wait
            running.append(asyncio.create_task(self._answer(*self._lines.popleft())))
        return 0.0

    async def _answer(self, number: int, line: bytes | ArbiterError) -> bytes:
        """The answer to one line, with its line end."""
        try:
            if isinstance(line, ArbiterError):
                raise line
            return await self._desk.decide(line, self._holder, self._deadline) + b"\n"
        except ArbiterError as error:
            return self._refused(number, problem(error), error)
        except Exception as error:  # noqa: BLE001  # one line's accident must not take the others with it
            return self._refused(number, None, error)

    def _refused(self, number: int, answer: Answer | None, error: Exception) -> bytes:
        if answer is None:
            answer = incident(f"{self._request}-{number}")
            self._desk.log.error("incident", request=self._request, line=number, **where(error))
        self._desk.meters.problem(answer.code)
        return answer.line(number) + b"\n"

    async def _read(self, receive: Receive) -> None:
        """Take the body in. Lines that are whole are answered even when what follows them is lost."""
        splitter = Lines(self._desk.limits.event_bytes)
        seconds, left = self._desk.limits.body_seconds, self._desk.limits.batch_bytes
        more = True
        try:
            while more and left >= 0:
                async with asyncio.timeout(seconds):
                    piece, more = await next_piece(receive)
                left -= len(piece)
                self._take(splitter.feed(piece if left >= 0 else piece[:left]))
            self._take(splitter.end() if left >= 0 else splitter.broken(self._over()))
        except TimeoutError:
            self._take(splitter.broken(late(seconds)))
        except ClientDisconnect:
            self._gone = True
            self._lines.clear()
        self._complete = True
        self._arrived.set()
        while more and not self._gone:
            # The rest is thrown away as it comes: the caller may want to send it all before he reads his answers.
            more = (await receive()).get("more_body", False)

    def _take(self, lines: Iterable[Line]) -> None:
        self._lines.extend(lines)
        self._arrived.set()

    def _over(self) -> TooMuch:
        limit = self._desk.limits.batch_bytes
        return TooMuch(f"A batch may have {limit} bytes. Send this line and all after it again.")


async def _finished(running: deque[asyncio.Task[bytes]]) -> bytes:
    """The answers from the first on that are there; waits for the first."""
    answers = [await running[0]]
    running.popleft()
    while running and running[0].done():
        answers.append(running.popleft().result())
    return b"".join(answers)


class Lines:
    """Pieces of a body in, whole lines out, each with its number from 1.

    Blank lines count but are not given. A line over `limit` bytes is given as the error it is, and not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._over = False
        self._number = 1

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that `piece` ends."""
        first, *others = piece.split(b"\n")
        self._add(first)
        for part in others:
            yield from self.end()
            self._number += 1
            self._add(part)

    def end(self) -> Iterator[Line]:
        """The line in hand, if there is one: what stands after the last line end."""
        if self._over:
            yield self._number, TooMuch(f"A line may have {self._limit} bytes.")
        elif line := self._rest.strip():
            yield self._number, bytes(line)
        self._rest.clear()
        self._over = False

    def broken(self, error: ArbiterError) -> Iterator[Line]:
        """The line in hand as the error that ended it: cut short it might still read as JSON, but is not an event."""
        yield self._number, error

    def _add(self, part: bytes) -> None:
        if self._over or len(self._rest) + len(part) > self._limit:
            self._over = True
            self._rest.clear()
        else:
            self._rest += part
