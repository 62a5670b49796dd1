"""Appeals: who may take which step when, what a lifting ends, and what happens when nobody does anything."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.errors import BodyRefused, Conflict, NotFound, SecondPerson
from engine.receipt import verify_receipt
from tests.books import LI, MINUTE, NOW, POLICY, WANG, Clock, judged, payment, running, write
from tests.told import ACTIONS, APPEAL, TOLD

pytestmark = pytest.mark.anyio

SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))
AUDITOR = Caller("audit", "person", "shop-a", frozenset({"audit", "reveal"}))
CHALLENGE, REVIEW, DECLINE, APPROVE = 41, 61, 85, 5
DAY = 24 * 60 * MINUTE
WHY = {"en": "It was you.", "zh": "经核实为本人。"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    write(tmp_path, TOLD)
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(settings, clock) as it:
        yield it


def under(settings: Settings, clock: Clock, appeal: str) -> Any:
    """An Arbiter whose policy has another part `appeal`."""
    settings.policies.joinpath("till.yaml").write_text(POLICY + appeal + ACTIONS, "utf-8")
    return running(settings, clock)


async def decided(arbiter: Arbiter, amount: int, event_id: str = "p1", **more: Any) -> str:
    return str((await judged(arbiter, payment(event_id, amount, **more)))["id"])


async def opened(
    arbiter: Arbiter, id: str, ref: str = "a1", kind: str = "appeal", caller: Caller = SHOP
) -> dict[str, Any]:
    body = {"kind": kind, "ref": ref, "reason": "The parcel went to my parents in Hangzhou."}
    return await arbiter.hearings.open(id, orjson.dumps(body), SHOP)


async def step(arbiter: Arbiter, id: str, appeal: str, caller: Caller = LI, **body: Any) -> dict[str, Any]:
    return await arbiter.hearings.step(id, appeal, orjson.dumps(body), caller)


async def lifted(arbiter: Arbiter, id: str, appeal: str, caller: Caller = LI) -> dict[str, Any]:
    return await step(arbiter, id, appeal, caller, what="decide", result="lifted", **WHY)


async def appealed(arbiter: Arbiter, amount: int = DECLINE) -> tuple[str, str]:
    """The ids of a decision and of an appeal against it."""
    id = await decided(arbiter, amount)
    return id, (await opened(arbiter, id))["appeal"]["id"]


# From the notice to the lifting


async def test_an_appeal_is_followed_from_the_notice_to_the_lifting(arbiter: Arbiter, clock: Clock) -> None:
    id = await decided(arbiter, DECLINE)
    notice = await arbiter.notice(id, SHOP, "person", "zh")
    await arbiter.notice_sent(id, orjson.dumps({"channel": "sms", "lang": "zh", "sha256": notice["sha256"]}), SHOP)
    clock.now += DAY
    answer = await opened(arbiter, id)
    appeal = answer["appeal"]
    assert (appeal["state"], appeal["acknowledge_by"], appeal["answer_by"]) == (
        *("open", "2026-11-25T12:00:00Z", "2026-12-09T12:00:00Z"),
    )
    assert (await step(arbiter, id, appeal["id"], what="take"))["appeal"]["state"] == "in_review"
    asked = await step(arbiter, id, appeal["id"], what="ask", en="Who are your parents?", zh="请说明关系。")
    assert (asked["appeal"]["state"], asked["appeal"]["more_by"]) == ("more_asked", "2026-11-29T12:00:00Z")
    clock.now += 2 * DAY
    added = await step(arbiter, id, appeal["id"], SHOP, what="add", ref="a1-2", reason="My mother.")
    assert (added["appeal"]["state"], added["appeal"]["answer_by"]) == ("in_review", "2026-12-11T12:00:00Z")

    end = await lifted(arbiter, id, appeal["id"])
    assert [each["do"] for each in end["lifted"]] == ["block_card", "hold"]
    assert end["notice"]["zh"]["title"] == "已解除"
    assert end["notice"]["en"]["sections"] == [{"name": "what", "text": "p1 is lifted."}]
    shown = await arbiter.decision(id, AUDITOR)
    assert (shown["verdict"], shown["due"]) == ("approve", None)
    said = [each["said"] for each in shown["resolutions"]]
    assert said == ["sent", "opened", "taken", "more_asked", "added", "lifted"]
    (kept,) = await arbiter.hearings.read(id, SHOP)
    assert (kept["state"], [each["said"] for each in kept["steps"]]) == ("lifted", said[1:])


async def test_a_lifting_is_one_record_that_ends_verdict_and_measures(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    end = await lifted(arbiter, id, appeal)
    record = end["record"]
    assert (record["type"], record["before"], record["verdict"]) == ("appeal", "decline", "approve")
    assert record["steps"] == [{"by": "appeal", "name": "lifted", "before": "decline", "after": "approve"}]
    assert [each["do"] for each in record["lifted"]] == ["block_card", "hold"]
    leaf = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    assert verify_receipt(end["receipt"], leaf, bytes.fromhex(arbiter.public_key["ed25519"]))


async def test_a_lifting_counts_as_a_false_positive_where_the_policy_says_so(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    end = await lifted(arbiter, id, appeal)
    outcome = await arbiter._ledger.find("shop-a", f"appeal-{end['record']['id']}")
    assert outcome is not None
    public = orjson.loads(outcome.entry.leaf)["event"]["public"]["outcome"]
    assert public == {"refers_to": "p1", "result": "false_positive"}


@pytest.mark.parametrize(("result", "counts"), [("upheld", True), ("lifted", False)])
async def test_nothing_else_counts_as_one(settings: Settings, clock: Clock, result: str, counts: bool) -> None:
    appeal = APPEAL if counts else APPEAL.replace(", counts_as: false_positive", "")
    async with under(settings, clock, appeal) as arbiter:
        id, named = await appealed(arbiter)
        end = await step(arbiter, id, named, what="decide", result=result, **WHY)
        assert await arbiter._ledger.find("shop-a", f"appeal-{end['record']['id']}") is None


async def test_what_only_people_can_undo_is_named(arbiter: Arbiter) -> None:
    id = await decided(arbiter, APPROVE, ip="192.0.2.7")
    appeal = (await opened(arbiter, id))["appeal"]["id"]
    assert (await lifted(arbiter, id, appeal))["still"] == {"lists": ["bad-bins", "bad-networks"], "tier": None}


async def test_upheld_leaves_everything_and_says_why_to_who_may_read_it(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    end = await step(
        arbiter, id, appeal, what="decide", result="upheld", en="The card was reported.", zh="该卡已挂失。"
    )
    assert (end["record"]["verdict"], end["lifted"]) == (None, [])
    assert (await arbiter.decision(id, AUDITOR))["verdict"] == "decline"
    told = await arbiter.notice(id, SHOP, "person", "en")
    assert (told["title"], "reported" in told["text"]) == ("It stands", False)
    remedy = next(each["text"] for each in told["sections"] if each["name"] == "remedy")
    assert remedy.startswith("Turn to the authority.")
    assert "Object" not in remedy
    assert not (told["human_review"])
    reveal = Reveal("appeal", 60)
    seen = await arbiter.notice(id, AUDITOR, "person", "en", None, reveal)
    assert {"name": "answer", "text": "The card was reported."} in seen["sections"]
    assert seen["sha256"] == told["sha256"], "what is sealed is not in the hash"


@pytest.mark.parametrize(
    ("more", "verdict", "measures"),
    [
        ({"lift": "hold"}, None, ["block_card"]),
        ({"verdict": "challenge"}, "challenge", ["block_card", "hold"]),
        ({"verdict": "approve", "lift": "block_card hold"}, "approve", []),
    ],
)
async def test_part_of_a_verdict_can_be_lifted(
    arbiter: Arbiter, more: dict[str, str], verdict: str | None, measures: list[str]
) -> None:
    id, appeal = await appealed(arbiter)
    end = await step(arbiter, id, appeal, what="decide", result="partly", **WHY, **more)
    assert end["record"]["verdict"] == verdict
    told = await arbiter.notice(id, AUDITOR, "officer", "en")
    assert (told["verdict"]["stands"], [each["do"] for each in told["actions"]]) == (verdict or "decline", measures)
    assert told["person"]["title"] == "Partly"
    due = (await arbiter.decision(id, AUDITOR))["due"]
    assert due == (NOW + 15 * MINUTE if verdict == "challenge" else None), "a challenge is one again"


NOT_IN_PART = [
    ({}, "verdict"),
    ({"verdict": "decline"}, "verdict"),
    ({"verdict": "reject"}, "verdict"),
    ({"lift": "hold block_cart"}, "lift"),
]


@pytest.mark.parametrize(("more", "path"), NOT_IN_PART)
async def test_a_part_that_is_none_is_refused(arbiter: Arbiter, more: dict[str, str], path: str) -> None:
    id, appeal = await appealed(arbiter)
    with pytest.raises(BodyRefused) as caught:
        await step(arbiter, id, appeal, what="decide", result="partly", **WHY, **more)
    assert [each.path for each in caught.value.problems] == [path]


async def test_lifted_chooses_no_part(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    with pytest.raises(BodyRefused):
        await step(arbiter, id, appeal, what="decide", result="lifted", lift="hold", **WHY)


# Who


async def test_who_gave_the_verdict_does_not_hear_the_appeal(arbiter: Arbiter) -> None:
    id = await decided(arbiter, REVIEW)
    await arbiter.resolve(id, orjson.dumps({"what": "review", "result": "rejected", "reason": "seen"}), LI)
    appeal = (await opened(arbiter, id))["appeal"]["id"]
    for body in ({"what": "take"}, {"what": "ask", **WHY}, {"what": "decide", "result": "upheld", **WHY}):
        with pytest.raises(SecondPerson, match="had a part"):
            await step(arbiter, id, appeal, LI, **body)
    assert (await lifted(arbiter, id, appeal, WANG))["appeal"]["reviewer"] == "wang.wu"


async def test_a_service_cannot_name_who_decides(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    for body in ({"what": "take"}, {"what": "ask", **WHY}, {"what": "decide", "result": "lifted", **WHY}):
        with pytest.raises(SecondPerson, match="use the key of a person"):
            await step(arbiter, id, appeal, SHOP, person="li.si", **body)


async def test_a_person_on_request_where_a_program_alone_decided(arbiter: Arbiter) -> None:
    id = await decided(arbiter, DECLINE)
    assert (await opened(arbiter, id, kind="human_review"))["appeal"]["kind"] == "human_review"
    other = await decided(arbiter, REVIEW, "p2")
    await arbiter.resolve(other, orjson.dumps({"what": "review", "result": "rejected", "reason": "seen"}), LI)
    with pytest.raises(Conflict, match="a person gave this verdict"):
        await opened(arbiter, other, kind="human_review")
    assert (await opened(arbiter, other))["appeal"]["state"] == "open"


async def test_another_tenant_has_no_such_decision(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    stranger = Caller("li.si", "person", "shop-b", frozenset({"outcome"}))
    with pytest.raises(NotFound):
        await step(arbiter, id, appeal, stranger, what="take")
    with pytest.raises(NotFound):
        await step(arbiter, id, "no-such-appeal", what="take")
    assert await arbiter.hearings.all(stranger, None, False) == []


# What may be opened, and when


async def test_where_nothing_is_held_against_anybody_there_is_no_appeal(arbiter: Arbiter) -> None:
    with pytest.raises(Conflict, match="nothing is held against anybody"):
        await opened(arbiter, await decided(arbiter, APPROVE))


async def test_one_appeal_at_a_time_and_one_answer(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    with pytest.raises(Conflict, match="add to it"):
        await opened(arbiter, id, "a2")
    await step(arbiter, id, appeal, what="decide", result="upheld", **WHY)
    with pytest.raises(Conflict, match="this was answered"):
        await opened(arbiter, id, "a3")


async def test_a_new_verdict_can_be_appealed_anew(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter, CHALLENGE)
    await step(arbiter, id, appeal, what="decide", result="upheld", **WHY)
    await arbiter.resolve(id, orjson.dumps({"what": "challenge", "result": "failed"}), SHOP)
    assert (await opened(arbiter, id, "a2"))["appeal"]["state"] == "open"


@pytest.mark.parametrize(
    ("days", "told_after", "late"), [(30, 0, False), (31, 0, True), (45, 20, False), (51, 20, True)]
)
async def test_the_time_to_object_counts_from_when_the_person_was_told(
    arbiter: Arbiter, clock: Clock, days: int, told_after: int, late: bool
) -> None:
    id = await decided(arbiter, DECLINE)
    if told_after:
        clock.now = NOW + told_after * DAY
        sha256 = (await arbiter.notice(id, SHOP, "person", "en"))["sha256"]
        await arbiter.notice_sent(id, orjson.dumps({"channel": "sms", "lang": "en", "sha256": sha256}), SHOP)
    clock.now = NOW + days * DAY
    if late:
        with pytest.raises(Conflict, match="is over"):
            await opened(arbiter, id)
    else:
        await opened(arbiter, id)


async def test_the_same_again_gets_the_first_answer(arbiter: Arbiter) -> None:
    id = await decided(arbiter, DECLINE)
    first = await opened(arbiter, id)
    assert await opened(arbiter, id) == first
    appeal = first["appeal"]["id"]
    added = await step(arbiter, id, appeal, SHOP, what="add", ref="x", reason="More.")
    assert (await step(arbiter, id, appeal, SHOP, what="add", ref="x", reason="More."))["record"] == added["record"]
    assert (await step(arbiter, id, appeal, SHOP, what="add", ref="y", reason="More."))["record"] != added["record"]
    end = await lifted(arbiter, id, appeal)
    assert await lifted(arbiter, id, appeal) == end
    assert len((await arbiter.decision(id, AUDITOR))["resolutions"]) == 4


async def test_what_has_ended_takes_no_step(arbiter: Arbiter) -> None:
    id, appeal = await appealed(arbiter)
    assert (await step(arbiter, id, appeal, SHOP, what="withdraw"))["appeal"]["state"] == "withdrawn"
    for body in ({"what": "take"}, {"what": "ask", **WHY}, {"what": "decide", "result": "lifted", **WHY}):
        with pytest.raises(Conflict, match="has ended: withdrawn"):
            await step(arbiter, id, appeal, **body)
    assert (await opened(arbiter, id, "a2"))["appeal"]["state"] == "open", "what was taken back can be brought again"


async def test_a_policy_without_the_part_refuses_unless_the_one_in_force_has_it(
    settings: Settings, clock: Clock
) -> None:
    async with under(settings, clock, "") as arbiter:
        id = await decided(arbiter, DECLINE)
        with pytest.raises(Conflict, match="no part 'appeal'"):
            await opened(arbiter, id)
        settings.policies.joinpath("till.yaml").write_text(POLICY + APPEAL + ACTIONS, "utf-8")
        await arbiter.reload(Caller("ops", "service", "shop-a", frozenset({"admin"})))
        assert (await opened(arbiter, id))["appeal"]["answer_by"] == "2026-12-08T12:00:00Z"


async def test_a_later_policy_shortens_no_time_that_was_promised(
    arbiter: Arbiter, settings: Settings, clock: Clock
) -> None:
    id, appeal = await appealed(arbiter)
    settings.policies.joinpath("till.yaml").write_text(
        POLICY + APPEAL.replace("more: 5d", "more: 1d") + ACTIONS, "utf-8"
    )
    await arbiter.reload(Caller("ops", "service", "shop-a", frozenset({"admin"})))
    asked = await step(arbiter, id, appeal, what="ask", **WHY)
    assert asked["appeal"]["more_by"] == "2026-11-28T12:00:00Z"


BAD = [
    ({"kind": "appeal", "ref": "13800138000", "reason": "x"}, "ref"),
    ({"kind": "plea", "ref": "a", "reason": "x"}, "kind"),
    ({"kind": "appeal", "ref": "a", "reason": ""}, "reason"),
    ({"kind": "appeal", "ref": "a", "reason": "x" * 4001}, "reason"),
    ({"kind": "appeal", "ref": "a", "reason": "my card 4111 1111 1111 1111"}, "reason"),
    ({"kind": "appeal", "ref": "a", "reason": "x", "why": "y"}, "why"),
]


@pytest.mark.parametrize(("body", "path"), BAD)
async def test_a_body_that_does_not_fit_is_refused(arbiter: Arbiter, body: dict[str, str], path: str) -> None:
    id = await decided(arbiter, DECLINE)
    with pytest.raises(BodyRefused) as caught:
        await arbiter.hearings.open(id, orjson.dumps(body), SHOP)
    assert [each.path for each in caught.value.problems] == [path]


async def test_what_people_write_stands_in_no_leaf(arbiter: Arbiter, tmp_path: Path) -> None:
    id, appeal = await appealed(arbiter)
    await lifted(arbiter, id, appeal)
    shown = orjson.dumps((await arbiter.decision(id, AUDITOR))["resolutions"])
    assert b"Hangzhou" not in shown
    assert "本人".encode() not in shown
    assert b"Hangzhou" not in (tmp_path / "arbiter.db").read_bytes()
    seen = await arbiter.decision(id, AUDITOR, Reveal("appeal", 60))
    assert [*seen["notes"].values()] == ["The parcel went to my parents in Hangzhou.", WHY]


# When nobody does anything


async def test_what_is_asked_for_and_does_not_come_ends_the_appeal(arbiter: Arbiter, clock: Clock) -> None:
    id, appeal = await appealed(arbiter)
    await step(arbiter, id, appeal, what="ask", **WHY)
    clock.now += 5 * DAY
    assert await arbiter.hearings.close_overdue() == 0
    clock.now += 1
    assert await arbiter.hearings.close_overdue() == 1
    (kept,) = await arbiter.hearings.read(id, SHOP)
    assert (kept["state"], kept["steps"][-1]["by"]["name"]) == ("expired", "arbiter")
    assert (await arbiter.notice(id, SHOP, "person", "en"))["title"] == "Over"
    assert (await opened(arbiter, id, "a2"))["appeal"]["state"] == "open"


async def test_an_appeal_that_nobody_answers_is_shown_as_overdue(arbiter: Arbiter, clock: Clock) -> None:
    id, appeal = await appealed(arbiter)
    assert await arbiter.hearings.all(SHOP, None, True) == []
    clock.now += DAY + 1
    (late,) = await arbiter.hearings.all(SHOP, None, True)
    assert (late["id"], late["state"], late["overdue"]) == (appeal, "open", True)
    assert await arbiter.hearings.waiting() == {("appeal", "overdue"): 1}
    await step(arbiter, id, appeal, what="take")
    assert await arbiter.hearings.all(SHOP, None, True) == []
    assert await arbiter.hearings.waiting() == {("appeal", "in_review"): 1}
    clock.now = NOW + 15 * DAY + 1
    assert (await arbiter.hearings.all(SHOP, "in_review", True))[0]["id"] == appeal
    assert await arbiter.hearings.close_overdue() == 0, "if_late: wait"


async def test_where_the_policy_says_so_a_late_answer_is_a_lifting(settings: Settings, clock: Clock) -> None:
    async with under(settings, clock, APPEAL.replace("if_late: wait", "if_late: lift")) as arbiter:
        id, _ = await appealed(arbiter)
        clock.now += 15 * DAY + 1
        assert await arbiter.hearings.close_overdue() == 1
        shown = await arbiter.decision(id, AUDITOR)
        end = shown["resolutions"][-1]
        assert (shown["verdict"], end["said"], end["counted"]) == ("approve", "lifted", "late")
        assert [each["do"] for each in end["lifted"]] == ["block_card", "hold"]
        assert await arbiter._ledger.find("shop-a", f"appeal-{end['id']}") is None, "nobody found it was wrong"
        assert await arbiter.hearings.close_overdue() == 0


async def test_a_lifted_review_is_not_closed_as_late(arbiter: Arbiter, clock: Clock) -> None:
    id, appeal = await appealed(arbiter, REVIEW)
    await lifted(arbiter, id, appeal)
    clock.now += DAY
    assert await arbiter.close_overdue() == 0
    assert (await arbiter.decision(id, AUDITOR))["verdict"] == "approve"


async def test_open_appeals_are_found_after_a_restart(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        id, appeal = await appealed(arbiter)
        other = await decided(arbiter, DECLINE, "p2")
        ended = (await opened(arbiter, other, "b1"))["appeal"]["id"]
        await lifted(arbiter, other, ended)
    clock.now += 40 * DAY
    async with running(settings, clock) as arbiter:
        assert await arbiter.hearings.waiting() == {("appeal", "overdue"): 1}
        assert [(each["decision"], each["state"]) for each in await arbiter.hearings.all(SHOP, None, False)] == [
            (id, "open"),
            (other, "lifted"),
        ]
        assert (await lifted(arbiter, id, appeal))["appeal"]["state"] == "lifted"
        assert await arbiter.hearings.waiting() == {}
