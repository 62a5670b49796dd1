"""List files: `rules/lists/*.yaml`, with their entries in place or in a text file beside them.

list: tor-exits
about: Addresses where traffic leaves the Tor network.
match: cidr
entries: [192.0.2.66, {value: 198.51.100.0/24, expires: 2027-01-31, reason: seen in an attack}]
file: tor.txt                         # one entry a line: VALUE [until DAY] [# reason]

Lists of names may be filled by `engine.lists.imports`, which notes in `source` where the text file comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from hashlib import sha256
from os.path import relpath
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field

from engine.disguise import DISGUISES, read
from engine.errors import PackError, Problem
from engine.jcs import canonical
from engine.lists.names import SCORER, fault_of_name
from engine.lists.nearness import names
from engine.lists.phrases import Exceptions, disguised, faults_of_exceptions
from engine.lists.tables import NEVER, BehindPrefixError, Table, exact, network, networks, phrases, plain_form, prefixes
from engine.packs import Document, Form, Loc, Source, Text, Until, fit, read_beside, text
from engine.packs.moments import end_of, written_end
from engine.schema import ENTITIES, normal

MAX_FILE_BYTES = 64 << 20
"""Of the text file beside a list: a million e-mail addresses, with room."""
MAX_VALUE = 500
"""Characters in an entry."""

THRESHOLD = 0.85
"""Of a list of names that says none; what it finds is measured by `bench.names`."""
LOWEST_THRESHOLD = Decimal("0.7")
"""Below it, names agree that have little in common."""

_TAIL = r"(?:\s+until\s+(?P<until>\S+))?(?:\s+#\s*(?P<reason>.*))?"
_FILE_LINE = re.compile(rf"(?P<value>.*?){_TAIL}", re.DOTALL)
_QUOTED_LINE = re.compile(rf'"(?P<value>(?=#|[^"]*\s(?:until\s|#))[^"]*)"{_TAIL}')
"""A value that begins as a comment or holds what would end it. Other quotation marks belong to the value."""
_NAME = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as tor-exits")
_ENTITY = Form("|".join(ENTITIES), "write one of: " + ", ".join(ENTITIES))


_PLAIN_VALUE = re.compile(r"[^\s\"#](?:[^\s\"#]| (?!until ))*(?<! )")
"""What needs no second look: most values of long lists."""


class EntryText(BaseModel):
    """An entry with more than its value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Text | int | Decimal = Field(description="what is on the list")
    expires: Until | None = Field(default=None, description="the day or instant up to which the entry holds")
    reason: Text = Field(default=text(""), max_length=400, description="why it is on the list")
    spared: tuple[Text, ...] = Field(
        default=(), alias="except", max_length=200, description="of a phrase: texts in which it does not count"
    )


class SourceFile(BaseModel):
    """A file that a list was imported from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text = Field(min_length=1, max_length=200, description="the name of the file")
    sha256: Annotated[Text, Form("[0-9a-f]{64}", "write the 64 hexadecimal digits of a SHA-256")] = Field(
        description="its SHA-256, hexadecimal"
    )


class ListSource(BaseModel):
    """Where the text file of a list comes from: what `arbiter list import` notes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Text = Field(min_length=1, max_length=64, description="the form of the files, such as ofac-sdn")
    published: Text = Field(default=text(""), max_length=64, description="when they were published, as they say")
    files: tuple[SourceFile, ...] = Field(description="the files it was made from")


class ListPack(BaseModel):
    """A list file. `effect` says what being on the list does to the risk, and so who may add to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[Text, _NAME] = Field(alias="list", max_length=64, description="the name that conditions use")
    about: Text = Field(min_length=1, max_length=2000, description="what is on the list and where it comes from")
    owner: Text = Field(default=text(""), max_length=120, description="who answers for it")
    approved_by: Text = Field(
        default=text(""), max_length=120, description="the second person, for a list that lowers the risk"
    )
    match: Literal["exact", "prefix", "phrase", "cidr", "name"] = Field(
        description="exact for whole values, prefix for beginnings, phrase for what stands anywhere in a text, "
        "cidr for addresses and networks, name for names of persons and companies in any spelling"
    )
    threshold: Decimal | None = Field(
        default=None, ge=LOWEST_THRESHOLD, le=1, description="of a list of names: the likeness from which one matches"
    )
    effect: Literal["raises", "lowers"] = Field(
        default="raises", description="what being on the list does to the risk, and so who may add to it"
    )
    ignore_case: bool = Field(default=False, description="whether large and small letters are the same")
    disguises: bool = Field(
        default=False,
        description="of phrases: whether they are also found in other widths and lookalikes, in traditional Han, in "
        "pinyin, and with signs between their characters; where they stand is told then",
    )
    entity: Annotated[Text, _ENTITY] | None = Field(
        default=None, description="what the values identify; the API then keeps pseudonyms of them"
    )
    spared: tuple[Text, ...] = Field(
        default=(),
        alias="except",
        max_length=5000,
        description="of phrases with disguises: texts in which no phrase of the list counts",
    )
    entries: tuple[Text | int | Decimal | EntryText, ...] = Field(default=(), description="what is on the list")
    file: Text | None = Field(
        default=None, min_length=1, max_length=200, description="a text file beside this one, one entry a line"
    )
    source: ListSource | None = Field(default=None, description="where the text file comes from")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class NamedList:
    """A list as its files say. `table` is None when its text file could not be read: nobody knows what is on it.

    `lowers`: being on it lowers the risk. `threshold` is of lists of names, and 0 otherwise. `files` holds the bytes of
    the text file under its path below the document's root. `disguises`: phrases are found through them, but for
    `exceptions`.
    """

    name: str
    about: str
    owner: str
    match: str
    lowers: bool
    ignore_case: bool
    entity: str
    table: Table | None
    files: Mapping[str, bytes]
    hash: str
    size: int
    threshold: float = 0.0
    disguises: bool = False
    exceptions: Exceptions = field(default_factory=dict)

    def form(self, value: str) -> str:
        """The form in which a value of an event is compared. Raises ValueError where it has none."""
        if self.entity:
            return normal(self.entity, value)
        if self.disguises:
            return value
        if self.match == "name":
            return " ".join(plain_form(value, ignore_case=True).split())
        return plain_form(value, self.ignore_case)

    def entry(self, value: str) -> str:
        """The form in which an entry is kept. Raises ValueError that says what is wrong with the value."""
        if len(value) > MAX_VALUE:
            raise ValueError(f"an entry has at most {MAX_VALUE} characters")
        if self.match == "cidr":
            return str(network(value))
        try:
            form = plain_form(value, ignore_case=False) if self.disguises else self.form(value)
        except ValueError:
            raise ValueError(f"this is no {self.entity.replace('_', ' ')}") from None
        if not form:
            raise ValueError("an entry must not be empty")
        if self.match == "name" and (fault := fault_of_name(form)):
            raise ValueError(fault)
        if self.disguises and not read(form).text:
            raise ValueError("nothing of this is read: it is signs alone")
        return form

    def tabled(self, entries: Mapping[str, int]) -> Table:
        """A table of entries in their kept form, to be asked the way this list compares."""
        if self.disguises:
            return disguised(entries, self.exceptions)
        return names(entries, self.threshold) if self.match == "name" else _TABLES[self.match](entries)


_TABLES: Mapping[str, Callable[[Mapping[str, int]], Table]] = {
    "exact": exact,
    "prefix": prefixes,
    "phrase": phrases,
    "cidr": networks,
}


def read_list(document: Document, *, strict: bool = True) -> NamedList:
    """One list with the text file it may name. Raises PackError with every problem.

    With `strict` false, a text file that cannot be read makes the list unavailable instead.
    """
    found = fit(document, ListPack)
    if found.pack is None:
        raise PackError(found.problems)
    pack, document = found.pack, found.document
    lacking: Iterable[Problem] = ()
    source, files = None, {}
    if pack.file is not None:
        try:
            source, body = read_beside(document, pack.file, MAX_FILE_BYTES)
        except PackError as error:
            lacking = error.problems if strict else ()
        else:
            assert document.path is not None, "a file lies beside it"
            assert document.root is not None, "and within its folder"
            files[relpath(document.path.parent / pack.file, document.root)] = body
    written = document.file, document.body, *files.items()
    whole = pack.file is None or source is not None
    if whole and (held := _held.get(written)) is not None:
        return held
    shape = _shape(pack)
    problems = list(_settings_problems(document, pack))
    rows = list(_inline_rows(document, pack, problems))
    problems += lacking
    if source is not None:
        rows += file_rows(source, problems)
    entries = _entries(shape, rows, problems)
    problems += _exception_problems(document, pack, entries)
    problems = [*found.problems, *found.beyond(problems)]
    if problems:
        raise PackError(problems)
    if not whole:
        return replace(shape, hash=_hash(shape, None))
    made = replace(shape, table=shape.tabled(entries), files=files, hash=_hash(shape, entries), size=len(entries))
    _held[written] = made
    return made


_held: WeakValueDictionary[tuple[Any, ...], NamedList] = WeakValueDictionary()
"""Lists that some rulebook still holds, by the names and bytes of their files: a reload makes only those anew that have
changed. A million names take seconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as written, and how to point at it."""

    value: str
    expires: int
    reason: str
    problem: Callable[[str, str], Problem]


@dataclass(frozen=True, slots=True)
class Written:
    """A list as written: what its file says, it without its table, its entries in the YAML and in the text file."""

    pack: ListPack
    shape: NamedList
    inside: tuple[Row, ...]
    beside: tuple[Row, ...]


def as_written(document: Document) -> Written:
    """The entries of a list as they stand there; none of a text file that is not there yet. Raises PackError."""
    found = fit(document, ListPack)
    if found.pack is None or found.problems:
        raise PackError(found.problems)
    problems: list[Problem] = []
    inside, beside = tuple(_inline_rows(document, found.pack, problems)), tuple[Row, ...]()
    if found.pack.file is not None and document.path and (document.path.parent / found.pack.file).exists():
        beside = tuple(file_rows(read_beside(document, found.pack.file, MAX_FILE_BYTES)[0], problems))
    if problems:
        raise PackError(problems)
    return Written(found.pack, _shape(found.pack), inside, beside)


def hash_of(written: Written, entries: Mapping[str, int]) -> str:
    """The hash of a list with these entries, kept form → expiry, in its text file. Raises PackError."""
    problems: list[Problem] = []
    inside = _entries(written.shape, written.inside, problems)
    if problems:
        raise PackError(problems)
    together = {**entries, **{key: max(until, entries.get(key, 0)) for key, until in inside.items()}}
    return _hash(written.shape, together)


def file_line(row: Row) -> str:
    """The line of a text file that says an entry. Raises ValueError where none can."""
    tail = f" until {written_end(row.expires)}" if row.expires != NEVER else ""
    tail += f" # {row.reason}" if row.reason else ""
    if _PLAIN_VALUE.fullmatch(row.value):
        return row.value + tail
    for line in (f"{row.value}{tail}", f'"{row.value}"{tail}'):
        found = _matched(line)
        if (
            row.value
            and not line.startswith("#")
            and "\n" not in line
            and "\r" not in line
            and found["value"] == row.value
        ):
            return line
    raise ValueError("no line of a text file can hold this value")


def _matched(line: str) -> re.Match[str]:
    found = _QUOTED_LINE.fullmatch(line) or _FILE_LINE.fullmatch(line)
    assert found is not None, "the pattern takes every line"
    return found


def _shape(pack: ListPack) -> NamedList:
    return NamedList(
        name=str(pack.name),
        about=str(pack.about),
        owner=str(pack.owner),
        match=pack.match,
        lowers=pack.effect == "lowers",
        ignore_case=pack.ignore_case,
        entity=str(pack.entity or ""),
        table=None,
        files={},
        hash="",
        size=0,
        threshold=float(THRESHOLD if pack.threshold is None else pack.threshold) if pack.match == "name" else 0.0,
        disguises=pack.disguises,
        exceptions=_exceptions(pack),
    )


def _settings_problems(document: Document, pack: ListPack) -> Iterator[Problem]:
    if pack.effect == "lowers":
        yield from _approval_problems(document, pack)
    if pack.match != "exact" and pack.entity:
        hint = "take 'match: exact' for values of persons, or leave 'entity' out"
        yield document.problem(("entity",), f"a {_ONE[pack.match]} cannot be kept as a pseudonym", hint)
    if pack.match == "name" and pack.effect == "lowers":
        what = "a name that is only alike cannot lower the risk"
        yield document.problem(("effect",), what, "take 'match: exact' for whom you trust")
    if pack.match != "name" and pack.threshold is not None:
        what = "only a list with 'match: name' has a threshold"
        yield document.problem(("threshold",), what, "leave 'threshold' out", key=True)
    if pack.match != "phrase" and pack.disguises:
        yield document.problem(("disguises",), "only phrases are found through disguises", "leave it out", key=True)
    if pack.ignore_case and (pack.match in ("cidr", "name") or pack.entity or pack.disguises):
        what = "this list has its own way to compare values"
        yield document.problem(("ignore_case",), what, "leave 'ignore_case' out", key=True)


def _exceptions(pack: ListPack) -> Exceptions:
    """Text → the phrases that it spares, in their kept form; None for all of the list."""
    found: dict[str, frozenset[str] | None] = {}
    for entry in (each for each in pack.entries if isinstance(each, EntryText)):
        for spared in entry.spared:
            before = found.get(str(spared)) or frozenset()
            found[str(spared)] = before | {plain_form(str(entry.value), ignore_case=False)}
    return {**found, **{str(spared): None for spared in pack.spared}}


def _exception_problems(document: Document, pack: ListPack, entries: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with exceptions: each is a text around a phrase of the list."""
    if not pack.spared and not any(entry.spared for entry in pack.entries if isinstance(entry, EntryText)):
        return
    for_all = faults_of_exceptions(entries)
    placed: list[tuple[Loc, str, Callable[[str], str]]] = [
        (("entries", index, "except", place), str(spared), faults_of_exceptions([str(entry.value)]))
        for index, entry in enumerate(pack.entries)
        if isinstance(entry, EntryText)
        for place, spared in enumerate(entry.spared)
    ]
    placed += [(("except", place), str(spared), for_all) for place, spared in enumerate(pack.spared)]
    for loc, spared, fault_of in placed:
        if not pack.disguises:
            yield document.problem(loc, "only phrases with 'disguises: true' have exceptions", "write that too")
        elif fault := fault_of(spared):
            yield document.problem(loc, fault, "write a longer text that has the phrase in it")


_ONE = {"prefix": "prefix", "phrase": "phrase", "cidr": "network", "name": "name that is only alike"}


def _approval_problems(document: Document, pack: ListPack) -> Iterator[Problem]:
    """Nobody alone says whom to trust: not through the API, and not in a file."""
    for key, who in (("owner", pack.owner), ("approved_by", pack.approved_by)):
        if not who.strip():
            what = f"a list that lowers the risk says its '{key}'"
            yield document.problem((key,) if key in document.data else ("effect",), what, "it takes two persons")
    if pack.approved_by.strip() and same_person(pack.owner, pack.approved_by):
        what = "the owner cannot approve the list alone"
        yield document.problem(("approved_by",), what, "name a second person")


def same_person(one: str, other: str) -> bool:
    """Whether two names are of one person."""
    return one.strip().casefold() == other.strip().casefold()


def _inline_rows(document: Document, pack: ListPack, problems: list[Problem]) -> Iterator[Row]:
    for index, entry in enumerate(pack.entries):
        whole = isinstance(entry, EntryText)
        value, expires = (entry.value, entry.expires or NEVER) if isinstance(entry, EntryText) else (entry, NEVER)
        loc = ("entries", index, "value") if whole else ("entries", index)
        if document.raw(loc).lower() in ("true", "false"):
            problems.append(document.problem(loc, "an entry is text or a number", "put quotes around it"))
        else:
            # Digits as written: +86138 is not 86138.
            written = str(value) if isinstance(value, str) else document.raw(loc)
            reason = str(entry.reason) if isinstance(entry, EntryText) else ""
            yield Row(written, expires, reason, partial(document.problem, loc))


def file_rows(source: Source, problems: list[Problem]) -> Iterator[Row]:
    """The entries of a text file; lines that are none go to `problems`."""
    for number, start in enumerate(source.starts, 1):
        line = source.line(number)
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        begin = start + line.index(written)
        if "#" not in written and "until" not in written:
            # Most lines of long lists.
            yield Row(written, NEVER, "", partial(source.problem, begin, begin + len(written)))
            continue
        found = _matched(written)
        try:
            expires = end_of(found["until"]) if found["until"] else NEVER
        except ValueError as error:
            problems.append(source.problem(begin + found.start("until"), begin + found.end("until"), str(error)))
        else:
            place = partial(source.problem, begin + found.start("value"), begin + found.end("value"))
            yield Row(found["value"], expires, found["reason"] or "", place)


def _entries(shape: NamedList, rows: Iterable[Row], problems: list[Problem]) -> dict[str, int]:
    """Kept form → expiry. Of two equal entries the one that holds longer counts."""
    entries: dict[str, int] = {}
    for row in rows:
        try:
            value = shape.entry(row.value)
        except ValueError as error:
            # The file's own text may be shown to those who keep it; a value that came through the API may not.
            hint = f"write {error.meant}" if isinstance(error, BehindPrefixError) else ""
            problems.append(row.problem(str(error), hint))
        else:
            entries[value] = max(entries.get(value, 0), row.expires)
    return entries


def _hash(shape: NamedList, entries: Mapping[str, int] | None) -> str:
    """SHA-256 of what decides whether a value is on the list."""
    settings: list[Any] = [shape.name, shape.match, shape.ignore_case, shape.entity]
    if shape.match == "name":
        settings += [SCORER, str(shape.threshold)]
    if shape.disguises:
        spared = sorted(shape.exceptions.items(), key=lambda pair: pair[0])
        settings += [DISGUISES, [[text, None if phrases is None else sorted(phrases)] for text, phrases in spared]]
    rows = None if entries is None else [[value, str(until)] for value, until in sorted(entries.items())]
    return sha256(canonical([*settings, rows])).hexdigest()
