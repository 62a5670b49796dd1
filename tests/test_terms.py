"""What tiers drive beside scores: carried by the answer, drawn by the event's id, and the same in a replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.arbiter import Arbiter
from engine.assembly import Settings
from engine.policy import limit_name
from engine.replay import Replayer
from engine.rollout import BUCKETS, bucket
from engine.vault import KeyFile
from tests import books
from tests.books import LI, judged, payment, record_of, running

pytestmark = pytest.mark.anyio

TERMS = """\
terms:
  - tier: [standard]
    sample: 10%
  - tier: [watched]
    deposit: 50000.00 CNY
    payout_delay: 14d
    sample: 100%
    limits:
      - {id: large, if: amount > 20 CNY, do: hold_order, because: {en: Too large, zh: 金额过大}}
      - {id: often, if: count(last 1d by merchant.id) >= 2, do: hold_orders}
      - {id: carded, if: card.ref == "x", do: hold_card}
"""
FILES = {**books.SMALL, "policies/till.yaml": books.POLICY + TERMS}
MERCHANT: dict[str, Any] = {"merchant": {"id": "m-1"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    books.write(tmp_path, FILES)
    KeyFile.create(tmp_path / "keys.json")
    return Settings(
        database_url=f"sqlite:///{tmp_path}/a.db",
        key_file=tmp_path / "keys.json",
        rules=tmp_path / "rules",
        policies=tmp_path / "policies",
    )


def done(answer: dict[str, Any]) -> set[str]:
    return {action["do"] for action in answer["actions"]}


async def watch(arbiter: Arbiter) -> None:
    await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "x"}', LI)


async def test_an_answer_carries_what_the_tier_drives(settings: Settings) -> None:
    async with running(settings, books.Clock()) as arbiter:
        await watch(arbiter)
        answer = await judged(arbiter, payment("p1", 5, **MERCHANT))
        assert answer["terms"] == {
            "merchant": {
                "tier": "watched",
                "deposit": "50000.00 CNY",
                "payout_delay_s": 14 * 86_400,
                "sampled": True,
                "over": [],
            }
        }
        assert (answer["verdict"], done(answer)) == ("approve", set())


async def test_what_is_over_a_limit_is_acted_on_and_no_verdict_changes(settings: Settings) -> None:
    async with running(settings, books.Clock()) as arbiter:
        await watch(arbiter)
        answer = await judged(arbiter, payment("p1", 21, **MERCHANT))
        assert done(answer) == {"hold_order"}
        assert answer["terms"]["merchant"]["over"] == [
            {"id": "large", "because": {"en": "Too large", "zh": "金额过大"}}
        ]
        assert answer["verdict"] == "approve"
        assert done(await judged(arbiter, payment("p2", 20, **MERCHANT))) == set()
        assert done(await judged(arbiter, payment("p3", 20, **MERCHANT))) == {"hold_orders"}


async def test_who_is_in_another_tier_meets_no_limit(settings: Settings) -> None:
    async with running(settings, books.Clock()) as arbiter:
        await watch(arbiter)
        answer = await judged(arbiter, payment("p1", 21, merchant={"id": "m-2"}))
        assert "hold_order" not in done(answer)
        assert answer["terms"]["merchant"].keys() == {"tier", "sampled"}
        assert not (await record_of(arbiter, answer))["situation"]["tests"]


async def test_a_sample_is_drawn_by_the_id_of_the_event(settings: Settings) -> None:
    async with running(settings, books.Clock()) as arbiter:
        drawn = {
            id: (await judged(arbiter, payment(id, 5)))["terms"]["merchant"]["sampled"]
            for id in (f"p{number}" for number in range(60))
        }
    assert drawn == {id: bucket("sample till merchant", id) < BUCKETS // 10 for id in drawn}
    assert {True, False} <= set(drawn.values())


async def test_a_replay_gives_the_same_terms(settings: Settings) -> None:
    async with running(settings, books.Clock()) as arbiter:
        await watch(arbiter)
        answers = [await judged(arbiter, payment(f"p{n}", n * 10, card={"ref": "x"}, **MERCHANT)) for n in range(1, 6)]
        records = [await record_of(arbiter, answer) for answer in answers]
        replayer = Replayer(arbiter._live.rulebook)
    for record in records:
        leaf = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        assert replayer.replay(leaf).equal
        # A tier, an answer or an id that was altered does not come out as recorded.
        for altered in altered_of(record):
            assert not replayer.replay(orjson.dumps(altered, option=orjson.OPT_SORT_KEYS)).equal


def altered_of(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    situation = record["situation"]
    yield {**record, "situation": {**situation, "tier": "standard"}}
    large = limit_name("large")
    yield {**record, "situation": {**situation, "tests": {**situation["tests"], large: not situation["tests"][large]}}}
    yield {**record, "terms": {"merchant": {**record["terms"]["merchant"], "deposit": "1.00 CNY"}}}


async def test_a_policy_without_terms_carries_none(tmp_path: Path, settings: Settings) -> None:
    books.write(tmp_path, books.SMALL)
    async with running(settings, books.Clock()) as arbiter:
        answer = await judged(arbiter, payment("p1", 5, **MERCHANT))
        assert "terms" not in answer
        assert "terms" not in await record_of(arbiter, answer)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tier: [standard]", "tier: [normal]", "there is no tier 'normal'"),
        ("tier: [standard]", "tier: [watched]", "there are terms for the tier 'watched' already"),
        ("tier: [standard]", "tier: [standard]\n    profile: anchor", "there is no profile 'anchor'"),
        ("id: often", "id: large", "there is another limit 'large'"),
        ("amount > 20 CNY", "amont > 20 CNY", "unknown name 'amont'"),
        ("amount > 20 CNY", "ip in list bad-networks", "bad-networks"),
        ("id: large, if", "id: large, for: [payout], if", "this policy does not judge events of the kind 'payout'"),
        ("deposit: 50000.00 CNY", "deposit: 50000.00", "write an amount and a currency"),
        ("sample: 100%", "sample: 101%", "write a share"),
    ],
)
def test_terms_that_do_not_fit_are_told_at_their_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TERMS
    found = books.told(tmp_path, {**FILES, "policies/till.yaml": books.POLICY + TERMS.replace(old, new, 1)})
    assert any(told in problem and "policies/till.yaml:" in problem for problem in found), found


def test_a_limit_does_not_take_the_name_of_an_action(tmp_path: Path) -> None:
    policy = books.POLICY + "actions: [{when: [odd_amount], do: hold_order}]\n" + TERMS
    (problem,) = books.told(tmp_path, {**FILES, "policies/till.yaml": policy})
    assert "'hold_order' is an action of this policy" in problem


def test_a_measure_ends_in_one_way(tmp_path: Path) -> None:
    clauses = "actions:\n  - {when: [odd_amount], do: hold, ends: cleared}\n  - {when: [large_amount], do: hold}\n"
    (problem,) = books.told(tmp_path, {**FILES, "policies/till.yaml": books.POLICY + clauses})
    assert problem.startswith("policies/till.yaml:12:32: "), problem
    assert "another clause says otherwise of when 'hold' ends" in problem
