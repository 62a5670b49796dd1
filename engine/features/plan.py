"""What to do at one kind of event: whatever does not depend on the event is worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from engine.features.facts import STORE_UNAVAILABLE, THIN_IDENTITY, Compiler, Facts
from engine.features.giving import give_of, is_path, key_of
from engine.features.groups import Group
from engine.links import LinkPlan
from engine.stores import PERCENTILE, Frame, Gap, Touch


class Part(NamedTuple):
    """What one kind of event has to do with a group: whether it adds, which windows it reads, the questions that can be
    answered now, and the windows in the order of the questions."""

    group: Group
    adds: bool
    read: tuple[int, ...]
    frames: tuple[Frame, ...]
    order: tuple[int, ...]


class Plan:
    """What to do at one kind of event. What several series have in common is worked out once an event."""

    def __init__(self, parts: Sequence[Part], compiler: Compiler, links: Sequence[LinkPlan] = ()) -> None:
        self._links = links
        bys = sorted({part.group.by for part in parts})
        self._keys = [(by[0] if len(by) == 1 else "", key_of(by)) for by in bys]
        adding = [part.group for part in parts if part.adds]
        # A percentile asks about the event's own value, whether or not the event is counted.
        giving = adding + [part.group for part in parts if _ranks(part.frames) and not part.adds]
        wheres = {group.where.text: group.where for group in adding if group.where}
        self._wheres = [compiler(where) for where in wheres.values()]
        columns = {column.name: column for group in giving for column in group.columns}
        self._gives = [give_of(column, compiler) for column in columns.values()]
        bundles = dict.fromkeys(tuple(column.name for column in group.columns) for group in giving)
        self._picks = [_picker([list(columns).index(name) for name in names]) for names in bundles]
        self.computes = bool(wheres) or any(
            column.argument is None or not is_path(column.argument) for part in parts for column in part.group.columns
        )
        self._rows = []
        for group, adds, read, frames, order in parts:
            where = list(wheres).index(group.where.text) if adds and group.where else -1
            names = tuple(column.name for column in group.columns)
            bundle = list(bundles).index(names) if adds else -1
            probe = list(bundles).index(names) if _ranks(frames) else -1
            thin = tuple((index, THIN_IDENTITY) for index in read)
            self._rows.append((group.series.name, bys.index(group.by), where, bundle, probe, frames, order, thin))
        self._adding = [row[:4] for row, part in zip(self._rows, parts, strict=True) if part.adds]
        self.idle = not parts and not links
        asking = [part.read for part in parts] + [plan.read for plan in links]
        self.unavailable = tuple((index, STORE_UNAVAILABLE) for each in asking for index in each)

    def touches(self, facts: Facts, env: Any, gaps: list[tuple[int, str]]) -> tuple[list[Touch], list[int]]:
        """What to tell and ask the store, and which windows the answers are for. Gaps that show already are added."""
        touches: list[Touch] = []
        order: list[int] = []
        places, truths, bundles = self._common(facts, env)
        for series, place, where, bundle, probe, frames, asked, thin in self._rows:
            key = places[place]
            if key is None:
                gaps.extend(thin)
                continue
            values = bundles[bundle] if truths[where] else None
            if frames or values is not None:
                touches.append((series, key, values, frames, bundles[probe]))
                order += asked
        for plan in self._links:
            touch, answered, lacking, waiting = plan.touch(facts)
            if touch is not None:
                touches.append(touch)
                order += answered
            gaps += [(index, THIN_IDENTITY) for index in lacking] + [(index, Gap.NOT_WARM.value) for index in waiting]
        return touches, order

    def adds(self, facts: Facts, env: Any) -> list[Touch]:
        """What the event adds, and no questions."""
        places, truths, bundles = self._common(facts, env)
        touches: list[Touch] = [
            (series, key, bundles[bundle], (), None)
            for series, place, where, bundle in self._adding
            if truths[where] and (key := places[place]) is not None
        ]
        return touches + [touch for plan in self._links if (touch := plan.tie(facts)) is not None]

    def _common(self, facts: Facts, env: Any) -> tuple[list[str | None], list[bool], list[Any]]:
        """The keys; whether each `where` is true, and True at the end for none; what to add, and None for nothing."""
        keys = facts.keys
        places = [keys.get(path) or key(facts) for path, key in self._keys]
        truths = [where(facts.values, (), env) is True for where in self._wheres]
        truths.append(True)
        found = [give(facts, env) for give in self._gives]
        bundles: list[Any] = [pick(found) for pick in self._picks]
        bundles.append(None)
        return places, truths, bundles


def _ranks(frames: Sequence[Frame]) -> bool:
    return any(what == PERCENTILE for _, _, questions in frames for what, _ in questions)


def _picker(places: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """The values at some places of a list; a slice gives a sequence where a single place would not."""
    return (
        itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1) if places else slice(0))
    )
