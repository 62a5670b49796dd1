"""A sample that nobody can choose: drawn from what was signed and a number that the auditor names afterwards.

    sample = Sample(checkpoint_root, nonce="4711", size=60)
    for each in decisions: sample.see(each.position, stratum_of(each))
    sample.drawn()                            {stratum: positions}, the same for whoever draws again

Each position gets a number, SHA-256 over root, nonce and position, and the lowest of each stratum are drawn. The root
was signed before the nonce was known, so the operator cannot arrange which entries come out. Nor can the auditor, where
the nonce was chosen before the root was: its hash stands in the log then, as an entry under that root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from heapq import heappush, heapreplace

Stratum = tuple[str, ...]

_HEAD = b"arbiter sample v1\n"


class Sample:
    """Draws `size` of what it sees; memory is that of `size` positions a stratum."""

    def __init__(self, root: bytes, nonce: str, size: int) -> None:
        self._seed = sha256(_HEAD + root + nonce.encode()).digest()
        self._size = size
        self.counts: dict[Stratum, int] = {}
        """How many there are of each stratum."""
        self._lowest: dict[Stratum, list[tuple[int, int]]] = {}
        """Of each stratum the lowest numbers, negated: the first is the one to give way. With the positions."""

    def see(self, position: int, stratum: Stratum) -> None:
        """One more that may be drawn."""
        self.counts[stratum] = self.counts.get(stratum, 0) + 1
        number = -int.from_bytes(sha256(self._seed + position.to_bytes(8)).digest())
        lowest = self._lowest.setdefault(stratum, [])
        if len(lowest) < self._size:
            heappush(lowest, (number, position))
        elif number > lowest[0][0]:
            heapreplace(lowest, (number, position))

    def drawn(self) -> Mapping[Stratum, Sequence[int]]:
        """The positions that come out, by stratum. Each stratum has one at least where there are as many places, and
        the rest goes by size (largest remainder); with more strata than places those come out whose lowest number is
        lowest."""
        ranked = {stratum: [p for _, p in sorted(held, reverse=True)] for stratum, held in self._lowest.items()}
        first = {stratum: max(held)[0] for stratum, held in self._lowest.items()}
        strata = sorted(ranked, key=lambda stratum: -first[stratum])[: self._size]
        shares = self._shares(strata)
        return {stratum: sorted(ranked[stratum][: shares[stratum]]) for stratum in sorted(strata)}

    def _shares(self, strata: Sequence[Stratum]) -> dict[Stratum, int]:
        shares = dict.fromkeys(strata, 1)
        left = min(self._size, sum(self.counts[stratum] for stratum in strata)) - len(strata)
        total = sum(self.counts[stratum] - 1 for stratum in strata)
        if left <= 0 or total == 0:
            return shares
        exact = {stratum: (self.counts[stratum] - 1) * left for stratum in strata}
        for stratum in strata:
            shares[stratum] += exact[stratum] // total
        remainders = sorted(strata, key=lambda stratum: (-(exact[stratum] % total), stratum))
        for stratum in remainders[: left - sum(exact[stratum] // total for stratum in strata)]:
            shares[stratum] += 1
        return shares
