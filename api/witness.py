"""A witness over HTTP: add-checkpoint of C2SP tlog-witness, and what it signed last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.listening import listening
from api.server import Protocol
from engine.witness import SIZE_TYPE, Refused, Witness

MAX_BODY = 64 * 1024
"""Bytes of a request at most: a proof of 63 lines and a checkpoint of many signatures have room in it."""


def create_app(witness: Witness) -> Starlette:
    """The application of one witness. The log's signature is all the proof of origin that there is, or need be."""
    # Its state is a file: one request after the other, off the event loop.
    turn = asyncio.Lock()

    async def add(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY:
                return PlainTextResponse(f"a request may have {MAX_BODY} bytes\n", 413)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return PlainTextResponse("a request is UTF-8 text\n", 400)
        try:
            async with turn:
                return PlainTextResponse(await asyncio.to_thread(witness.add, text))
        except Refused as refused:
            if refused.size is not None:
                return PlainTextResponse(f"{refused.size}\n", refused.status, media_type=SIZE_TYPE)
            return PlainTextResponse(f"{refused}\n", refused.status)

    async def latest(request: Request) -> Response:
        note = await asyncio.to_thread(witness.latest, request.query_params.get("log", ""))
        if note is None:
            return PlainTextResponse("this witness has signed nothing of this log\n", 404)
        return PlainTextResponse(note)

    return Starlette(
        routes=[Route("/add-checkpoint", add, methods=["POST"]), Route("/checkpoint", latest, methods=["GET"])]
    )


def serve(witness: Witness, host: str, port: int, opened: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal ends it; `opened` is called when the address is ours. SettingsError when it is taken."""
    with listening(host, port) as listener:
        opened()
        config = uvicorn.Config(
            create_app(witness), http=Protocol, ws="none", lifespan="off", access_log=False, log_level="warning",
            server_header=False,
        )  # fmt: skip
        asyncio.run(uvicorn.Server(config).serve([listener]))
