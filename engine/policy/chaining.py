"""Forward chaining over signals: the one place that calls the C module of durable-rules.

durable-rules has crashes and wrong answers behind most of its features. What is left when only the sound part is used
is a forward chainer over flat facts, and this wrapper allows nothing else:

* A signal, a severity (`any critical`) and an absence (`not`) are each one fact `{"sid", "id", "k"}` whose `k` is
  a short ASCII code, so no name that somebody chose ever reaches the C module. A pattern asks for one `k`; those of a
  rule are distinct. No joins, no `none`, no `or`, no events, no batches, no null.
* A clause with `unless` stands in a later stratum than all that may derive what it negates. Each stratum has its own
  handles; a `not` fact is asserted only when everything that could contradict it has come to its fixpoint.
* One live state a handle, under a lock, deleted in `finally`; a sentinel rule is fired once at load, because the
  module frees memory it never wrote when a state dies before any action ran in it.
* Limits are checked at load; a stratum that is larger than a handle may be is split.

The meaning is that of stratified logic programs: the least fixpoint, stratum by stratum.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, Protocol
from weakref import finalize

import durable_rules_engine

from engine.verdict import SEVERITIES

MAX_TERMS = 15
"""Terms of one clause; the module holds 16 messages in a frame."""
MAX_CODES = 450
"""Distinct terms in one handle; the module hangs when its 512 slots are full."""
MAX_RULES = 200
"""Rules in one handle; the module miscounts from 256 rules on one pattern."""
MAX_CLAUSES = 1000
"""Clauses in one chain: a bound on time, for each decision goes through all of them."""

RANK: Mapping[str, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
_ANY: Mapping[str, int] = {f"any {severity}": rank for severity, rank in RANK.items()}


class _Module(Protocol):
    """What of `durable_rules_engine` we call. It raises `durable_rules_engine.error` for codes other than 0, 1, 2."""

    def create_ruleset(self, name: str, rules: str, /) -> int: ...
    def delete_ruleset(self, handle: int, /) -> None: ...
    def assert_fact(self, handle: int, fact: str, /) -> tuple[int, int]: ...
    def start_action_for_state(self, handle: int, state: int, /) -> tuple[str, str] | None: ...
    def complete_and_start_action(self, handle: int, state: int, /) -> str | None: ...
    def delete_state(self, handle: int, sid: str, /) -> None: ...


# The module has no stubs, and nothing else in it may be used.
_module: _Module = durable_rules_engine

_MATCHED, _NO_PATTERN = 0, 1
_SID = "1"
_SENTINEL = "s0"


def any_rank(term: str) -> int | None:
    """The rank of the severity in a term such as `any high`; None when the term is a signal's name."""
    return _ANY.get(term)


@dataclass(frozen=True, slots=True)
class Clause:
    """When all of `when` hold and none of `unless` does, the clause fires, and `signal` (if named) holds at `severity`.

    A term is a signal's name or `any <severity>`: some signal holds at that severity or a worse one.
    """

    id: str
    when: tuple[str, ...]
    unless: tuple[str, ...] = ()
    signal: str = ""
    severity: str = "info"


class Chained(NamedTuple):
    """The fixpoint: each signal that holds with its severity's rank (found ones first), and the clauses that fired."""

    signals: Mapping[str, int]
    fired: tuple[int, ...]


class Knot(NamedTuple):
    """A clause that stands on its own absence: `term` is the negated one, `path` the clauses from it to itself."""

    clause: int
    term: str
    path: tuple[int, ...]


class Chain:
    """Clauses, compiled. Any number of threads may `run` one chain; its handles go when it is collected.

    Raises ValueError for clauses outside the safe subset: `strata`, `knots` and the limits above say so beforehand.
    """

    __slots__ = ("_strata", "clauses")

    def __init__(self, clauses: Sequence[Clause]) -> None:
        self.clauses = tuple(clauses)
        self._strata = tuple(_shards(self.clauses, members) for members in strata(self.clauses))

    def run(self, found: Mapping[str, int]) -> Chained:
        """The fixpoint over `found`, a severity's rank by signal. Calls no C code when no clause knows a signal."""
        held = dict(found)
        fired: set[int] = set()
        for shards in self._strata:
            if len(shards) == 1:
                fired.update(shards[0].run(held))
            else:
                _run_together(shards, held, fired)
        return Chained(held, tuple(sorted(fired)))


def _run_together(shards: Sequence[_Shard], held: dict[str, int], fired: set[int]) -> None:
    """Shards of one stratum, again and again until none adds a signal. Within a stratum nothing is ever taken back."""
    before: dict[str, int] | None = None
    while held != before:
        before = dict(held)
        for shard in shards:
            fired.update(shard.run(held))


class _Shard:
    """One handle of the C module. Everything that touches it happens under its lock."""

    __slots__ = ("__weakref__", "_absences", "_clauses", "_handle", "_lock", "_names", "_severities", "_signals")

    def __init__(self, clauses: Mapping[int, Clause]) -> None:
        for clause in clauses.values():
            _refuse_unsafe(clause)
        codes = _codes(clauses.values())
        self._clauses = clauses
        self._names = {f"r{index}": index for index in clauses}
        self._signals = {term: _fact(code) for (sign, term), code in codes.items() if sign and term not in _ANY}
        self._severities = [(_ANY[term], _fact(code)) for (sign, term), code in codes.items() if sign and term in _ANY]
        self._absences = [(term, _ANY.get(term), _fact(code)) for (sign, term), code in codes.items() if not sign]
        self._lock = Lock()
        self._handle = _module.create_ruleset("policy", _ruleset(clauses, codes))
        # Not at exit: a daemon thread may still be inside, and the process takes its memory along.
        finalize(self, _module.delete_ruleset, self._handle).atexit = False
        self._warm()

    def run(self, held: dict[str, int]) -> list[int]:
        """The clauses of this shard that fire over `held`, which gains what they derive."""
        worst = max(held.values(), default=-1)
        signals = self._signals
        facts = [signals[signal] for signal in held if signal in signals]
        facts += [fact for rank, fact in self._severities if rank <= worst]
        if not facts:
            return []  # each clause asks for something that holds, so nothing can fire
        for term, rank, fact in self._absences:
            if (term not in held) if rank is None else (rank > worst):
                facts.append(fact)
        with self._lock:
            return self._chain(facts, held, worst)

    def _chain(self, facts: list[str], held: dict[str, int], worst: int) -> list[int]:
        fired: list[int] = []
        try:
            while facts:
                news = self._tell(facts)
                fired += news
                facts, worst = self._derived(news, held, worst)
        finally:
            _module.delete_state(self._handle, _SID)
        return fired

    def _tell(self, facts: Iterable[str]) -> list[int]:
        """Assert the facts, one call each, and take all actions that come of them."""
        state = 0
        for fact in facts:
            code, state = _module.assert_fact(self._handle, fact)
            if code != _MATCHED and code != _NO_PATTERN:
                raise RuntimeError(f"durable-rules answered {code} to a fact it had not seen")
        fired = []
        started = _module.start_action_for_state(self._handle, state)
        message = started[1] if started else None
        while message is not None:
            # The answer is '{"r12":{"m0":…': the first quoted word is the rule.
            fired.append(self._names[message[2 : message.index('"', 2)]])
            message = _module.complete_and_start_action(self._handle, state)
        return fired

    def _derived(self, fired: Iterable[int], held: dict[str, int], worst: int) -> tuple[list[str], int]:
        """The facts that are new because of `fired`, and the worst rank that now holds."""
        facts = []
        for index in sorted(fired):
            clause = self._clauses[index]
            if not clause.signal:
                continue
            rank, before = RANK[clause.severity], held.get(clause.signal)
            if before is None and clause.signal in self._signals:
                facts.append(self._signals[clause.signal])
            if before is None or before < rank:
                held[clause.signal] = rank
            if rank > worst:
                facts += [fact for asked, fact in self._severities if worst < asked <= rank]
                worst = rank
        return facts, worst

    def _warm(self) -> None:
        """Fire the sentinel once: from then on the slot's context is initialised, whatever a later state does."""
        try:
            code, state = _module.assert_fact(self._handle, _fact(_SENTINEL))
            started = _module.start_action_for_state(self._handle, state)
            if code != _MATCHED or started is None or '"sentinel"' not in started[1]:
                raise RuntimeError("durable-rules did not fire the sentinel rule")
            _module.complete_and_start_action(self._handle, state)
        finally:
            _module.delete_state(self._handle, _SID)


def _refuse_unsafe(clause: Clause) -> None:
    terms = [*clause.when, *clause.unless]
    if not clause.when:
        raise ValueError(f"{clause.id}: a clause needs something that holds")
    if len(terms) > MAX_TERMS:
        raise ValueError(f"{clause.id}: more than {MAX_TERMS} terms")
    if len(set(clause.when)) + len(set(clause.unless)) != len(terms):
        raise ValueError(f"{clause.id}: a term stands there twice")


def _codes(clauses: Iterable[Clause]) -> dict[tuple[bool, str], str]:
    """A code for each (holds, term) that the clauses ask for."""
    asked = dict.fromkeys(pair for clause in clauses for pair in _asked(clause))
    return {pair: f"s{number}" for number, pair in enumerate(asked, start=1)}


def _asked(clause: Clause) -> Iterator[tuple[bool, str]]:
    yield from ((True, term) for term in clause.when)
    yield from ((False, term) for term in clause.unless)


def _fact(code: str) -> str:
    return f'{{"sid":"{_SID}","id":"{code}","k":"{code}"}}'


def _ruleset(clauses: Mapping[int, Clause], codes: Mapping[tuple[bool, str], str]) -> str:
    rules = {f"r{index}": _rule(codes[pair] for pair in _asked(clause)) for index, clause in clauses.items()}
    return json.dumps({"sentinel": _rule([_SENTINEL]), **rules})


def _rule(codes: Iterable[str]) -> dict[str, object]:
    return {"all": [{f"m{place}": {"k": code}} for place, code in enumerate(codes)]}


def _shards(clauses: Sequence[Clause], members: Sequence[int]) -> tuple[_Shard, ...]:
    """One stratum as handles, each within the limits, filled in the order of the file."""
    groups: list[dict[int, Clause]] = [{}]
    terms: set[tuple[bool, str]] = set()
    for index in members:
        asked = set(_asked(clauses[index]))
        if len(groups[-1]) >= MAX_RULES or len(terms | asked) >= MAX_CODES:
            groups.append({})
            terms = set()
        groups[-1][index] = clauses[index]
        terms |= asked
    return tuple(_Shard(group) for group in groups)


def strata(clauses: Sequence[Clause]) -> list[list[int]]:
    """The indices of the clauses by stratum: not before what derives their `when`, after what derives their `unless`.

    Raises ValueError when there is no such order (`knots` tells why) or there are too many clauses.
    """
    if len(clauses) > MAX_CLAUSES:
        raise ValueError(f"more than {MAX_CLAUSES} clauses")
    levels = _levels(clauses)
    if levels is None:
        raise ValueError("a signal depends on its own absence")
    return [[i for i, level in enumerate(levels) if level == wanted] for wanted in sorted(set(levels))]


def _levels(clauses: Sequence[Clause]) -> list[int] | None:
    """The lowest stratum of each clause. None when there is none: no path crosses more `unless` than there are."""
    feeds = _feeds(clauses)
    highest = sum(1 for clause in clauses if clause.unless)
    levels = [0] * len(clauses)
    changed = True
    while changed:
        changed = False
        for index, sources in enumerate(feeds):
            level = max((levels[source] + negated for source, negated in sources), default=0)
            if level > levels[index]:
                levels[index], changed = level, True
            if level > highest:
                return None
    return levels


def _feeds(clauses: Sequence[Clause]) -> list[list[tuple[int, bool]]]:
    """Per clause, which clauses derive something it asks for, and whether it asks for the absence."""
    by_term: dict[str, list[int]] = {}
    for index, clause in enumerate(clauses):
        if clause.signal:
            reached = (term for term, rank in _ANY.items() if rank <= RANK[clause.severity])
            for term in (clause.signal, *reached):
                by_term.setdefault(term, []).append(index)
    return [
        list(dict.fromkeys((source, not holds) for holds, term in _asked(clause) for source in by_term.get(term, ())))
        for clause in clauses
    ]


def knots(clauses: Sequence[Clause]) -> list[Knot]:
    """Every clause that can only fire when something it leads to does not hold."""
    if _levels(clauses) is not None:
        return []
    feeds = _feeds(clauses)
    found = []
    for index, clause in enumerate(clauses):
        sources = {source for source, negated in feeds[index] if negated}
        path = _path(feeds, index, sources)
        if path:
            last = clauses[path[-1]]
            term = next(term for term in clause.unless if _meets(last, term))
            found.append(Knot(index, term, path))
    return found


def _meets(clause: Clause, term: str) -> bool:
    rank = _ANY.get(term)
    return clause.signal == term if rank is None else RANK[clause.severity] >= rank


def _path(feeds: Sequence[Sequence[tuple[int, bool]]], start: int, ends: set[int]) -> tuple[int, ...]:
    """The shortest way from a clause along what it feeds to one of `ends`; empty when there is none."""
    fed: dict[int, list[int]] = {}
    for target, sources in enumerate(feeds):
        for source, _ in sources:
            fed.setdefault(source, []).append(target)
    ways: dict[int, tuple[int, ...]] = {start: (start,)}
    queue = [start]
    for index in queue:
        if index in ends:
            return ways[index]
        for target in fed.get(index, ()):
            if target not in ways:
                ways[target] = (*ways[index], target)
                queue.append(target)
    return ()
