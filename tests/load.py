"""Clients that send events to a server and remember every answer, so that a test can hold the ledger against them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from engine import merkle
from engine.database import batch, checkpoint, entry, placed
from engine.features import Facts, Features
from engine.intake import facts_of
from engine.ledger import Ledger, Stored
from engine.notes import Checkpoint, open_note, verifier
from engine.receipt import verify_receipt
from engine.rulebook import Rulebook
from engine.schema import encode
from engine.stores import MemoryStore
from engine.vault import KeyFile
from tests.daemon import TENANT, Daemon

DECISIONS, EVENTS = "/v1/decisions", "/v1/events"
CARDS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """One connection that is kept alive. Bare, so that a test sees whether an answer was cut in two."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self._secret = port, secret
        self.cut = 0
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> Answer | None:
        """The answer; None when the connection was refused or ended before it. `cut` counts those cut in the middle."""
        read = b""
        try:
            reader, writer = self._open or await self._connect()
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {self._secret}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            read = await reader.readuntil(b"\r\n\r\n")
            lines = read.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            answer = Answer(int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"])))
        except (OSError, asyncio.IncompleteReadError) as error:
            read += getattr(error, "partial", b"")
            self.close()
            self.cut += bool(read)
            return None
        if headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Leave."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._open = await asyncio.open_connection("127.0.0.1", self._port)
        return self._open


@dataclass
class Load:
    """What some clients sent and heard.

    `seen` are the answers by event id, `doubt` the ids whose outcome nobody knows, `statuses` counts the answers,
    `wrong` are answers that must not be, `refused` counts connections that were refused or ended without an answer,
    `cut` those that ended in the middle of one.
    """

    daemon: Daemon
    seed: int
    clients: int = 8
    sent: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)
    doubt: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    refused: int = 0
    cut: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _rounds: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Clients send until the block ends."""
        self._rounds += 1
        self._stop.clear()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._run())
            except BaseException as error:  # noqa: BLE001  # told to the test, below
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if failed:
            raise failed[0]

    def again(self) -> None:
        """Send everything once more until it is answered: what was answered before reads the same."""
        asyncio.run(self._again())
        assert self.wrong == []
        assert self.doubt == set()
        assert set(self.seen) == set(self.sent)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        random = Random(f"{self.seed}/{self._rounds}/{number}")
        wire, count = self._wire(), 0
        while not self._stop.is_set():
            count += 1
            id = f"r{self._rounds}-c{number}-{count}"
            # Now and then one that somebody else sends as well, at the same moment.
            if random.random() < 0.1:
                id = f"r{self._rounds}-shared-{count}"
            self.sent.setdefault(id, an_event(id, Random(id)))
            if not await self._send(wire, id):
                # As whoever is told to come back does; else an absence would fill the test with what it refuses.
                await asyncio.sleep(0.1)
                await self._send(wire, id)
            elif random.random() < 0.05:
                await asyncio.sleep(0.01)
                await self._send(wire, id)
        wire.close()

    async def _again(self) -> None:
        waiting = sorted(self.sent)

        async def client() -> None:
            wire = self._wire()
            while waiting:
                id = waiting.pop()
                for pause in (0.1, 0.2, 0.5, 1, 2, 5, 10, 0):
                    if await self._send(wire, id):
                        break
                    await asyncio.sleep(pause)
            wire.close()

        await asyncio.gather(*(client() for _ in range(self.clients)))

    async def _send(self, wire: Wire, id: str) -> bool:
        if id not in self.seen:
            self.doubt.add(id)
        answer = await wire.post(*self.sent[id])
        if answer is None:
            self.refused += 1
            self.cut, wire.cut = self.cut + wire.cut, 0
            return False
        self.statuses[answer.status] += 1
        if answer.status == 200:
            if self.seen.setdefault(id, answer.body) != answer.body:
                self.wrong.append((id, self.seen[id], answer.body))
            self.doubt.discard(id)
        elif answer.status != 503 or not answer.headers.get("retry-after"):
            self.wrong.append((id, answer))
        return answer.status == 200

    def _wire(self) -> Wire:
        return Wire(self.daemon.port, self.daemon.keys["score"])


def an_event(id: str, random: Random) -> tuple[str, bytes]:
    """An order, an attempt to pay or a parcel, on one of a few cards and accounts, of about now."""
    at = datetime.now(UTC).replace(microsecond=0).isoformat()
    card, buyer = f"card-{random.randrange(CARDS)}", f"u-{random.randrange(4)}"
    body: dict[str, Any] = {"event_id": id, "at": at, "buyer": {"account": buyer, "name": "张三"}}
    if random.random() < 0.15:
        body |= {"kind": "fulfilment", "fulfilment": {"stage": "shipped"}, "shipping": {"phone": "13900139000"}}
        return EVENTS, orjson.dumps(body)
    amount = random.choice(("5.00 CNY", "12.00 CNY", "698.00 CNY", "9800.00 CNY"))
    body |= {"amount": amount, "card": {"ref": card, "bin": "622848"}, "device": {"id": f"d-{random.randrange(3)}"}}
    if random.random() < 0.5:
        body |= {"kind": "payment", "payment": {"stage": "attempt"}}
    else:
        body |= {"kind": "transaction", "ip": "192.0.2.66", "shipping": {"name": "李四", "city": "杭州市"}}
    return DECISIONS, orjson.dumps(body)


# ------------------------------------------------------------------------------ the ledger beside the answers


@asynccontextmanager
async def opened(url: str, keys: KeyFile) -> AsyncIterator[Ledger]:
    """The ledger, looked at without a server."""
    ledger = await Ledger.open(url, keys)
    try:
        yield ledger
    finally:
        await ledger.close()


async def everything(ledger: Ledger) -> list[Stored]:
    """All entries of the test's tenant."""
    found: list[Stored] = []
    cursor: str | None = None
    while True:
        page = await ledger.page(TENANT, None, cursor, 200)
        found += page.entries
        cursor = page.cursor
        if cursor is None:
            return found


async def check_answers(url: str, keys: KeyFile, load: Load) -> None:
    """What a client saw stands in the ledger, once, and its receipt proves it; and the log over all of it is whole."""
    async with opened(url, keys) as ledger:
        kept = await everything(ledger)
        await check_log(ledger, keys, [orjson.loads(seen)["receipt"]["leaf_hash"] for seen in load.seen.values()])
    kept = [stored for stored in kept if stored.entry.event_id is not None]  # an alert is about no event
    entries = {stored.entry.event_id: stored for stored in kept}
    assert len(entries) == len(kept), "an event id stands there twice"
    assert set(load.seen) <= set(entries), "a client saw an answer that is not in the ledger"
    for id, seen in load.seen.items():
        told, entry = orjson.loads(seen), entries[id].entry
        assert (told["id"], told.get("verdict")) == (entry.id, entry.verdict)
        assert verify_receipt(told["receipt"], entry.leaf, keys.signer.public_key)


async def check_log(ledger: Ledger, keys: KeyFile, promised: Sequence[str]) -> None:
    """Every entry has one place, without a gap; what was promised is there; and every checkpoint that was ever signed
    is of this one tree."""
    await ledger.log.catch_up()
    for _ in range(100):  # a server that still runs may hold the lock
        await ledger.log.publish(1)
        last = await ledger.log.latest()
        if last is not None and last.checkpoint.size == await ledger.log.size():
            break
        await asyncio.sleep(0.1)

    def read(connection: Connection) -> tuple[Any, ...]:
        places = select(placed.c.first, placed.c.size, batch.c.leaves).join(batch, batch.c.id == placed.c.batch)
        signed = select(checkpoint.c.note).order_by(checkpoint.c.size)
        count = select(func.count()).select_from(entry)
        return (
            connection.execute(places.order_by(placed.c.first)).all(),
            connection.execute(signed).scalars().all(),
            connection.execute(count).scalar_one(),
        )

    rows, notes, count = await ledger.database.read(read)
    leaves: list[bytes] = []
    for row in rows:
        assert (row.first, row.size) == (len(leaves), len(row.leaves) // merkle.HASH_BYTES)
        leaves += merkle.hashes(row.leaves)
    assert len(leaves) == len(set(leaves)) == count, "an entry has no place, or two"
    assert set(map(bytes.fromhex, promised)) <= set(leaves), "a receipt's entry is not in the log"
    trees = {told.size: told.root for told in (read_checkpoint(note, keys) for note in notes)}
    assert len(trees) == len(notes) >= 1
    tree = merkle.Frontier()
    for leaf in leaves:
        tree.append(leaf)
        assert trees.get(tree.size) in (None, tree.root()), "a checkpoint signs another history"
    assert max(trees) == len(leaves), "not all of it was signed"


def read_checkpoint(note: str, keys: KeyFile) -> Checkpoint:
    """What the log's key signed."""
    return Checkpoint.read(open_note(note, [verifier(keys.signer)])[0])


async def facts_by_arrival(url: str, keys: KeyFile) -> list[tuple[dict[str, Any], Facts]]:
    """Every decision and event: its record and what windows see of it, in the order of arrival."""
    async with opened(url, keys) as ledger:
        found = [fact async for page in ledger.facts(0) for fact in page]
    pairs = [(orjson.loads(fact.leaf), facts_of(fact.tenant, fact.leaf, fact.keys)) for fact in found]
    return sorted(pairs, key=lambda pair: pair[1].arrival)


def check_windows(book: Rulebook, pairs: Sequence[tuple[dict[str, Any], Facts]], since: int = 0) -> int:
    """Each decision that arrived after `since`, with windows warm, read what an uninterrupted replay reads; how many
    there were.

    The replay starts empty, is never interrupted, and takes every event once, in the order of arrival.
    """
    features = Features(book.windows, MemoryStore(), reads=book.reads, convert=book.convert)
    features.restore([])
    assert len({facts.arrival for _, facts in pairs}) == len(pairs), "two events share an arrival"
    checked = 0
    for record, facts in pairs:
        values = features.observe(facts).values
        if record["type"] != "decision" or facts.arrival <= since or "not_warm" in record["notices"]:
            continue
        kind = book.kinds[facts.kind]
        for slot, recorded in zip(kind.slots, record["features"], strict=True):
            assert recorded == orjson.loads(orjson.dumps(encode(values[slot]))), (facts.id, book.windows[slot].name)
        checked += 1
    return checked
