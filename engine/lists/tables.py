"""How values are compared with what is on a list: whole values, beginnings, phrases, or addresses with networks.

A table maps each entry, in its normal form, to its expiry and never changes. `holds(at, value)` is the hot path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Protocol

from ahocorasick_rs import AhoCorasick

from engine.schema.keys import plain

NEVER = 2**62
"""The expiry, in µs, of an entry that has none."""

_MAPPED = 0xFFFF << 32
"""::ffff:0:0/96, where IPv6 carries IPv4 (RFC 4291, 2.5.5.2)."""


class Table(Protocol):
    """What a list holds at an instant (µs). None where the value is not of a kind that could be on it."""

    def holds(self, at: int, value: str) -> bool | None:
        """Whether an entry that has not expired at `at` matches `value`, given in its normal form."""
        ...

    def put(self, entry: str, until: int) -> Table:
        """A table with `entry`, in its kept form, until `until`."""
        ...

    def drop(self, entry: str) -> Table:
        """A table without `entry`."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """Whole values."""

    entries: Mapping[str, int]

    def holds(self, at: int, value: str) -> bool | None:
        return at < self.entries.get(value, at)

    def put(self, entry: str, until: int) -> Exact:
        return Exact({**self.entries, entry: until})

    def drop(self, entry: str) -> Exact:
        return Exact({value: until for value, until in self.entries.items() if value != entry})


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Beginnings of values, with the lengths that there are, shortest first."""

    entries: Mapping[str, int]
    lengths: tuple[int, ...]

    def holds(self, at: int, value: str) -> bool | None:
        return any(at < self.entries.get(value[:length], at) for length in self.lengths)

    def put(self, entry: str, until: int) -> Table:
        return prefixes({**self.entries, entry: until})

    def drop(self, entry: str) -> Table:
        return prefixes({value: until for value, until in self.entries.items() if value != entry})


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases that may stand anywhere in a value (Aho and Corasick, "Efficient string matching", CACM 18(6), 1975)."""

    entries: Mapping[str, int]
    search: AhoCorasick
    untils: tuple[int, ...]

    def holds(self, at: int, value: str) -> bool | None:
        # Overlapping: a phrase that has expired must not hide another one.
        return any(at < self.untils[found] for found, _, _ in self.search.find_matches_as_indexes(value, True))

    def put(self, entry: str, until: int) -> Table:
        return phrases({**self.entries, entry: until})

    def drop(self, entry: str) -> Table:
        return phrases({value: until for value, until in self.entries.items() if value != entry})


@dataclass(frozen=True, slots=True)
class Networks:
    """Addresses and networks, as one mapping from network number to expiry for each prefix length in use.

    `four` and `six` map, for IPv4 and IPv6, the bits behind a prefix to the networks of that length.
    """

    four: Mapping[int, Mapping[int, int]]
    six: Mapping[int, Mapping[int, int]]

    def holds(self, at: int, value: str) -> bool | None:
        try:
            number, levels = int.from_bytes(inet_pton(AF_INET, value)), self.four
        except OSError:
            try:
                number, levels = int.from_bytes(inet_pton(AF_INET6, value)), self.six
            except OSError:
                return None
            if number >> 32 == _MAPPED >> 32:
                number, levels = number & 0xFFFFFFFF, self.four
        return any(at < networks.get(number >> shift, at) for shift, networks in levels.items())

    def put(self, entry: str, until: int) -> Networks:
        version, shift, number = _numbers(entry)
        levels = self.four if version == 4 else self.six
        return self._with(version, {**levels, shift: {**levels.get(shift, {}), number: until}})

    def drop(self, entry: str) -> Networks:
        version, shift, number = _numbers(entry)
        levels = self.four if version == 4 else self.six
        left = {other: until for other, until in levels.get(shift, {}).items() if other != number}
        return self._with(version, {**levels, shift: left})

    def _with(self, version: int, levels: Mapping[int, Mapping[int, int]]) -> Networks:
        # A prefix length that nobody uses any more would cost every lookup a step.
        used = {shift: level for shift, level in levels.items() if level}
        return Networks(used, self.six) if version == 4 else Networks(self.four, used)


def exact(entries: Mapping[str, int]) -> Table:
    """A table of whole values: normal form → expiry."""
    return Exact(entries)


def prefixes(entries: Mapping[str, int]) -> Table:
    """A table of beginnings: normal form → expiry."""
    return Prefixes(entries, tuple(sorted(set(map(len, entries)))))


def phrases(entries: Mapping[str, int]) -> Table:
    """A table of phrases: normal form → expiry."""
    return Phrases(entries, AhoCorasick(list(entries)), tuple(entries.values()))


def networks(entries: Mapping[str, int]) -> Table:
    """A table of addresses and networks: normal form (see `network`) → expiry."""
    four: dict[int, dict[int, int]] = {}
    six: dict[int, dict[int, int]] = {}
    for entry, until in entries.items():
        version, shift, number = _numbers(entry)
        (four if version == 4 else six).setdefault(shift, {})[number] = until
    return Networks(four, six)


def _numbers(entry: str) -> tuple[int, int, int]:
    """IP version, bits behind the prefix, and the prefix as a number."""
    found = ip_network(entry)
    shift = found.max_prefixlen - found.prefixlen
    return found.version, shift, int(found.network_address) >> shift


class BehindPrefixError(ValueError):
    """An address goes on behind its prefix; `meant` is the network without that, which is as secret as the value."""

    def __init__(self, meant: IPv4Network | IPv6Network) -> None:
        super().__init__("the address goes on behind its prefix, where a network has zeros")
        self.meant = meant


def network(value: str) -> IPv4Network | IPv6Network:
    """The network that `value` names; IPv4 mapped into IPv6 becomes IPv4.

    Raises ValueError with what is wrong, in words that never repeat the value.
    """
    written = value.strip()
    try:
        wide = ip_network(written, strict=False)
    except ValueError:
        raise ValueError("this is not an IP address or a network such as 192.0.2.0/24 or 2001:db8::/32") from None
    if wide.prefixlen == 0:
        raise ValueError("this is every address there is")
    try:
        found = ip_network(written)
    except ValueError:
        raise BehindPrefixError(wide) from None
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is not None and found.prefixlen > 96:
        return ip_network(f"{mapped}/{found.prefixlen - 96}")
    return found


def plain_form(value: str, ignore_case: bool) -> str:
    """NFKC without blanks at the ends, in one case where asked."""
    value = plain(value)
    return fold(value) if ignore_case else value


def fold(value: str) -> str:
    """Simple case folding: one character stays one character."""
    if value.isascii():
        return value.lower()
    return "".join(folded if len(folded := letter.casefold()) == 1 else letter for letter in value)
