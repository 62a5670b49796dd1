"""The log's sequencer and publisher, as plain functions inside one database transaction.

    place(connection)                       batches without a place get the next ones; the tree grows
    publish(connection, signer, now)        sign what is placed, if it goes on from what was signed before

Writers only insert: with each batch goes a row in `unplaced`, so that one which becomes visible late is still found.
Whoever places holds a lock for its transaction (an advisory lock of PostgreSQL, the right to write of SQLite): two at
once cannot give the same place, and one that was killed leaves nothing behind but what it had not committed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite

from engine import merkle
from engine.database import batch, checkpoint, placed, tile, unplaced
from engine.errors import LogBroken
from engine.notes import Checkpoint, NoteError, open_note, sign, verifier
from engine.receipt import Signer

MOST = 64
"""Batches that are placed in one transaction at most: on SQLite verdicts wait for it."""

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


def waiting(connection: Connection) -> bool:
    """Whether a batch waits for its place."""
    return connection.execute(select(unplaced.c.batch).limit(1)).first() is not None


def place(connection: Connection, most: int = MOST) -> int:
    """Give the next places to up to `most` batches; how many entries that was, 0 while another one holds the lock.

    LogBroken: the tree is not whole."""
    if not held(connection):
        return 0
    found = connection.execute(_WAITING.limit(most)).all()
    if not found:
        return 0
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
    return size - before


def _put(connection: Connection, tree: merkle.Tiles) -> None:
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(tile)
    statement = statement.on_conflict_do_update(
        index_elements=["level", "number"], set_={"hashes": statement.excluded.hashes}
    )
    rows = [{"level": level, "number": n, "hashes": hashes} for (level, n), hashes in tree.changed.items()]
    connection.execute(statement, rows)


def last_checkpoint(connection: Connection) -> Any:
    """The row of the checkpoint that was signed last, or None."""
    return connection.execute(checkpoint.select().order_by(checkpoint.c.size.desc()).limit(1)).first()


def publish(connection: Connection, signer: Signer, now: int) -> Checkpoint | None:
    """Sign all that is placed; None when nothing is new or another one holds the lock.

    LogBroken, and nothing is signed, when the tree is not a continuation of the checkpoint that was signed last: an
    entry was taken out, altered or put in behind the log's back, or the database is an older one.
    """
    if not held(connection):
        return None
    size, last, tree = size_of(connection), last_checkpoint(connection), tiles_of(connection)
    if size == (last.size if last else 0):
        return None
    root = tree.root(size)
    if last is not None:
        _goes_on(last, tree, size, root, signer)
    made = Checkpoint(signer.log, size, root)
    row = {"size": size, "root": root, "note": sign(made.text, signer), "signed_at": now}
    connection.execute(checkpoint.insert().values(row))
    return made


def _goes_on(last: Any, tree: merkle.Tiles, size: int, root: bytes, signer: Signer) -> None:
    try:
        said = Checkpoint.read(open_note(last.note, [verifier(signer)])[0])
        proof = tree.consistency(said.size, size) if said.size <= size else []
    except (NoteError, KeyError) as error:
        raise LogBroken(f"the last checkpoint, of {last.size} entries, cannot be continued: {error}") from error
    kept = (said.size, said.root) == (last.size, last.root)
    if not kept or not merkle.verify_consistency(said.size, size, proof, said.root, root):
        raise LogBroken(f"{size} entries do not go on from the {last.size} that were signed; see docs/audit.md")


def place_of(connection: Connection, of: int, index: int) -> int | None:
    """The position of entry `index` of batch `of`; None while it has none."""
    first = connection.execute(select(placed.c.first).where(placed.c.batch == of)).scalar()
    return None if first is None else first + index
