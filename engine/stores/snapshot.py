"""What a memory store holds, as a file, so that a start need not read all of the ledger again.

    size = write(path, head, (encode(piece, series, cut, doubtful) for piece in store.pieces(series)))
    with Snapshot.open(path) as snapshot:       Unusable when it is damaged or of another format
        snapshot.head                           what was given to `write`
        store.adopt(snapshot.pieces(), names)

The file is MAGIC, then blocks, then the SHA-256 of all before. A block is the lengths of its two parts (32 bits each,
little-endian), a JSON object and binary columns: 64-bit integers, or one byte an event. The first block is the head;
one without parts ends them. Nothing in it can be run.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import accumulate, chain, pairwise, repeat
from pathlib import Path
from struct import Struct
from typing import IO, Any, NamedTuple, Self

import orjson

from engine.stores.contract import FLAGS, LINKS, RANKED, RUNS, SQUARES, STEPS, SUMS, VALUES, Series
from engine.stores.lines import Row, rows
from engine.stores.memory import Clocks, Ids, Lines, Piece
from engine.stores.numbers import parsed

MAGIC = b"arbiter windows 1\n"
"""The number is that of the format: another one is not read."""
_LENGTHS = Struct("<II")
_DIGEST = 32
_SOME = 1 << 20
_NONE = 255


class Unusable(Exception):
    """A snapshot that must not be used, and why."""


class Block(NamedTuple):
    """A part of the file."""

    said: dict[str, Any]
    parts: Sequence[bytes | array[int]] = ()


# Writing


def write(path: Path, head: dict[str, Any], blocks: Iterable[Block]) -> int:
    """Put a snapshot in the place of the one before, once it is whole and on disk; its size in bytes.

    OSError when it cannot be written; what was there stays then.
    """
    beside = path.with_name(path.name + ".new")
    try:
        # Only the user may read it, from the first byte on.
        with suppress(FileNotFoundError):
            beside.unlink()
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb", buffering=_SOME) as file:
            digest = sha256()
            framed = chain.from_iterable(map(_framed, chain((Block(head),), blocks)))
            for part in chain((MAGIC,), framed, (_LENGTHS.pack(0, 0),)):
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def _framed(block: Block) -> Iterator[bytes]:
    said = orjson.dumps(block.said)
    parts = [_bytes(part) for part in block.parts]
    yield _LENGTHS.pack(len(said), sum(map(len, parts)))
    yield said
    yield from parts


def _bytes(part: bytes | array[int]) -> bytes:
    if isinstance(part, bytes):
        return part
    if sys.byteorder == "big":
        part = part[:]
        part.byteswap()
    return part.tobytes()


def encode(piece: Piece, series: Mapping[str, Series], cut: int, doubtful: frozenset[int]) -> Block:
    """A piece as a block, without the events that arrived after `cut`, and without those arrivals that are doubtful."""
    if isinstance(piece, Clocks):
        return Block({"clocks": piece.newest})
    if isinstance(piece, Ids):
        known = {id: it for id, it in piece.arrivals.items() if it <= cut and it not in doubtful}
        said: dict[str, Any] = {"tenant": piece.tenant, "hour": piece.hour, "ids": list(known)}
        return Block(said, [array("q", known.values())])
    # The rows of links are moments alone: what they link stands in their keys.
    columns = [holds for holds in series[piece.series].columns if holds != LINKS]
    lines = [frozen() for _, frozen, _ in piece.keys]
    held = list(chain.from_iterable(lines))
    if doubtful or max((row[1] for row in held), default=cut) > cut:
        lines = [[row for row in line if row[1] <= cut and row[1] not in doubtful] for line in lines]
        held = list(chain.from_iterable(lines))
    packed = [_pack(holds, [row[2][place] for row in held]) for place, holds in enumerate(columns)]
    said = {
        "tenant": piece.tenant,
        "series": piece.series,
        "keys": [key for key, _, _ in piece.keys],
        "lost": [lost for _, _, lost in piece.keys],
        "sizes": list(map(len, lines)),
        "columns": [column.said | {"holds": holds} for column, holds in zip(packed, columns, strict=True)],
    }
    moments = [array("q", [row[0] for row in held]), array("q", [row[1] for row in held])]
    return Block(said, [*moments, *chain.from_iterable(column.parts for column in packed)])


def _pack(holds: str, values: Sequence[Any]) -> Block:
    if holds == VALUES:
        return Block({"texts": values})
    if holds == RUNS:
        return Block({}, [bytes(map(bool, values))])
    if holds == STEPS:
        return Block({}, [array("q", [bits or 0 for bits in values])])
    units = sorted({value[0] for value in values if value is not None})
    if len(units) >= _NONE:
        raise ValueError(f"{len(units)} units in one piece")  # There are fewer currencies.
    said: dict[str, Any] = {"units": units}
    codes: list[bytes] = []
    if len(units) != 1 or None in values:
        code = {unit: place for place, unit in enumerate(units)}
        codes = [bytes([_NONE if value is None else code[value[0]] for value in values])]
        said["codes"] = True
    numbers = [0 if value is None else value[1] for value in values]
    try:
        return Block(said, [*codes, array("q", numbers)])
    except (OverflowError, TypeError):  # Too large for 64 bits, or a fraction.
        return Block(said | {"numbers": list(map(str, numbers))}, codes)


# Reading


class Snapshot:
    """A whole snapshot that is open for reading; `head` is what its writer said of it."""

    def __init__(self, file: IO[bytes], head: dict[str, Any]) -> None:
        self._file = file
        self.head = head

    @classmethod
    def open(cls, path: Path) -> Self:
        """Unusable when it is not what was written. FileNotFoundError, and any other OSError, as `open` raises them."""
        file = path.open("rb")
        try:
            _check(file)
            said, _ = next(_blocks(file))
            return cls(file, said)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pieces(self) -> Iterator[Piece]:
        """What was written, for `MemoryStore.adopt`. Once."""
        for said, data in _blocks(self._file):
            yield _piece(said, _Reader(data))


def _check(file: IO[bytes]) -> None:
    """Leaves the file at its first block."""
    if file.read(len(MAGIC)) != MAGIC:
        raise Unusable("it has another format")
    left = file.seek(0, os.SEEK_END) - _DIGEST
    file.seek(0)
    digest = sha256()
    while left > 0 and (part := file.read(min(left, _SOME))):
        digest.update(part)
        left -= len(part)
    if left or file.read() != digest.digest():
        raise Unusable("it is damaged")
    file.seek(len(MAGIC))


def _blocks(file: IO[bytes]) -> Iterator[tuple[dict[str, Any], bytes]]:
    while True:
        said, data = _LENGTHS.unpack(file.read(_LENGTHS.size))
        if not said:
            return
        yield orjson.loads(file.read(said)), file.read(data)


class _Reader:
    """Takes binary columns off the front of a block."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def bytes(self, count: int) -> bytes:
        self._place += count
        return self._data[self._place - count : self._place]

    def integers(self, count: int) -> list[int]:
        found = array("q", self.bytes(8 * count))
        if sys.byteorder == "big":
            found.byteswap()
        return found.tolist()


def _piece(said: dict[str, Any], data: _Reader) -> Piece:
    if "clocks" in said:
        return Clocks(said["clocks"])
    if "ids" in said:
        ids = said["ids"]
        return Ids(said["tenant"], said["hour"], dict(zip(ids, data.integers(len(ids)), strict=True)))
    edges = [0, *accumulate(said["sizes"])]
    count = edges[-1]
    times, arrivals = data.integers(count), data.integers(count)
    held = rows(times, arrivals, [_unpack(column, data, count) for column in said["columns"]])
    lines = [held[begin:end] for begin, end in pairwise(edges)]
    keys = [(key, _giving(line), lost) for key, line, lost in zip(said["keys"], lines, said["lost"], strict=True)]
    return Lines(said["tenant"], said["series"], keys)


def _giving(line: Sequence[Row]) -> Callable[[], Sequence[Row]]:
    return lambda: line


def _unpack(said: dict[str, Any], data: _Reader, count: int) -> list[Any]:
    holds = said["holds"]
    if holds == VALUES:
        return list(said["texts"])
    if holds == RUNS:
        return list(map(bool, data.bytes(count)))
    if holds == STEPS:
        return [bits or None for bits in data.integers(count)]
    assert holds in (SUMS, FLAGS, SQUARES, RANKED), holds
    units, codes = said["units"], data.bytes(count) if said.get("codes") else b""
    texts = said.get("numbers")
    numbers = data.integers(count) if texts is None else list(map(parsed, texts))
    if not said.get("codes"):
        return list(zip(repeat(units[0]), numbers, strict=False)) if count else []
    coded = zip(codes, numbers, strict=True)
    return [None if code == _NONE else (units[code], number) for code, number in coded]
