"""Python's cycle collector in a process that keeps millions of small objects alive (docs/decisions/0006)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 2_000
"""New objects before the young ones are collected: a pause of about half a millisecond."""


@contextmanager
def survivors_frozen() -> Iterator[None]:
    """Until the block ends, whatever survives a young collection is never looked at again.

    The windows hold some ten objects for each event, and a full collection visits them all: 270 ms after 9,000
    events, and ever more. They are freed by their reference counts; a request leaves no cycles behind (tests count
    them), so there is next to nothing that only a full collection could find.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 1_000_000, 1_000_000)
    gc.callbacks.append(_freeze)
    try:
        yield
    finally:
        gc.callbacks.remove(_freeze)
        gc.set_threshold(*before)
        gc.unfreeze()


def _freeze(phase: str, _info: dict[str, int]) -> None:
    if phase == "stop":
        gc.freeze()
