"""Fetching an image: from a public address by https, within limits, and never from where only this machine may go."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.images.fetching import MAX_HEAD, Bounds, Unfetched, fetch, is_public

pytestmark = pytest.mark.anyio

HOST = "img.example.com"
PUBLIC = "93.184.215.14"
SMALL = Bounds(size=1_000, seconds=5, redirects=2)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage"


# -- addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("168.63.129.17", True),
        ("192.0.0.192", False),
        ("198.18.0.1", False),
        ("203.0.113.9", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("2606:2800:220:1:248:1893:25c8:1946%1", False),
        ("fd00:ec2::254", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
    ],
)
async def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://img.example.com/1.jpg", "https"),
        ("file:///etc/passwd", "https"),
        ("ftp://img.example.com/1", "https"),
        ("//img.example.com/1.jpg", "https"),
        ("https://user:pw@img.example.com/", "user"),
        ("https://img.example.com@10.0.0.1/", "user"),
        ("https://img.example.com:8443/1.jpg", "port"),
        ("https://img.example.com:99999/1.jpg", "URL"),
        ("https:///1.jpg", "no host"),
        ("https://127.0.0.1/1.jpg", "no host"),
        ("https://[::1]/1.jpg", "no host"),
        ("https://2130706433/1.jpg", "no host"),
        ("https://0x7f.1/1.jpg", "no host"),
        ("https://127.1/1.jpg", "no host"),
        ("https://img.example.com/\r\nHost: x", "printable"),
        ("https://img.example.com/a b", "printable"),
        ("https://img.example.com\\@10.0.0.1/", "printable"),
        ("https://图.example.com/", "printable"),
        ("https://img.example.com/" + "a" * 2_000, "2000"),
    ],
)
async def test_what_is_no_address_to_ask_is_refused_before_anything_is_asked(url: str, why: str) -> None:
    with pytest.raises(Unfetched, match=why):
        await fetch(url, SMALL, resolve=_nobody, connect=_nobody)


async def _nobody(*_: str) -> Any:
    raise AssertionError("nothing may be asked")


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], ["127.0.0.1"], ["::1"], ["169.254.169.254"], [PUBLIC, "10.0.0.1"], ["fd00:ec2::254", PUBLIC]],
)
async def test_a_host_is_asked_only_where_all_its_addresses_are_public(addresses: list[str]) -> None:
    async def resolve(_: str) -> Sequence[str]:
        return addresses

    with pytest.raises(Unfetched, match="not one that anybody may ask"):
        await fetch(f"https://{HOST}/1.jpg", SMALL, resolve=resolve, connect=_nobody)


@pytest.mark.parametrize("found", [OSError("no such host"), UnicodeError("too long"), []], ids=str)
async def test_a_host_that_is_not_known_is_refused(found: Any) -> None:
    async def resolve(_: str) -> Sequence[str]:
        if isinstance(found, Exception):
            raise found
        return list(found)

    with pytest.raises(Unfetched, match="not known"):
        await fetch(f"https://{HOST}/1.jpg", SMALL, resolve=resolve, connect=_nobody)


# -- a real server, with a certificate of its own


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the host, in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST), x509.DNSName("other.example.com")]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "host.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Site:
    """A server that answers by the path that is asked, and what was asked of it."""

    def __init__(self, certificate: Path, answers: dict[str, bytes | Callable[[Any], Awaitable[None]]]) -> None:
        self.certificate = certificate
        self.answers = answers
        self.asked: list[str] = []
        self.connected: list[str] = []
        self.resolved: list[str] = []
        self.addresses: dict[str, list[list[str]]] = {}
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            answer = self.answers[head.split()[1]]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
            writer.close()
        except (ConnectionError, ssl.SSLError):
            pass

    async def resolve(self, host: str) -> Sequence[str]:
        self.resolved.append(host)
        return self.addresses[host].pop(0) if self.addresses.get(host) else [PUBLIC]

    async def connect(self, address: str, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To this server, whatever public address was looked at; checked against the host's name as always."""
        self.connected.append(address)
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=trusted, server_hostname=host)

    async def fetch(self, path: str = "/", bounds: Bounds = SMALL, host: str = HOST) -> bytes:
        return await fetch(f"https://{host}{path}", bounds, resolve=self.resolve, connect=self.connect)


@asynccontextmanager
async def site(certificate: Path, answers: dict[str, Any]) -> AsyncIterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = Site(certificate, answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nima\r\n2\r\nge\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nimage",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
    ],
    ids=["length", "chunks", "to the end", "after a hint"],
)
async def test_an_image_is_fetched(certificate: Path, answer: bytes) -> None:
    async with site(certificate, {"/1.jpg?w=3": answer}) as there:
        assert await there.fetch("/1.jpg?w=3#part") == b"image"
        assert there.connected == [PUBLIC], "at the address that was looked at"
        (head,) = there.asked
        assert head.startswith("GET /1.jpg?w=3 HTTP/1.1\r\n")
        assert f"\r\nHost: {HOST}\r\n" in head


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nimage", "answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "as it should"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_001), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + bytes(0xFFF), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nimage", "too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nimage", "packed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "as it should"),
        (b"", "too early"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD, "before the image|as it should"),
        (redirect(""), "more than 2 redirects"),
    ],
)
async def test_what_is_no_answer_within_limits_is_refused(certificate: Path, answer: bytes, why: str) -> None:
    async with site(certificate, {"/": answer}) as there:
        with pytest.raises(Unfetched, match=why):
            await there.fetch()


async def test_as_many_bytes_as_the_limit_are_taken(certificate: Path) -> None:
    async with site(certificate, {"/": b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_000)}) as there:
        assert await there.fetch() == bytes(1_000)


async def test_a_host_that_dawdles_is_left(certificate: Path) -> None:
    async def drip(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        for _ in range(100):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with site(certificate, {"/": drip}) as there:
        with pytest.raises(Unfetched, match="longer than 1 seconds"):
            await there.fetch(bounds=Bounds(1_000, 1, 2))


async def test_a_redirect_is_followed_within_a_limit(certificate: Path) -> None:
    answers = {"/a": redirect("/b"), "/b": redirect("https://other.example.com/c"), "/c": OK, "/d": redirect("/a")}
    async with site(certificate, answers) as there:
        assert await there.fetch("/a") == b"image"
        assert there.resolved == [HOST, HOST, "other.example.com"]
        with pytest.raises(Unfetched, match="more than 2 redirects"):
            await there.fetch("/d")


@pytest.mark.parametrize(
    "to",
    [
        "http://img.example.com/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/",
        "file:///etc/passwd",
        "https://u@h/",
    ],
)
async def test_a_redirect_leads_nowhere_that_a_url_may_not(certificate: Path, to: str) -> None:
    async with site(certificate, {"/": redirect(to), "/latest/": OK}) as there:
        with pytest.raises(Unfetched):
            await there.fetch()
        assert len(there.asked) == 1


async def test_a_host_that_moves_inside_after_it_was_looked_at_is_not_asked_there(certificate: Path) -> None:
    """DNS rebinding: between two answers of the resolver the host becomes a machine of ours."""
    async with site(certificate, {"/": OK, "/again": redirect("/")}) as there:
        there.addresses[HOST] = [[PUBLIC], ["10.0.0.1"]]
        assert await there.fetch() == b"image"
        assert (there.resolved, there.connected) == ([HOST], [PUBLIC]), "one answer, and that one is used"
        there.addresses[HOST] = [[PUBLIC], ["10.0.0.1"]]
        with pytest.raises(Unfetched, match="anybody may ask"):
            await there.fetch("/again")
        assert there.connected == [PUBLIC, PUBLIC]


async def test_a_certificate_of_another_host_is_refused(certificate: Path) -> None:
    async with site(certificate, {"/": OK}) as there:
        with pytest.raises(Unfetched, match="as it should"):
            await there.fetch(host="elsewhere.example.com")
        assert there.asked == []
