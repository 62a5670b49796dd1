"""What a chargeback dispute needs, out of the vault, recorded before it is written."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import delete

from cli import main
from engine import database as db
from engine.archive import Library
from engine.assembly import Settings
from engine.dispute import Disputes
from engine.receipt import verify_receipt
from engine.vault import KeyFile
from tests import books
from tests.books import NOW, SECOND
from tests.mixture import iso

DAY = 24 * 3_600 * SECOND
PACKS = {
    name: text.replace("for: payment", "for: transaction").replace("for: [payment]", "for: [transaction]")
    for name, text in books.SMALL.items()
}
NAME = "<b>张三</b> & 'sons'"
ELEMENTS: dict[str, Any] = {
    "card": {"ref": "card-1"},
    "buyer": {"account": "u-1", "name": NAME},
    "device": {"id": "d-1"},
    "ip": "198.51.100.7",
    "shipping": {"street": "文三路 1 号", "city": "杭州市", "country": "CN", "name": "李四"},
}


def sent(kind: str, name: str, at: int, **more: Any) -> bytes:
    body = {"kind": kind, "event_id": name, "order_id": f"o-{name.partition('/')[0]}", "at": iso(at), **more}
    return orjson.dumps(body)


def order(name: str, at: int, amount: int = 20, **more: Any) -> bytes:
    return sent("transaction", name, at, **{"amount": f"{amount}.00 CNY", **ELEMENTS, **more})


async def history(folder: Path) -> dict[str, str]:
    """Earlier orders, the one in dispute, and what came after it. Gives the ids of the decisions by event."""
    books.write(folder, PACKS)
    KeyFile.create(folder / "keys.json")
    settings = Settings(
        f"sqlite:///{folder}/a.db", key_file=folder / "keys.json", rules=folder / "rules", policies=folder / "policies"
    )
    clock, ids = books.Clock(), {}
    orders: list[tuple[str, int, dict[str, Any]]] = [
        ("too-old", 400, {}),
        ("old-1", 300, {"shipping": {"country": "CN"}}),
        ("blocked", 260, {}),
        ("declined", 250, {"amount": 90}),
        ("fraud", 240, {}),
        ("other-card", 220, {"card": {"ref": "card-2"}}),
        ("old-2", 150, {"ip": "198.51.100.99"}),
        ("stranger", 140, dict.fromkeys(("card", "buyer", "device", "shipping"))),
        ("too-young", 60, {}),
        ("disputed", 30, {"items": [{"sku": "s-1", "title": "耳机", "quantity": 1}], "payment": {"method": "card"}}),
    ]
    async with books.running(settings, clock) as arbiter:
        for name, days, more in orders:
            clock.now = NOW - days * DAY
            amount = more.pop("amount", 20)
            ids[name] = (await books.judged(arbiter, order(name, clock.now, amount, **more)))["id"]
        await arbiter.resolve(ids["blocked"], b'{"what": "enforced", "result": "blocked"}', books.SHOP)
        at = NOW - 29 * DAY
        clock.now = at
        payment = {
            "amount": "20.00 CNY",
            "payment": {"stage": "three_ds", "three_ds": "passed", "eci": "05", "liability_shift": True},
        }
        parcel = {"fulfilment": {"stage": "delivered"}, "parcel": {"tracking": "SF123", "carrier": "sf"}}
        claim = {"aftersale": {"action": "claim", "text": "没有收到货"}, "buyer": {"account": "u-1"}}
        for kind, more in (("payment", payment), ("fulfilment", parcel), ("aftersale", claim)):
            await arbiter.observe(sent(kind, f"disputed/{kind}", at, **more), books.SHOP)
        clock.now = NOW
        for name in ("fraud", "disputed"):
            result = {"outcome": {"refers_to": name, "result": "chargeback", "reason": "10.4"}}
            await arbiter.observe(sent("outcome", f"{name}/outcome", NOW, **result), books.SHOP)
    return ids


class Ground:
    def __init__(self, folder: Path, ids: dict[str, str]) -> None:
        self.folder, self.ids = folder, ids
        self.environ = {
            "ARBITER_DATABASE_URL": f"sqlite:///{folder}/a.db",
            "ARBITER_KEY_FILE": str(folder / "keys.json"),
        }

    def pack(self, *args: str) -> Result:
        return CliRunner().invoke(main, ["dispute", "pack", *args], env=self.environ)

    def packed(self, out: Path, *args: str) -> dict[str, Any]:
        ended = self.pack(*args, "--out", str(out))
        assert ended.exit_code == 0, ended.output
        found: dict[str, Any] = orjson.loads((out / "dispute.json").read_bytes())
        return found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("disputes")
    return Ground(folder, asyncio.run(history(folder)))


def test_the_pack_holds_the_order_its_payment_delivery_and_what_was_said_after(ground: Ground, tmp_path: Path) -> None:
    found = ground.packed(tmp_path / "pack", "disputed")
    assert found["decision"]["id"] == ground.ids["disputed"]
    assert (found["decision"]["order_id"], found["decision"]["verdict"]) == ("o-disputed", "approve")
    fields = found["order"]["fields"]
    assert (fields["amount"], fields["buyer.name"], fields["items.title"]) == ("20.00 CNY", NAME, ["耳机"])
    (secure,) = found["three_ds"]
    assert (secure["fields"]["payment.three_ds"], secure["fields"]["payment.liability_shift"]) == ("passed", True)
    (parcel,) = found["delivery"]
    assert (parcel["fields"]["fulfilment.stage"], parcel["fields"]["parcel.tracking"]) == ("delivered", "SF123")
    assert [each["fields"]["aftersale.text"] for each in found["after_sale"]] == ["没有收到货"]
    assert [each["fields"]["outcome.reason"] for each in found["outcomes"]] == ["10.4"]
    assert found["missing"] == []


def test_earlier_orders_are_linked_by_what_they_share_and_told_whether_they_went_well(
    ground: Ground, tmp_path: Path
) -> None:
    found = ground.packed(tmp_path / "pack", ground.ids["disputed"])
    shown = {each["event_id"]: each for each in found["earlier"]}
    every = ["card", "account", "device", "ip", "address"]
    assert {name: each["shares"] for name, each in shown.items()} == {
        **dict.fromkeys(("too-old", "blocked", "declined", "fraud", "too-young"), every),
        "old-1": ["card", "account", "device", "ip"],
        "old-2": ["card", "account", "device", "address"],
        "other-card": ["account", "device", "ip", "address"],
    }
    assert {name for name, each in shown.items() if each["disputed"]} == {"fraud"}
    assert {name for name, each in shown.items() if not each["went_through"]} == {"blocked", "declined"}
    assert [each["days_before_the_dispute"] for each in found["earlier"]] == [60, 150, 220, 240, 250, 260, 300, 400]
    assert found["visa_ce_3"] == {
        "met": True,
        "earlier": [ground.ids["old-2"], ground.ids["old-1"]],
        "shared": ["account", "device"],
        "not_for": [],
    }


def test_the_days_are_counted_from_the_dispute(ground: Ground, tmp_path: Path) -> None:
    later = ground.packed(tmp_path / "later", "disputed", "--disputed-on", "2027-09-01")
    assert not later["visa_ce_3"]["met"]
    assert later["missing"] == ["no two earlier orders are what Visa Compelling Evidence 3.0 asks for"]
    first = ground.packed(tmp_path / "first", "too-old")
    assert first["earlier"] == []
    assert first["missing"] == [
        "the order has no description of what was bought (items)",
        "no result of 3-D Secure was sent (payment.three_ds)",
        "no proof of delivery was sent (fulfilment.stage delivered)",
        "no earlier undisputed order shares a card, an account, a device or an address",
    ]


@pytest.mark.anyio
async def test_compelling_evidence_is_for_one_reason_of_one_scheme(key_path: Path, tmp_path: Path) -> None:
    """And an outcome that names no order is found by the event that it is about; its first chargeback is the day."""
    books.write(tmp_path, PACKS)
    url = f"sqlite:///{tmp_path}/a.db"
    settings = Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")
    card = {"card": {**ELEMENTS["card"], "scheme": "mastercard"}}
    async with books.running(settings, books.Clock()) as arbiter:
        answer = await books.judged(arbiter, order("o1", NOW - 9 * DAY, **card))
        for number in (3, 5):
            told = {"outcome": {"refers_to": "o1", "result": "chargeback", "reason": "13.1"}}
            body = {"kind": "outcome", "event_id": f"c{number}", "at": iso(NOW - (8 - number) * DAY), **told}
            await arbiter.observe(orjson.dumps(body), books.SHOP)
        stored = await arbiter._ledger.get("shop-a", answer["id"])
        assert stored is not None
        library = Library(arbiter._ledger.database, lambda: NOW)
        found = await Disputes(arbiter._ledger, arbiter._vault, library.find).pack(stored, None, NOW)
    assert [each["event_id"] for each in found["outcomes"]] == ["c3", "c5"]
    assert found["disputed_on"] == found["outcomes"][0]["at"] == "2026-11-18T12:00:00Z"
    assert found["visa_ce_3"] == {
        "met": False,
        "earlier": [],
        "shared": [],
        "not_for": [
            "the card is of another scheme: mastercard",
            "the dispute has another reason than 10.4: 13.1",
        ],
    }


def test_what_was_erased_is_named(ground: Ground, tmp_path: Path) -> None:
    erased = Ground(tmp_path / "erased", ground.ids)
    shutil.copytree(ground.folder, erased.folder)
    asyncio.run(_erase(erased))
    found = erased.packed(tmp_path / "pack", "disputed")
    assert "buyer.name" not in found["order"]["fields"]
    assert found["order"]["erased"] == ["buyer", "recipient"]
    told = ("personal data of the buyer was erased", "personal data of the recipient was erased")
    assert [each for each in found["missing"] if "was erased" in each] == list(told)
    assert any(each.startswith("the pseudonyms of the order were erased") for each in found["missing"])


async def _erase(ground: Ground) -> None:
    opened = db.Database(ground.environ["ARBITER_DATABASE_URL"])
    try:
        for table in (db.subject_key, db.event_key, db.key_index):
            await opened.write(lambda connection, table=table: connection.execute(delete(table)))
    finally:
        await opened.close()


def test_making_one_is_recorded_before_anything_is_written(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(asyncio.run(_accesses(ground)))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cli.disputing.put", refuse)
        assert ground.pack("disputed", "--out", str(tmp_path / "full")).exit_code == 1
    assert not (tmp_path / "full").exists()
    assert ground.pack("disputed", "--out", "/proc/nowhere/pack").exit_code == 1  # Nothing is recorded of this one.
    found = ground.packed(tmp_path / "pack", "disputed")
    accesses = asyncio.run(_accesses(ground))
    assert len(accesses) == before + 2
    record = next(each for each in accesses if each["id"] == found["access"])
    assert {name: record[name] for name in ("tenant", "what", "object", "purpose", "count", "by")} == {
        "tenant": "shop-a",
        "what": "dispute_pack",
        "object": ground.ids["disputed"],
        "purpose": "dispute",
        "count": 5,
        "by": {"name": getpass.getuser(), "kind": "person", "person": getpass.getuser()},
    }


async def _accesses(ground: Ground) -> list[dict[str, Any]]:
    opened = db.Database(ground.environ["ARBITER_DATABASE_URL"])
    try:
        rows = await db.Rows(opened, db.entry).find(kind="access")
        return [orjson.loads(row["leaf"]) for row in rows]
    finally:
        await opened.close()


def test_it_is_for_this_user_alone_and_never_overwrites(ground: Ground, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    ground.packed(out, "disputed")
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == dict.fromkeys(
        ("dispute.json", "dispute.html", "record.json"), 0o600
    )
    again = ground.pack("disputed", "--out", str(out))
    assert (again.exit_code, "never overwritten" in again.stderr) == (1, True)


def test_its_receipt_is_that_of_its_record(ground: Ground, tmp_path: Path) -> None:
    found = ground.packed(tmp_path / "pack", "disputed")
    key = KeyFile.read(ground.folder / "keys.json").signer.public_key
    assert verify_receipt(found["decision"]["receipt"], (tmp_path / "pack/record.json").read_bytes(), key)


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_takes_no_value_for_its_own(ground: Ground, tmp_path: Path) -> None:
    ground.packed(tmp_path / "pack", "disputed")
    page = Page()
    page.feed((tmp_path / "pack/dispute.html").read_text("utf-8"))
    assert NAME in page.text
    assert "SF123" in page.text
    assert not page.tags & {"b", "script", "img", "link", "iframe", "a"}
    assert page.attributes == {"lang", "charset"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nothing",), "there is no decision with the id 'nothing'"),
        (("disputed", "--disputed-on", "then"), "--disputed-on"),
    ],
)
def test_what_cannot_be_packed_is_told(ground: Ground, tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    ended = ground.pack(*args, "--out", str(tmp_path / "pack"))
    assert ended.exit_code in (1, 2)
    assert says in ended.stderr
    assert not (tmp_path / "pack").exists()
