"""Counting events until there are too many in too short a time.

wire = Tripwire(at_least=30, within=10 * MINUTE)
wire.add(received_at, arrival)                  # in any order, and the same one as often as somebody tells it
wire.tripped(since)                             # whether 30 of them lie within 10 minutes, all later than `since`
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tripwire:
    """Remembers the newest `at_least` events, `within` µs: older ones can trip nothing any more."""

    at_least: int
    within: int
    _seen: list[tuple[int, int]] = field(default_factory=list)

    def add(self, received_at: int, arrival: int) -> None:
        """Count one event, known by its arrival."""
        event = (received_at, arrival)
        place = bisect_left(self._seen, event)
        if place < len(self._seen) and self._seen[place] == event:
            return
        self._seen.insert(place, event)
        if len(self._seen) > self.at_least:
            del self._seen[0]

    def tripped(self, since: int = -1) -> bool:
        """Whether so many events lie so close together, the first of them later than `since` (UTC µs)."""
        seen = self._seen
        if len(seen) < self.at_least:
            return False
        first, last = seen[0][0], seen[-1][0]
        return first > since and last - first < self.within

    def count(self, now: int) -> int:
        """How many lie within the time before `now`."""
        return len(self._seen) - bisect_right(self._seen, (now - self.within, -1))
