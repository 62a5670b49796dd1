"""Anonymised tables: values made coarser, rows left out, and what is left checked for k-anonymity and l-diversity.

    rows = [Row(("2026-W47", "100-200 CNY"), ("approve",), "person 1"), ...]
    kept = suppress(rows, 10, 2)
    anonymity(kept), diversity(kept)        # at least 10 and 2, or nothing is left

k counts persons, not rows (Sweeney, "k-anonymity", 2002): ten orders of one buyer hide nobody. l counts the different
values of each sensitive column in a class (Machanavajjhala et al., "l-diversity", 2007, distinct l-diversity).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from engine.money import Money
from engine.packs.moments import BEIJING

UNKNOWN = ""
"""How a value that is not there is written."""


class Row(NamedTuple):
    """One row: what is known from elsewhere (quasi-identifiers, made coarser), what must not be told of a person, and
    whose row it is. The person is counted, and never written."""

    quasi: tuple[str, ...]
    sensitive: tuple[str, ...]
    person: Hashable


def anonymity(rows: Iterable[Row]) -> int:
    """The fewest different persons in a class of rows with the same quasi-identifiers; 0 without rows."""
    persons: dict[tuple[str, ...], set[Hashable]] = defaultdict(set)
    for row in rows:
        persons[row.quasi].add(row.person)
    return min(map(len, persons.values()), default=0)


def diversity(rows: Iterable[Row]) -> int:
    """The fewest different values of any one sensitive column in a class; 0 without rows or without such a column."""
    values: dict[tuple[tuple[str, ...], int], set[str]] = defaultdict(set)
    for row in rows:
        for column, value in enumerate(row.sensitive):
            values[row.quasi, column].add(value)
    return min(map(len, values.values()), default=0)


def suppress(rows: Sequence[Row], k: int, diverse: int) -> list[Row]:
    """The rows of the classes that have at least `k` persons and `diverse` values of each sensitive column.

    These are the most rows that can stay: a class stays or goes as a whole.
    """
    classes: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        classes[row.quasi].append(row)
    good = [group for group in classes.values() if anonymity(group) >= k and diversity(group) >= diverse]
    return [row for group in good for row in group]


def persons(keys: Iterable[Iterable[Hashable]]) -> list[int]:
    """A number for the person behind each row, from the identities of each.

    Rows that share one are one person's, and so are rows that are linked through others. All rows without any are taken
    for one person: so k is never too high.
    """
    leader: dict[Hashable, Hashable] = {}

    def find(key: Hashable) -> Hashable:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    firsts: list[Hashable] = []
    for identities in keys:
        known = list(identities) or [None]
        for key in known:
            leader.setdefault(key, key)
            leader[find(key)] = find(known[0])
        firsts.append(known[0])
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(find(first), len(numbers)) for first in firsts]


# -- Coarser values --------------------------------------------------------------------------------------------


def day(at: int) -> datetime:
    """The moment of UTC microseconds in Asia/Shanghai."""
    return datetime.fromtimestamp(at // 1_000_000, BEIJING)


def week(at: int) -> str:
    """'2026-W47' (ISO 8601)."""
    year, number, _ = day(at).isocalendar()
    return f"{year}-W{number:02}"


def month(at: int) -> str:
    """'2026-11'."""
    return f"{day(at):%Y-%m}"


def quarter(at: int) -> str:
    """'2026-Q4'."""
    found = day(at)
    return f"{found.year}-Q{(found.month + 2) // 3}"


def year(at: int) -> str:
    """'2026'."""
    return str(day(at).year)


def band(value: Any) -> str:
    """A number or an amount between two of 1, 2, 5, 10, 20 …: '200-500 CNY'. The lower end is in it."""
    return _between(value, (Decimal(1), Decimal(2), Decimal(5)))


def decade(value: Any) -> str:
    """A number or an amount between two powers of ten: '100-1000 CNY'."""
    return _between(value, (Decimal(1),))


def _between(value: Any, steps: tuple[Decimal, ...]) -> str:
    if isinstance(value, Money):
        amount, _, currency = str(value).partition(" ")
        return f"{_between(Decimal(amount), steps)} {currency}"
    number = Decimal(value)
    if number <= 0:
        return "0" if number == 0 else "below 0"
    ten = Decimal(10) ** number.adjusted()
    ends = [ten * step for step in steps] + [ten * 10]
    low = max(end for end in ends if end <= number)
    high = min(end for end in ends if end > number)
    return f"{low.normalize():f}-{high.normalize():f}"


def prefix(value: str) -> str:
    """The first part of a category with parts: 'electronics' of 'electronics/phones'."""
    for sign in "/>:.|":
        value = value.partition(sign)[0]
    return value.strip()


def region(country: str) -> str:
    """The continent of a country (UN M49); '?' for a code that is none."""
    return _CONTINENT.get(country, "?")


_CONTINENTS = {
    "Africa": "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW IO KE KM LR LS LY MA MG ML MR "
    "MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TF TG TN TZ UG YT ZA ZM ZW",
    "Americas": "AG AI AR AW BB BL BM BO BQ BR BS BV BZ CA CL CO CR CU CW DM DO EC FK GD GF GL GP GS GT GY HN HT JM "
    "KN KY LC MF MQ MS MX NI PA PE PM PR PY SR SV SX TC TT US UY VC VE VG VI",
    "Asia": "AE AF AM AZ BD BH BN BT CN CY GE HK ID IL IN IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY "
    "NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE",
    "Europe": "AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC "
    "MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA",
    "Oceania": "AS AU CC CK CX FJ FM GU HM KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
}
_CONTINENT: Mapping[str, str] = {code: name for name, codes in _CONTINENTS.items() for code in codes.split()}

Coarser = Callable[[Any], str]

LEVELS: Mapping[str, Mapping[str, Coarser]] = {
    "time": {"week": week, "month": month, "quarter": quarter, "year": year},
    "money": {"band": band, "decade": decade},
    "number": {"band": band, "decade": decade},
    "bool": {"exact": lambda value: "yes" if value else "no"},
    "country": {"exact": str, "region": region},
    "text": {"exact": str, "prefix": prefix},
}
"""Sort of column → its levels by name, the finest first."""
