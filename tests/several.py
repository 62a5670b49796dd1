"""Several members of one shared store, as one store: each call goes to one of them by chance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from random import Random
from secrets import token_hex
from typing import Any

from engine.stores import Series, SplitStore, Stamp, Touch, ValkeyStore


class Several:
    """Members that hear of each other through a server. What one observes another one may forget or see again."""

    def __init__(self, url: str, members: int, lateness: int, cap: int, random: Random) -> None:
        space, self.names = token_hex(4), [f"w{number}" for number in range(members)]
        self._random = random
        self.members = [
            SplitStore(ValkeyStore(url, space, lateness, cap, member=name, living=lambda: self.names), cap)
            for name in self.names
        ]
        self.lateness = lateness

    def _one(self) -> SplitStore:
        if self._random.random() < 0.2:
            self._random.choice(self.members).hear()
        return self._random.choice(self.members)

    def declare(self, series: Iterable[Series]) -> None:
        wanted = list(series)
        for member in self.members:
            member.declare(wanted)

    def warm(self, name: str) -> bool:
        return all(member.warm(name) for member in self.members)

    def since(self, _: Collection[str]) -> None:
        return None

    def load(self, events: Iterable[Any], names: Collection[str], since: int | None = None) -> None:
        history = list(events)
        for member in self.members:
            member.load(history, names, since)

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> Any:
        return self._one().observe(stamp, touches)

    def keep(self, stamp: Stamp) -> None:
        self._one().keep(stamp)

    def add(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        self._one().add(stamp, touches)

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        self._one().forget(stamp, touches)
