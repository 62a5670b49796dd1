"""Windows over columns against the windows of a server, on random histories in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from math import gcd
from typing import Any

import pyarrow as pa

from engine.columns import Exchange, Gathering, History, Sight, Timeline, Warehouse, counted, reader
from engine.expr import Type, Window
from engine.features import Facts, Features
from engine.money import Money, Rates
from engine.schema import schema
from engine.stores import MemoryStore
from tests.conftest import Opening
from tests.seeds import seeded
from tests.test_columns import _parts, _whole, same
from tests.test_features import CASES, DAY, NOON, RATES, Streams, parsed, window

TYPES = {
    path: Type(schema().fields("outcome")[path].type)
    for path in (
        *("amount", "channel", "merchant.id", "session.pages", "session.since_landing"),
        *("basket.lowest_price_ratio", "buyer.guest", "outcome.result"),
    )
}
KEYS = ("card.ref", "device.id")
RATE_TABLE = Rates("CNY", {code: [(date(2020, 1, 1), rate)] for code, rate in RATES.items()})


def in_time(facts: Sequence[Facts]) -> list[Facts]:
    """As a table gives them: in the order of time, each with an arrival of its own."""
    ordered = sorted(facts, key=lambda one: one.at)
    return [replace(one, tenant="shop", arrival=number, id=str(number)) for number, one in enumerate(ordered)]


def history(here: Warehouse, facts: Sequence[Facts]) -> History:
    """Facts as a table."""
    plain = {"seq": pa.int64(), "at": pa.int64(), "tie": pa.int64(), "kind": pa.string()}
    gathering = Gathering(here, "facts", TYPES, plain | {path: pa.string() for path in KEYS})
    read = reader(TYPES)
    tie = ties = unit = 0
    for number, one in enumerate(facts):
        tie = tie + 1 if number and facts[number - 1].at == one.at else 0
        ties, unit = max(ties, tie), gcd(unit, one.at - facts[0].at, 1_000_000)
        keys = [one.keys.get(path) for path in KEYS]
        gathering.add(read(one.values), (number, one.at, tie, one.kind, *keys))
    columns = gathering.done()
    timeline = Timeline(facts[0].at, facts[-1].at, unit or 1, ties + 1)
    bare = here.table("facts")
    table = here.keep("ordered", bare.mutate(moment=timeline.moment(bare["at"], bare["tie"])))
    cells = {path: column.cell(table) for path, column in columns.items()}
    refused = {path: column.refused for path, column in columns.items() if column.refused}
    exchange = Exchange(RATE_TABLE, facts[0].at, facts[-1].at, columns["amount"].codes)
    sight = Sight(cells, table["at"], exchange=exchange, refused=refused, lacks=here.lacks)
    kinds = frozenset(one.kind for one in facts)
    return History(table, timeline, sight, {path: table[path] for path in KEYS}, kinds)


def over_columns(
    here: Warehouse, facts: Sequence[Facts], windows: Sequence[Window]
) -> tuple[dict[Window, list[Any]], dict[Window, str]]:
    """The values of windows at each event, with Ellipsis where currencies are mixed; and why some are refused."""
    past = history(here, facts)
    found = counted(past, windows)
    table = here.keep("counted", past.table.mutate(**found.columns))
    parts: dict[str, Any] = {"seq": table.seq}
    cells = {each: column.cell(table) for each, column in found.cells.items()}
    for number, cell in enumerate(cells.values()):
        parts |= _parts(f"x{number}", cell)
    parts |= {name: table[name] for name in found.mixed.values()}
    rows = here.arrow(table.select(**parts)).sort_by("seq").to_pydict()
    values = {each: _whole(f"x{number}", cell, rows) for number, (each, cell) in enumerate(cells.items())}
    for each, name in found.mixed.items():
        values[each] = [... if mixed else value for value, mixed in zip(values[each], rows[name], strict=True)]
    return values, found.refused


def online(facts: Sequence[Facts], windows: Sequence[Window]) -> list[list[Any]]:
    """The same from the windows of a server; Ellipsis for mixed currencies."""
    made = Features(windows, MemoryStore(0), convert=lambda money, code, at: RATE_TABLE.convert(money, code, _day(at)))
    made.restore(())
    found = []
    for one in facts:
        reading = made.observe(one)
        values = list(reading.values)
        for index, cause in reading.gaps:
            if cause == "mixed_currencies":
                values[index] = ...
        found.append(values)
    return found


def _day(at: int) -> date:
    return date.fromordinal(719_163 + at // DAY)


def agree(opening: Opening, facts: Sequence[Facts], windows: Sequence[Window]) -> dict[Window, str]:
    with opening() as here:
        values, refused = over_columns(here, facts, windows)
    wanted = online(facts, windows)
    for index, each in enumerate(windows):
        if each in refused:
            assert refused[each]
            continue
        for number, (got, row) in enumerate(zip(values[each], wanted, strict=True)):
            assert same(row[index], got), (each.name, number, row[index], got)
    return refused


def stream(seed: int, size: int) -> list[Facts]:
    """A random history; of some seeds with numbers that columns can hold, and with times in whole minutes."""
    streams = Streams(seed)
    made: list[Facts] = []
    for number in range(size):
        one = streams.facts()
        streams.there[one.tenant, one.id] = one
        made.append(streams.outcome(one) if number % 5 == 4 else one)
    if seed % 2:
        made = [_plain(one) for one in made]
    if seed % 3 == 0:
        made = [replace(one, at=NOON + (one.at - NOON) // 60_000_000 * 60_000_000) for one in made]
    if seed % 4 == 1:
        made = [_in_yuan(one) for one in made]
    return in_time(made)


def _plain(one: Facts) -> Facts:
    ratio = one.values["basket"]["lowest_price_ratio"]
    return replace(one, values=one.values | {"basket": {"lowest_price_ratio": ratio and max(ratio, Decimal("0.5"))}})


def _in_yuan(one: Facts) -> Facts:
    amount = one.values["amount"]
    return replace(one, values=one.values | {"amount": amount and Money(amount.minor, "CNY")})


@seeded(40, always=4, test=12)
def test_windows_over_columns_are_those_of_a_server(opening: Opening, seed: int) -> None:
    agree(opening, stream(seed, 70), [parsed(case) for case in CASES])


def test_which_windows_are_refused_and_why(opening: Opening) -> None:
    refused = agree(opening, stream(1, 30), [parsed(case) for case in CASES])
    reasons = {each.function: reason for each, reason in refused.items()}
    assert set(reasons) == {"stddev", "median", "quantile", "percentile", "streak", "sequence", "absence"}
    assert reasons["sequence"] == "a pattern over several events"


def test_an_event_just_as_old_as_a_window_counts_in_whatever_place_of_its_instant(opening: Opening) -> None:
    minute = 60_000_000
    times = [0, 0, 0, 1, 10 * minute, 10 * minute, 10 * minute + 1, 10 * minute + 2]
    facts = [Facts("transaction", "shop", str(n), NOON + at, n, {}, {"card.ref": "c"}) for n, at in enumerate(times)]
    made = window("count(last 10m by card.ref)")
    with opening() as here:
        assert over_columns(here, facts, [made])[0][made] == [0, 1, 2, 3, 4, 5, 3, 3]
    agree(opening, facts, [made])


def test_a_window_of_which_a_key_is_too_full_is_refused(opening: Opening) -> None:
    made = window("count(last 10m by card.ref)")
    with opening() as here:
        found = counted(history(here, stream(1, 10)), [made], full=frozenset([made]))
    assert found.refused == {made: "a window of which one key has more than 1,000,000 events"}


def test_a_timeline_knows_when_its_moments_do_not_fit() -> None:
    assert Timeline(NOON, NOON + 365 * DAY, 1, 100).fits
    assert not Timeline(NOON, NOON + 365 * DAY, 1, 10**6).fits
    assert Timeline(NOON, NOON + 365 * DAY, 1_000_000, 10**6).fits
