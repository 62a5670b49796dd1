"""Mapping files: tables to events, and every mistake at its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EventRefused, PackError
from engine.mapping import Beside, Table, read_map
from engine.money import Money
from engine.schema import Event, OwnField, schema

ROOT = Path(__file__).parent.parent
NOON = 1_795_147_200_000_000
"""2026-11-20T04:00:00Z, noon in Shanghai, UTC microseconds."""

HEAD = """
map: test
kind: transaction
zone: Asia/Shanghai
columns:
  price: number
  quantity: number
  fraud: {column: Fraud?, type: bool}
"""
FIELDS = """fields:
  event_id: id
  at: time
  amount: {expression: price * quantity, currency: CNY}
"""
ROW = {"id": "e-1", "time": "2026-11-20 12:00", "price": "12.50", "quantity": "3", "Fraud?": "no"}


@pytest.fixture
def mapped(tmp_path: Path) -> Callable[..., Table]:
    """Reads a mapping from text."""

    def read(text: str, **own: OwnField) -> Table:
        file = tmp_path / "test.map.yaml"
        file.write_text(text, "utf-8")
        return read_map(file, schema({path.replace("__", "."): field for path, field in own.items()}))

    return read


def cells(table: Table, **row: str) -> list[str | None]:
    return [{**ROW, **row}.get(name) for name in table.columns]


def event_of(table: Table, **row: str) -> Event:
    return table.event(cells(table, **row), 7)


def value(event: Event, path: str) -> Any:
    found: Any = event.values
    for name in path.split("."):
        found = found.get(name)
    return found


def test_a_row_becomes_an_event(mapped: Callable[..., Table]) -> None:
    event = event_of(mapped(HEAD + FIELDS))
    assert (event.id, event.kind, event.at, event.received_at) == ("e-1", "transaction", NOON, NOON)
    assert event.values["amount"] == Money.of("37.50", "CNY")


def test_all_rows_of_a_table_without_times_may_happen_at_one(mapped: Callable[..., Table]) -> None:
    table = mapped(HEAD + FIELDS.replace("at: time", 'at: {value: "2026-11-20T12:00:00+08:00"}'))
    event = event_of(table)
    assert (table.times(cells(table), 7), event.at, event.received_at) == ((NOON, None), NOON, NOON)


@pytest.mark.parametrize(
    ("spec", "cell", "path", "gives"),
    [
        ("buyer.account: x", " u-1 ", "buyer.account", "u-1"),
        ("buyer.orders: x", "12", "buyer.orders", 12),
        ("buyer.orders: x", "12.0", "buyer.orders", 12),
        ("buyer.guest: x", "Yes", "buyer.guest", True),
        ("buyer.guest: x", "0", "buyer.guest", False),
        ("buyer.signup_at: x", "2026-11-20T04:00:00Z", "buyer.signup_at", NOON),
        ("buyer.signup_at: x", "2026-11-20 12:00:00.000", "buyer.signup_at", NOON),
        ("buyer.signup_at: {column: x, format: '%m/%d/%Y %H:%M'}", "11/20/2026 12:00", "buyer.signup_at", NOON),
        (
            "buyer.signup_at: {column: x, format: '%m/%d/%Y', zone: UTC}",
            "11/20/2026",
            "buyer.signup_at",
            1795132800000000,
        ),
        ("buyer.signup_at: {column: x, zone: '-04:00'}", "2026-11-20T00:00", "buyer.signup_at", NOON),
        ("buyer.signup_at: {column: x, format: unix}", "1795147200", "buyer.signup_at", NOON),
        ("buyer.signup_at: {column: x, format: unix_ms}", "1795147200000.0", "buyer.signup_at", NOON),
        ("session.since_landing: {column: x, as: seconds}", "1.5", "session.since_landing", 1_500_000),
        ("session.since_landing: x", "90s", "session.since_landing", 90_000_000),
        ("ip: {column: x, as: ipv4}", "3232235777", "ip", "192.168.1.1"),
        ("ip: {column: x, as: ipv4}", "732758368.8", "ip", "43.173.1.96"),
        ("ip: x", "203.0.113.9", "ip", "203.0.113.9"),
        ("discount: {column: x, currency: CNY}", "1.5", "discount", Money.of("1.50", "CNY")),
        ("discount: {column: x, currency: JPY}", "120", "discount", Money.of("120", "JPY")),
        ("discount: {column: x, currency: {column: id}}", "", "discount", None),
        ("discount: {expression: price / quantity, currency: CNY}", "", "discount", Money.of("4.17", "CNY")),
        ("buyer.orders: {expression: quantity + 1}", "", "buyer.orders", 4),
        ("buyer.guest: {expression: fraud or price > 12}", "", "buyer.guest", True),
        ("channel: {value: web}", "", "channel", "web"),
        ("customs.declared_value: {value: 5.00 CNY}", "", "customs.declared_value", Money.of("5.00", "CNY")),
        ("order_id: {row: 'n-'}", "", "order_id", "n-7"),
        ("buyer.account: x", "", "buyer.account", None),
    ],
)
def test_a_cell_is_read_as(mapped: Callable[..., Table], spec: str, cell: str, path: str, gives: object) -> None:
    """Plain columns, times, durations, addresses, amounts, expressions, constants; an empty cell is missing."""
    event = event_of(mapped(f"{HEAD}{FIELDS}  {spec}\n"), x=cell)
    parent = value(event, path.rpartition(".")[0]) if "." in path else event.values
    assert (parent or {}).get(path.rpartition(".")[2]) == gives


def test_lists_take_one_cell_or_its_parts(mapped: Callable[..., Table]) -> None:
    one = event_of(mapped(f"{HEAD}{FIELDS}  items.category: x\n"), x="toys, games")
    assert one.values["items"] == [{"category": "toys, games"}]
    parts = event_of(mapped(f"{HEAD}{FIELDS}  items.category: {{column: x, split: ','}}\n"), x="toys, games,")
    assert parts.values["items"] == [{"category": "toys"}, {"category": "games"}]


def test_own_fields_are_fields(mapped: Callable[..., Table]) -> None:
    own = OwnField(type="text", doc="The till", example="t-1", kinds=("transaction",))
    assert event_of(mapped(f"{HEAD}{FIELDS}  extra.till: x\n", extra__till=own), x="t-9").values["extra"] == {
        "till": "t-9"
    }


@pytest.mark.parametrize(
    ("row", "path", "what"),
    [
        ({"time": "yesterday"}, "at", "no ISO 8601 time"),
        ({"time": ""}, "at", "has it"),
        ({"id": ""}, "event_id", "has it"),
        ({"price": "12,50"}, "amount", "a plain number is needed"),
        ({"price": ""}, "amount", "has it"),
        ({"price": "1e99"}, "amount", "has it"),
        ({"Fraud?": "maybe"}, "buyer.guest", "a yes or no"),
        ({"id": "4111 1111 1111 1111"}, "event_id", ""),
    ],
)
def test_a_row_that_is_no_event_is_refused_without_its_values(
    mapped: Callable[..., Table], row: dict[str, str], path: str, what: str
) -> None:
    table = mapped(f"{HEAD}{FIELDS}  buyer.guest: {{expression: fraud}}\n")
    with pytest.raises(EventRefused) as refused:
        event_of(table, **row)
    assert any(problem.path == path and what in problem.what for problem in refused.value.problems)
    assert not any(text and text in str(refused.value) for text in row.values())


def test_all_cells_of_a_row_are_looked_at(mapped: Callable[..., Table]) -> None:
    with pytest.raises(EventRefused) as refused:
        event_of(mapped(HEAD + FIELDS), time="x", price="y")
    assert [problem.path for problem in refused.value.problems] == ["at", "amount"]


SEVERAL = [
    ({"price": "y", "note": "4111 1111 1111 1111"}, ["amount", "buyer.name"]),
    ({"time": "x", "note": "4111 1111 1111 1111"}, ["at", "buyer.name"]),
    ({"time": "", "price": "y"}, ["at", "amount"]),
    ({"Fraud?": "maybe", "price": "y", "time": "x"}, ["at", "outcome.when", "amount"]),
]


@pytest.mark.parametrize(("row", "paths"), SEVERAL)
def test_one_bad_cell_hides_no_other(mapped: Callable[..., Table], row: dict[str, str], paths: list[str]) -> None:
    table = mapped(f"{HEAD}{FIELDS}  buyer.name: note\n{OUTCOME}")
    early = bool({"at", "outcome.when"} & set(paths))
    with pytest.raises(EventRefused) as refused:
        table.times(cells(table, **row), 7) if early else event_of(table, **row)
    assert [problem.path for problem in refused.value.problems] == paths
    assert "4111" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("event_id", ("id",)),
        ("amount", ("price", "quantity")),
        ("amount.value", ("price", "quantity")),
        ("items[2].sku", ("skus",)),
        ("tax", ("vat", "code")),
        ("outcome.when", ("Fraud?",)),
        ("channel", ()),
        ("row", ()),
    ],
)
def test_a_field_knows_the_columns_it_comes_from(
    mapped: Callable[..., Table], path: str, columns: tuple[str, ...]
) -> None:
    more = (
        '  items.sku: {column: skus, split: ","}\n  channel: {value: web}\n'
        "  tax: {column: vat, currency: {column: code}}\n"
    )
    assert mapped(f"{HEAD}{FIELDS}{more}{OUTCOME}").sources(path) == columns


OUTCOME = "outcome: {when: fraud, result: confirmed_fraud, delay: 7d}\n"


def test_an_outcome_comes_after_its_delay(mapped: Callable[..., Table]) -> None:
    table = mapped(HEAD + FIELDS + OUTCOME)
    week = 7 * 86_400_000_000
    assert table.times(cells(table), 1) == (NOON, None)
    assert table.times(cells(table, **{"Fraud?": ""}), 1) == (NOON, None)
    fraud = cells(table, **{"Fraud?": "1"})
    assert table.times(fraud, 1) == (NOON, NOON + week)
    outcome = table.outcome(fraud, 1, table.event(fraud, 1, "shop-a"))
    assert (outcome.kind, outcome.tenant, outcome.at, outcome.id) == ("outcome", "shop-a", NOON + week, "outcome-e-1")
    assert outcome.values["outcome"] == {"refers_to": "e-1", "result": "confirmed_fraud"}


def test_an_outcome_may_have_its_own_id(mapped: Callable[..., Table]) -> None:
    table = mapped(HEAD + FIELDS + OUTCOME.replace("delay: 7d", "delay: 7d, event_id: {column: case}"))
    row = cells(table, case="c-9")
    assert table.outcome(row, 1, table.event(row, 1)).id == "c-9"


BESIDE = """\
tier: tier
refunded: back
"""


def test_a_row_says_the_tier_of_its_merchant_and_whether_it_was_refunded(mapped: Callable[..., Table]) -> None:
    table = mapped(HEAD.replace("price: number", "price: number\n  back: bool") + FIELDS + BESIDE)
    assert (table.has_tiers, table.has_refunds) == (True, True)
    assert table.beside(cells(table, tier="watched", back="yes"), 1) == Beside("watched", True)
    assert table.beside(cells(table, back="no"), 1) == Beside("", False)
    assert table.beside(cells(table), 1) == Beside("", None)
    with pytest.raises(EventRefused) as refused:
        table.times(cells(table, back="perhaps", time="soon"), 1)
    assert [problem.path for problem in refused.value.problems] == ["at", "refunded"]
    bare = mapped(HEAD + FIELDS)
    assert bare.beside(cells(bare), 1) == Beside()


def test_what_stands_beside_an_event_has_its_own_type(mapped: Callable[..., Table]) -> None:
    with pytest.raises(PackError) as error:
        mapped(HEAD + FIELDS + "refunded: price\ntier: {column: tier, currency: CNY}\n")
    assert [problem.what for problem in error.value.problems] == [
        "this must be yes/no, it is number",
        "'tier' is no amount: it has no currency",
    ]


MISTAKES = [
    ("kind: transaction", "kind: transactoin", "2:7", "no kind of event 'transactoin'", "transaction"),
    ("zone: Asia/Shanghai", "zone: Asia/Shangai", "3:7", "no time zone 'Asia/Shangai'", "UTC"),
    ("zone: Asia/Shanghai", "zone: ../etc", "3:7", "no time zone", ""),
    ("price: number", "price: numbr", "5:10", "", "number"),
    ("price: number", "now: number", "5:3", "a word of the language", ""),
    ("price: number", "Price: number", "5:3", "small letters", ""),
    ("event_id: id", "evnt_id: id", "9:3", "has no field 'evnt_id'", "event_id"),
    ("event_id: id", "order_id: id", "8:1", "'event_id' is missing", ""),
    ("event_id: id", "event_id: id\n  kind: id", "10:3", "the kind stands once", ""),
    ("at: time", "at: {column: time, format: 'noon'}", "10:30", "no form of a time", "strptime"),
    ("at: time", "at: {column: time, frmat: iso}", "10:22", "unknown key 'frmat'", "format"),
    ("at: time", "at: {column: time, as: ipv4}", "10:26", "'as: ipv4' does not give a time", ""),
    ("event_id: id", "event_id: {column: id, zone: UTC}", "9:26", "'zone' is for times", ""),
    ("event_id: id", "event_id: {column: id, currency: CNY}", "9:26", "no amount", ""),
    ("event_id: id", "event_id: {column: id, split: ','}", "9:26", "one value, not a list", ""),
    ("price * quantity, ", "price * quantity * 2, currency: CN, x: ", "11:", "", ""),
    ("currency: CNY", "currency: CNX", "11:52", "'CNX' is no currency", "CNY"),
    (", currency: CNY", "", "11:11", "its currency is missing", "currency: CNY"),
    ("price * quantity", "price * quantty", "11:32", "unknown name 'quantty'", "quantity"),
    ("price * quantity", "discount + 1", "11:24", "unknown name 'discount'", "columns:"),
    ("price * quantity", "count(last 1d by price)", "11:24", "", ""),
    ("price * quantity", "now - now", "11:24", "", ""),
    ("price * quantity", "fraud", "11:24", "must be", ""),
    ("at: time", "at: time\n  channel: {value: wep}", "11:20", "channel", ""),
    ("at: time", "at: time\n  buyer.orders: {row: x}", "11:17", "the number of a row is for ids", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "what", "hint"), MISTAKES, ids=[case[1] for case in MISTAKES])
def test_a_mistake_is_told_at_its_place(
    mapped: Callable[..., Table], old: str, new: str, place: str, what: str, hint: str
) -> None:
    text = (HEAD + FIELDS).strip().replace(old, new)
    assert text != (HEAD + FIELDS).strip()
    with pytest.raises(PackError) as error:
        mapped(text)
    shown = [problem.render() for problem in error.value.problems]
    assert any(
        f"test.map.yaml:{place}" in one and what in one and (hint in one or hint == "strptime") for one in shown
    ), shown


def test_a_wrong_outcome_is_told_at_its_place(mapped: Callable[..., Table]) -> None:
    wrong = "outcome: {when: price, result: fraud, delay: week}\n"
    with pytest.raises(PackError, match="write a duration"):
        mapped(HEAD + FIELDS + wrong)
    with pytest.raises(PackError) as error:
        mapped(HEAD + FIELDS + wrong.replace("week", "7d"))
    assert [problem.what.split(",")[0] for problem in error.value.problems] == [
        "this must be yes/no",
        "there is no outcome 'fraud'",
    ]


def test_all_mistakes_are_told_at_once(mapped: Callable[..., Table]) -> None:
    text = (HEAD + FIELDS).replace("event_id", "evnt_id").replace("CNY", "CNX").replace("price * q", "price * k")
    with pytest.raises(PackError) as error:
        mapped(text)
    assert len(error.value.problems) == 4


def test_columns_that_the_table_lacks_are_told_before_anything_else(mapped: Callable[..., Table]) -> None:
    table = mapped(HEAD + FIELDS + OUTCOME)
    table.check(["id", "time", "price", "quantity", "Fraud?", "more"])
    with pytest.raises(PackError) as error:
        table.check(["id", "tme", "quantity"])
    shown = {problem.what: problem.hint for problem in error.value.problems}
    assert shown["the table has no column 'time'"] == "did you mean 'tme'?"
    assert set(shown) == {f"the table has no column '{name}'" for name in ("time", "price", "Fraud?")}


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").glob("*.map.yaml")), ids=lambda file: file.name)
def test_the_shipped_mappings_are_sound(file: Path) -> None:
    own = OwnField(type="text", doc="The terminal", example="1", kinds=("transaction",))
    assert read_map(file, schema({"extra.terminal": own})).delay == 7 * 86_400_000_000


def test_the_mapping_in_the_manual_is_sound(mapped: Callable[..., Table]) -> None:
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    block = page.split("```yaml\n")[1].split("```")[0]
    assert mapped(block).columns[:3] == ("order_no", "paid", "price")
