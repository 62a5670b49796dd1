"""Patterns over the events of one stretch, which are gone through one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from engine.stores.contract import LOOK, Gap


def follows(what: str, times: Sequence[int], steps: Sequence[int | None], at: int) -> bool | Gap:
    """Whether the events follow the pattern asked for, as of the time `at`.

    They stand in their order: the time of each, and as bits which steps it is (None: none of them).
    """
    if len(times) > LOOK:
        return Gap.CAPPED
    kind, number = _asked(what)
    return _sequence(number, steps) if kind == "sequence" else _absence(number, times, steps, at)


def is_pattern(what: str) -> bool:
    """Whether a question is about a pattern."""
    return what.startswith(("sequence ", "absence "))


@lru_cache(maxsize=1024)
def _asked(what: str) -> tuple[str, int]:
    kind, _, number = what.partition(" ")
    return kind, int(number)


def _sequence(count: int, steps: Sequence[int | None]) -> bool:
    # The earliest event that can be a step always leaves most room for the next.
    step = 0
    for bits in steps:
        if bits and bits >> step & 1:
            step += 1
            if step == count:
                return True
    return False


def _absence(gap: int, times: Sequence[int], steps: Sequence[int | None], at: int) -> bool:
    after: int | None = None
    """When step 1 happened next, looking back from the end."""
    for time, bits in zip(reversed(times), reversed(steps), strict=True):
        if not bits:
            continue
        if bits & 1 and at - time >= gap and (after is None or after - time > gap):
            return True
        if bits & 2:
            after = time
    return False
