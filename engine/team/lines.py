"""Messages between the hub and a member: JSON, a line each, over a pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson

MOST = 1 << 26
"""Bytes of one message at most."""


class Lines:
    """One end of a pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Lines:
        return cls(*await asyncio.open_unix_connection(sock=end, limit=MOST))

    def send(self, message: dict[str, Any]) -> None:
        """Nothing where the other end is gone: who reads notices that."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What comes, until the other end is gone."""
        try:
            while line := await self._reader.readline():
                if not line.endswith(b"\n"):
                    return  # The other end went in the middle of it.
                yield orjson.loads(line)
        except ConnectionError:
            return

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
