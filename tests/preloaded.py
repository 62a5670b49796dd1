"""What the process holds from which test servers are forked (`tests.daemon`): the shipped packs. A server of
them finds that they are as they were; one of other packs loads those."""

from __future__ import annotations

from tests.books import shipped

HELD = shipped()
