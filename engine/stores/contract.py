"""What a store is: the questions, the answers, and what every store promises. `engine.stores` says what it is for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

from engine.errors import Unavailable
from engine.money import Money

HOUR = 3_600_000_000
DAY = 24 * HOUR
"""Microseconds."""

LATENESS = 7 * DAY
"""How late an event may be and still read exact windows."""
CAP = 1_000_000
"""Most events of one key that a window counts; a fuller window is unknown."""
BUCKETS = 64
"""An approximate window begins at a whole one of so many parts of its length."""

SUMS, SQUARES, RANKED, FLAGS = "sums", "squares", "ranked", "flags"
VALUES, RUNS, STEPS = "values", "runs", "steps"
"""What a column holds: numbers with their unit (a currency, "" for plain ones), kept for sums, for sums of squares, or
in order; 0 or 1 as such a number; texts; whether something is so; or which steps of a pattern an event is (bits)."""

COUNT, FIRST, LAST = "count", "first", "last"
SUM, MEAN, SPREAD, LEAST, MOST, PERCENTILE = "sum", "mean", "spread", "least", "most", "percentile"
DISTINCT, STREAK = "distinct", "streak"
"""What can be asked of a stretch, beside quantiles and patterns."""

LINKS = "links"
"""The only column of a series of links: which accounts there are, and what identifies each. Such a series has one key,
`WHOLE`; its events bring ties, and it is asked about groups."""
WHOLE = ""
SIZE, SHARED, LINKED, GROUPED = "size", "shared", "linked", "grouped"
"""What can be asked of a group: how many accounts; how many identifiers two or more of them share; whether another
account is in reach; what another series holds of all its accounts."""
LINKS_LOOK = 2_000
"""Most links (account, identifier) that a search goes over; a larger group is unknown."""
GROUP_LOOK = 10_000
"""Most events whose values are told apart for a group; of more, `distinct` is unknown."""

PIECE = 500
"""Events, and keys, of a store in memory that are copied while nobody else may touch it: within a millisecond, unless
one key has more."""

LOOK = 1000
"""Most events that a pattern looks at; a fuller stretch is unknown."""


@lru_cache(maxsize=1024)
def quantile(share: Fraction) -> str:
    """The question for the smallest number that at least this share of the numbers do not pass."""
    return f"quantile {share.numerator}/{share.denominator}"


@lru_cache(maxsize=1024)
def sequence(steps: int) -> str:
    """The question whether so many steps follow each other, each with an event of its own."""
    return f"sequence {steps}"


@lru_cache(maxsize=1024)
def absence(gap: int) -> str:
    """The question whether some event of step 0 is at least `gap` µs ago, with none of step 1 in the `gap` after it."""
    return f"absence {gap}"


class StoreUnavailable(Unavailable):
    """The store does not answer; nothing was added, or it is taken out again once it answers."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="store_unavailable")


class Gap(StrEnum):
    """Why a store cannot answer."""

    NOT_WARM = "not_warm"
    CAPPED = "feature_capped"
    TOO_LATE = "too_late"
    MIXED = "mixed_currencies"


@dataclass(frozen=True, slots=True)
class Series:
    """Events that some windows have in common.

    `name` is the same in every process and after every restart; `columns` says what each one holds; `span` is how far
    back the longest of the windows reaches, in microseconds; `grouped` whether groups of accounts are asked about them.

    An approximate series has a `bucket`: its events are counted by stretches of that length (µs), which windows hold
    whole, and of which sketches are kept. Its frames are of one length.
    """

    name: str
    columns: tuple[str, ...]
    span: int
    grouped: bool = False
    bucket: int = 0

    @property
    def beside(self) -> bool:
        """Whether it is kept in the process's own memory, also where others are on a server."""
        return self.grouped or self.bucket > 0


class Stamp(Protocol):
    """Which event it is, and when. `engine.features.Facts` is one."""

    @property
    def tenant(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def arrival(self) -> int: ...


Amount: TypeAlias = tuple[str, int | Decimal]
"""A unit and a number of it, as `plain` gives it."""
Values: TypeAlias = Sequence[Amount | str | int | None]
"""What an event brings to the columns of a series; None where it has nothing."""
Frame: TypeAlias = tuple[int, bool, tuple[tuple[str, int], ...]]
"""Questions about one stretch: its length, whether this event itself counts, and (what is asked, which column)."""
Account: TypeAlias = tuple[str, str]
"""The space that an account's name is of, and the name."""
Tie: TypeAlias = tuple[Account, Sequence[str]]
"""An account, and the identifiers that an event shows to be its own. An identifier is one text wherever it stands."""


class Limits(NamedTuple):
    """What links: how long a link lasts (µs), how many accounts an identifier may have and still join them, and how
    many accounts a group may have."""

    within: int
    hub: int
    accounts: int


class Ask(NamedTuple):
    """One question about the accounts that are at most so many `steps` (identifiers; 0: any number) away from one, as
    of the event, whose own ties count.

    LINKED: whether `other` is among them. GROUPED: what the lines of them in another `series` hold together, one
    answer for each question of `frames`; the key of an account's line is its name, or stands between the `key`'s two
    parts with its length before it.
    """

    what: str
    account: Account
    limits: Limits
    steps: int = 0
    other: Account | None = None
    series: str = ""
    key: tuple[str, str] | None = None
    frames: Sequence[Frame] = ()


Touch: TypeAlias = tuple[str, str, Any, Sequence[Any], Values | None]
"""One series at one event: its name, the key, what to add (Values, or None for nothing), what to answer (Frames), and
the event's own values where a percentile asks for them. Of a series of links: its name, WHOLE, Ties or None, Asks and
None; it comes behind the others, as GROUPED looks at what they added."""
Ratio: TypeAlias = tuple[str, int | Decimal, int]
"""The unit, the sum and the size that make a mean."""
Spread: TypeAlias = tuple[str, int | Decimal, int | Decimal, int]
"""The unit, the sum, the sum of the squares and the size that make a standard deviation."""
Answer: TypeAlias = int | Decimal | Money | Ratio | Spread | Gap | None
"""Money for a sum with a unit. None where the stretch holds nothing to answer from; 0 for count and distinct."""


class Store(Protocol):
    """Keeps series. All methods but `declare`, `since` and `warm` may raise StoreUnavailable, and have then changed
    nothing.

    Atomic: what `observe` reads and adds is one step; no other event comes between, from any task or process.
    Ordered: each event has an arrival that no other event of its tenant has, and saw those with a smaller one.
    Idempotent: an event (tenant, id) adds once. Seen again, it adds nothing and reads as of its first arrival.
    Order does not matter: what a series holds, and so every answer, depends on the set of events added alone.
    Isolated: tenants share nothing.
    Bounded: what no allowed question can reach is dropped. Allowed are events at most `lateness` behind the newest
    of their tenant (later ones are added as far as a question can reach them, and read Gap.TOO_LATE), and stretches
    that have at most `cap` events up to the newest of the key (fuller ones read Gap.CAPPED). A group with more
    accounts than its limits say, or more than LINKS_LOOK links, reads Gap.CAPPED.
    Honest: a series whose history is not all there, because it was not loaded yet or is lost, reads Gap.NOT_WARM.
    Approximate series (engine.stores.buckets) have no cap and take bounded room for each key. They are read as of now:
    events of the asking event's own bucket count that are after it, and were added before. An event that was seen
    before is left out of its own reading, and can be forgotten, while it is among the last 2,000 added of its key. A
    store that cannot keep them must refuse them when they are declared.
    """

    @property
    def lateness(self) -> int: ...

    @property
    def failures(self) -> int:
        """How many calls a server did not answer."""

    def declare(self, series: Iterable[Series]) -> None:
        """Keep these series from now on, beside those declared before. What is there already stays."""

    def release(self, names: Iterable[str]) -> None:
        """The opposite of `declare`: a series that nobody else declared is dropped."""

    def leave(self, names: Iterable[str]) -> None:
        """The same, but on a server that other processes share one of them drops it."""

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> tuple[int, bool, list[Answer]]:
        """Add the event, and answer all questions in order: the arrival it has, whether it was added, and the answers.

        A new event gets `stamp.arrival`, or a larger one when its tenant's newest has that or more.
        """

    def keep(self, stamp: Stamp) -> None:
        """The added event is in the ledger now. One that never is, is taken out again at a start."""

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        """Take an added event out again, as if it had never been there; nothing if it was not added as this arrival."""

    def load(
        self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], since: int | None = None
    ) -> None:
        """Add a history to the series named, in any order, on top of what they hold; they are warm afterwards, unless
        it got lost meanwhile. The events keep their arrivals, or the ones they were observed with.

        `since`: what the method of that name said before the events were read; None when they are the whole history.
        """

    def add(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        """Add an event that has its arrival already; nothing if it is there."""

    def warm(self, name: str) -> bool:
        """Whether the series holds its whole history, as far as is known here."""

    def since(self, names: Collection[str]) -> int | None:
        """From which time of receipt on `load` needs the history of these series; None for all that they can hold."""

    def tend(self) -> None:
        """To be called every now and then, outside of decisions: notices a loss, and that a server is there again."""
