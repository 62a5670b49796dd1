"""The windows of a rulebook over a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from engine.expr import Env, Expression, Window, value_of
from engine.features.facts import Convert, Facts, Reading, Test
from engine.features.finishing import finish_of
from engine.features.giving import text_at
from engine.features.groups import Group, frames_of, groups_of
from engine.features.plan import Part, Plan
from engine.links import Asked, Linkage, LinkPlan, linkages
from engine.links.plan import about_links
from engine.money import Money
from engine.stores import Gap, Series, Store, StoreUnavailable, Touch

_AS_THEY_ARE = frozenset((int, Money))
"""Types of answers that are the value of their window."""


class Features:
    """The windows of a rulebook, over one store. Threads may share it as far as they may share the store.

    `reads` says which windows (by index) an event kind reads; without it every kind reads all. `convert` gives the
    rates for `amount in CNY`: it is asked with the event's own time, so that a rebuilt window is the same.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        store: Store,
        *,
        reads: Mapping[str, Sequence[int]] | None = None,
        convert: Convert | None = None,
        compiler: Callable[[Expression], Test] = value_of,
    ) -> None:
        self.windows = tuple(windows)
        self._store = store
        self._reads = reads
        self._convert = convert or _no_rates
        self._compiler = compiler
        self._groups = groups_of(self.windows)
        self._linkages = linkages(self.windows)
        self._series = [(group.series, group.windows) for group in self._groups]
        self._series += [(linkage.series, linkage.windows) for linkage in self._linkages]
        self._finishes = [finish_of(window, compiler) for window in self.windows]
        self._plans: dict[str, Plan] = {}
        """By event kind; made when first needed, and again once more windows are warm."""
        store.declare(series for series, _ in self._series)

    @property
    def ready(self) -> bool:
        """Whether every window is warm."""
        return not self.cold

    @property
    def history(self) -> int:
        """How far behind the newest event `restore` has to reach back, in microseconds."""
        return max((series.span for series, _ in self._series), default=0) + self._store.lateness

    @property
    def since(self) -> int | None:
        """From which time of receipt on `restore` needs the facts that `history` reaches; None for all of them."""
        return self._store.since(self.cold)

    def warm(self, window: int) -> bool:
        """Whether the window with this index has its whole history."""
        return all(self._store.warm(series.name) for series, windows in self._series if window in windows)

    def observe(self, facts: Facts) -> Reading:
        """The windows as of this event, and the event added to them, as one step.

        An event that was added before (tenant and id) is not added again, and reads as of the first time. When the
        store does not answer, all windows are unknown with a gap and nothing is added.
        """
        plan = self._plans.get(facts.kind) or self._plan(facts.kind)
        values: list[Any] = [None] * len(self.windows)
        gaps: list[tuple[int, str]] = []
        if plan.idle:
            return Reading(values, (), False, facts.arrival)
        env = self._env(facts) if plan.computes else None
        touches, order = plan.touches(facts, env, gaps)
        try:
            arrival, added, answers = self._store.observe(facts, touches)
        except StoreUnavailable:
            return Reading(values, plan.unavailable, False, facts.arrival)
        if _AS_THEY_ARE.issuperset(map(type, answers)):
            for index, answer in zip(order, answers, strict=True):
                values[index] = answer
            return Reading(values, tuple(gaps), added, arrival)
        for index, answer in zip(order, answers, strict=True):
            if type(answer) is Gap:
                gaps.append((index, str(answer)))
            elif type(answer) in _AS_THEY_ARE:
                values[index] = answer
            else:
                values[index] = self._finishes[index](answer, facts, env)
        return Reading(values, tuple(gaps), added, arrival)

    def keep(self, facts: Facts) -> None:
        """Let the store know that an observed event is in the ledger now."""
        self._store.keep(facts)

    def forget(self, facts: Facts) -> None:
        """Take an event out again whose commit failed: the windows are as if it had never been observed.

        Does nothing for facts that were not added (a duplicate, a store that was away). Raises StoreUnavailable.
        """
        self._store.forget(facts, self._plan(facts.kind).adds(facts, self._env(facts)))

    @property
    def cold(self) -> dict[str, Series]:
        """By name, the series whose history has to be loaded."""
        return {series.name: series for series, _ in self._series if not self._store.warm(series.name)}

    def restore(self, facts: Iterable[Facts], since: int | None = None, only: Collection[str] | None = None) -> None:
        """Load the history of every window that is not warm, in one call and in any order: all of it, or what was
        received from `since` on, if the property said so before the facts were read.

        Events may be observed meanwhile, and be among the facts. `only` names the series of which the store holds all
        but these facts. Raises StoreUnavailable.
        """
        cold = [name for name in self.cold if only is None or name in only]
        if cold:
            self._store.load(self._rows(facts), cold, since)
        self._plans.clear()  # Which groups can be asked about stands in them.

    def add(self, facts: Facts) -> None:
        """Add an event of the ledger that the windows may lack, with the arrival it has. Raises StoreUnavailable."""
        self._store.add(facts, self._plan(facts.kind).adds(facts, self._env(facts)))

    def close(self, *, leave: bool = False) -> None:
        """Let the store drop what no other Features counts; `leave` where another process does it (`Store.leave`)."""
        let_go = self._store.leave if leave else self._store.release
        let_go([series.name for series, _ in self._series])

    def _rows(self, facts: Iterable[Facts]) -> Iterator[tuple[Facts, list[Touch]]]:
        for one in facts:
            plan = self._plan(one.kind)
            if plan.idle:
                continue
            yield one, plan.adds(one, self._env(one) if plan.computes else None)

    def _env(self, facts: Facts) -> Env:
        return Env(at=facts.at, received_at=facts.at, lists={}, convert=self._convert)

    def _plan(self, kind: str) -> Plan:
        plan = self._plans.get(kind)
        if plan is None:
            reads = range(len(self.windows)) if self._reads is None else self._reads.get(kind, ())
            wanted = frozenset(reads)
            parts = [self._part(group, kind, wanted) for group in self._groups]
            links = [LinkPlan(each, kind, self._asked(each, wanted), text_at) for each in self._linkages]
            used = [part for part in parts if part.adds or not wanted.isdisjoint(part.group.windows)]
            plan = self._plans[kind] = Plan(used, self._compiler, [each for each in links if not each.idle])
        return plan

    def _part(self, group: Group, kind: str, reads: frozenset[int]) -> Part:
        read = tuple(index for index in group.windows if index in reads and not self.windows[index].groups)
        frames, order = frames_of(group, self.windows, read)
        return Part(group, kind in group.kinds, read, frames, order)

    def _asked(self, linkage: Linkage, reads: frozenset[int]) -> list[Asked]:
        """The questions about groups that a kind of event has, of one series of links."""
        read = [index for index in linkage.windows if index in reads]
        links = {index for index in read if not self.windows[index].kinds}
        asked = [about_links(index, self.windows[index], cold=not self.warm(index)) for index in sorted(links)]
        for group in self._groups:
            grouped = [index for index in group.windows if index in read]
            for one in dict.fromkeys(self.windows[index].groups[0] for index in grouped):
                mine = [index for index in grouped if self.windows[index].groups[0] == one]
                frames, order = frames_of(group, self.windows, mine)
                cold = not self.warm(mine[0])
                asked.append(Asked(one, order, series=group.series.name, by=group.by, frames=frames, cold=cold))
        return asked


def _no_rates(money: Money, currency: str, _: int) -> Money | None:
    return money if money.currency == currency else None
