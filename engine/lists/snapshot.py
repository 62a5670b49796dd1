"""All lists at one moment, frozen: what conditions ask while they run, and the hashes that a record pins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256, shake_128
from typing import Any, TypeAlias

from engine.disguise import Reading, read
from engine.errors import PackError, Problem
from engine.jcs import canonical
from engine.lists.entries import ListEntry, Pseudonym
from engine.lists.files import NamedList, read_list
from engine.lists.phrases import MOST_HITS, Disguised, Hit
from engine.lists.tables import NEVER, Table
from engine.packs import Document

Lookup: TypeAlias = Callable[[str], bool | None]
"""Whether a value is on a list; None when nobody can say. That of phrases with disguises is a `Finder`."""

UNAVAILABLE = "list_unavailable"
"""The cause that a decision names when a list it asks cannot be read."""


def read_lists(documents: Iterable[Document], *, strict: bool = True) -> ListSet:
    """The lists of the given files. Raises PackError with every problem of every file.

    With `strict` false, a text file that cannot be read makes its list unavailable and stops nothing else.
    """
    lists: dict[str, NamedList] = {}
    problems: list[Problem] = []
    for document in documents:
        try:
            found = read_list(document, strict=strict)
        except PackError as error:
            problems += error.problems
            continue
        if found.name in lists:
            problems.append(document.problem(("list",), f"there are two lists '{found.name}'", "rename one of them"))
        lists[found.name] = found
    if problems:
        raise PackError(problems)
    return ListSet(lists)


@dataclass(frozen=True, slots=True, eq=False)
class _Managed:
    """The active entries of one list and tenant that came through the API, as a table and as a hash of their set."""

    entries: Mapping[str, ListEntry]
    table: Table
    mix: int = 0

    def without(self, value: str) -> _Managed:
        old = self.entries.get(value)
        if old is None:
            return self
        entries = {key: entry for key, entry in self.entries.items() if key != value}
        return _Managed(entries, self.table.drop(value), _subtract(self.mix, _mixed(old)))

    def plus(self, entry: ListEntry) -> _Managed:
        """With an entry that was not there."""
        table = self.table.put(entry.value, NEVER if entry.expires is None else entry.expires)
        return _Managed({**self.entries, entry.value: entry}, table, _add(self.mix, _mixed(entry)))


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    """A list as one tenant sees it."""

    named: NamedList
    tenant: str
    managed: _Managed | None
    pseudonym: Pseudonym | None
    readable: bool

    def holds(self, at: int, value: str) -> bool | None:
        """Whether the value is on the list at `at`; None where the list cannot be read or the value compared."""
        named, managed = self.named, self.managed
        if named.table is None or not self.readable:
            return None
        try:
            form = named.form(value)
        except ValueError:
            return None
        found = named.table.holds(at, form)
        if found or managed is None:
            return found
        if named.entity:
            assert self.pseudonym is not None, "entries of persons are kept as pseudonyms only"
            form = self.pseudonym(self.tenant, named.entity, form)
        return managed.table.holds(at, form)

    def hits(self, at: int, reading: Reading) -> tuple[Hit, ...] | None:
        """Where phrases of the list stand in a text at `at`; None where the list cannot be read."""
        table = self.named.table
        if table is None or not self.readable:
            return None
        assert isinstance(table, Disguised), "only of phrases with disguises it is asked where they stand"
        found = table.hits(at, reading)
        if self.managed is None:
            return found
        assert isinstance(self.managed.table, Disguised), "made by the same list"
        told = {(hit.start, hit.end) for hit in found}
        # What came through the API can be deleted, so no record may say what it was.
        more = (replace(hit, phrase=None) for hit in self.managed.table.hits(at, reading))
        both = [*found, *(hit for hit in more if (hit.start, hit.end) not in told)]
        return tuple(sorted(both, key=lambda hit: (hit.start, hit.end))[:MOST_HITS])


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """A list of phrases with disguises, as one event asks it: whether, and where."""

    _listing: _Listing
    _at: int
    _found: dict[tuple[str, str], tuple[Hit, ...] | None]
    _readings: dict[str, Reading]

    def __call__(self, value: str) -> bool | None:
        """Whether a phrase of the list stands in a text."""
        hits = self.hits(value)
        return None if hits is None else bool(hits)

    def hits(self, value: str) -> tuple[Hit, ...] | None:
        """Where they stand; None where the list cannot be read. For one event a text is read once, for however many
        lists, and searched once for each."""
        asked = self._listing.named.name, value
        if asked not in self._found:
            reading = self._readings.get(value) or self._readings.setdefault(value, read(value))
            self._found[asked] = self._listing.hits(self._at, reading)
        return self._found[asked]


@dataclass(frozen=True, slots=True, eq=False)
class Lookups(Mapping[str, Lookup]):
    """The lists as one event asks them: for its tenant, at the time it was received."""

    _listings: Mapping[str, _Listing]
    _at: int
    _answers: dict[tuple[str, str], bool | None] = field(default_factory=dict)
    _found: dict[tuple[str, str], tuple[Hit, ...] | None] = field(default_factory=dict)
    _readings: dict[str, Reading] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Lookup:
        return self._lookup(self._listings[name])

    def get(self, name: str, default: Any = None) -> Any:
        """As for every mapping, without an error in between."""
        listing = self._listings.get(name)
        return default if listing is None else self._lookup(listing)

    def _lookup(self, listing: _Listing) -> Lookup:
        if listing.named.disguises:
            return Finder(listing, self._at, self._found, self._readings)
        if listing.named.match == "name":
            return partial(self._once, listing)
        return partial(listing.holds, self._at)

    def _once(self, listing: _Listing, value: str) -> bool | None:
        """Buyer, recipient and card holder are often one person, and names cost most to compare."""
        asked = listing.named.name, value
        if asked not in self._answers:
            self._answers[asked] = listing.holds(self._at, value)
        return self._answers[asked]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listings)

    def __len__(self) -> int:
        return len(self._listings)


@dataclass(frozen=True, slots=True, eq=False)
class ListSet:
    """All lists with the API's entries of all tenants. Every change gives a new set; the old one stays as it was.

    `pseudonym` is asked for values of lists that name an entity. Entries of lists that are not there are left out.
    """

    lists: Mapping[str, NamedList]
    pseudonym: Pseudonym | None = None
    unreadable: frozenset[str] = frozenset()
    _managed: Mapping[tuple[str, str], _Managed] = field(default_factory=dict)
    _listings: dict[str, Mapping[str, _Listing]] = field(default_factory=dict)
    _hashes: dict[str, dict[str, str]] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Name → how the list compares: 'exact', 'prefix', 'phrase', 'disguised phrase', 'cidr' or 'name'."""
        return {name: "disguised phrase" if each.disguises else each.match for name, each in self.lists.items()}

    def available(self, name: str) -> bool:
        """Whether the list can answer."""
        return name in self.lists and self.lists[name].table is not None and name not in self.unreadable

    def lookups(self, at: int, tenant: str) -> Lookups:
        """What an event of `tenant`, received at `at` (UTC µs), may ask."""
        listings = self._listings.get(tenant)
        if listings is None:
            # Filled once for each tenant; two threads that do it at once do the same.
            listings = self._listings[tenant] = {name: self._listing(name, tenant) for name in self.lists}
        return Lookups(listings, at)

    def _listing(self, name: str, tenant: str) -> _Listing:
        managed = self._managed.get((tenant, name))
        return _Listing(self.lists[name], tenant, managed, self.pseudonym, name not in self.unreadable)

    def hashes(self, names: Iterable[str], tenant: str) -> dict[str, str]:
        """Name → hash of what the list holds for `tenant`, expiries included; 'unavailable' for one nobody can read.

        Together with the time received, the hash says what an event was compared with.
        """
        # As with the listings: what is in a set does not change, so each is made once.
        known = self._hashes.setdefault(tenant, {})
        return {name: known.get(name) or known.setdefault(name, self._hash(name, tenant)) for name in names}

    def _with(self, **other: Any) -> ListSet:
        return replace(self, **other, _listings={}, _hashes={})

    def _hash(self, name: str, tenant: str) -> str:
        if not self.available(name):
            return "unavailable"
        managed = self._managed.get((tenant, name))
        if managed is None or not managed.entries:
            return self.lists[name].hash
        return _pin(self.lists[name].hash, managed.mix)

    def with_pseudonym(self, pseudonym: Pseudonym) -> ListSet:
        """The same lists, able to compare with entries that are kept as pseudonyms."""
        return self._with(pseudonym=pseudonym)

    def with_unreadable(self, names: Iterable[str]) -> ListSet:
        """The same lists, of which `names` cannot be read at present: lookups in them are unknown."""
        return self._with(unreadable=frozenset(names))

    def with_entries(self, entries: Iterable[ListEntry]) -> ListSet:
        """The lists of the files with exactly these entries."""
        active: dict[tuple[str, str], dict[str, ListEntry]] = {}
        for entry in entries:
            if entry.on and entry.list in self.lists:
                active.setdefault((entry.tenant, entry.list), {})[entry.value] = entry
        managed = {key: _managed(self.lists[key[1]], found) for key, found in active.items()}
        return self._with(_managed=managed)

    def with_entry(self, entry: ListEntry) -> ListSet:
        """The lists after one entry was proposed, approved or ended."""
        if entry.list not in self.lists:
            return self
        key = (entry.tenant, entry.list)
        managed = self._managed.get(key) or _managed(self.lists[entry.list], {})
        managed = managed.without(entry.value)
        if entry.on:
            managed = managed.plus(entry)
        return self._with(_managed={**self._managed, key: managed})


def _managed(named: NamedList, entries: Mapping[str, ListEntry]) -> _Managed:
    table = named.tabled({value: NEVER if e.expires is None else e.expires for value, e in entries.items()})
    mix = 0
    for entry in entries.values():
        mix = _add(mix, _mixed(entry))
    return _Managed(entries, table, mix)


def _pin(of_files: str, mix: int) -> str:
    """The hash of a list whose files have the hash `of_files`, with the API's entries that give `mix`."""
    return sha256(bytes.fromhex(of_files) + mix.to_bytes(2 * _LANES)).hexdigest()


class History:
    """The API's entries of one list and tenant through time: gives what was on the list from the hash that a record
    pins. That it was just this is known from the hash itself, whoever kept the history."""

    def __init__(self, of_files: str, changes: Sequence[ListEntry]) -> None:
        """`of_files` is the hash of what the files hold; `changes` is each entry as every change of it left it, in the
        order of the changes."""
        self._changes = changes
        self._after: dict[str, tuple[int, int]] = {of_files: (0, 0)}
        """Hash of the list → after how many changes it was that, and how many entries it had then."""
        held: dict[str, ListEntry] = {}
        mix = 0
        for count, entry in enumerate(changes, 1):
            before = held.pop(entry.value, None)
            if before is not None:
                mix = _subtract(mix, _mixed(before))
            if entry.on:
                held[entry.value] = entry
                mix = _add(mix, _mixed(entry))
            self._after[_pin(of_files, mix) if held else of_files] = (count, len(held))

    def after(self, pinned: str) -> tuple[int, int] | None:
        """After how many changes the list had the hash `pinned`, and how many entries it had then."""
        return self._after.get(pinned)

    def stays(self) -> Iterator[tuple[ListEntry, int, int | None]]:
        """Every entry that was on the list: from after which change, counted from 1, and up to which."""
        held: dict[str, tuple[ListEntry, int]] = {}
        for count, entry in enumerate(self._changes, 1):
            if entry.on:
                held.setdefault(entry.value, (entry, count))
            elif entry.value in held:
                yield *held.pop(entry.value), count
        yield from ((entry, since, None) for entry, since in held.values())

    def entries(self, pinned: str) -> tuple[ListEntry, ...] | None:
        """The entries that were on the list when its hash was `pinned`; None where it never was, as far as is known."""
        found = self._after.get(pinned)
        if found is None:
            return None
        held = {entry.value: entry for entry in self._changes[: found[0]]}
        return tuple(entry for entry in held.values() if entry.on)


# -- A hash of a set that changes by one entry in constant time ------------------------------------------------
#
# LtHash16 (Bellare and Micciancio 1997; Lewi, Kim, Maykov, Weis: "Securing Update Propagation with Homomorphic
# Hashing", 2019): each element is spread over 1024 lanes of 16 bits, lanes are added modulo 2^16. A plain sum
# modulo 2^256 would be open to Wagner's generalized birthday attack.

_LANES = 1024
_LOW = int.from_bytes(b"\x7f\xff" * _LANES)
_HIGH = int.from_bytes(b"\x80\x00" * _LANES)


def _mixed(entry: ListEntry) -> int:
    written = canonical([entry.value, None if entry.expires is None else str(entry.expires)])
    return int.from_bytes(shake_128(written).digest(2 * _LANES))


def _add(a: int, b: int) -> int:
    """All lanes at once: without their highest bits nothing is carried over, and those are added by exclusive or."""
    return ((a & _LOW) + (b & _LOW)) ^ ((a ^ b) & _HIGH)


def _subtract(a: int, b: int) -> int:
    return ((a | _HIGH) - (b & _LOW)) ^ ((a ^ b ^ _HIGH) & _HIGH)
