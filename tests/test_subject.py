"""A person gets all that is held about them, nothing of anybody else's, and it is recorded that they did."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from cli import main
from engine import database as db
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.callers import By
from engine.errors import RequestRefused, Unavailable
from engine.expiry import Expiry
from engine.journal import Journal
from engine.retention import Class, Retention
from engine.subject import Found, as_html, as_json, collect, note_access, shown
from tests.books import LI, NOW, SHOP, SMALL, Clock, judged, payment, running, write

pytestmark = pytest.mark.anyio

BY = By("root", "person", "root")
ADMIN = Caller("root", "person", "shop-a", frozenset({"admin"}))
BECAUSE = {"en": "a choice", "zh": "选择"}
PAYMENTS = Class.model_validate(
    {"id": "p", "about": "x", "for": ["payment"], "personal": "90d", "pseudonyms": "30d", "digests": "9d"}
    | {"because": BECAUSE}
)
TERMS = Retention({"payment": PAYMENTS})
ZHANG = {"account": "u-1", "name": "张三 <b>", "phone": "13800138000", "email": "zhang@example.com"}
LI_SI = {"account": "u-2", "name": "李四", "phone": "13900139000"}


@pytest.fixture
async def arbiter(sqlite_url: str, key_path: Path, tmp_path: Path) -> AsyncIterator[Arbiter]:
    write(tmp_path, SMALL)
    db.migrate(sqlite_url)
    settings = Settings(sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")
    async with running(settings, Clock()) as it:
        yield it


async def two_persons(arbiter: Arbiter) -> list[str]:
    """Zhang buys twice, the second time for Li; Li buys for Zhang; each has a card."""
    to = {"name": "王五", "phone": "13800138000", "street": "文三路 1", "city": "杭州市", "country": "CN"}
    since, items = {"signup_at": "2023-03-02T10:11:12+08:00"}, [{"sku": "s-1", "price": "30.50 CNY"}]
    bodies = [
        payment("e1", 61, buyer={**ZHANG, **since}, card={"ref": "card-1"}, items=items),
        payment("e2", 5, buyer=ZHANG, shipping={**to, "name": "李四", "phone": "13900139000"}),
        payment("e3", 5, buyer=LI_SI, shipping=to, session={"source": "13700137000"}),
    ]
    return [(await judged(arbiter, body))["id"] for body in bodies]


async def held(arbiter: Arbiter, **given: list[str]) -> Found:
    return await collect(arbiter._ledger, arbiter._vault, "shop-a", given)


def told(found: Found) -> dict[str, Any]:
    return shown(found, TERMS, "record", NOW)


async def test_all_entries_of_a_person_and_their_part_alone(arbiter: Arbiter) -> None:
    await two_persons(arbiter)
    found = told(await held(arbiter, account=["u-1"], phone=["+86 138 0013 8000"]))

    assert [entry["event"] for entry in found["entries"]] == ["e1", "e2", "e3"]
    values = [{each["field"]: each["value"] for each in entry["personal"]} for entry in found["entries"]]
    assert values[0]["buyer.name"] == "张三 <b>"
    assert values[0]["card.ref"] == "card-1"
    assert values[0]["buyer.signup_at"] == "2023-03-02T10:11:12+08:00"
    assert found["entries"][0]["public"]["amount"] == "61.00 CNY"
    assert found["entries"][0]["public"]["items"] == [{"items.sku": "s-1", "items.price": "30.50 CNY"}]
    assert not any(path.startswith("shipping") for path in values[1]), "the parcel is somebody else's"
    assert values[2]["shipping.street"] == "文三路 1"
    assert not any(path.startswith("buyer") for path in values[2]), "the buyer is somebody else"
    assert "李四" not in json.dumps(found, ensure_ascii=False)
    assert "13700137000" not in json.dumps(found, ensure_ascii=False)
    assert found["asked"] == [
        {"by": "account", "value": "u-1", "entries": 2},
        {"by": "phone", "value": "+86 138 0013 8000", "entries": 3},
    ]
    assert found["not_found"] == []
    assert found["entries"][0]["verdict"] == "review"
    assert found["entries"][0]["reasons"][0]["message"]["en"]


async def test_what_was_not_found_is_said(arbiter: Arbiter) -> None:
    await two_persons(arbiter)
    found = await held(arbiter, account=["u-1"], email=["nobody@example.com"], card=["card-9"])
    assert [(each.kind, each.value) for each in found.missing] == [("email", "nobody@example.com"), ("card", "card-9")]
    assert told(await held(arbiter, account=["u-9"]))["entries"] == []


@pytest.mark.parametrize("given", [{}, {"account": [""]}, {"phone": ["+"]}])
async def test_who_names_nobody_is_refused(arbiter: Arbiter, given: dict[str, list[str]]) -> None:
    with pytest.raises(RequestRefused):
        await held(arbiter, **given)


async def test_what_followed_and_who_looked_is_told_without_staff(arbiter: Arbiter) -> None:
    first, *_ = await two_persons(arbiter)
    report = {"what": "review", "result": "approved", "reason": "Zhang rang"}
    await arbiter.resolve(first, orjson.dumps(report), LI)
    eve = Caller("eve", "person", "shop-a", frozenset({"audit", "reveal"}))
    await arbiter.explanation(first, eve, Reveal("review", 9))
    found = told(await held(arbiter, account=["u-1"]))

    (later,) = found["entries"][0]["later"]
    assert (later["what"], later["result"], later["by"], later["reason"]) == (
        "review",
        "approved",
        "a person",
        "Zhang rang",
    )
    assert [(look["entry"], look["purpose"], look["by"]) for look in found["looks"]] == [
        (first, "review", "a member of staff")
    ]
    assert "eve" not in as_json({"looks": found["looks"]}).decode().replace("review", "")
    assert "li.si" not in as_json(found).decode()


async def test_it_is_recorded_without_saying_whose_it_was_but_under_that_person_s_key(arbiter: Arbiter) -> None:
    await two_persons(arbiter)
    found = await held(arbiter, account=["u-1"], phone=["13800138000"])
    journal = Journal(arbiter._ledger, Clock())
    id = await note_access(journal, arbiter._vault, found, BY)
    stored = await arbiter._ledger.get("shop-a", id)

    assert stored is not None
    record = orjson.loads(stored.entry.leaf)
    assert (record["what"], record["purpose"], record["count"]) == ("subject_access", "subject_request", 3)
    assert record["object"] == '{"account":1,"phone":1}'
    assert "u-1" not in str(record)
    (cell,) = stored.entry.sealed
    assert orjson.loads(arbiter._vault.open(cell))["fields"]["note"] == "account u-1, phone 13800138000"
    assert cell.subject in found.entries[0].subjects


async def test_after_an_erasure_it_says_so(arbiter: Arbiter) -> None:
    await two_persons(arbiter)
    await db.Rows(arbiter._ledger.database, db.subject_key).remove(tenant="shop-a")
    found = told(await held(arbiter, account=["u-1"]))
    assert [(entry["personal"], entry["some_erased"]) for entry in found["entries"]] == [([], True)] * 2


async def test_what_no_pseudonym_leads_to_any_more_is_still_found(arbiter: Arbiter) -> None:
    """Past the term of pseudonyms the subject that data lies under is what leads to it, as for an erasure."""
    await two_persons(arbiter)
    before = told(await held(arbiter, account=["u-1"]))
    clock = Clock()
    clock.now += 31 * 86_400 * 1_000_000
    await Expiry(arbiter._ledger, TERMS, Journal(arbiter._ledger, clock), clock, "").run("shop-a", BY)
    assert told(await held(arbiter, account=["u-1"]))["entries"] == before["entries"]


async def test_all_who_opened_an_entry_and_how_long_it_is_kept_are_told(arbiter: Arbiter) -> None:
    """Also who sent it in a dispute or computed it again; and the lists that the person is on."""
    first, *_ = await two_persons(arbiter)
    journal = Journal(arbiter._ledger, Clock())
    for what in ("dispute_pack", "replay"):
        await journal.access("shop-a", what, first, "audit", 1, BY)
    pseudonym = arbiter._vault.pseudonym("shop-a", "account", "u-1")
    row = {"tenant": "shop-a", "list": "bad", "value": pseudonym, "state": "active", "reason": "", "added_by": "x"}
    await db.Rows(arbiter._ledger.database, db.list_entry).put(**row, added=NOW)
    found = told(await held(arbiter, account=["u-1"]))
    assert [look["entry"] for look in found["looks"]] == [first, first]
    assert found["terms"] == [{"kind": "payment", "days": 90, "pseudonyms_days": 30, "because": BECAUSE}]
    assert [(each["list"], each["state"]) for each in found["lists"]] == [("bad", "active")]


async def test_who_asked_for_what_is_not_held_is_erased_with_the_rest(arbiter: Arbiter) -> None:
    found = await held(arbiter, account=["nobody"])
    id = await note_access(Journal(arbiter._ledger, Clock()), arbiter._vault, found, BY)
    await arbiter.erase(b'{"identities": {"buyer.account": "nobody"}, "reason": "asked"}', ADMIN)
    stored = await arbiter._ledger.get("shop-a", id)
    assert stored is not None
    assert stored.entry.sealed == ()


async def test_another_tenant_s_data_is_not_in_it(arbiter: Arbiter) -> None:
    other = Caller("checkout", "service", "shop-b", SHOP.scopes)
    await judged(arbiter, payment("e1", buyer=ZHANG), other)
    assert (await held(arbiter, account=["u-1"])).entries == ()


async def test_the_page_is_whole_escaped_and_loads_nothing(arbiter: Arbiter) -> None:
    await two_persons(arbiter)
    page = as_html(told(await held(arbiter, account=["u-1"]))).decode()
    assert "张三 &lt;b&gt;" in page
    assert "<b>张三" not in page
    assert "张三 <b>" not in page
    assert "default-src 'none'" in page
    for word in ("http://", "https://", "<script", "src=", "href="):
        assert word not in page


# -- The command -----------------------------------------------------------------------------------------------


def run(arbiter: Arbiter, settings: dict[str, str], *args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["subject", "access", "--tenant", "shop-a", *args], env=settings, input=stdin)


@pytest.fixture
async def place(sqlite_url: str, key_path: Path, tmp_path: Path) -> AsyncIterator[tuple[Arbiter, dict[str, str]]]:
    write(tmp_path, SMALL)
    db.migrate(sqlite_url)
    settings = Settings(sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")
    async with running(settings, Clock()) as it:
        await two_persons(it)
        yield it, settings.environ()


def there(path: Path) -> bool:
    return path.exists()


async def invoke(place: tuple[Arbiter, dict[str, str]], *args: str, stdin: str = "") -> Result:
    import anyio

    return await anyio.to_thread.run_sync(lambda: run(*place, *args, stdin=stdin))


async def test_the_command_writes_two_files_for_this_user_alone(
    place: tuple[Arbiter, dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "zhang"
    done = await invoke(place, "--account", "-", "--email", "no@example.com", "--out", str(out), stdin="u-1\n")

    assert done.exit_code == 0, done.output
    assert "2 entries, recorded as" in done.stderr
    assert "nothing is held under this email" in done.stderr
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()} == {
        "data.json": 0o600,
        "data.html": 0o600,
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    data = json.loads((out / "data.json").read_bytes())
    record = await place[0]._ledger.get("shop-a", data["record"])
    assert record is not None
    assert orjson.loads(record.entry.leaf)["what"] == "subject_access"
    assert "张三" in (out / "data.html").read_text()
    again = await invoke(place, "--account", "u-1", "--out", str(out))
    assert again.exit_code == 1
    assert "never overwritten" in again.stderr


async def test_the_command_writes_nothing_when_it_cannot_be_recorded(
    place: tuple[Arbiter, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> str:
        raise Unavailable("the commit was not acknowledged")

    monkeypatch.setattr("cli.subject.note_access", down)
    done = await invoke(place, "--account", "u-1", "--out", str(tmp_path / "zhang"))
    assert done.exit_code == 1
    assert not there(tmp_path / "zhang")


async def test_the_command_refuses_nobody_and_no_tenant(place: tuple[Arbiter, dict[str, str]], tmp_path: Path) -> None:
    nobody = await invoke(place, "--out", str(tmp_path / "x"))
    assert "name the person by at least one of" in nobody.stderr
    nowhere = await invoke(place, "--tenant", "shop-z", "--account", "u-1", "--out", str(tmp_path / "x"))
    assert "there is no entry of a tenant 'shop-z'" in nowhere.stderr
