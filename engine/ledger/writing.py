"""What both writers share: the queue in front of them, the rows of a group, the answers behind them."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from engine import merkle
from engine.errors import Unavailable
from engine.ledger.entries import UNIQUE_KINDS, Entry, pack_keys, unpack_keys
from engine.receipt import Batch, Receipt, Signer, sign_batch

MAX_BATCH = 256
"""Entries in one commit at most."""

MAX_WAITING = 2_000
"""Entries that may wait for a commit; more are refused, so that callers hear of it at once."""

ACKNOWLEDGE_SECONDS = 10.0
"""How long an append waits for its commit before it answers that the outcome is unknown."""

IDLE_SECONDS = 0.05
"""A writer without work for this long fills the index of pseudonyms."""

INDEX_AT_ONCE = 100
"""Entries whose pseudonyms are indexed in one transaction: some 5 ms, for which a verdict may have to wait."""

Values = tuple[Any, ...]


@dataclass(slots=True)
class Waiting:
    """An entry on its way, and who waits for it: a receipt, or None when its event id is taken."""

    new: Entry
    future: asyncio.Future[Receipt | None]
    since: float


Outcome = Receipt | BaseException | None
Answers = list[tuple[Waiting, Outcome]]


class Gone(Exception):
    """The database is away."""


def unknown(error: BaseException | None = None) -> Unavailable:
    """The answer when nobody can say whether an entry was written."""
    made = Unavailable("the commit was not acknowledged; ask again with the same event id", "verdict_unknown")
    made.__cause__ = error
    return made


def away(error: BaseException) -> Unavailable:
    """The answer when a database cannot be read or indexed."""
    made = Unavailable("the database does not answer", "database_unavailable")
    made.__cause__ = error
    return made


class Writer(ABC):
    """Takes entries, answers each once its commit is durable or has failed.

    `waiting` counts the entries without an answer; `alive` tells whether the last commit went well.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self.alive = True
        self.waiting = 0

    async def submit(self, new: Entry) -> Receipt | None:
        """The receipt of `new` when it is durable, None when its event id is taken."""
        if self._closed:
            raise Unavailable("the ledger is closing", "ledger_closed")
        if self.waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} entries wait to be written", "ledger_busy")
        item = Waiting(new, self._loop.create_future(), self._loop.time())
        self.waiting += 1
        self._unanswered.append(item)
        if self._watch is None:
            self._watch = self._loop.call_later(1, self._look)
        self._put(item)
        return await item.future

    @abstractmethod
    def _put(self, item: Waiting) -> None:
        """Queue `item` for the next group."""

    @abstractmethod
    async def start(self) -> None:
        """Connect and begin to write."""

    @abstractmethod
    async def close(self) -> None:
        """Write what waits, then stop."""

    @abstractmethod
    async def holds(self, tenant: str, event_id: str) -> bool:
        """Whether a decision or event has this event id."""

    @abstractmethod
    async def index_keys(self) -> int:
        """Move pending pseudonyms into the index; how many entries that was."""

    def _answer(self, answers: Answers) -> None:
        """Wake everyone whose entry has an outcome. Runs on the event loop."""
        self.waiting -= len(answers)
        for item, outcome in answers:
            # A caller may have gone away, or heard that its outcome is unknown.
            if item.future.done():
                continue
            if isinstance(outcome, BaseException):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)
        # At once: a second's worth of entries would take some 5 ms to let go of, in one piece.
        while self._unanswered and self._unanswered[0].future.done():
            self._unanswered.popleft()

    def _look(self) -> None:
        """Once a second: answer those whose commit takes too long."""
        late = self._loop.time() - ACKNOWLEDGE_SECONDS
        waiting = self._unanswered
        while waiting and (waiting[0].future.done() or waiting[0].since < late):
            item = waiting.popleft()
            if not item.future.done():
                item.future.set_exception(unknown())
        self._watch = self._loop.call_later(1, self._look) if waiting else None

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


class Backoff:
    """How long to leave a lost database alone: 0.1 s after the first failure, doubling up to 2 s."""

    def __init__(self) -> None:
        self._until = 0.0
        self._pause = 0.1

    def over(self) -> bool:
        """Whether it is time to try again."""
        return time.monotonic() >= self._until

    def failed(self) -> None:
        """Note a failure: the next try is later."""
        now = time.monotonic()
        calm = now - self._until > 10
        self._pause = 0.1 if calm else min(2.0, self._pause * 2)
        self._until = now + self._pause


def without_repeats(items: Sequence[Waiting], taken: set[tuple[str, str]]) -> tuple[list[Waiting], list[Waiting]]:
    """`items` to write, and those whose event id is `taken` or came earlier in the same group."""
    fresh, repeats, seen = [], [], set(taken)
    for item in items:
        new = item.new
        if new.kind in UNIQUE_KINDS and new.event_id is not None:
            name = (new.tenant, new.event_id)
            if name in seen:
                repeats.append(item)
                continue
            seen.add(name)
        fresh.append(item)
    return fresh, repeats


# ------------------------------------------------------------------------------------ the rows of a group

ENTRY_VALUES = attrgetter(
    *("id", "tenant", "kind", "event_id", "event_kind", "at", "received_at"),
    *("order_id", "merchant_id", "verdict", "refers_to", "leaf"),
)
"""The columns of `entry` that an Entry itself has, in their order."""


@dataclass(frozen=True, slots=True)
class Group:
    """A signed group of entries. Rows that belong to an entry begin with its number, counted from `first`."""

    now: int
    batch: Batch
    leaves: Sequence[bytes]
    receipts: Sequence[Receipt]
    cells: list[Values]
    packed: list[Values]
    digests: list[Values]
    keys: list[Values]

    @property
    def batch_values(self) -> Values:
        """The columns of `batch` after its id."""
        of = self.batch
        return (of.root, of.size, b"".join(self.leaves), of.signed_at, of.log, of.key_id, of.signature)


def sign_group(signer: Signer, items: Sequence[Waiting], first: int) -> Group:
    """One tree and one signature for `items`, and all rows beside those of `entry` itself."""
    now = time.time_ns() // 1_000
    leaves = [merkle.leaf_hash(item.new.leaf) for item in items]
    batch, receipts = sign_batch(signer, leaves, now)
    group = Group(now, batch, leaves, receipts, [], [], [], [])
    keys: dict[bytes, Values] = {}
    for number, item in enumerate(items, first):
        new = item.new
        for cell in new.sealed:
            subject = bytes.fromhex(cell.subject)
            group.cells.append((number, subject, cell.tenant, cell.key_id, cell.ciphertext))
            key = cell.key
            if key is not None and not key.stored:
                keys[key.id] = (key.id, key.tenant, subject, key.kek, key.wrapped, key.created)
        if new.keys or new.sealed:
            group.packed.append((number, new.tenant, _packed(new)))
        if new.digest is not None:
            group.digests.append((number, new.tenant, new.digest))
    group.keys.extend(keys.values())
    return group


def mark_stored(items: Iterable[Waiting]) -> None:
    """Note that the subject keys of committed entries are in the database: later cells need not carry them."""
    for item in items:
        for cell in item.new.sealed:
            if cell.key is not None:
                cell.key.stored = True


def index_rows(rows: Iterable[Sequence[Any]]) -> list[tuple[bytes, int]]:
    """(pseudonym, entry) pairs, sorted so that neighbours in the index are written together."""
    return sorted(
        {
            (bytes.fromhex(pseudonym), row)
            for row, packed in rows
            for _, pseudonym in unpack_keys(packed or b"", subjects=True)
        }
    )


def _packed(new: Entry) -> bytes:
    held = {pseudonym for _, pseudonym in new.keys}
    return pack_keys(new.keys, [cell.subject for cell in new.sealed if cell.subject not in held])
