"""Explanations: what was asked, what the answers were, and who may see the values behind them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.errors import NotFound
from engine.explain import SEALED
from tests.books import LI, SHOP, SMALL, Clock, judged, payment, running, write

pytestmark = pytest.mark.anyio

REVEAL = Caller("audit", "person", "shop-a", frozenset({"audit", "reveal"}))
BASIS = "    because: {en: found, zh: 有}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n"
RULES = f"""\
pack: asked
about: Questions of all sorts.
for: payment
owner: tests
rules:
  - id: asked.personal
    when: buyer.name == "张三" and amount > 10 CNY
    signal: named
{BASIS}\
  - id: asked.unsure
    when: card.country != "CN"
    signal: foreign
{BASIS}\
  - id: asked.decided
    when: card.country != "CN" and amount > 1000 CNY
    signal: foreign
{BASIS}\
  - id: asked.either
    when: card.country != "CN" or amount > 1000 CNY
    signal: foreign
{BASIS}\
  - id: asked.shadow
    when: not (amount <= 10 CNY)
    signal: shadowed
    mode: shadow
{BASIS}\
  - id: asked.spent
    when: sum(amount in CNY last 1d by card.ref, including this) > 20 CNY
    signal: spent
{BASIS}\
  - id: asked.nothing
    when: amount < 1 CNY
    signal: nothing
{BASIS}"""


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    exception = (
        "exceptions:\n  - id: lab\n    signal: spent\n    subject: {card.ref: card-1}\n    owner: a\n    reason: ours\n"
        "    from: 2026-11-01\n    expires: 2026-12-01\n    approved_by: b\n"
    )
    write(tmp_path, {**SMALL, "rules/asked.yaml": RULES, "policies/exceptions/lab.yaml": exception})
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings) -> AsyncIterator[Arbiter]:
    async with running(settings, Clock()) as it:
        yield it


PERSONAL = {"buyer": {"name": "张三"}, "ip": "192.0.2.9", "card": {"ref": "card-1"}}


async def explained(arbiter: Arbiter, caller: Caller = SHOP, amount: int = 41, **fields: Any) -> dict[str, Any]:
    answer = await judged(arbiter, payment("p1", amount, **{**PERSONAL, **fields}))
    reveal = Reveal("audit" if "reveal" in caller.scopes else None, per_hour=9)
    return await arbiter.explanation(answer["id"], caller, reveal)


def rules(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["rule"]: rule for rule in shown["rules"]}


async def test_every_question_of_a_rule_that_fired_has_its_answer_and_its_values(arbiter: Arbiter) -> None:
    shown = rules(await explained(arbiter))

    assert shown["small.challenge"]["questions"] == [
        {"asks": "amount == 41 CNY", "answer": "true", "values": {"amount": "41.00 CNY"}}
    ]
    assert shown["asked.shadow"]["questions"] == [
        {"asks": "amount <= 10 CNY", "answer": "false", "values": {"amount": "41.00 CNY"}}
    ]
    (question,) = shown["asked.spent"]["questions"]
    assert (question["answer"], list(question["values"].values())[-1]) == ("true", "41.00 CNY")


async def test_a_rule_is_shown_with_its_words_and_its_weight(arbiter: Arbiter) -> None:
    shown = rules(await explained(arbiter))["small.challenge"]

    assert shown["message"] == {"en": "41.00 CNY is odd", "zh": "金额 41.00 CNY 异常"}
    assert (shown["condition"], shown["pack"], shown["owner"]) == (
        "amount == 41 CNY",
        "payments/small",
        "payments-risk",
    )
    assert (shown["signal"], shown["severity"], shown["points"], shown["mode"]) == ("odd_amount", "medium", 40, "live")


async def test_personal_values_stay_sealed_for_who_may_not_reveal_them(arbiter: Arbiter) -> None:
    shown = await explained(arbiter)
    named, listed = rules(shown)["asked.personal"], rules(shown)["small.listed"]

    assert [question["values"] for question in named["questions"]] == [
        {"buyer.name": SEALED},
        {"amount": "41.00 CNY"},
    ]
    assert listed["questions"][0]["values"] == {"ip": SEALED}
    written = orjson.dumps({**shown, "rules": [{**rule, "condition": ""} for rule in shown["rules"]]}).decode()
    assert "192.0.2.9" not in written
    assert "card-1" not in written


async def test_who_may_reveal_sees_them(arbiter: Arbiter) -> None:
    shown = rules(await explained(arbiter, REVEAL))

    assert shown["asked.personal"]["questions"][0]["values"] == {"buyer.name": "张三"}
    assert shown["small.listed"]["questions"][0]["values"] == {"ip": "192.0.2.9"}


async def test_what_was_not_known_is_named_and_what_was_decided_all_the_same_is_not(arbiter: Arbiter) -> None:
    """Without a country: one rule could have fired; another is false and a third true whatever the country is."""
    shown = await explained(arbiter)
    assert shown["unknown"] == ["asked.unsure", "asked.either"]
    more = await explained_anew(arbiter, 2000)
    assert more["unknown"] == ["asked.unsure", "asked.decided"]
    assert rules(more)["asked.either"]["questions"] == [
        {"asks": 'card.country == "CN"', "answer": "unknown", "values": {"card.country": None}},
        {"asks": "amount > 1000 CNY", "answer": "true", "values": {"amount": "2000.00 CNY"}},
    ]


async def explained_anew(arbiter: Arbiter, amount: int) -> dict[str, Any]:
    answer = await judged(arbiter, payment(f"other-{amount}", amount, **PERSONAL))
    return await arbiter.explanation(answer["id"], SHOP)


async def test_an_exemption_is_shown_where_it_counted(arbiter: Arbiter) -> None:
    shown = rules(await explained(arbiter))

    assert {name: rule["exemption"] for name, rule in shown.items() if rule["exemption"]} == {"asked.spent": "lab"}
    assert shown["asked.spent"]["message"] is None


async def test_a_shadow_rule_is_shown_and_without_a_message(arbiter: Arbiter) -> None:
    shown = rules(await explained(arbiter))["asked.shadow"]

    assert (shown["mode"], shown["message"]) == ("shadow", None)


async def test_rules_that_did_not_fire_are_left_out(arbiter: Arbiter) -> None:
    assert "asked.nothing" not in rules(await explained(arbiter))


async def test_steps_situation_and_pins_are_those_of_the_record(arbiter: Arbiter) -> None:
    shown = await explained(arbiter)
    record = (await arbiter.decision(shown["id"], SHOP))["record"]

    for name in ("verdict", "score", "steps", "situation", "notices", "pins"):
        assert shown[name] == record[name]


async def test_after_erasure_the_explanation_works_without_the_values(arbiter: Arbiter) -> None:
    from engine import database as db

    shown = await explained(arbiter, REVEAL)
    await db.Rows(arbiter._ledger.database, db.subject_key).remove(tenant="shop-a")
    again = await arbiter.explanation(shown["id"], REVEAL, Reveal("audit", per_hour=9))

    assert rules(again)["asked.personal"]["questions"][0] == {
        "asks": 'buyer.name == "张三"',
        "answer": "true",
        "values": {"buyer.name": None},
    }
    assert again["verdict"] == shown["verdict"]


async def test_only_decisions_of_the_own_shop_are_explained(arbiter: Arbiter) -> None:
    shown = await explained(arbiter)
    noted = orjson.loads(await arbiter.observe(payment("noted"), SHOP))["id"]
    other = Caller("audit", "person", "shop-b", frozenset({"audit", "reveal"}))

    for id, caller in ((noted, LI), ("nothing", LI), (shown["id"], other)):
        with pytest.raises(NotFound):
            await arbiter.explanation(id, caller)
