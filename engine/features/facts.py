"""What windows see of an event, and what an event reads: frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from engine.expr import Env, Expression
from engine.money import Money
from engine.stores import Gap

THIN_IDENTITY = "thin_identity"
STORE_UNAVAILABLE = "store_unavailable"

GAPS: Mapping[str, str] = {
    THIN_IDENTITY: "the event lacks a part of the window's key",
    Gap.NOT_WARM.value: "the window's history has not been loaded yet",
    STORE_UNAVAILABLE: "the store did not answer",
    Gap.CAPPED.value: "the key has more events than a window counts",
    Gap.TOO_LATE.value: "the event is later than the store allows for",
    Gap.MIXED.value: "the sum is over money of several currencies",
}
"""Every gap, and what it means."""

Test: TypeAlias = Callable[[dict[str, Any], Sequence[Any], Env], Any]
"""A compiled expression: what `engine.expr.value_of` gives."""
Convert: TypeAlias = Callable[[Money, str, int], Money | None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger keeps of an event that windows can see, and can be rebuilt from.

    `values` are its public values; `keys` maps the path of an entity to its pseudonym. `arrival` is one of a strictly
    increasing sequence, and the same when the event comes back from the ledger.
    """

    kind: str
    tenant: str
    id: str
    at: int
    arrival: int
    values: dict[str, Any]
    keys: Mapping[str, str]


@dataclass(slots=True)
class Reading:
    """The value of each window by its index, why some are unknown, whether this call added the event, and the arrival
    that the event has in the store.

    A window that this kind of event does not read is None without a gap.
    """

    values: list[Any]
    gaps: tuple[tuple[int, str], ...]
    added: bool
    arrival: int


Compiler: TypeAlias = Callable[[Expression], Test]
"""Makes a test of an expression."""
