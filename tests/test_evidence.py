"""What was sent in a dispute: a sealed copy of its own class, which nothing else opens, and which has its own term."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from cli import main
from engine import database as db
from engine import rotation as rotating
from engine.arbiter import Arbiter
from engine.archive import Library
from engine.assembly import Settings
from engine.callers import By
from engine.errors import NotFound, VaultError
from engine.evidence import Evidence
from engine.expiry import Due, Expiry
from engine.journal import Journal
from engine.ledger import Filter, Stored
from engine.ledger.beside import copies_about
from engine.retention import Kept, Retention
from engine.rotation import Rotation
from engine.vault import SEALED
from tests.books import NOW, SHOP, SMALL, Clock, judged, payment, running, write
from tests.test_erasure import ACCOUNTS, ADMIN, DAY, MS_ZHANG, RETENTION, request, rows_of, two_people

pytestmark = pytest.mark.anyio

BY = By("li.si", "person", "li.si")
DISPUTES = RETENTION + "disputes:\n  kept: 180d\n  because: {en: the schemes, zh: 卡组织}\n"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    write(tmp_path, {**SMALL, **ACCOUNTS, "policies/retention.yaml": DISPUTES})
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


TERM = Kept(kept="180d", because={"en": "the schemes"})


def evidence_of(arbiter: Arbiter, clock: Clock) -> Evidence:
    ledger = arbiter._ledger
    return Evidence(ledger, arbiter._vault, Library(ledger.database, clock).find, clock)


async def kept(arbiter: Arbiter, clock: Clock, answer: dict[str, Any], day: int = NOW) -> tuple[Stored, dict[str, Any]]:
    """The decision of an answer, and the pack that was sent about it and kept; `day` is when it was disputed."""
    stored = await arbiter._ledger.get("shop-a", answer["id"])
    assert stored is not None
    sent = await evidence_of(arbiter, clock).send(stored, day, TERM, BY)
    assert sent.copied == "kept"
    return stored, sent.pack


async def keeps(arbiter: Arbiter, stored: Stored) -> int:
    """How many copies of what was sent about a decision are kept."""
    about = {stored.entry.id}
    return len(await arbiter._ledger.database.read(lambda connection: copies_about(connection, "shop-a", about)))


async def changed(arbiter: Arbiter, what: str) -> list[dict[str, Any]]:
    page = await arbiter._ledger.page("shop-a", Filter(kind="change", event_kind=what))
    return [orjson.loads(each.entry.leaf) for each in page.entries]


async def sealed_in(arbiter: Arbiter, entry: int) -> dict[str, Any]:
    (row,) = await db.Rows(arbiter._ledger.database, db.sealed).find(entry=entry)
    return row


async def copies(arbiter: Arbiter) -> list[Stored]:
    page = await arbiter._ledger.page("shop-a", Filter(kind="access"))
    return list(reversed(page.entries))


async def test_the_newest_copy_comes_back_as_it_was_sent(settings: Settings, clock: Clock) -> None:
    """Or that which an access made; recorded as another access. Another decision has none of it."""
    async with running(settings, clock) as arbiter:
        hers, his = await two_people(arbiter)
        stored, first = await kept(arbiter, clock, hers[0])
        _, newer = await kept(arbiter, clock, hers[0], NOW - DAY)
        assert first != newer
        evidence = evidence_of(arbiter, clock)
        again = await evidence.again(stored, None, BY)
        assert (again.pack, again.copies) == (newer, (first["access"], newer["access"]))
        assert (await evidence.again(stored, first["access"], BY)).pack == first
        looks = [orjson.loads(each.entry.leaf) for each in await copies(arbiter)]
        told = [(each["what"], each["object"], each["purpose"], each["count"]) for each in looks]
        assert told == [("dispute_pack", hers[0]["id"], "dispute", 1)] * 4
        assert [each["note"] is not None for each in looks] == [True, True, False, False]
        other = await arbiter._ledger.get("shop-a", his[0]["id"])
        assert other is not None
        for decision, access in ((other, None), (stored, again.access)):
            with pytest.raises(NotFound):
                await evidence.again(decision, access, BY)


async def test_it_stays_when_the_person_is_erased_and_ends_in_its_time(settings: Settings, clock: Clock) -> None:
    """The erasure says how many stay and until when; then the rows, the keys and what leads to them go."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        stored, pack = await kept(arbiter, clock, hers[0])
        entry = (await copies(arbiter))[0].arrival
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert (done["evidence"], done["evidence_until"]) == (1, NOW + 180 * DAY)
        assert done["erased"] + done["restricted"] == 4
        assert (await evidence_of(arbiter, clock).again(stored, None, BY)).pack == pack

        terms = arbiter._live.rulebook.retention
        expiry = Expiry(arbiter._ledger, terms, Journal(arbiter._ledger, clock), clock, "")
        clock.now = NOW + 180 * DAY
        assert (await expiry.due("shop-a")).evidence == 0
        clock.now += 1
        key = (await sealed_in(arbiter, entry))["key_id"]
        assert await expiry.run("shop-a", BY) == Due(0, 0, 0, 5 - 3, 1)
        assert await keeps(arbiter, stored) == 0
        after = await rows_of(arbiter)
        assert [name for name in ("sealed", "event_key", "key_index") if entry in {r.entry for r in after[name]}] == []
        assert key not in {row.key_id for row in after["subject_key"]}
        (told,) = await changed(arbiter, "expired")
        assert orjson.loads(told["after"])["evidence"] == 1


async def test_without_a_term_it_is_past_it(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        await kept(arbiter, clock, hers[0])
        clock.now += 1
        expiry = Expiry(arbiter._ledger, Retention({}), Journal(arbiter._ledger, clock), clock, "")
        assert await expiry.run("shop-a", BY) == Due(0, 0, 0, 0, 1)


async def test_a_clock_set_back_hides_no_copy(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        clock.now -= DAY
        stored, _ = await kept(arbiter, clock, hers[0])
        assert await keeps(arbiter, stored) == 1


async def test_whoever_is_in_an_order_is_told_of_the_copy(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    """A neighbour who took the parcel stands in the copy, and in no decision."""
    parcel = {"kind": "fulfilment", "event_id": "p1", "order_id": "o1", "at": "2026-11-23T12:00:00Z"}
    parcel |= {"fulfilment": {"stage": "delivered"}, "shipping": {"name": "邻居", "phone": "13711112222"}}
    async with running(settings, clock) as arbiter:
        answer = await judged(arbiter, payment("z1", order_id="o1", **MS_ZHANG))
        await arbiter.observe(orjson.dumps(parcel), SHOP)
        stored, _ = await kept(arbiter, clock, answer)
        assert (await arbiter.erase(request(shipping__phone="13711112222"), ADMIN))["evidence"] == 1
        write(tmp_path, {"policies/retention.yaml": RETENTION})
        await arbiter.reload(ADMIN)
        await arbiter.observe(orjson.dumps(parcel | {"event_id": "p2"}), SHOP)
        await arbiter.erase(request(shipping__phone="13711112222"), ADMIN)
        assert await keeps(arbiter, stored) == 0


async def test_without_a_term_an_erasure_takes_it_too(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    async with running(settings, clock) as arbiter:
        hers, his = await two_people(arbiter)
        stored, _ = await kept(arbiter, clock, hers[0])
        others, _ = await kept(arbiter, clock, his[0])
        write(tmp_path, {"policies/retention.yaml": RETENTION})
        await arbiter.reload(ADMIN)
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert (done["evidence"], done["evidence_until"]) == (0, None)
        assert done["erased"] + done["restricted"] == 5
        assert await keeps(arbiter, stored) == 0
        assert await keeps(arbiter, others) == 1


async def test_nothing_that_opens_data_of_events_opens_it(settings: Settings, clock: Clock) -> None:
    """It is under a use of its own, and a copy that stands in another's place does not open either."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        stored, _ = await kept(arbiter, clock, hers[0])
        await kept(arbiter, clock, hers[1])
        first, second = await copies(arbiter)
        whole = await arbiter._ledger.get("shop-a", first.entry.id)
        assert whole is not None
        (cell,) = whole.entry.sealed
        assert "张三" in orjson.loads(arbiter._vault.open(cell))["fields"]["pack"]
        with pytest.raises(VaultError):
            arbiter._vault.open(replace(cell, table=SEALED))

        rows = db.Rows(arbiter._ledger.database, db.sealed)
        ours, theirs = await sealed_in(arbiter, first.arrival), await sealed_in(arbiter, second.arrival)
        moved = {name: theirs[name] for name in ("subject", "key_id", "ciphertext")}
        await rows.change({"entry": ours["entry"]}, **moved)
        with pytest.raises(VaultError):
            await evidence_of(arbiter, clock).again(stored, None, BY)


async def test_a_copy_that_its_record_does_not_commit_to_is_told(settings: Settings, clock: Clock) -> None:
    """Whoever has all keys can seal another text in its place, and not change what the log says of it."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        stored, _ = await kept(arbiter, clock, hers[0])
        (copy,) = await copies(arbiter)
        whole = await arbiter._ledger.get("shop-a", copy.entry.id)
        assert whole is not None
        (cell,) = whole.entry.sealed
        text = arbiter._vault.open(cell).replace("张三".encode(), "李四".encode())
        forged = arbiter._vault.seal("shop-a", copy.entry.id, cell.subject, text, cell.table)
        assert forged.key is not None
        keys = db.Rows(arbiter._ledger.database, db.subject_key)
        row = (await keys.find(key_id=cell.key_id))[0]
        await keys.change({"key_id": cell.key_id}, key_id=forged.key_id, wrapped=forged.key.wrapped)
        rows = db.Rows(arbiter._ledger.database, db.sealed)
        await rows.change({"entry": copy.arrival}, key_id=forged.key_id, ciphertext=forged.ciphertext)
        assert row["subject"] == bytes.fromhex(cell.subject)
        with pytest.raises(VaultError, match="not what its record commits to"):
            await evidence_of(arbiter, clock).again(stored, None, BY)


async def test_a_rotation_leaves_it_openable(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotating, "YOUNG", -1)
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        stored, pack = await kept(arbiter, clock, hers[0])
        entry = (await copies(arbiter))[0].arrival
        before = await sealed_in(arbiter, entry)
        rotation = Rotation(arbiter._ledger, arbiter._vault, Journal(arbiter._ledger, clock))
        await rotation.subjects("shop-a", BY)
        assert (await sealed_in(arbiter, entry))["ciphertext"] != before["ciphertext"]
        assert (await evidence_of(arbiter, clock).again(stored, None, BY)).pack == pack


async def test_a_dispute_that_is_over_ends_its_copies(settings: Settings, clock: Clock) -> None:
    """All copies of the one decision, recorded before in a number; a second time there is nothing to end."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        (stored, _), (other, _) = await kept(arbiter, clock, hers[0]), await kept(arbiter, clock, hers[1])
        await kept(arbiter, clock, hers[0])
        assert await evidence_of(arbiter, clock).close(stored, "won", BY) == 2
        assert await keeps(arbiter, stored) == 0
        assert await keeps(arbiter, other) == 1
        assert await evidence_of(arbiter, clock).close(stored, "won", BY) == 0
        (told,) = await changed(arbiter, "dispute_closed")
        assert (told["object"], told["before"], told["after"]) == (hers[0]["id"], "2", None)
        assert told["by"]["name"] == "li.si"


# -------------------------------------------------------------------------------------------- the command


def command(settings: Settings, *args: str) -> Result:
    environ = {name: None for name in os.environ if name.startswith("ARBITER_")} | settings.environ()
    return CliRunner().invoke(main, ["dispute", *args], env=environ)


async def test_the_command_writes_again_what_was_sent_whatever_was_erased(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """Byte for byte, recorded as a look of its own. A pack made anew says what is gone, and does not take the place of
    the copy. Closing ends it."""
    async with running(settings, clock) as arbiter:
        await judged(arbiter, payment("z1", **MS_ZHANG))
        run = partial(asyncio.to_thread, command, settings)
        sent = await run("pack", "z1", "--disputed-on", "2026-11-20", "--out", str(tmp_path / "sent"))
        assert sent.exit_code == 0, sent.output
        assert "a sealed copy is kept until " in sent.stderr
        await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)

        anew = await run("pack", "z1", "--disputed-on", "2026-11-20", "--out", str(tmp_path / "anew"))
        assert "missing: personal data of the buyer was erased" in anew.stdout
        assert "no copy of this pack is kept. Those from before stay, --as-sent writes them again" in anew.stderr
        assert "张三" not in (tmp_path / "anew" / "dispute.json").read_text()

        again = await run("pack", "z1", "--as-sent", "--out", str(tmp_path / "again"))
        assert again.exit_code == 0, again.output
        for name in ("dispute.json", "dispute.html", "record.json"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "sent" / name).read_bytes()
        assert "张三" in (tmp_path / "again" / "dispute.json").read_text()
        looks = [orjson.loads(each.entry.leaf) for each in await copies(arbiter)]
        assert [(each["what"], each["note"] is not None) for each in looks] == [
            ("dispute_pack", True),
            ("dispute_pack", False),
            ("dispute_pack", False),
        ]

        closed = await run("close", "z1", "--reason", "won")
        assert (closed.exit_code, closed.stdout) == (0, "1 sealed copy ended.\n")
        for args in (("close", "z1", "--reason", "won"), ("pack", "z1", "--as-sent", "--out", str(tmp_path / "no"))):
            gone = await run(*args)
            assert (gone.exit_code, gone.stderr) == (1, "arbiter: no copy of what was sent about 'z1' is kept\n")
        assert not (tmp_path / "no").exists()


async def test_an_erasure_while_a_pack_is_made_leaves_no_copy_of_what_it_erased(
    settings: Settings, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not know of the copy: so that one goes again, and the pack says so."""
    async with running(settings, clock) as arbiter:
        stored = await judged(arbiter, payment("z1", **MS_ZHANG))
        access, loop = Journal.access, asyncio.get_running_loop()

        async def late(self: Journal, *given: Any) -> str:
            erased = asyncio.run_coroutine_threadsafe(arbiter.erase(request(buyer__account="u-zhang"), ADMIN), loop)
            assert (await asyncio.wrap_future(erased))["evidence"] == 0
            return await access(self, *given)

        monkeypatch.setattr(Journal, "access", late)
        sent = await asyncio.to_thread(
            command, settings, "pack", "z1", "--disputed-on", "2026-11-20", "--out", str(tmp_path / "sent")
        )
        assert "something was erased: no copy of this pack is kept" in sent.stderr
        decision = await arbiter._ledger.get("shop-a", stored["id"])
        assert decision is not None
        assert await keeps(arbiter, decision) == 0


async def test_without_a_dispute_no_copy_is_kept(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    """Else anybody could keep an order from being erased. A reported chargeback is one."""
    async with running(settings, clock) as arbiter:
        await judged(arbiter, payment("z1", **MS_ZHANG))
        sent = await asyncio.to_thread(command, settings, "pack", "z1", "--out", str(tmp_path / "one"))
        assert "no copy is kept: no chargeback is known of" in sent.stderr
        outcome = {"kind": "outcome", "event_id": "c1", "outcome": {"refers_to": "z1", "result": "chargeback"}}
        await arbiter.observe(orjson.dumps({**outcome, "at": "2026-11-23T12:00:00Z"}), SHOP)
        sent = await asyncio.to_thread(command, settings, "pack", "z1", "--out", str(tmp_path / "two"))
        assert "a sealed copy is kept until " in sent.stderr


async def test_without_a_term_no_copy_is_kept(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    write(tmp_path, {"policies/retention.yaml": RETENTION})
    async with running(settings, clock) as arbiter:
        await judged(arbiter, payment("z1", **MS_ZHANG))
        sent = await asyncio.to_thread(
            command, settings, "pack", "z1", "--disputed-on", "2026-11-20", "--out", str(tmp_path / "sent")
        )
        assert sent.exit_code == 0, sent.output
        assert "no copy is kept: the retention file in force has no term for disputes" in sent.stderr
        assert [orjson.loads(each.entry.leaf)["note"] for each in await copies(arbiter)] == [None]
