"""Many entries at once into the text file of a list: what would change, and the files that make it so.

    rows = rows_of_text(…) | rows_of_csv(…) | rows_published(…)
    plan = planned(document, rows, …)      nothing is written; raises PackError with every line that does not fit
    plan.write()

Each line is known to be read as it was meant, and the YAML file was read as a server would, so what is written loads.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.errors import PackError, Problem, RequestRefused
from engine.lists.files import (
    MAX_FILE_BYTES,
    ListSource,
    NamedList,
    Row,
    SourceFile,
    as_written,
    file_line,
    file_rows,
    hash_of,
    read_list,
)
from engine.lists.published import Download, Publication
from engine.lists.tables import NEVER, BehindPrefixError
from engine.packs import Document, Source, read, text
from engine.packs.folder import decoded
from engine.packs.moments import end_of

UNFIT = "names that cannot be compared"

_SOURCE_BLOCK = re.compile(r"^source:.*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)
_COLUMNS = ("value", "expires", "reason")


@dataclass(frozen=True, slots=True)
class Difference:
    """What an import does to the entries of a text file, as written there; `changed` pairs the old with the new."""

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[tuple[Row, Row], ...]
    same: int
    before: int

    @property
    def after(self) -> int:
        """Entries afterwards."""
        return self.same + len(self.changed) + len(self.added)

    @property
    def removed_share(self) -> float:
        """The share of the entries before that is gone afterwards."""
        return len(self.removed) / self.before if self.before else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """An import that could be written. `hashes` are those of the list before (None for a new one) and afterwards."""

    name: str
    difference: Difference
    hashes: tuple[str | None, str]
    source: ListSource
    was: ListSource | None
    left_out: Mapping[str, int]
    files: Mapping[Path, bytes] = field(repr=False)

    @property
    def older(self) -> bool:
        """Whether what is imported was published before what the list has."""
        return bool(self.was and self.source.published and self.source.published < self.was.published)

    def write(self) -> None:
        """Replace the text file, then the YAML file, each as a whole."""
        for path, body in self.files.items():
            waiting = path.with_name(f".{path.name}.new")
            waiting.write_bytes(body)
            waiting.replace(path)


def rows_of_text(file: Download, problems: list[Problem]) -> Iterator[Row]:
    """The entries of a text in the form of a list's text file."""
    try:
        yield from file_rows(Source(file.name, decoded(file.body, file.name)), problems)
    except PackError as error:
        problems += error.problems


def rows_of_csv(file: Download, column: str, problems: list[Problem]) -> Iterator[Row]:
    """The entries of a CSV file with a header: values from `column`, and `expires` and `reason` where it has them."""
    try:
        reader = csv.reader(io.StringIO(decoded(file.body, file.name), newline=""), strict=True)
        yield from _rows_of_csv(file, reader, column, problems)
    except PackError as error:
        problems += error.problems
    except csv.Error as error:
        problems.append(file.problem(max(reader.line_num, 1), f"no CSV: {error}", "is the file whole?"))


def _rows_of_csv(file: Download, reader: Iterator[list[str]], column: str, problems: list[Problem]) -> Iterator[Row]:
    header = [cell.strip() for cell in next(reader, [])]
    if column not in header:
        known = ", ".join(header) or "nothing"
        problems.append(
            file.problem(1, f"the header has no column '{column}'", f"it has {known}; name one by --column")
        )
        return
    at = {name: header.index(name) for name in (column, *_COLUMNS[1:]) if name in header}
    line = 1
    for cells in reader:
        begin, line = line + 1, reader.line_num  # type: ignore[attr-defined]
        if len(cells) != len(header):
            if cells:
                problems.append(file.problem(begin, f"{len(cells)} cells, where the header has {len(header)}"))
            continue
        value, until, reason = (cells[at[name]].strip() if name in at else "" for name in (column, *_COLUMNS[1:]))
        try:
            expires = end_of(until) if until else NEVER
        except ValueError as error:
            problems.append(file.problem(begin, str(error)))
        else:
            yield Row(value, expires, " ".join(reason.split()), partial(file.problem, begin))


def rows_published(shape: NamedList, found: Publication) -> Iterator[Row]:
    """The entries that a publication gives for a list; names that it cannot hold are counted as left out."""
    for each in found.rows:
        try:
            shape.entry(each.value)
        except ValueError:
            found.left_out[UNFIT] += 1
        else:
            yield Row(each.value, NEVER, each.reason, partial(each.download.problem, each.line))


def planned(
    document: Document,
    rows: Iterable[Row],
    problems: list[Problem],
    *,
    source: ListSource,
    left_out: Mapping[str, int],
    into: Path,
    add: bool = False,
) -> Plan:
    """What importing `rows` into the list of `document`, the file `into`, would do.

    With `add` the entries that the text file has stay. Raises PackError with every row that does not fit, together
    with `problems`, which `rows` may fill.
    """
    written = as_written(document)
    shape, pack = written.shape, written.pack
    before = _kept(shape, written.beside, [])
    wanted = _kept(shape, rows, problems)
    if add:
        wanted = before | wanted
    lines = list(_lines(wanted.values(), problems))
    if problems:
        raise PackError(problems)
    beside = into.with_name(str(pack.file) if pack.file else f"{into.stem}.txt")
    body = "".join(f"{line}\n" for line in lines).encode()
    if len(body) > MAX_FILE_BYTES:
        raise RequestRefused(
            f"{beside.name} would have {len(body):,} bytes, at most {MAX_FILE_BYTES:,} are taken: split the list"
        )
    sheet = _sheet(document, beside.name, source, named=pack.file is not None)
    _read_back(sheet, beside.name, into)
    hashes = [hash_of(written, {key: row.expires for key, row in rows.items()}) for rows in (before, wanted)]
    return Plan(
        name=shape.name,
        difference=_difference(before, wanted),
        hashes=(hashes[0] if into.exists() else None, hashes[1]),
        source=source,
        was=pack.source,
        left_out=dict(left_out),
        files={beside: body, into: sheet},
    )


def _kept(shape: NamedList, rows: Iterable[Row], problems: list[Problem]) -> dict[str, Row]:
    """Kept form → entry. Of two equal ones the one that holds longer counts, at the place of the first."""
    kept: dict[str, Row] = {}
    for row in rows:
        try:
            key = shape.entry(row.value)
        except ValueError as error:
            problems.append(
                row.problem(str(error), f"write {error.meant}" if isinstance(error, BehindPrefixError) else "")
            )
        else:
            if key not in kept or kept[key].expires < row.expires:
                kept[key] = row
    return kept


def _lines(rows: Iterable[Row], problems: list[Problem]) -> Iterator[str]:
    for row in rows:
        try:
            yield file_line(row)
        except ValueError as error:
            problems.append(row.problem(str(error), "put it under 'entries' of the list"))


def _difference(before: Mapping[str, Row], after: Mapping[str, Row]) -> Difference:
    both = [(before[key], after[key]) for key in after if key in before]
    changed = tuple(
        (old, new) for old, new in both if (old.value, old.expires, old.reason) != (new.value, new.expires, new.reason)
    )
    return Difference(
        added=tuple(row for key, row in after.items() if key not in before),
        removed=tuple(row for key, row in before.items() if key not in after),
        changed=changed,
        same=len(both) - len(changed),
        before=len(before),
    )


# -- The YAML file ---------------------------------------------------------------------------------------------


def new_list(name: str, about: str) -> str:
    """A file for a list of names that there is not yet."""
    return f"list: {name}\nabout: {about}\nmatch: name\n"


def source_of(form: str, published: str, files: Sequence[Download]) -> ListSource:
    """What a list notes of where its text file comes from."""
    named = tuple(SourceFile(name=text(each.name), sha256=text(each.sha256)) for each in files)
    return ListSource(form=text(form), published=text(published), files=named)


def _sheet(document: Document, beside: str, source: ListSource, *, named: bool) -> bytes:
    """The YAML file with the source noted at its end, and else as it was written."""
    written = document.source.content.rstrip("\n") + "\n"
    written = _SOURCE_BLOCK.sub("", written).rstrip("\n") + "\n"
    lines = [] if named else [f"file: {beside}"]
    lines += ["source:", f"  form: {source.form}"]
    lines += [f"  published: {source.published}"] if source.published else []
    lines.append("  files:")
    lines += [f"    - {{name: {_quoted(each.name)}, sha256: {_quoted(each.sha256)}}}" for each in source.files]
    return (written + "\n".join(lines) + "\n").encode()


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _read_back(sheet: bytes, beside: str, into: Path) -> None:
    """Raises PackError where a server could not read the YAML file that an import writes."""
    with TemporaryDirectory(prefix="arbiter-import-") as folder:
        root = Path(folder)
        for name, body in ((beside, b""), (into.name, sheet)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(body)
        read_list(read(root / into.name, root=root, name=into.as_posix()))


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """'1,200 ships and aircraft, 31 weak aliases'; '' for nothing."""
    return ", ".join(f"{count:,} {what}" for what, count in Counter(left_out).most_common() if count)
