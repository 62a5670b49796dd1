"""What a verdict hung on: the smallest change, and never one that the engine does not confirm."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import main
from engine.arbiter import Arbiter
from engine.assembly import Settings
from engine.counterfactual import Change, counterfactual
from engine.errors import RequestRefused
from engine.money import Money
from engine.rulebook import Rulebook, load
from tests.books import POLICY, ROOT, Clock, judged, payment, record_of, running, shipped, write
from tests.told import TOLD

pytestmark = pytest.mark.anyio

BASIS = "    because: {en: found, zh: 有}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n"
RULES = f"""\
pack: hung
about: Questions of all sorts.
for: payment
owner: tests
let:
  tries: count(last 10m by card.ref, including this)
rules:
  - id: hung.large
    when: amount in CNY > 500 CNY
    signal: large_amount
    points: 45
{BASIS}\
  - id: hung.abroad
    when: card.country != "CN"
    signal: abroad
    points: 45
{BASIS}\
  - id: hung.burst
    when: tries >= 3 and buyer.guest
    signal: burst
    points: 45
{BASIS}\
  - id: hung.personal
    when: buyer.name == "张三"
    signal: named
    points: 90
{BASIS}"""


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    write(tmp_path, {**TOLD, "rules/hung.yaml": RULES})
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
def plain(settings: Settings, tmp_path: Path) -> Settings:
    """The same with these rules alone."""
    for folder in ("rules", "policies"):
        shutil.rmtree(tmp_path / folder)
    write(tmp_path, {"rules/hung.yaml": RULES, "policies/till.yaml": POLICY})
    return settings


@pytest.fixture
async def arbiter(plain: Settings) -> AsyncIterator[Arbiter]:
    async with running(plain, Clock()) as it:
        yield it


@pytest.fixture
def book(plain: Settings) -> Rulebook:
    return load(plain.rules, plain.policies)


async def record(arbiter: Arbiter, event_id: str, amount: int, **more: Any) -> dict[str, Any]:
    return await record_of(arbiter, await judged(arbiter, payment(event_id, amount, **more)))


def names(changes: Sequence[Change]) -> list[str]:
    return [each.name for each in changes]


HOME: dict[str, Any] = {"card": {"country": "CN"}}


async def test_an_amount_just_above_the_line_would_have_passed_at_the_line(arbiter: Arbiter, book: Rulebook) -> None:
    found = counterfactual(await record(arbiter, "p", 620, **HOME), book)
    assert (found.before, found.after, found.complete) == ("challenge", "approve", True)
    (change,) = found.changes
    assert (change.path, change.after, change.way) == ("amount", Money(50_000, "CNY"), "less")


async def test_the_fewest_changes_go_before_the_smallest(arbiter: Arbiter, book: Rulebook) -> None:
    """One of the two alone leads to a challenge; for no question at all both have to be otherwise."""
    both = await record(arbiter, "p", 620, card={"country": "US"})
    assert both["verdict"] == "decline"
    assert len(counterfactual(both, book).changes) == 1
    milder = counterfactual(both, book, to="approve")
    assert (milder.after, sorted(names(milder.changes))) == ("approve", ["amount", "card.country"])


async def test_what_happened_before_may_be_what_it_hung_on(arbiter: Arbiter, book: Rulebook) -> None:
    seen: dict[str, Any] = {"card": {"ref": "c", "country": "CN"}, "buyer": {"account": "u", "guest": True}}
    for number in range(2):
        await record(arbiter, f"b{number}", 5, **seen)
    third = await record(arbiter, "p", 5, **seen)
    found = counterfactual(third, book, fields=())
    (change,) = found.changes
    assert (change.path, change.before, change.after, found.after) == (None, 3, 2, "approve")
    assert names(counterfactual(third, book, fields=["buyer.guest"], windows=False).changes) == ["buyer.guest"]


async def test_what_may_not_be_changed_is_not(arbiter: Arbiter, book: Rulebook) -> None:
    found = counterfactual(await record(arbiter, "p", 620, **HOME), book, fields=["buyer.guest"], windows=False)
    assert (found.after, found.changes, found.complete) == (None, (), True)


async def test_a_personal_value_stands_as_it_was(arbiter: Arbiter, book: Rulebook) -> None:
    named = await record(arbiter, "p", 5, buyer={"account": "u", "name": "张三"}, **HOME)
    assert named["verdict"] == "decline"
    assert counterfactual(named, book).changes == ()


async def test_the_mildest_verdict_has_none_milder_and_a_wrong_name_is_told(arbiter: Arbiter, book: Rulebook) -> None:
    mild = await record(arbiter, "p", 5, **HOME)
    assert (counterfactual(mild, book).changes, counterfactual(mild, book).tried) == ((), 0)
    with pytest.raises(RequestRefused, match="did you mean 'decline'"):
        counterfactual(mild, book, to="declien")


async def test_without_time_nothing_is_claimed(arbiter: Arbiter, book: Rulebook) -> None:
    found = counterfactual(await record(arbiter, "p", 620, **HOME), book, seconds=0)
    assert (found.after, found.changes) == (None, ())


async def test_every_change_that_is_claimed_is_confirmed_by_a_real_decision(arbiter: Arbiter, book: Rulebook) -> None:
    """The event with the changed fields, sent anew, gets the verdict that was claimed."""
    chance = random.Random(7)
    confirmed = 0
    for number in range(40):
        amount, country = chance.choice((5, 400, 501, 900)), chance.choice(("CN", "US", "DE"))
        event = {"card": {"country": country}, "buyer": {"account": f"u{number}", "guest": chance.random() < 0.5}}
        made = await record(arbiter, f"e{number}", amount, **event)
        found = counterfactual(made, book, windows=False, to=chance.choice((None, "approve", "challenge")))
        if not found.changes:
            continue
        again = json.loads(payment(f"c{number}", amount, **event))
        for change in found.changes:
            assert change.path is not None
            where, *rest = change.path.split(".")
            value = str(change.after) if isinstance(change.after, Money) else change.after
            if rest:
                again[where][rest[0]] = value
            else:
                again[where] = value
        answer = await judged(arbiter, json.dumps(again).encode())
        assert answer["verdict"] == found.after, (made["event"], found)
        confirmed += 1
    assert confirmed > 20


# The command


async def said(settings: Settings, *words: str) -> Result:
    environ = {"ARBITER_DATABASE_URL": settings.database_url, "ARBITER_KEY_FILE": str(settings.key_file)}
    return await asyncio.to_thread(CliRunner().invoke, main, ["counterfactual", *words], env=environ)


async def test_officers_see_values_and_persons_words(settings: Settings) -> None:
    async with running(settings, Clock()) as arbiter:
        await record(arbiter, "large", 95, **HOME)
        await record(arbiter, "odd", 41, card={"country": "US"})
        await record(arbiter, "listed", 5, ip="192.0.2.7", **HOME)
        officer = await said(settings, "large")
        assert officer.stdout.splitlines() == [
            "'decline' would have been 'approve' with:", "  amount: 95.00 CNY → 84.99 CNY",
        ]  # fmt: skip
        shown = json.loads((await said(settings, "large", "--json")).stdout)
        assert (shown["before"], shown["after"], shown["changes"][0]["name"]) == ("decline", "approve", "amount")
        person = await said(settings, "large", "--for", "person", "--lang", "zh")
        assert (person.exit_code, person.stdout) == (0, "较小的金额\n")
        fraud = await said(settings, "listed", "--for", "person")
        assert fraud.exit_code == 1
        assert "is told without detail" in fraud.stderr
        assert (await said(settings, "odd", "--for", "person")).stdout == "a smaller amount\n"
        assert (await said(settings, "large", "--for", "person", "--all")).exit_code == 2


def listing(event_id: str, title: str, description: str = "棉质，四件套。", **more: str) -> bytes:
    goods = {"id": event_id, "title": title, "description": description, "category": "home", "price": "199.00 CNY"}
    at = {"kind": "listing", "event_id": event_id, "at": "2026-11-23T11:00:00Z"}
    return json.dumps({**at, "listing": goods | more}).encode()


def phrases(record: dict[str, Any]) -> set[str]:
    return {hit["phrase"] for hit in record["hits"]}


IN_WORDS = {"listing.title": "删除标题中的相关用语", "listing.description": "删除描述中的相关用语"}
HUNG_ON_WORDS = (
    ("老料象牙手串 国家级", "棉质。", "老料手串 国家级", "棉质。"),
    ("床单", "代办假证，附送窃听器。", "床单", "棉质。"),
    ("军用气枪 弓弩", "听话水", "床单", "棉质。"),
)


async def test_what_a_listing_hung_on_under_the_packs_we_ship(settings: Settings) -> None:
    ours = replace(settings, rules=ROOT / "rules", policies=ROOT / "policies")
    async with running(ours, Clock()) as arbiter:
        for number, (title, description, *without) in enumerate(HUNG_ON_WORDS):
            name = f"words-{number}"
            before = await record_of(arbiter, await judged(arbiter, listing(name, title, description)))
            found = counterfactual(before, shipped(), fields=list(IN_WORDS), to="approve")
            after = await judged(arbiter, listing(f"{name}-without", *without))
            assert before["verdict"] != "approve"
            assert (found.after, after["verdict"]) == ("approve", "approve")
            assert all(change.after == () and set(change.before) <= phrases(before) for change in found.changes)
            assert "none of these words" in (await said(ours, name, "--to", "approve")).stdout
            person = await said(ours, name, "--to", "approve", "--for", "person", "--lang", "zh")
            assert person.stdout.splitlines() == [IN_WORDS[change.name] for change in found.changes]

        # Words that may not be changed are not.
        before = await record_of(arbiter, await judged(arbiter, listing("price", "老料象牙手串")))
        assert counterfactual(before, shipped(), fields=["listing.price"]).changes == ()

        # Toys are excused from the rule on weapons, and asked for a certificate by a list: nothing is claimed.
        before = await record_of(arbiter, await judged(arbiter, listing("toy", "户外气枪", category="outdoor")))
        assert all(change.path != "listing.category" for change in counterfactual(before, shipped()).changes)

        crossed = {"price": "50.00 CNY", "list_price": "100.00 CNY", "lowest_price_7d": "60.00 CNY"}
        assert (await judged(arbiter, listing("crossed", "床单", **crossed)))["verdict"] != "approve"
        assert (await said(ours, "crossed", "--for", "person")).stdout == "a lower crossed-out price or none\n"
