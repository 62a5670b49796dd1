"""Decisions as an anonymised table for research: which columns there are, and a result that holds or is refused.

    table = await gather(ledger, schema, "shop-a", since, until, ask)    # raises Refused when k or l cannot be reached
    table.columns, table.rows

Nothing that names anybody is in it: no id, no pseudonym, no exact time, no field that is personal or an identifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.anonymity import LEVELS, UNKNOWN, Coarser, Row, anonymity, diversity, persons, suppress
from engine.errors import ArbiterError, RequestRefused, did_you_mean
from engine.ledger import Fact, Ledger
from engine.schema import FieldDef, Schema, at_path, decode

SENSITIVE: Mapping[str, Coarser] = {
    "verdict": str,
    "score": lambda value: f"{value // 10 * 10}-{value // 10 * 10 + 9}",
    "signals": ";".join,
}
"""What may be told of a class and not of a person."""

IDENTITIES = ("account", "person", "payer", "phone", "email", "card", "payout_account", "company")
"""Pseudonyms that say that two rows are one person's. A shared address, device or network does not."""


class Refused(ArbiterError):
    """The table would not be anonymous."""

    code = "not_anonymous"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: the kind of event, columns as (name, level), sensitive columns, how many persons (`k`) and
    values (`diverse`) a class has at least, and the largest share of rows that may be left out."""

    kind: str
    quasi: tuple[tuple[str, str], ...]
    sensitive: tuple[str, ...]
    k: int
    diverse: int
    most_left_out: float


@dataclass(frozen=True, slots=True)
class Anonymous:
    """The table: its columns, its rows in the order of their values, and how it was reached."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    k: int
    diverse: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Column:
    """A quasi-identifier: where it stands, and how it is made coarser."""

    name: str
    level: str
    coarser: Coarser

    def of(self, event: Mapping[str, Any], public: Mapping[str, Any]) -> str:
        """The coarse value of one decision."""
        value = event["at"] if self.name == "time" else at_path(public, self.name)
        return UNKNOWN if value is None else self.coarser(value)


def columns(schema: Schema, ask: Ask) -> list[Column]:
    """The columns that are asked for. RequestRefused for one that there is not, or that may not be in such a table."""
    if ask.kind not in schema.kinds or ask.kind == "outcome":
        raise RequestRefused(f"there is no judged kind of event '{ask.kind}'; {did_you_mean(ask.kind, schema.kinds)}")
    fields = schema.fields(ask.kind)
    for name in ask.sensitive:
        if name not in SENSITIVE:
            raise RequestRefused(f"'{name}' is no sensitive column; there are: {', '.join(SENSITIVE)}")
    if not ask.quasi or not ask.sensitive:
        raise RequestRefused("name at least one --quasi and one --sensitive column")
    return [_column(fields, name, level) for name, level in ask.quasi]


def _column(fields: Mapping[str, FieldDef], name: str, level: str) -> Column:
    sort = "time" if name == "time" else _sort(fields, name)
    levels = LEVELS[sort]
    chosen = level or next(iter(levels))
    if chosen not in levels:
        raise RequestRefused(f"{name}: there is no level '{level}'; there are: {', '.join(levels)}")
    return Column(name, chosen, levels[chosen])


def _sort(fields: Mapping[str, FieldDef], name: str) -> str:
    found = fields.get(name)
    if found is None:
        hint = did_you_mean(name, [*fields, "time"]) or "see docs/events.md"
        raise RequestRefused(f"'{name}' is no field of this kind; {hint}")
    if found.privacy != "public" or found.identifier or found.type in ("instant", "duration") or found.many:
        raise RequestRefused(f"'{name}' cannot be in it: it is personal, an identifier, exact in time, or a list")
    if found.type != "text":
        return found.type
    return "country" if found.form.name == "country" else "text"


async def gather(ledger: Ledger, schema: Schema, tenant: str, since: int, until: int | None, ask: Ask) -> Anonymous:
    """The table of one tenant's decisions received from `since` until before `until`.

    Raises Refused when more than `ask.most_left_out` of the rows would have to be left out, or nothing is left.
    """
    wanted = columns(schema, ask)
    made: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    identities: list[list[tuple[str, str]]] = []
    named = _named(schema.fields(ask.kind))
    async for facts in ledger.facts(since):
        for fact in facts:
            if _wanted(fact, tenant, until, ask.kind):
                made.append(_values(orjson.loads(fact.leaf), wanted, ask.sensitive))
                identities.append(list(_identities(fact, named)))
    rows = [Row(*values, person) for values, person in zip(made, persons(identities), strict=True)]
    kept = suppress(rows, ask.k, ask.diverse)
    return _checked(rows, kept, wanted, ask)


def _wanted(fact: Fact, tenant: str, until: int | None, kind: str) -> bool:
    own = fact.tenant == tenant and fact.kind == "decision" and fact.event_kind == kind
    return own and (until is None or fact.received_at < until)


def _values(
    record: Mapping[str, Any], wanted: Sequence[Column], sensitive: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    event = record["event"]
    public = decode(event["public"])
    return (
        tuple(column.of(event, public) for column in wanted),
        tuple(SENSITIVE[name](record[name]) for name in sensitive),
    )


def _identities(fact: Fact, named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Who the row is about, by the paths that name such persons."""
    for path, pseudonym in fact.keys.items():
        if path in named:
            yield named[path], pseudonym


def _named(fields: Mapping[str, FieldDef]) -> dict[str, str]:
    """Path → namespace of what names the buyer or, in kinds that have none, the seller."""
    whose = "buyer" if any(each.subject == "buyer" for each in fields.values()) else "seller"
    return {path: each.entity for path, each in fields.items() if each.subject == whose and each.entity in IDENTITIES}


def _checked(rows: Sequence[Row], kept: list[Row], wanted: Sequence[Column], ask: Ask) -> Anonymous:
    """The result, if it holds by itself: it is looked at as a stranger would, not as it was made."""
    left_out = len(rows) - len(kept)
    if not kept or left_out > ask.most_left_out * len(rows):
        what = (
            f"{left_out:,} of {len(rows):,} rows are in classes of fewer than {ask.k} persons or {ask.diverse} values"
        )
        raise Refused(f"{what}: make columns coarser, take fewer of them, or a longer period; nothing was written")
    k, diverse = anonymity(kept), diversity(kept)
    if k < ask.k or diverse < ask.diverse:
        raise Refused(f"the result has k = {k} and l = {diverse}; nothing was written")
    names = (*(f"{column.name}:{column.level}" for column in wanted), *ask.sensitive)
    return Anonymous(names, tuple(sorted(row.quasi + row.sensitive for row in kept)), k, diverse, left_out)
