"""Leaf values: from what was sent to what the engine works with, exactly.

Every reader returns the runtime value or raises `Wrong`, whose words never repeat what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

from pydantic_core import PydanticCustomError

from engine.money import CURRENCIES, Money
from engine.schema.keys import IPV4, plain

Reader = Callable[[Any], Any]

DAY = 86_400_000_000
DIGITS = 15
"""Most significant digits of a number: as many as an IEEE double carries without loss, so no sender rounds unseen."""

EARLIEST = 946_684_800_000_000
LATEST = 4_102_444_800_000_000
"""Instants lie in 2000-01-01 .. 2100-01-01 UTC, in microseconds."""

LONGEST = 36_525 * DAY
"""No duration is longer than a hundred years."""

UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"([0-9]{1,15}) ?(ms|s|m|h|d|w)", re.ASCII)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def wrong(code: str, what: str, hint: str = "") -> PydanticCustomError:
    """The error a reader raises: a stable code, what is wrong, and how to mend it."""
    return PydanticCustomError(code, "{what}", {"what": what, "hint": hint})


_MONEY_HINT = 'write {"value": "4980.00", "currency": "CNY"} or "4980.00 CNY"'


_AMOUNT = re.compile(r"(-?[0-9]{1,14})(?:\.([0-9]{1,4}))?", re.ASCII)
_LONG_AMOUNT = re.compile(r"-?[0-9]{15,40}(?:\.[0-9]{1,4})?", re.ASCII)


def money(value: Any) -> Money:
    """Money from {"value", "currency"}, from '4980.00 CNY', or Money itself."""
    kind = type(value)
    if kind is dict:
        amount, currency = value.get("value"), value.get("currency")
        if len(value) != 2 or type(amount) is not str or type(currency) is not str:
            raise wrong("bad_money", "money has exactly 'value' and 'currency', both text", _MONEY_HINT)
    elif isinstance(value, str):
        amount, _, currency = value.partition(" ")
    elif kind is Money:
        return _checked(value)
    else:
        raise wrong("wrong_type", "money is written as text with a currency, not as a bare value", _MONEY_HINT)
    # Decimal also reads '1e3', '1_000', ' 1 ' and '１': one amount must have one plain spelling.
    found = _AMOUNT.fullmatch(amount)
    if not found:
        if _LONG_AMOUNT.fullmatch(amount):
            raise wrong("bad_money", "more than 14 digits before the point")
        raise wrong("bad_money", "not a plain decimal amount", _MONEY_HINT)
    whole, places = found.groups("")
    if len(places) == CURRENCIES.get(currency, -1):
        return Money(int(whole + places), currency)
    return _of(amount, currency)


def _of(amount: str, currency: str) -> Money:
    if not currency:
        raise wrong("bad_money", "the currency is missing", _MONEY_HINT)
    try:
        return Money.of(amount, currency)
    except ValueError as error:
        what = str(error)
    raise wrong("bad_money", what, _MONEY_HINT)


def _checked(value: Money) -> Money:
    if type(value.minor) is not int:
        raise wrong("bad_money", "an amount that is sent has no fraction of a minor unit")
    return value


def exact(value: Any) -> int | Decimal:
    """A number from an int, a Decimal or a JSON number; whole numbers become int. Never a float."""
    kind = type(value)
    if kind is int:
        found: int | Decimal = value
    elif isinstance(value, float):
        # The shortest text that reads back as this double is what was written, up to 15 digits.
        found = Decimal(float.__repr__(value))
    elif isinstance(value, Decimal):
        found = value
    else:
        raise wrong("wrong_type", "a number is needed", "write it without quotes" if isinstance(value, str) else "")
    return found if kind is int and -(10**DIGITS) < value < 10**DIGITS else _short(Decimal(found))


def _short(value: Decimal) -> int | Decimal:
    if not value.is_finite():
        raise wrong("wrong_type", "a number is needed, not an infinity or NaN")
    if not value:
        return 0
    plain = value.normalize()
    _, digits, exponent = plain.as_tuple()
    assert isinstance(exponent, int)
    if max(len(digits), len(digits) + exponent, -exponent) > DIGITS:
        raise wrong("too_precise", f"more than {DIGITS} digits", "send identifiers as text, amounts as money")
    return int(plain) if exponent >= 0 else plain


def instant(value: Any) -> int:
    """UTC microseconds since 1970 from ISO 8601 text with a zone, or from an aware datetime."""
    moment = value if isinstance(value, datetime) else _moment(value)
    if moment.tzinfo is None:
        raise wrong("bad_instant", "the zone is missing", "write 2026-11-20T08:30:00+08:00")
    return in_range((moment - _EPOCH) // _MICROSECOND)


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise wrong("wrong_type", "an instant is ISO 8601 text", "write 2026-11-20T08:30:00+08:00")
    if not _INSTANT.fullmatch(value):
        zone = "the zone is missing" if _INSTANT.fullmatch(value + "Z") else "not an ISO 8601 instant with a zone"
        raise wrong("bad_instant", zone, "write 2026-11-20T08:30:00+08:00")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise wrong("bad_instant", "there is no such date or time") from None


def in_range(moment: int) -> int:
    """`moment` if it lies between 2000 and 2100."""
    if not EARLIEST <= moment < LATEST:
        raise wrong("out_of_range", "an instant lies between the years 2000 and 2100")
    return moment


def duration(value: Any) -> int:
    """Microseconds from text such as '90s'."""
    if isinstance(value, timedelta):
        return short_enough(value // _MICROSECOND)
    if not isinstance(value, str):
        raise wrong("wrong_type", "a duration is text", 'write "90s", "10m" or "2d"')
    found = _DURATION.fullmatch(value)
    if not found:
        raise wrong("bad_duration", "not a whole number and one of ms, s, m, h, d, w", 'write "90s"')
    return short_enough(int(found[1]) * UNITS[found[2]])


def short_enough(length: int) -> int:
    """`length` if it is at least zero and below a hundred years."""
    if not 0 <= length < LONGEST:
        raise wrong("out_of_range", "a duration lies between 0 and 100 years")
    return length


def name(value: str) -> str:
    """A name that rules and lists compare, in the one spelling that lists compare by."""
    found = plain(value)
    if not found:
        raise wrong("bad_format", "nothing but blanks")
    return found


def address(value: str) -> str:
    """An IP address as sent, if it is one."""
    if IPV4.fullmatch(value):
        return value
    try:
        ip_address(value)
    except ValueError:
        raise wrong("bad_format", "not an IPv4 or IPv6 address") from None
    return value


def runtime(read: Reader, check: Reader) -> Reader:
    """`read`, which also takes the runtime int that the text stands for (for data from Python, never from JSON)."""

    def either(value: Any) -> Any:
        return check(value) if type(value) is int else read(value)

    return either


def bounded(read: Reader, low: int | None, high: int | None) -> Reader:
    """`read` with the bounds of a number or of money."""
    if low is None and high is None:
        return read

    def within(value: Any) -> Any:
        found = read(value)
        size = found.minor if type(found) is Money else found
        if low is not None and size < low:
            raise wrong("out_of_range", f"at least {low}" if low else "not below 0")
        if high is not None and size > high:
            raise wrong("out_of_range", f"at most {high}")
        return found

    return within


def whole(read: Reader) -> Reader:
    """`read`, whole numbers only."""

    def only(value: Any) -> Any:
        found = read(value)
        if type(found) is not int:
            raise wrong("wrong_type", "a whole number is needed")
        return found

    return only
