"""The log's sequencer and publisher, as plain functions inside one database transaction.

    place(connection)                       batches without a place get the next ones; the tree grows
    publish(connection, signer, now)        sign what is placed, if it goes on from what was signed before

Writers only insert: with each batch goes a row in `unplaced`, so that one which becomes visible late is still found.
Whoever places holds a lock for its transaction (an advisory lock of PostgreSQL, the right to write of SQLite): two at
once cannot give the same place, and one that was killed leaves nothing behind but what it had not committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from engine import merkle
from engine.database import anchor, batch, checkpoint, placed, tile, unplaced
from engine.errors import LogBroken
from engine.notes import Checkpoint, NoteError, open_note, sign, verifier
from engine.receipt import Signer

MOST = 64
"""Batches that are placed in one transaction at most: on SQLite verdicts wait for it."""

WITNESS = "witness"
"""The kind of anchor that is a line for the checkpoint's note."""

_LOCK = 7266742


def held(connection: Connection) -> bool:
    """Whether this transaction is the one that may place and publish; until it ends nobody else is."""
    if connection.dialect.name == "sqlite":
        return True  # BEGIN IMMEDIATE: nobody else writes at all.
    return bool(connection.execute(text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")).scalar())


def size_of(connection: Connection) -> int:
    """How many entries have a place."""
    last = connection.execute(select(placed.c.first, placed.c.size).order_by(placed.c.first.desc()).limit(1)).first()
    return last.first + last.size if last else 0


def tiles_of(connection: Connection) -> merkle.Tiles:
    """The tree over the log."""
    query = select(tile.c.hashes)

    def read(name: tuple[int, int]) -> bytes | None:
        found: bytes | None = connection.execute(
            query.where(tile.c.level == name[0], tile.c.number == name[1])
        ).scalar()
        return found

    return merkle.Tiles(read)


_WAITING = (
    select(unplaced.c.batch, unplaced.c.low, unplaced.c.high, batch.c.size, batch.c.leaves)
    .join(batch, batch.c.id == unplaced.c.batch)
    .order_by(unplaced.c.batch)
)


def oldest_waiting(connection: Connection) -> int | None:
    """The lowest number of a batch without a place."""
    return connection.execute(select(func.min(unplaced.c.batch))).scalar()


def newest_waiting(connection: Connection) -> int | None:
    """The highest number of a batch without a place."""
    return connection.execute(select(func.max(unplaced.c.batch))).scalar()


def place(connection: Connection, most: int = MOST) -> tuple[int, bool]:
    """Give the next places to up to `most` batches; how many entries that was, and whether more batches may wait.
    Nothing, and no more, while another one holds the lock.

    LogBroken: the tree is not whole."""
    if not held(connection):
        return 0, False
    found = connection.execute(_WAITING.limit(most)).all()
    if not found:
        return 0, False
    before = size = size_of(connection)
    tree, rows = tiles_of(connection), []
    for each in found:
        rows.append({"first": size, "size": each.size, "batch": each.batch, "low": each.low, "high": each.high})
        try:
            size = tree.extend(size, merkle.hashes(each.leaves))
        except KeyError as error:
            raise LogBroken(f"the tree over {before} entries is damaged: {error}") from error
    connection.execute(placed.insert(), rows)
    connection.execute(unplaced.delete().where(unplaced.c.batch.in_([each.batch for each in found])))
    _put(connection, tree)
    return size - before, len(found) == most


def _upsert(insert: Any) -> Any:
    """Puts a tile in the place of the one that had fewer hashes."""
    statement = insert(tile)
    return statement.on_conflict_do_update(
        index_elements=["level", "number"], set_={"hashes": statement.excluded.hashes}
    )


# Made once: `excluded` is a copy of the table's columns, in cycles that only a collector could free.
_PUT = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


def _put(connection: Connection, tree: merkle.Tiles) -> None:
    rows = [{"level": level, "number": n, "hashes": hashes} for (level, n), hashes in tree.changed.items()]
    connection.execute(_PUT[connection.dialect.name], rows)


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as it was signed: its note, with the lines of witnesses below, and when (UTC microseconds)."""

    checkpoint: Checkpoint
    note: str
    signed_at: int


@dataclass(frozen=True, slots=True)
class Seen:
    """That somebody outside saw the checkpoint of so many entries, when (UTC microseconds), and what proves it."""

    size: int
    name: str
    kind: str
    at: int
    proof: bytes


def seen_by(connection: Connection, size: int) -> set[str]:
    """The names of the anchors that saw the checkpoint of so many entries."""
    return set(connection.execute(select(anchor.c.name).where(anchor.c.size == size)).scalars())


def anchors_of(connection: Connection, first: int, end: int, most: int) -> list[Seen]:
    """What anchors gave for the `most` first of the checkpoints of `first` up to `end` entries that any saw."""
    sizes = select(anchor.c.size).where(anchor.c.size.between(first, end)).distinct().order_by(anchor.c.size)
    query = select(*_SEEN).where(anchor.c.size.in_(sizes.limit(most))).order_by(anchor.c.size, anchor.c.name)
    return [Seen(*row) for row in connection.execute(query)]


def anchored(connection: Connection) -> Seen | None:
    """What the last anchor gave for the largest checkpoint that any saw."""
    row = connection.execute(select(*_SEEN).order_by(anchor.c.size.desc(), anchor.c.at).limit(1)).first()
    return Seen(*row) if row else None


_SEEN = (anchor.c.size, anchor.c.name, anchor.c.kind, anchor.c.at, anchor.c.proof)


def keep_anchor(connection: Connection, size: int, name: str, kind: str, at: int, proof: bytes) -> None:
    """Keep what an anchor gave; what it gave first stays."""
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"size": size, "name": name, "kind": kind, "at": at, "proof": proof}
    connection.execute(insert(anchor).values(row).on_conflict_do_nothing())


def latest(connection: Connection) -> Published | None:
    """The checkpoint that was signed last, or None."""
    size = connection.execute(select(checkpoint.c.size).order_by(checkpoint.c.size.desc()).limit(1)).scalar()
    return None if size is None else checkpoints_of(connection, size, size, 1)[0]


def checkpoints_of(connection: Connection, first: int, end: int, most: int) -> list[Published]:
    """The `most` first of the checkpoints of `first` up to `end` entries."""
    query = checkpoint.select().where(checkpoint.c.size.between(first, end)).order_by(checkpoint.c.size).limit(most)
    rows = connection.execute(query).all()
    if not rows:
        return []
    to = rows[-1].size
    seen = anchor.select().where(anchor.c.size.between(first, to), anchor.c.kind == WITNESS).order_by(anchor.c.name)
    lines: dict[int, str] = {}
    for row in connection.execute(seen):
        lines[row.size] = lines.get(row.size, "") + row.proof.decode()
    return [
        Published(
            Checkpoint(row.note.split("\n")[0], row.size, row.root), row.note + lines.get(row.size, ""), row.signed_at
        )
        for row in rows
    ]


def publish(connection: Connection, signer: Signer, now: int) -> Checkpoint | None:
    """Sign all that is placed; None when nothing is new or another one holds the lock.

    LogBroken, and nothing is signed, when the tree is not a continuation of the checkpoint that was signed last: an
    entry was taken out, altered or put in behind the log's back, or the database is an older one.
    """
    if not held(connection):
        return None
    size, last, tree = size_of(connection), latest(connection), tiles_of(connection)
    if size == (last.checkpoint.size if last else 0):
        return None
    try:
        root = tree.root(size)
    except KeyError as error:
        raise LogBroken(f"the tree over {size} entries is damaged: {error}") from error
    if last is not None:
        _goes_on(last, tree, size, root, signer)
    made = Checkpoint(signer.log, size, root)
    row = {"size": size, "root": root, "note": sign(made.text, signer), "signed_at": now}
    connection.execute(checkpoint.insert().values(row))
    return made


def _goes_on(last: Published, tree: merkle.Tiles, size: int, root: bytes, signer: Signer) -> None:
    kept = last.checkpoint
    try:
        said = Checkpoint.read(open_note(last.note, [verifier(signer)])[0])
        proof = tree.consistency(said.size, size) if said.size <= size else []
    except (NoteError, KeyError) as error:
        raise LogBroken(f"the last checkpoint, of {kept.size} entries, cannot be continued: {error}") from error
    if said != kept or not merkle.verify_consistency(said.size, size, proof, said.root, root):
        raise LogBroken(f"{size} entries do not go on from the {kept.size} that were signed; see docs/audit.md")


def place_of(connection: Connection, of: int, index: int) -> int | None:
    """The position of entry `index` of batch `of`; None while it has none."""
    first = connection.execute(select(placed.c.first).where(placed.c.batch == of)).scalar()
    return None if first is None else first + index
