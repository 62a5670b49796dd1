"""A history in two parts: the first to fit on, the later one to report on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Periods:
    """Which events (masks) are fitted on, and which are reported on.

    Times are UTC microseconds: the `first` and `last` event, where the first part ends (`until`), and up to which
    event outcomes were known by then (`mature`). Of the events between, `waiting`, nobody knew at `until` what they
    would turn out to be. Of the later ones `young` are closer to the end of the history than outcomes take.
    """

    fit: Any
    later: Any
    first: int
    mature: int
    until: int
    last: int
    waiting: int
    young: int


def periods(at: Any, until: int, delay: int) -> Periods:
    """The parts of events at these times, where the first one ends at `until`; outcomes are known `delay` after their
    event. Microseconds."""
    fit, later = at + delay <= until, at >= until
    first, last = int(at.min()), int(at.max())
    return Periods(
        fit=fit,
        later=later,
        first=first,
        mature=until - delay,
        until=until,
        last=last,
        waiting=int((~fit & ~later).sum()),
        young=int((later & (at + delay > last)).sum()),
    )
