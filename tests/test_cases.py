"""What comes after a verdict: challenges, reviews, what was enforced, and cases that nobody ended in time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine import database as db
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.cases import Case
from engine.errors import BodyRefused, Conflict, NotFound, Unavailable
from engine.ledger import Ledger
from engine.receipt import verify_receipt
from tests.books import LI, MINUTE, NOW, POLICY, SECOND, SHOP, SMALL, Clock, judged, payment, running, write

pytestmark = pytest.mark.anyio

SERVICE = Caller("checkout", "service", "shop-a", frozenset({"outcome"}))
CHALLENGE, REVIEW, DECLINE, APPROVE = 41, 61, 85, 5


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    """A small rulebook of its own over a fresh ledger, once on SQLite and once on PostgreSQL."""
    write(tmp_path, SMALL)
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
def on_sqlite(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    """The same on SQLite alone, for what does not depend on the database."""
    write(tmp_path, SMALL)
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(on_sqlite: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(on_sqlite, clock) as it:
        yield it


def under(settings: Settings, clock: Clock, *changes: tuple[str, str]) -> AbstractAsyncContextManager[Arbiter]:
    """An Arbiter under another policy."""
    policy = POLICY
    for old, new in changes:
        assert old in policy, old
        policy = policy.replace(old, new)
    settings.policies.joinpath("till.yaml").write_text(policy, "utf-8")
    return running(settings, clock)


async def opened(arbiter: Arbiter, amount: int, event_id: str = "p1") -> str:
    """The id of a decision over so many CNY."""
    return str((await judged(arbiter, payment(event_id, amount)))["id"])


async def report(arbiter: Arbiter, id: str, what: str, result: str, caller: Caller = LI, **more: Any) -> dict[str, Any]:
    """The record of a resolution."""
    body = {"what": what, "result": result, **({"reason": "looked at"} if what == "review" else {}), **more}
    answer = await arbiter.resolve(id, orjson.dumps(body), caller)
    record: dict[str, Any] = answer["record"]
    return record


async def stands(arbiter: Arbiter, id: str) -> tuple[str, int | None, list[str]]:
    """The verdict as it stands, when it is due, and how what came after the decision counted."""
    shown = await arbiter.decision(id, SHOP)
    return shown["verdict"], shown["due"], [record["counted"] for record in shown["resolutions"]]


# -------------------------------------------------------------------------------------- challenge and review


ENDS = [
    (CHALLENGE, "challenge", "passed", "approve"),
    (CHALLENGE, "challenge", "failed", "decline"),
    (CHALLENGE, "challenge", "abandoned", "review"),
    (REVIEW, "review", "approved", "approve"),
    (REVIEW, "review", "rejected", "decline"),
]


@pytest.mark.parametrize(("amount", "what", "result", "verdict"), ENDS)
async def test_every_end_has_the_verdict_that_the_policy_gives_it(
    arbiter: Arbiter, amount: int, what: str, result: str, verdict: str
) -> None:
    id = await opened(arbiter, amount)
    record = await report(arbiter, id, what, result)

    assert (record["before"], record["said"], record["counted"], record["verdict"]) == (what, result, result, verdict)
    assert (record["steps"][0]["by"], record["steps"][0]["name"]) == (what, result)
    shown, due, ends = await stands(arbiter, id)
    assert (shown, due is None, ends) == (verdict, verdict != "review", [result])


MEASURES = """
actions:
  - {when: [any medium], do: hold_parcel, for: 24h, ends: cleared, basis: house-policy}
  - {when: [any medium], do: tell_the_desk}
"""


@pytest.mark.parametrize(("amount", "what", "result", "verdict"), ENDS)
async def test_a_measure_ends_with_the_suspicion_that_it_rests_on(
    on_sqlite: Settings, clock: Clock, amount: int, what: str, result: str, verdict: str
) -> None:
    async with under(on_sqlite, clock, ("default_tier: standard\n", "default_tier: standard\n" + MEASURES)) as arbiter:
        id = await opened(arbiter, amount)
        record = await report(arbiter, id, what, result)
        first = (await arbiter.decision(id, SHOP))["record"]

    hold = {"do": "hold_parcel", "for_s": 86400, "basis": "house-policy"}
    assert record.get("lifted", []) == ([hold] if verdict == "approve" else [])
    assert hold in first["actions"]
    standing = [measure["do"] for measure in Case(first, (record,)).measures]
    assert standing == (["tell_the_desk"] if verdict == "approve" else ["hold_parcel", "tell_the_desk"])


async def test_a_resolution_is_an_entry_with_a_receipt_and_the_first_one_never_changes(
    settings: Settings, clock: Clock
) -> None:
    async with running(settings, clock) as arbiter:
        id = await opened(arbiter, REVIEW)
        first = await arbiter.decision(id, SHOP)
        answer = await arbiter.resolve(id, orjson.dumps({"what": "review", "result": "approved", "reason": "ok"}), LI)
        again = await arbiter.decision(id, SHOP)

        assert (again["record"], again["receipt"]) == (first["record"], first["receipt"])
        assert (first["verdict"], again["verdict"]) == ("review", "approve")
        leaf = orjson.dumps(answer["record"], option=orjson.OPT_SORT_KEYS)
        assert verify_receipt(answer["receipt"], leaf, bytes.fromhex(arbiter.public_key["ed25519"]))
        assert answer["record"]["refers_to"] == id
        stored = await arbiter.decision(answer["record"]["id"], SHOP)
        assert (stored["record"], stored["verdict"]) == (answer["record"], None)


async def test_a_rescore_judges_again_from_what_was_recorded(on_sqlite: Settings, clock: Clock) -> None:
    """All that was found stays found; only the challenge is behind the buyer."""
    async with under(on_sqlite, clock, ("challenge: 40, review: 60", "challenge: 40, review: 70")) as arbiter:
        for number in range(2):
            await judged(arbiter, payment(f"p{number}", card={"ref": "card-1"}))
        answer = await judged(arbiter, payment("p2", CHALLENGE, card={"ref": "card-1"}))
        record = await report(arbiter, answer["id"], "challenge", "passed")

    assert (answer["verdict"], answer["score"], answer["signals"]) == ("challenge", 60, ["odd_amount", "card_testing"])
    assert record["steps"] == [
        {"by": "challenge", "name": "passed", "before": "challenge", "after": "rescore"},
        {"by": "score", "name": "standard", "before": "approve", "after": "challenge"},
        {"by": "challenge", "name": "passed", "before": "challenge", "after": "approve"},
    ]


async def test_a_review_may_lead_to_a_challenge_and_that_to_a_decline(on_sqlite: Settings, clock: Clock) -> None:
    async with under(on_sqlite, clock, ("if_late: decline", "if_late: decline, rejected: challenge")) as arbiter:
        id = await opened(arbiter, REVIEW)
        first = await report(arbiter, id, "review", "rejected")
        clock.now += MINUTE
        assert (await stands(arbiter, id))[:2] == ("challenge", NOW + 15 * MINUTE)
        assert first["asks"] == {"challenge": {"by": ["3ds"], "expires_s": 900}}
        assert (await report(arbiter, id, "challenge", "failed"))["verdict"] == "decline"


async def test_a_second_challenge_is_not_a_repetition_of_the_first(on_sqlite: Settings, clock: Clock) -> None:
    """Abandoned, reviewed, challenged again, abandoned again: two reports of the same words, both count."""
    async with under(on_sqlite, clock, ("if_late: decline", "if_late: decline, rejected: challenge")) as arbiter:
        id = await opened(arbiter, CHALLENGE)
        first = await report(arbiter, id, "challenge", "abandoned")
        await report(arbiter, id, "review", "rejected")
        second = await report(arbiter, id, "challenge", "abandoned")

        assert first["id"] != second["id"]
        assert (await stands(arbiter, id))[0] == "review"


@pytest.mark.parametrize(
    ("after", "counted", "verdict"), [(15 * MINUTE, "passed", "approve"), (15 * MINUTE + 1, "late", "review")]
)
async def test_a_result_after_its_time_counts_as_late(
    arbiter: Arbiter, clock: Clock, after: int, counted: str, verdict: str
) -> None:
    id = await opened(arbiter, CHALLENGE)
    clock.now += after
    record = await report(arbiter, id, "challenge", "passed")

    assert (record["said"], record["counted"], record["verdict"]) == ("passed", counted, verdict)


async def test_a_review_that_comes_late_changes_nothing(arbiter: Arbiter, clock: Clock) -> None:
    id = await opened(arbiter, REVIEW)
    clock.now += 30 * MINUTE + 1

    assert (await report(arbiter, id, "review", "approved"))["verdict"] == "decline"


async def test_a_clock_that_jumps_back_does_not_turn_the_order_of_a_case(arbiter: Arbiter, clock: Clock) -> None:
    id = await opened(arbiter, CHALLENGE)
    clock.now += 5 * MINUTE
    await report(arbiter, id, "challenge", "abandoned")
    clock.now -= 60 * MINUTE
    await report(arbiter, id, "review", "approved")

    assert await stands(arbiter, id) == ("approve", None, ["abandoned", "approved"])


# ------------------------------------------------------------------------------------------------- refusals


NOT_OPEN = [
    (APPROVE, "challenge", "passed"),
    (APPROVE, "review", "approved"),
    (DECLINE, "review", "approved"),
    (CHALLENGE, "review", "approved"),
    (REVIEW, "challenge", "passed"),
]


@pytest.mark.parametrize(("amount", "what", "result"), NOT_OPEN)
async def test_what_is_not_open_cannot_be_ended(arbiter: Arbiter, amount: int, what: str, result: str) -> None:
    id = await opened(arbiter, amount)

    with pytest.raises(Conflict):
        await report(arbiter, id, what, result)
    assert (await stands(arbiter, id))[2] == []


async def test_a_case_ends_once(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    await report(arbiter, id, "review", "approved")

    with pytest.raises(Conflict):
        await report(arbiter, id, "review", "rejected")
    assert (await stands(arbiter, id))[0] == "approve"


async def test_only_decisions_of_the_own_shop_can_be_ended(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    other = Caller("zhao.liu", "person", "shop-b", frozenset({"outcome"}))
    noted = orjson.loads(await arbiter.observe(payment("noted"), SHOP))["id"]
    ended = await report(arbiter, id, "review", "approved")

    for wanted, caller in ((id, other), (noted, LI), (ended["id"], LI), ("nothing", LI)):
        with pytest.raises(NotFound):
            await report(arbiter, wanted, "review", "approved", caller)


PERSONS = [
    ({"what": "review", "result": "approved", "reason": "ok"}, "person"),
    ({"what": "enforced", "result": "overridden", "reason": "ok"}, "person"),
    ({"what": "review", "result": "approved"}, "reason"),
    ({"what": "review", "result": "approved", "reason": "  "}, "reason"),
    ({"what": "enforced", "result": "overridden", "person": "li.si"}, "reason"),
    ({"what": "review", "result": "approved", "reason": "ok", "person": "x" * 121}, "person"),
    ({"what": "review", "result": "passed", "reason": "ok", "person": "li.si"}, "result"),
    ({"what": "appeal", "result": "approved"}, "what"),
    ({"what": "challenge", "result": "passed", "verdict": "approve"}, "verdict"),
]


@pytest.mark.parametrize(("body", "path"), PERSONS)
async def test_what_a_person_must_answer_for_needs_one_and_a_reason(
    arbiter: Arbiter, body: dict[str, str], path: str
) -> None:
    id = await opened(arbiter, REVIEW)

    with pytest.raises(BodyRefused) as refused:
        await arbiter.resolve(id, orjson.dumps(body), SERVICE)
    assert [problem.path for problem in refused.value.problems] == [path]
    assert (await stands(arbiter, id))[2] == []


async def test_a_service_names_the_person_it_speaks_for_and_a_person_is_itself(arbiter: Arbiter) -> None:
    first, second = await opened(arbiter, REVIEW, "p1"), await opened(arbiter, REVIEW, "p2")
    by_service = await report(arbiter, first, "review", "approved", SERVICE, person=" wang.wu ")
    by_person = await report(arbiter, second, "review", "approved", LI, person="somebody.else")

    assert by_service["by"] == {"name": "checkout", "kind": "service", "person": "wang.wu"}
    assert by_person["by"] == {"name": "li.si", "kind": "person", "person": "li.si"}


async def test_a_reason_is_sealed_and_not_in_the_leaf(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    record = await report(arbiter, id, "review", "approved", reason="Buyer 张三 rang from 13800138000")
    stored = await arbiter._ledger.get("shop-a", record["id"])

    assert stored is not None
    assert "张三" not in stored.entry.leaf.decode()
    assert record["note"] is not None
    (cell,) = stored.entry.sealed
    assert orjson.loads(arbiter._vault.open(cell))["fields"] == {"note": "Buyer 张三 rang from 13800138000"}


AUDITOR = Caller("audit", "person", "shop-a", frozenset({"audit"}))
REVEALER = Caller("audit", "person", "shop-a", frozenset({"audit", "reveal"}))
RANG = "Buyer 张三 rang from 13800138000"


async def test_a_reason_is_read_back_with_the_scope_reveal_and_a_purpose_alone(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    record = await report(arbiter, id, "review", "approved", reason=RANG)
    await report(arbiter, id, "enforced", "captured", SERVICE)
    for read in (arbiter.decision, arbiter.explanation):
        assert (await read(id, REVEALER, Reveal("review", 9)))["notes"] == {record["id"]: RANG}
        assert (await read(id, REVEALER))["notes"] == {record["id"]: {"sealed": True}}
        assert (await read(id, AUDITOR))["notes"] == {record["id"]: {"sealed": True}}
        assert [later["what"] for later in (await read(id, AUDITOR))["resolutions"]] == ["review", "enforced"]


async def test_a_reason_that_was_erased_is_said_to_be_gone(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    record = await report(arbiter, id, "review", "approved", reason=RANG)
    await db.Rows(arbiter._ledger.database, db.subject_key).remove(tenant="shop-a")
    for read in (arbiter.decision, arbiter.explanation):
        for caller, reveal in ((REVEALER, Reveal("review", 9)), (AUDITOR, Reveal(None))):
            shown = await read(id, caller, reveal)
            assert shown["notes"] == {record["id"]: {"erased": True}}
            assert RANG not in str(shown)


# ------------------------------------------------------------------------------------------------- enforced


ENFORCED = [
    (DECLINE, "captured", True),
    (APPROVE, "blocked", True),
    (APPROVE, "captured", False),
    (DECLINE, "blocked", False),
    (REVIEW, "blocked", False),
]


@pytest.mark.parametrize(("amount", "result", "contradicts"), ENFORCED)
async def test_what_was_done_against_the_verdict_is_told_apart(
    arbiter: Arbiter, amount: int, result: str, contradicts: bool
) -> None:
    id = await opened(arbiter, amount)
    before = (await stands(arbiter, id))[0]
    record = await report(arbiter, id, "enforced", result, SERVICE)
    against = [{"by": "enforced", "name": "against the verdict", "before": before, "after": result}]

    assert record["steps"] == (against if contradicts else [])
    assert (record["verdict"], (await stands(arbiter, id))[0]) == (None, before)


async def test_what_was_enforced_leaves_an_open_case_open(arbiter: Arbiter) -> None:
    id = await opened(arbiter, REVIEW)
    await report(arbiter, id, "enforced", "blocked", SERVICE)

    assert (await report(arbiter, id, "review", "rejected"))["verdict"] == "decline"


async def test_a_verdict_is_set_aside_by_a_person_with_a_reason(arbiter: Arbiter) -> None:
    id = await opened(arbiter, DECLINE)
    record = await report(arbiter, id, "enforced", "overridden", reason="Known to the shop.")

    assert (record["said"], record["by"]["person"], record["verdict"]) == ("overridden", "li.si", None)


async def test_the_severest_and_the_mildest_verdict_are_the_policys_own(on_sqlite: Settings, clock: Clock) -> None:
    words = ("verdicts: [approve, challenge, review, decline]", "verdicts: [publish, challenge, review, takedown]")
    changes = (words, ("decline", "takedown"))
    async with under(on_sqlite, clock, *changes) as arbiter:
        down = await report(arbiter, await opened(arbiter, DECLINE, "p1"), "enforced", "captured", SERVICE)
        up = await report(arbiter, await opened(arbiter, APPROVE, "p2"), "enforced", "blocked", SERVICE)

    assert [record["steps"][0]["before"] for record in (down, up)] == ["takedown", "publish"]


# ---------------------------------------------------------------------------------------- repeated, at once


async def test_the_same_report_again_gets_the_first_answer(settings: Settings, clock: Clock) -> None:
    body = orjson.dumps({"what": "challenge", "result": "passed"})
    async with running(settings, clock) as arbiter:
        id = await opened(arbiter, CHALLENGE)
        first = await arbiter.resolve(id, body, SERVICE)
        clock.now += 60 * MINUTE
        assert await arbiter.resolve(id, body, SERVICE) == first
    async with running(settings, clock) as arbiter:
        assert await arbiter.resolve(id, body, SERVICE) == first
        assert (await stands(arbiter, id))[2] == ["passed"]


async def test_of_two_ends_at_once_one_counts(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        id = await opened(arbiter, REVIEW)
        reports = [report(arbiter, id, "review", result) for result in ("approved", "rejected") * 4]
        answers = await asyncio.gather(*reports, return_exceptions=True)
        kept = [answer for answer in answers if isinstance(answer, dict)]

        assert len(kept) == 4
        assert len({record["id"] for record in kept}) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 4
        assert len((await stands(arbiter, id))[2]) == 1


async def test_an_end_that_was_not_committed_is_reported_again(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database", "verdict_unknown")

    id = await opened(arbiter, REVIEW)
    with monkeypatch.context() as broken:
        broken.setattr(arbiter._ledger, "append", gone)
        with pytest.raises(Unavailable):
            await report(arbiter, id, "review", "approved")

    assert (await report(arbiter, id, "review", "approved"))["verdict"] == "approve"


# -------------------------------------------------------------------------------------------------- overdue


async def test_a_case_is_read_once_however_often_it_is_looked_for(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look goes back over the last minute, for what was committed late; records seen before are not read again."""
    read: list[int] = []
    leaves = Ledger.leaves

    async def counted(ledger: Ledger, arrivals: Sequence[int]) -> list[bytes]:
        read.extend(arrivals)
        return await leaves(ledger, arrivals)

    monkeypatch.setattr(Ledger, "leaves", counted)
    async with running(settings, clock) as arbiter:
        await opened(arbiter, CHALLENGE, "p1")
        for _ in range(3):
            await arbiter.close_overdue()
        await opened(arbiter, APPROVE, "p2")
        await opened(arbiter, REVIEW, "p3")
        clock.now += MINUTE // 2
        for _ in range(3):
            await arbiter.close_overdue()

    assert len(read) == len(set(read)) == 2


async def test_what_nobody_ended_in_time_ends_by_the_policy(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        challenge, review = await opened(arbiter, CHALLENGE, "p1"), await opened(arbiter, REVIEW, "p2")
        ended, calm = await opened(arbiter, REVIEW, "p3"), await opened(arbiter, APPROVE, "p4")
        await report(arbiter, ended, "review", "approved")

        assert await arbiter.close_overdue() == 0
        clock.now = NOW + 15 * MINUTE
        assert await arbiter.close_overdue() == 0
        clock.now += 1
        assert await arbiter.close_overdue() == 1
        # The challenge became a review, which has its own time from now on.
        assert await stands(arbiter, challenge) == ("review", clock.now + 30 * MINUTE, ["late"])
        clock.now = NOW + 30 * MINUTE + 1
        assert await arbiter.close_overdue() == 1
        assert await stands(arbiter, review) == ("decline", None, ["late"])
        clock.now += 60 * MINUTE
        assert await arbiter.close_overdue() == 1
        assert await stands(arbiter, challenge) == ("decline", None, ["late", "late"])
        assert await arbiter.close_overdue() == 0
        assert (await stands(arbiter, ended), await stands(arbiter, calm)) == (
            ("approve", None, ["approved"]),
            ("approve", None, []),
        )
        (late,) = (await arbiter.decision(review, SHOP))["resolutions"]
        assert late["by"] == {"name": "arbiter", "kind": "service", "person": ""}


async def test_after_a_restart_open_cases_are_watched_again(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        challenge, review = await opened(arbiter, CHALLENGE, "p1"), await opened(arbiter, REVIEW, "p2")
        ended = await opened(arbiter, REVIEW, "p3")
        await report(arbiter, ended, "review", "approved")
        await report(arbiter, challenge, "challenge", "abandoned")
    clock.now += 31 * MINUTE
    async with running(settings, clock) as arbiter:
        await arbiter.close_overdue()
        shown = [(await stands(arbiter, id))[::2] for id in (challenge, review, ended)]

    assert shown == [("decline", ["abandoned", "late"]), ("decline", ["late"]), ("approve", ["approved"])]


async def test_the_sweep_runs_by_itself(on_sqlite: Settings, clock: Clock) -> None:
    async with running(on_sqlite, clock) as arbiter:
        id = await opened(arbiter, CHALLENGE)
    clock.now += 16 * MINUTE
    async with running(on_sqlite, clock) as arbiter, asyncio.timeout(5):
        while (await stands(arbiter, id))[0] == "challenge":  # noqa: ASYNC110 - as a person would look
            await asyncio.sleep(0.01)


async def test_a_case_that_is_decided_after_a_clock_jumped_back_is_watched(arbiter: Arbiter, clock: Clock) -> None:
    await arbiter.close_overdue()
    clock.now -= 24 * 60 * MINUTE
    answer = await judged(arbiter, payment("p1", CHALLENGE, at="2026-11-22T12:00:00Z"))
    clock.now += 5 * SECOND
    assert await arbiter.close_overdue() == 0
    clock.now += 16 * MINUTE

    assert await arbiter.close_overdue() == 1
    assert (await stands(arbiter, answer["id"]))[0] == "review"


async def test_a_case_that_cannot_be_closed_stops_no_other_and_is_tried_again(
    on_sqlite: Settings, clock: Clock
) -> None:
    async with running(on_sqlite, clock) as arbiter:
        stuck = await opened(arbiter, CHALLENGE, "p1")
    async with under(on_sqlite, clock, ("due: 30m", "due: 31m")) as arbiter:
        clock.now += SECOND
        other = await opened(arbiter, CHALLENGE, "p2")
        rows = db.Rows(arbiter._ledger.database, db.rulebook)
        named = (await arbiter.decision(stuck, SHOP))["record"]["pins"]["rulebook"]
        (kept,) = await rows.find(hash=named)
        await rows.remove(hash=named)
        clock.now += 20 * MINUTE
        await arbiter.close_overdue()  # how many is not told: the sweep of the background may have been first
        assert ((await stands(arbiter, stuck))[0], (await stands(arbiter, other))[0]) == ("challenge", "review")
        await rows.add(**kept)
        clock.now += 11 * MINUTE
        await arbiter.close_overdue()
        assert (await stands(arbiter, stuck))[0] == "review"


async def test_while_the_database_is_away_nothing_is_lost(
    arbiter: Arbiter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database")

    id = await opened(arbiter, CHALLENGE)
    clock.now += 16 * MINUTE
    with monkeypatch.context() as broken:
        broken.setattr(arbiter._ledger, "append", gone)
        with pytest.raises(Unavailable):
            await arbiter.close_overdue()

    assert await arbiter.close_overdue() == 1
    assert (await stands(arbiter, id))[0] == "review"


# ----------------------------------------------------------------------------------------------- rulebooks


async def test_a_case_is_ended_under_the_rulebook_it_was_decided_under(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        first, second = await opened(arbiter, CHALLENGE, "p1"), await opened(arbiter, CHALLENGE, "p2")
        old = arbiter.rulebook_info()["hash"]
        policy = POLICY.replace("passed: rescore", "passed: review").replace("failed: decline", "failed: review")
        settings.policies.joinpath("till.yaml").write_text(policy, "utf-8")
        assert (await arbiter.reload(LI))["hash"] != old
        third = await opened(arbiter, CHALLENGE, "p3")
        verdicts = [(await report(arbiter, id, "challenge", "passed"))["verdict"] for id in (first, third)]
    async with running(settings, clock) as arbiter:
        verdicts.append((await report(arbiter, second, "challenge", "failed"))["verdict"])

    assert verdicts == ["approve", "review", "decline"]
