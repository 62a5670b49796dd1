"""Figures of what was decided: each a name, a unit, and a pure function of sums. Alert lines and targets name them.

    METRICS["loss"].figures(sums, now, over)    ->  [Figure(value=2.4, …, currency="CNY")]

Sums are whole numbers by name: they are added when something is decided and corrected when its end becomes known, so
no event is kept. Money is in minor units, for each currency by itself (docs/figures.md has every definition).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import exp, log, sqrt
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from engine.packs.durations import MICROSECONDS, duration
from engine.packs.shares import share
from engine.proportions import wilson

Key: TypeAlias = str | tuple[str, str] | tuple[str, int]
"""What is summed: a name; or a name with a currency, a bin of times, or a minute."""
Sums: TypeAlias = Mapping[Key, int]

HOUR = 3600 * MICROSECONDS
MINUTE = 60 * MICROSECONDS
FEWEST = 10
"""Cases of a ratio of money below which it gets no interval: a handful of amounts says nothing of how they spread."""

Unit: TypeAlias = Literal["share", "bp", "count", "rate", "time", "index"]
GROUPS = ("kind", "tier", "rule", "merchant", "merchant-category", "detector")
"""What figures can be told apart by."""


class Figure(NamedTuple):
    """One value in the unit of its metric (shares as parts of one, basis points, hours^-1, µs), the ends of its 95 %
    interval where there are some, of how many cases it is, and the currency where it is of money."""

    value: float
    low: float | None
    high: float | None
    of: int
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """Sums, now and the length of the time they are of (µs) to figures: none where there is nothing to divide by.
    `names` are those of the sums that it looks at."""

    names: frozenset[str]
    of: Callable[[Sums, int, int], Iterable[Figure]]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that can be asked for. `labelled`: it needs to know how events ended, so it looks at events whose label
    delay is over; `money`: it adds up amounts, which an order may have in events of several kinds."""

    name: str
    unit: Unit
    about: str
    by: frozenset[str]
    measure: Measure | None
    labelled: bool = False
    money: bool = False

    @property
    def own(self) -> bool:
        """Whether it is of the server's processes, not of events."""
        return self.measure is None

    def figures(self, sums: Sums, now: int, over: int) -> list[Figure]:
        """The figures of some sums at `now` over a time (µs)."""
        assert self.measure is not None, "figures of processes are not sums"
        return list(self.measure.of(sums, now, over))

    def needs(self, key: Key) -> bool:
        """Whether it looks at this sum."""
        return self.measure is not None and (key if isinstance(key, str) else key[0]) in self.measure.names


# Shares, rates, counts


def _part(hits: str, *of: str, less: str = "") -> Measure:
    def measure(sums: Sums, _now: int, _over: int) -> Iterator[Figure]:
        whole = sum(sums.get(name, 0) for name in of) - sums.get(less, 0)
        found = wilson(min(sums.get(hits, 0), whole), whole) if whole > 0 else None
        if found is not None:
            yield Figure(*found, whole)

    return Measure(frozenset({hits, *of, less}), measure)


def _count(name: str) -> Measure:
    def measure(sums: Sums, _now: int, _over: int) -> Iterator[Figure]:
        count = sums.get(name, 0)
        yield Figure(float(count), None, None, count)

    return Measure(frozenset({name}), measure)


def _rate(name: str) -> Measure:
    def measure(sums: Sums, _now: int, over: int) -> Iterator[Figure]:
        count = sums.get(name, 0)
        yield Figure(count * HOUR / over, None, None, count)

    return Measure(frozenset({name}), measure)


def _overdue(sums: Sums, now: int, _over: int) -> Iterator[Figure]:
    count = sum(n for key, n in sums.items() if key[0] == "due" and int(key[1]) < now // MINUTE)
    yield Figure(float(count), None, None, count)


# Times, in bins whose ends are 2 % apart: a value is told to 1 %.

_GROWTH = log(1.02)


def bin_of_time(microseconds: int) -> int:
    """The bin of a length of time."""
    return int(log(max(microseconds, 1)) / _GROWTH)


def _quantile(share: float) -> Measure:
    def measure(sums: Sums, _now: int, _over: int) -> Iterator[Figure]:
        bins = sorted((int(key[1]), n) for key, n in sums.items() if key[0] == "took")
        whole = sum(n for _, n in bins)
        rank, seen = share * whole, 0
        for place, n in bins:
            seen += n
            if seen >= rank and n:
                yield Figure(exp((place + 0.5) * _GROWTH), None, None, whole)
                return

    return Measure(frozenset({"took"}), measure)


# Ratios of money


def currencies(sums: Sums, name: str) -> list[str]:
    """The currencies that a sum of money is in."""
    return sorted(str(key[1]) for key, n in sums.items() if key[0] == name and n)


def _money_ratio(part: str, whole: str, cases: str, times: int = 1, *, least: str = "") -> Measure:
    """Σ part ÷ Σ whole in each currency, with the interval of a ratio of two sums over the same cases, its variance by
    linearisation (Cochran, Sampling Techniques, 3rd ed., 1977, 2.11 and 6.3): the squares it needs are sums, too. No
    interval with fewer than ten cases, or fewer than ten of `least`."""

    def measure(sums: Sums, _now: int, _over: int) -> Iterator[Figure]:
        for code in currencies(sums, whole):
            x, y = sums[whole, code], sums.get((part, code), 0)
            n = sums.get((cases, code), 0)
            ratio = y / x
            low = high = None
            if n >= FEWEST and (not least or sums.get((least, code), 0) >= FEWEST):
                squares = (sums.get((f"{name}2", code), 0) for name in (part, whole))
                yy, xx = squares
                spread = yy - 2 * ratio * sums.get((f"{part}*{whole}", code), 0) + ratio * ratio * xx
                half = 1.959964 * sqrt(max(0.0, spread * n / (n - 1))) / x
                low, high = max(0.0, ratio - half) * times, (ratio + half) * times
            yield Figure(ratio * times, low, high, n, code)

    names = {part, whole, f"{part}2", f"{whole}2", f"{part}*{whole}", cases, least}
    return Measure(frozenset(names), measure)


def _capped(measure: Measure) -> Measure:
    """A share is at most one, and so is the end of its interval."""

    def capped(sums: Sums, now: int, over: int) -> Iterator[Figure]:
        for figure in measure.of(sums, now, over):
            yield figure if figure.high is None else figure._replace(high=min(1.0, figure.high))

    return Measure(measure.names, capped)


# The list

_EVENTS = frozenset({"kind", "tier", "rule", "merchant", "merchant-category"})
_PLAIN = frozenset({"kind", "merchant", "merchant-category"})

_ALL = (
    Metric(
        *("interception", "share", "fraud that was stopped ÷ all fraud that became known, by count", _EVENTS),
        *(_part("fraud_stopped", "fraud"), True),
    ),
    Metric(
        *("interception_value", "share", "the same by what it was worth, in each currency", _EVENTS),
        *(_capped(_money_ratio("saved", "fraud_worth", "frauds")), True, True),
    ),
    Metric(
        *("loss", "bp", "money lost to fraud ÷ money let through, in each currency, in basis points", _EVENTS),
        *(_money_ratio("lost", "volume", "accepted", 10_000, least="losses"), True, True),
    ),
    Metric(
        *("false_positives", "share", "events held that turned out to be good ÷ all that were held", _EVENTS),
        *(_part("wrong", "held"), True),
    ),
    Metric(
        *("good_held", "share", "the same ÷ all events that are not known to be fraud", _EVENTS),
        *(_part("wrong", "events", less="fraud"), True),
    ),
    Metric("decisions", "rate", "decisions an hour", _EVENTS, _rate("events")),
    Metric("declines", "share", "decisions with the severest verdict ÷ all", _EVENTS, _part("declined", "events")),
    Metric("challenges", "share", "decisions that asked for a proof ÷ all", _EVENTS, _part("challenged", "events")),
    Metric("reviews", "share", "decisions that asked a person ÷ all", _EVENTS, _part("reviewed", "events")),
    Metric("degraded", "share", "decisions while something did not work ÷ all", _EVENTS, _part("degraded", "events")),
    Metric("reviews_opened", "rate", "reviews opened an hour", _EVENTS, _rate("review_opened")),
    Metric("reviews_open", "count", "reviews that wait now", _EVENTS, _count("review_open")),
    Metric(
        "reviews_overdue",
        "count",
        "reviews that wait longer than they may",
        _EVENTS,
        Measure(frozenset({"due"}), _overdue),
    ),
    Metric(
        *("reviews_late", "share", "reviews that nobody ended in time ÷ all that ended", _EVENTS),
        _part("review_late", "review_ended", "review_late"),
    ),
    Metric("review_time_p50", "time", "half of all reviews were ended within this time", _EVENTS, _quantile(0.5)),
    Metric("review_time_p95", "time", "95 % of all reviews were ended within this time", _EVENTS, _quantile(0.95)),
    Metric("complaints", "count", "complaints that came in", _PLAIN, _count("complaints")),
    Metric("drift", "index", "PSI of an anomaly model, of its worst feature", frozenset({"detector"}), None),
    Metric("store_failures", "count", "calls that the store of windows did not answer", frozenset(), None),
)
METRICS: Mapping[str, Metric] = {each.name: each for each in _ALL}
"""Every metric by its name. The list is closed: a name that is not here is refused."""


# Levels

_BP = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,4})?) ?bp", re.ASCII)
_PER_HOUR = re.compile(r"([0-9]{1,9})/h", re.ASCII)
HOW: Mapping[Unit, str] = {
    "share": "write a share such as 95%",
    "bp": "write basis points such as 3 bp",
    "count": "write a whole number such as 20",
    "rate": "write how many an hour, such as 400/h",
    "time": "write a duration such as 30m",
    "index": "write a number such as 0.25",
}


def level(value: Any, unit: Unit) -> float:
    """A level as a file writes it, in the unit of its metric, as a number. ValueError says how to write it."""
    try:
        found = _LEVELS[unit](value)
    except (ValueError, TypeError):
        raise ValueError(HOW[unit]) from None
    return float(found)


def _share(value: Any) -> Decimal:
    return Decimal(0) if value == "0%" else share(value)


def _matched(pattern: re.Pattern[str]) -> Callable[[Any], Decimal]:
    def read(value: Any) -> Decimal:
        found = pattern.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError
        return Decimal(found[1])

    return read


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 10**12:
        raise ValueError
    return value


def _number(value: Any) -> Decimal:
    if not isinstance(value, int | Decimal) or not 0 <= value < 10**6:
        raise ValueError
    return Decimal(value)


_LEVELS: Mapping[Unit, Callable[[Any], Decimal | int]] = {
    "share": _share,
    "bp": _matched(_BP),
    "count": _whole,
    "rate": _matched(_PER_HOUR),
    "time": duration,
    "index": _number,
}


def shown(value: float, unit: Unit) -> str:
    """A value of a metric as people read it."""
    match unit:
        case "share":
            return f"{value:.2%}"
        case "bp":
            return f"{value:.2f} bp"
        case "count":
            return f"{value:,.0f}"
        case "rate":
            return f"{value:,.1f}/h"
        case "time":
            return _span(value)
        case "index":
            return f"{value:.3f}"


def _span(microseconds: float) -> str:
    seconds = microseconds / MICROSECONDS
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"


def _plain(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("write a value such as 95%, 3 bp, 20, 400/h or 30m")
    return value


Level = Annotated[Any, BeforeValidator(_plain), WithJsonSchema({"type": ["string", "number"]})]
"""A level, in the unit of the metric that stands beside it."""
