"""Conditions over columns against the slow walker: equal values, or a refusal with its reason."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from itertools import product
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.columns import (
    Amount,
    Cell,
    DuckDB,
    Exchange,
    Gathering,
    Number,
    Refused,
    Sight,
    Warehouse,
    lower,
    lower_node,
    reader,
)
from engine.columns.cells import is_null
from engine.columns.meanings import MEANINGS
from engine.expr import BOOL, TEXT, Env, Node, Type, Vocabulary, interpret, read
from engine.expr.check import expression
from engine.expr.functions import ROWS, Pattern, Row
from engine.expr.nodes import Field, Literal, call
from engine.money import Money, Rates
from engine.schema.values import EARLIEST, LATEST
from tests.conftest import Opening
from tests.seeds import seeded
from tests.test_expr_matcher import FIELDS, TYPES, conditions_of, event_of

DAY = 86_400_000_000
BERLIN_SPRING = 1_774_746_000_000_000
"""2026-03-29T01:00:00Z, when summer time begins."""

NUMBERS: list[Any] = [
    *(None, 0, 1, -1, 2, 3, 7, -7, 100, 999_999_999_999_999, -999_999_999_999_999, 10**18 - 1, 1 - 10**18, 3 * 10**9),
    *map(Decimal, ("0.5", "-0.5", "1.5", "2.5", "-2.5", "0.000001", "-0.000001", "0.333333", "999999999.999999")),
    *map(Decimal, ("0.50", "1E+3", "123456789.123456", "-0.0")),
]
TEXTS: list[Any] = [
    *(None, "", "a", "A", "ab", "aB", "É", "é", "ß", "ẞ", "İ", "ı", "Σ", "ς", "\u212a", "卡", "\U00010400", "e\u0301"),
    *(
        "a\nb",
        "a\x00b",
        "ﬁ",
        "Ω",
        "\u2126",
        "\u200d",
        "🤦🏼\u200d♂️",
        "a%b_c",
        "it's",
        '"',
        "\\",
        " a ",
        "ǅ",
        "Ჽ",
        "\ufeff",
    ),
]
WHOLES: list[Any] = [None, 0, 1, 2, -1, 7]
VALUES: Mapping[str, list[Any]] = {
    "number": NUMBERS,
    "text": TEXTS,
    "bool": [None, True, False],
    "instant": [
        *(None, 0, 1, -1, -DAY, BERLIN_SPRING, BERLIN_SPRING - 1, BERLIN_SPRING + 7 * 217 * DAY // 7),
        *(-62_135_510_400_000_000, 253_402_214_399_999_999, -3_000_000_000_000_000, 2_145_916_800_000_000),
        *(2_150_000_000_000_000 + month * 30 * DAY for month in range(30)),
        *(EARLIEST + month * 29 * DAY for month in range(0, 1_250, 7)),
        *(EARLIEST, LATEST, 4_099_000_000_000_000),
    ],
    "duration": [None, 0, 1, -1, 999_999, 500_000, DAY, -DAY, 3_155_760_000_000_000, 10**18 - 1],
    "money": [
        None,
        *(Money(minor, "CNY") for minor in (0, 1, -1, 50, 150, 250, 10**17, 10**18 - 1)),
        *(Money(minor, "USD") for minor in (0, 1, 3)),
        *(Money(minor, "JPY") for minor in (1, 50)),
    ],
    "list[text]": [None, [], [None], ["a"], ["a", None], ["A", "b"], ["", "é"], ["a", "a"]],
    "list[number]": [None, [], [None], [1], [1, None], [2, 7, -1], [0], [10**18 - 1, 1], [10**18 - 1, 1, -5], [5, 5]],
    "list[instant]": [None, [], [None], [1], [1, None], [2, 0]],
    "list[duration]": [None, [], [None], [1], [1, None], [2, 0]],
    "list[bool]": [None, [], [None], [True, False]],
    "list[money]": [None, [], [Money(1, "CNY")], [Money(1, "CNY"), None], [Money(1, "USD"), Money(2, "CNY")]],
}
"""What hurts: nothing, zeros, the largest, halves, ties, and letters whose cases differ between versions of Unicode."""

SAID: Mapping[str, list[Any]] = {
    "zone": ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"],
    "places": [0, 2, 6],
    "pattern": ["a", "^a", "a.b", "^$", "(?i)a", r"\w", "[^a]", "卡", "(?i)k", r"\s", "a|é"],
    "name": ["vip"],
    "currency": ["CNY"],
}


class Columns:
    """Some events as a table, and what expressions over it give."""

    def __init__(
        self,
        warehouse: Warehouse,
        types: Mapping[str, str],
        events: Sequence[Mapping[str, Any]],
        now: Sequence[int] = (),
    ) -> None:
        self.warehouse = warehouse
        kinds = {path: Type(name) for path, name in types.items()}
        gathering = Gathering(self.warehouse, "facts", kinds, {"seq": pa.int64(), "now": pa.int64()})
        values = reader(kinds)
        for seq, event in enumerate(events):
            gathering.add(values(event), (seq, now[seq] if now else 0))
        self.columns = gathering.done()
        self.table = self.warehouse.table("facts")

    def sight(self, rates: Rates | None = None) -> Sight:
        cells = {path: column.cell(self.table) for path, column in self.columns.items()}
        codes = sorted({code for column in self.columns.values() for code in column.codes})
        refused = {path: column.refused for path, column in self.columns.items() if column.refused}
        exchange = Exchange(rates, 0, 10 * DAY, codes) if rates else None
        return Sight(cells, self.table.now, exchange=exchange, refused=refused, lacks=self.warehouse.lacks)

    def values(self, cells: Sequence[Cell]) -> list[list[Any]]:
        """For each cell its value in each row, as the engine would hold it."""
        parts = {"seq": self.table.seq}
        for number, cell in enumerate(cells):
            parts |= _parts(f"x{number}", cell)
        rows = self.warehouse.arrow(self.table.select(**parts)).sort_by("seq").to_pydict()
        return [_whole(f"x{number}", cell, rows) for number, cell in enumerate(cells)]


def _parts(name: str, cell: Cell) -> dict[str, Any]:
    if isinstance(cell, Amount):
        code = ibis.literal(cell.currency) if cell.single else cell.currency
        return {name: cell.minor.raw, f"{name}_code": code}
    return {name: cell.raw if isinstance(cell, Number) else ibis.literal(cell) if isinstance(cell, bool) else cell}


def _whole(name: str, cell: Cell, rows: Mapping[str, list[Any]]) -> list[Any]:
    if isinstance(cell, Amount):
        minors = [_number(value, cell.minor.wide) for value in rows[name]]
        return [
            None if minor is None else Money(minor, code)
            for minor, code in zip(minors, rows[f"{name}_code"], strict=True)
        ]
    if isinstance(cell, Number):
        return [_number(value, cell.wide) for value in rows[name]]
    return [int(value) if isinstance(value, Decimal) else value for value in rows[name]]


def _number(value: Any, wide: bool) -> Any:
    return None if value is None else Decimal(int(value)) / 1_000_000 if wide else int(value)


def same(one: Any, other: Any) -> bool:
    """Equal, and no yes where the other has a one."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


# ---------------------------------------------------------------- every row

REFUSED = {
    ("in", ("money", "list[money]")),
    ("in list", ("text", "name")),
    ("overlaps list", ("list[text]", "name")),
    ("phrases", ("text", "name")),
    ("plain", ("text",)),
    ("sum", ("list[money]",)),
    ("min", ("list[money]",)),
    ("max", ("list[money]",)),
}
"""Rows that columns of lists of amounts, kept lists or texts as they are read cannot express; a written list of
amounts they can."""


def _signatures() -> list[Any]:
    found = []
    for row in ROWS:
        kinds = row.among if any("T" in each for each in row.args) else ("",)
        for kind in kinds:
            takes = tuple(each.replace("T", kind) if "T" in each else each for each in row.args)
            found.append(pytest.param(row, takes, id=f"{row.name}({', '.join(takes)})"))
    return found


def _nodes(takes: Sequence[str]) -> list[list[Node]]:
    """Every choice of arguments: fields a and b, or what can only be written."""
    choices: list[list[Node]] = []
    for name, takes_one in zip("ab", takes, strict=False):
        if takes_one in SAID:
            made = [Pattern(value) if takes_one == "pattern" else value for value in SAID[takes_one]]
            choices.append([Literal(TEXT, str(value), value=value) for value in made])
        else:
            choices.append([Field(Type(takes_one), name, path=name)])
    return [list(each) for each in product(*choices)]


@pytest.mark.parametrize(("row", "takes"), _signatures())
def test_every_operator_and_function_means_the_same_over_columns(
    opening: Opening, row: Row, takes: tuple[str, ...]
) -> None:
    columns = [each for each in takes if each not in SAID]
    # Of instants, which are many, some are enough beside each other.
    rows = list(product(*(VALUES[each][:: 9 if columns.count("instant") > 1 else 1] for each in columns)))
    if row.name in ("hour", "weekday"):  # Those of events lie in this century.
        rows = [values for values in rows if values[0] is None or EARLIEST <= values[0] <= LATEST]
    events = [{name: value for name, value in zip("ab", values, strict=False) if value is not None} for values in rows]
    result = row.result_for([Type(each) for each in takes])
    trees = [call(row, tuple(args), result or BOOL) for args in _nodes(takes)]
    rates = Rates("CNY", {"USD": [(date(1970, 1, 1), Decimal("7.123456789")), (date(1970, 1, 3), Decimal("7.5"))]})
    env = Env(0, 0, {}, lambda money, currency, at: rates.convert(money, currency, date(1970, 1, 1)))
    with opening() as here:
        table = Columns(here, dict(zip("ab", columns, strict=False)), events)
        refused = _refused(here, row, takes)
        if refused:
            for tree in trees:
                with pytest.raises(Refused, match=refused):
                    lower_node(tree, table.sight(rates))
            return
        found = table.values([lower_node(tree, table.sight(rates)) for tree in trees])
    for tree, values in zip(trees, found, strict=True):
        wanted = [interpret(expression(tree), event, {}, env) for event in events]
        wrong = [
            (event, want, got) for event, want, got in zip(events, wanted, values, strict=True) if not same(want, got)
        ]
        assert not wrong, (tree.text, wrong[:5])


def _refused(here: Warehouse, row: Row, takes: Sequence[str]) -> str:
    """The reason, as a pattern, for which a row is no column; empty where it is one."""
    if (row.name, row.args) in here.lacks:
        return here.lacks[row.name, row.args]
    if (row.name, row.args) in REFUSED or "list[money]" in takes:
        return "a list of amounts|a kept list|a text as it is read"
    return ""


def test_any_text_may_stand_in_a_condition(opening: Opening) -> None:
    events = [{} if text is None else {"a": text} for text in TEXTS]
    row = next(row for row in ROWS if (row.name, row.args) == ("==", ("T", "T")))
    written = [text for text in TEXTS if text is not None]
    trees = [call(row, (Field(TEXT, "a", path="a"), Literal(TEXT, repr(text), value=text)), BOOL) for text in written]
    with opening() as here:
        table = Columns(here, {"a": "text"}, events)
        found = table.values([lower_node(tree, table.sight()) for tree in trees])
    assert found == [[None if text is None else text == each for text in TEXTS] for each in written]


def test_there_is_a_meaning_for_every_row_and_for_nothing_else() -> None:
    assert set(MEANINGS) == {(row.name, row.args) for row in ROWS}


# ---------------------------------------------------------------- conditions at random


def nasty(rng: random.Random) -> dict[str, Any]:
    """An event of the matcher's tests, now and then with what hurts, and without parts of a minor unit."""
    event = event_of(rng)
    for path, name in TYPES.items():
        *parents, last = path.split(".")
        if rng.random() < 0.2 and parents != ["items"] and not name.startswith("list"):
            place = event
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = rng.choice([value for value in VALUES[name] if value is not None])
        place = event
        for parent in parents:
            place = place.get(parent) or {} if isinstance(place, dict) else {}
        if isinstance(place, dict) and isinstance(place.get(last), Money):
            place[last] = Money(int(place[last].minor), place[last].currency)
    return event


def agree(opening: Opening, rng: random.Random, conditions: int, events: int, depth: int) -> tuple[int, int]:
    """(compared, refused): random conditions over random events, their opposites, and whether these are unknown."""
    made = [nasty(rng) for _ in range(events)]
    now = [rng.choice([0, DAY, 3 * DAY]) for _ in made]
    rates = Rates("CNY", {"USD": [(date(1970, 1, 1), Decimal(7)), (date(1970, 1, 2), Decimal("7.25"))]})
    kept, cells = [], []
    with opening() as here:
        table = Columns(here, TYPES, made, now)
        sight = table.sight(rates)
        for condition in conditions_of(rng, conditions, depth):
            try:
                cells.append(lower(condition, sight))
            except Refused:
                continue
            kept.append(condition)
        opposites = [~cell for cell in cells]
        found = table.values([*cells, *opposites, *map(is_null, opposites)])

    def convert(money: Money, currency: str, at: int) -> Money | None:
        return rates.convert(money, currency, date(1970, 1, 1 + at // DAY))

    size = len(kept)
    for condition, *columns in zip(kept, found[:size], found[size : 2 * size], found[2 * size :], strict=True):
        for event, at, *got in zip(made, now, *columns, strict=True):
            want = interpret(condition, event, {}, Env(0, at, {}, convert))
            opposite = None if want is None else not want
            assert all(map(same, (want, opposite, want is None), got)), (condition.text, event, want, got)
    return len(kept), conditions - len(kept)


@seeded(40, always=6, test=14)
def test_random_conditions_mean_the_same_over_columns(opening: Opening, seed: int) -> None:
    compared, _ = agree(opening, random.Random(seed), 25, 60, 2)
    assert compared


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), depth=st.integers(0, 3))
def test_whatever_condition_hypothesis_finds_means_the_same_over_columns(
    opening: Opening, seed: int, depth: int
) -> None:
    agree(opening, random.Random(seed), 6, 12, depth)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("n > 1", [Decimal("0.0000001")], "numbers with more than six decimal places"),
        ('word == "a"', ["\ud800"], "text that is no Unicode"),
        (r'word matches "\pL"', ["a"], "a pattern with classes of Unicode"),
        ('word matches "(?i)é"', ["a"], "a pattern with flags and letters beyond ASCII"),
        ("word in list known", ["a"], "a look into a kept list"),
        ("hour(at + 1h) > 5", [0], "a calendar question about a computed instant"),
        ("(price / 3) in CNY > 1 CNY", [Money(1, "USD")], "an exchange of a computed amount"),
        ("price in USD > 1 USD", [Money(1, "CNY")], "an exchange into USD, which goes by way of CNY"),
        ("count(last 1d by word) > 1", ["a"], "a window that is no column"),
    ],
)
def test_what_columns_cannot_say_exactly_is_refused_with_its_reason(text: str, values: list[Any], reason: str) -> None:
    path = {"n": "n", "(": "price", "p": "price", "h": "at"}.get(text[0], "word")
    rates = Rates("CNY", {"USD": [(date(1970, 1, 1), Decimal(7))]})
    condition = read(text, Vocabulary(FIELDS, {"payment": FIELDS}, ("payment",), lists={"known": "exact"}, zone="UTC"))
    with closing(DuckDB()) as here:
        table = Columns(here, {path: TYPES[path]}, [{path: value} for value in values])
        with pytest.raises(Refused, match=reason):
            lower(condition, table.sight(rates))
