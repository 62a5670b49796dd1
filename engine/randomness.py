"""Random bytes from the operating system, fetched in blocks.

`os.urandom` gives up the interpreter's lock for each call. On the hot path, beside a busy writer thread, getting the
lock back costs more than everything else the call does.
"""

from __future__ import annotations

import os
from threading import Lock

BLOCK = 4096
"""Bytes that are fetched at once."""


class _Pool:
    """Bytes that nobody has had yet. A byte is given out once, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._block = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        with self._lock:
            end = self._at + count
            if end > len(self._block):
                self._block, self._at, end = os.urandom(max(BLOCK, count)), 0, count
            taken = self._block[self._at : end]
            self._at = end
        return taken


_pool = _Pool()


def random_bytes(count: int) -> bytes:
    """`count` bytes fit for keys, nonces and salts."""
    return _pool.take(count)


def _begin_again() -> None:
    # A forked child would give out the same bytes as its parent.
    global _pool  # noqa: PLW0603  # one pool per process is the point
    _pool = _Pool()


os.register_at_fork(after_in_child=_begin_again)
