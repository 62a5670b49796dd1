"""Many names, asked for those that are like another one, without comparing it with each.

Slips are found as in PASS-JOIN (Li, Deng, Wang, Feng: "Pass-Join: A Partition-based Method for Similarity Joins", VLDB
2011): a word that may have d slips is cut into d + 1 pieces, and one of them stands unharmed, at most d places away, in
every word that is so near. What the words found could agree on at most bounds the likeness of each name; only names
whose bound reaches the threshold are compared. The bound is never below the likeness, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from engine.lists.names import (
    ABJAD,
    HEAVIEST,
    INITIAL,
    INITIAL_WEIGHT,
    MAX_WORDS,
    MISSING,
    Name,
    Word,
    near,
    read_name,
    settled,
    slips,
)

_FRESH = 256
"""Entries that may wait in a small index of their own before one index is made of all."""
_ROUNDING = 1e-9


class _Words:
    """All different words of an index, found by what is near them."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], int] = {}
        self.words: list[Word] = []
        self._sounds: dict[tuple[bool, str], list[int]] = {}
        self._pieces: dict[tuple[bool, int, int, str], list[str]] = {}
        self._bones: dict[bool, dict[str, list[int]]] = {False: {}, True: {}}

    def add(self, word: Word) -> int:
        """The number of a word."""
        number = self.known.get((word.text, word.kind))
        if number is not None:
            return number
        number = self.known[word.text, word.kind] = len(self.words)
        self.words.append(word)
        abjad = word.kind == ABJAD
        alike = self._sounds.setdefault((abjad, word.sound), [])
        if not alike:
            for piece, (start, end) in enumerate(_cuts(len(word.sound))):
                key = (abjad, len(word.sound), piece, word.sound[start:end])
                self._pieces.setdefault(key, []).append(word.sound)
        alike.append(number)
        self._bones[abjad].setdefault(word.bones, []).append(number)
        return number

    def like(self, word: Word) -> dict[int, float]:
        """Number → likeness of each word that is near."""
        abjad = word.kind == ABJAD
        found = {}
        for sound in self._heard(word.sound, abjad):
            for number in self._sounds.get((abjad, sound), ()):
                if alike := near(word, self.words[number]):
                    found[number] = alike
        if others := self._bones[not abjad]:
            for number in others.get(word.bones, ()):
                if alike := near(word, self.words[number]):
                    found[number] = alike
        return found

    def _heard(self, sound: str, abjad: bool) -> set[str]:
        """The sounds that may be a slip or two away, and perhaps a few more."""
        most, pieces = slips(len(sound)), self._pieces
        if not sound.isalpha():
            return {sound}
        harmed: list[str] = []
        for size, piece, start, end in _plan(len(sound)):
            harmed += pieces.get((abjad, size, piece, sound[start:end]), ())
        found = {sound}
        if harmed:
            found.update(each for each, _, _ in extract(sound, harmed, **_CLOSE, score_cutoff=most))
        if most == 1:
            # A swap across the cut harms both pieces.
            cut = _cuts(len(sound))[1][0]
            found.add(sound[: cut - 1] + sound[cut] + sound[cut - 1] + sound[cut + 1 :])
        return found


_CLOSE: Mapping[str, Any] = {"scorer": OSA.distance, "processor": None, "limit": None}


@cache
def _cuts(length: int) -> tuple[tuple[int, int], ...]:
    """Where the pieces of a word begin and end; none where it may have no slip."""
    count = slips(length) + 1
    if count == 1:
        return ()
    edges = [length * piece // count for piece in range(count + 1)]
    return tuple(pairwise(edges))


@cache
def _plan(length: int) -> tuple[tuple[int, int, int, int], ...]:
    """For a word of `length`: (length of a near word, its piece, where that piece may stand in this word)."""
    return tuple(
        (size, piece, start + shift, end + shift)
        for size in range(max(0, length - slips(length)), length + slips(length + 2) + 1)
        for piece, (start, end) in enumerate(_cuts(size))
        for shift in _shifts(slips(min(size, length)), length - size)
        if start + shift >= 0 and end + shift <= length
    )


def _shifts(most: int, longer: int) -> list[int]:
    """How far what stands unharmed may have moved, when `most` edits make a word `longer`: before it and behind."""
    return [shift for shift in range(-most, most + 1) if abs(shift) + abs(longer - shift) <= most]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Names by the words in them. Arrays go by entry, or by posting: a part of a name, sorted by its word."""

    entries: tuple[str, ...]
    names: tuple[Name, ...]
    numbers: tuple[tuple[int, ...], ...]
    words: _Words
    starts: Sequence[int]
    owners: Any
    weighs: Any
    weights: Any
    letters: Any

    def matches(self, name: Name, threshold: float) -> Iterator[tuple[str, float]]:
        """Entries whose likeness to `name` is at least `threshold`, with it."""
        found = [self.words.like(part.word) for part in name.parts]
        if not any(found):
            return
        by_number: dict[int, list[tuple[float, int]]] = {}
        for i, near_ones in enumerate(found):
            for number, alike in near_ones.items():
                by_number.setdefault(number, []).append((alike, i))
        for entry in self._candidates(name, found, threshold):
            other = self.names[entry]
            pairs = [
                (alike, i, j)
                for j, number in enumerate(self.numbers[entry])
                for alike, i in by_number.get(number, ())
                if name.parts[i].size + other.parts[j].size < 4
            ]
            score = settled(name, other, pairs)
            if score >= threshold:
                yield self.entries[entry], score

    def _candidates(self, name: Name, found: Sequence[Mapping[int, float]], threshold: float) -> list[int]:
        spans = [
            (self.starts[number], self.starts[number + 1], alike, part.weight)
            for part, near_ones in zip(name.parts, found, strict=True)
            for number, alike in near_ones.items()
        ]
        counts = [end - start for start, end, _, _ in spans]
        owners = np.concatenate([self.owners[start:end] for start, end, _, _ in spans])
        alike = np.repeat([alike for _, _, alike, _ in spans], counts)
        mine = np.repeat([weight for _, _, _, weight in spans], counts)
        theirs = np.concatenate([self.weighs[start:end] for start, end, _, _ in spans])
        which, place = np.unique(owners, return_inverse=True)
        covered = np.bincount(place, mine), np.bincount(place, theirs)
        agreed = np.bincount(place, alike * (mine + theirs)) / 2
        bounds = self._bounds(name, which, agreed, covered, lenient=len(found) > 1)
        found_there: list[int] = which[bounds >= threshold - _ROUNDING].tolist()
        return found_there

    def _bounds(self, name: Name, which: Any, agreed: Any, covered: tuple[Any, Any], *, lenient: bool) -> Any:
        """Most that the likeness can be: all that is near agrees, and each initial stands for the heaviest word."""
        letters, own = self.letters[which], len(name.letters)
        agreed = agreed + INITIAL * INITIAL_WEIGHT * (letters + own)
        mine = np.maximum(0, name.weight - covered[0] - HEAVIEST * letters - own)
        theirs = np.maximum(0, self.weights[which] - covered[1] - HEAVIEST * own - letters)
        low, high = np.minimum(mine, theirs), np.maximum(mine, theirs)
        return agreed / (agreed + low + (MISSING if lenient else 1.0) * (high - low))


def index(entries: Iterable[str]) -> Index:
    """An index of names in their kept form."""
    known: dict[tuple[str, int], Word] = {}
    words = _Words()
    kept = tuple(entries)
    names = tuple(read_name(entry, known) for entry in kept)
    numbers = tuple(tuple(words.add(part.word) for part in name.parts) for name in names)
    sizes = [len(each) for each in numbers]
    flat = np.fromiter((number for each in numbers for number in each), np.int32, sum(sizes))
    order = np.argsort(flat, kind="stable")
    return Index(
        entries=kept,
        names=names,
        numbers=numbers,
        words=words,
        starts=np.searchsorted(flat[order], np.arange(len(words.words) + 1)).tolist(),
        owners=np.repeat(np.arange(len(kept), dtype=np.int32), sizes)[order],
        weighs=np.fromiter((part.weight for name in names for part in name.parts), np.float64, len(flat))[order],
        weights=np.fromiter((name.weight for name in names), np.float64, len(kept)),
        letters=np.fromiter((len(name.letters) for name in names), np.int32, len(kept)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """A table (see `engine.lists.tables`) of names: holds what is like an entry, from `threshold` on.

    New entries wait in `fresh`, so that one more does not index all again; what was dropped stays in an index, and
    `entries` does not have it.
    """

    entries: Mapping[str, int]
    threshold: float
    settled: Index
    fresh: Index

    def holds(self, at: int, value: str) -> bool | None:
        return any(True for _ in self.matches(at, value))

    def matches(self, at: int, value: str) -> Iterator[tuple[str, float]]:
        """The entries that match at an instant, each with its likeness."""
        name = read_name(value)
        if len(name.weights) > MAX_WORDS:
            return
        for part in (self.settled, self.fresh):
            for entry, score in part.matches(name, self.threshold):
                if at < self.entries.get(entry, at):
                    yield entry, score

    def put(self, entry: str, until: int) -> Names:
        entries = {**self.entries, entry: until}
        if entry in self.entries:
            return Names(entries, self.threshold, self.settled, self.fresh)
        waiting = [*(other for other in self.fresh.entries if other in self.entries), entry]
        if len(waiting) > _FRESH:
            return names(entries, self.threshold)
        return Names(entries, self.threshold, self.settled, index(waiting))

    def drop(self, entry: str) -> Names:
        entries = {other: until for other, until in self.entries.items() if other != entry}
        return Names(entries, self.threshold, self.settled, self.fresh)


def names(entries: Mapping[str, int], threshold: float) -> Names:
    """A table of names: kept form → expiry."""
    return Names(entries, threshold, index(entries), index(()))
