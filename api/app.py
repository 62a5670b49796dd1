"""The application of one worker, and the server that runs it.

serve(Settings.read(os.environ), port=8000)   # until a signal ends it
create_app(Settings.read(os.environ))         # the same for another server; the engine opens with its lifespan
create_app(arbiter)                           # over an engine that is open already
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from api import admin, appeals, cases, decisions, images, incidents, rulebooks, standings, wire
from api import log as log_api
from api.collector import survivors_frozen
from api.desk import Desk, Limits, json_log
from api.exchange import exchange_of
from api.gate import Gate
from api.problems import MEDIA_TYPE, Answer, by_status, parameter, problem
from engine.arbiter import Arbiter
from engine.assembly import Settings, open_arbiter
from engine.errors import RequestRefused


def create_app(
    engine: Arbiter | Settings,
    *,
    limits: Limits | None = None,
    log: FilteringBoundLogger | None = None,
) -> FastAPI:
    """The API over an open engine, or over one that opens with the server and closes with it."""
    arbiter = engine if isinstance(engine, Arbiter) else None
    desk = Desk(arbiter, limits or Limits(), log or json_log())
    lifespan = None if isinstance(engine, Arbiter) else _lifespan(engine)
    app = Application(
        desk,
        title="Arbiter",
        docs_url=None,  # FastAPI's pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own telemetry would export messages of errors and query strings, where a provider is installed.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
    )
    app.state.desk = desk
    routers = (
        *(cases.router, appeals.router, log_api.router, admin.router, rulebooks.router),
        *(incidents.router, standings.router, images.router),
    )
    for router in routers:
        app.router.routes.extend(router.routes)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _query_problem)
    app.add_middleware(Gate, desk=desk)
    _describe(app, desk)
    return app


class Application(FastAPI):
    """FastAPI with the hot path in front of its layers, which cost a third of what HTTP costs there.

    The routes of the hot path stand among FastAPI's too: it answers every other method on them.
    """

    def __init__(self, desk: Desk, **more: Any) -> None:
        super().__init__(**more)
        hot = decisions.routes(desk)
        self.router.routes[:0] = hot
        self._hot = {route.path: Gate(route.endpoint, desk) for route in hot}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of any kind."""
        hot = self._hot.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (hot or super().__call__)(scope, receive, send)


def _lifespan(settings: Settings) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        arbiter = await open_arbiter(settings)
        app.state.desk.seat(arbiter)
        try:
            with survivors_frozen():
                yield
        finally:
            app.state.desk.seat(None)
            await arbiter.close()

    return lifespan


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _respond(request, by_status(405, {"allow": ", ".join(sorted(_methods(request)))}))
    return _respond(request, by_status(error.status_code))


def _methods(request: Request) -> set[str]:
    # Starlette names the methods of the first route with this path only.
    same = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in same for method in route.methods or ()}


async def _query_problem(request: Request, error: Exception) -> Response:
    """What FastAPI found wrong in the query or path, in our codes and words; its `input` is left out."""
    assert isinstance(error, RequestValidationError)
    refused = RequestRefused("A parameter does not fit; see errors.", map(parameter, error.errors()))
    found = problem(refused)
    assert found is not None
    return _respond(request, found)


def _respond(request: Request, refusal: Answer) -> Response:
    exchange_of(request.scope).problem = refusal.code
    response = Response(refusal.body, refusal.status, media_type=MEDIA_TYPE.decode())
    response.raw_headers.extend(refusal.headers)
    return response


def _describe(app: FastAPI, desk: Desk) -> None:
    """The OpenAPI document is made anew when own fields or kinds came with another rulebook."""
    made: dict[str, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        schema = desk.arbiter.schema
        if schema.hash not in made:
            made.clear()
            made[schema.hash] = wire.openapi(app, schema)
        return made[schema.hash]

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual says to extend it
