"""What the process holds from which test servers are forked (`tests.daemon`): the shipped packs. A server loads them
again, and finds what was read of each file, and the lists, there."""

from __future__ import annotations

from tests.books import shipped

HELD = shipped()
