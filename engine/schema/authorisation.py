"""Whether the papers of a merchant lead from the owner of a brand to the merchant, without a gap.

A paper says who lets whom sell goods of a brand: from when until when, in which category and in which country (all of
them where it says nothing). A chain is as good as its worst paper, and a merchant needs a sound one for each brand,
category and country that it shows a paper for. What is wrong, worst first:

    broken      nobody whom the owner let sell, directly or through others, let the merchant sell
    expired     a paper of the only way to the owner has ended, or its days are none
    not_yet     one has not begun
    wider       one gives more than its giver had: another category, or another country
    sound       none of these
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

SOUND, WIDER, NOT_YET, EXPIRED, BROKEN = STATES = ("sound", "wider", "not_yet", "expired", "broken")
"""Best first."""

OWNER = "owner"
"""The giver whom the brand belongs to."""

_RANK = {state: rank for rank, state in enumerate(STATES)}
_SHANGHAI = timedelta(hours=8)
_SECOND = 1_000_000


class Chain(NamedTuple):
    """How the papers stand, and when the first paper of a sound way ends (UTC µs; None: not sound, or no end)."""

    state: str
    until: int | None


class _Way(NamedTuple):
    """The best way from the owner to a paper, itself included: its rank, and the last day of the first to end."""

    rank: int
    until: str

    def worse(self) -> tuple[int, int]:
        """The order in which ways are found: better ones first, and of equal ones those that last longer."""
        return self.rank, -int(self.until.replace("-", ""))


_ALWAYS = "9999-12-31"


def chain(papers: Sequence[Mapping[str, Any]], merchant: str | None, at: int) -> Chain:
    """What the papers say on the day of `at` (UTC µs) in Shanghai. `papers` is not empty."""
    day = (datetime.fromtimestamp(at // _SECOND, UTC) + _SHANGHAI).date().isoformat()
    ways = _ways(papers, [_own_rank(paper, day) for paper in papers])
    best: dict[tuple[Any, ...], _Way] = {}
    for paper, way in zip(papers, ways, strict=True):
        brand = (paper.get("brand"), paper.get("category"), paper.get("country"))
        if paper.get("grantee") == merchant and merchant is not None:
            best[brand] = min(way, best.get(brand, way), key=_Way.worse)
    shown = {paper.get("brand") for paper in papers}
    if {brand for brand, _, _ in best} != shown:
        return Chain(BROKEN, None)
    worst = max(way.rank for way in best.values())
    if worst:
        return Chain(STATES[worst], None)
    return Chain(SOUND, _end_of(min(way.until for way in best.values())))


def _ways(papers: Sequence[Mapping[str, Any]], own: Sequence[int]) -> list[_Way]:
    """For each paper the best way from the owner to it. Each is settled once, the best first (Dijkstra 1959)."""
    found = [_Way(_RANK[BROKEN], _ALWAYS) for _ in papers]
    waiting: list[tuple[tuple[int, int], int, _Way]] = []
    for number, paper in enumerate(papers):
        if paper.get("given_by") == OWNER:
            way = _Way(own[number], _last(paper))
            heapq.heappush(waiting, (way.worse(), number, way))
    settled: set[int] = set()
    while waiting:
        _, number, way = heapq.heappop(waiting)
        if number in settled:
            continue
        settled.add(number)
        found[number] = way
        for other, paper in enumerate(papers):
            if other not in settled and _follows(papers[number], paper):
                scope = 0 if _covers(papers[number], paper) else _RANK[WIDER]
                on = _Way(max(way.rank, own[other], scope), min(way.until, _last(paper)))
                heapq.heappush(waiting, (on.worse(), other, on))
    return found


def _follows(giver: Mapping[str, Any], paper: Mapping[str, Any]) -> bool:
    """Whether who got the first gives the second, of the same brand."""
    given = giver.get("grantee")
    return given is not None and given == paper.get("grantor") and giver.get("brand") == paper.get("brand")


def _covers(giver: Mapping[str, Any], paper: Mapping[str, Any]) -> bool:
    return all(giver.get(scope) in (None, paper.get(scope)) for scope in ("category", "country"))


def _own_rank(paper: Mapping[str, Any], day: str) -> int:
    begin, last = paper.get("begins"), paper.get("ends")
    if not all(_is_day(each) for each in (begin, last) if each is not None):
        return _RANK[EXPIRED]
    if last is not None and last < day:
        return _RANK[EXPIRED]
    return _RANK[NOT_YET] if begin is not None and begin > day else _RANK[SOUND]


def _last(paper: Mapping[str, Any]) -> str:
    last = paper.get("ends")
    return str(last) if last is not None and _is_day(last) else _ALWAYS


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _end_of(day: str) -> int | None:
    """The first µs after the day in Shanghai; None for a day that never comes."""
    if day == _ALWAYS:
        return None
    after = datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(days=1) - _SHANGHAI
    return int(after.timestamp()) * _SECOND
