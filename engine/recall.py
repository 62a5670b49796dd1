"""Breakers and review queues after a restart: counted again from the decisions in the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from engine.decide import notice
from engine.intake import Live
from engine.ledger import Fact
from engine.policy import Policy, unforced
from engine.verdict import Finding, Outcome, Step


def reach(live: Live) -> int:
    """How far back any breaker or queue looks, in microseconds."""
    periods = [breaker.clause.over for breaker in live.breakers.values()]
    return max([*periods, *(capacity.rate.period for capacity in live.capacities.values())], default=0)


def recall(live: Live, facts: Iterable[Fact], now: int) -> None:
    """Count these decisions, in any order, for every breaker and queue of `live`."""
    hard = frozenset(rule.id for rule in live.rulebook.rules if rule.finding.hard)
    declines: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    reviews: dict[str, list[int]] = defaultdict(list)
    for fact in facts:
        policy = _policy(live, fact.event_kind)
        if policy is None or fact.kind != "decision":
            continue
        record = orjson.loads(fact.leaf)
        declines[policy.name].append((fact.received_at, blamed(policy, record, hard)))
        if unforced(_outcome(record)) == "review":
            reviews[policy.name].append(fact.received_at)
    for name, breaker in live.breakers.items():
        breaker.recall(declines[name], now)
    for name, capacity in live.capacities.items():
        capacity.recall(reviews[name], now)


def blamed(policy: Policy, record: Mapping[str, Any], hard: Collection[str]) -> frozenset[str]:
    """The rules that a recorded decision counts against (see `Policy.blamed`), where `hard` are the hard rules."""
    found = [
        Finding(
            rule=reason["rule"],
            signal=reason["signal"],
            severity=reason["severity"],
            points=reason["points"],
            hard=reason["rule"] in hard,
        )
        for reason in record["reasons"]
    ]
    return policy.blamed([*found, *map(notice, record["notices"])], _outcome(record))


def _outcome(record: Mapping[str, Any]) -> Outcome:
    steps = tuple(Step(**step) for step in record["steps"])
    return Outcome(record["verdict"], record["score"], tuple(record["signals"]), (), steps)


def _policy(live: Live, kind: str) -> Policy | None:
    book = live.rulebook.kinds.get(kind)
    return book.policy if book else None
