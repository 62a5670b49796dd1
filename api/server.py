"""The server: one process, one event loop, and a garbage collector that stays out of the way.

serve(Settings.read(os.environ), port=8000)   # until a signal ends it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.collector import survivors_frozen
from api.desk import Limits
from engine.assembly import Settings, open_arbiter

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
    """Serve until a signal ends it. Raises SettingsError, PackError or Unavailable before it listens.

    `opened` is called in between: when the engine is open, and nothing is left that could refuse the settings.
    """
    uvloop.run(_serve(settings, host, port, limits, opened))


async def _serve(settings: Settings, host: str, port: int, limits: Limits | None, opened: Callable[[], None]) -> None:
    arbiter = await open_arbiter(settings)
    try:
        opened()
        with survivors_frozen():
            await uvicorn.Server(config(create_app(arbiter, limits=limits), host=host, port=port)).serve()
    finally:
        await arbiter.close()


def config(app: Any, *, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves `app`, which is over an open engine."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
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
