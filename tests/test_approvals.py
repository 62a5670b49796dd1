"""The way of a rulebook into force through two persons, and back, on real databases."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli.views import Views
from engine import database as db
from engine.arbiter import Arbiter, Caller
from engine.archive import loaded
from engine.assembly import Settings
from engine.errors import (
    ArbiterError,
    BodyRefused,
    Conflict,
    NotAllowed,
    NotFound,
    PackError,
    SecondPerson,
    SettingsError,
)
from engine.ledger import Filter
from engine.proposals import FOLLOW_UP
from engine.rulebook import Rulebook
from tests.books import POLICY, RULES, SMALL, Clock, judged, payment, running, write

pytestmark = pytest.mark.anyio

ALL = frozenset({"author", "approve", "deploy"})
LI = Caller("li.si", "person", "shop-a", ALL)
WANG = Caller("wang.wu", "person", "shop-a", ALL)
ZHAO = Caller("zhao.liu", "person", "shop-a", ALL)
CI = Caller("ci", "service", "shop-a", ALL)

SMALLER: Mapping[str, str] = {**SMALL, "rules/small.yaml": RULES.replace("amount == 41 CNY", "amount == 42 CNY")}
"""42 CNY is odd, and no more 41."""
STRICTER: Mapping[str, str] = {**SMALL, "policies/till.yaml": POLICY.replace("challenge: 40", "challenge: 20")}
FAILING: Mapping[str, str] = {
    **SMALL,
    "rules/tried.yaml": (
        "pack: tried\nabout: A rule with a test.\nfor: payment\nowner: me\nrules:\n"
        "  - id: tried.small\n    when: amount < 1 CNY\n    signal: small_amount\n    points: 1\n"
        "    because: {en: small, zh: 小}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n    tests:\n"
        "      - {it: fires at one, event: {amount: 1.00 CNY}, expect: fires}\n"
    ),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path, tmp_path: Path) -> Settings:
    """A small rulebook that needs approval, over a fresh ledger, once on SQLite and once on PostgreSQL."""
    write(tmp_path, SMALL)
    folders = {"rules": tmp_path / "rules", "policies": tmp_path / "policies"}
    return Settings(ledger_url, key_file=key_path, approval="required", **folders)


@pytest.fixture
def on_sqlite(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    write(tmp_path, SMALL)
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    folders = {"rules": tmp_path / "rules", "policies": tmp_path / "policies"}
    return Settings(f"sqlite:///{tmp_path / 'arbiter.db'}", key_file=key_path, approval="required", **folders)


@pytest.fixture
async def arbiter(on_sqlite: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(on_sqlite, clock) as it:
        yield it


def said(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def book_of(files: Mapping[str, str]) -> Rulebook:
    return loaded({path: text.encode() for path, text in files.items()}, strict=True)


async def proposed(
    arbiter: Arbiter, files: Mapping[str, str] = SMALLER, by: Caller = LI, **more: Any
) -> dict[str, Any]:
    return await arbiter.approvals.propose(said(files=files, reason="fewer honest buyers asked", **more), by)


async def approved(arbiter: Arbiter, id: str, by: Caller = WANG) -> dict[str, Any]:
    return await arbiter.approvals.judge(id, said(), by, approved=True)


async def activated(arbiter: Arbiter, id: str, by: Caller = CI, **more: Any) -> dict[str, Any]:
    return await arbiter.approvals.activate(id, said(**more), by)


async def changes(arbiter: Arbiter) -> list[dict[str, Any]]:
    """The records of changes, without keys, starts and stops."""
    page = await arbiter._ledger.page("shop-a", Filter(kind="change"))
    return [orjson.loads(stored.entry.leaf) for stored in reversed(page.entries)]


async def steps(arbiter: Arbiter) -> list[tuple[str, str]]:
    """What was done and by whom, as the ledger has it; of a rulebook that came into force also how."""
    records = await changes(arbiter)
    ways = [f" {record['object']}" if record["what"] == "rulebook" else "" for record in records]
    who = [record["by"]["person"] or record["by"]["name"] for record in records]
    return [(record["what"] + way, name) for record, way, name in zip(records, ways, who, strict=True)]


async def holder(arbiter: Arbiter, name: str) -> None:
    """A person of this name who has a key."""
    await arbiter.create_key(name, "person", "shop-a", ["approve"])


async def score(arbiter: Arbiter, id: str, amount: int) -> int:
    return int((await judged(arbiter, payment(id, amount)))["score"])


async def test_a_rulebook_comes_into_force_by_two_persons_and_goes_back_in_one_step(
    settings: Settings, clock: Clock
) -> None:
    async with running(settings, clock) as arbiter:
        first = arbiter.rulebook_info()["hash"]
        proposal = await proposed(arbiter, papers={"backtest.md": "7 orders fewer"})
        assert await score(arbiter, "p1", 41) == 40
        await approved(arbiter, proposal["id"])
        assert await score(arbiter, "p2", 41) == 40
        change = await activated(arbiter, proposal["id"])
        assert (change["before"], change["hash"]) == (first, proposal["hash"])
        assert change["rules"]["changed"] == ["small.challenge"]
        assert change["proposal"]["state"] == "in_force"
        assert (await score(arbiter, "p3", 41), await score(arbiter, "p4", 42)) == (0, 40)
        back = await arbiter.approvals.roll_back(said(reason="asked the wrong ones"), WANG)
        assert (back["before"], back["hash"]) == (proposal["hash"], first)
        assert await score(arbiter, "p5", 41) == 40
        assert await steps(arbiter) == [
            ("rulebook_proposed", "li.si"),
            ("rulebook_approved", "wang.wu"),
            (f"rulebook proposal/{proposal['id']}", "ci"),
            ("rulebook rollback", "wang.wu"),
        ]
        assert (await arbiter.approvals.proposal(proposal["id"], LI))["state"] == "replaced"


async def test_an_export_says_whose_proposal_was_approved_or_declined(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    async with running(settings, clock) as arbiter:
        await approved(arbiter, (await proposed(arbiter))["id"])
        other = await proposed(arbiter, STRICTER, by=WANG)
        await arbiter.approvals.judge(other["id"], said(reason="too strict"), LI, approved=False)
        records = await changes(arbiter)
    with Views(tmp_path, "jsonl") as views:
        for position, record in enumerate(records):
            views.add(position, {**record, "id": f"c{position}"})
        views.close((), (), ())
    rows = [orjson.loads(line) for line in (tmp_path / "changes.jsonl").read_bytes().splitlines()]
    assert [(row["what"], row["by"], row["approves"]) for row in rows] == [
        ("rulebook_proposed", "li.si", ""),
        ("rulebook_approved", "wang.wu", "li.si"),
        ("rulebook_proposed", "wang.wu", ""),
        ("rulebook_declined", "li.si", "wang.wu"),
    ]


async def test_a_start_takes_what_is_in_force_and_not_what_lies_in_the_folders(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    async with running(settings, clock) as arbiter:
        id = (await proposed(arbiter))["id"]
        await approved(arbiter, id)
        await activated(arbiter, id)
    write(tmp_path, STRICTER)
    async with running(settings, clock) as arbiter:
        assert await score(arbiter, "p1", 42) == 40
        assert (await arbiter.reload(LI))["rules"]["changed"] == []
        assert (await arbiter.approvals.proposal(id, LI))["state"] == "in_force"
    shutil.rmtree(tmp_path / "rules")
    async with running(settings, clock) as arbiter:
        assert await score(arbiter, "p2", 42) == 40


@pytest.mark.parametrize("decided", [True, False])
async def test_the_first_rulebook_of_a_ledger_comes_from_the_folders_and_no_second_one_does(
    on_sqlite: Settings, clock: Clock, tmp_path: Path, decided: bool
) -> None:
    async with running(on_sqlite, clock) as arbiter:
        if decided:
            assert await score(arbiter, "p1", 41) == 40
    write(tmp_path, SMALLER)
    async with running(on_sqlite, clock) as arbiter:
        assert await score(arbiter, "p2", 41) == 40


async def test_a_proposal_shows_what_it_would_change_line_by_line(arbiter: Arbiter) -> None:
    proposal = await proposed(arbiter, papers={"backtest.md": "7 orders fewer"})
    shown = await arbiter.approvals.proposal(proposal["id"], LI)

    assert "-    when: amount == 41 CNY\n+    when: amount == 42 CNY\n" in shown["difference"]
    assert shown["papers"] == {"backtest.md": "7 orders fewer"}
    assert shown["found"]["rules"] == {"added": [], "changed": ["small.challenge"], "removed": []}
    assert (shown["state"], shown["stale"], shown["author"]) == ("open", False, "li.si")
    assert [each["id"] for each in await arbiter.approvals.proposals(LI)] == [proposal["id"]]


async def test_the_id_of_a_proposal_stands_for_all_that_is_looked_at(arbiter: Arbiter, clock: Clock) -> None:
    """Another rulebook, author, paper or moment is another proposal."""
    ids = {
        (await proposed(arbiter, *given[:2], **given[2]))["id"]
        for given in (
            (SMALLER, LI, {}),
            (STRICTER, LI, {}),
            (SMALLER, WANG, {}),
            (SMALLER, LI, {"papers": {"a": "1"}}),
            (SMALLER, LI, {"papers": {"a": "2"}}),
        )
    }
    clock.now += 1
    ids.add((await proposed(arbiter))["id"])

    assert len(ids) == 6


@pytest.mark.parametrize("by", [LI, Caller("Li.Si ", "person", "shop-a", ALL), CI])
async def test_nobody_approves_alone(arbiter: Arbiter, by: Caller) -> None:
    """Not the author, however the name is spelt, and no service."""
    id = (await proposed(arbiter))["id"]
    with pytest.raises(SecondPerson):
        await approved(arbiter, id, by)
    with pytest.raises(Conflict, match="not approved"):
        await activated(arbiter, id)

    assert await steps(arbiter) == [("rulebook_proposed", "li.si")]


async def test_whom_a_service_names_as_the_author_does_not_approve(arbiter: Arbiter) -> None:
    await holder(arbiter, "wang.wu")
    id = (await proposed(arbiter, by=CI, person="wang.wu"))["id"]
    with pytest.raises(SecondPerson):
        await approved(arbiter, id, WANG)

    assert (await approved(arbiter, id, LI))["judged_by"] == "li.si"


@pytest.mark.parametrize("person", ["", "Wang Wu <wang.wu@shop.example>", "ｗang.wu", "wang.wu\u200b", "WANG.WU"])
async def test_a_program_names_the_author_as_his_own_key_does(arbiter: Arbiter, person: str) -> None:
    """Else one person under two spellings would be two."""
    await holder(arbiter, "wang.wu")
    with pytest.raises(BodyRefused) as refused:
        await proposed(arbiter, by=CI, person=person)

    assert refused.value.problems[0].path == "person"


async def test_who_may_only_propose_takes_back_his_own_proposals_and_no_others(arbiter: Arbiter) -> None:
    id = (await proposed(arbiter))["id"]
    other, own = (Caller(name, "person", "shop-a", frozenset({"author"})) for name in ("zhao.liu", "li.si"))
    with pytest.raises(NotAllowed):
        await arbiter.approvals.judge(id, said(reason="mine is better"), other, approved=False)

    assert (await arbiter.approvals.judge(id, said(reason="not yet"), own, approved=False))["state"] == "declined"


async def test_proposals_are_of_one_tenant(arbiter: Arbiter) -> None:
    id = (await proposed(arbiter))["id"]
    elsewhere = Caller("wang.wu", "person", "shop-b", ALL)
    with pytest.raises(NotFound):
        await approved(arbiter, id, elsewhere)

    assert await arbiter.approvals.proposals(elsewhere) == []


async def test_files_that_were_exchanged_after_the_approval_do_not_come_into_force(arbiter: Arbiter) -> None:
    first, second = await proposed(arbiter), await proposed(arbiter, STRICTER)
    await approved(arbiter, first["id"])
    rows = db.Rows(arbiter._ledger.database, db.proposal)
    (other,) = await rows.find(id=second["id"])
    await rows.change({"id": first["id"]}, content=other["content"], attached=other["attached"])
    with pytest.raises(Conflict, match="not those that came with it"):
        await activated(arbiter, first["id"])


async def test_a_difference_of_very_long_files_is_not_shown_line_by_line(arbiter: Arbiter) -> None:
    """To compare them takes the square of their lines, and meanwhile nobody would be judged."""
    files = {**SMALL, "rules/small.yaml": RULES + "# a line\n" * 3000}
    shown = await arbiter.approvals.proposal((await proposed(arbiter, files))["id"], LI)

    assert "3,042 after: not shown" in shown["difference"]


async def test_what_was_declined_never_comes_into_force(arbiter: Arbiter) -> None:
    id = (await proposed(arbiter))["id"]
    with pytest.raises(BodyRefused):
        await arbiter.approvals.judge(id, said(), WANG, approved=False)
    await arbiter.approvals.judge(id, said(reason="asks honest guests"), WANG, approved=False)
    for step in (approved(arbiter, id, ZHAO), activated(arbiter, id), activated(arbiter, id, WANG, **FORCED)):
        with pytest.raises(Conflict):
            await step

    assert await steps(arbiter) == [("rulebook_proposed", "li.si"), ("rulebook_declined", "wang.wu")]


async def test_an_author_takes_a_proposal_back(arbiter: Arbiter) -> None:
    id = (await proposed(arbiter))["id"]

    assert (await arbiter.approvals.judge(id, said(reason="not yet"), LI, approved=False))["state"] == "declined"


async def test_what_was_made_against_another_rulebook_is_proposed_again(arbiter: Arbiter) -> None:
    """The one who approved saw another change than the one that would happen."""
    first, second = (await proposed(arbiter))["id"], (await proposed(arbiter, STRICTER))["id"]
    await approved(arbiter, first)
    await approved(arbiter, second)
    await activated(arbiter, first)
    with pytest.raises(Conflict, match="Propose it again"):
        await activated(arbiter, second)

    assert (await arbiter.approvals.proposal(second, LI))["stale"]


FORCED = {"force": True, "reason": "cards are being tested right now"}


async def test_one_person_alone_forces_a_rulebook_and_another_one_looks_at_it_later(
    arbiter: Arbiter, clock: Clock
) -> None:
    id = (await proposed(arbiter))["id"]
    with pytest.raises(SecondPerson):
        await activated(arbiter, id, CI, **FORCED)
    with pytest.raises(BodyRefused):
        await activated(arbiter, id, LI, force=True)
    forced = (await activated(arbiter, id, LI, **FORCED))["proposal"]

    assert await score(arbiter, "p1", 42) == 40
    assert (forced["state"], forced["due"]) == ("in_force", clock.now + FOLLOW_UP)
    assert await arbiter.approvals.follow_ups() == {"open": 1, "overdue": 0}
    clock.now += FOLLOW_UP + 1
    assert await arbiter.approvals.follow_ups() == {"open": 1, "overdue": 1}
    with pytest.raises(SecondPerson):
        await approved(arbiter, id, LI)
    with pytest.raises(SecondPerson):
        await arbiter.approvals.judge(id, said(reason="I have looked myself"), LI, approved=False)
    assert await arbiter.approvals.follow_ups() == {"open": 1, "overdue": 1}
    await approved(arbiter, id, WANG)
    assert await arbiter.approvals.follow_ups() == {"open": 0, "overdue": 0}
    assert [what for what, _ in await steps(arbiter)] == [
        *("rulebook_proposed", f"rulebook forced/{id}", "rulebook_approved")
    ]


@pytest.mark.parametrize("second", [ZHAO, LI])
async def test_who_forced_another_ones_proposal_does_not_approve_it(arbiter: Arbiter, second: Caller) -> None:
    """Its author may: then two have seen it."""
    id = (await proposed(arbiter))["id"]
    await activated(arbiter, id, WANG, **FORCED)
    with pytest.raises(SecondPerson):
        await approved(arbiter, id, WANG)

    assert (await approved(arbiter, id, second))["judged_by"] == second.name


async def test_what_was_forced_and_never_approved_does_not_come_back_by_a_rollback(arbiter: Arbiter) -> None:
    proposal = await proposed(arbiter)
    await activated(arbiter, proposal["id"], LI, **FORCED)
    await arbiter.approvals.roll_back(said(reason="no good"), LI)
    with pytest.raises(Conflict, match="nobody else has approved it"):
        await arbiter.approvals.roll_back(said(reason="again", to=proposal["hash"]), LI)
    await approved(arbiter, proposal["id"], WANG)

    again = said(reason="again", to=proposal["hash"])
    assert (await arbiter.approvals.roll_back(again, LI))["hash"] == proposal["hash"]


async def test_what_is_approved_need_not_be_forced(arbiter: Arbiter) -> None:
    id = (await proposed(arbiter))["id"]
    await approved(arbiter, id)
    with pytest.raises(Conflict):
        await activated(arbiter, id, WANG, **FORCED)


async def test_a_rulebook_with_a_mistake_is_not_proposed(arbiter: Arbiter) -> None:
    bad = {**SMALL, "rules/small.yaml": RULES.replace("tries >= 3", "trys >= 3")}
    for files, what in ((bad, "trys"), (FAILING, "fires at one")):
        with pytest.raises(PackError, match=what):
            await proposed(arbiter, files)

    assert (await arbiter.approvals.proposals(LI), await steps(arbiter)) == ([], [])


async def test_what_changes_nothing_is_not_proposed(arbiter: Arbiter) -> None:
    with pytest.raises(Conflict, match="in force already"):
        await proposed(arbiter, SMALL)


BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"files": {}}, "files"),
    "a path that leaves the folder": ({"files": {"rules/../../etc/x.yaml": ""}}, "files"),
    "an absolute path": ({"files": {"/rules/x.yaml": ""}}, "files"),
    "a folder of its own": ({"files": {"secrets/x.yaml": ""}}, "files"),
    "a folder alone": ({"files": {"rules": ""}}, "files"),
    "a control character": ({"files": {"rules/a\nb.yaml": ""}}, "files"),
    "a paper with a path": ({"files": SMALLER, "papers": {"../x": ""}}, "papers"),
    "papers too large": ({"files": SMALLER, "papers": {"x": "x" * 1_100_000}}, "papers"),
    "a name longer than a file system takes": ({"files": {f"rules/{'规' * 100}.yaml": ""}}, "files"),
    "a file where another has a folder": ({"files": {"rules/a": "", "rules/a/b.yaml": ""}}, "files"),
    "a NUL": ({"files": SMALLER, "reason": "a\0b"}, "reason"),
    "files that are no text": ({"files": {"rules/x.yaml": 3}}, "(a name that is not shown)"),
}


@pytest.mark.parametrize("what", BAD_BODIES)
async def test_a_body_that_is_no_proposal_is_refused(arbiter: Arbiter, what: str) -> None:
    body, path = BAD_BODIES[what]
    with pytest.raises(BodyRefused) as refused:
        await arbiter.approvals.propose(said(**{"reason": "x", **body}), LI)

    assert refused.value.problems[0].path.startswith(path)


async def test_a_proposal_whose_activation_failed_can_be_activated_again(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = (await proposed(arbiter))["id"]
    await approved(arbiter, id)
    append = arbiter._ledger.append

    async def fails(entry: Any) -> Any:
        if entry.event_kind == "rulebook":
            raise ArbiterError("the disk is full")
        return await append(entry)

    with monkeypatch.context() as patched:
        patched.setattr(arbiter._ledger, "append", fails)
        with pytest.raises(ArbiterError, match="full"):
            await activated(arbiter, id)
    assert await score(arbiter, "p1", 41) == 40
    assert (await arbiter.approvals.proposal(id, LI))["state"] == "approved"
    assert (await activated(arbiter, id))["proposal"]["state"] == "in_force"


async def test_two_rollbacks_in_a_row_do_not_bring_the_bad_rulebook_back(arbiter: Arbiter) -> None:
    proposal = await proposed(arbiter)
    await approved(arbiter, proposal["id"])
    await activated(arbiter, proposal["id"])
    await arbiter.approvals.roll_back(said(reason="wrong"), WANG)
    with pytest.raises(Conflict, match="by a rollback already"):
        await arbiter.approvals.roll_back(said(reason="wrong"), LI)
    back = await arbiter.approvals.roll_back(said(reason="it was right", to=proposal["hash"][:12]), LI)

    assert back["hash"] == proposal["hash"]


async def test_nobody_blocks_a_rollback_by_a_proposal(arbiter: Arbiter) -> None:
    proposal = await proposed(arbiter)
    await approved(arbiter, proposal["id"])
    await activated(arbiter, proposal["id"])
    await proposed(arbiter, SMALL, ZHAO)

    assert (await arbiter.approvals.roll_back(said(reason="wrong"), WANG))["hash"] == proposal["base"]


async def test_what_only_lay_in_the_archive_is_nothing_to_roll_back_to(arbiter: Arbiter) -> None:
    await proposed(arbiter)
    other = book_of(STRICTER)
    await arbiter._force._library.keep(other)
    with pytest.raises(NotFound):
        await arbiter.approvals.roll_back(said(reason="x", to=other.hash), WANG)


async def test_nothing_goes_back_to_what_never_was(arbiter: Arbiter) -> None:
    with pytest.raises(Conflict, match="no other rulebook"):
        await arbiter.approvals.roll_back(said(reason="x"), WANG)
    with pytest.raises(NotFound):
        await arbiter.approvals.roll_back(said(reason="x", to="0" * 64), WANG)
    with pytest.raises(Conflict, match="in force"):
        await arbiter.approvals.roll_back(said(reason="x", to=arbiter.rulebook_info()["hash"]), WANG)


async def test_an_unknown_proposal_is_not_found(arbiter: Arbiter) -> None:
    for step in (approved(arbiter, "0" * 32), activated(arbiter, "0" * 32), arbiter.approvals.proposal("0" * 32, LI)):
        with pytest.raises(NotFound):
            await step


async def test_where_no_approval_is_needed_packs_come_from_their_folders_alone(
    on_sqlite: Settings, clock: Clock
) -> None:
    """A rulebook that came into force otherwise would be gone after the next start."""
    async with running(replace(on_sqlite, approval="none"), clock) as arbiter:
        for step in (proposed(arbiter), approved(arbiter, "x"), activated(arbiter, "x")):
            with pytest.raises(Conflict, match="ARBITER_APPROVAL"):
                await step
        with pytest.raises(Conflict, match="ARBITER_APPROVAL"):
            await arbiter.approvals.roll_back(said(reason="x"), WANG)


def test_approval_is_none_or_required() -> None:
    with pytest.raises(SettingsError, match="ARBITER_APPROVAL is 'maybe'"):
        Settings.read({"ARBITER_APPROVAL": "maybe"})


async def test_a_change_whose_record_cannot_be_written_does_not_happen(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = (await proposed(arbiter))["id"]
    await approved(arbiter, id)
    append = arbiter._ledger.append

    async def fails(*entries: Any, **more: Any) -> Any:
        if entries[0].kind == "change":
            raise ArbiterError("the disk is full")
        return await append(*entries, **more)

    with monkeypatch.context() as patched:
        patched.setattr(arbiter._ledger, "append", fails)
        with pytest.raises(ArbiterError, match="full"):
            await activated(arbiter, id)
    assert await score(arbiter, "p1", 41) == 40
    assert (await activated(arbiter, id))["proposal"]["state"] == "in_force"
    assert await score(arbiter, "p2", 42) == 40
