"""A running Arbiter beside its hot path: API keys, lists, merchants, readiness, and the switch to another rulebook."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine import database as db
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings, open_arbiter
from engine.callers import By
from engine.errors import (
    BodyRefused,
    Conflict,
    NotAllowed,
    NotFound,
    PackError,
    RequestRefused,
    SecondPerson,
    Unavailable,
)
from engine.features import Features
from engine.force import refuse_failing
from engine.ledger import Filter
from engine.warmth import Warmth
from tests.books import (
    LI,
    LISTS,
    MINUTE,
    NOW,
    POLICY,
    RULES,
    SECOND,
    SHOP,
    SMALL,
    WANG,
    Clock,
    judged,
    payment,
    ready,
    record_of,
    running,
    write,
)

pytestmark = pytest.mark.anyio

OFFICER = Caller("desk", "service", "shop-a", frozenset({"rules"}))
TRUSTED = {
    "rules/lists/good-bins.yaml": "list: good-bins\nabout: Card ranges we trust.\nmatch: exact\neffect: lowers\n"
    "owner: li.si\napproved_by: wang.wu\n",
    "rules/lists/bad-cards.yaml": "list: bad-cards\nabout: Cards.\nmatch: exact\nentity: card\n",
    "rules/cards.yaml": (
        "pack: cards\nabout: Cards on lists.\nfor: payment\nowner: me\nrules:\n"
        "  - {id: cards.bad, when: card.ref in list bad-cards, signal: bad_card, points: 85,\n"
        "     because: {en: bad, zh: 坏}, basis: {kind: house-policy, review_by: 2027-01-01}}\n"
        "  - {id: cards.good, when: card.bin in list good-bins, signal: good_card,\n"
        "     because: {en: good, zh: 好}, basis: {kind: house-policy, review_by: 2027-01-01}}\n"
    ),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    """A small rulebook over a fresh ledger, once on SQLite and once on PostgreSQL."""
    write(tmp_path, {**SMALL, **TRUSTED})
    return Settings(ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
def on_sqlite(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    """The same on SQLite alone."""
    write(tmp_path, {**SMALL, **TRUSTED})
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(on_sqlite: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(on_sqlite, clock) as it:
        yield it


async def changes(arbiter: Arbiter) -> list[dict[str, Any]]:
    """The changes in the ledger, oldest first."""
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
    return [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]


# ------------------------------------------------------------------------------------------------ API keys


async def test_a_key_is_known_until_it_is_revoked(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        secret = await arbiter.create_key("till", "service", "shop-a", ["score", "outcome"])
        second = await arbiter.create_key("till", "service", "shop-a", ["score"])
        others = await arbiter.create_key("till", "service", "shop-b", ["score"])
    async with running(settings, clock) as arbiter:
        assert await arbiter.authenticate(secret) == Caller(
            "till", "service", "shop-a", frozenset({"score", "outcome"})
        )
        with pytest.raises(RequestRefused, match="3 keys are named 'till'"):
            await arbiter._api_keys.revoke("till", LI.by)
        named = {each["hash"]: each["id"] for each in await arbiter._api_keys.all()}
        for gone in (secret, second):
            id = named[sha256(gone.encode()).digest()]
            await arbiter._api_keys.revoke(id, LI.by)
            with pytest.raises(NotFound):
                await arbiter._api_keys.revoke(id, LI.by)
            with pytest.raises(NotAllowed):
                await arbiter.authenticate(gone)
        assert (await arbiter.authenticate(others)).tenant == "shop-b"
        assert [(each["what"], each["by"]["name"]) for each in await changes(arbiter)] == [
            *[("key_created", "arbiter")] * 2,
            *[("key_revoked", "li.si")] * 2,
        ]


async def test_a_key_ends_at_its_time(arbiter: Arbiter, clock: Clock) -> None:
    secret = await arbiter.create_key("till", "service", "shop-a", ["score"], expires=NOW + MINUTE)
    clock.now = NOW + MINUTE - 1
    await arbiter.authenticate(secret)
    clock.now += 1

    with pytest.raises(NotAllowed):
        await arbiter.authenticate(secret)


async def test_only_the_hash_of_a_key_is_kept(arbiter: Arbiter) -> None:
    secret = await arbiter.create_key("till", "service", "shop-a", ["score"])
    (row,) = await db.Rows(arbiter._ledger.database, db.api_key).find()

    assert secret not in str(row)
    assert len(row["hash"]) == 32
    assert len({await arbiter.create_key("till", "service", "shop-a", ["score"]) for _ in range(20)}) == 20


@pytest.mark.parametrize("secret", ["", "arb_", "arb_" + "x" * 43, "张三", "x" * 10_000])
async def test_a_key_that_nobody_made_opens_nothing(arbiter: Arbiter, secret: str) -> None:
    with pytest.raises(NotAllowed):
        await arbiter.authenticate(secret)


async def test_a_scope_or_kind_that_does_not_exist_is_our_mistake(arbiter: Arbiter) -> None:
    for kind, scope in (("robot", "score"), ("service", "root")):
        with pytest.raises(AssertionError):
            await arbiter.create_key("till", kind, "shop-a", [scope])


def test_a_person_speaks_for_nobody_else() -> None:
    assert LI.speaking_for("somebody") == By("li.si", "person", "li.si")
    assert OFFICER.speaking_for(" li.si ") == By("desk", "service", "li.si")


# --------------------------------------------------------------------------------------------------- lists


async def put(arbiter: Arbiter, name: str, value: str, caller: Caller = LI, **more: Any) -> dict[str, Any]:
    body = {"value": value, "reason": "seen in card testing", **more}
    return await arbiter.add_list_entry(name, orjson.dumps(body), caller)


async def listed(arbiter: Arbiter, event_id: str, **fields: Any) -> list[str]:
    """The signals of a payment."""
    answer: list[str] = (await judged(arbiter, payment(event_id, **fields)))["signals"]
    return answer


async def test_an_entry_counts_from_the_moment_it_is_added_until_it_ends(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        assert "listed" not in await listed(arbiter, "p1", ip="203.0.113.7")
        entry = await put(arbiter, "bad-networks", "203.0.113.0/24")
        assert "listed" in await listed(arbiter, "p2", ip="203.0.113.7")
    async with running(settings, clock) as arbiter:
        assert "listed" in await listed(arbiter, "p3", ip="203.0.113.8")
        await arbiter.remove_list_entry("bad-networks", entry["id"], LI)
        await arbiter.approve_list_entry("bad-networks", entry["id"], WANG)
        assert "listed" not in await listed(arbiter, "p4", ip="203.0.113.7")
        (kept,) = await arbiter.list_entries("bad-networks", LI)
        assert (kept["state"], kept["added_by"], kept["value"]) == ("ended", "li.si", "203.0.113.0/24")
        assert (kept["approved_by"], kept["ended_by"], kept["end_approved_by"]) == (None, "li.si", "wang.wu")
        said = [
            (change["what"], change["before"], change["after"], change["by"]["person"])
            for change in await changes(arbiter)
        ]

    assert said == [
        ("list_entry_added", None, "active", "li.si"),
        ("list_entry_end_asked", "active", "ending", "li.si"),
        ("list_entry_ended", "ending", "ended", "wang.wu"),
    ]  # fmt: skip


async def test_an_exact_entry_counts_for_that_value_alone(arbiter: Arbiter) -> None:
    await put(arbiter, "bad-bins", "622848")

    assert "listed" in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})
    assert "listed" not in await listed(arbiter, "p2", card={"ref": "c", "bin": "622849"})


async def test_entries_of_one_shop_do_not_count_for_another(arbiter: Arbiter) -> None:
    await put(arbiter, "bad-bins", "622848")
    other = Caller("checkout", "service", "shop-b", frozenset({"score"}))
    answer = await judged(arbiter, payment("p1", card={"ref": "c", "bin": "622848"}), other)

    assert "listed" not in answer["signals"]
    assert await arbiter.list_entries("bad-bins", other) == []


async def test_an_entry_stops_at_its_expiry_and_can_then_be_added_again(arbiter: Arbiter, clock: Clock) -> None:
    await put(arbiter, "bad-bins", "622848", expires="2026-11-23T12:10:00Z")
    with pytest.raises(Conflict):
        await put(arbiter, "bad-bins", "622848")
    clock.now = NOW + 10 * MINUTE
    assert "listed" not in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})
    await put(arbiter, "bad-bins", "622848")

    assert "listed" in await listed(arbiter, "p2", card={"ref": "c", "bin": "622848"})


async def test_a_list_of_persons_keeps_pseudonyms_only(arbiter: Arbiter) -> None:
    entry = await put(arbiter, "bad-cards", "card-1")
    (row,) = await db.Rows(arbiter._ledger.database, db.list_entry).find()
    said = orjson.dumps(await changes(arbiter)).decode()

    assert "bad_card" in await listed(arbiter, "p1", card={"ref": "card-1"})
    assert "bad_card" not in await listed(arbiter, "p2", card={"ref": "card-2"})
    assert row["value"] == arbiter._vault.pseudonym("shop-a", "card", "card-1") == entry["value"]
    assert "card-1" not in str(row)
    assert row["value"] not in said


async def test_the_log_does_not_let_anybody_guess_an_entry(arbiter: Arbiter) -> None:
    """Its id is keyed: hashing all addresses there are finds none."""
    entry = await put(arbiter, "bad-networks", "203.0.113.7")
    (change,) = await changes(arbiter)

    assert change["object"] == f"bad-networks/{entry['id']}"
    assert entry["id"] == arbiter._vault.pseudonym("shop-a", "list_entry", "bad-networks|203.0.113.7/32")


async def test_what_lowers_the_risk_needs_two_persons(arbiter: Arbiter) -> None:
    entry = await put(arbiter, "good-bins", "622848")
    card = {"ref": "c", "bin": "622848"}
    assert entry["state"] == "pending"
    assert "good_card" not in await listed(arbiter, "p1", card=card)
    same = Caller("Li.Si", "person", "shop-a", frozenset({"rules"}))
    for caller in (LI, same, OFFICER):
        with pytest.raises(SecondPerson):
            await arbiter.approve_list_entry("good-bins", entry["id"], caller)
    await arbiter.approve_list_entry("good-bins", entry["id"], WANG)

    (kept,) = await arbiter.list_entries("good-bins", LI)
    assert (kept["approved_by"], kept["ended_by"], kept["end_approved_by"]) == ("wang.wu", None, None)
    assert "good_card" in await listed(arbiter, "p2", card=card)
    assert [(change["what"], change["by"]["person"]) for change in await changes(arbiter)] == [
        ("list_entry_added", "li.si"),
        ("list_entry_approved", "wang.wu"),
    ]
    with pytest.raises(Conflict):
        await arbiter.approve_list_entry("good-bins", entry["id"], WANG)


async def test_no_service_lowers_the_risk_whomever_it_names(arbiter: Arbiter) -> None:
    for person in ({}, {"person": "li.si"}):
        with pytest.raises(SecondPerson):
            await put(arbiter, "good-bins", "622848", OFFICER, **person)

    assert await arbiter.list_entries("good-bins", OFFICER) == []


async def test_taking_a_value_off_a_list_that_raises_the_risk_needs_two_persons(
    settings: Settings, clock: Clock
) -> None:
    card = {"ref": "c", "bin": "622848"}
    same = Caller("Li.Si", "person", "shop-a", frozenset({"rules"}))
    async with running(settings, clock) as arbiter:
        entry = await put(arbiter, "bad-bins", "622848", OFFICER)
        with pytest.raises(SecondPerson):
            await arbiter.remove_list_entry("bad-bins", entry["id"], OFFICER)
        asked = await arbiter.remove_list_entry("bad-bins", entry["id"], LI)
        assert (asked["state"], asked["ended_by"]) == ("ending", "li.si")
        for caller in (LI, same, OFFICER):
            with pytest.raises(SecondPerson):
                await arbiter.approve_list_entry("bad-bins", entry["id"], caller)
        for again in (arbiter.remove_list_entry("bad-bins", entry["id"], WANG), put(arbiter, "bad-bins", "622848")):
            with pytest.raises(Conflict):
                await again
        assert "listed" in await listed(arbiter, "p1", card=card)
    async with running(settings, clock) as arbiter:
        assert "listed" in await listed(arbiter, "p2", card=card)
        await arbiter.approve_list_entry("bad-bins", entry["id"], WANG)

        assert "listed" not in await listed(arbiter, "p3", card=card)


async def test_an_end_that_is_withdrawn_leaves_the_entry_as_it_was(arbiter: Arbiter) -> None:
    entry = await put(arbiter, "bad-bins", "622848")
    await arbiter.remove_list_entry("bad-bins", entry["id"], LI)
    assert await arbiter.withdraw_list_entry("bad-bins", entry["id"], OFFICER) == entry
    for step in (arbiter.withdraw_list_entry, arbiter.approve_list_entry):
        with pytest.raises(Conflict):
            await step("bad-bins", entry["id"], WANG)

    assert "listed" in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})
    assert [(change["what"], change["before"], change["after"]) for change in await changes(arbiter)][1:] == [
        ("list_entry_end_asked", "active", "ending"),
        ("list_entry_kept", "ending", "active"),
    ]


async def test_what_does_not_lower_the_risk_ends_at_once(arbiter: Arbiter, clock: Clock) -> None:
    """An entry of a list that lowers it, waiting or not, and one that has expired."""
    waits = await put(arbiter, "good-bins", "622848")
    holds = await put(arbiter, "good-bins", "622849")
    await arbiter.approve_list_entry("good-bins", holds["id"], WANG)
    over = await put(arbiter, "bad-bins", "622850", expires="2026-11-23T12:10:00Z")
    clock.now = NOW + 10 * MINUTE
    ended = [
        await arbiter.remove_list_entry(name, entry["id"], OFFICER)
        for name, entry in (("good-bins", waits), ("good-bins", holds), ("bad-bins", over))
    ]

    assert {(entry["state"], entry["ended_by"]) for entry in ended} == {("ended", OFFICER.name)}
    assert "good_card" not in await listed(arbiter, "p1", card={"ref": "c", "bin": "622849"})


async def test_an_entry_that_was_taken_off_is_not_brought_back_by_a_late_approval(arbiter: Arbiter) -> None:
    entry = await put(arbiter, "good-bins", "622848")
    steps = await asyncio.gather(
        arbiter.remove_list_entry("good-bins", entry["id"], LI),
        arbiter.approve_list_entry("good-bins", entry["id"], WANG),
        return_exceptions=True,
    )

    assert isinstance(steps[1], Conflict)
    assert "good_card" not in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})


async def test_ten_at_once_add_one_entry(arbiter: Arbiter) -> None:
    tries = await asyncio.gather(*(put(arbiter, "bad-bins", "622848") for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(one, dict) for one in tries) == 1
    assert sum(isinstance(one, Conflict) for one in tries) == 9
    assert len(await changes(arbiter)) == 1


async def test_a_change_that_is_not_recorded_does_not_count(arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database")

    with monkeypatch.context() as broken:
        broken.setattr(arbiter._ledger, "append", gone)
        with pytest.raises(Unavailable):
            await put(arbiter, "bad-bins", "622848")
        with pytest.raises(Unavailable):
            await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "new"}', LI)

    assert "listed" not in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})
    assert await arbiter.list_entries("bad-bins", LI) == []


@pytest.mark.parametrize(
    ("name", "body", "error"),
    [
        ("no-such-list", {"value": "1", "reason": "x"}, NotFound),
        ("bad-networks", {"value": "not an address", "reason": "x"}, BodyRefused),
        ("bad-networks", {"value": "203.0.113.7"}, BodyRefused),
        ("bad-networks", {"value": "203.0.113.7", "reason": " "}, BodyRefused),
        ("bad-networks", {"value": "203.0.113.7", "reason": "x", "expires": "2020-01-01T00:00:00Z"}, BodyRefused),
        ("bad-networks", {"value": "203.0.113.7", "reason": "x", "expires": "tomorrow"}, BodyRefused),
        ("bad-networks", {"value": "203.0.113.7", "reason": "x", "state": "active"}, BodyRefused),
    ],
)
async def test_an_entry_that_makes_no_sense_is_refused(
    arbiter: Arbiter, name: str, body: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        await arbiter.add_list_entry(name, orjson.dumps(body), LI)
    assert "not an address" not in str(refused.value)
    assert await changes(arbiter) == []


async def test_lists_are_shown_with_what_they_hold(arbiter: Arbiter) -> None:
    await put(arbiter, "bad-bins", "622848")
    shown = {one["name"]: one for one in arbiter.lists(LI)}
    others = {one["name"]: one for one in arbiter.lists(Caller("x", "person", "shop-b", frozenset()))}

    assert set(shown) == {"bad-bins", "bad-cards", "bad-networks", "good-bins"}
    assert (shown["good-bins"]["effect"], shown["bad-cards"]["entity"]) == ("lowers", "card")
    assert (shown["bad-networks"]["match"], shown["bad-networks"]["entries_in_files"]) == ("cidr", 1)
    assert shown["bad-bins"]["hash"] != others["bad-bins"]["hash"]


# ----------------------------------------------------------------------------------------------- merchants


async def test_a_tier_changes_where_the_verdicts_begin(settings: Settings, clock: Clock) -> None:
    merchant = {"merchant": {"id": "m-1"}}
    async with running(settings, clock) as arbiter:
        assert (await judged(arbiter, payment("p1", 41, **merchant)))["verdict"] == "challenge"
        changed = await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "new seller"}', LI)
        assert changed == {"id": "m-1", "tier": "watched", "reason": "new seller", "updated": NOW}
        assert (await judged(arbiter, payment("p2", 41, **merchant)))["verdict"] == "review"
        assert (await judged(arbiter, payment("p3", 41, merchant={"id": "m-2"})))["verdict"] == "challenge"
    async with running(settings, clock) as arbiter:
        answer = await judged(arbiter, payment("p4", 41, **merchant))
        assert (answer["verdict"], (await record_of(arbiter, answer))["situation"]["tier"]) == ("review", "watched")
        assert await arbiter.merchant("m-1", LI) == changed
        (change,) = await changes(arbiter)
        assert (change["what"], change["object"], change["before"], change["after"]) == (
            "merchant_tier",
            "m-1",
            None,
            "watched",
        )


async def test_a_tier_that_no_policy_has_is_refused(arbiter: Arbiter) -> None:
    with pytest.raises(BodyRefused) as refused:
        await arbiter.set_merchant_tier("m-1", b'{"tier": "vip", "reason": "asked for it"}', LI)

    assert refused.value.problems[0].hint == "one of standard, watched"
    with pytest.raises(NotFound):
        await arbiter.merchant("m-1", LI)


async def test_the_log_and_the_tiers_agree_on_who_was_last(arbiter: Arbiter) -> None:
    bodies = [orjson.dumps({"tier": tier, "reason": "x"}) for tier in ("watched", "standard") * 5]
    await asyncio.gather(*(arbiter.set_merchant_tier("m-1", body, LI) for body in bodies))
    last = (await changes(arbiter))[-1]["after"]

    assert (await arbiter.merchant("m-1", LI))["tier"] == last
    assert arbiter._live.tiers["shop-a", "m-1"] == last
    before = [change["before"] for change in await changes(arbiter)]
    assert before[1:] == [change["after"] for change in await changes(arbiter)][:-1]


async def test_the_reason_of_a_change_stays_readable_and_out_of_the_log(arbiter: Arbiter) -> None:
    """Also when a later change has put another one into the row."""
    auditor, revealer = (
        Caller("a", "person", "shop-a", frozenset(scopes)) for scopes in (["audit"], ["audit", "reveal"])
    )
    for tier, reason in (("watched", "owner 张三 is new"), ("standard", "six quiet months")):
        await arbiter.set_merchant_tier("m-1", orjson.dumps({"tier": tier, "reason": reason}), LI)
    entry = await put(arbiter, "bad-bins", "622848")
    await arbiter.remove_list_entry("bad-bins", entry["id"], LI)
    first, second, added, asked = await changes(arbiter)

    assert "张三" not in str(first)
    assert [
        (await arbiter.decision(one["id"], revealer, Reveal("audit", 9)))["notes"][one["id"]]
        for one in (first, second, added)
    ] == [
        "owner 张三 is new",
        "six quiet months",
        "seen in card testing",
    ]
    assert (await arbiter.decision(first["id"], auditor))["notes"] == {first["id"]: {"sealed": True}}
    assert (asked["note"], (await arbiter.decision(asked["id"], revealer, Reveal("audit", 9)))["notes"]) == (None, {})


# -------------------------------------------------------------------------------------------------- reload

OTHER = RULES.replace("amount == 41 CNY", "amount == 42 CNY").replace("points: 40", "points: 45")
WIDER = OTHER.replace("count(last 10m by card.ref", "count(last 60m by card.ref")


TRIED = {
    "rules/tried.yaml": (
        "pack: tried\nabout: A rule with tests.\nfor: payment\nowner: me\nrules:\n"
        "  - id: tried.small\n    when: amount < 1 CNY\n    signal: small_amount\n    points: 1\n"
        "    because: {en: small, zh: 小}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n    tests:\n"
        "      - {it: fires below, event: {amount: 0.50 CNY}, expect: fires}\n"
        "      - {it: stays quiet, event: {amount: 1.00 CNY}, expect: quiet}\n"
    )
}
FAILING = {
    "rules/tried.yaml": TRIED["rules/tried.yaml"].replace("amount < 1 CNY", "amount < 0.20 CNY or amount > 0.90 CNY")
}
"""Both tests of this one fail."""


def rewrite(settings: Settings, **files: str) -> None:
    for name, content in files.items():
        folder = settings.policies if name == "till" else settings.rules
        (folder / f"{name}.yaml").write_text(content, "utf-8")


async def test_a_reload_switches_and_is_recorded(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        before = arbiter.rulebook_info()
        await put(arbiter, "bad-bins", "622848")
        await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "x"}', LI)
        rewrite(settings, small=OTHER)
        after = await arbiter.reload(LI)

        assert (await judged(arbiter, payment("p1", 42)))["score"] == 45
        assert (await judged(arbiter, payment("p2", 41)))["score"] == 0
        assert (await judged(arbiter, payment("p3", 42, merchant={"id": "m-1"})))["verdict"] == "review"
        assert "listed" in await listed(arbiter, "p4", card={"ref": "c", "bin": "622848"})
        change = (await changes(arbiter))[-1]
        assert (change["what"], change["before"], change["after"]) == ("rulebook", before["hash"], after["hash"])
        assert change["by"] == {"name": "li.si", "kind": "person", "person": "li.si"}
        kept = await db.Rows(arbiter._ledger.database, db.rulebook).find()
        assert {row["hash"] for row in kept} == {before["hash"], after["hash"]}


async def test_nothing_new_is_no_change(arbiter: Arbiter) -> None:
    nothing: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    parts = dict.fromkeys(("rules", "policies", "lists", "files"), nothing)
    named = arbiter.rulebook_info()["hash"]

    assert await arbiter.reload(LI) == {"hash": named, "before": named, **parts, "windows_rebuilt": 0}
    assert await changes(arbiter) == []


MORE = "list: more\nabout: More.\nmatch: exact\nentries: [a]\n"
REDONE = (
    (
        {"rules/small.yaml": "# only moved down\n" + OTHER},
        {"rules": ([], ["small.challenge"], []), "files": ([], ["rules/small.yaml"], [])},
        0,
    ),
    (
        {"rules/small.yaml": WIDER},
        {"rules": ([], ["small.burst", "small.challenge"], []), "files": ([], ["rules/small.yaml"], [])},
        1,
    ),
    (
        {"rules/tried.yaml": TRIED["rules/tried.yaml"], "rules/lists/more.yaml": MORE},
        {
            "rules": (["tried.small"], [], []),
            "lists": (["more"], [], []),
            "files": (["rules/lists/more.yaml", "rules/tried.yaml"], [], []),
        },
        0,
    ),
    (
        {"rules/lists/bad-bins.yaml": LISTS["rules/lists/bad-bins.yaml"] + "entries: [a]\n"},
        {"lists": ([], ["bad-bins"], []), "files": ([], ["rules/lists/bad-bins.yaml"], [])},
        0,
    ),
    (
        {"policies/till.yaml": POLICY.replace("40", "41")},
        {"policies": ([], ["till"], []), "files": ([], ["policies/till.yaml"], [])},
        0,
    ),
)


@pytest.mark.parametrize(("files", "expected", "windows"), REDONE)
async def test_a_reload_says_what_is_different(
    arbiter: Arbiter, tmp_path: Path, files: dict[str, str], expected: dict[str, Any], windows: int
) -> None:
    """And back again: what was added is removed."""
    before = {name: (tmp_path / name).read_text("utf-8") for name in files if (tmp_path / name).exists()}
    write(tmp_path, files)
    said = [await arbiter.reload(LI)]
    for name in files:
        (tmp_path / name).unlink()
    write(tmp_path, before)
    said.append(await arbiter.reload(LI))
    found = [
        {part: tuple(one[part].values()) for part in ("rules", "policies", "lists", "files") if any(one[part].values())}
        for one in said
    ]

    assert found == [expected, {part: names[::-1] for part, names in expected.items()}]
    assert (said[0]["windows_rebuilt"], said[1]["before"]) == (windows, said[0]["hash"])


async def test_a_bad_rulebook_leaves_the_last_good_one_and_tells_everything(
    arbiter: Arbiter, on_sqlite: Settings
) -> None:
    before = arbiter.rulebook_info()
    rewrite(on_sqlite, small=OTHER.replace("tries >= 3", "trys >= 3"), till=POLICY.replace("[payment]", "[paymnt]"))
    with pytest.raises(PackError) as refused:
        await arbiter.reload(LI)

    assert [problem.file for problem in refused.value.problems] == ["policies/till.yaml", "rules/small.yaml"]
    assert arbiter.rulebook_info() == before
    assert (await judged(arbiter, payment("p1", 41)))["verdict"] == "challenge"
    rewrite(on_sqlite, small=OTHER, till=POLICY)
    assert (await arbiter.reload(LI))["hash"] != before["hash"]


async def test_a_reload_takes_no_rulebook_whose_own_tests_fail(
    arbiter: Arbiter, on_sqlite: Settings, tmp_path: Path
) -> None:
    before = arbiter.rulebook_info()
    write(tmp_path, FAILING)
    with pytest.raises(PackError) as refused:
        await arbiter.reload(LI)

    assert [problem.file for problem in refused.value.problems] == ["rules/tried.yaml"] * 2
    assert "the test 'fires below' expects 'fires', the rule is 'quiet'" in str(refused.value)
    assert (arbiter.rulebook_info(), await changes(arbiter)) == (before, [])
    assert len(await db.Rows(arbiter._ledger.database, db.rulebook).find()) == 1
    write(tmp_path, TRIED)
    assert (await arbiter.reload(LI))["hash"] != before["hash"]


async def test_no_start_takes_a_rulebook_whose_own_tests_fail(
    on_sqlite: Settings, clock: Clock, tmp_path: Path
) -> None:
    write(tmp_path, FAILING)
    with pytest.raises(PackError) as refused:
        await open_arbiter(on_sqlite, clock=clock)

    assert len(refused.value.problems) == 2


async def test_a_rulebook_in_the_archive_is_not_tried_again(
    on_sqlite: Settings, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(
        "engine.force.refuse_failing", lambda rulebook: tried.append(rulebook.hash) or refuse_failing(rulebook)
    )
    write(tmp_path, TRIED)
    for _ in range(2):
        async with running(on_sqlite, clock) as arbiter:
            first = arbiter.rulebook_info()["hash"]
            rewrite(on_sqlite, small=OTHER)
            second = (await arbiter.reload(LI))["hash"]
            rewrite(on_sqlite, small=RULES)
            assert (await arbiter.reload(LI))["hash"] == first

    assert tried == [first, second]


async def test_a_rule_whose_list_cannot_be_read_stops_no_start(
    on_sqlite: Settings, clock: Clock, tmp_path: Path
) -> None:
    """It is not tried, for nobody can say what it would find; every other one is."""
    listed = (
        TRIED["rules/tried.yaml"]
        .replace("amount < 1 CNY", "ip in list gone")
        .replace("amount: 0.50 CNY", "ip: 192.0.2.1")
    )
    gone = "list: gone\nabout: Networks.\nmatch: cidr\nfile: gone.txt\n"
    write(tmp_path, {"rules/tried.yaml": listed, "rules/lists/gone.yaml": gone})
    async with running(on_sqlite, clock) as arbiter:
        assert "gone" in arbiter.rulebook_info()["lists"]
    write(tmp_path, {"rules/other.yaml": FAILING["rules/tried.yaml"].replace("tried", "other")})
    with pytest.raises(PackError) as refused:
        await open_arbiter(on_sqlite, clock=clock)
    assert {problem.file for problem in refused.value.problems} == {"rules/other.yaml"}


async def of_everyone(arbiter: Arbiter, *by: str) -> list[dict[str, Any]]:
    """The changes that no caller made, of those who are named, oldest first."""
    page = await arbiter._ledger.page("*", Filter(kind="change"))
    found = [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]
    return [change for change in found if change["by"]["name"] in by]


async def started(arbiter: Arbiter) -> list[dict[str, Any]]:
    """The changes that came with a start."""
    return await of_everyone(arbiter, "start")


async def test_start_and_stop_are_recorded_with_the_settings_but_no_password(settings: Settings, clock: Clock) -> None:
    """So a change of the configuration can be seen; what decides between two starts is what the first one says."""
    for _ in range(2):
        async with running(settings, clock) as arbiter:
            pass
    async with running(settings, clock) as arbiter:
        told = await of_everyone(arbiter, "arbiter")
    assert [(each["what"], each["object"]) for each in told] == [
        *[("started", "worker 0"), ("stopped", "worker 0")] * 2,
        ("started", "worker 0"),
    ]
    assert set(orjson.loads(told[0]["after"])) >= {"database_url", "rules", "policies", "mode", "workers"}
    secret = Settings(database_url="postgresql://a:secret@db/x", redis_url="redis://:secret@valkey")
    assert "secret" not in str(secret.told())
    assert secret.told()["database_url"] == "postgresql://a:***@db/x"


async def test_a_rulebook_that_comes_with_a_start_is_recorded_before_it_decides(
    settings: Settings, clock: Clock
) -> None:
    async with running(settings, clock) as arbiter:
        first = arbiter.rulebook_info()["hash"]
        decided = await judged(arbiter, payment("p1"))
        assert await started(arbiter) == []
    rewrite(settings, small=OTHER)
    clock.now += SECOND
    arbiter = await open_arbiter(settings, clock=clock)
    try:
        (change,) = await started(arbiter)
        second = arbiter.rulebook_info()["hash"]
    finally:
        await arbiter.close()

    assert (change["what"], change["object"], change["before"], change["after"]) == (
        "rulebook", "rulebook", first, second,
    )  # fmt: skip
    assert (change["tenant"], change["by"]) == ("*", {"name": "start", "kind": "service", "person": ""})
    assert change["decided_at"] == NOW + SECOND
    assert decided["verdict"] == "approve"
    async with running(settings, clock) as arbiter:
        assert await started(arbiter) == [change]


async def test_a_start_goes_on_from_the_last_change_whosever_it_was(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        first = arbiter.rulebook_info()["hash"]
        rewrite(settings, small=OTHER)
        second = (await arbiter.reload(LI))["hash"]
    async with running(settings, clock) as arbiter:
        assert await started(arbiter) == []
    rewrite(settings, small=RULES)
    async with running(settings, clock) as arbiter:
        (change,) = await started(arbiter)

    assert (change["before"], change["after"]) == (second, first)


async def test_the_first_rulebook_of_a_ledger_is_no_change(settings: Settings, clock: Clock) -> None:
    """Also where another one was started with, but never decided."""
    for text in (RULES, OTHER):
        rewrite(settings, small=text)
        async with running(settings, clock) as arbiter:
            assert await started(arbiter) == []


async def test_what_no_change_can_be_recorded_for_does_not_start(
    on_sqlite: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database")

    async with running(on_sqlite, clock) as arbiter:
        await judged(arbiter, payment("p1"))
    rewrite(on_sqlite, small=OTHER)
    monkeypatch.setattr("engine.ledger.Ledger.append", gone)
    with pytest.raises(Unavailable):
        await open_arbiter(on_sqlite, clock=clock)


async def test_a_reload_keeps_the_rulebook_before_it_records_the_change(
    arbiter: Arbiter, on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[str]] = []
    record = arbiter._changes.record

    async def watched(*change: Any) -> None:
        kept.append({row["hash"] for row in await db.Rows(arbiter._ledger.database, db.rulebook).find()})
        await record(*change)

    monkeypatch.setattr(arbiter._changes, "record", watched)
    rewrite(on_sqlite, small=OTHER)
    after = await arbiter.reload(LI)

    assert [after["hash"] in hashes for hashes in kept] == [True]


async def test_no_decision_sees_half_a_rulebook(settings: Settings, clock: Clock) -> None:
    """Under load, every record holds the outcome of the one rulebook that it pins."""
    books: dict[str, str] = {}
    async with running(settings, clock) as arbiter:
        stop = asyncio.Event()
        answers: list[dict[str, Any]] = []

        numbers = count()

        async def one() -> None:
            number = next(numbers)
            answers.append(await judged(arbiter, payment(f"{41 + number % 2}-{number}", 41 + number % 2)))

        async def stream() -> None:
            while not stop.is_set():
                await one()

        async def some_more() -> None:
            for _ in range(20):
                await one()

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        books[arbiter.rulebook_info()["hash"]] = "first"
        for text, name in ((OTHER, "second"), (RULES, "first"), (WIDER, "third")):
            await some_more()
            rewrite(settings, small=text)
            books[(await arbiter.reload(LI))["hash"]] = name
        await some_more()
        stop.set()
        await asyncio.gather(*streams)
        records = [await record_of(arbiter, answer) for answer in answers[::5]]

    scores = {"first": {41: 40, 42: 0}, "second": {41: 0, 42: 45}, "third": {41: 0, 42: 45}}
    seen = set()
    for record in records:
        name = books[record["pins"]["rulebook"]]
        amount = int(record["event"]["id"].partition("-")[0])
        assert record["score"] == scores[name][amount]
        seen.add(name)
    assert seen == {"first", "second", "third"}


async def test_new_windows_are_whole_before_they_decide(settings: Settings, clock: Clock) -> None:
    """Attempts 40 minutes ago, and some made while the reload runs: the wider window counts them all."""
    card = {"card": {"ref": "card-1"}}
    async with running(settings, clock) as arbiter:
        clock.now -= 40 * MINUTE
        await judged(arbiter, payment("old", at="2026-11-23T11:20:00Z", **card))
        clock.now = NOW
        rewrite(settings, small=WIDER)
        reload = asyncio.create_task(arbiter.reload(LI))
        meanwhile = 0
        while not reload.done():
            meanwhile += 1
            answer = await judged(arbiter, payment(f"m{meanwhile}", **card))
            assert "not_warm" not in answer["signals"]
        rebuilt = (await reload)["windows_rebuilt"]
        info = arbiter.rulebook_info()
        answer = await judged(arbiter, payment("new", **card))
        shown = (await arbiter.explanation(answer["id"], SHOP))["features"]

    assert all(window["warm"] for window in info["windows"])
    assert (list(shown.values()), rebuilt) == ([meanwhile + 2], len(info["windows"]))


async def test_a_reload_whose_history_cannot_be_read_changes_nothing(
    arbiter: Arbiter, on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database")

    before = arbiter.rulebook_info()
    rewrite(on_sqlite, small=WIDER)
    with monkeypatch.context() as broken:
        broken.setattr(Warmth, "restore", gone)
        with pytest.raises(Unavailable):
            await arbiter.reload(LI)

    assert (arbiter.rulebook_info(), arbiter.ready()) == (before, {"ready": True, "reasons": []})
    assert (await judged(arbiter, payment("p1", 41)))["verdict"] == "challenge"
    assert (await arbiter.reload(LI))["hash"] != before["hash"]


async def test_a_change_during_a_reload_is_not_lost(
    arbiter: Arbiter, on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, entered, gate = Warmth.restore, asyncio.Event(), asyncio.Event()

    async def slow(self: Warmth, features: Features) -> Any:
        entered.set()
        await gate.wait()
        return await restore(self, features)

    rewrite(on_sqlite, small=WIDER)
    monkeypatch.setattr(Warmth, "restore", slow)
    reload = asyncio.create_task(arbiter.reload(LI))
    await entered.wait()
    await put(arbiter, "bad-bins", "622848")
    await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "x"}', LI)
    gate.set()
    await reload

    assert "listed" in await listed(arbiter, "p1", card={"ref": "c", "bin": "622848"})
    assert arbiter._live.tiers["shop-a", "m-1"] == "watched"


async def test_reloads_at_once_come_one_after_the_other(arbiter: Arbiter, on_sqlite: Settings) -> None:
    rewrite(on_sqlite, small=WIDER)
    infos = await asyncio.gather(*(arbiter.reload(LI) for _ in range(3)))

    assert len({info["hash"] for info in infos}) == 1
    assert len(await changes(arbiter)) == 1


async def test_an_old_decision_is_explained_by_its_own_rulebook(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        answer = await judged(arbiter, payment("p1", 41))
        rewrite(settings, small=OTHER)
        await arbiter.reload(LI)
        explained = await arbiter.explanation(answer["id"], SHOP)
    async with running(settings, clock) as arbiter:
        assert await arbiter.explanation(answer["id"], SHOP) == explained

    assert explained["rules"][0]["condition"] == "amount == 41 CNY"


# --------------------------------------------------------------------------------------------------- ready


async def test_an_arbiter_says_why_it_is_not_ready(
    on_sqlite: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, tries = Warmth.restore, 0

    async def sometimes(self: Warmth, features: Features) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("no answer from the database")
        return await restore(self, features)

    monkeypatch.setattr(Warmth, "restore", sometimes)
    monkeypatch.setattr("engine.warmth.RETRY_SECONDS", 0.05)
    arbiter = await open_arbiter(on_sqlite, clock=clock)
    try:
        assert arbiter.ready() == {"ready": False, "reasons": ["the windows are being rebuilt from the ledger"]}
        async with asyncio.timeout(5):
            while tries == 0:  # noqa: ASYNC110 - the warm-up runs by itself
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert arbiter.ready()["reasons"] == ["the windows cannot be rebuilt yet: no answer from the database"]
        await ready(arbiter)
        monkeypatch.setattr(type(arbiter._ledger), "alive", False)
        assert arbiter.ready() == {"ready": False, "reasons": ["the database does not answer"]}
    finally:
        await arbiter.close()


async def test_the_rulebook_in_force_is_shown(arbiter: Arbiter) -> None:
    info = arbiter.rulebook_info()

    assert info["policies"] == {"till": ["payment"]}
    assert info["windows"] == [{"name": "count(payment last 10m by card.ref, including this)", "warm": True}]
    assert info["lists"] == {"bad-bins": "exact", "bad-cards": "exact", "bad-networks": "cidr", "good-bins": "exact"}
    assert info["rules"][-1] == {
        "id": "small.listed",
        "pack": "payments/small",
        "for": ["payment"],
        "mode": "live",
        "rollout": None,
        "signal": "listed",
    }


async def test_a_verdict_is_found_as_long_as_it_is_in_the_log(settings: Settings, clock: Clock, tmp_path: Path) -> None:
    """A policy may drop a verdict that it gave; one that never was, in the log of this shop, is refused."""
    other = Caller("audit", "person", "shop-b", frozenset({"audit"}))
    async with running(settings, clock) as arbiter:
        await arbiter.decide(payment("p1", 61), SHOP)
        write(tmp_path, {"policies/till.yaml": POLICY.replace("review", "look").partition("look: {queue")[0]})
        await arbiter.reload(LI)

        assert [item["event_id"] for item in (await arbiter.decisions(SHOP, verdict="review"))["items"]] == ["p1"]
        assert (await arbiter.decisions(SHOP, verdict="review", since=NOW + SECOND))["items"] == []
        assert (await arbiter.decisions(other, verdict="look"))["items"] == []
        for caller, wanted in ((other, {"verdict": "review"}), (SHOP, {"verdict": "no"}), (SHOP, {"kind": "paymnt"})):
            with pytest.raises(RequestRefused) as refused:
                await arbiter.decisions(caller, **wanted)
            assert [problem.path for problem in refused.value.problems] == [f"query.{next(iter(wanted))}"]


async def test_pages_of_decisions_are_narrowed_and_turned(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as arbiter:
        for number in range(7):
            clock.now += SECOND
            body = payment(f"p{number}", 41 if number % 2 else 5, order_id=f"o{number // 3}", merchant={"id": "m-1"})
            await arbiter.decide(body, SHOP)
        await arbiter.observe(payment("noted"), SHOP)

        async def events(**wanted: Any) -> list[str]:
            return [item["event_id"] for item in (await arbiter.decisions(SHOP, **wanted))["items"]]

        first = await arbiter.decisions(SHOP, limit=4)
        second = await arbiter.decisions(SHOP, limit=4, cursor=first["next"])
        seen = [item["event_id"] for item in (*first["items"], *second["items"])]
        assert (seen, second["next"]) == ([f"p{number}" for number in reversed(range(7))], None)
        assert await events(verdict="challenge") == ["p5", "p3", "p1"]
        assert await events(order_id="o1") == ["p5", "p4", "p3"]
        assert await events(merchant_id="m-2") == []
        assert await events(kind="listing") == []
        assert await events(since=NOW + 3 * SECOND, until=NOW + 5 * SECOND) == ["p3", "p2"]


# -------------------------------------------------------------------------------------------------- linked accounts


LINKED = {
    "rules/links/people.yaml": """\
links: people
about: Buyers and sellers that share something.
owner: li.si
within: 30d
groups:
  buyer_group: {account: buyer.account, shares: [{of: payment, by: [device.id, buyer.payout_account]}]}
  seller_group: {account: merchant.id, shares: [{of: payment, by: merchant.payout_account}]}
""",
    "rules/linked.yaml": """\
pack: linked
about: Linked accounts.
for: payment
owner: li.si
let:
  together: distinct(buyer.account last 1d by buyer_group, including this)
rules:
  - id: linked.many
    when: together >= 3 and group_size(buyer_group) >= 3
    signal: many
    because: {en: "{together} linked accounts", zh: "{together} 个关联账号"}
    basis: {kind: house-policy, review_by: 2027-01-01}
  - id: linked.self
    when: linked(buyer_group, seller_group)
    signal: self_dealing
    because: {en: own shop, zh: 自买自卖}
    basis: {kind: house-policy, review_by: 2027-01-01}
""",
}


def bought(event_id: str, account: str, device: str, **more: Any) -> bytes:
    return payment(event_id, buyer={"account": account, **more}, device={"id": device})


async def test_groups_are_the_same_after_a_restart_and_can_be_explained(settings: Settings, clock: Clock) -> None:
    """Rebuilt from pseudonyms; the record holds their values by the names that rules use."""
    write(settings.rules.parent, LINKED)
    async with running(settings, clock) as arbiter:
        first = await judged(arbiter, bought("e1", "u1", "d1", payout_account="acc-1"))
        await judged(arbiter, bought("e2", "u2", "d1"))
        assert first["signals"] == []
    async with running(settings, clock) as arbiter:
        shop = {"id": "m-1", "payout_account": "acc-1"}
        own = payment("e3", buyer={"account": "u2"}, device={"id": "d2"}, merchant=shop)
        assert (await judged(arbiter, own))["signals"] == ["self_dealing"]
        third = await judged(arbiter, bought("e4", "u3", "d2"))
        assert [reason["message"]["en"] for reason in third["reasons"]] == ["3 linked accounts"]
        told = await arbiter.explanation(third["id"], SHOP)
        assert told["features"]["group_size(buyer_group)"] == 4  # the shop is one of them
        assert "distinct(buyer.account of payment last 1d by buyer_group, including this)" in told["features"]


async def test_links_that_are_declared_otherwise_are_rebuilt_by_a_reload(settings: Settings, clock: Clock) -> None:
    """The rule reads as before, and yet it is another question: the address joins now, too."""
    write(settings.rules.parent, LINKED)
    places = [{"shipping": {"address": "home"}, "buyer": {"account": f"u{number}"}} for number in range(3)]
    async with running(settings, clock) as arbiter:
        for number, place in enumerate(places):
            assert (await judged(arbiter, payment(f"a{number}", **place)))["signals"] == []
        by = "by: [device.id, shipping.address]"
        links = LINKED["rules/links/people.yaml"].replace("by: [device.id, buyer.payout_account]", by)
        write(settings.rules.parent, {"rules/links/people.yaml": links})
        assert (await arbiter.reload(LI))["windows_rebuilt"] > 0
        assert (await judged(arbiter, payment("b", **places[0])))["signals"] == ["many"]
