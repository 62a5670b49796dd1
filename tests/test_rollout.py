"""Rollouts draw stably and monotonically, and what is in the shadow changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.desk import Meters
from cli.replay import World
from engine.assembly import Settings
from engine.decide import Decision, Question, leaf, notices
from engine.features import Reading
from engine.replay import Replayer
from engine.rollout import BUCKETS, Rollout, bucket, key_of, read_rollout
from engine.rulebook import Rulebook
from tests import books
from tests.books import NOW, SECOND

# Buckets


@pytest.mark.parametrize(
    ("name", "key", "drawn"),
    [("small.burst", "u-1", 5953), ("small.burst", "u-2", 9977), ("small.review", "u-1", 5139), ("x", "中文", 9506)],
)
def test_a_bucket_is_the_same_for_ever(name: str, key: str, drawn: int) -> None:
    assert bucket(name, key) == drawn


@given(st.text(max_size=20), st.text(max_size=40), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_a_larger_share_only_adds_keys(name: str, key: str, one: int, other: int) -> None:
    small, large = sorted((one, other))
    if Rollout(small, "a").holds(name, key):
        assert Rollout(large, "a").holds(name, key)
    assert Rollout(BUCKETS, "a").holds(name, key)
    assert not Rollout(0, "a").holds(name, key)


def test_a_share_takes_as_many_keys_and_two_rules_draw_independently() -> None:
    keys = [f"u-{number}" for number in range(40_000)]
    quarter, half = read_rollout("25% by a.b"), read_rollout("50% by a.b")
    one = {key for key in keys if quarter.holds("a.one", key)}
    two = {key for key in keys if half.holds("a.two", key)}
    # Four standard deviations of a binomial of 40,000.
    assert abs(len(one) - 10_000) < 4 * (40_000 * 0.25 * 0.75) ** 0.5
    assert abs(len(one & two) - 5_000) < 4 * (40_000 * 0.125 * 0.875) ** 0.5


@pytest.mark.parametrize(
    ("written", "buckets"), [("25% by buyer.account", 2500), ("0% by a", 0), ("100% by a", 10_000), ("0.25% by a", 25)]
)
def test_a_share_is_read_and_written(written: str, buckets: int) -> None:
    assert read_rollout(written).buckets == buckets
    assert str(read_rollout(written)) == written


@pytest.mark.parametrize("written", ["25%", "25 by a", "101% by a", "-1% by a", "25% by A", "1.234% by a", 25, ""])
def test_what_is_no_share_says_how_to_write_one(written: object) -> None:
    with pytest.raises(ValueError, match=r"such as 25% by buyer\.account"):
        read_rollout(written)


def test_who_is_named_by_a_pseudonym_is_drawn_by_it() -> None:
    assert key_of("card.ref", {"card.ref": "p"}, {"card": {"ref": "secret"}}) == "p"
    assert key_of("merchant.id", {}, {"merchant": {"id": "m"}}) == "m"
    assert key_of("merchant.id", {}, {}) is None
    assert not Rollout(BUCKETS, "merchant.id").holds("a.b", None)


# Packs

PACK = """\
pack: payments/new
about: On its way.
for: payment
owner: payments-risk
rules:
  - id: new.one
    when: amount >= 5 CNY
    signal: new_signal
    severity: high
    points: 90
    because: {en: new, zh: 新}
    basis: {kind: house-policy, review_by: 2027-05-31}
    rollout: 25% by card.ref
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("25% by card.ref", "25%", "such as 25% by buyer.account"),
        ("25% by card.ref", "25% by card.reff", "did you mean 'card.ref'?"),
        ("25% by card.ref", "25% by amount", "names nobody and nothing"),
        ("25% by card.ref", "25% by buyer.name", "names nobody and nothing"),
        ("    rollout", "    mode: shadow\n    rollout", "so there is nothing to roll out"),
    ],
)
def test_a_rollout_that_cannot_be_is_told(old: str, new: str, said: str, tmp_path: Path) -> None:
    (told,) = books.told(tmp_path, {**books.SMALL, "rules/new.yaml": PACK.replace(old, new)})
    assert "rules/new.yaml:" in told
    assert said in told


# Decisions


def judged(rulebook: Rulebook, bodies: list[dict[str, Any]]) -> list[Decision]:
    world = World(rulebook)
    found = []
    for number, body in enumerate(bodies):
        at = NOW + number * SECOND
        whole = {**rulebook.schema.sample_fields("payment"), "event_id": f"e-{number}", "at": at, **body}
        event = rulebook.schema.build(whole, received_at=at, kind="payment", tenant="t")
        found += world.judge([world.see(event)])
    return found


def test_a_rule_counts_for_the_keys_it_is_rolled_out_to_and_is_in_the_shadow_for_the_others(tmp_path: Path) -> None:
    rulebook = books.book(tmp_path, {**books.SMALL, "rules/new.yaml": PACK})
    decisions = judged(rulebook, [{"amount": "9.00 CNY", "card.ref": f"c-{number}"} for number in range(400)])
    live = [each for each in decisions if each.record["situation"]["rollout"] == ["new.one"]]
    assert 60 < len(live) < 140
    for each in decisions:
        rolled = each in live
        assert (each.record["found"], each.record["shadow"]) == ((["new.one"], []) if rolled else ([], ["new.one"]))
        assert (each.outcome.verdict == "decline") == rolled
    (without,) = judged(rulebook, [{"amount": "9.00 CNY"}])
    assert (without.outcome.verdict, without.record["shadow"]) == ("approve", ["new.one"])


def test_a_larger_share_and_the_same_cards_stay_live(tmp_path: Path) -> None:
    # Buckets go by pseudonyms, which differ from world to world; so the merchant, which is public, is drawn by.
    cards = [{"amount": "9.00 CNY", "merchant.id": f"m-{number}"} for number in range(100)]
    live = []
    for share in ("10%", "40%", "100%"):
        pack = PACK.replace("25% by card.ref", f"{share} by merchant.id")
        decisions = judged(books.book(tmp_path / share, {**books.SMALL, "rules/new.yaml": pack}), cards)
        live.append({number for number, each in enumerate(decisions) if each.record["found"]})
    assert live[0] < live[1] < live[2] == set(range(100))


def test_a_decision_under_a_rollout_is_replayed_from_its_record(tmp_path: Path) -> None:
    rulebook = books.book(tmp_path, {**books.SMALL, "rules/new.yaml": PACK})
    for each in judged(rulebook, [{"amount": "9.00 CNY", "card.ref": f"c-{number}"} for number in range(40)]):
        written = leaf(each.record)
        assert Replayer(rulebook).replay(written).equal
        # Somebody who says that the rule was live for it, or was not, is found out by what follows.
        record = orjson.loads(written)
        record["situation"]["rollout"] = [] if record["situation"]["rollout"] else ["new.one"]
        assert not Replayer(rulebook).replay(leaf(record)).equal


# The shadow

SHADOW = """\
pack: payments/dark
about: Rules that ask for everything and lack all of it.
for: payment
owner: payments-risk
let:
  by_device: count(last 30d by device.id)
  by_buyer: count(last 90d by buyer.account, including this)
rules:
  - {id: dark.always, when: amount >= 0 CNY, signal: card_testing, severity: critical, hard: true, mode: shadow, +}
  - {id: dark.window, when: by_device >= 0 or by_buyer > 0, signal: listed, mode: shadow, if_unknown: fire, +}
  - {id: dark.lost, when: card.bin in list lost, signal: listed, mode: shadow, if_unknown: fire, +}
  - {id: dark.odd, when: buyer.orders is missing, signal: odd_amount, group: g, mode: shadow, +}
  - {id: dark.rolled, when: amount >= 0 CNY or by_device > 0, signal: listed, rollout: 0% by device.id, +}
""".replace("+", "points: 100, because: {en: a, zh: 甲}, basis: {kind: house-policy, review_by: 2027-05-31}")
STRICT = (
    books.POLICY
    + """\
rules:
  - {id: a, when: [not_warm], at_least: review}
  - {id: b, when: [thin_identity], at_least: challenge}
  - {id: c, when: [card_testing], at_least: decline}
degraded:
  model_unavailable: {at_least: review}
  features_unavailable: {at_least: review}
  list_unavailable: {at_least: decline}
"""
)
LOST = "list: lost\nabout: Whose text file is away.\nmatch: exact\nfile: lost.txt\n"


class Pair:
    def __init__(self, plain: Rulebook, dark: Rulebook) -> None:
        self.plain, self.dark = plain, dark

    def __repr__(self) -> str:
        return "a pair of rulebooks"  # whose own words would be long


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A rulebook without rules in the shadow, and the same with some that lack a list and windows."""
    files: Mapping[str, str] = {**books.SMALL, "policies/till.yaml": STRICT}
    plain = books.book(tmp_path_factory.mktemp("plain"), files)
    dark = {**files, "rules/dark.yaml": SHADOW, "rules/lists/lost.yaml": LOST}
    return Pair(plain, books.book(tmp_path_factory.mktemp("dark"), dark, strict=False))


EVENTS = st.lists(
    st.fixed_dictionaries(
        {"amount": st.sampled_from(["1.00 CNY", "41.00 CNY", "61.00 CNY", "90.00 CNY"])},
        optional={
            "card.ref": st.sampled_from("ab"),
            "device.id": st.sampled_from("de"),
            "buyer.account": st.sampled_from("uv"),
            "card.bin": st.just("622848"),
            "ip": st.sampled_from(["192.0.2.9", "198.51.100.1"]),
            "buyer.orders": st.integers(0, 3),
        },
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_with_and_without_rules_in_the_shadow_the_verdict_is_the_same(pair: Pair, bodies: list[dict[str, Any]]) -> None:
    for one, other in zip(judged(pair.plain, bodies), judged(pair.dark, bodies), strict=True):
        assert other.outcome == one.outcome
        assert other.record["notices"] == one.record["notices"]
        assert {"dark.always", "dark.rolled"} <= set(other.record["shadow"])
        assert Replayer(pair.dark).replay(leaf(other.record)).equal


@pytest.mark.parametrize("cause", ["not_warm", "store_unavailable"])
def test_a_window_that_only_the_shadow_reads_may_have_a_gap(pair: Pair, cause: str) -> None:
    rulebook, kind = pair.dark, pair.dark.kinds["payment"]
    body = {**rulebook.schema.sample_fields("payment"), "event_id": "e", "at": NOW}
    seen = World(rulebook).see(rulebook.schema.build(body, received_at=NOW, kind="payment", tenant="t"))
    for slot in kind.slots:
        reading = Reading(seen.reading.values, ((slot, cause),), False, NOW)
        question = Question("q", seen.event, {}, {}, NOW, reading, seen.env, "")
        read_live = rulebook.windows[slot] in {
            window for rule in rulebook.rules if rule.id.startswith("small.") for window in rule.windows
        }
        told = [finding.signal for finding in notices(kind, question)]
        assert told == ([cause] if read_live else [])


@pytest.mark.anyio
async def test_the_shadow_is_explained_and_counted(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    pack = PACK.replace("25%", "0%")
    books.write(tmp_path, {**books.SMALL, "rules/new.yaml": pack})
    rules, policies = tmp_path / "rules", tmp_path / "policies"
    given = Settings(database_url=ledger_url, key_file=key_path, rules=rules, policies=policies)
    async with books.running(given, books.Clock()) as arbiter:
        body = {"kind": "payment", "event_id": "e-1", "at": "2026-11-23T12:00:00Z", "amount": "41.00 CNY"}
        more = {"payment": {"stage": "attempt"}, "card": {"ref": "c-1"}}
        answer = orjson.loads(await arbiter.decide(orjson.dumps(body | more), books.SHOP))
        assert (answer["verdict"], answer["signals"]) == ("challenge", ["odd_amount"])
        auditor = replace(books.LI, scopes=frozenset({"audit"}))
        told = await arbiter.explanation(answer["id"], auditor)
        assert {each["rule"]: (each["mode"], each["rollout"]) for each in told["rules"]} == {
            "small.challenge": ("live", None),
            "new.one": ("shadow", "0% by card.ref"),
        }
        assert dict(arbiter.fired) == {("small.challenge", "live"): 1, ("new.one", "shadow"): 1}
        text = Meters(dict, fired=lambda: arbiter.fired).text().decode()
        assert 'arbiter_findings_total{mode="shadow",rule="new.one"} 1.0' in text
        (rolled,) = [each["rollout"] for each in arbiter.rulebook_info()["rules"] if each["id"] == "new.one"]
        assert rolled == "0% by card.ref"
