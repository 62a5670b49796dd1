"""Orders beside verdicts: which of them do not go together.

    with Reconciliation.opened() as work:
        work.order(Order(...))                     each order of the shop
        work.judged(record), work.ruled(record, n) each decision and resolution of the ledger
        for finding in work.findings(period): ...

Everything lies in a temporary SQLite file, so that millions of orders need no memory; it is gone when the block ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from engine.money import Money
from engine.packs.moments import day_of
from engine.schema import decode

State: TypeAlias = Literal["captured", "cancelled", "open"]
STATES: tuple[State, ...] = ("captured", "cancelled", "open")

FINDINGS: Mapping[str, str] = {
    "no_verdict": "orders without a verdict",
    "no_order": "verdicts without an order",
    "declined_captured": "declined, but captured",
    "unsettled_captured": "captured while a challenge or a review was open",
    "altered": "approved, but with another amount or currency",
}
"""What can be off, in words."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the shop has it. `row` is its line among the orders; `amount` is None where the file has none."""

    row: int
    order_id: str
    event_id: str
    at: int
    channel: str
    amount: Money | None
    state: State


class Finding(NamedTuple):
    """One thing that is off. `day` is that of the order, or of the event where there is no order (Asia/Shanghai)."""

    finding: str
    day: str
    channel: str
    order_id: str
    event_id: str
    decision_id: str
    verdict: str
    judged: str
    ordered: str
    state: str


class Count(NamedTuple):
    """How many orders and verdicts there were on one day over one channel."""

    day: str
    channel: str
    orders: int
    verdicts: int


class Taken(ValueError):
    """The order stands in an earlier row already."""


@dataclass(frozen=True, slots=True)
class Words:
    """The verdict that lets an order through, and the one that does not."""

    approved: str = "approve"
    declined: str = "decline"


class Reconciliation:
    """Orders and verdicts, compared in a database of their own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._database = connection
        connection.executescript(_TABLES)
        connection.execute("BEGIN")  # Else each row would be a transaction of its own.

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        """One whose file is removed when the block ends."""
        with TemporaryDirectory(prefix="arbiter-orders-") as folder:
            connection = sqlite3.connect(Path(folder, "orders.db"), isolation_level=None)
            try:
                yield cls(connection)
            finally:
                connection.close()

    def order(self, order: Order) -> None:
        """Take one order in. Raises Taken where its event id, or without one its order id, stands twice; one that names
        the event of another order is compared by its own id."""
        amount = str(order.amount) if order.amount else ""
        row = (order.row, order.order_id, order.event_id, order.at, _day(order.at), order.channel, amount, order.state)
        try:
            self._database.execute("INSERT INTO placed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            other = self._database.execute(
                "SELECT order_id FROM placed WHERE event_id = ? AND order_id <> ?", (order.event_id, order.order_id)
            ).fetchone()
            if not order.event_id or other is None:
                raise Taken("an earlier row has this order") from None
            self.order(replace(order, event_id=""))

    def reject(self, row: int, what: str) -> None:
        """Remember a row that is no order, and why."""
        self._database.execute("INSERT INTO rejected VALUES (?, ?)", (row, what))

    def judged(self, record: Mapping[str, Any]) -> None:
        """Take a decision in."""
        event = record["event"]
        amount, channel = decode(event["public"]).get("amount"), event["public"].get("channel") or ""
        row = (record["id"], event["id"], event["order"] or "", event["at"], event["received_at"], _day(event["at"]))
        self._database.execute(
            "INSERT INTO judged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, channel, str(amount or ""), record["verdict"]),
        )

    def ruled(self, record: Mapping[str, Any], place: int) -> None:
        """Take a resolution in. Of two at one moment the one with the larger `place` came later."""
        if record["verdict"] is not None:
            row = (record["refers_to"], record["decided_at"], place, record["verdict"])
            self._database.execute("INSERT INTO ruled VALUES (?, ?, ?, ?)", row)

    def verdicts(self) -> set[str]:
        """All that were given."""
        rows = self._database.execute("SELECT verdict FROM judged UNION SELECT verdict FROM ruled")
        return {verdict for (verdict,) in rows}

    def days(self) -> tuple[int, int] | None:
        """When the first and the last order was, UTC microseconds; None without orders."""
        first, last = self._database.execute("SELECT min(at), max(at) FROM placed").fetchone()
        return None if first is None else (first, last)

    def compare(self, since: int, until: int, *, declined_too: bool, words: Words) -> None:
        """Find what is off. Verdicts without an order are looked for among events from `since` until before `until`;
        with `declined_too`, also those that declined."""
        self._database.executescript(_MATCH)
        asked = {
            "since": since,
            "until": until,
            "approved": words.approved,
            "declined": words.declined,
            "passed_over": "" if declined_too else words.declined,
        }
        for statement in _FIND:
            self._database.execute(statement, asked)

    def rejected(self) -> Iterator[tuple[int, str]]:
        """The rows that are no orders, and why."""
        yield from self._database.execute('SELECT "row", what FROM rejected ORDER BY "row"')

    def findings(self) -> Iterator[Finding]:
        """All that is off, by day, channel and sort."""
        rows = self._database.execute("SELECT * FROM found ORDER BY day, channel, finding, order_id, event_id")
        yield from map(Finding._make, rows)

    def counts(self, since: int, until: int) -> Iterator[Count]:
        """How many orders and verdicts there were, by day and channel."""
        rows = self._database.execute(_COUNTS, {"since": since, "until": until})
        yield from map(Count._make, rows)

    def sums(self) -> Iterator[tuple[str, str, str, int]]:
        """(day, channel, sort, how many are off)."""
        yield from self._database.execute("SELECT day, channel, finding, count(*) FROM found GROUP BY 1, 2, 3")


def _day(at: int) -> str:
    return day_of(at).isoformat()


# Nothing here outlives the process, so nothing is kept safe from its end.
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE placed("row" INTEGER PRIMARY KEY, order_id TEXT, event_id TEXT, at INTEGER, day TEXT, channel TEXT,
  amount TEXT, state TEXT);
CREATE UNIQUE INDEX placed_event ON placed(event_id) WHERE event_id <> '';
CREATE UNIQUE INDEX placed_order ON placed(order_id) WHERE event_id = '';
CREATE INDEX placed_by_order ON placed(order_id);
CREATE TABLE judged(id TEXT PRIMARY KEY, event_id TEXT, order_id TEXT, at INTEGER, received_at INTEGER, day TEXT,
  channel TEXT, amount TEXT, verdict TEXT) WITHOUT ROWID;
CREATE TABLE ruled(decision TEXT, decided_at INTEGER, place INTEGER, verdict TEXT);
CREATE TABLE rejected("row" INTEGER, what TEXT);
CREATE TABLE found(finding TEXT, day TEXT, channel TEXT, order_id TEXT, event_id TEXT, decision_id TEXT, verdict TEXT,
  judged TEXT, ordered TEXT, state TEXT);
"""

# An event that names another order than the row does not speak for it: one verdict must not let two orders through.
_MATCH = """
CREATE INDEX judged_event ON judged(event_id);
CREATE INDEX judged_order ON judged(order_id);
CREATE INDEX ruled_decision ON ruled(decision);
CREATE TABLE matched("row" INTEGER PRIMARY KEY, id TEXT);
INSERT INTO matched SELECT placed."row", judged.id FROM placed JOIN judged ON judged.event_id = placed.event_id
  WHERE placed.event_id <> '' AND judged.order_id IN ('', placed.order_id);
INSERT INTO matched SELECT "row", (SELECT id FROM judged WHERE judged.order_id = placed.order_id
    ORDER BY received_at DESC, id DESC LIMIT 1) AS last
  FROM placed WHERE event_id = '' AND last IS NOT NULL;
CREATE INDEX matched_id ON matched(id);
CREATE VIEW standing AS SELECT id, event_id, order_id, at, day, channel, amount,
  coalesce((SELECT verdict FROM ruled WHERE decision = judged.id ORDER BY decided_at DESC, place DESC LIMIT 1), verdict)
  AS verdict FROM judged;
CREATE VIEW pair AS SELECT placed.day, coalesce(nullif(placed.channel, ''), standing.channel) AS channel,
  placed.order_id, standing.event_id, standing.id, standing.verdict, standing.amount AS judged,
  placed.amount AS ordered, placed.state
  FROM matched JOIN placed USING ("row") JOIN standing ON standing.id = matched.id;
"""

_FIND = (
    """INSERT INTO found SELECT 'no_verdict', day, channel, order_id, event_id, '', '', '', amount, state FROM placed
    WHERE "row" NOT IN (SELECT "row" FROM matched)""",
    """INSERT INTO found SELECT 'no_order', day, channel, order_id, event_id, id, verdict, amount, '', '' FROM standing
    WHERE at >= :since AND at < :until AND verdict <> :passed_over AND id NOT IN (SELECT id FROM matched)
    AND (order_id = '' OR order_id NOT IN (SELECT order_id FROM placed))""",
    """INSERT INTO found SELECT 'declined_captured', * FROM pair WHERE verdict = :declined AND state = 'captured'""",
    """INSERT INTO found SELECT 'unsettled_captured', * FROM pair
    WHERE verdict NOT IN (:approved, :declined) AND state = 'captured'""",
    """INSERT INTO found SELECT 'altered', * FROM pair
    WHERE verdict = :approved AND state <> 'cancelled' AND ordered <> '' AND ordered <> judged""",
)

_COUNTS = """
SELECT day, channel, sum(orders), sum(verdicts) FROM (
  SELECT day, coalesce(nullif(channel, ''), (SELECT judged.channel FROM matched JOIN judged USING (id)
    WHERE matched."row" = placed."row"), '') AS channel, 1 AS orders, 0 AS verdicts FROM placed
  UNION ALL SELECT day, channel, 0, 1 FROM judged WHERE at >= :since AND at < :until)
GROUP BY 1, 2 ORDER BY 1, 2
"""
