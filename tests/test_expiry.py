"""What is past its term ends, and nothing else: by part, by kind of event, and for erased persons by the law's term."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cli import main
from engine import database as db
from engine import expiry as module
from engine.arbiter import Arbiter
from engine.assembly import Settings
from engine.callers import By
from engine.errors import NotFound
from engine.expiry import Due, Expiry
from engine.journal import Journal
from engine.ledger import Filter
from engine.vault import KeyFile
from tests.books import LI, NOW, SHOP, SMALL, Clock, judged, payment, running, write
from tests.test_erasure import (
    ACCOUNTS,
    ADMIN,
    DAY,
    KINDS,
    MR_LI,
    MS_ZHANG,
    READER,
    RETENTION,
    everywhere,
    request,
    rows_of,
    traces_of,
    two_people,
)

pytestmark = pytest.mark.anyio

BY = By("li.si", "person", "li.si")
NOTHING = Due(0, 0, 0, 0)
TERMS = f"""\
retention: test
about: What tests keep.
classes:
  - id: payments
    about: Payments.
    for: [payment]
    personal: 100d
    pseudonyms: 60d
    digests: 40d
    because: {{en: a choice, zh: 选择}}
  - id: others
    about: All else.
    for: [{KINDS.replace("payment, ", "")}, outcome]
    personal: 10y
    pseudonyms: 10y
    digests: 10y
    because: {{en: a choice, zh: 选择}}
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(module, "KEY_SECONDS", -1)  # Keys are as old as this test.
    write(tmp_path, {**SMALL, **ACCOUNTS, "policies/retention.yaml": TERMS})
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
def floored(settings: Settings, tmp_path: Path) -> Settings:
    write(tmp_path, {"policies/retention.yaml": RETENTION})
    return settings


def expiry_of(arbiter: Arbiter, clock: Clock) -> Expiry:
    journal = Journal(arbiter._ledger, clock)
    rulebook = arbiter._live.rulebook
    return Expiry(arbiter._ledger, rulebook.retention, journal, clock, rulebook.hash)


async def counts(arbiter: Arbiter) -> dict[str, int]:
    rows = await rows_of(arbiter)
    return {name: len(rows[name]) for name in ("sealed", "subject_key", "event_key", "digest", "restriction")}


async def changes(arbiter: Arbiter) -> list[dict[str, Any]]:
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
    return [orjson.loads(each.entry.leaf) for each in reversed(page.entries)]


async def test_each_part_ends_in_its_time(
    settings: Settings, clock: Clock, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digests, then pseudonyms, then sealed data; the kinds of another class stay. A dry run says the same and does
    nothing, and a run that is done finds nothing more."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    login = {"kind": "account", "event_id": "a1", "at": "2026-11-23T12:00:00Z", "account": {"action": "login"}}
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        await arbiter.observe(orjson.dumps({**login, "buyer": {"account": "u-wu"}}), SHOP)
        expiry, begun = expiry_of(arbiter, clock), await counts(arbiter)
        assert begun == {"sealed": 7, "subject_key": 3, "event_key": 7, "digest": 6, "restriction": 0}
        assert await expiry.due("shop-a") == NOTHING

        clock.now = NOW + 41 * DAY
        assert await expiry.due("shop-a") == Due(0, 0, 0, 5)
        assert await counts(arbiter) == begun
        assert await expiry.run("shop-a", BY) == Due(0, 0, 0, 5)
        assert await counts(arbiter) == {**begun, "digest": 1}

        clock.now = NOW + 61 * DAY
        # The resolution has nothing but the subject of its reason, by which an erasure finds that.
        assert await expiry.run("shop-a", BY) == Due(0, 0, 5, 0)
        assert await expiry.run("shop-a", BY) == NOTHING
        assert (await counts(arbiter))["event_key"] == 7
        # Its data is still found and erased.
        assert (await arbiter.erase(request(buyer__account="u-li"), ADMIN))["erased"] == 2

        clock.now = NOW + 101 * DAY
        assert await expiry.run("shop-a", BY) == Due(0, 4, 5 - 5, 0)
        after = await rows_of(arbiter)
        sealed = {row.entry for row in after["sealed"]}
        kinds = {row.event_kind for row in after["entry"] if row.row in sealed}
        assert kinds == {"account", "erased"}
        traces = traces_of(keys, MS_ZHANG) | traces_of(keys, MR_LI)
        gone = {name for name, value in everywhere(after) for trace in traces if trace in value}
        assert gone <= {"event_key", "key_index"}
        told = [orjson.loads(each["after"]) for each in await changes(arbiter) if each["what"] == "expired"]
        assert [each["digests"] for each in told] == [5, 0, 0]
        assert [each["pseudonyms"] for each in told] == [0, 5, 0]
        assert [each["personal"] for each in told] == [0, 0, 4]


async def test_reasons_of_changes_and_accesses_end_in_a_time_of_their_own(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """They are about no event. What leads to them goes with them, and the copies of disputes are not among them."""
    reasons = "reasons: {kept: 50d, because: {en: a choice, zh: 选择}}\n"
    write(tmp_path, {"policies/retention.yaml": TERMS.replace("100d", "1000d").replace("60d", "900d") + reasons})
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        await arbiter.set_merchant_tier("m-1", '{"tier": "watched", "reason": "张三 rang"}'.encode(), LI)
        begun, expiry = await counts(arbiter), expiry_of(arbiter, clock)
        clock.now = NOW + 50 * DAY
        assert (await expiry.due("shop-a")).reasons == 0
        clock.now += 1
        assert (await expiry.run("shop-a", BY)).reasons == 1
        after = await counts(arbiter)
        assert {name: begun[name] - after[name] for name in ("sealed", "event_key", "subject_key")} == {
            "sealed": 1,
            "event_key": 1,
            "subject_key": 1,
        }
        assert (await expiry.run("shop-a", BY)).reasons == 0


async def test_an_erasure_is_completed_when_the_law_keeps_it_no_longer(floored: Settings, clock: Clock) -> None:
    """On the last day it is still there; a day later the rows and their keys are gone, and the record says so."""
    async with running(floored, clock) as arbiter:
        await two_people(arbiter)
        done = await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        begun, expiry = await counts(arbiter), expiry_of(arbiter, clock)
        clock.now = done["restricted_until"] - 1
        await expiry.run("shop-a", BY)
        assert (await counts(arbiter))["restriction"] == 4
        clock.now = done["restricted_until"] + DAY
        assert (await expiry.run("shop-a", BY)).restricted == 4

        left = await counts(arbiter)
        assert (left["restriction"], left["sealed"]) == (0, begun["sealed"] - 4)
        assert left["subject_key"] == begun["subject_key"] - 4
        with pytest.raises(NotFound):
            await arbiter.erase(request(buyer__account="u-zhang"), ADMIN)
        assert (await changes(arbiter))[-1]["what"] == "expired"


async def test_an_interrupted_run_goes_on(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    async with running(settings, clock) as arbiter:
        await two_people(arbiter)
        clock.now = NOW + 101 * DAY
        drop, calls = module.rows.drop_personal, []

        def dying(*args: Any, **more: Any) -> int:
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return drop(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(module.rows, "drop_personal", dying)
            expiry = expiry_of(arbiter, clock)
            with pytest.raises(KeyboardInterrupt):
                await expiry.run("shop-a", BY)
        assert (await counts(arbiter))["sealed"] == 4
        assert (await expiry_of(arbiter, clock).run("shop-a", BY)).personal == 4
        assert await counts(arbiter) == dict.fromkeys(await counts(arbiter), 0)


async def test_what_ended_is_said_to_be_erased(settings: Settings, clock: Clock) -> None:
    """A decision past its terms reads as one whose person was erased, and is explained from its record."""
    async with running(settings, clock) as arbiter:
        hers, _ = await two_people(arbiter)
        clock.now = NOW + 101 * DAY
        await expiry_of(arbiter, clock).run("shop-a", BY)
        shown = await arbiter.decision(hers[-1]["id"], READER)
        assert list(shown["notes"].values()) == [{"erased": True}]
        assert (await arbiter.explanation(hers[0]["id"], READER))["verdict"] == hers[0]["verdict"]
        again = await judged(arbiter, payment("z0", **MS_ZHANG))
        assert again["id"] == hers[0]["id"]


def command(settings: Settings, *args: str) -> Any:
    environ = {name: None for name in os.environ if name.startswith("ARBITER_")} | settings.environ()
    return CliRunner().invoke(main, ["retention", "run", *args], env=environ)


async def test_the_command_runs_beside_a_server(settings: Settings, clock: Clock) -> None:
    """What is of today has its time before it: the command ends by the clock of the machine."""
    async with running(settings, clock) as arbiter:
        clock.now = NOW - 3_970 * DAY
        old = {"kind": "payment", "event_id": "old", "at": "2016-01-01T00:00:00Z", "amount": "5.00 CNY"}
        await arbiter.observe(orjson.dumps({**old, "payment": {"stage": "attempt"}, **MS_ZHANG}), SHOP)
        for args, says in ((["--dry-run"], "would end."), ([], "ended."), ([], "ended.")):
            done = await asyncio.to_thread(command, settings, *args)
            assert done.exit_code == 0, done.output
            never = "0 texts kept for the law alone, 0 copies of disputes, 0 reasons"
            some = f"1 sealed text, 1 record's pseudonyms, 1 digest, {never}"
            nothing = f"0 sealed texts, 0 records' pseudonyms, 0 digests, {never}"
            again = (await counts(arbiter))["sealed"] == 0 and says == "ended." and some not in done.output
            assert f"shop-a: {nothing if again else some} {says}" in done.output
        assert (await counts(arbiter))["sealed"] == 0
        assert await db.Rows(arbiter._ledger.database, db.subject_key).find() == []
