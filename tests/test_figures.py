"""What decisions came to: counted once, and kept right as resolutions, outcomes and corrections come in."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event

from cli import main
from cli.figures import printed, rows
from engine.arbiter import Arbiter
from engine.archive import Library
from engine.assembly import Settings
from engine.errors import NotFound
from engine.figures import MOST_GROUPS, OTHERS, Change, Ends, Follower, Known, Pile, count, sums_of
from engine.ledger import Ledger, following
from engine.metrics import METRICS, Key
from engine.money import Money
from engine.targets import Targets
from tests import books
from tests.told import TOLD

ENDS = Ends("approve", "decline")
DAY = 86_400 * books.SECOND
TARGETS = """\
targets: shop
about: What the team is held to.
owner: payments-risk
label_delay: 1d
goals:
  - {metric: interception, at_least: 95%}
  - {metric: loss, at_most: 3 bp}
"""
FILES = {**books.SMALL, "policies/targets.yaml": TARGETS}


# One case


def first(verdict: str = "approve", amount: str | None = "100.00 CNY", **more: Any) -> dict[str, Any]:
    asks = {"review": {"review": {"queue": "desk", "due_s": 1800}}, "challenge": {"challenge": {"expires_s": 900}}}
    public = {} if amount is None else {"amount": {"$m": amount}}
    return {
        "type": "decision",
        "verdict": verdict,
        "asks": asks.get(verdict),
        "decided_at": books.NOW,
        "situation": {"degraded": []},
        "event": {"public": public},
        **more,
    }


def then(told: str) -> dict[str, Any]:
    """A resolution, such as 'review approved approve'; the last word is the verdict after it, if there is one."""
    what, said, *verdict = told.split()
    return {
        "type": "appeal" if what == "appeal" else "resolution",
        "what": what,
        "said": said,
        "counted": said,
        "verdict": verdict[0] if verdict else None,
        "asks": first(*verdict)["asks"],
        "by": {"person": "li.si" if what in ("review", "appeal") and said != "late" else ""},
        "decided_at": books.NOW + 10 * books.MINUTE,
    }


FRAUD = Known(1, 1, "chargeback", None)
GOOD = Known(1, 1, "false_positive", None)
# What it is, the verdict, what came after it, what became known, which sums have it, which have not.
CASES: list[tuple[str, str, str, Known | None, str, str]] = [
    ("passed", "approve", "", None, "", "stopped held wrong fraud"),
    ("declined", "decline", "", None, "stopped declined held", "wrong fraud"),
    ("declined fraud", "decline", "", FRAUD, "stopped held fraud fraud_stopped", "wrong"),
    ("passed fraud", "approve", "", FRAUD, "fraud", "stopped fraud_stopped held"),
    ("declined, reported good", "decline", "", GOOD, "held wrong stopped", "fraud"),
    ("passed, reported good", "approve", "", GOOD, "", "wrong held"),
    ("asked", "challenge", "", None, "challenged", "stopped held"),
    ("failed", "challenge", "challenge failed decline", None, "stopped", "held declined"),
    ("asked and passed", "challenge", "challenge passed approve", None, "", "stopped held wrong"),
    ("reviewed", "review", "", None, "reviewed held review_open", "stopped wrong review_ended"),
    ("let through", "review", "review approved approve", None, "held wrong review_ended", "stopped review_open"),
    ("let through, fraud", "review", "review approved approve", FRAUD, "held fraud", "wrong stopped"),
    ("turned down", "review", "review rejected decline", None, "held stopped review_ended", "wrong declined"),
    ("nobody came", "review", "review late decline", None, "review_late stopped", "review_ended wrong"),
    ("then reviewed", "challenge", "challenge abandoned review", None, "held review_opened review_open", "reviewed"),
    ("appealed", "decline", "appeal lifted approve", None, "held wrong declined", "stopped"),
    ("appealed in vain", "decline", "appeal upheld", None, "held stopped", "wrong"),
    ("nobody answered", "decline", "appeal late approve", None, "held", "wrong stopped"),
    ("captured", "decline", "enforced captured", FRAUD, "fraud held", "stopped fraud_stopped"),
    ("blocked", "approve", "enforced blocked", FRAUD, "stopped fraud_stopped", "held"),
    ("set aside", "decline", "enforced overridden", None, "held", "stopped wrong"),
]


@pytest.mark.parametrize(
    ("verdict", "later", "known", "yes", "no"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_what_a_decision_adds_to_the_sums(verdict: str, later: str, known: Known | None, yes: str, no: str) -> None:
    found = sums_of(first(verdict), [then(later)] if later else [], known, ENDS)
    assert found["events"] == 1
    assert [name for name in yes.split() if not found.get(name)] == []
    assert [name for name in no.split() if found.get(name)] == []


def test_a_decision_while_something_did_not_work_is_counted_as_such() -> None:
    assert sums_of(first(situation={"degraded": ["deadline"]}), [], None, ENDS)["degraded"] == 1


def test_money_is_lost_where_fraud_went_through_and_saved_where_it_was_stopped() -> None:
    lost, saved = sums_of(first(), [], FRAUD, ENDS), sums_of(first("decline"), [], FRAUD, ENDS)
    assert (lost["lost", "CNY"], lost["volume", "CNY"], lost.get(("saved", "CNY"))) == (10_000, 10_000, None)
    assert (saved["saved", "CNY"], saved["fraud_worth", "CNY"]) == (10_000, 10_000)
    assert ("volume", "CNY") not in saved


@pytest.mark.parametrize(("loss", "wanted"), [("30.00 CNY", 3_000), ("30.00 USD", 10_000), (None, 10_000)])
def test_a_loss_that_was_reported_counts_in_the_currency_of_the_order(loss: str | None, wanted: int) -> None:
    known = FRAUD._replace(loss=None if loss is None else Money.parse(loss))
    assert sums_of(first(), [], known, ENDS)["lost", "CNY"] == wanted


def test_an_event_without_an_amount_counts_and_brings_no_money() -> None:
    found = sums_of(first(amount=None), [], FRAUD, ENDS)
    assert found == {"events": 1, "fraud": 1}


def test_the_time_of_a_review_is_from_its_opening_to_its_end() -> None:
    found = sums_of(first("review"), [then("review approved approve")], None, ENDS)
    (figure,) = METRICS["review_time_p50"].figures(found, books.NOW, DAY)
    assert abs(figure.value / (10 * books.MINUTE) - 1) < 0.011


def test_values_beyond_the_limit_are_summed_as_one() -> None:
    pile = Pile()
    for number in range(MOST_GROUPS + 3):
        pile.add(str(number), {"events": 1})
    assert len(pile.groups) == MOST_GROUPS + 1
    assert pile.groups[OTHERS] == {"events": 3}


# The ledger


@asynccontextmanager
async def shop(folder: Path, url: str, key: Path) -> AsyncIterator[tuple[Arbiter, books.Clock]]:
    books.write(folder, FILES)
    given = Settings(database_url=url, key_file=key, rules=folder / "rules", policies=folder / "policies")
    clock = books.Clock()
    async with books.running(given, clock) as arbiter:
        yield arbiter, clock


def outcome(of: str, result: str, number: int = 0, **more: Any) -> bytes:
    told = {"refers_to": of, "result": result, **more}
    body = {"kind": "outcome", "event_id": f"o-{of}-{number}", "at": "2026-11-23T12:00:00Z", "outcome": told}
    return orjson.dumps(body)


def resolved(what: str, result: str) -> bytes:
    return orjson.dumps({"what": what, "result": result, "reason": "looked at"})


@dataclass
class Kept:
    """Sums kept by a follower."""

    sums: dict[Key, int] = field(default_factory=dict)

    def take(self, change: Change) -> None:
        for times, side in ((-1, change.before), (1, change.after)):
            for key, n in side.items():
                self.sums[key] = self.sums.get(key, 0) + times * n

    @property
    def found(self) -> dict[Key, int]:
        return {key: n for key, n in self.sums.items() if n}


async def naive(arbiter: Arbiter, told: Mapping[str, list[Known]]) -> dict[Key, int]:
    """The same sums from every case read whole."""
    found: dict[Key, int] = {}
    listed = (await arbiter.decisions(books.LI, limit=200))["items"]
    for item in listed:
        whole = await arbiter.decision(item["id"], books.LI)
        outcomes = told.get(item["event_id"], [])
        known = max(outcomes, key=lambda each: each[:2]) if outcomes else None
        for key, n in sums_of(whole["record"], whole["resolutions"], known, ENDS).items():
            found[key] = found.get(key, 0) + n
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_sums_kept_as_the_ledger_grows_are_those_of_every_case_read_whole(
    seed: int, tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    rng = random.Random(seed)
    async with shop(tmp_path, ledger_url, key_path) as (arbiter, clock):
        ledger: Ledger = arbiter._ledger
        kept, told, ids = Kept(), {}, {}  # type: ignore[var-annotated]
        follower = Follower(ledger, Library(ledger.database, clock).find, kept.take)
        await follower.begin(0)
        for number in range(60):
            clock.now += books.SECOND
            done = rng.random()
            if done < 0.5 or not ids:
                event = f"e{number}"
                answer = await books.judged(arbiter, books.payment(event, rng.choice([5, 41, 61, 90])))
                ids[event] = answer["id"]
            elif done < 0.75:
                event = rng.choice(list(ids))
                result = rng.choice(["chargeback", "false_positive", "confirmed_fraud"])
                await arbiter.observe(outcome(event, result, number, loss="3.00 CNY"), books.SHOP)
                told.setdefault(event, []).append(Known(books.NOW, number, result, Money(300, "CNY")))
            else:
                event = rng.choice(list(ids))
                now = (await arbiter.decision(ids[event], books.LI))["verdict"]
                report = {
                    "challenge": resolved("challenge", rng.choice(["passed", "failed", "abandoned"])),
                    "review": resolved("review", rng.choice(["approved", "rejected"])),
                }.get(now, resolved("enforced", rng.choice(["captured", "blocked", "overridden"])))
                await arbiter.resolve(ids[event], report, books.LI)
            if rng.random() < 0.4:
                await follower.go()
        await follower.go()
        assert kept.found == await naive(arbiter, told)
        assert await follower.go() == 0, "each entry is read once"
        again = Kept()
        anew = Follower(ledger, Library(ledger.database, clock).find, again.take)
        await anew.begin(0)
        await anew.go()
        assert again.found == kept.found


@pytest.mark.anyio
async def test_what_has_not_had_its_time_is_in_no_figure_of_how_events_ended(
    tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    async with shop(tmp_path, ledger_url, key_path) as (arbiter, clock):
        for event, amount in (("old", 90), ("old-passed", 5)):
            await books.judged(arbiter, books.payment(event, amount))
        await arbiter.observe(outcome("old", "confirmed_fraud"), books.SHOP)
        clock.now += DAY
        await books.judged(arbiter, books.payment("new", 5))
        await arbiter.observe(outcome("new", "chargeback"), books.SHOP)
        ledger: Ledger = arbiter._ledger
        library = Library(ledger.database, clock)
        found = await count(ledger, library.find, "shop-a", 0, clock.now + 1, "kind", DAY, clock.now)
        assert found.unripe == 1
        assert found.all["payment", "payment"]["events"] == 3
        assert (found.ripe["payment", "payment"]["events"], found.ripe["payment", "payment"]["fraud"]) == (2, 1)
        later = await count(ledger, library.find, "shop-a", 0, clock.now + 1, "kind", DAY, clock.now + DAY)
        assert (later.unripe, later.ripe["payment", "payment"]["fraud"]) == (0, 2)
        # Another period, and another tenant, have none of it.
        none = await count(ledger, library.find, "shop-a", 0, books.NOW, "kind", DAY, clock.now)
        assert none.all == {}
        other = await count(ledger, library.find, "shop-b", 0, clock.now + 1, "kind", DAY, clock.now)
        assert other.all == {}


@pytest.mark.anyio
async def test_what_an_appeal_lifts_was_held_wrongly(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, TOLD)
    given = Settings(
        database_url=ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies"
    )
    clock, kept = books.Clock(), Kept()
    async with books.running(given, clock) as arbiter:
        ledger: Ledger = arbiter._ledger
        follower = Follower(ledger, Library(ledger.database, clock).find, kept.take)
        answer = await books.judged(arbiter, books.payment("a", 85))
        assert answer["verdict"] == "decline"
        await follower.begin(0)
        await follower.go()
        assert (kept.found["held"], kept.found.get("wrong"), kept.found["stopped"]) == (1, None, 1)
        clock.now += books.MINUTE
        new = {"kind": "appeal", "ref": "a-1", "reason": "It was me."}
        opened = await arbiter.hearings.open(answer["id"], orjson.dumps(new), books.SHOP)
        await follower.go()
        assert (kept.found.get("wrong"), kept.found["stopped"]) == (None, 1)
        end = {"what": "decide", "result": "lifted", "en": "It was you.", "zh": "经核实为本人。"}
        await arbiter.hearings.step(answer["id"], opened["appeal"]["id"], orjson.dumps(end), books.LI)
        await follower.go()
        assert (kept.found["held"], kept.found["wrong"], kept.found.get("stopped")) == (1, 1, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("kind", {"payment"}),
        ("tier", {"standard"}),
        ("rule", {"small.decline", "small.challenge"}),
        ("merchant", {"m-1", "m-2", ""}),
        ("merchant-category", {"toys", ""}),
    ],
)
async def test_figures_are_told_apart_by(
    by: str, groups: set[str], tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    async with shop(tmp_path, ledger_url, key_path) as (arbiter, clock):
        await books.judged(arbiter, books.payment("a", 90, merchant={"id": "m-1", "category": "toys"}))
        await books.judged(arbiter, books.payment("b", 41, merchant={"id": "m-2"}))
        await books.judged(arbiter, books.payment("c", 5))
        ledger: Ledger = arbiter._ledger
        find = Library(ledger.database, clock).find
        found = await count(ledger, find, "shop-a", 0, clock.now + 1, by, 0, clock.now)
        assert {group for _, group in found.all} == groups
        text = "\n".join(printed(found, rows(found, Targets())))
        assert all(group in text for group in groups)


@pytest.mark.anyio
async def test_a_decision_under_a_rulebook_that_nobody_can_read_is_counted_as_such(
    tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    async def lost(_: str) -> Any:
        raise NotFound("gone")

    async with shop(tmp_path, ledger_url, key_path) as (arbiter, clock):
        await books.judged(arbiter, books.payment("a", 90))
        found = await count(arbiter._ledger, lost, "shop-a", 0, clock.now + 1, "kind", 0, clock.now)
        assert (found.unread, found.all) == (1, {})


# The command


@pytest.mark.anyio
async def test_the_command_tells_figures_beside_their_targets(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    async with shop(tmp_path, ledger_url, key_path) as (arbiter, _):
        for number in range(40):
            await books.judged(arbiter, books.payment(f"f{number}", 90 if number < 20 else 5))
            await arbiter.observe(outcome(f"f{number}", "confirmed_fraud"), books.SHOP)
    found = await run_beside(tmp_path, ledger_url, key_path, "--json")
    assert found.exit_code == 0, found.output
    told = {each["metric"]: each for each in json.loads(found.stdout)["figures"]}
    assert told["interception"]["value"] == "0.500000"
    assert (told["interception"]["target"], told["interception"]["judgement"]) == ("≥ 95.00%", "missed")
    assert (told["loss"]["value"], told["loss"]["currency"]) == ("10000.000000", "CNY")
    shown = await run_beside(tmp_path, ledger_url, key_path)
    assert "interception" in shown.stdout
    assert "missed" in shown.stdout
    assert "40" in shown.stdout
    assert (await run_beside(tmp_path, ledger_url, key_path, "--kind", "listing")).stdout == ""
    wrong = await run_beside(tmp_path, ledger_url, key_path, "--kind", "paymen")
    assert "no kind of event 'paymen'; did you mean 'payment'?" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "2026-11-20", "--to", "2026-11-01"], "--from lies behind --to"),
        (["--from", "yesterday"], "--from: write a day"),
        (["--label-delay", "a week"], "--label-delay: write a duration"),
    ],
)
def test_wrong_options_are_told(options: list[str], said: str, tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    found = run(tmp_path, ledger_url, key_path, *options)
    assert found.exit_code == 2
    assert said in found.stderr


async def run_beside(*given: Any) -> Any:
    """The command in a thread of its own: it has its own loop."""
    return await asyncio.to_thread(run, *given)


def run(folder: Path, url: str, key: Path, *words: str) -> Any:
    given = {"ARBITER_DATABASE_URL": url, "ARBITER_KEY_FILE": str(key)}
    where = [f"--rules={folder / 'rules'}", f"--policies={folder / 'policies'}", "--tenant=shop-a"]
    period = [] if "--from" in words else ["--from", "2026-11-23T11:00:00Z"]
    period += [] if "--to" in words else ["--to", "2026-11-23T13:00:00Z"]
    return CliRunner().invoke(main, ["figures", *where, *period, *words], env=given)


# The database


@pytest.mark.anyio
async def test_no_look_goes_through_all_entries_of_a_tenant(tmp_path: Path, key_path: Path) -> None:
    """What SQLite does for each statement of a look: it searches by the arrival, an id, or what refers to one."""
    url = f"sqlite:///{tmp_path / 'planned.db'}"
    async with shop(tmp_path, url, key_path) as (arbiter, _):
        answer = await books.judged(arbiter, books.payment("a", 90))
        await arbiter.observe(outcome("a", "false_positive"), books.SHOP)
        await arbiter.resolve(answer["id"], resolved("enforced", "blocked"), books.LI)
        plans: list[str] = []

        def read(connection: Connection) -> None:
            def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
                rows = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                plans.extend(str(row[-1]) for row in rows)

            event.listen(connection, "before_cursor_execute", explain)
            rows = following.rows_above(-1, 100)(connection)
            assert following.grown([row for row, _ in rows], "shop-a")(connection).firsts

        await arbiter._ledger.database.read(read)
    searched = {plan.split(" USING ")[1] for plan in plans if " USING " in plan and "TEMP" not in plan}
    assert searched == {
        "INTEGER PRIMARY KEY (rowid>?)",
        "INTEGER PRIMARY KEY (rowid=?)",
        "INDEX entry_id (id=?)",
        "INDEX entry_event (tenant=? AND event_id=?)",
        "INDEX entry_refers_to (tenant=? AND refers_to=?)",
    }
