"""Which accounts share identifiers, and the groups they form: a graph that is searched anew for each event.

No groups are kept. A kept union could not be taken apart again when a link fades, when an event is forgotten or when a
late one asks how things were; a search gives the group as of any event, from the set of events alone. Most groups
have one to three accounts, and what a search costs is what its group holds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TypeAlias

import orjson

from engine.stores.columns import FOREVER, NEVER
from engine.stores.contract import LINKED, LINKS_LOOK, PIECE, SHARED, SIZE, Account, Answer, Ask, Gap, Limits, Tie
from engine.stores.lines import Frozen, Row

Moment: TypeAlias = tuple[int, int]
"""(at, arrival) of an event."""
_LEAST_TRIMMED = 16
"""Events of a link up to which it is not looked at what can be dropped."""


class _Node:
    """An account: its links by identifier."""

    __slots__ = ("account", "links")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.links: dict[_Identifier, _Link] = {}


class _Identifier:
    """A device, a card, an address …: its links by account, the last touched last.

    `disorder` is how far an event was behind the newest of the identifier, at most; FOREVER once one was taken out.
    """

    __slots__ = ("disorder", "links", "newest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.links: dict[_Node, _Link] = {}
        self.newest = -FOREVER
        self.disorder = 0

    def touch(self, link: _Link, at: int) -> None:
        """An event of this time showed the link."""
        links = self.links
        if len(links) > 1 and link.node in links:
            del links[link.node]
        links[link.node] = link
        if at >= self.newest:
            self.newest = at
        else:
            self.disorder = max(self.disorder, self.newest - at)

    def users(self, since: int, now: Moment, hub: int) -> list[_Node]:
        """The accounts it joins in [since, now]; none when there are more than `hub`."""
        found = []
        # A link touched before this one is not newer than the identifier was then; that is at most `disorder` newer
        # than this one. So a public device with very many accounts is not gone through to its end.
        over = since - self.disorder
        for link in reversed(self.links.values()):
            last = link.times[-1]
            if last <= now:
                if last[0] < since:
                    if last[0] < over:
                        break
                    continue
            elif not link.shown(since, now):
                continue
            found.append(link.node)
            if len(found) > hub:
                return []
        return found


class _Link:
    """An account with an identifier: the events that show it, in order."""

    __slots__ = ("identifier", "node", "times")

    def __init__(self, node: _Node, identifier: _Identifier) -> None:
        self.node = node
        self.identifier = identifier
        self.times: list[Moment] = []

    def shown(self, since: int, now: Moment) -> bool:
        """Whether an event in [since, now] shows it."""
        last = self.times[-1]
        if last <= now:
            return last[0] >= since
        place = bisect_right(self.times, now)
        return place > 0 and self.times[place - 1][0] >= since

    def add(self, moment: Moment, settled: int) -> None:
        """One more event; no question asks how things were before `settled`."""
        times = self.times
        if not times or moment > times[-1]:
            times.append(moment)
        elif times[bisect_left(times, moment)] != moment:
            insort(times, moment)
        count = len(times)
        if count >= _LEAST_TRIMMED and not count & (count - 1):
            # Of what is before every question the newest says it all.
            del times[: max(0, bisect_left(times, (settled, 0)) - 1)]


def answers_to(ask: Ask) -> int:
    """How many answers a question has."""
    return sum(len(questions) for _, _, questions in ask.frames) or 1


class _Capped(Exception):
    """The group is larger than anyone looks."""


class _Search:
    """What is reached from one account: a breadth-first search that goes on as far as it is asked to.

    Whether it gives up does not depend on the order in which it goes: a step is either done as a whole or not at all.
    """

    __slots__ = ("_capped", "_level", "_limits", "_looked", "_now", "_shared", "_since", "_step", "_steps", "_walked")

    def __init__(self, start: _Node, now: Moment, limits: Limits) -> None:
        self._limits = limits
        self._now = now
        self._since = now[0] - limits.within
        self._steps = {start: 0}
        """By account, in which step it was reached."""
        self._step = 0
        self._level = [start]
        self._looked: set[_Identifier] = set()
        self._walked = 0
        self._capped = False
        self._shared = [0]
        """How many identifiers were crossed in the steps up to each."""

    def whole(self, limit: int) -> list[_Node]:
        """All accounts within so many steps (0: any number). Raises _Capped."""
        self._walk(limit)
        if not self._capped and (not limit or limit >= self._step):
            return list(self._steps)
        return [node for node, step in self._steps.items() if step <= limit]

    def crossed(self, limit: int) -> int:
        """How many identifiers join the accounts within so many steps. Raises _Capped."""
        self._walk(limit)
        return self._shared[min(limit or self._step, self._step)]

    def reaches(self, node: _Node, limit: int) -> bool:
        """Whether an account is within so many steps. Raises _Capped when that needs a step that is too large."""
        while (step := self._steps.get(node)) is None or step > self._step:
            if not self._level or self._step >= limit:
                return False
            self._go_on()
        return step <= limit

    def _walk(self, limit: int) -> None:
        while self._level and (not limit or self._step < limit):
            self._go_on()

    def _go_on(self) -> None:
        if self._capped:
            raise _Capped
        since, now, (_, hub, accounts) = self._since, self._now, self._limits
        steps, looked, reached, shared = self._steps, self._looked, [], self._shared[-1]
        self._capped = True  # Until the step is done.
        for node in self._level:
            for identifier, link in node.links.items():
                if not link.shown(since, now):
                    continue
                self._walked += 1
                if self._walked > LINKS_LOOK:
                    raise _Capped
                if identifier in looked:
                    continue
                looked.add(identifier)
                users = identifier.users(since, now, hub)
                if len(users) < 2:
                    continue
                shared += 1
                for user in users:
                    if user not in steps:
                        steps[user] = self._step + 1
                        reached.append(user)
                if len(steps) > accounts:
                    raise _Capped
        self._level = reached
        self._step += 1
        self._shared.append(shared)
        self._capped = False


Lines: TypeAlias = Callable[[Ask, Sequence[str]], list[Answer]]
"""What the lines of some accounts hold together: the question, and the names of the accounts."""


def _rows(times: Sequence[Moment]) -> Callable[[], Sequence[Row]]:
    return lambda: [(*moment, ()) for moment in times]


class Graph:
    """The links of one tenant in one series of links.

    What no question reaches is dropped a few links an event, at most twice as long after its last event as a question
    could reach it.
    """

    def __init__(self, reach: int, lateness: int) -> None:
        self.reach = reach
        self._lateness = lateness
        self._nodes: dict[Account, _Node] = {}
        self._identifiers: dict[str, _Identifier] = {}
        self._due: deque[tuple[int, _Link]] = deque()
        """Every link once, with the time at which to look whether it is out of reach; in the order of these times."""

    def __len__(self) -> int:
        """How many links there are."""
        return len(self._due)

    def add(self, at: int, arrival: int, ties: Sequence[Tie], clock: int) -> None:
        """Put an event where it belongs, if it is not there."""
        moment = (at, arrival)
        settled = clock - self._lateness
        due = self._due
        for account, identifiers in ties:
            node = self._nodes.get(account)
            if node is None:
                node = self._nodes[account] = _Node(account)
            for text in identifiers:
                identifier = self._identifiers.get(text)
                if identifier is None:
                    identifier = self._identifiers[text] = _Identifier(text)
                link = node.links.get(identifier)
                if link is None:
                    link = node.links[identifier] = _Link(node, identifier)
                    due.append((clock + self.reach, link))
                link.add(moment, settled)
                identifier.touch(link, at)
                if due[0][0] < clock:
                    self._sweep(clock)
            if not node.links:
                del self._nodes[account]

    def fill(self, rows: list[tuple[int, int, Sequence[Tie]]], clock: int) -> None:
        """Add many events, of which some may be there already. In their order: the newest links then come last."""
        rows.sort(key=itemgetter(0, 1))
        for at, arrival, ties in rows:
            if at >= clock - self.reach:
                self.add(at, arrival, ties, clock)

    def remove(self, at: int, arrival: int, ties: Sequence[Tie]) -> None:
        """Take an event out; nothing if it is not there."""
        moment = (at, arrival)
        for account, identifiers in ties:
            node = self._nodes.get(account)
            for text in identifiers:
                identifier = self._identifiers.get(text)
                link = node.links.get(identifier) if node and identifier else None
                if link is None or identifier is None:
                    continue
                place = bisect_left(link.times, moment)
                if link.times[place : place + 1] == [moment]:
                    del link.times[place]
                    identifier.disorder = FOREVER
                    if not link.times:
                        self._drop(link)

    def keys(self) -> Sequence[_Link]:
        """The links that may hold what a question reaches."""
        return [link for _, link in self._due]

    def frozen(self, keys: Sequence[_Link], place: int) -> tuple[list[Frozen], int]:
        """Copies of some links from a place on, and the place behind them. A link has the rows of its events."""
        found: list[Frozen] = []
        size, end = 0, min(len(keys), place + PIECE)
        while place < end and size < PIECE:
            link = keys[place]
            if link.times:
                name = orjson.dumps([*link.node.account, link.identifier.text]).decode()
                found.append((name, _rows(link.times[:]), NEVER))
                size += len(link.times)
            place += 1
        return found, place

    def adopt(self, keys: Sequence[Frozen], clock: int) -> None:
        """Put links of another graph on top of what is here."""
        for name, rows, _ in keys:
            space, account, text = orjson.loads(name)
            for at, arrival, _ in rows():
                if at >= clock - self.reach:
                    self.add(at, arrival, [((space, account), [text])], clock)

    def ask(self, asks: Sequence[Ask], at: int, arrival: int, lines: Lines) -> list[Answer]:
        """The answers as of an event, in order."""
        now = (at, arrival)
        searches: dict[tuple[Account, Limits], _Search] = {}
        answers: list[Answer] = []
        for ask in asks:
            of = ask.account, ask.limits
            search = searches.get(of)
            if search is None:
                start = self._nodes.get(ask.account) or _Node(ask.account)
                search = searches[of] = _Search(start, now, ask.limits)
            try:
                answers += self._answers(ask, search, lines)
            except _Capped:
                answers += [Gap.CAPPED] * answers_to(ask)
        return answers

    def _answers(self, ask: Ask, search: _Search, lines: Lines) -> list[Answer]:
        if ask.what == LINKED:
            if ask.account == ask.other:
                return [True]
            assert ask.other is not None
            # One without links is searched for all the same: what is kept of links that faded must change no answer.
            return [search.reaches(self._nodes.get(ask.other) or _Node(ask.other), ask.steps)]
        if ask.what == SHARED:
            return [search.crossed(ask.steps)]
        group = search.whole(ask.steps)
        if ask.what == SIZE:
            return [len(group)]
        space = ask.account[0]
        return lines(ask, [node.account[1] for node in group if node.account[0] == space])

    def _sweep(self, clock: int) -> None:
        """Look at two links that are due: faster than new ones come."""
        due = self._due
        for _ in range(2):
            if not due or due[0][0] >= clock:
                return
            _, link = due.popleft()
            if link.times and link.times[-1][0] >= clock - self.reach:
                due.append((clock + self.reach, link))
            elif link.times:
                link.times.clear()
                self._drop(link)

    def _drop(self, link: _Link) -> None:
        node, identifier = link.node, link.identifier
        del node.links[identifier], identifier.links[node]
        if not node.links:
            del self._nodes[node.account]
        if not identifier.links:
            del self._identifiers[identifier.text]
