"""Rulebooks as bytes: every file of one, so that a decision can be understood and replayed long after."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from weakref import WeakValueDictionary

import orjson
from sqlalchemy import select

from engine import database as db
from engine.errors import NotFound
from engine.rulebook import Rulebook, load

READY = 8
"""Rulebooks of earlier decisions that are kept compiled."""


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Path → contents as one compressed value; the same files give the same bytes."""
    text = {path: content.decode() for path, content in files.items()}
    return zlib.compress(orjson.dumps(text, option=orjson.OPT_SORT_KEYS))


def unpack_files(packed: bytes) -> dict[str, bytes]:
    """What `pack_files` packed."""
    return {path: text.encode() for path, text in orjson.loads(zlib.decompress(packed)).items()}


def unpacked(packed: bytes) -> Rulebook:
    """The rulebook of packed files. Raises PackError when this version cannot read it any more."""
    # A list whose text file was missing then is missing here: decisions were made without it.
    return loaded(unpack_files(packed), strict=False)


def loaded(files: Mapping[str, bytes], *, strict: bool) -> Rulebook:
    """The rulebook of files by their paths, which stay within `rules/` and `policies/`. PackError, as `load` has it."""
    contents = tuple(files.items()), strict
    held = _held.get(contents)
    if held is not None:
        return held
    with TemporaryDirectory(prefix="arbiter-rulebook-") as folder:
        for path, content in files.items():
            assert ".." not in PurePosixPath(path).parts, "a path leaves its folder"
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for name in ("rules", "policies"):
            Path(folder, name).mkdir(exist_ok=True)
        made = _held[contents] = load(Path(folder, "rules"), Path(folder, "policies"), strict=strict)
    return made


_held: WeakValueDictionary[tuple[tuple[tuple[str, bytes], ...], bool], Rulebook] = WeakValueDictionary()
"""What was made of files that lie in no folder, and is still held by somebody."""


class Library:
    """Every rulebook that ever came into force, by its hash."""

    def __init__(self, database: db.Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._rows = db.Rows(database, db.rulebook)
        self._clock = clock
        self._ready: dict[str, Rulebook] = {}
        self._reading = asyncio.Lock()

    async def keep(self, rulebook: Rulebook) -> None:
        """Put a rulebook into the archive, before it decides anything."""
        await self._rows.add(hash=rulebook.hash, content=pack_files(rulebook.files), first_seen=self._clock())

    async def newest(self) -> str | None:
        """The hash of the rulebook that came into the archive last."""
        query = select(db.rulebook.c.hash).order_by(db.rulebook.c.first_seen.desc()).limit(1)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def holds(self, named: str) -> bool:
        """Whether the rulebook with this hash is in the archive."""
        return bool(await self._rows.find(hash=named))

    async def files(self, named: str) -> dict[str, bytes]:
        """The files of a rulebook, not compiled; none when it is not in the archive."""
        rows = await self._rows.find(hash=named)
        return unpack_files(rows[0]["content"]) if rows else {}

    async def find(self, named: str) -> Rulebook:
        """The rulebook with this hash. NotFound when it is not in the archive."""
        # One at a time: compiling takes a second, and many ask for the same one.
        async with self._reading:
            if named not in self._ready:
                rows = await self._rows.find(hash=named)
                if not rows:
                    raise NotFound("the rulebook of this decision is not in the archive")
                book = await asyncio.to_thread(unpacked, rows[0]["content"])
                if len(self._ready) >= READY:
                    self._ready.pop(next(iter(self._ready)))
                self._ready[named] = book
            return self._ready[named]
