"""From findings to verdicts: the real policy, once for each combination of findings that occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from engine.backtest.findings import BITS, Found
from engine.backtest.past import BESIDE, Past
from engine.decide import notice
from engine.expr import Match
from engine.policy import Breaker, Capacity, Policy, Situation
from engine.rulebook import Rulebook
from engine.verdict import Finding, Outcome

NOTICES = ("thin_identity", "mixed_currencies", "feature_capped")
"""What Arbiter may have to say about windows where nothing comes late."""
_BATCH = 500_000


@dataclass(frozen=True)
class Variant:
    """One way in which events were judged: what fired (indexes of the kind's rules), and what the policy said."""

    fired: tuple[int, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Judged:
    """The table `judged` of a warehouse: that of the findings, with the number of each event's variant."""

    table: Any
    variants: Sequence[Variant]
    policy: Policy


def heeded(policy: Policy) -> frozenset[str]:
    """The notices about windows that can move this policy's verdict."""
    return frozenset(signal for signal in NOTICES if policy.heeds(notice(signal)))


def judge(past: Past, rulebook: Rulebook, found: Found, degraded: tuple[str, ...]) -> Judged:
    """The verdict on every event. Breakers trip and queues fill up by the time of the events, as in `arbiter score`."""
    judging = _Judging(past, rulebook, found, degraded)
    policy = judging.policy
    stateful = policy.pack.breaker or (policy.pack.review and policy.pack.review.capacity)
    return judging.in_turn() if stateful else judging.at_once()


@dataclass(frozen=True, slots=True)
class _Combination:
    """Findings that occur together, and all else that a verdict depends on but the policy's own state."""

    fired: tuple[int, ...]
    findings: tuple[Finding, ...]
    tier: str
    odd: str
    states: str


@dataclass
class _Judging:
    past: Past
    rulebook: Rulebook
    found: Found
    degraded: tuple[str, ...]
    _outcomes: dict[tuple[int, frozenset[str], bool], int] = field(default_factory=dict)
    _variants: list[Variant] = field(default_factory=list)
    _telling: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = self.rulebook.kinds[self.past.kind]
        assert self.book.policy is not None, "only judged kinds come here"
        self.policy = self.book.policy
        self.keys = [*self.found.fired, *self.found.unsure, *BESIDE, "notices"]

    def at_once(self) -> Judged:
        """The same verdict for the same findings."""
        combinations = self._combinations()
        for number, each in enumerate(combinations):
            self._variants.append(Variant(each.fired, self._outcome(each, frozenset(), True)))
            assert number == len(self._variants) - 1
        joined = self._numbered().rename(variant="combination")
        return Judged(self.past.warehouse.keep("judged", joined), self._variants, self.policy)

    def in_turn(self) -> Judged:
        """Event after event, as a breaker or the room of a queue is the state of a moment."""
        combinations = self._combinations()
        numbered = self.past.warehouse.keep("numbered", self._numbered())
        turns = numbered.select("seq", "at", "combination").order_by("seq")
        breaker = Breaker(self.policy.pack.breaker) if self.policy.pack.breaker else None
        review = self.policy.pack.review
        queue = Capacity(review.capacity) if review and review.capacity else None
        seqs: list[Any] = []
        variants: list[int] = []
        for batch in self.past.warehouse.batches(turns, _BATCH):
            seqs.append(batch.column(0).to_numpy())
            rows = zip(batch.column(1).to_pylist(), batch.column(2).to_pylist(), strict=True)
            variants += [self._turn(combinations[number], number, at, breaker, queue) for at, number in rows]
        seq = np.concatenate(seqs) if seqs else np.zeros(0, np.int64)
        turned = self.past.warehouse.put("turned", pa.table({"turn": seq, "variant": pa.array(variants, pa.int64())}))
        joined = numbered.join(turned, numbered.seq == turned.turn).drop("turn", "combination")
        return Judged(self.past.warehouse.keep("judged", joined), self._variants, self.policy)

    def _turn(
        self, combination: _Combination, number: int, at: int, breaker: Breaker | None, queue: Capacity | None
    ) -> int:
        tripped = breaker.tripped(at) if breaker else frozenset()
        room = queue.open(at) if queue else True
        known = self._outcomes.get((number, tripped, room))
        if known is None:
            known = self._outcomes[number, tripped, room] = len(self._variants)
            self._variants.append(Variant(combination.fired, self._outcome(combination, tripped, room)))
        outcome = self._variants[known].outcome
        if breaker:
            breaker.record(self.policy.blamed(combination.findings, outcome), at)
        if queue and outcome.verdict == "review":
            queue.take(at)
        return known

    # Combinations

    def _combinations(self) -> list[_Combination]:
        distinct = self.found.table.select(*self.keys).distinct()
        table = self.past.warehouse.arrow(distinct)
        numbers = pa.array(range(table.num_rows), pa.int64())
        # What is the same in all of them tells none apart; one column is always there.
        self._telling = [name for name in self.keys if len(table[name].unique()) > 1] or self.keys[:1]
        self.past.warehouse.put("combinations", table.append_column("combination", numbers))
        fired = indexes([table[name].to_numpy() for name in self.found.fired], table.num_rows)
        unsure = indexes([table[name].to_numpy() for name in self.found.unsure], table.num_rows)
        rest = zip(*(table[name].to_pylist() for name in (*BESIDE, "notices")), strict=True)
        return [
            self._combination(one, tuple(self.found.watched[bit] for bit in other), *more)
            for one, other, more in zip(fired, unsure, rest, strict=True)
        ]

    def _combination(
        self, fired: tuple[int, ...], unsure: tuple[int, ...], tier: str, odd: str, met: str, states: str, notices: str
    ) -> _Combination:
        findings = self.book.findings(Match(fired, unsure, 0, 0), self.book.everyone)
        if met:
            known = [each for each in self.rulebook.exemptions.items if each.id in met.split(",")]
            findings = tuple(one for one in findings if not any(each.covers(one) for each in known))
        said = dict.fromkeys((*filter(None, notices.split(",")), *self.degraded))
        return _Combination(fired, (*findings, *map(notice, said)), tier, odd, states)

    def _outcome(self, combination: _Combination, tripped: frozenset[str], room: bool) -> Outcome:
        test = _tests(combination.states)
        situation = Situation(
            tier=combination.tier,
            causes=self.degraded,
            anomaly=Decimal(combination.odd) if combination.odd else None,
            test=test,
            tripped=tripped,
            review_open=room,
        )
        return self.policy.judge(combination.findings, situation)

    def _numbered(self) -> Any:
        """The findings with the number of their combination."""
        table, known = self.found.table, self.past.warehouse.table("combinations")
        known = known.rename(**{f"c_{name}": name for name in self.keys})
        joined = table.join(known, [table[name] == known[f"c_{name}"] for name in self._telling])
        told = {*BESIDE, "notices"} - {"tier"}
        return joined.select(*(name for name in table.columns if name not in told), "combination")


def _tests(states: str) -> Callable[[str], bool | None]:
    truths = {"True": True, "False": False}
    found = {cause: truths.get(said) for cause, _, said in (each.partition("=") for each in states.split(","))}
    return found.get


def indexes(columns: Sequence[Any], size: int) -> Iterator[tuple[int, ...]]:
    """Of each row the places of its bits, over columns of BITS bits each."""
    if not columns:
        yield from repeat((), size)
        return
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield tuple(_places(row))


def _places(row: Sequence[int]) -> Iterator[int]:
    for number, bits in enumerate(row):
        rest = bits
        while rest:
            lowest = rest & -rest
            yield number * BITS + lowest.bit_length() - 1
            rest ^= lowest
