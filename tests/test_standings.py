"""Where merchants stand: assessed, recorded, told, set by persons, and the same in every process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.database import entry
from engine.errors import BodyRefused, NotFound, RequestRefused, Unavailable
from engine.features import Features
from engine.profiles import recomputed
from engine.replay import Replayer
from engine.stores import MemoryStore
from engine.vault import KeyFile
from tests import books
from tests.books import LI, NOW, SHOP, judged, payment, record_of, running
from tests.test_profiles import FILES

pytestmark = pytest.mark.anyio

DAY = 86_400_000_000
HOUR = 3_600_000_000
MERCHANT: dict[str, Any] = {"merchant": {"id": "m-1"}}
ADMIN = Caller("root", "person", "shop-a", frozenset({"rules", "audit", "erase"}))

ANCHOR = """\
profile: anchor
about: How far who sells in a livestream is trusted.
owner: livestream
subject: livestream.anchor
moments: {events: transaction, wait: 1h}
let:
  orders: count(transaction last 90d by livestream.anchor)
factors:
  - id: many
    when: orders >= 2
    points: 30
    because: {en: "{orders} orders", zh: "{orders} 笔订单"}
    improve: {en: Wait, zh: 请等待}
start: known
tiers:
  - {tier: known, review: 90d}
  - {tier: strict, enter: 30, stay: 1d, review: 30d}
"""
ORDERS = """\
policy: orders
for: [transaction]
verdicts: [approve, review, decline]
tiers: {standard: {review: 60, decline: 85}, watched: {review: 40, decline: 60}}
default_tier: standard
review: {queue: desk, due: 30m, if_late: decline}
terms:
  - {profile: anchor, tier: [strict], sample: 100%}
"""
BOTH = {**FILES, "policies/tiers/anchor.yaml": ANCHOR, "policies/orders.yaml": ORDERS}


@pytest.fixture
def clock() -> books.Clock:
    return books.Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    books.write(tmp_path, BOTH)
    KeyFile.create(tmp_path / "keys.json")
    return Settings(
        database_url=f"sqlite:///{tmp_path}/a.db",
        key_file=tmp_path / "keys.json",
        rules=tmp_path / "rules",
        policies=tmp_path / "policies",
    )


@pytest.fixture(autouse=True)
def _when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is assessed behind a test's back."""
    monkeypatch.setattr("engine.standings.SECONDS", 3600)


def complaint(id: str, now: Any, merchant: str = "m-1") -> bytes:
    body = {"kind": "complaint", "event_id": id, "at": now, "complaint": {"reason": "service"}}
    return orjson.dumps({**body, "merchant": {"id": merchant}})


async def complain(arbiter: Arbiter, clock: books.Clock, count: int, merchant: str = "m-1") -> None:
    """Payments, and as many complaints as half of them: enough to be watched."""
    for number in range(2 * count):
        name = f"p{merchant}-{clock.now}-{number}"
        await judged(arbiter, payment(name, 5, merchant={"id": merchant}, at=iso(clock.now)))
    for number in range(count):
        await arbiter.observe(complaint(f"c{merchant}-{clock.now}-{number}", iso(clock.now), merchant), SHOP)


def iso(now: int) -> Any:
    return datetime.fromtimestamp(now // 1_000_000, UTC).isoformat()


async def changes(arbiter: Arbiter, what: str = "tier_assessed") -> list[dict[str, Any]]:
    """All records of assessments, the oldest first."""
    query = select(entry.c.leaf).where(entry.c.kind == "change", entry.c.event_kind == what).order_by(entry.c.row)
    leaves = await arbiter._ledger.database.read(lambda connection: list(connection.execute(query).scalars()))
    return [orjson.loads(leaf) for leaf in leaves]


async def test_whoever_is_complained_of_is_watched_and_judged_so(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        assert (await judged(arbiter, payment("before", 41, merchant={"id": "m-2"})))["verdict"] == "challenge"
        await complain(arbiter, clock, 4)
        assert await arbiter._stands.assess_waiting() == 1
        answer = await judged(arbiter, payment("after", 41, **MERCHANT))
        assert (answer["verdict"], (await record_of(arbiter, answer))["situation"]["tier"]) == ("review", "watched")
        assert (await judged(arbiter, payment("other", 41, merchant={"id": "m-2"})))["verdict"] == "challenge"
    async with running(settings, clock) as arbiter:
        assert (await judged(arbiter, payment("restarted", 41, **MERCHANT)))["verdict"] == "review"


async def test_a_change_is_an_entry_with_all_that_it_rests_on(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await complain(arbiter, clock, 4)
        await arbiter._stands.assess_waiting()
        (record,) = await changes(arbiter)
        book = arbiter._live.rulebook
    said = record["assessment"]
    assert (record["object"], record["before"], record["after"]) == ("merchant/m-1", None, "watched")
    assert (record["by"]["name"], said["why"], said["held"]) == ("arbiter", "event", False)
    assert said["rulebook"] == book.hash
    again = recomputed(book.profiles["merchant"], "m-1", said, book.convert)
    assert {name: said[name] for name in again} == again
    assert {each["value"] for each in said["windows"]} == {4, 8}


async def test_what_moves_nobody_writes_nothing_unless_it_was_asked_for(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await arbiter.observe(complaint("c1", iso(clock.now)), SHOP)
        await arbiter._stands.assess_waiting()
        assert len(await changes(arbiter)) == 1  # The first time: now it stands somewhere.
        clock.now += 2 * HOUR
        await arbiter.observe(complaint("c2", iso(clock.now)), SHOP)
        assert await arbiter._stands.assess_waiting() == 1
        assert len(await changes(arbiter)) == 1
        await arbiter.assess_merchant("m-1", LI)
        (_, asked) = await changes(arbiter)
        assert (asked["assessment"]["why"], asked["before"], asked["after"]) == ("request", "standard", "standard")
        assert asked["by"]["name"] == "li.si"


async def test_events_of_a_while_are_looked_at_together(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        stands = arbiter._stands
        await arbiter.observe(complaint("c1", iso(clock.now)), SHOP)
        await arbiter.observe(complaint("c2", iso(clock.now)), SHOP)
        assert await stands.assess_waiting() == 1
        await arbiter.observe(complaint("c3", iso(clock.now)), SHOP)
        assert await stands.assess_waiting() == 0  # `wait` is an hour.
        clock.now += HOUR
        assert await stands.assess_waiting() == 1
        assert await stands.assess_waiting() == 0


async def test_a_look_at_somebody_is_no_event(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await complain(arbiter, clock, 2)
        for _ in range(3):
            assert (await arbiter.assess_merchant("m-1", LI))["points"] == 60
        (window,) = [
            each for each in (await changes(arbiter))[-1]["assessment"]["windows"] if "payment" in each["name"]
        ]
        assert window["value"] == 4


async def test_a_better_tier_comes_after_the_stay_and_by_review(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await complain(arbiter, clock, 4)
        await arbiter._stands.assess_waiting()
        assert (await arbiter.merchant("m-1", LI))["next_review"] == NOW + 30 * DAY
        clock.now += 100 * DAY  # The complaints are behind the windows, and the review is due.
        assert await arbiter.review_merchants(LI) == {"assessed": 1, "moved": 1, "left": 0, "new": 0}
        shown = await arbiter.merchant("m-1", LI)
        assert (shown["tier"], shown["since"], shown["next_review"]) == ("standard", clock.now, clock.now + 90 * DAY)
        assert [(step["before"], step["after"], step["why"]) for step in shown["history"]] == [
            ("watched", "standard", "review"),
            (None, "watched", "event"),
        ]
        assert await arbiter.review_merchants(LI) == {"assessed": 0, "moved": 0, "left": 0, "new": 0}


async def test_a_review_reaches_merchants_of_whom_nothing_was_assessed(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        for name in ("m-1", "m-2", "m-3"):
            await judged(arbiter, payment(name, 5, merchant={"id": name}))
        found = await arbiter.review_merchants(LI, everybody=True)
        assert found == {"assessed": 3, "moved": 3, "left": 0, "new": 3}
        assert (await arbiter.merchant("m-2", LI))["tier"] == "standard"
        assert (await arbiter.review_merchants(LI, everybody=True))["new"] == 0


async def test_what_a_person_sets_stays_as_long_as_they_said(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await complain(arbiter, clock, 4)
        await arbiter._stands.assess_waiting()
        body = {"tier": "standard", "reason": "the goods were recalled in time", "until": iso(NOW + 10 * DAY)}
        told = await arbiter.set_merchant_tier("m-1", orjson.dumps(body), LI)
        assert told["until"] == NOW + 10 * DAY
        shown = await arbiter.merchant("m-1", LI)
        assert (shown["tier"], shown["held"], shown["history"][0]["why"]) == (
            "standard",
            {"until": NOW + 10 * DAY},
            "person",
        )
        clock.now += 9 * DAY
        assert (await arbiter.assess_merchant("m-1", LI))["tier"] == "standard"
        assert (await changes(arbiter))[-1]["assessment"]["held"] is True
        clock.now += 2 * DAY
        assert (await arbiter.review_merchants(LI))["moved"] == 1  # Its review was due when that ended.
        shown = await arbiter.merchant("m-1", LI)
        assert (shown["tier"], shown["held"]) == ("watched", None)


async def test_what_a_person_sets_for_good_stays(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "a court order"}', LI)
        clock.now += 300 * DAY
        await arbiter.review_merchants(LI)
        assert (await arbiter.merchant("m-1", LI))["tier"] == "watched"
        assert arbiter._live.tiers["shop-a", "m-1"] == "watched"


@pytest.mark.parametrize(
    ("body", "told"),
    [({"tier": "standard", "reason": "x", "until": "2026-11-22T00:00:00Z"}, "over at once")],
)
async def test_a_tier_that_makes_no_sense_is_refused(
    settings: Settings, clock: books.Clock, body: dict[str, Any], told: str
) -> None:
    async with running(settings, clock) as arbiter:
        with pytest.raises(RequestRefused, match=told):
            await arbiter.set_merchant_tier("m-1", orjson.dumps(body), LI)
        with pytest.raises(NotFound):
            await arbiter.merchant("m-1", LI)


async def test_without_a_profile_nothing_ends_a_tier(tmp_path: Path, settings: Settings, clock: books.Clock) -> None:
    (tmp_path / "policies/tiers/merchant.yaml").unlink()
    async with running(settings, clock) as arbiter:
        body = {"tier": "watched", "reason": "x", "until": iso(NOW + DAY)}
        with pytest.raises(BodyRefused, match="no profile assesses merchants"):
            await arbiter.set_merchant_tier("m-1", orjson.dumps(body), LI)
        with pytest.raises(NotFound, match="no profile"):
            await arbiter.assess_merchant("m-1", LI)


async def test_the_merchant_learns_why_and_what_to_do_and_no_limit(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await complain(arbiter, clock, 4)
        await arbiter._stands.assess_waiting()
        officer, own = await arbiter.merchant("m-1", LI), await arbiter.own_standing("m-1", LI)
    assert own["tier"] == officer["tier"] == "watched"
    assert own["factors"] == [
        {
            "because": {"en": "4 complaints", "zh": "投诉 4 次"},
            "improve": {"en": "Answer buyers", "zh": "回复买家"},
            "weight": "heavy",
        }
    ]
    assert officer["limits"][1] == {"tier": "watched", "enter": 50, "leave": 20, "stay_s": 30 * 86_400}
    words = orjson.dumps(own).decode()
    assert all(word not in words for word in ('"points"', '"enter"', '"leave"', '"limits"', '"counted"', "60"))


async def test_nobody_is_assessed_by_windows_that_are_not_there(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        live = arbiter._live
        cold = Features(live.rulebook.windows, MemoryStore(), reads=live.rulebook.reads)
        warm, live.features = live.features, cold
        with pytest.raises(Unavailable, match="not all there"):
            await arbiter.assess_merchant("m-1", LI)
        assert await changes(arbiter) == []
        live.features = warm


# ------------------------------------------------------------------------------------------- others


def order(id: str, now: int, anchor: str = "anchor-1") -> bytes:
    body = {"kind": "transaction", "event_id": id, "at": iso(now), "amount": "5.00 CNY"}
    return orjson.dumps({**body, "livestream": {"anchor": anchor}})


async def test_an_anchor_stands_in_a_tier_of_its_own_which_policies_see(settings: Settings, clock: books.Clock) -> None:
    who = b'{"subject": "anchor-1"}'
    async with running(settings, clock) as arbiter:
        first = await judged(arbiter, order("o1", clock.now))
        assert "terms" not in first
        await judged(arbiter, order("o2", clock.now))
        await arbiter._stands.assess_waiting()
        answer = await judged(arbiter, order("o3", clock.now))
        assert answer["terms"] == {"anchor": {"tier": "strict", "sampled": True}}
        record = await record_of(arbiter, answer)
        assert record["situation"]["standings"] == {"anchor": "strict"}
        assert "anchor-1" not in orjson.dumps(await changes(arbiter)).decode()
        assert (await arbiter.standing("anchor", who, LI))["tier"] == "strict"
        own = await arbiter.standing("anchor", who, LI, own=True)
        assert own["factors"][0]["because"]["en"] == "2 orders"
        body = {"subject": "anchor-1", "tier": "known", "reason": "a good year", "until": iso(NOW + DAY)}
        assert (await arbiter.set_standing("anchor", orjson.dumps(body), LI))["held"] == {"until": NOW + DAY}
        assert "terms" not in await judged(arbiter, order("o4", clock.now))
    async with running(settings, clock) as arbiter:
        assert "terms" not in await judged(arbiter, order("o5", clock.now))
        await arbiter.assess("anchor", who, LI)
        assert len(await changes(arbiter, "tier_set")) == 1


async def test_an_anchor_who_is_erased_stands_nowhere(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        await judged(arbiter, order("o1", clock.now))
        await judged(arbiter, order("o2", clock.now))
        await arbiter._stands.assess_waiting()
        request = {"identities": {"livestream.anchor": "anchor-1"}, "reason": "asked for it"}
        done = await arbiter.erase(orjson.dumps(request), ADMIN)
        assert done["standings"] == 1
        with pytest.raises(NotFound):
            await arbiter.standing("anchor", b'{"subject": "anchor-1"}', LI)
        assert not arbiter._live.standings


async def test_a_replay_of_a_decision_has_the_tier_of_the_anchor(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        for number in range(2):
            await judged(arbiter, order(f"o{number}", clock.now))
        await arbiter._stands.assess_waiting()
        record = await record_of(arbiter, await judged(arbiter, order("o3", clock.now)))
        replayer = Replayer(arbiter._live.rulebook)
    assert replayer.replay(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).equal
    altered = {**record, "situation": {**record["situation"], "standings": {"anchor": "known"}}}
    assert not replayer.replay(orjson.dumps(altered, option=orjson.OPT_SORT_KEYS)).equal


async def test_a_name_that_no_event_can_have_is_refused(settings: Settings, clock: books.Clock) -> None:
    async with running(settings, clock) as arbiter:
        with pytest.raises(RequestRefused):
            await arbiter.assess_merchant("two words", LI)
        with pytest.raises(NotFound, match="it has anchor, merchant"):
            await arbiter.assess("agency", b'{"subject": "x"}', LI)
        with pytest.raises(RequestRefused, match="PUT /v1/merchants"):
            await arbiter.set_standing("merchant", b'{"subject": "m-1", "tier": "watched", "reason": "x"}', LI)
