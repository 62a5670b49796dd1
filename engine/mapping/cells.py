"""From the text of a cell to the value of a field. What is wrong with a cell is said without repeating it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal
from ipaddress import IPv4Address
from typing import Any, TypeAlias

from engine.expr import zone as pinned_zone
from engine.money import CURRENCIES, Money

Cells: TypeAlias = Sequence[str | None]
Give: TypeAlias = Callable[[Cells, int], Any]
"""The value that a row gives to a field, from its cells and its number; None is missing."""
Parse: TypeAlias = Callable[[str], Any]

UNITS = {"seconds": 1_000_000, "minutes": 60_000_000, "hours": 3_600_000_000, "days": 86_400_000_000}
_YES = frozenset(("true", "t", "yes", "y", "1"))
_NO = frozenset(("false", "f", "no", "n", "0"))
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,2})?", re.ASCII)
_OFFSET = re.compile(r"([-+])([0-9]{2}):([0-5][0-9])", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadCell(Exception):
    """A cell that is not what the field needs."""

    def __init__(self, code: str, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.hint = code, what, hint


def words(cell: str) -> str:
    """Text, without blanks around it."""
    return cell.strip()


def number(cell: str) -> int | Decimal:
    """A number as people and programs write it, exactly; whole ones are int."""
    found = cell.strip()
    if not _NUMBER.fullmatch(found):
        raise BadCell("wrong_type", "a plain number is needed, such as 12.50")
    value = Decimal(found)
    return int(value) if value == value.to_integral_value() else value


def yes_or_no(cell: str) -> bool:
    """One of the words for yes and no."""
    word = cell.strip().lower()
    if word not in _YES and word not in _NO:
        raise BadCell("wrong_type", "a yes or no is needed: true, false, yes, no, 1 or 0")
    return word in _YES


def length(unit: int) -> Parse:
    """Durations given as a number of units of so many microseconds."""
    return lambda cell: int(number(cell) * unit)


def ipv4(cell: str) -> str:
    """An IPv4 address given as a number; databases write it so."""
    value = int(number(cell))
    if not 0 <= value < 2**32:
        raise BadCell("bad_format", "not the number of an IPv4 address")
    return str(IPv4Address(value))


# Times: UTC microseconds


def time_zone(name: str) -> tzinfo | None:
    """The zone of an IANA name (from the pinned tables) or an offset such as +08:00; None when there is none."""
    offset = _OFFSET.fullmatch(name)
    if offset and int(offset[2]) < 24:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return pinned_zone(name)
    except KeyError:
        return None


def readable(form: str) -> bool:
    """Whether `form` is one in which the day of a time can be read."""
    sample = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    try:
        return datetime.strptime(sample.strftime(form), form).date() == sample.date()  # noqa: DTZ007
    except (ValueError, re.error):
        return False


def iso(zone: tzinfo | None) -> Parse:
    """ISO 8601 times; those without a zone are in `zone`."""

    def parse(cell: str) -> int:
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            hint = "say how it is written: format: '%d/%m/%Y %H:%M'"
            raise BadCell("bad_instant", "no ISO 8601 time", hint) from None
        return _instant(moment, zone)

    return parse


def formed(form: str, zone: tzinfo | None) -> Parse:
    """Times in a form of strptime; those without a zone are in `zone`."""

    def parse(cell: str) -> int:
        try:
            moment = datetime.strptime(cell.strip(), form)  # noqa: DTZ007  the zone comes next
        except ValueError:
            raise BadCell("bad_instant", f"not a time of the form {form}") from None
        return _instant(moment, zone)

    return parse


def since_1970(unit: int) -> Parse:
    """Times as a number of units of so many microseconds since 1970, UTC."""
    return lambda cell: int(number(cell) * unit)


def _instant(moment: datetime, zone: tzinfo | None) -> int:
    if moment.tzinfo is None:
        if zone is None:
            raise BadCell("bad_instant", "the zone is missing", "say which one in the mapping: zone: Asia/Shanghai")
        moment = moment.replace(tzinfo=zone)
    return (moment - _EPOCH) // _MICROSECOND


# Amounts


def amount(index: int, currency: str | int) -> Give:
    """Amounts in the column `index`, exactly as they stand there; `currency` is a code or the index of its column."""

    def give(cells: Cells, _: int) -> Money | None:
        cell = cells[index]
        return _money(number(cell), _currency(currency, cells)) if cell else None

    return give


def priced(give: Give, currency: str | int) -> Give:
    """A computed number as an amount, half-even to the places of its currency."""

    def priced_give(cells: Cells, row: int) -> Money | None:
        value = give(cells, row)
        if value is None:
            return None
        code = _currency(currency, cells)
        return _money(Decimal(value).quantize(Decimal(1).scaleb(-CURRENCIES[code]), ROUND_HALF_EVEN), code)

    return priced_give


def _currency(currency: str | int, cells: Cells) -> str:
    if isinstance(currency, str):
        return currency
    code = cells[currency]
    if not code or code not in CURRENCIES:
        raise BadCell("bad_money", "the currency is missing or no ISO 4217 code")
    return code


def _money(value: int | Decimal, currency: str) -> Money:
    try:
        return Money.of(str(value), currency)
    except ValueError as error:
        raise BadCell("bad_money", str(error), "to have it rounded, give it as an expression") from None


# Giving


def nothing(_: Cells, __: int) -> None:
    """Never a value."""


def constant(value: Any) -> Give:
    """Always this value."""
    return lambda _, __: value


def numbered(prefix: str) -> Give:
    """The number of the row after a prefix."""
    return lambda _, row: f"{prefix}{row}"


def listed(give: Give) -> Give:
    """The value as a list of one."""

    def give_list(cells: Cells, row: int) -> list[Any] | None:
        value = give(cells, row)
        return None if value is None else [value]

    return give_list


def cell_at(index: int, parse: Parse, many: bool, split: str | None) -> Give:
    """What `parse` makes of the cell in column `index`; for a list, of each part of it."""

    def one(cells: Cells, _: int) -> Any:
        cell = cells[index]
        return parse(cell) if cell else None

    def parts(cells: Cells, _: int) -> list[Any] | None:
        cell = cells[index]
        return [parse(part) for part in cell.split(split) if part.strip()] if cell else None

    return parts if split else listed(one) if many else one


PARSERS: Mapping[str, Parse] = {
    "text": words,
    "duration": words,  # the schema reads '90s'
    "number": number,
    "money": number,
    "bool": yes_or_no,
}
