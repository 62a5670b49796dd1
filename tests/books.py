"""Small rulebooks for tests, and a running Arbiter over them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from engine import database
from engine.arbiter import Arbiter, Caller
from engine.archive import Library
from engine.assembly import Settings, open_arbiter
from engine.errors import PackError
from engine.rulebook import Rulebook, load

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
"""Real data beside the checkout, which `@pytest.mark.data` names."""
NOW = 1_795_435_200_000_000  # 2026-11-23T12:00:00Z
SECOND = 1_000_000
MINUTE = 60 * SECOND

SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))
LI = Caller("li.si", "person", "shop-a", frozenset({"rules", "outcome"}))
WANG = Caller("wang.wu", "person", "shop-a", frozenset({"rules", "outcome"}))

RULES = """\
pack: payments/small
about: Amounts that tests choose.
for: payment
owner: payments-risk
let:
  tries: count(last 10m by card.ref, including this)
rules:
  - id: small.challenge
    when: amount == 41 CNY
    signal: odd_amount
    severity: medium
    points: 40
    because: {en: "{amount} is odd", zh: "金额 {amount} 异常"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: small.review
    when: amount == 61 CNY
    signal: strange_amount
    severity: high
    points: 60
    because: {en: "{amount} is strange", zh: "金额 {amount} 可疑"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: small.decline
    when: amount >= 85 CNY
    signal: large_amount
    severity: high
    points: 85
    because: {en: "{amount} is large", zh: "金额 {amount} 过大"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: small.burst
    when: tries >= 3
    signal: card_testing
    severity: low
    points: 20
    because: {en: "{tries} attempts on one card", zh: "同一张卡 {tries} 次尝试"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: small.listed
    when: ip in list bad-networks or card.bin in list bad-bins
    signal: listed
    severity: critical
    points: 100
    because: {en: listed, zh: 在名单上}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""

POLICY = """\
policy: till
for: [payment]
verdicts: [approve, challenge, review, decline]
tiers:
  standard: {challenge: 40, review: 60, decline: 85}
  watched: {challenge: 15, review: 40, decline: 60}
default_tier: standard
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: review}
review: {queue: desk, due: 30m, if_late: decline}
"""

LISTS = {
    "rules/lists/bad-networks.yaml": "list: bad-networks\nabout: Networks.\nmatch: cidr\nentries: [192.0.2.0/24]\n",
    "rules/lists/bad-bins.yaml": "list: bad-bins\nabout: Card ranges.\nmatch: exact\n",
}

SMALL: Mapping[str, str] = {"rules/small.yaml": RULES, "policies/till.yaml": POLICY, **LISTS}
"""A rulebook in which the amount chooses the verdict: 41, 61 and 85 CNY."""


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Put the files of a rulebook below `folder`, with both pack folders."""
    for name in ("rules", "policies"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")


def put(event: dict[str, Any], path: str, value: Any) -> None:
    """A value into an event that lies in dicts, into every item where the path leads through them."""
    *parents, last = path.split(".")
    if parents == ["items"]:
        for item in event["items"]:
            item[last] = value
        return
    for parent in parents:
        event = event.setdefault(parent, {})
    event[last] = value


def book(folder: Path, files: Mapping[str, str], *, strict: bool = True) -> Rulebook:
    """The rulebook of some files."""
    write(folder, files)
    return load(folder / "rules", folder / "policies", strict=strict)


def told(folder: Path, files: Mapping[str, str], *, strict: bool = True) -> list[str]:
    """The problems of some files, rendered, in order."""
    try:
        book(folder, files, strict=strict)
    except PackError as error:
        return [problem.render() for problem in error.problems]
    return []


@cache
def shipped() -> Rulebook:
    """The packs we ship, compiled once for all tests of a process."""
    return load(ROOT / "rules", ROOT / "policies")


def make_ledger(url: str) -> None:
    """A migrated ledger with the shipped packs in its archive. A new one on SQLite is a copy of the first one."""
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.exists():
        path.write_bytes(_ledger())
    else:
        database.migrate(url)
        asyncio.run(keep_shipped(url))


@cache
def _ledger() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arbiter.db"
        database.migrate(f"sqlite:///{path}")
        asyncio.run(keep_shipped(f"sqlite:///{path}"))
        return path.read_bytes()


async def keep_shipped(url: str) -> None:
    """Put the packs we ship into the archive of a migrated ledger, as if a server had decided by them before: the next
    one does not try the tests in them again."""
    await _keep(url, shipped())


async def keep(url: str, folder: Path) -> None:
    """The same for the packs below `folder`; the ledger is made where there is none."""
    database.migrate(url)
    await _keep(url, load(folder / "rules", folder / "policies", strict=False))


async def _keep(url: str, rulebook: Rulebook) -> None:
    opened = database.Database(url)
    try:
        await Library(opened, lambda: NOW).keep(rulebook)
    finally:
        await opened.close()


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@asynccontextmanager
async def running(settings: Settings, clock: Callable[[], int], seconds: float = 10) -> AsyncIterator[Arbiter]:
    """An Arbiter that is ready, within `seconds`."""
    arbiter = await open_arbiter(settings, clock=clock)
    try:
        await ready(arbiter, seconds)
        yield arbiter
    finally:
        await arbiter.close()


async def ready(arbiter: Arbiter, seconds: float = 10) -> None:
    """Wait until it is."""
    async with asyncio.timeout(seconds):
        while not arbiter.ready()["ready"]:  # noqa: ASYNC110 - readiness is asked for, as a load balancer does
            await asyncio.sleep(0.005)


def payment(event_id: str, amount: int = 5, **more: Any) -> bytes:
    """A payment of so many CNY, at NOW."""
    body = {
        "kind": "payment",
        "event_id": event_id,
        "at": "2026-11-23T12:00:00Z",
        "amount": f"{amount}.00 CNY",
        "payment": {"stage": "attempt"},
    }
    return orjson.dumps({**body, **more})


async def judged(arbiter: Arbiter, body: bytes, caller: Caller = SHOP) -> dict[str, Any]:
    """The answer to one event."""
    answer: dict[str, Any] = orjson.loads(await arbiter.decide(body, caller))
    return answer


async def record_of(arbiter: Arbiter, answer: Mapping[str, Any], caller: Caller = SHOP) -> dict[str, Any]:
    """The leaf of a decision."""
    record: dict[str, Any] = (await arbiter.decision(answer["id"], caller))["record"]
    return record
