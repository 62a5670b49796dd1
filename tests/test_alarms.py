"""Alert lines over time: raised once, over once, recorded, kept over a restart, and told to whoever listens."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from api.desk import Meters
from cli import main
from engine.alarms import STATE, STEPS, Alarms, Counts, Sliding, Turn, Watch, step
from engine.alerts import Line
from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.errors import NotFound, Unavailable
from engine.figures import Change, Of
from engine.metrics import METRICS, MINUTE, Figure
from engine.team import Alone
from tests import books
from tests.test_figures import outcome

HOUR = 60 * MINUTE
OFFICER = Caller("li.si", "person", "shop-a", frozenset({"rules", "admin"}))
LINE = Line(
    *("l", "risk", METRICS["declines"], frozenset(), "", HOUR, 0, 0.5, None, 1, 2 * MINUTE, 0.4, 3 * MINUTE),
    *("high", (("en", "{value}"), ("zh", "{value}")), None),
)
HIGH, MIDDLE, LOW = 0.6, 0.45, 0.3


def after(values: Sequence[float | None]) -> str:
    """How a line stands after each look, a minute apart: r where it is raised."""
    shown, watch = "", Watch()
    for number, value in enumerate(values):
        figures = [] if value is None else [Figure(value, None, None, 9)]
        watch = step(LINE, watch, figures, number * MINUTE)
        shown += "r" if watch.raised else "."
    return shown


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([HIGH, HIGH, HIGH], "..r"),
        ([HIGH, HIGH, MIDDLE, HIGH, HIGH, HIGH], ".....r"),
        ([HIGH] * 3 + [LOW] * 4, "..rrrr."),
        ([HIGH] * 3 + [LOW, LOW, MIDDLE, LOW, LOW, LOW, LOW], "..rrrrrrr."),
        ([HIGH] * 3 + [MIDDLE] * 9, "..r" + "r" * 9),
        ([HIGH] * 3 + [LOW, HIGH] * 5, "..r" + "r" * 10),
        ([HIGH] * 3 + [None] * 4, "..rrrr."),
        ([None] * 3, "..."),
        ([LOW, HIGH] * 4, "........"),
    ],
)
def test_a_line_is_raised_when_it_holds_and_over_when_it_is_back_for_long(
    values: list[float | None], wanted: str
) -> None:
    assert after(values) == wanted


def test_a_figure_around_the_line_turns_once_where_a_bare_threshold_turns_again_and_again() -> None:
    rng = random.Random(20261130)
    values = [0.5 + rng.gauss(0, 0.08) for _ in range(600)]
    bare = "".join("r" if value > 0.5 else "." for value in values)
    shown = after(values)
    assert bare.count(".r") > 100
    assert shown.count(".r") <= bare.count(".r") / 20


def test_of_several_currencies_one_is_enough_to_raise_and_all_must_be_back() -> None:
    line = replace(LINE, holds=0, calm=0)
    both = [Figure(HIGH, None, None, 9, "CNY"), Figure(LOW, None, None, 9, "USD")]
    assert step(line, Watch(), both, 0).raised
    assert step(line, Watch(raised=True), both, 0).raised
    assert not step(line, Watch(raised=True), [each._replace(value=LOW) for each in both], 0).raised


# Sliding sums


def change(at: int, declined: int, tier: str = "standard", before: dict[Any, int] | None = None) -> Change:
    of = Of("shop-a", "payment", tier, (), "", "")
    return Change(of, at, before or {}, {"events": 1, "declined": declined})


def shares(sliding: Sliding, now: int) -> dict[str, float]:
    return {group: figures[0].value for (_, group), figures in sliding.figures(now) if figures}


def test_a_line_looks_at_its_time_and_forgets_what_is_older() -> None:
    sliding = Sliding(replace(LINE, over=STEPS * 10))
    for at in range(0, STEPS * 10, 10):
        sliding.add(change(at, at < 300))
    assert shares(sliding, STEPS * 10 - 1) == {"": 0.5}
    assert shares(sliding, STEPS * 10 + 299) == {"": 0.0}
    assert shares(sliding, STEPS * 30) == {}


def test_a_correction_counts_where_its_event_was() -> None:
    sliding = Sliding(replace(LINE, over=STEPS * 10))
    sliding.add(change(5, 0))
    sliding.add(change(5, 1, before={"events": 1, "declined": 0}))
    assert shares(sliding, 10) == {"": 1.0}


def test_what_is_not_ripe_waits() -> None:
    line = replace(LINE, over=STEPS * 10, label_delay=1_000)
    sliding = Sliding(line)
    sliding.add(change(5, 1))
    assert shares(sliding, 500) == {}
    assert shares(sliding, 1_005) == {"": 1.0}


def test_a_line_is_told_apart_and_keeps_to_its_kinds() -> None:
    sliding = Sliding(replace(LINE, by="tier", kinds=frozenset({"payment"})))
    sliding.add(change(5, 1, "watched"))
    sliding.add(change(5, 0))
    sliding.add(replace(change(5, 1), of=Of("shop-a", "listing", "standard", (), "", "")))
    assert shares(sliding, 10) == {"watched": 1.0, "standard": 0.0}


def test_failures_are_counted_on_where_a_process_begins_anew() -> None:
    counts = Counts()
    for now, total in ((0, 5), (10, 7), (20, 1)):
        counts.add(now, {0: total})
    assert counts.within(20, 100, 100) == 8
    assert counts.within(20, 15, 100) == 3
    assert counts.within(200, 100, 100) == 0


# A server

ALERTS = """\
alerts: shop
about: What the night shift is called for.
owner: payments-risk
lines:
  - id: declines-jump
    metric: declines
    by: tier
    over: 1h
    above: 50%
    at_least_events: 4
    for: 5m
    clear: {for: 10m}
    severity: high
    message: {en: "{value} of {of} declined", zh: "{of} 的 {value} 被拒绝"}
    playbook: misfire
  - id: missed-fraud
    metric: interception
    over: 1d
    label_delay: 1d
    below: 95%
    severity: medium
    message: {en: "{value} stopped", zh: "拦截 {value}"}
  - id: many-complaints
    metric: complaints
    by: merchant
    over: 1d
    above: 1
    severity: medium
    message: {en: "{value} about {of}", zh: "{of} 有 {value} 起投诉"}
  - id: store-fails
    metric: store_failures
    over: 15m
    above: 2
    severity: critical
    message: {en: "{value} failures", zh: "{value} 次失败"}
"""
FILES = {**books.SMALL, "policies/alerts/shop.yaml": ALERTS}


def given(folder: Path, url: str, key: Path) -> Settings:
    return Settings(database_url=url, key_file=key, rules=folder / "rules", policies=folder / "policies")


async def raised(arbiter: Arbiter) -> set[str]:
    await arbiter.alarms.look()
    return {"/".join(filter(None, place[1:])) for place in arbiter.alarms.raised}


@pytest.mark.anyio
async def test_an_alert_from_its_line_to_its_end(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    clock = books.Clock()
    turns: list[Turn] = []
    async with books.running(given(tmp_path, ledger_url, key_path), clock) as arbiter:
        arbiter.alarms.on_turn(turns.append)
        for number in range(4):
            await books.judged(arbiter, books.payment(f"e{number}", 90))
        assert await raised(arbiter) == set(), "it must hold for five minutes"
        clock.now += 5 * MINUTE
        assert await raised(arbiter) == {"declines-jump/standard"}
        state = await arbiter.alerts(OFFICER)
        (alert,) = state["raised"]
        assert (alert["message"]["en"], alert["cases"], alert["playbook"]) == (
            "100.00% of standard declined",
            4,
            "misfire",
        )
        jump = next(line for line in state["lines"] if line["id"] == "declines-jump")
        assert jump["figures"] == [{"group": "standard", "value": "1.000000", "cases": 4, "currency": ""}]
        assert (await arbiter.alerts(replace(OFFICER, tenant="shop-b")))["raised"] == []
        text = Meters(dict, alarms=lambda: arbiter.alarms).text().decode()
        assert 'arbiter_alert{line="declines-jump",severity="high",tenant="shop-a"} 1.0' in text
        assert 'arbiter_alert{line="many-complaints",severity="medium",tenant="shop-a"} 0.0' in text
        assert 'group="standard",line="declines-jump",metric="declines",tenant="shop-a"} 1.0' in text
        assert 'line="many-complaints",metric' not in text, "merchants are many"
        # A verdict that is better now: enough good ones to bring the share below the line.
        for number in range(8):
            await books.judged(arbiter, books.payment(f"g{number}", 5))
        assert await raised(arbiter) == {"declines-jump/standard"}
        clock.now += 10 * MINUTE
        assert await raised(arbiter) == set()
        assert await raised(arbiter) == set(), "it is over once"
    assert [(turn.raised, turn.alert.line, turn.alert.group, turn.alert.playbook) for turn in turns] == [
        (True, "declines-jump", "standard", "misfire"),
        (False, "declines-jump", "standard", "misfire"),
    ]
    told = await asyncio.to_thread(command, ledger_url, key_path, "--since", "2026-11-01", "--json")
    (entry,) = json.loads(told.stdout)
    assert entry["line"] == "declines-jump"
    assert entry["until"] == entry["since"] + 10 * MINUTE
    assert json.loads((await asyncio.to_thread(command, ledger_url, key_path, "--json")).stdout) == []


@pytest.mark.anyio
async def test_an_alert_is_as_it_was_after_a_restart(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    clock, settings = books.Clock(), given(tmp_path, ledger_url, key_path)
    async with books.running(settings, clock) as arbiter:
        for number in range(4):
            await books.judged(arbiter, books.payment(f"e{number}", 90))
        await raised(arbiter)
        clock.now += 5 * MINUTE
        assert await raised(arbiter) == {"declines-jump/standard"}
    turns: list[Turn] = []
    clock.now += MINUTE
    async with books.running(settings, clock) as arbiter:
        arbiter.alarms.on_turn(turns.append)
        assert await raised(arbiter) == {"declines-jump/standard"}
        (alert,) = arbiter.alarms.raised.values()
        assert alert.since == books.NOW + 5 * MINUTE
        assert turns == [], "it was raised before"
        # An hour later its events are out of sight: what has too few cases is back.
        clock.now += 70 * MINUTE
        await raised(arbiter)
        clock.now += 10 * MINUTE
        assert await raised(arbiter) == set()
        assert [turn.raised for turn in turns] == [False]


@pytest.mark.anyio
async def test_a_line_that_is_taken_out_is_over(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    clock = books.Clock()
    async with books.running(given(tmp_path, ledger_url, key_path), clock) as arbiter:
        for number in range(4):
            await books.judged(arbiter, books.payment(f"e{number}", 90))
        await raised(arbiter)
        clock.now += 5 * MINUTE
        assert await raised(arbiter) == {"declines-jump/standard"}
        books.write(tmp_path, {"policies/alerts/shop.yaml": ALERTS.replace("declines-jump", "declines-soar")})
        await arbiter.reload(OFFICER)
        assert await raised(arbiter) == set()
        clock.now += 5 * MINUTE
        assert await raised(arbiter) == {"declines-soar/standard"}


@pytest.mark.anyio
async def test_lines_of_outcomes_complaints_and_the_store(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    clock = books.Clock()
    async with books.running(given(tmp_path, ledger_url, key_path), clock) as arbiter:
        await books.judged(arbiter, books.payment("fraud", 5))
        await arbiter.observe(outcome("fraud", "chargeback"), books.SHOP)
        assert await raised(arbiter) == set(), "its label delay is not over"
        clock.now += 25 * HOUR
        assert await raised(arbiter) == {"missed-fraud"}
        for number in range(2):
            body = {
                "kind": "complaint",
                "event_id": f"c{number}",
                "at": "2026-11-24T13:00:00Z",
                "complaint": {"reason": "counterfeit"},
                "merchant": {"id": "m-1"},
            }
            await arbiter.observe(orjson.dumps(body), books.SHOP)
            assert await raised(arbiter) == {"missed-fraud"} | ({"many-complaints/m-1"} if number else set())
        arbiter.alarms._own = lambda: ({}, 3)
        assert "store-fails" in await raised(arbiter)
        assert {alert["line"] for alert in (await arbiter.alerts(OFFICER))["raised"]} == {
            "missed-fraud",
            "many-complaints",
            "store-fails",
        }


class Beside(Alone):
    """Another process of a server, which hears what the first one says, as JSON."""

    index, size = 1, 2

    def __init__(self, said: Any) -> None:
        super().__init__()
        self._said = said

    async def ask(self, what: str) -> dict[int, Any]:
        return {0: json.loads(json.dumps(self._said))} if what == STATE and self._said else {}


@pytest.mark.anyio
async def test_every_process_tells_what_the_one_that_watches_knows(
    tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    books.write(tmp_path, FILES)
    clock = books.Clock()
    async with books.running(given(tmp_path, ledger_url, key_path), clock) as arbiter:
        arbiter.alarms._own = lambda: ({}, 3)
        assert await raised(arbiter) == {"store-fails"}
        first = await arbiter.alerts(OFFICER)

        def beside(said: Any) -> Alarms:
            parts = (arbiter._ledger, arbiter._force.rulebook, lambda: arbiter._live.rulebook, arbiter._journal)
            return Alarms(*parts, Beside(said), clock, lambda: ({}, 0))

        assert await beside(arbiter.alarms._state()).state("shop-a") == first
        assert not beside(None).watched
        with pytest.raises(Unavailable, match="does not answer yet"):
            await beside(None).state("shop-a")
        other = beside(None)
        await other.keep()  # ends at once: another process watches
        assert other.raised == {}


@pytest.mark.anyio
async def test_who_listens_and_fails_ends_nothing(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    clock = books.Clock()
    heard: list[Turn] = []

    async def listens(turn: Turn) -> None:
        heard.append(turn)

    def fails(_: Turn) -> None:
        raise NotFound("the playbook is gone")

    async with books.running(given(tmp_path, ledger_url, key_path), clock) as arbiter:
        arbiter.alarms.on_turn(fails)
        arbiter.alarms.on_turn(listens)
        arbiter.alarms._own = lambda: ({}, 3)
        assert await raised(arbiter) == {"store-fails"}
        record = await arbiter.decision(heard[0].id, replace(OFFICER, tenant="*"))
    assert (record["record"]["what"], record["record"]["object"]) == ("alert_raised", "store-fails")
    shown = await asyncio.to_thread(command, ledger_url, key_path, "--lang", "zh")
    assert "store-fails: 3 次失败" in shown.stdout


def command(url: str, key: Path, *words: str) -> Any:
    settings = {"ARBITER_DATABASE_URL": url, "ARBITER_KEY_FILE": str(key)}
    found = CliRunner().invoke(main, ["alerts", "--tenant=shop-a", *words], env=settings)
    assert found.exit_code == 0, found.output
    return found
