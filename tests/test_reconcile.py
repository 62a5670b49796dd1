"""The shop's orders beside the verdicts: what was never asked, or not obeyed."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from cli import main
from cli.views import as_text
from engine.assembly import Settings
from engine.vault import KeyFile
from tests import books

DAY, NEXT = "2026-11-20T10:00:00+08:00", "2026-11-21T00:30:00+08:00"
AT = {DAY: 1_795_140_000_000_000, NEXT: 1_795_192_200_000_000}
HEADER = "order_id,event_id,at,channel,amount,state"


def decision(name: str, verdict: str = "approve", **more: Any) -> dict[str, Any]:
    """A decision on the event e-NAME of the order o-NAME, over 20.00 CNY in the app on the 20th."""
    at = AT[more.pop("at", DAY)]
    event = {"id": f"e-{name}", "kind": "transaction", "order": f"o-{name}", "at": at, "received_at": at}
    public = {"amount": {"$m": "20.00 CNY"}, "channel": "app"}
    record = {"type": "decision", "id": f"d-{name}", "tenant": "shop-a", "verdict": verdict, "event": event}
    event |= {"public": public, **{key: more.pop(key) for key in ("id", "kind", "order", "received_at") if key in more}}
    public |= {key: more.pop(key) for key in ("amount", "channel") if key in more}
    return {**record, **({"id": more.pop("decision")} if "decision" in more else {}), **more}


def resolution(name: str, verdict: str | None, at: int = 0) -> dict[str, Any]:
    record = {"type": "resolution", "tenant": "shop-a", "refers_to": f"d-{name}", "verdict": verdict}
    return {**record, "decided_at": AT[DAY] + at}


def row(
    name: str, state: str = "captured", *, event: str | None = None, amount: str = "20.00 CNY", at: str = DAY
) -> str:
    return f"o-{name},{f'e-{name}' if event is None else event},{at},app,{amount},{state}"


def export(folder: Path, records: list[dict[str, Any]]) -> Path:
    """An export of these entries, which are given newest first."""
    folder.mkdir()
    (folder / "entries.jsonl").write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in reversed(records)))
    return folder


def reconciled(
    folder: Path, rows: list[str], records: list[dict[str, Any]], *more: str, header: str = HEADER
) -> Result:
    (folder / "orders.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    exported = export(folder / "november", records)
    args = ["audit", "reconcile", str(folder / "orders.csv"), "--export", str(exported), *more]
    return CliRunner().invoke(main, args, env={})


def found(result: Result) -> set[tuple[str, ...]]:
    """(finding, order, verdict) of what is off, and (rejected, row, what)."""
    said = set()
    for line in result.stdout.splitlines():
        data = orjson.loads(line)
        if data["type"] == "finding":
            said.add((data["finding"], data["order_id"] or data["event_id"], data["verdict"]))
        elif data["type"] == "rejected":
            said.add(("rejected", str(data["row"]), data["what"]))
    return said


GOOD = [("an approved order", [row("1")], [decision("1")])]
CASES: list[tuple[str, list[str], list[dict[str, Any]], set[tuple[str, ...]]]] = [
    ("all goes together", [row("1"), row("2", "cancelled")], [decision("1"), decision("2", "decline")], set()),
    ("an order that nobody asked about", [row("1"), row("2")], [decision("1")], {("no_verdict", "o-2", "")}),
    ("a verdict without an order", [row("1")], [decision("1"), decision("2")], {("no_order", "o-2", "approve")}),
    ("without an order id", [row("1")], [decision("1"), decision("2", order=None)], {("no_order", "e-2", "approve")}),
    ("captured though declined", [row("1")], [decision("1", "decline")], {("declined_captured", "o-1", "decline")}),
    ("declined and open", [row("1", "open")], [decision("1", "decline")], set()),
    ("captured in review", [row("1")], [decision("1", "review")], {("unsettled_captured", "o-1", "review")}),
    ("captured after the review", [row("1")], [resolution("1", "approve", 1), decision("1", "review")], set()),
    (
        "the review declined it",
        [row("1")],
        [resolution("1", "decline", 1), decision("1", "review")],
        {("declined_captured", "o-1", "decline")},
    ),
    (
        "the newest ruling counts, and what was enforced rules nothing",
        [row("1")],
        [
            resolution("1", None, 3),
            resolution("1", "decline", 2),
            resolution("1", "review", 1),
            decision("1", "challenge"),
        ],
        {("declined_captured", "o-1", "decline")},
    ),
    (
        "of two rulings at one moment the newer",
        [row("1")],
        [resolution("1", "approve", 1), resolution("1", "review", 1), decision("1", "challenge")],
        set(),
    ),
    ("another amount", [row("1", amount="21.00 CNY")], [decision("1")], {("altered", "o-1", "approve")}),
    ("another currency", [row("1", amount="20.00 USD")], [decision("1")], {("altered", "o-1", "approve")}),
    ("the amount in other digits", [row("1", amount="20 CNY")], [decision("1")], set()),
    ("altered and cancelled", [row("1", "cancelled", amount="21.00 CNY")], [decision("1")], set()),
    ("no amount", [row("1", amount="")], [decision("1")], set()),
    (
        "by its order the last verdict counts",
        [row("1", event="")],
        [decision("1", at=NEXT, id="e-b", decision="d-b"), decision("1", "decline")],
        set(),
    ),
    (
        "by its event that verdict counts",
        [row("1", event="e-1")],
        [decision("1", at=NEXT, id="e-b", decision="d-b"), decision("1", "decline")],
        {("declined_captured", "o-1", "decline")},
    ),
    (
        "one verdict does not let two orders through",
        [row("1"), row("2", event="e-3")],
        [decision("1"), decision("3")],
        {("no_verdict", "o-2", ""), ("no_order", "o-3", "approve")},
    ),
    ("another attempt at an order that is there", [row("1")], [decision("1"), decision("x", order="o-1")], set()),
    ("another kind of event", [row("1")], [decision("1"), decision("2", kind="payment")], set()),
    (
        "an order twice",
        [row("1"), row("1"), row("2", event=""), row("2", event="")],
        [decision("1"), decision("2")],
        {("rejected", "2", "an earlier row has this order"), ("rejected", "4", "an earlier row has this order")},
    ),
    (
        "rows that are none",
        [row("1"), row("", event="x"), row("2", "paid"), row("3", amount="20"), row("4", at="2026-11-20 10:00"), "o-5"],
        [decision("1")],
        {
            ("no_verdict", "o-", ""),
            ("rejected", "3", "state is none of captured, cancelled, open"),
            ("rejected", "4", "amount: write an amount and a currency, such as '20.00 CNY'"),
            ("rejected", "5", "at: the zone is missing; write 2026-11-20T08:30:00+08:00, or say --zone"),
            ("rejected", "6", "1 cells, which are too few"),
        },
    ),
]


@pytest.mark.parametrize(("rows", "records", "off"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_does_not_go_together_is_found(
    tmp_path: Path, rows: list[str], records: list[dict[str, Any]], off: set[tuple[str, ...]]
) -> None:
    ended = reconciled(tmp_path, rows, records, "--json")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert found(ended) == off
    assert ended.exit_code == int(bool(off))


OPTIONS: list[tuple[tuple[str, ...], list[str], str, set[tuple[str, ...]]]] = [
    (("--without-declined",), [row("1")], HEADER, {("no_order", "o-3", "approve")}),
    (("--from", "2026-11-21", "--to", "2026-11-21"), [row("1")], HEADER, {("no_order", "o-3", "approve")}),
    (("--to", "2026-11-20"), [row("1")], HEADER, {("no_order", "o-2", "decline")}),
    ((), [row("1")], HEADER, {("no_order", "o-2", "decline")}),
    ((), [row("1"), row("3", at=NEXT)], HEADER, {("no_order", "o-2", "decline")}),
    (
        ("--column", "order_id=No", "--column", "state=Status", "--state", "captured=paid", "--zone", "Asia/Shanghai"),
        ["o-1,2026-11-20 10:00:00,paid", "o-2,2026-11-20 10:00:00,captured", "o-3,2026-11-21 00:30:00,open"],
        "No,at,Status",
        {("declined_captured", "o-2", "decline")},
    ),
    (("--declined", "approve", "--approved", "decline"), [row("1"), row("2"), row("3")], HEADER, {
        ("declined_captured", "o-1", "approve"), ("declined_captured", "o-3", "approve")
    }),
]  # fmt: skip


@pytest.mark.parametrize(("options", "rows", "header", "off"), OPTIONS)
def test_options_say_what_the_file_means(
    tmp_path: Path, options: tuple[str, ...], rows: list[str], header: str, off: set[tuple[str, ...]]
) -> None:
    """Orders 1 and 3 were approved, 2 declined; 3 is of the next day in Shanghai, half an hour after midnight."""
    records = [decision("3", at=NEXT), decision("2", "decline"), decision("1")]
    if "--without-declined" in options:
        options = (*options, "--to", "2026-11-21")
    assert found(reconciled(tmp_path, rows, records, "--json", *options, header=header)) == off


def test_the_table_counts_by_day_and_channel(tmp_path: Path) -> None:
    rows = [row("1"), row("2", at=NEXT), row("4")]
    records = [decision("3", at=NEXT, channel="web"), decision("2", "decline", at=NEXT), decision("1")]
    ended = reconciled(tmp_path, rows, records)
    assert ended.exit_code == 1
    table = [line.split() for line in ended.stdout.splitlines()]
    assert table[:4] == [
        "day channel orders verdicts no_verdict no_order declined_captured unsettled_captured altered".split(),
        "2026-11-20 app 2 1 1 0 0 0 0".split(),
        "2026-11-21 app 1 1 0 0 1 0 0".split(),
        "2026-11-21 web 0 1 0 1 0 0 0".split(),
    ]
    assert "2026-11-20  no_verdict         order o-4, event e-4, verdict -" in ended.stdout
    assert ended.stderr == ("orders without a verdict: 1; verdicts without an order: 1; declined, but captured: 1\n")


def test_findings_go_into_a_file_that_a_spreadsheet_does_not_compute(tmp_path: Path) -> None:
    ended = reconciled(
        tmp_path, ["=1+1,e-1,2026-11-20T10:00:00+08:00,app,,open"], [], "--out", str(tmp_path / "off.csv")
    )
    assert ended.exit_code == 1
    written = (tmp_path / "off.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")
    with (tmp_path / "off.csv").open(encoding="utf-8-sig", newline="") as file:
        (only,) = csv.DictReader(file)
    assert (only["finding"], only["order_id"], only["day"]) == ("no_verdict", "'=1+1", "2026-11-20")


SPREADSHEET = {
    "=1+1": "a formula",
    " =1+1": "a formula behind a blank",
    "＝1+1": "a formula in full width",
    "@SUM(A1)": "a formula",
    "0012345": "a number, without its zeros",
    "12345678901234567890": "a number, rounded",
    "1e5": "a number",
    "95%": "a share",
    "2026-11-20": "a date",
    "1月2日": "a date",
    "MAR1": "a date",
    "5-Jan": "a date",
    "5-JAN-2026": "a date with its year",
    "Jan 5, 2026": "a date in words",
    "9:30 pm": "a time",
    ".5": "a number without its zero",
    "(100)": "a negative number of accountants",
    "$5": "an amount",
    "TRUE": "a truth value",
}


@pytest.mark.parametrize("cell", SPREADSHEET, ids=SPREADSHEET.values())
def test_what_a_spreadsheet_would_change_is_marked_as_text(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


def test_no_formula_begins_where_a_spreadsheet_parts_cells_at_a_semicolon() -> None:
    assert as_text("x;=HYPERLINK(A1);@b; y") == "x;'=HYPERLINK(A1);'@b; y"


@pytest.mark.parametrize("cell", ["", "approve", "o-4", "无线耳机", "o-7781-x", "01KD", "OceA3", "order 12", "a;b"])
def test_what_a_spreadsheet_leaves_as_it_is_stays(cell: str) -> None:
    assert as_text(cell) == cell


ODD = {
    "1e999999999 CNY": (
        "o-1,,2026-11-20T10:00:00+08:00,app,{},captured",
        "a number or a time that is beyond all bounds",
    ),
    "9999-12-31T23:59:59-23:59": ("o-1,,{},app,,captured", "beyond all bounds"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_row_is_rejected_alone(tmp_path: Path, odd: str) -> None:
    row, why = ODD[odd]
    good = "o-2,,2026-11-20T10:00:00+08:00,app,,captured"
    ended = reconciled(tmp_path, [row.format(odd), good], [])
    assert why in ended.stdout + ended.stderr
    assert "no_verdict" in ended.stdout


def test_an_event_that_two_orders_name_does_not_hide_the_second(tmp_path: Path) -> None:
    """It is compared by its own id: a captured order without a verdict."""
    rows = [f"{order},e-1,2026-11-20T10:00:00+08:00,app,,captured" for order in ("o-1", "o-2")]
    ended = reconciled(tmp_path, rows, [])
    assert ended.stdout.count("no_verdict") >= 2


def test_a_verdict_that_no_decision_has_is_refused(tmp_path: Path) -> None:
    rows = ["o-1,e-1,2026-11-20T10:00:00+08:00,app,,captured"]
    ended = reconciled(tmp_path, rows, [], "--declined", "nosuchverdict")
    assert (ended.exit_code, "no decision has this verdict" in ended.stderr) == (2, True)


WRONG: list[tuple[tuple[str, ...], str, str]] = [
    (("--column", "order=x"), HEADER, "did you mean 'order_id'"),
    (("--column", "order_id"), HEADER, "write NAME=WORD"),
    (("--column", "order_id=No"), HEADER, "the file has no column 'No'"),
    (("--state", "paid=captured"), HEADER, "one of captured, cancelled, open"),
    (("--zone", "Mars"), HEADER, "there is no such time zone"),
    (("--from", "yesterday"), HEADER, "--from"),
    ((), "order_id,at", "the file has no column 'state'"),
    ((), "", "the file has no column 'order_id'"),
]


@pytest.mark.parametrize(("options", "header", "says"), WRONG)
def test_a_file_or_an_option_that_is_wrong_is_told(
    tmp_path: Path, options: tuple[str, ...], header: str, says: str
) -> None:
    ended = reconciled(tmp_path, [row("1")], [], *options, header=header)
    assert ended.exit_code in (1, 2)
    assert says in ended.output


def test_ids_of_several_tenants_are_not_mixed(tmp_path: Path) -> None:
    records = [decision("1"), decision("1", tenant="shop-b", decision="d-b")]
    assert (
        "there are several tenants: say --tenant, one of shop-a, shop-b"
        in reconciled(tmp_path, [row("1")], records).output
    )
    (tmp_path / "b").mkdir()
    assert reconciled(tmp_path / "b", [row("1")], records, "--tenant", "shop-b").exit_code == 0


def test_verdicts_are_read_from_the_ledger_as_from_its_export(tmp_path: Path) -> None:
    environ = asyncio.run(_decided(tmp_path))
    exported = CliRunner().invoke(main, ["audit", "export", "--out", str(tmp_path / "all")], env=environ)
    assert exported.exit_code == 0, exported.output
    rows = [f"o{n},,2026-11-23T20:00:00+08:00,captured" for n in (0, 41, 61, 85, 99)]
    (tmp_path / "orders.csv").write_text("\n".join(["order_id,event_id,at,state", *rows]), "utf-8")
    asked = ["audit", "reconcile", str(tmp_path / "orders.csv"), "--kind", "payment", "--json"]
    for more in ([], ["--export", str(tmp_path / "all")]):
        ended = CliRunner().invoke(main, [*asked, *more], env=environ)
        assert ended.exit_code == 1, ended.output
        assert found(ended) == {
            ("no_verdict", "o99", ""),
            ("unsettled_captured", "o41", "challenge"),
            ("declined_captured", "o85", "decline"),
        }


async def _decided(folder: Path) -> Mapping[str, str]:
    """Payments for 0, 41 (a challenge), 61 (a review, approved) and 85 CNY (declined)."""
    books.write(folder, books.SMALL)
    KeyFile.create(folder / "keys.json")
    settings = Settings(
        f"sqlite:///{folder}/a.db", key_file=folder / "keys.json", rules=folder / "rules", policies=folder / "policies"
    )
    async with books.running(settings, books.Clock()) as arbiter:
        for amount in (0, 41, 61, 85):
            answer = await books.judged(arbiter, books.payment(f"e{amount}", amount, order_id=f"o{amount}"))
            if amount == 61:
                await arbiter.resolve(
                    answer["id"], b'{"what": "review", "result": "approved", "reason": "known"}', books.LI
                )
    return {"ARBITER_DATABASE_URL": settings.database_url, "ARBITER_KEY_FILE": str(settings.key_file)}
