"""What a person is told of a verdict: everything the law asks for, and nothing that teaches how to get past a rule."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from cli import main
from engine import statement as statements
from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.cases import Case
from engine.errors import BodyRefused, Conflict, NotAllowed, NotFound
from engine.rulebook import load
from engine.statement import came_after, found_against, lasting, occasion, public_statement, statement
from engine.verdict import SEVERITIES
from tests import books
from tests.books import LI, SMALL, Clock, judged, payment, running, write
from tests.told import NOTICES, TOLD

pytestmark = pytest.mark.anyio

SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))
AUDITOR = Caller("audit", "person", "shop-a", frozenset({"audit"}))
CHALLENGE, REVIEW, DECLINE, APPROVE = 41, 61, 85, 5


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


async def decided(arbiter: Arbiter, amount: int, event_id: str = "p1", **more: Any) -> str:
    return str((await judged(arbiter, payment(event_id, amount, **more)))["id"])


async def notice(arbiter: Arbiter, id: str, language: str = "en", of: str | None = None) -> dict[str, Any]:
    return await arbiter.notice(id, SHOP, "person", language, of)


def sections(shown: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["text"] for each in shown["sections"]}


# What it says


async def test_a_declined_person_is_told_all_that_the_law_asks_for(arbiter: Arbiter) -> None:
    shown = await notice(arbiter, await decided(arbiter, DECLINE))
    assert shown["title"] == "Not accepted: p1"
    assert sections(shown) == {
        "what": "It was not accepted. The card is blocked. Until 2026-11-24 20:00 (Asia/Shanghai). "
        "It is held. Until lifted.",
        "why": "The amount is large.",
        "ground": "By law: Test Law, Article 2 (new duty).",
        "how": "A program decided.",
        "remedy": "Object within 30 days, answered within 15 days. Ask for a person. Write to us.",
    }
    assert (shown["automated"], shown["human_review"], shown["articles"]) == (True, True, ["cn.tst.2"])
    assert shown["text"].startswith("Not accepted: p1\n\nIt was not accepted.")


async def test_the_same_in_chinese(arbiter: Arbiter) -> None:
    shown = await notice(arbiter, await decided(arbiter, DECLINE), "zh")
    assert sections(shown)["ground"] == "依据：《测试法》第2条（新义务）。"
    assert sections(shown)["remedy"].startswith("30 天内申诉，15 天内答复。")


async def test_what_can_be_done_stands_beside_the_reason(arbiter: Arbiter) -> None:
    shown = sections(await notice(arbiter, await decided(arbiter, CHALLENGE)))
    assert shown["act"] == "Take another amount."
    assert shown["what"] == "p1 waits. Until 2026-11-23 20:15 (Asia/Shanghai)."
    assert shown["ground"] == "By our rules."


async def test_the_day_of_the_conduct_picks_the_article(arbiter: Arbiter) -> None:
    before = await notice(arbiter, await decided(arbiter, DECLINE, at="2026-11-22T08:00:00Z"))
    assert sections(before)["ground"] == "By law: Test Law, Article 1 (old duty)."


async def test_an_article_that_nobody_verified_is_no_ground_alone(arbiter: Arbiter) -> None:
    """The platform's own rules are then the ground, and that is said; officers see the article as unverified."""
    id = await decided(arbiter, APPROVE, ip="192.0.2.7")
    shown = await notice(arbiter, id)
    assert (sections(shown)["ground"], shown["articles"]) == ("By our rules.", [])
    behind = await arbiter.notice(id, AUDITOR, "officer", "en")
    (article,) = behind["articles"]
    assert (article["id"], article["verified"], article["open"]) == ("cn.tst.9", False, "from memory")
    assert behind["own_rules"]


async def test_what_smells_of_fraud_is_told_in_one_wording(arbiter: Arbiter) -> None:
    for number in range(2):
        await decided(arbiter, APPROVE, f"before-{number}", card={"ref": "c"})
    shown = sections(await notice(arbiter, await decided(arbiter, CHALLENGE, card={"ref": "c"})))
    assert shown["why"] == "The amount is odd. It resembles misuse."
    assert shown["documents"] == "Send a proof of identity."


async def test_what_only_softens_is_no_reason_against_anybody() -> None:
    policy = books.shipped().policies["checkout"]
    reasons = [
        {"signal": "long_clean_history", "severity": "info", "points": 0},
        {"signal": "geo_mismatch", "severity": "medium", "points": 30},
    ]
    record = {
        "reasons": reasons,
        "signals": ["geo_mismatch", "long_clean_history"],
        "notices": [],
        "steps": [{"by": "score", "name": "watched", "before": "approve", "after": "review"}],
    }
    assert found_against(record, policy) == ("geo_mismatch",)
    assert found_against({**record, "steps": []}, policy) == ()


async def test_what_a_clause_asks_for_is_a_reason_without_points() -> None:
    policy = books.shipped().policies["checkout"]
    ranks = {"card_testing": SEVERITIES.index("high"), "geo_mismatch": SEVERITIES.index("medium")}
    found = policy.behind(["card_testing", "geo_mismatch", "stolen_card"], ranks)
    assert found == {"card_testing", "geo_mismatch", "stolen_card"}
    assert policy.behind(["geo_mismatch"], ranks) == frozenset()


@pytest.mark.parametrize(
    ("length", "en", "zh"),
    [
        (86_400_000_000, "1 day", "1 天"),
        (15 * 86_400_000_000, "15 days", "15 天"),
        (36 * 3_600_000_000, "36 hours", "36 小时"),
        (90_000_000, "90 seconds", "90 秒"),
    ],
)
def test_a_length_is_said_in_its_largest_whole_unit(length: int, en: str, zh: str) -> None:
    assert (lasting(length, "en"), lasting(length, "zh")) == (en, zh)


async def test_what_was_switched_on_for_everybody_is_said_to_be_so(arbiter: Arbiter, tmp_path: Path) -> None:
    """A mode raises a verdict without a finding: a reason is told all the same."""
    record = (await arbiter.decision(await decided(arbiter, REVIEW), AUDITOR))["record"]
    step = {"by": "mode", "name": "guarded", "before": "approve", "after": "review"}
    raised = {**record, "steps": [step], "found": [], "reasons": [], "signals": []}
    book = load(tmp_path / "rules", tmp_path / "policies")
    assert came_after(occasion(Case(raised)), book.policies["till"]) == ("mode",)
    assert sections(statement(Case(raised), book, "person", "en"))["why"] == "It does not fit our rules."


# What it must not say


def given_away(text: str, rulebook: Any) -> list[str]:
    """What would tell somebody where a line is drawn: numbers but those of deadlines and articles, and inner names."""
    plain = re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d|\d+ (?:days?|hours?|minutes?|天|小时|分钟)|Article \w+|第\w+条", "", text
    )
    names = {rule.id for rule in rulebook.rules} | set(rulebook.lists.lists)
    names |= {rule.finding.signal for rule in rulebook.rules if "_" in rule.finding.signal}
    return [*re.findall(r"\d+", plain), *(name for name in names if name in text)]


async def test_a_person_reads_no_threshold_points_rule_list_signal_or_count(arbiter: Arbiter, tmp_path: Path) -> None:
    rulebook = load(tmp_path / "rules", tmp_path / "policies")
    for event_id, amount in (("one", CHALLENGE), ("two", REVIEW), ("three", DECLINE)):
        id = await decided(arbiter, amount, event_id, card={"ref": "c"}, ip="192.0.2.7")
        for language in ("en", "zh"):
            assert given_away((await notice(arbiter, id, language))["text"], rulebook) == []
    behind = await arbiter.notice(id, AUDITOR, "officer", "en")
    assert given_away(json.dumps(behind["reasons"]), rulebook) != [], "the test sees what it looks for"


@pytest.mark.parametrize("policy", books.shipped().policies)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_shipped_reason_gives_anything_away(policy: str, language: str) -> None:
    shipped, words = books.shipped(), books.shipped().wording[policy]
    texts = [each for reason in words.reasons.values() for each in (reason.why, reason.act) if each is not None]
    assert words.says is not None
    told = [each.said(language) for each in (*texts, words.says.fraud, words.says.automated)]
    assert [given_away(text, shipped) for text in told if given_away(text, shipped)] == []


async def test_what_officers_see_needs_their_scope(arbiter: Arbiter) -> None:
    id = await decided(arbiter, DECLINE)
    with pytest.raises(NotAllowed):
        await arbiter.notice(id, SHOP, "officer", "en")
    behind = await arbiter.notice(id, AUDITOR, "officer", "en")
    assert (behind["score"], behind["thresholds"]["decline"], behind["against"]) == (85, 85, ["large_amount"])
    assert behind["person"] == await notice(arbiter, id)


# When


async def test_it_reads_the_same_after_the_rulebook_has_changed(
    arbiter: Arbiter, settings: Settings, clock: Clock
) -> None:
    id = await decided(arbiter, DECLINE)
    before = await notice(arbiter, id)
    write(
        settings.policies.parent, {"policies/notices/till.yaml": NOTICES.replace("The amount is large.", "Too much.")}
    )
    await arbiter.reload(Caller("ops", "service", "shop-a", frozenset({"admin"})))
    clock.now += 10**9
    assert await notice(arbiter, id) == before
    assert sections(await notice(arbiter, await decided(arbiter, DECLINE, "p2")))["why"] == "Too much."


async def test_what_came_after_is_told_and_what_was_before_can_still_be_read(arbiter: Arbiter) -> None:
    id = await decided(arbiter, CHALLENGE)
    first = await notice(arbiter, id)
    await arbiter.resolve(id, orjson.dumps({"what": "challenge", "result": "failed"}), SHOP)
    after = await notice(arbiter, id)
    assert (after["title"], after["automated"]) == ("Not accepted: p1", True)
    assert sections(after)["why"] == "The proof did not fit. The amount is odd."
    assert await notice(arbiter, id, of=id) == first


async def test_a_verdict_that_a_person_gave_says_so(arbiter: Arbiter) -> None:
    id = await decided(arbiter, REVIEW)
    await arbiter.resolve(id, orjson.dumps({"what": "review", "result": "rejected", "reason": "seen"}), LI)
    shown = await notice(arbiter, id)
    assert (sections(shown)["how"], shown["automated"], shown["human_review"]) == ("A person decided.", False, False)
    assert "Ask for a person." not in shown["text"]


async def test_a_review_that_nobody_ended_was_no_persons_verdict(arbiter: Arbiter, clock: Clock) -> None:
    id = await decided(arbiter, REVIEW)
    clock.now += 3_600_000_000
    await arbiter.close_overdue()
    shown = await notice(arbiter, id)
    assert (shown["verdict"], shown["automated"]) == ("decline", True)


async def test_nothing_is_told_where_nothing_is_held_against_anybody(arbiter: Arbiter) -> None:
    id = await decided(arbiter, APPROVE)
    with pytest.raises(Conflict, match="nothing is held against anybody"):
        await notice(arbiter, id)
    with pytest.raises(NotFound):
        await notice(arbiter, id, of="no-such-record")


async def test_a_rulebook_without_words_is_named_as_the_reason(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "policies")
    shutil.rmtree(tmp_path / "rules")
    write(tmp_path, SMALL)
    async with running(settings, clock) as arbiter:
        with pytest.raises(Conflict, match="no words for people"):
            await notice(arbiter, await decided(arbiter, DECLINE))


# That it was sent


async def told(arbiter: Arbiter, id: str, **more: Any) -> dict[str, Any]:
    shown = await notice(arbiter, id)
    body = {"channel": "email", "lang": "en", "sha256": shown["sha256"], **more}
    return await arbiter.notice_sent(id, orjson.dumps(body), SHOP)


async def test_that_it_was_sent_is_recorded_without_anything_of_the_person(arbiter: Arbiter) -> None:
    id = await decided(arbiter, DECLINE)
    answer = await told(arbiter, id, person="zhao.liu")
    record = answer["record"]
    shown = await notice(arbiter, id)
    sent = {"of": id, "lang": "en", "channel": "email", "at": books.NOW, "sha256": shown["sha256"]}
    assert (record["type"], record["said"], record["notice"], record["verdict"]) == ("notice", "sent", sent, None)
    assert record["by"] == {"name": "checkout", "kind": "service", "person": "zhao.liu"}
    case = await arbiter.decision(id, AUDITOR)
    assert ([each["id"] for each in case["resolutions"]], case["verdict"]) == ([record["id"]], "decline")
    assert await told(arbiter, id) == answer, "the same report gets the first answer"
    assert (await told(arbiter, id, channel="sms"))["record"]["id"] != record["id"]


async def test_a_notice_that_reads_otherwise_by_now_was_not_this_one(arbiter: Arbiter) -> None:
    id = await decided(arbiter, CHALLENGE)
    shown = await notice(arbiter, id)
    await arbiter.resolve(id, orjson.dumps({"what": "challenge", "result": "failed"}), SHOP)
    body = {"channel": "email", "lang": "en", "sha256": shown["sha256"]}
    with pytest.raises(Conflict, match="reads otherwise"):
        await arbiter.notice_sent(id, orjson.dumps(body), SHOP)
    assert (await arbiter.notice_sent(id, orjson.dumps({**body, "of": id}), SHOP))["record"]["notice"]["of"] == id


async def test_after_a_review_that_approved_what_is_told_is_what_still_holds(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    """Two findings, of which the review did away with one; the measure that stays rests on the other."""
    policy = tmp_path / "policies/till.yaml"
    clause = "  - {when: [card_testing], do: hold, basis: house-policy}\n"
    policy.write_text(policy.read_text("utf-8").replace("actions:\n", "actions:\n" + clause), "utf-8")
    notices = tmp_path / "policies/notices/till.yaml"
    told = "  - {signals: [card_testing], why: {en: Many tries., zh: 次数过多。}}\n"
    text = notices.read_text("utf-8").replace("signals: [card_testing, listed]", "signals: [listed]")
    approve = "verdicts:\n  approve: {title: {en: Taken, zh: 已接受}, what: {en: It was taken., zh: 已接受。}}\n"
    notices.write_text(text.replace("reasons:\n", "reasons:\n" + told).replace("verdicts:\n", approve), "utf-8")
    async with running(settings, clock) as arbiter:
        for number in range(2):
            await decided(arbiter, APPROVE, f"p{number}", card={"ref": "c"})
        id = await decided(arbiter, REVIEW, "p2", card={"ref": "c"})
        before = await notice(arbiter, id, "en")
        await arbiter.resolve(id, b'{"what": "review", "result": "approved", "reason": "known"}', LI)
        after = await notice(arbiter, id, "en")
    assert sections(before)["why"] == "It does not fit our rules. Many tries."
    assert sections(after)["why"] == "Many tries."


REFUSED = [
    ({"channel": "13800138000"}, "channel"),
    ({"at": "2020-01-01T00:00:00Z"}, "at"),
    ({"at": "2027-01-01T00:00:00Z"}, "at"),
    ({"lang": "fr"}, "lang"),
    ({"to": "somebody"}, "to"),
]


@pytest.mark.parametrize(("more", "path"), REFUSED)
async def test_what_cannot_be_is_refused(arbiter: Arbiter, more: dict[str, Any], path: str) -> None:
    id = await decided(arbiter, DECLINE)
    with pytest.raises(BodyRefused) as caught:
        await told(arbiter, id, **more)
    assert [problem.path for problem in caught.value.problems] == [path]


# Without personal data, and on the command line


async def test_the_public_statement_names_nobody(arbiter: Arbiter, tmp_path: Path) -> None:
    id = await decided(arbiter, DECLINE, "order-of-li", buyer={"account": "u-77", "email": "li@example.com"})
    record = (await arbiter.decision(id, AUDITOR))["record"]
    made = public_statement(Case(record), load(tmp_path / "rules", tmp_path / "policies"))
    assert made["measure"] == {"verdict": "decline", "actions": ["block_card", "hold"]}
    assert made["duration"] == [
        {"action": "block_card", "until": "2026-11-24T12:00:00Z"},
        {"action": "hold", "until": None},
    ]
    assert made["automated"] == {"detection": True, "decision": "fully"}
    assert made["ground"] == {"law": ["cn.tst.2"], "own_rules": False}
    assert made["redress"] == {"internal_complaint": True, "within_days": 30, "human_review": True}
    assert made["facts"] == {"en": "The amount is large.", "zh": "金额较大。"}
    for word in ("order-of-li", "u-77", "li@example.com", "张"):
        assert word not in json.dumps(made, ensure_ascii=False)


async def test_the_command_line_says_the_same(arbiter: Arbiter, settings: Settings, tmp_path: Path) -> None:
    id = await decided(arbiter, DECLINE)
    await decided(arbiter, APPROVE, "p2")
    lifted = await decided(arbiter, REVIEW, "p3")
    await arbiter.resolve(lifted, b'{"what": "review", "result": "approved", "reason": "known"}', LI)
    shown = await notice(arbiter, id, "zh")
    environ = {"ARBITER_DATABASE_URL": settings.database_url, "ARBITER_KEY_FILE": str(settings.key_file)}

    async def run(*words: str) -> str:
        # In a thread: a command has an event loop of its own.
        ended = await asyncio.to_thread(CliRunner().invoke, main, list(words), env=environ)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    assert await run("notice", "p1", "--lang", "zh") == shown["text"] + "\n"
    assert json.loads(await run("notice", id, "--lang", "zh", "--json")) == shown
    assert "against     small.decline  large_amount, high, 85 points" in await run("notice", "p1", "--for", "officer")
    lines = (await run("statements", "--from", "2026-11-23", "--to", "2026-11-23", "--tenant", "shop-a")).splitlines()
    told = {each["decision"]: (each["measure"]["verdict"], each["lifted_at"]) for each in map(json.loads, lines)}
    assert told == {id: ("decline", None), lifted: ("review", "2026-11-23T12:00:00Z")}
    assert json.loads(lines[0])["format"] == statements.FORMAT
    out = tmp_path / "november.jsonl"
    await run("statements", "--from", "2026-11-23", "--to", "2026-11-23", "--tenant", "shop-a", "--out", str(out))
    assert out.read_text("utf-8").splitlines() == lines


async def test_of_one_act_nobody_is_told_until_when_it_holds(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    once = NOTICES.replace("zh: 已暂扣。}", "zh: 已暂扣。, once: true}")
    (place,) = (name for name, text in TOLD.items() if text == NOTICES)
    (tmp_path / place).write_text(once, "utf-8")
    async with running(settings, clock) as arbiter:
        text = (await notice(arbiter, await decided(arbiter, DECLINE), "en"))["text"]
    assert "It is held." in text
    assert "Until lifted." not in text


async def test_whoever_was_told_of_a_measure_is_told_that_it_ended(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    policy = tmp_path / "policies/till.yaml"
    clause = "  - {when: [strange_amount], do: hold, ends: cleared, basis: cn.tst.2}\n"
    held = policy.read_text("utf-8").replace("do: hold, basis", "do: hold, ends: cleared, basis")
    policy.write_text(held.replace("actions:\n", "actions:\n" + clause), "utf-8")
    async with running(settings, clock) as arbiter:
        id = await decided(arbiter, REVIEW)
        before = await notice(arbiter, id, "en")
        await arbiter.resolve(id, b'{"what": "review", "result": "approved", "reason": "known"}', LI)
        after = await notice(arbiter, id, "zh")
    assert "It is held." in before["text"]
    assert (after["title"], after["text"]) == ("已解除", "已解除\n\np1 已解除。")
