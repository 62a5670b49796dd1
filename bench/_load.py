"""A load generator that costs little: raw sockets on uvloop, in a process of its own.

    python -m bench._load      # reads one JSON job per line, writes one JSON result per line

A job: {"port", "path", "key", "connections", "seconds", "mode": "closed"} or {…, "mode": "open", "rate"}, and "seed".
Closed loop: each connection asks again as soon as it has its answer; this finds the most a server can do. Open loop:
requests are due at fixed times whether or not earlier ones are answered, and the latency counts from the due time, so
that a server which stalls cannot hide it (Tene's "coordinated omission").
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, cast

import uvloop

from bench._orders import orders


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection with at most one request on its way."""

    def __init__(self, answered: Callable[[Connection, int, float], None]) -> None:
        self._answered = answered
        self._buffer = bytearray()
        self._since = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not say so

    def ask(self, request: bytes, since: float) -> None:
        """Send a request; its latency counts from `since`."""
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        mark = self._buffer.find(b"content-length: ", 0, head)
        assert mark > 0, "the server must say the length of its answer"
        length = int(self._buffer[mark + 16 : self._buffer.find(b"\r", mark)])
        if len(self._buffer) < head + 4 + length:
            return
        status = int(self._buffer[9:12])
        self._buffer.clear()
        self._answered(self, status, perf_counter() - self._since)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


class Run:
    """One job under way: counts answers that come before its end."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self.ends = 0.0
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._open = False
        self._connections = 0
        self._quiet = asyncio.Event()

    def answered(self, connection: Connection, status: int, seconds: float) -> None:
        """Note an answer, and let the connection ask again."""
        now = perf_counter()
        if now < self.ends or self._open:
            self.statuses[status] += 1
            self.latencies.append(seconds)
        if self._due:
            connection.ask(next(self._requests), self._due.popleft())
        elif self._open or now >= self.ends:
            self._idle.append(connection)
            if len(self._idle) == self._connections:
                self._quiet.set()
        else:
            connection.ask(next(self._requests), now)

    async def closed(self, connections: list[Connection]) -> None:
        """Every connection always has a request on its way."""
        for connection in connections:
            connection.ask(next(self._requests), perf_counter())
        await asyncio.sleep(self.ends - perf_counter())
        await self._rest(len(connections))

    async def open(self, connections: list[Connection], rate: float) -> None:
        """`rate` requests a second are due; those that find no idle connection wait for one, and that counts."""
        self._open = True
        self._idle.extend(connections)
        start, sent = perf_counter(), 0
        while (now := perf_counter()) < self.ends:
            while (due := start + sent / rate) <= now:
                sent += 1
                if self._idle:
                    self._idle.popleft().ask(next(self._requests), due)
                else:
                    self._due.append(due)
            await asyncio.sleep(max(0.0, due - perf_counter()))
        await self._rest(len(connections))

    async def _rest(self, connections: int) -> None:
        """Wait for the answers that are still to come."""
        self._connections = connections
        async with asyncio.timeout(30):
            if len(self._idle) < connections:
                await self._quiet.wait()


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job: its answers per second, its statuses, and its latencies in ms."""
    loop = asyncio.get_running_loop()
    work = Run(requests(job))
    connections = [
        (await loop.create_connection(lambda: Connection(work.answered), "127.0.0.1", job["port"]))[1]
        for _ in range(job["connections"])
    ]
    work.ends = perf_counter() + job["seconds"]
    if job["mode"] == "open":
        await work.open(connections, job["rate"])
    else:
        await work.closed(connections)
    for connection in connections:
        assert not connection.lost, "the server closed a connection"
        connection.close()
    return summary(job, work)


def requests(job: dict[str, Any]) -> Iterator[bytes]:
    """HTTP requests without end, each with another order."""
    head = (
        f"POST {job['path']} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {job['key']}\r\ncontent-length: "
    ).encode()
    for body in orders(job["seed"]):
        yield b"%b%d\r\n\r\n%b" % (head, len(body), body)


def summary(job: dict[str, Any], work: Run) -> dict[str, Any]:
    """The figures of a run."""
    ms = sorted(seconds * 1000 for seconds in work.latencies)
    at = {f"p{name}": ms[min(len(ms) - 1, int(len(ms) * share))] for name, share in (("50", 0.5), ("99", 0.99))}
    return {"per_second": len(ms) / job["seconds"], "statuses": dict(work.statuses), "max": ms[-1], **at}


def main() -> None:
    """Do the jobs that come on standard input, until it ends."""
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
