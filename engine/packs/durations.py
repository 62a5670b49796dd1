"""Lengths of time as packs write them: `30s`, `15m`, `72h`, `7d`, `2w`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

MICROSECONDS = 1_000_000
LONGEST = 366 * 86_400 * MICROSECONDS
"""No duration in a pack is longer, in microseconds."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WRITTEN = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)


def duration(value: object) -> int:
    """Microseconds from text such as '15m'. ValueError says how to write it."""
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a duration such as 30s, 15m, 72h, 7d or 2w")
    length = int(match[1]) * _UNITS[match[2]] * MICROSECONDS
    if length > LONGEST:
        raise ValueError("no duration in a pack is longer than 366d")
    return length


Duration = Annotated[
    int, BeforeValidator(duration), WithJsonSchema({"type": "string", "pattern": f"^{_WRITTEN.pattern}$"})
]
"""Microseconds, written `15m`."""
