"""Phrases of a list, found as people write them who do not want them found: see `engine.disguise`.

Aho and Corasick, "Efficient string matching" (CACM 18(6), 1975), over the phrases as they are read, their spellings in
Latin letters, and the exceptions. An occurrence counts when

* it was written as one: `engine.disguise.joined`;
* no Latin letter or digit goes on beside a phrase that ends in one (vx is not in hvx; it is in vx123);
* no exception covers it. A longer phrase is not covered by an exception within it: the longest wins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ahocorasick_rs import AhoCorasick

from engine.disguise import Reading, is_pinyin, joined, read, spellings

MOST_HITS = 50
"""Occurrences that are told of one text: the first ones."""

MOST_BESIDE = 40
"""Latin letters on one side of a phrase in pinyin; with more of them, it is no phrase in pinyin."""

Exceptions = Mapping[str, Collection[str] | None]
"""Text in which phrases do not count → which of them, in their kept form; None for all of the list."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A phrase of a list, and where it stands in a text: from the character at `start` to the one before `end`.

    `phrase` is as the list writes it; None for one that came through the API, which no record may hold.
    """

    phrase: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What is searched for: a spelling of the phrase at `entry`, or, where that is -1, an exception."""

    entry: int
    latin: bool
    text: str


@dataclass(frozen=True, slots=True)
class _Cover:
    """Stretches of a text by their starts, each with the furthest end up to it: a text may have thousands."""

    starts: list[int]
    reach: list[int]

    def add(self, start: int, end: int) -> None:
        """One that starts behind all others, or where the last one does."""
        self.starts.append(start)
        self.reach.append(max(end, self.reach[-1] if self.reach else 0))

    def over(self, start: int, end: int) -> bool:
        """Whether one of them covers this."""
        before = bisect_right(self.starts, start)
        return before > 0 and self.reach[before - 1] >= end


@dataclass(frozen=True, slots=True)
class Disguised:
    """Phrases through their disguises, each until its expiry (µs); built by `disguised`."""

    entries: Mapping[str, int]
    exceptions: Exceptions
    patterns: Sequence[_Pattern] = field(repr=False)
    search: AhoCorasick = field(repr=False)
    names: Sequence[str] = field(repr=False)

    def holds(self, at: int, value: str) -> bool | None:
        """Whether a phrase that has not expired at `at` stands in the text."""
        return next(self._found(at, read(value)), None) is not None

    def hits(self, at: int, reading: Reading) -> tuple[Hit, ...]:
        """Where phrases stand in a text, in their order; what stands within a longer one is left out."""
        spans: dict[tuple[int, int], str] = {}
        for entry, start, end in self._found(at, reading):
            spans.setdefault((start, end), self.names[entry])
        longest = sorted(_outermost(spans))[:MOST_HITS]
        return tuple(Hit(spans[span], *reading.span(*span)) for span in longest)

    def put(self, entry: str, until: int) -> Disguised:
        return disguised({**self.entries, entry: until}, self.exceptions)

    def drop(self, entry: str) -> Disguised:
        return disguised({value: until for value, until in self.entries.items() if value != entry}, self.exceptions)

    def _found(self, at: int, reading: Reading) -> Iterator[tuple[int, int, int]]:
        """Entry, start and end in the reading, of each occurrence that counts."""
        found = self.search.find_matches_as_indexes(reading.text, True)
        if not found:
            return
        spared = self._spared(found)
        for which, start, end in found:
            pattern = self.patterns[which]
            if pattern.entry < 0 or self.entries[self.names[pattern.entry]] <= at:
                continue
            if _whole(reading, start, end, latin=pattern.latin) and joined(reading, start, end):
                covers = (spared.get(each) for each in (None, self.names[pattern.entry]))
                if not any(each and each.over(start, end) for each in covers):
                    yield pattern.entry, start, end

    def _spared(self, found: Iterable[tuple[int, int, int]]) -> Mapping[str | None, _Cover]:
        """Where exceptions stand: by the phrase that they spare, and at None those that spare all."""
        covers: dict[str | None, _Cover] = {}
        for which, start, end in sorted(found, key=lambda each: each[1]):
            if self.patterns[which].entry < 0:
                phrases = self.exceptions[self.patterns[which].text]
                for phrase in (None,) if phrases is None else phrases:
                    covers.setdefault(phrase, _Cover([], [])).add(start, end)
        return covers


def disguised(entries: Mapping[str, int], exceptions: Exceptions) -> Disguised:
    """A table of phrases: kept form → expiry."""
    names = tuple(entries)
    patterns: dict[str, _Pattern] = {}
    for exception in exceptions:
        for text, latin in _patterns(exception):
            patterns.setdefault(f"{text} {exception}", _Pattern(-1, latin, exception))
    for index, name in enumerate(names):
        for text, latin in _patterns(name):
            patterns.setdefault(f"{text} {name}", _Pattern(index, latin, name))
    searched = [key.partition(" ")[0] for key in patterns]
    return Disguised(entries, exceptions, tuple(patterns.values()), AhoCorasick(searched), names)


def faults_of_exceptions(entries: Iterable[str]) -> Callable[[str], str]:
    """A function that says what keeps a text from sparing one of these phrases; '' where nothing does."""
    inside = AhoCorasick([phrase for phrase in map(_read, entries) if phrase])

    def fault(exception: str) -> str:
        text = _read(exception)
        if not text:
            return "nothing of this is read: it is signs alone"
        found = inside.find_matches_as_indexes(text, True)
        if not found:
            return "this holds no phrase of the list, so it spares nothing"
        whole = any(end - start == len(text) for _, start, end in found)
        return "this is a phrase of the list itself" if whole else ""

    return fault


def _read(phrase: str) -> str:
    return read(phrase).text


def _patterns(phrase: str) -> Iterator[tuple[str, bool]]:
    text = _read(phrase)
    yield text, False
    yield from ((spelt, True) for spelt in spellings(text))


def _outermost(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans that stand in no other: from the left, the longer one first."""
    reached = -1
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > reached:
            yield start, end
            reached = end


def _whole(reading: Reading, start: int, end: int, *, latin: bool) -> bool:
    """Whether no word goes on beside an occurrence. What is spelt in Latin may have more syllables beside it."""
    text = reading.text
    before = start > 0 and _goes_on(text[start - 1], text[start]) and reading.touches(start)
    after = end < len(text) and _goes_on(text[end - 1], text[end]) and reading.touches(end)
    if not latin or not (before or after):
        return not (before or after)
    beside = _run(reading, start, -1), _run(reading, end, 1)
    return all(len(run) <= MOST_BESIDE and is_pinyin(run) for run in beside)


def _goes_on(one: str, other: str) -> bool:
    both = one + other
    return both.isascii() and (both.isalpha() or both.isdigit())


def _run(reading: Reading, at: int, step: int) -> str:
    """The Latin letters that touch the place before the character at `at`: to the left of it, or to the right. One more
    than MOST_BESIDE at most."""
    text, end = reading.text, at
    while abs(end - at) <= MOST_BESIDE and 0 <= (here := end - 1 if step < 0 else end) < len(text):
        if not (text[here].isascii() and text[here].isalpha()) or (0 < end < len(text) and not reading.touches(end)):
            break
        end += step
    return text[end:at] if step < 0 else text[at:end]
