"""Named lists that conditions ask: `ip in list tor-exits`, `buyer.email_domain not in list partners`.

A list is a file under `rules/lists/`, with its entries in place or in a text file beside it, and may get further
entries through the API. A `ListSet` is a snapshot of all of them; a change gives a new snapshot. Entries hold up to
their expiry, seen from the time an event was received. What would lower the risk, an entry or the end of one, waits
for a second person. An entry of a list with an `entity` that comes through the API is kept as a pseudonym, never as
the value.
"""

from engine.lists.entries import ListEntry, Pseudonym, approve, ask_end, end, entry_id, propose, withdraw
from engine.lists.files import EntryText, ListPack, NamedList, read_list, same_person
from engine.lists.phrases import Hit
from engine.lists.snapshot import UNAVAILABLE, Finder, History, ListSet, Lookup, Lookups, read_lists
from engine.lists.tables import NEVER

__all__ = [
    "NEVER",
    "UNAVAILABLE",
    "EntryText",
    "Finder",
    "History",
    "Hit",
    "ListEntry",
    "ListPack",
    "ListSet",
    "Lookup",
    "Lookups",
    "NamedList",
    "Pseudonym",
    "approve",
    "ask_end",
    "end",
    "entry_id",
    "propose",
    "read_list",
    "read_lists",
    "same_person",
    "withdraw",
]
