"""One request and its answer: what is read from the one, written to the other, and remembered for the log line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, Answer, BodyLate, MediaTypeRefused
from engine.arbiter import Caller
from engine.errors import RequestRefused, TooMuch

MAX_DEADLINE_MS = 60_000

# W3C Trace Context, version 00. Anything else is not repeated: a free-form header could carry personal data to the log.
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_COMMON = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Exchange:
    """One request on its way through. The gate makes it; whoever handles the request finds it with `exchange_of`."""

    __slots__ = ("_send", "caller", "gone", "headers", "id", "method", "problem", "route", "started", "status", "trace")

    def __init__(self, scope: Scope, send: Send, name: str) -> None:
        self.started = perf_counter()
        self.id = name
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; of repeated ones the last."""
        self.route = ""
        self.caller: Caller | None = None
        self.status = 0
        self.problem = ""
        self.gone = False
        trace = self.headers.get(b"traceparent")
        self.trace = trace if trace is not None and _TRACEPARENT.fullmatch(trace) else b""
        self._send = send
        scope["arbiter"] = self

    async def send(self, message: Message) -> None:
        """Send on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *_COMMON, (b"x-request-id", self.id.encode())]
            if self.trace:
                message["headers"].append((b"traceparent", self.trace))
        await self._send(message)

    def let_go(self, scope: Scope) -> None:
        """End: scope and exchange lead to each other, and would wait for the garbage collector."""
        del scope["arbiter"], self._send

    def summary(self) -> dict[str, Any]:
        """What the log may know. A service's name is the operator's word; a person's is personal data."""
        line: dict[str, Any] = {"id": self.id, "method": self.method, "route": self.route, "status": self.status}
        line["ms"] = round((perf_counter() - self.started) * 1000, 3)
        if self.caller is not None:
            line["caller"] = self.caller.name if self.caller.kind == "service" else "person"
        if self.problem:
            line["problem"] = self.problem
        if self.trace:
            line["trace"] = self.trace[3:35].decode()
        if self.gone:
            line["gone"] = True
        return line


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that `scope` belongs to."""
    exchange = scope["arbiter"]
    assert isinstance(exchange, Exchange)
    return exchange


class Json(Response):
    """An answer in JSON; what is bytes already stays as it is."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


async def send_bytes(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    media_type: bytes = b"application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Answer with a whole body."""
    fixed = ((b"content-type", media_type), (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_problem(exchange: Exchange, answer: Answer) -> None:
    """Answer with a problem."""
    exchange.problem = answer.code
    await send_bytes(exchange.send, answer.body, status=answer.status, media_type=MEDIA_TYPE, headers=answer.headers)


def require(media_type: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Raises MediaTypeRefused unless the body says it is of `media_type`."""
    given = headers.get(b"content-type", b"")
    if given != media_type and given.partition(b";")[0].strip().lower() != media_type:
        raise MediaTypeRefused(f"Send Content-Type: {media_type.decode()}.")


def deadline_ms(headers: Mapping[bytes, bytes]) -> int | None:
    """The caller's `Arbiter-Deadline-Ms`: how long the computation may take. Raises RequestRefused."""
    text = headers.get(b"arbiter-deadline-ms")
    if text is None:
        return None
    if not (text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_DEADLINE_MS):
        raise RequestRefused(f"Arbiter-Deadline-Ms must be a whole number from 1 to {MAX_DEADLINE_MS}.")
    return int(text)


def check_length(headers: Mapping[bytes, bytes], limit: int) -> None:
    """Raises TooMuch when the body is announced to be longer than `limit` bytes."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 12 or int(length) > limit:
        raise too_large(limit)


def too_large(limit: int) -> TooMuch:
    """The refusal of a body over `limit` bytes."""
    return TooMuch(f"The limit is {limit} bytes.")


def late(seconds: int) -> BodyLate:
    """The refusal of a body that stopped arriving."""
    return BodyLate(f"The body did not arrive within {seconds} seconds.")


async def next_piece(receive: Receive) -> tuple[bytes, bool]:
    """The next piece of a body and whether more follows. Raises ClientDisconnect when the caller left."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int, seconds: int) -> bytes:
    """The whole body, of at most `limit` bytes. Raises TooMuch, BodyLate, ClientDisconnect."""
    check_length(headers, limit)
    try:
        async with asyncio.timeout(seconds):
            return await _whole(receive, limit)
    except TimeoutError:
        raise late(seconds) from None


async def _whole(receive: Receive, limit: int) -> bytes:
    body, more = await next_piece(receive)
    if more:
        pieces = bytearray(body)
        while more and len(pieces) <= limit:
            piece, more = await next_piece(receive)
            pieces += piece
        body = bytes(pieces)
    if len(body) > limit:
        raise too_large(limit)
    return body
