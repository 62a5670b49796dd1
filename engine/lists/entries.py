"""Entries that come through the API: who added them, who approved them, and how long they hold.

    propose ──► active ──► ended                 on a list that raises the risk
    propose ──► pending ──► active ──► ended     on a list that lowers it: a second person approves

These are values and pure functions; rows of the table `list_entry` have the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from engine.errors import Conflict, RequestRefused, SecondPerson
from engine.lists.files import NamedList

MAX_REASON = 400

Pseudonym: TypeAlias = Callable[[str, str, str], str]
"""(tenant, namespace, normal form) → pseudonym."""


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One entry of one tenant. `value` is its kept form, or a pseudonym where the list names an entity.

    Times are UTC µs. Who ended it, and when, is in the change log.
    """

    tenant: str
    list: str
    value: str
    state: Literal["pending", "active", "ended"]
    reason: str
    added_by: str
    added: int
    approved_by: str | None = None
    expires: int | None = None

    def holds(self, at: int) -> bool:
        """Whether the entry counts for an event received at `at`."""
        return self.state == "active" and (self.expires is None or at < self.expires)


def propose(
    named: NamedList,
    value: str,
    *,
    tenant: str,
    by: str,
    at: int,
    reason: str,
    expires: int | None = None,
    pseudonym: Pseudonym | None = None,
) -> ListEntry:
    """A new entry: active, or pending where it lowers the risk. Raises RequestRefused, which never repeats the value.

    `pseudonym` must be given for a list that names an entity.
    """
    if not reason.strip() or len(reason) > MAX_REASON:
        raise RequestRefused(f"an entry needs a reason of at most {MAX_REASON} characters")
    if expires is not None and expires <= at:
        raise RequestRefused("the expiry lies in the past")
    try:
        kept = named.entry(value)
    except ValueError as error:
        raise RequestRefused(f"list {named.name}: {error}") from None
    if named.entity:
        assert pseudonym is not None, "personal values are kept as pseudonyms only"
        kept = pseudonym(tenant, named.entity, kept)
    state: Literal["pending", "active"] = "pending" if named.lowers else "active"
    return ListEntry(tenant, named.name, kept, state, reason.strip(), by, at, None, expires)


def approve(entry: ListEntry, *, by: str, at: int) -> ListEntry:
    """The entry, active. Raises Conflict when nothing waits, SecondPerson for the person who added it."""
    if entry.state != "pending":
        raise Conflict(f"the entry does not wait for approval: it is {entry.state}")
    if entry.expires is not None and entry.expires <= at:
        raise Conflict("the entry expired before it was approved")
    if by == entry.added_by:
        raise SecondPerson("an entry that lowers the risk is approved by a second person, not by the one who added it")
    return replace(entry, state="active", approved_by=by)


def end(entry: ListEntry) -> ListEntry:
    """The entry, taken off the list. Raises Conflict when it already is."""
    if entry.state == "ended":
        raise Conflict("the entry has already ended")
    return replace(entry, state="ended")
