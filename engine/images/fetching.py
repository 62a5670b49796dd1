"""Images fetched from where a URL says, without being led to where only this machine may go.

Whoever can name a URL could otherwise make a server ask services of its own network, or the one that gives a cloud
machine its secrets (server-side request forgery). So: https on port 443 alone; a host is resolved once, refused when
any of its addresses is not public, and connected to at the address that was looked at, so that no second answer of the
resolver counts; each redirect is looked at in the same way; and bytes, time and redirects have limits.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import httptools

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Host → its addresses. Raises OSError."""
Connect: TypeAlias = Callable[[str, str], Awaitable[tuple[StreamReader, StreamWriter]]]
"""(address, host) → a TLS connection to this address, whose certificate is the host's. Raises OSError."""

PORT = 443
MAX_URL = 2_000
MAX_HEAD = 32 * 1024
"""Bytes before the body begins."""
_PIECE = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)

_BEYOND = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # Azure's own services, at an address that looks public
            "192.0.0.0/24",  # protocol assignments, among them a cloud's metadata (RFC 6890)
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "64:ff9b::/96",  # IPv4 within IPv6, translated by the network (RFC 6052), wherever that leads
            "64:ff9b:1::/48",  # the same (RFC 8215)
            "2001::/32",  # Teredo (RFC 4380)
            "2002::/16",  # 6to4 (RFC 3056)
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one fetch may take."""

    size: int = 10 * 1024 * 1024
    seconds: float = 10.0
    redirects: int = 3


class Unfetched(Exception):
    """Why nothing was fetched, in words that say nothing of the network behind."""


async def fetch(url: str, bounds: Bounds, *, resolve: Resolve, connect: Connect) -> bytes:
    """The bytes at `url`. Raises Unfetched."""
    try:
        async with asyncio.timeout(bounds.seconds):
            for _ in range(bounds.redirects + 1):
                place = _looked_at(url)
                address = await _public_address(place, resolve)
                answer = await _ask(place, address, connect, bounds.size)
                if answer.to is None:
                    return bytes(answer.body)
                url = urljoin(url, answer.to)
    except TimeoutError:
        raise Unfetched(f"it took longer than {bounds.seconds:g} seconds") from None
    raise Unfetched(f"more than {bounds.redirects} redirects")


def is_public(address: str) -> bool:
    """Whether anybody in the Internet may be there, and nobody but they: no private, local, shared or metadata address,
    IPv4 or IPv6, however the one is written in the other."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            return False
        found = found.ipv4_mapped or found
    beyond = any(found.version == network.version and found in network for network in _BEYOND)
    return found.is_global and not found.is_multicast and not found.is_reserved and not beyond


async def resolved(host: str) -> Sequence[str]:
    """The addresses of a host, as this machine resolves it."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


async def connected(address: str, host: str) -> tuple[StreamReader, StreamWriter]:
    """A TLS connection to this address, checked against the host's name."""
    context = ssl.create_default_context()
    return await asyncio.open_connection(address, PORT, ssl=context, server_hostname=host, limit=_PIECE)


def _looked_at(url: str) -> SplitResult:
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Unfetched(f"the address is not one of at most {MAX_URL} printable ASCII characters")
    try:
        place = urlsplit(url)
        port, host = place.port, place.hostname or ""
    except ValueError:
        raise Unfetched("the address is no URL") from None
    if place.scheme != "https":
        raise Unfetched("the address does not begin with https://")
    if place.username is not None or place.password is not None:
        raise Unfetched("the address has a user or a password")
    if port not in (None, PORT):
        raise Unfetched(f"only port {PORT} is asked")
    if not host or _is_address(host):
        raise Unfetched("the address names no host")
    return place


def _is_address(host: str) -> bool:
    # Also 2130706433, 0x7f.1 and whatever else a resolver reads as an address.
    with suppress(ValueError, OSError):
        ip_address(host)
        return True
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


async def _public_address(place: SplitResult, resolve: Resolve) -> str:
    try:
        addresses = await resolve(place.hostname or "")
    except (OSError, UnicodeError):
        addresses = ()
    if not addresses:
        raise Unfetched("the host is not known")
    # One that is not public beside others that are is how a resolver is used against us.
    if not all(map(is_public, addresses)):
        raise Unfetched("the host is not one that anybody may ask")
    return addresses[0]


class _Answer:
    """What comes back, piece by piece, as httptools tells of it."""

    def __init__(self, most: int) -> None:
        self.body = bytearray()
        self.to: str | None = None
        self.whole = False
        self.headed = False
        self._most = most
        self._headers: dict[bytes, bytes] = {}
        self._parser = httptools.HttpResponseParser(self)

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection says where the body ends (RFC 9112, 6.3)."""
        return not {b"content-length", b"transfer-encoding"} & self._headers.keys()

    def feed(self, piece: bytes) -> None:
        self._parser.feed_data(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return
        self.headed = True
        if status in _REDIRECTS and b"location" in self._headers:
            self.to = self._headers[b"location"].decode("latin-1")
            return
        if status != 200:
            raise Unfetched(f"the host answered {status}")
        if self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Unfetched("the host packed its answer")
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > self._most:
            raise Unfetched(f"more than {self._most} bytes")

    def on_body(self, piece: bytes) -> None:
        if len(self.body) + len(piece) > self._most:
            raise Unfetched(f"more than {self._most} bytes")
        self.body += piece

    def on_message_complete(self) -> None:
        self.whole = self.headed


async def _ask(place: SplitResult, address: str, connect: Connect, most: int) -> _Answer:
    host = place.hostname or ""
    try:
        reader, writer = await connect(address, host)
    except (OSError, ssl.SSLError):
        raise Unfetched("the host does not answer as it should") from None
    try:
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "User-Agent: arbiter", "Accept: image/*"]
        lines += ["Accept-Encoding: identity", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode("ascii"))
        await writer.drain()
        return await _answer(reader, _Answer(most))
    except (OSError, ssl.SSLError, httptools.HttpParserError) as error:
        raise _meant(error) from None
    finally:
        writer.transport.abort()  # A host that does not say goodbye must not keep us.


def _meant(error: BaseException) -> Unfetched:
    """What a callback of the parser raised, or that the answer is none."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, Unfetched):
            return below
        below = below.__cause__ or below.__context__
    return Unfetched("the host does not answer as it should")


async def _answer(reader: StreamReader, answer: _Answer) -> _Answer:
    before = 0
    while not answer.whole and answer.to is None:
        piece = await reader.read(_PIECE)
        if not piece:
            break
        answer.feed(piece)
        before += 0 if answer.headed else len(piece)
        if before > MAX_HEAD:
            raise Unfetched(f"more than {MAX_HEAD} bytes before the image")
    # Without a length and without chunks the end of the connection is the end of the body.
    if answer.to is None and not answer.whole and not (answer.headed and answer.ends_with_connection):
        raise Unfetched("the answer ended too early")
    return answer
