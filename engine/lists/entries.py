"""Entries that come through the API: who added them, who approved them, and how long they hold.

    propose ──► active ──► ending ──► ended      on a list that raises the risk
    propose ──► pending ──► active ──► ended     on a list that lowers it

`pending` and `ending` wait for a second person: what lowers the risk nobody does alone, whether it puts a value on a
list or takes it off one. An entry counts until its end is approved.

These are values and pure functions; rows of the table `list_entry` have the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

from engine.errors import BodyRefused, Conflict, FieldProblem, SecondPerson
from engine.lists.files import NamedList, same_person

MAX_REASON = 400

Pseudonym: TypeAlias = Callable[[str, str, str], str]
"""(tenant, namespace, normal form) → pseudonym."""


State: TypeAlias = Literal["pending", "active", "ending", "ended"]


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One entry of one tenant. `value` is its kept form, or a pseudonym where the list names an entity.

    Times are UTC µs. `approved_by` let it count and `end_approved_by` let it end, where that took a second person;
    `ended_by` asked for its end, or ended it. When that was is in the change log.
    """

    tenant: str
    list: str
    value: str
    state: State
    reason: str
    added_by: str
    added: int
    approved_by: str | None = None
    expires: int | None = None
    ended_by: str | None = None
    end_approved_by: str | None = None

    @property
    def on(self) -> bool:
        """Whether the entry is on its list, up to its expiry."""
        return self.state in ("active", "ending")

    def holds(self, at: int) -> bool:
        """Whether the entry counts for an event received at `at`."""
        return self.on and (self.expires is None or at < self.expires)

    @property
    def standing(self) -> str:
        """Its state and its end, as the record of a change says them."""
        return f"{self.state} until {self.expires}" if self.expires else self.state

    def stood(self, standing: str) -> ListEntry:
        """This entry with the state and the end that a `standing` says."""
        state, _, expires = standing.partition(" until ")
        # The other parts are those of now: they do not decide whether it counts.
        return replace(self, state=cast(State, state), expires=int(expires) if expires else None)


def entry_id(pseudonym: Pseudonym, tenant: str, name: str, value: str) -> str:
    """The id of an entry of the list `name`: made of its value, which has one, and keyed, so that nobody can guess it.

    It stands in the ledger for ever, where an address or a pseudonym must not.
    """
    return pseudonym(tenant, "list_entry", f"{name}|{value}")


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
    """A new entry: active, or pending where it lowers the risk. Raises BodyRefused with every problem by its field.

    `pseudonym` must be given for a list that names an entity.
    """
    kept, problems = "", []
    if not reason.strip():
        problems.append(FieldProblem("reason", "too_short", "an entry needs a reason"))
    if len(reason) > MAX_REASON:
        problems.append(FieldProblem("reason", "too_long", f"at most {MAX_REASON} characters"))
    if expires is not None and expires <= at:
        what, hint = "lies in the past", "give a time to come; without one the entry holds until it is ended"
        problems.append(FieldProblem("expires", "out_of_range", what, hint))
    try:
        kept = named.entry(value)
    except ValueError as error:
        problems.append(FieldProblem("value", "bad_format", str(error)))
    if problems:
        raise BodyRefused(problems)
    if named.entity:
        assert pseudonym is not None, "personal values are kept as pseudonyms only"
        kept = pseudonym(tenant, named.entity, kept)
    state: Literal["pending", "active"] = "pending" if named.lowers else "active"
    return ListEntry(tenant, named.name, kept, state, reason.strip(), by, at, None, expires)


def approve(entry: ListEntry, *, by: str, at: int) -> ListEntry:
    """The entry with what it waits for: active, or ended.

    Raises Conflict when nothing waits, SecondPerson for the person who added the entry or asked for its end.
    """
    if entry.state == "ending":
        if same_person(by, entry.ended_by or ""):
            raise SecondPerson("an end that lowers the risk is approved by a second person, not by the one who asked")
        return replace(entry, state="ended", end_approved_by=by)
    if entry.state != "pending":
        raise Conflict(f"the entry does not wait for approval: it is {entry.state}")
    if entry.expires is not None and entry.expires <= at:
        raise Conflict("the entry expired before it was approved")
    if same_person(by, entry.added_by):
        raise SecondPerson("an entry that lowers the risk is approved by a second person, not by the one who added it")
    return replace(entry, state="active", approved_by=by)


def end(entry: ListEntry, *, by: str) -> ListEntry:
    """The entry, taken off the list. Raises Conflict when it already is."""
    if entry.state == "ended":
        raise Conflict("the entry has already ended")
    return replace(entry, state="ended", ended_by=by)


def ask_end(entry: ListEntry, *, by: str) -> ListEntry:
    """The entry, which counts until a second person approves its end. Raises Conflict when its end waits already."""
    if entry.state != "active":
        raise Conflict("the end of this entry waits for a second person already")
    return replace(entry, state="ending", ended_by=by)


def withdraw(entry: ListEntry, *, by: str) -> ListEntry:
    """The entry without what it waits for: a new one ends, one whose end was asked for stays.

    Raises Conflict when nothing waits.
    """
    if entry.state == "ending":
        return replace(entry, state="active", ended_by=None)
    if entry.state != "pending":
        raise Conflict(f"the entry does not wait for approval: it is {entry.state}")
    return end(entry, by=by)
