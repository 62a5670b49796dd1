"""The outermost layer: a request id, common headers, one log line, one measurement, and no error that escapes.

A bare ASGI middleware: Starlette's BaseHTTPMiddleware costs 300 µs a request. The log line names the route, never the
path, the query or a header: those may hold what identifies a person.
"""

from __future__ import annotations

import traceback
from itertools import count
from os import urandom
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api.desk import Desk
from api.exchange import Exchange, send_problem
from api.problems import Answer, incident, problem
from engine.errors import ArbiterError


class Gate:
    """Wraps the whole application of one worker."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk = app, desk
        self._prefix = urandom(6).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send, f"{self._prefix}-{next(self._numbers):x}")
        try:
            await self._app(scope, receive, exchange.send)
        except ArbiterError as error:
            await self._refuse(exchange, problem(error), error)
        except ClientDisconnect:
            exchange.gone = True
        except Exception as error:  # noqa: BLE001  # the boundary: logged, and answered as an incident
            await self._refuse(exchange, None, error)
        finally:
            self._account(exchange, scope)
            exchange.let_go(scope)

    async def _refuse(self, exchange: Exchange, answer: Answer | None, error: Exception) -> None:
        if answer is None:
            answer = incident(exchange.id)
            self._desk.log.error("incident", request=exchange.id, **where(error))
        # After the start it is too late for a problem. An answer without its end makes the server close the
        # connection, so that half an answer is not taken for a whole one.
        if not exchange.status:
            await send_problem(exchange, answer)

    def _account(self, exchange: Exchange, scope: Scope) -> None:
        exchange.route = exchange.route or getattr(scope.get("route"), "path", "none")
        seconds = perf_counter() - exchange.started
        self._desk.meters.request(exchange.method, exchange.route, exchange.status, seconds)
        if exchange.problem:
            self._desk.meters.problem(exchange.problem)
        self._desk.log.info("request", **exchange.summary())


def where(error: BaseException) -> dict[str, Any]:
    """The places an error passed, innermost last, without its message: a message may quote what a caller sent."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    found: dict[str, Any] = {"error": type(error).__qualname__, "frames": frames}
    cause = error.__cause__ or error.__context__
    if cause is not None:
        found["cause"] = where(cause)
    return found
