"""A person erased: nothing opens, nothing links, others keep theirs, and the record shows that it was done."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection

from cli import main
from engine import database as db
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.decide import conclude
from engine.errors import BodyRefused, NotFound, Unavailable, VaultError
from engine.ledger import Filter
from engine.vault import KeyFile, Names, Restricted, Vault, subject_of
from tests.books import NOW, SHOP, SMALL, Clock, judged, payment, record_of, running, write
from tests.test_workers import working

pytestmark = pytest.mark.anyio

ADMIN = Caller("root", "person", "shop-a", frozenset({"admin"}))
READER = Caller("reader", "person", "shop-a", frozenset({"audit", "reveal"}))
OFFICER = Caller("li.si", "person", "shop-a", frozenset({"rules", "outcome"}))
DAY = 86_400 * 1_000_000

ACCOUNTS = {
    "rules/lists/bad-accounts.yaml": "list: bad-accounts\nabout: Accounts.\nmatch: exact\nentity: account\n",
    "rules/people.yaml": (
        "pack: people\nabout: Who buys often.\nfor: payment\nowner: me\nlet:\n"
        "  mine: count(last 30d by buyer.account)\n"
        "rules:\n"
        "  - {id: people.often, when: mine >= 2, signal: often, points: 1,\n"
        "     because: {en: '{mine} before', zh: '此前 {mine}'}, basis: {kind: house-policy, review_by: 2027-01-01}}\n"
        "  - {id: people.listed, when: buyer.account in list bad-accounts, signal: on_a_list, points: 2,\n"
        "     because: {en: listed, zh: 在名单上}, basis: {kind: house-policy, review_by: 2027-01-01}}\n"
    ),
}
KINDS = "transaction, payment, listing, merchant, account, fulfilment, aftersale, review, promotion, payout, complaint"
RETENTION = f"""\
retention: test
about: What tests keep.
classes:
  - id: all
    about: Everything.
    for: [{KINDS}, outcome]
    personal: 4y
    pseudonyms: 4y
    digests: 30d
    floor: {{term: 3y, law: [cn.ecl.31]}}
    because: {{en: the law, zh: 法律}}
"""

MS_ZHANG: Mapping[str, Any] = {
    "buyer": {"account": "u-zhang", "phone": "13800138000", "email": "zhang@example.com", "name": "张三"},
    "card": {"ref": "card_zhang", "bin": "622848"},
    "device": {"id": "dev-zhang"},
    "ip": "203.0.113.7",
}
MR_LI: Mapping[str, Any] = {
    "buyer": {"account": "u-li", "phone": "13900139000", "name": "李四"},
    "card": {"ref": "card_li", "bin": "622848"},
    "device": {"id": "dev-li"},
    "ip": "203.0.113.8",
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    write(tmp_path, {**SMALL, **ACCOUNTS})
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
def floored(settings: Settings, tmp_path: Path) -> Settings:
    """With a law that keeps payments for three years."""
    write(tmp_path, {"policies/retention.yaml": RETENTION})
    return settings


def request(**identities: str) -> bytes:
    named = {name.replace("__", "."): value for name, value in identities.items()}
    return orjson.dumps({"identities": named, "reason": "asked for by letter, 张三"})


async def two_people(arbiter: Arbiter) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Three payments of Ms Zhang and two of Mr Li; one of hers was reviewed, with a reason."""
    hers = [await judged(arbiter, payment(f"z{number}", **MS_ZHANG)) for number in range(2)]
    his = [await judged(arbiter, payment(f"l{number}", **MR_LI)) for number in range(2)]
    hers.append(await judged(arbiter, payment("z2", 61, **MS_ZHANG)))
    note = b'{"what": "review", "result": "approved", "reason": "spoke to her on the phone"}'
    await arbiter.resolve(hers[-1]["id"], note, OFFICER)
    return hers, his


async def rows_of(arbiter: Arbiter) -> dict[str, list[Any]]:
    """All rows of all tables."""

    def read(connection: Connection) -> dict[str, list[Any]]:
        return {table.name: list(connection.execute(table.select())) for table in db.metadata.sorted_tables}

    return await arbiter._ledger.database.read(read)


def values_by_entry(rows: Mapping[str, list[Any]]) -> dict[int, set[bytes]]:
    """Entry → every 16 bytes that some other table has beside its number: pseudonyms, subjects, ids of keys."""
    found: dict[int, set[bytes]] = {}
    for name in ("sealed", "event_key", "key_index", "digest", "restriction"):
        for row in rows[name]:
            for value in row:
                if isinstance(value, bytes):
                    pieces = {value[at : at + 16] for at in range(max(1, len(value) - 15))}
                    found.setdefault(row.entry, set()).update(pieces)
    return found


def traces_of(keys: KeyFile, person: Mapping[str, Any]) -> set[bytes]:
    """All pseudonyms of a person, and all subjects that could be made of them."""
    buyer = person["buyer"]
    named = [("account", buyer["account"]), ("phone", f"+86{buyer['phone']}"), ("phone", buyer["phone"])]
    named += [("card", person["card"]["ref"]), ("device", person["device"]["id"]), ("ip", person["ip"])]
    named += [("email", buyer["email"])] if "email" in buyer else []
    pseudonyms = {Names(keys).pseudonym("shop-a", *each) for each in named}
    roles = ("buyer", "recipient", "seller", "referrer")
    subjects = {subject_of(role, each) for role in roles for each in pseudonyms}
    return set(map(bytes.fromhex, pseudonyms | subjects))


def everywhere(rows: Mapping[str, list[Any]]) -> Iterator[tuple[str, bytes]]:
    for name, found in rows.items():
        for row in found:
            for value in row:
                if isinstance(value, bytes):
                    yield name, value
                elif isinstance(value, str):
                    yield name, value.encode()


async def test_after_an_erasure_nothing_opens_and_nothing_links(
    settings: Settings, clock: Clock, keys: KeyFile
) -> None:
    """Every table is searched for every pseudonym of the person, as bytes and as text; and no two of the person's
    entries have any value in common beside them."""
    async with running(settings, clock) as arbiter:
        hers, his = await two_people(arbiter)
        before = await rows_of(arbiter)
        arrivals = {row.id: row.row for row in before["entry"]}
        shared = values_by_entry(before)
        mine = [arrivals[each["id"]] for each in hers]
        assert shared[mine[0]] & shared[mine[1]]  # That is what has to go.

        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        after = await rows_of(arbiter)

        assert (done["records"], done["erased"], done["restricted"], done["keys"]) == (4, 4, 0, 1)
        for trace in traces_of(keys, MS_ZHANG):
            places = [name for name, value in everywhere(after) if trace in value or trace.hex().encode() in value]
            assert places == []
        left = values_by_entry(after)
        for entry in mine:
            assert left.get(entry, set()) == set()
        # Others keep everything.
        theirs = [arrivals[each["id"]] for each in his]
        assert [left[entry] for entry in theirs] == [shared[entry] for entry in theirs]
        assert {row.row for row in after["entry"]} > {row.row for row in before["entry"]}

        for each in hers:
            stored = await arbiter._ledger.get("shop-a", each["id"])
            assert stored is not None
            assert (stored.entry.sealed, stored.entry.keys, stored.entry.digest) == ((), (), None)
        shown = await arbiter.decision(hers[-1]["id"], READER)
        assert shown["notes"] == {shown["resolutions"][0]["id"]: {"erased": True}}


async def test_not_even_free_pages_of_the_file_remember(on_sqlite: Settings, clock: Clock, keys: KeyFile) -> None:
    """SQLite overwrites what is deleted, and empties its log of pages: the raw files hold no trace, no ciphertext and
    no wrapped key of the person, while the server runs."""
    async with running(on_sqlite, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        await arbiter._ledger.index_keys()
        rows = await rows_of(arbiter)
        mine = {row.row for row in rows["entry"] if row.id in {each["id"] for each in hers}}
        secrets = {row.ciphertext for row in rows["sealed"] if row.entry in mine}
        used = {row.key_id for row in rows["sealed"] if row.entry in mine}
        secrets |= {row.wrapped for row in rows["subject_key"] if row.key_id in used}
        secrets |= {row.digest for row in rows["digest"] if row.entry in mine} | traces_of(keys, MS_ZHANG)
        folder = db.sqlite_path(db.address(on_sqlite.database_url)).parent
        assert len(secrets & found_in(folder, secrets)) >= 11
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert found_in(folder, secrets) == set()


def found_in(folder: Path, secrets: set[bytes]) -> set[bytes]:
    """Which of them are in the files of a SQLite ledger."""
    held = b"".join(file.read_bytes() for file in folder.glob("arbiter.db*"))
    return {secret for secret in secrets if secret in held}


async def test_an_erasure_is_in_the_log_without_naming_anybody(settings: Settings, clock: Clock, keys: KeyFile) -> None:
    """A change record with who and how much; the reason is sealed, and no id of an erased record stands there."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        record = await record_of(arbiter, {"id": done["record"]}, READER)

        assert (record["type"], record["what"], record["object"]) == ("change", "erased", done["id"])
        assert record["by"] == {"name": "root", "kind": "person", "person": "root"}
        assert orjson.loads(record["after"])["records"] == 4
        text = orjson.dumps(record).decode()
        assert not any(each["id"] in text or each["event_id"] in text for each in hers)
        assert not any(trace.hex() in text for trace in traces_of(keys, MS_ZHANG))
        read = await arbiter.decision(done["record"], READER, Reveal("audit", 60))
        assert read["notes"] == {done["record"]: "asked for by letter, 张三"}


async def test_a_clock_that_was_set_back_leaves_no_key_of_the_person(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were there are destroyed, although they seem to be made after the erasure began."""
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        before = await db.Rows(arbiter._ledger.database, db.subject_key).find()
        monkeypatch.setattr("engine.erasure._wall", lambda: 1)
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        after = await db.Rows(arbiter._ledger.database, db.subject_key).find()
    assert done["keys"] >= 1
    gone = {row["key_id"] for row in before} - {row["key_id"] for row in after}
    assert len(gone) == done["keys"]


async def test_an_erasure_of_nobody_is_refused_in_words(settings: Settings, clock: Clock) -> None:
    """No identity, and one that is no object."""
    async with running(settings, clock) as arbiter:
        for identities in (b"{}", b"[]"):
            with pytest.raises(BodyRefused) as refused:
                await arbiter.erase(b'{"identities": %b, "reason": "asked"}' % identities, ADMIN)
            assert [each.code for each in refused.value.problems] == [
                "too_short" if identities == b"{}" else "wrong_type"
            ]


def test_a_second_identity_of_one_sort_is_not_left_out_without_a_word() -> None:
    """Each is erased by a run of its own; and an empty reason is none."""
    twice = ("erase", "--account", "u-4", "--account", "u-5", "--reason", "asked")
    for args, said in (
        (twice, "one identity of each sort"),
        (("erase", "--account", "u", "--reason", " "), "is empty"),
    ):
        ended = CliRunner().invoke(main, args)
        assert (ended.exit_code, said in ended.stderr) == (2, True)


async def test_recorded_answers_still_give_the_verdict(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        for each in hers:
            record = await record_of(arbiter, each, READER)
            book = arbiter._live.rulebook.kinds["payment"]
            outcome = conclude(book, record)
            assert (outcome.verdict, outcome.score) == (each["verdict"], each["score"])
            assert (await arbiter.explanation(each["id"], READER))["verdict"] == each["verdict"]


async def test_a_running_server_counts_the_person_no_more(settings: Settings, clock: Clock) -> None:
    """Its windows forget her, and count others as before; so do those of the next start."""
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        clock.now += 1000
        assert "often" in (await judged(arbiter, payment("z3", **MS_ZHANG)))["signals"]
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        clock.now += 1000
        assert "often" not in (await judged(arbiter, payment("z4", **MS_ZHANG)))["signals"]
        assert "often" in (await judged(arbiter, payment("l3", **MR_LI)))["signals"]
    clock.now += 1000
    async with running(settings, clock) as arbiter:
        assert "often" not in (await judged(arbiter, payment("z5", **MS_ZHANG)))["signals"]
        assert "often" in (await judged(arbiter, payment("z6", **MS_ZHANG)))["signals"]


class Killed(BaseException):
    """The end of the process: nothing that follows it in the code runs."""


@pytest.fixture(params=["memory", pytest.param("valkey", marks=pytest.mark.service)])
def windowed(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With windows in memory, or in a Valkey, which outlives the server."""
    shared = request.param == "valkey"
    return replace(settings, redis_url=request.getfixturevalue("valkey_url")) if shared else settings


async def test_an_erasure_that_the_database_refuses_leaves_the_windows_as_they_were(
    windowed: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise Unavailable("the disk is full")

    async with running(windowed, clock) as arbiter:
        await two_people(arbiter)
        with monkeypatch.context() as patch:
            patch.setattr("engine.erasure.take_out", refuse)
            with pytest.raises(Unavailable):
                await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        clock.now += 1000
        assert "often" in (await judged(arbiter, payment("z3", **MS_ZHANG)))["signals"]
        assert (await arbiter.erase(request(buyer__account="u-zhang"), ADMIN))["records"] == 5


@pytest.mark.parametrize("moment", ["before the commit", "after it"])
async def test_a_server_that_is_killed_within_an_erasure_leaves_nothing_that_counts_the_erased(
    windowed: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """What was committed is in no window of the next start, and what was not is erased when it is asked again."""

    def die(*_: Any) -> Any:
        raise Killed

    async with running(windowed, clock) as arbiter:
        await two_people(arbiter)
        with monkeypatch.context() as patch:
            patch.setattr(
                *(("engine.erasure.take_out", die) if moment == "before the commit" else (db.Database, "scrub", die))
            )
            with pytest.raises(Killed):
                await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        if moment == "before the commit":
            assert (await arbiter.erase(request(buyer__account="u-zhang"), ADMIN))["records"] == 4
    clock.now += 1000
    async with running(windowed, clock) as arbiter:
        assert "often" not in (await judged(arbiter, payment("z3", **MS_ZHANG)))["signals"]
        assert "often" in (await judged(arbiter, payment("l3", **MR_LI)))["signals"]


async def test_what_comes_after_an_erasure_is_kept_and_opens(settings: Settings, clock: Clock) -> None:
    """The server seals under a new key: the old one is gone. The same event id still gets its first answer."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        new = await judged(arbiter, payment("z9", **MS_ZHANG))
        stored = await arbiter._ledger.get("shop-a", new["id"])
        assert stored is not None
        texts = [orjson.loads(arbiter._vault.open(cell)) for cell in stored.entry.sealed]
        assert {text["role"] for text in texts} == {"buyer"}
        again = await judged(arbiter, payment("z0", **MS_ZHANG))
        assert again["id"] == hers[0]["id"]
        assert (await arbiter.erase(request(buyer__account="u-zhang"), ADMIN))["records"] == 1


async def test_a_person_is_found_by_any_identity_that_names_one(settings: Settings, clock: Clock) -> None:
    """By the phone, though the data is sealed under the account; the value in any spelling that events may have."""
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        assert (await arbiter.erase(request(buyer__phone="138 0013 8000"), ADMIN))["records"] == 4
        with pytest.raises(NotFound):
            await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)


async def test_a_buyer_who_is_the_recipient_goes_as_both_and_others_stay(
    settings: Settings, clock: Clock, keys: KeyFile
) -> None:
    """An order to herself, and one to Mr Li: his data in her order stays his, opens, and is erased when he asks."""
    order = {"kind": "transaction", "at": "2026-11-23T12:00:00Z", "amount": "5.00 CNY", **MS_ZHANG}
    to_her = {"name": "张三", "phone": "13800138000", "street": "文三路 1 号", "city": "杭州市"}
    to_him = {"name": "李四", "phone": "13900139000", "street": "文一路 2 号", "city": "杭州市"}
    async with running(settings, clock) as arbiter:
        for number, place in enumerate((to_her, to_him)):
            await arbiter.observe(orjson.dumps({**order, "event_id": f"t{number}", "shipping": place}), SHOP)
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert (done["records"], done["erased"]) == (2, 3)
        rows = await rows_of(arbiter)
        assert all(trace not in value for trace in traces_of(keys, MS_ZHANG) for _, value in everywhere(rows))
        assert len(rows["sealed"]) == 2  # His, and the reason of the erasure.
        stored = await arbiter._ledger.find("shop-a", "t1")
        assert stored is not None
        assert orjson.loads(arbiter._vault.open(stored.entry.sealed[0]))["fields"]["shipping.name"] == "李四"
        assert (await arbiter.erase(request(shipping__phone="13900139000"), ADMIN))["erased"] == 1


async def test_lists_forget_the_person_too(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        entry = b'{"value": "u-zhang", "reason": "chargebacks"}'
        await arbiter.add_list_entry("bad-accounts", entry, OFFICER)
        assert "on_a_list" in (await judged(arbiter, payment("z0", **MS_ZHANG)))["signals"]
        assert (await arbiter.erase(request(buyer__account="u-zhang"), ADMIN))["list_entries"] == 1
        assert "on_a_list" not in (await judged(arbiter, payment("z1", **MS_ZHANG)))["signals"]
        assert await arbiter.list_entries("bad-accounts", OFFICER) == []


REFUSED = {
    "a device": ({"device.id": "dev-zhang"}, "identities", "unknown_field"),
    "an address": ({"ip": "203.0.113.7"}, "identities", "unknown_field"),
    "no field": ({"buyer.nickname": "z"}, "identities", "unknown_field"),
    "no e-mail": ({"buyer.email": "zhang"}, "identities.buyer.email", "bad_format"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_names_no_person_is_refused(on_sqlite: Settings, clock: Clock, what: str) -> None:
    """A device or a network may be of many: whoever erases it would erase others. What was sent is not repeated."""
    identities, path, code = REFUSED[what]
    async with running(on_sqlite, clock) as arbiter:
        body = orjson.dumps({"identities": identities, "reason": "asked"})
        with pytest.raises(BodyRefused) as caught:
            await arbiter.erase(body, ADMIN)
    assert [(each.path, each.code) for each in caught.value.problems] == [(path, code)]
    assert not any(value in str(caught.value) for value in identities.values())


async def test_another_tenant_has_persons_of_its_own(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        other = Caller("root", "person", "shop-b", frozenset({"admin"}))
        with pytest.raises(NotFound, match="nothing is kept"):
            await arbiter.erase(request(buyer__account="u-zhang"), other)


# ------------------------------------------------------------------------------------------ what the law keeps


async def test_what_the_law_keeps_is_restricted(floored: Settings, clock: Clock, keys: KeyFile) -> None:
    """Until the term is over it is stored and nothing else: it opens for nobody, links nothing and counts nowhere; and
    it lies under a key that opens nothing of what was sealed before, in backups either."""
    async with running(floored, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        old = {row.key_id for row in (await rows_of(arbiter))["subject_key"]}
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        rows = await rows_of(arbiter)

        assert (done["erased"], done["restricted"]) == (0, 4)
        assert done["restricted_until"] == NOW + (3 * 366 + 90) * DAY
        assert len(rows["restriction"]) == 4
        cells = {row.entry: row for row in rows["sealed"]}
        for row in rows["restriction"]:
            assert cells[row.entry].key_id not in old
        assert not [name for name, value in everywhere(rows) for trace in traces_of(keys, MS_ZHANG) if trace in value]
        # Neither does one text lead to the next: no subject, no key, no part of an id and no time is shared.
        shared = values_by_entry(rows)
        mine = [row.entry for row in rows["restriction"]]
        beside = [key for key in rows["subject_key"] if key.key_id in {cells[entry].key_id for entry in mine}]
        assert not any(shared[one] & shared[other] for one, other in combinations(mine, 2))
        assert len({key.key_id[:4] for key in beside}) == len({key.subject for key in beside}) == len(mine)
        assert {key.created for key in beside} == {0}

        for each in hers:
            stored = await arbiter._ledger.get("shop-a", each["id"])
            assert stored is not None
            for cell in stored.entry.sealed:
                with pytest.raises(Restricted):
                    arbiter._vault.open(cell)
                with pytest.raises(VaultError):  # Nor when somebody takes the mark off the row.
                    arbiter._vault.open(type(cell)(**{**fields_of(cell), "restricted": None, "table": "sealed"}))
        shown = await arbiter.decision(hers[-1]["id"], READER)
        assert list(shown["notes"].values()) == [{"erased": True}]
        assert "often" not in (await judged(arbiter, payment("z7", **MS_ZHANG)))["signals"]


async def test_a_second_erasure_leaves_what_the_law_keeps_of_the_first(floored: Settings, clock: Clock) -> None:
    """The person came back under the same identities: what is kept of before keeps its key, and can be kept whole."""
    async with running(floored, clock) as arbiter:
        await two_people(arbiter)
        assert (await arbiter.erase(request(buyer__account="u-zhang"), ADMIN))["restricted"] == 4
        with pytest.raises(NotFound):
            await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        await judged(arbiter, payment("z9", **MS_ZHANG))
        again = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert (again["records"], again["restricted"], again["keys"]) == (1, 1, 1)
        rows = await rows_of(arbiter)
        held = {row.key_id for row in rows["subject_key"]}
        kept = {(row.entry, row.subject) for row in rows["restriction"]}
        assert len(kept) == 5
        assert {row.key_id for row in rows["sealed"] if (row.entry, row.subject) in kept} <= held


def fields_of(cell: Any) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in cell.__dataclass_fields__}


async def test_when_its_key_service_is_away_nothing_is_erased_by_half(
    floored: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the law keeps could not be sealed anew: then nothing is done, and the person is still whole."""
    async with running(floored, clock) as arbiter:
        await two_people(arbiter)
        before = await rows_of(arbiter)

        def away(*_: Any) -> Any:
            raise Unavailable("away", "keys_unavailable")

        monkeypatch.setattr(Vault, "reseal", away)
        with pytest.raises(Unavailable):
            await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        after = await rows_of(arbiter)
        assert {name: after[name] for name in ("sealed", "event_key", "digest", "entry")} == {
            name: before[name] for name in ("sealed", "event_key", "digest", "entry")
        }


async def test_the_numbers_of_the_record_are_what_was_done(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
        (change,) = [orjson.loads(each.entry.leaf) for each in page.entries]
        # No time: that of an event and of a term would name the event.
        counts = {
            "erased": 4,
            "evidence": 0,
            "keys": 1,
            "list_entries": 0,
            "records": 4,
            "restricted": 0,
            "standings": 0,
        }
        assert orjson.loads(change["after"]) == counts


@pytest.fixture
def on_sqlite(key_path: Path, tmp_path: Path, sqlite_url: str) -> Settings:
    write(tmp_path, {**SMALL, **ACCOUNTS})
    return Settings(sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


# --------------------------------------------------------------------------------------------- the command


def command(settings: Settings, *args: str, stdin: str = "") -> Result:
    environ = {name: None for name in os.environ if name.startswith("ARBITER_")} | settings.environ()
    return CliRunner().invoke(main, ["erase", "--tenant", "shop-a", *args], input=stdin, env=environ)


async def test_the_command_erases_where_no_server_runs(on_sqlite: Settings, clock: Clock) -> None:
    """By options, by a field, and with a value from standard input; the record names who is logged in."""
    async with running(on_sqlite, clock) as arbiter:
        await two_people(arbiter)
        taken = await asyncio.to_thread(command, on_sqlite, "--account", "u-zhang", "--reason", "asked")
        assert taken.exit_code == 1
        assert "another Arbiter serves this ledger: ask it for the erasure, by POST /v1/erasures" in taken.stderr

    done = await asyncio.to_thread(command, on_sqlite, "--phone", "-", "--reason", "asked", stdin="13800138000\n")
    assert done.exit_code == 0, done.stderr
    assert "4 records held something of this person.\n4 sealed texts and 1 key destroyed, 0 list entries" in done.stdout
    async with running(on_sqlite, clock) as arbiter:
        page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
        record = next(record for each in page.entries if (record := orjson.loads(each.entry.leaf))["what"] == "erased")
        assert record["by"] == {"name": getpass.getuser(), "kind": "person", "person": getpass.getuser()}


def test_the_command_says_what_is_missing(on_sqlite: Settings) -> None:
    db.migrate(on_sqlite.database_url)
    none = command(on_sqlite, "--reason", "asked")
    assert (none.exit_code, "say whom" in none.stderr) == (2, True)
    unknown = command(on_sqlite, "--account", "nobody", "--reason", "asked")
    assert (unknown.exit_code, "nothing is kept of a person with these identities" in unknown.stderr) == (1, True)
    device = command(on_sqlite, "--field", "device.id=d-1", "--reason", "asked")
    assert (device.exit_code, "no field of events names one person so" in device.stderr) == (1, True)


@pytest.mark.service
async def test_a_valkey_counts_the_person_no_more(on_sqlite: Settings, clock: Clock, valkey_url: str) -> None:
    """Windows on a server are taken out as well, by the command too: the next start finds nothing to count."""
    given = replace(on_sqlite, redis_url=valkey_url)
    async with running(given, clock) as arbiter:
        await two_people(arbiter)
    done = await asyncio.to_thread(command, given, "--account", "u-zhang", "--reason", "asked")
    assert done.exit_code == 0, done.stderr
    clock.now += 1000
    async with running(given, clock) as arbiter:
        assert "often" not in (await judged(arbiter, payment("z7", **MS_ZHANG)))["signals"]
        assert "often" in (await judged(arbiter, payment("l7", **MR_LI)))["signals"]


# ------------------------------------------------------------------------------------------ several workers

LINKED = {
    "rules/people.yaml": ACCOUNTS["rules/people.yaml"].replace(
        "rules:\n",
        "rules:\n  - {id: people.ring, when: count(last 30d by group) >= 2, signal: ring, points: 1,\n"
        "     because: {en: a ring, zh: 团伙}, basis: {kind: house-policy, review_by: 2027-01-01}}\n",
        1,
    ),
    "rules/links.yaml": (
        "links: people\nabout: Accounts that share a card.\nowner: me\nwithin: 30d\nhub: 20\naccounts: 200\ngroups:\n"
        "  group:\n    account: buyer.account\n    shares:\n      - {of: payment, by: card.ref}\n"
    ),
}


@pytest.mark.service
async def test_every_worker_forgets(
    postgresql_ledger_url: str, valkey_url: str, key_path: Path, tmp_path: Path, clock: Clock
) -> None:
    """Whichever is asked: none counts her any more, in shared windows or in groups that each keeps for itself, and what
    each seals afterwards opens, as none uses a key that is gone."""
    write(tmp_path, {**SMALL, **ACCOUNTS, **LINKED})
    settings = Settings(
        *(postgresql_ledger_url, valkey_url, key_path, tmp_path / "rules", tmp_path / "policies"), workers=2
    )
    async with working(settings, clock) as (crew, workers):
        for number in range(4):
            clock.now += 1000
            await judged(workers[number % 2], payment(f"z{number}", **MS_ZHANG))
            await judged(workers[number % 2], payment(f"l{number}", **MR_LI))
        clock.now += 1000
        for number, worker in enumerate(workers):
            signals = (await judged(worker, payment(f"zz{number}", **MS_ZHANG)))["signals"]
            assert {"often", "ring"} <= set(signals)
        done = await workers[1].erase(request(buyer__account="u-zhang"), ADMIN)
        assert (done["records"], done["keys"]) == (6, 2)

        answers = []
        for number, worker in enumerate(workers):
            clock.now += 1000
            other = {**MS_ZHANG, "buyer": {"account": f"u-other-{number}"}, "device": {"id": f"d-{number}"}}
            answers.append(await judged(worker, payment(f"n{number}", **other)))
            assert not {"often", "ring"} & set(answers[-1]["signals"])
            answers.append(await judged(worker, payment(f"m{number}", **MR_LI)))
            assert {"often", "ring"} <= set(answers[-1]["signals"])
        answers += [await judged(worker, payment(f"o{number}", **MS_ZHANG)) for number, worker in enumerate(workers)]
        for answer in answers:
            stored = await workers[0]._ledger.get("shop-a", answer["id"])
            assert stored is not None
            assert [orjson.loads(workers[0]._vault.open(cell))["role"] for cell in stored.entry.sealed] == ["buyer"]
        assert crew.ended == []
