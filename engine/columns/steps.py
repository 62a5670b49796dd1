"""What changes at known moments, such as a rate or the offset of a zone, as a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis

from engine.columns.macros import WHOLE


def step(at: Any, steps: Sequence[tuple[int, int]]) -> Any:
    """The integer that holds at an instant, of (from when on, integer) in their order; before the first one, that.

    A row makes as many comparisons as the number of steps has binary digits.
    """
    if len(steps) == 1:
        return ibis.literal(steps[0][1], type=WHOLE)
    middle = len(steps) // 2
    return ibis.ifelse(at < steps[middle][0], step(at, steps[:middle]), step(at, steps[middle:]))
