"""Running state that a policy looks at: how often each rule declines, and how many reviews are under way.

Both take `now` in microseconds from the caller, answer the same for the same calls, and hold a bounded amount of
memory. When a clock jumps back, time stands still until it has caught up; after a jump of more than the period they
start afresh. Their snapshots go into the situation and the record.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from operator import itemgetter
from threading import Lock
from typing import Any

from engine.policy.pack import BreakerClause, Rate

SLOTS = 60
"""A breaker's period slides in this many steps, so it counts between 59/60 and all of the period."""


class Breaker:
    """Rules that decline too large a share of all events within a sliding period.

    The share of a rule: events it is blamed for (`Policy.blamed`) ÷ all events of the policy, within `over`. It trips
    at `share_of_declines` and above, once the period holds `at_least_events`, and closes when the share has fallen.
    """

    def __init__(self, clause: BreakerClause) -> None:
        self.clause = clause
        self._share: Decimal = clause.share_of_declines
        self._enough = clause.at_least_events
        self._width = max(1, clause.over // SLOTS)
        self._slots: deque[tuple[int, Counter[str]]] = deque()
        self._events: Counter[int] = Counter()
        self._blamed: Counter[str] = Counter()
        self._total = 0
        self._slot = -1
        self._lock = Lock()

    def record(self, blamed: Collection[str], now: int) -> None:
        """One event that was judged; `blamed` are the rules to hold its decline against, often none."""
        with self._lock:
            self._slide(now)
            self._total += 1
            self._events[self._slot] += 1
            if blamed:
                if not self._slots or self._slots[-1][0] != self._slot:
                    self._slots.append((self._slot, Counter()))
                self._slots[-1][1].update(blamed)
                self._blamed.update(blamed)

    def recall(self, past: Iterable[tuple[int, Collection[str]]], now: int) -> None:
        """Events from before a restart, each with its time and the rules it was held against, in any order."""
        with self._lock:
            self._slide(now)
            slots = dict(self._slots)
            for at, blamed in past:
                slot = at // self._width
                if self._slot - SLOTS < slot <= self._slot:
                    self._total += 1
                    self._events[slot] += 1
                    if blamed:
                        slots.setdefault(slot, Counter()).update(blamed)
                        self._blamed.update(blamed)
            self._slots = deque(sorted(slots.items(), key=itemgetter(0)))

    def tripped(self, now: int) -> frozenset[str]:
        """The rules that are held back at `now`."""
        with self._lock:
            self._slide(now)
            if self._total < self._enough or not self._blamed:
                return frozenset()
            bar = self._share * self._total
            return frozenset(rule for rule, declines in self._blamed.items() if declines >= bar)

    def snapshot(self, now: int) -> Mapping[str, Any]:
        """Events in the period, and per rule the declines it is blamed for."""
        with self._lock:
            self._slide(now)
            return {"events": self._total, "declines": dict(sorted(self._blamed.items()))}

    def _slide(self, now: int) -> None:
        slot = now // self._width
        if slot < self._slot - SLOTS:
            self._forget()
        elif slot <= self._slot:
            return
        self._slot = slot
        oldest = slot - SLOTS
        for gone in [at for at in self._events if at <= oldest]:
            self._total -= self._events.pop(gone)
        while self._slots and self._slots[0][0] <= oldest:
            self._blamed -= self._slots.popleft()[1]  # drops rules that fall to 0

    def _forget(self) -> None:
        self._slots.clear()
        self._events.clear()
        self._blamed.clear()
        self._total = 0


class Capacity:
    """How many reviews a queue takes in a sliding period: exactly, at the price of one number a review."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._limit, self._period = rate
        self._taken: deque[int] = deque()
        self._now = 0
        self._lock = Lock()

    def open(self, now: int) -> bool:
        """Whether the queue takes one more at `now`."""
        with self._lock:
            return self._used(now) < self._limit

    def take(self, now: int) -> bool:
        """Count one review; False, and not counted, when the queue was full already."""
        with self._lock:
            if self._used(now) >= self._limit:
                return False
            self._taken.append(self._now)
            return True

    def give_back(self, at: int) -> None:
        """Undo a `take` at `at` whose verdict was not recorded."""
        with self._lock:
            # As time stands still for a clock that jumped back, it may have been counted for later.
            place = bisect_left(self._taken, at)
            if place < len(self._taken):
                del self._taken[place]

    def recall(self, past: Iterable[int], now: int) -> None:
        """Reviews from before a restart, by their times, in any order. More than the limit may have been taken."""
        with self._lock:
            self._used(now)
            self._taken = deque(sorted([*past, *self._taken]))

    def snapshot(self, now: int) -> Mapping[str, int]:
        """Reviews taken within the period, and the limit."""
        with self._lock:
            return {"taken": self._used(now), "limit": self._limit}

    def _used(self, now: int) -> int:
        if now < self._now - self._period:
            self._taken.clear()
            self._now = now
        self._now = max(self._now, now)
        while self._taken and self._taken[0] <= self._now - self._period:
            self._taken.popleft()
        return len(self._taken)
