"""Tables in and out: CSV, Parquet and JSON lines.

Read, a table is columns of text in memory (some 250 bytes a row), so that millions of rows can be taken in the order
of time, whatever their order in the file. Written, it goes out as it comes.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import FieldProblem, PackError, Problem, RequestRefused

Format: TypeAlias = Literal["csv", "tsv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "tsv", "jsonl", "parquet")
_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SIGNS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
"""What stands between the cells of a line, in words."""
BLOCK = 16_384
"""Rows that are Python objects at the same time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Bad: TypeAlias = tuple[int, tuple[FieldProblem, ...]]
"""A row's number, and what is wrong with it."""


def format_of(path: Path, given: str | None) -> Format:
    """The format said, or that of the file's name. RequestRefused when neither tells."""
    named = given or _SUFFIXES.get(path.suffix.lower())
    for known in FORMATS:
        if named == known:
            return known
    option = "--in-format or --out-format"
    raise RequestRefused(
        f"the name '{path}' does not say a format: end it in .csv, .tsv, .jsonl or .parquet, or use {option}"
    )


@dataclass(frozen=True)
class Rows:
    """The columns asked for, as text, and the rows that could not be read. Rows are numbered from 1, as in the file."""

    numbers: np.ndarray[Any, np.dtype[np.int64]]
    unreadable: tuple[Bad, ...]
    _columns: Sequence[Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def blocks(
        self, order: np.ndarray[Any, np.dtype[np.int64]] | None = None
    ) -> Iterator[list[tuple[str | None, ...]]]:
        """The cells of each row, in lists of rows, in the order given by places (not numbers)."""
        size = len(self) if order is None else len(order)
        for start in range(0, size, BLOCK):
            if order is None:
                parts = [column.slice(start, BLOCK).to_pylist() for column in self._columns]
            else:
                places = pa.array(order[start : start + BLOCK])
                parts = [column.take(places).to_pylist() for column in self._columns]
            yield list(zip(*parts, strict=True))


Check: TypeAlias = Callable[[Sequence[str]], None]
"""Is told the table's header before its rows are kept; may raise."""


def read_rows(source: BinaryIO, name: str, kind: Format, columns: Sequence[str], check: Check) -> Rows:
    """The `columns` of a table. Raises PackError for a file that is no such table, and what `check` raises."""
    if kind == "parquet":
        return _read_parquet(source, name, columns, check)
    keep = _Keeping(columns)
    if kind == "jsonl":
        _read_jsonl(source, keep, check)
    else:
        _read_csv(source, name, "\t" if kind == "tsv" else ",", keep, check)
    return keep.rows()


class _Keeping:
    """Rows on their way from Python objects to columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self.bad: list[Bad] = []
        self._numbers: list[Any] = []
        self._chunks: list[list[Any]] = [[] for _ in columns]
        self._waiting: list[Sequence[str | None]] = []
        self._waiting_numbers: list[int] = []

    def add(self, number: int, cells: Sequence[str | None]) -> None:
        self._waiting.append(cells)
        self._waiting_numbers.append(number)
        if len(self._waiting) >= BLOCK:
            self._flush()

    def refuse(self, number: int, code: str, what: str) -> None:
        self.bad.append((number, (FieldProblem("row", code, what),)))

    def rows(self) -> Rows:
        self._flush()
        numbers = np.concatenate(self._numbers) if self._numbers else np.zeros(0, np.int64)
        return Rows(numbers, tuple(self.bad), [_joined(chunks) for chunks in self._chunks])

    def _flush(self) -> None:
        if self._waiting:
            self._numbers.append(np.array(self._waiting_numbers, np.int64))
            for chunks, cells in zip(self._chunks, zip(*self._waiting, strict=True), strict=True):
                chunks.append(pa.array(cells, pa.large_string()))
            self._waiting, self._waiting_numbers = [], []


def _joined(chunks: list[Any]) -> Any:
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())


# CSV


def _read_csv(source: BinaryIO, name: str, delimiter: str, keep: _Keeping, check: Check) -> None:
    text = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    reader: Any = csv.reader(())
    try:
        first = text.readline()
        _separated(first, delimiter, name, keep.columns)
        reader = csv.reader(chain([first], text), delimiter=delimiter, strict=True)
        header = _header(next(_records(reader), []), name)
        check(header)
        places = [header.index(column) for column in keep.columns]
        for number, cells in enumerate(_records(reader), 1):
            if cells is None:
                keep.refuse(number, "bad_csv", "the quotes of this row do not fit together")
            elif len(cells) != len(header):
                keep.refuse(number, "bad_csv", f"{len(cells)} cells where the header has {len(header)}")
            else:
                keep.add(number, [cells[place] for place in places])
    except UnicodeDecodeError:
        what = "this is not UTF-8 text"
        raise PackError([Problem(name, reader.line_num + 1, 1, what, "save the file as UTF-8")]) from None
    finally:
        text.detach()


def _records(reader: Any) -> Iterator[list[str] | None]:
    """Records that are not blank; None stands for one that cannot be read."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = None
        if cells != []:
            yield cells


def _separated(first: str, delimiter: str, name: str, columns: Sequence[str]) -> None:
    """Raises PackError for a header that is one cell because another sign stands between its names."""
    line = first.rstrip("\r\n")
    other = next((sign for sign in _SIGNS if sign in line and sign != delimiter), None)
    if other is None or delimiter in line or line.strip('"') in columns:
        return
    what = f"the header is one column: {_SIGNS[other]} stands between its names, not {_SIGNS[delimiter]}"
    cure = {",": "say --in-format csv", "\t": "say --in-format tsv"}
    raise PackError([Problem(name, 1, 1, what, cure.get(other, "save the table with commas between the cells"))])


def _header(cells: list[str] | None, name: str) -> list[str]:
    if cells is None:
        raise PackError([Problem(name, 1, 1, "the quotes of the header do not fit together", "see RFC 4180")])
    if not cells:
        raise PackError([Problem(name, 1, 1, "the table is empty", "its first line names the columns")])
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise PackError([Problem(name, 1, 1, f"the column '{twice[0]}' stands in the header twice", "rename one")])
    return cells


# JSON lines


def _read_jsonl(source: BinaryIO, keep: _Keeping, check: Check) -> None:
    header: dict[str, None] = {}
    number = 0
    for line in source:
        if not line.strip():
            continue
        number += 1
        try:
            data = orjson.loads(line)
        except orjson.JSONDecodeError:
            keep.refuse(number, "bad_json", "this line is not JSON")
            continue
        if not isinstance(data, dict):
            keep.refuse(number, "bad_json", "this line is no JSON object")
            continue
        flat = _flat(data, "")
        header |= dict.fromkeys(flat)
        keep.add(number, [flat.get(column) for column in keep.columns])
    check(list(header))


def _flat(data: Mapping[str, Any], path: str) -> dict[str, str | None]:
    """Nested objects as dotted columns; lists as JSON text."""
    flat: dict[str, str | None] = {}
    for name, value in data.items():
        here = f"{path}{name}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{here}.")
        elif value is None or isinstance(value, str):
            flat[here] = value
        else:
            flat[here] = orjson.dumps(value).decode()
    return flat


# Parquet


def _read_parquet(source: BinaryIO, name: str, columns: Sequence[str], check: Check) -> Rows:
    try:
        file = pq.ParquetFile(source if source.seekable() else io.BytesIO(source.read()))
    except pa.ArrowException:
        raise PackError([Problem(name, 1, 1, "this is not a Parquet file")]) from None
    header = file.schema_arrow.names
    check(header)
    wrong = [
        Problem(name, 1, 1, f"the column '{column}' holds {file.schema_arrow.field(column).type}", "flatten it first")
        for column in columns
        if pa.types.is_nested(file.schema_arrow.field(column).type)
    ]
    if wrong:
        raise PackError(wrong)
    chunks: list[list[Any]] = [[] for _ in columns]
    for batch in file.iter_batches(batch_size=4 * BLOCK, columns=list(columns)):
        for kept, column in zip(chunks, columns, strict=True):
            kept.append(_as_text(batch.column(column)))
    return Rows(np.arange(1, file.metadata.num_rows + 1, dtype=np.int64), (), [_joined(kept) for kept in chunks])


def _as_text(column: Any) -> Any:
    """The cells as a CSV file would have them; not-a-number is missing."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    if not pa.types.is_floating(kind):
        return column.cast(pa.large_string())
    known = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    # Whole floats are most often ids and counts that met a missing value: 146.0 is 146, and never 1.46e2.
    whole = pc.and_(pc.equal(pc.floor(known), known), pc.less(pc.abs(known), 2.0**53))
    digits = pc.if_else(whole, known, pa.scalar(None, kind)).cast(pa.int64()).cast(pa.large_string())
    return pc.if_else(whole, digits, known.cast(pa.large_string()))


# Verdicts out


@dataclass(frozen=True, slots=True)
class Scored:
    """One row of the answer. `reasons` are as in a decision's record."""

    row: int
    event_id: str
    at: int
    verdict: str
    score: int
    anomaly: str | None
    signals: Sequence[str]
    reasons: Sequence[Mapping[str, Any]]


COLUMNS = tuple(Scored.__dataclass_fields__)


class Writer(Protocol):
    """Takes rows; `close` makes the table whole."""

    def write(self, row: Scored) -> None: ...
    def close(self) -> None: ...


class CSVWriter:
    """Signals with ';' between, reasons as `rule: message` in English with ' | ' between."""

    def __init__(self, to: BinaryIO, delimiter: str = ",") -> None:
        self._text = io.TextIOWrapper(to, encoding="utf-8", newline="", write_through=False)
        self._csv = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        self._csv.writerow(COLUMNS)

    def write(self, row: Scored) -> None:
        reasons = " | ".join(f"{reason['rule']}: {reason['message'].get('en', '')}" for reason in row.reasons)
        cells = (
            row.row,
            row.event_id,
            stamp(row.at),
            row.verdict,
            row.score,
            row.anomaly,
            ";".join(row.signals),
            reasons,
        )
        self._csv.writerow(cells)

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class JSONLWriter:
    """Reasons as in the API's answer, in all languages."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to

    def write(self, row: Scored) -> None:
        data = {name: getattr(row, name) for name in COLUMNS} | {"at": stamp(row.at)}
        self._to.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._to.flush()


_REASON = pa.struct([(name, pa.string()) for name in ("rule", "signal", "severity")] + [("points", pa.int64())]
                    + [(name, pa.string()) for name in ("en", "zh")])  # fmt: skip
_PARQUET = pa.schema(
    [
        ("row", pa.int64()),
        ("event_id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("verdict", pa.string()),
        ("score", pa.int64()),
        ("anomaly", pa.string()),
        ("signals", pa.list_(pa.string())),
        ("reasons", pa.list_(_REASON)),
    ]
)


class ParquetRows:
    """Rows of a Parquet file; at most BLOCK of them are Python objects at the same time."""

    def __init__(self, to: BinaryIO, schema: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(to, schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= BLOCK:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []


class ParquetWriter:
    """Typed columns; reasons as a list of structs."""

    def __init__(self, to: BinaryIO) -> None:
        self._rows = ParquetRows(to, _PARQUET)

    def write(self, row: Scored) -> None:
        reasons = [
            {name: reason[name] for name in ("rule", "signal", "severity", "points")} | dict(reason["message"])
            for reason in row.reasons
        ]
        self._rows.add({name: getattr(row, name) for name in COLUMNS} | {"reasons": reasons})

    def close(self) -> None:
        self._rows.close()


def stamp(at: int, zone: tzinfo = UTC) -> str:
    """UTC microseconds as ISO 8601 in a zone: '2026-11-20T00:30:00Z'."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone).isoformat().replace("+00:00", "Z")


@contextmanager
def written(path: Path, kind: Format) -> Iterator[Writer]:
    """A writer to `path`, or to standard output for '-'. The file has its name only once it is whole."""
    if str(path) == "-":
        writer = _writer(sys.stdout.buffer, kind)
        yield writer
        writer.close()
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as to:
            writer = _writer(to, kind)
            yield writer
            writer.close()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _writer(to: BinaryIO, kind: Format) -> Writer:
    if kind == "parquet":
        return ParquetWriter(to)
    if kind == "jsonl":
        return JSONLWriter(to)
    return CSVWriter(to, "\t" if kind == "tsv" else ",")
