"""Servers for tests: the API over a real engine on SQLite with the shipped packs, in process or on loopback."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop
from fastapi import FastAPI

from api import Limits, create_app, listening
from api.desk import json_log
from api.server import config
from engine.arbiter import SCOPES, Arbiter
from engine.assembly import Settings, open_arbiter
from engine.vault import KeyFile
from tests.books import make_ledger

ROOT = Path(__file__).parent.parent


T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own, so that tests which are no coroutines can use what lives on a loop."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work` on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, done on the loop."""
        return self.start(work).result(60)

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A server in this process, with a key for each scope, and one of a person, by name."""

    loop: Loop
    app: FastAPI
    client: httpx.AsyncClient
    arbiter: Arbiter
    keys: dict[str, str]
    stream: io.BytesIO

    def call(self, method: str, path: str, *, key: str = "", **more: Any) -> httpx.Response:
        """One request, with the key of that name."""
        headers = dict(more.pop("headers", None) or {})
        if key:
            headers["authorization"] = f"Bearer {self.keys[key]}"
        return self.loop.run(self.client.request(method, path, headers=headers, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET."""
        return self.call("GET", path, **more)

    def post(self, path: str, *, headers: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """POST of JSON."""
        return self.call("POST", path, headers={"content-type": "application/json", **(headers or {})}, **more)

    def log(self) -> str:
        """All that was logged so far."""
        return self.stream.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        """The log, line by line."""
        return [json.loads(line) for line in self.log().splitlines()]


async def _keys(arbiter: Arbiter) -> dict[str, str]:
    keys = {scope: await arbiter.create_key(scope, "service", "shop-a", [scope]) for scope in SCOPES}
    return keys | {"person": await arbiter.create_key("li.si", "person", "shop-a", ["rules", "outcome"])}


@contextmanager
def serve_in_process(
    folder: Path, *, limits: Limits | None = None, packs: Path = ROOT, approval: str = "none"
) -> Iterator[Served]:
    """A fresh installation in `folder`, served until the block ends: of the shipped packs, or those below `packs`."""
    stream = io.BytesIO()
    settings = Settings(
        database_url=f"sqlite:///{folder / 'arbiter.db'}",
        key_file=folder / "keys.json",
        rules=packs / "rules",
        policies=packs / "policies",
        approval=approval,
    )
    KeyFile.create(settings.key_file)
    if packs == ROOT:
        make_ledger(settings.database_url)
    loop = Loop()
    try:
        arbiter = loop.run(open_arbiter(settings))
        app = create_app(arbiter, limits=limits, log=json_log(stream))
        while not arbiter.ready()["ready"]:
            time.sleep(0.01)
        keys = loop.run(_keys(arbiter))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://arbiter.test")
        yield Served(loop, app, client, arbiter, keys, stream)
        loop.run(client.aclose())
        loop.run(arbiter.close())
    finally:
        loop.close()


@contextmanager
def serve_on_loopback(folder: Path, **more: Any) -> Iterator[tuple[Served, int]]:
    """The same over real sockets, with its port."""
    with serve_in_process(folder, **more) as served:
        # The engine is open already: the server must not open it a second time.
        server = uvicorn.Server(config(served.app))
        with listening("127.0.0.1", 0) as listener:
            serving = served.loop.start(server.serve([listener]))
            while not server.started:
                time.sleep(0.01)
            try:
                yield served, listener.getsockname()[1]
            finally:
                server.should_exit = True
                serving.result(30)
