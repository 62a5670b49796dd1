"""Playbooks and incidents: files held to what they name, steps and clocks, triggers, drills, and their records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from cli.playbook import length
from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.errors import BodyRefused, Conflict, NotAllowed, NotFound
from engine.journal import EVERYONE
from engine.ledger import Filter
from engine.playbooks import filled
from engine.tripwires import Tripwire
from tests import books
from tests.books import MINUTE, NOW, POLICY, SHOP, SMALL, Clock, judged, payment, running, told, write
from tests.serving import serve_on_loopback

HOUR = 60 * MINUTE
DAY = 24 * HOUR

MODES = "modes:\n  guarded: {at_least: challenge}\n  review-all: {at_least: review}\n  idle: {}\n"
LAW = """\
law: cn.cim
about: How incidents are reported.
owner: compliance
name: {en: Incident reports, zh: 事件报告}
country: CN
source: a test
articles:
  - id: cn.cim.4
    name: {en: Time limits, zh: 时限}
    versions:
      - {number: "4", from: 2025-11-01, duty: {en: Within four hours., zh: 四小时内。}, verified: true}
"""
PLAYBOOK = """\
playbook: attack
name: {en: Attack, zh: 攻击}
about: {en: Somebody attacks., zh: 有人攻击。}
owner: payments-risk
triggers:
  - {event: payment, signal: odd_amount, at_least: 3, within: 10m}
  - {event: outcome, when: 'outcome.result == "chargeback"', at_least: 2, within: 1h}
  - {webhook: opinion, sentiment: -0.4, volume: 1000, within: 6h}
  - {alert: declines-jump}
roles:
  duty: {en: Officer on duty, zh: 值班}
steps:
  - id: guard
    role: duty
    within: 10m
    what: {en: Be careful., zh: 提高警惕。}
    evidence: {en: the mode, zh: 模式}
    mode: {name: guarded, for: 2h}
    automatic: true
  - id: report
    role: duty
    within: 3h
    what: {en: Report it., zh: 报告。}
    evidence: {en: the number, zh: 编号}
  - id: stop
    role: duty
    within: 4h
    what: {en: Let people look., zh: 人工查看。}
    evidence: {en: how many, zh: 数量}
    mode: {name: review-all, for: 1h}
timers:
  - {id: authority, step: report, within: 4h, what: {en: Reported., zh: 已报告。}, law: [cn.cim.4]}
messages:
  - id: authority
    to: {en: the authority, zh: 主管部门}
    text: {en: "{incident}, known {known}: {what}", zh: "{incident}，获知于 {known}：{what}"}
blanks:
  what: {en: what happened, zh: 情况}
drill_every: 366d
"""
BOOK = {
    **SMALL,
    "policies/till.yaml": POLICY + MODES,
    "policies/law/cn.cim.yaml": LAW,
    "policies/playbooks/attack.yaml": PLAYBOOK,
}
DUTY = Caller("li.si", "person", "shop-a", frozenset({"incident"}))
DEPLOYER = Caller("wang.wu", "person", "shop-a", frozenset({"incident", "deploy"}))
MONITOR = Caller("monitor", "service", "shop-a", frozenset({"opinion"}))

pytestmark = pytest.mark.anyio


# The file


def test_a_playbook_is_read_as_it_is_written(tmp_path: Path) -> None:
    (attack,) = books.book(tmp_path, BOOK).playbooks

    assert [step.id for step in attack.steps] == ["guard", "report", "stop"]
    assert attack.steps[0].mode == ("guarded", 2 * HOUR)
    assert attack.timers[0].law == ("cn.cim.4",)
    assert [trigger.cause for trigger in attack.triggers] == [
        *("payment events", "outcome events", "webhook opinion", "alert declines-jump")
    ]
    assert attack.triggers[2].sentiment == -400


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("owner: payments-risk", "owner: ''", "owner"),
        ("event: payment,", "event: paymnet,", "there is no kind of event 'paymnet'"),
        ("signal: odd_amount", "signal: odd_amuont", "nothing finds the signal 'odd_amuont' for payment"),
        ("at_least: 3, within: 10m", "at_least: 3", "a trigger on 'event' needs 'within'"),
        ("at_least: 3, within: 10m", "at_least: 3, within: 8d", "a trigger looks back 7 days at most"),
        ("at_least: 3, within", "at_least: 0, within", "at_least"),
        ("{alert: declines-jump}", "{alert: declines-jump, within: 1h}", "'within' does not go with 'alert'"),
        ("{alert: declines-jump}", "{}", "a trigger looks at one thing"),
        ("{alert: declines-jump}", "{alert: a, webhook: opinion}", "a trigger looks at one thing"),
        ("webhook: opinion", "webhook: rumour", "there is no webhook 'rumour'"),
        ("sentiment: -0.4", "sentiment: -1.4", "sentiment"),
        ("sentiment: -0.4, volume", "volume", "a trigger on 'webhook' needs 'sentiment'"),
        ('outcome.result == "chargeback"', "outcome.reslut is present", "reslut"),
        ('outcome.result == "chargeback"', "count(last 1h by merchant.id) > 3", "no windows here"),
        ("signal: odd_amount", "when: card.last4 is present", "card.last4 is not public"),
        ("role: duty\n    within: 3h", "role: dutty\n    within: 3h", "there is no role 'dutty'"),
        ("name: review-all, for: 1h", "name: reviewall, for: 1h", "no policy has the mode 'reviewall'"),
        ("name: review-all, for: 1h", "name: idle, for: 1h", "no policy has the mode 'idle'"),
        ("name: review-all, for: 1h", "name: review-all, for: 8d", "more than 7 days"),
        ("    mode: {name: guarded, for: 2h}\n", "", "Arbiter does nothing by itself but switch a mode on"),
        ("step: report", "step: reprot", "there is no step 'reprot'"),
        ("step: report, within: 4h", "step: report, within: 2h", "has more time than this clock leaves"),
        ("law: [cn.cim.4]", "law: [cn.cim.5]", "there is no article 'cn.cim.5'"),
        ("- id: stop\n", "- id: report\n", "the id 'report' is taken"),
        (
            'zh: "{incident}，获知于 {known}：{what}"',
            'zh: "{incident}：{what}"',
            "'{known}' stands in one language only",
        ),
        ("{known}", "{knwon}", "nobody says what '{knwon}' is"),
        ("{what}", "it", "no message has the blank 'what'"),
        ("  what: {en: what happened", "  known: {en: what happened", "'known' is filled by Arbiter itself"),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in PLAYBOOK
    found = told(tmp_path, {**BOOK, "policies/playbooks/attack.yaml": PLAYBOOK.replace(old, new)})

    assert any(what in problem for problem in found), found
    assert all(problem.startswith("policies/playbooks/attack.yaml:") for problem in found)


def test_of_two_playbooks_of_one_name_the_second_is_told_of(tmp_path: Path) -> None:
    (problem,) = told(tmp_path, {**BOOK, "policies/playbooks/same.yaml": PLAYBOOK})

    assert "there is a playbook 'attack' already" in problem


def test_a_policy_with_a_mistake_does_not_make_its_modes_unknown(tmp_path: Path) -> None:
    broken = POLICY.replace("if_late: decline", "if_late: decilne") + MODES
    found = told(tmp_path, {**BOOK, "policies/till.yaml": broken})

    assert ["decilne" in problem for problem in found] == [True]


# The shipped ones


def test_eight_playbooks_are_shipped_with_steps_that_somebody_can_follow() -> None:
    shipped = {book.id: book for book in books.shipped().playbooks}

    assert set(shipped) == {
        *("fraud-wave", "card-testing", "takeover-wave", "data-breach"),
        *("model-failure", "rule-misfire", "counterfeit-scandal", "press-crisis"),
    }
    for book in shipped.values():
        assert book.triggers, book.id
        assert book.messages, book.id
        assert len(book.steps) >= 5, book.id
        assert all(earlier.within <= later.within for earlier, later in pairwise(book.steps)), book.id
        assert {step.role for step in book.steps} == set(book.roles), book.id
        assert book.drill_every <= 366 * DAY, book.id
    breach = {timer.id: timer for timer in shipped["data-breach"].timers}
    assert (breach["authority"].within, breach["authority"].law) == (4 * HOUR, ("cn.cim.4",))
    assert (breach["cii"].within, breach["cii"].law) == (HOUR, ("cn.cim.4",))
    assert breach["eu"].within == 72 * HOUR


def test_only_what_stops_an_attack_in_minutes_is_switched_on_by_itself() -> None:
    assert {(book.id, step.mode) for book in books.shipped().playbooks for step in book.steps if step.automatic} == {
        ("card-testing", ("guarded", 2 * HOUR)),
        ("takeover-wave", ("guarded", 4 * HOUR)),
    }


# Counting


@given(
    events=st.lists(st.integers(0, 60), max_size=30),
    at_least=st.integers(1, 6),
    within=st.integers(1, 20),
    since=st.integers(-1, 60),
    seed=st.integers(0, 1000),
)
def test_a_tripwire_says_what_a_plain_count_of_the_newest_says(
    events: list[int], at_least: int, within: int, since: int, seed: int
) -> None:
    told = [(at, arrival) for arrival, at in enumerate(events)]
    wire = Tripwire(at_least, within)
    shuffled = [*told, *told[:5]]
    Random(seed).shuffle(shuffled)
    for at, arrival in shuffled:
        wire.add(at, arrival)

    newest = sorted(told)[-at_least:]
    close = len(newest) == at_least and newest[-1][0] - newest[0][0] < within
    assert wire.tripped() == close
    assert wire.tripped(since) == (close and newest[0][0] > since)


# Incidents


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    write(tmp_path, BOOK)
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with watching(settings, clock) as it:
        yield it


@asynccontextmanager
async def watching(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    """A running Arbiter that counts for its triggers."""
    async with running(settings, clock) as arbiter:
        await arbiter.incidents.triggers.tend()
        yield arbiter


def said(**fields: Any) -> bytes:
    return orjson.dumps(fields)


async def started(arbiter: Arbiter, by: Caller = DUTY, **more: Any) -> dict[str, Any]:
    return await arbiter.incidents.start(said(playbook="attack", reason="cards are being tested", **more), by)


async def taken(arbiter: Arbiter, id: str, step: str, by: Caller = DUTY, state: str = "done") -> dict[str, Any]:
    return await arbiter.incidents.step(id, step, said(state=state, evidence=f"ticket of {step}"), by)


async def steps(arbiter: Arbiter) -> list[tuple[str, str, str | None, str | None, str]]:
    """What the ledger has of modes and incidents, in order."""
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"), limit=200)
    records = [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]
    wanted = [each for each in records if each["what"] in ("mode", "opinion") or each["what"].startswith("incident")]
    assert all(len(each["note"]) == 64 for each in wanted if each["what"] != "opinion")
    return [(each["what"], each["object"], each["before"], each["after"], each["by"]["name"]) for each in wanted]


async def test_an_incident_goes_its_way_step_by_step_and_all_of_it_is_in_the_ledger(
    arbiter: Arbiter, clock: Clock
) -> None:
    incident = await started(arbiter, known="2026-11-23T11:00:00Z")
    id = incident["id"]
    clock.now += 30 * MINUTE
    await taken(arbiter, id, "report")
    await taken(arbiter, id, "stop", state="skipped")
    closed = await arbiter.incidents.close(id, said(conclusion="it is over"), DUTY)

    assert id.startswith("2026-11-23-")
    assert [(each["id"], each["state"], each["by"], each["late"]) for each in closed["steps"]] == [
        ("guard", "done", "arbiter", False),
        ("report", "done", "li.si", False),
        ("stop", "skipped", "li.si", False),
    ]
    assert (closed["closed"], closed["conclusion"]) == (NOW + 30 * MINUTE, "it is over")
    opened = '{"cause":"person","drill":false,"known":"2026-11-23T11:00:00Z","playbook":"attack"}'
    assert await steps(arbiter) == [
        ("incident_opened", id, None, opened, "li.si"),
        ("mode", "guarded", None, "2026-11-23T14:00:00Z", "arbiter"),
        ("incident_step", f"{id}/guard", None, "done", "arbiter"),
        ("incident_step", f"{id}/report", None, "done", "li.si"),
        ("incident_step", f"{id}/stop", None, "skipped", "li.si"),
        ("incident_closed", id, "open", "closed", "li.si"),
    ]


async def test_a_step_has_its_time_from_the_opening_and_a_clock_from_when_it_was_known(
    arbiter: Arbiter, clock: Clock
) -> None:
    incident = await started(arbiter, known="2026-11-23T10:00:00Z")
    (clock_,) = incident["timers"]
    assert (clock_["due"], clock_["state"], clock_["overdue"]) == (NOW + 2 * HOUR, "running", False)
    assert [each["due"] - NOW for each in incident["steps"]] == [
        10 * MINUTE,
        2 * HOUR,
        4 * HOUR,
    ]  # never later than its clock

    clock.now = NOW + 2 * HOUR
    assert not (await arbiter.incidents.incident(incident["id"], DUTY))["timers"][0]["overdue"]
    clock.now += 1
    overdue = await arbiter.incidents.incident(incident["id"], DUTY)
    assert overdue["timers"][0]["overdue"]
    assert [each["overdue"] for each in overdue["steps"]] == [False, True, False]
    figures = await arbiter.incidents.figures()
    assert figures["open"] == {("attack", "incident"): 1}
    assert figures["overdue"] == {("attack", "step"): 1, ("attack", "timer"): 1}
    (listed,) = await arbiter.incidents.incidents(DUTY)
    assert (listed["open"], listed["overdue"]) == (["report", "stop"], ["report", "authority"])

    stopped = await taken(arbiter, incident["id"], "report")
    assert [(each["state"], each["overdue"]) for each in stopped["timers"]] == [("late", False)]


@pytest.mark.parametrize(("state", "stands"), [("done", "met"), ("skipped", "not needed")])
async def test_the_end_of_its_step_stops_a_clock(arbiter: Arbiter, clock: Clock, state: str, stands: str) -> None:
    incident = await started(arbiter)
    clock.now += 4 * HOUR
    stopped = await taken(arbiter, incident["id"], "report", state=state)
    clock.now += DAY

    assert stopped["timers"][0]["state"] == stands
    assert stopped["steps"][1]["late"]
    assert not (await arbiter.incidents.incident(incident["id"], DUTY))["timers"][0]["overdue"]


async def test_messages_have_what_is_known_and_leave_the_blanks(arbiter: Arbiter) -> None:
    incident = await started(arbiter, known="2026-11-23T10:00:00Z")
    (message,) = incident["messages"]

    assert message["text"]["en"] == f"{incident['id']}, known 2026-11-23 18:00 (UTC+8): {{what}}"
    assert filled(message["text"]["zh"], {"what": "试刷"}).endswith("：试刷")


async def test_a_step_that_switches_a_mode_on_needs_a_key_that_may(arbiter: Arbiter) -> None:
    incident = await started(arbiter)
    with pytest.raises(NotAllowed) as refused:
        await taken(arbiter, incident["id"], "stop")
    assert refused.value.missing == "deploy"
    assert (await judged(arbiter, payment("before")))["verdict"] == "challenge"
    await taken(arbiter, incident["id"], "stop", DEPLOYER)
    assert (await judged(arbiter, payment("after")))["verdict"] == "review"


async def test_a_mode_that_is_on_for_longer_stays_so(arbiter: Arbiter) -> None:
    await arbiter.modes.switch("guarded", said(**{"for": "1d", "reason": "a long night"}), DEPLOYER)
    incident = await started(arbiter)

    assert incident["steps"][0]["state"] == "done"
    assert [each["until"] for each in (await arbiter.modes.shown(DEPLOYER))["on"]] == [NOW + DAY]


async def test_a_drill_is_recorded_and_switches_nothing(arbiter: Arbiter, clock: Clock) -> None:
    (before,) = await arbiter.incidents.playbooks(DUTY)
    drill = await started(arbiter, kind="drill")
    for step in ("guard", "report", "stop"):
        await taken(arbiter, drill["id"], step)
    clock.now += HOUR
    await arbiter.incidents.close(drill["id"], said(conclusion="twenty minutes too slow"), DUTY)
    (after,) = await arbiter.incidents.playbooks(DUTY)

    assert (drill["kind"], drill["steps"][0]["state"]) == ("drill", "open")
    assert (before["practised"], before["drill_due"]) == (None, None)
    assert (after["practised"], after["drill_due"]) == (NOW + HOUR, NOW + HOUR + 366 * DAY)
    assert (await judged(arbiter, payment("e")))["verdict"] == "approve"
    assert [what for what, *_ in await steps(arbiter)] == ["incident_opened", *["incident_step"] * 3, "incident_closed"]


async def test_what_is_shown_and_recorded_holds_no_personal_data(arbiter: Arbiter) -> None:
    incident = await arbiter.incidents.start(said(playbook="attack", reason="a@example.com wrote"), DUTY)
    shown = await arbiter.incidents.step(incident["id"], "report", said(state="done", evidence="13800138000"), DUTY)
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"), limit=200)

    assert "example.com" not in str(shown)
    assert "13800138000" not in str(shown)
    assert all(b"example" not in each.entry.leaf and b"13800138000" not in each.entry.leaf for each in page.entries)


async def test_an_incident_keeps_to_the_playbook_as_it_was(settings: Settings, clock: Clock) -> None:
    async with watching(settings, clock) as arbiter:
        incident = await started(arbiter)
    write(settings.rules.parent, {"policies/playbooks/attack.yaml": PLAYBOOK.replace("- id: stop\n", "- id: halt\n")})
    async with watching(settings, clock) as arbiter:
        assert arbiter.incidents.playbook("attack")["steps"][2]["id"] == "halt"
        assert (await arbiter.incidents.incident(incident["id"], DUTY))["steps"][2]["id"] == "stop"
        with pytest.raises(NotFound, match="steps are guard, report, stop"):
            await taken(arbiter, incident["id"], "halt", DEPLOYER)


async def test_an_incident_of_one_tenant_is_not_there_for_another(arbiter: Arbiter) -> None:
    incident = await started(arbiter)
    other = replace(DUTY, tenant="shop-b")

    assert await arbiter.incidents.incidents(other) == []
    with pytest.raises(NotFound):
        await arbiter.incidents.incident(incident["id"], other)
    with pytest.raises(NotFound):
        await taken(arbiter, incident["id"], "report", other)


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (said(playbook="atack", reason="x"), NotFound, "did you mean 'attack'"),
        (said(playbook="attack"), BodyRefused, "is required"),
        (said(playbook="attack", reason="x", known="2026-11-23T13:00:00Z"), BodyRefused, "in the future"),
        (said(playbook="attack", reason="x", known="yesterday"), BodyRefused, "ISO 8601"),
        (said(playbook="attack", reason="x", kind="rehearsal"), BodyRefused, "must be one of"),
    ],
)
async def test_what_cannot_be_opened_is_refused(
    arbiter: Arbiter, body: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as refused:
        await arbiter.incidents.start(body, DUTY)

    assert says in str(refused.value) + "".join(each.what for each in getattr(refused.value, "problems", ()))
    assert await arbiter.incidents.incidents(DUTY) == []


async def test_what_is_done_is_done_once_and_what_is_closed_stays_so(arbiter: Arbiter) -> None:
    id = (await started(arbiter))["id"]
    with pytest.raises(Conflict, match="steps are open: report, stop"):
        await arbiter.incidents.close(id, said(conclusion="over"), DUTY)
    await taken(arbiter, id, "report", state="skipped")
    await taken(arbiter, id, "report")  # What was passed over may still be done.
    with pytest.raises(Conflict, match="this step is done"):
        await taken(arbiter, id, "report", state="skipped")
    await taken(arbiter, id, "stop", state="skipped")
    await arbiter.incidents.close(id, said(conclusion="over"), DUTY)
    for again in (taken(arbiter, id, "stop", DEPLOYER), arbiter.incidents.close(id, said(conclusion="x"), DUTY)):
        with pytest.raises(Conflict, match="this incident is closed"):
            await again


# Triggers


async def odd(arbiter: Arbiter, count: int, clock: Clock, start: int = 0) -> None:
    """So many payments, a minute apart, in which a rule finds something."""
    for number in range(start, start + count):
        clock.now += MINUTE
        at = f"2026-11-23T12:{(clock.now - NOW) // MINUTE:02}:00Z"
        await judged(arbiter, payment(f"odd-{number}", 41, at=at))
    await arbiter.incidents.triggers.settled()


async def test_so_many_events_open_an_incident_that_does_what_it_may_by_itself(arbiter: Arbiter, clock: Clock) -> None:
    await odd(arbiter, 2, clock)
    assert await arbiter.incidents.incidents(DUTY) == []
    await odd(arbiter, 1, clock, 2)
    (incident,) = await arbiter.incidents.incidents(DUTY)

    assert (incident["cause"], incident["opened_by"], incident["open"]) == (
        *("payment events", "arbiter"), ["report", "stop"]
    )  # fmt: skip
    assert [name for name, _ in arbiter.modes.seconds_left()] == ["shop-a"]
    assert (await judged(arbiter, payment("next", at="2026-11-23T12:03:00Z")))["verdict"] == "challenge"


async def test_events_too_far_apart_or_of_another_sort_open_nothing(arbiter: Arbiter, clock: Clock) -> None:
    await odd(arbiter, 2, clock)
    for number in range(5):
        await judged(arbiter, payment(f"plain-{number}", 5))
    clock.now += 9 * MINUTE
    await odd(arbiter, 1, clock, 2)

    assert await arbiter.incidents.incidents(DUTY) == []


async def test_while_one_is_open_no_second_is_and_after_it_only_by_what_came_later(
    arbiter: Arbiter, clock: Clock
) -> None:
    await odd(arbiter, 5, clock)
    (first,) = await arbiter.incidents.incidents(DUTY)
    await taken(arbiter, first["id"], "report")
    await taken(arbiter, first["id"], "stop", state="skipped")
    await arbiter.incidents.close(first["id"], said(conclusion="over"), DUTY)
    await odd(arbiter, 2, clock, 5)
    assert len(await arbiter.incidents.incidents(DUTY)) == 1
    await odd(arbiter, 1, clock, 7)
    assert len(await arbiter.incidents.incidents(DUTY)) == 2


async def test_an_event_without_a_verdict_is_counted_by_its_public_fields(arbiter: Arbiter) -> None:
    for number, result in enumerate(("chargeback", "false_positive", "chargeback")):
        await judged(arbiter, payment(f"p-{number}"))
        outcome = {"refers_to": f"p-{number}", "result": result}
        body = {"kind": "outcome", "event_id": f"o-{number}", "at": "2026-11-23T12:00:00Z", "outcome": outcome}
        assert await arbiter.incidents.incidents(DUTY) == []
        await arbiter.observe(orjson.dumps(body), SHOP)
    await arbiter.incidents.triggers.settled()

    assert [each["cause"] for each in await arbiter.incidents.incidents(DUTY)] == ["outcome events"]


async def test_after_a_restart_it_goes_on_counting(settings: Settings, clock: Clock) -> None:
    async with watching(settings, clock) as arbiter:
        await odd(arbiter, 2, clock)
    async with watching(settings, clock) as arbiter:
        await arbiter.incidents.triggers.settled()
        assert await arbiter.incidents.incidents(DUTY) == []
        await odd(arbiter, 1, clock, 2)
        assert len(await arbiter.incidents.incidents(DUTY)) == 1


async def test_another_rulebook_counts_for_its_own_triggers_what_came_before(settings: Settings, clock: Clock) -> None:
    async with watching(settings, clock) as arbiter:
        await odd(arbiter, 2, clock)
        lower = PLAYBOOK.replace("at_least: 3, within: 10m", "at_least: 2, within: 10m")
        write(settings.rules.parent, {"policies/playbooks/attack.yaml": lower})
        await arbiter.reload(Caller("op", "person", "shop-a", frozenset({"admin"})))
        await arbiter.incidents.triggers.tend()
        await arbiter.incidents.triggers.settled()
        assert len(await arbiter.incidents.incidents(DUTY)) == 1


async def test_what_was_begun_by_a_process_that_is_gone_is_finished(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(settings, clock) as arbiter:

        async def gone(*_: Any) -> Any:
            raise asyncio.CancelledError

        monkeypatch.setattr(arbiter.incidents, "_switch", gone)
        with pytest.raises(asyncio.CancelledError):
            await started(arbiter)
        assert arbiter.modes.seconds_left() == {}
    async with watching(settings, clock) as arbiter:
        async with asyncio.timeout(10):
            while len((await arbiter.incidents.incidents(DUTY))[0]["open"]) > 2:  # noqa: ASYNC110 - in the background
                await asyncio.sleep(0.01)
        assert arbiter.modes.seconds_left() == {("shop-a", "guarded"): 7200.0}


async def test_an_alert_line_that_is_raised_opens_what_names_it(arbiter: Arbiter) -> None:
    assert await arbiter.incidents.raised("shop-a", "another-line") == []
    (id,) = await arbiter.incidents.raised("shop-a", "declines-jump")
    assert await arbiter.incidents.raised("shop-a", "declines-jump") == []

    (incident,) = await arbiter.incidents.incidents(DUTY)
    assert (incident["id"], incident["cause"]) == (id, "alert declines-jump")


ALERTS = """\
alerts: till
about: When somebody must hear of it.
owner: payments-risk
lines:
  - id: declines-jump
    metric: declines
    over: 30m
    above: 50%
    at_least_events: 2
    severity: high
    message: {en: "{value}", zh: "{value}"}
    playbook: attack
"""


async def test_an_alert_line_that_the_server_raises_opens_an_incident(settings: Settings, clock: Clock) -> None:
    write(settings.rules.parent, {"policies/alerts.yaml": ALERTS})
    async with watching(settings, clock) as arbiter:
        await arbiter.alarms.look()
        for number in range(2):
            await judged(arbiter, payment(f"large-{number}", 90))
        clock.now += MINUTE
        await arbiter.alarms.look()
        clock.now += MINUTE
        await arbiter.alarms.look()
        assert [each["cause"] for each in await arbiter.incidents.incidents(DUTY)] == ["alert declines-jump"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("id: declines-jump", "id: declines-jmup", "there is no alert line 'declines-jump'"),
        ("playbook: attack", "playbook: atack", "there is no playbook 'atack'"),
    ],
)
def test_alert_lines_and_playbooks_are_held_to_each_other(tmp_path: Path, old: str, new: str, what: str) -> None:
    (problem,) = told(tmp_path, {**BOOK, "policies/alerts.yaml": ALERTS.replace(old, new)})

    assert what in problem


async def test_what_is_raised_for_everyone_opens_one_of_each_tenant(arbiter: Arbiter) -> None:
    await judged(arbiter, payment("a"))
    await arbiter.decide(payment("b"), Caller("checkout", "service", "shop-b", frozenset({"score"})))

    assert len(await arbiter.incidents.raised(EVERYONE, "declines-jump")) == 2
    assert len(await arbiter.incidents.incidents(replace(DUTY, tenant="shop-b"))) == 1


# Opinion


def report(id: str = "r-1", sentiment: Any = -0.6, volume: Any = 600, **more: Any) -> bytes:
    body = {"id": id, "source": "monitor", "at": "2026-11-23T12:00:00Z", "sentiment": sentiment, "volume": volume}
    return orjson.dumps({**body, **more})


async def test_loud_and_bad_enough_reports_open_an_incident_and_are_in_the_ledger(
    arbiter: Arbiter, clock: Clock
) -> None:
    first = await arbiter.incidents.opinion(report(), MONITOR)
    mild = await arbiter.incidents.opinion(report("r-2", "-0.399", 5_000), MONITOR)
    clock.now += 6 * HOUR - 1
    second = await arbiter.incidents.opinion(report("r-3", -0.4, 400), MONITOR)

    assert [each["incidents"] for each in (first, mild)] == [[], []]
    assert first["sentiment"] == "-0.6"
    (id,) = second["incidents"]
    assert (await arbiter.incidents.incident(id, DUTY))["cause"] == "webhook opinion"
    figures = [json.loads(after) for what, _, _, after, _ in await steps(arbiter) if what == "opinion" and after]
    assert [(each["sentiment"], each["volume"]) for each in figures] == [(-600, 600), (-399, 5000), (-400, 400)]


async def test_reports_of_long_ago_do_not_count(arbiter: Arbiter, clock: Clock) -> None:
    await arbiter.incidents.opinion(report(), MONITOR)
    clock.now += 6 * HOUR

    assert (await arbiter.incidents.opinion(report("r-2"), MONITOR))["incidents"] == []


async def test_the_same_report_counts_once_and_another_under_its_id_is_refused(arbiter: Arbiter) -> None:
    answers = await asyncio.gather(*(arbiter.incidents.opinion(report(), MONITOR) for _ in range(4)))

    assert len({each["record"] for each in answers}) == 1
    assert all(each["incidents"] == [] for each in answers)
    with pytest.raises(Conflict, match="other figures"):
        await arbiter.incidents.opinion(report(volume=601), MONITOR)
    assert [what for what, *_ in await steps(arbiter)] == ["opinion"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (report(sentiment=-1.01), "from -1"),
        (report(sentiment="bad"), "a number from -1"),
        (report(sentiment=True), "a number from -1"),
        (report(sentiment="NaN"), "from -1"),
        (report(volume=-1), "from 0 to"),
        (report(volume=1.5), "a whole number"),
        (report(volume=True), "a whole number"),
        (report(volume=10**12), "from 0 to"),
        (report(id=""), "at least 1"),
        (report(id="13800138000"), "phone"),
        (report(source="a@example.com"), "e-mail"),
        (report(at="2026-11-23T13:00:00Z"), "in the future"),
        (report(text="they say"), "not known"),
        (b"[]", "an object"),
        (b"{", "not JSON"),
    ],
)
async def test_a_report_that_cannot_be_is_refused_and_not_kept(arbiter: Arbiter, body: bytes, what: str) -> None:
    with pytest.raises(BodyRefused) as refused:
        await arbiter.incidents.opinion(body, MONITOR)

    assert any(what in each.what for each in refused.value.problems), refused.value.problems
    assert await steps(arbiter) == []


# As people type it


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    write(tmp_path / "packs", BOOK)
    with serve_on_loopback(tmp_path, packs=tmp_path / "packs") as (served, port):
        for name, kind, scopes in (("li.si", "person", ["incident"]), ("wang.wu", "person", ["incident", "deploy"])):
            key = served.loop.run(served.arbiter.create_key(name, kind, "shop-a", scopes))
            (tmp_path / f"{name}.key").write_text(key + "\n", "utf-8")

        def types(who: str, *typed: str, code: int = 0) -> str:
            asked = ["--server", f"http://127.0.0.1:{port}", "--key-file", str(tmp_path / f"{who}.key")]
            ended = CliRunner().invoke(main, ["playbook", *typed, *asked])
            assert ended.exit_code == code, ended.output
            return ended.output

        yield served, types


@pytest.mark.service
def test_an_officer_follows_a_playbook(desk: tuple[Any, Any]) -> None:
    served, types = desk
    output = types("li.si", "start", "attack", "--reason", "cards")
    id = output.strip().splitlines()[-1]
    assert f"{id}  attack: Attack (incident)\nwhy: cards (li.si; person)\n" in output
    assert "clock: authority (cn.cim.4)  running, due" in output
    assert "2. report  open, due" in output
    assert f"{id}  attack  incident  open, next due" in types("li.si", "status")
    assert "attack was never practised\n" in types("li.si", "status")
    assert "事件" in types("li.si", "status", "--lang", "zh")
    said = types("li.si", "step", id, "report", "--evidence", "no. 17")
    assert said == "report is done\nleft: stop\n"
    assert "deploy" in types("li.si", "step", id, "stop", "--evidence", "20", code=1)
    assert "no step is open" in types("wang.wu", "step", id, "stop", "--evidence", "20")
    told = types("li.si", "message", id, "authority", "--lang", "zh")
    assert told.startswith(f"{id}，获知于 20")
    assert "未填写：what（情况）" in told
    assert types("li.si", "message", id, "authority", "--set", "what=tests").endswith(": tests\n")
    assert "authority (cn.cim.4)  met" in types("li.si", "status", id)
    assert 'arbiter_incidents_open{kind="incident",playbook="attack"} 1.0' in served.get("/metrics").text
    assert types("li.si", "close", id, "--conclusion", "over") == f"{id} is closed\n"
    assert "0 incidents\n" in types("li.si", "status")
    assert "by li.si\n   over\n" in types("li.si", "status", id)
    assert "drill" in types("li.si", "drill", "attack")
    assert json.loads(types("li.si", "status", "--json"))["playbooks"][0]["playbook"] == "attack"


@pytest.mark.service
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["start", "atack", "--reason", "x"], "did you mean 'attack'"),
        (["step", "2026-11-23-0000", "report", "--evidence", "x"], "there is no incident with this id"),
        (["step", "2026-11-23-0000", "report"], "give either --evidence or --skip"),
        (["message", "2026-11-23-0000", "buyers", "--set", "what"], "write --set BLANK=TEXT, not 'what'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(desk: tuple[Any, Any], typed: list[str], says: str) -> None:
    assert says in desk[1]("li.si", *typed, code=1)


def test_the_playbooks_are_read_without_a_server() -> None:
    listed = CliRunner().invoke(main, ["playbook", "list"])
    shown = CliRunner().invoke(main, ["playbook", "show", "data-breach", "--lang", "zh"])
    lost = CliRunner().invoke(main, ["playbook", "show", "data-braech"])

    assert "card-testing  Card-testing attack\n" in listed.output
    assert "8 playbooks" in listed.output
    assert "时限：authority  自获知起 4 h，至 report-authority 完成 (cn.cim.4)" in shown.output
    assert "did you mean 'data-breach'" in lost.output


@pytest.mark.parametrize(
    ("seconds", "text"), [(900, "15 min"), (14_400, "4 h"), (86_400, "1 d"), (5_400, "90 min"), (7, "7 s")]
)
def test_a_length_of_time_is_told_in_its_largest_whole_unit(seconds: int, text: str) -> None:
    assert length(seconds) == text
