"""Reading the ledger as it grows: what was decided, how it ended and what became known, each entry once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select

from engine.database import ONE_VERDICT, entry
from engine.ledger.reading import AT_ONCE, AnyRow, next_tenant

LATEST = 60_000_000
"""µs after its receipt within which an entry is committed, or was given up."""

KNOWN_LATER = ("outcome", "complaint")
"""The events that say something of what was decided, though nobody judges them."""

SEQUELS = ("resolution", "appeal")
"""The entries that may give another verdict in a case."""

_MINE = or_(
    entry.c.kind.in_(("decision", *SEQUELS)), and_(entry.c.kind == "event", entry.c.event_kind.in_(KNOWN_LATER))
)
_COLUMNS = (
    *(entry.c.row, entry.c.id, entry.c.tenant, entry.c.kind, entry.c.event_kind, entry.c.event_id),
    *(entry.c.refers_to, entry.c.at, entry.c.received_at, entry.c.leaf),
)


class Grown(NamedTuple):
    """New entries in the order of their arrival, the decisions that they are about, and all that ruled in these, from
    one view of the ledger."""

    new: Sequence[AnyRow]
    firsts: Sequence[AnyRow]
    later: Sequence[AnyRow]


def beginning(tenant: str | None, since: int) -> Callable[[Connection], int]:
    """The arrival before the first entry received at or after `since`; the last one where there is none."""

    def read(connection: Connection) -> int:
        # One tenant after the other: that is how the index lies.
        tenants = _tenants(connection) if tenant is None else [tenant]
        later = (entry.c.tenant == bindparam("tenant"), entry.c.received_at >= since)
        query = select(func.min(entry.c.row)).where(*later)
        found = [connection.execute(query, {"tenant": each}).scalar() for each in tenants]
        rows = [row for row in found if row is not None]
        return min(rows) - 1 if rows else connection.execute(select(func.max(entry.c.row))).scalar() or 0

    return read


def _tenants(connection: Connection) -> Iterator[str]:
    name = next_tenant("")(connection)
    while name is not None:
        yield name
        name = next_tenant(name)(connection)


def rows_above(row: int, size: int) -> Callable[[Connection], list[tuple[int, int]]]:
    """(Arrival, time received) of the next entries above an arrival, of whatever sort and tenant, in order."""
    # Of one tenant an index would be used that has no such order: all of it would be sorted each time.
    query = select(entry.c.row, entry.c.received_at).where(entry.c.row > row).order_by(entry.c.row).limit(size)
    return lambda connection: [(each.row, each.received_at) for each in connection.execute(query)]


def grown(rows: Collection[int], tenant: str | None = None) -> Callable[[Connection], Grown]:
    """The entries with these arrivals, of one tenant or of all, that say something of decisions, and what they are
    about."""

    def read(connection: Connection) -> Grown:
        new = _all(connection, lambda some: _columns().where(entry.c.row.in_(some), _MINE), sorted(rows))
        new = [each for each in new if tenant in (None, each.tenant)]
        ids: dict[str, set[str]] = {}
        events: dict[str, set[str]] = {}
        for each in new:
            if each.kind in SEQUELS:
                ids.setdefault(each.tenant, set()).add(each.refers_to)
        for owner, event in _told_of(new):
            events.setdefault(owner, set()).add(event)
        firsts = [*_firsts(connection, ids, entry.c.id), *_firsts(connection, events, entry.c.event_id)]
        touched: dict[str, set[str]] = {}
        for each in firsts:
            touched.setdefault(each.tenant, set()).add(each.id)
        return Grown(new, firsts, _later(connection, touched))

    return read


def _told_of(new: Sequence[AnyRow]) -> list[tuple[str, str]]:
    """Which events of which tenants an outcome among these is about."""
    outcomes = [each for each in new if each.kind == "event" and each.event_kind == "outcome"]
    return [(each.tenant, orjson.loads(each.leaf)["event"]["public"]["outcome"]["refers_to"]) for each in outcomes]


def _firsts(connection: Connection, named: dict[str, set[str]], column: Any) -> list[AnyRow]:
    found: list[AnyRow] = []
    for tenant, names in named.items():
        # As text, so that the index of event ids is known to hold them.
        mine = and_(entry.c.tenant == tenant, ONE_VERDICT, entry.c.kind == "decision")
        found += _all(connection, lambda some, mine=mine: _columns().where(mine, column.in_(some)), sorted(names))
    return found


def _later(connection: Connection, touched: dict[str, set[str]]) -> list[AnyRow]:
    found: list[AnyRow] = []
    for tenant, ids in touched.items():
        mine = and_(entry.c.tenant == tenant, entry.c.kind.in_(SEQUELS))
        found += _all(
            connection, lambda some, mine=mine: _columns().where(mine, entry.c.refers_to.in_(some)), sorted(ids)
        )
    return found


def _columns() -> Select[Any]:
    return select(*_COLUMNS).order_by(entry.c.row)


def _all(connection: Connection, query: Callable[..., Select[Any]], values: Sequence[Any]) -> list[AnyRow]:
    found: list[AnyRow] = []
    for at in range(0, len(values), AT_ONCE):
        found += connection.execute(query(values[at : at + AT_ONCE])).all()
    return found
