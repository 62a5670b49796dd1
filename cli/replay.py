"""A table judged as a server would have judged it: every row in the order of time, over windows that hold what was
known at that moment, by the same features and the same `decide`.

Pure: no ledger and no vault. Pseudonyms come from a key that is thrown away.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from cli.history import Happened, History, Refused, Step, nothing
from cli.tables import Bad, Rows
from engine.decide import Decision, Question, decide
from engine.detectors import NO_MODELS, Look, Models, Row
from engine.errors import RequestRefused, with_article
from engine.expr import Env, Window
from engine.features import Facts, Features, Reading
from engine.garbage import uncollected
from engine.lists import UNAVAILABLE
from engine.mapping import Table
from engine.policy import Breaker, Capacity
from engine.rulebook import KindBook, Rulebook
from engine.schema import Event
from engine.stores import MemoryStore
from engine.vault import KeyFile, Vault

TOGETHER = 256
"""Events that are counted one by one and then judged together: a model looks at a batch of rows in less time."""
_KEY = 32


class Seen(NamedTuple):
    """An event that was counted, and all that its decision needs beside the models. `tier` is the merchant's."""

    event: Event
    facts: Facts
    reading: Reading
    env: Env
    tier: str


class World:
    """Windows, breakers and review queues of one rulebook, without a past. Events must come in the order of time.

    `windows` are those of the rulebook that are kept, where not all are needed. With `everyone` each rollout has
    reached all keys: pseudonyms are others in each world, and so are those that a share would draw.
    """

    def __init__(
        self,
        rulebook: Rulebook,
        models: Models = NO_MODELS,
        windows: Sequence[Window] | None = None,
        *,
        everyone: bool = False,
    ) -> None:
        self._rulebook = rulebook
        self._everyone = everyone
        self._models = models
        self._vault = Vault.unkept(_throwaway_keys())
        # Nothing comes late here, so nothing has to be kept for it.
        kept, reads = (rulebook.windows, rulebook.reads) if windows is None else (windows, None)
        self._features = Features(kept, MemoryStore(0), reads=reads, convert=rulebook.convert)
        self._features.restore(())
        self._arrival = 0
        policies = rulebook.policies
        self._breakers = {name: Breaker(each.pack.breaker) for name, each in policies.items() if each.pack.breaker}
        self._queues = {
            name: Capacity(each.pack.review.capacity)
            for name, each in policies.items()
            if each.pack.review and each.pack.review.capacity
        }

    def see(self, event: Event, tier: str = "") -> Seen:
        """An event counted, with what the windows hold as of it. `tier`: the merchant's, "" for the default one."""
        facts, now, book = self._facts(event), event.received_at, self._rulebook
        env = Env(event.at, now, book.lists.lookups(now, event.tenant), book.convert)
        return Seen(event, facts, self._features.observe(facts), env, tier)

    def judge(self, seen: Sequence[Seen]) -> Iterator[Decision]:
        """The decisions on events of one kind that a policy judges, in the order in which they were seen."""
        if seen:
            kind = self._rulebook.kinds[seen[0].event.kind]
            looks = kind.looks(self._models, [(each.event.values, each.reading.values, each.env) for each in seen])
            yield from map(self._judge, seen, looks)

    def _judge(self, seen: Seen, look: Look | None) -> Decision:
        rulebook, (event, facts, reading, env, tier) = self._rulebook, seen
        kind = rulebook.kinds[event.kind]
        policy = kind.policy
        assert policy is not None, "only judged kinds come here"
        lists, now = rulebook.lists, event.received_at
        breaker, queue = self._breakers.get(policy.name), self._queues.get(policy.name)
        rolled = kind.everyone if self._everyone else kind.rolled(facts.keys, event.values)
        question = Question(
            id=event.id,
            event=event,
            public=facts.values,
            keys=facts.keys,
            arrival=facts.arrival,
            reading=reading,
            env=env,
            tier=tier,
            degraded=degraded(rulebook, kind, self._models, rolled),
            rolled=rolled,
            tripped=breaker.tripped(now) if breaker else frozenset(),
            review_open=queue.open(now) if queue else True,
            lists=lists.hashes(kind.lists, event.tenant),
            look=look,
        )
        decision = decide(rulebook, question)
        if breaker:
            breaker.record(policy.blamed(decision.findings, decision.outcome), now)
        if queue and decision.outcome.verdict == "review":
            queue.take(now)
        return decision

    def row(self, event: Event) -> Row:
        """An event of a kind with a detector, as an anomaly model sees it."""
        _, _, reading, env, _ = self.see(event)
        read = self._rulebook.kinds[event.kind].row
        assert read is not None, "only kinds with a detector come here"
        return read(event.values, reading.values, env)

    def feed(self, event: Event) -> None:
        """Let windows see an event that is not judged."""
        self._features.observe(self._facts(event))

    def report(self, outcome: Event, about: Event) -> None:
        """Let windows see an outcome; it takes over what the event it is about holds."""
        first, own = self._facts(about), self._facts(outcome)
        values, keys = {**first.values, **own.values}, {**first.keys, **own.keys}
        self._features.observe(Facts(own.kind, own.tenant, own.id, own.at, own.arrival, values, keys))

    def _facts(self, event: Event) -> Facts:
        public, _, entities = self._rulebook.schema.split(event)
        name = self._vault.pseudonym
        keys = {path: name(event.tenant, namespace, value) for path, namespace, value in entities}
        self._arrival = max(self._arrival + 1, event.received_at)
        return Facts(event.kind, event.tenant, event.id, event.at, self._arrival, public, keys)


def degraded(rulebook: Rulebook, kind: KindBook, models: Models, rolled: frozenset[str]) -> tuple[str, ...]:
    """What does not work where events of a kind are judged with these models, and rollouts are live for these rules."""
    causes = ["model_unavailable"] if kind.lacks_model(models, rolled) else []
    if not all(map(rulebook.lists.available, kind.basis(rolled).lists)):
        causes.append(UNAVAILABLE)
    return tuple(causes)


def _throwaway_keys() -> KeyFile:
    key = os.urandom(_KEY)
    return KeyFile("score.invalid/none", {"none": key}, "none", os.urandom(_KEY), os.urandom(_KEY), os.urandom(_KEY))


@dataclass(slots=True)
class Tally:
    """What came of a table. `seconds`: from cells to verdicts; `judging`: the part spent in windows and `decide`."""

    events: int = 0
    outcomes: int = 0
    refused: int = 0
    seconds: float = 0.0
    judging: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)


Told = Callable[[int, Event, Decision], None]
ToldRow = Callable[[int, Event, Row], None]
Wants = Callable[[int, Event], bool]


class Replay:
    """All rows of a table through one world, once: `run` judges them, `measure` gives the rows of a model.

    `refused(bad)` gets every row that is no event, `step(count)` how many more rows are done. `wants` says which events
    are asked about; the others only feed the windows.
    """

    def __init__(self, rulebook: Rulebook, table: Table, rows: Rows, models: Models = NO_MODELS) -> None:
        self.tally = Tally()
        self._kind = rulebook.kinds[table.kind]
        self._judged = ", ".join(rulebook.judged) or "none"
        self._world = World(rulebook, models, everyone=True)
        self._history = History(table, rows, rulebook)

    def run(self, told: Told, refused: Refused, *, wants: Wants | None = None, step: Step = nothing) -> Tally:
        """Judge everything: `told(row, event, decision)` gets every decision. RequestRefused without a policy."""
        if self._kind.policy is None:
            what = f"no policy judges {with_article(self._kind.kind)}"
            raise RequestRefused(f"{what}; kinds that are judged: {self._judged}")

        waiting: list[tuple[int, Seen]] = []

        def judge() -> None:
            start = perf_counter()
            decisions = list(self._world.judge([seen for _, seen in waiting]))
            self.tally.judging += perf_counter() - start
            for (number, seen), decision in zip(waiting, decisions, strict=True):
                self.tally.verdicts[decision.outcome.verdict] += 1
                told(number, seen.event, decision)
            waiting.clear()

        def see(happened: Happened) -> None:
            start = perf_counter()
            waiting.append((happened.row, self._world.see(happened.event, happened.beside.tier)))
            self.tally.judging += perf_counter() - start
            if len(waiting) == TOGETHER:
                judge()

        self._all(see, lambda *_: None, refused, wants, step)
        began = perf_counter()
        judge()
        self.tally.seconds += perf_counter() - began
        return self.tally

    def measure(
        self,
        told: ToldRow,
        reported: Callable[[int, Event], None],
        refused: Refused,
        *,
        wants: Wants | None = None,
        step: Step = nothing,
    ) -> Tally:
        """See everything as a model does: `told(row, event, features)` gets every event that is asked about, and
        `reported(row, outcome)` every outcome. RequestRefused without a detector."""
        if self._kind.detector is None:
            what = f"no file declares what a model of {self._kind.kind} events looks at"
            raise RequestRefused(f"{what}: write one with 'anomaly:' (docs/models.md)")
        self._all(lambda at: told(at.row, at.event, self._world.row(at.event)), reported, refused, wants, step)
        return self.tally

    def _all(
        self,
        ask: Callable[[Happened], None],
        reported: Callable[[int, Event], None],
        refused: Refused,
        wants: Wants | None,
        step: Step,
    ) -> None:
        began = perf_counter()

        def refuse(bad: Bad) -> None:
            self.tally.refused += 1
            refused(bad)

        with uncollected():  # Each event leaves some objects that stay, and none that only the collector would free.
            for happened in self._history.walk(refuse, step):
                number, event = happened.row, happened.event
                if happened.about is not None:
                    self._world.report(event, happened.about)
                    self.tally.outcomes += 1
                    reported(number, event)
                    continue
                self.tally.events += 1
                if wants is not None and not wants(number, event):
                    self._world.feed(event)
                    continue
                ask(happened)
        self.tally.seconds = perf_counter() - began
