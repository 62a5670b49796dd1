"""Several workers of one server, over a real PostgreSQL and a real Valkey: they decide as one.

First workers in one process, with a hub between them; then the processes that `arbiter serve --workers` starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock

import httpx
import orjson
import pytest
import redis

from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings, open_arbiter
from engine.detectors import Models
from engine.errors import Conflict, PackError, SettingsError, TooMuch, Unavailable
from engine.features import Features
from engine.intake import facts_of
from engine.ledger import Fact, Ledger
from engine.rulebook import load
from engine.schema import encode
from engine.stores import MemoryStore
from engine.team import Hub, Member
from engine.vault import KeyFile
from tests import servers
from tests.books import LI, POLICY, RULES, SHOP, SMALL, WANG, Clock, judged, payment, ready, record_of, write
from tests.daemon import REFUSED, Daemon
from tests.load import check_log
from tests.test_profiles import PROFILE

pytestmark = pytest.mark.service

CARD = {"card": {"ref": "card-1"}}

LINKS = """\
links: people
about: Accounts that share a card.
owner: payments-risk
within: 30d
hub: 20
accounts: 200
groups:
  group:
    account: buyer.account
    shares:
      - {of: payment, by: card.ref}
"""

GROUPED = (
    RULES
    + """\
  - id: small.group
    when: group_size(group) >= 3 and count(last 1h by group) >= 2
    signal: ring
    severity: low
    points: 10
    because: {en: a ring, zh: 团伙}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""
)

BOOK: Mapping[str, str] = {**SMALL, "rules/small.yaml": GROUPED, "rules/people.yaml": LINKS}


@pytest.fixture
def settings(postgresql_ledger_url: str, valkey_url: str, key_path: Path, tmp_path: Path) -> Settings:
    write(tmp_path, BOOK)
    return Settings(
        database_url=postgresql_ledger_url,
        redis_url=valkey_url,
        key_file=key_path,
        rules=tmp_path / "rules",
        policies=tmp_path / "policies",
        workers=2,
    )


class Crew:
    """Workers in this process, and the hub between them. `ended` are the places of those that the hub ended."""

    def __init__(self, settings: Settings, clock: Callable[[], int]) -> None:
        self._settings, self._clock = settings, clock
        self.hub = Hub(settings.workers, patience=5)
        self.members: list[Member] = []
        self.ended: list[int] = []

    async def start(self, index: int) -> Arbiter:
        ours, theirs = socket.socketpair()
        await self.hub.take_in(index, ours, lambda: self.ended.append(index))
        member = await Member.connect(theirs)
        self.members.append(member)
        return await open_arbiter(self._settings, clock=self._clock, team=member)

    async def close(self) -> None:
        for member in self.members:
            await member.close()
        await self.hub.close()


@asynccontextmanager
async def working(settings: Settings, clock: Callable[[], int]) -> AsyncIterator[tuple[Crew, list[Arbiter]]]:
    crew = Crew(settings, clock)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(crew.close)
        workers = []
        for index in range(settings.workers):
            worker = await crew.start(index)
            opened.push_async_callback(worker.close)
            workers.append(worker)
        for worker in workers:
            await ready(worker)
        yield crew, workers


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[tuple[Crew, list[Arbiter]]]:
    async with working(settings, Clock()) as made:
        yield made


def paid(event_id: str, account: str = "a-1", card: str = "card-1", amount: int = 5) -> bytes:
    return payment(event_id, amount, card={"ref": card}, buyer={"account": account})


async def features(worker: Arbiter, body: bytes) -> dict[str, Any]:
    """What one event reads, by window."""
    answer = await judged(worker, body)
    shown: dict[str, Any] = (await worker.explanation(answer["id"], SHOP))["features"]
    return shown


# ---------------------------------------------------------------- windows


@pytest.mark.anyio
async def test_each_counts_what_the_others_counted(crew: tuple[Crew, list[Arbiter]]) -> None:
    """Plain windows, which the server holds, and groups, which each has for itself: at once, by turns."""
    _, (one, other) = crew
    read = [
        list((await features(worker, paid(f"e{number}", account=f"a-{number % 3}"))).values())
        for number, worker in enumerate((one, other, one, one, other, other, one))
    ]

    assert read == [[1, 1, 0], [2, 2, 1], [3, 3, 2], [4, 3, 3], [5, 3, 4], [6, 3, 5], [7, 3, 6]]


@pytest.mark.anyio
async def test_what_one_takes_out_again_the_others_do_not_count(
    crew: tuple[Crew, list[Arbiter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (one, other) = crew
    await features(one, paid("e0"))

    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database", "verdict_unknown")

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "append", gone)
        with pytest.raises(Unavailable):
            await one.decide(paid("e1", account="a-2"), SHOP)

    assert list((await features(other, paid("e2", account="a-3"))).values()) == [2, 2, 1]


@pytest.mark.anyio
async def test_an_event_that_comes_to_two_at_once_has_one_verdict_and_counts_once(
    crew: tuple[Crew, list[Arbiter]],
) -> None:
    _, (one, other) = crew
    answers = await asyncio.gather(*(worker.decide(paid("e0"), SHOP) for worker in (one, other) * 5))

    assert len(set(answers)) == 1
    assert [next(iter((await features(worker, paid(f"e{n}"))).values())) for n, worker in ((1, one), (2, other))] == [
        2,
        3,
    ]


@pytest.mark.anyio
async def test_a_store_that_lost_everything_is_rebuilt_for_all(
    crew: tuple[Crew, list[Arbiter]], valkey_url: str
) -> None:
    _, (one, other) = crew
    for number, worker in enumerate((one, other, one)):
        await features(worker, paid(f"e{number}", account=f"a-{number}"))
    redis.Redis.from_url(valkey_url).flushdb()

    assert "not_warm" in (await judged(one, paid("e3")))["signals"]
    assert "not_warm" in (await judged(other, paid("e4")))["signals"]
    for worker in (one, other):
        await ready(worker)
    assert list((await features(other, paid("e5"))).values()) == [6, 3, 5]
    assert list((await features(one, paid("e6"))).values()) == [7, 3, 6]


@pytest.mark.anyio
async def test_what_one_decided_without_the_store_the_others_know_of_when_it_is_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it has no time to look after its store, as while it rebuilds windows, and they have theirs again.

    On a server of its own: a pause is of all its databases, also of those that other tests use.
    """
    monkeypatch.setattr("engine.stores.server.ANSWER_SECONDS", 0.25)
    with servers.own("valkey") as server:
        async with working(replace(settings, redis_url=server.url()), Clock()) as (_, (one, other)):
            await features(one, paid("e0"))
            async with one._warmth.busy:
                redis.Redis.from_url(server.url()).client_pause(600, all=True)
                assert (await judged(one, paid("e1", account="a-1")))["degraded"] == ["features_unavailable"]
                await asyncio.sleep(0.6)
                await ready(other)
                assert list((await features(other, paid("e2", account="a-2"))).values()) == [3, 2, 2]
            await ready(one)
            assert list((await features(one, paid("e3", account="a-3"))).values()) == [4, 3, 3]


@pytest.mark.anyio
async def test_one_that_comes_later_knows_what_the_others_counted(settings: Settings) -> None:
    """And takes out what the one before it counted and never committed, but not what others have under way."""
    async with working(settings, Clock()) as (crew, (one, other)):
        await features(one, paid("e0", account="a-0"))
        await features(other, paid("e1", account="a-1"))
        later = await crew.start(1)
        try:
            await ready(later)
            assert list((await features(later, paid("e2", account="a-2"))).values()) == [3, 3, 2]
            assert list((await features(one, paid("e3", account="a-3"))).values()) == [4, 4, 3]
        finally:
            await later.close()


# ---------------------------------------------------------------- what people change


@pytest.mark.anyio
async def test_a_change_made_at_one_holds_at_all_when_it_is_answered(crew: tuple[Crew, list[Arbiter]]) -> None:
    _, (one, other) = crew
    entry = json.dumps({"value": "411111", "reason": "stolen"}).encode()
    listed = await one.add_list_entry("bad-bins", entry, LI)
    tier = json.dumps({"tier": "watched", "reason": "new"}).encode()
    await other.set_merchant_tier("m-1", tier, LI)

    for number, worker in enumerate((one, other)):
        card = {"ref": f"card-{number}", "bin": "411111"}
        assert (await judged(worker, payment(f"l{number}", card=card)))["verdict"] == "decline"
        merchant = {"id": "m-1"}
        assert (await judged(worker, payment(f"t{number}", 41, merchant=merchant)))["verdict"] == "review"

    await other.remove_list_entry("bad-bins", listed["id"], LI)
    await one.approve_list_entry("bad-bins", listed["id"], WANG)
    for number, worker in enumerate((one, other)):
        card = {"ref": f"card-{number}", "bin": "411111"}
        assert (await judged(worker, payment(f"g{number}", card=card)))["verdict"] == "approve"


@pytest.mark.anyio
async def test_a_merchant_whom_one_assessed_is_judged_so_by_all(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have heard of events of the merchant: it moves once, by what all of them counted."""
    monkeypatch.setattr("engine.standings.SECONDS", 3600)
    write(settings.rules.parent, {"policies/tiers/merchant.yaml": PROFILE})
    merchant = {"id": "m-1"}
    async with working(settings, Clock()) as (_, (one, other)):
        for number, worker in enumerate((one, other) * 2):
            await judged(worker, payment(f"s{number}", 5, merchant=merchant))
            body = {"kind": "complaint", "event_id": f"c{number}", "at": "2026-11-23T12:00:00Z"}
            await worker.observe(
                json.dumps({**body, "complaint": {"reason": "price"}, "merchant": merchant}).encode(), LI
            )
        await asyncio.gather(one._stands.assess_waiting(), other._stands.assess_waiting())
        for number, worker in enumerate((one, other)):
            assert (await judged(worker, payment(f"t{number}", 41, merchant=merchant)))["verdict"] == "review"
            history = (await worker.merchant("m-1", LI))["history"]
            assert [(step["after"], step["points"]) for step in history] == [("watched", 60)]


@pytest.mark.anyio
async def test_a_mode_that_is_switched_on_at_one_is_on_at_all_and_at_who_comes_later(settings: Settings) -> None:
    modes = "modes: {review-all: {at_least: review}}\n"
    write(settings.policies.parent, {"policies/till.yaml": POLICY + modes})
    duty = Caller("wang.wu", "person", "shop-a", frozenset({"deploy"}))
    async with working(settings, Clock()) as (crew, (one, other)):
        await one.modes.switch("review-all", b'{"for": "2h", "reason": "cards"}', duty)
        assert [(await judged(each, paid(f"on{n}")))["verdict"] for n, each in enumerate((one, other))] == [
            "review"
        ] * 2
        later = await crew.start(0)
        try:
            await ready(later)
            assert (await judged(later, paid("later")))["verdict"] == "review"
            await other.modes.end("review-all", b'{"reason": "calm"}', duty)
            assert (await judged(later, paid("off")))["verdict"] == "approve"
        finally:
            await later.close()


PLAYBOOK = """\
playbook: attack
name: {en: Attack, zh: 攻击}
about: {en: Somebody attacks., zh: 有人攻击。}
owner: payments-risk
triggers:
  - {event: payment, signal: odd_amount, at_least: 4, within: 10m}
roles:
  duty: {en: Officer on duty, zh: 值班}
steps:
  - id: guard
    role: duty
    within: 10m
    what: {en: Be careful., zh: 提高警惕。}
    evidence: {en: the mode, zh: 模式}
    mode: {name: review-all, for: 2h}
    automatic: true
"""


@pytest.mark.anyio
async def test_events_that_came_to_several_open_one_incident_that_holds_at_all(settings: Settings) -> None:
    policy = POLICY + "modes: {review-all: {at_least: review}}\n"
    write(settings.policies.parent, {"policies/till.yaml": policy, "policies/attack.yaml": PLAYBOOK})
    duty = Caller("li.si", "person", "shop-a", frozenset({"incident"}))
    async with working(settings, Clock()) as (_, (one, other)):
        for worker in (one, other):
            await worker.incidents.triggers.tend()
        for number in range(4):
            await judged((one, other)[number % 2], paid(f"odd{number}", amount=41))
        async with asyncio.timeout(10):
            while not (found := await other.incidents.incidents(duty)):  # noqa: ASYNC110 - the first worker opens it
                await asyncio.sleep(0.01)
        await one.incidents.triggers.settled()
        assert [each["cause"] for each in found] == ["payment events"]
        assert [(await judged(each, paid(f"e{n}")))["verdict"] for n, each in enumerate((one, other))] == ["review"] * 2


@pytest.mark.anyio
async def test_a_change_whose_process_is_gone_before_it_told_of_it_holds_at_all(
    crew: tuple[Crew, list[Arbiter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the log and in the database: who asks for it again hears that it is there, so it must be in force."""
    team, (one, other) = crew
    stuck = asyncio.Event()

    async def never(*_: Any) -> None:
        stuck.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(team.members[0], "tell", never)
    entry = json.dumps({"value": "411111", "reason": "stolen"}).encode()
    adds = asyncio.create_task(one.add_list_entry("bad-bins", entry, LI))
    await asyncio.wait_for(stuck.wait(), 10)
    await team.members[0].close()
    with pytest.raises(Conflict, match="on the list already"):
        await other.add_list_entry("bad-bins", entry, LI)

    assert (await judged(other, payment("e0", card={"ref": "card-1", "bin": "411111"})))["verdict"] == "decline"
    adds.cancel()


@pytest.mark.anyio
async def test_of_two_who_end_a_case_at_two_workers_one_does(crew: tuple[Crew, list[Arbiter]]) -> None:
    _, (one, other) = crew
    answer = await judged(one, payment("e0", 61))
    ends = [
        worker.resolve(answer["id"], json.dumps({"what": "review", "result": result, "reason": "seen"}).encode(), who)
        for worker, result, who in ((one, "approved", LI), (other, "rejected", WANG))
    ]
    ended = await asyncio.gather(*ends, return_exceptions=True)

    assert [type(each) for each in ended].count(Conflict) == 1
    assert len((await one.decision(answer["id"], SHOP))["resolutions"]) == 1


@pytest.mark.anyio
async def test_the_looks_of_one_key_at_personal_data_are_counted_in_all_workers(
    crew: tuple[Crew, list[Arbiter]],
) -> None:
    _, workers = crew
    eve = Caller("eve", "person", "shop-a", frozenset({"audit", "reveal"}))
    id = (await judged(workers[0], payment("e0", 61)))["id"]
    looks = [workers[number % 2].explanation(id, eve, Reveal("audit", per_hour=4)) for number in range(10)]
    done = await asyncio.gather(*looks, return_exceptions=True)

    assert [type(each) for each in done].count(dict) == 4
    assert [type(each) for each in done].count(TooMuch) == 6


NEW_WINDOW = GROUPED.replace(
    "count(last 10m by card.ref, including this)", "count(last 20m by card.ref, including this)"
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(GROUPED.replace("amount == 41", "amount == 42"), id="over the same windows"),
        pytest.param(NEW_WINDOW, id="with another window"),
    ],
)
async def test_a_reload_at_one_switches_all_and_the_windows_have_their_history(settings: Settings, rules: str) -> None:
    async with working(settings, Clock()) as (crew, (one, other)):
        for number, worker in enumerate((one, other)):
            await features(worker, paid(f"e{number}", account=f"a-{number}"))
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": rules})
        under_way = [asyncio.create_task(worker.decide(paid(f"u{n}"), SHOP)) for n, worker in ((0, one), (1, other))]
        changed = await other.reload(LI)
        await asyncio.gather(*under_way)

        for number, worker in enumerate((one, other)):
            answer = await judged(worker, paid(f"f{number}", account="a-2"))
            assert (await record_of(worker, answer))["pins"]["rulebook"] == changed["hash"]
            read = (await worker.explanation(answer["id"], SHOP))["features"]
            assert list(read.values()) == [5 + number, 3, 4 + number]
            assert worker.ready() == {"ready": True, "reasons": []}

        later = await crew.start(0)
        try:
            await ready(later)
            assert later.rulebook_info()["hash"] == changed["hash"]
        finally:
            await later.close()


@pytest.mark.anyio
async def test_what_is_proposed_at_one_and_approved_at_another_decides_in_all(settings: Settings) -> None:
    scopes = frozenset({"author", "approve", "deploy"})
    author, second = (Caller(name, "person", "shop-a", scopes) for name in ("li.si", "wang.wu"))
    files = {**BOOK, "rules/small.yaml": GROUPED.replace("amount == 41", "amount == 42")}
    async with working(replace(settings, approval="required"), Clock()) as (_, (one, other)):
        proposed = await one.approvals.propose(orjson.dumps({"files": files, "reason": "fewer asked"}), author)
        await other.approvals.judge(proposed["id"], b"{}", second, approved=True)
        await one.approvals.activate(proposed["id"], b"{}", author)

        assert {worker.rulebook_info()["hash"] for worker in (one, other)} == {proposed["hash"]}
        await other.approvals.roll_back(b'{"reason": "wrong ones asked"}', second)
        assert {worker.rulebook_info()["hash"] for worker in (one, other)} == {proposed["base"]}


@pytest.mark.anyio
async def test_a_worker_takes_the_rulebook_in_force_and_not_what_its_folder_has_by_then(settings: Settings) -> None:
    async with working(settings, Clock()) as (crew, (one, _)):
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})
        later = await crew.start(1)
        try:
            assert later.rulebook_info()["hash"] == one.rulebook_info()["hash"]
        finally:
            await later.close()


@pytest.mark.anyio
@pytest.mark.parametrize("at", ["load", "adopt"])
async def test_what_becomes_of_a_reload_whose_leader_is_gone_the_ledger_says(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before it is in the log nothing has changed, behind it all switch; and so does who comes later."""
    async with working(settings, Clock()) as (crew, (one, other)):
        before, stuck, tell = one.rulebook_info()["hash"], asyncio.Event(), crew.members[0].tell

        async def until_then(what: str, *args: Any, **more: Any) -> Any:
            if what == at:
                stuck.set()
                await asyncio.sleep(60)
            return await tell(what, *args, **more)

        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})
        monkeypatch.setattr(crew.members[0], "tell", until_then)
        reload = asyncio.create_task(one.reload(LI))
        await asyncio.wait_for(stuck.wait(), 20)
        await crew.members[0].close()
        later = await crew.start(0)
        try:
            await ready(later)
            assert (other.rulebook_info()["hash"] == before) is (at == "load")
            assert later.rulebook_info()["hash"] == other.rulebook_info()["hash"]
            assert list((await features(other, paid("e0"))).values()) == [1, 1, 0]
            assert list((await features(later, paid("e1"))).values()) == [2, 1, 1]
        finally:
            reload.cancel()
            await asyncio.gather(reload, return_exceptions=True)
            await later.close()


@pytest.mark.anyio
async def test_who_lets_a_rulebook_decide_does_so_though_its_leader_goes_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(settings, Clock()) as (crew, (one, other)):
        onto = other._entries.onto

        async def without_leader(lists: Any) -> Any:
            await crew.members[0].close()
            await asyncio.sleep(0.3)
            return await onto(lists)

        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})
        with monkeypatch.context() as slow:
            slow.setattr(other._entries, "onto", without_leader)
            await asyncio.gather(one.reload(LI), return_exceptions=True)
            await asyncio.sleep(0.5)
        later = await crew.start(0)
        try:
            await ready(later)
            assert later.rulebook_info()["hash"] == other.rulebook_info()["hash"] != one.rulebook_info()["hash"]
            assert list((await features(other, paid("e0"))).values()) == [1, 1, 0]
            assert crew.ended == []
        finally:
            await later.close()


@pytest.mark.anyio
async def test_who_comes_to_follow_when_its_leader_is_gone_does_not(settings: Settings) -> None:
    """It was about something else, such as its windows; then the next reload finds it free."""
    async with working(settings, Clock()) as (crew, (one, other)):
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})
        async with other._warmth.busy:
            reload = asyncio.create_task(one.reload(LI))
            await asyncio.sleep(0.5)
            await crew.members[0].close()
            await asyncio.gather(reload, return_exceptions=True)
        later = await crew.start(0)
        try:
            changed = await asyncio.wait_for(later.reload(LI), 20)
            assert other.rulebook_info()["hash"] == changed["hash"] != changed["before"]
        finally:
            await later.close()


@pytest.mark.anyio
async def test_who_starts_ends_those_that_a_reload_without_its_leader_left_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the change came into the ledger when all others had asked it already."""
    async with working(settings, Clock()) as (crew, (one, _)):
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})
        changed = load(settings.rules, settings.policies)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr("engine.assembly.last_rulebook", _named(changed.hash))
            await one._force._library.keep(changed)
            later = await crew.start(1)
        try:
            assert later.rulebook_info()["hash"] == changed.hash != one.rulebook_info()["hash"]
            assert crew.ended == [0]
        finally:
            await later.close()


def _named(rulebook: str) -> Callable[[Any], Any]:
    async def last(_: Any) -> str:
        return rulebook

    return last


@pytest.mark.anyio
async def test_models_are_read_anew_by_all_or_by_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(settings, Clock()) as (_, (one, other)):
        before = [worker._live.models for worker in (one, other)]
        calls = 0

        def sometimes(*_: Any, **__: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise PackError([])
            return Models()

        monkeypatch.setattr("engine.force.read_models", sometimes)
        with pytest.raises(Conflict, match="could not follow"):
            await one.reload(LI)
        assert [worker._live.models for worker in (one, other)] == before
        await one.reload(LI)
        assert all(now is not then for now, then in zip((one._live.models, other._live.models), before, strict=True))


@pytest.mark.anyio
async def test_a_reload_that_fails_changes_nothing_anywhere(settings: Settings) -> None:
    async with working(settings, Clock()) as (_, workers):
        before = workers[0].rulebook_info()["hash"]
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": GROUPED.replace("amount == 41 CNY", "amount == ")})
        with pytest.raises(PackError):
            await workers[0].reload(LI)

        assert [worker.rulebook_info()["hash"] for worker in workers] == [before, before]
        assert list((await features(workers[1], paid("e0"))).values()) == [1, 1, 0]


@pytest.mark.anyio
async def test_one_that_cannot_follow_keeps_all_where_they_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(settings, Clock()) as (_, (one, other)):
        before = one.rulebook_info()["hash"]
        write(settings.rules.parent, {**BOOK, "rules/small.yaml": NEW_WINDOW})

        async def unreadable(*_: Any) -> Any:
            raise Unavailable("the archive cannot be read", "database_unavailable")

        with monkeypatch.context() as broken:
            broken.setattr(other._force, "rulebook", unreadable)
            with pytest.raises(Conflict, match="worker 1 could not follow, so nothing has changed: the archive cannot"):
                await one.reload(LI)

        assert [worker.rulebook_info()["hash"] for worker in (one, other)] == [before, before]
        for number, worker in enumerate((one, other)):
            assert list((await features(worker, paid(f"e{number}"))).values()) == [number + 1, 1, number]
        assert (await one.reload(LI))["before"] == before


LIMITED = POLICY.replace(
    "{queue: desk, due: 30m, if_late: decline}",
    "{queue: desk, due: 30m, if_late: decline, capacity: 2/h, overflow: decline}",
)


@pytest.mark.anyio
async def test_a_review_queue_is_full_for_all(settings: Settings) -> None:
    write(settings.rules.parent, {**BOOK, "policies/till.yaml": LIMITED})
    async with working(settings, Clock()) as (_, (one, other)):
        for number, worker in enumerate((one, other)):
            assert (await judged(worker, payment(f"e{number}", 61)))["verdict"] == "review"
        await asyncio.sleep(0.2)  # What one took, others hear of within a moment.

        for number, worker in enumerate((one, other)):
            assert (await judged(worker, payment(f"f{number}", 61)))["verdict"] == "decline"


# ---------------------------------------------------------------- a team


@pytest.mark.anyio
async def test_the_server_is_ready_when_all_its_workers_are(settings: Settings, valkey_url: str) -> None:
    async with working(settings, Clock()) as (crew, (one, other)):
        assert await one.all_ready() == {"ready": True, "reasons": []}
        redis.Redis.from_url(valkey_url).flushdb()
        await judged(other, paid("e0"))
        told = (await one.all_ready())["reasons"]
        assert "worker 1: the windows are being rebuilt from the ledger" in told
        crew.hub.fail("another Arbiter took this ledger")
        await asyncio.sleep(0.05)
        assert "another Arbiter took this ledger" in one.ready()["reasons"]
        await crew.members[1].close()
        await asyncio.sleep(0.05)
        assert "worker 1: it does not answer yet" in (await one.all_ready())["reasons"]
        ours, theirs = socket.socketpair()
        await crew.hub.take_in(1, ours, lambda: None)
        crew.members.append(await Member.connect(theirs))  # It is there, and knows nothing yet.
        assert "worker 1: it does not answer yet" in (await one.all_ready())["reasons"]


@asynccontextmanager
async def pair(patience: float = 1.0) -> AsyncIterator[tuple[Hub, list[Member], list[int]]]:
    """Two members of a hub, and who was ended."""
    hub, ended, members = Hub(2, patience), list[int](), list[Member]()
    for index in range(2):
        ours, theirs = socket.socketpair()
        await hub.take_in(index, ours, partial(ended.append, index))
        members.append(await Member.connect(theirs))
    yield hub, members, ended
    for member in members:
        await member.close()
    await hub.close()


@pytest.mark.anyio
async def test_a_turn_is_one_members_and_passes_on_when_it_is_given_back_or_its_holder_is_gone() -> None:
    async with pair() as (_, (one, other), _):
        order = []
        async with one.turn("x"):
            waits = asyncio.create_task(_turn(other, "x", order))
            async with other.turn("y"):
                order.append("y")
            await asyncio.sleep(0.02)
            order.append("one")
        await waits
        assert order == ["y", "one", "other"]

        held = asyncio.create_task(_turn(one, "x", order, hold=True))
        await asyncio.sleep(0.02)
        waits = asyncio.create_task(_turn(other, "x", order))
        await asyncio.sleep(0.02)
        await one.close()
        await asyncio.wait_for(waits, 1)
        held.cancel()


async def _turn(member: Member, name: str, order: list[str], *, hold: bool = False) -> None:
    async with member.turn(name):
        order.append("other")
        if hold:
            await asyncio.sleep(60)


@pytest.mark.anyio
async def test_who_does_not_do_what_it_is_told_is_ended() -> None:
    """And the teller goes on: the process that takes its place reads how things are."""

    async def never(_: Any) -> None:
        await asyncio.sleep(60)

    def fails(_: Any) -> None:
        raise ValueError

    async with pair(patience=0.05) as (_, (one, other), ended):
        other.on("wait", never)
        other.on("fail", fails)
        other.on("answer", lambda said: said + 1)
        assert await one.tell("answer", 41) == {1: 42}
        assert ended == []
        assert await one.tell("wait") == {}
        assert await one.tell("fail") == {}
        assert ended == [1, 1]
        assert await one.tell("what nobody knows") == {1: None}


@pytest.mark.anyio
async def test_who_tells_goes_on_though_another_one_ended_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process cannot be ended a second time."""

    def fails(_: Any) -> None:
        raise ValueError

    async with pair() as (hub, (one, other), _):
        other.on("fail", fails)
        gone = Mock(side_effect=ProcessLookupError)
        monkeypatch.setattr(hub._peers[1], "end", gone)
        assert await asyncio.wait_for(one.tell("fail"), 1) == {}
        gone.assert_called_once()


@pytest.mark.anyio
async def test_members_know_when_the_hub_is_gone() -> None:
    ours, theirs = socket.socketpair()
    hub = Hub(1)
    await hub.take_in(0, ours, lambda: None)
    member = await Member.connect(theirs)
    waits = asyncio.create_task(_turn(member, "x", [], hold=True))
    await asyncio.sleep(0.02)
    await hub.close()
    await asyncio.wait_for(member.gone.wait(), 1)
    waits.cancel()
    with pytest.raises(Unavailable):
        await member.tell("anything")
    await member.close()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"redis_url": "redis://valkey"}, "write to a PostgreSQL"),
        ({"database_url": "postgresql://db/arbiter"}, "share their windows in a Valkey or Redis"),
    ],
)
def test_several_need_what_they_share(more: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings(workers=2, **more).check()


# ---------------------------------------------------------------- processes


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[Daemon]:
    """`arbiter serve` with two workers."""
    with Daemon(tmp_path, settings.database_url, settings.key_file, **several(settings)) as daemon:
        yield daemon


def several(settings: Settings) -> dict[str, Any]:
    environ = {"ARBITER_REDIS_URL": settings.redis_url, "ARBITER_WORKERS": "2"}
    return {"environ": environ, "rules": settings.rules, "policies": settings.policies}


def workers_of(daemon: Daemon) -> list[int]:
    """The processes that the server started."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return [int(child) for child in children]


def send(daemon: Daemon, event_id: str, account: str, card: str) -> int:
    """One payment over a connection of its own, so that any worker may take it: the status, 0 for none."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = payment(event_id, at=now, card={"ref": card}, buyer={"account": account})
    headers = {"authorization": f"Bearer {daemon.keys['score']}", "content-type": "application/json"}
    try:
        url = f"http://127.0.0.1:{daemon.port}/v1/decisions"
        return httpx.post(url, content=body, headers=headers, timeout=20).status_code
    except httpx.TransportError:
        return 0


def send_many(daemon: Daemon, phase: str, count: int, seed: int) -> list[int]:
    """Payments of few accounts and cards, eight at once."""
    random = Random(seed)
    chosen = [(f"a-{random.randrange(12)}", f"card-{random.randrange(20)}") for _ in range(count)]
    with ThreadPoolExecutor(8) as senders:
        return list(senders.map(lambda each: send(daemon, f"{phase}{each[0]}", *each[1]), enumerate(chosen)))


def send_undisturbed(daemon: Daemon, phase: str, count: int, seed: int) -> str:
    """The same, until the store answered every call in time, which it may not on a busy machine: the phase then."""
    for again in range(5):
        phase, before = f"{phase}{again}-", store_failures(daemon)
        assert set(send_many(daemon, phase, count, seed)) == {200}
        if store_failures(daemon) == before:
            return phase
        daemon.until(lambda: daemon.state() == 200, 40)
    pytest.fail("the store does not answer in time")


def store_failures(daemon: Daemon) -> float:
    text = daemon.call("GET", "/metrics", "admin").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("arbiter_store_failures_total"))


async def facts_in(settings: Settings) -> list[Fact]:
    """All events of the ledger, whose log is whole, in the order of arrival."""
    keys = KeyFile.read(settings.key_file)
    ledger = await Ledger.open(settings.database_url, keys)
    try:
        await check_log(ledger, keys, [])
        found = [fact async for some in ledger.facts(0) for fact in some]
    finally:
        await ledger.close()
    return sorted(found, key=lambda fact: orjson.loads(fact.leaf)["event"]["arrival"])


@pytest.mark.slow
def test_whoever_decides_reads_what_one_process_with_all_events_would(settings: Settings, server: Daemon) -> None:
    """Plain windows and groups, under load; then a worker is killed in the middle of it, and started anew.

    The oracle is a store in memory that sees the ledger's events in the order of their arrival. What is read while
    events of the killed one are still counted is not compared; all that comes after is.
    """
    phases = [send_undisturbed(server, "before-", 120, 1)]
    first = workers_of(server)
    with ThreadPoolExecutor(1) as beside:
        sent = beside.submit(send_many, server, "meanwhile-", 100, 2)
        time.sleep(0.3)
        os.kill(first[1], signal.SIGKILL)
        answered = sent.result()
    assert answered.count(200) > 50
    server.until(lambda: len(workers_of(server)) == 2 and server.state() == 200, 40)
    again = workers_of(server)
    assert len(set(again) & set(first)) == 1
    phases.append(send_undisturbed(server, "after-", 120, 3))

    rulebook = load(settings.rules, settings.policies)
    oracle = Features(rulebook.windows, MemoryStore(), reads=rulebook.reads, convert=rulebook.convert)
    oracle.restore(())
    slots, compared, taken = rulebook.kinds["payment"].slots, 0, set[str]()
    for fact in asyncio.run(facts_in(settings)):
        reading = oracle.observe(facts_of(fact.tenant, fact.leaf, fact.keys))
        record = orjson.loads(fact.leaf)
        taken.add(record["event"]["id"])
        if record["event"]["id"].startswith(tuple(phases)):
            assert record["features"] == [encode(reading.values[slot]) for slot in slots], record
            compared += 1
    assert compared == 240
    assert len(taken) >= 240 + answered.count(200)
    text = server.call("GET", "/metrics", "admin").text
    busy = [line for line in text.splitlines() if line.startswith("arbiter_verdicts_total{")]
    assert {line.partition('worker="')[2][:1] for line in busy} == {"0", "1"}


@pytest.mark.slow
def test_a_stop_ends_all_and_a_parent_that_is_killed_takes_its_workers_along(server: Daemon) -> None:
    workers = workers_of(server)
    assert len(workers) == 2
    assert [os.getpgid(worker) for worker in workers] == workers  # Ctrl-C does not reach them beside their parent.
    assert server.stop() == 0
    assert not any(alive(worker) for worker in workers)

    server.start()
    workers = workers_of(server)
    server.kill()
    assert "Traceback" not in server.errors()
    end = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_the_first_worker_cannot_start_with_ends_the_server_with_its_words(
    settings: Settings, tmp_path: Path
) -> None:
    write(tmp_path, {**BOOK, "rules/small.yaml": GROUPED.replace("amount == 41 CNY", "amount == ")})
    daemon = Daemon(tmp_path, settings.database_url, settings.key_file, **several(settings))
    try:
        daemon.start(ready=False)
        assert daemon.wait() == REFUSED
        assert "small.yaml" in daemon.errors()
        assert "Traceback" not in daemon.errors()
    finally:
        daemon.client.close()
