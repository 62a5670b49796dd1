"""The ledger on SQLite and on PostgreSQL: one suite, and the faults that each of them has."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from engine import database
from engine.errors import RequestRefused, SettingsError, Unavailable, VaultError
from engine.ledger import Duplicate, Entry, Filter, Ledger, Stored, entries, new_id, writing
from engine.ledger.entries import SUBJECT, pack_keys, unpack_keys
from engine.receipt import verify_receipt
from engine.vault import Erased, KeyFile, Vault
from tests import servers
from tests.vaults import vault_over

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent
TENANT = "shop"
PERSON = '{"buyer.name":"张三"}'.encode()
SUBJECT_OF_PERSON = "ab" * 16
KEYS = (("buyer.account", "01" * 16), ("card.ref", "02" * 16))


def an_entry(number: int = 1, **more: Any) -> Entry:
    """A decision that differs by number, with anything else as asked."""
    event = f"ev-{number}"
    given = {"event_id": event, "at": number, "received_at": number, "leaf": f'{{"event":"{event}"}}'.encode(), **more}
    plain = {"id": new_id(), "tenant": TENANT, "kind": "decision", "event_kind": "transaction"}
    return Entry(**{**plain, **given})


@asynccontextmanager
async def opened(url: str, keys: KeyFile) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(url, keys)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def ledger(ledger_url: str, keys: KeyFile) -> AsyncIterator[Ledger]:
    async with opened(ledger_url, keys) as one:
        yield one


async def together(ledger: Ledger, *new: Entry) -> list[Any]:
    """What each of several appends made at once gives or raises."""
    return await asyncio.gather(*map(ledger.append, new), return_exceptions=True)


async def everything(ledger: Ledger, tenant: str = TENANT) -> list[Stored]:
    found: list[Stored] = []
    cursor = None
    while True:
        page = await ledger.page(tenant, cursor=cursor, limit=200)
        found += page.entries
        cursor = page.cursor
        if cursor is None:
            return found


# ------------------------------------------------------------------------------------------- one entry


async def test_what_is_appended_comes_back(ledger: Ledger, keys: KeyFile) -> None:
    """An entry comes back whole by its id and by its event id, its sealed data opens, its receipt is the same."""
    vault = await vault_over(ledger.database, keys, TENANT)
    new = an_entry(keys=KEYS, digest=b"d" * 32, order_id="o-1", merchant_id="m-1", verdict="approve", refers_to="r-1")
    new = replace(new, sealed=(vault.seal(TENANT, new.id, SUBJECT_OF_PERSON, PERSON),))
    receipt = await ledger.append(new)

    for stored in (await ledger.get(TENANT, new.id), await ledger.find(TENANT, "ev-1")):
        assert stored is not None
        assert replace(stored.entry, sealed=()) == replace(new, sealed=())
        assert [vault.open(cell) for cell in stored.entry.sealed] == [PERSON]
        assert [Vault.unkept(keys).open(cell) for cell in stored.entry.sealed] == [PERSON]
        assert stored.receipt.json() == receipt.json()
    assert verify_receipt(receipt.json(), new.leaf, keys.signer.public_key)


async def test_what_was_never_appended_is_not_there(ledger: Ledger) -> None:
    """None, and nothing of another tenant."""
    new = an_entry()
    await ledger.append(new)

    assert await ledger.find(TENANT, "ev-2") is None
    assert await ledger.find("mall", "ev-1") is None
    assert await ledger.get("mall", new.id) is None
    assert await ledger.get(TENANT, new_id()) is None


async def test_a_group_shares_one_signature(ledger: Ledger, keys: KeyFile) -> None:
    """Entries committed together have receipts of one batch, and each proves its own leaf."""
    group = [an_entry(number) for number in range(100)]
    receipts = await together(ledger, *group)

    assert len({receipt.batch.signature for receipt in receipts}) < 10
    for new, receipt in zip(group, receipts, strict=True):
        stored = await ledger.get(TENANT, new.id)
        assert stored is not None
        assert stored.receipt.json() == receipt.json()
        assert verify_receipt(receipt.json(), new.leaf, keys.signer.public_key)


async def test_arrival_rises(ledger: Ledger) -> None:
    """Later entries have a higher arrival."""
    for number in range(5):
        await ledger.append(an_entry(number, received_at=100 - number))

    arrivals = {stored.entry.event_id: stored.arrival for stored in await everything(ledger)}
    assert sorted(arrivals, key=arrivals.__getitem__) == [f"ev-{number}" for number in range(5)]


async def test_a_leaf_that_no_log_could_hold_is_our_mistake(ledger: Ledger) -> None:
    """65,535 bytes fit, one more does not."""
    await ledger.append(an_entry(1, leaf=b"x" * entries.MAX_LEAF))
    with pytest.raises(ValueError, match="longer than 65535"):
        await ledger.append(an_entry(2, leaf=b"x" * (entries.MAX_LEAF + 1)))


# ----------------------------------------------------------------------------------- one event, one verdict


async def test_the_second_of_one_event_gets_the_first(ledger: Ledger) -> None:
    """Duplicate carries the stored entry, with the digest that tells a retry from another body."""
    first = an_entry(1, digest=b"1" * 32, verdict="approve")
    receipt = await ledger.append(first)

    with pytest.raises(Duplicate) as caught:
        await ledger.append(an_entry(1, digest=b"2" * 32, verdict="decline"))
    assert caught.value.stored.entry == first
    assert caught.value.stored.receipt.json() == receipt.json()


async def test_the_very_same_entry_again_is_a_duplicate(ledger: Ledger) -> None:
    """Also when its own id is the first thing that collides."""
    first = an_entry()
    await ledger.append(first)

    with pytest.raises(Duplicate):
        await ledger.append(first)


async def test_a_decision_and_an_event_share_their_ids(ledger: Ledger) -> None:
    """One event id is either judged or fed to features, once."""
    await ledger.append(an_entry(1, kind="event"))

    with pytest.raises(Duplicate):
        await ledger.append(an_entry(1, kind="decision"))


async def test_other_kinds_and_tenants_do_not_collide(ledger: Ledger) -> None:
    """Resolutions and changes may be many for one event id or have none; each tenant has ids of its own."""
    free = [an_entry(1, kind="resolution"), an_entry(1, kind="resolution"), an_entry(1, kind="change", event_id=None)]
    results = await together(ledger, an_entry(1), an_entry(1, tenant="mall"), *free)

    assert not [result for result in results if isinstance(result, BaseException)]


@pytest.mark.parametrize("workers", [1, 2])
async def test_of_fifty_at_once_one_wins(ledger_url: str, keys: KeyFile, workers: int) -> None:
    """Fifty appends of one event id, in one process or two: one receipt, 49 times that entry, one row."""
    async with opened(ledger_url, keys) as one, opened(ledger_url, keys) as two:
        ledgers = [one, two][:workers]
        racers = [ledgers[number % workers].append(an_entry(7)) for number in range(50)]
        others = [ledgers[number % workers].append(an_entry(100 + number)) for number in range(50)]
        results = await asyncio.gather(*racers, *others, return_exceptions=True)
        stored = await one.find(TENANT, "ev-7")

        assert stored is not None
        losers = [result for result in results[:50] if isinstance(result, Duplicate)]
        winners = [result for result in results[:50] if not isinstance(result, BaseException)]
        assert [receipt.json() for receipt in winners] == [stored.receipt.json()]
        assert [loser.stored.entry.id for loser in losers] == [stored.entry.id] * 49
        assert not [result for result in results[50:] if isinstance(result, BaseException)]
        assert len(await everything(one)) == 51


async def test_two_workers_with_the_same_ids_in_opposite_order_do_not_block(ledger_url: str, keys: KeyFile) -> None:
    """Groups that share ids in different orders cannot wait for each other for ever; each id has one winner."""
    async with opened(ledger_url, keys) as one, opened(ledger_url, keys) as two:
        there = [one.append(an_entry(number)) for number in range(60)]
        back = [two.append(an_entry(number)) for number in reversed(range(60))]
        results = await asyncio.gather(*there, *back, return_exceptions=True)

        assert sum(isinstance(result, Duplicate) for result in results) == 60
        assert not [r for r in results if isinstance(r, BaseException) and not isinstance(r, Duplicate)]


# ------------------------------------------------------------------------------------------ a bad row

BAD: dict[str, dict[str, Any]] = {
    "a number too large": {"at": 2**70},
    "no text": {"event_kind": None},
    "a subject twice": {"sealed": "twice"},
    "a subject that is no pseudonym": {"sealed": "odd"},
    "a path too long": {"keys": (("x" * 256, "01" * 16),)},
    "text no database takes": {"order_id": "\ud800"},
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_row_fails_alone(ledger: Ledger, keys: KeyFile, what: str) -> None:
    """What cannot be written raises for its own caller, and not as Unavailable; its group commits with receipts."""
    vault, bad, change = await vault_over(ledger.database, keys, TENANT), an_entry(1), dict(BAD[what])
    if change.get("sealed") == "twice":
        change["sealed"] = tuple(vault.seal(TENANT, bad.id, SUBJECT_OF_PERSON, PERSON) for _ in range(2))
    elif change.get("sealed") == "odd":
        change["sealed"] = (vault.seal(TENANT, bad.id, "no hex", PERSON),)
    group = [an_entry(number) for number in range(2, 22)]
    results = await together(ledger, *group[:10], replace(bad, **change), *group[10:])

    failed = results.pop(10)
    assert isinstance(failed, Exception)
    assert not isinstance(failed, Unavailable)
    assert await ledger.find(TENANT, "ev-1") is None
    for new, receipt in zip(group, results, strict=True):
        assert verify_receipt(receipt.json(), new.leaf, keys.signer.public_key)
    assert len(await everything(ledger)) == 20
    assert ledger.alive
    assert ledger.waiting == 0


async def test_a_key_whose_first_record_failed_is_stored_with_the_next(ledger: Ledger, keys: KeyFile) -> None:
    """A new subject's key travels with every cell until one is committed: no cell is left without its key."""
    vault = await vault_over(ledger.database, keys, TENANT)
    lost, kept = an_entry(1, at=2**70), an_entry(2)
    lost = replace(lost, sealed=(vault.seal(TENANT, lost.id, SUBJECT_OF_PERSON, PERSON),))
    kept = replace(kept, sealed=(vault.seal(TENANT, kept.id, SUBJECT_OF_PERSON, PERSON),))
    assert lost.sealed[0].key is kept.sealed[0].key
    await together(ledger, lost, kept)

    stored = await ledger.find(TENANT, "ev-2")
    assert stored is not None
    assert Vault.unkept(keys).open(stored.entry.sealed[0]) == PERSON
    later = an_entry(3)
    cell = vault.seal(TENANT, later.id, SUBJECT_OF_PERSON, PERSON)
    assert cell.key is not None
    assert cell.key.stored


async def test_two_workers_may_each_give_a_subject_a_key(ledger_url: str, keys: KeyFile) -> None:
    """Each cell names its own key, so both open."""
    async with opened(ledger_url, keys) as one, opened(ledger_url, keys) as two:
        for number, ledger in enumerate((one, two)):
            new = an_entry(number)
            cell = (await vault_over(ledger.database, keys, TENANT)).seal(TENANT, new.id, SUBJECT_OF_PERSON, PERSON)
            await ledger.append(replace(new, sealed=(cell,)))
        cells = [stored.entry.sealed[0] for number in range(2) if (stored := await one.find(TENANT, f"ev-{number}"))]

        assert cells[0].key_id != cells[1].key_id
        assert [Vault.unkept(keys).open(cell) for cell in cells] == [PERSON, PERSON]


async def test_after_erasure_the_data_is_gone_and_told_apart(ledger: Ledger, keys: KeyFile) -> None:
    """Without its key row sealed data reads as Erased, also in a process that used the key; the entry stays."""
    vault, new = await vault_over(ledger.database, keys, TENANT), an_entry()
    await ledger.append(replace(new, sealed=(vault.seal(TENANT, new.id, SUBJECT_OF_PERSON, PERSON),)))
    rows = database.Rows(ledger.database, database.subject_key)
    assert await rows.remove(subject=bytes.fromhex(SUBJECT_OF_PERSON)) == 1

    stored = await ledger.find(TENANT, "ev-1")
    assert stored is not None
    assert stored.entry.sealed[0].key is None
    with pytest.raises(Erased):
        vault.open(stored.entry.sealed[0])


async def test_ciphertexts_swapped_in_the_database_do_not_open(ledger: Ledger, keys: KeyFile) -> None:
    """Two records of one person: one's ciphertext under the other fails closed."""
    vault, pair = await vault_over(ledger.database, keys, TENANT), [an_entry(number) for number in (1, 2)]
    for new in pair:
        await ledger.append(replace(new, sealed=(vault.seal(TENANT, new.id, SUBJECT_OF_PERSON, new.id.encode()),)))
    rows = database.Rows(ledger.database, database.sealed)
    first, second = await rows.find(tenant=TENANT)
    await rows.change({"entry": first["entry"]}, ciphertext=second["ciphertext"])

    stored = await ledger.find(TENANT, "ev-1")
    assert stored is not None
    with pytest.raises(VaultError):
        vault.open(stored.entry.sealed[0])


# ---------------------------------------------------------------------------------------------- pages

LISTED = [
    an_entry(1, verdict="approve", merchant_id="m-1", order_id="o-1", keys=KEYS),
    an_entry(2, verdict="decline", merchant_id="m-1", order_id="o-2", keys=(("device.id", "03" * 16),)),
    an_entry(3, verdict="approve", merchant_id="m-2", order_id="o-1", event_kind="payment"),
    an_entry(4, kind="event", event_kind="outcome", received_at=3, keys=(("shipping.phone", "01" * 16),)),
    an_entry(5, kind="resolution", refers_to=f"{uuid.UUID(int=1)}", verdict="approve", received_at=3),
    an_entry(6, tenant="mall", verdict="approve", order_id="o-1", keys=KEYS),
]
FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [5, 4, 3, 2, 1]),
    ({"verdict": "approve"}, [5, 3, 1]),
    ({"verdict": "review"}, []),
    ({"kind": "decision"}, [3, 2, 1]),
    ({"event_kind": "payment"}, [3]),
    ({"merchant_id": "m-1"}, [2, 1]),
    ({"order_id": "o-1"}, [3, 1]),
    ({"order_id": "o-1", "verdict": "approve", "merchant_id": "m-2"}, [3]),
    ({"refers_to": str(uuid.UUID(int=1))}, [5]),
    ({"since": 2}, [5, 4, 3, 2]),
    ({"until": 3}, [2, 1]),
    ({"since": 2, "until": 3}, [2]),
    ({"pseudonym": "01" * 16}, [4, 1]),
    ({"pseudonym": "03" * 16}, [2]),
    ({"pseudonym": "04" * 16}, []),
    ({"pseudonym": "01" * 16, "kind": "decision"}, [1]),
]


@pytest.mark.parametrize("indexed", [False, True])
async def test_filters_show_what_they_say(ledger: Ledger, indexed: bool) -> None:
    """Every filter, newest first, within the tenant; pseudonyms are found before and after they are indexed."""
    for new in LISTED:
        await ledger.append(new)
    if indexed:
        await ledger.index_keys()

    for wanted, expected in FILTERS:
        page = await ledger.page(TENANT, Filter(**wanted))
        assert [int(str(stored.entry.event_id)[3:]) for stored in page.entries] == expected, wanted
        assert page.cursor is None


async def test_a_sealed_subject_is_found_by_its_pseudonym(ledger: Ledger, keys: KeyFile) -> None:
    """Whoever erases a person finds all records that hold their data, also where no entity key says so."""
    new, vault = an_entry(), await vault_over(ledger.database, keys, TENANT)
    await ledger.append(replace(new, keys=KEYS, sealed=(vault.seal(TENANT, new.id, SUBJECT_OF_PERSON, PERSON),)))
    for _ in range(2):
        page = await ledger.page(TENANT, Filter(pseudonym=SUBJECT_OF_PERSON))
        assert [stored.entry.id for stored in page.entries] == [new.id]
        await ledger.index_keys()


async def test_a_cursor_walks_through_all_once(ledger: Ledger) -> None:
    """No entry twice, none left out, although several share one microsecond and new ones arrive meanwhile."""
    await together(ledger, *[an_entry(number, received_at=number // 4) for number in range(30)])
    seen: list[str] = []
    cursor = None
    while True:
        page = await ledger.page(TENANT, cursor=cursor, limit=7)
        seen += [stored.entry.id for stored in page.entries]
        await ledger.append(an_entry(1000 + len(seen)))
        cursor = page.cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == 30


@pytest.mark.parametrize("cursor", ["", "x", "§", "MTIz", "LTEuLTE", "MS4y.", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE"])
async def test_a_cursor_of_nobody_is_refused(ledger: Ledger, cursor: str) -> None:
    """Refused as the caller's mistake."""
    with pytest.raises(RequestRefused, match="cursor"):
        await ledger.page(TENANT, cursor=cursor)


async def test_a_pseudonym_that_is_none_is_refused(ledger: Ledger) -> None:
    """Refused as the caller's mistake."""
    with pytest.raises(RequestRefused, match="32 hex digits"):
        await ledger.page(TENANT, Filter(pseudonym="张三"))


# ---------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("how", ["facts", "facts_above"])
async def test_who_reads_all_comes_to_an_end_though_entries_keep_coming(ledger: Ledger, how: str) -> None:
    """Whoever rebuilds windows under load would else read for as long as there is load."""
    for number in range(1, 8):
        await ledger.append(an_entry(number))
    read = 0
    async for some in getattr(ledger, how)(0, 3):
        read += len(some)
        assert read < 50, "it has no end"
        await ledger.append(an_entry(100 + read))

    assert read >= 7


async def test_facts_rebuild_what_happened(ledger: Ledger, keys: KeyFile) -> None:
    """Decisions and events since a time, of all tenants, by arrival, with their keys but without sealed subjects."""
    for new in LISTED:
        cell = (await vault_over(ledger.database, keys, new.tenant)).seal(new.tenant, new.id, SUBJECT_OF_PERSON, PERSON)
        await ledger.append(replace(new, sealed=(cell,)))

    async def since(time: int, size: int) -> list[tuple[str, str | None, dict[str, str]]]:
        parts = [part async for part in ledger.facts(time, size)]
        assert all(0 < len(part) <= size for part in parts)
        return [(fact.tenant, fact.event_id, dict(fact.keys)) for part in parts for fact in part]

    known = {(new.tenant, new.event_id): dict(new.keys) for new in LISTED}
    for size in (1, 2, 100):
        assert [name[:2] for name in await since(0, size)] == [
            ("mall", "ev-6"),
            *((TENANT, f"ev-{number}") for number in (1, 2, 3, 4)),
        ]
    assert [name[1] for name in await since(3, 100)] == ["ev-6", "ev-3", "ev-4"]
    assert all(known[tenant, event] == found for tenant, event, found in await since(0, 100))
    assert await ledger.tenants() == ["mall", TENANT]


async def test_cases_are_what_opened_one_or_ruled_in_one(ledger: Ledger) -> None:
    """Newest first, in lists, of one tenant, back to a time; nothing else of the ledger is looked at."""
    given = [
        *(an_entry(number, verdict=verdict) for number, verdict in enumerate(("approve", "challenge", "review"))),
        an_entry(3, kind="resolution", verdict="approve", refers_to="r-1"),
        an_entry(4, kind="event"),
        an_entry(5, verdict="challenge", tenant="other"),
    ]
    for new in given:
        await ledger.append(new)
    shop = given[0].tenant

    async def found(since: int, size: int) -> list[bytes]:
        arrivals = [arrival async for page in ledger.cases(shop, since, size=size) for arrival, _ in page]
        return await ledger.leaves(arrivals)

    newest_first = [given[number].leaf for number in (3, 2, 1)]
    assert await found(0, 5) == await found(0, 1) == newest_first
    assert await found(given[2].received_at, 5) == newest_first[:2]
    assert await found(given[3].received_at + 1, 5) == []
    arrivals = [arrival async for page in ledger.cases(shop, 0) for arrival, _ in page]
    assert [page async for page in ledger.cases(shop, 0, above=arrivals[0])] == []
    assert [len(page) async for page in ledger.cases(shop, 0, above=arrivals[2])] == [2]


async def test_an_empty_ledger_has_no_facts(ledger: Ledger) -> None:
    """Nothing, and no error."""
    assert [part async for part in ledger.facts(0)] == []
    assert await ledger.tenants() == []


PAIRS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=60).filter(lambda path: path != SUBJECT), st.binary(min_size=16, max_size=16)
    )
)


@settings(max_examples=50, deadline=None)
@given(PAIRS, st.lists(st.binary(min_size=16, max_size=16)))
def test_packed_keys_unpack(pairs: list[tuple[str, bytes]], subjects: list[bytes]) -> None:
    """Any paths and pseudonyms come back in order; subjects only when asked for."""
    keys = [(path, pseudonym.hex()) for path, pseudonym in pairs]
    named = [subject.hex() for subject in subjects]
    packed = pack_keys(keys, named)

    assert list(unpack_keys(packed)) == keys
    assert list(unpack_keys(packed, subjects=True)) == [*keys, *((SUBJECT, name) for name in named)]


# ------------------------------------------------------------------------------------- limits and ends


async def test_too_many_waiting_are_refused_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit callers hear ledger_busy and when to come back; those within are written."""
    monkeypatch.setattr(writing, "MAX_WAITING", 10)
    results = await together(ledger, *[an_entry(number) for number in range(30)])

    refused = [result for result in results if isinstance(result, Unavailable)]
    assert {(error.reason, error.retry_after) for error in refused} == {("ledger_busy", 1)}
    assert len(await everything(ledger)) == 30 - len(refused) >= 10
    assert ledger.waiting == 0


async def test_closing_writes_what_waits(ledger_url: str, keys: KeyFile) -> None:
    """Every append before `close` gets its receipt; one after it is refused."""
    one = await Ledger.open(ledger_url, keys)
    appends = [asyncio.ensure_future(one.append(an_entry(number))) for number in range(500)]
    await asyncio.sleep(0)
    await one.close()

    assert not [
        result for result in await asyncio.gather(*appends, return_exceptions=True) if isinstance(result, Exception)
    ]
    with pytest.raises(Unavailable, match="closing"):
        await one.append(an_entry(1000))
    async with opened(ledger_url, keys) as again:
        assert len(await everything(again)) == 500


async def test_a_caller_that_went_away_harms_nobody(ledger: Ledger) -> None:
    """A cancelled append may be written; the others of its group get their receipts."""
    appends = [asyncio.ensure_future(ledger.append(an_entry(number))) for number in range(10)]
    await asyncio.sleep(0)
    appends[3].cancel()

    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(result).__name__ for result in results if isinstance(result, BaseException)] == ["CancelledError"]


async def test_the_keys_of_another_ledger_are_refused(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """Starting with a wrong key file would give every person a second pseudonym."""
    other = KeyFile.create(tmp_path / "other.keys")
    with pytest.raises(SettingsError, match="another ledger"):
        await Ledger.open(ledger_url, other)


async def test_history_cannot_be_changed_by_a_slip(ledger: Ledger) -> None:
    """Entries and batches refuse UPDATE and DELETE, also from Arbiter's own connection."""
    await ledger.append(an_entry())
    for statement in (
        "UPDATE entry SET verdict = 'approve'",
        "DELETE FROM entry",
        "UPDATE batch SET size = 2",
        "DELETE FROM batch",
    ):
        with pytest.raises(Exception, match="append-only"):
            await ledger.database.write(lambda connection, statement=statement: connection.execute(text(statement)))
    assert len(await everything(ledger)) == 1


def test_ids_are_uuids_that_rise() -> None:
    """RFC 9562 version 7, in the order of their milliseconds."""
    ids = []
    for _ in range(5):
        ids.append(uuid.UUID(new_id()))
        time.sleep(0.002)

    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {uuid.RFC_4122}
    assert ids == sorted(ids)
    assert abs(ids[0].int >> 80) - time.time_ns() // 1_000_000 < 1_000


# ---------------------------------------------------------------------------------- faults of SQLite


@pytest.fixture
def sqlite_file(tmp_path: Path, _migrated_sqlite: Path) -> Path:
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    return tmp_path / "arbiter.db"


async def eventually(ledger: Ledger, new: Entry) -> Any:
    """The receipt of an append that is repeated as a client would, for five seconds."""
    for _ in range(50):
        try:
            return await ledger.append(new)
        except Unavailable:
            await asyncio.sleep(0.1)
        except Duplicate as error:
            return error.stored.receipt
    return pytest.fail("the ledger did not recover")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when `condition` holds, within ten seconds."""
    for _ in range(200):
        if await condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come to pass")


async def alive(ledger: Ledger) -> None:
    """Return when the ledger says by itself that its database answers."""

    async def answers() -> bool:
        return ledger.alive

    await until(answers)


async def test_a_locked_file_means_unknown_and_then_recovers(
    sqlite_file: Path, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds the file for long: verdict_unknown, nothing written, and all well afterwards."""
    monkeypatch.setattr(database, "BUSY_MS", 100)
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await together(ledger, *[an_entry(number) for number in range(5)])
            assert {getattr(result, "reason", None) for result in results} == {"verdict_unknown"}
            assert not ledger.alive
            other.execute("ROLLBACK")
        await eventually(ledger, an_entry(1))

        assert ledger.alive
        assert len(await everything(ledger)) == 1


async def test_waiting_for_another_process_holds_nobody_else_up(sqlite_file: Path, keys: KeyFile) -> None:
    """The event loop goes on answering while the file is locked; what waits is written when it is free."""
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(ledger.append(an_entry(1)))
            longest = 0.0
            for _ in range(50):
                began = time.perf_counter()
                await asyncio.sleep(0.01)
                longest = max(longest, time.perf_counter() - began)
            assert not waiting.done()
            assert longest < database.BUSY_MS / 1000 / 2
            other.execute("ROLLBACK")
        await waiting

        assert len(await everything(ledger)) == 1


async def test_a_slow_commit_is_answered_as_unknown(
    sqlite_file: Path, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs: callers do not wait for ever, and a retry finds what was written in the end."""
    monkeypatch.setattr(writing, "ACKNOWLEDGE_SECONDS", 0.2)
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as caught:
                await ledger.append(an_entry(1))
            assert caught.value.reason == "verdict_unknown"
            other.execute("ROLLBACK")
        await eventually(ledger, an_entry(1))

        assert len(await everything(ledger)) == 1


async def test_a_file_that_vanished_is_noticed_and_found_again(sqlite_file: Path, keys: KeyFile) -> None:
    """Moved away: verdict_unknown and no new empty file. Back again: found without an append, nothing missing."""
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        await ledger.append(an_entry(1))
        away = await asyncio.to_thread(sqlite_file.rename, sqlite_file.with_suffix(".away"))
        with pytest.raises(Unavailable) as caught:
            await ledger.append(an_entry(2))
        assert caught.value.reason == "verdict_unknown"
        assert not await asyncio.to_thread(sqlite_file.exists)
        await asyncio.to_thread(away.rename, sqlite_file)
        await alive(ledger)
        await ledger.append(an_entry(3))

    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        assert [stored.entry.event_id for stored in await everything(ledger)] == ["ev-3", "ev-1"]


async def test_a_full_disk_loses_nothing_that_was_answered(
    sqlite_file: Path, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file cannot grow appends are Unavailable; with room again they work; what had a receipt is there."""
    limit = 120
    open_sqlite: Callable[..., sqlite3.Connection] = database.open_sqlite

    def limited(path: Path, **more: Any) -> sqlite3.Connection:
        connection = open_sqlite(path, **more)
        connection.execute(f"PRAGMA max_page_count = {limit}")
        return connection

    monkeypatch.setattr(database, "open_sqlite", limited)
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        written = []
        for number in range(400):
            (result,) = await together(ledger, an_entry(number, leaf=b"x" * 2_000))
            if isinstance(result, BaseException):
                break
            written.append(f"ev-{number}")
        assert 10 < len(written) < 399
        assert isinstance(result, Unavailable)
        assert result.reason == "verdict_unknown"
        assert "full" in str(result.__cause__)
        assert not ledger.alive
        limit = 100_000
        await eventually(ledger, an_entry(1000))

        kept = {stored.entry.event_id for stored in await everything(ledger)}
        assert kept == {*written, "ev-1000"}


async def test_pseudonyms_are_indexed_in_quiet_moments(sqlite_file: Path, keys: KeyFile) -> None:
    """Without anybody asking the index catches up, and nothing stays pending."""
    async with opened(f"sqlite:///{sqlite_file}", keys) as ledger:
        await together(ledger, *[an_entry(number, keys=KEYS) for number in range(700)])
        pending = database.Rows(ledger.database, database.key_pending)

        async def nothing_waits() -> bool:
            return not await pending.find()

        await until(nothing_waits)

        assert len(await database.Rows(ledger.database, database.key_index).find()) == 1_400


# -------------------------------------------------------------------------------- faults of PostgreSQL


@pytest.mark.service
async def test_postgresql_may_stop_and_start(keys: KeyFile) -> None:
    """While the server is away appends are verdict_unknown and reads Unavailable; afterwards all goes on by itself."""
    with servers.own("postgresql") as server:
        database.migrate(server.url())
        async with opened(server.url(), keys) as ledger:
            await ledger.append(an_entry(1))
            await asyncio.to_thread(server.stop)
            for _ in range(3):
                with pytest.raises(Unavailable) as caught:
                    await ledger.append(an_entry(2))
                assert caught.value.reason == "verdict_unknown"
            for read in (ledger.find(TENANT, "ev-1"), ledger.get(TENANT, new_id()), ledger.page(TENANT)):
                with pytest.raises(Unavailable):
                    await read
            assert not ledger.alive
            await asyncio.to_thread(server.start)
            await alive(ledger)
            await ledger.append(an_entry(3))

            assert [stored.entry.event_id for stored in await everything(ledger)] == ["ev-3", "ev-1"]


@pytest.mark.service
async def test_a_lost_connection_in_the_middle_of_a_load(postgresql_url: str, keys: KeyFile) -> None:
    """Connections cut by an administrator: each append ends as written or unknown, and a retry ends all doubt."""
    database.migrate(postgresql_url)
    async with opened(postgresql_url, keys) as ledger:
        appends = [asyncio.ensure_future(eventually(ledger, an_entry(number))) for number in range(400)]
        admin = await asyncpg.connect(postgresql_url)
        for _ in range(3):
            await asyncio.sleep(0.02)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await admin.close()
        await asyncio.gather(*appends)

        assert sorted(int(str(stored.entry.event_id)[3:]) for stored in await everything(ledger)) == list(range(400))


@pytest.mark.service
async def test_a_server_that_does_not_fsync_is_refused(
    keys: KeyFile, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a server confirms is not durable, and Arbiter would promise it."""
    database.migrate(postgresql_url)
    fetchval = asyncpg.Connection.fetchval

    async def pretend(self: Any, query: str, *args: Any, **more: Any) -> Any:
        return "off" if query == "SHOW fsync" else await fetchval(self, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "fetchval", pretend)
    with pytest.raises(SettingsError, match="fsync"):
        await Ledger.open(postgresql_url, keys)


# ------------------------------------------------------------------------------------------- kill -9


@asynccontextmanager
async def an_appender(url: str, key_file: Path, tenant: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that appends as fast as it can, once it has begun to tell of it."""
    command = ("-m", "tests.appender", url, str(key_file), tenant)
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=PIPE, stderr=DEVNULL, limit=2**24
    )
    assert child.stdout is not None
    await child.stdout.readline()
    yield child
    await child.wait()


async def told(child: asyncio.subprocess.Process) -> list[str]:
    """The event ids a process told until its end; a line that was cut off is left out."""
    assert child.stdout is not None
    return (await child.stdout.read()).decode().split("\n")[:-1]


async def check_round(url: str, keys: KeyFile, tenant: str, acknowledged: list[str]) -> None:
    """Everything acknowledged is there once, with a receipt that verifies and data that opens."""
    async with opened(url, keys) as ledger:
        kept = await everything(ledger, tenant)
        events = [stored.entry.event_id for stored in kept]
        assert len(acknowledged) > 10
        assert set(acknowledged) <= set(events)
        assert len(events) == len(set(events))
        vault = Vault.unkept(keys)
        for stored in kept[:: max(1, len(kept) // 100)]:
            assert verify_receipt(stored.receipt.json(), stored.entry.leaf, keys.signer.public_key)
            whole = await ledger.get(tenant, stored.entry.id)
            assert whole is not None
            assert vault.open(whole.entry.sealed[0]) == str(stored.entry.event_id).encode()


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.slow)])
async def test_kill_9_loses_nothing_that_was_acknowledged(
    ledger_url: str, keys: KeyFile, key_path: Path, rounds: int
) -> None:
    """A process killed at a random moment: whoever got a receipt finds the entry, once, whole."""
    moments = random.Random(rounds)
    for number in range(rounds):
        tenant = f"round-{number}"
        async with an_appender(ledger_url, key_path, tenant) as child:
            await asyncio.sleep(moments.uniform(0.05, 0.3))
            child.kill()
            acknowledged = await told(child)
        await check_round(ledger_url, keys, tenant, acknowledged)


@pytest.mark.service
@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.slow)])
async def test_kill_9_of_postgresql_loses_nothing_that_was_acknowledged(
    keys: KeyFile, key_path: Path, rounds: int
) -> None:
    """The same when it is the database that is killed: the process hears verdict_unknown and ends."""
    with servers.own("postgresql") as server:
        database.migrate(server.url())
        for number in range(rounds):
            tenant = f"round-{number}"
            async with an_appender(server.url(), key_path, tenant) as child:
                await asyncio.sleep(0.2)
                await asyncio.to_thread(server.kill)
                acknowledged = await told(child)
            await asyncio.to_thread(server.start)
            await check_round(server.url(), keys, tenant, acknowledged)
