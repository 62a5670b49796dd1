"""A mixture of all that can be decided: the shipped packs, a model, exceptions and lists, and events of every kind.

    write_packs(folder)                      rules, policies and a trained model below `folder`
    async with deciding(folder, url, keys) as (arbiter, clock):
        await decide_some(arbiter, clock, 2_000, seed=1)

The events are those of the rules' own tests, put together at random with other fields, so that most rules fire now and
then: late and in time, with keys and without, past their deadline, with the models of tiers, lists and exceptions.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import orjson

from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings
from engine.errors import ArbiterError, EventRefused
from engine.money import Money
from engine.schema import FieldDef
from engine.schema.kinds import LISTS
from engine.schema.nesting import nested
from tests import books, models
from tests.books import LI, NOW, ROOT, SECOND, WANG, Clock, shipped

SHOP = Caller("checkout", "service", "shop-a", frozenset({"score", "outcome"}))

TOGETHER = 32
"""Events that arrive at once."""

DETECTOR = models.DETECTOR.replace("for: payment", "for: transaction").replace("Payments", "Orders")

RULES = """\
pack: mixture
about: What the shipped rules do not ask.
for: transaction
owner: tests
rules:
  - id: mixture.odd
    when: anomaly > 90
    signal: odd_order
    severity: low
    points: 15
    because: {en: "more unusual than {anomaly} %", zh: "异常 {anomaly} %"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: mixture.listed
    when: buyer.account in list watched-accounts or ip in list bad-networks
    signal: watched_account
    severity: medium
    points: 25
    because: {en: watched, zh: 关注}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: mixture.told
    when: session.source contains "13800138000" or session.source == "[mobile]"
    signal: told_by_phone
    severity: low
    points: 5
    because: {en: "sent by {session.source}", zh: "来自 {session.source}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: mixture.shadow
    when: amount in CNY > 100 CNY and buyer.name is present
    signal: shadowed
    mode: shadow
    because: {en: "{amount}", zh: "{amount}"}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""
LISTS_OF_OURS = {
    "rules/lists/watched-accounts.yaml": (
        "list: watched-accounts\nabout: Accounts.\nmatch: exact\nentity: account\nentries: [u-1]\n"
    ),
    "rules/lists/bad-networks.yaml": "list: bad-networks\nabout: Networks.\nmatch: cidr\nentries: [192.0.2.0/24]\n",
}
EXCEPTION = """\
exceptions:
  - {id: known-merchant, signal: odd_order, subject: {merchant.id: m-1}, owner: a, reason: ours, from: 2026-11-01,
     expires: 2027-01-15, approved_by: b}
  - {id: known-account, rule: mixture.listed, subject: {buyer.account: u-3}, owner: a, reason: ours, from: 2026-11-01,
     expires: 2027-01-15, approved_by: b}
"""


def write_packs(folder: Path, *, model: bool = True) -> None:
    """The shipped packs with ours beside them; the model is trained."""
    for name in ("rules", "policies"):
        shutil.copytree(ROOT / name, folder / name)
    files = {"rules/mixture.yaml": RULES, "policies/exceptions/mixture.yaml": EXCEPTION, **LISTS_OF_OURS}
    books.write(folder, {**files, "policies/anomaly.yaml": DETECTOR})
    if model:
        made = books.load(folder / "rules", folder / "policies")
        pins = [models.trained(made, folder / "models", seed=seed) for seed in (1, 2)]
        pinned = DETECTOR + f"model: {pins[0]}\nchallengers: [{pins[1]}]\n"
        books.write(folder, {"policies/anomaly.yaml": pinned})


@asynccontextmanager
async def deciding(folder: Path, url: str, keys: Path) -> AsyncIterator[tuple[Arbiter, Clock]]:
    """An Arbiter over the packs below `folder`, and its clock."""
    settings = Settings(
        url, key_file=keys, rules=folder / "rules", policies=folder / "policies", model_dir=folder / "models"
    )
    clock = Clock()
    async with books.running(settings, clock, seconds=600) as arbiter:
        yield arbiter, clock


async def decide_some(arbiter: Arbiter, clock: Clock, count: int, *, seed: int) -> list[str]:
    """So many decisions, with what people do between them; their ids."""
    random, made = Random(seed), _bodies(seed)
    ids: list[str] = []
    changed = 0
    while len(ids) < count:
        clock.now += random.randrange(1, 40 * TOGETHER) * SECOND
        if len(ids) >= changed:
            await _change_something(arbiter, random)
            changed += max(2 * TOGETHER, count // 40)
        bodies = [_dated(next(made), clock.now, random) for _ in range(min(TOGETHER, count - len(ids)))]
        answered = await asyncio.gather(*(_send(arbiter, body, random) for body in bodies))
        ids += [answer["id"] for answer in answered if answer]
    return ids


def _dated(body: dict[str, Any], now: int, random: Random) -> dict[str, Any]:
    at = now - random.choice((0, 0, 0, 20, 2_000)) * SECOND - random.randrange(SECOND)
    return {**body, "event_id": f"ev-{random.getrandbits(64):x}", "at": iso(at)}


async def _send(arbiter: Arbiter, body: dict[str, Any], random: Random) -> dict[str, Any] | None:
    """The answer of a decision. None for what is not judged, and for fields at random that do not go together."""
    try:
        if body["kind"] not in shipped().judged:
            await arbiter.observe(orjson.dumps(body), SHOP)
            return None
        deadline = -1 if random.random() < 0.03 else None
        answer: dict[str, Any] = orjson.loads(await arbiter.decide(orjson.dumps(body), SHOP, deadline_ms=deadline))
    except EventRefused:
        return None
    return answer


async def _change_something(arbiter: Arbiter, random: Random) -> None:
    """What is in force between decisions: a merchant's tier, and entries of lists that come and go."""
    tier = random.choice(("trusted", "standard", "watched"))
    await arbiter.set_merchant_tier(f"m-{random.randrange(3)}", orjson.dumps({"tier": tier, "reason": "a reason"}), LI)
    name, value = random.choice(
        [("watched-accounts", f"u-{random.randrange(40)}"), ("bad-networks", f"198.51.100.{random.randrange(9)}")]
    )
    entries = [entry for entry in await arbiter.list_entries(name, LI) if entry["state"] == "active"]
    if entries and random.random() < 0.4:
        ended = random.choice(entries)
        left = await arbiter.remove_list_entry(name, ended["id"], LI)
        if left["state"] == "ending":  # One past its time has ended at once.
            await arbiter.approve_list_entry(name, ended["id"], WANG)
        return
    body: dict[str, Any] = {"value": value, "reason": "a reason"}
    if random.random() < 0.3:
        body["expires"] = iso(NOW + 3_600 * SECOND * random.randrange(1, 100))
    try:
        await arbiter.add_list_entry(name, orjson.dumps(body), LI)
    except ArbiterError:
        return  # It is on the list already.


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _bodies(seed: int) -> Iterator[dict[str, Any]]:
    """Bodies without an end: an inline test's event, and fields of its kind at random."""
    random, tests = Random(seed), _tests()
    while True:
        kind, event = random.choice(tests)
        fields = shipped().schema.body_fields(kind)
        some = {
            path: _value(field, random)
            for path, field in fields.items()
            if not field.derived and random.random() < 0.25
        }
        flat = {**shipped().schema.sample_fields(kind), **some, **event, **_who(fields, random), "kind": kind}
        flat.pop("anomaly", None)
        if "session.source" in fields and random.random() < 0.1:
            flat["session.source"] = random.choice(("客服13800138000", "[mobile]", "a@example.com"))
        yield orjson.loads(orjson.dumps(nested(flat, LISTS)[0], default=_plain))


def _plain(value: Any) -> Any:
    return f"{value.amount} {value.currency}" if isinstance(value, Money) else float(value)


def _who(fields: Mapping[str, FieldDef], random: Random) -> dict[str, Any]:
    """Few of each, so that windows see the same ones again; sometimes nobody is known."""
    if random.random() < 0.1:
        return {path: None for path in fields if fields[path].entity}
    known = {
        "buyer.account": f"u-{random.randrange(40)}",
        "card.ref": f"card-{random.randrange(60)}",
        "device.id": f"d-{random.randrange(50)}",
        "merchant.id": f"m-{random.randrange(5)}",
        "ip": f"198.51.100.{random.randrange(20)}",
        "buyer.name": random.choice(("张三", "Li Si", "Ivan Petrov")),
    }
    return {path: value for path, value in known.items() if path in fields and random.random() < 0.8}


def _value(field: FieldDef, random: Random) -> Any:
    kind = field.type.removeprefix("list[").removesuffix("]")
    value = field.example
    if field.form.choices:
        value = random.choice(field.form.choices)
    elif kind == "bool":
        value = random.random() < 0.5
    elif kind == "money":
        value = f"{random.choice((1, 5, 20, 698, 9_800, 60_000))}.{random.randrange(100):02} CNY"
    elif kind == "number" and not (field.form.low or field.form.high):
        value = random.choice((0, 1, 3, 40))
    return [value] if field.many and not isinstance(value, list) else value


@cache
def _tests() -> list[tuple[str, dict[str, Any]]]:
    """(kind, fields) of every inline test of the shipped rules, and of the events before them."""
    return [
        (each.kind or rule.kinds[0], each.event)
        for rule in shipped().rules
        for test in rule.tests
        for each in (test, *test.before)
    ]
