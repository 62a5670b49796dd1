"""One event through Arbiter, on a real ledger with the shipped packs: what is promised holds, and faults are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import rfc8785

from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings, open_arbiter
from engine.decide import conclude
from engine.errors import Conflict, EventRefused, Unavailable
from engine.receipt import verify_receipt
from engine.stores import MemoryStore, StoreUnavailable
from engine.warmth import Warmth
from tests.books import keep_shipped, shipped

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
NOW = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


async def warm(arbiter: Arbiter) -> None:
    while not arbiter.ready()["ready"]:  # noqa: ASYNC110  # readiness is polled by whoever balances load, as here
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: Settings, clock: Callable[[], int]) -> AsyncIterator[Arbiter]:
    """An Arbiter whose windows are warm."""
    rulebook = shipped() if settings.rules == ROOT / "rules" else None
    arbiter = await open_arbiter(settings, clock=clock, rulebook=rulebook)
    try:
        await warm(arbiter)
        yield arbiter
    finally:
        await arbiter.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(ledger_url: str, key_path: Path) -> Settings:
    asyncio.run(keep_shipped(ledger_url))
    return Settings(database_url=ledger_url, key_file=key_path, rules=ROOT / "rules", policies=ROOT / "policies")


@pytest.fixture
async def arbiter(settings: Settings, clock: Clock) -> AsyncIterator[Arbiter]:
    async with running(settings, clock) as it:
        yield it


def payment(event_id: str, *, at: str = "2026-11-23T12:00:00Z", **more: Any) -> bytes:
    """A small authorisation on one card."""
    body = {
        "kind": "payment",
        "event_id": event_id,
        "at": at,
        "amount": "5.00 CNY",
        "card": {"ref": "card-1"},
        "payment": {"stage": "attempt"},
    }
    return orjson.dumps({**body, **more})


async def judged(arbiter: Arbiter, body: bytes) -> dict[str, Any]:
    return orjson.loads(await arbiter.decide(body, SHOP))


async def record(arbiter: Arbiter, answer: dict[str, Any]) -> dict[str, Any]:
    return (await arbiter.decision(answer["id"], SHOP))["record"]


async def test_the_fifth_small_attempt_on_a_card_is_found_and_explained_in_two_languages(arbiter: Arbiter) -> None:
    answers = [await judged(arbiter, payment(f"p{n}", at=f"2026-11-23T11:5{n}:00Z")) for n in range(5)]

    assert [answer["verdict"] for answer in answers[:3]] == ["approve"] * 3
    reasons = {reason["rule"]: reason for reason in answers[4]["reasons"]}
    assert "card_testing" in answers[4]["signals"]
    message = reasons["card-testing.burst"]["message"]
    assert message["en"].startswith("5 attempts")
    assert "5 次" in message["zh"]


async def test_the_same_event_gets_the_same_bytes_again_and_stands_in_the_ledger_once(arbiter: Arbiter) -> None:
    first = await arbiter.decide(payment("p1"), SHOP)
    spaced = json.dumps(json.loads(payment("p1")), indent=3).encode()

    assert await arbiter.decide(payment("p1"), SHOP) == first
    assert await arbiter.decide(spaced, SHOP) == first
    assert len((await arbiter.decisions(SHOP))["items"]) == 1


async def test_the_same_event_gets_the_same_bytes_after_a_restart(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as before:
        first = await before.decide(payment("p1"), SHOP)
    async with running(settings, clock) as after:
        assert await after.decide(payment("p1"), SHOP) == first


async def test_another_body_under_a_used_id_is_a_conflict(arbiter: Arbiter) -> None:
    await arbiter.decide(payment("p1"), SHOP)

    with pytest.raises(Conflict):
        await arbiter.decide(payment("p1", amount="6.00 CNY"), SHOP)


async def test_fifty_at_once_with_one_id_get_one_verdict(arbiter: Arbiter) -> None:
    answers = await asyncio.gather(*(arbiter.decide(payment("p1"), SHOP) for _ in range(50)))

    assert len(set(answers)) == 1
    assert len((await arbiter.decisions(SHOP))["items"]) == 1


async def test_five_parallel_orders_on_one_card_see_none_to_four(arbiter: Arbiter) -> None:
    answers = await asyncio.gather(*(arbiter.decide(payment(f"p{n}"), SHOP) for n in range(5)))

    shown = [await arbiter.explanation(orjson.loads(answer)["id"], SHOP) for answer in answers]
    name = next(
        name for name in shown[0]["features"] if name.startswith("count(payment last 10m by card.ref where amount")
    )
    assert [one["features"][name] for one in shown] == [1, 2, 3, 4, 5]  # the window includes the event itself


async def test_every_receipt_verifies_against_the_leaf_and_the_public_key(arbiter: Arbiter) -> None:
    answer = await judged(arbiter, payment("p1"))
    stored = await arbiter.decision(answer["id"], SHOP)

    leaf = orjson.dumps(stored["record"], option=orjson.OPT_SORT_KEYS)
    key = bytes.fromhex(arbiter.public_key["ed25519"])
    assert verify_receipt(answer["receipt"], leaf, key)
    assert not verify_receipt(answer["receipt"], leaf.replace(b"approve", b"decline"), key)


@pytest.mark.parametrize("name", ["order", "order-alipay", "order-guest", "order-live", "listing", "merchant"])
async def test_the_leaf_is_canonical_json_and_holds_nothing_personal(arbiter: Arbiter, name: str) -> None:
    body = orjson.loads((ROOT / f"docs/examples/{name}.json").read_bytes())
    body.pop("tenant", None)
    answer = await judged(arbiter, orjson.dumps(body))

    leaf = await record(arbiter, answer)
    written = orjson.dumps(leaf, option=orjson.OPT_SORT_KEYS)
    assert rfc8785.dumps(leaf) == written
    event = arbiter.schema.parse(orjson.dumps(body), received_at=NOW, tenant="shop-a")
    _, private, keys = arbiter.schema.split(event)
    personal = [value for fields in private.values() for value in fields.values() if isinstance(value, str)]
    # Four digits stand in many numbers: of what is so short, a whole text counts.
    text = written.decode()
    long = [value for value in personal if len(value) > 3]
    assert not [value for value in long if f'"{value}"' in text or (len(value) > 4 and value in text)]
    pseudonyms = [arbiter._vault.pseudonym("shop-a", namespace, value) for _, namespace, value in keys]
    assert not [value for value in pseudonyms if value in written.decode()]


async def test_a_recorded_decision_comes_out_the_same_from_its_truth_values_alone(arbiter: Arbiter) -> None:
    for n in range(12):
        amount = ("5.00 CNY", "9000.00 CNY", "12.00 USD")[n % 3]
        answer = await judged(arbiter, payment(f"p{n}", amount=amount, ip="192.0.2.66", ip_country="US"))
        leaf = await record(arbiter, answer)
        again = conclude(arbiter._live.rulebook.kinds["payment"], leaf)
        assert (again.verdict, again.score, list(again.signals)) == (leaf["verdict"], leaf["score"], leaf["signals"])


async def test_an_event_from_the_future_is_refused_and_a_late_one_is_marked(arbiter: Arbiter) -> None:
    with pytest.raises(EventRefused, match="future"):
        await arbiter.decide(payment("p1", at="2026-11-23T12:05:01Z"), SHOP)

    assert (await judged(arbiter, payment("p2", at="2026-11-23T12:04:59Z")))["late"] is False
    assert (await judged(arbiter, payment("p3", at="2026-11-23T11:00:00Z")))["late"] is True


async def test_a_clock_that_jumps_back_changes_neither_order_nor_promises(arbiter: Arbiter, clock: Clock) -> None:
    first = await record(arbiter, await judged(arbiter, payment("p1")))
    clock.now -= 60_000_000
    second = await record(arbiter, await judged(arbiter, payment("p2")))

    assert second["event"]["received_at"] < first["event"]["received_at"]
    assert second["event"]["arrival"] > first["event"]["arrival"]


async def test_a_restart_reads_the_same_windows(settings: Settings, clock: Clock) -> None:
    async with running(settings, clock) as before:
        for n in range(4):
            await before.decide(payment(f"p{n}", at=f"2026-11-23T11:5{n}:00Z"), SHOP)
    async with running(settings, clock) as after:
        answer = await judged(after, payment("p4", at="2026-11-23T11:54:00Z"))

    assert "card_testing" in answer["signals"]


async def test_before_its_windows_are_rebuilt_arbiter_says_so(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    restore = Warmth.restore

    async def slow(self: Warmth, features: Any) -> Any:
        await gate.wait()
        return await restore(self, features)

    monkeypatch.setattr(Warmth, "restore", slow)
    arbiter = await open_arbiter(settings, clock=clock)
    try:
        assert arbiter.ready()["ready"] is False
        answer = await judged(arbiter, payment("p1"))
        gate.set()
        await warm(arbiter)
    finally:
        await arbiter.close()

    assert "not_warm" in answer["signals"]


async def test_a_commit_that_fails_is_unknown_to_the_caller_and_uncounted(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise Unavailable("no answer from the database", "verdict_unknown")

    with monkeypatch.context() as broken:
        broken.setattr(arbiter._ledger, "append", gone)
        for n in range(4):
            with pytest.raises(Unavailable) as unknown:
                await arbiter.decide(payment(f"lost{n}"), SHOP)
            assert unknown.value.reason == "verdict_unknown"
    answer = await judged(arbiter, payment("p1"))

    assert "card_testing" not in answer["signals"]


async def test_an_event_that_was_written_although_its_commit_was_not_acknowledged_counts_after_the_retry(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = arbiter._ledger.append

    async def lossy(entry: Any) -> Any:
        await append(entry)
        raise Unavailable("no answer from the database", "verdict_unknown")

    with monkeypatch.context() as broken:
        broken.setattr(arbiter._ledger, "append", lossy)
        for n in range(4):
            with pytest.raises(Unavailable):
                await arbiter.decide(payment(f"p{n}"), SHOP)
    for n in range(4):
        await arbiter.decide(payment(f"p{n}"), SHOP)
    answer = await judged(arbiter, payment("p4"))

    assert "card_testing" in answer["signals"]


async def test_a_dead_store_is_a_finding_and_the_policy_says_what_then(
    arbiter: Arbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: Any) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(MemoryStore, "observe", dead)
    answer = await judged(arbiter, payment("p1"))

    assert "features_unavailable" in answer["degraded"]
    assert answer["verdict"] == "challenge"


async def test_past_its_deadline_the_degraded_policy_decides(arbiter: Arbiter, clock: Clock) -> None:
    def later() -> int:
        clock.now += 50_000
        return clock.now

    arbiter._intake._clock = later
    dear = orjson.loads(await arbiter.decide(payment("p1", amount="900.00 CNY"), SHOP, deadline_ms=10))
    cheap = orjson.loads(await arbiter.decide(payment("p2", amount="9.00 CNY"), SHOP, deadline_ms=10))

    assert (dear["degraded"], dear["verdict"]) == (["deadline"], "review")
    assert (cheap["degraded"], cheap["verdict"]) == (["deadline"], "approve")


async def test_an_outcome_inherits_the_keys_of_its_event_and_counts_once_known(arbiter: Arbiter) -> None:
    await arbiter.decide(payment("p1", at="2026-11-20T12:00:00Z"), SHOP)
    outcome = {
        "kind": "outcome",
        "event_id": "o1",
        "at": "2026-11-22T12:00:00Z",
        "outcome": {"refers_to": "p1", "result": "chargeback"},
    }
    await arbiter.observe(orjson.dumps(outcome), SHOP)

    early = await judged(arbiter, payment("p2", at="2026-11-21T12:00:00Z"))
    late = await judged(arbiter, payment("p3", at="2026-11-23T12:00:00Z"))
    assert "prior_chargeback" not in early["signals"]
    assert "prior_chargeback" in late["signals"]


async def test_an_outcome_of_an_unknown_event_is_refused(arbiter: Arbiter) -> None:
    outcome = {"kind": "outcome", "event_id": "o1", "at": "2026-11-22T12:00:00Z"}
    body = orjson.dumps({**outcome, "outcome": {"refers_to": "nobody", "result": "chargeback"}})

    with pytest.raises(EventRefused, match="no event with this id"):
        await arbiter.observe(body, SHOP)


@pytest.mark.parametrize(
    ("refers_to", "at", "told"),
    [
        ("o1", "2026-11-23T12:00:00Z", ("outcome.refers_to", "wrong_kind")),
        ("p1", "2026-11-20T11:54:59Z", ("at", "out_of_range")),
        ("p1", "2026-11-20T11:55:00Z", None),
        ("p1", "2026-11-20T12:00:00Z", None),
    ],
)
async def test_an_outcome_is_of_an_event_and_not_before_it(
    arbiter: Arbiter, refers_to: str, at: str, told: tuple[str, str] | None
) -> None:
    """Clocks differ by as much as an event may lie ahead of ours."""
    await arbiter.decide(payment("p1", at="2026-11-20T12:00:00Z"), SHOP)
    outcome = {"kind": "outcome", "event_id": "o1", "at": "2026-11-22T12:00:00Z"}
    await arbiter.observe(orjson.dumps({**outcome, "outcome": {"refers_to": "p1", "result": "chargeback"}}), SHOP)
    about = {"refers_to": refers_to, "result": "false_positive"}
    second = orjson.dumps({**outcome, "event_id": "o2", "at": at, "outcome": about})
    found = []
    try:
        await arbiter.observe(second, SHOP)
    except EventRefused as error:
        found = [(problem.path, problem.code) for problem in error.problems]

    assert found == ([told] if told else [])


async def test_tenants_share_neither_ids_nor_windows(arbiter: Arbiter) -> None:
    other = Caller("checkout", "service", "shop-b", frozenset({"score"}))
    for n in range(5):
        await arbiter.decide(payment(f"p{n}"), SHOP)
    answer = orjson.loads(await arbiter.decide(payment("p0"), other))

    assert "card_testing" not in answer["signals"]
    assert len((await arbiter.decisions(other))["items"]) == 1


async def test_a_list_whose_file_is_missing_is_a_finding(
    settings: Settings, clock: Clock, tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    rules = tmp_path / "rules"
    (rules / "lists").mkdir(parents=True)
    (rules / "lists" / "odd.yaml").write_text("list: odd-cards\nabout: Cards.\nmatch: exact\nfile: odd.txt\n")
    (rules / "odd.yaml").write_text(
        "pack: odd\nabout: Odd cards.\nfor: payment\nowner: me\nrules:\n"
        "  - id: odd.card\n    when: card.bin in list odd-cards\n    signal: odd_card\n"
        "    because: {en: odd, zh: 奇怪}\n    basis: {kind: house-policy, review_by: 2027-01-01}\n"
    )
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "pay.yaml").write_text(
        "policy: pay\nfor: [payment]\nverdicts: [approve, decline]\ntiers: {standard: {decline: 50}}\n"
        "default_tier: standard\ndegraded: {list_unavailable: {at_least: decline}}\n"
    )
    own = Settings(database_url=ledger_url, key_file=key_path, rules=rules, policies=policies)
    async with running(own, clock) as arbiter:
        answer = await judged(arbiter, payment("p1", card={"ref": "c", "bin": "622848"}))

    assert (answer["degraded"], answer["verdict"]) == (["list_unavailable"], "decline")
