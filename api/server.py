"""The server: one event loop a process, and a garbage collector that stays out of the way.

serve(Settings.read(os.environ), port=8000)            # until a signal ends it
serve_several(Settings.read(os.environ), command)      # the parent of several processes
work(Settings.read(os.environ), listener, hub)         # one of them
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.collector import survivors_frozen
from api.desk import Limits, json_log, use_json_log
from api.listening import listening
from api.workers import SERVING, environ_of, oversee
from engine.assembly import Settings, open_arbiter
from engine.team import Member

BACKLOG = 2048
"""Connections that may wait to be taken by one of several workers, as uvicorn has it for one."""

KEEP_ALIVE_SECONDS = 75
"""Longer than a load balancer's idle time, or it meets connections that we close under it."""


def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    opened: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal ends it. Raises SettingsError, PackError or Unavailable before it listens; first of all when
    the address is taken.

    `opened` is called in between: when the engine is open, and nothing is left that could refuse the settings.
    """
    use_json_log()
    with listening(host, port) as listener:
        uvloop.run(_serve(settings, listener, limits, opened))


def serve_several(
    settings: Settings,
    command: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    opened: Callable[[], None] = lambda: None,
) -> None:
    """Serve by `settings.workers` processes, each of `command`, until a signal ends this one; see `api.workers`."""
    use_json_log()
    with listening(host, port) as listener:
        asyncio.run(oversee(settings, command, environ_of(settings), listener, opened))


def work(settings: Settings, listener: socket.socket, hub: socket.socket, *, limits: Limits | None = None) -> None:
    """Serve as one process of several, until a signal ends it or its parent is gone."""
    use_json_log()
    uvloop.run(_work(settings, listener, hub, limits))


async def _work(settings: Settings, listener: socket.socket, hub: socket.socket, limits: Limits | None) -> None:
    member = await Member.connect(hub)
    arbiter = await open_arbiter(settings, team=member)
    try:
        listener.listen(BACKLOG)
        await member.post(**{SERVING: True})
        log = json_log().bind(worker=member.index)
        server = uvicorn.Server(config(create_app(arbiter, limits=limits, log=log)))
        end = asyncio.create_task(_end_with(member, server))
        with survivors_frozen():
            await server.serve([listener])
        end.cancel()
    finally:
        await arbiter.close()
        await member.close()


async def _end_with(member: Member, server: uvicorn.Server) -> None:
    """Without a parent, which holds the claim on the ledger, nobody may go on."""
    await member.gone.wait()
    server.should_exit = True


async def _serve(
    settings: Settings, listener: socket.socket, limits: Limits | None, opened: Callable[[], None]
) -> None:
    arbiter = await open_arbiter(settings)
    try:
        opened()
        with survivors_frozen():
            await uvicorn.Server(config(create_app(arbiter, limits=limits))).serve([listener])
    finally:
        await arbiter.close()


def config(app: Any) -> uvicorn.Config:
    """How uvicorn serves `app`, which is over an open engine, on a socket that it is given."""
    return uvicorn.Config(
        app,
        loop="none",
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,  # the gate writes one line per request, without personal data
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here looks at the caller's address
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


class Protocol(HttpToolsProtocol):
    """uvicorn's connection, which lets go of its last request when it ends, so that no reference cycle is left."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]  # as it is before the first request
