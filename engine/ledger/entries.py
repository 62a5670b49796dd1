"""What goes into the ledger and what comes out of it: frozen values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Conflict
from engine.randomness import random_bytes
from engine.receipt import Batch, Receipt, receipt_of
from engine.vault import Sealed

MAX_LEAF = 65_535
"""Bytes of a leaf at most (C2SP tlog-tiles)."""

UNIQUE_KINDS = frozenset(("decision", "event"))
"""The kinds of which a (tenant, event id) has at most one entry (`database.ONE_VERDICT`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to be kept: its leaf for everyone, its sealed personal data, its pseudonyms for linking.

    `kind` is decision, event, resolution or change; `keys` are (entity path, pseudonym) pairs; `digest` is the keyed
    digest of the body it answers; `refers_to` is the id of the entry it is about. Times are UTC microseconds.
    """

    id: str
    tenant: str
    kind: str
    event_id: str | None
    event_kind: str
    at: int
    received_at: int
    leaf: bytes
    sealed: tuple[Sealed, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    digest: bytes | None = None
    refers_to: str | None = None
    order_id: str | None = None
    merchant_id: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as the ledger gives it back. `arrival` is its order in this ledger, without meaning elsewhere; it is
    entry `index` of the batch with this `number`.

    From `page` the entry comes without sealed data, keys and digest.
    """

    entry: Entry
    arrival: int
    created: int
    batch: Batch
    number: int
    leaves: bytes = field(repr=False)
    index: int

    @property
    def receipt(self) -> Receipt:
        """The receipt its writer got, made again: the same value. Costs the hashing of its batch."""
        return receipt_of(self.batch, self.leaves, self.index)


@dataclass(frozen=True, slots=True)
class Fact:
    """What windows are rebuilt from: one event's leaf and its pseudonyms by entity path."""

    id: str
    tenant: str
    kind: str
    event_kind: str
    event_id: str | None
    refers_to: str | None
    at: int
    received_at: int
    arrival: int
    leaf: bytes
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries a page shows; None does not narrow. `since` (inclusive) and `until` bound the time received."""

    verdict: str | None = None
    kind: str | None = None
    event_id: str | None = None
    event_kind: str | None = None
    merchant_id: str | None = None
    order_id: str | None = None
    refers_to: str | None = None
    pseudonym: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries newest first, and the cursor of the next page, None on the last one."""

    entries: tuple[Stored, ...]
    cursor: str | None


class Duplicate(Conflict):
    """The event id has its entry already; `stored` is that one."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        super().__init__("this event id was decided before")


def entry_after(first: Entry, record: Mapping[str, Any], leaf: bytes, sealed: tuple[Sealed, ...] = ()) -> Entry:
    """The entry of a record that comes after that of `first` and refers to it."""
    return Entry(
        id=record["id"],
        tenant=first.tenant,
        kind=record["type"],
        event_id=None,
        event_kind=first.event_kind,
        at=record["decided_at"],
        received_at=record["decided_at"],
        leaf=leaf,
        sealed=sealed,
        refers_to=first.id,
        order_id=first.order_id,
        merchant_id=first.merchant_id,
        verdict=record["verdict"],
    )


def new_id() -> str:
    """A UUID version 7 (RFC 9562): sorts by time of creation to the millisecond, the rest is random."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random_bytes(10))
    bits = bits & ~(0xF << 76) | 0x7 << 76
    digits = f"{bits & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


SUBJECT = "@"
"""The path under which a sealed subject's pseudonym stands among an entry's packed keys, so that it can be found."""

_LABELS: dict[str, bytes] = {}


def pack_keys(keys: Iterable[tuple[str, str]], subjects: Iterable[str] = ()) -> bytes:
    """Pseudonyms as one value: 16 bytes of pseudonym, one byte length, the path; and so on."""
    pieces = [bytes.fromhex(pseudonym) + (_LABELS.get(path) or _label(path)) for path, pseudonym in keys]
    at = _LABELS.get(SUBJECT) or _label(SUBJECT)
    return b"".join(pieces + [bytes.fromhex(subject) + at for subject in subjects])


def unpack_keys(packed: bytes, *, subjects: bool = False) -> Iterator[tuple[str, str]]:
    """The (path, pseudonym) pairs in `packed`; those of sealed subjects only when asked for."""
    at = 0
    while at < len(packed):
        pseudonym, length = packed[at : at + 16].hex(), packed[at + 16]
        path = packed[at + 17 : at + 17 + length].decode()
        at += 17 + length
        if subjects or path != SUBJECT:
            yield path, pseudonym


def _label(path: str) -> bytes:
    data = path.encode()
    assert 0 < len(data) < 256, path
    # Paths come from the schema: a few dozen. The bound only guards against a mistake.
    if len(_LABELS) > 10_000:
        _LABELS.clear()
    return _LABELS.setdefault(path, bytes((len(data),)) + data)
