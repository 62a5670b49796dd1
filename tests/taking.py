"""A snapshot of a store that is taken while events come, for tests that hold windows against an oracle."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from engine.features import Facts, Features
from engine.stores import MemoryStore, Store
from engine.stores.snapshot import Snapshot, encode, write


class Known(Protocol):
    """An oracle: all events there are, and the newest time of each tenant."""

    events: dict[tuple[str, str], Facts]
    clock: dict[str, int]

    def arrivals(self) -> list[int]: ...
    def restart(self) -> None: ...


class Taking:
    """A snapshot that is being written while events come: what `engine.snapshots` does, with the oracle as the ledger.

    What was added before it began and is forgotten meanwhile, or later, is what nobody could say when it began.
    """

    encode = staticmethod(encode)

    def __init__(self, store: MemoryStore, oracle: Known) -> None:
        self.oracle, self.series = oracle, {one.name: one for one in store.held}
        self.before = set(oracle.arrivals())
        self.cut = max(self.before, default=-1)
        self.pieces = store.pieces(self.series)
        self.taken: list[Any] = []
        self.clock: dict[str, int] = {}

    def go_on(self, count: int | None = None) -> None:
        for piece in islice(self.pieces, count):
            self.clock = dict(self.oracle.clock)
            self.taken.append(piece)

    def put_into(self, store: Store, made: Features, oracle: Known) -> None:
        assert isinstance(store, MemoryStore)
        self.go_on()
        doubtful = frozenset(self.before - set(oracle.arrivals()))
        with TemporaryDirectory() as folder:
            path = Path(folder, "windows")
            write(path, {}, (self.encode(piece, self.series, self.cut, doubtful) for piece in self.taken))
            with Snapshot.open(path) as snapshot:
                store.adopt(snapshot.pieces(), made.cold)
        made.restore([one for one in oracle.events.values() if one.arrival > self.cut], only=made.cold)
        oracle.restart()
        for tenant, clock in self.clock.items():
            oracle.clock[tenant] = max(clock, oracle.clock.get(tenant, clock))
