"""Which events something new is tried on: buckets that are stable, monotonic and drawn by a key.

    read_rollout("25% by buyer.account").holds("geography.all-differ", key)

A key (an account, a card, a shop) is in the same one of 10,000 buckets for ever, by the SHA-256 of the name of what is
tried and the key; a share of n % takes the buckets below n. So a larger share only adds keys, and two names draw
independently. Keys that identify somebody come as pseudonyms: the bucket says nothing to who does not hold the key
file, and is not recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from engine.jcs import canonical
from engine.schema import at_path

BUCKETS = 10_000
"""How finely keys are told apart: 0.01 %."""

_PREFIX = "arbiter-bucket-1"
_WRITTEN = re.compile(r"(?P<share>100|[0-9]{1,2}(?:\.[0-9]{1,2})?)% by (?P<by>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)")
_FORM = "write a share and the field it is drawn by, such as 25% by buyer.account"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A share of all keys, in buckets, and the path of the field that is the key."""

    buckets: int
    by: str

    def holds(self, name: str, key: str | None) -> bool:
        """Whether the key is among those that `name` is tried on; an event without a key is not."""
        return key is not None and bucket(name, key) < self.buckets

    def __str__(self) -> str:
        share = Decimal(self.buckets) * 100 / BUCKETS
        return f"{share.normalize():f}% by {self.by}"


def read_rollout(value: object) -> Rollout:
    """A rollout from text such as '25% by buyer.account'. ValueError says how to write it."""
    found = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(_FORM)
    return Rollout(int(Decimal(found["share"]) * BUCKETS / 100), found["by"])


RolloutText = Annotated[
    Rollout, BeforeValidator(read_rollout), WithJsonSchema({"type": "string", "pattern": f"^{_WRITTEN.pattern}$"})
]
"""A `Rollout`, written '25% by buyer.account'."""


def bucket(name: str, key: str) -> int:
    """The bucket of a key under a name, 0 to 9,999: the first 8 bytes of SHA-256 over the canonical JSON (RFC 8785) of
    ["arbiter-bucket-1", name, key], big-endian, modulo 10,000. Its bias is below 10^-15."""
    digest = sha256(canonical([_PREFIX, name, key])).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def key_of(path: str, keys: Mapping[str, str], values: Mapping[str, Any]) -> str | None:
    """The key at a path of an event: a pseudonym where it identifies somebody, else the public value; None for none."""
    if path in keys:
        return keys[path]
    found = at_path(values, path)
    return None if found is None else str(found)
