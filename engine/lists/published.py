"""Sanctions lists as their authorities publish them, read from files that the user downloads.

ofac-sdn  Office of Foreign Assets Control (US), Specially Designated Nationals: SDN.CSV, with ALT.CSV for the aliases
          ("Data Specifications for the SDN list"), or SDN.XML
un        United Nations Security Council, consolidated list: consolidated.xml
eu        European Union, consolidated list of financial sanctions: xmlFullSanctionsList 1.1

Each name of a person or an organisation is an entry, with the number and the programmes of its listing as the reason.
Ships and aircraft are left out, and so are aliases that the authority itself calls weak, unless they are asked for.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from unicodedata import category

from engine.errors import PackError, Problem
from engine.lists.xmlrecords import Record, records

MAX_BYTES = 512 << 20
"""Of a downloaded file, unpacked."""

SHIPS = "ships and aircraft"
WEAK = "weak aliases"


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded file: its name, its bytes (unpacked where it was a .gz) and the SHA-256 of the file as it lies."""

    name: str
    body: bytes = field(repr=False)
    sha256: str

    def problem(self, line: int, what: str, hint: str = "") -> Problem:
        """A problem of one of its lines."""
        return Problem(self.name, line, 1, what, hint)


@dataclass(frozen=True, slots=True)
class Listed:
    """A name as published, why it is listed, and the line of the file that says so."""

    value: str
    reason: str
    download: Download
    line: int


@dataclass(slots=True)
class Publication:
    """What files say: names in their order, the day they give for themselves, and how many names were left out."""

    rows: list[Listed] = field(default_factory=list)
    published: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)


def download(path: Path) -> Download:
    """A file as it was downloaded. Raises PackError, OSError."""
    body = path.read_bytes()
    digest = sha256(body).hexdigest()
    if body.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(body)) as packed:
                body = packed.read(MAX_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise PackError([Problem(path.name, 1, 1, "the packed file is broken", "download it again")]) from None
    if len(body) > MAX_BYTES:
        raise PackError([Problem(path.name, 1, 1, f"larger than {MAX_BYTES >> 20} MiB")])
    return Download(path.name, body, digest)


def read_published(form: str, files: Sequence[Download], *, weak: bool = False) -> Publication:
    """The names in files of a form in FORMS; `weak` takes weak aliases too. Raises PackError with every problem."""
    found, problems = Publication(), list[Problem]()
    FORMS[form](files, weak, found, problems)
    found.rows = [replace(row, value=_visible(row.value), reason=_visible(row.reason)) for row in found.rows]
    if not problems and not found.rows:
        problems.append(files[0].problem(1, "there is no name in it", "is this the right file, and whole?"))
    if problems:
        raise PackError(problems)
    return found


def _visible(text: str) -> str:
    """Without line breaks and without the marks of direction that Arabic names carry along."""
    kept = "".join(letter for letter in " ".join(text.split()) if category(letter) not in ("Cc", "Cf"))
    return kept.strip()


# -- OFAC ------------------------------------------------------------------------------------------------------

_SDN, _ALT = 12, 5
"""Cells in a row of SDN.CSV and of ALT.CSV."""
_NOTHING = "-0-"
_QUOTED_ALIAS = re.compile(r"a\.k\.a\. '(.+?)'(?=[.;]|$)")
"""Weak aliases stand in the remarks alone."""
_BROKEN = "is the file whole? download it again"


def _ofac(files: Sequence[Download], weak: bool, found: Publication, problems: list[Problem]) -> None:
    if any(each.body.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") for each in files):
        for each in files:
            _ofac_xml(each, weak, found, problems)
        return
    tables: dict[int, list[tuple[Download, int, list[str]]]] = {_SDN: [], _ALT: []}
    for each in files:
        before = len(problems)
        rows = list(_cells(each, problems))
        if len(problems) > before:
            continue
        if not rows or len(rows[0][1]) not in tables:
            problems.append(each.problem(1, "neither SDN.CSV (12 cells a row) nor ALT.CSV (5)", _BROKEN))
            continue
        width = len(rows[0][1])
        for line, cells in rows:
            if len(cells) == width and cells[0].isdecimal():
                tables[width].append((each, line, cells))
            else:
                problems.append(each.problem(line, f"not a row of {width} cells that begins with a number", _BROKEN))
    if not tables[_SDN]:
        problems.extend([] if problems else [files[0].problem(1, "SDN.CSV is missing", "give it before ALT.CSV")])
        return
    if not tables[_ALT]:
        found.notices.append("without ALT.CSV no alias is on the list")
    _ofac_names(tables[_SDN], tables[_ALT], weak, found, problems)


def _ofac_names(
    main: Iterable[tuple[Download, int, list[str]]],
    aliases: Iterable[tuple[Download, int, list[str]]],
    weak: bool,
    found: Publication,
    problems: list[Problem],
) -> None:
    reasons: dict[str, str] = {}
    for each, line, (number, name, kind, programme, *_, remarks) in main:
        reasons[number] = "" if kind in _VESSELS else f"OFAC {number} {programme.replace('] [', ', ')}"
        if not reasons[number]:
            found.left_out[SHIPS] += 1
            continue
        found.rows.append(Listed(name, reasons[number], each, line))
        for alias in _QUOTED_ALIAS.findall(remarks):
            _alias(Listed(alias, f"{reasons[number]}, weak alias", each, line), weak, found)
    for each, line, (number, _, _, name, _) in aliases:
        if number not in reasons:
            what = f"an alias of the listing {number}, which SDN.CSV does not have"
            problems.append(each.problem(line, what, "take both files of one day; is SDN.CSV whole?"))
        elif reasons[number]:
            found.rows.append(Listed(name, f"{reasons[number]}, alias", each, line))
        else:
            found.left_out[SHIPS] += 1


_VESSELS = frozenset({"vessel", "aircraft"})


def _alias(row: Listed, weak: bool, found: Publication) -> None:
    if weak:
        found.rows.append(row)
    else:
        found.left_out[WEAK] += 1


def _cells(file: Download, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with their lines, without what stands for nothing."""
    reader = csv.reader(io.StringIO(decoded(file, problems), newline=""), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(file.problem(reader.line_num, f"no CSV: {error}", _BROKEN))
            return
        if cells and cells != ["\x1a"]:  # DOS marks the end of a text so
            yield reader.line_num, ["" if cell.strip() == _NOTHING else cell.strip() for cell in cells]


def decoded(file: Download, problems: list[Problem]) -> str:
    """Its text, which is UTF-8; '' and a problem where it is not."""
    try:
        return file.body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.body.count(b"\n", 0, error.start) + 1
        problems.append(file.problem(line, f"byte 0x{file.body[error.start]:02X} is not UTF-8 text", _BROKEN))
        return ""


def _ofac_xml(file: Download, weak: bool, found: Publication, problems: list[Problem]) -> None:
    count, said = 0, ""
    for record in _records(file, "sdnList", {"sdnEntry", "publshInformation"}, problems):
        if record.tag == "publshInformation":
            month, _, rest = record.first("Publish_Date").partition("/")
            day, _, year = rest.partition("/")
            found.published, said = f"{year}-{month:0>2}-{day:0>2}" if year else "", record.first("Record_Count")
            continue
        count += 1
        if record.first("sdnType").lower() in _VESSELS:
            found.left_out[SHIPS] += 1 + sum(1 for _ in record.all("akaList", "aka"))
            continue
        programmes = ", ".join(each.text.strip() for each in record.all("programList", "program"))
        reason = f"OFAC {record.first('uid')} {programmes}"
        _named(_comma(record), reason, record, file, found, problems)
        for alias in record.all("akaList", "aka"):
            if alias.first("category") == "weak":
                _alias(Listed(_comma(alias), f"{reason}, weak alias", file, alias.line), weak, found)
            else:
                _named(_comma(alias), f"{reason}, alias", alias, file, found, problems)
    if said.isdecimal() and int(said) != count and not problems:
        problems.append(file.problem(1, f"the file says it has {said} entries, and has {count}", "download it again"))


def _comma(record: Record) -> str:
    return ", ".join(part for part in (record.first("lastName"), record.first("firstName")) if part)


# -- United Nations --------------------------------------------------------------------------------------------


def _un(files: Sequence[Download], weak: bool, found: Publication, problems: list[Problem]) -> None:
    for file in files:
        for record in _records(file, "CONSOLIDATED_LIST", {"INDIVIDUAL", "ENTITY"}, problems, found, "dateGenerated"):
            reason = f"UN {record.first('REFERENCE_NUMBER')} {record.first('UN_LIST_TYPE')}".strip()
            parts = (record.first(f"{which}_NAME") for which in ("FIRST", "SECOND", "THIRD", "FOURTH"))
            _named(" ".join(part for part in parts if part), reason, record, file, found, problems)
            if script := record.first("NAME_ORIGINAL_SCRIPT"):
                found.rows.append(Listed(script, f"{reason}, original script", file, record.line))
            for alias in record.all(f"{record.tag}_ALIAS"):
                name = alias.first("ALIAS_NAME")
                if not name:
                    continue  # the files have empty ones for listings without an alias
                if alias.first("QUALITY").lower() == "low":
                    _alias(Listed(name, f"{reason}, weak alias", file, alias.line), weak, found)
                else:
                    found.rows.append(Listed(name, f"{reason}, alias", file, alias.line))


# -- European Union --------------------------------------------------------------------------------------------


def _eu(files: Sequence[Download], weak: bool, found: Publication, problems: list[Problem]) -> None:
    for file in files:
        for record in _records(file, "export", {"sanctionEntity"}, problems, found, "generationDate"):
            given = record.attributes
            number = given.get("euReferenceNumber") or given.get("logicalId", "")
            programmes = dict.fromkeys(each.attributes.get("programme", "") for each in record.all("regulation"))
            reason = f"EU {number} {', '.join(filter(None, programmes))}".strip()
            names = list(record.all("nameAlias"))
            if not names:
                problems.append(file.problem(record.line, f"the listing {number} has no name", _BROKEN))
            for alias in names:
                parts = (alias.attributes.get(f"{which}Name", "") for which in ("first", "middle", "last"))
                name = alias.attributes.get("wholeName", "") or " ".join(part for part in parts if part)
                if alias.attributes.get("strong") == "false":
                    _alias(Listed(name, f"{reason}, weak alias", file, alias.line), weak, found)
                else:
                    _named(name, reason, alias, file, found, problems)


# -- All -------------------------------------------------------------------------------------------------------


def _records(
    file: Download,
    root: str,
    tags: set[str],
    problems: list[Problem],
    found: Publication | None = None,
    date: str = "",
) -> Iterator[Record]:
    """The records of an XML file whose root has the right name; the day it gives goes to `found`."""
    try:
        each = records(file.body, file.name, frozenset(tags))
        first = next(each, None)
        if first is None or first.tag != root:
            problems.append(file.problem(1, f"no XML file with the root '{root}'", "is this the right file?"))
            return
        if found is not None:
            found.published = first.attributes.get(date, "")[:10]
        yield from each
    except PackError as error:
        problems += error.problems


def _named(name: str, reason: str, record: Record, file: Download, found: Publication, problems: list[Problem]) -> None:
    if name:
        found.rows.append(Listed(name, reason, file, record.line))
    else:
        problems.append(file.problem(record.line, f"a {record.tag} without a name", _BROKEN))


FORMS: Mapping[str, Callable[[Sequence[Download], bool, Publication, list[Problem]], None]] = {
    "ofac-sdn": _ofac,
    "un": _un,
    "eu": _eu,
}
"""Form → what reads its files."""
