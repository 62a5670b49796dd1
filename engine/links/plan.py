"""What one kind of event adds to the links, and what it asks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypeAlias

from engine.expr import Group, Party, Window
from engine.jcs import canonical
from engine.stores import GROUPED, LINKED, LINKS, SHARED, SIZE, WHOLE, Ask, Frame, Limits, Series, Tie, Touch

_WHAT = {"group_size": SIZE, "group_links": SHARED, "linked": LINKED}


class Keyed(Protocol):
    """An event by its pseudonyms. `engine.features.Facts` is one."""

    @property
    def keys(self) -> Mapping[str, str]: ...


Give: TypeAlias = Callable[[Any], str | None]
"""The text of a path of an event; None where it has none."""


class Linkage(NamedTuple):
    """A series of links, and the windows (by index) that need it."""

    series: Series
    parties: tuple[Party, ...]
    windows: tuple[int, ...]

    def shows(self, kind: str) -> bool:
        """Whether events of a kind show links."""
        return any(kind in share.kinds for party in self.parties for share in party.shares)


def linkages(windows: Sequence[Window]) -> tuple[Linkage, ...]:
    """The series of links that the windows need: one for all groups with the same accounts and identifiers."""
    members: dict[tuple[Party, ...], list[int]] = {}
    for index, window in enumerate(windows):
        if window.groups:
            members.setdefault(window.groups[0].links.parties, []).append(index)
    return tuple(_linkage(parties, [windows[at] for at in at_all], at_all) for parties, at_all in members.items())


def _linkage(parties: tuple[Party, ...], windows: Sequence[Window], indexes: Sequence[int]) -> Linkage:
    told = [[party.space, party.account, [[share.kinds, share.by] for share in party.shares]] for party in parties]
    name = sha256(canonical(["links/1", told])).hexdigest()
    span = max(window.groups[0].links.within for window in windows)
    return Linkage(Series(name, (LINKS,), span, grouped=True), parties, tuple(indexes))


class Asked(NamedTuple):
    """One question about a group: for windows over its accounts' events their series, key and frames, too.

    `windows` are the indexes of the windows that the answers are for; `cold` that it cannot be answered yet.
    """

    group: Group
    windows: tuple[int, ...]
    what: str = GROUPED
    other: Group | None = None
    steps: int = 0
    series: str = ""
    by: tuple[str, ...] = ()
    frames: Sequence[Frame] = ()
    cold: bool = False


def about_links(index: int, window: Window, *, cold: bool) -> Asked:
    """What a window that is a question about links alone asks."""
    group, *others = window.groups
    steps = int(window.parameter or 0) or group.links.steps
    return Asked(group, (index,), _WHAT[window.function], others[0] if others else None, steps, cold=cold)


class LinkPlan:
    """What to do with one series of links at one kind of event. `give` gives the text of a path."""

    def __init__(self, linkage: Linkage, kind: str, asked: Sequence[Asked], give: Callable[[str], Give]) -> None:
        self._name = linkage.series.name
        paths = _Paths()
        self._tied = [
            (party.space, paths.place(party.account), tuple(dict.fromkeys(identifiers)))
            for party in linkage.parties
            if (identifiers := [path for share in party.shares if kind in share.kinds for path in share.by])
        ]
        self._asked = [(each.windows, each.cold, _filled(each, paths)) for each in asked]
        self._gives = [give(path) for path in paths.all]
        self.read = tuple(index for each in asked for index in each.windows)
        self.idle = not self._tied and not asked

    def tie(self, facts: Keyed) -> Touch | None:
        """What the event adds; None for nothing."""
        ties = self._ties(facts, [give(facts) for give in self._gives])
        return (self._name, WHOLE, ties, (), None) if ties else None

    def touch(self, facts: Keyed) -> tuple[Touch | None, list[int], list[int], list[int]]:
        """What to add and ask, and the windows that the answers are for, that lack a key, that are not warm."""
        texts = [give(facts) for give in self._gives]
        order: list[int] = []
        thin: list[int] = []
        cold: list[int] = []
        asks = []
        for windows, waits, fill in self._asked:
            ask = fill(texts)
            if ask is None:
                thin += windows
            elif waits:
                cold += windows
            else:
                asks.append(ask)
                order += windows
        ties = self._ties(facts, texts)
        return ((self._name, WHOLE, ties, asks, None) if ties or asks else None), order, thin, cold

    def _ties(self, facts: Keyed, texts: Sequence[str | None]) -> list[Tie]:
        keys = facts.keys
        ties: list[Tie] = []
        for space, place, paths in self._tied:
            name = texts[place]
            if name is not None:
                found = [keys[path] for path in paths if path in keys]
                if found:
                    ties.append(((space, name), found))
        return ties


class _Paths:
    """The paths whose texts are needed, each once, with its place in the row of texts."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def place(self, path: str) -> int:
        if path not in self.all:
            self.all.append(path)
        return self.all.index(path)


_Fill: TypeAlias = Callable[[Sequence[str | None]], Ask | None]
"""A question with the texts of an event filled in; None when it lacks one."""


def _filled(asked: Asked, paths: _Paths) -> _Fill:
    group, what, other = asked.group, asked.what, asked.other
    limits = Limits(group.links.within, group.links.hub, group.links.accounts)
    steps, space, place = asked.steps or group.links.steps, group.space, paths.place(group.account)
    if what == GROUPED:
        at = asked.by.index(group.account)
        before, behind = (list(map(paths.place, each)) for each in (asked.by[:at], asked.by[at + 1 :]))

        def grouped(texts: Sequence[str | None]) -> Ask | None:
            name = texts[place]
            if name is None:
                return None
            key = None
            if before or behind:
                parts = _joined(texts, before), _joined(texts, behind)
                if parts[0] is None or parts[1] is None:
                    return None
                key = parts[0], parts[1]
            return Ask(GROUPED, (space, name), limits, steps, None, asked.series, key, asked.frames)

        return grouped
    if other is None:
        return lambda texts: None if (name := texts[place]) is None else Ask(what, (space, name), limits, steps)
    there, other_space = paths.place(other.account), other.space

    def linked(texts: Sequence[str | None]) -> Ask | None:
        name, other = texts[place], texts[there]
        if name is None or other is None:
            return None
        return Ask(LINKED, (space, name), limits, steps, (other_space, other))

    return linked


def _joined(texts: Sequence[str | None], places: Sequence[int]) -> str | None:
    """Parts of a key, each with its length (as the key of several paths is made in engine.features)."""
    joined = ""
    for place in places:
        text = texts[place]
        if text is None:
            return None
        joined += f"{len(text)}:{text}"
    return joined
