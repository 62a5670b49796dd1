"""Personal values are shown for a purpose, recorded before they are shown, not too often, and not unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from api import Limits
from engine.arbiter import Arbiter, Caller, Reveal
from engine.assembly import Settings
from engine.database import migrate
from engine.errors import NotAllowed, NotFound, RequestRefused, TooMuch, Unavailable
from engine.explain import SEALED
from engine.packs.moments import DAY
from engine.reveals import HOUR, Look, at_night, unusual, waiting
from tests.books import NOW, SECOND, SMALL, Clock, judged, payment, running, write
from tests.serving import ROOT, serve_in_process

pytestmark = pytest.mark.anyio

EVE = Caller("eve", "person", "shop-a", frozenset({"audit", "reveal"}))
BOT = Caller("bot", "service", "shop-a", frozenset({"audit", "reveal"}))
AUDITOR = Caller("audit", "person", "shop-a", frozenset({"audit"}))
LISTED = {"buyer": {"name": "张三"}, "ip": "192.0.2.9"}
APPEAL = Reveal("appeal", per_hour=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def arbiter(sqlite_url: str, key_path: Path, tmp_path: Path, clock: Clock) -> AsyncIterator[Arbiter]:
    write(tmp_path, SMALL)

    migrate(sqlite_url)
    settings = Settings(sqlite_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")
    async with running(settings, clock) as it:
        yield it


async def decision(arbiter: Arbiter, id: str = "p1") -> str:
    return str((await judged(arbiter, payment(id, 41, **LISTED)))["id"])


async def records(arbiter: Arbiter) -> list[dict[str, Any]]:
    return [orjson.loads(leaf) for leaf in await arbiter._ledger.accesses("shop-a", "reveal", 0)]


def values(shown: dict[str, Any]) -> Any:
    (rule,) = [rule for rule in shown["rules"] if rule["rule"] == "small.listed"]
    return rule["questions"][0]["values"]["ip"]


async def test_a_look_is_recorded_with_who_what_and_what_for(arbiter: Arbiter) -> None:
    id = await decision(arbiter)
    shown = await arbiter.explanation(id, EVE, APPEAL)
    (record,) = await records(arbiter)

    assert values(shown) == "192.0.2.9"
    assert shown["personal"] == {"shown": True, "purpose": "appeal", "record": record["id"]}
    told = {name: record[name] for name in ("type", "tenant", "what", "object", "purpose", "count", "by", "note")}
    assert told == {
        "type": "access",
        "tenant": "shop-a",
        "what": "reveal",
        "object": id,
        "purpose": "appeal",
        "count": 1,
        "by": {"name": "eve", "kind": "person", "person": "eve"},
        "note": None,
    }
    assert "192.0.2.9" not in str(record)
    assert arbiter.reveals.counts == {"appeal": 1}
    assert (await arbiter.decision(record["id"], AUDITOR))["record"] == record


async def test_without_a_purpose_it_stays_sealed_and_says_what_it_takes(arbiter: Arbiter) -> None:
    id = await decision(arbiter)
    for caller, needs in ((EVE, "a purpose"), (AUDITOR, "a key with the scope reveal, and a purpose")):
        shown = await arbiter.explanation(id, caller)
        assert values(shown) == SEALED
        assert shown["personal"]["needs"].startswith(needs + ", as in ?purpose=appeal: one of review, appeal")
    assert await records(arbiter) == []


REFUSED: list[tuple[Caller, str, type[Exception]]] = [
    (AUDITOR, "appeal", NotAllowed),
    (AUDITOR, "curiosity", NotAllowed),
    (EVE, "curiosity", RequestRefused),
    (EVE, "", RequestRefused),
]


@pytest.mark.parametrize(("caller", "purpose", "error"), REFUSED)
async def test_who_may_not_or_gives_no_real_purpose_is_refused(
    arbiter: Arbiter, caller: Caller, purpose: str, error: type[Exception]
) -> None:
    id = await decision(arbiter)
    for read in (arbiter.explanation, arbiter.decision):
        with pytest.raises(error):
            await read(id, caller, Reveal(purpose, 9))
    assert await records(arbiter) == []


async def test_what_is_not_there_is_no_look(arbiter: Arbiter) -> None:
    with pytest.raises(NotFound):
        await arbiter.explanation("none", EVE, APPEAL)
    assert await records(arbiter) == []


async def test_what_cannot_be_recorded_is_not_shown(arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    id = await decision(arbiter)

    async def down(entry: object) -> None:
        raise Unavailable("the commit was not acknowledged", "verdict_unknown")

    opened: list[object] = []
    monkeypatch.setattr(arbiter._ledger, "append", down)
    monkeypatch.setattr(arbiter._vault, "open", opened.append)
    with pytest.raises(Unavailable):
        await arbiter.explanation(id, EVE, APPEAL)
    assert opened == []


async def test_a_key_looks_so_often_in_an_hour_and_others_as_often(arbiter: Arbiter, clock: Clock) -> None:
    id = await decision(arbiter)
    start = clock.now
    for _ in range(3):
        await arbiter.explanation(id, EVE, APPEAL)
        clock.now += 60 * SECOND
    with pytest.raises(TooMuch) as refused:
        await arbiter.explanation(id, EVE, APPEAL)
    assert refused.value.retry_after == 3600 - 180 + 1
    assert values(await arbiter.explanation(id, BOT, APPEAL)) == "192.0.2.9"
    clock.now = start + HOUR + SECOND
    assert values(await arbiter.explanation(id, EVE, APPEAL)) == "192.0.2.9"
    assert len(await records(arbiter)) == 5
    assert arbiter.reveals.alarms["limit"] == 1


async def test_many_looks_at_once_do_not_pass_the_limit(arbiter: Arbiter) -> None:
    id = await decision(arbiter)
    looks = [arbiter.explanation(id, EVE, APPEAL) for _ in range(10)]
    done = await asyncio.gather(*looks, return_exceptions=True)
    assert sum(isinstance(each, dict) for each in done) == 3
    assert sum(isinstance(each, TooMuch) for each in done) == 7


async def test_an_unusual_look_is_in_the_log_without_a_person(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Mock()
    monkeypatch.setattr("engine.reveals.log", log)
    ids = [await decision(arbiter, f"p{number}") for number in range(12)]
    for caller in (EVE, BOT):
        for id in ids:
            await arbiter.explanation(id, caller, Reveal("audit", 99))
    alarms = log.warning.call_args_list
    assert {each.args for each in alarms} == {("reveal_unusual",)}
    told = [(each.kwargs["why"], each.kwargs["caller"]) for each in alarms]
    assert told == [("many", "person")] * 2 + [("many", "bot")] * 2
    assert [each.kwargs["record"] for each in alarms[:2]] == [one["id"] for one in (await records(arbiter))[10:12]]
    assert arbiter.reveals.alarms == {"many": 4}


# -- Over HTTP -------------------------------------------------------------------------------------------------


def test_over_http_the_purpose_is_a_parameter(tmp_path: Path) -> None:
    with serve_in_process(tmp_path, limits=Limits(reveals_per_hour=2)) as served:
        made = served.arbiter.create_key("eve", "person", "shop-a", ["audit", "reveal"])
        served.keys["eve"] = served.loop.run(made)
        order = orjson.loads((ROOT / "docs/examples/order.json").read_bytes())
        id = served.post("/v1/decisions", json=order, key="score").json()["id"]
        address = f"/v1/decisions/{id}/explanation"

        for query, status, code in (
            ("?purpose=curiosity", 400, "request_invalid"),
            ("?purpose=", 400, "request_invalid"),
            ("?porpoise=appeal", 400, "request_invalid"),
            ("", 200, None),
            ("?purpose=appeal", 200, None),
            ("?purpose=dispute", 200, None),
            ("?purpose=dispute", 429, "too_many_requests"),
        ):
            answer = served.get(address + query, key="eve")
            assert answer.status_code == status, answer.text
            assert code is None or answer.json()["type"].endswith(code)
            assert (answer.json().get("personal") or {}).get("shown", False) == (query != "" and status == 200)
        assert int(answer.headers["retry-after"]) > 3_500
        assert served.get(address + "?purpose=appeal", key="audit").status_code == 403
        metrics = served.get("/metrics").text
        assert 'arbiter_reveals_total{purpose="appeal"} 1.0' in metrics
        assert 'arbiter_reveals_unusual_total{why="limit"} 1.0' in metrics


# -- What is unusual, as values --------------------------------------------------------------------------------

NOON = NOW - NOW % DAY + 4 * HOUR  # 12:00 in Asia/Shanghai
MIDNIGHT = NOON + 12 * HOUR


def looks(count: int, at: int, *, prefix: str = "d") -> list[Look]:
    """So many different decisions, the last one at `at`, a second apart."""
    return [Look(at - number * SECOND, f"{prefix}{number}") for number in reversed(range(count))]


UNUSUAL: list[tuple[str, list[Look], int, tuple[str, ...]]] = [
    ("the first look", looks(1, NOON), NOON, ()),
    ("ten decisions", looks(10, NOON), NOON, ()),
    ("eleven", looks(11, NOON), NOON, ("many",)),
    ("eleven times one decision", [Look(NOON - n, "d") for n in range(11)], NOON, ()),
    ("twice the busiest day", [*looks(20, NOON - 3 * DAY), *looks(40, NOON, prefix="e")], NOON, ()),
    ("more than that", [*looks(20, NOON - 3 * DAY), *looks(41, NOON, prefix="e")], NOON, ("many",)),
    ("the first look at night", looks(1, MIDNIGHT), MIDNIGHT, ("night",)),
    ("at night as always", [*looks(20, MIDNIGHT - 2 * DAY), *looks(1, MIDNIGHT)], MIDNIGHT, ()),
    ("seldom", [*looks(20, NOON - DAY), Look(MIDNIGHT - DAY, "n"), Look(MIDNIGHT, "m")], MIDNIGHT, ("night",)),
    ("both", looks(11, MIDNIGHT), MIDNIGHT, ("many", "night")),
]  # fmt: skip


@pytest.mark.parametrize(("past", "now", "found"), [row[1:] for row in UNUSUAL], ids=[row[0] for row in UNUSUAL])
def test_what_is_unusual(past: list[Look], now: int, found: tuple[str, ...]) -> None:
    assert unusual(past, now) == found


def test_night_is_from_ten_to_six_in_shanghai() -> None:
    hours = [hour for hour in range(24) if at_night(NOON - 12 * HOUR + hour * HOUR)]
    assert hours == [0, 1, 2, 3, 4, 5, 22, 23]


def test_how_long_to_wait() -> None:
    assert waiting([], NOW, 1) == 0
    assert waiting([NOW - HOUR], NOW, 1) == 0
    assert waiting([NOW], NOW, 1) == 3601
    assert waiting([NOW - HOUR + SECOND, NOW], NOW, 2) == 2
    assert waiting([NOW - HOUR + SECOND, NOW], NOW, 3) == 0
