"""Modes: what somebody switches on for a while. They only make a policy more careful, and they end by themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from cli.notices import notices
from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.errors import BodyRefused, Conflict, NotFound, SecondPerson
from engine.ledger import Filter
from engine.packs import parse, read_all, validate
from engine.policy import Policy, PolicyPack, Situation, problems, unforced
from engine.suites import read_suites, try_suites
from engine.verdict import Action, Finding
from tests import books
from tests.books import MINUTE, NOW, POLICY, SHOP, SMALL, Clock, judged, payment, record_of, running, told, write
from tests.serving import serve_on_loopback
from tests.test_replay import Ground, met

DUTY = Caller("duty", "service", "shop-a", frozenset({"deploy"}))
WANG = Caller("wang.wu", "person", "shop-a", frozenset({"deploy"}))
OTHERS = Caller("checkout", "service", "shop-b", frozenset({"score"}))
HOUR = 60 * MINUTE

MODES = """\
modes:
  guarded: {at_least: challenge, if: amount >= 10 CNY}
  review-all: {at_least: review}
  stop-payouts: {do: hold_payout, for: 72h, basis: house-policy}
  harsh: {at_least: decline}
  idle: {}
"""
BOOK = {**SMALL, "policies/till.yaml": POLICY + MODES}


def till(more: str = "") -> Policy:
    return Policy(validate(parse(POLICY + more + MODES), PolicyPack))


def found(points: int, signal: str = "odd") -> Finding:
    return Finding(f"rules.{signal}", signal, "medium", points)


# What a mode does


@pytest.mark.parametrize(
    ("points", "modes", "verdict", "steps"),
    [
        pytest.param(0, {"review-all": True}, "review", ["review-all: approve → review"], id="without a finding"),
        pytest.param(40, {"review-all": True}, "review", ["review-all: challenge → review"], id="above a milder"),
        pytest.param(85, {"review-all": True}, "decline", ["review-all: decline → decline"], id="not below a severer"),
        pytest.param(0, {"guarded": True}, "challenge", ["guarded: approve → challenge"], id="its if is true"),
        pytest.param(0, {"guarded": None}, "challenge", ["guarded: approve → challenge"], id="its if is unknown"),
        pytest.param(0, {"guarded": False}, "approve", [], id="its if is false"),
        pytest.param(0, {"stop-payouts": True}, "approve", ["stop-payouts: approve → approve"], id="an action only"),
        pytest.param(
            0,
            {"guarded": True, "review-all": True},
            "review",
            ["guarded: approve → challenge", "review-all: challenge → review"],
            id="two of them",
        ),
        pytest.param(0, {"nobody-knows": True}, "approve", [], id="a mode that the policy does not have"),
    ],
)
def test_a_mode_raises_the_verdict_to_its_floor_and_says_so(
    points: int, modes: dict[str, bool | None], verdict: str, steps: list[str]
) -> None:
    outcome = till().judge([found(points)] if points else [], Situation(modes=tuple(modes.items())))

    assert outcome.verdict == verdict
    assert [f"{step.name}: {step.before} → {step.after}" for step in outcome.steps if step.by == "mode"] == steps


def test_a_mode_has_something_done_whatever_was_found() -> None:
    actions = "actions:\n  - {when: [odd], do: hold_payout, for: 24h}\n"
    hold = Action("hold_payout", 72 * 3600, "house-policy")

    assert till(actions).judge([], Situation(modes=(("stop-payouts", True),))).actions == (hold,)
    assert till(actions).judge([found(1)], Situation(modes=(("stop-payouts", True),))).actions == (hold,)
    assert till(actions).judge([found(1)]).actions == (Action("hold_payout", 24 * 3600),)
    assert till(actions).judge([], Situation(modes=(("stop-payouts", False),))).actions == ()


def test_a_review_that_a_mode_asks_for_waits_though_the_queue_is_full() -> None:
    narrow = POLICY.replace("if_late: decline}", "if_late: decline, capacity: 1/h, overflow: challenge}")
    policy = Policy(validate(parse(narrow + MODES), PolicyPack))
    full = policy.judge([found(60)], Situation(review_open=False, modes=(("review-all", True),)))

    assert full.verdict == "review"
    assert [step.by for step in full.steps] == ["score", "overflow", "mode"]
    assert unforced(full) == "challenge"


def test_a_passed_challenge_is_a_pass_in_a_mode_that_asks_for_one() -> None:
    situation = Situation(challenge_passed=True, modes=(("guarded", True),))

    assert till().judge([], situation).verdict == "approve"
    assert till().judge([], replace(situation, modes=(("review-all", True),))).verdict == "review"


def test_what_a_mode_declines_is_not_held_against_the_rules() -> None:
    policy = till("breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 1, then: review}\n")
    findings = [found(40)]

    assert policy.blamed(findings, policy.judge(findings, Situation(modes=(("harsh", True),)))) == frozenset()
    findings = [found(85)]
    assert policy.blamed(findings, policy.judge(findings, Situation(modes=(("harsh", True),)))) == {"rules.odd"}


FLOORS = {"guarded": 1, "harsh": 3, "review-all": 2, "stop-payouts": 0}
"""Mode → the place of its verdict."""

FINDINGS = st.lists(
    st.builds(
        found, st.sampled_from([0, 15, 40, 60, 85]), st.sampled_from(["odd", "stolen_card", "sanctions_hit", "clean"])
    ),
    max_size=4,
)
RULED = """\
rules:
  - {id: soft, when: [clean], at_most: challenge}
  - {id: stern, when: [stolen_card], at_least: review}
mandatory:
  - {when: [sanctions_hit], verdict: decline}
degraded:
  deadline: {at_least: review}
actions:
  - {when: [odd], do: hold_payout, for: 24h}
breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 1, then: challenge}
"""


@given(
    findings=FINDINGS,
    tier=st.sampled_from(["", "standard", "watched"]),
    causes=st.sampled_from([(), ("deadline",)]),
    tripped=st.sampled_from([frozenset[str](), frozenset({"rules.odd"})]),
    passed=st.booleans(),
    modes=st.lists(
        st.tuples(st.sampled_from([*FLOORS]), st.sampled_from([True, None, False])), unique_by=lambda each: each[0]
    ),
)
def test_a_mode_never_softens_anything(
    findings: list[Finding],
    tier: str,
    causes: tuple[str, ...],
    tripped: frozenset[str],
    passed: bool,
    modes: list[tuple[str, bool | None]],
) -> None:
    policy = till(RULED)
    without = Situation(tier=tier, causes=causes, tripped=tripped, challenge_passed=passed)
    plain, careful = (policy.judge(findings, each) for each in (without, replace(without, modes=tuple(sorted(modes)))))
    rank = policy.verdicts.index

    assert rank(careful.verdict) >= rank(plain.verdict)
    lasting = {action.do: action.seconds for action in careful.actions}
    assert all(lasting[action.do] >= action.seconds for action in plain.actions)
    assert careful.signals == plain.signals
    assert careful.score == plain.score
    floor = max((FLOORS[name] for name, holds in modes if holds is not False), default=0)
    # A passed challenge takes back what asked for nothing more than that.
    expected = max(rank(policy.judge(findings, replace(without, challenge_passed=False)).verdict), floor)
    assert rank(careful.verdict) == (0 if passed and expected == 1 else expected)


@pytest.mark.parametrize(
    ("modes", "loc", "what"),
    [
        ("{off: {at_least: review}}", ("modes", "off"), "'off' is what ends a mode"),
        ("{soft: {at_least: approve}}", ("modes", "soft", "at_least"), "the mildest verdict"),
        ("{odd: {at_least: refuse}}", ("modes", "odd", "at_least"), "no verdict 'refuse'"),
        ("{odd: {if: amount > 1 CNY}}", ("modes", "odd", "if"), "does nothing here"),
        ("{odd: {at_least: review, for: 2h}}", ("modes", "odd", "for"), "'for' goes with 'do'"),
        ("{odd: {at_least: review, basis: house-policy}}", ("modes", "odd", "basis"), "'basis' goes with 'do'"),
    ],
)
def test_a_mode_that_makes_no_sense_is_told(modes: str, loc: tuple[str, ...], what: str) -> None:
    (fault,) = problems(validate(parse(f"{POLICY}modes: {modes}\n"), PolicyPack))

    assert fault.loc == loc
    assert what in fault.what


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("count(last 1h by card.ref) > 3", "a mode asks about the event alone"),
        ("amuont > 1 CNY", "amuont"),
        ("amount", "yes/no"),
    ],
)
def test_the_if_of_a_mode_is_a_condition_on_the_event(tmp_path: Path, condition: str, what: str) -> None:
    modes = f"modes:\n  odd: {{at_least: review, if: {condition!r}}}\n"
    (problem,) = told(tmp_path, {**SMALL, "policies/till.yaml": POLICY + modes})

    assert what in problem
    assert problem.startswith("policies/till.yaml:11:")


def test_check_says_which_policy_a_mode_does_not_touch(tmp_path: Path) -> None:
    other = POLICY.replace("policy: till", "policy: account").replace("for: [payment]", "for: [account]")
    other += "modes:\n  idle: {}\n  guarded: {at_least: review}\n"
    book = books.book(tmp_path, {**BOOK, "policies/account.yaml": other})

    assert [notice.what for notice in notices(book, (), read_all(tmp_path / "policies"))] == [
        f"the mode '{name}' does not touch this policy" for name in ("review-all", "stop-payouts", "harsh")
    ]


def test_every_shipped_policy_says_what_it_does_in_each_shipped_mode() -> None:
    policies = books.shipped().policies.values()

    assert {name for policy in policies for name in policy.pack.modes} == {"guarded", "review-all", "stop-payouts"}
    assert all(len(policy.pack.modes) == 3 for policy in policies)
    for name in ("guarded", "review-all", "stop-payouts"):
        assert [policy.name for policy in policies if policy.active([name])], name


SUITE = """\
suite: till
for: payment
cases:
  - it: does it
    event: {amount: 20.00 CNY}
    modes: [MODE]
    expect: {verdict: challenge, steps: [guarded]}
"""


@pytest.mark.parametrize(
    ("mode", "says"),
    [("guarded", ""), ("review-all", "expects the verdict 'challenge'"), ("gaurded", "did you mean 'guarded'")],
)
def test_a_suite_says_what_a_mode_does(tmp_path: Path, mode: str, says: str) -> None:
    write(tmp_path, {**BOOK, "policies/till_test.yaml": SUITE.replace("MODE", mode)})
    suites, _ = read_suites(tmp_path / "policies")
    (trial,) = try_suites(books.load(tmp_path / "rules", tmp_path / "policies"), suites)

    assert (trial.problem is None) == (not says)
    assert trial.problem is None or says in trial.problem.render()


# Switched on


pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    write(tmp_path, BOOK)
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(settings, clock) as it:
        yield it


def on(length: str = "2h", reason: str = "cards are being tested") -> bytes:
    return orjson.dumps({"for": length, "reason": reason})


OFF = orjson.dumps({"reason": "no attempt for an hour"})


async def test_a_mode_holds_from_now_to_its_end_by_the_clock_of_the_decision(arbiter: Arbiter, clock: Clock) -> None:
    assert (await judged(arbiter, payment("before", 20)))["verdict"] == "approve"
    switched = await arbiter.modes.switch("guarded", on(), DUTY)
    during = await judged(arbiter, payment("during", 20))
    small = await judged(arbiter, payment("small", 9))
    clock.now = NOW + 2 * HOUR - 1
    last = await judged(arbiter, payment("last", 20))
    clock.now += 1
    after = await judged(arbiter, payment("after", 20))

    assert switched["until"] == NOW + 2 * HOUR
    assert [each["verdict"] for each in (during, small, last, after)] == [
        "challenge",
        "approve",
        "challenge",
        "approve",
    ]
    situations = [(await record_of(arbiter, each))["situation"].get("modes") for each in (during, small, last, after)]
    assert situations == [{"guarded": True}, {"guarded": False}, {"guarded": True}, None]
    assert [each.get("modes") for each in (during, small, last, after)] == [["guarded"], None, ["guarded"], None]
    explained = await arbiter.explanation(during["id"], SHOP)
    assert explained["steps"] == [{"by": "mode", "name": "guarded", "before": "approve", "after": "challenge"}]


async def test_who_switched_it_is_in_the_ledger_with_its_reason_sealed(arbiter: Arbiter, clock: Clock) -> None:
    await arbiter.modes.switch("guarded", on(reason="stolen by a@example.com"), DUTY)
    clock.now += HOUR
    await arbiter.modes.switch("guarded", on(), WANG)
    await arbiter.modes.end("guarded", OFF, WANG)
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
    records = [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]
    records = [each for each in records if each["what"] == "mode"]

    assert [(each["object"], each["before"], each["after"], each["by"]["name"]) for each in records] == [
        ("guarded", None, "2026-11-23T14:00:00Z", "duty"),
        ("guarded", "2026-11-23T14:00:00Z", "2026-11-23T15:00:00Z", "wang.wu"),
        ("guarded", "2026-11-23T15:00:00Z", None, "wang.wu"),
    ]
    assert all(len(each["note"]) == 64 for each in records)
    assert b"example.com" not in orjson.dumps(records)


async def test_what_is_on_is_shown_with_what_it_does(arbiter: Arbiter) -> None:
    await arbiter.modes.switch("guarded", on(reason="stolen by a@example.com"), DUTY)
    shown = await arbiter.modes.shown(WANG)

    (one,) = shown["on"]
    assert (one["name"], one["by"], one["until"]) == ("guarded", "duty", NOW + 2 * HOUR)
    assert "example.com" not in one["reason"]
    assert [each["name"] for each in shown["modes"]] == ["guarded", "harsh", "review-all", "stop-payouts"]
    assert shown["modes"][0]["does"] == {"till": {"at_least": "challenge", "if": "amount >= 10 CNY"}}
    assert shown["modes"][3]["does"] == {"till": {"do": "hold_payout", "for_s": 72 * 3600}}
    assert arbiter.modes.seconds_left() == {("shop-a", "guarded"): 7200.0}


async def test_a_mode_of_one_tenant_does_not_touch_another(arbiter: Arbiter) -> None:
    await arbiter.modes.switch("review-all", on(), DUTY)

    assert orjson.loads(await arbiter.decide(payment("e"), OTHERS))["verdict"] == "approve"
    assert (await judged(arbiter, payment("e")))["verdict"] == "review"
    assert (await arbiter.modes.shown(replace(WANG, tenant="shop-b")))["on"] == []


async def test_a_mode_outlives_a_restart_and_a_reload(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        await arbiter.modes.switch("review-all", on(), DUTY)
    async with running(settings, clock) as arbiter:
        assert (await judged(arbiter, payment("restarted")))["verdict"] == "review"
        write(settings.rules.parent, {"policies/till.yaml": POLICY.replace("due: 30m", "due: 20m") + MODES})
        await arbiter.reload(Caller("op", "person", "shop-a", frozenset({"admin"})))
        assert (await judged(arbiter, payment("reloaded")))["verdict"] == "review"
        write(settings.rules.parent, {"policies/till.yaml": POLICY})
        await arbiter.reload(Caller("op", "person", "shop-a", frozenset({"admin"})))
        answer = await judged(arbiter, payment("without"))
        assert answer["verdict"] == "approve"
        assert "modes" not in (await record_of(arbiter, answer))["situation"]


@pytest.mark.parametrize(
    ("name", "body", "error", "says"),
    [
        ("guarded", on("1h"), Conflict, "is on until 2026-11-23T14:00:00Z"),
        ("gaurded", on(), NotFound, "did you mean 'guarded'"),
        ("idle", on(), NotFound, "no policy in force has the mode 'idle'"),
        ("guarded", on("8d"), BodyRefused, "at most 7d"),
        ("guarded", on("soon"), BodyRefused, "write a duration"),
        ("guarded", orjson.dumps({"for": "2h"}), BodyRefused, "is required"),
        ("guarded", orjson.dumps({"reason": "why"}), BodyRefused, "is required"),
        ("guarded", orjson.dumps({"for": "2h", "reason": "why", "until": "x"}), BodyRefused, "not known"),
    ],
)
async def test_a_mode_that_cannot_be_switched_on_is_refused(
    arbiter: Arbiter, name: str, body: bytes, error: type[Exception], says: str
) -> None:
    await arbiter.modes.switch("guarded", on(), DUTY)
    with pytest.raises(error) as refused:
        await arbiter.modes.switch(name, body, DUTY)

    told = str(refused.value) + "".join(each.what for each in getattr(refused.value, "problems", ()))
    assert says in told
    assert [each["until"] for each in (await arbiter.modes.shown(WANG))["on"]] == [NOW + 2 * HOUR]


async def test_only_a_person_ends_a_mode_and_only_one_that_is_on(arbiter: Arbiter) -> None:
    await arbiter.modes.switch("review-all", on(), DUTY)
    with pytest.raises(SecondPerson, match="use the key of a person"):
        await arbiter.modes.end("review-all", OFF, DUTY)
    assert (await judged(arbiter, payment("on")))["verdict"] == "review"
    await arbiter.modes.end("review-all", OFF, WANG)
    assert (await judged(arbiter, payment("off")))["verdict"] == "approve"
    for name in ("review-all", "guarded"):
        with pytest.raises(Conflict, match="not on"):
            await arbiter.modes.end(name, OFF, WANG)


async def test_what_a_mode_sends_to_review_takes_nobody_s_place(settings: Settings, clock: Clock) -> None:
    narrow = POLICY.replace("if_late: decline}", "if_late: decline, capacity: 1/h, overflow: decline}") + MODES
    write(settings.rules.parent, {"policies/till.yaml": narrow})
    async with running(settings, clock) as arbiter:
        await arbiter.modes.switch("review-all", on(), DUTY)
        assert [(await judged(arbiter, payment(f"m{n}")))["verdict"] for n in range(3)] == ["review"] * 3
    async with running(settings, clock) as arbiter:  # Counted again out of the ledger.
        verdicts = [(await judged(arbiter, payment(f"f{n}", 61)))["verdict"] for n in range(2)]
    assert verdicts == ["review", "decline"]


async def test_a_decision_in_a_mode_is_replayed_at_both_levels(key_path: Path, tmp_path: Path, clock: Clock) -> None:
    write(tmp_path, BOOK)
    shutil.copyfile(key_path, tmp_path / "keys.json")
    shutil.copymode(key_path, tmp_path / "keys.json")
    ground = Ground(tmp_path, [])
    settings = Settings(ground.url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")
    async with running(settings, clock) as arbiter:
        for mode in ("guarded", "stop-payouts", "harsh"):
            await arbiter.modes.switch(mode, on(), DUTY)
            ground.ids += [(await judged(arbiter, payment(f"{mode}{n}", n)))["id"] for n in (5, 20, 41, 85)]
    for each in await met(ground, ground.ids):
        assert each.record["situation"]["modes"]
        assert (each.full().level, each.full().differences) == ("full", ())
        assert (each.recorded().level, each.recorded().differences) == ("recorded", ())
        changed = {**each.record, "situation": {**each.record["situation"], "modes": {}}}
        again = replace(each, leaf=orjson.dumps(changed, option=orjson.OPT_SORT_KEYS))
        assert not again.full().equal
        assert again.recorded().equal is all(step["by"] != "mode" for step in each.record["steps"])


# As people type it


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    write(tmp_path / "packs", BOOK)
    with serve_on_loopback(tmp_path, packs=tmp_path / "packs") as (served, port):
        for name, kind in (("wang.wu", "person"), ("duty", "service")):
            key = served.loop.run(served.arbiter.create_key(name, kind, "shop-a", ["deploy"]))
            (tmp_path / f"{name}.key").write_text(key + "\n", "utf-8")

        def types(who: str, *typed: str) -> str:
            asked = ["--server", f"http://127.0.0.1:{port}", "--key-file", str(tmp_path / f"{who}.key")]
            return CliRunner().invoke(main, ["mode", *typed, *asked]).output

        yield served, types


@pytest.mark.service
def test_an_officer_switches_modes_on_and_off(desk: tuple[Any, Any]) -> None:
    served, types = desk
    assert types("duty").startswith("0 modes on\nguarded: off\n  till: at_least challenge, if amount >= 10 CNY\n")
    assert types("duty", "guarded", "--for", "2h", "--reason", "cards").startswith("guarded is on until 20")
    assert "review-all is on until" in types("duty", "review-all", "--for", "30m", "--reason", "cards")
    assert "1 mode on" not in types("duty")
    assert "guarded: on until" in types("duty")
    assert "  why: cards (duty)\n" in types("duty")
    assert "guarded: 已开启，至" in types("duty", "--lang", "zh")
    assert 'arbiter_mode_seconds_left{mode="guarded",tenant="shop-a"} 7' in served.get("/metrics").text
    assert "use the key of a person" in types("duty", "off", "--reason", "calm")
    assert types("wang.wu", "off", "review-all", "--reason", "calm") == "review-all has ended\n"
    assert types("wang.wu", "off", "--reason", "calm") == "guarded has ended\n"
    assert types("wang.wu", "off", "--reason", "calm") == "no mode is on\n"
    assert json.loads(types("duty", "--json"))["on"] == []
    assert "arbiter_mode_seconds_left{" not in served.get("/metrics").text


@pytest.mark.service
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["guarded", "--reason", "x"], "say how long the mode is to be on: --for 2h"),
        (["guarded", "harsh", "--for", "2h", "--reason", "x"], "one mode at a time; to end one, write: off harsh"),
        (["off", "--for", "2h", "--reason", "x"], "it does not go with off"),
        (["guarded", "--for", "2h"], "reason: at least 1 characters"),
        (["guarded", "--for", "2 hours", "--reason", "x"], "for: write a duration"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(desk: tuple[Any, Any], typed: list[str], says: str) -> None:
    assert says in desk[1]("wang.wu", *typed)
