"""The units of experiments, counted out of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from engine.errors import NotFound, PackError
from engine.experiments import ARMS, LIVE, SHADOW, Experiment, Standing, Unit, standing
from engine.ledger import Fact, Ledger
from engine.rollout import key_of
from engine.rulebook import Rulebook
from engine.rules import Rule
from engine.schema import decode

_AT_ONCE = 64
"""Entries that are looked at before others have their turn."""

ByHash = Callable[[str], Awaitable[Rulebook]]
"""Gives the rulebook of a hash."""


async def tally(
    ledger: Ledger, rulebook: Rulebook, experiments: Sequence[Experiment], by_hash: ByHash, tenant: str, now: int
) -> list[Standing]:
    """How far experiments of `rulebook` are for one tenant at `now` (UTC µs), in one reading of the ledger.

    A decision counts where the rulebook it was made under already had the experiment and the rule as they are now:
    what was seen before the question was asked answers nothing, and another rule is another question.
    """
    if not experiments:
        return []
    counting = [_Counting(rulebook, each, by_hash) for each in experiments]
    async for facts in ledger.facts_of(tenant, min(each.since for each in experiments)):
        for number, fact in enumerate(facts):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)  # a server answers others meanwhile
            for each in counting:
                if each.may_matter(fact):
                    await each.see(fact)
    return [each.standing(now) for each in counting]


class _Counting:
    """Facts in the order of their arrival to units."""

    def __init__(self, rulebook: Rulebook, experiment: Experiment, by_hash: ByHash) -> None:
        self._experiment = experiment
        self._rule = _rule(rulebook, experiment)
        self._by_hash = by_hash
        self._same = {rulebook.hash: True}
        self._seen: set[str] = set()
        self._first: dict[str, list[tuple[str, int, bool]]] = {arm: [] for arm in ARMS}
        self._hits: set[str] = set()
        self._at: dict[str, int] = {}
        self._keyless = 0
        # In a leaf every text stands as JSON; few leaves hold one of these, and the others need not be read.
        self._named = orjson.dumps(experiment.rule)
        self._results = tuple(map(orjson.dumps, experiment.outcomes))

    def may_matter(self, fact: Fact) -> bool:
        """Whether a decision or outcome can say anything here, by a look at its bytes."""
        names = self._results if fact.event_kind == "outcome" else (self._named,)
        return fact.received_at >= self._experiment.since and any(name in fact.leaf for name in names)

    async def see(self, fact: Fact) -> None:
        """Take in one decision or outcome."""
        if fact.kind == "decision" and fact.event_kind in self._experiment.kinds:
            await self._decision(fact, orjson.loads(fact.leaf))
        elif fact.event_kind == "outcome" and self._experiment.outcomes:
            self._outcome(decode(orjson.loads(fact.leaf)["event"]["public"])["outcome"], fact.at)

    async def _decision(self, fact: Fact, record: dict[str, Any]) -> None:
        asked = self._experiment
        arm = LIVE if asked.rule in _live(record) else SHADOW if asked.rule in record["shadow"] else ""
        if not arm or not await self._holds(record["pins"]["rulebook"]):
            return
        key = key_of(asked.rollout.by, fact.keys, decode(record["event"]["public"]))
        if key is None:
            self._keyless += 1
        elif key not in self._seen:
            self._seen.add(key)
            event = record["event"]["id"]
            self._first[arm].append((event, fact.at, record["verdict"] in asked.verdicts))
            self._at[event] = fact.at

    def _outcome(self, outcome: dict[str, Any], at: int) -> None:
        began = self._at.get(outcome["refers_to"])
        within = began is not None and at < began + self._experiment.within
        if within and outcome["result"] in self._experiment.outcomes:
            self._hits.add(outcome["refers_to"])

    async def _holds(self, named: str) -> bool:
        """Whether a rulebook has this experiment and this rule."""
        if named not in self._same:
            try:
                book = await self._by_hash(named)
            except (PackError, NotFound):  # nobody can read it any more, so nobody knows what it asked
                self._same[named] = False
            else:
                same = self._experiment in book.experiments
                self._same[named] = same and _said(_rule(book, self._experiment)) == _said(self._rule)
        return self._same[named]

    def standing(self, now: int) -> Standing:
        units = {
            arm: [Unit(event, at, hit or event in self._hits) for event, at, hit in first]
            for arm, first in self._first.items()
        }
        return standing(self._experiment, units, self._keyless, now)


def _live(record: dict[str, Any]) -> list[str]:
    """The rules whose findings counted, or would have but for an exception."""
    return [*record["found"], *(hit["rule"] for hit in record["exempted"])]


def _rule(rulebook: Rulebook, experiment: Experiment) -> Rule:
    return next(rule for rule in rulebook.rules if rule.id == experiment.rule)


def _said(rule: Rule) -> tuple[Any, ...]:
    """What a rule asks and does."""
    return (rule.condition.meaning, rule.kinds, rule.rollout, rule.if_unknown, rule.finding)
