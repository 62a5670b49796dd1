"""Python's cycle collector, out of the way while something large is built that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No cycles are looked for until the block ends: nothing that it makes is garbage, and looking through a million
    new objects again and again takes a third of the time, or most of it.

    It holds for the whole process. Of blocks in several threads, the first that began ends it.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
