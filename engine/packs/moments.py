"""Moments in packs, as UTC microseconds: an ISO 8601 instant with its zone, or a day in Asia/Shanghai.

expires: 2027-01-31                    holds to the end of that day, Beijing time
expires: 2027-01-31T12:00:00+08:00     holds up to, not including, that instant
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

# China has kept one zone without summer time since 1992; packs older than that do not exist.
BEIJING = timezone(timedelta(hours=8), "Asia/Shanghai")
DAY = 86_400_000_000
"""µs in a day."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITE = "write a day such as 2027-01-31, or an instant with its zone such as 2027-01-31T12:00:00+08:00"


def start_of(value: Any) -> int:
    """The first µs of a day, or the instant. Raises ValueError with how to write it."""
    return _moment(value, 0)


def end_of(value: Any) -> int:
    """The first µs after a day, or the instant. Raises ValueError with how to write it."""
    return _moment(value, DAY)


def day_of(microseconds: int) -> date:
    """The day in Asia/Shanghai."""
    return (_EPOCH + timedelta(microseconds=microseconds)).astimezone(BEIJING).date()


def written_end(end: int) -> str:
    """What `end_of` reads as `end`: a day where it is the end of one, else an instant."""
    day = day_of(end - 1).isoformat()
    if end_of(day) == end:
        return day
    return written(end)


def written(microseconds: int) -> str:
    """The instant in ISO 8601, in UTC: 2027-01-31T04:00:00Z."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")


def _moment(value: Any, later: int) -> int:
    if isinstance(value, str) and _DAY.fullmatch(value):
        day = _parsed(f"{value}T00:00:00+08:00")
        return (day - _EPOCH) // timedelta(microseconds=1) + later
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return (_parsed(value) - _EPOCH) // timedelta(microseconds=1)
    raise ValueError(_WRITE)


def _parsed(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"there is no such moment; {_WRITE}") from None


_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^(?:{_DAY.pattern}|{_INSTANT.pattern})$"})

Since = Annotated[int, BeforeValidator(start_of), _SCHEMA]
"""A field from which something holds: µs of the instant, or of the start of the day."""

Until = Annotated[int, BeforeValidator(end_of), _SCHEMA]
"""A field up to which something holds: µs of the instant, or of the end of the day."""
