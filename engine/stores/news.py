"""What one process tells the others of an event: what each of them keeps in its own memory beside the shared store.

A note is JSON text: the event's id, its time, and what it adds to which series and key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from engine.stores.contract import WHOLE, Stamp, Touch
from engine.stores.numbers import parsed

ADD, FORGET = b"add", b"forget"

KEPT = 120 * 1_000_000
"""How long (µs) the store keeps news. Who heard none for half of it reads the ledger instead."""


class News(NamedTuple):
    """Something that another process did, in the order of the store: it added or took out an event."""

    what: bytes
    arrival: int
    note: bytes


class Arrived(NamedTuple):
    """An event with the arrival that the store gave it. A `Stamp`."""

    tenant: str
    id: str
    at: int
    arrival: int


def written(stamp: Stamp, touches: Sequence[Touch]) -> str:
    """The note on an event; empty where it adds nothing."""
    adds = [(name, key, _said(key, values)) for name, key, values, _, _ in touches if values is not None]
    return orjson.dumps([stamp.id, stamp.at, adds]).decode() if adds else ""


def read(tenant: str, news: News) -> tuple[Arrived, list[Touch]]:
    """The event that a note is about, and what it adds."""
    id, at, adds = orjson.loads(news.note)
    return Arrived(tenant, id, at, news.arrival), [
        (name, key, _heard(key, values), (), None) for name, key, values in adds
    ]


def _said(key: str, values: Any) -> list[Any]:
    if key == WHOLE:
        return [[account, list(identifiers)] for account, identifiers in values]
    # As text, numbers have no limit.
    return [(value[0], str(value[1])) if isinstance(value, tuple) else value for value in values]


def _heard(key: str, values: list[Any]) -> Any:
    if key == WHOLE:
        return [(tuple(account), identifiers) for account, identifiers in values]
    return tuple((value[0], parsed(value[1])) if isinstance(value, list) else value for value in values)
