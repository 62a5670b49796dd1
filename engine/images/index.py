"""The index of known images: which of them an image looks like.

It is a plain comparison with every hash of every known image, by counting the bits that differ. `bench.images` says how
long that takes; up to some hundred thousand images nothing cleverer is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from engine.images.hashing import HASH_BYTES, LIMIT
from engine.jcs import canonical

KINDS = ("counterfeit", "brand_mark", "banned")
"""What a known image shows: goods that were found to be counterfeit, the mark of a brand, goods nobody may sell."""

_WORDS = HASH_BYTES // 8
_BLOCK = 16_384
"""Hashes that are compared at a time, so that what is counted stays in the processor's cache: half the time."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A known image: of which kind, what it shows (`label`), its own SHA-256 and the hashes of all its views. It counts
    up to `until` (UTC µs) where it has an end."""

    id: str
    kind: str
    label: str
    sha256: str
    hashes: bytes
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A known image that another one looks like, and in how many of 256 bits the nearest view differs."""

    reference: Reference
    distance: int

    def json(self) -> dict[str, Any]:
        """As a record or an answer shows it."""
        of = self.reference
        return {"reference": of.id, "kind": of.kind, "label": of.label, "distance": self.distance}


class Index:
    """Known images of one tenant, ready to be asked. Never changed."""

    def __init__(self, references: Iterable[Reference] = ()) -> None:
        self.references = tuple(sorted(references, key=lambda each: each.id))
        hashes = b"".join(each.hashes for each in self.references)
        # A row for each eighth of a hash: the comparison then runs over memory in one go.
        self._words = np.ascontiguousarray(np.frombuffer(hashes, np.uint64).reshape(-1, _WORDS).T)
        views = [len(each.hashes) // HASH_BYTES for each in self.references]
        self._owner = np.repeat(np.arange(len(views), dtype=np.int32), views)

    @property
    def size(self) -> int:
        """How many hashes it compares with."""
        return len(self._owner)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all that decides what is found, hex."""
        rows = [[each.id, each.kind, each.label, each.sha256, each.until] for each in self.references]
        return sha256(canonical({"limit": LIMIT, "references": rows})).hexdigest()

    def matches(self, hashes: bytes, at: int, limit: int = LIMIT) -> tuple[Match, ...]:
        """The known images that count at `at` (UTC µs) and look like the image with these `hashes`, the nearest first.

        Of the image only the first hash is used, that of its whole.
        """
        if not hashes or not self.references:
            return ()
        near, distances = self._near(np.frombuffer(hashes[:HASH_BYTES], np.uint64), limit)
        nearest: dict[int, int] = {}
        for owner, distance in zip(self._owner[near].tolist(), distances.tolist(), strict=True):
            nearest[owner] = min(distance, nearest.get(owner, distance))
        found = (Match(self.references[owner], distance) for owner, distance in nearest.items())
        holding = (each for each in found if each.reference.until is None or at < each.reference.until)
        return tuple(sorted(holding, key=lambda each: (each.distance, each.reference.id)))

    def _near(self, asked: Any, limit: int) -> tuple[Any, Any]:
        """(the places of hashes that differ from `asked` in at most `limit` bits, in how many each does)."""
        places, distances = [], []
        for start in range(0, self.size, _BLOCK):
            block = self._words[:, start : start + _BLOCK]
            bits = np.zeros(block.shape[1], np.uint16)
            for row, word in zip(block, asked, strict=True):
                bits += np.bitwise_count(row ^ word)
            near = np.flatnonzero(bits <= limit)
            places.append(near + start)
            distances.append(bits[near])
        return np.concatenate(places), np.concatenate(distances)
