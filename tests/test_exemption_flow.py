"""What softens or holds back a verdict, in the flow of events: exceptions, breakers, full queues, shadow rules."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.arbiter import Arbiter
from engine.assembly import Settings
from engine.decide import conclude
from engine.errors import Unavailable
from tests.books import (
    LI,
    MINUTE,
    NOW,
    POLICY,
    RULES,
    SECOND,
    SMALL,
    Clock,
    judged,
    payment,
    record_of,
    running,
    told,
    write,
)

pytestmark = pytest.mark.anyio

HARD = """\
pack: law
about: What nothing softens.
for: payment
owner: compliance
rules:
  - id: law.hard
    when: amount == 500 CNY
    signal: sanctioned_amount
    severity: critical
    points: 90
    hard: true
    because: {en: hard, zh: 硬}
    basis: {law: [cn.aml.40]}
  - id: law.mandatory
    when: amount == 600 CNY
    signal: minor_goods
    points: 10
    because: {en: law, zh: 法}
    basis: {law: [cn.ecl.13]}
"""
MANDATORY = POLICY + "mandatory: [{when: [minor_goods], verdict: decline}]\n"
CARD = {"card": {"ref": "card-lab"}}


def exception(**changes: str) -> str:
    row = {
        "id": "lab",
        "rule": "small.decline",
        "subject": "{card.ref: card-lab}",
        "owner": "payments-risk",
        "reason": "our own laboratory",
        "from": "2026-11-01",
        "expires": "2026-11-30",
        "approved_by": "compliance-lead",
    }
    lines = [f"{key}: {value}" for key, value in {**row, **changes}.items() if value]
    return "exceptions:\n  - " + "\n    ".join(lines) + "\n"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def over(url: str, folder: Path, keys: Path, clock: Clock, files: Mapping[str, str]) -> AsyncIterator[Arbiter]:
    """An Arbiter over these files and this ledger."""
    write(folder, {**SMALL, **files})
    settings = Settings(url, key_file=keys, rules=folder / "rules", policies=folder / "policies")
    async with running(settings, clock) as arbiter:
        yield arbiter


@pytest.fixture
def sqlite(tmp_path: Path, _migrated_sqlite: Path) -> str:
    """A fresh ledger, where it does not matter which database it is."""
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    return f"sqlite:///{tmp_path / 'arbiter.db'}"


# ---------------------------------------------------------------------------------------------- exceptions


async def test_an_exception_takes_a_finding_away_and_each_hit_is_recorded(
    ledger_url: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    files = {"policies/exceptions/lab.yaml": exception()}
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        lab = await judged(arbiter, payment("p1", 85, **CARD))
        other = await judged(arbiter, payment("p2", 85, card={"ref": "card-2"}))
        record = await record_of(arbiter, lab)
        unharmed = await record_of(arbiter, other)
        kind = arbiter._live.rulebook.kinds["payment"]

    assert (lab["verdict"], lab["signals"], lab["reasons"]) == ("approve", [], [])
    assert record["exempted"] == [{"rule": "small.decline", "exemption": "lab"}]
    assert (other["verdict"], unharmed["exempted"]) == ("decline", [])
    assert "card-lab" not in orjson.dumps(record).decode()
    assert conclude(kind, record).verdict == "approve"


async def test_an_exception_from_a_signal_covers_what_finds_it(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    files = {"policies/exceptions/lab.yaml": exception(rule="", signal="card_testing")}
    async with over(sqlite, tmp_path, key_path, clock, files) as arbiter:
        answers = [await judged(arbiter, payment(f"p{number}", **CARD)) for number in range(3)]
        record = await record_of(arbiter, answers[-1])

    assert ("card_testing" in answers[-1]["signals"], record["exempted"][0]["rule"]) == (False, "small.burst")


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        ({"from": "2026-11-24"}, NOW),
        ({"expires": "2026-11-22"}, NOW),
        ({"tenant": "shop-b"}, NOW),
        ({"subject": "{card.ref: card-lab, merchant.id: m-9}"}, NOW),
    ],
    ids=["before it begins", "after its end", "in another shop", "for half of its subject"],
)
async def test_an_exception_holds_for_its_days_its_shop_and_its_whole_subject(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock, changes: dict[str, str], now: int
) -> None:
    files = {"policies/exceptions/lab.yaml": exception(**changes)}
    async with over(sqlite, tmp_path, key_path, clock, files) as arbiter:
        answer = await judged(arbiter, payment("p1", 85, **CARD))

    assert answer["verdict"] == "decline"


async def test_an_exception_is_written_with_a_pseudonym(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    async with over(sqlite, tmp_path, key_path, clock, {}) as arbiter:
        name = arbiter._vault.pseudonym("shop-a", "card", "card-lab")
        write(tmp_path, {"policies/exceptions/lab.yaml": exception(subject=f"{{card.ref: 'pseudonym:{name}'}}")})
        await arbiter.reload(LI)
        answer = await judged(arbiter, payment("p1", 85, **CARD))

    assert answer["verdict"] == "approve"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("law.hard", "law.hard is hard: nothing softens it"),
        ("law.mandatory", "a mandatory clause rests on the signal minor_goods"),
    ],
)
async def test_what_is_hard_or_mandatory_cannot_be_excepted(tmp_path: Path, rule: str, said: str) -> None:
    files = {**SMALL, "rules/law.yaml": HARD, "policies/till.yaml": MANDATORY}
    (problem,) = told(tmp_path, {**files, "policies/exceptions/lab.yaml": exception(rule=rule)})

    assert problem.splitlines()[0] == f"policies/exceptions/lab.yaml:3:11: {said}"


# ------------------------------------------------------------------------------------------------ the breaker trips

BREAKER = "breaker: {per: rule, share_of_declines: 50%, over: 10m, at_least_events: 4, then: challenge}\n"


async def test_a_breaker_trips_in_the_flow_and_recovers(
    ledger_url: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    """A rule that declines everything is held back after four events, and is back when it has calmed down."""
    async with over(ledger_url, tmp_path, key_path, clock, {"policies/till.yaml": POLICY + BREAKER}) as arbiter:
        first = [(await judged(arbiter, payment(f"a{number}", 85)))["verdict"] for number in range(6)]
        held = await judged(arbiter, payment("b", 85))
        record = await record_of(arbiter, held)
        clock.now += 11 * MINUTE
        calm = [await judged(arbiter, payment(f"c{number}", at="2026-11-23T12:11:00Z")) for number in range(20)]
        later = await judged(arbiter, payment("d", 85, at="2026-11-23T12:11:00Z"))

    assert first == ["decline"] * 4 + ["challenge"] * 2
    assert record["situation"]["tripped"] == ["small.decline"]
    assert [step["by"] for step in record["steps"]] == ["tripped", "breaker"]
    assert {answer["verdict"] for answer in calm} == {"approve"}
    assert later["verdict"] == "decline"


async def test_a_breaker_stays_tripped_over_a_restart_and_a_reload(
    ledger_url: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    files = {"policies/till.yaml": POLICY + BREAKER}
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        for number in range(5):
            await judged(arbiter, payment(f"a{number}", 85))
        before = arbiter._live.breakers["till"].snapshot(clock.now)
    clock.now += MINUTE
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        assert arbiter._live.breakers["till"].snapshot(clock.now) == before
        assert (await judged(arbiter, payment("b", 85)))["verdict"] == "challenge"
        write(tmp_path, {"rules/small.yaml": RULES.replace("is odd", "is quite odd")})
        await arbiter.reload(LI)
        assert (await judged(arbiter, payment("c", 85)))["verdict"] == "challenge"
        write(tmp_path, {"policies/till.yaml": POLICY + BREAKER.replace("50%", "49%")})
        await arbiter.reload(LI)
        assert (await judged(arbiter, payment("d", 85)))["verdict"] == "challenge"
        events = arbiter._live.breakers["till"].snapshot(clock.now)["events"]
    clock.now += 11 * MINUTE
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        assert arbiter._live.breakers["till"].snapshot(clock.now) == {"events": 0, "declines": {}}

    assert (before, events) == ({"events": 5, "declines": {"small.decline": 5}}, 8)


async def test_a_breaker_counts_a_rule_once_it_is_decided_whether_live_or_recalled(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    """What is counted again from the ledger is what was counted as it happened, for rules of every sort."""
    files = {"policies/till.yaml": MANDATORY + BREAKER.replace("4", "400"), "rules/law.yaml": HARD}
    async with over(sqlite, tmp_path, key_path, clock, files) as arbiter:
        for number, amount in enumerate((85, 500, 600, 41, 61, 5, 85, 500)):
            clock.now += SECOND
            await judged(arbiter, payment(f"p{number}", amount, card={"ref": "one"}))
        counted = arbiter._live.breakers["till"].snapshot(clock.now)
    async with over(sqlite, tmp_path, key_path, clock, files) as arbiter:
        recalled = arbiter._live.breakers["till"].snapshot(clock.now)

    assert counted == recalled
    assert counted["events"] == 8
    assert "law.hard" not in counted["declines"]


async def test_nothing_hard_or_mandatory_is_held_back(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    files = {"policies/till.yaml": MANDATORY + BREAKER, "rules/law.yaml": HARD}
    async with over(sqlite, tmp_path, key_path, clock, files) as arbiter:
        hard = [(await judged(arbiter, payment(f"h{number}", 500)))["verdict"] for number in range(8)]
        mandatory = [(await judged(arbiter, payment(f"m{number}", 600)))["verdict"] for number in range(8)]

    assert set(hard + mandatory) == {"decline"}


# ------------------------------------------------------------------------------------------------- queues

FULL = POLICY.replace("if_late: decline}", "if_late: decline, capacity: 2/h, overflow: challenge}")


async def test_a_full_review_queue_overflows_until_its_time_has_gone(
    ledger_url: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    files = {"policies/till.yaml": FULL}
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        first = [(await judged(arbiter, payment(f"a{number}", 61)))["verdict"] for number in range(3)]
        other = await judged(arbiter, payment("b", 85))
    async with over(ledger_url, tmp_path, key_path, clock, files) as arbiter:
        again = await judged(arbiter, payment("c", 61))
        record = await record_of(arbiter, again)
        write(tmp_path, {"rules/small.yaml": RULES.replace("is odd", "is quite odd")})
        await arbiter.reload(LI)
        reloaded = await judged(arbiter, payment("d", 61))
        clock.now += 60 * MINUTE
        later = await judged(arbiter, payment("e", 61, at="2026-11-23T13:00:00Z"))

    assert (first, other["verdict"]) == (["review", "review", "challenge"], "decline")
    assert (again["verdict"], record["situation"]["review_open"]) == ("challenge", False)
    assert (reloaded["verdict"], later["verdict"]) == ("challenge", "review")


async def test_events_at_once_do_not_overfill_a_queue(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    async with over(sqlite, tmp_path, key_path, clock, {"policies/till.yaml": FULL}) as arbiter:
        answers = await asyncio.gather(*(judged(arbiter, payment(f"p{number}", 61)) for number in range(10)))

    assert sorted(answer["verdict"] for answer in answers) == ["challenge"] * 8 + ["review"] * 2


async def test_a_place_whose_verdict_was_not_written_is_given_back(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database", "verdict_unknown")

    async with over(sqlite, tmp_path, key_path, clock, {"policies/till.yaml": FULL}) as arbiter:
        with monkeypatch.context() as broken:
            broken.setattr(arbiter._ledger, "append", gone)
            for number in range(5):
                with pytest.raises(Unavailable):
                    await judged(arbiter, payment(f"lost{number}", 61))
        verdicts = [(await judged(arbiter, payment(f"p{number}", 61)))["verdict"] for number in range(3)]

    assert verdicts == ["review", "review", "challenge"]


async def test_what_is_hard_waits_in_a_full_queue_all_the_same(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    hard = HARD.replace("points: 90", "points: 61")
    async with over(sqlite, tmp_path, key_path, clock, {"policies/till.yaml": FULL, "rules/law.yaml": hard}) as arbiter:
        write(tmp_path, {"rules/small.yaml": RULES.replace("amount >= 85 CNY", "amount >= 8500 CNY")})
        await arbiter.reload(LI)
        verdicts = [(await judged(arbiter, payment(f"p{number}", 500)))["verdict"] for number in range(4)]

    assert verdicts == ["review"] * 4


# ------------------------------------------------------------------------------- shadow, rules with gaps


async def test_a_shadow_rule_is_recorded_and_changes_nothing(
    sqlite: str, tmp_path: Path, key_path: Path, clock: Clock
) -> None:
    shadow = RULES.replace("    when: amount >= 85 CNY\n", "    when: amount >= 85 CNY\n    mode: shadow\n")
    async with over(sqlite, tmp_path, key_path, clock, {"rules/small.yaml": shadow}) as arbiter:
        answer = await judged(arbiter, payment("p1", 85, **CARD))
        record = await record_of(arbiter, answer)

    assert record["shadow"] == ["small.decline"]
    assert (answer["verdict"], answer["score"], answer["signals"], answer["reasons"]) == ("approve", 0, [], [])
    assert record["found"] == []


UNKNOWN = [
    ("quiet", [], 0, "approve"),
    ("fire", ["foreign"], 85, "decline"),
    ("country_unknown", ["country_unknown"], 0, "approve"),
]


@pytest.mark.parametrize(("written", "signals", "score", "verdict"), UNKNOWN)
async def test_a_rule_says_what_its_unknown_condition_means(
    sqlite: str,
    tmp_path: Path,
    key_path: Path,
    clock: Clock,
    written: str,
    signals: list[str],
    score: int,
    verdict: str,
) -> None:
    pack = (
        "pack: gaps\nabout: Gaps.\nfor: payment\nowner: me\nrules:\n  - id: gaps.foreign\n"
        f"    when: card.country != 'CN'\n    signal: foreign\n    points: 85\n    if_unknown: {written}\n"
        "    because: {en: foreign, zh: 境外}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n"
    ).replace("'CN'", '"CN"')
    async with over(sqlite, tmp_path, key_path, clock, {"rules/gaps.yaml": pack}) as arbiter:
        unknown = await judged(arbiter, payment("p1", **CARD))
        known = await judged(arbiter, payment("p2", card={"ref": "c", "country": "CN"}))
        record = await record_of(arbiter, unknown)
        kind = arbiter._live.rulebook.kinds["payment"]

    assert (unknown["signals"], unknown["score"], unknown["verdict"]) == (signals, score, verdict)
    assert (known["signals"], known["verdict"]) == ([], "approve")
    assert conclude(kind, record).verdict == verdict
    assert [reason["rule"] for reason in unknown["reasons"]] == (["gaps.foreign"] if signals else [])
